//! Alerts as RFC 8446 section 6 numbers them.

use std::fmt;

/// An alert's description byte; those this program sends or expects have names here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alert(pub u8);

macro_rules! alerts {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Alert {
            $(#[doc = concat!("`", $text, "`.")] pub const $name: Alert = Alert($number);)*

            /// The name the RFC gives it; `unknown` for a number it does not give.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 { $($number => $text,)* _ => "unknown" }
            }
        }
    };
}

alerts! {
    CLOSE_NOTIFY = 0, "close_notify";
    UNEXPECTED_MESSAGE = 10, "unexpected_message";
    BAD_RECORD_MAC = 20, "bad_record_mac";
    RECORD_OVERFLOW = 22, "record_overflow";
    HANDSHAKE_FAILURE = 40, "handshake_failure";
    BAD_CERTIFICATE = 42, "bad_certificate";
    UNSUPPORTED_CERTIFICATE = 43, "unsupported_certificate";
    CERTIFICATE_REVOKED = 44, "certificate_revoked";
    CERTIFICATE_EXPIRED = 45, "certificate_expired";
    CERTIFICATE_UNKNOWN = 46, "certificate_unknown";
    ILLEGAL_PARAMETER = 47, "illegal_parameter";
    UNKNOWN_CA = 48, "unknown_ca";
    ACCESS_DENIED = 49, "access_denied";
    DECODE_ERROR = 50, "decode_error";
    DECRYPT_ERROR = 51, "decrypt_error";
    PROTOCOL_VERSION = 70, "protocol_version";
    INSUFFICIENT_SECURITY = 71, "insufficient_security";
    INTERNAL_ERROR = 80, "internal_error";
    USER_CANCELED = 90, "user_canceled";
    MISSING_EXTENSION = 109, "missing_extension";
    UNSUPPORTED_EXTENSION = 110, "unsupported_extension";
    UNRECOGNIZED_NAME = 112, "unrecognized_name";
    CERTIFICATE_REQUIRED = 116, "certificate_required";
    NO_APPLICATION_PROTOCOL = 120, "no_application_protocol";
}

impl Alert {
    /// The level byte it is sent with: 1 (warning) for the two that close in good order, else 2 (fatal).
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Alert::CLOSE_NOTIFY | Alert::USER_CANCELED => 1,
            _ => 2,
        }
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "unknown" => write!(f, "alert {}", self.0),
            name => f.write_str(name),
        }
    }
}
