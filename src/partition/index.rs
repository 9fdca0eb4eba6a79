//! A sparse index of the log: where frames begin, one entry each `granule` bytes, so that a look-up reads
//! the headers of at most one granule (and one frame).
//!
//! Entries lie at least a granule apart and within the ring, so `ring_bytes / granule + 2` always suffice.

use std::collections::VecDeque;

use super::log::Boundary;
use crate::limits::{INDEX_ENTRIES_MAX, INDEX_GRANULE_BYTES_MIN};

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Boundary,
    append_time_ns: u64,
}

#[derive(Debug)]
pub(super) struct Index {
    entries: VecDeque<Entry>,
    granule: u64,
}

impl Index {
    pub(super) fn new(ring_bytes: u64) -> Index {
        let granule = INDEX_GRANULE_BYTES_MIN.max(ring_bytes.div_ceil(INDEX_ENTRIES_MAX));
        let entries = usize::try_from(ring_bytes / granule + 2).expect("at most a few thousand");
        Index { entries: VecDeque::with_capacity(entries), granule }
    }

    /// A frame begins here; its time is not less than that of any before.
    #[inline]
    pub(super) fn add(&mut self, at: Boundary, append_time_ns: u64) {
        if self.entries.back().is_none_or(|last| at.position - last.at.position >= self.granule) {
            debug_assert!(self.entries.len() < self.entries.capacity(), "the index is bounded");
            self.entries.push_back(Entry { at, append_time_ns });
        }
    }

    /// Forgets what lies before `position`.
    #[inline]
    pub(super) fn trim(&mut self, position: u64) {
        while self.entries.front().is_some_and(|entry| entry.at.position < position) {
            self.entries.pop_front();
        }
    }

    /// The last entry at or before `position`.
    pub(super) fn at_or_before(&self, position: u64) -> Option<Boundary> {
        self.last_where(|entry| entry.at.position <= position)
    }

    /// The first entry at or after `position`.
    #[inline]
    pub(super) fn at_or_after(&self, position: u64) -> Option<Boundary> {
        // The asker is eviction: the answer is near the front.
        self.entries.iter().find(|entry| entry.at.position >= position).map(|entry| entry.at)
    }

    /// The last entry whose offset is at most `offset`.
    pub(super) fn offset_at_or_before(&self, offset: u64) -> Option<Boundary> {
        self.last_where(|entry| entry.at.offset <= offset)
    }

    /// The last entry appended before `time_ns`.
    pub(super) fn before_time(&self, time_ns: u64) -> Option<Boundary> {
        self.last_where(|entry| entry.append_time_ns < time_ns)
    }

    fn last_where(&self, holds: impl Fn(&Entry) -> bool) -> Option<Boundary> {
        let beyond = self.entries.partition_point(holds);
        Some(self.entries[beyond.checked_sub(1)?].at)
    }
}
