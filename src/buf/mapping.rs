//! Memory from `mmap`: plain, or mirrored (the same memory twice, back to back).
//!
//! A mirrored mapping of R bytes has 2 R bytes of addresses: byte `i` and byte `i + R` are the same byte,
//! so whatever starts in the first copy and is at most R long lies side by side, whether or not it crosses
//! the seam. How addresses come and go is in `range`; under Miri, which knows neither `mmap` of files nor advice, they
//! come from the heap, and a mirrored mapping has two memories that do not know of each other.
//!
//! A mapping owns its addresses from construction to drop. It hands out a raw base pointer only; who may
//! read or write which bytes is decided by `Memory`, `ReceiveMemory` and the I/O backend.
#![allow(unsafe_code)]

use std::fmt;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

#[cfg_attr(miri, path = "mapping/heap.rs")]
mod range;

pub(super) use range::Range;

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
        Mapping::of(bytes, pages, false, Range::once)
    }

    /// Memory of at least `bytes` bytes, rounded up to whole pages, that appears twice, back to back.
    ///
    /// # Errors
    /// When the host does not give it; the error names the remedy.
    pub fn mirrored(bytes: usize, pages: Pages) -> Result<Mapping, MapError> {
        Mapping::of(bytes, pages, true, Range::twice)
    }

    /// `make` is told the bytes, and whether to take reserved huge pages.
    fn of(
        bytes: usize,
        pages: Pages,
        mirrored: bool,
        make: fn(usize, bool) -> Result<Range, MapError>,
    ) -> Result<Mapping, MapError> {
        let bytes = page_multiple(bytes)?;
        if wants_huge(bytes, pages)
            && let Ok(range) = make(bytes, true)
        {
            return Ok(Mapping { range, bytes, mirrored, huge: true });
        }
        let range = make(bytes, false)?;
        if pages == Pages::HugeIfAvailable {
            range.advise_huge();
        }
        Ok(Mapping { range, bytes, mirrored, huge: false })
    }

    /// Bytes of distinct memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of addresses: twice the memory when mirrored.
    #[must_use]
    pub fn address_bytes(&self) -> usize {
        self.range.bytes()
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
        if !self.range.populate() {
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
        for at in (0..self.range.bytes()).step_by(page_bytes()) {
            // SAFETY: `at` is inside the range, which is mapped, readable and writable until drop; a `u8` has
            // no alignment to meet, and the write is atomic and keeps the value.
            let byte = unsafe { AtomicU8::from_ptr(self.range.base().add(at)) };
            byte.fetch_or(black_box(0), Ordering::Relaxed); // a plain 0 would be optimised away
        }
    }
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
