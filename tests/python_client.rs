//! The client of `examples/python`, written from docs/protocol.md alone, against the golden frames and a server: what
//! it checks, the document promises to every other language.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::{Server, feed, run};

/// Runs a script of the example, or says why this host cannot.
fn python(script: &str, args: &[&str], input: &str) -> Option<Output> {
    python_trusting(None, script, args, input)
}

/// The same with an authority that it trusts.
fn python_trusting(authority: Option<&Path>, script: &str, args: &[&str], input: &str) -> Option<Output> {
    // `tomllib`, which reads the golden frames' index, came with 3.11.
    let usable = Command::new("python3").args(["-c", "import tomllib"]).stderr(Stdio::null()).status();
    if !usable.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no python3 of at least 3.11");
        return None;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python");
    let mut command = Command::new("python3");
    // -B: nothing is written beside the scripts.
    command.arg("-B").arg(folder.join(script)).args(args);
    command.envs(authority.map(|file| ("SSL_CERT_FILE", file)));
    let output = feed(&mut command, input.as_bytes());
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} {args:?}: {}\n{out}\n{err}", output.status);
    Some(output)
}

#[test]
fn a_client_written_from_the_document_agrees_with_frames_and_server() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let golden = golden.to_str().expect("a path in UTF-8");
    for shards in ["1", "3"] {
        let server = Server::start(&["--shards", shards, "--topics-retention-bytes", "8MiB"]);
        let Some(output) = python("check.py", &[golden, &server.data.to_string()], "") else { return };
        assert!(output.stdout.ends_with(b"as specified\n"), "{output:?}");
    }
}

#[test]
fn by_tls_it_agrees_as_well() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let golden = golden.to_str().expect("a path in UTF-8");
    let directory = tempfile::tempdir().expect("a directory");
    let certificates = directory.path().join("certificates");
    let made = run(&["cert", "dev", certificates.to_str().expect("UTF-8")], b"");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let [certificate, key] =
        ["server.pem", "server.key"].map(|name| certificates.join(name).to_str().expect("UTF-8").to_owned());
    let args = ["--shards", "2", "--topics-retention-bytes", "8MiB", "--tls-cert", &certificate];
    let server = Server::start(&[&args[..], &["--tls-key", &key]].concat());
    let address = format!("uringest+tls://localhost:{}", server.data.port());
    let authority = certificates.join("ca.pem");
    let output = python_trusting(Some(&authority), "check.py", &[golden, &address], "");
    let Some(output) = output else { return };
    assert!(output.stdout.ends_with(b"as specified\n"), "{output:?}");
}

#[test]
fn its_command_line_publishes_and_prints_lines() {
    let server = Server::start(&[]);
    let address = server.data.to_string();
    let lines: String = (1..=500).map(|number| format!("line {number}\n")).collect();
    if python("uringest_client.py", &["pub", &address, "lines"], &lines).is_none() {
        return;
    }
    let printed =
        python("uringest_client.py", &["sub", &address, "lines", "500"], "").expect("it ran before");
    assert_eq!(String::from_utf8_lossy(&printed.stdout), lines);
}
