//! Runs the benchmark as a user does.

#![allow(dead_code)] // each test crate uses a part

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// The server that `cargo test --workspace` has built beside the benchmark; built now where only the benchmark was.
pub fn server() -> PathBuf {
    let server = PathBuf::from(env!("CARGO_BIN_EXE_uringest-bench")).with_file_name("uringest");
    if !server.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--package", "uringest", "--bin", "uringest"]);
        if server.parent().is_some_and(|folder| folder.ends_with("release")) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "the server can be built");
    }
    assert!(server.exists(), "{} is there", server.display());
    server
}

/// Where server and load run: on different CPUs where there are two.
pub fn placement() -> [&'static str; 2] {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cpus > 1 { ["--server-cpus=0", "--load-cpus=1"] } else { ["--server-cpus=0", "--load-cpus=0"] }
}

/// The benchmark with these arguments.
pub fn command(arguments: &[&str]) -> Command {
    server();
    let mut command = Command::new(env!("CARGO_BIN_EXE_uringest-bench"));
    command.args(arguments);
    command
}

/// Runs it to its end.
pub fn bench(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the benchmark runs")
}

/// The one JSON object that a run of a fraction of a second prints.
pub fn run(scenario: &str, more: &[&str]) -> Value {
    let mut arguments = vec!["run", scenario, "--json", "--seconds", "0.2"];
    arguments.extend(placement());
    arguments.extend(more);
    let output = bench(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    assert!(!said.contains('\r'), "no progress bar where standard error is no terminal: {said:?}");
    one_object(&output)
}

/// What was printed: one line, one object.
pub fn one_object(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "one object, one line: {text}");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert!(value.is_object(), "{value}");
    value
}

/// A number, or a failure that shows what is there instead.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))
}
