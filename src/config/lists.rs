//! The lists of the file: `[[topic]]`, `[[tenant]]` and `[[tls.certificates]]`. They have neither variables nor flags.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codec::{Codec, Digest, File, Name, Word};
use super::file::{CERTIFICATES, line_of, scalar_text};
use super::keys::{
    DURABILITY, KIND, LOG_RETENTION, OVERFLOW, PARTITIONS, RETENTION, RETENTION_AGE, SEGMENT, TOPIC_NAME,
};
use super::layers::{Fault, Origin, nearest, refusal};
use super::storage::LogWishes;
use crate::access::{Rule, TenantRules, Verb};
use crate::limits;
use crate::tls::CertificateFiles;
use crate::topic::{Overflow, TopicKind};

/// A topic the server makes at start-up where it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// As clients name it.
    pub name: String,
    /// 1 by default.
    pub partitions: u32,
    /// `memory` by default.
    pub kind: TopicKind,
    /// Bytes each partition keeps; `None`: the default of its kind.
    pub retention_bytes: Option<u64>,
    /// `None`: `topics.overflow`.
    pub overflow: Option<Overflow>,
    /// What is said for kind `log` alone.
    pub log: LogWishes,
}

const TENANT_NAME: Name = Name { bytes_max: limits::TENANT_NAME_BYTES_MAX, marks: "._-", dot_first: true };
const PREFIX: Name = Name { bytes_max: limits::TOPIC_NAME_BYTES_MAX, marks: "._-/", dot_first: false };
/// What a rule may give.
pub(super) const VERB: Word<Verb> =
    Word(&[("publish", Verb::Publish), ("subscribe", Verb::Subscribe), ("admin", Verb::Admin)]);

type Value<'t> = Spanned<DeValue<'t>>;

/// Reads one table of a list, field by field.
struct Entry<'t> {
    table: &'t DeTable<'t>,
    path: &'t Path,
    source: &'t str,
    name: String,
    line: usize,
    faults: &'t mut Vec<Fault>,
}

impl<'t> Entry<'t> {
    fn fault(&mut self, field: &str, line: usize, message: String) {
        let key = if field.is_empty() { self.name.clone() } else { format!("{}.{field}", self.name) };
        self.faults.push(Fault { key, origin: Origin::File(self.path.to_owned(), line), message });
    }

    fn refuse_unknown(&mut self, known: &[&str]) {
        let table = self.table;
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let hint = nearest(key.get_ref(), known.iter().copied()).map_or_else(
                || format!("known: {}", known.join(", ")),
                |near| format!("did you mean {near}?"),
            );
            let line = line_of(self.source, key.span().start);
            self.fault(key.get_ref(), line, format!("unknown key; {hint}"));
        }
    }

    fn value(&self, field: &str) -> Option<(&'t Value<'t>, usize)> {
        let value = self.table.get(field)?;
        Some((value, line_of(self.source, value.span().start)))
    }

    fn parse<C: Codec>(
        &mut self,
        field: &str,
        value: &Value<'_>,
        line: usize,
        codec: &C,
    ) -> Option<C::Value> {
        let parsed = scalar_text(value.get_ref())
            .ok_or_else(|| format!("{} given; allowed: {}", value.get_ref().type_str(), codec.allowed()));
        let parsed = parsed.and_then(|text| codec.parse(&text).map_err(|why| refusal(&text, &why, codec)));
        parsed.map_err(|message| self.fault(field, line, message)).ok()
    }

    fn optional<C: Codec>(&mut self, field: &str, codec: &C) -> Option<C::Value> {
        let (value, line) = self.value(field)?;
        self.parse(field, value, line, codec)
    }

    fn required<C: Codec>(&mut self, field: &str, codec: &C) -> Option<C::Value> {
        if self.table.get(field).is_none() {
            let line = self.line;
            self.fault("", line, format!("has no {field}; allowed: {}", codec.allowed()));
        }
        self.optional(field, codec)
    }

    /// Whether there is no such field, or an empty list.
    fn array_is_empty(&self, field: &str) -> bool {
        self.value(field)
            .is_none_or(|(value, _)| value.get_ref().as_array().is_some_and(|items| items.is_empty()))
    }

    fn array(&mut self, field: &str, of: &str) -> Vec<(&'t Value<'t>, usize)> {
        let Some((value, line)) = self.value(field) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.fault(field, line, format!("{} given; allowed: a list of {of}", value.get_ref().type_str()));
            return Vec::new();
        };
        items.iter().map(|item| (item, line_of(self.source, item.span().start))).collect()
    }
}

/// The tables of `[[name]]`, as entries.
fn each<'t>(
    name: &str,
    value: &'t Value<'t>,
    at: (&'t Path, &'t str),
    faults: &'t mut Vec<Fault>,
    mut read: impl FnMut(&mut Entry<'_>),
) {
    let (path, source) = at;
    let items = value.get_ref().as_array();
    let tables = items.map(|items| items.iter().map(|item| (item, item.get_ref().as_table())));
    for (item, table) in tables.into_iter().flatten() {
        let line = line_of(source, item.span().start);
        if let Some(table) = table {
            read(&mut Entry { table, path, source, name: name.to_owned(), line, faults });
        } else {
            let message =
                format!("{} given; allowed: tables, each under [[{name}]]", item.get_ref().type_str());
            faults.push(Fault { key: name.to_owned(), origin: Origin::File(path.to_owned(), line), message });
        }
    }
    if items.is_none() {
        let origin = Origin::File(path.to_owned(), line_of(source, value.span().start));
        let message = format!("{} given; write [[{name}]] with two brackets", value.get_ref().type_str());
        faults.push(Fault { key: name.to_owned(), origin, message });
    }
}

/// `[[topic]]`.
pub(super) fn topics<'t>(
    value: &'t Value<'t>,
    path: &'t Path,
    source: &'t str,
    faults: &'t mut Vec<Fault>,
) -> Vec<TopicConfig> {
    let mut topics: Vec<TopicConfig> = Vec::new();
    each("topic", value, (path, source), faults, |entry| {
        const LOG_ALONE: [&str; 3] = ["durability", "retention_ms", "segment_bytes"];
        let known = ["name", "partitions", "kind", "retention_bytes", "overflow"];
        entry.refuse_unknown(&[&known[..], &LOG_ALONE].concat());
        let name = entry.required("name", &TOPIC_NAME);
        let kind = entry.optional("kind", &KIND).unwrap_or(TopicKind::Memory);
        for field in LOG_ALONE.into_iter().filter(|_| kind != TopicKind::Log) {
            if let Some((_, line)) = entry.value(field) {
                entry.fault(field, line, "is for topics of kind log".to_owned());
            }
        }
        let retention = if kind == TopicKind::Log { &LOG_RETENTION } else { &RETENTION };
        let topic = TopicConfig {
            name: name.unwrap_or_default(),
            partitions: entry.optional("partitions", &PARTITIONS).unwrap_or(1),
            kind,
            retention_bytes: entry.optional("retention_bytes", retention),
            overflow: entry.optional("overflow", &OVERFLOW),
            log: LogWishes {
                durability: entry.optional("durability", &DURABILITY),
                retention_ms: entry.optional("retention_ms", &RETENTION_AGE),
                segment_bytes: entry.optional("segment_bytes", &SEGMENT),
            },
        };
        if topics.iter().any(|other| other.name == topic.name) {
            let line = entry.line;
            entry.fault("name", line, format!("{:?} is listed twice", topic.name));
        }
        topics.push(topic);
    });
    topics
}

/// `[[tenant]]`.
pub(super) fn tenants<'t>(
    value: &'t Value<'t>,
    path: &'t Path,
    source: &'t str,
    faults: &'t mut Vec<Fault>,
) -> (Vec<TenantRules>, Vec<Fault>) {
    let mut tenants: Vec<TenantRules> = Vec::new();
    let mut tokenless = Vec::new();
    each("tenant", value, (path, source), faults, |entry| {
        entry.refuse_unknown(&["name", "token_sha256", "rules"]);
        let name = entry.required("name", &TENANT_NAME).unwrap_or_default();
        entry.name = format!("tenant {name}");
        let mut tenant = TenantRules { name, tokens: Vec::new(), rules: Vec::new() };
        for (value, line) in entry.array("token_sha256", "digests") {
            tenant.tokens.extend(entry.parse("token_sha256", value, line, &Digest));
        }
        for (value, line) in entry.array("rules", "rules, as { prefix = \"a/\", verbs = [\"publish\"] }") {
            tenant.rules.extend(rule(entry, value, line));
        }
        let line = entry.line;
        if entry.array_is_empty("token_sha256") {
            let message = "has no token_sha256: nobody could connect as it; `uringest token new` makes one, or \
                           tls.tenant_rule has certificates name tenants";
            let origin = Origin::File(entry.path.to_owned(), line);
            tokenless.push(Fault { key: entry.name.clone(), origin, message: message.to_owned() });
        }
        if !entry.table.contains_key("rules") {
            let message = "has no rules: it could do nothing; as rules = [{ prefix = \"\", verbs = [\"publish\", \"subscribe\"] }]";
            entry.fault("", line, message.to_owned());
        }
        tenants.push(tenant);
    });
    (tenants, tokenless)
}

/// `[[tls.certificates]]`.
pub(super) fn certificates<'t>(
    value: &'t Value<'t>,
    path: &'t Path,
    source: &'t str,
    faults: &'t mut Vec<Fault>,
) -> Vec<CertificateFiles> {
    let mut certificates = Vec::new();
    each(CERTIFICATES, value, (path, source), faults, |entry| {
        entry.refuse_unknown(&["cert", "key"]);
        if certificates.len() == limits::TLS_CERTIFICATES_MAX {
            let message = format!("is one too many; allowed: {}", limits::TLS_CERTIFICATES_MAX);
            return entry.fault("", entry.line, message);
        }
        let files = (entry.required("cert", &File), entry.required("key", &File));
        if let (Some(certificate), Some(key)) = files {
            certificates.push(CertificateFiles { certificate, key });
        }
    });
    certificates
}

fn rule(entry: &mut Entry<'_>, value: &Value<'_>, line: usize) -> Option<Rule> {
    let Some(table) = value.get_ref().as_table() else {
        let message = format!(
            "{} given; allowed: {{ prefix = \"a/\", verbs = [\"publish\"] }}",
            value.get_ref().type_str()
        );
        entry.fault("rules", line, message);
        return None;
    };
    let name = format!("{}.rules", entry.name);
    let (path, source) = (entry.path, entry.source);
    let mut inner = Entry { table, path, source, name, line, faults: entry.faults };
    inner.refuse_unknown(&["prefix", "verbs"]);
    let prefix = match inner.value("prefix") {
        Some((value, _)) if value.get_ref().as_str() == Some("") => Some(String::new()),
        _ => inner.required("prefix", &PREFIX),
    };
    let mut verbs = Vec::new();
    for (value, line) in inner.array("verbs", "verbs") {
        verbs.extend(inner.parse("verbs", value, line, &VERB));
    }
    Some(Rule { prefix: prefix?, verbs })
}
