//! The handshake, by rustls: one record in, records out, until the keys can be taken over.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error, HandshakeKind};

use super::Peer;
use super::errors::{alert_in, failure_of};
use crate::tls::config::{CallersTime, ClientTls, SanNames, ServerTls};
use crate::tls::record::{CONTENT_BYTES_MAX, HEADER_BYTES, Head, Keys, NextKeys, RecordLayer, Side, Suite};
use crate::tls::{ALPN, Failure, Reason};

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const PROTECTED: u8 = 23;
/// Bytes of handshake messages that are kept until they are whole: rustls gives up before.
const KEPT_BYTES_MAX: usize = 128 * 1024;

/// What a record led to.
pub(super) enum Step {
    /// The handshake goes on. So many bytes of early data came.
    More { early: usize },
    /// It is over, and the next record is the layer's.
    Done { layer: Box<RecordLayer>, peer: Box<Peer> },
    /// It failed.
    Failed(Failure),
}

enum Conn {
    Server(UnbufferedServerConnection, ServerTls),
    Client(UnbufferedClientConnection),
}

/// See the module.
pub(super) struct Handshake {
    /// `None` only inside a call.
    conn: Option<Conn>,
    time: Arc<CallersTime>,
    /// Records that rustls has not let go of: a message's beginning.
    kept: Vec<u8>,
    /// No record has come yet.
    fresh: bool,
    /// A protected record has gone out: an alert in plaintext would mean nothing.
    protected: bool,
    early_data: bool,
}

/// What rustls wants next.
enum Turn {
    Again,
    Blocked,
    Done,
}

impl Handshake {
    pub(super) fn server(config: &ServerTls) -> Result<Handshake, Failure> {
        let conn = UnbufferedServerConnection::new(config.rustls()).map_err(|e| failure_of(&e, None))?;
        let early_data = config.early_data();
        Ok(Handshake::of(Conn::Server(conn, config.clone()), config.time(), early_data))
    }

    pub(super) fn client(
        config: &ClientTls,
        server_name: &str,
        outgoing: &mut Vec<u8>,
    ) -> Result<Handshake, Failure> {
        let name = server_name_of(server_name)?;
        let conn =
            UnbufferedClientConnection::new(config.rustls(), name).map_err(|e| failure_of(&e, None))?;
        let mut handshake = Handshake::of(Conn::Client(conn), config.time(), false);
        match handshake.run(outgoing, &mut Vec::new()) {
            Ok(_blocked) => Ok(handshake),
            Err(error) => Err(failure_of(&error, None)),
        }
    }

    fn of(conn: Conn, time: Arc<CallersTime>, early_data: bool) -> Handshake {
        Handshake { conn: Some(conn), time, kept: Vec::new(), fresh: true, protected: false, early_data }
    }

    /// Whether a record may turn out to be early data.
    pub(super) fn may_have_early_data(&self) -> bool {
        self.early_data && !self.fresh
    }

    /// Judges a header before its record is waited for; says how long the record is.
    pub(super) fn check(&self, head: Head) -> Result<usize, Reason> {
        match head {
            Head::None => Ok(HEADER_BYTES),
            Head::Of { kind, .. } if self.fresh && kind != HANDSHAKE => Err(Reason::NotTls),
            Head::Of { kind, .. } if !(CHANGE_CIPHER_SPEC..=PROTECTED).contains(&kind) => {
                Err(Reason::UnexpectedRecord)
            }
            Head::Of { kind, bytes } if kind != PROTECTED && bytes > HEADER_BYTES + CONTENT_BYTES_MAX => {
                Err(Reason::RecordOverflow)
            }
            Head::Of { bytes, .. } => Ok(bytes),
        }
    }

    /// Gives up for a reason of ours. Once records are protected only rustls could tell the peer, and it has
    /// nothing to say about this.
    pub(super) fn refuse(&mut self, reason: Reason, outgoing: &mut Vec<u8>) -> Failure {
        let mut failure = Failure::from(reason);
        match failure.sent {
            Some(alert) if !self.protected => {
                outgoing.extend_from_slice(&[21, 3, 3, 0, 2, alert.level(), alert.0]);
            }
            _ => failure.sent = None,
        }
        failure
    }

    /// Takes one whole record. `early` has room for the record's content where early data is allowed.
    pub(super) fn take(
        &mut self,
        record: &[u8],
        outgoing: &mut Vec<u8>,
        early: &mut [u8],
        now_s: u64,
    ) -> Step {
        self.time.set(now_s);
        self.fresh = false;
        if self.kept.len() + record.len() > KEPT_BYTES_MAX {
            return Step::Failed(self.refuse(Reason::MalformedMessage, outgoing));
        }
        self.kept.extend_from_slice(record);
        let before = outgoing.len();
        let mut early_data = Vec::new();
        let result = self.run(outgoing, &mut early_data);
        self.protected |= has_protected(&outgoing[before..]);
        match result {
            Ok(Turn::Done) => self.finish(now_s),
            Ok(_blocked) if early_data.len() > early.len() => {
                Step::Failed(self.refuse(Reason::Internal, outgoing))
            }
            Ok(_blocked) => {
                if !early_data.is_empty()
                    && let Err(reason) = self.check_early(now_s)
                {
                    return Step::Failed(self.refuse(reason, outgoing));
                }
                early[..early_data.len()].copy_from_slice(&early_data);
                Step::More { early: early_data.len() }
            }
            Err(error) => {
                // rustls tells the peer in what it gives out after the error.
                let said = outgoing.len();
                self.last_words(outgoing);
                Step::Failed(self.failed(&error, outgoing, said))
            }
        }
    }

    fn failed(&mut self, error: &Error, outgoing: &mut Vec<u8>, said: usize) -> Failure {
        let failure = failure_of(error, None);
        if failure.received.is_some() {
            return failure;
        }
        match alert_in(&outgoing[said..], failure.reason) {
            Some(alert) => Failure { sent: Some(alert), ..failure },
            // Some errors leave it to the caller.
            None => Failure { detail: failure.detail, ..self.refuse(failure.reason, outgoing) },
        }
    }

    /// Lets rustls work until it wants more or is done.
    fn run(&mut self, outgoing: &mut Vec<u8>, early: &mut Vec<u8>) -> Result<Turn, Error> {
        loop {
            let (discard, turn) = match self.conn.as_mut() {
                Some(Conn::Server(conn, _)) => {
                    let UnbufferedStatus { discard, state } = conn.process_tls_records(&mut self.kept);
                    match state {
                        Ok(ConnectionState::ReadEarlyData(mut data)) => {
                            while let Some(record) = data.next_record() {
                                early.extend_from_slice(record?.payload);
                            }
                            (discard, Ok(Turn::Again))
                        }
                        state => (discard, go_on(state, outgoing)),
                    }
                }
                Some(Conn::Client(conn)) => {
                    let UnbufferedStatus { discard, state } = conn.process_tls_records(&mut self.kept);
                    (discard, go_on(state, outgoing))
                }
                None => return Err(Error::HandshakeNotComplete),
            };
            self.kept.drain(..discard);
            match turn? {
                Turn::Again => {}
                turn => return Ok(turn),
            }
        }
    }

    /// Early data comes from who held the ticket: its certificate is judged before anything is made of the data.
    fn check_early(&mut self, now_s: u64) -> Result<(), Reason> {
        match &self.conn {
            Some(Conn::Server(conn, config)) => config.check_again(&chain_of(conn), now_s),
            _ => Err(Reason::Internal),
        }
    }

    /// What waits to be sent after an error. rustls is asked for that and nothing else: it would go on with what it
    /// has kept.
    fn last_words(&mut self, outgoing: &mut Vec<u8>) {
        loop {
            let (discard, turn) = match self.conn.as_mut() {
                Some(Conn::Server(conn, _)) if conn.wants_write() => {
                    let UnbufferedStatus { discard, state } = conn.process_tls_records(&mut self.kept);
                    (discard, go_on(state, outgoing))
                }
                Some(Conn::Client(conn)) if conn.wants_write() => {
                    let UnbufferedStatus { discard, state } = conn.process_tls_records(&mut self.kept);
                    (discard, go_on(state, outgoing))
                }
                _ => return,
            };
            self.kept.drain(..discard);
            if !matches!(turn, Ok(Turn::Again)) {
                return;
            }
        }
    }

    /// Takes the keys over, and looks at who the peer is.
    fn finish(&mut self, now_s: u64) -> Step {
        let finished = match self.conn.take() {
            Some(Conn::Server(conn, config)) => finish_server(conn, &config, now_s),
            Some(Conn::Client(conn)) => finish_client(conn),
            None => Err(Error::HandshakeNotComplete),
        };
        match finished {
            Ok((layer, peer)) if self.kept.is_empty() => {
                Step::Done { layer: Box::new(layer), peer: Box::new(peer) }
            }
            // rustls ends a handshake at a record's end, or with an error.
            Ok(_) => Step::Failed(Reason::UnexpectedMessage.into()),
            Err(error) => Step::Failed(failure_of(&error, None)),
        }
    }
}

fn go_on<Data>(
    state: Result<ConnectionState<'_, '_, Data>, Error>,
    outgoing: &mut Vec<u8>,
) -> Result<Turn, Error> {
    match state? {
        ConnectionState::EncodeTlsData(mut data) => {
            let at = outgoing.len();
            let wanted = match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(size)) => size.required_size,
                Ok(_) | Err(EncodeError::AlreadyEncoded) => return Ok(Turn::Again),
            };
            outgoing.resize(at + wanted, 0);
            data.encode(&mut outgoing[at..]).map_err(|error| Error::General(error.to_string()))?;
            Ok(Turn::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Turn::Again)
        }
        ConnectionState::WriteTraffic(_) => Ok(Turn::Done),
        ConnectionState::BlockedHandshake => Ok(Turn::Blocked),
        // Data or an end before the handshake's: rustls does not let either come this far.
        _ => Err(Error::HandshakeNotComplete),
    }
}

fn finish_server(
    conn: UnbufferedServerConnection,
    config: &ServerTls,
    now_s: u64,
) -> Result<(RecordLayer, Peer), Error> {
    let chain = chain_of(&conn);
    let resumed = resumed(&conn);
    let (key_exchange, alpn) = (key_exchange(&conn), alpn(&conn));
    let (secrets, kernel) = conn.dangerous_into_kernel_connection()?;
    let mut layer = layer(Side::Server, secrets, NextKeys::Server(kernel))?;
    // A ticket carries the certificate it was given for, which may have expired or been revoked since.
    if resumed && let Err(reason) = config.check_again(&chain, now_s) {
        layer.refuse(reason);
    }
    let peer = Peer {
        suite: layer.suite(),
        key_exchange,
        resumed,
        alpn,
        tenant: config.tenant_of(&chain),
        names: SanNames::of(&chain),
    };
    Ok((layer, peer))
}

fn finish_client(conn: UnbufferedClientConnection) -> Result<(RecordLayer, Peer), Error> {
    let chain = chain_of(&conn);
    let (resumed, key_exchange, alpn) = (resumed(&conn), key_exchange(&conn), alpn(&conn));
    let (secrets, kernel) = conn.dangerous_into_kernel_connection()?;
    let mut layer = layer(Side::Client, secrets, NextKeys::Client(kernel))?;
    // A server of another protocol is not to be talked to.
    if !alpn {
        layer.refuse(Reason::WrongAlpn);
    }
    let peer =
        Peer { suite: layer.suite(), key_exchange, resumed, alpn, tenant: None, names: SanNames::of(&chain) };
    Ok((layer, peer))
}

fn layer(side: Side, secrets: rustls::ExtractedSecrets, next: NextKeys) -> Result<RecordLayer, Error> {
    let keys = |of| Keys::from_handshake(of).map_err(|_| Error::General("no usable keys".into()));
    Ok(RecordLayer::new(side, keys(secrets.rx)?, keys(secrets.tx)?, next))
}

pub(super) fn server_name_of(name: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(name.to_owned()).map_err(|_invalid| Failure {
        detail: format!("{name:?} is neither a DNS name nor an IP address"),
        sent: None,
        ..Reason::WrongName.into()
    })
}

pub(super) fn chain_of(conn: &CommonState) -> Vec<CertificateDer<'static>> {
    conn.peer_certificates().unwrap_or_default().to_vec()
}

pub(super) fn resumed(conn: &CommonState) -> bool {
    conn.handshake_kind() == Some(HandshakeKind::Resumed)
}

pub(super) fn alpn(conn: &CommonState) -> bool {
    conn.alpn_protocol() == Some(ALPN)
}

pub(super) fn key_exchange(conn: &CommonState) -> &'static str {
    use rustls::NamedGroup;
    match conn.negotiated_key_exchange_group().map(|group| group.name()) {
        Some(NamedGroup::X25519MLKEM768) => "X25519MLKEM768",
        Some(NamedGroup::X25519) => "x25519",
        Some(NamedGroup::secp256r1) => "secp256r1",
        Some(NamedGroup::secp384r1) => "secp384r1",
        Some(_) => "other",
        None => "psk",
    }
}

pub(super) fn suite_of(conn: &CommonState) -> Option<Suite> {
    use rustls::CipherSuite;
    match conn.negotiated_cipher_suite()?.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Suite::Aes128Gcm),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Suite::Aes256Gcm),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Suite::Chacha20Poly1305),
        _ => None,
    }
}

/// Whether a run of whole records has a protected one.
fn has_protected(records: &[u8]) -> bool {
    let mut rest = records;
    while let Some(&[kind, _, _, high, low]) = rest.first_chunk::<HEADER_BYTES>() {
        if kind == PROTECTED {
            return true;
        }
        let bytes = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(bytes..).unwrap_or_default();
    }
    false
}
