//! Build script: tells the program which commit it was built from.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=URINGEST_COMMIT={}", commit());
}

/// The commit, or `unknown` where the source is no git checkout (as in a package). `URINGEST_COMMIT` in the
/// environment of the build wins, for builds from an archive.
fn commit() -> String {
    println!("cargo::rerun-if-env-changed=URINGEST_COMMIT");
    if let Ok(commit) = std::env::var("URINGEST_COMMIT") {
        return commit;
    }
    for path in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", path]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}
