//! The two headers of a segment's file, and the names of a log's files: docs/log-format.md, sections 2 to 4.
//!
//! A header that decodes is whole and of a format this build knows. Whether it is the one that belongs where it was
//! found is asked of it then: [`SegmentHeader::check_place`], [`FlushHeader::check_place`].

use std::fmt;

use super::{BLOCK_BYTES, LogPoint};
use crate::ids::PartitionId;
use crate::proto::checksum::{Crc32c, crc32c};

/// The format this build writes. It reads this one and those before.
pub const FORMAT: u32 = 1;
/// Bytes of a segment's header; the rest of its block is zero.
pub const SEGMENT_HEADER_BYTES: usize = 128;
/// Bytes of a flush's header, as a length of memory.
pub const FLUSH_HEADER_LEN: usize = super::FLUSH_HEADER_BYTES as usize;
/// The first bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"URLOGSEG";
/// The first bytes of a flush.
pub const FLUSH_MAGIC: [u8; 4] = *b"URFL";

/// No log grows so far that its positions would not fit in half of 64 bits.
pub(super) const POSITION_MAX: u64 = u64::MAX >> 2;

const _: () = assert!(SEGMENT_HEADER_BYTES as u64 <= BLOCK_BYTES && FLUSH_HEADER_LEN as u64 <= BLOCK_BYTES);

/// The first block of a segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub partition: PartitionId,
    /// The number in the file's name.
    pub sequence: u64,
    /// In each of the segment's flush headers, and in those of no other segment.
    pub nonce: u64,
    /// Where the segment begins; its first flush lies in the file's second block.
    pub base: LogPoint,
    /// Length of the file.
    pub file_bytes: u64,
    /// When the segment was begun, ns since 1970, UTC.
    pub created_ns: u64,
    /// [`FlushHeader::checksum`] of the last flush before the segment; 0 when there is none.
    pub chain: u32,
    /// Every record before this offset was durable when the header was written. A later segment proves with it that
    /// what is missing before was lost, and not just never synced.
    pub durable_offset: u64,
}

/// Why bytes are not the header of the segment that was looked for. At fault: who put the file there, or the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentFault {
    /// It was not begun, or it is something else.
    NotASegment,
    /// Some of its bytes changed.
    Corrupt {
        /// In the header.
        found: u32,
        /// Of its bytes.
        expected: u32,
    },
    /// A later version wrote it.
    Newer {
        /// What it says.
        format: u32,
    },
    /// It says what no segment can say.
    Impossible(&'static str),
    /// It is another partition's.
    WrongPartition {
        /// Whose it is.
        found: PartitionId,
    },
    /// It has another number than its name: a file that was to be used again and was not yet.
    WrongSequence {
        /// What it says.
        found: u64,
    },
}

impl fmt::Display for SegmentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SegmentFault::NotASegment => f.write_str("no segment begins here"),
            SegmentFault::Corrupt { found, expected } => {
                write!(
                    f,
                    "the header is damaged: it says its checksum is {found:08x}, and it is {expected:08x}"
                )
            }
            SegmentFault::Newer { format } => {
                write!(f, "it has format {format}, and this version reads formats up to {FORMAT}")
            }
            SegmentFault::Impossible(what) => write!(f, "the header is impossible: {what}"),
            SegmentFault::WrongPartition { found } => write!(f, "it is a segment of partition {found}"),
            SegmentFault::WrongSequence { found } => write!(f, "its number is {found}, not that of its name"),
        }
    }
}

impl std::error::Error for SegmentFault {}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[0..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[12..16].copy_from_slice(&self.partition.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        out[24..32].copy_from_slice(&self.nonce.to_le_bytes());
        out[32..40].copy_from_slice(&self.base.position.to_le_bytes());
        out[40..48].copy_from_slice(&self.base.offset.to_le_bytes());
        out[48..56].copy_from_slice(&self.file_bytes.to_le_bytes());
        out[56..64].copy_from_slice(&self.created_ns.to_le_bytes());
        out[64..68].copy_from_slice(&self.chain.to_le_bytes());
        out[72..80].copy_from_slice(&self.durable_offset.to_le_bytes());
        let checksum = crc32c(&out[..124]);
        out[124..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads a header.
    ///
    /// # Errors
    /// The first of `NotASegment`, `Corrupt`, `Newer` and `Impossible` that holds.
    pub fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<SegmentHeader, SegmentFault> {
        if bytes[0..8] != SEGMENT_MAGIC {
            return Err(SegmentFault::NotASegment);
        }
        // Every format keeps the checksum where it is, so that a flipped bit is not taken for a later format.
        let (found, expected) = (u32_at(bytes, 124), crc32c(&bytes[..124]));
        if found != expected {
            return Err(SegmentFault::Corrupt { found, expected });
        }
        let format = u32_at(bytes, 8);
        if format > FORMAT {
            return Err(SegmentFault::Newer { format });
        }
        if format == 0 {
            return Err(SegmentFault::Impossible("its format is 0"));
        }
        let header = SegmentHeader {
            partition: PartitionId(u32_at(bytes, 12)),
            sequence: u64_at(bytes, 16),
            nonce: u64_at(bytes, 24),
            base: LogPoint { position: u64_at(bytes, 32), offset: u64_at(bytes, 40) },
            file_bytes: u64_at(bytes, 48),
            created_ns: u64_at(bytes, 56),
            chain: u32_at(bytes, 64),
            durable_offset: u64_at(bytes, 72),
        };
        if !header.base.position.is_multiple_of(BLOCK_BYTES) || !header.file_bytes.is_multiple_of(BLOCK_BYTES)
        {
            return Err(SegmentFault::Impossible("its base or length is no multiple of a block"));
        }
        if header.base.position > POSITION_MAX || header.file_bytes > POSITION_MAX {
            return Err(SegmentFault::Impossible("it lies beyond every position"));
        }
        Ok(header)
    }

    /// Whether it is the header of this partition's segment of this number.
    ///
    /// # Errors
    /// `WrongPartition`, `WrongSequence`.
    pub const fn check_place(&self, partition: PartitionId, sequence: u64) -> Result<(), SegmentFault> {
        if self.partition.0 != partition.0 {
            return Err(SegmentFault::WrongPartition { found: self.partition });
        }
        if self.sequence != sequence {
            return Err(SegmentFault::WrongSequence { found: self.sequence });
        }
        Ok(())
    }

    /// Where in the file a position lies.
    #[must_use]
    pub const fn file_at(&self, position: u64) -> u64 {
        BLOCK_BYTES + position - self.base.position
    }

    /// The position at which the file ends.
    #[must_use]
    pub const fn file_end(&self) -> u64 {
        self.base.position + self.file_bytes.saturating_sub(BLOCK_BYTES)
    }
}

/// What a flush begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlushHeader {
    /// Bytes of its frames, without this header and the padding.
    pub frame_bytes: u32,
    /// The segment's.
    pub nonce: u64,
    /// Of this header.
    pub position: u64,
    /// Of the first record in it, or that the next one will have when there is none.
    pub first_offset: u64,
    /// Offsets its frames take up.
    pub records: u32,
    /// Of its frames: see [`digest`].
    pub digest: u32,
    /// Every record before this offset was durable when the header was written.
    pub durable_offset: u64,
    /// `checksum` of the flush before, in this segment or an earlier one; 0 when there is none.
    pub previous: u32,
    /// How often this flush was written before, with fewer frames.
    pub revision: u32,
}

/// Why bytes are not the flush header that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushFault {
    /// There is none: zeros, or something else.
    NotAFlush,
    /// Some of its bytes changed.
    Corrupt,
    /// Of another segment: what the file held before it was used again.
    WrongNonce,
    /// It was written elsewhere.
    WrongPosition {
        /// What it says.
        found: u64,
    },
    /// Records are missing before it, or it repeats some.
    WrongOffset {
        /// What it says.
        found: u64,
        /// The next one.
        expected: u64,
    },
    /// What it follows is not what lies before it.
    WrongChain,
    /// It is longer than any flush, or than the file.
    TooLong,
    /// Its frames are whole, and are not those it was written with.
    WrongDigest,
}

impl fmt::Display for FlushFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlushFault::NotAFlush => f.write_str("no flush begins here"),
            FlushFault::Corrupt => f.write_str("a flush header's checksum does not match"),
            FlushFault::WrongNonce => f.write_str("a flush header of another segment"),
            FlushFault::WrongPosition { found } => write!(f, "a flush header of position {found}"),
            FlushFault::WrongOffset { found, expected } => {
                write!(f, "a flush of offset {found} where {expected} follows")
            }
            FlushFault::WrongChain => f.write_str("a flush that follows another one than lies before it"),
            FlushFault::TooLong => f.write_str("a flush that is longer than the file or than any flush"),
            FlushFault::WrongDigest => f.write_str("a flush with other frames than it was written with"),
        }
    }
}

impl std::error::Error for FlushFault {}

impl FlushHeader {
    /// The header's bytes. The last four are [`FlushHeader::checksum`], for the next flush's `previous`.
    #[must_use]
    pub fn encode(&self) -> [u8; FLUSH_HEADER_LEN] {
        let mut out = [0; FLUSH_HEADER_LEN];
        out[0..4].copy_from_slice(&FLUSH_MAGIC);
        out[4..8].copy_from_slice(&self.frame_bytes.to_le_bytes());
        out[8..16].copy_from_slice(&self.nonce.to_le_bytes());
        out[16..24].copy_from_slice(&self.position.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_offset.to_le_bytes());
        out[32..36].copy_from_slice(&self.records.to_le_bytes());
        out[36..40].copy_from_slice(&self.digest.to_le_bytes());
        out[40..48].copy_from_slice(&self.durable_offset.to_le_bytes());
        out[48..52].copy_from_slice(&self.previous.to_le_bytes());
        out[52..56].copy_from_slice(&self.revision.to_le_bytes());
        let checksum = crc32c(&out[..60]);
        out[60..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads a header.
    ///
    /// # Errors
    /// `NotAFlush`, `Corrupt`.
    #[inline]
    pub fn decode(bytes: &[u8; FLUSH_HEADER_LEN]) -> Result<FlushHeader, FlushFault> {
        if bytes[0..4] != FLUSH_MAGIC {
            return Err(FlushFault::NotAFlush);
        }
        if crc32c(&bytes[..60]) != FlushHeader::checksum(bytes) || u32_at(bytes, 56) != 0 {
            return Err(FlushFault::Corrupt);
        }
        Ok(FlushHeader {
            frame_bytes: u32_at(bytes, 4),
            nonce: u64_at(bytes, 8),
            position: u64_at(bytes, 16),
            first_offset: u64_at(bytes, 24),
            records: u32_at(bytes, 32),
            digest: u32_at(bytes, 36),
            durable_offset: u64_at(bytes, 40),
            previous: u32_at(bytes, 48),
            revision: u32_at(bytes, 52),
        })
    }

    /// The checksum of an encoded header: what the next one names as `previous`.
    #[must_use]
    #[inline]
    pub fn checksum(encoded: &[u8; FLUSH_HEADER_LEN]) -> u32 {
        u32_at(encoded, 60)
    }

    /// Whether it was written to this place of the segment with this nonce.
    ///
    /// # Errors
    /// `WrongNonce`, `WrongPosition`.
    #[inline]
    pub const fn check_place(&self, nonce: u64, position: u64) -> Result<(), FlushFault> {
        if self.nonce != nonce {
            return Err(FlushFault::WrongNonce);
        }
        if self.position != position {
            return Err(FlushFault::WrongPosition { found: self.position });
        }
        Ok(())
    }

    /// Where its frames end: its last byte but for the padding.
    #[must_use]
    #[inline]
    pub const fn end(&self) -> u64 {
        self.position + FLUSH_HEADER_LEN as u64 + self.frame_bytes as u64
    }
}

/// The digest of a flush's frames with one more: CRC-32C over their header checksums, little-endian, in order. It is 0
/// for none. As a frame's header checksum covers the body's checksum, it stands for all bytes of the flush.
#[must_use]
#[inline]
pub fn digest(so_far: u32, header_checksum: u32) -> u32 {
    let mut crc = Crc32c::resume(so_far);
    crc.update(&header_checksum.to_le_bytes());
    crc.finish()
}

/// A file of a partition's folder, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogFile {
    /// `00000000000000000012.seg`: a segment.
    Segment(u64),
    /// `00000000000000000012.idx`: what there is to know about that segment, which takes no more.
    Index(u64),
    /// `snapshot` and `snapshot.1`: the newest snapshot and the one before.
    Snapshot(u8),
    /// `fence`: where the partition's disk failed, to be cut at the next start.
    Fence,
}

/// The newest snapshot and the one before.
pub const SNAPSHOTS: u8 = 2;
/// Digits of a segment's number in its file's name.
const SEQUENCE_DIGITS: usize = 20;
/// Digits of a partition's id in its folder's name, at least.
const PARTITION_DIGITS: usize = 8;

impl LogFile {
    /// The file's name.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            LogFile::Segment(sequence) => format!("{sequence:0SEQUENCE_DIGITS$}.seg"),
            LogFile::Index(sequence) => format!("{sequence:0SEQUENCE_DIGITS$}.idx"),
            LogFile::Snapshot(0) => "snapshot".to_owned(),
            LogFile::Snapshot(age) => format!("snapshot.{age}"),
            LogFile::Fence => "fence".to_owned(),
        }
    }

    /// What a file of this name is; `None` for a name that no file of a log has.
    #[must_use]
    pub fn from_name(name: &str) -> Option<LogFile> {
        match name {
            "snapshot" => return Some(LogFile::Snapshot(0)),
            "snapshot.1" => return Some(LogFile::Snapshot(1)),
            "fence" => return Some(LogFile::Fence),
            _ => {}
        }
        let (number, extension) = name.split_once('.')?;
        let sequence = digits(number, SEQUENCE_DIGITS)?;
        match extension {
            "seg" => Some(LogFile::Segment(sequence)),
            "idx" => Some(LogFile::Index(sequence)),
            _ => None,
        }
    }
}

/// The name of a partition's folder: `p00000007`.
#[must_use]
pub fn partition_folder(partition: PartitionId) -> String {
    format!("p{:0PARTITION_DIGITS$}", partition.0)
}

/// The partition whose folder has this name.
#[must_use]
pub fn partition_of_folder(name: &str) -> Option<PartitionId> {
    let partition = name.strip_prefix('p')?.parse().ok().map(PartitionId)?;
    (partition_folder(partition) == name).then_some(partition)
}

fn digits(number: &str, count: usize) -> Option<u64> {
    let all = number.len() == count && number.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| number.parse().ok()).flatten()
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
