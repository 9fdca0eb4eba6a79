//! The io_uring backend.
//!
//! Two tiers, chosen by what the kernel does when tried (`features`), never by its version:
//! - tier 2 (6.0 and newer): multishot receive over a provided-buffer ring laid on the shared mapping,
//!   multishot accept and poll, `SINGLE_ISSUER | DEFER_TASKRUN`, descriptors by index, wake-up by message;
//! - tier 1 (5.6 and newer): single-shot operations; the same receive and accept semantics are built on
//!   them (`emulate`), so that the shard never knows.
//!
//! State and owner: this module owns the ring, the sockets, the span lists, the buffer ring's bookkeeping and
//! every operation until its last completion has been handed out (`ops`).
//!
//! Invariants besides those of `io`:
//! - memory the kernel may touch (regions, lists, headers, buffer ring) outlives the ring: dropping a
//!   `UringIo` cancels and awaits what is in flight first, and leaks the memory if the kernel does not let go;
//! - every completion is matched by index and generation; one that does not match is counted and dropped.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{opcode, squeue, types};

use crate::buf::{Mapping, Span};
use crate::ids::{BufId, FileId, RegionId, SockId};
use crate::limits::{COMPLETIONS_PER_TICK, SENDS_IN_FLIGHT, SHARDS_MAX};

use super::errors::error_of;
use super::files::Files;
use super::socket::{self, Listeners, clock_ns, write_event};
use super::spans::{Regions, SpanLists};
use super::{
    Capabilities, Clock, Completion, Completions, FileHandle, Io, IoError, IoFatal, Op, Outcome, Refused,
    SocketHandle, SpanListId, Token, Wait, WakeHandle,
};

mod buffer_ring;
mod complete;
mod emulate;
mod features;
mod file_memory;
mod files;
mod ops;
pub mod probe;
mod ring;
mod setup;
mod sockets;

pub use super::errors::SetupError;
pub use features::Features;
pub use setup::UringSpec;

use buffer_ring::BufferRing;
use emulate::Emulated;
use file_memory::FileMemory;
use ops::{Kind, NONE, OpArgument, Ops, Part, Tag};
use ring::{Entered, Ring};
use sockets::Sockets;

/// What the backend holds now, and what may never have happened: for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UringStats {
    /// Completions that belonged to no operation. Never, but for a bug.
    pub unknown: u64,
    /// Operations outstanding now.
    pub outstanding: u32,
    /// Sockets attached now.
    pub sockets: u32,
    /// Files attached now.
    pub files: u32,
    /// Pieces of memory registered for files now.
    pub file_pieces: u32,
}

/// How received bytes reach the shared ring's mapping.
enum Shared {
    /// The kernel picks the buffers.
    Kernel(BufferRing),
    /// Polls and reads, one read at a time.
    Emulated(Emulated),
}

/// See the module.
pub struct UringIo {
    // Dropped first: what the kernel may touch comes after it.
    ring: Ring,
    shared: Shared,
    regions: Regions<Option<u16>>,
    lists: SpanLists,
    ops: Ops,
    sockets: Sockets,
    files: Files,
    features: Features,
    tier: u8,
    /// Completions that came of something else than the kernel's, or did not fit.
    ready: VecDeque<Completion>,
    /// So many, and no more operations are taken that complete at once.
    ready_max: usize,
    /// Operations whose next request found the submission queue full, by tag.
    unarmed: VecDeque<u64>,
    /// Registered-buffer indices not in use; `None` when no memory is registered.
    region_slots: Option<Vec<u16>>,
    file_memory: FileMemory,
    event: Arc<OwnedFd>,
    /// Rings messages were sent to: their event descriptor, and whether messages still arrive.
    peers: Vec<Peer>,
    timeout: types::Timespec,
    /// Requests to be cancelled that found no room in the submission queue.
    uncancelled: VecDeque<u64>,
    /// Nothing is armed again.
    closing: bool,
    /// What the kernel refused inside `submit`, where there is no way to say so.
    fatal: Option<IoFatal>,
    capabilities: Capabilities,
    /// Times the completion queue was found to have overflowed.
    overflows: u64,
    /// See [`UringStats`].
    unknown: u64,
    degradations: Vec<String>,
}

struct Peer {
    ring_fd: i32,
    event: Arc<OwnedFd>,
    reachable: bool,
}

/// A socket read or the event descriptor is looked at most this often in one `reap`: on tier 1 each costs an
/// entry into the kernel, and what has come must be worked on too.
const ROUNDS_PER_REAP: u32 = 64;

impl UringIo {
    /// Makes a ring on the calling thread, which is the only one that may use it.
    ///
    /// # Errors
    /// What the kernel said to which step, and what would help.
    pub fn new(spec: UringSpec) -> Result<UringIo, SetupError> {
        setup::build(spec)
    }

    /// What this kernel does; tried once in a process.
    ///
    /// # Errors
    /// As [`UringIo::new`].
    pub fn detect() -> Result<Features, SetupError> {
        features::detect().map_err(|error| setup::failed("probing io_uring", error))
    }

    /// What is used of what the kernel does.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// What this backend holds now.
    #[must_use]
    pub fn stats(&self) -> UringStats {
        let (sockets, files) = (self.sockets.open(), self.files.open());
        let file_pieces = self.file_memory.registered();
        UringStats { unknown: self.unknown, outstanding: self.ops.live(), sockets, files, file_pieces }
    }

    /// Span lists not in flight; all of them when nothing is being sent.
    #[must_use]
    pub fn free_span_lists(&self) -> usize {
        self.lists.free()
    }

    /// Queues a request, entering the kernel once when the queue is full.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        self.room_for(1) && self.ring.push(entry)
    }

    /// Makes room in the submission queue, entering the kernel if it must.
    fn room_for(&mut self, requests: usize) -> bool {
        let free = |ring: &mut Ring| {
            let queue = ring.submission();
            queue.capacity() - queue.len()
        };
        if free(&mut self.ring) >= requests {
            return true;
        }
        self.publish_buffers();
        match self.ring.enter(None) {
            Ok(_) => free(&mut self.ring) >= requests,
            Err(source) => {
                self.fatal = Some(IoFatal { doing: "submitting to the ring", source });
                false
            }
        }
    }

    fn publish_buffers(&mut self) {
        if let Shared::Kernel(buffers) = &mut self.shared {
            buffers.publish();
        }
    }

    /// Hands an operation's main request to the kernel, now or as soon as there is room.
    fn arm(&mut self, index: u32) {
        let Some(entry) = self.request(index) else { return };
        let tag = self.ops.tag(index, Part::Main);
        if self.push(&entry.user_data(tag.raw())) {
            self.ops[index].started(Part::Main);
        } else if !self.ops[index].unarmed {
            self.ops[index].unarmed = true;
            self.unarmed.push_back(tag.raw());
        }
    }

    /// The request an operation's main part is. `None`: it has none.
    fn request(&mut self, index: u32) -> Option<squeue::Entry> {
        let op = &self.ops[index];
        let (kind, argument) = (op.kind, op.argument);
        if kind == Kind::Cancel {
            let OpArgument::Target(target) = argument else { return None };
            return Some(opcode::AsyncCancel::new(target).build());
        }
        if kind.is_of_file() {
            return self.file_request(index);
        }
        let (raw, flags) = self.sockets.target(op.sock);
        let fd = types::Fd(raw);
        let entry = match (kind, argument) {
            (Kind::Accept, _) if self.features.multishot_accept && self.tier >= 2 => {
                opcode::AcceptMulti::new(fd).flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).build()
            }
            (Kind::Accept, _) => opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
                .build(),
            (Kind::Receive, _) => opcode::RecvMulti::new(fd, buffer_ring::BUFFER_GROUP).build(),
            (Kind::Read, OpArgument::Into(span)) => {
                let (address, registered) = self.regions.address(span);
                match registered {
                    Some(slot) => {
                        let nowait = if self.features.nowait_flag { libc::RWF_NOWAIT } else { 0 };
                        opcode::ReadFixed::new(fd, address, span.bytes, slot).rw_flags(nowait).build()
                    }
                    None => opcode::Recv::new(fd, address, span.bytes).flags(libc::MSG_DONTWAIT).build(),
                }
            }
            (Kind::Readable, _) => {
                opcode::PollAdd::new(fd, READABLE).multi(self.features.multishot_poll).build()
            }
            (Kind::Writable, _) => opcode::PollAdd::new(fd, poll_bits(libc::POLLOUT)).build(),
            (Kind::Send, OpArgument::List(list)) => opcode::SendMsg::new(fd, self.lists.message(list))
                .flags((libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).cast_unsigned())
                .build(),
            _ => return None,
        };
        Some(entry.flags(flags))
    }

    /// Takes an operation on a socket in; false when a table or queue is full.
    fn start(&mut self, kind: Kind, sock: SockId, argument: OpArgument, token: Token) -> bool {
        if !self.room_for(1) {
            return false;
        }
        debug_assert!(self.ops.find(token).is_none(), "a token is in flight once: {token:?}");
        let Some(index) = self.ops.insert(token, kind, sock.0, argument) else { return false };
        self.sockets.began(sock.0);
        if kind == Kind::Readable {
            self.sockets.set_readable(sock.0, Some(index));
        }
        if kind == Kind::Receive && matches!(self.shared, Shared::Emulated(_)) {
            self.arm_emulated_poll(index);
        } else {
            self.arm(index);
        }
        true
    }

    fn close(&mut self, sock: SockId, token: Token) -> bool {
        if self.ready.len() >= self.ready_max {
            return false;
        }
        drop(self.sockets.detach(&self.ring, sock));
        self.ready.push_back(Completion { token, outcome: Outcome::Done, more: false });
        true
    }

    /// A system call: as a request it would go to a worker thread.
    fn shut_down(&mut self, sock: SockId, token: Token) -> bool {
        if self.ready.len() >= self.ready_max {
            return false;
        }
        // Sends that were submitted before it go out before it.
        if !self.ring.submission().is_empty() {
            let queued = self.ring.submission().capacity();
            if !self.room_for(queued) {
                return false;
            }
        }
        let outcome = match self.sockets.shut_down_write(sock) {
            Ok(()) => Outcome::Done,
            Err(errno) => Outcome::Failed(error_of(errno)),
        };
        self.ready.push_back(Completion { token, outcome, more: false });
        true
    }

    fn cancel(&mut self, target: Token, token: Token) -> bool {
        if self.ready.len() >= self.ready_max || !self.room_for(2) {
            return false;
        }
        let Some(target) = self.ops.find(target) else {
            self.ready.push_back(Completion { token, outcome: Outcome::Done, more: false });
            return true;
        };
        let argument = OpArgument::Target(self.ops.tag(target, Part::Main).raw());
        let Some(index) = self.ops.insert(token, Kind::Cancel, NONE, argument) else { return false };
        self.ops.await_target(index, target);
        if self.ops[target].kind.is_of_file() {
            // It ends by itself.
        } else if self.ops[target].holds(Part::Main) {
            self.arm(index);
        } else if self.ops[target].kind == Kind::Receive && self.ops[target].in_kernel != 0 {
            self.cancel_emulated(target);
        } else {
            // Nothing of it is in the kernel: a poll between two rounds, or a request not yet queued.
            self.finish_later(target, Outcome::Failed(IoError::Cancelled));
        }
        true
    }

    /// Enters the kernel if there is anything to be had from it.
    fn enter_for(&mut self, wait: Wait) -> Result<Entered, IoFatal> {
        self.publish_buffers();
        let queue = self.ring.submission();
        let (queued, overflow, pending) = (!queue.is_empty(), queue.cq_overflow(), queue.taskrun());
        drop(queue);
        if overflow {
            self.overflows += 1;
        }
        let wait_ns = match wait {
            Wait::No => None,
            Wait::Forever => Some(u64::MAX),
            Wait::Until(deadline) => match deadline.saturating_sub(clock_ns(libc::CLOCK_MONOTONIC)) {
                0 => None,
                ns => Some(ns.min(u64::MAX - 1)),
            },
        };
        if !queued && !overflow && !pending && wait_ns.is_none() {
            return Ok(if wait == Wait::No { Entered::Done } else { Entered::TimedOut });
        }
        let wait_ns = match wait_ns {
            Some(ns) if ns != u64::MAX && !self.features.ext_arg => {
                // One completion of any kind ends the wait: this time-out's is as good as another's.
                self.timeout = types::Timespec::from(std::time::Duration::from_nanos(ns));
                let entry = opcode::Timeout::new(&raw const self.timeout).count(1).build();
                self.push(&entry.user_data(Tag::Ignored.raw()));
                Some(u64::MAX)
            }
            other => other,
        };
        let entered =
            self.ring.enter(wait_ns).map_err(|source| IoFatal { doing: "entering the ring", source })?;
        match wait {
            Wait::Until(deadline)
                if !self.features.ext_arg && clock_ns(libc::CLOCK_MONOTONIC) >= deadline =>
            {
                Ok(Entered::TimedOut)
            }
            _ => Ok(entered),
        }
    }

    /// Queues again what found no room.
    fn arm_waiting(&mut self) {
        for _ in 0..self.unarmed.len() {
            let Some(raw) = self.unarmed.pop_front() else { return };
            let Tag::Op { part, generation, index } = Tag::from_raw(raw) else { continue };
            if !self.ops.current(index, generation) {
                continue;
            }
            self.ops[index].unarmed = false;
            match part {
                Part::Poll => self.arm_emulated_poll(index),
                Part::Main | Part::Read => self.arm(index),
            }
        }
    }

    /// Appends what is ready and what the kernel has completed.
    fn collect(&mut self, out: &mut Completions) {
        while out.len() < out.capacity() {
            if let Some(completion) = self.ready.pop_front() {
                out.push(completion);
                continue;
            }
            let Some(entry) = self.ring.completion().next() else { return };
            self.completed(&entry, out);
        }
    }

    fn register_region(&mut self, mapping: &Mapping) -> Option<u16> {
        if !self.features.registered_buffers {
            return None;
        }
        let slot = self.region_slots.as_mut()?.pop()?;
        let iovec = libc::iovec { iov_base: mapping.base().cast(), iov_len: mapping.address_bytes() };
        // SAFETY: the mapping is kept alive by the region table until `detach_region` has taken the buffer out
        // of the ring's table, or until the ring is closed.
        let registered =
            unsafe { self.ring.submitter().register_buffers_update(u32::from(slot), &[iovec], None) };
        let Err(error) = registered else { return Some(slot) };
        self.region_slots = None;
        self.capabilities.registered_regions = false;
        let mib = mapping.address_bytes().div_ceil(1 << 20);
        self.degradations.push(format!(
            "a receive region of {mib} MiB could not be registered ({error}): regions are read with RECV, about \
             10 % dearer; raise the locked-memory limit (ulimit -l, or LimitMEMLOCK= in the unit; memory that \
             is mapped twice counts twice)"
        ));
        None
    }

    /// Cancels all that the kernel holds, but for operations on files, and waits for it to let go; false when it does
    /// not in time.
    fn quiesce(&mut self) -> bool {
        self.closing = true;
        for index in self.ops.iter_live().map(|(index, _)| index).collect::<Vec<_>>() {
            self.ops[index].cancelling = true;
        }
        let held: Vec<u64> = self
            .ops
            .iter_live()
            .filter(|(_, op)| !op.kind.is_of_file())
            .flat_map(|(index, op)| {
                [Part::Main, Part::Poll, Part::Read]
                    .into_iter()
                    .filter(|part| op.holds(*part))
                    .map(move |part| (index, part))
            })
            .map(|(index, part)| self.ops.tag(index, part).raw())
            .collect();
        let mut out = Vec::with_capacity(COMPLETIONS_PER_TICK);
        let awaits_disk = self.ops.iter_live().any(|(_, op)| op.kind.is_of_file() && op.in_kernel != 0);
        let patience = if awaits_disk { LET_GO_DISK_NS } else { LET_GO_NS };
        let deadline = clock_ns(libc::CLOCK_MONOTONIC) + patience;
        for tag in held {
            let entry = opcode::AsyncCancel::new(tag).build().user_data(Tag::Ignored.raw());
            while !self.push(&entry) {
                self.collect(&mut out);
                out.clear();
                if self.fatal.is_some() || clock_ns(libc::CLOCK_MONOTONIC) > deadline {
                    return false;
                }
            }
        }
        loop {
            self.ready.clear();
            self.collect(&mut out);
            out.clear();
            if self.ops.iter_live().all(|(_, op)| op.in_kernel == 0) {
                return true;
            }
            if clock_ns(libc::CLOCK_MONOTONIC) > deadline {
                return false;
            }
            let until = Wait::Until(clock_ns(libc::CLOCK_MONOTONIC) + 10_000_000);
            if self.enter_for(until).is_err() {
                return false;
            }
        }
    }
}

/// The kernel lets go of what it holds of sockets within this time, once it is told to.
const LET_GO_NS: u64 = 1_000_000_000;
/// Of what a disk is at work on nobody can say; after this time the memory is left to it.
const LET_GO_DISK_NS: u64 = 10_000_000_000;

const _: () = assert!(SENDS_IN_FLIGHT <= u16::MAX as usize && SHARDS_MAX <= 1024);

const fn poll_bits(bits: libc::c_short) -> u32 {
    bits.cast_unsigned() as u32
}

/// What makes a socket worth reading.
const READABLE: u32 = poll_bits(libc::POLLIN | libc::POLLRDHUP);
/// The peer's side is closed or broken: reading will find the end.
const HUNG_UP: u32 = poll_bits(libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR);

impl Io for UringIo {
    fn submit(&mut self, op: Op, token: Token) -> Result<(), Refused> {
        let taken = match op {
            Op::Accept { listener } => self.start(Kind::Accept, listener, OpArgument::None, token),
            Op::ReceiveShared { sock } => self.start(Kind::Receive, sock, OpArgument::None, token),
            Op::Read { sock, into } => {
                assert!(into.bytes > 0, "a read has room");
                self.start(Kind::Read, sock, OpArgument::Into(into), token)
            }
            Op::PollReadable { sock } => self.start(Kind::Readable, sock, OpArgument::None, token),
            Op::PollWritable { sock } => self.start(Kind::Writable, sock, OpArgument::None, token),
            Op::Send { sock, spans } => self.start(Kind::Send, sock, OpArgument::List(spans.0), token),
            Op::Cancel { target } => self.cancel(target, token),
            Op::WriteFile { file, at, from } => self.start_file(Kind::WriteFile, file, at, Some(from), token),
            Op::WriteFileDurably { file, at, from } => {
                self.start_file(Kind::WriteFileDurably, file, at, Some(from), token)
            }
            Op::ReadFile { file, at, into } => self.start_file(Kind::ReadFile, file, at, Some(into), token),
            Op::SyncFile { file } => self.start_file(Kind::SyncFile, file, 0, None, token),
            Op::ShutdownWrite { sock } => self.shut_down(sock, token),
            Op::Close { sock } => self.close(sock, token),
        };
        if taken { Ok(()) } else { Err(Refused(op)) }
    }

    fn reap(&mut self, wait: Wait, out: &mut Completions) -> Result<(), IoFatal> {
        let before = out.len();
        let mut rounds = 0;
        loop {
            if let Some(fatal) = self.fatal.take() {
                return Err(fatal);
            }
            self.arm_waiting();
            self.cancel_waiting();
            self.start_emulated_read();
            let idle = out.len() == before && self.ready.is_empty() && self.ring.completion().is_empty();
            let entered = self.enter_for(if idle { wait } else { Wait::No })?;
            self.collect(out);
            if out.len() == out.capacity() {
                return Ok(());
            }
            rounds += 1;
            if self.emulated_read_waits() && rounds < ROUNDS_PER_REAP {
                continue;
            }
            let nothing_yet = out.len() == before;
            let over = wait == Wait::No || entered != Entered::Done;
            if !nothing_yet || over {
                return Ok(());
            }
        }
    }

    fn recycle(&mut self, buffer: BufId) {
        match &mut self.shared {
            Shared::Kernel(buffers) => buffers.give(buffer),
            Shared::Emulated(emulated) => emulated.give(buffer),
        }
    }

    fn span_list(&mut self) -> Option<SpanListId> {
        self.lists.take().map(SpanListId)
    }

    fn push_span(&mut self, list: SpanListId, span: Span) {
        let (address, _) = self.regions.address(span);
        self.lists.push(list.0, address, span.bytes);
    }

    fn drop_span_list(&mut self, list: SpanListId) {
        self.lists.give(list.0);
    }

    fn attach(&mut self, socket: SocketHandle) -> Result<SockId, (IoError, SocketHandle)> {
        let SocketHandle::Fd(fd) = socket else { return Err((IoError::Os(libc::ENOTSOCK), socket)) };
        if let Err(error) = socket::set_mode(&fd, Listeners::Blocking) {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            return Err((IoError::Os(errno), SocketHandle::Fd(fd)));
        }
        self.sockets.attach(&self.ring, fd).map_err(|(error, fd)| (error, SocketHandle::Fd(fd)))
    }

    fn detach(&mut self, sock: SockId) -> SocketHandle {
        SocketHandle::Fd(self.sockets.detach(&self.ring, sock))
    }

    fn attach_file(&mut self, file: FileHandle) -> Result<FileId, (IoError, FileHandle)> {
        self.files.attach(file)
    }

    fn detach_file(&mut self, file: FileId) -> FileHandle {
        self.files.detach(file)
    }

    fn attach_region(&mut self, id: RegionId, mapping: &Arc<Mapping>, receive: bool) {
        let registered = if receive { self.register_region(mapping) } else { None };
        self.regions.attach(id, Arc::clone(mapping), registered);
    }

    fn detach_region(&mut self, id: RegionId) {
        let registered = self.regions.detach(id);
        self.unregister_region(id, registered);
    }

    fn clock(&mut self) -> Clock {
        Clock { mono_ns: clock_ns(libc::CLOCK_MONOTONIC), wall_ns: clock_ns(libc::CLOCK_REALTIME) }
    }

    fn wake_handle(&self) -> WakeHandle {
        let ring_fd = if self.capabilities.ring_messages { self.ring.raw_fd() } else { -1 };
        WakeHandle { event: Some(Arc::clone(&self.event)), ring_fd }
    }

    fn wake(&mut self, peer: &WakeHandle) {
        if peer.ring_fd >= 0 && self.capabilities.ring_messages && self.message(peer) {
            return;
        }
        if let Some(event) = &peer.event {
            write_event(event);
        }
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn degradations(&self) -> &[String] {
        &self.degradations
    }
}

impl UringIo {
    /// Queues a message to another ring; false when it cannot be sent that way.
    fn message(&mut self, peer: &WakeHandle) -> bool {
        let Some(event) = &peer.event else { return false };
        let known = self.peers.iter().position(|known| known.ring_fd == peer.ring_fd);
        let index = match known {
            Some(index) => index,
            None if self.peers.len() == SHARDS_MAX => return false,
            None => {
                self.peers.push(Peer { ring_fd: peer.ring_fd, event: Arc::clone(event), reachable: true });
                self.peers.len() - 1
            }
        };
        let Ok(number) = u32::try_from(index) else { return false };
        if !self.peers[index].reachable {
            return false;
        }
        let mut entry = opcode::MsgRingData::new(types::Fd(peer.ring_fd), 0, Token::WAKE.raw(), None)
            .build()
            .user_data(Tag::Undelivered(number).raw());
        if self.features.skip_success {
            entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        }
        self.push(&entry)
    }

    /// Watches the event descriptor: each write becomes a `Woken`.
    fn watch_event(&mut self) {
        let entry = opcode::PollAdd::new(types::Fd(self.event.as_raw_fd()), poll_bits(libc::POLLIN))
            .multi(self.features.multishot_poll)
            .build()
            .user_data(Tag::Event.raw());
        if !self.push(&entry) {
            self.fatal = self.fatal.take().or(Some(IoFatal {
                doing: "watching the wake-up descriptor",
                source: std::io::Error::from_raw_os_error(libc::EBUSY),
            }));
        }
    }
}

fn drain_event(event: &OwnedFd) {
    let mut count = [0u8; 8];
    // SAFETY: the descriptor is open and non-blocking, and `count` is valid for writes of its length. That
    // there is nothing to read is no fault.
    unsafe { libc::read(event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}

impl Drop for UringIo {
    fn drop(&mut self) {
        if self.quiesce() {
            self.sockets.leave_table(&self.ring);
        } else {
            // The kernel may still write to this memory: it is left mapped for the rest of the process.
            std::mem::forget(std::mem::take(&mut self.regions));
            std::mem::forget(std::mem::take(&mut self.lists));
        }
    }
}
