//! Who the other side of a finished handshake is, and whether it is let in: said here alone, for both record layers.

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, CommonState, HandshakeKind, NamedGroup};

use crate::tls::config::{SanNames, ServerTls, TenantRefused};
use crate::tls::record::Suite;
use crate::tls::{ALPN, Reason};

/// What the handshake told about the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The cipher suite.
    pub suite: Suite,
    /// The key exchange, as IANA names it; `psk` for one that resumed without.
    pub key_exchange: &'static str,
    /// The session went on from a ticket.
    pub resumed: bool,
    /// The peer agreed to speak `uringest/1`; a client that asks for nothing at all is let in too.
    pub alpn: bool,
    /// The names in the peer's certificate; `None` when it showed none.
    pub names: Option<SanNames>,
    /// The tenant its certificate stands for, by the rule of the configuration; `None` without a rule or a
    /// certificate.
    pub tenant: Option<Result<String, TenantRefused>>,
}

/// A peer, and whether it is let in.
pub(super) struct Met {
    pub peer: Peer,
    pub admitted: Result<(), Reason>,
}

/// Looks at the other side of a finished handshake; `server` is what a server's sessions are made from.
///
/// # Errors
/// When rustls does not say what was agreed on.
pub(super) fn meet(conn: &CommonState, server: Option<&ServerTls>, now_s: u64) -> Result<Met, Reason> {
    let chain = chain_of(conn);
    let peer = Peer {
        suite: suite_of(conn).ok_or(Reason::Internal)?,
        key_exchange: key_exchange(conn),
        resumed: conn.handshake_kind() == Some(HandshakeKind::Resumed),
        alpn: conn.alpn_protocol() == Some(ALPN),
        tenant: server.and_then(|server| server.tenant_of(&chain)),
        names: SanNames::of(&chain),
    };
    let admitted = match server {
        // A ticket carries the certificate it was given for, which may have expired or been revoked since.
        Some(server) if peer.resumed => server.check_again(&chain, now_s),
        Some(_) => Ok(()),
        None if peer.alpn => Ok(()),
        // A server of another protocol is not to be talked to.
        None => Err(Reason::WrongAlpn),
    };
    Ok(Met { peer, admitted })
}

pub(super) fn chain_of(conn: &CommonState) -> Vec<CertificateDer<'static>> {
    conn.peer_certificates().unwrap_or_default().to_vec()
}

fn key_exchange(conn: &CommonState) -> &'static str {
    match conn.negotiated_key_exchange_group().map(|group| group.name()) {
        Some(NamedGroup::X25519MLKEM768) => "X25519MLKEM768",
        Some(NamedGroup::X25519) => "x25519",
        Some(NamedGroup::secp256r1) => "secp256r1",
        Some(NamedGroup::secp384r1) => "secp384r1",
        Some(_) => "other",
        None => "psk",
    }
}

fn suite_of(conn: &CommonState) -> Option<Suite> {
    match conn.negotiated_cipher_suite()?.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Suite::Aes128Gcm),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Suite::Aes256Gcm),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Suite::Chacha20Poly1305),
        _ => None,
    }
}
