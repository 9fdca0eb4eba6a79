//! Memory that files are written from and read into, registered with the kernel piece by piece.
//!
//! Without that the kernel looks up and pins every page of a transfer each time: 70 us of a write of 1 MiB, 5 us of
//! 64 KiB (docs/decisions/0007). A piece is registered when an operation on a file first names it, so that nothing needs to
//! be said beforehand, no memory is pinned that never meets a file, and a large ring does not keep the shard waiting at
//! once. Pieces overlap, so that whatever is no larger than the overlap and starts in a piece ends in it; of a mirrored
//! mapping the second copy is registered only as far as transfers run over the ring's end.
//!
//! State and owner: which pieces have which index in the ring's table of buffers. Indices are given back when the region is
//! detached. When the kernel will not take a piece (the limit of locked memory), transfers go on without, and no more
//! pieces are tried until a region is detached.
#![allow(unsafe_code)]

use std::collections::HashMap;

use crate::buf::Span;
use crate::ids::RegionId;
use crate::limits::FRAME_BYTES_MAX_CEILING;
use crate::log;

use super::UringIo;

/// From one piece's start to the next's.
const STRIDE_BYTES: u64 = 32 * 1024 * 1024;
/// A flush and the largest frame, with room for headers.
const OVERLAP_BYTES: u64 = FRAME_BYTES_MAX_CEILING as u64 + 1024 * 1024;
/// The kernel takes no larger buffer.
const _: () = assert!(STRIDE_BYTES + OVERLAP_BYTES <= 1024 * 1024 * 1024);

/// Not registered yet.
const NONE: u16 = u16::MAX;

/// See the module.
#[derive(Default)]
pub(super) struct FileMemory {
    /// Indices in the ring's table, by piece.
    pieces: HashMap<RegionId, Box<[u16]>>,
    gives_up: bool,
}

impl FileMemory {
    /// Pieces registered.
    pub(super) fn registered(&self) -> u32 {
        let pieces = self.pieces.values().flatten().filter(|slot| **slot != NONE);
        u32::try_from(pieces.count()).unwrap_or(u32::MAX)
    }

    /// Forgets a region; the indices it had.
    fn forget(&mut self, id: RegionId) -> impl Iterator<Item = u16> {
        self.gives_up = false;
        self.pieces.remove(&id).into_iter().flatten().filter(|slot| *slot != NONE)
    }
}

impl UringIo {
    /// The index of the registered buffer that holds the span; `None`: it goes without.
    pub(super) fn file_buffer(&mut self, span: Span) -> Option<u16> {
        let bytes = self.regions.bytes(span.region);
        let start = span.at / STRIDE_BYTES * STRIDE_BYTES;
        let end = (start + STRIDE_BYTES + OVERLAP_BYTES).min(bytes);
        if self.region_slots.is_none() || span.end() > end {
            return None;
        }
        let pieces = usize::try_from(bytes.div_ceil(STRIDE_BYTES)).ok()?;
        let piece = usize::try_from(span.at / STRIDE_BYTES).ok()?;
        let of_region = || vec![NONE; pieces].into_boxed_slice();
        let slot = self.file_memory.pieces.entry(span.region).or_insert_with(of_region)[piece];
        if slot != NONE {
            return Some(slot);
        }
        if self.file_memory.gives_up {
            return None;
        }
        let length = u32::try_from(end - start).ok()?;
        let slot = self.register_piece(Span { region: span.region, at: start, bytes: length });
        match slot {
            Some(slot) => self.file_memory.pieces.get_mut(&span.region)?[piece] = slot,
            None => self.file_memory.gives_up = true,
        }
        slot
    }

    fn register_piece(&mut self, piece: Span) -> Option<u16> {
        let slot = self.region_slots.as_mut()?.pop()?;
        let (address, _) = self.regions.address(piece);
        let iovec = libc::iovec { iov_base: address.cast(), iov_len: piece.bytes as usize };
        // SAFETY: the region's mapping is kept alive by the region table until `detach_region` has taken the piece out of
        // the ring's table, or until the ring is closed.
        let registered =
            unsafe { self.ring.submitter().register_buffers_update(u32::from(slot), &[iovec], None) };
        let Err(error) = registered else { return Some(slot) };
        if let Some(slots) = &mut self.region_slots {
            slots.push(slot);
        }
        log::degraded(
            "file_memory_not_registered",
            "memory of logs could not be registered with the kernel: writing 1 MiB costs about 70 us more",
            &[
                ("error", &error),
                ("remedy", &"raise the locked-memory limit: ulimit -l, or LimitMEMLOCK= in the unit"),
            ],
        );
        None
    }

    /// Takes all of a region out of the ring's table of buffers.
    pub(super) fn unregister_region(&mut self, id: RegionId, whole: Option<u16>) {
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        for slot in self.file_memory.forget(id).chain(whole) {
            // SAFETY: an empty buffer names no memory.
            let cleared =
                unsafe { self.ring.submitter().register_buffers_update(u32::from(slot), &[none], None) };
            if let (Ok(()), Some(slots)) = (cleared, self.region_slots.as_mut()) {
                slots.push(slot);
            }
        }
    }
}
