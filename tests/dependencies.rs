//! `docs/dependencies.md` has a line for every dependency, and for nothing else; and the build without io_uring has
//! nothing of it in its tree.

use std::collections::BTreeSet;
use std::process::Command;

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

/// The crates of the build with these features: all that it is built from, and what its tests need. Nothing is fetched:
/// whoever runs this has what this package takes, and perhaps nothing of the benchmarks'.
fn tree(features: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--package", "uringest", "--locked", "--offline", "--edges", "normal,build,dev"])
        .args(["--prefix", "none", "--format", "{p}"])
        .args(features)
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    lines.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_epoll_build_has_nothing_of_io_uring() {
    const ALONE: &str = "--no-default-features";
    let of_uring = |names: &BTreeSet<String>| -> Vec<String> {
        names.iter().filter(|name| name.contains("uring") && !name.starts_with("uringest")).cloned().collect()
    };
    let epoll = tree(&[ALONE, "--features", "epoll"]);
    assert!(epoll.contains("uringest") && epoll.contains("tokio"), "{epoll:?}");
    assert_eq!(of_uring(&epoll), Vec::<String>::new());
    // That it would be seen: the other builds have both. A machine that has built neither cannot tell.
    if cfg!(feature = "uring") {
        for features in [&[][..], &[ALONE, "--features", "uring"]] {
            assert_eq!(of_uring(&tree(features)), ["io-uring", "tokio-uring"], "{features:?}");
        }
    }
}

/// The benchmarks have of io_uring what the features of this package give them, and for their bare programs `io-uring`
/// itself with the same feature.
#[test]
fn the_benchmarks_choose_as_the_program_does() {
    let table: Table = read("bench/Cargo.toml").parse().expect("TOML");
    let features = |name: &str| table["features"][name].as_array().expect("a list").clone();
    assert_eq!(features("uring"), ["uringest/uring".into(), "dep:io-uring".into()]);
    assert_eq!(features("epoll"), ["uringest/epoll".into()]);
    assert_eq!(table["dependencies"]["uringest"]["default-features"], Value::Boolean(false));
    let mut used = BTreeSet::new();
    collect(&table, &mut used);
    assert!(!used.contains("tokio-uring"), "{used:?}");
    assert_eq!(table["dependencies"]["io-uring"]["optional"], Value::Boolean(true));
}
