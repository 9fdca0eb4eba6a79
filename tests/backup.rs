//! `backup` of a running server and `restore`, with the real binary.

#[path = "support/others.rs"]
mod others;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Server, http, run, wait_for};
use uringest::client::blocking::{Consumer, Producer};
use uringest::client::{ConsumerConfig, ConsumerEvent, ProducerConfig, Start};

const LIMIT: Option<Duration> = Some(support::PATIENCE);
/// Small files, so that there are many.
const SMALL: [&str; 4] = ["--shards", "2", "--storage-segment-bytes", "1MiB"];
/// Bytes of a record: its number, and filling.
const RECORD_BYTES: usize = 1000;

fn producer(server: &Server, topic: &str) -> Producer {
    let mut config = ProducerConfig::new(topic);
    config.connection.server = server.url().parse().expect("an address");
    Producer::connect(config).expect("connected")
}

fn create(server: &Server, topic: &str, more: &[&str]) {
    let admin = server.admin.to_string();
    let command = ["topic", "create", topic, "--kind", "log", "--admin", &admin];
    let made = run(&[&command[..], more].concat(), b"");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Publishes so many records of no meaning.
fn fill(server: &Server, topic: &str, count: u32) {
    let producer = producer(server, topic);
    for _ in 0..count {
        producer.send(&[1; RECORD_BYTES], None).expect("sent");
    }
    producer.close(LIMIT).expect("acknowledged");
}

/// The status, and the code of what was refused.
fn asked(server: &Server, method: &str, path: &str, body: &str) -> (u16, String) {
    let (status, answer) = http(server.admin, method, path, body).expect("an answer");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// What the server says to who begins a backup by this, with the path of its lease and the segments to be copied.
fn begun(server: &Server, body: &str) -> (Value, String, Vec<PathBuf>) {
    let (status, plan) = http(server.admin, "POST", "/v1/backup", body).expect("an answer");
    assert_eq!(status, 201, "{plan}");
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    let lease = format!("/v1/backup/{}", plan["lease"].as_str().expect("a name"));
    let folder = PathBuf::from(plan["log_dir"].as_str().expect("a path"));
    let files = plan["partitions"][0]["files"].as_array().expect("files");
    let named = files.iter().map(|file| folder.join(file["from"].as_str().expect("a path"))).collect();
    (plan, lease, named)
}

fn backup(server: &Server, to: &Path) -> Output {
    let admin = server.admin.to_string();
    run(&["backup", to.to_str().expect("UTF-8"), "--admin", &admin, "-o", "json"], b"")
}

fn restore(from: &Path, to: &Path) -> Output {
    let [from, to] = [from, to].map(|path| path.to_str().expect("UTF-8"));
    run(&["restore", from, to, "-o", "json"], b"")
}

fn succeeded(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn refused(output: &Output, code: i32, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(why), "{said}");
}

/// Publishes numbered records until it is told to stop; `acknowledged` is how many are known to be kept.
fn publish(server: &Server, topic: &str, stop: &AtomicBool, acknowledged: &AtomicU64) -> u64 {
    let producer = producer(server, topic);
    let mut number: u64 = 0;
    while !stop.load(Ordering::Acquire) {
        for _ in 0..50 {
            let mut record = [0; RECORD_BYTES];
            record[..8].copy_from_slice(&number.to_le_bytes());
            producer.send(&record, None).expect("sent");
            number += 1;
        }
        acknowledged.store(producer.acknowledged_prefix(), Ordering::Release);
    }
    producer.close(LIMIT).expect("acknowledged");
    number
}

/// The numbers of so many records, from the earliest on.
fn consume(server: &Server, topic: &str, count: u64) -> Vec<u64> {
    let mut config = ConsumerConfig::new(topic);
    config.connection.server = server.url().parse().expect("an address");
    config.start = Start::Earliest;
    let consumer = Consumer::connect(config).expect("connected");
    let mut numbers = Vec::new();
    while (numbers.len() as u64) < count {
        match consumer.next(LIMIT).expect("no failure").expect("in time") {
            ConsumerEvent::Batch(batch) => {
                let number = |record: &[u8]| u64::from_le_bytes(record[..8].try_into().expect("eight bytes"));
                numbers.extend(batch.records().map(|record| number(record.payload)));
            }
            ConsumerEvent::Connected | ConsumerEvent::Subscribed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    numbers
}

fn end(server: &Server, topic: &str) -> u64 {
    wait_for("the topic", || {
        let text = server.page(&format!("/v1/topics/{topic}"));
        serde_json::from_str::<Value>(&text).ok()?["partitions"][0]["log_end_offset"].as_u64()
    })
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect();
    segments.sort();
    segments
}

/// Two servers' directories, a backup of the first one, and the second one's data to be made of it.
struct Places {
    _root: tempfile::TempDir,
    first: PathBuf,
    copy: PathBuf,
    second: PathBuf,
    made: PathBuf,
}

fn places() -> Places {
    let root = tempfile::tempdir().expect("a directory");
    let [first, copy, second] = ["first", "copy", "second"].map(|name| root.path().join(name));
    for directory in [&first, &second] {
        std::fs::create_dir(directory).expect("made");
    }
    let made = second.join("data");
    Places { _root: root, first, copy, second, made }
}

#[test]
fn a_backup_under_load_has_what_was_acknowledged_and_the_server_goes_on() {
    others::let_in();
    let Places { _root, first, copy, second, made } = places();
    let server = Server::start_in(&first, &SMALL);
    create(&server, "kept", &["--partitions", "1", "--durability", "durable"]);
    create(&server, "idle", &["--partitions", "2"]);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let (before, sent) = std::thread::scope(|scope| {
        let load = scope.spawn(|| publish(&server, "kept", &stop, &acknowledged));
        wait_for("three segments", || (acknowledged.load(Ordering::Acquire) > 4_000).then_some(()));
        let before = acknowledged.load(Ordering::Acquire);
        let told = succeeded(&backup(&server, &copy));
        assert_eq!((&told["partitions"], &told["damaged"]), (&json!(3), &json!([])));
        let after = acknowledged.load(Ordering::Acquire);
        wait_for("more after the backup", || (acknowledged.load(Ordering::Acquire) > after).then_some(()));
        stop.store(true, Ordering::Release);
        (before, load.join().expect("no panic"))
    });
    assert_eq!(end(&server, "kept"), sent, "the server goes on as if nothing had been");
    drop(server);
    assert_eq!(succeeded(&restore(&copy, &made))["partitions"], json!(3));
    for records in [&first.join("data"), &copy, &made] {
        others::kept_out(records);
    }
    let server = Server::start_in(&second, &SMALL);
    let kept = end(&server, "kept");
    assert!((before..=sent).contains(&kept), "{before} {kept} {sent}");
    let numbers = consume(&server, "kept", kept);
    assert!(numbers.iter().copied().eq(0..kept), "in order, none lost, none twice");
    // What is restored goes on.
    let producer = producer(&server, "kept");
    producer.send(&[7; RECORD_BYTES], None).expect("sent");
    producer.close(LIMIT).expect("acknowledged");
    assert_eq!(end(&server, "kept"), kept + 1);
}

#[test]
fn what_is_not_a_whole_backup_is_refused() {
    let Places { _root, first, copy, made, .. } = places();
    let server = Server::start_in(&first, &SMALL);
    create(&server, "kept", &["--partitions", "1"]);
    fill(&server, "kept", 3_000);
    succeeded(&backup(&server, &copy));
    refused(&backup(&server, &copy), 1, "is not empty");
    refused(&restore(&copy, &first.join("data")), 1, "is not empty");
    let first = segments(&copy.join("log/p00000001")).first().expect("a segment").clone();
    let whole = std::fs::read(&first).expect("read");
    let mut damaged = whole.clone();
    damaged[300_000] ^= 1;
    std::fs::write(&first, &damaged).expect("written");
    refused(&restore(&copy, &made), 1, "its digest is another");
    std::fs::remove_file(&first).expect("removed");
    refused(&restore(&copy, &made), 1, "cannot open");
    std::fs::write(&first, &whole).expect("written");
    let manifest = copy.join("manifest.json");
    let finished = std::fs::read(&manifest).expect("read");
    std::fs::remove_file(&manifest).expect("removed");
    refused(&restore(&copy, &made), 1, "did not end");
    assert!(!made.exists(), "nothing is left of what was refused");
    std::fs::write(&manifest, finished).expect("written");
    std::fs::create_dir(&made).expect("an empty directory will do");
    succeeded(&restore(&copy, &made));
    drop(server);
    let nobody = support::free_address().to_string();
    refused(
        &run(&["backup", made.join("x").to_str().expect("UTF-8"), "--admin", &nobody], b""),
        3,
        "no server",
    );
}

#[test]
fn what_is_copied_stays_until_the_lease_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start_in(directory.path(), &SMALL);
    create(&server, "kept", &["--partitions", "1", "--retention-bytes", "2MiB"]);
    fill(&server, "kept", 1_500);
    let (plan, lease, named) = begun(&server, "");
    let code = |method: &str, path: &str, body: &str| asked(&server, method, path, body);
    assert_eq!(plan["lease_ms"], json!(60_000));
    assert_eq!(code("POST", "/v1/backup", ""), (409, "backup_running".into()));
    assert_eq!(code("DELETE", "/v1/topics/kept", ""), (409, "backup_running".into()));
    assert_eq!(code("POST", "/v1/backup/other", ""), (404, "unknown_lease".into()));
    assert_eq!(code("POST", &lease, "{}"), (200, String::new()));
    assert!(named.len() >= 3 && named.iter().all(|file| file.exists()), "{named:?}");
    // Three times what retention keeps.
    fill(&server, "kept", 6_000);
    assert!(named.iter().all(|file| file.exists()), "held");
    assert_eq!(code("POST", &lease, r#"{"done":[1]}"#), (200, String::new()));
    wait_for("what was copied to go", || (!named[0].exists()).then_some(()));
    assert_eq!(code("DELETE", &lease, ""), (200, String::new()));
    assert_eq!(code("DELETE", &lease, ""), (404, "unknown_lease".into()));
    assert!(!Path::new(plan["marker"].as_str().expect("a path")).exists());
    assert_eq!(code("DELETE", "/v1/topics/kept", ""), (200, String::new()));
}

#[test]
fn a_lease_that_nobody_renews_runs_out_and_retention_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start_in(directory.path(), &SMALL);
    create(&server, "kept", &["--partitions", "1", "--retention-bytes", "2MiB"]);
    fill(&server, "kept", 1_500);
    for lease_ms in ["999", "3600001", "\"long\""] {
        let body = format!(r#"{{"lease_ms":{lease_ms}}}"#);
        assert_eq!(asked(&server, "POST", "/v1/backup", &body), (400, "bad_request".into()), "{body}");
    }
    let (plan, lease, named) = begun(&server, r#"{"lease_ms":4000}"#);
    assert_eq!(plan["lease_ms"], json!(4000));
    // Three times what retention keeps.
    for _ in 0..12 {
        fill(&server, "kept", 500);
        assert_eq!(asked(&server, "POST", &lease, ""), (200, String::new()));
    }
    assert!(named.iter().all(|file| file.exists()), "held as long as it is renewed");
    wait_for("what nobody copies to go", || (!named[0].exists()).then_some(()));
    assert_eq!(asked(&server, "POST", &lease, ""), (404, "unknown_lease".into()));
    let marker = Path::new(plan["marker"].as_str().expect("a path"));
    wait_for("the marker to go", || (!marker.exists()).then_some(()));
    let (_, again, _) = begun(&server, "");
    assert_eq!(asked(&server, "DELETE", &again, ""), (200, String::new()));
}

#[test]
fn a_backup_that_is_killed_is_given_up() {
    let Places { _root, first, copy, second, made } = places();
    let server = Server::start_in(&first, &SMALL);
    create(&server, "kept", &["--partitions", "1", "--retention-bytes", "32MiB"]);
    fill(&server, "kept", 30_000);
    let (admin, to) = (server.admin.to_string(), copy.to_str().expect("UTF-8"));
    let mut command = support::uringest(&["backup", to, "--admin", &admin, "--lease", "4s"]);
    let mut killed = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let folder = copy.join("log/p00000001");
    // Not by looks from time to time: copying takes less than a tenth of a second.
    let deadline = Instant::now() + support::PATIENCE;
    while !folder.exists() {
        assert!(Instant::now() < deadline, "it copies nothing");
        std::thread::yield_now();
    }
    killed.kill().expect("it runs");
    killed.wait().expect("it has ended");
    assert!(!copy.join("manifest.json").exists(), "it had not ended by itself");
    assert_eq!(asked(&server, "POST", "/v1/backup", ""), (409, "backup_running".into()));
    refused(&restore(&copy, &made), 1, "did not end");
    let oldest = segments(&first.join("data/log/p00000001")).first().expect("a segment").clone();
    fill(&server, "kept", 6_000);
    wait_for("retention to go on", || (!oldest.exists()).then_some(()));
    let again = second.join("copy");
    assert_eq!(succeeded(&backup(&server, &again))["damaged"], json!([]));
}
