//! Recovery of a log from files that somebody or something has had its way with.
//!
//! The input is a list of operations: writes of a log as it should be, and then what is done to its files. Whatever it
//! is, recovery ends, says the same of the same files, and what it lets be served was written. A story of another
//! kind is the files' bytes themselves.

#[path = "../../support/log_folder.rs"]
mod log_folder;
#[path = "../../support/log_writer.rs"]
mod log_writer;

use crate::story::Story;
use log_folder::{Folder, Served};
use log_writer::{BLOCK, Batch, PARTITION, Writer};
use uringest::commit_log::SegmentInfo;
use uringest::commit_log::format::LogFile;
use uringest::commit_log::recovery::Finding;
use uringest::commit_log::snapshot::{encode, encode_fence};

/// Operations in one story.
const OPERATIONS_MAX: usize = 64;
/// Segments of one story.
const SEGMENTS_MAX: u64 = 8;
const SEGMENT_BYTES: usize = 12 * BLOCK;

/// One story. The first byte says of which kind.
pub fn run(story: &[u8]) {
    let mut story = Story(story);
    let kind = story.byte();
    if kind == 1 {
        told(&mut story);
    } else {
        raw(usize::from(kind % 4) + 1, story.0);
    }
}

/// Files of these bytes, and nothing else.
fn raw(files: usize, bytes: &[u8]) {
    let mut folder = Folder::default();
    for (sequence, piece) in (1..).zip(bytes.chunks(bytes.len().div_ceil(files).max(1))) {
        folder.segments.insert(sequence, piece.to_vec());
        folder.small.insert(LogFile::Index(sequence), piece.to_vec());
    }
    folder.small.insert(LogFile::Snapshot(0), bytes.to_vec());
    check(&folder, &[]);
}

fn told(story: &mut Story<'_>) {
    let mut log = Writer::new();
    let mut folder = Folder::default();
    let mut sequence = 1;
    // Flushes that a snapshot was taken behind: they grow no more.
    let mut closed = 0;
    log.begin(1, 11, vec![0; SEGMENT_BYTES]);
    // What is done to the files comes at the end, in order.
    let mut deeds = Vec::new();
    for _ in 0..OPERATIONS_MAX {
        if story.0.is_empty() {
            break;
        }
        match story.byte() {
            // A partition that is fenced writes nothing more, and takes no snapshot.
            0..=3 | 6 | 8 if folder.small.contains_key(&LogFile::Fence) => {}
            0 => drop(log.flush(&batches(story, sequence))),
            1 if log.flushes.len() == closed => drop(log.flush(&batches(story, sequence))),
            1 => drop(log.grow(&batches(story, sequence))),
            2 => log.sync(),
            3 if log.segments.len() as u64 == SEGMENTS_MAX => {}
            3 => {
                let before = log.segments[0].file.clone();
                log.begin(log.segments.len() as u64 + 1, 11 + log.segments.len() as u64, before);
            }
            4 => {
                let (segment, at, value) = (story.byte(), story.number(), story.byte());
                deeds.push((segment, at, Deed::Overwrite(value, story.byte())));
            }
            5 => deeds.push((story.byte(), 0, Deed::Remove)),
            6 => {
                log.sync();
                closed = log.flushes.len();
                let snapshot = files(&log).recover(PARTITION, false).expect("it is whole").log.snapshot();
                folder.small.insert(LogFile::Snapshot(1), encode(PARTITION, &snapshot));
            }
            7 => {
                let length = story.number();
                folder.small.insert(LogFile::Snapshot(0), story.bytes(length).to_vec());
            }
            8 => drop(folder.small.insert(LogFile::Fence, encode_fence(PARTITION, log.end))),
            9 => drop(folder.small.insert(LogFile::Index(1), b"no index".to_vec())),
            10 => {
                let (segment, at) = (story.byte(), story.number());
                deeds.push((segment, at, Deed::Flip(story.byte() % 8)));
            }
            _ => deeds.push((story.byte(), story.number(), Deed::Shorten)),
        }
        sequence += 2;
    }
    folder.segments = files(&log).segments;
    for (segment, at, deed) in deeds {
        let segment = u64::from(segment) % SEGMENTS_MAX + 1;
        let Some(file) = folder.segments.get_mut(&segment) else { continue };
        deed.act(file, at);
        if matches!(deed, Deed::Remove) {
            folder.segments.remove(&segment);
        }
    }
    let written =
        log.frames.iter().map(|frame| Served { offset: frame.at.offset, bytes: frame.bytes.clone() });
    check(&folder, &written.collect::<Vec<_>>());
}

enum Deed {
    Overwrite(u8, u8),
    Flip(u8),
    Shorten,
    Remove,
}

impl Deed {
    fn act(&self, file: &mut Vec<u8>, at: usize) {
        let at = at % (file.len() + 1);
        match self {
            Deed::Overwrite(value, length) => {
                let end = (at + usize::from(*length) * 16).min(file.len());
                file[at..end].fill(*value);
            }
            Deed::Flip(bit) => {
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Deed::Shorten => file.truncate(at),
            Deed::Remove => {}
        }
    }
}

fn batches(story: &mut Story<'_>, sequence: u64) -> Vec<Batch> {
    let batch = |story: &mut Story<'_>, number: u8| Batch {
        producer_id: u64::from(number) + 1,
        sequence,
        records: u32::from(story.byte() % 4) + 1,
        body: vec![number; story.number() % 9_000],
    };
    (0..story.byte() % 4).map(|number| batch(story, number)).collect()
}

fn files(log: &Writer) -> Folder {
    let segments = log.segments.iter().map(|segment| (segment.header.sequence, segment.file.clone()));
    Folder { segments: segments.collect(), ..Folder::default() }
}

/// What holds for any files.
fn check(folder: &Folder, written: &[Served]) {
    for use_snapshots in [true, false] {
        let Ok(recovery) = folder.recover(PARTITION, use_snapshots) else { continue };
        let mut again = folder.recover_within(PARTITION, use_snapshots, 1 << 20).expect("it was fine before");
        again.bytes_read = recovery.bytes_read;
        assert_eq!(recovery, again, "it depends on the buffer");
        let served = folder.served(PARTITION, &recovery);
        assert!(served.iter().all(|frame| written.contains(frame)), "served and never written");
        assert!(served.is_sorted_by(|a, b| a.offset < b.offset));
        if !use_snapshots {
            continue; // a snapshot that is there would count again
        }
        let mut settled = folder.clone();
        settled.settle(PARTITION, &recovery);
        let once_more = settled.recover(PARTITION, true).expect("nothing was added");
        let served_again = settled.served(PARTITION, &once_more);
        assert!(
            served_again.iter().all(|frame| written.contains(frame)),
            "served by another start and never written"
        );
        // With the segments behind it gone, a file that had no place in the log may be known for what it is.
        let came_back = |info: &SegmentInfo| {
            recovery.findings.iter().any(
                |finding| matches!(finding, Finding::Foreign { sequence, .. } if *sequence == info.sequence),
            )
        };
        if once_more.log.segments.iter().any(came_back) {
            assert!(served.iter().all(|frame| served_again.contains(frame)), "another start serves less");
        } else {
            assert_eq!(served_again, served, "another start serves something else");
        }
        assert_eq!(once_more.log.end, recovery.log.end, "{recovery:#?} {once_more:#?}");
    }
}
