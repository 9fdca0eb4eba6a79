//! Files of segments on a simulated disk, and what retention takes.

use std::io;
use std::path::{Path, PathBuf};

use super::segments::{Making, Wanted, make, open, retirement};
use super::shelf::{FREE_MAX, Retiring, Shelf};
use crate::commit_log::{BLOCK_BYTES, LogPoint, SegmentInfo, Snapshot};
use crate::control::files::sim::SimFiles;
use crate::control::files::{FileError, Files as _, apply_all};
use crate::ids::ShardId;
use crate::proto::header::AckLevel;
use crate::topic::LogSettings;

const FOLDER: &str = "/log/p00000001";
const BLOCK: usize = 4096;
const BYTES: usize = 4 * BLOCK;
const _: () = assert!(BLOCK as u64 == BLOCK_BYTES);
const MAKING: Making = Making { direct: true, zeroed: true };

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn wanted(sequence: u64, recycled: Option<&Path>) -> Wanted {
    Wanted { folder: FOLDER.into(), sequence, bytes: BYTES as u64, recycled: recycled.map(Path::to_owned) }
}

fn segment(sequence: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{sequence:020}.seg"))
}

#[test]
fn a_segment_is_whole_and_named_before_it_is_sent() {
    let files = SimFiles::default();
    let file = run(make(&files, &wanted(0, None), MAKING)).expect("there is room");
    let (path, how) = files.opened(&file);
    assert!(path == segment(0) && how.write && how.direct);
    let disks = files.after_crash();
    assert_eq!(disks.len(), 1, "nothing of it is left to be made durable");
    assert_eq!(disks[0].read(&path).expect("read"), Some(vec![0; BYTES]));
    let read = run(open(&files, &path, false, true)).expect("it is there");
    assert!(!files.opened(&read).1.write);
}

#[test]
fn a_full_disk_keeps_nothing_half_made() {
    let files = SimFiles::default();
    files.set_room(BYTES);
    run(make(&files, &wanted(0, None), MAKING)).expect("there is room for one");
    let error = run(make(&files, &wanted(1, None), MAKING)).expect_err("and not for two");
    assert!(error.is_no_space() && error.to_string().starts_with("cannot reserve room for"), "{error}");
    assert_eq!(files.names(), [segment(0)]);
}

#[test]
fn a_file_that_could_not_be_made_leaves_nothing_by_either_name() {
    for fault in 0..3 {
        for recycled in [None, Some(segment(0).with_extension("seg.free"))] {
            let files = SimFiles::default();
            if let Some(free) = &recycled {
                files.put(free, &[7; BYTES]);
            }
            files.fail_after(fault, 0);
            run(make(&files, &wanted(1, recycled.as_deref()), MAKING)).expect_err("a step fails");
            assert!(files.names().is_empty(), "at step {fault}: {:?}", files.names());
        }
    }
}

/// Whatever step of a recycling a crash comes in: no file is called a segment that still begins as the old one did.
#[test]
fn a_recycled_file_is_blank_before_it_has_a_segments_name() {
    let shelf = shelf(8 * BYTES as u64, 0);
    for fault in 0..=5 {
        let files = SimFiles::default();
        files.put(&segment(0), &[7; BYTES]);
        files.put(&shelf.index(0), b"index");
        files.fail_after(fault, 0);
        let retired = retirement(&shelf, 0, true);
        let free = retired.free.expect("it is to be used again");
        let mut done = run(apply_all(&files, &retired.steps)).is_ok();
        if done {
            done = run(make(&files, &wanted(9, Some(&free)), MAKING)).is_ok();
        }
        assert_eq!(done, fault == 5, "at step {fault}");
        for disk in files.after_crash() {
            let old = disk.read(&segment(0)).expect("read");
            assert!(old.is_none_or(|bytes| bytes == [7; BYTES]), "the old segment is as it was, or gone");
            let new = disk.read(&segment(9)).expect("read");
            assert!(new.is_none_or(|bytes| bytes[..BLOCK].iter().all(|byte| *byte == 0)), "at step {fault}");
        }
    }
}

fn shelf(retention_bytes: u64, retention_ms: u64) -> Shelf {
    let settings = LogSettings {
        durability: AckLevel::Received,
        retention_bytes,
        retention_ms,
        segment_bytes: BYTES as u64,
    };
    Shelf::new("t".into(), ShardId(0), FOLDER.into(), settings, BYTES as u64)
}

fn info(sequence: u64, last_time_ns: u64) -> SegmentInfo {
    let base = LogPoint { position: sequence * 3 * BLOCK_BYTES, offset: sequence * 10 };
    let end = LogPoint { position: base.position + 3 * BLOCK_BYTES - 100, offset: base.offset + 10 };
    SegmentInfo {
        sequence,
        nonce: 0,
        base,
        end,
        first_time_ns: last_time_ns,
        last_time_ns,
        index: Vec::new(),
        quarantined: Vec::new(),
    }
}

fn closed(count: u64, retention_bytes: u64, retention_ms: u64) -> Shelf {
    let mut shelf = shelf(retention_bytes, retention_ms);
    shelf.covered = u64::MAX;
    for sequence in 0..count {
        shelf.sealed(&info(sequence, sequence * 1_000_000_000));
        shelf.files.insert(sequence, BYTES as u64);
    }
    shelf.files.insert(count, BYTES as u64);
    shelf
}

#[test]
fn retention_takes_whole_segments_and_never_the_one_written_to() {
    let each = BYTES as u64;
    for (keep, below) in
        [(6 * each, None), (5 * each, None), (5 * each - 1, Some(1)), (2 * each, Some(3)), (1, Some(4))]
    {
        assert_eq!(closed(5, keep, 0).to_retire(u64::MAX).below, below, "{keep}");
    }
    // The last batches of segments are of second 0, 1, 2 ...
    for (age_ms, now_s, below) in [
        (10_000, 10, None),
        (10_000, 11, Some(1)),
        (2_000, 4, Some(2)),
        (1, 1_000, Some(4)),
        (0, 1_000, None),
    ] {
        assert_eq!(
            closed(5, 100 * each, age_ms).to_retire(now_s * 1_000_000_000).below,
            below,
            "{age_ms} {now_s}"
        );
    }
}

#[test]
fn what_goes_is_asked_for_once_and_goes_when_the_shard_lets_go() {
    let each = BYTES as u64;
    let mut shelf = closed(5, 3 * each, 0);
    assert_eq!(shelf.to_retire(0).below, Some(2));
    shelf.retiring = Some(2);
    assert_eq!(shelf.to_retire(0).below, None, "it has been asked for");
    shelf.sealed(&info(5, 0));
    assert_eq!(shelf.to_retire(0).below, Some(3), "more has been closed");
    shelf.retiring = Some(3);
    shelf.retired(2);
    assert_eq!(shelf.going, [(0, each), (1, each)]);
    assert_eq!((shelf.closed.len(), shelf.retiring), (4, Some(3)));
    shelf.retired(3);
    assert_eq!(shelf.going, [(0, each), (1, each), (2, each)]);
    assert_eq!((shelf.retiring, shelf.to_retire(0).below), (None, None));
    assert_eq!(shelf.files.keys().copied().collect::<Vec<_>>(), [3, 4, 5]);
}

/// Else a start finds a segment missing between two others, and takes its records for lost.
#[test]
fn a_file_that_cannot_go_keeps_those_behind_it() {
    let each = BYTES as u64;
    let mut shelf = closed(5, 3 * each, 0);
    let room = shelf.all_bytes();
    shelf.retired(3);
    assert_eq!(shelf.begin_removal(), Some((0, each, true)));
    assert_eq!(shelf.begin_removal(), None, "one after the other");
    shelf.removal_done(Err(()));
    assert_eq!(shelf.begin_removal(), Some((0, each, false)), "it may be called otherwise by now");
    shelf.removal_done(Ok(None));
    assert_eq!(shelf.all_bytes(), room - each);
    assert_eq!(shelf.begin_removal(), Some((1, each, true)));
    shelf.removal_done(Ok(Some("/free".into())));
    assert_eq!((shelf.all_bytes(), shelf.free.len()), (room - each, 1), "it waits to be used again");
    assert_eq!(shelf.begin_removal(), Some((2, each, true)));
    shelf.removal_done(Ok(None));
    assert_eq!(shelf.begin_removal(), None);
}

#[test]
fn nothing_goes_that_is_held() {
    let mut shelf = closed(5, 1, 0);
    shelf.held_from = Some(2);
    assert_eq!(shelf.to_retire(0).below, Some(2));
    shelf.held_from = Some(0);
    assert_eq!(shelf.to_retire(0).below, None);
}

#[test]
fn nothing_goes_that_no_snapshot_covers() {
    let retired = |below, uncovered| Retiring { below, uncovered };
    let mut shelf = closed(5, 1, 0);
    shelf.covered = 0;
    assert_eq!(shelf.to_retire(0), retired(None, true));
    let snapshot = |position| {
        let at = LogPoint { position, offset: 0 };
        let (index, producers) = (Vec::new(), Vec::new());
        Box::new(Snapshot {
            sequence: 1,
            at,
            chain: 0,
            last_append_ns: 0,
            first_time_ns: 0,
            index,
            producers,
        })
    };
    let end = info(1, 0).end.position;
    shelf.snapshot_done(snapshot(end), &Ok(()));
    assert_eq!(shelf.to_retire(0), retired(Some(2), true), "up to it, and the next are to be covered");
    let failed = |errno| {
        let source = io::Error::from_raw_os_error(errno);
        Err(FileError { doing: "write", path: "/snapshot.new".into(), source })
    };
    shelf.snapshot_done(snapshot(end + 1), &failed(libc::EIO));
    assert_eq!(shelf.to_retire(0), retired(Some(2), true));
    assert!(shelf.snapshot.is_some(), "it is tried again");
    shelf.snapshot_done(snapshot(end), &failed(libc::ENOSPC));
    assert_eq!(shelf.snapshot.as_ref().map(|next| next.at.position), Some(end + 1), "the newest is");
    assert_eq!(shelf.to_retire(0), retired(Some(4), false), "a disk that is full gets room first");
    shelf.snapshot_done(snapshot(end), &Ok(()));
    assert_eq!(shelf.to_retire(0), retired(Some(2), true), "there is room again");
}

#[test]
fn only_files_of_the_right_length_are_used_again() {
    let mut shelf = shelf(1, 0);
    shelf.free = vec![("/a".into(), BYTES as u64 / 2), ("/b".into(), BYTES as u64)];
    assert_eq!(shelf.free.len(), FREE_MAX);
    assert_eq!(shelf.begin_making(7), Some(PathBuf::from("/b")));
    assert_eq!(shelf.begin_making(8), None);
    let moving: Vec<_> = shelf.moving().collect();
    assert_eq!(moving, [shelf.segment(7), shelf.segment(8), PathBuf::from("/b")]);
    shelf.making_done(7, true);
    shelf.making_done(8, false);
    assert_eq!((shelf.moving().count(), shelf.files.len()), (0, 1));
}
