//! Send memory: blocks that records are sealed to and sent from. A block is its connection's until the socket has
//! taken all of it, as sealed bytes can be neither changed nor sealed again.

use super::Span;
use super::blocks::Blocks;
use crate::ids::RegionId;

/// See the module. It counts; it neither reads nor writes the memory.
#[derive(Debug)]
pub struct SendMemory {
    blocks: Blocks,
    bytes: u64,
}

/// Blocks up to this size may use up the last quarter: what is said to everybody else goes on.
const SMALL_BYTES: u32 = 16 * 1024;

impl SendMemory {
    /// All of the region's `bytes` are free.
    ///
    /// # Panics
    /// When there are less than one block's, or 4 GiB and more.
    #[must_use]
    pub fn new(region: RegionId, bytes: u64) -> SendMemory {
        SendMemory { blocks: Blocks::new(region, bytes), bytes }
    }

    /// A block, as a span of exactly `bytes` bytes. `None` when no free one is large enough, or when only the last
    /// quarter is left and it is not small.
    ///
    /// # Panics
    /// When `bytes` is 0.
    pub fn take(&mut self, bytes: u32) -> Option<Span> {
        let left = u64::from(self.blocks.free_bytes()).saturating_sub(bytes.into());
        let scarce = 4 * left < self.bytes && self.in_use_bytes() > 0;
        if scarce && bytes > SMALL_BYTES { None } else { self.blocks.take(bytes) }
    }

    /// Gives a block back; any span inside it that is not empty names it.
    ///
    /// # Panics
    /// When it is not in use.
    pub fn give(&mut self, block: Span) {
        self.blocks.release(block);
    }

    /// Bytes that one connection should ask for at most: few when less than half is free.
    #[must_use]
    pub fn share(&self) -> u64 {
        if 2 * self.in_use_bytes() <= self.bytes { self.bytes / 16 } else { SMALL_BYTES.into() }
    }

    /// Bytes of the blocks in use.
    #[must_use]
    pub fn in_use_bytes(&self) -> u64 {
        self.blocks.in_use_bytes()
    }
}
