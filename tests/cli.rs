//! The program as its users run it: help, refusals, exit codes, precedence. No server is needed here.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};

/// The program with an environment of its own.
fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uringest"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    program(args).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, standard output, standard error.
fn ended(output: &Output) -> (i32, String, String) {
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

/// Every command that does something, found in the tree itself.
fn commands(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
    let subcommands: Vec<_> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
    if subcommands.is_empty() {
        found.push(path.to_vec());
    }
    for subcommand in subcommands {
        let path = [path, &[subcommand.get_name().to_owned()]].concat();
        commands(subcommand, &path, found);
    }
}

#[test]
fn every_command_has_help_with_an_example_and_the_exit_codes() {
    let mut found = Vec::new();
    commands(&uringest::cli::tree(), &[], &mut found);
    let contract =
        ["topic create", "topic list", "topic describe", "topic delete", "topic pause", "topic resume"];
    let contract = contract.iter().chain(&[
        "serve",
        "pub",
        "sub",
        "demo",
        "doctor",
        "log ls",
        "log dump",
        "log verify",
        "log repair",
        "top",
        "schema export",
        "cert dev",
        "config show",
        "config check",
        "completions",
    ]);
    for name in contract {
        assert!(found.iter().any(|path| path.join(" ") == *name), "{name} is missing from the tree");
    }
    for path in found {
        let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let (code, out, err) = ended(&run(&args));
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.contains("Example"), "{args:?} shows no example:\n{out}");
        assert!(out.contains("Exit codes: 0 "), "{args:?} does not list its exit codes:\n{out}");
    }
}

#[test]
fn the_version_names_its_commit() {
    let (code, out, _) = ended(&run(&["--version"]));
    let prefix = format!("uringest {} (", env!("CARGO_PKG_VERSION"));
    assert!(code == 0 && out.starts_with(&prefix) && out.trim_end().ends_with(')'), "{out}");
}

#[test]
fn a_wrong_command_line_is_2_and_names_what_was_meant() {
    for (args, hint) in [
        (&["top", "--onec"][..], "--once"),
        (&["topics"], "topic"),
        (&["topic", "create"], "<NAME>"),
        (&["topic", "create", "a", "--partitions", "0"], "1..=256"),
        (&["topic", "create", "a b", "--partitions", "1"], "contains ' '"),
        (&["topic", "list", "--admin", "ftp://x"], "http"),
        (&["topic", "list", "--admin", "x:y"], "no port number"),
        (&["config", "show", "--shard", "2"], "--shards"),
        (&["config", "show", "--shards", "0"], "a number from 1 to 64"),
    ] {
        let (code, out, err) = ended(&run(args));
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}\n{err}");
        assert!(err.contains(hint), "{args:?} does not say {hint:?}:\n{err}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_and_its_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("u.toml");
    std::fs::write(&file, "shards = 2\n\n[limits]\nframe_byte_max = 1\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let (code, out, err) = ended(&run(&["config", "check", file]));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("u.toml:4): unknown key; did you mean limits.frame_bytes_max?"), "{err}");
    let output = program(&["config", "show"]).env("URINGEST_SHRADS", "2").output().expect("the program runs");
    let (code, _, err) = ended(&output);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean URINGEST_SHARDS?"), "{err}");
}

#[test]
fn config_show_says_where_each_value_comes_from() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("u.toml");
    std::fs::write(&file, "shards = 2\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"debug\"\n")
        .expect("written");
    let file = file.to_str().expect("UTF-8");
    let mut command = program(&["config", "show", "--config", file, "--listen", "127.0.0.1:3", "-o", "json"]);
    let output = command.env("URINGEST_SHARDS", "3").env("URINGEST_LISTEN", "127.0.0.1:2").output();
    let (code, out, err) = ended(&output.expect("the program runs"));
    assert_eq!(code, 0, "{err}");
    let shown: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let setting = |key: &str| {
        let settings = shown["settings"].as_array().expect("settings");
        let one = settings.iter().find(|one| one["key"] == key).expect("a setting");
        [&one["value"], &one["from"], &one["at"]].map(|field| field.as_str().unwrap_or("?").to_owned())
    };
    assert_eq!(setting("listen"), ["127.0.0.1:3", "flag", "--listen"]);
    assert_eq!(setting("shards"), ["3", "env", "$URINGEST_SHARDS"]);
    assert_eq!(setting("log.level"), ["debug", "file", &format!("{file}:4")]);
    assert_eq!(setting("data"), ["uringest-data", "default", ""]);
}

#[test]
fn the_template_is_a_sound_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("u.toml");
    let (code, out, _) = ended(&run(&["config", "show", "--template"]));
    assert_eq!(code, 0);
    std::fs::write(&file, out).expect("written");
    let (code, out, err) = ended(&run(&["config", "check", file.to_str().expect("UTF-8")]));
    assert_eq!(code, 0, "{err}");
    assert!(out.ends_with("u.toml: sound\n"), "{out}");
}

#[test]
fn a_token_hashes_to_the_digest_it_was_made_with() {
    let (code, out, _) = ended(&run(&["token", "new", "-o", "json"]));
    assert_eq!(code, 0);
    let made: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let mut child = program(&["token", "hash"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let token = made["token"].as_str().expect("a token");
    writeln!(child.stdin.take().expect("piped"), "{token}").expect("written");
    let (code, out, _) = ended(&child.wait_with_output().expect("it ends"));
    assert_eq!((code, out.trim_end()), (0, made["sha256"].as_str().expect("a digest")));
    let (code, _, err) = ended(&run(&["token", "hash"]));
    assert!(code == 2 && err.contains("is no token"), "{err}");
}

#[test]
fn schemas_are_written_and_a_place_that_cannot_be_is_1() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = dir.path().join("schemas");
    let (code, out, err) = ended(&run(&["schema", "export", target.to_str().expect("UTF-8")]));
    assert_eq!((code, err.as_str()), (0, ""));
    for path in out.lines() {
        assert!(std::path::Path::new(path).is_file(), "{path}");
    }
    assert!(out.lines().any(|path| path.ends_with("header.fbs")));
    let (code, _, err) = ended(&run(&["schema", "export", "/proc/nowhere"]));
    assert!(code == 1 && err.contains("cannot write schemas into /proc/nowhere"), "{err}");
}

#[test]
fn certificates_for_development_are_written_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let target = directory.path().join("certs");
    let target = target.to_str().expect("UTF-8");
    let (code, out, err) = ended(&run(&["cert", "dev", target, "--name", "server.example", "-o", "json"]));
    assert_eq!(code, 0, "{err}");
    let written: Vec<String> = serde_json::from_str(&out).expect("JSON");
    let names = ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"];
    assert_eq!(written, names.map(|name| format!("{target}/{name}")));
    let (code, _, err) = ended(&run(&["cert", "dev", target]));
    assert_eq!(code, 1);
    assert!(err.contains("ca.pem is there already") && err.contains("try: "), "{err}");
    let (code, _, err) = ended(&run(&["cert", "dev", target, "--name", "two names"]));
    assert_eq!(code, 2, "{err}");
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let mut command = program(&["config", "show", "--template"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    drop(child.stdout.take());
    let (code, _, err) = ended(&child.wait_with_output().expect("it ends"));
    assert_eq!((code, err.as_str()), (0, ""));
}

/// A port of loopback that nobody listens on.
fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

#[test]
fn no_server_is_3_with_a_remedy() {
    let admin = closed_port().to_string();
    for args in [&["topic", "list", "--admin", &admin][..], &["top", "--once", "--admin", &admin]] {
        let (code, out, err) = ended(&run(args));
        assert_eq!((code, out.as_str()), (3, ""), "{args:?}");
        assert!(err.contains(&format!("no server at the admin address {admin}")), "{err}");
        assert!(err.contains("try: start one with `uringest serve`"), "{err}");
        assert_eq!(err.lines().count(), 2, "one line and its remedy: {err}");
    }
}

/// Answers one connection with these bytes, and gives what was asked.
fn answer_once(bytes: &'static [u8]) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 4096];
        let bytes_read = stream.read(&mut request).expect("a request");
        stream.write_all(bytes).expect("written");
        text(&request[..bytes_read])
    });
    (address, asked)
}

#[test]
fn a_refusal_is_4_and_another_protocol_is_3() {
    let (admin, asked) = answer_once(
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 70\r\n\r\n{\"error\":{\"code\":\"unknown_topic\",\"message\":\"There is no topic a/b.\"}}\n",
    );
    let output =
        program(&["topic", "describe", "a/b", "--admin", &admin]).env("URINGEST_ADMIN_TOKEN", "s3").output();
    let (code, _, err) = ended(&output.expect("the program runs"));
    assert_eq!(code, 4, "{err}");
    assert!(
        err.contains("There is no topic a/b (unknown_topic)") && err.contains("try: uringest topic list"),
        "{err}"
    );
    let asked = asked.join().expect("answered");
    assert!(asked.starts_with("GET /v1/topics/a%2Fb HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nauthorization: Bearer s3\r\n"), "{asked}");
    let (admin, asked) = answer_once(b"SSH-2.0-OpenSSH_9.9\r\n");
    let (code, _, err) = ended(&run(&["topic", "list", "--admin", &admin]));
    assert!(code == 3 && err.contains("is not the admin API of uringest"), "{err}");
    drop(asked.join());
}

#[test]
fn a_topic_is_described_for_people_and_for_programs() {
    const BODY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 241\r\n\r\n{\"name\":\"t\",\"kind\":\"memory\",\"overflow\":\"block\",\"retention_bytes\":67108864,\"paused\":false,\"partitions\":[{\"id\":0,\"log_start_offset\":3,\"log_end_offset\":9,\"shard\":1,\"bytes\":77,\"consumers\":[{\"name\":\"slow\",\"lag_records\":6,\"cause\":\"socket\"}]}]}    ";
    for (output, parts) in
        [("text", &["64MiB", "slow", "socket"][..]), ("json", &["\"lag_records\":6", "\"shard\":1"])]
    {
        let (admin, asked) = answer_once(BODY);
        let (code, out, err) = ended(&run(&["topic", "describe", "t", "-o", output, "--admin", &admin]));
        assert_eq!(code, 0, "{err}");
        for part in parts {
            assert!(out.contains(part), "{part} in {out}");
        }
        asked.join().expect("answered");
    }
}
