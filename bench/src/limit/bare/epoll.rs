//! The bare programs on epoll: edge-triggered, one system call for each read and each send.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::sockets::owned;

mod answer;
mod relay;
mod sink;

pub(super) use answer::answer;
pub(super) use relay::relay;
pub(super) use sink::sink;

/// Events one wait brings.
const EVENTS: usize = 1024;
/// Reads of one connection before the others get their turn.
const READS_PER_TURN: usize = 16;

/// Bits of an event after which a short read is not the end: the end of the stream is still to be read.
const HUNG_UP: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned();
const READABLE: u32 = libc::EPOLLIN.cast_unsigned() | HUNG_UP;
const WRITABLE: u32 = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned();

/// One epoll descriptor and the sockets it watches, each by its index.
struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// What is known of one socket's receiving side between two edges.
#[derive(Debug, Clone, Copy, Default)]
struct Edge {
    /// There may be something to read.
    ready: bool,
    /// The end has been announced: read until it comes.
    ending: bool,
    /// The end has come.
    gone: bool,
}

impl Poller {
    fn new() -> io::Result<Poller> {
        // SAFETY: no memory is involved.
        let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Poller { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS] })
    }

    fn add(&self, fd: RawFd, events: u32, index: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events, index)
    }

    /// Makes the kernel look again: an edge that was not used up is reported once more.
    fn again(&self, fd: RawFd, events: u32, index: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events, index)
    }

    fn control(&self, what: i32, fd: RawFd, events: u32, index: usize) -> io::Result<()> {
        let events = events | libc::EPOLLET.cast_unsigned();
        let mut event = libc::epoll_event { events, u64: index as u64 };
        // SAFETY: the event is read over the call; both descriptors are open.
        let done = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, fd, &raw mut event) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sleeps until there is an edge; index and bits of each.
    fn wait(&mut self) -> io::Result<impl Iterator<Item = (usize, u32)>> {
        let capacity = i32::try_from(EVENTS).expect("a small constant");
        // SAFETY: the vector has `EVENTS` entries, which the kernel fills from the first.
        let count =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), capacity, -1) };
        let count = match usize::try_from(count) {
            Ok(count) => count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => 0,
                error => return Err(error),
            },
        };
        Ok(self.events[..count].iter().map(|event| {
            let (index, bits) = (event.u64, event.events);
            (usize::try_from(index).expect("an index of ours"), bits)
        }))
    }
}

impl Edge {
    const GONE: Edge = Edge { ready: false, ending: false, gone: true };

    fn came(&mut self, bits: u32) {
        if self.gone {
            return; // what the end itself sets off
        }
        self.ready |= bits & READABLE != 0;
        self.ending |= bits & HUNG_UP != 0;
    }

    /// A read brought fewer bytes than it asked for: nothing more, unless the end is due.
    fn short(&mut self) {
        self.ready = self.ending;
    }
}
