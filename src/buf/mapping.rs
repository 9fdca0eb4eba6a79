//! Memory from `mmap`: plain, or mirrored (the same memory twice, back to back).
//!
//! A mirrored mapping of R bytes has 2 R bytes of addresses: byte `i` and byte `i + R` are the same byte,
//! so whatever starts in the first copy and is at most R long lies side by side, whether or not it crosses
//! the seam. It is one memfd mapped twice over a reserved range.
//!
//! A `MAP_FIXED` that fails may have unmapped its target already: the kernel clears the range before it asks the
//! file's driver, and hugetlbfs refuses there when it has no pages. Any thread's next mapping may then lie at these
//! addresses. So huge pages are secured before the reservation is touched, and what a failed `MAP_FIXED` was aimed at
//! is nobody's afterwards: it is not unmapped.
//!
//! A mapping owns its addresses from construction to drop. It hands out a raw base pointer only; who may
//! read or write which bytes is decided by `Memory`, `ReceiveMemory` and the I/O backend.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fmt;
use std::hint::black_box;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

/// The huge page size that is tried. Other sizes a host may have are not looked for.
pub const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Which pages a mapping asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// The base page size.
    Small,
    /// Reserved huge pages where the size is a multiple of [`HUGE_PAGE_BYTES`] and the host has enough of them
    /// (`vm.nr_hugepages`); else base pages with the advice to use transparent huge pages.
    HugeIfAvailable,
}

/// The step of making a mapping that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapStep {
    /// The size is 0 or too large to be addressed.
    Size,
    /// `memfd_create(2)`.
    Create,
    /// `ftruncate(2)` of the memfd.
    Resize,
    /// Reserving addresses.
    Reserve,
    /// Mapping memory.
    Map,
}

/// A mapping could not be made. At fault: the environment (or the configured size).
#[derive(Debug)]
pub struct MapError {
    /// The step that failed.
    pub step: MapStep,
    /// The size asked for.
    pub bytes: usize,
    /// What the kernel said.
    pub source: io::Error,
}

impl MapError {
    fn last(step: MapStep, bytes: usize) -> MapError {
        MapError { step, bytes, source: io::Error::last_os_error() }
    }

    fn size(bytes: usize) -> MapError {
        MapError { step: MapStep::Size, bytes, source: io::Error::from_raw_os_error(libc::EINVAL) }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match (self.step, self.source.raw_os_error()) {
            (MapStep::Size, _) => "configure a size that is neither 0 nor beyond the address space",
            (_, Some(libc::EMFILE | libc::ENFILE)) => {
                "raise the limit on open files (ulimit -n, fs.file-max)"
            }
            (MapStep::Create, Some(libc::ENOSYS | libc::EPERM | libc::EACCES)) => {
                "allow memfd_create in the seccomp profile and the security policy"
            }
            (_, Some(libc::ENOMEM)) => {
                "configure less memory, or raise the limit that is in the way: RLIMIT_AS (ulimit -v), \
                 vm.max_map_count, vm.overcommit_memory, or the container's memory"
            }
            (_, Some(libc::EAGAIN)) => "raise RLIMIT_MEMLOCK (ulimit -l): locked mappings are in force",
            _ => "see the error number in mmap(2), memfd_create(2) and ftruncate(2)",
        }
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.step {
            MapStep::Size => "size",
            MapStep::Create => "create a memfd for",
            MapStep::Resize => "resize a memfd to",
            MapStep::Reserve => "reserve addresses for",
            MapStep::Map => "map",
        };
        write!(f, "cannot {doing} {} bytes of memory: {}; {}", self.bytes, self.source, self.remedy())
    }
}

impl std::error::Error for MapError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Memory from `mmap`, zeroed, given back when dropped. See the module.
#[derive(Debug)]
pub struct Mapping {
    range: Range,
    bytes: usize,
    mirrored: bool,
    huge: bool,
}

impl Mapping {
    /// Anonymous memory of at least `bytes` bytes, rounded up to whole pages.
    ///
    /// # Errors
    /// When the host does not give it; the error names the remedy.
    pub fn plain(bytes: usize, pages: Pages) -> Result<Mapping, MapError> {
        let bytes = page_multiple(bytes)?;
        if wants_huge(bytes, pages)
            && let Ok(range) = Range::anonymous(bytes, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB)
        {
            return Ok(Mapping { range, bytes, mirrored: false, huge: true });
        }
        let range = Range::anonymous(bytes, 0)?;
        if pages == Pages::HugeIfAvailable {
            range.advise_huge();
        }
        Ok(Mapping { range, bytes, mirrored: false, huge: false })
    }

    /// Memory of at least `bytes` bytes, rounded up to whole pages, that appears twice, back to back.
    ///
    /// # Errors
    /// When the host does not give it; the error names the remedy.
    pub fn mirrored(bytes: usize, pages: Pages) -> Result<Mapping, MapError> {
        let bytes = page_multiple(bytes)?;
        if wants_huge(bytes, pages)
            && let Ok(fd) = memfd(bytes, libc::MFD_HUGETLB | libc::MFD_HUGE_2MB)
            && let Ok(_pages) = Range::anywhere(bytes, &fd)
            && let Ok(range) = Range::mirrored(bytes, &fd, HUGE_PAGE_BYTES)
        {
            return Ok(Mapping { range, bytes, mirrored: true, huge: true });
        }
        let fd = memfd(bytes, 0)?;
        let range = Range::mirrored(bytes, &fd, page_bytes())?;
        if pages == Pages::HugeIfAvailable {
            range.advise_huge();
        }
        Ok(Mapping { range, bytes, mirrored: true, huge: false })
    }

    /// Bytes of distinct memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of addresses: twice the memory when mirrored.
    #[must_use]
    pub fn address_bytes(&self) -> usize {
        self.range.bytes
    }

    /// The memory appears twice.
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        self.mirrored
    }

    /// Reserved huge pages back it.
    #[must_use]
    pub fn huge(&self) -> bool {
        self.huge
    }

    /// Makes every page present and writable, in both copies of a mirrored mapping, so that no later access
    /// faults. Contents stay as they are. For start-up and topic creation, not for the hot path.
    pub fn prefault(&self) {
        // SAFETY: the range is mapped, readable and writable, and ours until drop; populating changes no byte.
        let outcome = unsafe {
            libc::madvise(self.range.base.as_ptr().cast(), self.range.bytes, libc::MADV_POPULATE_WRITE)
        };
        if outcome != 0 {
            self.touch(); // before Linux 5.14
        }
    }

    /// The first byte, for I/O backends. Valid for `address_bytes` bytes until the mapping is dropped.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.range.base()
    }

    /// Writes to every page without changing it; an atomic no-op, in case another thread uses the memory.
    pub(super) fn touch(&self) {
        for at in (0..self.range.bytes).step_by(page_bytes()) {
            // SAFETY: `at` is inside the range, which is mapped, readable and writable until drop; a `u8` has
            // no alignment to meet, and the write is atomic and keeps the value.
            let byte = unsafe { AtomicU8::from_ptr(self.range.base.as_ptr().add(at)) };
            byte.fetch_or(black_box(0), Ordering::Relaxed); // a plain 0 would be optimised away
        }
    }
}

/// A mapped range of addresses; unmapped on drop.
#[derive(Debug)]
pub(super) struct Range {
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
    pub(super) fn mirrored(bytes: usize, fd: &OwnedFd, align: usize) -> Result<Range, MapError> {
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
    pub(super) fn give_up_half(self, lost: usize) {
        let bytes = self.bytes / 2;
        // SAFETY: the other half is inside the range.
        let base = unsafe { self.base.add((1 - lost) * bytes) };
        std::mem::forget(self);
        drop(Range { base, bytes });
    }

    /// Addresses without memory, at a multiple of `align`.
    pub(super) fn reserved(bytes: usize, align: usize) -> Result<Range, MapError> {
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

    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    fn adopt(base: *mut libc::c_void, bytes: usize) -> Option<Range> {
        if base == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(base.cast()).map(|base| Range { base, bytes })
    }

    /// Asks for transparent huge pages. Advice: a host without them ignores it, and nothing depends on it.
    fn advise_huge(&self) {
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

fn wants_huge(bytes: usize, pages: Pages) -> bool {
    pages == Pages::HugeIfAvailable && bytes.is_multiple_of(HUGE_PAGE_BYTES)
}

/// Rounds up to whole pages; twice the result, and slack to align it, still fit the address space.
fn page_multiple(bytes: usize) -> Result<usize, MapError> {
    const BYTES_MAX: usize = 1 << 46;
    if bytes == 0 || bytes > BYTES_MAX {
        return Err(MapError::size(bytes));
    }
    Ok(bytes.next_multiple_of(page_bytes()))
}

fn page_bytes() -> usize {
    // SAFETY: reads a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
}
