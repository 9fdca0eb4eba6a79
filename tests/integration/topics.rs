//! Topics that are deleted, made again, paused and resumed while records flow.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::rig::{
    Case, Program, assert_each_once, create, describe, ended, lines, metric, numbers, offsets, publish,
    scenarios, wait_for_metric,
};
use crate::support::{Server, run, wait_for};

scenarios! {
    a_topic_is_deleted_and_made_again_under_load on best epoll;
    a_live_topic_is_deleted_and_made_again_under_load on tier_1 epoll;
    a_paused_topic_keeps_its_producers_waiting_and_loses_nothing on best epoll;
    a_pause_outlives_the_server on best;
}

#[track_caller]
fn topic_command(server: &Server, verb: &str, topic: &str) {
    let (code, _, stderr) = ended(&["topic", verb, topic, "--admin", &server.admin.to_string()]);
    assert_eq!(code, Some(0), "topic {verb} {topic}: {stderr}");
}

fn retention_in_use(server: &Server) -> u64 {
    let status: Value = serde_json::from_str(&server.page("/v1/server")).expect("JSON");
    status["retention"]["used_bytes"].as_u64().expect("a number")
}

/// Tells the loads to stop, also when the test fails.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Publishes to a topic until told to stop, whatever becomes of it; every `pub` that ends well has published all.
fn load(server: &Server, topic: &str, stop: &AtomicBool) -> usize {
    let mut good = 0;
    while !stop.load(Ordering::SeqCst) {
        let output = run(&["pub", topic, "--server", &server.url(), "--retry-for", "5"], &lines(1..=5_000));
        let stderr = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => good += 1,
            // It was deleted under the publisher, or is not there yet; the publisher is told so.
            Some(4) => {
                let reasons = ["no_such_topic_now", "topic_deleted", "unknown_topic"];
                assert!(reasons.iter().any(|reason| stderr.contains(reason)), "{stderr}");
            }
            other => panic!("{other:?}: {stderr}"),
        }
    }
    good
}

fn deleted_and_made_again(case: &Case, server_args: &[&str], kind: &str) {
    const TIMES: usize = 8;
    let server = case.start(server_args);
    create(&server, "steady", &[]);
    let used = retention_in_use(&server);
    let mut steady = Program::attached(&server, "steady", &["--count", "200000"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..2).map(|_| scope.spawn(|| load(&server, "fleeting", &stop))).collect();
        let others = scope.spawn(|| publish(&server, "steady", 1..=200_000, &["--batch-bytes", "1KiB"]));
        let stopped = StopAtTheEnd(&stop);
        let mut ids = Vec::new();
        for _ in 0..TIMES {
            create(&server, "fleeting", &["--partitions", "3", "--kind", kind]);
            let mut sub = Program::attached(&server, "fleeting", &["--retry-for", "1"]);
            // With two of 5,000 lines each at a time, some have published all.
            sub.wait_lines(10_001);
            ids.push(
                describe(&server, "fleeting")["partitions"][0]["partition_id"].as_u64().expect("a number"),
            );
            topic_command(&server, "delete", "fleeting");
            // The subscriber ends because it is told so; numbers of each run are in order as far as they came.
            wait_for("the subscriber to hear of it", || sub.has_ended().then_some(()));
            assert!(sub.wait() == Some(4) && sub.err().contains("topic_deleted"), "{}", sub.err());
            numbers(&sub.out());
        }
        drop(stopped);
        others.join().expect("it published all");
        let good: usize = loads.into_iter().map(|load| load.join().expect("it ended as it may")).sum();
        assert!(good > 0, "some publishers were not in the way of a deletion");
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all, "a partition made again is another one: {ids:?}");
    });
    assert_each_once(&steady.numbers(), 1..=200_000);
    wait_for("the memory to be given back", || (retention_in_use(&server) == used).then_some(()));
    wait_for_metric(&server, "uringest_receive_memory_in_use_bytes", 0.0);
    wait_for_metric(&server, "uringest_open_connections", 0.0);
    // The name is as good as new.
    create(&server, "fleeting", &[]);
    publish(&server, "fleeting", 1..=10, &[]);
    assert_eq!(offsets(&server, "fleeting"), (0, 10));
}

fn a_topic_is_deleted_and_made_again_under_load(case: &Case) {
    deleted_and_made_again(case, &["--shards", "2", "--topics-auto-create=false"], "memory");
}

fn a_live_topic_is_deleted_and_made_again_under_load(case: &Case) {
    deleted_and_made_again(case, &["--shards", "3", "--topics-auto-create=false"], "live");
}

fn a_paused_topic_keeps_its_producers_waiting_and_loses_nothing(case: &Case) {
    const LINES: u64 = 200_000;
    let server = case.start(&["--shards", "2"]);
    create(&server, "breaks", &[]);
    publish(&server, "breaks", 1..=1_000, &[]);
    let mut sub = Program::attached(&server, "breaks", &["--from", "earliest"]);
    let mut publisher =
        Program::start(&["pub", "breaks", "--batch-bytes", "1KiB", "--server", &server.url()]);
    let step = LINES / 4;
    for round in 0..4 {
        let first = 1_000 + round * step;
        publisher.write(&lines(first + 1..=first + step / 2));
        topic_command(&server, "pause", "breaks");
        let (_, end) = offsets(&server, "breaks");
        publisher.write(&lines(first + step / 2 + 1..=first + step));
        // Refused while it is paused, while what it has is delivered and another topic goes on.
        let refused = || metric(&server, "uringest_batches_refused_total");
        let before = refused();
        wait_for("a refused batch", || (refused() > before).then_some(()));
        sub.wait_lines(usize::try_from(end).expect("few"));
        publish(&server, "other", 1..=100, &[]);
        assert_eq!(offsets(&server, "breaks").1, end, "nothing is taken while it is paused");
        assert_eq!(describe(&server, "breaks")["paused"], true);
        topic_command(&server, "resume", "breaks");
    }
    publisher.end_of_input();
    assert_eq!(publisher.wait(), Some(0), "{}", publisher.err());
    // A short pause is not worth a word; on a slow machine one may last.
    assert!(publisher.err().lines().all(|line| line.contains("topic_paused")), "{}", publisher.err());
    sub.wait_lines(usize::try_from(LINES + 1_000).expect("few"));
    assert_each_once(&sub.stop(), 1..=LINES + 1_000);
}

fn a_pause_outlives_the_server(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = case.start_in(directory.path(), &["--shards", "2"]);
    create(&server, "breaks", &[]);
    topic_command(&server, "pause", "breaks");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let server = case.start_in(directory.path(), &["--shards", "2"]);
    assert_eq!(describe(&server, "breaks")["paused"], true);
    let args = ["pub", "breaks", "--server", &server.url(), "--retry-for", "0.3"];
    let output = run(&args, &lines(1..=10));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && stderr.contains("topic_paused"), "{stderr}");
    // One that lasts is told, once; then the lines go in.
    let mut patient = Program::fed(&args[..4], lines(1..=10));
    wait_for("a word about the pause", || patient.err().contains("topic_paused").then_some(()));
    topic_command(&server, "resume", "breaks");
    assert_eq!(patient.wait(), Some(0), "{}", patient.err());
    assert_eq!(patient.err().lines().count(), 1, "{}", patient.err());
    assert_eq!(offsets(&server, "breaks").1, 10);
}
