//! The segment, index, snapshot and fence of `tests/golden/log/format-1`: written once, and read for ever.
//!
//! `URINGEST_BLESS=1 cargo test --test commit_log golden` writes them anew: never again, once this format has been
//! released. A later format gets a folder beside it.

use std::path::{Path, PathBuf};

use uringest::commit_log::format::LogFile;
use uringest::commit_log::recovery::Finding;
use uringest::commit_log::snapshot::{decode_fence, encode, encode_fence};
use uringest::commit_log::{IndexEntry, LogPoint, index};
use uringest::proto::header::{FrameHeader, body_checksum_matches};
use uringest::wire::batch::{BatchBuilder, BatchLimits, verify};

use crate::log_folder::Folder;
use crate::log_writer::{BLOCK, Batch, PARTITION, TIME_NS, Writer};

const LIMITS: BatchLimits = BatchLimits { record_bytes_max: 65_536, records_max: 16_384 };
const SEGMENT: LogFile = LogFile::Segment(12);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log/format-1")
}

fn batch(producer_id: u64, sequence: u64, payloads: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new();
    for payload in payloads {
        builder.push(payload.as_bytes(), Some(b"key"), TIME_NS, b"");
    }
    let frame = builder.finish(producer_id, sequence, 0);
    Batch {
        producer_id,
        sequence,
        records: u32::try_from(payloads.len()).expect("few"),
        body: frame[64..].to_vec(),
    }
}

/// Segment 12 of a log: two flushes, the first of them written twice, the second longer than a block, and behind them
/// what the file held before: a flush of another nonce, and half of one.
fn made() -> (Writer, Folder) {
    let mut older = Writer::at(LogPoint { position: 0, offset: 0 }, 0);
    older.begin(2, 0x0022_2222_2222_2222, vec![0; 8 * BLOCK]);
    for sequence in 1..=7 {
        assert!(older.flush(&[batch(9, sequence, &["stale"])]));
    }
    let before = older.segment().file.clone();
    let mut log = Writer::at(LogPoint { position: 40 * BLOCK as u64, offset: 1_000 }, 0x0bad_cafe);
    log.begin(12, 0x0123_4567_89ab_cdef, before);
    assert!(log.flush(&[batch(0xa, 5, &["one", "two"])]));
    assert!(log.grow(&[batch(0xb, 1, &["three"])]));
    log.sync();
    assert!(log.flush(&[batch(0xa, 6, &["four", &"long ".repeat(1_000)])]));
    let file = &mut log.segments[0].file;
    file.truncate(6 * BLOCK + 96);
    let mut disk = Folder::default();
    disk.segments.insert(12, file.clone());
    let recovery = disk.recover(PARTITION, false).expect("no error");
    disk.small.insert(LogFile::Index(12), index::encode(PARTITION, &recovery.log.segments[0]));
    disk.small.insert(LogFile::Snapshot(0), encode(PARTITION, &recovery.log.snapshot()));
    disk.small.insert(LogFile::Fence, encode_fence(PARTITION, log.frames[1].end));
    (log, disk)
}

fn kept() -> Folder {
    let read = |file: LogFile| {
        let path = folder().join(file.name());
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let mut disk = Folder::default();
    disk.segments.insert(12, read(SEGMENT));
    for file in [LogFile::Index(12), LogFile::Snapshot(0), LogFile::Fence] {
        disk.small.insert(file, read(file));
    }
    disk
}

#[test]
fn what_is_written_is_what_was_written_then() {
    let (_, disk) = made();
    if std::env::var_os("URINGEST_BLESS").is_some() {
        std::fs::create_dir_all(folder()).expect("writable");
        std::fs::write(folder().join(SEGMENT.name()), &disk.segments[&12]).expect("writable");
        for (file, bytes) in &disk.small {
            std::fs::write(folder().join(file.name()), bytes).expect("writable");
        }
    }
    let kept = kept();
    assert!(kept.segments == disk.segments, "the segment's bytes differ");
    assert_eq!(kept.small, disk.small);
}

#[test]
fn what_was_written_then_is_read() {
    let mut disk = kept();
    let fence = disk.small.remove(&LogFile::Fence).expect("it is there");
    let at = LogPoint { position: 164_296, offset: 1_003 };
    assert_eq!(decode_fence(PARTITION, &fence), Ok(at));
    for use_snapshots in [false, true] {
        let recovery = disk.recover(PARTITION, use_snapshots).expect("no error");
        assert_eq!(recovery.findings, Vec::<Finding>::new());
        let log = &recovery.log;
        assert_eq!(log.end, LogPoint { position: 176_128, offset: 1_005 });
        assert_eq!((log.next_sequence, log.last_append_ns), (13, TIME_NS + 3_000));
        let info = &log.segments[0];
        assert_eq!((info.sequence, info.nonce), (12, 0x0123_4567_89ab_cdef));
        assert_eq!(info.base, LogPoint { position: 163_840, offset: 1_000 });
        let first = IndexEntry { at: info.base, append_time_ns: TIME_NS + 1_000 };
        let second =
            IndexEntry { at: LogPoint { position: 167_936, offset: 1_003 }, append_time_ns: TIME_NS + 3_000 };
        assert_eq!(info.index, [first, second]);
        let producers: Vec<_> =
            log.producers.iter().map(|one| (one.producer_id, one.next_sequence)).collect();
        assert_eq!(producers, [(0xb, 2), (0xa, 7)]);
        let mut payloads = Vec::new();
        for served in disk.served(PARTITION, &recovery) {
            let header =
                FrameHeader::parse(served.bytes.first_chunk().expect("a frame"), u32::MAX).expect("whole");
            assert!(body_checksum_matches(&served.bytes));
            let batch = verify(&served.bytes[64..], header.record_count, &LIMITS).expect("a batch");
            payloads
                .extend(batch.records().map(|record| String::from_utf8_lossy(record.payload).into_owned()));
        }
        assert_eq!(payloads, ["one", "two", "three", "four", &"long ".repeat(1_000)]);
    }
}
