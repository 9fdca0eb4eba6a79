//! Reading logs: from an offset, from a time, behind the others and back, and out of what retention takes.

use std::path::Path;
use std::time::Duration;

use uringest::client::{AckLevel, Start};

use crate::log_rig::{Got, Reader, Writer, check, read_all, read_from};
use crate::rig::{Case, Random, assert_at_most, create, metric, offsets, scenarios};
use crate::support::{Server, wait_for};

scenarios! {
    a_reader_begins_where_it_asks on best epoll;
    a_reader_that_lags_comes_back_to_the_tail on best epoll;
    retention_takes_whole_files_and_never_from_under_a_reader on best epoll;
}

/// The least memory that a log's partition may have: what is beyond it comes from the disk.
const RING: [&str; 2] = ["--topics-log-ring-bytes", "4MiB"];
const SEGMENTS: [&str; 2] = ["--storage-segment-bytes", "1MiB"];
const MOMENT: Duration = Duration::from_millis(100);

fn args(shards: &'static str) -> Vec<&'static str> {
    [&["--shards", shards][..], &RING, &SEGMENTS].concat()
}

/// Files of the one partition whose names end so.
fn files(directory: &Path, end: &str) -> Vec<std::path::PathBuf> {
    let log = directory.join("data").join("log");
    let partitions =
        std::fs::read_dir(&log).expect("the log's directory").map(|one| one.expect("an entry").path());
    let mut all = Vec::new();
    for partition in partitions.filter(|path| path.is_dir()) {
        let files = std::fs::read_dir(partition).expect("a partition's folder");
        all.extend(files.map(|file| file.expect("an entry").path()));
    }
    all.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end)));
    all
}

/// Readers at random places of a log beside all that it holds.
#[track_caller]
fn seek(server: &Server, all: &[Got], random: &mut Random) {
    let end = all.len() as u64;
    let first_since = |time: u64| {
        let batch = all.iter().find(|record| record.append_time_ns >= time);
        batch.map_or(end, |record| record.batch_offset)
    };
    let mut places = vec![(Start::Earliest, 0), (Start::Latest, end), (Start::Offset(end + 1_000), end)];
    places.push((Start::TimeNs(0), 0));
    places.push((Start::TimeNs(u64::MAX), end));
    for _ in 0..12 {
        let offset = random.below(all.len()) as u64;
        places.push((Start::Offset(offset), offset));
        let time = all[random.below(all.len())].append_time_ns;
        for time in [time - 1, time, time + 1] {
            places.push((Start::TimeNs(time), first_since(time)));
        }
    }
    for (start, wanted) in places {
        let mut reader = Reader::connect(server, "events", 0, start);
        let got = reader.until("a record or the end", |reader, got| {
            !got.is_empty() || reader.next.is_some_and(|next| next >= end)
        });
        assert!(reader.gaps.is_empty(), "{start:?}: {:?}", reader.gaps);
        match got.first() {
            Some(first) => assert_eq!(*first, all[usize::try_from(wanted).expect("few")], "{start:?}"),
            None => assert_eq!((wanted, reader.next), (end, Some(end)), "{start:?}"),
        }
    }
}

fn a_reader_begins_where_it_asks(case: &Case) {
    let (directory, mut random) = (tempfile::tempdir().expect("a directory"), case.random());
    let mut server = case.start_in(directory.path(), &args("2"));
    create(&server, "events", &["--kind", "log"]);
    let writers: Vec<Writer> =
        (1..=2).map(|id| Writer::connect(&server, "events", id, 0, Some(AckLevel::Written))).collect();
    while files(directory.path(), ".seg").len() < 8 {
        for writer in &writers {
            writer.send(1_000);
            writer.flush();
        }
    }
    let all = read_all(&server, "events", 0);
    check(&all, writers.iter().map(|writer| (writer, writer.acked())));
    seek(&server, &all, &mut random);
    // What makes it fast may be missing, or be wrong.
    for round in 0..3 {
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        for file in files(directory.path(), if round == 0 { ".nothing" } else { ".idx" }) {
            if round == 1 {
                std::fs::remove_file(&file).expect("it can be removed");
            } else {
                let mut bytes = std::fs::read(&file).expect("an index");
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
                std::fs::write(&file, bytes).expect("it can be written");
            }
        }
        if round == 1 {
            for file in
                files(directory.path(), "snapshot").into_iter().chain(files(directory.path(), "snapshot.1"))
            {
                std::fs::remove_file(file).expect("it can be removed");
            }
        }
        server = case.start_in(directory.path(), &args("2"));
        assert_eq!(read_all(&server, "events", 0), all, "round {round}");
        seek(&server, &all, &mut random);
    }
}

fn a_reader_that_lags_comes_back_to_the_tail(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let server = case.start_in(directory.path(), &args("2"));
    create(&server, "events", &["--kind", "log"]);
    let writer = Writer::connect(&server, "events", 1, 0, Some(AckLevel::Written));
    let mut tail = Reader::connect(&server, "events", 0, Start::Earliest);
    let mut lagging = Reader::with_credit(&server, "events", 0, Start::Earliest, 64 * 1024);
    let mut far = Reader::with_credit(&server, "events", 0, Start::Earliest, 64 * 1024);
    // Several times what is in memory; who lags holds nobody up.
    let (mut at_tail, mut behind) = (Vec::new(), lagging.poll(MOMENT));
    while files(directory.path(), ".seg").len() < 16 {
        writer.send(2_000);
        writer.flush();
        let sent = usize::try_from(writer.sent()).expect("few");
        at_tail.extend(tail.until("the tail", |_, got| at_tail.len() + got.len() >= sent));
    }
    assert_at_most("reads of the disk while everybody who reads is at the tail", reads(&server), 4.0);
    let lags = lagging.next.unwrap_or_default();
    assert!(lags < writer.sent() / 2, "it lags: {lags} of {}", writer.sent());
    // It catches up while more comes, beside the tail and one that never moves.
    std::thread::scope(|scope| {
        let more = scope.spawn(|| {
            for _ in 0..10 {
                writer.send(1_000);
                writer.flush();
            }
        });
        let total = usize::try_from(writer.sent()).expect("few") + 10_000;
        while behind.len() < total || at_tail.len() < total {
            behind.extend(lagging.poll(Duration::from_millis(5)));
            at_tail.extend(tail.poll(Duration::from_millis(1)));
        }
        more.join().expect("it only writes");
    });
    check(&at_tail, [(&writer, writer.acked())]);
    assert_eq!(behind, at_tail, "the same records, from the disk and from memory");
    assert!(reads(&server) > 4.0, "the disk was read");
    // Back at the tail it is served from memory again.
    let before = reads(&server);
    for _ in 0..20 {
        writer.send(100);
        writer.flush();
        let sent = usize::try_from(writer.sent()).expect("few");
        behind.extend(lagging.until("the tail", |_, got| behind.len() + got.len() >= sent));
    }
    assert_at_most("reads of the disk at the tail", reads(&server), before + 2.0);
    let rest = far.until("the rest", |_, got| got.len() >= behind.len());
    assert_eq!(rest, behind);
}

fn reads(server: &Server) -> f64 {
    metric(server, "uringest_log_reads_total")
}

fn retention_takes_whole_files_and_never_from_under_a_reader(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let server = case.start_in(directory.path(), &args("1"));
    let keep = ["--kind", "log", "--retention-bytes", "4MiB", "--segment-bytes", "1MiB"];
    create(&server, "events", &keep);
    let writer = Writer::connect(&server, "events", 1, 0, Some(AckLevel::Written));
    while files(directory.path(), ".seg").len() < 4 {
        writer.send(1_000);
        writer.flush();
    }
    // In the oldest file, in the middle of what it was given credit for.
    let mut old = Reader::with_credit(&server, "events", 0, Start::Earliest, 64 * 1024);
    let mut got = old.until("a record", |_, got| !got.is_empty());
    for _ in 0..80 {
        writer.send(2_000);
        writer.flush();
    }
    // Control deletes behind the load, and makes the next files ahead of it.
    let few = || offsets(&server, "events").0 > 0 && files(directory.path(), ".seg").len() <= 4 + 4;
    wait_for("retention to leave four files and what is made ahead", || few().then_some(()));
    // What it gets is what was written, and it is told of what is gone.
    let end = writer.sent();
    got.extend(old.until("the end", |reader, _| reader.next.is_some_and(|next| next >= end)));
    // One gap, or more of them where retention overtakes a slow reader again.
    assert!(old.gaps.first().is_some_and(|&(from, _)| from > 0), "it was far behind: {:?}", old.gaps);
    let gone = |offset: u64| old.gaps.iter().any(|&(from, records)| (from..from + records).contains(&offset));
    let numbers: Vec<u64> = got.iter().map(|record| record.number).collect();
    let wanted: Vec<u64> = (0..end).filter(|&offset| !gone(offset)).collect();
    assert!(numbers == wanted, "{} of {}, gaps {:?}", numbers.len(), wanted.len(), old.gaps);
    let (start, told) = offsets(&server, "events");
    assert_eq!(told, end);
    let kept = read_from(&server, "events", 0, Start::Offset(start));
    assert_eq!(kept.first().map(|record| record.offset), Some(start));
    assert_eq!(kept.len() as u64, end - start);
}
