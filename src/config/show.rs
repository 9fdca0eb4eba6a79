//! Printing: every value with where it came from, and a commented file to start from.

use super::codec::{Codec, show_bytes};
use super::keys::{DURABILITY, KIND, Key, OVERFLOW, RETENTION_AGE, SECTIONS, keys};
use super::lists::VERB;
use super::{Config, Loaded, TopicConfig};
use crate::tls::CertificateFiles;

/// One setting as it stands.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Shown {
    /// Dotted, as in TOML.
    pub key: &'static str,
    /// As it would be given.
    pub value: String,
    /// `default`, `file`, `env` or `flag`.
    pub from: &'static str,
    /// The line, variable or flag; empty for a default.
    pub at: String,
}

impl Loaded {
    /// Every setting in the order of the template.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let texts = self.config.all_texts().into_iter();
        texts
            .map(|(key, value)| {
                let origin = &self.origins[key];
                let secret = keys().any(|one| one.name == key && (one.is_secret)()) && value != "none";
                let value = if secret { "(set)".to_owned() } else { value };
                let at = if origin.layer() == "default" { String::new() } else { origin.to_string() };
                Shown { key, value, from: origin.layer(), at }
            })
            .collect()
    }
}

fn quoted(key: &Key, text: &str) -> String {
    if (key.is_list)() {
        let items: Vec<_> = text.split(',').filter(|_| text != "none").map(string).collect();
        return format!("[{}]", items.join(", "));
    }
    if (key.bare)(text) { text.to_owned() } else { string(text) }
}

/// A TOML string. Rust's own escapes are not all TOML's.
fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => out += &format!("\\u{:04X}", u32::from(letter)),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// A file with every setting at its default, each explained and commented out.
#[must_use]
pub fn template() -> String {
    let mut out = String::from(
        "# uringest: every setting with its default. A flag wins over a variable, a variable over this file.\n\
         # The variable and the flag of a setting follow from its name: [limits] idle_timeout_ms is\n\
         # URINGEST_LIMITS_IDLE_TIMEOUT_MS and --limits-idle-timeout-ms.\n",
    );
    for (section, about, keys) in SECTIONS {
        if !section.is_empty() {
            out += &format!("\n# {about}\n[{section}]\n");
        }
        for key in keys {
            let name = key.name.rsplit('.').next().unwrap_or(key.name);
            let default = if key.name == "shards" { "2".to_owned() } else { (key.default)() };
            out += &format!("\n# {}\n# Allowed: {}.\n", key.help(), (key.allowed)());
            out += &format!("#{name} = {}\n", quoted(key, &default));
        }
    }
    out + "\n# Certificates for further names, chosen by the name a client asks for.\n\
           #[[tls.certificates]]\n#cert = \"other.pem\"\n#key = \"other.key\"\n\
           \n# Topics to make at start-up where they do not exist.\n\
           #[[topic]]\n#name = \"sensors\"\n#partitions = 4\n#kind = \"memory\"\n\
           #retention_bytes = \"64MiB\"\n#overflow = \"block\"\n\
           \n# Of kind log there is more to say.\n\
           #[[topic]]\n#name = \"orders\"\n#kind = \"log\"\n#durability = \"durable\"\n#retention_bytes = \"1GiB\"\n\
           #retention_ms = \"7d\"\n#segment_bytes = \"64MiB\"\n\
           \n# Who may do what; without any tenant, everybody who can connect may do everything.\n\
           # `uringest token new` makes a token and its digest.\n\
           #[[tenant]]\n#name = \"factory\"\n#token_sha256 = [\"64 hexadecimal digits\"]\n\
           #rules = [{ prefix = \"sensors/\", verbs = [\"publish\", \"subscribe\"] }]\n"
}

impl Config {
    /// The configuration as a file that would give the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for (name, text) in self.all_texts() {
            let (of, short) = name.split_once('.').unwrap_or(("", name));
            if of != section {
                section = of;
                out += &format!("\n[{section}]\n");
            }
            let key = keys().find(|key| key.name == name);
            let text = key.map_or_else(|| text.clone(), |key| quoted(key, &text));
            out += &format!("{short} = {text}\n");
        }
        for CertificateFiles { certificate, key } in &self.tls.certificates {
            let text = |file| string(&super::codec::File.show(file));
            out += &format!("\n[[tls.certificates]]\ncert = {}\nkey = {}\n", text(certificate), text(key));
        }
        for topic in &self.topic {
            out += &topic_toml(topic);
        }
        for tenant in &self.tenant {
            let digests: Vec<_> = tenant
                .tokens
                .iter()
                .map(|digest| format!("{:?}", super::codec::Digest.show(digest)))
                .collect();
            let rule = |rule: &crate::access::Rule| {
                let verbs: Vec<_> = rule.verbs.iter().map(|verb| format!("{:?}", VERB.show(verb))).collect();
                format!("{{ prefix = {:?}, verbs = [{}] }}", rule.prefix, verbs.join(", "))
            };
            let rules: Vec<_> = tenant.rules.iter().map(rule).collect();
            out += &format!("\n[[tenant]]\nname = {:?}\n", tenant.name);
            out += &format!("token_sha256 = [{}]\nrules = [{}]\n", digests.join(", "), rules.join(", "));
        }
        out
    }
}

fn topic_toml(topic: &TopicConfig) -> String {
    let mut out = format!("\n[[topic]]\nname = {:?}\npartitions = {}\n", topic.name, topic.partitions);
    out += &format!("kind = {:?}\n", KIND.show(&topic.kind));
    if let Some(bytes) = topic.retention_bytes {
        out += &format!("retention_bytes = {:?}\n", show_bytes(bytes));
    }
    if let Some(overflow) = &topic.overflow {
        out += &format!("overflow = {:?}\n", OVERFLOW.show(overflow));
    }
    if let Some(durability) = &topic.log.durability {
        out += &format!("durability = {:?}\n", DURABILITY.show(durability));
    }
    if let Some(age) = &topic.log.retention_ms {
        out += &format!("retention_ms = {:?}\n", RETENTION_AGE.show(age));
    }
    if let Some(bytes) = topic.log.segment_bytes {
        out += &format!("segment_bytes = {:?}\n", show_bytes(bytes));
    }
    out
}
