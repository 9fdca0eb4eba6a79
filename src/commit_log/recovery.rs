//! What a partition's files hold, found out at start-up: docs/log-format.md, section 9, is this in words.
//!
//! Recovery reads a [`LogStore`] and changes nothing. It streams through one buffer: what it remembers beside is the
//! result, and the batches of one flush. Every byte is read and verified once, but for blocks that a buffer ended in
//! and for what lies behind damage.
//!
//! A flush counts when its header is where it says it is, has the segment's nonce, follows the one before, and when its
//! frames are whole and together have its digest. What else there is was torn (the log is cut), or lost (the
//! range is quarantined): it was lost if something behind says that it was durable.

use std::ops::Range;
use std::{fmt, io};

use super::envelope::EnvelopeFault;
use super::format::LogFile;
use super::{BLOCK_BYTES, LogPoint, RecoveredLog, SegmentInfo, Snapshot, block_up, index, snapshot};
use crate::ids::PartitionId;
use drive::Drive;
pub use finding::{Dropped, Finding};

mod drive;
mod files;
mod finding;
mod producers;
mod segment;
mod stream;
mod unsynced;

/// Smallest buffer for recovery.
pub const BUFFER_BYTES_MIN: usize = 16 * 1024;
/// How far recovery looks behind the last flush of a log for one that says more was durable: past the longest flush.
pub const RESYNC_BYTES: u64 = 5 * 1024 * 1024;

/// A partition's folder, to be read.
pub trait LogStore {
    /// Every segment file: its number and its length. In any order.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    fn segments(&self) -> io::Result<Vec<(u64, u64)>>;

    /// Reads from a segment's file; 0 at its end. Position, length and memory are multiples of `BLOCK_BYTES` from
    /// the beginnings of file and buffer.
    ///
    /// # Errors
    /// When it cannot be read: recovery ends with that, and nothing is lost.
    fn read_at(&self, sequence: u64, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// The whole of a snapshot, index or fence; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn read_small(&self, file: LogFile) -> io::Result<Option<Vec<u8>>>;
}

/// What to recover.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Whose log it is.
    pub partition: PartitionId,
    /// Without them everything is read.
    pub use_snapshots: bool,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// What the partition goes on with. Before it does, what lies from `unsynced_from` on has to be written again and
    /// synced, `dropped` deleted, and a new snapshot written ([`RecoveredLog::snapshot`]); then the fence goes.
    pub log: RecoveredLog,
    /// What was not as it should be, in the order of the log.
    pub findings: Vec<Finding>,
    /// Segments that are no part of the log (any more): to be deleted, and not to be used again as they are.
    pub dropped: Vec<u64>,
    /// Files that no segment was begun in: they may be used, or deleted.
    pub unused: Vec<u64>,
    /// Segments whose index files are missing or wrong: [`index::encode`] makes them.
    pub unindexed: Vec<u64>,
    /// The point of the snapshot that was used.
    pub from_snapshot: Option<LogPoint>,
    /// The point of the fence that was applied.
    pub fenced_at: Option<LogPoint>,
    /// The first flush of which nothing says that it was durable: it can be read, and may not be on the disk.
    pub unsynced_from: Option<LogPoint>,
    /// Bytes read from segments.
    pub bytes_read: u64,
}

impl Recovery {
    /// What of a segment's file may not be on the disk. With the first flush goes the header.
    #[must_use]
    pub fn unsynced_bytes(&self, segment: &SegmentInfo) -> Option<Range<u64>> {
        let from = self.unsynced_from?.position;
        let file_at = |position: u64| BLOCK_BYTES + position - segment.base.position;
        let begins = if from > segment.base.position { file_at(from) } else { 0 };
        let ends = file_at(block_up(segment.end.position));
        (begins < ends).then_some(begins..ends)
    }
}

/// Why a log cannot be recovered. Nothing was changed.
#[derive(Debug)]
pub enum RecoveryError {
    /// A file cannot be read. At fault: the environment.
    Io {
        /// Which one; `None` for the folder.
        file: Option<LogFile>,
        /// Where in it.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// A later version wrote it.
    Newer {
        /// Which file.
        file: LogFile,
        /// What it says.
        format: u32,
    },
    /// The log has to be cut, and the file that says where is damaged.
    Fence(EnvelopeFault),
}

impl RecoveryError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            RecoveryError::Io { .. } => {
                "check the disk and who may read the folder; `uringest log repair` copies what can be read"
            }
            RecoveryError::Newer { .. } => "start the version that wrote it, or a later one",
            RecoveryError::Fence(_) => {
                "restore the partition from a backup, or delete the file `fence` and take what the disk kept"
            }
        }
    }
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryError::Io { file: Some(file), at, source } => {
                write!(f, "{} cannot be read at byte {at}: {source}", file.name())
            }
            RecoveryError::Io { file: None, source, .. } => {
                write!(f, "the folder cannot be listed: {source}")
            }
            RecoveryError::Newer { file, format } => {
                write!(f, "{} has format {format}, which a later version of uringest wrote", file.name())
            }
            RecoveryError::Fence(fault) => {
                write!(f, "the partition was fenced, and `fence` cannot be used: {fault}")
            }
        }
    }
}

impl std::error::Error for RecoveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecoveryError::Io { source, .. } => Some(source),
            RecoveryError::Fence(fault) => Some(fault),
            RecoveryError::Newer { .. } => None,
        }
    }
}

/// Recovers a partition's log. `progress` is told the bytes read and those to read at most, at each read.
///
/// # Errors
/// See [`RecoveryError`]; damage is none.
///
/// # Panics
/// When the buffer is shorter than [`BUFFER_BYTES_MIN`].
pub fn recover<S: LogStore>(
    store: &S,
    request: Request,
    buffer: &mut [u8],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Recovery, RecoveryError> {
    assert!(buffer.len() >= BUFFER_BYTES_MIN, "a buffer of {} bytes", buffer.len());
    Drive::new(store, request, buffer, progress)?.run()
}

impl RecoveredLog {
    /// The state at the end: with it and the segments' indexes the next recovery reads none of what this one did.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            sequence: self.next_sequence,
            at: LogPoint { position: block_up(self.end.position), offset: self.end.offset },
            chain: self.chain,
            last_append_ns: self.last_append_ns,
            first_time_ns: 0,
            index: Vec::new(),
            producers: self.producers.clone(),
        }
    }
}

/// The newest snapshot that can be used, and what was wrong with the others.
fn newest_snapshot<S: LogStore>(
    store: &S,
    partition: PartitionId,
    findings: &mut Vec<Finding>,
) -> Result<Option<Snapshot>, RecoveryError> {
    let mut newest: Option<Snapshot> = None;
    for age in 0..super::format::SNAPSHOTS {
        let file = LogFile::Snapshot(age);
        let Some(bytes) = read_small(store, file)? else { continue };
        match snapshot::decode(partition, &bytes) {
            // The one before counts only where the newest does not: it may be older than a cut.
            Ok(found) => newest = newest.or(Some(found)),
            Err(EnvelopeFault::Newer { format }) => return Err(RecoveryError::Newer { file, format }),
            Err(why) => findings.push(Finding::SnapshotIgnored { file, why }),
        }
    }
    Ok(newest)
}

fn fence<S: LogStore>(store: &S, partition: PartitionId) -> Result<Option<LogPoint>, RecoveryError> {
    let file = LogFile::Fence;
    let Some(bytes) = read_small(store, file)? else { return Ok(None) };
    match snapshot::decode_fence(partition, &bytes) {
        Ok(at) => Ok(Some(at)),
        Err(EnvelopeFault::Newer { format }) => Err(RecoveryError::Newer { file, format }),
        Err(fault) => Err(RecoveryError::Fence(fault)),
    }
}

fn read_small<S: LogStore>(store: &S, file: LogFile) -> Result<Option<Vec<u8>>, RecoveryError> {
    store.read_small(file).map_err(|source| RecoveryError::Io { file: Some(file), at: 0, source })
}

/// What the index file says of a segment, if it is there.
fn read_index<S: LogStore>(
    store: &S,
    partition: PartitionId,
    sequence: u64,
) -> Result<Option<Result<SegmentInfo, EnvelopeFault>>, RecoveryError> {
    let bytes = read_small(store, LogFile::Index(sequence))?;
    Ok(bytes.map(|bytes| index::decode(partition, &bytes)))
}
