//! The real server's life: signals, restarts after a stop and after a kill, reload, what is refused at the start.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Server, http, run, uringest, wait_for};
use uringest::client::blocking::{Consumer, Producer};
use uringest::client::{ConsumerConfig, ConsumerEvent, ProducerConfig, Start};

const LIMIT: Option<Duration> = Some(support::PATIENCE);

fn producer(server: &Server, topic: &str) -> Producer {
    let mut config = ProducerConfig::new(topic);
    config.connection.server = server.url().parse().expect("an address");
    Producer::connect(config).expect("connected")
}

fn publish(server: &Server, topic: &str, records: u32) {
    let producer = producer(server, topic);
    for record in 0..records {
        producer.send(record.to_string().as_bytes(), None).expect("sent");
    }
    producer.close(LIMIT).expect("acknowledged");
}

fn consumer(server: &Server, topic: &str, name: &str, credit_bytes: u64) -> Consumer {
    let mut config = ConsumerConfig::new(topic);
    config.connection.server = server.url().parse().expect("an address");
    config.start = Start::Earliest;
    config.name = name.into();
    config.resume = true;
    config.credit_bytes = credit_bytes;
    Consumer::connect(config).expect("connected")
}

/// The offset behind the first so many records.
fn consume(consumer: &Consumer, records: u32) -> u64 {
    let mut seen = 0;
    loop {
        if let ConsumerEvent::Batch(batch) = consumer.next(LIMIT).expect("no failure").expect("in time") {
            seen += batch.len();
            if seen >= records {
                return batch.next_offset();
            }
        }
    }
}

fn partition(server: &Server, topic: &str) -> Value {
    let text = server.page(&format!("/v1/topics/{topic}"));
    serde_json::from_str::<Value>(&text).expect("JSON")["partitions"][0].clone()
}

#[test]
fn offsets_and_commits_go_on_after_a_stop_and_after_a_kill() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Server::start_in(directory.path(), &["--shards", "2"]);
    publish(&server, "lines", 1_000);
    let reader = consumer(&server, "lines", "reader", 1 << 20);
    let offset = consume(&reader, 1_000);
    reader.commit(0, offset).expect("sent");
    reader.flush_commits(LIMIT).expect("kept");
    drop(reader);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let mut server = Server::start_in(directory.path(), &["--shards", "2"]);
    let one = partition(&server, "lines");
    assert_eq!((&one["log_end_offset"], &one["committed"]["reader"]), (&json!(1_000), &json!(1_000)));
    publish(&server, "lines", 10);
    assert_eq!(partition(&server, "lines")["log_end_offset"], json!(1_010));
    server.signal("KILL");
    assert_eq!(server.wait().code(), None);
    // With another number of shards, too.
    let server = Server::start_in(directory.path(), &["--shards", "1"]);
    let one = partition(&server, "lines");
    let end = one["log_end_offset"].as_u64().expect("a number");
    assert!(end >= 1_010, "no offset is used twice: {end}");
    assert_eq!(one["committed"]["reader"], json!(1_000));
    publish(&server, "lines", 10);
    let reader = consumer(&server, "lines", "reader", 1 << 20);
    assert_eq!(consume(&reader, 10), end + 10);
}

#[test]
fn a_drain_ends_in_time_and_says_what_was_left() {
    let mut server = Server::start(&["--drain-deadline-ms", "500"]);
    publish(&server, "slow", 1);
    // It takes one batch and grants no more.
    let stuck = consumer(&server, "slow", "stuck", 1);
    consume(&stuck, 1);
    publish(&server, "slow", 5_000);
    server.signal("INT");
    let status = server.wait();
    let log = server.log();
    assert!(log.contains("drain_incomplete"), "{log}");
    assert_eq!(status.code(), Some(5), "{log}");
    drop(stuck);
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::start(&["--drain-deadline-ms", "60000"]);
    publish(&server, "slow", 1);
    let stuck = consumer(&server, "slow", "stuck", 1);
    consume(&stuck, 1);
    publish(&server, "slow", 5_000);
    server.signal("TERM");
    wait_for("the drain", || server.log().contains("\"draining\"").then_some(()));
    let (status, body) = http(server.admin, "GET", "/readyz", "").expect("it still answers");
    assert!(status == 503 && body.contains("draining"), "{status} {body}");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(143));
    drop(stuck);
}

#[test]
fn it_starts_again_at_its_addresses_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Server::start_in(directory.path(), &["--shards", "2"]);
    for signal in ["TERM", "KILL", "KILL", "TERM", "KILL"] {
        let (data, admin) = (server.data, server.admin);
        server.signal(signal);
        server.wait();
        server = Server::start_at(directory.path(), data, admin, &["--shards", "2"]);
    }
}

#[test]
fn hangup_reloads() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("uringest.toml");
    std::fs::write(&file, "").expect("written");
    let file_argument = file.to_str().expect("UTF-8");
    let server = Server::start_in(directory.path(), &["--config", file_argument]);
    publish(&server, "open", 1);
    std::fs::write(&file, "nonsense = 1\n").expect("written");
    server.signal("HUP");
    wait_for("the refusal", || server.log().contains("\"reload_refused\"").then_some(()));
    publish(&server, "open", 1);
    let digest = run(&["token", "hash"], b"a-token");
    let digest = String::from_utf8(digest.stdout).expect("text");
    let tenant = format!(
        "[[tenant]]\nname = \"a\"\ntoken_sha256 = [\"{}\"]\nrules = [{{ prefix = \"\", verbs = [\"publish\"] }}]\n",
        digest.trim()
    );
    std::fs::write(&file, tenant).expect("written");
    server.signal("HUP");
    wait_for("the reload", || server.log().contains("\"reloaded\"").then_some(()));
    let mut config = ProducerConfig::new("open");
    config.connection.server = server.url().parse().expect("an address");
    let refused = Producer::connect(config.clone()).expect_err("a token is asked for");
    assert!(refused.to_string().contains("unauthenticated"), "{refused}");
    config.connection.token = Some("a-token".into());
    Producer::connect(config).expect("the token is known");
}

#[test]
fn what_keeps_a_server_from_starting_is_said_with_its_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start_in(directory.path(), &[]);
    let data = directory.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let refuse = |args: &[&str], wanted: &str| {
        let output = uringest(&[&["serve"], args].concat()).output().expect("the program");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(wanted), "{wanted} is not in: {text}");
    };
    let free = "127.0.0.1:0";
    refuse(&["--listen", free, "--admin", free, "--data", data], "in use by another uringest server");
    let other = directory.path().join("other");
    let other = other.to_str().expect("UTF-8");
    refuse(
        &["--listen", &server.data.to_string(), "--admin", free, "--data", other],
        "another process has port",
    );
    refuse(
        &["--listen", free, "--admin", &server.admin.to_string(), "--data", other],
        "another process has port",
    );
    refuse(&["--listen", free, "--admin", free, "--data", "/proc/none"], "cannot be written");
    let broken = directory.path().join("broken");
    std::fs::create_dir(&broken).expect("made");
    std::fs::write(broken.join("catalogue.json"), "{\"format\":9}").expect("written");
    let broken = broken.to_str().expect("UTF-8");
    refuse(&["--listen", free, "--admin", free, "--data", broken], "has format 9");
}
