//! Regions by id, and the lists of iovecs that vectored sends are made of.
//!
//! Invariant: a list's iovecs and message header stay where they are from `Send` to its completion: both
//! live in slabs that are never resized, and a list is free again only at the completion.
#![allow(unsafe_code)]

use std::sync::Arc;

use crate::buf::{Mapping, Span};
use crate::ids::RegionId;
use crate::limits::{REGIONS_MAX, SENDS_IN_FLIGHT, SPANS_PER_SEND};

/// One region.
struct Region<N> {
    mapping: Arc<Mapping>,
    note: N,
}

/// The regions spans may name, each with what a backend notes of it. Keeps their memory mapped.
pub(super) struct Regions<N> {
    by_id: Vec<Option<Region<N>>>,
}

impl<N> Default for Regions<N> {
    fn default() -> Self {
        Regions { by_id: Vec::new() }
    }
}

impl<N: Copy> Regions<N> {
    pub(super) fn attach(&mut self, id: RegionId, mapping: Arc<Mapping>, note: N) {
        let index = id.index();
        assert!(index < REGIONS_MAX, "region {id} is within the table");
        if self.by_id.len() <= index {
            self.by_id.resize_with(index + 1, || None);
        }
        assert!(self.by_id[index].is_none(), "a region is attached once");
        self.by_id[index] = Some(Region { mapping, note });
    }

    /// Forgets a region; what was noted of it.
    ///
    /// # Panics
    /// When it is not attached.
    pub(super) fn detach(&mut self, id: RegionId) -> N {
        self.by_id[id.index()].take().expect("a region is detached once").note
    }

    /// Bytes of a region's addresses.
    ///
    /// # Panics
    /// When it is not attached.
    #[cfg(feature = "uring")]
    pub(super) fn bytes(&self, id: RegionId) -> u64 {
        let region = self.by_id.get(id.index()).and_then(Option::as_ref);
        region.expect("an attached region").mapping.address_bytes() as u64
    }

    /// Address of a span's first byte, and what was noted of its region.
    ///
    /// # Panics
    /// When the region is not attached or the span reaches outside it.
    pub(super) fn address(&self, span: Span) -> (*mut u8, N) {
        let Some(region) = self.by_id.get(span.region.index()).and_then(Option::as_ref) else {
            panic!("a span names an attached region: {span:?}");
        };
        let end = span.at.checked_add(u64::from(span.bytes));
        assert!(
            end.is_some_and(|end| end <= region.mapping.address_bytes() as u64),
            "a span lies in its region: {span:?}"
        );
        let at = usize::try_from(span.at).unwrap_or(usize::MAX);
        // SAFETY: `at` is at most the mapping's length (asserted above), so the result is inside the mapping or
        // one past its end, and the mapping lives as long as it is in this table.
        (unsafe { region.mapping.base().add(at) }, region.note)
    }
}

/// See the module. The default has no lists: it stands in for others that must never be freed.
#[derive(Default)]
pub(super) struct SpanLists {
    iovecs: Box<[libc::iovec]>,
    headers: Box<[libc::msghdr]>,
    /// Iovecs in use, by list; `NOT_TAKEN` for a free one.
    used: Box<[u16]>,
    free: Vec<u32>,
}

const NOT_TAKEN: u16 = u16::MAX;

impl SpanLists {
    pub(super) fn new() -> SpanLists {
        let no_bytes = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: `msghdr` is plain data for which all zeroes is a value: no name, no control data.
        let no_message: libc::msghdr = unsafe { std::mem::zeroed() };
        let lists = u32::try_from(SENDS_IN_FLIGHT).unwrap_or(0);
        SpanLists {
            iovecs: vec![no_bytes; SENDS_IN_FLIGHT * SPANS_PER_SEND].into_boxed_slice(),
            headers: vec![no_message; SENDS_IN_FLIGHT].into_boxed_slice(),
            used: vec![NOT_TAKEN; SENDS_IN_FLIGHT].into_boxed_slice(),
            free: (0..lists).rev().collect(),
        }
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        let list = self.free.pop()?;
        self.used[list as usize] = 0;
        Some(list)
    }

    pub(super) fn give(&mut self, list: u32) {
        assert!(self.used[list as usize] != NOT_TAKEN, "a span list is given back once");
        self.used[list as usize] = NOT_TAKEN;
        self.free.push(list);
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Adds bytes behind the others; what lies side by side in memory becomes one iovec.
    ///
    /// # Panics
    /// When the list is not taken, or is full.
    pub(super) fn push(&mut self, list: u32, address: *mut u8, bytes: u32) {
        let used = usize::from(self.used[list as usize]);
        assert!(self.used[list as usize] != NOT_TAKEN, "spans are pushed to a list that is taken");
        let first = list as usize * SPANS_PER_SEND;
        if used > 0 {
            let last = &mut self.iovecs[first + used - 1];
            if last.iov_base as usize + last.iov_len == address as usize {
                last.iov_len += bytes as usize;
                return;
            }
        }
        assert!(used < SPANS_PER_SEND, "a list holds at most SPANS_PER_SEND spans");
        self.iovecs[first + used] = libc::iovec { iov_base: address.cast(), iov_len: bytes as usize };
        self.used[list as usize] += 1;
    }

    /// The iovecs of a list that is about to be sent.
    ///
    /// # Panics
    /// When there is nothing to send.
    pub(super) fn iovecs(&self, list: u32) -> &[libc::iovec] {
        let used = usize::from(self.used[list as usize]);
        assert!(self.used[list as usize] != NOT_TAKEN && used > 0, "a list that is sent has spans");
        let first = list as usize * SPANS_PER_SEND;
        &self.iovecs[first..first + used]
    }

    /// Bytes of a list.
    #[cfg(feature = "epoll")]
    pub(super) fn bytes(&self, list: u32) -> usize {
        self.iovecs(list).iter().map(|iovec| iovec.iov_len).sum()
    }

    /// The message header of a list that is about to be sent.
    ///
    /// # Panics
    /// When there is nothing to send.
    pub(super) fn message(&mut self, list: u32) -> *const libc::msghdr {
        let iovecs = self.iovecs(list);
        let (first, used) = (iovecs.as_ptr().cast_mut(), iovecs.len());
        let header = &mut self.headers[list as usize];
        header.msg_iov = first;
        header.msg_iovlen = used as _;
        std::ptr::from_ref(header)
    }
}
