//! The log's window: positions, offsets, and where each position's bytes are.

use super::holes::Holes;
use super::index::Index;
use super::live::HeldRuns;
use super::small;
use crate::buf::{Buffers, CopyReason, Memory, Span};
use crate::commit_log::BLOCK_BYTES;
use crate::ids::RegionId;
use crate::limits;
use crate::topic::TopicKind;

/// Bytes of a header, as spans count them.
pub(super) const HEADER_BYTES: u32 = limits::HEADER_BYTES_U32;

/// Where a frame begins (or the log ends), and the offset of the record that is (or will be) first there.
pub(super) use crate::commit_log::LogPoint as Boundary;

/// What a stamped header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameAt {
    pub(super) bytes: u32,
    pub(super) records: u32,
    pub(super) append_time_ns: u64,
}

#[derive(Debug)]
pub(super) struct Log {
    region: RegionId,
    ring_bytes: u64,
    start: Boundary,
    end: Boundary,
    index: Index,
    /// What lies in receive memory instead of the ring.
    pub(super) held: HeldRuns,
    /// What lies between the frames of a `log` partition.
    pub(super) holes: Holes,
}

impl Log {
    pub(super) fn new(region: RegionId, ring_bytes: u64, start: Boundary, kind: TopicKind) -> Log {
        assert!(ring_bytes >= 2 * u64::from(HEADER_BYTES), "a ring holds frames");
        let holes = match kind {
            TopicKind::Log => {
                Holes::with_capacity(usize::try_from(ring_bytes / BLOCK_BYTES + 2).expect("a ring"))
            }
            TopicKind::Live | TopicKind::Memory => Holes::default(),
        };
        Log {
            region,
            ring_bytes,
            start,
            end: start,
            index: Index::new(ring_bytes),
            held: HeldRuns::new(kind == TopicKind::Live),
            holes,
        }
    }

    #[inline]
    pub(super) fn start(&self) -> Boundary {
        self.start
    }

    #[inline]
    pub(super) fn end(&self) -> Boundary {
        self.end
    }

    #[inline]
    pub(super) fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// The ring's place for these positions.
    #[inline]
    pub(super) fn ring_span(&self, position: u64, bytes: u32) -> Span {
        Span { region: self.region, at: position % self.ring_bytes, bytes }
    }

    /// The longest span from `position` on, up to `end`. At most 4 GiB.
    #[inline]
    pub(super) fn span_from(&self, position: u64, end: u64) -> Span {
        match self.held.at_or_after(position) {
            None => {
                let end = self.holes.next(position).map_or(end, |hole| end.min(hole.from));
                self.ring_span(position, small(end - position))
            }
            Some(run) if run.position > position => {
                self.ring_span(position, small(end.min(run.position) - position))
            }
            Some(run) => {
                let (_, from) = run.span.split_at(small(position - run.position));
                Span { bytes: small(end.min(run.end()) - position), ..from }
            }
        }
    }

    /// Where bytes of one frame are.
    #[inline]
    pub(super) fn span_at(&self, position: u64, bytes: u32) -> Span {
        let span = self.span_from(position, position + u64::from(bytes));
        debug_assert_eq!(span.bytes, bytes, "a frame lies in one piece");
        span
    }

    /// The frame that begins at `position`.
    #[inline]
    pub(super) fn frame_at(&self, memory: &Memory, position: u64) -> FrameAt {
        debug_assert!(self.start.position <= position && position < self.end.position);
        let header = memory.bytes(self.span_at(position, HEADER_BYTES));
        FrameAt {
            bytes: HEADER_BYTES + u32_at(header, 4),
            records: u32_at(header, 56),
            append_time_ns: u64_at(header, 48),
        }
    }

    // ---- the end ----

    /// Copies a frame to where the log ends; the caller has made room.
    #[inline]
    pub(super) fn copy_to_end(&self, memory: &mut Memory, pieces: &[Span], reason: CopyReason) -> Span {
        let bytes = pieces.iter().map(|piece| piece.bytes).sum();
        let frame = self.ring_span(self.end.position, bytes);
        let mut rest = frame;
        for &piece in pieces {
            let (to, after) = rest.split_at(piece.bytes);
            memory.copy(piece, to, reason);
            rest = after;
        }
        frame
    }

    /// The frame at the end is complete.
    #[inline]
    pub(super) fn extend(&mut self, bytes: u32, records: u32, append_time_ns: u64) {
        self.index.add(self.end, append_time_ns);
        self.end.position += u64::from(bytes);
        self.end.offset += u64::from(records);
        debug_assert!(self.end.position - self.start.position <= self.ring_bytes);
    }

    /// `log`: the next frame begins at `to`; what lies between the end and it holds none.
    pub(super) fn leave_hole(&mut self, to: u64) {
        if self.end.position == self.start.position {
            // The window is empty: it begins behind the hole.
            self.start.position = to;
        } else {
            self.holes.push(self.end.position, to);
        }
        self.end.position = to;
    }

    /// Records that nobody keeps: only while the window is empty.
    pub(super) fn skip(&mut self, records: u32) {
        assert!(self.start.position == self.end.position, "offsets in the window have no holes");
        self.end.offset += u64::from(records);
        self.start.offset = self.end.offset;
    }

    // ---- the start ----

    /// The position the window has to start at for `bytes` more; `None` when there is room.
    #[inline]
    pub(super) fn start_needed(&self, bytes: u64) -> Option<u64> {
        self.start_needed_for(self.end.position + bytes)
    }

    /// The same for a log that ends at `end`.
    #[inline]
    pub(super) fn start_needed_for(&self, end: u64) -> Option<u64> {
        (end - self.start.position > self.ring_bytes).then(|| end - self.ring_bytes)
    }

    /// Where a frame begins at or after `target`, and not after `limit` (where one begins too). Takes an
    /// entry of the index that is near, which saves reading cold headers, else the very next frame.
    #[inline]
    pub(super) fn eviction_boundary(&self, memory: &Memory, target: u64, limit: u64) -> Boundary {
        if let Some(near) = self.index.at_or_after(target)
            && near.position <= limit
            && near.position - target <= self.ring_bytes / 64
        {
            return near;
        }
        let before = self.floor(memory, self.start, target);
        if before.position == target {
            return before;
        }
        self.after(memory, before)
    }

    /// Moves the start up to `start` and lets go of what was held before it.
    pub(super) fn trim(&mut self, buffers: &mut Buffers, start: Boundary) {
        debug_assert!(self.start.position <= start.position && start.position <= self.end.position);
        self.held.trim(buffers, start.position);
        self.holes.trim(start.position);
        self.index.trim(start.position);
        self.start = start;
    }

    /// Copies what is held to its place in the ring; see [`HeldRuns::unpin`].
    pub(super) fn unpin(&mut self, buffers: &mut Buffers, keep_from: impl Fn(u64, u64) -> Option<u64>) {
        let (region, ring_bytes) = (self.region, self.ring_bytes);
        self.held.unpin(buffers, keep_from, |buffers, position, from| {
            let to = Span { region, at: position % ring_bytes, bytes: from.bytes };
            buffers.memory.copy(from, to, CopyReason::Lagging);
        });
    }

    // ---- finding frames ----

    /// The frame after the one at `at`.
    pub(super) fn after(&self, memory: &Memory, at: Boundary) -> Boundary {
        let frame = self.frame_at(memory, at.position);
        Boundary {
            position: self.holes.over(at.position + u64::from(frame.bytes)),
            offset: at.offset + u64::from(frame.records),
        }
    }

    /// The last boundary at or before `position`, which is in the window; `known` is one before it.
    pub(super) fn floor(&self, memory: &Memory, known: Boundary, position: u64) -> Boundary {
        if position >= self.end.position {
            return self.end;
        }
        let mut at = match self.index.at_or_before(position) {
            Some(entry) if entry.position > known.position => entry,
            _ => known,
        };
        while at.position < position {
            let next = self.after(memory, at);
            if next.position > position {
                break;
            }
            at = next;
        }
        at
    }

    /// The batch that has `offset`, which is in the window; the end when it is beyond.
    pub(super) fn boundary_of_offset(&self, memory: &Memory, offset: u64) -> Boundary {
        if offset >= self.end.offset {
            return self.end;
        }
        let mut at = self.index.offset_at_or_before(offset).unwrap_or(self.start);
        loop {
            let next = self.after(memory, at);
            if offset < next.offset {
                return at;
            }
            at = next;
        }
    }

    /// The first batch appended at or after `time_ns`, or the end.
    pub(super) fn boundary_of_time(&self, memory: &Memory, time_ns: u64) -> Boundary {
        let mut at = self.index.before_time(time_ns).unwrap_or(self.start);
        while at.position < self.end.position {
            if self.frame_at(memory, at.position).append_time_ns >= time_ns {
                return at;
            }
            at = self.after(memory, at);
        }
        self.end
    }
}

/// The length of the frame that begins where `span` does.
#[inline]
pub(super) fn frame_bytes_at(memory: &Memory, span: Span) -> u32 {
    HEADER_BYTES + u32_at(memory.bytes(Span { bytes: HEADER_BYTES, ..span }), 4)
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
