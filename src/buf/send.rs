//! Send memory: blocks that records are sealed to and sent from. A block is its connection's until the socket has
//! taken all of it, as sealed bytes can be neither changed nor sealed again.

use super::Span;
use super::blocks::Blocks;
use crate::ids::RegionId;

/// See the module. It counts; it neither reads nor writes the memory.
#[derive(Debug)]
pub struct SendMemory(Blocks);

impl SendMemory {
    /// All of the region's `bytes` are free.
    ///
    /// # Panics
    /// When there are less than one block's, or 4 GiB and more.
    #[must_use]
    pub fn new(region: RegionId, bytes: u64) -> SendMemory {
        SendMemory(Blocks::new(region, bytes))
    }

    /// A block, as a span of exactly `bytes` bytes. `None` when no free one is large enough.
    ///
    /// # Panics
    /// When `bytes` is 0.
    pub fn take(&mut self, bytes: u32) -> Option<Span> {
        self.0.take(bytes)
    }

    /// Gives a block back; any span inside it that is not empty names it.
    ///
    /// # Panics
    /// When it is not in use.
    pub fn give(&mut self, block: Span) {
        self.0.release(block);
    }

    /// Bytes of the blocks in use.
    #[must_use]
    pub fn in_use_bytes(&self) -> u64 {
        self.0.in_use_bytes()
    }
}
