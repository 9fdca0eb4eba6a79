//! What recovery finds that is not as it should be.

use std::fmt;
use std::ops::Range;

use super::super::envelope::EnvelopeFault;
use super::super::format::{LogFile, SegmentFault};
use super::super::window::Damage;
use super::super::{LogPoint, Quarantined};

/// Something that is told to the operator. Recovery has dealt with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The log ended in something that was being written: cut. What goes was never durable.
    TornTail {
        /// The segment.
        sequence: u64,
        /// The new end.
        at: LogPoint,
        /// Where in the file the first bad byte may be.
        file_at: u64,
        /// What is there.
        why: Damage,
    },
    /// Records that were durable are damaged: never served.
    Quarantined {
        /// The segment.
        sequence: u64,
        /// The range.
        range: Quarantined,
        /// Where in the file it begins.
        file_at: u64,
        /// What is there.
        why: Damage,
    },
    /// Segments are missing in the middle of the log.
    Missing {
        /// The number of the first that is missing.
        sequence: u64,
        /// The range, of positions and offsets.
        range: Quarantined,
    },
    /// A segment's header is damaged, and was found again from its first flush.
    HeaderRebuilt {
        /// The segment.
        sequence: u64,
        /// What was wrong.
        why: SegmentFault,
    },
    /// A segment's index is missing or wrong: the segment was read.
    IndexRebuilt {
        /// The segment.
        sequence: u64,
        /// What is wrong; `None` where there is none.
        why: Option<EnvelopeFault>,
    },
    /// A snapshot cannot be used.
    SnapshotIgnored {
        /// Which one.
        file: LogFile,
        /// Why.
        why: EnvelopeFault,
    },
    /// A segment's file has another's contents.
    Foreign {
        /// The number in its name.
        sequence: u64,
        /// What it is.
        why: SegmentFault,
    },
    /// A segment is no part of the log.
    Dropped {
        /// The segment.
        sequence: u64,
        /// Why.
        why: Dropped,
    },
    /// The log was cut where its disk had failed.
    FenceApplied {
        /// The new end.
        at: LogPoint,
    },
}

/// Why a segment is no part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It was begun and holds nothing.
    Empty,
    /// The log was cut before it and went on in a later one.
    Superseded,
    /// The log is cut before it now.
    BehindTheEnd,
}

impl Finding {
    /// Whether records that were durable are gone.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        self.lost().is_some()
    }

    /// The offsets of those records.
    #[must_use]
    pub const fn lost(&self) -> Option<Range<u64>> {
        match self {
            Finding::Quarantined { range, .. } | Finding::Missing { range, .. } => {
                Some(range.from.offset..range.to.offset)
            }
            _ => None,
        }
    }

    /// Whether it belongs to a server that ended without an end, and nobody has to do anything about it.
    #[must_use]
    pub const fn is_usual(&self) -> bool {
        matches!(
            self,
            Finding::TornTail { .. }
                | Finding::Dropped { .. }
                | Finding::IndexRebuilt { why: None, .. }
                | Finding::FenceApplied { .. }
        )
    }

    /// A stable name, for logs and JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Finding::TornTail { .. } => "torn_tail",
            Finding::Quarantined { .. } => "quarantined",
            Finding::Missing { .. } => "missing_segment",
            Finding::HeaderRebuilt { .. } => "header_rebuilt",
            Finding::IndexRebuilt { .. } => "index_rebuilt",
            Finding::SnapshotIgnored { .. } => "snapshot_ignored",
            Finding::Foreign { .. } => "foreign_file",
            Finding::Dropped { .. } => "segment_dropped",
            Finding::FenceApplied { .. } => "fence_applied",
        }
    }

    /// The file it is about.
    #[must_use]
    pub const fn file(&self) -> LogFile {
        match self {
            Finding::TornTail { sequence, .. }
            | Finding::Quarantined { sequence, .. }
            | Finding::Missing { sequence, .. }
            | Finding::HeaderRebuilt { sequence, .. }
            | Finding::Foreign { sequence, .. }
            | Finding::Dropped { sequence, .. } => LogFile::Segment(*sequence),
            Finding::IndexRebuilt { sequence, .. } => LogFile::Index(*sequence),
            Finding::SnapshotIgnored { file, .. } => *file,
            Finding::FenceApplied { .. } => LogFile::Fence,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file().name();
        match self {
            Finding::TornTail { at, file_at, why, .. } => {
                let (position, offset) = (at.position, at.offset);
                write!(
                    f,
                    "{file}: the log is cut at offset {offset} (position {position}, byte {file_at}): {why}"
                )
            }
            Finding::Quarantined { range, file_at, why, .. } => {
                let Quarantined { from, to } = range;
                let (positions, offsets) = ((from.position, to.position), (from.offset, to.offset));
                write!(f, "{file}: damaged from byte {file_at}, positions {}..{}", positions.0, positions.1)?;
                write!(f, ", offsets {}..{}, which are not served: {why}", offsets.0, offsets.1)
            }
            Finding::Missing { range, .. } => {
                let (from, to) = (range.from.offset, range.to.offset);
                write!(f, "{file} is missing, and with it offsets {from}..{to}")
            }
            Finding::HeaderRebuilt { why, .. } => {
                write!(f, "{file}: {why}; its first flush says what it is")
            }
            Finding::IndexRebuilt { why: Some(why), .. } => write!(f, "{file}: {why}; the segment was read"),
            Finding::IndexRebuilt { why: None, .. } => write!(f, "{file} is missing; the segment was read"),
            Finding::SnapshotIgnored { why, .. } => write!(f, "{file} is not used: {why}"),
            Finding::Foreign { why, .. } => write!(f, "{file} is not used: {why}"),
            Finding::Dropped { why, .. } => f.write_str(&match why {
                Dropped::Empty => format!("{file} holds nothing"),
                Dropped::Superseded => {
                    format!("{file} was cut off before: a later segment goes on before it")
                }
                Dropped::BehindTheEnd => {
                    format!("{file} lies behind the end of the log, and goes with what is cut")
                }
            }),
            Finding::FenceApplied { at } => {
                write!(f, "the disk had failed: the log is cut at offset {}, its last durable one", at.offset)
            }
        }
    }
}
