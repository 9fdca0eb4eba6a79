//! Where values come from, which of them wins, and what is said of one that is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::codec::Codec;
use super::keys::Key;
use super::lists::TopicConfig;
use super::{AccessSettings, Limits, Log, Memory, Storage, TlsSettings, Topics};
use crate::access::TenantRules;
use crate::tls::CertificateFiles;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the program's own.
    Default,
    /// A line of the file.
    File(PathBuf, usize),
    /// A variable of the environment.
    Env(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl Origin {
    /// `default`, `file`, `env` or `flag`.
    #[must_use]
    pub fn layer(&self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::File(..) => "file",
            Origin::Env(_) => "env",
            Origin::Flag(_) => "flag",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => write!(f, "${name}"),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that is wrong with the configuration. It is the operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The setting, as in TOML; empty where the fault is not about one.
    pub key: String,
    /// Where it was given.
    pub origin: Origin,
    /// What was given, what is wrong with it and what is allowed.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), &self.origin) {
            ("", origin) => write!(f, "{origin}: {}", self.message),
            (key, origin) => write!(f, "{key} ({origin}): {}", self.message),
        }
    }
}

/// Everything that is wrong with the configuration, a line for each fault; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order they were found.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Where each setting's value comes from.
pub type Origins = BTreeMap<&'static str, Origin>;

/// A value as it was given.
pub(super) struct Given {
    pub key: &'static Key,
    pub text: String,
    pub origin: Origin,
}

/// Turns what was given into typed values; the strongest layer first.
pub struct Reader<'a> {
    pub(super) given: &'a [Given],
    pub(super) topics: Vec<TopicConfig>,
    pub(super) tenants: Vec<TenantRules>,
    pub(super) certificates: Vec<CertificateFiles>,
    pub(super) origins: Origins,
    pub(super) faults: Vec<Fault>,
}

impl Reader<'_> {
    /// The value of a setting; a refused text is noted, and the default stands in for it.
    pub(super) fn read<C: Codec>(
        &mut self,
        name: &'static str,
        codec: &C,
        default: impl FnOnce() -> C::Value,
    ) -> C::Value {
        let given = self.given.iter().find(|given| given.key.name == name);
        let origin = given.map_or(Origin::Default, |given| given.origin.clone());
        self.origins.insert(name, origin.clone());
        let Some(given) = given else { return default() };
        match codec.parse(&given.text) {
            Ok(value) => value,
            Err(why) => {
                let message = refusal(&given.text, &why, codec);
                self.faults.push(Fault { key: name.to_owned(), origin, message });
                default()
            }
        }
    }
}

/// "given X" in one form everywhere.
pub(super) fn refusal<C: Codec>(text: &str, why: &str, codec: &C) -> String {
    let given = if codec.is_secret() { "what is given".to_owned() } else { format!("{text:?}") };
    format!("{given} {why}; allowed: {}", codec.allowed())
}

/// A part of [`Config`](super::Config) that a reader fills.
pub(super) trait Part: Sized {
    fn read_part(reader: &mut Reader<'_>) -> Self;
}

macro_rules! sections {
    ($($name:ident),*) => { $(
        impl Part for $name {
            fn read_part(reader: &mut Reader<'_>) -> Self {
                Self::read(reader)
            }
        }
    )* };
}
sections!(Limits, Memory, Topics, AccessSettings, TlsSettings, Storage, Log);

impl Part for Vec<TopicConfig> {
    fn read_part(reader: &mut Reader<'_>) -> Self {
        std::mem::take(&mut reader.topics)
    }
}

impl Part for Vec<TenantRules> {
    fn read_part(reader: &mut Reader<'_>) -> Self {
        std::mem::take(&mut reader.tenants)
    }
}

impl Part for Vec<CertificateFiles> {
    fn read_part(reader: &mut Reader<'_>) -> Self {
        std::mem::take(&mut reader.certificates)
    }
}

/// The nearest of some names, when it is near enough to have been meant.
pub(super) fn nearest<'n>(given: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let best = names.map(|name| (distance(given, name), name)).min()?;
    (best.0 <= 1 + given.len() / 4).then_some(best.1)
}

/// Edits (insert, delete, replace) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
