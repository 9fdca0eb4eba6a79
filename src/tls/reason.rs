//! Every reason why a TLS connection ends other than by close_notify: one table, from which the enum, its
//! name in counters and logs, the alert that is sent, and who is at fault come.

use std::fmt;

use super::Alert;

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The peer broke the protocol, or somebody between it and us changed bytes.
    Peer,
    /// Peer and we have nothing in common, or the peer is not who we ask for.
    Terms,
    /// The peer or the network went away.
    Gone,
    /// This program or its host.
    Ours,
}

macro_rules! reasons {
    ($($variant:ident = $name:literal, $alert:expr, $fault:ident, $text:literal;)*) => {
        /// A machine-readable reason. The names are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $text] $variant,)* }

        impl Reason {
            /// Every reason; a counter for each is indexed by [`Reason::index`].
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The stable name, as in logs and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// The alert the peer is told; `None` where nothing is sent.
            #[must_use]
            pub const fn alert(self) -> Option<Alert> {
                match self { $(Reason::$variant => $alert,)* }
            }

            /// Who is at fault.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self { $(Reason::$variant => Fault::$fault,)* }
            }

            /// One sentence for a person.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Reason::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    // Records.
    NotTls = "not_tls", Some(Alert::UNEXPECTED_MESSAGE), Peer, "The first bytes are no TLS record.";
    BadRecordMac = "bad_record_mac", Some(Alert::BAD_RECORD_MAC), Peer, "A record's tag is wrong: changed, replayed, out of order, or under other keys.";
    RecordOverflow = "record_overflow", Some(Alert::RECORD_OVERFLOW), Peer, "A record is longer than TLS allows.";
    UnexpectedRecord = "unexpected_record", Some(Alert::UNEXPECTED_MESSAGE), Peer, "A record of a type that has no place there, or one in plaintext where all are protected.";
    EmptyRecord = "empty_record", Some(Alert::UNEXPECTED_MESSAGE), Peer, "A record without a type inside, or an empty one of a type that may not be empty.";
    TooManyEmptyRecords = "too_many_empty_records", Some(Alert::UNEXPECTED_MESSAGE), Peer, "Empty records without end.";
    InterleavedHandshake = "interleaved_handshake", Some(Alert::UNEXPECTED_MESSAGE), Peer, "Another record in the middle of a handshake message.";
    SequenceExhausted = "sequence_exhausted", Some(Alert::INTERNAL_ERROR), Peer, "The peer used one key for more records than there are numbers.";
    // Messages after the handshake.
    Renegotiation = "renegotiation", Some(Alert::UNEXPECTED_MESSAGE), Peer, "The peer tried to negotiate again, which TLS 1.3 does not have.";
    UnexpectedMessage = "unexpected_message", Some(Alert::UNEXPECTED_MESSAGE), Peer, "A handshake message that has no place there.";
    MalformedMessage = "malformed_message", Some(Alert::DECODE_ERROR), Peer, "A message that does not parse.";
    IllegalParameter = "illegal_parameter", Some(Alert::ILLEGAL_PARAMETER), Peer, "A message with a value that is not allowed.";
    UnalignedKeyUpdate = "unaligned_key_update", Some(Alert::UNEXPECTED_MESSAGE), Peer, "Bytes behind a KeyUpdate in the same record, which are under the wrong key.";
    TooManyKeyUpdates = "too_many_key_updates", Some(Alert::UNEXPECTED_MESSAGE), Peer, "KeyUpdates without end, and no data between them.";
    TooManyWarnings = "too_many_warnings", Some(Alert::UNEXPECTED_MESSAGE), Peer, "Warnings without end.";
    // The handshake.
    TlsVersion = "tls_version", Some(Alert::PROTOCOL_VERSION), Terms, "The peer does not speak TLS 1.3.";
    NoSharedSuite = "no_shared_suite", Some(Alert::HANDSHAKE_FAILURE), Terms, "No cipher suite, key exchange or signature scheme that both know.";
    WrongAlpn = "wrong_alpn", Some(Alert::NO_APPLICATION_PROTOCOL), Terms, "The peer does not agree to our application protocol.";
    MissingExtension = "missing_extension", Some(Alert::MISSING_EXTENSION), Peer, "An extension that TLS 1.3 requires is missing.";
    HandshakeFailed = "handshake_failed", Some(Alert::ILLEGAL_PARAMETER), Peer, "The peer departed from the handshake's rules.";
    BadSignature = "bad_signature", Some(Alert::DECRYPT_ERROR), Peer, "A signature, binder or Finished of the handshake is wrong.";
    HandshakeUnfinished = "handshake_unfinished", None, Gone, "The connection ended in the middle of the handshake.";
    // Who the peer is.
    NoCertificate = "no_certificate", Some(Alert::CERTIFICATE_REQUIRED), Terms, "The peer showed no certificate and one is required.";
    CertificateExpired = "certificate_expired", Some(Alert::CERTIFICATE_EXPIRED), Terms, "The peer's certificate has expired or is not valid yet.";
    CertificateRevoked = "certificate_revoked", Some(Alert::CERTIFICATE_REVOKED), Terms, "The peer's certificate was revoked.";
    UnknownIssuer = "unknown_issuer", Some(Alert::UNKNOWN_CA), Terms, "The peer's certificate is by an authority we do not trust, or its revocation list is missing.";
    WrongName = "wrong_name", Some(Alert::BAD_CERTIFICATE), Terms, "The server's certificate is for other names than the one that was called.";
    BadCertificate = "bad_certificate", Some(Alert::BAD_CERTIFICATE), Terms, "The peer's certificate cannot be used.";
    WrongPurpose = "wrong_purpose", Some(Alert::UNSUPPORTED_CERTIFICATE), Terms, "The peer's certificate is for another purpose.";
    // Ends.
    Truncated = "truncated", None, Gone, "The connection ended without close_notify: bytes may be missing.";
    PeerAlert = "peer_alert", None, Terms, "The peer gave up with an alert.";
    Internal = "internal", Some(Alert::INTERNAL_ERROR), Ours, "Something of ours failed.";
}

impl Reason {
    /// Its place in [`Reason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// How a connection failed: the reason, what the peer was or is to be told, and what it told us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For counters and logs.
    pub reason: Reason,
    /// The alert that is waiting to be sent.
    pub sent: Option<Alert>,
    /// The alert the peer sent.
    pub received: Option<Alert>,
    /// What there is to say beyond the reason's text; may be empty.
    pub detail: String,
}

impl Failure {
    /// The peer gave up.
    #[must_use]
    pub fn by_peer(alert: Alert) -> Failure {
        Failure { reason: Reason::PeerAlert, sent: None, received: Some(alert), detail: String::new() }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Failure {
        Failure { reason, sent: reason.alert(), received: None, detail: String::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.text())?;
        if let Some(alert) = self.received {
            write!(f, " ({alert})")?;
        }
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
