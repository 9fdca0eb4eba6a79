//! The real server over the command line: topics, lines through it, and its end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

/// A server on free ports with a directory of its own; killed when dropped.
struct Server {
    child: Child,
    data: String,
    admin: String,
    events: mpsc::Receiver<serde_json::Value>,
    directory: tempfile::TempDir,
}

impl Server {
    fn start(flags: &[&str]) -> Server {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_uringest"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
        command.arg("--data").arg(directory.path()).args(flags).env_clear();
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program runs");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (sender, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(serde_json::Value::String(line));
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        let mut server = Server { child, data: String::new(), admin: String::new(), events, directory };
        let starting = server.event("starting");
        let address = |name: &str| starting[name].as_str().expect("an address").to_owned();
        (server.data, server.admin) = (format!("uringest://{}", address("data")), address("admin"));
        server
    }

    /// The next event of this name.
    fn event(&self, name: &str) -> serde_json::Value {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        while let Ok(event) = self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if event["event"] == name {
                return event;
            }
            seen.push(event);
        }
        panic!("no event {name} in {DEADLINE:?}, but {seen:?}");
    }

    fn program(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uringest"));
        command.args(args).env_clear().stdin(Stdio::null());
        command.env("URINGEST_ADMIN", &self.admin).env("URINGEST_SERVER", &self.data);
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        ended(&self.program(args).output().expect("the program runs"))
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        let (code, out, err) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error} in {out}"))
    }

    fn terminate(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
        self.event("stopped");
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn topics_are_made_shown_paused_and_deleted() {
    let server = Server::start(&["--shards", "2"]);
    let none = server.json(&["topic", "list", "-o", "json"]);
    assert_eq!(none["topics"].as_array().map(Vec::len), Some(0));
    let create =
        ["topic", "create", "a/b", "--partitions", "3", "--retention-bytes", "2MiB", "--overflow", "reject"];
    assert_eq!(server.run(&create).0, 0);
    let topic = server.json(&["topic", "describe", "a/b", "-o", "json"]);
    let partitions = topic["partitions"].as_array().expect("partitions");
    assert_eq!(partitions.len(), 3);
    for field in ["id", "log_start_offset", "log_end_offset", "shard", "bytes", "consumers"] {
        assert!(partitions.iter().all(|one| !one[field].is_null()), "every partition has {field}");
    }
    assert_eq!((&topic["overflow"], &topic["retention_bytes"]), (&"reject".into(), &(2 << 20).into()));
    assert_eq!(server.run(&["topic", "pause", "a/b"]).0, 0);
    assert!(server.run(&["topic", "list"]).1.contains("paused"));
    assert_eq!(server.run(&["topic", "resume", "a/b"]).0, 0);
    assert!(!server.run(&["topic", "list"]).1.contains("paused"));
    let (code, _, err) = server.run(&["topic", "create", "a/b", "--partitions", "4"]);
    assert_eq!(code, 4, "another shape of an existing topic is refused: {err}");
    let (code, _, err) =
        server.run(&["topic", "create", "huge", "--partitions", "256", "--retention-bytes", "1GiB"]);
    assert!(code == 4 && err.contains("memory.retention_budget_bytes"), "{err}");
    assert_eq!(server.run(&["topic", "delete", "a/b"]).0, 0);
    assert_eq!(server.run(&["topic", "describe", "a/b"]).0, 4);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn lines_arrive_as_they_were_sent_and_top_counts_them() {
    const LINES: u32 = 50_000;
    let server = Server::start(&["--shards", "2"]);
    let text: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
    let mut publisher = server.program(&["pub", "lines", "-o", "json"]);
    let mut publisher =
        publisher.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program runs");
    publisher.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    assert!(publisher.wait().expect("it ends").success());
    let count = LINES.to_string();
    let (code, out, err) = server.run(&["sub", "lines", "--from", "earliest", "--count", &count]);
    assert_eq!(code, 0, "{err}");
    assert!(out == text, "{} bytes came of {}", out.len(), text.len());
    let topic = server.json(&["topic", "describe", "lines", "-o", "json"]);
    assert_eq!(topic["partitions"][0]["log_end_offset"], LINES);
    let top = server.json(&["top", "--once", "-o", "json"]);
    assert_eq!(top["state"], "running");
    assert_eq!(top["topics"][0]["records"], LINES);
    assert!(server.run(&["top", "--once"]).1.contains("lines"));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_second_server_is_refused_its_port_and_itsdirectory() {
    let server = Server::start(&[]);
    let taken = server.data.trim_start_matches("uringest://").to_owned();
    let directory = tempfile::tempdir().expect("a directory");
    let other = directory.path().to_str().expect("UTF-8");
    let args =
        ["serve", "--listen", &taken, "--admin", "127.0.0.1:0", "--data", other, "--log-format", "json"];
    let output = Command::new(env!("CARGO_BIN_EXE_uringest")).args(args).env_clear().output();
    let (code, _, err) = ended(&output.expect("the program runs"));
    assert!(code == 1 && err.contains(&format!("cannot bind listen to {taken}")), "{code} {err}");
    let own = server.directory.path().to_str().expect("UTF-8");
    let args = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", own];
    let output = Command::new(env!("CARGO_BIN_EXE_uringest")).args(args).env_clear().output();
    let (code, _, err) = ended(&output.expect("the program runs"));
    assert!(code == 1 && err.contains("is in use by another uringest server"), "{code} {err}");
}

#[test]
fn the_memory_is_explained_without_starting_anything() {
    let output = Command::new(env!("CARGO_BIN_EXE_uringest"))
        .args(["serve", "--explain-memory", "-o", "json", "--shards", "2"])
        .env_clear()
        .output();
    let (code, out, err) = ended(&output.expect("the program runs"));
    assert_eq!((code, err.as_str()), (0, ""));
    let plan: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let items = plan["items"].as_array().expect("items");
    let sum: u64 = items.iter().map(|item| item["bytes"].as_u64().expect("bytes")).sum();
    assert!(sum >= 1 << 30 && plan["total_bytes"].as_u64() == Some(sum), "{plan}");
}
