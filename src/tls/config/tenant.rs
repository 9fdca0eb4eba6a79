//! The tenant a client's certificate stands for: a rule about its subject alternative names.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

const PLACE: &str = "{tenant}";

/// The names a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SanNames {
    /// DNS names, as they are written.
    pub dns: Vec<String>,
    /// URIs, as they are written.
    pub uri: Vec<String>,
}

impl SanNames {
    /// Of a chain's first certificate; `None` without one.
    pub(in crate::tls) fn of(chain: &[CertificateDer<'_>]) -> Option<SanNames> {
        // A chain that was verified parses.
        let certificate = EndEntityCert::try_from(chain.first()?).ok()?;
        Some(SanNames {
            dns: certificate.valid_dns_names().map(str::to_owned).collect(),
            uri: certificate.valid_uri_names().map(str::to_owned).collect(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dns,
    Uri,
}

/// A rule like `dns:{tenant}.clients.example` or `uri:spiffe://example/tenant/{tenant}`: the names that fit it
/// name the tenant. What stands for `{tenant}` is one label of a DNS name (in lower case), or one segment of a
/// URI's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRule {
    kind: Kind,
    before: String,
    after: String,
}

/// Text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTenantRule(String);

impl fmt::Display for BadTenantRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no rule for tenants: write it as dns:{PLACE}.clients.example or uri:spiffe://example/tenant/{PLACE}",
            self.0
        )
    }
}

impl std::error::Error for BadTenantRule {}

/// Why a certificate names no tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantRefused {
    /// None of its names fits the rule.
    NoName,
    /// They name several.
    Several(String, String),
}

impl fmt::Display for TenantRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TenantRefused::NoName => f.write_str("the certificate has no name that names a tenant"),
            TenantRefused::Several(one, other) => {
                write!(f, "the certificate names the tenants {one} and {other}")
            }
        }
    }
}

impl std::error::Error for TenantRefused {}

impl FromStr for TenantRule {
    type Err = BadTenantRule;

    fn from_str(text: &str) -> Result<TenantRule, BadTenantRule> {
        let bad = || BadTenantRule(text.to_owned());
        let (kind, pattern) = text.split_once(':').ok_or_else(bad)?;
        let kind = match kind {
            "dns" => Kind::Dns,
            "uri" => Kind::Uri,
            _ => return Err(bad()),
        };
        let (before, after) = pattern.split_once(PLACE).ok_or_else(bad)?;
        // Alone it would take any name for a tenant; beside something that is no border, a part of one.
        let bordered = match kind {
            Kind::Dns => {
                (before.is_empty() || before.ends_with('.')) && after.starts_with('.') && after.len() > 1
            }
            Kind::Uri => {
                before.ends_with('/')
                    && !before.ends_with("://")
                    && (after.is_empty() || after.starts_with('/'))
            }
        };
        if !bordered || after.contains(PLACE) || pattern.contains(char::is_whitespace) {
            return Err(bad());
        }
        let case = |part: &str| if kind == Kind::Dns { part.to_ascii_lowercase() } else { part.to_owned() };
        Ok(TenantRule { kind, before: case(before), after: case(after) })
    }
}

impl fmt::Display for TenantRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == Kind::Dns { "dns" } else { "uri" };
        write!(f, "{kind}:{}{PLACE}{}", self.before, self.after)
    }
}

impl TenantRule {
    /// The tenant these names name.
    ///
    /// # Errors
    /// When none does, or they name several.
    pub fn tenant(&self, names: &SanNames) -> Result<String, TenantRefused> {
        let names = if self.kind == Kind::Dns { &names.dns } else { &names.uri };
        let mut found: Option<String> = None;
        for tenant in names.iter().filter_map(|name| self.tenant_in(name)) {
            match found.take() {
                Some(other) if other != tenant => return Err(TenantRefused::Several(other, tenant)),
                _ => found = Some(tenant),
            }
        }
        found.ok_or(TenantRefused::NoName)
    }

    fn tenant_in(&self, name: &str) -> Option<String> {
        let name = if self.kind == Kind::Dns { name.to_ascii_lowercase() } else { name.to_owned() };
        let tenant = name.strip_prefix(&self.before)?.strip_suffix(&self.after)?;
        let border = if self.kind == Kind::Dns { &['.', '*'][..] } else { &['/', '?', '#'] };
        (!tenant.is_empty() && !tenant.contains(border)).then(|| tenant.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> TenantRule {
        text.parse().unwrap_or_else(|error: BadTenantRule| panic!("{error}"))
    }

    fn names(dns: &[&str], uri: &[&str]) -> SanNames {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        SanNames { dns: owned(dns), uri: owned(uri) }
    }

    #[test]
    fn one_label_or_one_segment_names_the_tenant() {
        let dns = rule("dns:{tenant}.clients.example");
        assert_eq!(dns.tenant(&names(&["Acme.Clients.Example"], &[])), Ok("acme".into()));
        assert_eq!(dns.tenant(&names(&["other.example", "acme.clients.example"], &[])), Ok("acme".into()));
        let uri = rule("uri:spiffe://example/tenant/{tenant}");
        assert_eq!(uri.tenant(&names(&[], &["spiffe://example/tenant/Acme"])), Ok("Acme".into()));
        let inside = rule("uri:spiffe://example/{tenant}/sensor");
        assert_eq!(inside.tenant(&names(&[], &["spiffe://example/acme/sensor"])), Ok("acme".into()));
    }

    #[test]
    fn other_names_do_not() {
        let dns = rule("dns:{tenant}.clients.example");
        for name in [
            "clients.example",
            ".clients.example",
            "a.b.clients.example",
            "*.clients.example",
            "acme.clients.example.org",
            "acmeclients.example",
        ] {
            assert_eq!(
                dns.tenant(&names(&[name], &["acme.clients.example"])),
                Err(TenantRefused::NoName),
                "{name}"
            );
        }
        let uri = rule("uri:spiffe://example/tenant/{tenant}");
        for name in ["spiffe://example/tenant/", "spiffe://example/tenant/a/b", "spiffe://other/tenant/a"] {
            assert_eq!(uri.tenant(&names(&[], &[name])), Err(TenantRefused::NoName), "{name}");
        }
    }

    #[test]
    fn two_tenants_are_none() {
        let dns = rule("dns:{tenant}.clients.example");
        let twice = names(&["a.clients.example", "A.clients.example"], &[]);
        assert_eq!(dns.tenant(&twice), Ok("a".into()));
        let two = names(&["a.clients.example", "b.clients.example"], &[]);
        assert_eq!(dns.tenant(&two), Err(TenantRefused::Several("a".into(), "b".into())));
    }

    #[test]
    fn rules_that_would_take_anything_are_none() {
        for text in [
            "",
            "dns",
            "dns:",
            "dns:{tenant}",
            "dns:{tenant}.",
            "dns:x{tenant}.example",
            "dns:{tenant}x.example",
            "dns:{tenant}.{tenant}.example",
            "dns:a.example",
            "cn:{tenant}.example",
            "uri:{tenant}",
            "uri:spiffe://{tenant}",
            "uri:spiffe://example/x{tenant}",
            "uri:spiffe://example/{tenant}x",
        ] {
            assert_eq!(text.parse::<TenantRule>(), Err(BadTenantRule(text.to_owned())), "{text}");
        }
        for text in ["dns:a.{tenant}.example", "uri:spiffe://example/{tenant}"] {
            assert_eq!(rule(text).to_string(), text);
        }
    }
}
