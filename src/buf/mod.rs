//! Memory: mappings, the region table, receive memory, blocks, and the one function that copies payload.
//!
//! Owned here: every byte the data plane touches ([`Mapping`]), the table that turns a [`Span`] into bytes
//! ([`Memory`]), the accounts of who still needs which receive memory ([`ReceiveMemory`]) and send memory
//! ([`SendMemory`]), and the counters of copies ([`CopyCounters`]).
//!
//! Invariants
//! 1. A span says where bytes are; a hold says that they may be read past the end of the tick.
//! 2. Receive memory goes back to the kernel only at the end of a tick (shared ring), or once consumed
//!    (bulk region), and in both cases only when nothing holds it.
//! 3. Payload bytes are copied by `Memory::{copy, copy_in, copy_out}` alone, each with its reason.
//! 4. No call after start-up allocates, except `Memory::attach` of a region (topic creation).

use crate::ids::RegionId;

mod blocks;
mod bulk;
mod copies;
mod mapping;
mod memory;
mod receive;
mod send;
mod shared;

#[cfg(test)]
mod tests;

pub use crate::ids::BulkId;
pub use copies::{Copied, CopyCounters, CopyReason};
pub use mapping::{HUGE_PAGE_BYTES, MapError, MapStep, Mapping, Pages};
pub use memory::Memory;
pub use receive::{ReceiveMemory, ReceiveSpec};
pub use send::SendMemory;

// Positions and lengths are u64 in spans and usize in slices; both are 64 bits wide where this runs.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());

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
    /// The position behind the span's last byte.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.at + self.bytes as u64
    }

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

/// One shard's memory: what it can address, and the account of its receive memory.
#[derive(Debug)]
pub struct Buffers {
    /// Regions, bytes, copies.
    pub memory: Memory,
    /// Holds on receive memory.
    pub receive: ReceiveMemory,
}
