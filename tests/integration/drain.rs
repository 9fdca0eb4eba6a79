//! The server's end while everybody is at work.

use std::net::TcpStream;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use uringest::proto::header::{FrameHeader, Kind};

use crate::rig::{
    Case, Program, assert_each_once, create, numbers, scenarios, wait_for_metric, wait_for_number,
};
use crate::speaker::{ALL_CREDIT, Heard, Pipe, RECORDS, Speaker, Tunnel, client_tls};
use crate::support::{PATIENCE, Server, http, wait_for};
use crate::tls::Certificates;

scenarios! {
    a_drain_delivers_what_was_acknowledged on best epoll;
    a_drain_delivers_what_was_acknowledged_with_one_shard on tier_1 epoll;
    a_drain_delivers_what_was_acknowledged_of_a_live_topic on best epoll;
    a_drain_delivers_what_was_acknowledged_over_tls on best tier_1 epoll;
    a_drain_waits_for_what_is_on_its_way on best tier_1 epoll;
    a_drain_waits_for_what_is_on_its_way_over_tls on best tier_1 epoll;
    a_second_signal_does_not_wait_for_who_does_not_read on best epoll;
}

/// What a program that lost its server wrote: numbers from `first` without a hole.
#[track_caller]
fn whole_from(out: &[u8], first: u64) -> u64 {
    assert!(out.is_empty() || out.ends_with(b"\n"), "it ends with a whole line");
    let got = numbers(out);
    let last = *got.last().expect("something was delivered");
    assert_each_once(&got, first..=last);
    last
}

/// `sub busy` with these arguments, attached.
fn attached(server: &Server, client: &[&str]) -> Program {
    Program::attached_as(server, "busy", &[&["sub", "busy", "--retry-for", "0.2"], client].concat())
}

fn what_is_acknowledged_is_delivered(case: &Case, shards: &str, kind: &str) {
    let server = case.start(&["--shards", shards, "--topics-auto-create-kind", kind]);
    let url = server.url();
    everybody_has_what_is_acknowledged(server, &["--server", &url]);
}

/// `client`: how programs reach the server.
fn everybody_has_what_is_acknowledged(mut server: Server, client: &[&str]) {
    let directory = tempfile::tempdir().expect("a directory");
    let checkpoint = directory.path().join("done");
    let checkpoint_argument = checkpoint.to_str().expect("UTF-8");
    let mut sub = attached(&server, client);
    let mut other = attached(&server, client);
    let args = ["pub", "busy", "--size", "100", "--checkpoint", checkpoint_argument, "--retry-for", "0.2"];
    let mut publisher = Program::start(&[&args[..], client].concat());
    wait_for_number(&checkpoint, 20_000);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(!server.log().contains("drain_incomplete"), "{}", server.log());
    assert_eq!(publisher.wait(), Some(3), "{}", publisher.err());
    let acknowledged: u64 =
        std::fs::read_to_string(&checkpoint).expect("written").trim().parse().expect("a number");
    for program in [&mut sub, &mut other] {
        assert_eq!(program.wait(), Some(3), "the server is gone: {}", program.err());
        let last = whole_from(&program.out(), 0);
        assert!(
            last + 1 >= acknowledged,
            "{acknowledged} records acknowledged, the last delivered is {last}"
        );
        assert!(!["gap", "it was cut"].iter().any(|word| program.err().contains(word)), "{}", program.err());
    }
}

fn a_drain_delivers_what_was_acknowledged(case: &Case) {
    what_is_acknowledged_is_delivered(case, "2", "memory");
}

fn a_drain_delivers_what_was_acknowledged_with_one_shard(case: &Case) {
    what_is_acknowledged_is_delivered(case, "1", "memory");
}

fn a_drain_delivers_what_was_acknowledged_of_a_live_topic(case: &Case) {
    what_is_acknowledged_is_delivered(case, "2", "live");
}

fn a_drain_delivers_what_was_acknowledged_over_tls(case: &Case) {
    let certificates = Certificates::new(&["a"]);
    let (cert, key) = (certificates.text("a/server.pem"), certificates.text("a/server.key"));
    let server = case.start(&["--shards", "2", "--tls-cert", &cert, "--tls-key", &key]);
    let (url, ca) = (crate::tls::url(&server), certificates.text("a/ca.pem"));
    everybody_has_what_is_acknowledged(server, &["--server", &url, "--tls-ca", &ca]);
}

/// A connection whose own end takes little at once.
fn narrow_socket(server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("an option of every kernel");
    socket.set_tcp_nodelay(true).expect("an option of every kernel");
    socket.connect(&server.data.into()).expect("the server listens");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket
}

/// The server's socket has taken everything, the consumer has read none of it: a word of the consumer that nobody reads
/// any more would end the connection, and what is on its way with it.
fn what_is_on_its_way_arrives(
    mut server: Server,
    mut producer: Speaker<impl Pipe>,
    mut consumer: Speaker<impl Pipe>,
) {
    const BATCHES: u64 = 6;
    consumer.subscribe("t", 0, "late");
    let channel = producer.open("t", 0, 1);
    producer.publish(&mut [channel], BATCHES);
    drop(producer);
    wait_for_metric(&server, "uringest_records_delivered_total", (BATCHES * RECORDS) as f64);
    wait_for_metric(&server, "uringest_open_connections", 1.0);
    server.signal("TERM");
    wait_for("the drain", || server.log().contains("\"draining\"").then_some(()));
    std::thread::park_timeout(Duration::from_millis(200)); // for the server's last words
    consumer.pipe.send(&FrameHeader { offset: ALL_CREDIT + 1, ..FrameHeader::new(Kind::Credit) }.alone());
    let mut heard = Heard::default();
    consumer.listen_to_the_end(&mut heard);
    assert_eq!(heard.records, BATCHES * RECORDS);
    drop(consumer);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

fn a_drain_waits_for_what_is_on_its_way(case: &Case) {
    let server = case.start(&["--shards", "1"]);
    create(&server, "t", &[]);
    let [producer, consumer] = [(), ()].map(|()| Speaker::greeted(narrow_socket(&server)));
    what_is_on_its_way_arrives(server, producer, consumer);
}

fn a_drain_waits_for_what_is_on_its_way_over_tls(case: &Case) {
    let certificates = Certificates::new(&["a"]);
    let (cert, key) = (certificates.text("a/server.pem"), certificates.text("a/server.key"));
    let server = case.start(&["--shards", "1", "--tls-cert", &cert, "--tls-key", &key]);
    create(&server, "t", &[]);
    let tls = client_tls(&certificates.text("a/ca.pem"));
    let [producer, consumer] =
        [(), ()].map(|()| Speaker::greeted(Tunnel::over(narrow_socket(&server), &tls, 16_384)));
    what_is_on_its_way_arrives(server, producer, consumer);
}

fn a_second_signal_does_not_wait_for_who_does_not_read(case: &Case) {
    let mut server = case.start(&["--shards", "2", "--drain-deadline-ms", "600000"]);
    let stuck = crate::raw::Peer::stuck_with_credit(server.data, "busy", "stuck", 1);
    let args = ["pub", "busy", "--count", "20000", "--server", &server.url()];
    let mut publisher = Program::start(&args);
    assert_eq!(publisher.wait(), Some(0), "{}", publisher.err());
    server.signal("TERM");
    wait_for("the drain", || server.log().contains("\"draining\"").then_some(()));
    let (status, body) = http(server.admin, "GET", "/readyz", "").expect("it still answers");
    assert!(status == 503 && body.contains("draining"), "{status} {body}");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(143), "{}", server.log());
    drop(stuck);
}
