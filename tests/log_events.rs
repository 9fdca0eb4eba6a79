//! Every event that the source logs or a shard reports by a literal name stands in `docs/operations.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const DOCUMENT: &str = "docs/operations.md";
/// The line before the table.
const TABLE: &str = "\nThe events:\n";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Rust files below a directory, without those of unit tests.
fn sources(directory: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, out);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            out.push(path);
        }
    }
}

/// The string literals in an argument: up to the comma that ends it.
fn literals(argument: &str) -> Vec<&str> {
    let argument = argument.split(',').next().unwrap_or_default();
    argument.split('"').skip(1).step_by(2).collect()
}

/// The names of events in a source: what follows a level or `log::degraded(`, and what `Report::Event`
/// and `Degraded` name.
fn events(source: &str) -> BTreeSet<&str> {
    let marks = [
        "Level::Debug,",
        "Level::Info,",
        "Level::Warn,",
        "Level::Error,",
        "log::degraded(",
        "event: ",
        "Degraded { key: ",
    ];
    let after = |mark| source.match_indices(mark).map(move |(at, mark)| &source[at + mark.len()..]);
    let is_name = |text: &&str| {
        text.contains('_') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            || text.chars().all(|c| c.is_ascii_lowercase()) && !text.is_empty()
    };
    marks.into_iter().flat_map(after).flat_map(literals).filter(is_name).collect()
}

#[test]
fn literal_names_are_found_wherever_the_formatter_puts_them() {
    let source = r#"
        log::event(Level::Info, "one", "message, with a comma", &[]);
        note(
            Level::Warn,
            if paused { "two_a" } else { "two_b" },
            name,
        );
        log::degraded("three_3", "message", &[]);
        Report::Event { shard, event: "four", detail }
        event(level, name, detail, &[]);
        Level::Error, KEY, &detail
        vec![Degraded { key: "five", detail }]
    "#;
    assert_eq!(events(source), BTreeSet::from(["one", "two_a", "two_b", "three_3", "four", "five"]));
}

#[test]
fn every_event_is_documented() {
    let document = std::fs::read_to_string(root().join(DOCUMENT)).expect("the document is there");
    let (_, document) = document.split_once(TABLE).expect("the document has the table");
    let (document, _) = document.split_once("\n## ").unwrap_or((document, ""));
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 20, "the sources are found");
    let mut missing: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source is text");
        for event in events(&source) {
            if !document.contains(&format!("\n| `{event}` |")) {
                missing.insert(event.to_owned(), file.clone());
            }
        }
    }
    assert!(missing.is_empty(), "without a line in {DOCUMENT}: {missing:#?}");
}
