//! The few calls to the host that `std` has no safe form for and no backend owns.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tokio::io::unix::AsyncFd;

/// A non-blocking eventfd (eventfd(2)), counting from 0.
///
/// # Errors
/// The process or system is out of descriptors.
pub fn event() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Leaves out, of what this process makes from now on, what others than its user and group may do with it.
pub fn keep_from_others() {
    // SAFETY: umask has no pointers and cannot fail. It is read by setting it: meanwhile nobody else gets anything.
    unsafe {
        let own = libc::umask(0o077);
        libc::umask(own | 0o007);
    }
}

/// An event that a task can wait for. Only inside a tokio runtime.
///
/// # Errors
/// The runtime's poll set is full.
pub fn watched(event: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its descriptor: it stays open and the same until the `AsyncFd`, which owns the `File`
    // and gives it out by shared reference only, is dropped.
    unsafe { AsyncFd::register(event) }.map_err(io::Error::from)
}

/// The CPUs this thread may run on, in their order (sched_getaffinity(2)).
///
/// # Errors
/// The host has more CPUs than a `cpu_set_t` has bits.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: `set` is writable for the size given; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeros is a valid cpu_set_t, and the kernel has written to it.
    let set = unsafe { set.assume_init() };
    let bits = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: CPU_ISSET reads the set within its size; `cpu` stays below its number of bits.
    Ok((0..bits).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Binds this thread to one CPU (sched_setaffinity(2)).
///
/// # Errors
/// The CPU is not one this thread may use, or the call is forbidden.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all zeros is the empty set.
    let mut set = unsafe { MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init() };
    // SAFETY: `cpu` is below the set's number of bits, checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is readable for the size given; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises this process's soft limit on open files towards `wanted`, within the hard limit; the limit that holds then
/// (getrlimit(2)).
///
/// # Errors
/// The limit cannot be read or set.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let goal = wanted.min(limit.rlim_max);
    if limit.rlim_cur < goal {
        limit.rlim_cur = goal;
        // SAFETY: `limit` is readable.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Soft and hard limit on locked memory, in bytes (`RLIMIT_MEMLOCK`); `None` is no limit.
#[must_use]
pub fn locked_memory() -> (Option<u64>, Option<u64>) {
    resource(libc::RLIMIT_MEMLOCK)
}

/// Soft and hard limit on open files (`RLIMIT_NOFILE`); `None` is no limit.
#[must_use]
pub fn open_files() -> (Option<u64>, Option<u64>) {
    resource(libc::RLIMIT_NOFILE)
}

fn resource(resource: libc::__rlimit_resource_t) -> (Option<u64>, Option<u64>) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes; the resource is one the kernel knows, so the call cannot fail.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    let bounded = |value| (value != libc::RLIM_INFINITY).then_some(value);
    (bounded(limit.rlim_cur), bounded(limit.rlim_max))
}

/// Reserves room for the first `bytes` of a file, which becomes that long (fallocate(2)).
///
/// # Errors
/// There is no room, or the file system has no such call (`EOPNOTSUPP`).
pub fn allocate(file: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    loop {
        // SAFETY: fallocate takes no pointers, and the descriptor is open while it is borrowed.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// What is going to happen to a part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// It is read from front to back.
    Sequential,
    /// It is read soon: read it ahead.
    Ahead,
    /// It is not read again: the page cache need not keep it.
    Done,
}

/// Tells the kernel (posix_fadvise(2)); `bytes` 0 is up to the end. It is advice: what becomes of it is not told.
pub fn advise(file: BorrowedFd<'_>, at: u64, bytes: u64, advice: Advice) {
    let advice = match advice {
        Advice::Sequential => libc::POSIX_FADV_SEQUENTIAL,
        Advice::Ahead => libc::POSIX_FADV_WILLNEED,
        Advice::Done => libc::POSIX_FADV_DONTNEED,
    };
    if let (Ok(at), Ok(bytes)) = (libc::off_t::try_from(at), libc::off_t::try_from(bytes)) {
        // SAFETY: posix_fadvise takes no pointers, and the descriptor is open while it is borrowed.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), at, bytes, advice) };
    }
}

/// A file system's size and what is left of it for this user, in bytes (statvfs(3)).
///
/// # Errors
/// What the kernel said.
pub fn space(path: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero, and statvfs writes one `statvfs` at the place it is given.
    if unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, and since then filled: a `statvfs` is integers only.
    let found = unsafe { found.assume_init() };
    let block = found.f_frsize;
    Ok((found.f_blocks.saturating_mul(block), found.f_bavail.saturating_mul(block)))
}

/// `CLOCK_MONOTONIC` in ns, the clock of every deadline that crosses threads.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable; the clock exists on every Linux.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    assert_eq!(result, 0, "CLOCK_MONOTONIC can be read");
    let seconds = u64::try_from(now.tv_sec).expect("the monotonic clock is not negative");
    let nanos = u64::try_from(now.tv_nsec).expect("nanoseconds are not negative");
    seconds * 1_000_000_000 + nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_to_one_of_its_cpus() {
        let cpus = allowed_cpus().expect("a set");
        assert!(!cpus.is_empty());
        std::thread::spawn(move || {
            pin_to_cpu(cpus[0]).expect("an allowed CPU");
            assert_eq!(allowed_cpus().expect("a set"), [cpus[0]]);
            assert!(pin_to_cpu(usize::MAX).is_err());
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn open_files_are_raised_and_never_lowered() {
        let now = raise_open_files(0).expect("a limit");
        assert_eq!(raise_open_files(1).expect("a limit"), now);
        assert!(raise_open_files(u64::MAX).expect("a limit") >= now);
    }

    #[test]
    fn room_is_reserved_and_counted() {
        let file = tempfile::tempfile().expect("a file");
        allocate(std::os::fd::AsFd::as_fd(&file), 1 << 20).expect("room");
        assert_eq!(file.metadata().expect("a size").len(), 1 << 20);
        let (all, left) = space(Path::new("/")).expect("a file system");
        assert!(left <= all && all > 0);
        assert!(space(Path::new("/no/such/place")).is_err());
    }

    #[test]
    fn the_clock_goes_forward() {
        let before = monotonic_ns();
        assert!(monotonic_ns() >= before && before > 0);
    }
}
