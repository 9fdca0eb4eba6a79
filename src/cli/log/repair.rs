//! `log repair`: a copy of what is whole.
//!
//! The copy has the same segments at the same positions; damaged ranges are zeros in it, and stand in the segments' indexes. So
//! offsets stay what they are, and consumers are told what is missing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::super::exit::{Output, print, print_json};
use super::super::progress::{Progress, counted};
use super::super::{EXIT_CODES, Exit, Failure, Outcome};
use super::Where;
use super::folder::{BUFFER_BYTES, Folder};
use super::place::{CATALOGUE, Kind, LOG, MARKER, Place, find};
use crate::commit_log::format::{
    FLUSH_HEADER_LEN, FORMAT, FlushHeader, LogFile, SEGMENT_HEADER_BYTES, SegmentHeader, digest,
    partition_folder,
};
use crate::commit_log::recovery::Recovery;
use crate::commit_log::{BLOCK_BYTES, LogPoint, RecoveredLog, SegmentInfo, block_up, index, snapshot};
use crate::io::host;
use crate::limits::{FRAME_BYTES_MAX_CEILING, HEADER_BYTES};
use crate::proto::header::FrameHeader;

/// Where to.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct RepairArgs {
    #[command(flatten)]
    place: Where,
    /// The directory to make; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Runs the command.
pub fn run(args: &RepairArgs) -> Outcome {
    let found = find(&args.place)?;
    if found.running {
        let message = format!("a server runs on {}", args.place.directory.display());
        return Err(Failure::new(
            Exit::Failed,
            message,
            "stop it first; `uringest backup` copies what it holds",
        ));
    }
    let writing = |source| failed(&args.to, &source);
    host::keep_from_others();
    std::fs::create_dir_all(&args.to).map_err(writing)?;
    if std::fs::read_dir(&args.to).map_err(writing)?.next().is_some() {
        let message = format!("{} is not empty", args.to.display());
        return Err(Failure::new(Exit::Usage, message, "name a directory that does not exist"));
    }
    let logs = match found.kind {
        Kind::Data => args.to.join(LOG),
        _ => args.to.clone(),
    };
    let (mut lines, mut values) = (String::new(), Vec::new());
    for place in &found.places {
        let to =
            if found.kind == Kind::Partition { logs.clone() } else { logs.join(partition_folder(place.id)) };
        let copied = Copy::of(place, &to)?;
        let (records, segments) =
            (counted(copied.records, "record"), counted(copied.segments as u64, "segment"));
        lines += &format!("{}: {records} in {segments}", place.name());
        lines += &match copied.lost {
            0 => ", nothing missing\n".to_owned(),
            lost => format!(", {} missing\n", counted(lost, "record")),
        };
        values.push(json!({
            "topic": place.topic.as_ref().map(|(topic, _)| topic), "partition_id": place.id.0, "to": to,
            "segments": copied.segments, "records": copied.records, "lost_records": copied.lost,
            "unreadable_bytes": copied.unreadable,
        }));
    }
    if found.kind != Kind::Partition {
        write_file(&logs.join(MARKER), format!("uringest log {FORMAT}\n").as_bytes())?;
    }
    if found.kind == Kind::Data {
        let from = args.place.directory.join(CATALOGUE);
        match std::fs::read(&from) {
            Ok(catalogue) => write_file(&args.to.join(CATALOGUE), &catalogue)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&from, &error)),
        }
    }
    match args.place.output {
        Output::Json => print_json(&json!({ "to": args.to, "partitions": values })),
        Output::Text => print(&(lines + &format!("written to {}\n", args.to.display()))),
    }
}

/// What became of a partition.
struct Copy {
    segments: usize,
    records: u64,
    lost: u64,
    unreadable: u64,
}

impl Copy {
    fn of(place: &Place, to: &Path) -> Result<Copy, Failure> {
        let folder = Folder::new(place, true);
        let whole = folder.recover(place, false, "read")?;
        // Only a snapshot knows producers whose batches retention has taken, and how far the log was durable.
        let log = match folder.recover(place, true, "read") {
            Ok(known) if known.log.end.offset >= whole.log.end.offset => known.log,
            _ => whole.log.clone(),
        };
        std::fs::create_dir_all(to).map_err(|source| failed(to, &source))?;
        let bytes = |info: &SegmentInfo| info.end.position - info.base.position;
        let all = whole.log.segments.iter().map(bytes).sum();
        let (mut line, mut done) = (Progress::new("copy"), 0);
        for info in &whole.log.segments {
            line.at(done, all, &place.name());
            done += bytes(info);
            copy_segment(&folder, place, info, to)?;
            write_file(&to.join(LogFile::Index(info.sequence).name()), &index::encode(place.id, info))?;
        }
        drop(line);
        let snapshot = snapshot_of(&log, &whole);
        write_file(&to.join(LogFile::Snapshot(0).name()), &snapshot::encode(place.id, &snapshot))?;
        File::open(to).and_then(|folder| folder.sync_all()).map_err(|source| failed(to, &source))?;
        check(place, to, &whole)?;
        let start = whole.log.segments.first().map_or(log.end.offset, |first| first.base.offset);
        let ranges = whole.log.segments.iter().flat_map(|info| &info.quarantined);
        let inside: u64 = ranges.map(|range| range.to.offset - range.from.offset).sum();
        let lost = inside + (log.end.offset - whole.log.end.offset);
        let unreadable = folder.unreadable_bytes();
        Ok(Copy {
            segments: whole.log.segments.len(),
            records: log.end.offset - start - lost,
            lost,
            unreadable,
        })
    }
}

/// The number that comes next has to be free in the copy too.
fn snapshot_of(log: &RecoveredLog, whole: &Recovery) -> crate::commit_log::Snapshot {
    let mut snapshot = log.snapshot();
    snapshot.sequence = log.next_sequence.max(whole.log.next_sequence);
    snapshot
}

/// Flushes go over as they are. One that breaks off at a damaged range or where the log was cut gets a header for what is
/// left of it.
fn copy_segment(folder: &Folder, place: &Place, info: &SegmentInfo, to: &Path) -> Outcome {
    let path = to.join(LogFile::Segment(info.sequence).name());
    let writing = |source: io::Error| failed(&path, &source);
    let from = folder.file(LogFile::Segment(info.sequence));
    let reading = |source: io::Error| failed(&from, &source);
    let file = File::create_new(&path).map_err(writing)?;
    let header = header_of(folder, place, info);
    file.set_len(header.file_bytes).map_err(writing)?;
    file.write_all_at(&header.encode(), 0).map_err(writing)?;
    let mut at = info.base;
    loop {
        let part = info.part_from(at);
        let mut position = block_up(part.at.position);
        while position < part.end.position {
            let mut head = [0; FLUSH_HEADER_LEN];
            folder.read_exact(info.sequence, header.file_at(position), &mut head).map_err(reading)?;
            let Ok(mut flush) = FlushHeader::decode(&head) else { break };
            let end = flush.end().min(part.end.position);
            if end < flush.end() {
                shorten(folder, info, &header, &mut flush, end).map_err(reading)?;
            }
            file.write_all_at(&flush.encode(), header.file_at(position)).map_err(writing)?;
            let frames = position + FLUSH_HEADER_LEN as u64;
            let mut buffer = vec![0; BUFFER_BYTES];
            for piece in (frames..end).step_by(BUFFER_BYTES) {
                let length = usize::try_from(end - piece).unwrap_or(usize::MAX).min(BUFFER_BYTES);
                let buffer = &mut buffer[..length];
                folder.read_exact(info.sequence, header.file_at(piece), buffer).map_err(reading)?;
                file.write_all_at(buffer, header.file_at(piece)).map_err(writing)?;
            }
            position = block_up(end);
        }
        let Some(next) = part.gap_to else { break };
        at = next;
    }
    file.sync_all().map_err(writing)?;
    Ok(())
}

/// The segment's header; made again where it is damaged.
fn header_of(folder: &Folder, place: &Place, info: &SegmentInfo) -> SegmentHeader {
    let mut head = [0; SEGMENT_HEADER_BYTES];
    let read = folder.read_exact(info.sequence, 0, &mut head).is_ok();
    let found = SegmentHeader::decode(&head).ok().filter(|_| read);
    let mut first = [0; FLUSH_HEADER_LEN];
    let first = folder
        .read_exact(info.sequence, BLOCK_BYTES, &mut first)
        .ok()
        .and_then(|()| FlushHeader::decode(&first).ok());
    let made = SegmentHeader {
        partition: place.id,
        sequence: info.sequence,
        nonce: info.nonce,
        base: info.base,
        file_bytes: BLOCK_BYTES + block_up(info.end.position) - info.base.position,
        created_ns: info.first_time_ns,
        chain: first.map_or(0, |first| first.previous),
        durable_offset: info.base.offset,
    };
    match found.filter(|found| (found.nonce, found.base) == (info.nonce, info.base)) {
        // The copy is synced as a whole.
        Some(found) => SegmentHeader { durable_offset: info.base.offset, ..found },
        None => made,
    }
}

/// Makes a flush end with the frame that ends at `end`.
fn shorten(
    folder: &Folder,
    info: &SegmentInfo,
    segment: &SegmentHeader,
    flush: &mut FlushHeader,
    end: u64,
) -> io::Result<()> {
    let mut at = LogPoint { position: flush.position + FLUSH_HEADER_LEN as u64, offset: flush.first_offset };
    let start = at;
    let mut sum = 0;
    while at.position < end {
        let mut head = [0; HEADER_BYTES];
        folder.read_exact(info.sequence, segment.file_at(at.position), &mut head)?;
        let frame = FrameHeader::parse(&head, FRAME_BYTES_MAX_CEILING)
            .map_err(|code| io::Error::other(format!("it changed while it was read: {}", code.name())))?;
        sum = digest(sum, u32::from_le_bytes(*head.last_chunk().expect("four bytes")));
        at.position += frame.frame_bytes() as u64;
        at.offset += u64::from(frame.offset_span);
    }
    flush.digest = sum;
    flush.frame_bytes = u32::try_from(end - start.position).map_err(io::Error::other)?;
    flush.records = u32::try_from(at.offset - start.offset).map_err(io::Error::other)?;
    Ok(())
}

/// What was written is read once more.
fn check(place: &Place, to: &Path, whole: &Recovery) -> Outcome {
    let copy = Place { path: to.to_owned(), ..place.clone() };
    let again = Folder::new(&copy, false).recover(&copy, false, "check")?;
    let ranges = |recovery: &Recovery| -> Vec<_> {
        let of = |info: &SegmentInfo| {
            (
                info.sequence,
                info.base,
                info.end.offset,
                info.quarantined.iter().map(|range| (range.from.offset, range.to.offset)).collect::<Vec<_>>(),
            )
        };
        recovery.log.segments.iter().map(of).collect()
    };
    if ranges(&again) == ranges(whole) {
        return Ok(());
    }
    let message = format!("the copy in {} does not hold what was read", to.display());
    Err(Failure::new(Exit::Failed, message, "check the disk that is written to, and repair to another"))
}

fn write_file(path: &Path, bytes: &[u8]) -> Outcome {
    let write = || -> io::Result<()> {
        let mut file = File::create_new(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(|source| failed(path, &source))
}

fn failed(path: &Path, source: &io::Error) -> Failure {
    let message = format!("{}: {source}", path.display());
    Failure::new(Exit::Failed, message, "give this user the directory, with room, or name another with --to")
}
