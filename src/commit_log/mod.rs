//! The durable log: what its files hold, and pure planning around them. No I/O, no clock.
//!
//! A partition's log is one range of positions (bytes since it was made). It is cut into segments, one file each; a
//! segment's file is one block of header, then the positions from its base on: position `p` lies at
//! `BLOCK_BYTES + p - base.position`. Positions are filled by flushes: each starts at a multiple of `BLOCK_BYTES` with a
//! flush header, goes on with whole frames, byte for byte as they are sent, and zeros up to the next block.
//! docs/log-format.md is the specification.
//!
//! What is recovered trusts flush headers alone: they carry the segment's nonce, which is never sent, their own position,
//! and the checksum of the one before; neither what a recycled file held nor a payload can look like one.

mod envelope;
pub mod format;
pub mod frames;
pub mod index;
pub mod recovery;
pub mod snapshot;
pub mod window;

pub use envelope::EnvelopeFault;

use crate::proto::code::Code;

/// Flushes and segments start at multiples of this, in memory and in the file: what O_DIRECT asks of any disk.
pub const BLOCK_BYTES: u64 = 4096;
/// Bytes of a flush's header.
pub const FLUSH_HEADER_BYTES: u32 = 64;

/// Where a frame begins or the log ends, and the offset of the record that is (or will be) first there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogPoint {
    /// Bytes since the partition was made, headers and padding included.
    pub position: u64,
    /// Records since then.
    pub offset: u64,
}

/// A flush begins here: one entry of a segment's sparse index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Of the flush's header, and of the first record in it.
    pub at: LogPoint,
    /// When its first batch was appended, ns since 1970, UTC.
    pub append_time_ns: u64,
}

/// What recovery or a reader found damaged in the middle of a log: never served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantined {
    /// The first bad place.
    pub from: LogPoint,
    /// The first good flush header after it.
    pub to: LogPoint,
}

/// A segment that takes no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The number in its file's name; each is one more than the one before.
    pub sequence: u64,
    /// In each of its flush headers.
    pub nonce: u64,
    /// Where it begins: a multiple of `BLOCK_BYTES`.
    pub base: LogPoint,
    /// Where its last frame ends. The next segment's base is this, rounded up to a block.
    pub end: LogPoint,
    /// Append time of its first batch; 0 when it holds none.
    pub first_time_ns: u64,
    /// Append time of its last batch; 0 when it holds none.
    pub last_time_ns: u64,
    /// In order, a part of its length apart; the first is its first flush.
    pub index: Vec<IndexEntry>,
    /// Damaged ranges, in order.
    pub quarantined: Vec<Quarantined>,
}

/// One remembered batch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerEntry {
    /// As the producer counted it.
    pub sequence: u64,
    /// Of the batch's body: tells a resend from another batch.
    pub body_checksum: u32,
    /// Where it was stored.
    pub offset: u64,
    /// How many.
    pub records: u32,
    /// When.
    pub append_time_ns: u64,
    /// Instead of all that: it was refused for good.
    pub refused: Option<Code>,
}

/// A producer as the log remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    /// As it named itself.
    pub producer_id: u64,
    /// The sequence expected next.
    pub next_sequence: u64,
    /// Its last batches, oldest first; at most `DEDUP_WINDOW`, with consecutive sequences up to `next_sequence`.
    pub entries: Vec<ProducerEntry>,
}

/// The small state of a partition at a flush's beginning: recovery need look no further back than this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The segment that `at` lies in, or will: at its end another may begin.
    pub sequence: u64,
    /// A multiple of `BLOCK_BYTES`; everything before is durable.
    pub at: LogPoint,
    /// `FlushHeader::checksum` of the last flush before `at`; 0 when there is none.
    pub chain: u32,
    /// Append time of the last batch before `at`.
    pub last_append_ns: u64,
    /// Append time of the segment's first batch, if that is before `at`; else 0.
    pub first_time_ns: u64,
    /// The segment's index up to `at`, as in [`SegmentInfo`].
    pub index: Vec<IndexEntry>,
    /// Producers, in no order.
    pub producers: Vec<ProducerState>,
}

/// A partition's log as recovery left it. All segments are closed: the partition goes on in a new one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveredLog {
    /// Oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Where the next segment begins: a multiple of `BLOCK_BYTES`.
    pub end: LogPoint,
    /// The next segment's number.
    pub next_sequence: u64,
    /// `FlushHeader::checksum` of the last flush; 0 when there is none.
    pub chain: u32,
    /// Append time of the last batch; 0 when there is none.
    pub last_append_ns: u64,
    /// Producers, in no order.
    pub producers: Vec<ProducerState>,
}

/// `position` rounded up to a block.
#[must_use]
pub const fn block_up(position: u64) -> u64 {
    position.next_multiple_of(BLOCK_BYTES)
}

/// `position` rounded down to a block.
#[must_use]
pub const fn block_down(position: u64) -> u64 {
    position - position % BLOCK_BYTES
}
