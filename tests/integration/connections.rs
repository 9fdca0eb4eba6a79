//! A thousand connections that behave badly and go away: nothing of them stays.

use std::io::Write as _;
use std::time::Duration;

use uringest::proto::control::{Open, Start, Subscribe};

use crate::raw::{Peer, hello, publish_frame};
use crate::rig::{
    Case, Program, Random, assert_at_most, assert_each_once, create, metric, publish, resident_kib,
    scenarios, wait_for_metric,
};
use crate::support::Server;

scenarios! {
    a_thousand_bad_connections_leave_nothing on best tier_1 epoll;
}

const CONNECTIONS: usize = 1_000;
/// What they may leave in resident memory: no 8 KiB each.
const RESIDENT_KIB: u64 = 6 * 1024;
/// Open at the same time.
const AT_ONCE: usize = 50;

fn open(topic: &str) -> Vec<u8> {
    let open = Open { topic: topic.into(), producer_id: 7, ack_every_batches: 1, ..Open::default() };
    open.frame(1)
}

fn subscribe(topic: &str) -> Vec<u8> {
    let credit = 1 << 20;
    Subscribe { topic: topic.into(), start: Start::Earliest, credit, ..Subscribe::default() }.frame(2)
}

/// What one of them sends.
fn misbehaviour(random: &mut Random) -> Vec<u8> {
    let cut = |random: &mut Random, mut bytes: Vec<u8>| {
        bytes.truncate(random.below(bytes.len()));
        bytes
    };
    let junk =
        |random: &mut Random| (0..random.below(5_000)).map(|_| random.next().to_le_bytes()[0]).collect();
    let sizes = [8, 4_000, 20_000, 100_000];
    let session = |topic: &str| [hello(), open(topic), subscribe(topic)].concat();
    match random.below(8) {
        0 => Vec::new(),
        1 => junk(random),
        2 => cut(random, hello()),
        3 => cut(random, session("gone")),
        4 => [session("gone"), junk(random)].concat(),
        // A batch that never becomes whole, on a channel that was opened.
        5 | 6 => {
            let frame = publish_frame(0, sizes[random.below(sizes.len())]);
            [session("gone"), cut(random, frame)].concat()
        }
        // A whole frame with one bit turned.
        _ => {
            let mut bytes = [session("gone"), publish_frame(0, sizes[random.below(3)])].concat();
            let at = random.below(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            bytes
        }
    }
}

fn misbehave(server: &Server, random: &mut Random, count: usize) {
    let mut open = std::collections::VecDeque::new();
    for _ in 0..count {
        let mut peer = Peer::connect(server.data);
        // The server may have refused it before all was written.
        let _ = peer.0.write_all(&misbehaviour(random));
        if random.below(4) == 0 {
            socket2::SockRef::from(&peer.0).set_linger(Some(Duration::ZERO)).expect("a socket"); // ends by a reset
        }
        open.push_back(peer);
        if open.len() > AT_ONCE {
            open.pop_front();
        }
    }
}

fn a_thousand_bad_connections_leave_nothing(case: &Case) {
    let mut random = case.random();
    let server = case.start(&["--shards", "2"]);
    create(&server, "gone", &["--retention-bytes", "1MiB", "--overflow", "drop_oldest"]);
    publish(&server, "gone", 1..=10_000, &[]);
    // What is touched at the first use is touched: whole huge pages, where the host gives them unasked.
    misbehave(&server, &mut random, 2 * CONNECTIONS);
    wait_for_metric(&server, "uringest_open_connections", 0.0);
    let before = resident_kib(&server);
    misbehave(&server, &mut random, CONNECTIONS);
    wait_for_metric(&server, "uringest_open_connections", 0.0);
    wait_for_metric(&server, "uringest_open_channels", 0.0);
    wait_for_metric(&server, "uringest_open_subscriptions", 0.0);
    wait_for_metric(&server, "uringest_receive_memory_in_use_bytes", 0.0);
    let opened = metric(&server, "uringest_connections_opened_total");
    assert!(opened >= 3_000.0, "they reached the server: {opened}");
    assert_at_most("KiB of resident memory more", resident_kib(&server).saturating_sub(before), RESIDENT_KIB);
    let mut sub = Program::attached(&server, "lines", &["--count", "10000"]);
    publish(&server, "lines", 1..=10_000, &[]);
    assert_each_once(&sub.numbers(), 1..=10_000);
}
