//! The region table: it turns spans into bytes, and copies payload bytes, counted.
//!
//! Each shard (and the control thread) has a `Memory` of its own. The same mapping may be in several of
//! them, under the same id.
//!
//! Who may touch which bytes, the rule behind every SAFETY comment here:
//! 1. Receive memory, blocks and a partition's ring are written by the kernel and by the one shard that owns
//!    them, through its own `Memory`.
//! 2. The kernel writes receive memory only where no received span that is still needed lies: the accounts of
//!    `ReceiveMemory` see to that, and a span is read only within its tick or while it is held.
//! 3. Another shard reads a span only while it is lent to it by a message of the mesh, which orders the
//!    owner's writes before the read; the owner writes none of those bytes until the answer gives them back.
//! 4. Within one `Memory`, borrows do the rest: `bytes_mut` excludes every `bytes`.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use super::{CopyCounters, CopyReason, Mapping, Span};
use crate::ids::RegionId;
use crate::limits::REGIONS_MAX;

/// Regions by id, and the copy counters. See the module.
#[derive(Debug)]
pub struct Memory {
    regions: Vec<Option<Region>>, // capacity REGIONS_MAX from the start, never reallocated
    copies: CopyCounters,
}

/// A region with the mapping's figures at hand, so that a look-up touches one line of memory.
#[derive(Debug)]
struct Region {
    mapping: Arc<Mapping>,
    base: NonNull<u8>,
    bytes: u64,
    address_bytes: u64,
}

// SAFETY: `base` is the base of `mapping`, which is `Send + Sync` and lives as long as the region; the rule at
// the top of the module says who reads and writes through it.
unsafe impl Send for Region {}

impl Memory {
    /// An empty table.
    #[must_use]
    pub fn new() -> Memory {
        Memory { regions: Vec::with_capacity(REGIONS_MAX), copies: CopyCounters::default() }
    }

    /// Makes a region's memory known.
    ///
    /// # Panics
    /// When the id is beyond `REGIONS_MAX` or in use.
    pub fn attach(&mut self, id: RegionId, mapping: Arc<Mapping>) {
        let index = id.index();
        assert!(index < REGIONS_MAX, "region {id} is within the table");
        if self.regions.len() <= index {
            self.regions.resize_with(index + 1, || None);
        }
        assert!(self.regions[index].is_none(), "region {id} is attached once");
        let base = NonNull::new(mapping.base()).expect("a mapping is never at address 0");
        let (bytes, address_bytes) = (mapping.bytes() as u64, mapping.address_bytes() as u64);
        self.regions[index] = Some(Region { mapping, base, bytes, address_bytes });
    }

    /// Forgets a region; nothing may name it any more. The memory goes with its last `Arc`.
    ///
    /// # Panics
    /// When it is not attached.
    pub fn detach(&mut self, id: RegionId) {
        let region = self.regions.get_mut(id.index()).and_then(Option::take);
        assert!(region.is_some(), "region {id} is attached");
    }

    /// How many regions are attached.
    #[cfg(any(test, uringest_sim))]
    #[must_use]
    pub fn attached(&self) -> usize {
        self.regions.iter().flatten().count()
    }

    /// The region's mapping, when it is attached.
    #[must_use]
    pub fn mapping(&self, id: RegionId) -> Option<&Arc<Mapping>> {
        self.regions.get(id.index())?.as_ref().map(|region| &region.mapping)
    }

    /// The span's bytes.
    ///
    /// # Panics
    /// When the span is not inside an attached region.
    #[must_use]
    pub fn bytes(&self, span: Span) -> &[u8] {
        let (start, length) = self.locate(span);
        // SAFETY: `locate` has checked that the range is inside an attached region, whose `Arc` keeps it mapped
        // while `self` is borrowed; memory from mmap is initialised; nobody writes these bytes meanwhile by
        // rules 2 to 4 of the module.
        unsafe { slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// The span's bytes, to be written.
    ///
    /// # Panics
    /// When the span is not inside an attached region.
    #[must_use]
    pub fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let (start, length) = self.locate(span);
        // SAFETY: as in `bytes`; `self` is borrowed mutably and the span is no longer than the distinct memory,
        // so no other reference of this `Memory` and no second byte of this slice is the same memory (rule 4),
        // and no other thread or the kernel touches it (rules 1 to 3).
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), length) }
    }

    /// The bytes of one span to be read and of another to be written, for what turns the one into the other
    /// (opening and sealing records). Bytes that stay what they are go by [`Memory::copy`].
    ///
    /// # Panics
    /// When the spans share memory, or one is not inside an attached region.
    #[must_use]
    pub fn pair(&mut self, from: Span, to: Span) -> (&[u8], &mut [u8]) {
        assert!(!self.share_memory(from, to), "what is read is not what is written");
        let (source, source_length) = self.locate(from);
        let (target, target_length) = self.locate(to);
        // SAFETY: both ranges are inside attached regions and share no memory, as checked above, so the two
        // references do not alias; `self` stays borrowed mutably, which excludes all others of this `Memory`.
        // `source` may be lent by another shard (rule 3), `target` is ours (rule 1).
        unsafe {
            (
                slice::from_raw_parts(source.as_ptr(), source_length),
                slice::from_raw_parts_mut(target.as_ptr(), target_length),
            )
        }
    }

    /// Copies payload from one span to another, of the same region or not.
    ///
    /// # Panics
    /// When the lengths differ, the spans share memory, or one is not inside an attached region.
    pub fn copy(&mut self, from: Span, to: Span, reason: CopyReason) {
        assert!(from.bytes == to.bytes, "a copy keeps its length");
        assert!(!self.share_memory(from, to), "a copy does not overlap itself");
        let (source, length) = self.locate(from);
        let (target, _) = self.locate(to);
        // SAFETY: both ranges are inside attached regions, as long as each other, and share no memory, as
        // checked above, so the two references do not alias; `self` is borrowed mutably, which excludes all
        // others of this `Memory`. `source` may be lent by another shard (rule 3), `target` is ours (rule 1).
        let (source, target) = unsafe {
            (
                slice::from_raw_parts(source.as_ptr(), length),
                slice::from_raw_parts_mut(target.as_ptr(), length),
            )
        };
        copy_bytes(&mut self.copies, target, source, reason);
    }

    /// Copies payload out of a region.
    ///
    /// # Panics
    /// When the lengths differ or the span is not inside an attached region.
    pub fn copy_out(&mut self, from: Span, to: &mut [u8], reason: CopyReason) {
        let (source, length) = self.locate(from);
        // SAFETY: as in `bytes`; `to` is the caller's exclusively, so it is not the same memory.
        let source = unsafe { slice::from_raw_parts(source.as_ptr(), length) };
        copy_bytes(&mut self.copies, to, source, reason);
    }

    /// Copies payload into a region.
    ///
    /// # Panics
    /// When the lengths differ or the span is not inside an attached region.
    pub fn copy_in(&mut self, from: &[u8], to: Span, reason: CopyReason) {
        let (target, length) = self.locate(to);
        // SAFETY: as in `bytes_mut`; `from` cannot be a borrow of this `Memory`, which is borrowed mutably.
        let target = unsafe { slice::from_raw_parts_mut(target.as_ptr(), length) };
        copy_bytes(&mut self.copies, target, from, reason);
    }

    /// What was copied so far, by reason.
    #[must_use]
    pub fn copies(&self) -> &CopyCounters {
        &self.copies
    }

    fn region(&self, id: RegionId) -> &Region {
        match self.regions.get(id.index()) {
            Some(Some(region)) => region,
            _ => panic!("region {id} is attached"),
        }
    }

    /// Where the span's bytes are, after checking that they are inside their region.
    #[allow(clippy::cast_possible_truncation)] // usize is 64 bits wide, see the module's head
    fn locate(&self, span: Span) -> (NonNull<u8>, usize) {
        let region = self.region(span.region);
        let bytes = u64::from(span.bytes);
        assert!(bytes <= region.bytes, "a span is no longer than its region's memory: {span:?}");
        assert!(
            span.at <= region.address_bytes && bytes <= region.address_bytes - span.at,
            "a span is inside its region: {span:?} of {} bytes",
            region.address_bytes
        );
        // SAFETY: `at` is at most the length of the mapping, which `region` keeps mapped.
        (unsafe { region.base.add(span.at as usize) }, bytes as usize)
    }

    /// Whether two spans have a byte of memory in common, whatever addresses they go by.
    fn share_memory(&self, a: Span, b: Span) -> bool {
        let (of_a, of_b) = (self.region(a.region), self.region(b.region));
        if of_a.base != of_b.base || a.bytes == 0 || b.bytes == 0 {
            return false;
        }
        // On a circle of `bytes` bytes: the distance from a's start forward to b's, and back.
        let forward = (b.at % of_a.bytes + of_a.bytes - a.at % of_a.bytes) % of_a.bytes;
        forward < u64::from(a.bytes) || of_a.bytes - forward < u64::from(b.bytes)
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}

/// The one place where payload bytes are copied.
fn copy_bytes(copies: &mut CopyCounters, to: &mut [u8], from: &[u8], reason: CopyReason) {
    assert!(to.len() == from.len(), "a copy keeps its length");
    to.copy_from_slice(from);
    copies.add(reason, from.len());
}
