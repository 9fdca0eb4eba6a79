//! Recovery: whatever a power cut, a broken disk or a stranger leaves in the files.

use proptest::prelude::*;
use uringest::commit_log::format::{LogFile, SegmentFault};
use uringest::commit_log::recovery::{Dropped, Finding, Recovery, RecoveryError};
use uringest::commit_log::snapshot::{encode, encode_fence};
use uringest::commit_log::{BLOCK_BYTES, LogPoint, RecoveredLog, block_up};
use uringest::ids::PartitionId;
use uringest::proto::checksum::crc32c;

use crate::log_folder::{Folder, Served, producers_of};
use crate::log_writer::{BLOCK, Batch, PARTITION, Writer, Written};
use crate::stories::{Act, SEGMENT_BLOCKS, Teller, acts, nonce, zeros};

/// Where the logs of these stories begin: what was recycled has lower offsets and positions.
const START: LogPoint = LogPoint { position: 1 << 30, offset: 1_000_000 };

/// What a file held that is used again: flushes and frames of this partition, whole, of an older segment.
fn garbage(sequence: u64, bytes: usize) -> Vec<u8> {
    let at = LogPoint { position: sequence << 20, offset: sequence << 10 };
    let mut older = Writer::at(at, 5);
    older.begin(sequence, nonce(sequence) ^ 0xff, vec![0; bytes]);
    let body = |length: u64| {
        vec![u8::try_from(sequence % 251).expect("small"); usize::try_from(length).expect("small")]
    };
    for flush in 0..64 {
        let batch = |number| Batch {
            producer_id: 1,
            sequence: flush * 4 + number,
            records: 1,
            body: body((flush * 131 + number * 577 + sequence * 97) % 2_000),
        };
        let batches: Vec<Batch> = (0..(flush + sequence) % 4).map(batch).collect();
        older.flush(&batches);
        older.sync();
    }
    older.segment().file.clone()
}

fn told(acts: &[Act], garbage: fn(u64, usize) -> Vec<u8>) -> Writer {
    let mut teller = Teller::new(Writer::at(START, 9), 1, garbage);
    teller.tell(acts);
    teller.log
}

fn folder(files: Vec<(u64, Vec<u8>)>) -> Folder {
    Folder { segments: files.into_iter().collect(), ..Folder::default() }
}

fn whole(log: &Writer) -> Folder {
    folder(log.segments.iter().map(|segment| (segment.header.sequence, segment.file.clone())).collect())
}

fn served_all(frames: &[Written]) -> Vec<Served> {
    frames.iter().map(|frame| Served { offset: frame.at.offset, bytes: frame.bytes.clone() }).collect()
}

/// Recovers, twice and with buffers of different sizes, and checks what has to hold for any files.
fn recover(folder: &Folder, use_snapshots: bool) -> (Recovery, Vec<Served>) {
    let recovery = folder.recover(PARTITION, use_snapshots).expect("no error");
    let mut again = folder.recover_within(PARTITION, use_snapshots, 1 << 20).expect("no error");
    again.bytes_read = recovery.bytes_read;
    assert_eq!(recovery, again, "it depends on the buffer");
    let served = folder.served(PARTITION, &recovery);
    assert!(served.is_sorted_by(|a, b| a.offset < b.offset));
    if recovery.from_snapshot.is_none() {
        let mut producers = recovery.log.producers.clone();
        producers.sort_by_key(|producer| producer.producer_id);
        assert_eq!(producers, producers_of(&served));
    }
    (recovery, served)
}

/// Splitmix64.
fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn lost(recovery: &Recovery) -> bool {
    recovery.findings.iter().any(Finding::is_loss)
        || recovery
            .log
            .segments
            .iter()
            .any(|info| info.quarantined.iter().any(|range| range.from.offset < range.to.offset))
}

fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = asked.unwrap_or(300);
    ProptestConfig {
        cases,
        max_global_rejects: 16 * cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_written_whole_comes_back(acts in acts(0..40), dirty: bool) {
        let log = told(&acts, if dirty { garbage } else { zeros });
        let (recovery, served) = recover(&whole(&log), true);
        prop_assert_eq!(&served, &served_all(&log.frames));
        prop_assert_eq!(recovery.log.end, LogPoint { position: block_up(log.end.position), ..log.end });
        prop_assert_eq!(recovery.log.last_append_ns, log.frames.last().map_or(0, |frame| frame.append_time_ns));
        prop_assert_eq!(recovery.log.next_sequence, log.segment().header.sequence + 1);
        if let Some(last) = log.flushes.last() {
            prop_assert_eq!(recovery.log.chain, crc32c(&last.header.encode()[..60]));
        }
        for finding in &recovery.findings {
            prop_assert!(matches!(finding, Finding::Dropped { why: Dropped::Empty, .. }), "{}", finding);
        }
        for info in &recovery.log.segments {
            let frames: Vec<&Written> = log.frames.iter().filter(|frame| info.sequence == frame.segment as u64 + 1).collect();
            prop_assert_eq!(info.first_time_ns, frames.first().map_or(0, |frame| frame.append_time_ns));
            prop_assert_eq!(info.last_time_ns, frames.last().map_or(0, |frame| frame.append_time_ns));
            for entry in &info.index {
                let first = frames.iter().find(|frame| frame.at.offset == entry.at.offset);
                prop_assert_eq!(first.map(|frame| frame.append_time_ns), Some(entry.append_time_ns));
            }
        }
    }

    /// A sync has failed unseen: what was not synced is in memory alone, and no later sync writes it. What recovery says
    /// has to be written again is all that it takes to have everything that it read on the disk.
    #[test]
    fn what_is_written_again_is_all_that_the_disk_may_lack(acts in acts(0..40), dirty: bool) {
        let log = told(&acts, if dirty { garbage } else { zeros });
        let read = whole(&log);
        let (recovery, served) = recover(&read, true);
        let mut disk = read.clone();
        disk.segments.extend(log.cut(|| false));
        for info in &recovery.log.segments {
            let Some(bytes) = recovery.unsynced_bytes(info) else { continue };
            let bytes = usize::try_from(bytes.start).expect("small")..usize::try_from(bytes.end).expect("small");
            let file = disk.segments.get_mut(&info.sequence).expect("it is there");
            file[bytes.clone()].copy_from_slice(&read.segments[&info.sequence][bytes]);
        }
        prop_assert_eq!(recover(&disk, true).1, served);
        let known = log.flushes.iter().map(|flush| flush.header.durable_offset).max().unwrap_or_default();
        for flush in log.flushes.iter().filter(|flush| flush.header.records > 0 && flush.end.offset <= known) {
            let from = recovery.unsynced_from.map_or(u64::MAX, |from| from.position);
            prop_assert!(flush.header.position < from, "what is known to be durable is not touched");
        }
    }

    /// Power is cut, the server starts, goes on, and power is cut again. What was synced is there, nothing is there that
    /// was not written, nothing twice and nothing out of order; and nothing looks like damage.
    #[test]
    fn power_cuts_lose_nothing_that_was_synced(
        stories in proptest::collection::vec(acts(0..15), 1..4), seed: u64, odds in 0..=16_u64,
        snapshots: bool, tidy: bool,
    ) {
        let mut random = seed;
        let mut kept: Vec<Served> = Vec::new();
        let mut disk = Folder::default();
        let mut start = (START, 9, 1);
        let begun = RecoveredLog { end: START, chain: 9, next_sequence: 1, ..RecoveredLog::default() };
        disk.small.insert(LogFile::Snapshot(0), encode(PARTITION, &begun.snapshot()));
        for acts in &stories {
            let mut teller = Teller::new(Writer::at(start.0, start.1), start.2, garbage);
            teller.log.time_ns += kept.len() as u64 * 1_000;
            teller.tell(acts);
            let log = &teller.log;
            disk.segments.extend(log.cut(|| next(&mut random) % 16 < odds));
            let (recovery, served) = recover(&disk, snapshots);
            prop_assert!(!lost(&recovery), "{:#?}", recovery);
            let mut written = kept.clone();
            written.extend(served_all(&log.frames));
            prop_assert!(written.starts_with(&served));
            let durable = kept.len() + log.frames.iter().filter(|frame| frame.end.offset <= log.durable_offset).count();
            prop_assert!(served.len() >= durable, "{} of {} durable", served.len(), durable);
            if tidy {
                disk.settle(PARTITION, &recovery);
                let (mut again, served_again) = recover(&disk, snapshots);
                prop_assert_eq!(&served_again, &served);
                if snapshots {
                    let told = |finding: &Finding| finding.name() == "header_rebuilt";
                    prop_assert!(again.findings.iter().all(told), "{:#?}", again);
                    again.log.next_sequence = recovery.log.next_sequence;
                    prop_assert_eq!(&again.log, &recovery.log);
                }
            }
            if served.is_empty() && !snapshots {
                break; // nobody knows where it began
            }
            start = (recovery.log.end, recovery.log.chain, recovery.log.next_sequence);
            kept = served;
        }
    }

    /// Bits flip, sectors are overwritten: everything that is served was written; what is whole and durable, by the
    /// word of anything behind it that is whole, is served; the damage is told.
    #[test]
    fn damage_costs_what_it_hit(
        acts in acts(2..40), hits in proptest::collection::vec((any::<prop::sample::Index>(), 0..4_u8), 1..4),
    ) {
        let log = told(&acts, garbage);
        let mut disk = whole(&log);
        let bytes = log.segments.len() * (SEGMENT_BLOCKS - 1) * BLOCK;
        let mut damaged: Vec<(usize, std::ops::Range<usize>)> = Vec::new();
        for (at, how) in hits {
            let at = at.index(bytes);
            let (segment, at) = (at / ((SEGMENT_BLOCKS - 1) * BLOCK), BLOCK + at % ((SEGMENT_BLOCKS - 1) * BLOCK));
            let file = disk.segments.get_mut(&(segment as u64 + 1)).expect("it is there");
            let sector = at - at % 512..(at - at % 512 + 512 * usize::from(how)).min(file.len());
            match how {
                0 => file[at] ^= 0x10,
                1 => file[sector.clone()].fill(0),
                _ => file[sector.clone()].fill(0x5a),
            }
            damaged.push((segment, if how == 0 { at..at + 1 } else { sector }));
        }
        let (recovery, served) = recover(&disk, true);
        let written = served_all(&log.frames);
        for frame in &served {
            prop_assert!(written.contains(frame), "served and never written");
        }
        let hit = |segment: usize, from: u64, to: u64| {
            let header = log.segments[segment].header;
            let index = |position| usize::try_from(header.file_at(position)).expect("small");
            damaged.iter().any(|(of, range)| *of == segment && range.start < index(to) && index(from) < range.end)
        };
        let word_for = |offset: u64| {
            let flushes = log.flushes.iter().any(|flush| {
                let at = flush.header.position;
                flush.header.durable_offset >= offset && !hit(flush.segment, at, at + 64)
            });
            flushes || log.segments.iter().any(|segment| segment.header.durable_offset >= offset)
        };
        for (number, flush) in log.flushes.iter().enumerate() {
            let frames: Vec<&Written> = log.frames.iter().filter(|frame| frame.flush == number).collect();
            if !hit(flush.segment, flush.header.position, flush.end.position) && word_for(flush.end.offset) {
                for frame in frames {
                    prop_assert!(served.iter().any(|served| served.offset == frame.at.offset), "{:#?}", recovery);
                }
            } else if flush.header.records > 0 && word_for(flush.end.offset) && served.len() < written.len() {
                prop_assert!(lost(&recovery) || served.iter().any(|served| served.offset >= flush.end.offset));
            }
        }
        if lost(&recovery) {
            let told = |finding: &Finding| finding.name() == "quarantined";
            prop_assert!(recovery.findings.iter().any(told));
        }
        let mut settled = disk.clone();
        settled.settle(PARTITION, &recovery);
        prop_assert_eq!(recover(&settled, true).1, served);
    }

    /// A snapshot anywhere and indexes before it give the same as reading everything.
    #[test]
    fn a_snapshot_changes_nothing(before in acts(0..25), after in acts(0..15), without_index in any::<prop::sample::Index>()) {
        let mut teller = Teller::new(Writer::at(START, 9), 1, garbage);
        teller.tell(&before);
        teller.log.sync();
        let (then, _) = recover(&whole(&teller.log), false);
        // A shard takes one at a flush's beginning: its last flush grows no more.
        let current = teller.log.segment().header;
        let mut snapshot = then.log.snapshot();
        snapshot.sequence = current.sequence;
        if let Some(info) = then.log.segments.last().filter(|info| info.sequence == current.sequence) {
            snapshot.index.clone_from(&info.index);
            snapshot.first_time_ns = info.first_time_ns;
        }
        snapshot.at.position = snapshot.at.position.max(current.base.position);
        let flushes = teller.log.flushes.len();
        teller.tell(&[Act::Flush(Vec::new())]);
        teller.tell(&after);
        prop_assume!(teller.log.flushes.len() > flushes);
        let mut disk = whole(&teller.log);
        let (all, served) = recover(&disk, false);
        disk.small.insert(LogFile::Snapshot(1), encode(PARTITION, &snapshot));
        disk.small.insert(LogFile::Snapshot(0), b"nothing that could be used".to_vec());
        for info in &then.log.segments {
            if info.sequence != snapshot.sequence {
                let bytes = uringest::commit_log::index::encode(PARTITION, info);
                disk.small.insert(LogFile::Index(info.sequence), bytes);
            }
        }
        let indexes: Vec<LogFile> = disk.small.keys().copied().filter(|file| matches!(file, LogFile::Index(_))).collect();
        let mut missing = None;
        if !indexes.is_empty() && without_index.index(3) == 0 {
            missing = Some(indexes[without_index.index(indexes.len())]);
            disk.small.remove(&missing.expect("just set"));
        }
        let (short, served_short) = recover(&disk, true);
        prop_assert_eq!(served_short, served);
        prop_assert_eq!(short.from_snapshot, Some(snapshot.at));
        let ignored = short.findings.iter().filter(|of| matches!(of, Finding::SnapshotIgnored { .. })).count();
        prop_assert_eq!(ignored, 1);
        let rebuilt = short.findings.iter().any(|of| matches!(of, Finding::IndexRebuilt { why: None, .. }));
        prop_assert_eq!(rebuilt, missing.is_some());
        let (mut short, mut all) = (short.log, all.log);
        short.producers.sort_by_key(|producer| producer.producer_id);
        all.producers.sort_by_key(|producer| producer.producer_id);
        // Empty flushes are in no index, and neither are the same flushes in both.
        for info in short.segments.iter_mut().chain(&mut all.segments) {
            info.index.truncate(1);
            info.end.position = block_up(info.end.position);
        }
        prop_assert_eq!(short, all);
    }

    #[test]
    fn a_fence_cuts_where_it_says(acts in acts(1..30), at in any::<prop::sample::Index>()) {
        let log = told(&acts, garbage);
        prop_assume!(!log.frames.is_empty());
        let at = at.index(log.frames.len());
        let mut disk = whole(&log);
        let fence = log.frames[at].end;
        disk.small.insert(LogFile::Fence, encode_fence(PARTITION, fence));
        let (recovery, served) = recover(&disk, true);
        prop_assert_eq!(&served, &served_all(&log.frames[..=at]));
        prop_assert_eq!(recovery.log.end, LogPoint { position: block_up(fence.position), ..fence });
        prop_assert_eq!(recovery.fenced_at, Some(fence));
        prop_assert!(!lost(&recovery));
        let next = recovery.log.next_sequence;
        prop_assert!(disk.segments.keys().all(|&sequence| sequence < next));
        // The fence goes, and the log goes on: what was cut does not come back, whether it is deleted or not.
        let mut gone = disk.clone();
        gone.settle(PARTITION, &recovery);
        prop_assert_eq!(&recover(&gone, true).1, &served);
        disk.small.clear();
        let mut teller = Teller::new(Writer::at(recovery.log.end, recovery.log.chain), next, garbage);
        teller.tell(&[Act::Flush(Vec::new())]);
        disk.segments.extend(whole(&teller.log).segments);
        prop_assert_eq!(&recover(&disk, true).1, &served);
    }

    /// Headers of segments are damaged: the first flush says the same.
    #[test]
    fn a_segment_without_its_header_is_found(acts in acts(5..40), which in any::<prop::sample::Index>(), wiped: bool) {
        let log = told(&acts, garbage);
        let mut disk = whole(&log);
        let which = which.index(log.segments.len());
        let held: Vec<&Written> = log.frames.iter().filter(|frame| frame.segment == which).collect();
        // A first segment that is blank is one that was never begun.
        prop_assume!(!held.is_empty() && (which > 0 || !wiped));
        let file = disk.segments.get_mut(&(which as u64 + 1)).expect("it is there");
        if wiped { file[..BLOCK].fill(0) } else { file[40] ^= 1 }
        let (recovery, served) = recover(&disk, true);
        prop_assert_eq!(served, served_all(&log.frames), "{:#?}", recovery);
        let found = recovery.findings.iter().filter(|finding| matches!(finding, Finding::HeaderRebuilt { .. }));
        prop_assert_eq!(found.count(), 1);
    }

    /// A segment is gone from the middle: the others are served, and what is missing is told.
    #[test]
    fn a_missing_segment_is_told(acts in acts(5..40), which in any::<prop::sample::Index>()) {
        let mut teller = Teller::new(Writer::at(START, 9), 1, garbage);
        teller.tell(&acts);
        teller.tell(&[Act::Sync, Act::Roll, Act::Flush(Vec::new())]);
        let log = teller.log;
        let which = which.index(log.segments.len());
        let (first, last) = (log.frames.iter().find(|frame| frame.segment == which), log.frames.iter().rfind(|frame| frame.segment == which));
        prop_assume!(which > 0 && first.is_some() && log.frames[0].segment < which);
        let mut disk = whole(&log);
        disk.segments.remove(&(which as u64 + 1));
        let (recovery, served) = recover(&disk, true);
        let rest: Vec<Written> = log.frames.iter().filter(|frame| frame.segment != which).cloned().collect();
        prop_assert_eq!(served, served_all(&rest));
        let (from, to) = (first.map(|frame| frame.at.offset), last.map(|frame| frame.end.offset));
        let missing = recovery.findings.iter().find_map(|finding| match finding {
            Finding::Missing { range, .. } => Some((range.from.offset, range.to.offset)),
            _ => None,
        });
        prop_assert_eq!(missing, from.zip(to), "{:#?}", recovery);
    }
}

fn small_log() -> Writer {
    let batch = |sequence| Batch { producer_id: 1, sequence, records: 2, body: vec![7; 100] };
    let mut log = Writer::new();
    for sequence in 1..=3 {
        log.begin(sequence, nonce(sequence), vec![0; 4 * BLOCK]);
        assert!(log.flush(&[batch(2 * sequence - 1), batch(2 * sequence)]));
        log.sync();
    }
    log
}

#[test]
fn nothing_is_an_empty_log() {
    let (recovery, served) = recover(&Folder::default(), true);
    assert_eq!((served.len(), recovery.log.next_sequence), (0, 1));
    assert_eq!(recovery, Recovery { log: recovery.log.clone(), ..Recovery::default() });
}

#[test]
fn a_later_version_is_refused() {
    let log = small_log();
    let mut disk = whole(&log);
    let file = disk.segments.get_mut(&2).expect("it is there");
    file[8] = 9;
    let checksum = crc32c(&file[..124]);
    file[124..128].copy_from_slice(&checksum.to_le_bytes());
    let error = disk.recover(PARTITION, true).expect_err("a later format");
    assert!(matches!(error, RecoveryError::Newer { file: LogFile::Segment(2), format: 9 }), "{error}");
    assert!(error.to_string().contains("00000000000000000002.seg has format 9"), "{error}");
}

#[test]
fn what_cannot_be_read_is_an_error_and_no_damage() {
    let mut disk = whole(&small_log());
    disk.broken = Some((2, BLOCK_BYTES));
    let error = disk.recover(PARTITION, true).expect_err("a broken disk");
    assert!(matches!(error, RecoveryError::Io { file: Some(LogFile::Segment(2)), .. }), "{error}");
    assert!(error.to_string().contains("a broken disk"), "{error}");
}

#[test]
fn a_damaged_fence_is_an_error() {
    let mut disk = whole(&small_log());
    disk.small.insert(LogFile::Fence, b"cut somewhere".to_vec());
    assert!(matches!(disk.recover(PARTITION, true), Err(RecoveryError::Fence(_))));
}

#[test]
fn strangers_are_told_and_left_alone() {
    let log = small_log();
    let mut disk = whole(&log);
    let mut other = log.segment().header;
    (other.partition, other.sequence) = (PartitionId(8), 4);
    let mut file = vec![0; 4 * BLOCK];
    file[..128].copy_from_slice(&other.encode());
    disk.segments.insert(4, file);
    disk.segments.insert(5, b"a letter".to_vec());
    disk.segments.insert(6, vec![0; 4 * BLOCK]);
    disk.segments.insert(7, disk.segments[&1].clone());
    let (recovery, served) = recover(&disk, true);
    assert_eq!(served, served_all(&log.frames));
    let partition =
        Finding::Foreign { sequence: 4, why: SegmentFault::WrongPartition { found: PartitionId(8) } };
    let letter = Finding::Foreign { sequence: 5, why: SegmentFault::NotASegment };
    assert_eq!(recovery.findings, [partition, letter]);
    assert_eq!((recovery.unused, recovery.dropped), (vec![6, 7], vec![]));
    assert_eq!(recovery.log.next_sequence, 8);
}

/// The whole flush is intact but for its frames, which are an older flush's, with the right offsets.
#[test]
fn whole_frames_of_another_time_do_not_count() {
    let mut log = small_log();
    let stale = log.segment().file.clone();
    let mut fresh = small_log();
    fresh.time_ns += 5;
    fresh.segments.truncate(2);
    let (frames, end) = (fresh.frames[..4].to_vec(), log.frames[3].end);
    (fresh.frames, fresh.end, fresh.chain) = (frames, end, log.segments[2].header.chain);
    fresh.flushes.truncate(2);
    fresh.begin(3, nonce(3), vec![0; 4 * BLOCK]);
    let batch = |sequence| Batch { producer_id: 1, sequence, records: 2, body: vec![7; 100] };
    assert!(fresh.flush(&[batch(5), batch(6)]));
    let file = &mut fresh.segments[2].file;
    file[BLOCK + 64..].copy_from_slice(&stale[BLOCK + 64..]);
    log.frames.truncate(4);
    let (recovery, served) = recover(&whole(&fresh), true);
    assert_eq!(served, served_all(&log.frames));
    assert!(recovery.log.segments.iter().all(|info| info.sequence < 3));
}

#[test]
fn a_snapshot_that_fits_nowhere_is_not_used() {
    let log = small_log();
    let mut disk = whole(&log);
    let (all, _) = recover(&disk, true);
    let mut snapshot = all.log.snapshot();
    snapshot.sequence = 1;
    disk.small.insert(LogFile::Snapshot(0), encode(PARTITION, &snapshot));
    let (recovery, served) = recover(&disk, true);
    assert_eq!((served, recovery.from_snapshot), (served_all(&log.frames), None));
    assert!(matches!(recovery.findings[..], [Finding::SnapshotIgnored { .. }]), "{:?}", recovery.findings);
}

/// Offsets that were durable are not handed out again, even when every segment is gone.
#[test]
fn a_snapshot_alone_says_where_to_go_on() {
    let (all, _) = recover(&whole(&small_log()), true);
    let mut disk = Folder::default();
    disk.small.insert(LogFile::Snapshot(0), encode(PARTITION, &all.log.snapshot()));
    let (recovery, served) = recover(&disk, true);
    assert!(served.is_empty());
    assert_eq!(recovery.log, uringest::commit_log::RecoveredLog { segments: Vec::new(), ..all.log });
}

/// A snapshot and indexes: next to nothing is read.
#[test]
fn what_a_snapshot_covers_is_not_read() {
    let mut disk = whole(&small_log());
    let (first, served) = recover(&disk, true);
    disk.settle(PARTITION, &first);
    let (second, again) = recover(&disk, true);
    assert_eq!(again, served);
    assert_eq!((second.bytes_read, second.findings), (3 * BLOCK_BYTES, Vec::new()));
    assert_eq!(second.log.snapshot().producers, first.log.snapshot().producers);
}
