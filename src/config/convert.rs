//! Settings in the types of the modules they are for.

use super::{LogFormat, LogLevel, TenantConfig};
use crate::access::{Rule, TenantRules, TokenHash, Verb};
use crate::log::{Format, Level};

impl From<&TenantConfig> for TenantRules {
    fn from(tenant: &TenantConfig) -> TenantRules {
        let verb = |name: &String| Verb::from_name(name).expect("verbs are checked when the file is read");
        let rule = |rule: &super::TenantRule| Rule {
            prefix: rule.prefix.clone(),
            verbs: rule.verbs.iter().map(verb).collect(),
        };
        TenantRules {
            name: tenant.name.clone(),
            tokens: tenant.token_sha256.iter().map(|hash| TokenHash::from_bytes(*hash)).collect(),
            rules: tenant.rules.iter().map(rule).collect(),
        }
    }
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Format {
        match format {
            LogFormat::Auto => Format::Auto,
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        }
    }
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Level {
        match level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
            LogLevel::Debug => Level::Debug,
        }
    }
}
