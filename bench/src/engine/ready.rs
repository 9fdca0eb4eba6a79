//! Which of many sockets can be read: epoll, where asking each would cost more than the work.
//!
//! A few sockets are simply tried: an epoll set would be kept up to date at the server's cost, as loopback
//! delivers in the sender's context.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Sockets that are told of at once.
const EVENTS: usize = 256;

/// See the module. Level-triggered: what is not read is told of again.
pub(super) struct Ready {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Ready {
    pub(super) fn new() -> io::Result<Ready> {
        // SAFETY: takes a flag, gives a new descriptor.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Ready { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS] })
    }

    /// Looks after a socket, under this number. It is let go of when the socket is closed.
    pub(super) fn add(&mut self, socket: RawFd, number: usize) -> io::Result<()> {
        #[allow(clippy::cast_sign_loss)] // a bit
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number as u64 };
        // SAFETY: the event is a local that lives over the call; the descriptors are open.
        let done =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket, &raw mut event) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Can be waited for: it is readable when one of the sockets is.
    pub(super) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Numbers of sockets that can be read, waiting at most this long for the first.
    pub(super) fn look(&mut self, timeout: Duration) -> io::Result<impl Iterator<Item = usize>> {
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let room = i32::try_from(EVENTS).expect("a small constant");
        // SAFETY: the pointer and length are of the vector, which lives over the call.
        let found =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, timeout) };
        let error = io::Error::last_os_error();
        if found < 0 && error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        let found = usize::try_from(found).unwrap_or(0);
        Ok(self.events[..found]
            .iter()
            .map(|event| usize::try_from(event.u64).expect("a number given to add")))
    }
}
