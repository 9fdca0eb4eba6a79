//! The client's drivers and the commands that use them, against the real server, with TLS and without; connections
//! are cut on the way.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::{PATIENCE, Server, run, uringest, wait_for};
use uringest::client::blocking::{Consumer, Producer};
use uringest::client::{
    Address, CertificateFiles, ConnectionConfig, ConsumerConfig, ConsumerEvent, Error, Partitioner,
    ProducerConfig, Record, Roots, Sent, Start, TicketStatus, Tls, TlsFault, TlsSettings,
};
use uringest::tls::dev;

/// An authority, what it signed for a server and a client, and a client's TLS with it.
struct Certificates {
    directory: tempfile::TempDir,
    tls: Tls,
}

impl Certificates {
    fn new() -> Certificates {
        let directory = tempfile::tempdir().expect("a directory");
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let request = dev::Request {
            server_names: dev::LOCAL_NAMES.map(str::to_owned).to_vec(),
            client_names: vec!["client.localhost".to_owned()],
            now_s: since_1970.as_secs(),
            days: 1,
        };
        dev::write(directory.path(), &dev::generate(&request).expect("keys")).expect("written");
        let roots = Roots::File(directory.path().join("ca.pem"));
        let tls = Tls::new(TlsSettings { roots, ..TlsSettings::default() }).expect("good files");
        Certificates { directory, tls }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// A server that shows the certificate, with these further arguments.
    fn server(&self, args: &[&str]) -> Server {
        let (certificate, key) = (self.text("server.pem"), self.text("server.key"));
        Server::start(&[&["--tls-cert", &certificate, "--tls-key", &key], args].concat())
    }

    /// A client that shows one as well.
    fn with_identity(&self) -> Tls {
        let identity =
            Some(CertificateFiles { certificate: self.path("client.pem"), key: self.path("client.key") });
        Tls::new(TlsSettings { identity, ..self.tls.settings().clone() }).expect("good files")
    }
}

/// A server, by TLS or not, and how to reach it.
struct Rig {
    server: Server,
    certificates: Option<Certificates>,
}

impl Rig {
    fn new(tls: bool) -> Rig {
        let certificates = tls.then(Certificates::new);
        let server = certificates.as_ref().map_or_else(|| Server::start(&[]), |made| made.server(&[]));
        Rig { server, certificates }
    }

    /// To the server, or what is before it.
    fn connection(&self, address: SocketAddr) -> ConnectionConfig {
        let plain = connection(address);
        let tls = self.certificates.as_ref().map(|made| made.tls.clone());
        ConnectionConfig { server: plain.server.with_tls(tls.is_some()), tls, ..plain }
    }

    /// What every command needs to reach it.
    fn args(&self) -> Vec<String> {
        let mut args = vec!["--server".to_owned(), self.connection(self.server.data).server.to_string()];
        if let Some(made) = &self.certificates {
            args.extend(["--tls-ca".to_owned(), made.text("ca.pem")]);
        }
        args
    }

    fn run(&self, args: &[&str], input: &[u8]) -> std::process::Output {
        let common = self.args();
        let common = common.iter().map(String::as_str);
        run(&args.iter().copied().chain(common).collect::<Vec<_>>(), input)
    }

    fn cutter(&self, bytes: usize, cuts: u32) -> Cutter {
        Cutter::start(self.server.data, bytes, cuts)
    }

    fn take(&self, address: SocketAddr, topic: &str, count: usize) -> Vec<Vec<u8>> {
        take(self.connection(address), topic, count)
    }
}

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
fn take(connection: ConnectionConfig, topic: &str, count: usize) -> Vec<Vec<u8>> {
    let config = ConsumerConfig { connection, start: Start::Earliest, ..ConsumerConfig::new(topic) };
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
    publishes_once_and_in_order_through_cuts(false);
}

#[test]
fn the_blocking_driver_publishes_once_and_in_order_through_cuts_of_tls() {
    publishes_once_and_in_order_through_cuts(true);
}

fn publishes_once_and_in_order_through_cuts(tls: bool) {
    let rig = Rig::new(tls);
    let cutter = rig.cutter(200_000, 4);
    let config = ProducerConfig {
        connection: rig.connection(cutter.address),
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
    assert!(rig.take(rig.server.data, "cut", 20_000) == expected, "each once, in order");
    let resumed = rig.server.metric("uringest_tls_resumptions_total");
    assert_eq!(resumed > 0.0, tls, "{resumed} of 4 reconnects used a ticket");
}

#[test]
fn the_blocking_consumer_repeats_and_skips_nothing_through_cuts() {
    consumes_once_and_in_order_through_cuts(false);
}

#[test]
fn the_blocking_consumer_repeats_and_skips_nothing_through_cuts_of_tls() {
    consumes_once_and_in_order_through_cuts(true);
}

fn consumes_once_and_in_order_through_cuts(tls: bool) {
    let rig = Rig::new(tls);
    let input = lines(1..=100_000);
    assert!(rig.run(&["pub", "lines"], &input).status.success());
    let cutter = rig.cutter(200_000, 3);
    let got = rig.take(cutter.address, "lines", 100_000);
    assert_eq!(cutter.connections(), 4);
    assert!(got.iter().enumerate().all(|(index, line)| *line == (index + 1).to_string().into_bytes()));
}

#[test]
fn the_tokio_driver_publishes_and_consumes() {
    tokio_publishes_and_consumes(false);
}

#[test]
fn the_tokio_driver_publishes_and_consumes_by_tls() {
    tokio_publishes_and_consumes(true);
}

fn tokio_publishes_and_consumes(tls: bool) {
    use uringest::client::tokio as driver;
    let rig = Rig::new(tls);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let consumer = driver::consumer(ConsumerConfig {
            connection: rig.connection(rig.server.data),
            ..ConsumerConfig::new("t")
        });
        let consumer = consumer.expect("a good configuration");
        consumer.subscribed().await.expect("the server is there");
        let cutter = rig.cutter(20_000, 2);
        let config =
            ProducerConfig { connection: rig.connection(cutter.address), ..ProducerConfig::new("t") };
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
    uring_publishes_and_consumes(false);
}

#[cfg(feature = "uring")]
#[test]
fn the_tokio_uring_driver_publishes_and_consumes_by_tls() {
    uring_publishes_and_consumes(true);
}

#[cfg(feature = "uring")]
fn uring_publishes_and_consumes(tls: bool) {
    use uringest::client::uring as driver;
    let rig = Rig::new(tls);
    tokio_uring::start(async {
        let consumer = driver::consumer(ConsumerConfig {
            connection: rig.connection(rig.server.data),
            ..ConsumerConfig::new("u")
        });
        let consumer = consumer.expect("a good configuration");
        consumer.subscribed().await.expect("the server is there");
        let cutter = rig.cutter(20_000, 2);
        let config =
            ProducerConfig { connection: rig.connection(cutter.address), ..ProducerConfig::new("u") };
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
    assert_eq!(take(connection(server.data), "i", 5000).len(), 5000);
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
fn what_stands_between_client_and_server_is_said_with_its_remedy() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let (server, plain) = (ours.server(&[]), Server::start(&[]));
    let mutual = ours.server(&["--tls-client-ca", &ours.text("ca.pem")]);
    let secured = |server: &Server| format!("uringest+tls://localhost:{}", server.data.port());
    let (ca, other_ca) = (ours.text("ca.pem"), theirs.text("ca.pem"));
    let (certificate, key) = (theirs.text("client.pem"), theirs.text("client.key"));
    let shown = ["--tls-ca", &ca, "--tls-cert", &certificate, "--tls-key", &key];
    let cases: [(String, &[&str], i32, &str); 7] = [
        (secured(&server), &["--tls-ca", &other_ca], 3, "try: --tls-ca"),
        (secured(&server), &["--tls-ca", &ca, "--tls-name", "a.example"], 3, "--tls-name"),
        (secured(&plain), &["--tls-ca", &ca], 3, "does not speak TLS"),
        (server.url(), &[], 3, "uringest+tls://"),
        (secured(&mutual), &["--tls-ca", &ca], 4, "try: --tls-cert"),
        (secured(&mutual), &shown, 4, "does not accept this client's certificate"),
        (server.url(), &["--tls-name", "localhost"], 2, "try: --server uringest+tls://"),
    ];
    for (url, args, exit, said) in cases {
        for verb in ["pub", "sub"] {
            let output = run(&[&[verb, "t", "--server", &url, "--retry-for", "5"], args].concat(), b"x\n");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(exit), "{verb} {url} {args:?}: {stderr}");
            assert!(stderr.contains(said), "{verb} {url} {args:?}: {stderr}");
        }
    }
    let variables = [("URINGEST_SERVER", secured(&mutual)), ("URINGEST_SERVER_CA", ca)];
    let identity =
        [("URINGEST_CLIENT_CERT", ours.text("client.pem")), ("URINGEST_CLIENT_KEY", ours.text("client.key"))];
    let output = support::feed(uringest(&["pub", "t"]).envs(variables.into_iter().chain(identity)), b"x\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Publishes and consumes one record, then ends.
macro_rules! once {
    ($driver:ident, $rig:expr, $topic:literal) => {{
        let config =
            ConsumerConfig { connection: $rig.connection($rig.server.data), ..ConsumerConfig::new($topic) };
        let consumer = $driver::consumer(config).expect("a good configuration");
        consumer.subscribed().await.expect("the server is there");
        let config =
            ProducerConfig { connection: $rig.connection($rig.server.data), ..ProducerConfig::new($topic) };
        let producer = $driver::producer(config).await.expect("the server is there");
        producer.send(b"x", None).await.expect("room");
        while !matches!(consumer.next().await.expect("the consumer lives"), ConsumerEvent::Batch(_)) {}
        producer.close().await.expect("acknowledged");
        consumer.close().await;
    }};
}

#[test]
fn every_driver_ends_tls_in_good_order() {
    let rig = Rig::new(true);
    let of =
        |topic| ConsumerConfig { connection: rig.connection(rig.server.data), ..ConsumerConfig::new(topic) };
    let consumer = Consumer::connect(of("a")).expect("a good configuration");
    consumer.wait_subscribed(Some(PATIENCE)).expect("the server is there");
    let config = ProducerConfig { connection: rig.connection(rig.server.data), ..ProducerConfig::new("a") };
    let producer = Producer::connect(config).expect("the server is there");
    producer.send(b"x", None).expect("room");
    while !matches!(consumer.next(Some(PATIENCE)).expect("it lives"), Some(ConsumerEvent::Batch(_))) {}
    producer.close(Some(PATIENCE)).expect("acknowledged");
    drop(consumer);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        use uringest::client::tokio as driver;
        once!(driver, rig, "b");
    });
    #[cfg(feature = "uring")]
    tokio_uring::start(async {
        use uringest::client::uring as driver;
        once!(driver, rig, "c");
    });
    wait_for("the ends", || (rig.server.metric("uringest_open_connections") == 0.0).then_some(()));
    let failures = rig.server.metric("uringest_tls_failures_total");
    assert_eq!(failures, 0.0, "{}", rig.server.log());
}

#[test]
fn a_client_without_a_certificate_is_told_so_by_every_driver() {
    let certificates = Certificates::new();
    let server = certificates.server(&["--tls-client-ca", &certificates.text("ca.pem")]);
    let address: Address = format!("uringest+tls://{}", server.data).parse().expect("an address");
    let config = |tls| {
        let connection =
            ConnectionConfig { server: address.clone(), tls: Some(tls), ..ConnectionConfig::default() };
        ProducerConfig { connection, ..ProducerConfig::new("m") }
    };
    let refused = |error: Option<Error>| {
        assert!(matches!(error, Some(Error::Tls { fault: TlsFault::CertificateRequired, .. })), "{error:?}");
    };
    refused(Producer::connect(config(certificates.tls.clone())).err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        use uringest::client::tokio as driver;
        refused(driver::producer(config(certificates.tls.clone())).await.err());
        let producer = driver::producer(config(certificates.with_identity())).await.expect("it shows one");
        producer.close().await.expect("nothing was sent");
    });
    #[cfg(feature = "uring")]
    tokio_uring::start(async {
        use uringest::client::uring as driver;
        refused(driver::producer(config(certificates.tls.clone())).await.err());
        let producer = driver::producer(config(certificates.with_identity())).await.expect("it shows one");
        producer.close().await.expect("nothing was sent");
    });
    let producer = Producer::connect(config(certificates.with_identity())).expect("it shows one");
    producer.send(b"x", None).expect("room");
    producer.close(Some(PATIENCE)).expect("acknowledged");
}

#[test]
fn the_demo_ends_well() {
    demo_ends_well(&[], false);
}

#[test]
fn the_demo_ends_well_by_tls() {
    demo_ends_well(&["--tls"], true);
}

fn demo_ends_well(args: &[&str], tls: bool) {
    let output = run(&[&["demo", "--seconds", "2", "-o", "json"], args].concat(), b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["full"]["records"].as_u64().is_some_and(|records| records > 0), "{report}");
    assert_eq!(report["tls"], tls);
}
