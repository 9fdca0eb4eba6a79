//! From the kernel's completions to the shard's.
//!
//! One rule keeps invariant 1: an operation's last completion is made by `finish` and nothing else, which
//! frees its entry, and hands out the `Done` of every cancel that waited for it (invariant 5).

use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::cqueue;

use crate::ids::BufId;
use crate::io::errors::{accept_error_of, accepting_goes_on, error_of};
use crate::io::socket::write_event;
use crate::io::{Completion, Completions, IoError, Outcome, Token};

use super::ops::{Kind, OpArgument, Part, Tag};
use super::{HUNG_UP, Shared, UringIo, drain_event, poll_bits};

impl UringIo {
    /// Takes one completion of the kernel. `out` has room for at least one more.
    pub(super) fn completed(&mut self, entry: &cqueue::Entry, out: &mut Completions) {
        let (result, flags) = (entry.result(), entry.flags());
        match Tag::from_raw(entry.user_data()) {
            Tag::Message => self.woken(out),
            Tag::Event => self.event(result, flags, out),
            Tag::Undelivered(peer) => self.undelivered(peer, result),
            Tag::Ignored => {}
            Tag::Op { part, generation, index } if self.ops.current(index, generation) => {
                if !cqueue::more(flags) {
                    self.ops[index].ended(part);
                }
                match part {
                    Part::Main => self.main_part(index, result, flags, out),
                    Part::Poll => self.emulated_polled(index, result, out),
                    Part::Read => self.emulated_read(index, result, out),
                }
            }
            Tag::Op { .. } | Tag::Unknown => self.unknown += 1,
        }
    }

    fn main_part(&mut self, index: u32, result: i32, flags: u32, out: &mut Completions) {
        let more = cqueue::more(flags);
        match self.ops[index].kind {
            Kind::Accept => self.accepted(index, result, more, out),
            Kind::Receive => self.received(index, result, flags, out),
            Kind::Read => self.read(index, result, out),
            Kind::Readable => self.readable(index, result, more, out),
            Kind::Writable if result >= 0 => self.finish(index, Outcome::Ready, out),
            Kind::Writable => self.finish(index, Outcome::Failed(error_of(-result)), out),
            Kind::Send => self.sent(index, result, out),
            Kind::WriteFile | Kind::WriteFileDurably | Kind::ReadFile | Kind::SyncFile => {
                self.file_completed(index, result, out);
            }
            Kind::Cancel => {
                if !self.ops[index].awaits_target {
                    self.finish(index, Outcome::Done, out);
                }
            }
        }
    }

    /// Hands a completion out, behind those that are waiting.
    pub(super) fn emit(&mut self, token: Token, outcome: Outcome, more: bool, out: &mut Completions) {
        let completion = Completion { token, outcome, more };
        if self.ready.is_empty() && out.len() < out.capacity() {
            out.push(completion);
        } else {
            self.ready.push_back(completion);
        }
    }

    /// Reports on an operation that goes on.
    pub(super) fn report(&mut self, index: u32, outcome: Outcome, out: &mut Completions) {
        let token = self.ops[index].token;
        self.emit(token, outcome, true, out);
    }

    /// Ends an operation.
    pub(super) fn finish(&mut self, index: u32, outcome: Outcome, out: &mut Completions) {
        let token = self.retire(index);
        self.emit(token, outcome, false, out);
        self.finish_cancels(index, out);
    }

    /// Ends an operation outside `reap`: the completion waits for the next.
    pub(super) fn finish_later(&mut self, index: u32, outcome: Outcome) {
        self.finish(index, outcome, &mut Vec::new());
    }

    /// Lets go of what an operation holds. Its entry stays for `finish_cancels`.
    fn retire(&mut self, index: u32) -> Token {
        let op = &self.ops[index];
        debug_assert!(op.in_kernel == 0, "an operation ends when the kernel holds nothing of it");
        let (token, kind, sock, argument) = (op.token, op.kind, op.sock, op.argument);
        if kind.is_of_file() {
            self.files.ended(sock);
        } else if kind != Kind::Cancel {
            self.sockets.ended(sock);
        }
        if kind == Kind::Readable {
            self.sockets.set_readable(sock, None);
        }
        if let OpArgument::List(list) = argument {
            self.lists.give(list);
        }
        token
    }

    fn finish_cancels(&mut self, target: u32, out: &mut Completions) {
        while let Some(cancel) = self.ops.pop_canceller(target) {
            if self.ops[cancel].in_kernel == 0 {
                // One that never got into the submission queue need not any more.
                let token = self.ops[cancel].token;
                self.ops.remove(cancel);
                self.emit(token, Outcome::Done, false, out);
            }
        }
        self.ops.remove(target);
    }

    fn woken(&mut self, out: &mut Completions) {
        self.emit(Token::WAKE, Outcome::Woken, true, out);
    }

    fn event(&mut self, result: i32, flags: u32, out: &mut Completions) {
        if self.closing {
            return;
        }
        if !cqueue::more(flags) {
            drain_event(&self.event);
            self.watch_event();
        }
        if result >= 0 && result.cast_unsigned() & poll_bits(libc::POLLIN) != 0 {
            self.woken(out);
        }
    }

    fn undelivered(&mut self, peer: u32, result: i32) {
        if let Some(peer) = self.peers.get_mut(peer as usize)
            && result < 0
        {
            // A full completion queue of the peer is no reason to give up on messages, anything else is.
            peer.reachable = result == -libc::EOVERFLOW || result == -libc::EAGAIN;
            write_event(&peer.event);
        }
    }

    fn accepted(&mut self, index: u32, result: i32, more: bool, out: &mut Completions) {
        let last = !more && self.ops[index].cancelling;
        if result >= 0 {
            // SAFETY: the kernel has just made this descriptor for this completion, and nobody else has it.
            let fd = unsafe { OwnedFd::from_raw_fd(result) };
            let outcome = match self.sockets.attach(&self.ring, fd) {
                Ok(sock) => Outcome::Accepted { sock, peer: self.sockets.peer(sock) },
                // The connection is closed: the table has room for every connection the shard may hold.
                Err((error, fd)) => {
                    drop(fd);
                    Outcome::Failed(error)
                }
            };
            if last {
                return self.finish(index, outcome, out);
            }
            self.report(index, outcome, out);
            if !more {
                self.arm(index);
            }
            return;
        }
        if more {
            return;
        }
        let error = accept_error_of(-result);
        if accepting_goes_on(error) && !last {
            self.arm(index);
        } else {
            self.finish(index, Outcome::Failed(error), out);
        }
    }

    fn received(&mut self, index: u32, result: i32, flags: u32, out: &mut Completions) {
        let more = cqueue::more(flags);
        let bytes = u32::try_from(result).unwrap_or(0);
        let mut got = None;
        if let (Some(buffer), Shared::Kernel(buffers)) = (cqueue::buffer_select(flags), &mut self.shared) {
            let buffer = BufId(buffer);
            let Some(filled) = buffers.fill(buffer, bytes, cqueue::buffer_more(flags)) else {
                return self.broken("the kernel filled a buffer it did not have");
            };
            // A buffer that comes back unused (at the end of a stream, or with an error) is reported too, with
            // no bytes: the shard recycles buffers in the ring's order, and none may be lost.
            if bytes > 0 || filled.buffer_done {
                let buffer_done = filled.buffer_done;
                got = Some(Outcome::Received { buffer, at: filled.at, bytes, buffer_done });
            }
        } else if bytes > 0 {
            return self.broken("the kernel received without a buffer");
        }
        let end = match result {
            0 => Outcome::EndOfStream,
            errno if errno < 0 => Outcome::Failed(error_of(-errno)),
            _ => {
                match got {
                    Some(outcome) if more => self.report(index, outcome, out),
                    Some(outcome) => self.finish(index, outcome, out),
                    None => {}
                }
                return;
            }
        };
        if let Some(outcome) = got {
            self.report(index, outcome, out);
        }
        if !more {
            self.finish(index, end, out);
        }
    }

    /// The next `reap` fails.
    fn broken(&mut self, doing: &'static str) {
        let source = std::io::Error::from_raw_os_error(libc::EPROTO);
        self.fatal = Some(crate::io::IoFatal { doing, source });
    }

    fn read(&mut self, index: u32, result: i32, out: &mut Completions) {
        let (sock, argument) = (self.ops[index].sock, self.ops[index].argument);
        let asked = if let OpArgument::Into(span) = argument { span.bytes } else { 0 };
        let outcome = match result {
            0 => Outcome::EndOfStream,
            errno if errno < 0 => Outcome::Failed(error_of(-errno)),
            bytes => Outcome::Read { bytes: bytes.cast_unsigned() },
        };
        let drained = match outcome {
            Outcome::Read { bytes } => bytes < asked,
            Outcome::Failed(IoError::WouldBlock) => true,
            _ => false,
        };
        let poll = self.sockets.readable(sock);
        self.finish(index, outcome, out);
        let Some(poll) = poll else { return };
        if !drained {
            return;
        }
        if self.sockets.hung_up(sock) && matches!(outcome, Outcome::Read { .. }) {
            // The last bytes were read after the poll had told of the end, which it will not do again.
            self.report(poll, Outcome::Ready, out);
        } else if !self.features.multishot_poll && self.ops[poll].in_kernel == 0 && !self.ops[poll].unarmed {
            self.arm(poll);
        }
    }

    fn readable(&mut self, index: u32, result: i32, more: bool, out: &mut Completions) {
        if result < 0 {
            return self.finish(index, Outcome::Failed(error_of(-result)), out);
        }
        if result.cast_unsigned() & HUNG_UP != 0 {
            let sock = self.ops[index].sock;
            self.sockets.set_hung_up(sock);
        }
        if more {
            return self.report(index, Outcome::Ready, out);
        }
        if self.ops[index].cancelling {
            return self.finish(index, Outcome::Ready, out);
        }
        self.report(index, Outcome::Ready, out);
        // A single-shot poll is armed again when a read has found the socket empty: at once, it would report
        // the same bytes over and over.
        if self.features.multishot_poll {
            self.arm(index);
        }
    }

    fn sent(&mut self, index: u32, result: i32, out: &mut Completions) {
        let outcome = match result {
            errno if errno < 0 => Outcome::Failed(error_of(-errno)),
            bytes => Outcome::Sent { bytes: bytes.cast_unsigned() },
        };
        self.finish(index, outcome, out);
    }
}
