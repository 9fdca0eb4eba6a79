//! What the header's fields mean in the kinds that are a header alone (docs/protocol.md).

use crate::proto::header::{FrameHeader, GapReason, Kind};

/// The absolute limit of frame bytes in a `credit` frame.
pub(crate) fn credit_limit(header: &FrameHeader) -> u64 {
    header.offset
}

/// A `credit` frame for a consumer's partition.
pub(crate) fn credit(partition_id: u32, limit: u64) -> Vec<u8> {
    FrameHeader { channel: partition_id, offset: limit, ..FrameHeader::new(Kind::Credit) }.alone().to_vec()
}

/// First offset, number of records and reason of a `gap` frame.
pub(crate) fn gap(header: &FrameHeader) -> (u64, u64, Option<GapReason>) {
    (header.offset, header.sequence, GapReason::from_number(header.flags))
}

/// The offset that a `committed` frame confirms.
pub(crate) fn committed_offset(header: &FrameHeader) -> u64 {
    header.offset
}

/// A `release` frame.
pub(crate) fn release(channel: u32) -> Vec<u8> {
    FrameHeader { channel, ..FrameHeader::new(Kind::Release) }.alone().to_vec()
}

/// An `unsubscribe` frame.
pub(crate) fn unsubscribe(partition_id: u32) -> Vec<u8> {
    FrameHeader { channel: partition_id, ..FrameHeader::new(Kind::Unsubscribe) }.alone().to_vec()
}
