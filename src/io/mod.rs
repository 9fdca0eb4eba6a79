//! The I/O layer: one trait, completion-shaped, that readiness can emulate and not the reverse.
//!
//! State and owner: a backend owns its ring or poll set, its socket table, the kernel's view of the
//! receive memory, and every operation until its last completion. The shard owns the meaning of tokens.
//!
//! Invariants every backend keeps (`tests/conformance` holds them to it):
//! 1. Every accepted `Op` ends with exactly one completion whose `more` is false; completions before it
//!    have `more` set. A refused `Op` comes back to the caller and completes never.
//! 2. Memory named by an `Op` is the kernel's from `submit` to that last completion.
//! 3. No operation waits for a socket inside the kernel except `Accept`, `ReceiveShared` and `Poll`:
//!    `Read` and `Send` complete at once with `WouldBlock` where they cannot go on. Operations on files take as long as
//!    the disk takes, in any order, and never keep `submit` or `reap` waiting.
//! 4. Received bytes of one socket are reported in the order they arrived, each once.
//! 5. `Cancel` completes after the target's last completion has been handed out.
//! 6. `Close` may only be submitted when the socket has no other operation outstanding.
//! 7. Of what waits for a socket (`Accept` or `ReceiveShared`, `PollReadable`, `PollWritable`) a shard has one of each
//!    kind waiting, not more; of what never waits, as many as it likes.

use std::net::IpAddr;
use std::sync::Arc;

use crate::buf::{Mapping, Span};
use crate::ids::{BufId, FileId, RegionId, SockId};

pub mod choice;
#[cfg(feature = "epoll")]
pub mod epoll;
mod errors;
#[cfg(any(feature = "uring", feature = "epoll"))]
mod files;
pub mod host;
pub mod probe;
#[cfg(any(test, feature = "scripted"))]
pub mod scripted;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod socket;
mod spans;
#[cfg(feature = "uring")]
pub mod uring;

mod token;
pub use errors::SetupError;
pub use token::{Token, TokenKind};

/// Where a vectored send's bytes are: a list in the backend's keeping, filled by the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanListId(pub u32);

/// A request to the kernel.
#[allow(missing_docs)] // the fields are explained with the operation
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Accepts connections until cancelled; each is `Outcome::Accepted`.
    Accept { listener: SockId },
    /// Receives into the shared ring until cancelled, out of buffers, or at the end of the stream.
    ReceiveShared { sock: SockId },
    /// Reads once what is there into `into`; never waits.
    Read { sock: SockId, into: Span },
    /// Reports each time the socket may have become readable, until cancelled. After a report, read until a
    /// `Read` is short of what it asked for, or finds nothing: some backends report again only then. An end
    /// that lies behind the last bytes is reported again.
    PollReadable { sock: SockId },
    /// Reports once when the socket is writable.
    PollWritable { sock: SockId },
    /// Sends the spans of a list once, as far as the socket takes them; never waits. The list is free
    /// again at the completion.
    Send { sock: SockId, spans: SpanListId },
    /// Writes the span to the file, once. Where the file is open for direct I/O the span and `at` are whole blocks.
    WriteFile { file: FileId, at: u64, from: Span },
    /// The same, complete when these bytes are durable (`RWF_DSYNC`); says nothing of other writes. Where nobody waits for
    /// the bytes to be written alone, this is cheaper than a `WriteFile` and then a `SyncFile`.
    WriteFileDurably { file: FileId, at: u64, from: Span },
    /// Reads the file into the span, once. As above.
    ReadFile { file: FileId, at: u64, into: Span },
    /// Makes every write to the file that has completed durable, as far as it is needed to read it back
    /// (`fdatasync(2)`).
    SyncFile { file: FileId },
    /// Ends an operation early. Operations on files cannot be.
    Cancel { target: Token },
    /// Tells the peer that nothing more will be sent (`shutdown(2)`, write side); completes at once.
    ShutdownWrite { sock: SockId },
    /// Closes the socket; the id is free again at the completion.
    Close { sock: SockId },
}

/// How an operation went on or ended.
#[allow(missing_docs)] // the fields are explained with the outcome
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new connection, attached and non-blocking.
    Accepted { sock: SockId, peer: IpAddr },
    /// `bytes` were received at `at` of the shared ring's region. `buffer_done`: the kernel has finished
    /// with the buffer and it is the shard's to recycle once nothing refers to it. `bytes` is 0 when a kernel
    /// gives a buffer back unused.
    Received { buffer: BufId, at: u64, bytes: u32, buffer_done: bool },
    /// The peer has closed its side; also for `Read`.
    EndOfStream,
    /// `Read` got this many bytes (not 0).
    Read { bytes: u32 },
    /// The polled condition may hold now.
    Ready,
    /// `Send` got rid of this many bytes (not 0).
    Sent { bytes: u32 },
    /// `WriteFile` or `WriteFileDurably` wrote this many bytes (not 0); fewer than asked for is not a fault. `ReadFile` ends as `Read` does.
    Written { bytes: u32 },
    /// `Close`, `Cancel`, `ShutdownWrite` and `SyncFile` have done their work.
    Done,
    /// Another thread has woken this shard. Comes with `Token::WAKE` and is never the end of an operation.
    Woken,
    /// The operation failed.
    Failed(IoError),
}

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoError {
    /// Nothing to read, or no room to write, now. Not a fault.
    WouldBlock,
    /// The shared ring has no free buffer: recycle some, then submit again. Back-pressure, not a fault.
    NoBuffers,
    /// The operation was cancelled.
    Cancelled,
    /// The peer reset the connection, or went away under a send.
    PeerGone,
    /// The process or system is out of descriptors, or the backend's socket table is full.
    NoDescriptors,
    /// The kernel is out of memory for sockets or pinned pages.
    NoMemory,
    /// The file system, or a quota, has no room for what was to be written.
    NoSpace,
    /// Anything else, as the kernel numbers it (`errno(3)`).
    Os(i32),
}

/// One report from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The token the operation was submitted with.
    pub token: Token,
    /// How it went.
    pub outcome: Outcome,
    /// More completions will follow for the same operation.
    pub more: bool,
}

/// Completions of one tick; capacity `limits::COMPLETIONS_PER_TICK`, never grown.
pub type Completions = Vec<Completion>;

/// How long `reap` may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until something completes, or this time of the monotonic clock (ns).
    Until(u64),
    /// Until something completes.
    Forever,
}

/// Two clocks read at one moment, in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// `CLOCK_MONOTONIC`.
    pub mono_ns: u64,
    /// `CLOCK_REALTIME` since 1970, UTC.
    pub wall_ns: u64,
}

/// `submit` could not take the operation now; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub Op);

/// The backend cannot go on: a bug or a kernel that broke its contract. The shard stops the process.
#[derive(Debug)]
pub struct IoFatal {
    /// What was being done.
    pub doing: &'static str,
    /// What the kernel said.
    pub source: std::io::Error,
}

/// A socket outside any backend: on its way between shards, or a listener made at start-up.
#[derive(Debug)]
pub enum SocketHandle {
    /// A file descriptor of this process.
    Fd(std::os::fd::OwnedFd),
    /// A socket of a simulated world.
    Simulated(u64),
}

/// A file outside any backend: on its way between control, which opens and closes files, and a shard.
#[derive(Debug)]
pub enum FileHandle {
    /// A file descriptor of this process, and whether it was opened for direct I/O.
    Fd {
        /// Open for what it is to be used for.
        fd: std::os::fd::OwnedFd,
        /// `O_DIRECT`.
        direct: bool,
    },
    /// A file of a simulated world.
    Simulated(u64),
}

/// What the host gives this backend; printed by `doctor`, by `serve` at start-up and on the metrics page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// `uring` or `epoll` or `sim`.
    pub backend: &'static str,
    /// 1 or 2 for uring (DESIGN's tiers), 0 for epoll.
    pub tier: u8,
    /// The shared ring's buffers are consumed incrementally.
    pub incremental_buffers: bool,
    /// Buffers of the shared ring.
    pub shared_buffers: u16,
    /// Regions are registered with the kernel.
    pub registered_regions: bool,
    /// Another ring of this process can be woken by a message.
    pub ring_messages: bool,
    /// Sockets are used by index, without a look-up in the descriptor table.
    pub direct_descriptors: bool,
}

impl Capabilities {
    /// Backend and tier in short, as `uring-t2` or `epoll`.
    #[must_use]
    pub fn label(&self) -> String {
        if self.tier == 0 { self.backend.to_owned() } else { format!("{}-t{}", self.backend, self.tier) }
    }
}

/// Wakes a shard from any thread. Cloned and kept by its peers.
#[derive(Debug, Clone)]
pub struct WakeHandle {
    /// Written to by threads that have no ring. `None` in a simulated world.
    pub event: Option<Arc<std::os::fd::OwnedFd>>,
    /// The ring's descriptor, for backends that message ring to ring; -1 where there is none.
    pub ring_fd: i32,
}

/// A world the shard runs in.
pub trait Io {
    /// Hands an operation to the kernel, at the latest with the next `reap`. A queue that is full meanwhile is emptied
    /// here.
    ///
    /// # Errors
    /// `Refused` gives the operation back: more is outstanding than the backend was made for, or the kernel takes
    /// nothing. It may be tried again after a `reap`. A backend is made for as many sockets as it was told of, the
    /// operations that a connection has at once on each, and `limits::FILE_OPS_PER_SHARD` on files, which is all that a
    /// shard has: to the shard a refusal is the end.
    fn submit(&mut self, op: Op, token: Token) -> Result<(), Refused>;

    /// Submits what is pending, waits as told, and appends what has completed to `out`, up to its capacity.
    ///
    /// # Errors
    /// Only when the backend cannot go on.
    fn reap(&mut self, wait: Wait, out: &mut Completions) -> Result<(), IoFatal>;

    /// Gives a buffer of the shared ring back to the kernel, in the order `SharedRing` says.
    fn recycle(&mut self, buffer: BufId);

    /// A free span list for a `Send`, empty; `None` when all are in flight (reap first).
    fn span_list(&mut self) -> Option<SpanListId>;

    /// Appends to a list: at most `limits::SPANS_PER_SEND` spans.
    fn push_span(&mut self, list: SpanListId, span: Span);

    /// Gives back a list that no `Send` took.
    fn drop_span_list(&mut self, list: SpanListId);

    /// Adopts a socket (or listener).
    ///
    /// # Errors
    /// Gives the socket back when the table is full.
    fn attach(&mut self, socket: SocketHandle) -> Result<SockId, (IoError, SocketHandle)>;

    /// Gives up a socket with no operation outstanding; it stays open in the caller's hand.
    fn detach(&mut self, sock: SockId) -> SocketHandle;

    /// Adopts a file.
    ///
    /// # Errors
    /// Gives the file back when the table is full.
    fn attach_file(&mut self, file: FileHandle) -> Result<FileId, (IoError, FileHandle)>;

    /// Gives up a file with no operation outstanding; it stays open in the caller's hand.
    fn detach_file(&mut self, file: FileId) -> FileHandle;

    /// Makes a region's memory known, so that spans may name it. `receive`: it will be the target of
    /// `Read`, so register it with the kernel where that helps.
    fn attach_region(&mut self, id: RegionId, mapping: &Arc<Mapping>, receive: bool);

    /// Forgets a region no operation refers to.
    fn detach_region(&mut self, id: RegionId);

    /// Reads the clocks. The shard does so once a tick.
    fn clock(&mut self) -> Clock;

    /// The handle others wake this shard with.
    fn wake_handle(&self) -> WakeHandle;

    /// Wakes another shard.
    fn wake(&mut self, peer: &WakeHandle);

    /// Times the queue of completions overflowed; nothing is lost, but it costs.
    fn overflows(&self) -> u64;

    /// What this host gives.
    fn capabilities(&self) -> &Capabilities;

    /// What does not work as well as it could, each with its cause and remedy. Grows only while the backend is
    /// made and when a region is attached.
    fn degradations(&self) -> &[String] {
        &[]
    }
}
