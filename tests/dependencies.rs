//! `docs/dependencies.md` has a line for every dependency, and for nothing else.

use std::collections::BTreeSet;

use toml::{Table, Value};

const MANIFESTS: [&str; 2] = ["Cargo.toml", "bench/Cargo.toml"];
const DOCUMENT: &str = "docs/dependencies.md";

fn read(path: &str) -> String {
    let full = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{full}: {error}"))
}

/// The names in every `*dependencies` table, those for a target or a workspace included.
fn collect(table: &Table, names: &mut BTreeSet<String>) {
    for (key, value) in table {
        let Value::Table(inner) = value else { continue };
        if key.ends_with("dependencies") {
            names.extend(inner.keys().cloned());
        } else {
            collect(inner, names);
        }
    }
}

#[test]
fn every_dependency_has_its_line() {
    let mut used = BTreeSet::new();
    for manifest in MANIFESTS {
        let table: Table = read(manifest).parse().unwrap_or_else(|error| panic!("{manifest}: {error}"));
        collect(&table, &mut used);
    }
    assert!(used.contains("io-uring") && used.contains("loom"), "tables of all kinds are read: {used:?}");

    let mut explained = BTreeSet::new();
    for line in read(DOCUMENT).lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 3, "crate, what for, why: {line}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "an empty cell: {line}");
        assert!(explained.insert(cells[0].trim_matches('`').to_owned()), "there twice: {line}");
    }
    let missing: Vec<_> = used.difference(&explained).collect();
    let left_over: Vec<_> = explained.difference(&used).collect();
    assert!(missing.is_empty(), "without a line in {DOCUMENT}: {missing:?}");
    assert!(left_over.is_empty(), "in {DOCUMENT} and not used: {left_over:?}");
}
