//! The TOML file: its text to given values, each with its line.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Key, SECTIONS, keys};
use super::layers::{Fault, Given, Origin, nearest};
use super::lists::{TopicConfig, certificates, tenants, topics};
use crate::access::TenantRules;
use crate::tls::CertificateFiles;

/// What a file says.
#[derive(Default)]
pub(super) struct Contents {
    pub given: Vec<Given>,
    pub topics: Vec<TopicConfig>,
    pub tenants: Vec<TenantRules>,
    /// Tenants without a token, as faults: they are none where certificates name tenants.
    pub tokenless: Vec<Fault>,
    pub certificates: Vec<CertificateFiles>,
}

/// The list of certificates, a list inside a section.
pub(super) const CERTIFICATES: &str = "tls.certificates";

/// The line, counted from 1, of a byte of the text.
pub(super) fn line_of(source: &str, at: usize) -> usize {
    let before = &source.as_bytes()[..at.min(source.len())];
    1 + before.split(|byte| *byte == b'\n').count().saturating_sub(1)
}

/// The text of a string, number or boolean; others have none.
pub(super) fn scalar_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The text of a list of strings: they with commas between them, which none of them has.
fn list_text(value: &DeValue<'_>) -> Option<String> {
    let items = value.as_array()?.iter().map(|item| item.get_ref().as_str());
    let items: Vec<&str> = items.collect::<Option<_>>()?;
    items.iter().all(|item| !item.is_empty() && !item.contains(',')).then(|| items.join(","))
}

/// Reads a file's text. Faults are added; what is sound is returned.
pub(super) fn parse(path: &Path, source: &str, faults: &mut Vec<Fault>) -> Contents {
    let document = match DeTable::parse(source) {
        Ok(document) => document,
        Err(error) => {
            let line = line_of(source, error.span().map_or(0, |span| span.start));
            let origin = Origin::File(path.to_owned(), line);
            let message = format!("is not TOML: {}", error.message().replace('\n', ", "));
            faults.push(Fault { key: String::new(), origin, message });
            return Contents::default();
        }
    };
    let mut contents = Contents::default();
    for (name, value) in document.get_ref() {
        let line = line_of(source, name.span().start);
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("topic", _) => contents.topics = topics(value, path, source, faults),
            ("tenant", _) => {
                (contents.tenants, contents.tokenless) = tenants(value, path, source, faults);
            }
            (section, DeValue::Table(table)) if is_section(section) => {
                for (inner, value) in table {
                    let line = line_of(source, inner.span().start);
                    let name = format!("{section}.{}", inner.get_ref());
                    match name.as_str() {
                        CERTIFICATES => contents.certificates = certificates(value, path, source, faults),
                        name => take(name, value, (path, line), &mut contents, faults),
                    }
                }
            }
            (key, _) => take(key, value, (path, line), &mut contents, faults),
        }
    }
    contents
}

fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|(section, ..)| !section.is_empty() && *section == name)
}

fn take(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    (path, line): (&Path, usize),
    contents: &mut Contents,
    faults: &mut Vec<Fault>,
) {
    let origin = Origin::File(path.to_owned(), line);
    let Some(key) = keys().find(|key| key.name == name) else {
        let message = format!("unknown key{}", hint(name));
        return faults.push(Fault { key: name.to_owned(), origin, message });
    };
    let text = if (key.is_list)() { list_text(value.get_ref()) } else { scalar_text(value.get_ref()) };
    match text {
        Some(text) => contents.given.push(Given { key, text, origin }),
        None => {
            let message = format!("{} given; allowed: {}", value.get_ref().type_str(), (key.allowed)());
            faults.push(Fault { key: name.to_owned(), origin, message });
        }
    }
}

/// What may have been meant by an unknown key, as the end of a message.
fn hint(name: &str) -> String {
    let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    let same_last: Option<&Key> =
        keys().find(|key| last(key.name) == name.rsplit('.').next().unwrap_or(name));
    let sections = SECTIONS.iter().map(|(section, ..)| *section).filter(|section| !section.is_empty());
    let names = keys().map(|key| key.name).chain(sections).chain(["topic", "tenant", CERTIFICATES]);
    let near = same_last.map(|key| key.name).or_else(|| nearest(name, names));
    near.map_or_else(
        || "; `uringest config show --template` prints all of them".to_owned(),
        |near| format!("; did you mean {near}?"),
    )
}
