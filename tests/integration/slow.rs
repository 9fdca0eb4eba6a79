//! A consumer that subscribed and never reads: what it costs, and whom it holds up.

use serde_json::Value;

use crate::raw::Peer;
use crate::rig::{Case, Program, assert_each_once, create, describe, publish, scenarios, wait_for_metric};
use crate::support::{Server, run, wait_for};

scenarios! {
    a_drop_oldest_topic_does_not_wait on best epoll;
    a_live_topic_does_not_wait on best;
    a_live_topic_does_not_wait_with_one_shard on tier_1 epoll;
    a_block_topic_waits_alone on best epoll;
    a_live_block_topic_waits_alone on best epoll;
}

/// Bytes of a line here, so that a socket's buffers are full soon.
const LINE_BYTES: usize = 4096;
/// Lines of 1 MiB.
const ROUND: u64 = 256;

fn long_lines(range: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    range.flat_map(|number| format!("{number:.<width$}\n", width = LINE_BYTES - 1).into_bytes()).collect()
}

/// What the server says of the topic's consumer of this name.
fn consumer(server: &Server, topic: &str, name: &str) -> Value {
    let topic = describe(server, topic);
    let consumers = topic["partitions"][0]["consumers"].as_array().expect("a list");
    consumers.iter().find(|consumer| consumer["name"] == name).unwrap_or_else(|| panic!("{topic}")).clone()
}

fn wait_for_cause(server: &Server, topic: &str, cause: &str) -> Value {
    wait_for(&format!("the cause {cause}"), || {
        let stuck = consumer(server, topic, "stuck");
        (stuck["cause"] == cause).then_some(stuck)
    })
}

/// Publishes 1 MiB after the other, each when the reader has the one before: nobody but the stuck one lags.
fn publish_rounds(server: &Server, topic: &str, reader: &Program, rounds: u64) {
    for round in 0..rounds {
        let input = long_lines(round * ROUND + 1..=(round + 1) * ROUND);
        let output = run(&["pub", topic, "--server", &server.url()], &input);
        assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        reader.wait_lines(usize::try_from((round + 1) * ROUND).expect("few"));
    }
}

/// A topic that never waits: the reader beside the stuck one gets all, and the stuck one is named.
fn nobody_waits(case: &Case, shards: &str, topic_args: &[&str]) {
    const ROUNDS: u64 = 24;
    let server = case.start(&["--shards", shards]);
    create(&server, "busy", topic_args);
    let stuck = Peer::stuck(server.data, "busy", "stuck");
    let mut reader = Program::attached(&server, "busy", &["--name", "reader"]);
    publish_rounds(&server, "busy", &reader, ROUNDS);
    publish(&server, "other", 1..=1_000, &[]);
    let named = wait_for_cause(&server, "busy", "socket");
    assert!(named["lag_records"].as_u64().expect("a number") > ROUND, "{named}");
    assert_each_once(&reader.stop(), 1..=ROUNDS * ROUND);
    assert_eq!(reader.err(), "", "the reader missed nothing");
    let partition = describe(&server, "busy")["partitions"][0].clone();
    assert!(partition["dropped_records"].as_u64().expect("a number") > 0, "{partition}");
    drop(stuck);
    wait_for_metric(&server, "uringest_open_connections", 0.0);
    wait_for_metric(&server, "uringest_receive_memory_in_use_bytes", 0.0);
}

fn a_drop_oldest_topic_does_not_wait(case: &Case) {
    nobody_waits(case, "2", &["--overflow", "drop_oldest", "--retention-bytes", "8MiB"]);
}

fn a_live_topic_does_not_wait(case: &Case) {
    nobody_waits(case, "2", &["--kind", "live", "--overflow", "drop_oldest"]);
}

fn a_live_topic_does_not_wait_with_one_shard(case: &Case) {
    nobody_waits(case, "1", &["--kind", "live", "--overflow", "drop_oldest"]);
}

/// A topic that waits: its producers do, its other consumers have all that was taken, and other topics go on.
fn only_its_own_producers_wait(case: &Case, kind: &str) {
    const LINES: u64 = 24 * ROUND;
    let server = case.start(&["--shards", "2"]);
    let ring: &[&str] = if kind == "memory" { &["--retention-bytes", "2MiB"] } else { &[] };
    create(&server, "waits", &[&["--kind", kind, "--overflow", "block"], ring].concat());
    let stuck = Peer::stuck(server.data, "waits", "stuck");
    let mut reader = Program::attached(&server, "waits", &["--name", "reader"]);
    let mut publisher = Program::fed(&["pub", "waits", "--server", &server.url()], long_lines(1..=LINES));
    wait_for_cause(&server, "waits", "socket");
    // Full: what was taken stays, while another topic takes and delivers.
    let end = || describe(&server, "waits")["partitions"][0]["log_end_offset"].as_u64().expect("a number");
    let mut last = end();
    wait_for("the producer to be held", || {
        let mut other = Program::attached(&server, "other", &["--count", "20000"]);
        publish(&server, "other", 1..=20_000, &[]);
        assert_each_once(&other.numbers(), 1..=20_000);
        let before = std::mem::replace(&mut last, end());
        (before == last).then_some(())
    });
    assert!(last < LINES && !publisher.has_ended(), "{last} were taken");
    reader.wait_lines(usize::try_from(last).expect("few"));
    let named = consumer(&server, "waits", "stuck");
    assert!(named["cause"] == "socket" && named["lag_records"].as_u64() > Some(ROUND), "{named}");
    drop(stuck);
    assert_eq!(publisher.wait(), Some(0), "{}", publisher.err());
    reader.wait_lines(usize::try_from(LINES).expect("few"));
    assert_each_once(&reader.stop(), 1..=LINES);
}

fn a_block_topic_waits_alone(case: &Case) {
    only_its_own_producers_wait(case, "memory");
}

fn a_live_block_topic_waits_alone(case: &Case) {
    only_its_own_producers_wait(case, "live");
}
