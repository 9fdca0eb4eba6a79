//! Memory: mappings, the region table, receive memory, blocks, and the one function that copies payload.

use crate::ids::RegionId;

/// A range of a region's address space. In a mirrored region `at + bytes` may reach into the second copy.
/// Plain data: it says where bytes are, not that they may be read; holds (see `ReceiveMemory`) say that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// The region.
    pub region: RegionId,
    /// How many bytes.
    pub bytes: u32,
    /// The first byte, counted from the region's start.
    pub at: u64,
}

impl Span {
    /// The span's first `bytes` bytes and the rest.
    ///
    /// # Panics
    /// When the span is shorter.
    #[must_use]
    pub fn split_at(self, bytes: u32) -> (Span, Span) {
        assert!(bytes <= self.bytes, "a span is split within its length");
        (
            Span { bytes, ..self },
            Span { region: self.region, at: self.at + u64::from(bytes), bytes: self.bytes - bytes },
        )
    }
}

/// Why payload bytes were copied: the label of the copy counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CopyReason {
    /// Into a `memory` (or `log`) partition's ring: the one copy those kinds make.
    Retain = 0,
    /// A frame arrived in pieces that do not lie side by side.
    Straddle = 1,
    /// A `live` topic's slow subscriber would have pinned receive memory.
    Lagging = 2,
    /// Small scattered frames were put side by side for one send.
    Gather = 3,
    /// A frame for a `live` partition of another shard.
    Crossing = 4,
    /// A connection changed shards, or was promoted or demoted, with a partial frame pending.
    Moved = 5,
}

/// Memory from `mmap`.
#[derive(Debug)]
pub struct Mapping;
