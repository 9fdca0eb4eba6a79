//! What a client needs for TLS: whom it trusts and what it shows; and what can be wrong, by who has to act.

use std::sync::Arc;

use crate::client::core::error::Error;
use crate::tls::{
    Alert, CertificateFiles, ClientMaterial, ClientSettings, ClientTls, Failure, Reason, Roots,
};

/// What is to be decided. The defaults suit a server with a certificate by a public authority.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Whose servers are trusted.
    pub roots: Roots,
    /// What is shown to a server that asks who the client is.
    pub identity: Option<CertificateFiles>,
    /// The name the server's certificate has to be for, where it is another than the address's host.
    pub server_name: Option<String>,
}

/// TLS for any number of producers and consumers, made once from files: make another when they are replaced. What one of its connections got for
/// resuming, the next one uses: clones are the same.
#[derive(Clone)]
pub struct Tls(Arc<Made>);

struct Made {
    settings: TlsSettings,
    tls: ClientTls,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// `BadConfig`: one cannot be read or used, or the platform has no authorities.
    pub fn new(settings: TlsSettings) -> Result<Tls, Error> {
        let files = ClientSettings { roots: settings.roots.clone(), identity: settings.identity.clone() };
        let made = ClientMaterial::read(&files).and_then(ClientTls::new);
        let tls = made.map_err(|error| Error::BadConfig(error.to_string()))?;
        Ok(Tls(Arc::new(Made { settings, tls })))
    }

    /// Made without files.
    #[cfg(any(test, uringest_sim))]
    pub(crate) fn given(tls: ClientTls) -> Tls {
        Tls(Arc::new(Made { settings: TlsSettings::default(), tls }))
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &TlsSettings {
        &self.0.settings
    }

    pub(crate) fn client(&self) -> &ClientTls {
        &self.0.tls
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        self.settings() == other.settings()
    }
}

impl Eq for Tls {}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(self.settings()).finish()
    }
}

/// What stands between this client and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The server's certificate is by an authority the client does not trust: give the client that authority.
    UnknownAuthority,
    /// Its certificate is for other names than the one that was called.
    WrongName,
    /// Its certificate has expired, or is not valid yet by this host's clock.
    CertificateExpired,
    /// Its certificate cannot be used for another reason.
    BadCertificate,
    /// It does not speak TLS there.
    ServerSpeaksPlaintext,
    /// It speaks TLS there, and the address did not ask for it.
    ServerSpeaksTls,
    /// It wants to see a certificate, and the client has none.
    CertificateRequired,
    /// It does not accept the client's certificate.
    CertificateRefused,
    /// It speaks no TLS 1.3, or nothing of it that this client knows.
    NothingInCommon,
    /// It speaks TLS, but for another protocol than this one.
    OtherProtocol,
    /// The connection ended during the handshake or in the middle of what was sent.
    Cut,
    /// What came is no good TLS: damaged or forged on the way, or wrong from the start.
    Broken,
}

impl TlsFault {
    /// One clause for a person.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            TlsFault::UnknownAuthority => {
                "the server's certificate is by an authority that is not trusted here; name its file of authorities"
            }
            TlsFault::WrongName => {
                "the server's certificate is for other names than the one that was called; call it by one of them, or \
                 name it separately"
            }
            TlsFault::CertificateExpired => {
                "the server's certificate has expired or is not valid yet; it needs a new one, or this host's clock is \
                 wrong"
            }
            TlsFault::BadCertificate => {
                "the server's certificate is not good, or not by the authority it names"
            }
            TlsFault::ServerSpeaksPlaintext => {
                "what answers does not speak TLS; is it another port, or an address for uringest://?"
            }
            TlsFault::ServerSpeaksTls => {
                "the server speaks TLS here; write uringest+tls:// before the address"
            }
            TlsFault::CertificateRequired => {
                "the server wants to see a certificate; give the client one and its key"
            }
            TlsFault::CertificateRefused => {
                "the server does not accept this client's certificate; give it one by an authority the server trusts"
            }
            TlsFault::NothingInCommon => "the server speaks no TLS 1.3 that this client knows",
            TlsFault::OtherProtocol => {
                "what answers speaks TLS for another protocol; is it another server's port?"
            }
            TlsFault::Cut => "it was cut",
            TlsFault::Broken => "what came is damaged, forged, or no good TLS",
        }
    }

    /// Whether it will be the same the next time, as long as nobody acts.
    #[must_use]
    pub const fn is_lasting(self) -> bool {
        !matches!(self, TlsFault::Cut | TlsFault::Broken)
    }

    pub(crate) fn of(failure: &Failure) -> TlsFault {
        match failure.reason {
            Reason::UnknownIssuer => TlsFault::UnknownAuthority,
            Reason::WrongName => TlsFault::WrongName,
            Reason::CertificateExpired => TlsFault::CertificateExpired,
            Reason::CertificateRevoked
            | Reason::BadCertificate
            | Reason::WrongPurpose
            | Reason::BadSignature
            | Reason::NoCertificate => TlsFault::BadCertificate,
            Reason::NotTls => TlsFault::ServerSpeaksPlaintext,
            Reason::TlsVersion | Reason::NoSharedSuite => TlsFault::NothingInCommon,
            Reason::WrongAlpn => TlsFault::OtherProtocol,
            Reason::HandshakeUnfinished | Reason::Truncated => TlsFault::Cut,
            Reason::PeerAlert => failure.received.map_or(TlsFault::Broken, of_alert),
            _ => TlsFault::Broken,
        }
    }
}

fn of_alert(alert: Alert) -> TlsFault {
    match alert {
        Alert::CERTIFICATE_REQUIRED => TlsFault::CertificateRequired,
        Alert::BAD_CERTIFICATE
        | Alert::UNSUPPORTED_CERTIFICATE
        | Alert::CERTIFICATE_REVOKED
        | Alert::CERTIFICATE_EXPIRED
        | Alert::CERTIFICATE_UNKNOWN
        | Alert::UNKNOWN_CA
        | Alert::DECRYPT_ERROR // a signature is not what it should be
        | Alert::ACCESS_DENIED => TlsFault::CertificateRefused,
        Alert::HANDSHAKE_FAILURE | Alert::PROTOCOL_VERSION | Alert::INSUFFICIENT_SECURITY => {
            TlsFault::NothingInCommon
        }
        Alert::NO_APPLICATION_PROTOCOL => TlsFault::OtherProtocol,
        Alert::UNRECOGNIZED_NAME => TlsFault::WrongName,
        _ => TlsFault::Broken,
    }
}
