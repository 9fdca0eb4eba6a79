//! Topics of kind `log`: their files, as the shards ask for them.

#[path = "../../../tests/support/log_writer.rs"]
mod log_writer;

use super::*;
use crate::commit_log::format::LogFile;
use crate::commit_log::{BLOCK_BYTES, LogPoint, SegmentInfo, Snapshot, index, snapshot};
use crate::io::FileHandle;
use crate::limits::{LOG_RING_BYTES_MIN, LOG_SEGMENT_BYTES_MIN};
use crate::shard::messages::{LogReport, SegmentFile, SegmentRefused};

const SEGMENT: u64 = 1 << 20;
const _: () = assert!(SEGMENT == LOG_SEGMENT_BYTES_MIN);

fn logs() -> Config {
    let mut config = small();
    config.topics.log_ring_bytes = LOG_RING_BYTES_MIN;
    config.storage.segment_bytes = SEGMENT;
    config.storage.retention_bytes = 2 * SEGMENT;
    config
}

impl Rig {
    fn log(&self, shard: usize, report: LogReport) {
        self.poke(shard, Poke::Report(Report::Log(report)));
    }

    /// The next command about a log, whatever else the shard is told.
    fn log_seen(&self, shard: usize) -> LogCommand {
        loop {
            if let Seen::Log(command) = self.seen(shard) {
                return command;
            }
        }
    }

    fn segment(&self, shard: usize, sequence: u64) -> Result<SegmentFile, SegmentRefused> {
        match self.log_seen(shard) {
            LogCommand::Segment { sequence: of, result, .. } if of == sequence => result,
            other => panic!("{other:?}"),
        }
    }
}

/// The only partition of the first topic, on shard 1.
const FIRST: PartitionId = PartitionId(1);

fn folder(directory: &Path, partition: u32) -> std::path::PathBuf {
    directory.join("log").join(format!("p{partition:08}"))
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).map(|all| all.map(|one| one.expect("an entry").file_name()));
    let mut names: Vec<_> =
        entries.into_iter().flatten().map(|name| name.into_string().expect("ASCII")).collect();
    names.sort();
    names
}

fn segments(folder: &Path) -> Vec<String> {
    files(folder).into_iter().filter(|name| name.ends_with(".seg")).collect()
}

fn info(sequence: u64) -> Box<SegmentInfo> {
    let base = LogPoint { position: sequence * (SEGMENT - BLOCK_BYTES), offset: sequence };
    let end = LogPoint { position: base.position + SEGMENT - BLOCK_BYTES, offset: sequence + 1 };
    let (index, quarantined) = (Vec::new(), Vec::new());
    let times = (1, 1);
    Box::new(SegmentInfo {
        sequence,
        nonce: 1,
        base,
        end,
        first_time_ns: times.0,
        last_time_ns: times.1,
        index,
        quarantined,
    })
}

/// A snapshot of the end of a segment.
fn covering(info: &SegmentInfo) -> Box<Snapshot> {
    let (index, producers) = (Vec::new(), Vec::new());
    let (sequence, at) = (info.sequence, info.end);
    Box::new(Snapshot { sequence, at, chain: 0, last_append_ns: 1, first_time_ns: 1, index, producers })
}

#[test]
fn segments_are_made_opened_recycled_and_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), logs(), 0);
    let (status, made) =
        rig.call("POST", "/v1/topics", r#"{"name":"kept","kind":"log","durability":"written"}"#);
    assert_eq!(status, 201, "{made}");
    assert_eq!((&made["durability"], &made["retention_bytes"]), (&json!("written"), &json!(2 * SEGMENT)));
    assert_eq!((&made["segment_bytes"], &made["retention_ms"]), (&json!(SEGMENT), &json!(0)));
    let folder = folder(directory.path(), 1);
    let first = rig.segment(1, 1).expect("the first is there with the topic");
    assert_eq!(first.bytes, SEGMENT);
    let mut nonces = vec![first.nonce];
    let partition = FIRST;
    for sequence in 2..=5 {
        rig.log(1, LogReport::WantSegment { partition, sequence });
        nonces.push(rig.segment(1, sequence).expect("there is room").nonce);
    }
    nonces.dedup();
    assert_eq!(nonces.len(), 5, "no nonce comes twice");
    assert_eq!(files(&folder).len(), 5);
    let length = |name: &str| std::fs::metadata(folder.join(name)).expect("a file").len();
    assert!(files(&folder).iter().all(|name| length(name) == SEGMENT));
    let (_, described) = rig.call("GET", "/v1/topics/kept", "");
    assert_eq!(described["partitions"][0]["disk_bytes"], json!(5 * SEGMENT));
    assert_eq!(rig.call("GET", "/v1/server", "").1["log"]["files_bytes"], json!(5 * SEGMENT));
    rig.log(1, LogReport::WantOpen { partition, sequence: 1 });
    let LogCommand::Opened { sequence: 1, result: Ok(file), .. } = rig.log_seen(1) else { panic!("opened") };
    assert!(matches!(file, FileHandle::Fd { .. }));
    rig.log(1, LogReport::Close { file });
    rig.log(1, LogReport::WantOpen { partition, sequence: 77 });
    assert!(matches!(rig.log_seen(1), LogCommand::Opened { sequence: 77, result: Err(_), .. }));
    // Two are kept: with the third closed the first goes.
    for sequence in 1..4 {
        rig.log(1, LogReport::Sealed { partition, info: info(sequence) });
    }
    assert!(matches!(rig.log_seen(1), LogCommand::Snapshot { .. }), "what none covers does not go");
    rig.log(1, LogReport::Snapshot { partition, snapshot: covering(&info(3)) });
    let next = rig.log_seen(1);
    assert!(matches!(next, LogCommand::Retire { below: 2, .. }), "{next:?}");
    assert_eq!(segments(&folder).len(), 5, "nothing goes while the shard reads it");
    std::fs::write(folder.join(format!("{:020}.seg", 1)), vec![7; 1 << 20]).expect("written");
    rig.log(1, LogReport::Retired { partition, below: 2 });
    let free = format!("{:020}.seg.free", 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !files(&folder).contains(&free) {
        assert!(Instant::now() < deadline, "{:?}", files(&folder));
        std::thread::yield_now();
    }
    rig.log(1, LogReport::WantSegment { partition, sequence: 6 });
    rig.segment(1, 6).expect("the file of the first");
    let recycled = std::fs::read(folder.join(format!("{:020}.seg", 6))).expect("read");
    assert!(recycled[..4096] == [0; 4096] && recycled[4096..].iter().all(|byte| *byte == 7));
    assert_eq!(segments(&folder).len(), 5);
    assert_eq!(rig.call("DELETE", "/v1/topics/kept", "").0, 200);
    assert_eq!(files(&directory.path().join("log")), ["format", "lock"]);
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn the_index_of_a_segment_that_goes_meanwhile_goes_with_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), logs(), 0);
    assert_eq!(rig.call("POST", "/v1/topics", r#"{"name":"kept","kind":"log"}"#).0, 201);
    rig.segment(1, 1).expect("the first is there with the topic");
    let partition = FIRST;
    for sequence in 2..=9 {
        rig.log(1, LogReport::WantSegment { partition, sequence });
        rig.segment(1, sequence).expect("there is room");
    }
    for sequence in 1..=8 {
        rig.log(1, LogReport::Sealed { partition, info: info(sequence) });
        rig.log(1, LogReport::Retired { partition, below: sequence + 1 });
    }
    assert_eq!(rig.stop(), exit::CLEAN);
    let left = files(&folder(directory.path(), 1));
    assert!(!left.iter().any(|name| name.contains(".idx")), "{left:?}");
}

#[test]
fn what_has_no_room_is_refused_and_goes_on_when_there_is_some() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = logs();
    config.storage.budget_bytes = Some(3 * SEGMENT);
    let rig = Rig::start(directory.path(), config, 0);
    let wanted = |name: &str, partitions: u32| {
        let body = format!(r#"{{"name":"{name}","kind":"log","partitions":{partitions}}}"#);
        rig.call("POST", "/v1/topics", &body)
    };
    let (status, error) = wanted("wide", 4);
    assert_eq!((status, &error["error"]["code"]), (507, &json!("disk_full")), "{error}");
    assert_eq!(files(&directory.path().join("log")), ["format", "lock"], "nothing is left");
    assert_eq!(rig.call("GET", "/v1/topics", "").1, json!({ "topics": [] }));
    // Ids are used once: the four are gone.
    assert_eq!((wanted("a", 1).0, wanted("b", 1).0), (201, 201));
    let (a, b) = (PartitionId(5), PartitionId(6));
    let (shard_a, shard_b) = (5 % usize::from(SHARDS), 6 % usize::from(SHARDS));
    rig.segment(shard_a, 1).expect("the first of a");
    rig.segment(shard_b, 1).expect("the first of b");
    rig.log(shard_a, LogReport::WantSegment { partition: a, sequence: 2 });
    rig.segment(shard_a, 2).expect("the third file");
    rig.log(shard_b, LogReport::WantSegment { partition: b, sequence: 2 });
    let refused = rig.segment(shard_b, 2).expect_err("there is no room");
    assert!(
        matches!(&refused, SegmentRefused::NoSpace(why) if why.contains("storage.budget_bytes")),
        "{refused:?}"
    );
    let full = |ready: &Value| {
        ready["degraded"].as_array().is_some_and(|all| all.iter().any(|one| one["key"] == "log_disk_full"))
    };
    rig.until("/readyz", |_, ready| full(ready));
    assert_eq!(rig.call("DELETE", "/v1/topics/a", "").0, 200);
    rig.segment(shard_b, 2).expect("room was made");
    rig.until("/readyz", |_, ready| !full(ready));
    assert_eq!(rig.stop(), exit::CLEAN);
}

#[test]
fn what_the_shards_say_is_on_disk_when_the_server_has_ended() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), logs(), 0);
    assert_eq!(rig.call("POST", "/v1/topics", r#"{"name":"kept","kind":"log"}"#).0, 201);
    let partition = FIRST;
    let at = |block: u64| LogPoint { position: block * BLOCK_BYTES, offset: block };
    rig.log(1, LogReport::Sealed { partition, info: info(1) });
    let snapshots: Vec<_> = (0..20)
        .map(|number| Snapshot {
            sequence: 1,
            at: at(number),
            chain: 7,
            last_append_ns: 1,
            first_time_ns: 1,
            index: Vec::new(),
            producers: Vec::new(),
        })
        .collect();
    for snapshot in &snapshots {
        rig.log(1, LogReport::Snapshot { partition, snapshot: Box::new(snapshot.clone()) });
    }
    rig.log(1, LogReport::Fenced { partition, durable: at(9), reason: "a sync failed: EIO".into() });
    rig.until("/readyz", |_, ready| {
        let degraded = ready["degraded"].as_array().into_iter().flatten();
        degraded
            .into_iter()
            .any(|one| one["key"] == "partition_fenced" && one["detail"].to_string().contains("EIO"))
    });
    no_backup_of_what_is_fenced(&rig);
    assert_eq!(rig.stop(), exit::CLEAN);
    let folder = folder(directory.path(), 1);
    let read = |name: &str| std::fs::read(folder.join(name)).expect(name);
    assert_eq!(index::decode(partition, &read(&format!("{:020}.idx", 1))), Ok(*info(1)));
    assert_eq!(snapshot::decode(partition, &read("snapshot")).as_ref(), Ok(&snapshots[19]), "the newest");
    let before = snapshot::decode(partition, &read("snapshot.1")).expect("the one before");
    assert!(snapshots[..19].contains(&before));
    assert_eq!(snapshot::decode_fence(partition, &read("fence")), Ok(at(9)));
}

/// Shard 1 closes nothing more of its partition: a backup would lack what lies behind the closed segments.
fn no_backup_of_what_is_fenced(rig: &Rig) {
    let admin = rig.admin;
    let asked = std::thread::spawn(move || ask(admin, "POST", "/v1/backup", "", ""));
    let (partition, ticket) = loop {
        if let LogCommand::Roll { partition, ticket } = rig.log_seen(1) {
            break (partition, ticket);
        }
    };
    rig.log(1, LogReport::Rolled { partition, ticket, next: 2, end: None });
    let (status, answer) = asked.join().expect("an answer");
    assert!(status == 503 && answer.contains("partition_fenced"), "{status} {answer}");
    assert_eq!(rig.call("POST", "/v1/backup/any", "").0, 404, "nobody has a lease");
}

#[test]
fn a_directory_of_another_is_refused_and_what_is_foreign_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config { data: directory.path().to_owned(), shards: SHARDS, ..logs() };
    let mut catalogue = catalogue::Catalogue::default();
    let opened = open_storage(&config, &mut catalogue, None).expect("a new one");
    let log = directory.path().join("log");
    assert!(matches!(open_storage(&config, &mut catalogue, None), Err(LogError::Locked(_))));
    drop(opened);
    for (text, newer) in [("uringest log 2\n", true), ("something else", false)] {
        std::fs::write(log.join("format"), text).expect("written");
        let error = open_storage(&config, &mut catalogue, None).err().expect("refused");
        assert_eq!(matches!(error, LogError::Newer { found: 2, .. }), newer, "{error}");
        assert_eq!(matches!(error, LogError::NotALog(_)), !newer, "{error}");
    }
    std::fs::write(log.join("format"), "uringest log 1\n").expect("written");
    std::fs::write(log.join("notes.txt"), "mine").expect("written");
    // Of a later life of this server, and of one before.
    std::fs::create_dir(log.join("p00000009")).expect("made");
    std::fs::create_dir(log.join("p00000001")).expect("made");
    catalogue.next_partition_id = 5;
    drop(open_storage(&config, &mut catalogue, None).expect("opened"));
    assert_eq!(files(&log), ["format", "lock", "notes.txt", "p00000009"]);
    assert_eq!(catalogue.next_partition_id, 10, "nobody gets the folder that nobody knows");
}

#[test]
fn a_log_that_is_missing_is_not_made_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(directory.path(), logs(), 0);
    assert_eq!(rig.call("POST", "/v1/topics", r#"{"name":"kept","kind":"log"}"#).0, 201);
    rig.poke(1, Poke::Report(Report::LogEnds { shard: ShardId(1), ends: vec![(FIRST, 3)] }));
    assert_eq!(rig.stop(), exit::CLEAN);
    std::fs::remove_dir_all(folder(directory.path(), 1)).expect("removed");
    let config = Config { data: directory.path().to_owned(), shards: SHARDS, ..logs() };
    let mut catalogue = DataDir::open(directory.path()).expect("a directory").load().expect("a catalogue");
    let error = open_storage(&config, &mut catalogue, None).err().expect("refused");
    assert!(matches!(&error, LogError::Missing { topic, .. } if topic == "kept"), "{error}");
}

/// The partition that `log_writer` writes, on shard 1.
const WRITTEN: PartitionId = log_writer::PARTITION;

/// A server's directory with one topic of kind `log`, whose partition has this log.
fn with_log(directory: &Path, log: &log_writer::Writer) -> std::path::PathBuf {
    let rig = Rig::start(directory, logs(), 0);
    assert_eq!(rig.call("POST", "/v1/topics", r#"{"name":"six","partitions":6}"#).0, 201);
    assert_eq!(rig.call("POST", "/v1/topics", r#"{"name":"kept","kind":"log"}"#).0, 201);
    assert_eq!(rig.stop(), exit::CLEAN);
    let folder = folder(directory, WRITTEN.0);
    for segment in &log.segments {
        let name = LogFile::Segment(segment.header.sequence).name();
        std::fs::write(folder.join(name), &segment.file).expect("written");
    }
    folder
}

fn written() -> log_writer::Writer {
    let mut log = log_writer::Writer::new();
    let body = |byte: u8| vec![byte; 3000];
    let batch = |sequence: u64| log_writer::Batch { producer_id: 9, sequence, records: 2, body: body(1) };
    for sequence in 1..=2 {
        log.begin(sequence, 0xabcd + sequence, vec![0; 1 << 20]);
        for number in 0..3 {
            assert!(log.flush(&[batch((sequence - 1) * 3 + number)]));
            log.sync();
        }
    }
    log
}

fn ends(rig: &Rig) -> (u64, u64) {
    let (status, topic) = rig.call("GET", "/v1/topics/kept", "");
    assert_eq!(status, 200, "{topic}");
    let offset = |field: &str| topic["partitions"][0][field].as_u64().expect("an offset");
    (offset("log_start_offset"), offset("log_end_offset"))
}

#[test]
fn a_start_goes_on_where_the_log_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut log = written();
    // The last flush was being written.
    let (at, last) = (log.flushes[5].header.position, log.segments.last_mut().expect("two"));
    let file_at = usize::try_from(last.header.file_at(at)).expect("small");
    last.file[file_at + 500..file_at + 2000].fill(0);
    let folder = with_log(directory.path(), &log);
    for start in 0..3 {
        let rig = Rig::start(directory.path(), logs(), 0);
        assert_eq!(rig.ready, Ok(()));
        assert_eq!(ends(&rig).1, 10, "five batches of two records are whole");
        let next = match rig.log_seen(1) {
            LogCommand::Segment { sequence, result: Ok(file), .. } if file.bytes == SEGMENT => sequence,
            other => panic!("{other:?}"),
        };
        assert_eq!(next, 3 + start, "a number is used once");
        assert_eq!(rig.stop(), exit::CLEAN);
        assert_eq!(segments(&folder).len(), 3, "a file that was not begun is used again");
        let read = |file: LogFile| std::fs::read(folder.join(file.name())).expect("read");
        let kept = snapshot::decode(WRITTEN, &read(LogFile::Snapshot(0))).expect("a snapshot");
        assert_eq!((kept.at.offset, kept.producers[0].next_sequence), (10, 5));
        assert_eq!(index::decode(WRITTEN, &read(LogFile::Index(2))).expect("an index").end.offset, 10);
    }
}

#[test]
fn a_start_cuts_at_the_fence_and_takes_it_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = written();
    let folder = with_log(directory.path(), &log);
    let fence = folder.join(LogFile::Fence.name());
    let durable = LogPoint { position: log.flushes[4].header.position, offset: 8 };
    std::fs::write(&fence, snapshot::encode_fence(WRITTEN, durable)).expect("written");
    for _ in 0..2 {
        let rig = Rig::start(directory.path(), logs(), 0);
        assert_eq!(ends(&rig).1, 8);
        assert!(!fence.exists());
        assert_eq!(rig.stop(), exit::CLEAN);
    }
}

#[test]
fn a_log_that_cannot_be_read_ends_the_start_and_stays_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = with_log(directory.path(), &written());
    std::fs::write(folder.join("fence"), "no fence").expect("written");
    let before = files(&folder);
    let config = Config { data: directory.path().to_owned(), shards: SHARDS, ..logs() };
    let mut catalogue = DataDir::open(directory.path()).expect("a directory").load().expect("a catalogue");
    let error = open_storage(&config, &mut catalogue, None).err().expect("refused");
    assert!(matches!(&error, LogError::Recovery { path, .. } if *path == folder), "{error}");
    assert_eq!(files(&folder), before);
}
