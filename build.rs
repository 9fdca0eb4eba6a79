//! Refuses to build when the committed generated code does not belong to the schemas, and tells the program
//! which commit it was built from.

use std::fs;
use std::path::Path;
use std::process::Command;

const SCHEMAS: &str = "schemas";
const RECORDED: &str = "src/wire/generated/SCHEMA_HASH";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SCHEMAS}");
    println!("cargo::rerun-if-changed={RECORDED}");
    // What only a simulation looks at: shards do not ask for features.
    if std::env::var_os("CARGO_FEATURE_SIM").is_some() {
        println!("cargo::rustc-cfg=uringest_sim");
    }
    let found = schema_hash();
    let recorded = fs::read_to_string(RECORDED).unwrap_or_default();
    if recorded.trim() != found {
        println!(
            "cargo::error=the generated code in src/wire/generated/ does not belong to schemas/*.fbs \
             (their hash is {found}, it was made from {}); run .ci/regenerate-schemas (needs flatc 25.12.19)",
            recorded.trim()
        );
    }
    println!("cargo::rustc-env=URINGEST_COMMIT={}", commit().as_deref().unwrap_or("unknown"));
}

/// FNV-1a, 64 bits, over each schema's file name, a zero byte, its bytes and a zero byte, in the order of
/// the names: what `.ci/regenerate-schemas` records.
fn schema_hash() -> String {
    let mut paths: Vec<_> = fs::read_dir(SCHEMAS)
        .expect("the package has schemas/")
        .map(|entry| entry.expect("schemas/ is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "fbs"))
        .collect();
    paths.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    for path in paths {
        add(path.file_name().expect("a file").as_encoded_bytes());
        add(&fs::read(&path).expect("a schema is readable"));
    }
    format!("{hash:016x}")
}

/// The commit checked out, when this package is the root of a git work tree. `URINGEST_COMMIT` in the
/// environment of the build wins, for builds from an archive.
fn commit() -> Option<String> {
    println!("cargo::rerun-if-env-changed=URINGEST_COMMIT");
    if let Ok(commit) = std::env::var("URINGEST_COMMIT") {
        return Some(commit);
    }
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let here = fs::canonicalize(std::env::var_os("CARGO_MANIFEST_DIR")?).ok()?;
    if fs::canonicalize(root).ok()? != here {
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
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
