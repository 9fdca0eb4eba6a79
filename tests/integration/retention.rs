//! What a topic kept: where `sub --from` starts, what it says is gone, and names that outlive subscribers and servers.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::rig::{
    Case, Program, assert_each_once, create, describe, ended, lines, numbers, offsets, publish, scenarios,
};
use crate::support::{Server, wait_for};

scenarios! {
    what_is_gone_is_said_and_what_is_kept_arrives on best epoll;
    a_time_starts_at_the_first_batch_since on best;
    a_name_goes_on_where_it_was on best epoll;
    offsets_and_names_outlive_the_server on best epoll;
    a_subscriber_and_a_publisher_outlive_the_server on best epoll;
}

/// `sub TOPIC` with these arguments, run to its good end: the numbers, and standard error.
#[track_caller]
fn sub(server: &Server, topic: &str, args: &[&str]) -> (Vec<u64>, String) {
    let (code, stdout, stderr) = ended(&[&["sub", topic, "--server", &server.url()], args].concat());
    assert_eq!(code, Some(0), "sub {topic} {args:?}: {stderr}");
    (numbers(stdout.as_bytes()), stderr)
}

fn what_is_gone_is_said_and_what_is_kept_arrives(case: &Case) {
    const LINES: u64 = 400_000;
    let server = case.start(&["--shards", "2"]);
    create(&server, "small", &["--retention-bytes", "1MiB"]);
    publish(&server, "small", 1..=LINES, &[]);
    let (start, end) = offsets(&server, "small");
    assert_eq!(end, LINES);
    assert!(start > 100_000, "most of it does not fit: {start}");
    let count = (end - start).to_string();
    let (got, stderr) = sub(&server, "small", &["--from", "earliest", "--count", &count]);
    assert_each_once(&got, start + 1..=LINES);
    let gap = |from: u64| {
        let records = start - from;
        format!("uringest: gap: {records} records from offset {from} of partition 0 are gone (retention)\n")
    };
    assert_eq!(stderr, gap(0));
    // An offset that is gone, and one that is kept and in the middle of a batch.
    let (got, stderr) = sub(&server, "small", &["--from", "5", "--count", "10"]);
    assert_each_once(&got, start + 1..=start + 10);
    assert_eq!(stderr, gap(5));
    let inside = start + 1_003;
    let (got, stderr) = sub(&server, "small", &["--from", &inside.to_string(), "--count", "10"]);
    assert_each_once(&got, inside + 1..=inside + 10);
    assert_eq!(stderr, "");
    // Beyond the end it waits for what comes.
    let mut waiting = Program::attached(&server, "small", &["--from", "99999999", "--count", "3"]);
    publish(&server, "small", LINES + 1..=LINES + 3, &[]);
    assert_each_once(&waiting.numbers(), LINES + 1..=LINES + 3);
}

fn a_time_starts_at_the_first_batch_since(case: &Case) {
    let server = case.start(&["--shards", "2"]);
    publish(&server, "timed", 1..=5_000, &[]);
    let args = ["sub", "timed", "--from", "earliest", "-o", "json", "--server", &server.url()];
    let time_of = |count: &str| {
        let (code, stdout, stderr) = ended(&[&args[..], &["--count", count]].concat());
        assert_eq!(code, Some(0), "{stderr}");
        let last = stdout.lines().last().expect("a record").to_owned();
        serde_json::from_str::<Value>(&last).expect("JSON")["time"].as_str().expect("a time").to_owned()
    };
    let before = time_of("5000");
    let parsed = uringest::time::parse_time(&before, 0).expect("a time");
    wait_for("the clock to go on", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        (now.as_nanos() > u128::from(parsed) + 2_000_000).then_some(())
    });
    publish(&server, "timed", 5_001..=6_000, &[]);
    let after = time_of("5001");
    assert!(after > before, "{after} is behind {before}");
    let (got, stderr) = sub(&server, "timed", &["--from", &after, "--count", "1000"]);
    assert_each_once(&got, 5_001..=6_000);
    assert_eq!(stderr, "", "a time in the middle misses nothing");
    let (got, _) = sub(&server, "timed", &["--from", "-10m", "--count", "6000"]);
    assert_each_once(&got, 1..=6_000);
}

fn a_name_goes_on_where_it_was(case: &Case) {
    let server = case.start(&["--shards", "2"]);
    publish(&server, "named", 1..=10_000, &[]);
    let named = ["--name", "billing", "--from", "earliest"];
    let run = |count: &str| sub(&server, "named", &[&named[..], &["--count", count]].concat()).0;
    assert_each_once(&run("3333"), 1..=3_333);
    assert_eq!(describe(&server, "named")["partitions"][0]["committed"]["billing"], 3_333);
    assert_each_once(&run("1"), 3_334..=3_334);
    // Ended by SIGTERM: what it wrote is committed.
    let mut stopped = Program::attached(&server, "named", &named);
    stopped.wait_lines(6_666);
    assert_each_once(&stopped.stop(), 3_335..=10_000);
    publish(&server, "named", 10_001..=20_000, &[]);
    // Killed: nothing it did not write is committed, and what it wrote may come again.
    let mut killed = Program::attached(&server, "named", &named);
    killed.wait_lines(1);
    killed.signal("KILL");
    assert_eq!(killed.wait(), None);
    let out = killed.out();
    let whole = out.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let written = numbers(&out[..whole]);
    let last = *written.last().expect("one at least");
    assert_each_once(&written, 10_001..=last);
    wait_for("the subscription's end", || {
        describe(&server, "named")["partitions"][0]["consumers"]
            .as_array()
            .expect("a list")
            .is_empty()
            .then_some(())
    });
    let committed = describe(&server, "named")["partitions"][0]["committed"]["billing"].as_u64().expect("it");
    assert!((10_000..=last).contains(&committed), "committed {committed}, written {last}");
    let rest = 20_000 - committed;
    assert_each_once(&run(&rest.to_string()), committed + 1..=20_000);
}

fn offsets_and_names_outlive_the_server(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = case.start_in(directory.path(), &["--shards", "2"]);
    publish(&server, "lines", 1..=1_000, &[]);
    for (name, count) in [("done", "1000"), ("slow", "600")] {
        sub(&server, "lines", &["--name", name, "--from", "earliest", "--count", count]);
    }
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let server = case.start_in(directory.path(), &["--shards", "2"]);
    assert_eq!(offsets(&server, "lines"), (1_000, 1_000));
    publish(&server, "lines", 1_001..=1_010, &[]);
    let (got, stderr) = sub(&server, "lines", &["--name", "done", "--from", "earliest", "--count", "10"]);
    assert_each_once(&got, 1_001..=1_010);
    assert_eq!(stderr, "");
    let (got, stderr) = sub(&server, "lines", &["--name", "slow", "--from", "earliest", "--count", "10"]);
    assert_each_once(&got, 1_001..=1_010);
    assert_eq!(stderr, "uringest: gap: 400 records from offset 600 of partition 0 are gone (restart)\n");
}

fn a_subscriber_and_a_publisher_outlive_the_server(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = case.start_in(directory.path(), &["--shards", "2"]);
    let (data, admin) = (server.data, server.admin);
    let mut sub = Program::attached(&server, "lines", &["--count", "30000"]);
    let mut publisher = Program::start(&["pub", "lines", "--server", &server.url()]);
    publisher.write(&lines(1..=10_000));
    sub.wait_lines(10_000);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    publisher.write(&lines(10_001..=20_000));
    let _server = case.start_at(directory.path(), data, admin, &["--shards", "2"]);
    publisher.write(&lines(20_001..=30_000));
    publisher.end_of_input();
    assert_eq!(publisher.wait(), Some(0), "{}", publisher.err());
    // What was acknowledged before the stop was delivered before it; what was not is published by the new server. A
    // subscriber that comes back after the publisher is told what it missed, or gets it: the topic keeps it.
    assert_each_once(&sub.numbers(), 1..=30_000);
}
