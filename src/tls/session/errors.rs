//! rustls's errors as our reasons.

use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use crate::tls::record::{ALERT, PROTECTED, whole};
use crate::tls::{Alert, Failure, Reason};

/// The failure for an error of rustls. Whether the peer is told is for the caller to say.
pub(super) fn failure_of(error: &Error) -> Failure {
    if let Error::AlertReceived(alert) = error {
        return Failure::by_peer(Alert(u8::from(*alert)));
    }
    Failure { reason: reason_of(error), sent: None, received: None, detail: error.to_string() }
}

fn reason_of(error: &Error) -> Reason {
    match error {
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            Reason::UnexpectedMessage
        }
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) => Reason::RecordOverflow,
        Error::InvalidMessage(_) => Reason::MalformedMessage,
        Error::NoCertificatesPresented => Reason::NoCertificate,
        Error::DecryptError => Reason::BadRecordMac,
        Error::PeerIncompatible(what) => of_incompatible(what),
        Error::PeerMisbehaved(what) => of_misbehaved(what),
        Error::InvalidCertificate(what) => of_certificate(what),
        Error::PeerSentOversizedRecord => Reason::RecordOverflow,
        Error::NoApplicationProtocol => Reason::WrongAlpn,
        _ => Reason::Internal,
    }
}

fn of_incompatible(what: &PeerIncompatible) -> Reason {
    match what {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => Reason::TlsVersion,
        PeerIncompatible::KeyShareExtensionRequired
        | PeerIncompatible::NamedGroupsExtensionRequired
        | PeerIncompatible::SignatureAlgorithmsExtensionRequired => Reason::MissingExtension,
        _ => Reason::NoSharedSuite,
    }
}

fn of_misbehaved(what: &PeerMisbehaved) -> Reason {
    match what {
        PeerMisbehaved::IncorrectBinder => Reason::BadSignature,
        PeerMisbehaved::MessageInterleavedWithHandshakeMessage => Reason::InterleavedHandshake,
        PeerMisbehaved::TooManyEmptyFragments => Reason::TooManyEmptyRecords,
        PeerMisbehaved::TooManyKeyUpdateRequests => Reason::TooManyKeyUpdates,
        PeerMisbehaved::TooManyRenegotiationRequests => Reason::Renegotiation,
        PeerMisbehaved::TooManyWarningAlertsReceived => Reason::TooManyWarnings,
        PeerMisbehaved::IllegalTlsInnerPlaintext => Reason::EmptyRecord,
        PeerMisbehaved::KeyEpochWithPendingFragment => Reason::UnalignedKeyUpdate,
        PeerMisbehaved::IllegalMiddleboxChangeCipherSpec => Reason::UnexpectedRecord,
        PeerMisbehaved::MissingKeyShare | PeerMisbehaved::MissingPskModesExtension => {
            Reason::MissingExtension
        }
        _ => Reason::HandshakeFailed,
    }
}

pub(in crate::tls) fn of_certificate(what: &CertificateError) -> Reason {
    match what {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Reason::CertificateExpired,
        CertificateError::Revoked => Reason::CertificateRevoked,
        CertificateError::UnknownIssuer
        | CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => Reason::UnknownIssuer,
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Reason::BadSignature,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Reason::WrongName
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Reason::WrongPurpose
        }
        _ => Reason::BadCertificate,
    }
}

/// The alert at the end of records that rustls wrote, when it is in plaintext; a protected one is taken to be the
/// one the reason has.
pub(super) fn alert_in(records: &[u8], reason: Reason) -> Option<Alert> {
    match whole(records).last()? {
        (ALERT, [_, number]) => Some(Alert(*number)),
        (PROTECTED, _) => reason.alert(),
        _ => None,
    }
}
