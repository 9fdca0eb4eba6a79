//! Topics of kind `log` through the real server's life: stops, kills, other numbers of shards, directories that are not
//! its own, and disks that are full.

mod support;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Server, run, uringest, wait_for};
use uringest::client::ProducerConfig;
use uringest::client::blocking::Producer;

const LIMIT: Option<Duration> = Some(support::PATIENCE);
const SMALL: [&str; 2] = ["--storage-segment-bytes", "1MiB"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..], more].concat()
}

fn publish(server: &Server, topic: &str, records: u32) {
    let mut config = ProducerConfig::new(topic);
    config.connection.server = server.url().parse().expect("an address");
    let producer = Producer::connect(config).expect("connected");
    for record in 0..records {
        producer.send(record.to_string().as_bytes(), None).expect("sent");
    }
    producer.close(LIMIT).expect("acknowledged");
}

fn create(server: &Server, topic: &str, more: &[&str]) -> Output {
    let admin = server.admin.to_string();
    let command = ["topic", "create", topic, "--partitions", "2", "--kind", "log", "--admin", &admin];
    run(&[&command[..], more].concat(), b"")
}

/// The ends of the topic's partitions together.
fn end(server: &Server, topic: &str) -> u64 {
    let text = server.page(&format!("/v1/topics/{topic}"));
    let topic: Value = serde_json::from_str(&text).expect("JSON");
    let partitions = topic["partitions"].as_array().expect("partitions");
    partitions.iter().map(|one| one["log_end_offset"].as_u64().expect("a number")).sum()
}

/// What `serve` says when it does not start, and its exit code.
fn refused(data: &Path, args: &[&str]) -> (Option<i32>, String) {
    let [listen, admin] = [(); 2].map(|()| support::free_address().to_string());
    let mut command = uringest(&["serve", "--listen", &listen, "--admin", &admin]);
    let output = command.arg("--data").arg(data).args(args).output().expect("run");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_log_goes_on_exactly_where_it_ended_after_a_stop_and_after_a_kill() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut records = 0;
    for (shards, signal) in [("2", "TERM"), ("1", "KILL"), ("2", "KILL"), ("1", "TERM")] {
        let mut server = Server::start_in(directory.path(), &with(&["--shards", shards]));
        if records == 0 {
            assert!(create(&server, "kept", &["--durability", "written"]).status.success());
        }
        assert_eq!(end(&server, "kept"), records, "{}", server.log());
        publish(&server, "kept", 500);
        records += 500;
        assert_eq!(end(&server, "kept"), records);
        server.signal(signal);
        let code = server.wait().code();
        assert_eq!(code, (signal == "TERM").then_some(0), "{}", server.log());
    }
    let server = Server::start_in(directory.path(), &with(&[]));
    assert_eq!(end(&server, "kept"), records);
    assert!(!server.log().contains("log_damaged"), "{}", server.log());
    let deleted = run(&["topic", "delete", "kept", "--admin", &server.admin.to_string()], b"");
    assert!(deleted.status.success());
    let folders = || {
        let entries = std::fs::read_dir(directory.path().join("data/log")).expect("listed");
        entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir())).count()
    };
    wait_for("the folders to go", || (folders() == 0).then_some(()));
}

#[test]
fn a_directory_that_is_not_its_own_is_refused_and_not_touched() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("data/log");
    let server = Server::start_in(directory.path(), &with(&[]));
    assert!(create(&server, "kept", &[]).status.success());
    publish(&server, "kept", 10);
    // Another server, with another data directory and the same log.
    let other = directory.path().join("other");
    let (code, said) = refused(&other, &["--storage-dir", log.to_str().expect("UTF-8")]);
    assert!(code == Some(1) && said.contains("in use by another server"), "{said}");
    drop(server);
    let marker = log.join("format");
    std::fs::write(&marker, "uringest log 99\n").expect("written");
    let data = directory.path().join("data");
    let (code, said) = refused(&data, &[]);
    assert!(code == Some(1) && said.contains("format 99") && said.contains("nothing was touched"), "{said}");
    std::fs::write(&marker, "uringest log 1\n").expect("written");
    std::fs::rename(log.join("p00000001"), directory.path().join("away")).expect("moved");
    let (code, said) = refused(&data, &[]);
    assert!(code == Some(1) && said.contains("kept") && said.contains("is missing"), "{said}");
    std::fs::rename(directory.path().join("away"), log.join("p00000001")).expect("moved back");
    let server = Server::start_in(directory.path(), &with(&[]));
    assert_eq!(end(&server, "kept"), 10);
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let server = Server::start(&with(&["--storage-budget-bytes", "3MiB"]));
    assert!(create(&server, "first", &[]).status.success());
    let refused = create(&server, "second", &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("disk_full") && said.contains("storage.budget_bytes"), "{said}");
    let wrong = create(&server, "third", &["--segment-bytes", "1000"]);
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(wrong.status.code() == Some(4) && said.contains("bad_topic"), "{said}");
    let topics: Value = serde_json::from_str(&server.page("/v1/topics")).expect("JSON");
    assert_eq!(topics["topics"].as_array().map(Vec::len), Some(1));
    assert_eq!(topics["topics"][0]["durability"], json!("received"));
    let doctor = run(&["doctor", "-o", "json", "--data", "/proc/none"], b"");
    let found: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let log = |one: &&Value| one["what"].as_str().is_some_and(|what| what.starts_with("log: cannot write"));
    assert!(found["findings"].as_array().expect("findings").iter().find(log).is_some(), "{found}");
}
