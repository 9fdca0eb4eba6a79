//! The few calls to the host that `std` has no safe form for and no backend owns.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

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
    fn the_clock_goes_forward() {
        let before = monotonic_ns();
        assert!(monotonic_ns() >= before && before > 0);
    }
}
