//! Configuration: what an operator says in a TOML file, in `URINGEST_*` variables and in flags, made into
//! one checked value. A flag wins over a variable, a variable over the file, the file over the default.
//!
//! Everything is defined once, in `keys.rs`. A [`Config`] exists only after every value and every rule
//! between values has been checked, so nothing later checks again.
//!
//! Owns nothing; reads one file. Faults are collected, so that one run tells all of them.

mod codec;
mod file;
mod keys;
mod layers;
mod lists;
mod rules;
mod show;
mod storage;
mod tls;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use crate::io::choice::IoChoice;
pub use crate::log::{Format as LogFormat, Level as LogLevel};
pub use codec::{Age, Codec, Digest, parse_bytes, show_bytes};
pub use keys::{
    AccessSettings, BACKUP_LEASE, Config, Key, Limits, Log, Memory, RETENTION_AGE, SECTIONS, Storage,
    TOPIC_NAME, TlsSettings, Topics, keys,
};
pub use layers::{ConfigError, Fault, Origin, Origins};
pub use lists::TopicConfig;
pub use show::{Shown, template};
pub use storage::{Direct, LogWishes};
pub use tls::ClientCertificates;

use layers::{Given, Reader};

/// What the variables' names begin with.
pub const ENV_PREFIX: &str = "URINGEST_";
/// Variables with the prefix that are no settings: they belong to other commands.
const ENV_OTHERS: [&str; 8] = [
    "URINGEST_CONFIG",
    "URINGEST_SERVER",
    "URINGEST_TOKEN",
    "URINGEST_ADMIN_TOKEN",
    "URINGEST_SERVER_CA",
    "URINGEST_SERVER_NAME",
    "URINGEST_CLIENT_CERT",
    "URINGEST_CLIENT_KEY",
];
/// Kubernetes sets variables of these beginnings in every container beside a service named `uringest`.
const ENV_INJECTED: [&str; 2] = ["URINGEST_SERVICE_", "URINGEST_PORT"];
/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What there is to read.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file, if any.
    pub file: Option<PathBuf>,
    /// The environment; only names with the prefix are looked at.
    pub env: Vec<(String, String)>,
    /// Flags by the setting's name (`limits.frame_bytes_max`), with their text.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// A file and flags beside this process's environment.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Sources {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
            })
            .collect();
        Sources { file, env, flags }
    }
}

/// A configuration, and where each of its values comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Checked.
    pub config: Config,
    /// By the setting's name.
    pub origins: Origins,
}

/// Reads all sources into a checked configuration.
///
/// # Errors
/// Every fault of every source at once.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut faults = Vec::new();
    let mut given: Vec<Given> = sources.flags.iter().filter_map(given_by_flag).collect();
    given_by_env(&sources.env, &mut given, &mut faults);
    let mut contents = file::Contents::default();
    if let Some(path) = &sources.file {
        match read_file(path) {
            Ok(text) => contents = file::parse(path, &text, &mut faults),
            Err(error) => {
                let (origin, key) = (Origin::Flag("--config".to_owned()), String::new());
                let message = format!("cannot read {}: {error}", path.display());
                faults.push(Fault { key, origin, message });
            }
        }
    }
    given.append(&mut contents.given);
    let file::Contents { topics, tenants, tokenless, certificates, .. } = contents;
    let origins = Origins::new();
    let mut reader = Reader { given: &given, topics, tenants, certificates, origins, faults };
    let mut config = Config::read(&mut reader);
    let Reader { origins, mut faults, .. } = reader;
    if origins["limits.record_bytes_max"] == Origin::Default {
        config.limits.record_bytes_max = config.limits.frame_bytes_max / 2;
    }
    if config.tls.tenant_rule.is_none() {
        faults.extend(tokenless);
    }
    if faults.is_empty() {
        rules::check(&config, &origins, &mut faults);
    }
    if faults.is_empty() { Ok(Loaded { config, origins }) } else { Err(ConfigError { faults }) }
}

impl Default for Config {
    /// What holds when nothing is said.
    fn default() -> Self {
        let origins = Origins::new();
        let mut reader = Reader {
            given: &[],
            topics: Vec::new(),
            tenants: Vec::new(),
            certificates: Vec::new(),
            origins,
            faults: Vec::new(),
        };
        Config::read(&mut reader)
    }
}

fn read_file(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn given_by_flag((name, text): &(&'static str, String)) -> Option<Given> {
    let key = keys().find(|key| key.name == *name)?;
    Some(Given { key, text: text.clone(), origin: Origin::Flag(format!("--{}", key.flag())) })
}

fn given_by_env(env: &[(String, String)], given: &mut Vec<Given>, faults: &mut Vec<Fault>) {
    for (name, text) in env.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)) {
        let origin = Origin::Env(name.clone());
        if let Some(key) = keys().find(|key| key.env() == *name) {
            given.push(Given { key, text: text.clone(), origin });
        } else if !ENV_OTHERS.contains(&name.as_str())
            && !ENV_INJECTED.iter().any(|known| name.starts_with(known))
        {
            let names: Vec<String> = keys().map(Key::env).chain(ENV_OTHERS.map(str::to_owned)).collect();
            let near = layers::nearest(name, names.iter().map(String::as_str));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            faults.push(Fault { key: name.clone(), origin, message: format!("unknown variable{hint}") });
        }
    }
}
