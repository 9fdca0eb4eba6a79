//! Which certificate a client gets: by the name it asks for, and the signatures it can check.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate with the names it is for.
#[derive(Debug)]
pub(super) struct Named {
    /// In lower case; a `*` stands for one label.
    pub(super) names: Vec<String>,
    pub(super) key: Arc<CertifiedKey>,
}

/// All of a server's certificates, in the order of the configuration.
#[derive(Debug)]
pub(super) struct ByName(pub(super) Vec<Named>);

impl ByName {
    /// The first with the name and a key whose signatures the client can check. Where none has the name all are
    /// looked at, since a client that asks for an unknown name may still know one of ours.
    fn choose(&self, name: Option<&str>, usable: impl Fn(&Named) -> bool) -> Option<&Named> {
        let name = name.map(str::to_ascii_lowercase);
        let for_name = |named: &&Named| {
            name.as_deref().is_some_and(|name| named.names.iter().any(|own| covers(own, name)))
        };
        let anybodys = !self.0.iter().any(|named| for_name(&named));
        self.0.iter().filter(|named| anybodys || for_name(named)).find(|named| usable(named))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered: Vec<_> =
            hello.signature_schemes().iter().copied().filter(|&s| in_handshakes(s)).collect();
        let usable = |named: &Named| named.key.key.choose_scheme(&offered).is_some();
        self.choose(hello.server_name(), usable).map(|named| Arc::clone(&named.key))
    }
}

/// Whether a handshake of TLS 1.3 is signed like this; clients also list what they can check in certificates
/// (RFC 8446 section 4.2.3).
fn in_handshakes(scheme: SignatureScheme) -> bool {
    !matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA1
            | SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::ECDSA_SHA1_Legacy
    )
}

/// Whether a name of a certificate is good for the name that was asked for (RFC 9525 section 6.3).
fn covers(own: &str, asked: &str) -> bool {
    match own.strip_prefix("*.") {
        None => own == asked,
        Some(parent) => {
            asked.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_star_is_one_label() {
        assert!(covers("a.example", "a.example"));
        assert!(covers("*.example.com", "a.example.com"));
        for (own, asked) in [
            ("a.example", "b.example"),
            ("*.example.com", "example.com"),
            ("*.example.com", "a.b.example.com"),
            ("*.example.com", ".example.com"),
            ("*.example.com", "*.example.org"),
            ("a.example", "a.example.com"),
        ] {
            assert!(!covers(own, asked), "{own} {asked}");
        }
    }
}
