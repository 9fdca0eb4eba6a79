//! `[tls]` as a whole: which certificates it names, and what must hold between its settings and the addresses.

use std::net::SocketAddr;

use super::{Config, TlsSettings};
use crate::tls::{CertificateFiles, ClientAuth, EarlyData, ServerSettings};

/// Whether clients show certificates, as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// `Required` with authorities, `None` without.
    Auto,
    /// None are asked for.
    None,
    /// A client may show one, or none.
    Optional,
    /// Every client shows one.
    Required,
}

impl TlsSettings {
    /// Whether the data port speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.cert.is_some() || self.key.is_some() || !self.certificates.is_empty()
    }

    /// What the server's TLS is made of; `None` where the data port speaks plain text.
    #[must_use]
    pub fn server(&self) -> Option<ServerSettings> {
        if !self.is_on() {
            return None;
        }
        let first = self.cert.clone().zip(self.key.clone());
        let first = first.map(|(certificate, key)| CertificateFiles { certificate, key });
        let client_auth = match (self.client_auth, self.client_ca.clone()) {
            (ClientCertificates::None, _) | (_, None) => ClientAuth::None,
            (ClientCertificates::Optional, Some(file)) => ClientAuth::Optional(file),
            (ClientCertificates::Auto | ClientCertificates::Required, Some(file)) => {
                ClientAuth::Required(file)
            }
        };
        let sessions = usize::try_from(self.early_data_sessions).expect("64-bit addresses");
        let allowed = EarlyData::Allowed { bytes: self.early_data_bytes, sessions };
        Some(ServerSettings {
            certificates: first.into_iter().chain(self.certificates.iter().cloned()).collect(),
            client_auth,
            revocation_lists: self.crls.clone(),
            tenant_rule: self.tenant_rule.clone(),
            early_data: if self.early_data { allowed } else { EarlyData::Off },
        })
    }
}

/// Each setting has what it needs, and a use.
pub(super) fn check(config: &Config, fault: &mut impl FnMut(&str, String)) {
    let tls = &config.tls;
    let pair =
        [("tls.cert", &tls.cert, "tls.key", "the certificate"), ("tls.key", &tls.key, "tls.cert", "the key")];
    for ((own, given, other, what), (_, needed, ..)) in pair.into_iter().zip(pair.into_iter().rev()) {
        if let (Some(file), None) = (given, needed) {
            let flag = other.replace('.', "-");
            fault(
                own,
                format!("{} is {what} of a pair: name the other with {other} (--{flag})", file.display()),
            );
        }
    }
    let without = |needed: &str| format!("has no use without {needed}");
    if !tls.is_on() {
        let useless = [
            ("plaintext_listen", config.plaintext_listen.is_some()),
            ("tls.client_ca", tls.client_ca.is_some()),
            ("tls.client_auth", tls.client_auth != ClientCertificates::Auto),
            ("tls.crls", !tls.crls.is_empty()),
            ("tls.tenant_rule", tls.tenant_rule.is_some()),
            ("tls.early_data", tls.early_data),
        ];
        for (name, _) in useless.into_iter().filter(|(_, given)| *given) {
            fault(name, without("tls.cert and tls.key: the data port speaks plain text"));
        }
        return;
    }
    let asks = matches!(tls.client_auth, ClientCertificates::Optional | ClientCertificates::Required);
    match &tls.client_ca {
        None if asks => {
            fault("tls.client_auth", "needs tls.client_ca: whose certificates clients show".to_owned())
        }
        Some(_) if tls.client_auth == ClientCertificates::None => {
            let message =
                "asks for no certificates and tls.client_ca names who issues them: leave one of them out";
            fault("tls.client_auth", message.to_owned());
        }
        _ => {}
    }
    for (name, given) in [("tls.crls", !tls.crls.is_empty()), ("tls.tenant_rule", tls.tenant_rule.is_some())]
    {
        if given && tls.client_ca.is_none() {
            fault(name, without("tls.client_ca: clients are asked for no certificates"));
        }
    }
    if tls.tenant_rule.is_some() && config.tenant.is_empty() {
        fault("tls.tenant_rule", "names tenants, and no [[tenant]] says what they may do".to_owned());
    }
}

/// Plain text stays on loopback unless that is asked for; the admin port, which has no TLS, needs a token beyond it.
pub(super) fn check_exposure(config: &Config, fault: &mut impl FnMut(&str, String)) {
    let data = if config.tls.is_on() {
        config.plaintext_listen.map(|address| ("plaintext_listen", address))
    } else {
        Some(("listen", config.listen))
    };
    if let Some((name, address)) = data.filter(|(_, address)| exposed(config, *address)) {
        let what = if config.tenant.is_empty() {
            "anybody could publish and subscribe: no [[tenant]] is configured"
        } else {
            "tokens and records would cross the network for anybody to read"
        };
        let certificate = if config.tls.is_on() {
            "leave it out"
        } else {
            "give it a certificate (--tls-cert FILE --tls-key FILE; `uringest cert dev DIR` makes one for trials)"
        };
        let message = format!(
            "{address} is beyond loopback and would speak plain text, and {what}; {certificate}, or listen on \
             127.0.0.1, or, if plain text is meant, set insecure_plaintext = true (--insecure-plaintext)"
        );
        fault(name, message);
    }
    let admin = config.admin;
    if exposed(config, admin) {
        let message = format!(
            "{admin} is beyond loopback, and the admin port speaks plain HTTP: its token could be read on the way; \
             listen on 127.0.0.1 (and let a proxy with TLS stand before it), or, if plain text is meant, set \
             insecure_plaintext = true (--insecure-plaintext)"
        );
        fault("admin", message);
    }
    if !is_loopback(admin) && config.access.admin_token_sha256.is_none() {
        let message = format!(
            "{admin} is beyond loopback and needs access.admin_token_sha256; `uringest token new` makes a token and its digest"
        );
        fault("admin", message);
    }
}

fn exposed(config: &Config, address: SocketAddr) -> bool {
    !is_loopback(address) && !config.insecure_plaintext
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
