//! Provided buffers: a ring of them, and the hot set whose bytes are not kept.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::{BufRingEntry, IOU_PBUF_RING_INC};
use uringest::buf::{Mapping, Pages};

/// The hot set: as much as stays in a core's cache.
const BYTES: usize = 1024 * 1024;
/// Buffers the kernel fills piece by piece (6.12), and buffers that each receive takes one of.
const INCREMENTAL: u16 = 4;
const PLAIN: u16 = 64;
const SLOTS: u16 = PLAIN;

/// How the kernel uses up a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// Piece by piece, from its begin to its end (Linux 6.12).
    Incremental,
    /// Once, however little comes.
    Once,
}

/// Buffers in the order in which they are to be filled. The ring is dropped before it.
pub(super) struct BufferRing {
    entries: Mapping,
    group: u16,
    /// How many there may be at once.
    count: u16,
    tail: u16,
}

impl BufferRing {
    /// Memory for a ring of as many as either kind has, to be made before the ring so that it is dropped after it.
    pub(super) fn new(group: u16) -> io::Result<BufferRing> {
        let bytes = usize::from(SLOTS) * size_of::<BufRingEntry>();
        let entries = Mapping::plain(bytes, Pages::Small).map_err(io::Error::other)?;
        Ok(BufferRing { entries, group, count: 0, tail: 0 })
    }

    /// Makes it known to the kernel; `count` is a power of two.
    pub(super) fn register(&mut self, ring: &IoUring, count: u16, fill: Fill) -> io::Result<()> {
        assert!(count.is_power_of_two() && count <= SLOTS, "the entries have room for {SLOTS}");
        let flags = match fill {
            Fill::Incremental => u16::try_from(IOU_PBUF_RING_INC).expect("a flag of 16 bits"),
            Fill::Once => 0,
        };
        let at = self.entries.base() as u64;
        // SAFETY: the entries are page-aligned, zeroed, long enough, and outlive the ring (see the type).
        unsafe { ring.submitter().register_buf_ring_with_flags(at, count, self.group, flags)? };
        self.count = count;
        Ok(())
    }

    /// Puts a buffer behind the others, to be seen at the next `publish`.
    ///
    /// # Safety
    /// The memory outlives the ring, and until the kernel has used the buffer up nobody else uses it; a buffer is in
    /// the ring at most once, and so no more than `count` are.
    pub(super) unsafe fn give(&mut self, id: u16, at: *mut u8, bytes: usize) {
        let slot = usize::from(self.tail % self.count);
        // SAFETY: the slot is inside the mapping; the kernel reads it only after the tail is published, and no entry in
        // use is overwritten (the caller's). Entry 0's reserved field, the tail, is not touched.
        unsafe {
            let entry = &mut *self.entries.base().cast::<BufRingEntry>().add(slot);
            entry.set_addr(at as u64);
            entry.set_len(u32::try_from(bytes).expect("a small buffer"));
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what it was given.
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail is two aligned bytes in the first entry, written by this thread alone.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.base().cast()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

/// Buffers whose bytes are not kept: each goes back as soon as the kernel has finished with it. The ring is dropped
/// before it.
pub(super) struct HotSet {
    ring: BufferRing,
    memory: Mapping,
}

impl HotSet {
    /// The one group of these.
    pub(super) const GROUP: u16 = 0;

    /// To be made before the ring, so that it is dropped after it.
    pub(super) fn new() -> io::Result<HotSet> {
        let memory = Mapping::plain(BYTES, Pages::Small).map_err(io::Error::other)?;
        memory.prefault();
        Ok(HotSet { ring: BufferRing::new(HotSet::GROUP)?, memory })
    }

    /// Hands all of them to the kernel: as incremental buffers where it knows them.
    pub(super) fn register(&mut self, ring: &IoUring) -> io::Result<()> {
        if self.ring.register(ring, INCREMENTAL, Fill::Incremental).is_err() {
            self.ring.register(ring, PLAIN, Fill::Once)?;
        }
        (0..self.ring.count).for_each(|buffer| self.give(buffer));
        self.publish();
        Ok(())
    }

    /// Gives a buffer back.
    pub(super) fn give(&mut self, buffer: u16) {
        let bytes = BYTES / usize::from(self.ring.count);
        assert!(buffer < self.ring.count, "a buffer of ours");
        // SAFETY: the address is inside the mapping, which is dropped after the ring; nobody looks at the bytes; the
        // buffer was never given, or the kernel has finished with it.
        unsafe {
            let at = self.memory.base().add(usize::from(buffer) * bytes);
            self.ring.give(buffer, at, bytes);
        }
    }

    /// Shows the kernel what it was given.
    pub(super) fn publish(&mut self) {
        self.ring.publish();
    }
}
