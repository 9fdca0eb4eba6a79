//! Tells the benchmark which commit it was built from, whether what was compiled differed from it, and the compiler.

use std::path::Path;
use std::process::Command;

/// What the programs are made of, from the root of the work tree: a change elsewhere does not make a build dirty.
const SOURCES: &[&str] = &["src", "schemas", "build.rs", "Cargo.toml", "Cargo.lock", "bench"];
/// Parts of `bench` that are not compiled.
const NOT_SOURCES: &[&str] = &[":(exclude)bench/results"];
/// The same as cargo has to watch it, from this package.
const WATCHED: &[&str] =
    &["src", "scenarios", "build.rs", "Cargo.toml", "../src", "../Cargo.toml", "../Cargo.lock"];

fn main() {
    for path in WATCHED.iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rustc-env=URINGEST_BENCH_COMMIT={}", commit().as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=URINGEST_BENCH_RUSTC={}", rustc().as_deref().unwrap_or("unknown"));
}

/// The commit checked out, with `-dirty` where the sources differ from it. `URINGEST_COMMIT` in the environment
/// of the build wins, for builds from an archive.
fn commit() -> Option<String> {
    println!("cargo::rerun-if-env-changed=URINGEST_COMMIT");
    if let Ok(commit) = std::env::var("URINGEST_COMMIT") {
        return Some(commit);
    }
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let here = std::fs::canonicalize(std::env::var_os("CARGO_MANIFEST_DIR")?).ok()?;
    if std::fs::canonicalize(&root).ok()? != here.parent()? {
        return None;
    }
    // HEAD names a branch until it moves to another; the reflog changes with every commit.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let mut status = vec!["-C", &root, "status", "--porcelain", "--"];
    status.extend(SOURCES.iter().chain(NOT_SOURCES));
    let dirty = !git(&status)?.is_empty();
    Some(if dirty { format!("{head}-dirty") } else { head })
}

/// The compiler's version, as in `1.90.0 (1159e78c4 2025-09-14)`.
fn rustc() -> Option<String> {
    let output = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().trim_start_matches("rustc ").to_owned())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
