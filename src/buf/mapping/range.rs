//! Addresses from the kernel, once or twice the same memory.
//!
//! A mirrored range is one memfd mapped twice over a reservation. A `MAP_FIXED` that fails may have unmapped its target
//! already: the kernel clears the range before it asks the file's driver, and hugetlbfs refuses there when it has no
//! pages. Any thread's next mapping may then lie at these addresses. So huge pages are secured before the reservation is
//! touched, and what a failed `MAP_FIXED` was aimed at is nobody's afterwards: it is not unmapped.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use super::{HUGE_PAGE_BYTES, MapError, MapStep, page_bytes};

/// A mapped range of addresses; unmapped on drop.
#[derive(Debug)]
pub struct Range {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a `Range` is an address and a length that never change; the memory behind it belongs to the
// process, not to a thread, and unmapping is allowed from any thread. What is read or written through
// `base` is the business of who does it (see `Memory`).
unsafe impl Send for Range {}
// SAFETY: as above; `&Range` gives out the address and nothing that changes the range.
unsafe impl Sync for Range {}

impl Range {
    /// Anonymous memory, on reserved huge pages or not.
    pub fn once(bytes: usize, huge: bool) -> Result<Range, MapError> {
        Range::anonymous(bytes, if huge { libc::MAP_HUGETLB | libc::MAP_HUGE_2MB } else { 0 })
    }

    /// Memory that appears twice, on reserved huge pages or not.
    pub fn twice(bytes: usize, huge: bool) -> Result<Range, MapError> {
        if !huge {
            return Range::mirrored(bytes, &memfd(bytes, 0)?, page_bytes());
        }
        let fd = memfd(bytes, libc::MFD_HUGETLB | libc::MFD_HUGE_2MB)?;
        let _pages = Range::anywhere(bytes, &fd)?;
        Range::mirrored(bytes, &fd, HUGE_PAGE_BYTES)
    }

    fn anonymous(bytes: usize, flags: c_int) -> Result<Range, MapError> {
        let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        Range::adopt(base, bytes).ok_or_else(|| MapError::last(MapStep::Map, bytes))
    }

    /// Maps `fd`'s `bytes` bytes anywhere: its pages are reserved, so that mapping it again needs none.
    fn anywhere(bytes: usize, fd: &OwnedFd) -> Result<Range, MapError> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        Range::adopt(base, bytes).ok_or_else(|| MapError::last(MapStep::Map, bytes))
    }

    /// Maps `fd`'s `bytes` bytes twice, back to back, at a multiple of `align` (a power of two).
    pub fn mirrored(bytes: usize, fd: &OwnedFd, align: usize) -> Result<Range, MapError> {
        let range = Range::reserved(2 * bytes, align).map_err(|error| MapError { bytes, ..error })?;
        for copy in 0..2 {
            // SAFETY: `range` is a reservation of 2 * bytes that nothing else uses; MAP_FIXED replaces one half
            // of it, and the range keeps owning both, whether mapped or still reserved.
            let at = unsafe {
                libc::mmap(
                    range.base.as_ptr().add(copy * bytes).cast(),
                    bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_FIXED,
                    fd.as_raw_fd(),
                    0,
                )
            };
            if at == libc::MAP_FAILED {
                let error = MapError::last(MapStep::Map, bytes);
                range.give_up_half(copy);
                return Err(error);
            }
        }
        Ok(range)
    }

    /// A `MAP_FIXED` onto half `lost` has failed: whose addresses these are now, nobody can say. Only the other half is
    /// given back. At worst addresses without memory are lost.
    pub fn give_up_half(self, lost: usize) {
        let bytes = self.bytes / 2;
        // SAFETY: the other half is inside the range.
        let base = unsafe { self.base.add((1 - lost) * bytes) };
        std::mem::forget(self);
        drop(Range { base, bytes });
    }

    /// Addresses without memory, at a multiple of `align`.
    pub fn reserved(bytes: usize, align: usize) -> Result<Range, MapError> {
        let with_slack = bytes + align;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), with_slack, libc::PROT_NONE, flags, -1, 0) };
        let slack = Range::adopt(start, with_slack).ok_or_else(|| MapError::last(MapStep::Reserve, bytes))?;
        let before = slack.base.align_offset(align);
        let after = align - before;
        // SAFETY: before + bytes + after is the reservation, so each part is inside it.
        let (base, end) = unsafe { (slack.base.add(before), slack.base.add(before + bytes)) };
        let start = slack.base;
        std::mem::forget(slack); // its middle becomes the result, its ends go back here
        let range = Range { base, bytes };
        let trimmed = unmap(start, before).and_then(|()| unmap(end, after));
        trimmed.map_err(|source| MapError { step: MapStep::Reserve, bytes, source })?;
        Ok(range)
    }

    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Of addresses.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes every page present and writable; whether the kernel can do so (from Linux 5.14 on).
    pub fn populate(&self) -> bool {
        // SAFETY: the range is mapped, readable and writable, and ours until drop; populating changes no byte.
        unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes, libc::MADV_POPULATE_WRITE) == 0 }
    }

    fn adopt(base: *mut libc::c_void, bytes: usize) -> Option<Range> {
        if base == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(base.cast()).map(|base| Range { base, bytes })
    }

    /// Asks for transparent huge pages. Advice: a host without them ignores it, and nothing depends on it.
    pub fn advise_huge(&self) {
        // SAFETY: the range is mapped and ours; the advice changes no byte.
        unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes, libc::MADV_HUGEPAGE) };
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if let Err(error) = unmap(self.base, self.bytes) {
            // The kernel may have joined neighbouring mappings, and unmapping the middle of one then needs a new entry
            // in a table that is full (vm.max_map_count). The addresses are lost; nothing refers to them.
            assert!(error.raw_os_error() == Some(libc::ENOMEM), "unmapping a range of our own: {error}");
        }
    }
}

/// Gives a range of ours back to the kernel. Nothing may refer to it.
fn unmap(base: NonNull<u8>, bytes: usize) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    // SAFETY: callers pass (part of) a mapping they made and own, once, when nothing refers to it any more:
    // a `Mapping` is shared by `Arc`, and backends keep theirs until their ring is closed.
    match unsafe { libc::munmap(base.as_ptr().cast(), bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn memfd(bytes: usize, flags: libc::c_uint) -> Result<OwnedFd, MapError> {
    let length = libc::off_t::try_from(bytes).map_err(|_| MapError::size(bytes))?;
    let create = |flags| {
        // SAFETY: the name is a C string literal; the call touches no other memory of ours.
        unsafe { libc::memfd_create(c"uringest".as_ptr(), flags | libc::MFD_CLOEXEC) }
    };
    let mut fd = create(flags | libc::MFD_NOEXEC_SEAL);
    if fd < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        fd = create(flags); // before Linux 6.3
    }
    if fd < 0 {
        return Err(MapError::last(MapStep::Create, bytes));
    }
    // SAFETY: the descriptor is new, open, and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: resizes a file of our own that nothing maps yet.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), length) } != 0 {
        return Err(MapError::last(MapStep::Resize, bytes));
    }
    Ok(fd)
}
