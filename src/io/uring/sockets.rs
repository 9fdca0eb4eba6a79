//! The socket table: `SockId` to descriptor, and on newer kernels to the ring's own table at the same index.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use io_uring::squeue;

use crate::ids::SockId;
use crate::io::IoError;
use crate::io::socket::{self, PeerAddress};

use super::ring::Ring;

const CLOSED: RawFd = -1;
const NONE: u32 = u32::MAX;

/// One socket.
struct Slot {
    fd: RawFd,
    /// Operations outstanding, to hold the shard to invariant 6.
    outstanding: u16,
    /// The peer's side is closed or broken: a poll has said so.
    hung_up: bool,
    /// The `PollReadable` in progress.
    readable: u32,
    next_free: u32,
}

/// See the module. Owns the descriptors.
pub(super) struct Sockets {
    slots: Vec<Slot>,
    capacity: usize,
    free: u32,
    /// The ring's table mirrors this one.
    direct: bool,
    open: u32,
}

impl Sockets {
    pub(super) fn new(capacity: u32, direct: bool) -> Sockets {
        Sockets {
            slots: Vec::with_capacity(capacity as usize),
            capacity: capacity as usize,
            free: NONE,
            direct,
            open: 0,
        }
    }

    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// Takes a socket in. Listeners become blocking (the ring waits for them, and older kernels answer
    /// `EAGAIN` for non-blocking ones), all others non-blocking.
    pub(super) fn attach(&mut self, ring: &Ring, fd: OwnedFd) -> Result<SockId, (IoError, OwnedFd)> {
        if self.free == NONE && self.slots.len() == self.capacity {
            return Err((IoError::NoDescriptors, fd));
        }
        let index = if self.free == NONE { self.slots.len() } else { self.free as usize };
        let Ok(id) = u32::try_from(index) else { return Err((IoError::NoDescriptors, fd)) };
        if self.direct
            && let Err(error) = ring.submitter().register_files_update(id, &[fd.as_raw_fd()])
        {
            return Err((IoError::Os(error.raw_os_error().unwrap_or(libc::EIO)), fd));
        }
        let slot =
            Slot { fd: fd.into_raw_fd(), outstanding: 0, hung_up: false, readable: NONE, next_free: NONE };
        if index == self.slots.len() {
            self.slots.push(slot);
        } else {
            self.free = self.slots[index].next_free;
            self.slots[index] = slot;
        }
        self.open += 1;
        Ok(SockId(id))
    }

    /// Gives a socket up.
    ///
    /// # Panics
    /// When it is not attached, or has an operation outstanding.
    pub(super) fn detach(&mut self, ring: &Ring, sock: SockId) -> OwnedFd {
        let slot = &mut self.slots[sock.index()];
        assert!(slot.fd != CLOSED, "a socket is given up once");
        assert!(slot.outstanding == 0, "a socket is given up when no operation on it is outstanding");
        let fd = std::mem::replace(&mut slot.fd, CLOSED);
        slot.next_free = self.free;
        self.free = sock.0;
        self.open -= 1;
        if self.direct {
            // Clearing an entry of the ring's own table cannot fail but for a bug, which the next attach of
            // the same index would turn into operations on the wrong socket.
            let cleared = ring.submitter().register_files_update(sock.0, &[CLOSED]);
            assert!(cleared.is_ok(), "the ring's descriptor table is cleared: {cleared:?}");
        }
        // SAFETY: the slot owned this descriptor since `attach` and has just let go of it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    /// Empties the ring's own table. The kernel takes a closed ring apart at its leisure, also after the process has
    /// ended: until then its table would keep listeners listening, and their port from the next server.
    pub(super) fn leave_table(&self, ring: &Ring) {
        if self.direct {
            // Should it fail, the table goes with the ring.
            let _ = ring.submitter().unregister_files();
        }
    }

    /// Ends this side's direction; the errno when that fails.
    pub(super) fn shut_down_write(&self, sock: SockId) -> Result<(), i32> {
        let fd = self.slots[sock.index()].fd;
        assert!(fd != CLOSED, "operations name attached sockets");
        // SAFETY: this table owns the descriptor, which stays open during the call.
        socket::shut_down_write(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// What an operation on this socket names, and with which flags.
    ///
    /// # Panics
    /// When it is not attached.
    pub(super) fn target(&self, sock: u32) -> (RawFd, squeue::Flags) {
        let slot = &self.slots[sock as usize];
        assert!(slot.fd != CLOSED, "operations name attached sockets");
        if self.direct {
            (sock.cast_signed(), squeue::Flags::FIXED_FILE)
        } else {
            (slot.fd, squeue::Flags::empty())
        }
    }

    pub(super) fn began(&mut self, sock: u32) {
        self.slots[sock as usize].outstanding += 1;
    }

    pub(super) fn ended(&mut self, sock: u32) {
        self.slots[sock as usize].outstanding -= 1;
    }

    pub(super) fn hung_up(&self, sock: u32) -> bool {
        self.slots[sock as usize].hung_up
    }

    pub(super) fn set_hung_up(&mut self, sock: u32) {
        self.slots[sock as usize].hung_up = true;
    }

    /// The `PollReadable` in progress on this socket.
    pub(super) fn readable(&self, sock: u32) -> Option<u32> {
        let op = self.slots[sock as usize].readable;
        (op != NONE).then_some(op)
    }

    pub(super) fn set_readable(&mut self, sock: u32, op: Option<u32>) {
        self.slots[sock as usize].readable = op.unwrap_or(NONE);
    }

    /// The peer's address; unspecified when the socket has lost it already.
    pub(super) fn peer(&self, sock: SockId) -> IpAddr {
        let mut peer = PeerAddress::new();
        let (address, bytes) = peer.pointers();
        // SAFETY: the descriptor is open; address and length are valid for writes and match each other.
        unsafe { libc::getpeername(self.slots[sock.index()].fd, address, bytes) };
        peer.ip()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for slot in &self.slots {
            if slot.fd != CLOSED {
                // SAFETY: the slot owns the descriptor, and nothing uses it after this.
                drop(unsafe { OwnedFd::from_raw_fd(slot.fd) });
            }
        }
    }
}
