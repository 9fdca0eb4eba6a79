//! Visits: receives into the shared ring, and accepts, for the sockets that wait for them.
//!
//! One socket after the other, in the order they became ready. A visit is one receive of what is there; who filled
//! what it was offered goes behind the others. A receive that came short has emptied the socket, so the call that
//! would only say so is saved; except where an end or bytes out of band have been reported, which lie behind the
//! bytes: then it goes on until the kernel says that nothing is left.

use std::os::fd::{FromRawFd, OwnedFd};

use crate::io::errors::{accept_error_of, accepting_goes_on, error_of, result_of};
use crate::io::socket::PeerAddress;
use crate::io::{Completion, Completions, IoError, Outcome};
use crate::limits::{SHARED_BUFFERS_INCREMENTAL, SHARED_RING_BYTES};

use super::sockets::Interest;
use super::{EpollIo, room};

/// Bytes one connection may take before the next one has its turn.
const VISIT_BYTES_MAX: u32 = 256 * 1024;
/// Completions of one visit to a connection: a receive of no more than a buffer's size lies in two of them.
pub(super) const COMPLETIONS_PER_VISIT: usize = 2;
const _: () = assert!(VISIT_BYTES_MAX <= SHARED_RING_BYTES / SHARED_BUFFERS_INCREMENTAL as u32);
/// Connections accepted before the next socket has its turn.
const VISIT_ACCEPTS_MAX: usize = 64;

impl EpollIo {
    /// Visits sockets while there is room for what they bring.
    pub(super) fn visit_queue(&mut self, out: &mut Completions) {
        let had_room = !self.ring.is_full();
        while room(out) >= COMPLETIONS_PER_VISIT {
            let Some(sock) = self.sockets.first() else { return };
            if self.sockets.state(sock).listener {
                self.sockets.unqueue(sock);
                self.accept(sock, out);
            } else if !self.ring.is_full() {
                self.sockets.unqueue(sock);
                self.receive(sock, out);
            } else if had_room {
                // The shard has not seen yet what filled the ring.
                return;
            } else {
                self.finish(sock, Interest::Take, Outcome::Failed(IoError::NoBuffers), out);
            }
        }
    }

    fn receive(&mut self, sock: u32, out: &mut Completions) {
        let room = self.ring.room(VISIT_BYTES_MAX);
        // SAFETY: the room is free memory of the ring's mapping, which the shard does not touch before it has been
        // reported as received; the descriptor is open.
        let got = unsafe {
            libc::recv(self.sockets.fd(sock), room.address.cast(), room.bytes as usize, libc::MSG_DONTWAIT)
        };
        let bytes = match result_of(got) {
            Ok(0) => return self.finish(sock, Interest::Take, Outcome::EndOfStream, out),
            Ok(bytes) => u32::try_from(bytes).unwrap_or(room.bytes),
            Err(libc::EAGAIN) => {
                let state = self.sockets.state(sock);
                state.readable = false;
                state.read_on = false;
                return;
            }
            Err(errno) => {
                return self.finish(sock, Interest::Take, Outcome::Failed(error_of(errno)), out);
            }
        };
        let Some(token) = self.sockets.token(sock, Interest::Take) else { return };
        let mut left = bytes;
        while left > 0 {
            let (piece, rest) = self.ring.take_piece(left);
            out.push(Completion { token, outcome: piece, more: true });
            left = rest;
        }
        let state = self.sockets.state(sock);
        state.readable = bytes == room.bytes || state.read_on;
        if state.readable {
            self.sockets.queue(sock);
        }
    }

    fn accept(&mut self, listener: u32, out: &mut Completions) {
        for _ in 0..VISIT_ACCEPTS_MAX {
            if room(out) == 0 {
                break;
            }
            let mut peer = PeerAddress::new();
            let (address, bytes) = peer.pointers();
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: the descriptor is open; address and length are valid for writes and match each other.
            let fd = unsafe { libc::accept4(self.sockets.fd(listener), address, bytes, flags) };
            match result_of(fd as isize) {
                Ok(_) => {
                    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
                    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                    self.accepted(listener, fd, &peer, out);
                }
                Err(libc::EAGAIN) => {
                    self.sockets.state(listener).readable = false;
                    return;
                }
                Err(errno) => {
                    let error = accept_error_of(errno);
                    if !accepting_goes_on(error) {
                        return self.finish(listener, Interest::Take, Outcome::Failed(error), out);
                    }
                }
            }
        }
        self.sockets.queue(listener);
    }

    fn accepted(&mut self, listener: u32, fd: OwnedFd, peer: &PeerAddress, out: &mut Completions) {
        let outcome = match self.adopt(fd) {
            Ok(sock) => Outcome::Accepted { sock, peer: peer.ip() },
            // The connection is closed: the table has room for every connection the shard may hold.
            Err((error, fd)) => {
                drop(fd);
                Outcome::Failed(error)
            }
        };
        self.report(listener, Interest::Take, outcome, out);
    }
}
