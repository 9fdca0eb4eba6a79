//! A connection's control frames on their way out: a short chain of blocks from the shard's pool.
//!
//! Blocks are taken when there is something to say and given back when it is sent, so an idle connection
//! holds none. The bytes of a block never move: a send may refer to them until its completion.

use crate::buf::{Memory, Span};
use crate::ids::RegionId;
use crate::limits::CONTROL_BLOCK_BYTES;

/// Blocks one connection may have queued: a peer that does not read its answers is closed beyond that.
pub(super) const BLOCKS_PER_CONNECTION: usize = 8;

/// The shard's pool.
pub(super) struct BlockPool {
    region: RegionId,
    free: Vec<u32>,
    blocks: u32,
}

impl BlockPool {
    pub(super) fn new(region: RegionId, blocks: u32) -> Self {
        BlockPool { region, free: (0..blocks).rev().collect(), blocks }
    }

    pub(super) fn in_use(&self) -> usize {
        self.blocks as usize - self.free.len()
    }

    fn span(&self, block: u32, from: u32, bytes: u32) -> Span {
        Span {
            region: self.region,
            at: u64::from(block) * u64::from(CONTROL_BLOCK_BYTES) + u64::from(from),
            bytes,
        }
    }
}

/// What one connection has to say. Bytes between `sent` and `filled` (counted from the first block's
/// start) are queued; `sent` lies in the first block, `filled` in the last.
#[derive(Debug)]
pub(super) struct Outbox {
    blocks: [u32; BLOCKS_PER_CONNECTION],
    count: u8,
    sent: u32,
    filled: u32,
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Outbox { blocks: [0; BLOCKS_PER_CONNECTION], count: 0, sent: 0, filled: 0 }
    }

    pub(super) fn bytes(&self) -> u32 {
        self.filled - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled == self.sent
    }

    /// Queues a whole frame, or nothing: `false` when neither the chain nor the pool has room.
    #[must_use]
    pub(super) fn push(&mut self, pool: &mut BlockPool, memory: &mut Memory, frame: &[u8]) -> bool {
        let end = self.filled as usize + frame.len();
        let wanted = end.div_ceil(CONTROL_BLOCK_BYTES as usize);
        let missing = wanted.saturating_sub(usize::from(self.count));
        // Peers that do not read may not take the last quarter of the pool: with it everybody else is answered.
        let scarce = pool.free.len() < pool.blocks as usize / 4;
        let share = if scarce { 1 } else { BLOCKS_PER_CONNECTION };
        if wanted > share.max(usize::from(self.count)) || missing > pool.free.len() {
            return false;
        }
        for _ in 0..missing {
            self.blocks[usize::from(self.count)] = pool.free.pop().expect("counted above");
            self.count += 1;
        }
        let mut rest = frame;
        while !rest.is_empty() {
            let block = self.blocks[(self.filled / CONTROL_BLOCK_BYTES) as usize];
            let from = self.filled % CONTROL_BLOCK_BYTES;
            let bytes = rest.len().min((CONTROL_BLOCK_BYTES - from) as usize);
            let (now, later) = rest.split_at(bytes);
            let bytes = u32::try_from(bytes).expect("at most a block");
            memory.bytes_mut(pool.span(block, from, bytes)).copy_from_slice(now);
            self.filled += bytes;
            rest = later;
        }
        true
    }

    /// The spans of what is queued, in order.
    pub(super) fn spans(&self, pool: &BlockPool) -> impl Iterator<Item = Span> {
        let mut at = self.sent;
        let (blocks, filled, region) = (self.blocks, self.filled, pool.region);
        std::iter::from_fn(move || {
            if at == filled {
                return None;
            }
            let block = blocks[(at / CONTROL_BLOCK_BYTES) as usize];
            let from = at % CONTROL_BLOCK_BYTES;
            let bytes = (CONTROL_BLOCK_BYTES - from).min(filled - at);
            at += bytes;
            let start = u64::from(block) * u64::from(CONTROL_BLOCK_BYTES) + u64::from(from);
            Some(Span { region, at: start, bytes })
        })
    }

    /// Bytes that a send has got rid of; blocks that are done with go back to the pool.
    pub(super) fn advance(&mut self, pool: &mut BlockPool, bytes: u32) {
        assert!(bytes <= self.bytes(), "no more is sent than was queued");
        self.sent += bytes;
        let done = if self.sent == self.filled {
            usize::from(self.count)
        } else {
            (self.sent / CONTROL_BLOCK_BYTES) as usize
        };
        self.release(pool, done);
        if self.sent == self.filled {
            (self.sent, self.filled) = (0, 0);
        }
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self, pool: &mut BlockPool) {
        self.release(pool, usize::from(self.count));
        (self.sent, self.filled) = (0, 0);
    }

    fn release(&mut self, pool: &mut BlockPool, blocks: usize) {
        if blocks == 0 {
            return;
        }
        pool.free.extend_from_slice(&self.blocks[..blocks]);
        self.blocks.copy_within(blocks.., 0);
        self.count -= u8::try_from(blocks).expect("at most the chain");
        let freed = u32::try_from(blocks).expect("at most the chain") * CONTROL_BLOCK_BYTES;
        self.sent = self.sent.saturating_sub(freed);
        self.filled = self.filled.saturating_sub(freed);
    }
}
