//! The client's drivers and the commands that use them, against the real server; connections are cut on the way.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{PATIENCE, Server, run, uringest, wait_for};
use uringest::client::blocking::{Consumer, Producer};
use uringest::client::{
    ConnectionConfig, ConsumerConfig, ConsumerEvent, Partitioner, ProducerConfig, Record, Sent, Start,
    TicketStatus,
};

/// Between client and server: cuts each connection after so many bytes towards the server, `cuts` times.
struct Cutter {
    address: SocketAddr,
    connections: Arc<AtomicU32>,
}

impl Cutter {
    fn start(server: SocketAddr, bytes: usize, cuts: u32) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(upstream)) = (client, TcpStream::connect(server)) else { return };
                let cut = counted.fetch_add(1, Ordering::SeqCst) < cuts;
                let left = Arc::new(AtomicUsize::new(if cut { bytes } else { usize::MAX }));
                pump(&client, &upstream, Arc::clone(&left));
                pump(&upstream, &client, left);
            }
        });
        Cutter { address, connections }
    }

    fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Passes bytes on, those of both directions counted together, until there are none left.
fn pump(from: &TcpStream, to: &TcpStream, left: Arc<AtomicUsize>) {
    let mut from = from.try_clone().expect("a socket");
    let mut to = to.try_clone().expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            let before = left.load(Ordering::SeqCst);
            let passed = bytes.min(before);
            if to.write_all(&buffer[..passed]).is_err() || passed < bytes {
                break;
            }
            if before != usize::MAX {
                left.store(before.saturating_sub(passed), Ordering::SeqCst);
            }
        }
        let _ = from.shutdown(Shutdown::Both); // either side may have gone
        let _ = to.shutdown(Shutdown::Both);
    });
}

fn connection(address: SocketAddr) -> ConnectionConfig {
    ConnectionConfig {
        server: address.to_string().parse().expect("an address"),
        ..ConnectionConfig::default()
    }
}

fn lines(numbers: std::ops::RangeInclusive<u32>) -> Vec<u8> {
    numbers.flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

/// Takes from a topic's start until `count` records are there.
fn take(address: SocketAddr, topic: &str, count: usize) -> Vec<Vec<u8>> {
    let config = ConsumerConfig {
        connection: connection(address),
        start: Start::Earliest,
        ..ConsumerConfig::new(topic)
    };
    let consumer = Consumer::connect(config).expect("a good configuration");
    let mut got = Vec::new();
    while got.len() < count {
        match consumer.next(Some(PATIENCE)).expect("the consumer lives") {
            Some(ConsumerEvent::Batch(batch)) => got.extend(batch.payloads().map(|payload| payload.to_vec())),
            Some(ConsumerEvent::Gap { from, records, .. }) => panic!("a gap of {records} at {from}"),
            Some(_) => {}
            None => panic!("{} of {count} records in {PATIENCE:?}", got.len()),
        }
    }
    assert!(
        !matches!(consumer.next(Some(Duration::from_millis(100))), Ok(Some(ConsumerEvent::Batch(_)))),
        "more came"
    );
    got
}

#[test]
fn the_blocking_driver_publishes_once_and_in_order_through_cuts() {
    let server = Server::start(&[]);
    let cutter = Cutter::start(server.data, 200_000, 4);
    let config = ProducerConfig {
        connection: connection(cutter.address),
        partitioner: Partitioner::Fixed(0),
        batch_bytes: 2048,
        ..ProducerConfig::new("cut")
    };
    let producer = Producer::connect(config).expect("the server is there");
    let payload = |number: u32| format!("record {number} {}", "x".repeat(number as usize % 100)).into_bytes();
    let mut last = None;
    for number in 0..20_000 {
        match producer.send(&payload(number), None).expect("it waits for room") {
            Sent::Taken(ticket) => last = Some(ticket),
            Sent::Dropped => panic!("the policy is to wait"),
        }
    }
    let last = last.expect("records were sent");
    assert_eq!(producer.wait(last, Some(PATIENCE)), Ok(TicketStatus::Acked));
    producer.close(Some(PATIENCE)).expect("everything is acknowledged");
    assert_eq!(cutter.connections(), 5, "it was cut four times");
    let expected: Vec<_> = (0..20_000).map(payload).collect();
    assert!(take(server.data, "cut", 20_000) == expected, "each once, in order");
}

#[test]
fn the_blocking_consumer_repeats_and_skips_nothing_through_cuts() {
    let server = Server::start(&[]);
    let input = lines(1..=100_000);
    assert!(run(&["pub", "lines", "--server", &server.url()], &input).status.success());
    let cutter = Cutter::start(server.data, 200_000, 3);
    let got = take(cutter.address, "lines", 100_000);
    assert_eq!(cutter.connections(), 4);
    assert!(got.iter().enumerate().all(|(index, line)| *line == (index + 1).to_string().into_bytes()));
}

#[test]
fn the_tokio_driver_publishes_and_consumes() {
    use uringest::client::tokio as driver;
    let server = Server::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let consumer = driver::consumer(ConsumerConfig {
            connection: connection(server.data),
            ..ConsumerConfig::new("t")
        });
        let consumer = consumer.expect("a good configuration");
        consumer.subscribed().await.expect("the server is there");
        let cutter = Cutter::start(server.data, 20_000, 2);
        let config = ProducerConfig { connection: connection(cutter.address), ..ProducerConfig::new("t") };
        let producer = driver::producer(config).await.expect("the server is there");
        for number in 0..5000u32 {
            producer.send(&number.to_le_bytes(), None).await.expect("it waits for room");
        }
        producer.flush().await.expect("everything is acknowledged");
        producer.publish(&Record::new(&5000u32.to_le_bytes())).await.expect("acknowledged");
        let mut next = 0u32;
        while next <= 5000 {
            let event = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("in time");
            if let ConsumerEvent::Batch(batch) = event.expect("the consumer lives") {
                for record in batch.records() {
                    assert_eq!(record.payload, next.to_le_bytes());
                    next += 1;
                }
            }
        }
    });
}

#[cfg(feature = "uring")]
#[test]
fn the_tokio_uring_driver_publishes_and_consumes() {
    use uringest::client::uring as driver;
    let server = Server::start(&[]);
    tokio_uring::start(async {
        let consumer = driver::consumer(ConsumerConfig {
            connection: connection(server.data),
            ..ConsumerConfig::new("u")
        });
        let consumer = consumer.expect("a good configuration");
        consumer.subscribed().await.expect("the server is there");
        let cutter = Cutter::start(server.data, 20_000, 2);
        let config = ProducerConfig { connection: connection(cutter.address), ..ProducerConfig::new("u") };
        let producer = driver::producer(config).await.expect("the server is there");
        for number in 0..5000u32 {
            producer.send(&number.to_le_bytes(), None).await.expect("it waits for room");
        }
        producer.flush().await.expect("everything is acknowledged");
        let mut next = 0u32;
        while next < 5000 {
            let event = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("in time");
            if let ConsumerEvent::Batch(batch) = event.expect("the consumer lives") {
                for record in batch.records() {
                    assert_eq!(record.payload, next.to_le_bytes());
                    next += 1;
                }
            }
        }
        producer.close().await.expect("everything is acknowledged");
        consumer.close().await;
    });
}

#[test]
fn pub_resumes_behind_its_checkpoint_and_sub_behind_its_name() {
    let server = Server::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let checkpoint = directory.path().join("done");
    let path = checkpoint.to_str().expect("UTF-8");
    let url = server.url();
    let publish = ["pub", "c", "--server", &url, "--checkpoint", path];
    assert!(run(&publish, &lines(1..=1000)).status.success());
    assert_eq!(std::fs::read_to_string(&checkpoint).expect("it is kept").trim(), "1000");
    let subscribe = |count| {
        run(&["sub", "c", "--server", &url, "--from", "earliest", "--name", "n", "--count", count], b"")
    };
    assert_eq!(subscribe("400").stdout, lines(1..=400));
    assert!(run(&publish, &lines(1..=1500)).status.success());
    assert_eq!(subscribe("1100").stdout, lines(401..=1500), "each once over both runs");
}

#[test]
fn an_interrupted_pub_keeps_what_is_acknowledged_and_exits_130() {
    let server = Server::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let checkpoint = directory.path().join("done");
    let mut command = uringest(&["pub", "i", "--server", &server.url(), "--checkpoint"]);
    command.arg(&checkpoint).stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("the program");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&lines(1..=5000)).expect("it reads");
    wait_for("the checkpoint", || {
        std::fs::read_to_string(&checkpoint).ok().filter(|text| text.trim() == "5000")
    });
    let signalled = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(signalled.expect("kill").success());
    let status = wait_for("its end", || child.try_wait().expect("a child of this process"));
    assert_eq!(status.code(), Some(130));
    drop(stdin);
    assert_eq!(take(server.data, "i", 5000).len(), 5000);
}

#[test]
fn keys_go_to_their_partitions_and_json_says_so() {
    let server = Server::start(&[]);
    let body = r#"{"name":"k","partitions":3,"kind":"memory"}"#;
    let (status, answer) = support::http(server.admin, "POST", "/v1/topics", body).expect("it answers");
    assert!((200..300).contains(&status), "{answer}");
    let input: Vec<u8> = (0..300).flat_map(|n| format!("{n};key {}\n", n % 7).into_bytes()).collect();
    let url = server.url();
    let publish = ["pub", "k", "--server", &url, "--key-column", "2", "--delimiter", ";", "-o", "json"];
    let published = run(&publish, &input);
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&published.stdout).expect("JSON");
    assert_eq!(summary["records"], 300);
    let output =
        run(&["sub", "k", "--server", &url, "--from", "earliest", "--count", "300", "-o", "json"], b"");
    let mut last = std::collections::BTreeMap::new();
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("an object a line");
        let key = record["key"].as_str().expect("a key").to_owned();
        let partition = record["partition"].as_u64().expect("a number");
        let wanted = uringest::client::partition_of_key(key.as_bytes(), 3);
        assert_eq!(partition, u64::from(wanted));
        let number: u32 =
            record["payload"].as_str().and_then(|p| p.split(';').next()?.parse().ok()).expect("a number");
        assert!(last.insert(key, number).is_none_or(|before| before + 7 == number), "in order for each key");
    }
    assert_eq!(last.len(), 7);
}

#[test]
fn one_record_is_published_without_waiting_for_a_clock() {
    let server = Server::start(&[]);
    let quickest = (0..20)
        .map(|_| {
            let began = Instant::now();
            assert!(run(&["pub", "one", "--server", &server.url()], b"x\n").status.success());
            began.elapsed()
        })
        .min()
        .expect("some");
    // The checkpoint is looked after every 50 ms; the last time is when all is published.
    assert!(quickest < Duration::from_millis(50), "{quickest:?}");
}

#[test]
fn what_cannot_be_is_said_with_its_exit_code() {
    let unreachable = support::free_address().to_string();
    let output = run(&["pub", "t", "--server", &unreachable, "--retry-for", "0.2"], b"x\n");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run(&["sub", "t", "--server", "uringest://localhost", "--tls-ca", "ca.pem"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("uringest+tls://"));
    let server = Server::start(&[]);
    let output = run(&["pub", "no spaces", "--server", &server.url()], b"x\n");
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_demo_ends_well() {
    let output = run(&["demo", "--seconds", "2", "-o", "json"], b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["full"]["records"].as_u64().is_some_and(|records| records > 0), "{report}");
}
