//! A connection's control frames on their way out: a chain of blocks from the shard's pool.
//!
//! Blocks are taken when there is something to say and given back when it is sent, so an idle connection
//! holds none. The bytes of a block never move: a send may refer to them until its completion.
//!
//! The links of the chains, and of the list of free blocks, are the pool's: a block is in one of them, always.

use crate::buf::{Memory, Span};
use crate::ids::RegionId;
use crate::limits::CONTROL_BLOCK_BYTES;

use super::conn::NONE;

/// Blocks of a connection whose socket takes bytes: the answers to all that one tick can receive from it, as a
/// header-only frame is answered by one at most.
const BLOCKS_WHILE_OPEN: u32 = 256;
/// Blocks of a connection whose socket is full: a peer that does not read its answers is closed beyond that.
const BLOCKS_WHILE_FULL: u32 = 64;
/// Blocks of any connection while less than half of the pool is free.
const BLOCKS_WHILE_SHORT: u32 = 8;
/// Blocks of any connection in the pool's last quarter: with it everybody else is answered.
const BLOCKS_WHILE_SCARCE: u32 = 1;

const _: () = {
    use crate::limits::{HEADER_BYTES_U32, SHARED_RING_BYTES};
    assert!(BLOCKS_WHILE_OPEN * CONTROL_BLOCK_BYTES >= SHARED_RING_BYTES);
    // Commits and batches in flight of the clients one would write: each answer a refusal with a detail.
    assert!(BLOCKS_WHILE_FULL * CONTROL_BLOCK_BYTES >= 1000 * 4 * HEADER_BYTES_U32);
    assert!(BLOCKS_WHILE_SCARCE <= BLOCKS_WHILE_SHORT && BLOCKS_WHILE_SHORT <= BLOCKS_WHILE_FULL);
};

/// The shard's pool.
pub(super) struct BlockPool {
    region: RegionId,
    /// The block behind each one, in its chain or in the list of free ones.
    next: Vec<u32>,
    first_free: u32,
    free: u32,
}

impl BlockPool {
    pub(super) fn new(region: RegionId, blocks: u32) -> Self {
        let mut next: Vec<u32> = (1..=blocks).collect();
        if let Some(last) = next.last_mut() {
            *last = NONE;
        }
        BlockPool { region, next, first_free: if blocks == 0 { NONE } else { 0 }, free: blocks }
    }

    pub(super) fn in_use(&self) -> usize {
        self.next.len() - self.free as usize
    }

    /// Blocks one connection may have.
    fn share(&self, socket_full: bool) -> u32 {
        let (free, all) = (self.free as usize, self.next.len());
        match socket_full {
            _ if free < all / 4 => BLOCKS_WHILE_SCARCE,
            _ if free < all / 2 => BLOCKS_WHILE_SHORT,
            true => BLOCKS_WHILE_FULL,
            false => BLOCKS_WHILE_OPEN,
        }
    }

    fn take(&mut self) -> u32 {
        let block = self.first_free;
        self.first_free = std::mem::replace(&mut self.next[block as usize], NONE);
        self.free -= 1;
        block
    }

    /// Takes a chain's first block back; says which comes then.
    fn give(&mut self, block: u32) -> u32 {
        let behind = std::mem::replace(&mut self.next[block as usize], self.first_free);
        self.first_free = block;
        self.free += 1;
        behind
    }

    fn span(&self, block: u32, from: u32, bytes: u32) -> Span {
        let at = u64::from(block) * u64::from(CONTROL_BLOCK_BYTES) + u64::from(from);
        Span { region: self.region, at, bytes }
    }
}

/// What one connection has to say. Bytes between `sent` and `filled` (counted from the first block's
/// start) are queued; `sent` lies in the first block, `filled` in the last or at its end.
#[derive(Debug)]
pub(super) struct Outbox {
    first: u32,
    last: u32,
    count: u32,
    sent: u32,
    filled: u32,
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Outbox { first: NONE, last: NONE, count: 0, sent: 0, filled: 0 }
    }

    pub(super) fn bytes(&self) -> u32 {
        self.filled - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled == self.sent
    }

    /// Queues a whole frame, or nothing: `false` when neither the connection's share nor the pool has room.
    #[must_use]
    pub(super) fn push(
        &mut self,
        pool: &mut BlockPool,
        memory: &mut Memory,
        frame: &[u8],
        socket_full: bool,
    ) -> bool {
        let room = self.count * CONTROL_BLOCK_BYTES - self.filled;
        if frame.len() > room as usize {
            let missing = (frame.len() - room as usize).div_ceil(CONTROL_BLOCK_BYTES as usize);
            let wanted = self.count as usize + missing;
            if wanted > pool.share(socket_full) as usize || missing > pool.free as usize {
                return false;
            }
        }
        let mut rest = frame;
        while !rest.is_empty() {
            if self.filled == self.count * CONTROL_BLOCK_BYTES {
                self.chain(pool);
            }
            let from = self.filled - (self.count - 1) * CONTROL_BLOCK_BYTES;
            let bytes = rest.len().min((CONTROL_BLOCK_BYTES - from) as usize);
            let (now, later) = rest.split_at(bytes);
            let bytes = u32::try_from(bytes).expect("at most a block");
            memory.bytes_mut(pool.span(self.last, from, bytes)).copy_from_slice(now);
            self.filled += bytes;
            rest = later;
        }
        true
    }

    fn chain(&mut self, pool: &mut BlockPool) {
        let block = pool.take();
        if self.count == 0 {
            self.first = block;
        } else {
            pool.next[self.last as usize] = block;
        }
        self.last = block;
        self.count += 1;
    }

    /// The spans of what is queued, in order.
    pub(super) fn spans<'a>(&self, pool: &'a BlockPool) -> impl Iterator<Item = Span> + use<'a> {
        let (mut block, mut from, mut left) = (self.first, self.sent, self.bytes());
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let bytes = (CONTROL_BLOCK_BYTES - from).min(left);
            let span = pool.span(block, from, bytes);
            block = pool.next[block as usize];
            (from, left) = (0, left - bytes);
            Some(span)
        })
    }

    /// Bytes that a send has got rid of; blocks that are done with go back to the pool.
    pub(super) fn advance(&mut self, pool: &mut BlockPool, bytes: u32) {
        assert!(bytes <= self.bytes(), "no more is sent than was queued");
        self.sent += bytes;
        if self.sent == self.filled {
            return self.clear(pool);
        }
        while self.sent >= CONTROL_BLOCK_BYTES {
            self.first = pool.give(self.first);
            self.count -= 1;
            self.sent -= CONTROL_BLOCK_BYTES;
            self.filled -= CONTROL_BLOCK_BYTES;
        }
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self, pool: &mut BlockPool) {
        for _ in 0..self.count {
            self.first = pool.give(self.first);
        }
        *self = Outbox::new();
    }
}
