//! The account of one bulk region: a mirrored ring filled by the reads of one connection, or by the records a shard
//! opens.
//!
//! Positions are counted from when the region was taken and never wrap; position `p` is at `p % region_bytes`.
//!
//! `free_from <= consumed <= filled <= free_from + region_bytes`
//!
//! - `filled`: behind the last byte read from the socket.
//! - `consumed`: behind the last byte the session has parsed.
//! - `free_from`: below it the memory is free. It follows `consumed`, but not past the start of what is held.
//!
//! Holds are counted for each chunk (an eighth of the region). The window `free_from..filled` is at most
//! `region_bytes` long, so it has bytes in at most nine chunks: with sixteen counters, indexed by the chunk's
//! absolute number, no two chunks of the window share one.

use super::Span;
use crate::ids::RegionId;

const CHUNKS: u64 = 8;
const COUNTERS: usize = 16;
const _: () = assert!(COUNTERS as u64 > CHUNKS + 1);

/// See the module.
#[derive(Debug)]
pub(super) struct Bulk {
    region: RegionId,
    region_bytes: u64,
    taken: bool,
    free_from: u64,
    consumed: u64,
    filled: u64,
    holds: [u32; COUNTERS],
    /// Sum of `holds`.
    held: u64,
}

impl Bulk {
    pub(super) fn new(region: RegionId, region_bytes: u64) -> Bulk {
        assert!(region_bytes > 0 && region_bytes.is_multiple_of(CHUNKS), "a region is cut into equal chunks");
        assert!(u32::try_from(region_bytes).is_ok(), "a region is under 4 GiB");
        Bulk {
            region,
            region_bytes,
            taken: false,
            free_from: 0,
            consumed: 0,
            filled: 0,
            holds: [0; COUNTERS],
            held: 0,
        }
    }

    pub(super) fn region(&self) -> RegionId {
        self.region
    }

    /// Takes the region when nobody has it and nothing of its last use is still held.
    pub(super) fn take(&mut self) -> bool {
        if self.taken || self.held > 0 {
            return false;
        }
        (self.free_from, self.consumed, self.filled) = (0, 0, 0);
        self.taken = true;
        true
    }

    /// Gives the region up; what is pending is lost, what is held stays.
    pub(super) fn give(&mut self) {
        self.assert_taken();
        self.taken = false;
        self.consumed = self.filled;
        self.advance();
    }

    pub(super) fn read_target(&self, bytes_max: u32) -> Option<Span> {
        self.assert_taken();
        let room = self.free_from + self.region_bytes - self.filled;
        let bytes = room.min(u64::from(bytes_max));
        (bytes > 0).then(|| self.span(self.filled, bytes))
    }

    pub(super) fn filled(&mut self, bytes: u32) -> Span {
        self.assert_taken();
        let room = self.free_from + self.region_bytes - self.filled;
        assert!(u64::from(bytes) <= room, "a read stays within the free room");
        let span = self.span(self.filled, u64::from(bytes));
        self.filled += u64::from(bytes);
        span
    }

    pub(super) fn consumed(&mut self, bytes: u32) {
        self.assert_taken();
        assert!(u64::from(bytes) <= self.filled - self.consumed, "what is consumed was filled");
        self.consumed += u64::from(bytes);
        self.advance();
    }

    pub(super) fn pending(&self) -> Span {
        self.assert_taken();
        self.span(self.consumed, self.filled - self.consumed)
    }

    pub(super) fn hold(&mut self, span: Span) {
        for counter in self.touched(span) {
            self.holds[counter] += 1;
            self.held += 1;
        }
    }

    pub(super) fn release(&mut self, span: Span) {
        for counter in self.touched(span) {
            assert!(self.holds[counter] > 0, "what is released was held: {span:?}");
            self.holds[counter] -= 1;
            self.held -= 1;
        }
        self.advance();
    }

    /// Less than half can be written.
    pub(super) fn is_short(&self) -> bool {
        2 * (self.filled - self.free_from) > self.region_bytes
    }

    /// `b` starts where `a` ends, also across the region's end.
    pub(super) fn contiguous(&self, a: Span, b: Span) -> bool {
        a.end() % self.region_bytes == b.at % self.region_bytes
            && u64::from(a.bytes) + u64::from(b.bytes) <= self.region_bytes
    }

    pub(super) fn merge(&self, a: Span, b: Span) -> Span {
        assert!(self.contiguous(a, b), "spans to be merged lie side by side: {a:?} {b:?}");
        Span { region: self.region, at: a.at % self.region_bytes, bytes: a.bytes + b.bytes }
    }

    /// The whole region while it is taken, else the chunks still held.
    pub(super) fn in_use_bytes(&self) -> u64 {
        if self.taken { self.region_bytes } else { self.held_bytes() }
    }

    /// The chunks that are held.
    pub(super) fn held_bytes(&self) -> u64 {
        let held = self.holds.iter().filter(|&&holds| holds > 0).count() as u64;
        (held * self.chunk_bytes()).min(self.region_bytes)
    }

    #[cfg(test)]
    pub(super) fn positions(&self) -> (u64, u64, u64) {
        (self.free_from, self.consumed, self.filled)
    }

    fn chunk_bytes(&self) -> u64 {
        self.region_bytes / CHUNKS
    }

    fn assert_taken(&self) {
        assert!(self.taken, "region {} is taken", self.region);
    }

    /// Moves `free_from` up to `consumed`, or to the oldest chunk with a hold.
    fn advance(&mut self) {
        let each = self.chunk_bytes();
        while self.free_from < self.consumed && self.holds[counter(self.free_from / each)] == 0 {
            self.free_from = ((self.free_from / each + 1) * each).min(self.consumed);
        }
        debug_assert!(self.free_from <= self.consumed && self.consumed <= self.filled);
        debug_assert!(self.filled <= self.free_from + self.region_bytes);
    }

    /// The counters of the chunks a span has bytes in. An empty span has none.
    fn touched(&self, span: Span) -> impl Iterator<Item = usize> + use<> {
        let bytes = u64::from(span.bytes);
        let each = self.chunk_bytes();
        // The span's absolute position: the only one in the window that lies where the span lies. A second one,
        // `region_bytes` on, would need `start + bytes <= free_from`, which the assert below excludes.
        let from_free =
            (span.at + self.region_bytes - self.free_from % self.region_bytes) % self.region_bytes;
        let start = self.free_from + from_free;
        assert!(
            bytes == 0 || start + bytes <= self.filled,
            "a span to hold is filled and not yet free: {span:?}"
        );
        (start / each..(start + bytes).div_ceil(each)).filter(move |_| bytes > 0).map(counter)
    }

    #[allow(clippy::cast_possible_truncation)] // callers pass at most `region_bytes`, which is under 4 GiB
    fn span(&self, position: u64, bytes: u64) -> Span {
        Span { region: self.region, at: position % self.region_bytes, bytes: bytes as u32 }
    }
}

#[allow(clippy::cast_possible_truncation)] // a remainder of 16
fn counter(chunk: u64) -> usize {
    (chunk % COUNTERS as u64) as usize
}
