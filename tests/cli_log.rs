//! `uringest log` as its users run it, on directories written here. No server is needed, but for its lock.

#[path = "support/log_folder.rs"]
mod log_folder;
#[path = "support/log_writer.rs"]
mod log_writer;
#[path = "support/others.rs"]
mod others;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use log_writer::{BLOCK, Batch, PARTITION, TIME_NS, Writer};
use serde_json::Value;
use uringest::commit_log::format::{LogFile, partition_folder};
use uringest::control::catalogue::{Catalogue, PartitionEntry, TopicEntry, encode};
use uringest::proto::header::AckLevel;
use uringest::topic::{LogSettings, Overflow, TopicKind};
use uringest::wire::batch::BatchBuilder;

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uringest"));
    let output =
        command.arg("log").args(args).env_clear().stdin(Stdio::null()).output().expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

fn json(args: &[&str]) -> Value {
    let (_, out, err) = run(&[args, &["-o", "json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
}

fn batch(sequence: u64, payloads: &[&[u8]]) -> Batch {
    let mut builder = BatchBuilder::new();
    for payload in payloads {
        builder.push(payload, Some(b"k"), 0, b"");
    }
    let frame = builder.finish(5, sequence, 0);
    let records = u32::try_from(payloads.len()).expect("few");
    Batch { producer_id: 5, sequence, records, body: frame[64..].to_vec() }
}

/// Twelve records `r0` to `r11` in two segments of three flushes, of two records each; durable as far as can be known.
fn log() -> Writer {
    let mut log = Writer::new();
    let mut next = 0;
    for segment in 1..=2 {
        log.begin(segment, 77 + segment, vec![0; 8 * BLOCK]);
        for _ in 0..3 {
            let payloads = [format!("r{next}"), format!("r{}", next + 1)];
            next += 2;
            assert!(log.flush(&[batch(next / 2, &[payloads[0].as_bytes(), payloads[1].as_bytes()])]));
            log.sync();
        }
    }
    log
}

/// A data directory with this log in it.
fn data(log: &Writer) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let partition = PartitionEntry {
        id: PARTITION.0,
        reserved_offset: 0,
        clean_end: None,
        committed: Default::default(),
    };
    let topic = TopicEntry {
        id: 1,
        name: "sensors".into(),
        kind: TopicKind::Log,
        overflow: Overflow::Block,
        ring_bytes: 1 << 20,
        log: Some(LogSettings {
            durability: AckLevel::Durable,
            retention_bytes: 1 << 30,
            retention_ms: 0,
            segment_bytes: 16 << 20,
        }),
        partitions: vec![PartitionEntry { id: 3, ..partition.clone() }, partition],
        paused: false,
        created_ns: 0,
    };
    let catalogue =
        Catalogue { topics: vec![topic], next_partition_id: 8, next_topic_id: 2, ..Catalogue::default() };
    std::fs::write(directory.path().join("catalogue.json"), encode(&catalogue)).expect("writable");
    let partition = directory.path().join("log").join(partition_folder(PARTITION));
    std::fs::create_dir_all(&partition).expect("writable");
    for segment in &log.segments {
        let name = LogFile::Segment(segment.header.sequence).name();
        std::fs::write(partition.join(name), &segment.file).expect("writable");
    }
    (directory, partition)
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn flip(partition: &Path, segment: u64, at: usize) {
    let path = partition.join(LogFile::Segment(segment).name());
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("writable");
}

fn payloads(dumped: &str) -> Vec<String> {
    let value = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    dumped.lines().filter_map(|line| value(line)["payload"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_sound_log_is_listed_verified_and_dumped() {
    let (directory, partition) = data(&log());
    let here = utf8(directory.path());
    let (code, out, err) = run(&["ls", here]);
    assert_eq!((code, err.as_str()), (0, ""));
    let line = out.lines().find(|line| line.starts_with("sensors/1 ")).unwrap_or_else(|| panic!("{out}"));
    assert!(line.contains(" p00000007 ") && line.contains(" 12 "), "{line}");
    let segments = json(&["ls", utf8(&partition)]);
    assert_eq!(segments["segments"][1]["first_offset"], 6, "{segments}");
    let (code, out, err) = run(&["verify", here]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("sensors/1: sound; 2 segments, offsets 0..12"), "{out}");
    let (_, dumped, _) = run(&["dump", here, "--payload", "-o", "json"]);
    assert_eq!(payloads(&dumped), (0..12).map(|number| format!("r{number}")).collect::<Vec<_>>());
    let (code, text, _) = run(&["dump", here, "--from", "7", "--count", "2", "--payload"]);
    assert_eq!(code, 0);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("7  20") && lines[0].ends_with("k  r7"), "{text}");
    let frames =
        run(&["dump", utf8(&partition), "--frames", "--from-time", &format!("@{}", TIME_NS / 1_000_000_000)])
            .1;
    assert_eq!(frames.lines().count(), 6, "{frames}");
    assert!(
        frames.lines().last().is_some_and(|line| line.starts_with("10  ") && line.contains("records 2")),
        "{frames}"
    );
}

#[test]
fn damage_is_found_said_and_copied_around() {
    let (directory, partition) = data(&log());
    let here = utf8(directory.path());
    // In the second flush of the first segment, in its frame.
    flip(&partition, 1, 2 * BLOCK + 64 + 100);
    let (code, out, err) = run(&["verify", here]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("sensors/1: DAMAGED"), "{out}");
    assert!(
        out.contains("00000000000000000001.seg: damaged from byte") && out.contains("offsets 2..4"),
        "{out}"
    );
    assert!(err.contains("1 of 1 logs are damaged") && err.contains("uringest log repair"), "{err}");
    let report = json(&["verify", here]);
    let damage = &report["partitions"][0]["damage"][0];
    assert_eq!(
        (&damage["finding"], &damage["from_offset"], &damage["to_offset"]),
        (&"quarantined".into(), &2.into(), &4.into())
    );
    assert_eq!(run(&["dump", here]).1.lines().filter(|line| line.starts_with("# offsets 2..4")).count(), 1);
    let copy = directory.path().join("copy");
    others::let_in();
    let (code, out, err) = run(&["repair", here, "--to", utf8(&copy)]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    others::kept_out(&copy);
    assert!(out.contains("sensors/1: 10 records in 2 segments, 2 records missing"), "{out}");
    let (code, out, err) = run(&["verify", utf8(&copy)]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("sensors/1: sound; 2 segments, offsets 0..12") && out.contains("note:"), "{out}");
    let (_, dumped, _) = run(&["dump", utf8(&copy), "--payload", "-o", "json"]);
    let left: Vec<String> =
        (0..12).filter(|number| !(2..4).contains(number)).map(|number| format!("r{number}")).collect();
    assert_eq!(payloads(&dumped), left);
    // What was read is as it was.
    assert_eq!(run(&["verify", here]).0, 1);
    let (code, _, err) = run(&["repair", here, "--to", utf8(&copy)]);
    assert!(code == 2 && err.contains("is not empty"), "{err}");
}

/// The last flush was torn and nothing says that it was durable: no damage. In a copy it is whole.
#[test]
fn a_torn_tail_is_no_damage() {
    let mut log = log();
    assert!(log.flush(&[batch(7, &[b"whole"]), batch(8, &[b"torn"])]));
    let (directory, partition) = data(&log);
    let torn = log.frames.last().expect("one").at.position - log.segments[1].header.base.position;
    flip(&partition, 2, BLOCK + usize::try_from(torn).expect("small") + 70);
    let here = utf8(directory.path());
    let (code, out, err) = run(&["verify", here]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("note: 00000000000000000002.seg: the log is cut at offset 13"), "{out}");
    let copy = directory.path().join("copy");
    assert_eq!(run(&["repair", utf8(&partition), "--to", utf8(&copy)]).0, 0);
    let report = json(&["verify", utf8(&copy)]);
    assert_eq!(
        (&report["sound"], &report["partitions"][0]["log_end_offset"]),
        (&true.into(), &13.into()),
        "{report}"
    );
    assert_eq!(report["partitions"][0]["notes"], serde_json::json!([]));
}

/// The same tail, and a snapshot that says it was durable.
#[test]
fn a_snapshot_tells_a_lost_tail_from_a_torn_one() {
    let log = log();
    let (directory, partition) = data(&log);
    let mut folder = log_folder::Folder::default();
    for segment in &log.segments {
        folder.segments.insert(segment.header.sequence, segment.file.clone());
    }
    let snapshot = folder.recover(PARTITION, false).expect("no error").log.snapshot();
    let bytes = uringest::commit_log::snapshot::encode(PARTITION, &snapshot);
    std::fs::write(partition.join("snapshot"), bytes).expect("writable");
    flip(&partition, 2, 3 * BLOCK + 100);
    let (code, out, _) = run(&["verify", utf8(directory.path())]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("offsets 10..12"), "{out}");
    let copy = directory.path().join("copy");
    let (code, out, err) = run(&["repair", utf8(directory.path()), "--to", utf8(&copy)]);
    assert!(code == 0 && out.contains("10 records in 2 segments, 2 records missing"), "{out}{err}");
}

#[test]
fn a_running_server_is_said_and_not_copied() {
    let (directory, _) = data(&log());
    let lock = std::fs::File::create(directory.path().join("lock")).expect("writable");
    lock.lock().expect("free");
    let here = utf8(directory.path());
    let (code, out, _) = run(&["verify", here]);
    assert!(code == 0 && out.contains("a server runs on this directory"), "{out}");
    assert_eq!(json(&["ls", here])["running"], true);
    let copy = directory.path().join("copy");
    let (code, _, err) = run(&["repair", here, "--to", utf8(&copy)]);
    assert!(code == 1 && err.contains("a server runs on") && !copy.exists(), "{err}");
}

#[test]
fn what_is_no_log_is_said() {
    let empty = tempfile::tempdir().expect("a directory");
    let (code, _, err) = run(&["ls", utf8(empty.path())]);
    assert!(code == 2 && err.contains("holds no log"), "{err}");
    let (code, _, err) = run(&["verify", "/nowhere/at/all"]);
    assert!(code == 1 && err.contains("/nowhere/at/all cannot be read"), "{err}");
    let (directory, partition) = data(&log());
    let (code, _, err) = run(&["ls", utf8(directory.path()), "--topic", "other"]);
    assert!(code == 2 && err.contains("no such log of topic other"), "{err}");
    let path = partition.join(LogFile::Segment(2).name());
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[8] = 9;
    let checksum = uringest::proto::checksum::crc32c(&bytes[..124]);
    bytes[124..128].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(path, bytes).expect("writable");
    let (code, _, err) = run(&["verify", utf8(directory.path())]);
    assert!(code == 1 && err.contains("has format 9") && err.contains("a later one"), "{err}");
}
