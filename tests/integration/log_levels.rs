//! Topics of kind `log`: what is published at each level is served, and is there after a restart of the server.

use uringest::client::{AckLevel, Start};

use crate::log_rig::{Reader, Writer, check, read_all};
use crate::rig::{
    Case, assert_each_once, create, describe, ended, lines, metric, numbers, offsets, publish, scenarios,
};
use crate::support::{Server, run};

scenarios! {
    every_level_is_acknowledged_and_served on best tier_1 epoll;
    all_is_there_after_a_clean_restart on best epoll;
    all_that_was_written_is_there_after_a_kill on best epoll;
    the_command_line_says_what_was_reached on best;
    less_than_the_topics_durability_is_refused on best;
    committed_names_and_describe_outlive_a_kill on best;
}

const LEVELS: [Option<AckLevel>; 4] =
    [None, Some(AckLevel::Received), Some(AckLevel::Written), Some(AckLevel::Durable)];

/// A writer at each level, one after the other in turns, all acknowledged.
fn written(server: &Server, topic: &str, partition: u32) -> Vec<Writer> {
    let writers: Vec<Writer> =
        (1..).zip(LEVELS).map(|(id, level)| Writer::connect(server, topic, id, partition, level)).collect();
    for _ in 0..5 {
        for writer in &writers {
            writer.send(300);
        }
    }
    for writer in &writers {
        writer.flush();
        let reached = writer.told.lock().expect("not poisoned").level;
        assert_eq!(reached, Some(writer.level.unwrap_or(AckLevel::Durable)), "{:?}", writer.level);
    }
    writers
}

fn acked(writers: &[Writer]) -> Vec<(&Writer, u64)> {
    writers.iter().map(|writer| (writer, writer.acked())).collect()
}

fn every_level_is_acknowledged_and_served(case: &Case) {
    let server = case.start(&["--shards", "2"]);
    create(&server, "events", &["--kind", "log", "--partitions", "2"]);
    let mut tails: Vec<Reader> =
        (0..2).map(|partition| Reader::connect(&server, "events", partition, Start::Earliest)).collect();
    for (partition, tail) in (0..).zip(&mut tails) {
        let writers = written(&server, "events", partition);
        let sent: u64 = writers.iter().map(Writer::sent).sum();
        let count = usize::try_from(sent).expect("few");
        let got = tail.until("the tail", |_, got| got.len() >= count);
        check(&got, acked(&writers));
        assert_eq!(read_all(&server, "events", partition), got, "from memory or from the disk");
    }
    assert!(metric(&server, "uringest_log_written_bytes_total") > 1e5);
    assert!(metric(&server, "uringest_log_syncs_total") >= 1.0, "somebody asked for durable");
    assert_eq!(describe(&server, "events")["kind"], "log");
}

/// Publishes, ends the server by a signal, and reads it all from a new one; then goes on, and again.
fn restarted(case: &Case, signal: &str, level: Option<AckLevel>) {
    let directory = tempfile::tempdir().expect("a directory");
    let args = ["--shards", "2", "--storage-segment-bytes", "1MiB"];
    let mut server = case.start_in(directory.path(), &args);
    create(&server, "events", &["--kind", "log", "--partitions", "2"]);
    let mut before: Vec<Vec<_>> = vec![Vec::new(); 2];
    for round in 0..3_u64 {
        let mut all = Vec::new();
        for partition in 0..2_u32 {
            for id in 0..2 {
                let writer = Writer::connect(&server, "events", 10 * round + id + 1, partition, level);
                writer.send(3_000);
                all.push(writer);
            }
        }
        all.iter().for_each(Writer::flush);
        server.signal(signal);
        let status = server.wait();
        assert_eq!(status.code(), (signal == "TERM").then_some(0), "{}", server.log());
        server = case.start_in(directory.path(), &args);
        for (partition, before) in (0_u32..).zip(&mut before) {
            let got = read_all(&server, "events", partition);
            assert_eq!(got[..before.len()], before[..], "what was there before is there again, as it was");
            check(&got, all.iter().filter(|one| one.partition == partition).map(|one| (one, one.acked())));
            *before = got;
        }
    }
    let segments = segments(directory.path());
    assert!(segments > 2 * 3, "each start begins a file of its own: {segments}");
}

fn segments(directory: &std::path::Path) -> usize {
    let log = directory.join("data").join("log");
    let partitions = std::fs::read_dir(&log).expect("the log's directory");
    let files =
        partitions.flat_map(|one| std::fs::read_dir(one.expect("an entry").path()).into_iter().flatten());
    files
        .filter(|file| {
            file.as_ref().is_ok_and(|file| file.path().extension().is_some_and(|end| end == "seg"))
        })
        .count()
}

fn all_is_there_after_a_clean_restart(case: &Case) {
    restarted(case, "TERM", Some(AckLevel::Received));
}

fn all_that_was_written_is_there_after_a_kill(case: &Case) {
    restarted(case, "KILL", Some(AckLevel::Written));
}

fn the_command_line_says_what_was_reached(case: &Case) {
    let server = case.start(&["--shards", "1"]);
    create(&server, "events", &["--kind", "log"]);
    let mut last = 0;
    for (flags, said) in [
        (&[][..], "durable"),
        (&["--ack", "received"], "received"),
        (&["--ack", "written"], "written"),
        (&["--ack", "durable"], "durable"),
    ] {
        let output = run(
            &[&["pub", "events", "--server", &server.url()], flags].concat(),
            &lines(last + 1..=last + 1_000),
        );
        last += 1_000;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((output.status.code(), &*err), (Some(0), ""));
        assert!(out.contains(&format!("acknowledged as {said} by topic events")), "{out}");
    }
    let output = run(
        &["pub", "events", "--server", &server.url(), "--ack", "written", "-o", "json"],
        &lines(last + 1..=last + 10),
    );
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&summary["ack_level"], &summary["records"]), (&"written".into(), &10.into()));
    let count = (last + 10).to_string();
    let (code, out, err) =
        ended(&["sub", "events", "--from", "earliest", "--count", &count, "--server", &server.url()]);
    assert_eq!((code, &*err), (Some(0), ""));
    assert_each_once(&numbers(out.as_bytes()), 1..=last + 10);
    // Another kind cannot.
    create(&server, "memory", &[]);
    let output = run(&["pub", "memory", "--ack", "written", "--server", &server.url()], &lines(1..=1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(4) && err.contains("impossible_ack_level"), "{err}");
}

fn less_than_the_topics_durability_is_refused(case: &Case) {
    let server = case.start(&["--shards", "1"]);
    create(&server, "safe", &["--kind", "log", "--durability", "written"]);
    for (level, code) in [("received", 4), ("written", 0), ("durable", 0)] {
        let output = run(&["pub", "safe", "--ack", level, "--server", &server.url()], &lines(1..=5));
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{level}: {err}");
        assert_eq!(err.contains("durability is `written`"), code == 4, "{err}");
    }
    assert_eq!(offsets(&server, "safe").1, 10);
}

fn committed_names_and_describe_outlive_a_kill(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = case.start_in(directory.path(), &["--shards", "1"]);
    create(&server, "events", &["--kind", "log"]);
    publish(&server, "events", 1..=1_000, &[]);
    let named = |server: &Server, count: &str| {
        let args = ["sub", "events", "--name", "billing", "--from", "earliest", "--count", count];
        let (code, out, err) = ended(&[&args[..], &["--server", &server.url()]].concat());
        assert_eq!(code, Some(0), "{err}");
        numbers(out.as_bytes())
    };
    assert_each_once(&named(&server, "600"), 1..=600);
    crate::support::wait_for("the commit to be stored", || {
        (describe(&server, "events")["partitions"][0]["committed"]["billing"] == 600).then_some(())
    });
    std::thread::park_timeout(std::time::Duration::from_millis(1_500)); // the catalogue is saved every second
    server.signal("KILL");
    server.wait();
    let server = case.start_in(directory.path(), &["--shards", "1"]);
    assert_eq!(offsets(&server, "events"), (0, 1_000));
    assert_each_once(&named(&server, "400"), 601..=1_000);
    publish(&server, "events", 1_001..=1_010, &[]);
    assert_each_once(&named(&server, "10"), 1_001..=1_010);
}
