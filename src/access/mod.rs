//! Who may do what: tokens name a tenant, a tenant has rules, a rule gives verbs on a prefix of topic names.
//!
//! It owns the tenants as configured and is never changed: new rules are a new `Access`. Tokens are kept as
//! hashes only, compared in constant time, all of them for every hello; nothing prints them.

#[cfg(test)]
mod tests;
mod token;

pub use token::{NotAHash, TOKEN_PREFIX, TokenHash, generate_token, hash_token};

use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::limits::{RULES_PER_TENANT, TENANT_NAME_BYTES_MAX, TENANTS_MAX, TOKENS_PER_TENANT};

/// The tenant of a server without tokens.
pub const DEFAULT_TENANT: &str = "default";

/// A tenant's place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TenantId(pub u16);

/// What a rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Open channels and send batches.
    Publish,
    /// Subscribe, and commit offsets.
    Subscribe,
    /// Create topics by naming them.
    Admin,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Verb; 3] = [Verb::Publish, Verb::Subscribe, Verb::Admin];

    /// As the configuration names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Publish => "publish",
            Verb::Subscribe => "subscribe",
            Verb::Admin => "admin",
        }
    }

    /// The verb of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.name() == name)
    }
}

/// Verbs on the topics whose name begins with a prefix; the empty prefix means all topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What the topic's name begins with.
    pub prefix: String,
    /// What is allowed there.
    pub verbs: Vec<Verb>,
}

/// A tenant: who it is and what it may do.
#[derive(Debug, Clone)]
pub struct TenantRules {
    /// As in logs and `welcome`.
    pub name: String,
    /// Of each token that names this tenant; none where certificates alone do.
    pub tokens: Vec<TokenHash>,
    /// What it may do; without a rule, nothing.
    pub rules: Vec<Rule>,
}

/// Tenants that cannot be used as configured. The operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // what `Display` says
pub enum AccessError {
    NoTenants,
    TooManyTenants { count: usize },
    BadName { name: String },
    DuplicateName { name: String },
    TooManyTokens { tenant: String, count: usize },
    DuplicateToken { tenant: String, other: String },
    TooManyRules { tenant: String, count: usize },
    RuleWithoutVerbs { tenant: String, prefix: String },
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Access {
    /// No tokens are asked for.
    open: bool,
    tenants: Vec<TenantRules>,
    /// Every token with its tenant's number.
    tokens: Vec<(TokenHash, u16)>,
}

impl Access {
    /// One tenant, `default`, to whom everything is allowed, whatever the token.
    #[must_use]
    pub fn open_to_all() -> Access {
        let tenant = TenantRules {
            name: DEFAULT_TENANT.to_owned(),
            tokens: Vec::new(),
            rules: vec![Rule { prefix: String::new(), verbs: Verb::ALL.to_vec() }],
        };
        Access { open: true, tenants: vec![tenant], tokens: Vec::new() }
    }

    /// The tenants of a configuration; nobody gets in who names none of them, by a token or a certificate.
    ///
    /// # Errors
    /// When there is no tenant, when there are too many of something, or when something is there twice.
    pub fn from_config(tenants: Vec<TenantRules>) -> Result<Access, AccessError> {
        if tenants.is_empty() {
            return Err(AccessError::NoTenants);
        }
        if tenants.len() > TENANTS_MAX {
            return Err(AccessError::TooManyTenants { count: tenants.len() });
        }
        let mut tokens: Vec<(TokenHash, u16)> = Vec::new();
        for (number, tenant) in tenants.iter().enumerate() {
            check_tenant(tenant)?;
            if tenants[..number].iter().any(|earlier| earlier.name == tenant.name) {
                return Err(AccessError::DuplicateName { name: tenant.name.clone() });
            }
            let id = u16::try_from(number).expect("TENANTS_MAX fits in 16 bits");
            for hash in &tenant.tokens {
                if let Some((_, other)) = tokens.iter().find(|(earlier, _)| earlier.same(hash).into()) {
                    let other = tenants[usize::from(*other)].name.clone();
                    return Err(AccessError::DuplicateToken { tenant: tenant.name.clone(), other });
                }
                tokens.push((*hash, id));
            }
        }
        Ok(Access { open: false, tenants, tokens })
    }

    /// Whether no token is asked for.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The tenant a token names. Compares with every token there is, and takes no less time for a match.
    #[must_use]
    pub fn authenticate(&self, token: &str) -> Option<TenantId> {
        if self.open {
            return Some(TenantId(0));
        }
        let given = TokenHash::of(token);
        let nobody = u32::MAX;
        let mut found = nobody;
        for (hash, tenant) in &self.tokens {
            found.conditional_assign(&u32::from(*tenant), hash.same(&given));
        }
        let known = !bool::from(found.ct_eq(&nobody));
        known.then(|| TenantId(u16::try_from(found).expect("it came from a u16")))
    }

    /// Whether one of the tenant's rules gives the verb on the topic. Nobody may do anything under an id
    /// that is not in this `Access`.
    #[must_use]
    pub fn allows(&self, tenant: TenantId, verb: Verb, topic: &str) -> bool {
        self.tenant(tenant).is_some_and(|tenant| {
            tenant.rules.iter().any(|rule| topic.starts_with(&rule.prefix) && rule.verbs.contains(&verb))
        })
    }

    /// The tenant's name; empty when there is no such tenant.
    #[must_use]
    pub fn tenant_name(&self, tenant: TenantId) -> &str {
        self.tenant(tenant).map_or("", |tenant| &tenant.name)
    }

    /// The tenant as configured.
    #[must_use]
    pub fn tenant(&self, tenant: TenantId) -> Option<&TenantRules> {
        self.tenants.get(usize::from(tenant.0))
    }

    /// What number a tenant of `before` has here; `None` when there is none of its name any more.
    #[must_use]
    pub fn renumbered(&self, before: &Access, tenant: TenantId) -> Option<TenantId> {
        if self.open && before.open { Some(tenant) } else { self.tenant_named(before.tenant_name(tenant)) }
    }

    /// The tenant of this name: where a connection goes when new rules replace those it was bound under.
    #[must_use]
    pub fn tenant_named(&self, name: &str) -> Option<TenantId> {
        let number = self.tenants.iter().position(|tenant| tenant.name == name)?;
        u16::try_from(number).ok().map(TenantId)
    }
}

fn check_tenant(tenant: &TenantRules) -> Result<(), AccessError> {
    let name = &tenant.name;
    let bad = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if name.is_empty() || name.len() > TENANT_NAME_BYTES_MAX || name.contains(bad) {
        return Err(AccessError::BadName { name: name.clone() });
    }
    let (tokens, rules) = (tenant.tokens.len(), tenant.rules.len());
    if tokens > TOKENS_PER_TENANT {
        return Err(AccessError::TooManyTokens { tenant: name.clone(), count: tokens });
    }
    if rules > RULES_PER_TENANT {
        return Err(AccessError::TooManyRules { tenant: name.clone(), count: rules });
    }
    match tenant.rules.iter().find(|rule| rule.verbs.is_empty()) {
        Some(rule) => {
            Err(AccessError::RuleWithoutVerbs { tenant: name.clone(), prefix: rule.prefix.clone() })
        }
        None => Ok(()),
    }
}

impl std::fmt::Display for AccessError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AccessError::NoTenants => f.write_str("there is no tenant"),
            AccessError::TooManyTenants { count } => {
                write!(f, "{count} tenants, at most {TENANTS_MAX} are possible")
            }
            AccessError::BadName { name } => write!(
                f,
                "tenant name {name:?}: 1 to {TENANT_NAME_BYTES_MAX} letters, digits, '-', '_' or '.'"
            ),
            AccessError::DuplicateName { name } => write!(f, "tenant {name:?} is there twice"),
            AccessError::TooManyTokens { tenant, count } => {
                write!(f, "tenant {tenant:?} has {count} tokens, at most {TOKENS_PER_TENANT} are possible")
            }
            AccessError::DuplicateToken { tenant, other } => {
                write!(f, "tenant {tenant:?} has a token that tenant {other:?} has already")
            }
            AccessError::TooManyRules { tenant, count } => {
                write!(f, "tenant {tenant:?} has {count} rules, at most {RULES_PER_TENANT} are possible")
            }
            AccessError::RuleWithoutVerbs { tenant, prefix } => {
                let verbs = Verb::ALL.map(Verb::name).join(", ");
                write!(f, "tenant {tenant:?}: the rule for prefix {prefix:?} names no verb; allowed: {verbs}")
            }
        }
    }
}

impl std::error::Error for AccessError {}
