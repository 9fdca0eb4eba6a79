//! Calls on sockets and wake-up descriptors that every backend makes the same way.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::errors::last_errno;

/// How listeners are to be used. All other sockets are non-blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // each backend uses one
pub(super) enum Listeners {
    /// The kernel waits for connections on the backend's behalf.
    Blocking,
    /// The backend takes what is there.
    NonBlocking,
}

/// Makes a descriptor close-on-exec and gives it the mode it is used in.
pub(super) fn set_mode(fd: &OwnedFd, listeners: Listeners) -> io::Result<()> {
    let raw = fd.as_raw_fd();
    let blocking = listeners == Listeners::Blocking && is_listener(raw)?;
    // SAFETY: fcntl on an open descriptor with integer arguments touches no memory.
    let set = unsafe {
        let flags = libc::fcntl(raw, libc::F_GETFL);
        let wanted = if blocking { flags & !libc::O_NONBLOCK } else { flags | libc::O_NONBLOCK };
        let mode = if flags < 0 || flags == wanted { flags } else { libc::fcntl(raw, libc::F_SETFL, wanted) };
        if mode < 0 { mode } else { libc::fcntl(raw, libc::F_SETFD, libc::FD_CLOEXEC) }
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn is_listener(fd: RawFd) -> io::Result<bool> {
    let mut listening: libc::c_int = 0;
    let mut bytes = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: the descriptor is open; value and length are valid for writes and match each other.
    let asked = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            (&raw mut listening).cast(),
            &raw mut bytes,
        )
    };
    if asked == 0 { Ok(listening != 0) } else { Err(io::Error::last_os_error()) }
}

/// Ends this side's direction; the errno when that fails.
pub(super) fn shut_down_write(fd: BorrowedFd<'_>) -> Result<(), i32> {
    // SAFETY: a system call on an open descriptor; no memory is involved.
    if unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) } == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Where the kernel writes a peer's address.
pub(super) struct PeerAddress {
    storage: libc::sockaddr_storage,
    bytes: libc::socklen_t,
}

impl PeerAddress {
    pub(super) fn new() -> PeerAddress {
        // SAFETY: `sockaddr_storage` is plain data for which all zeroes is a value.
        let storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        PeerAddress { storage, bytes: libc::socklen_t::try_from(size_of_val(&storage)).unwrap_or(0) }
    }

    /// Address and length, for a call that writes both.
    pub(super) fn pointers(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.bytes)
    }

    /// What was written; unspecified when nothing was, or no IP address.
    pub(super) fn ip(&self) -> IpAddr {
        let family = i32::from(self.storage.ss_family);
        if family == libc::AF_INET {
            // SAFETY: the kernel has written a `sockaddr_in`, as the family says, into larger aligned storage.
            let address = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in>() };
            IpAddr::from(address.sin_addr.s_addr.to_ne_bytes())
        } else if family == libc::AF_INET6 {
            // SAFETY: as above, a `sockaddr_in6`.
            let address = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in6>() };
            IpAddr::from(address.sin6_addr.s6_addr).to_canonical()
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        }
    }
}

/// Wakes whoever watches this event descriptor.
pub(super) fn write_event(event: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the descriptor is open and `one` is valid for reads of its length. A full counter (EAGAIN) means
    // that the peer has a wake-up pending already.
    unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// A clock in ns.
pub(super) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writes; the clocks used here (monotonic, realtime) exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
