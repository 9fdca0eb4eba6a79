//! The provided-buffer ring: equal buffers laid over one mapping, handed to the kernel in order.
//!
//! State and owner: the ring's entries (a page of their own) and, for each buffer, how far the kernel has
//! filled it. The kernel reports only a buffer's id, so with incremental consumption the position is the sum
//! of what was reported before. Memory and entries are the kernel's until the io_uring is closed: drop the
//! io_uring first.
//!
//! Invariant: a buffer is in the ring at most once (`in_kernel`), and its fill never passes its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, IOU_PBUF_RING_INC};

use crate::buf::{Mapping, Pages};
use crate::ids::BufId;

use super::ring::Ring;

/// The group the shared ring's buffers are in.
pub(super) const BUFFER_GROUP: u16 = 0;

/// See the module.
pub(super) struct BufferRing {
    entries: Mapping,
    memory: Arc<Mapping>,
    buffer_bytes: u32,
    buffers: u16,
    incremental: bool,
    tail: u16,
    published: u16,
    filled: Vec<u32>,
    in_kernel: Vec<bool>,
}

/// Where a completion's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filled {
    /// First byte, from the start of the mapping.
    pub at: u64,
    /// The kernel has finished with the buffer.
    pub buffer_done: bool,
}

impl BufferRing {
    /// Lays `buffers` equal buffers over the first `bytes` of `memory` and hands them all to the kernel.
    pub(super) fn register(
        ring: &Ring,
        memory: Arc<Mapping>,
        bytes: u32,
        buffers: u16,
        incremental: bool,
    ) -> io::Result<BufferRing> {
        assert!(buffers.is_power_of_two(), "the kernel wants a power of two of buffers");
        assert!(bytes.is_multiple_of(u32::from(buffers)), "buffers are equal");
        assert!(u64::from(bytes) <= memory.bytes() as u64, "buffers lie within the mapping");
        let entries_bytes = (usize::from(buffers) * size_of::<BufRingEntry>()).next_multiple_of(4096);
        let entries = Mapping::plain(entries_bytes, Pages::Small).map_err(io::Error::other)?;
        let flags = if incremental { u16::try_from(IOU_PBUF_RING_INC).unwrap_or(0) } else { 0 };
        // SAFETY: the mapping is page-aligned, zeroed, long enough for `buffers` entries, and lives in the
        // value returned, whose owner closes the io_uring before dropping it (`UringIo`'s field order).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.base() as u64,
                buffers,
                BUFFER_GROUP,
                flags,
            )?;
        }
        let mut this = BufferRing {
            entries,
            memory,
            buffer_bytes: bytes / u32::from(buffers),
            buffers,
            incremental,
            tail: 0,
            published: 0,
            filled: vec![0; usize::from(buffers)],
            in_kernel: vec![false; usize::from(buffers)],
        };
        for buffer in 0..buffers {
            this.give(BufId(buffer));
        }
        this.publish();
        Ok(this)
    }

    /// Puts a buffer behind the others; the kernel sees it at the next `publish`.
    ///
    /// # Panics
    /// When the kernel has the buffer already.
    pub(super) fn give(&mut self, buffer: BufId) {
        let index = buffer.index();
        assert!(!self.in_kernel[index], "a buffer is given to the kernel once");
        self.in_kernel[index] = true;
        self.filled[index] = 0;
        let at = u64::from(buffer.0) * u64::from(self.buffer_bytes);
        let slot = usize::from(self.tail & (self.buffers - 1));
        let entries = self.entries.base().cast::<BufRingEntry>();
        // SAFETY: `slot` is below `buffers`, so the entry is inside the mapping; the kernel does not read an
        // entry before the tail that covers it is published, and each buffer is in the ring at most once, so
        // no published entry is overwritten. The setters write only address, length and id: the reserved
        // field of entry 0 is the ring's tail and stays untouched.
        unsafe {
            let entry = &mut *entries.add(slot);
            entry.set_addr(self.memory.base() as u64 + at);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(buffer.0);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel every buffer given so far.
    pub(super) fn publish(&mut self) {
        if self.published == self.tail {
            return;
        }
        let entries = self.entries.base().cast::<BufRingEntry>();
        // SAFETY: the tail lies in the first entry's reserved field, which is two-byte aligned, mapped for as
        // long as `self` lives, and written by nobody else; the kernel reads it with acquire ordering.
        unsafe {
            let tail = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
        self.published = self.tail;
    }

    /// Notes that `bytes` came into `buffer`. `kept`: the kernel goes on filling it. `None` when the kernel
    /// names a buffer it does not have or more bytes than fit: its contract is broken.
    pub(super) fn fill(&mut self, buffer: BufId, bytes: u32, kept: bool) -> Option<Filled> {
        let index = buffer.index();
        if index >= self.in_kernel.len() || !self.in_kernel[index] {
            return None;
        }
        let before = self.filled[index];
        let after = before.checked_add(bytes).filter(|after| *after <= self.buffer_bytes)?;
        let buffer_done = !(self.incremental && kept);
        self.filled[index] = after;
        if buffer_done {
            self.in_kernel[index] = false;
        }
        let at = u64::from(buffer.0) * u64::from(self.buffer_bytes) + u64::from(before);
        Some(Filled { at, buffer_done })
    }
}
