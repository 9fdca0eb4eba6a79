//! Reads and sends that never wait: carried out when they are submitted, reported by the next `reap`.

use crate::buf::Span;
use crate::io::errors::{error_of, result_of};
use crate::io::{Completion, IoError, Outcome, Token};

use super::sockets::Interest;
use super::{EpollIo, NO_LIST, Waiting};

impl EpollIo {
    pub(super) fn read(&mut self, sock: u32, into: Span, token: Token) {
        assert!(into.bytes > 0, "a read has room");
        let (address, ()) = self.regions.address(into);
        // SAFETY: the span lies in a region that is attached, and is the kernel's until this operation completes
        // (invariant 2 of `io`); the descriptor is open.
        let got = unsafe {
            libc::recv(self.sockets.fd(sock), address.cast(), into.bytes as usize, libc::MSG_DONTWAIT)
        };
        let outcome = match result_of(got) {
            Ok(0) => Outcome::EndOfStream,
            Ok(bytes) => Outcome::Read { bytes: u32::try_from(bytes).unwrap_or(into.bytes) },
            Err(errno) => Outcome::Failed(error_of(errno)),
        };
        self.finish_later(token, outcome, NO_LIST);
        let state = self.sockets.state(sock);
        match outcome {
            Outcome::Read { bytes } if bytes < into.bytes && state.read_on => {
                // What is behind these bytes was reported before they were read, and is not again.
                let poll = self.sockets.token(sock, Interest::Readable);
                if let Some(token) = poll {
                    let completion = Completion { token, outcome: Outcome::Ready, more: true };
                    self.waiting.push_back(Waiting { completion, list: NO_LIST });
                }
            }
            Outcome::Read { bytes } if bytes < into.bytes => state.readable = false,
            Outcome::Failed(IoError::WouldBlock) => {
                state.readable = false;
                state.read_on = false;
            }
            _ => {}
        }
    }

    pub(super) fn send(&mut self, sock: u32, list: u32, token: Token) {
        let fd = self.sockets.fd(sock);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let asked = self.lists.bytes(list);
        let sent = match self.lists.iovecs(list) {
            // SAFETY: the iovec names bytes of a region that is attached and that nobody writes to until this
            // operation completes (invariant 2 of `io`); the descriptor is open.
            [only] => unsafe { libc::send(fd, only.iov_base, only.iov_len, flags) },
            // SAFETY: as above, for each iovec; header and iovecs stay where they are during the call.
            _ => unsafe { libc::sendmsg(fd, self.lists.message(list), flags) },
        };
        let outcome = match result_of(sent) {
            Ok(bytes) => {
                self.sockets.state(sock).writable = bytes == asked;
                Outcome::Sent { bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
            }
            Err(errno) => Outcome::Failed(error_of(errno)),
        };
        if outcome == Outcome::Failed(IoError::WouldBlock) {
            self.sockets.state(sock).writable = false;
        }
        self.finish_later(token, outcome, list);
    }
}
