//! The poll set: a socket goes in once, for all it can report, and comes out when it is given up. Nothing here is
//! called between but the wait itself.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Something may be read: bytes, an end, an error, or bytes out of band.
pub(super) const READABLE: u32 = bits(libc::EPOLLIN | libc::EPOLLPRI) | HUNG_UP;
/// Something may be written, or writing will find the fault.
pub(super) const WRITABLE: u32 = bits(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR);
/// The peer's side is closed or broken.
pub(super) const HUNG_UP: u32 = bits(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR);
/// A read ends before these bytes though others lie behind them (tcp(7)).
pub(super) const URGENT: u32 = bits(libc::EPOLLPRI);

/// What a socket is watched for, edge-triggered.
pub(super) const SOCKET: u32 =
    bits(libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET);

/// What an event descriptor is watched for: each write is reported once, though nobody reads the count.
pub(super) const EVENT: u32 = bits(libc::EPOLLIN | libc::EPOLLET);

/// Reports of one wait.
const EVENTS_MAX: usize = 512;

const fn bits(bits: libc::c_int) -> u32 {
    bits.cast_unsigned()
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// With this many reports.
    Events(usize),
    /// The time was up.
    TimedOut,
    /// A signal came first.
    Interrupted,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    None,
    Ns(u64),
    Forever,
}

/// See the module.
pub(super) struct Poller {
    fd: OwnedFd,
    events: Box<[libc::epoll_event]>,
    /// The kernel takes time-outs in ns (`epoll_pwait2`, 5.11).
    precise: bool,
}

impl Poller {
    /// `precise`: use time-outs in ns where the kernel has them.
    pub(super) fn new(precise: bool) -> io::Result<Poller> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX].into_boxed_slice();
        let mut this = Poller { fd, events, precise };
        // Tried on an empty set, with no time to wait.
        this.precise = precise && this.wait_precisely(0, 1) >= 0;
        Ok(this)
    }

    pub(super) fn precise(&self) -> bool {
        self.precise
    }

    /// Watches a descriptor for `what`; `data` comes with each of its reports.
    pub(super) fn add(&self, fd: RawFd, what: u32, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: what, u64: data };
        // SAFETY: both descriptors are open; `event` is valid for reads.
        let added = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if added == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Watches a descriptor no longer. One that is closed need not be taken out.
    pub(super) fn remove(&self, fd: RawFd) -> io::Result<()> {
        // SAFETY: both descriptors are open; no memory is involved.
        let removed =
            unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
        if removed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits for at most `reports_max` reports, which is not 0.
    pub(super) fn wait(&mut self, patience: Patience, reports_max: usize) -> io::Result<Waited> {
        let max = reports_max.min(self.events.len());
        let count = match patience {
            Patience::None => self.wait_ms(0, max),
            Patience::Forever => self.wait_ms(-1, max),
            Patience::Ns(ns) if self.precise => self.wait_precisely(ns, max),
            // Rounded up: who waits until a moment may be late, not early.
            Patience::Ns(ns) => self.wait_ms(i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX), max),
        };
        match usize::try_from(count) {
            Ok(0) => Ok(Waited::TimedOut),
            Ok(count) => Ok(Waited::Events(count)),
            Err(_) => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EINTR) => Ok(Waited::Interrupted),
                error => Err(error),
            },
        }
    }

    /// A report of the last wait: its data, and what holds.
    pub(super) fn event(&self, index: usize) -> (u64, u32) {
        let event = self.events[index];
        (event.u64, event.events)
    }

    fn wait_ms(&mut self, ms: i32, max: usize) -> i32 {
        let max = i32::try_from(max).unwrap_or(1);
        // SAFETY: the descriptor is open; `events` is valid for writes of `max` events.
        unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), max, ms) }
    }

    fn wait_precisely(&mut self, ns: u64, max: usize) -> i32 {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(ns / 1_000_000_000).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::try_from(ns % 1_000_000_000).unwrap_or(0),
        };
        let no_signals: *const libc::sigset_t = std::ptr::null();
        // SAFETY: the descriptor is open; `events` is valid for writes of `max` events; the time-out is valid for
        // reads; without a mask its size is not looked at.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                max,
                &raw const timeout,
                no_signals,
                0usize,
            )
        };
        i32::try_from(count).unwrap_or(-1)
    }
}
