//! The account of the shared receive ring: which buffers the kernel has, which are done, and what is held.
//!
//! The ring is one mirrored mapping cut into `buffers` equal buffers. The kernel fills them in address order,
//! the mirror makes buffer 0 follow the last, and they go back to the kernel strictly in that order: so bytes
//! of one connection that arrive across a buffer's end still lie side by side.
//!
//! For each buffer: `filled <= buffer_bytes`; while the kernel has it, `filled` only grows; once it is done and
//! nothing holds it, it may be recycled, in its turn.

use super::Span;
use crate::ids::{BufId, RegionId};
use crate::mutation::{self, Mutation};

#[derive(Debug, Clone, Copy, Default)]
struct Buffer {
    /// Bytes received since the kernel got the buffer.
    filled: u32,
    /// The kernel has finished with it.
    done: bool,
    /// Spans held that have a byte in it.
    holds: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    region: RegionId,
    ring_bytes: u64,
    buffer_bytes: u32,
    mirrored: bool,
    buffers: Vec<Buffer>,
    /// The buffer whose turn it is to be recycled.
    next: usize,
}

impl Shared {
    pub(super) fn new(region: RegionId, ring_bytes: u64, buffers: u16, mirrored: bool) -> Shared {
        assert!(buffers > 0, "the shared ring has buffers");
        assert!(ring_bytes.is_multiple_of(u64::from(buffers)), "the shared ring is cut into equal buffers");
        let buffer_bytes = u32::try_from(ring_bytes / u64::from(buffers));
        let buffer_bytes = buffer_bytes.expect("a buffer of the shared ring is under 4 GiB");
        assert!(buffer_bytes > 0, "a buffer of the shared ring has room");
        let buffers = vec![Buffer::default(); usize::from(buffers)];
        Shared { region, ring_bytes, buffer_bytes, mirrored, buffers, next: 0 }
    }

    pub(super) fn region(&self) -> RegionId {
        self.region
    }

    pub(super) fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    pub(super) fn received(&mut self, id: BufId, span: Span, buffer_done: bool) {
        assert!(span.region == self.region, "received bytes are in the shared ring: {span:?}");
        let start = id.index() as u64 * u64::from(self.buffer_bytes);
        let buffer = &mut self.buffers[id.index()];
        assert!(!buffer.done, "buffer {id} is the kernel's when something is received into it");
        assert!(
            span.at == start + u64::from(buffer.filled),
            "a buffer is filled from its start on: {span:?}"
        );
        assert!(span.bytes <= self.buffer_bytes - buffer.filled, "received bytes fit their buffer: {span:?}");
        buffer.filled += span.bytes;
        buffer.done = buffer_done;
    }

    pub(super) fn next_recyclable(&mut self) -> Option<BufId> {
        let buffer = &mut self.buffers[self.next];
        if !buffer.done || buffer.holds > 0 {
            return None;
        }
        *buffer = Buffer::default();
        let id = BufId(u16::try_from(self.next).expect("buffers are counted in u16"));
        self.next = (self.next + 1) % self.buffers.len();
        Some(id)
    }

    /// Bytes the kernel can still receive before a buffer comes back.
    pub(super) fn free_bytes(&self) -> u32 {
        let kernels = self.buffers.iter().filter(|buffer| !buffer.done);
        kernels.map(|buffer| self.buffer_bytes - buffer.filled).sum()
    }

    /// Less than half of the buffers are the kernel's or may be recycled now.
    pub(super) fn pressure(&self) -> bool {
        let from_next = self.buffers[self.next..].iter().chain(&self.buffers[..self.next]);
        let recyclable = from_next.take_while(|buffer| buffer.done && buffer.holds == 0).count();
        let kernels = self.buffers.iter().filter(|buffer| !buffer.done).count();
        2 * (recyclable + kernels) < self.buffers.len()
    }

    pub(super) fn oldest_held(&self) -> Option<BufId> {
        let count = self.buffers.len();
        let index = (0..count).map(|i| (self.next + i) % count).find(|&i| self.buffers[i].holds > 0)?;
        u16::try_from(index).ok().map(BufId)
    }

    pub(super) fn hold(&mut self, span: Span) {
        if mutation::on(Mutation::ReceiveUnheld) {
            return;
        }
        for (index, end) in self.touched(span) {
            let buffer = &mut self.buffers[index];
            assert!(end <= buffer.filled, "what is held was received: {span:?}");
            buffer.holds += 1;
        }
    }

    pub(super) fn release(&mut self, span: Span) {
        if mutation::on(Mutation::ReceiveUnheld) {
            return;
        }
        for (index, _) in self.touched(span) {
            let buffer = &mut self.buffers[index];
            assert!(buffer.holds > 0, "what is released was held: {span:?}");
            buffer.holds -= 1;
        }
    }

    pub(super) fn contiguous(&self, a: Span, b: Span) -> bool {
        if a.region != self.region || b.region != self.region {
            return false;
        }
        let end = a.at % self.ring_bytes + u64::from(a.bytes);
        let at_seam = end >= self.ring_bytes;
        end % self.ring_bytes == b.at % self.ring_bytes
            && (self.mirrored || !at_seam)
            && u64::from(a.bytes) + u64::from(b.bytes) <= self.ring_bytes
    }

    pub(super) fn merge(&self, a: Span, b: Span) -> Span {
        assert!(self.contiguous(a, b), "spans to be merged lie side by side: {a:?} {b:?}");
        Span { region: self.region, at: a.at % self.ring_bytes, bytes: a.bytes + b.bytes }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.buffers.iter().filter(|buffer| buffer.holds > 0).count() as u64 * u64::from(self.buffer_bytes)
    }

    /// The buffers a span has bytes in, each with the end of the span's part, counted from the buffer's start.
    /// An empty span has none.
    fn touched(&self, span: Span) -> impl Iterator<Item = (usize, u32)> + use<> {
        let bytes = u64::from(span.bytes);
        let limit = if self.mirrored { 2 * self.ring_bytes } else { self.ring_bytes };
        assert!(
            bytes <= self.ring_bytes && span.end() <= limit,
            "a span is inside the shared ring: {span:?}"
        );
        let (each, count) = (u64::from(self.buffer_bytes), self.buffers.len() as u64);
        let start = span.at % self.ring_bytes;
        let end = start + bytes;
        // A span as long as the ring that starts inside a buffer has two parts in that buffer; both count.
        (start / each..end.div_ceil(each)).filter(move |_| bytes > 0).map(move |number| {
            let part_end = (end - number * each).min(each);
            #[allow(clippy::cast_possible_truncation)] // a remainder of `count`; at most `buffer_bytes`
            ((number % count) as usize, part_end as u32)
        })
    }
}
