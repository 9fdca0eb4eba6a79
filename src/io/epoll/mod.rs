//! The epoll backend: completions built on readiness, for hosts where io_uring is absent or forbidden, and as the
//! measure io_uring is compared with.
//!
//! A socket is put into the poll set once, edge-triggered, for everything it can report; after that there is one call
//! to wait for many sockets and one for each transfer, no more:
//! - `Send` and `Read` never wait, so they are carried out when they are submitted (`transfer`);
//! - what waits (`ReceiveShared`, `Accept`, polls) is armed in the socket table, and sockets worth a visit stand in a
//!   queue: each in its turn gets one receive of at most `VISIT_BYTES_MAX`, or one batch of accepts (`visit`);
//! - received bytes go straight into the shared ring, over the ends of its buffers and of the ring (`ring`);
//! - operations on files, which may wait for a disk, are carried out by threads (`files`).
//!
//! State and owner: this module owns the poll set, the sockets, the shared ring's ends, the span lists, and the
//! completions that wait for the next `reap`.
//!
//! Invariants besides those of `io`:
//! - but for operations on files no memory is the kernel's between two calls; dropping an `EpollIo` waits for those, and
//!   leaves their memory mapped if they do not end;
//! - completions are handed out in the order they came about; a span list is free again when the completion of its
//!   send is handed out, not before;
//! - a receive ends for want of buffers only if there were none when `reap` began: buffers filled since are the
//!   shard's to recycle first.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use crate::buf::{Mapping, Span};
use crate::ids::{BufId, FileId, RegionId, SockId};
use crate::limits::COMPLETIONS_PER_TICK;

use super::errors::error_of;
use super::socket::{self, Listeners, clock_ns, write_event};
use super::spans::{Regions, SpanLists};
use super::{
    Capabilities, Clock, Completion, Completions, FileHandle, Io, IoError, IoFatal, Op, Outcome, Refused,
    SocketHandle, SpanListId, Token, Wait, WakeHandle,
};

mod files;
mod poller;
mod ring;
mod setup;
mod sockets;
mod transfer;
mod visit;

pub use super::errors::SetupError;
pub use setup::EpollSpec;

use files::{FileThreads, Work};
use poller::{HUNG_UP, Patience, Poller, READABLE, SOCKET, URGENT, WRITABLE, Waited};
use ring::ReceiveRing;
use sockets::{Interest, Sockets};

/// What the backend holds now, and what may never have happened: for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpollStats {
    /// Reports of sockets that had been given up. Never, but for a bug.
    pub late: u64,
    /// Operations outstanding now.
    pub outstanding: u32,
    /// Sockets attached now.
    pub sockets: u32,
    /// Files attached now.
    pub files: u32,
}

/// What the event descriptor's reports carry.
const WAKE: u64 = u64::MAX;
/// What the reports of the files' event descriptor carry.
const FILES: u64 = u64::MAX - 1;
/// No span list.
const NO_LIST: u32 = u32::MAX;

/// Completions of a `reap` that those of operations carried out before leave free.
const ROOM_FOR_NEWS: usize = COMPLETIONS_PER_TICK / 4;
/// A report makes a socket readable and writable, at most.
const COMPLETIONS_PER_EVENT: usize = 2;
const _: () = assert!(ROOM_FOR_NEWS > COMPLETIONS_PER_EVENT && ROOM_FOR_NEWS > visit::COMPLETIONS_PER_VISIT);

/// Completions that still fit.
fn room(out: &Completions) -> usize {
    out.capacity() - out.len()
}

/// A completion for the next `reap`, and the list that is free when it has been handed out.
struct Waiting {
    completion: Completion,
    list: u32,
}

/// See the module.
pub struct EpollIo {
    poller: Poller,
    sockets: Sockets,
    files: FileThreads,
    ring: ReceiveRing,
    regions: Regions<()>,
    lists: SpanLists,
    waiting: VecDeque<Waiting>,
    /// Completions that may wait before operations are refused.
    waiting_max: usize,
    event: Arc<OwnedFd>,
    /// The monotonic clock as the shard has read it since the last `reap`.
    read_ns: Option<u64>,
    capabilities: Capabilities,
    /// See [`EpollStats`].
    late: u64,
    degradations: Vec<String>,
}

impl EpollIo {
    /// Makes a poll set.
    ///
    /// # Errors
    /// What the kernel said to which step, and what would help.
    pub fn new(spec: EpollSpec) -> Result<EpollIo, SetupError> {
        setup::build(spec)
    }

    /// What this backend holds now.
    #[must_use]
    pub fn stats(&self) -> EpollStats {
        let outstanding = self.sockets.armed() + self.files.outstanding();
        let (sockets, files) = (self.sockets.open(), self.files.open());
        EpollStats { late: self.late, outstanding, sockets, files }
    }

    /// Span lists not in flight; all of them when nothing is being sent.
    #[must_use]
    pub fn free_span_lists(&self) -> usize {
        self.lists.free()
    }

    /// Keeps the last completion of an operation for the next `reap`.
    fn finish_later(&mut self, token: Token, outcome: Outcome, list: u32) {
        let completion = Completion { token, outcome, more: false };
        self.waiting.push_back(Waiting { completion, list });
    }

    /// Hands out what is waiting, and leaves room for what is new: sends must not keep receives from their turn.
    fn hand_out(&mut self, out: &mut Completions) {
        if self.waiting.is_empty() {
            return;
        }
        while room(out) > ROOM_FOR_NEWS {
            let Some(Waiting { completion, list }) = self.waiting.pop_front() else {
                // Begin at the memory used last.
                return self.waiting.clear();
            };
            if list != NO_LIST {
                self.lists.give(list);
            }
            out.push(completion);
        }
    }

    /// Arms what waits; what need not wait is reported, or stands in the queue, at once.
    fn arm(&mut self, sock: u32, interest: Interest, token: Token) {
        let state = *self.sockets.state(sock);
        if interest == Interest::Writable && state.writable {
            return self.finish_later(token, Outcome::Ready, NO_LIST);
        }
        self.sockets.arm(sock, interest, token);
        match interest {
            Interest::Take if state.readable => self.sockets.queue(sock),
            Interest::Readable if state.readable => {
                let completion = Completion { token, outcome: Outcome::Ready, more: true };
                self.waiting.push_back(Waiting { completion, list: NO_LIST });
            }
            _ => {}
        }
    }

    /// Takes what the threads of the files have done.
    fn file_operations_done(&mut self) {
        self.files.take();
        while let Some((token, outcome)) = self.files.next() {
            self.finish_later(token, outcome, NO_LIST);
            while let Some(cancel) = self.files.canceller(token) {
                self.finish_later(cancel, Outcome::Done, NO_LIST);
            }
        }
    }

    /// Takes an operation on a file in; false when too many are in flight.
    fn start_file(&mut self, work: Work, file: FileId, at: u64, span: Option<Span>, token: Token) -> bool {
        let memory = span.map(|span| (self.regions.address(span).0, span.bytes));
        self.files.submit(work, file, at, memory, token)
    }

    fn cancel(&mut self, target: Token, token: Token) {
        if self.files.cancel(target, token) {
            return;
        }
        if let Some((sock, interest)) = self.sockets.find(target) {
            self.sockets.disarm(sock, interest);
            self.finish_later(target, Outcome::Failed(IoError::Cancelled), NO_LIST);
        }
        self.finish_later(token, Outcome::Done, NO_LIST);
    }

    /// Ends an armed operation.
    fn finish(&mut self, sock: u32, interest: Interest, outcome: Outcome, out: &mut Completions) {
        let token = self.sockets.disarm(sock, interest);
        out.push(Completion { token, outcome, more: false });
    }

    /// Reports on an armed operation, which goes on.
    fn report(&self, sock: u32, interest: Interest, outcome: Outcome, out: &mut Completions) {
        if let Some(token) = self.sockets.token(sock, interest) {
            out.push(Completion { token, outcome, more: true });
        }
    }

    /// Asks the poll set, and notes what it says. `true`: the wait is over, also without a report.
    fn poll(&mut self, wait: Wait, out: &mut Completions) -> Result<bool, IoFatal> {
        let patience = match wait {
            Wait::No => Patience::None,
            Wait::Forever => Patience::Forever,
            Wait::Until(deadline) => {
                let now = self.read_ns.take().unwrap_or_else(|| clock_ns(libc::CLOCK_MONOTONIC));
                match deadline.saturating_sub(now) {
                    0 => Patience::None,
                    ns => Patience::Ns(ns),
                }
            }
        };
        let waited = self.poller.wait(patience, room(out) / COMPLETIONS_PER_EVENT);
        let waited = waited.map_err(|source| IoFatal { doing: "waiting for sockets", source })?;
        let Waited::Events(count) = waited else { return Ok(true) };
        for index in 0..count {
            let (data, bits) = self.poller.event(index);
            self.reported(data, bits, out);
        }
        Ok(patience == Patience::None)
    }

    /// Takes one report in.
    fn reported(&mut self, data: u64, bits: u32, out: &mut Completions) {
        if data == WAKE {
            return out.push(Completion { token: Token::WAKE, outcome: Outcome::Woken, more: true });
        }
        if data == FILES {
            return self.file_operations_done();
        }
        let Some(sock) = self.sockets.reported(data) else {
            self.late += 1;
            return;
        };
        let state = self.sockets.state(sock);
        let before = *state;
        state.readable |= bits & READABLE != 0;
        state.writable |= bits & WRITABLE != 0;
        state.read_on |= bits & (HUNG_UP | URGENT) != 0;
        let now = *state;
        if now.readable && self.sockets.token(sock, Interest::Take).is_some() {
            self.sockets.queue(sock);
        }
        if now.readable && !before.readable {
            self.report(sock, Interest::Readable, Outcome::Ready, out);
        }
        if now.writable && self.sockets.token(sock, Interest::Writable).is_some() {
            self.finish(sock, Interest::Writable, Outcome::Ready, out);
        }
    }

    /// Puts a socket into the table and the poll set.
    fn adopt(&mut self, fd: OwnedFd) -> Result<SockId, (IoError, OwnedFd)> {
        let Some((sock, data)) = self.sockets.next() else { return Err((IoError::NoDescriptors, fd)) };
        if let Err(error) = self.poller.add(fd.as_raw_fd(), SOCKET, data) {
            let error = match error.raw_os_error().unwrap_or(libc::EIO) {
                // The limit of descriptors in poll sets (/proc/sys/fs/epoll/max_user_watches).
                libc::ENOSPC => IoError::NoDescriptors,
                errno => error_of(errno),
            };
            return Err((error, fd));
        }
        self.sockets.attach(sock, fd);
        Ok(sock)
    }
}

impl Io for EpollIo {
    fn submit(&mut self, op: Op, token: Token) -> Result<(), Refused> {
        if self.waiting.len() >= self.waiting_max {
            return Err(Refused(op));
        }
        let taken = match op {
            Op::WriteFile { file, at, from } => self.start_file(Work::Write, file, at, Some(from), token),
            Op::WriteFileDurably { file, at, from } => {
                self.start_file(Work::WriteDurably, file, at, Some(from), token)
            }
            Op::ReadFile { file, at, into } => self.start_file(Work::Read, file, at, Some(into), token),
            Op::SyncFile { file } => self.start_file(Work::Sync, file, 0, None, token),
            Op::Cancel { .. } if self.files.cancels_are_many() => false,
            _ => true,
        };
        if !taken {
            return Err(Refused(op));
        }
        match op {
            Op::Accept { listener } => {
                self.sockets.state(listener.0).listener = true;
                self.arm(listener.0, Interest::Take, token);
            }
            Op::ReceiveShared { sock } => self.arm(sock.0, Interest::Take, token),
            Op::PollReadable { sock } => self.arm(sock.0, Interest::Readable, token),
            Op::PollWritable { sock } => self.arm(sock.0, Interest::Writable, token),
            Op::Read { sock, into } => self.read(sock.0, into, token),
            Op::Send { sock, spans } => self.send(sock.0, spans.0, token),
            Op::Cancel { target } => self.cancel(target, token),
            Op::WriteFile { .. }
            | Op::WriteFileDurably { .. }
            | Op::ReadFile { .. }
            | Op::SyncFile { .. } => {}
            Op::ShutdownWrite { sock } => {
                let ended = socket::shut_down_write(self.sockets.borrowed(sock.0));
                let outcome = ended.map_or_else(|errno| Outcome::Failed(error_of(errno)), |()| Outcome::Done);
                self.finish_later(token, outcome, NO_LIST);
            }
            Op::Close { sock } => {
                // With its last descriptor a socket leaves the poll set.
                drop(self.sockets.detach(sock));
                self.finish_later(token, Outcome::Done, NO_LIST);
            }
        }
        Ok(())
    }

    fn reap(&mut self, wait: Wait, out: &mut Completions) -> Result<(), IoFatal> {
        assert!(room(out) > ROOM_FOR_NEWS, "completions are taken before there are more");
        let before = out.len();
        self.hand_out(out);
        loop {
            let idle = out.len() == before && self.sockets.queued() == 0;
            let over = self.poll(if idle { wait } else { Wait::No }, out)?;
            self.visit_queue(out);
            // What came of files; room is left for it as for sends.
            self.hand_out(out);
            if out.len() > before || over {
                break;
            }
        }
        self.read_ns = None;
        Ok(())
    }

    fn recycle(&mut self, buffer: BufId) {
        self.ring.give(buffer);
    }

    fn span_list(&mut self) -> Option<SpanListId> {
        self.lists.take().map(SpanListId)
    }

    fn push_span(&mut self, list: SpanListId, span: Span) {
        let (address, ()) = self.regions.address(span);
        self.lists.push(list.0, address, span.bytes);
    }

    fn drop_span_list(&mut self, list: SpanListId) {
        self.lists.give(list.0);
    }

    fn attach(&mut self, socket: SocketHandle) -> Result<SockId, (IoError, SocketHandle)> {
        let SocketHandle::Fd(fd) = socket else { return Err((IoError::Os(libc::ENOTSOCK), socket)) };
        if let Err(error) = socket::set_mode(&fd, Listeners::NonBlocking) {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            return Err((IoError::Os(errno), SocketHandle::Fd(fd)));
        }
        self.adopt(fd).map_err(|(error, fd)| (error, SocketHandle::Fd(fd)))
    }

    fn detach(&mut self, sock: SockId) -> SocketHandle {
        let fd = self.sockets.detach(sock);
        // It lives on in other hands and would go on reporting here.
        let removed = self.poller.remove(fd.as_raw_fd());
        assert!(removed.is_ok(), "an attached socket is in the poll set: {removed:?}");
        SocketHandle::Fd(fd)
    }

    fn attach_file(&mut self, file: FileHandle) -> Result<FileId, (IoError, FileHandle)> {
        self.files.attach(file)
    }

    fn detach_file(&mut self, file: FileId) -> FileHandle {
        self.files.detach(file)
    }

    fn attach_region(&mut self, id: RegionId, mapping: &Arc<Mapping>, _receive: bool) {
        self.regions.attach(id, Arc::clone(mapping), ());
    }

    fn detach_region(&mut self, id: RegionId) {
        self.regions.detach(id);
    }

    fn clock(&mut self) -> Clock {
        let mono_ns = clock_ns(libc::CLOCK_MONOTONIC);
        self.read_ns = Some(mono_ns);
        Clock { mono_ns, wall_ns: clock_ns(libc::CLOCK_REALTIME) }
    }

    fn wake_handle(&self) -> WakeHandle {
        WakeHandle { event: Some(Arc::clone(&self.event)), ring_fd: -1 }
    }

    fn wake(&mut self, peer: &WakeHandle) {
        if let Some(event) = &peer.event {
            write_event(event);
        }
    }

    fn overflows(&self) -> u64 {
        0
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn degradations(&self) -> &[String] {
        &self.degradations
    }
}

impl Drop for EpollIo {
    fn drop(&mut self) {
        if !self.files.end() {
            // Somebody still reads or writes this memory: it is left mapped for the rest of the process.
            std::mem::forget(std::mem::take(&mut self.regions));
        }
    }
}
