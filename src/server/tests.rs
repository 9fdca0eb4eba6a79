//! Whole servers in this process, on free ports and temporary directories.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::client::blocking::{Consumer, Producer};
use crate::client::{ConsumerConfig, ConsumerEvent, ProducerConfig, Start};
use crate::control::data::DataError;
use crate::io::choice::IoChoice;

const LIMIT: Option<Duration> = Some(Duration::from_secs(20));

fn config(directory: &Path, shards: u16) -> Config {
    let mut config = Config::default();
    config.listen = "127.0.0.1:0".parse().expect("an address");
    config.admin = config.listen;
    config.data = directory.to_owned();
    config.shards = shards;
    config.pin = false;
    config.limits.connections_max = 256;
    config.topics.retention_bytes = 4 << 20;
    config.memory.retention_budget_bytes = 64 << 20;
    config.drain_deadline_ms = 2_000;
    config
}

fn start_one(config: &Config) -> RunningServer {
    start(config, Options::default()).unwrap_or_else(|error| panic!("{error}; {}", error.remedy()))
}

fn admin(server: &RunningServer, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(server.admin_address()).expect("connect");
    stream.set_read_timeout(LIMIT).expect("a time-out");
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn publish(server: &RunningServer, topic: &str, records: std::ops::Range<u32>) {
    let mut config = ProducerConfig::new(topic);
    config.connection.server = server.data_address().to_string().parse().expect("an address");
    let producer = Producer::connect(config).expect("connected");
    for record in records {
        producer.send(record.to_string().as_bytes(), None).expect("sent");
    }
    producer.close(LIMIT).expect("acknowledged");
}

/// Reads that many records of a topic with one partition.
fn consume(server: &RunningServer, topic: &str, count: usize) -> (u64, Vec<String>) {
    let mut config = ConsumerConfig::new(topic);
    config.connection.server = server.data_address().to_string().parse().expect("an address");
    config.start = Start::Earliest;
    let consumer = Consumer::connect(config).expect("connected");
    let (mut first, mut records, mut told) = (None, Vec::new(), None);
    while records.len() < count {
        match consumer.next(LIMIT).expect("no failure").expect("in time") {
            ConsumerEvent::Batch(batch) => {
                first.get_or_insert(batch.first_offset());
                records.extend(
                    batch.records().map(|record| String::from_utf8_lossy(record.payload).into_owned()),
                );
            }
            // What a restart has cost is told first.
            ConsumerEvent::Gap { from, records: missing, .. } => {
                assert_eq!((from, first, told.replace(missing)), (0, None, None), "at the start, once");
            }
            _ => {}
        }
    }
    let first = first.expect("a batch came");
    assert_eq!(told.unwrap_or(0), first, "the gap ends where the records begin");
    (first, records)
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn passes_records(shards: u16, io: IoChoice, tier: Option<u8>) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = config(directory.path(), shards);
    (config.io, config.io_tier) = (io, tier);
    let server = start_one(&config);
    assert!(admin(&server, "GET", "/readyz", "").starts_with("HTTP/1.1 200 "));
    // Topics on each shard, so that connections move and messages cross.
    for topic in 0..shards {
        let name = format!("t{topic}");
        publish(&server, &name, 0..5_000);
        assert_eq!(consume(&server, &name, 5_000), (0, numbers(0..5_000)));
    }
    assert!(admin(&server, "GET", "/v1/topics/t0", "").contains("\"log_end_offset\":5000"));
    assert!(admin(&server, "GET", "/metrics", "").contains("uringest_records_accepted_total"));
    server.drain();
    assert_eq!(server.wait(), exit::CLEAN);
    // Offsets go on where they were.
    let server = start_one(&config);
    publish(&server, "t0", 0..10);
    assert_eq!(consume(&server, "t0", 10), (5_000, numbers(0..10)));
    assert!(admin(&server, "DELETE", "/v1/topics/t0", "").starts_with("HTTP/1.1 200 "));
    server.drain();
    assert_eq!(server.wait(), exit::CLEAN);
}

#[test]
fn one_shard_passes_records() {
    passes_records(1, IoChoice::Auto, None);
}

#[test]
fn three_shards_pass_records() {
    passes_records(3, IoChoice::Auto, None);
}

#[cfg(feature = "uring")]
#[test]
fn two_shards_pass_records_on_tier_1() {
    passes_records(2, IoChoice::Uring, Some(1));
}

#[cfg(feature = "epoll")]
#[test]
fn two_shards_pass_records_on_epoll() {
    passes_records(2, IoChoice::Epoll, None);
}

/// A consumer of both partitions has one of them from another shard, also where there is nothing but a gap at first.
#[test]
fn a_gap_crosses_shards_before_there_are_records() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path(), 2);
    let publish = |server: &RunningServer| {
        let mut config = ProducerConfig::new("t");
        config.connection.server = server.data_address().to_string().parse().expect("an address");
        let producer = Producer::connect(config).expect("connected");
        for record in 0..1_000_u32 {
            producer.send(b"x", Some(&record.to_le_bytes())).expect("sent");
        }
        producer.close(LIMIT).expect("acknowledged");
    };
    let server = start_one(&config);
    assert!(admin(&server, "POST", "/v1/topics", r#"{"name":"t","partitions":2}"#).contains(" 201 "));
    publish(&server);
    server.drain();
    assert_eq!(server.wait(), exit::CLEAN);
    let server = start_one(&config);
    let mut consumer = ConsumerConfig::new("t");
    consumer.connection.server = server.data_address().to_string().parse().expect("an address");
    consumer.start = Start::Earliest;
    let consumer = Consumer::connect(consumer).expect("connected");
    let (mut missed, mut got) = (0, 0);
    while missed + got < 2_000 {
        match consumer.next(LIMIT).expect("no failure").expect("in time") {
            ConsumerEvent::Batch(batch) => got += batch.records().count() as u64,
            ConsumerEvent::Gap { records, .. } => {
                missed += records;
                if missed == 1_000 {
                    publish(&server);
                }
            }
            _ => {}
        }
    }
    assert_eq!((missed, got), (1_000, 1_000));
    server.drain();
    assert_eq!(server.wait(), exit::CLEAN);
}

#[test]
fn each_failure_of_the_environment_has_its_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = start_one(&config(directory.path(), 1));
    let mut same_directory = config(directory.path(), 1);
    same_directory.listen = "127.0.0.1:0".parse().expect("an address");
    let other = tempfile::tempdir().expect("a directory");
    let mut no_certificate = config(other.path(), 1);
    no_certificate.tls.cert = Some(other.path().join("server.pem"));
    no_certificate.tls.key = Some(other.path().join("server.key"));
    let error = start(&no_certificate, Options::default()).expect_err("there is no such file");
    assert!(matches!(error, StartError::Tls(_)) && error.to_string().contains("server.pem"), "{error}");
    let error = start(&same_directory, Options::default()).expect_err("the directory is locked");
    assert!(matches!(error, StartError::Data(DataError::Locked { .. })), "{error}");
    let mut same_port = config(other.path(), 2);
    same_port.listen = server.data_address();
    let error = start(&same_port, Options::default()).expect_err("the port is in use");
    assert!(matches!(error, StartError::Bind { setting: "listen", .. }), "{error}");
    assert!(error.remedy().contains("another process has port"), "{}", error.remedy());
    let mut same_admin = config(other.path(), 1);
    same_admin.admin = server.admin_address();
    let error = start(&same_admin, Options::default()).expect_err("the port is in use");
    assert!(matches!(error, StartError::Bind { setting: "admin", .. }), "{error}");
    let mut congestion = config(other.path(), 1);
    congestion.congestion_control = Some("nosuch".into());
    let error = start(&congestion, Options::default()).expect_err("there is no such thing");
    assert!(matches!(error, StartError::CongestionControl { .. }), "{error}");
    let mut nowhere = config(Path::new("/proc/none"), 1);
    nowhere.shards = 1;
    let error = start(&nowhere, Options::default()).expect_err("it cannot be made");
    assert!(matches!(error, StartError::Data(DataError::NotWritable { .. })), "{error}");
    server.drain();
    assert_eq!(server.wait(), exit::CLEAN);
    // A smaller budget than what the catalogue needs.
    let mut topics = config(other.path(), 1);
    let server = start_one(&topics);
    assert!(admin(&server, "POST", "/v1/topics", r#"{"name":"a","partitions":8}"#).contains(" 201 "));
    server.drain();
    assert_eq!(server.wait(), exit::CLEAN);
    topics.memory.retention_budget_bytes = 16 << 20;
    let error = start(&topics, Options::default()).expect_err("it does not fit");
    assert!(matches!(error, StartError::BudgetTooSmall { .. }), "{error}");
}

#[test]
fn the_plan_counts_everything_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = ServerPlan::new(&config(directory.path(), 3));
    let sum: u64 = plan.memory.items.iter().map(|item| item.bytes).sum();
    assert_eq!(plan.memory.total_bytes, sum);
    assert!(
        plan.memory.items.iter().all(|item| item.bytes == item.count * item.bytes_each && item.bytes > 0)
    );
    let text = explain(&plan.memory);
    assert_eq!(text.lines().count(), plan.memory.items.len() + 3);
    let shared: u64 = 3 * u64::from(crate::limits::SHARED_RING_BYTES);
    assert!(plan.memory.items.iter().any(|item| item.what == "shared receive rings" && item.bytes == shared));
}

#[test]
fn shards_own_ports_are_bound_and_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = config(directory.path(), 2);
    // Somebody else's port is refused, so two that are free are looked for.
    let free =
        |base: &u16| (*base..*base + 2).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    config.shard_ports = (20_000..60_000).step_by(7).find(free);
    let server = start_one(&config);
    assert_eq!(server.shard_addresses().len(), 2);
    for address in server.shard_addresses() {
        TcpStream::connect(address).expect("it listens");
    }
    server.drain();
    assert_eq!(server.wait(), exit::CLEAN);
    config.advertise_host = Some("::1".into());
    assert_eq!(listeners::advertised(&config, &["127.0.0.1:9".parse().expect("an address")]), ["[::1]:9"]);
}

#[test]
fn connections_leave_descriptors_to_the_others() {
    let within = |limit, logs| plan::connections_within(limit, 10_000, logs);
    assert_eq!(within(1 << 20, 0), 10_000, "what is configured is the most");
    assert_eq!(within(4_096, 0), 3_072);
    assert_eq!(within(4_096, 100), 2_472, "each log has files");
    assert_eq!(within(1_024, 0), 512, "where there are few, half of them");
    assert_eq!(within(96, 100), 48);
}
