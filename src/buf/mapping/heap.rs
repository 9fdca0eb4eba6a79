//! In place of `range` under Miri: addresses from the heap, so that what is done with the memory can be watched. Nothing is
//! mirrored, the second copy is memory of its own; tests that look across the seam leave Miri out.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use super::{MapError, MapStep, page_bytes};

/// A range of addresses; given back on drop.
#[derive(Debug)]
pub struct Range {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: an address and a layout that never change; the heap belongs to the process, not to a thread. What is read or
// written through `base` is the business of who does it (see `Memory`).
unsafe impl Send for Range {}
// SAFETY: as above; `&Range` gives out the address and nothing that changes the range.
unsafe impl Sync for Range {}

impl Range {
    /// There are no huge pages.
    pub fn once(bytes: usize, huge: bool) -> Result<Range, MapError> {
        let layout = Layout::from_size_align(bytes, page_bytes()).map_err(|_| MapError::size(bytes))?;
        if huge || bytes == 0 {
            return Err(MapError::size(bytes));
        }
        // SAFETY: the layout's size is not 0.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) });
        base.map(|base| Range { base, layout }).ok_or_else(|| MapError::last(MapStep::Map, bytes))
    }

    /// As many addresses, of twice the memory.
    pub fn twice(bytes: usize, huge: bool) -> Result<Range, MapError> {
        Range::once(2 * bytes, huge)
    }

    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Of addresses.
    pub fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// It is all there.
    pub fn populate(&self) -> bool {
        true
    }

    /// There are none.
    pub fn advise_huge(&self) {}
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nothing refers to it any more: a `Mapping` is shared by `Arc`.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}
