//! What is asked of a frame in a log, beyond what [`FrameHeader::parse`] asks of any.

use std::fmt;

use crate::ids::PartitionId;
use crate::limits::{FRAME_BYTES_MAX_CEILING, HEADER_BYTES};
use crate::proto::code::Code;
use crate::proto::header::{FrameHeader, Kind};

/// Why bytes are not the frame that belongs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFault {
    /// They are no frame.
    Header(Code),
    /// A frame of another kind than `deliver`, or one without records.
    NotABatch,
    /// Of another partition.
    WrongPartition {
        /// Whose it is.
        found: PartitionId,
    },
    /// Records are missing before it, or it repeats some.
    WrongOffset {
        /// What it says.
        found: u64,
        /// The next one.
        expected: u64,
    },
    /// It goes on beyond its flush, or beyond the end.
    Beyond,
    /// Its body is not what its checksum says.
    Body,
}

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameFault::Header(code) => write!(f, "not a frame: {}", code.name()),
            FrameFault::NotABatch => f.write_str("a frame that is no batch"),
            FrameFault::WrongPartition { found } => write!(f, "a frame of partition {found}"),
            FrameFault::WrongOffset { found, expected } => {
                write!(f, "a frame of offset {found} where {expected} follows")
            }
            FrameFault::Beyond => f.write_str("a frame that is longer than its flush"),
            FrameFault::Body => f.write_str("a frame whose body does not match its checksum"),
        }
    }
}

impl std::error::Error for FrameFault {}

/// The header of the frame with this offset, from the first bytes of it. The body is not looked at.
///
/// # Errors
/// What is wrong with it; never `Beyond` or `Body`.
#[inline]
pub fn parse(
    bytes: &[u8; HEADER_BYTES],
    partition: PartitionId,
    offset: u64,
) -> Result<FrameHeader, FrameFault> {
    let header = FrameHeader::parse(bytes, FRAME_BYTES_MAX_CEILING).map_err(FrameFault::Header)?;
    if header.kind != Kind::Deliver || header.offset_span == 0 {
        return Err(FrameFault::NotABatch);
    }
    if header.channel != partition.0 {
        return Err(FrameFault::WrongPartition { found: PartitionId(header.channel) });
    }
    if header.offset != offset || offset.checked_add(u64::from(header.offset_span)).is_none() {
        return Err(FrameFault::WrongOffset { found: header.offset, expected: offset });
    }
    Ok(header)
}
