//! The shared ring as one endless stream of room: buffers come back in the order they were filled, so what is free
//! is always one stretch, from where the last byte came to the end of the last buffer given.
//!
//! Both ends are counted in bytes since the start, `filled <= given <= filled + ring_bytes`; a place in the ring is
//! the remainder by its size. The mapping shows the same memory twice, so a read may run over the ring's end.

use std::sync::Arc;

use crate::buf::Mapping;
use crate::ids::BufId;
use crate::io::Outcome;

/// See the module.
pub(super) struct ReceiveRing {
    /// Keeps the memory mapped.
    mapping: Arc<Mapping>,
    /// The memory behind the ring's end is its beginning.
    mirrored: bool,
    buffer_bytes: u64,
    ring_bytes: u64,
    filled: u64,
    given: u64,
}

/// Where the next bytes may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub address: *mut u8,
    pub bytes: u32,
}

impl ReceiveRing {
    /// Equal buffers over the first `ring_bytes` of the mapping, all of them free.
    pub(super) fn new(mapping: Arc<Mapping>, ring_bytes: u32, buffers: u16) -> ReceiveRing {
        assert!(buffers > 0 && ring_bytes.is_multiple_of(u32::from(buffers)), "buffers are equal");
        assert!(ring_bytes as usize <= mapping.bytes(), "the ring lies within its mapping");
        let mirrored = mapping.is_mirrored() && mapping.bytes() == ring_bytes as usize;
        ReceiveRing {
            mapping,
            mirrored,
            buffer_bytes: u64::from(ring_bytes) / u64::from(buffers),
            ring_bytes: u64::from(ring_bytes),
            filled: 0,
            given: u64::from(ring_bytes),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled == self.given
    }

    /// Room for the next read, at most `bytes_max`; none when the ring is full.
    pub(super) fn room(&self, bytes_max: u32) -> Room {
        let at = self.filled % self.ring_bytes;
        let free = self.given - self.filled;
        let side_by_side = if self.mirrored { free } else { free.min(self.ring_bytes - at) };
        let bytes = u32::try_from(side_by_side).map_or(bytes_max, |free| free.min(bytes_max));
        // SAFETY: `at` lies in the ring, and the mapping lives as long as `self`.
        let address = unsafe { self.mapping.base().add(usize::try_from(at).unwrap_or(0)) };
        Room { address, bytes }
    }

    /// Notes that `bytes` have come into the room, and takes the part of them that is the next buffer's: its
    /// report and what is left.
    pub(super) fn take_piece(&mut self, bytes: u32) -> (Outcome, u32) {
        let at = self.filled % self.ring_bytes;
        let to_buffers_end = self.buffer_bytes - at % self.buffer_bytes;
        let piece = u64::from(bytes).min(to_buffers_end);
        self.filled += piece;
        assert!(self.filled <= self.given, "a read fills at most what it was offered");
        #[allow(clippy::cast_possible_truncation)] // at most `bytes`, and fewer buffers than a u16 counts
        let (piece, buffer) = (piece as u32, BufId((at / self.buffer_bytes) as u16));
        let buffer_done = u64::from(piece) == to_buffers_end;
        (Outcome::Received { buffer, at, bytes: piece, buffer_done }, bytes - piece)
    }

    /// Takes a buffer back.
    ///
    /// # Panics
    /// When it is not the one whose turn it is, or has not been filled.
    pub(super) fn give(&mut self, buffer: BufId) {
        let next = self.given % self.ring_bytes / self.buffer_bytes;
        assert!(u64::from(buffer.0) == next, "buffers come back in the order they were filled");
        self.given += self.buffer_bytes;
        assert!(self.given <= self.filled + self.ring_bytes, "a buffer comes back when it is done");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::Pages;

    const BYTES: u32 = 64 * 1024;

    fn ring(mirrored: bool) -> ReceiveRing {
        let bytes = BYTES as usize;
        let mapping = if mirrored {
            Mapping::mirrored(bytes, Pages::Small)
        } else {
            Mapping::plain(bytes, Pages::Small)
        };
        ReceiveRing::new(Arc::new(mapping.expect("memory")), BYTES, 4)
    }

    fn piece(buffer: u16, at: u64, bytes: u32, buffer_done: bool) -> Outcome {
        Outcome::Received { buffer: BufId(buffer), at, bytes, buffer_done }
    }

    #[test]
    fn a_read_is_reported_buffer_by_buffer() {
        let mut ring = ring(true);
        assert_eq!(ring.room(u32::MAX).bytes, BYTES);
        assert_eq!(ring.take_piece(100), (piece(0, 0, 100, false), 0));
        assert_eq!(ring.room(40_000).bytes, 40_000);
        assert_eq!(ring.take_piece(40_000), (piece(0, 100, 16_284, true), 23_716));
        assert_eq!(ring.take_piece(23_716), (piece(1, 16_384, 16_384, true), 7_332));
        assert_eq!(ring.take_piece(7_332), (piece(2, 32_768, 7_332, false), 0));
        assert_eq!(ring.room(u32::MAX).bytes, BYTES - 40_100);
    }

    #[test]
    fn room_runs_over_the_end_where_the_memory_does() {
        for mirrored in [true, false] {
            let mut ring = ring(mirrored);
            let mut left = BYTES - 8;
            while left > 0 {
                left = ring.take_piece(left).1;
            }
            ring.give(BufId(0));
            ring.give(BufId(1));
            let expected = if mirrored { 8 + 2 * 16_384 } else { 8 };
            assert_eq!(ring.room(u32::MAX).bytes, expected);
            assert_eq!(ring.take_piece(8).0, piece(3, u64::from(BYTES) - 8, 8, true));
            assert_eq!(ring.take_piece(20_000), (piece(0, 0, 16_384, true), 3_616));
        }
    }

    #[test]
    fn a_full_ring_has_no_room() {
        let mut ring = ring(true);
        let mut left = BYTES;
        while left > 0 {
            left = ring.take_piece(left).1;
        }
        assert!(ring.is_full() && ring.room(1).bytes == 0);
        ring.give(BufId(0));
        assert!(!ring.is_full());
    }

    #[test]
    #[should_panic(expected = "in the order")]
    fn buffers_out_of_turn_are_refused() {
        let mut ring = ring(true);
        let _ = ring.take_piece(BYTES);
        ring.give(BufId(1));
    }

    #[test]
    #[should_panic(expected = "when it is done")]
    fn a_buffer_that_is_not_done_is_refused() {
        ring(true).give(BufId(0));
    }
}
