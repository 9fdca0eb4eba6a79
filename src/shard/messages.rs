//! Everything that crosses threads: shard to shard over the mesh, and between shards and control.
//!
//! A `Span` in a message is lent: the sender keeps its hold until the answer names it again, and the
//! receiver only reads it. Region ids mean the same on every shard.
#![allow(missing_docs)] // the fields of a message are explained with it

use std::net::IpAddr;
use std::sync::Arc;

use crate::buf::Span;
use crate::commit_log::{LogPoint, SegmentInfo, Snapshot};
use crate::ids::{ConnId, PartitionId, ShardId, TopicId};
use crate::io::{FileHandle, SocketHandle};
use crate::partition::Gap;
use crate::partition::PartitionStatus;
use crate::proto::code::Code;
use crate::proto::control::Start;
use crate::proto::header::{AckLevel, FrameHeader};
use crate::topic::Topic;

/// A connection of some shard, named so that a late message for a former owner of the slot is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnRef {
    /// Where the connection lives.
    pub shard: ShardId,
    /// Its slot there.
    pub conn: ConnId,
    /// The slot's generation.
    pub generation: u32,
}

/// One message of the mesh.
#[derive(Debug)]
pub enum Message {
    /// A connection changes its shard before any record has flowed.
    Adopt(Box<Adoption>),
    /// A producer's channel on a partition of the receiving shard.
    RemoteOpen {
        from: ConnRef,
        request: u64,
        channel: u32,
        partition: PartitionId,
        producer_id: u64,
        connections: u64,
        level: AckLevel,
    },
    /// The answer; `Ok` has the owner's handle for the channel.
    RemoteOpened { to: ConnRef, request: u64, channel: u32, result: Result<RemoteChannel, Code> },
    /// A verified batch; `span` stays valid until `RemotePublished` gives it back.
    RemotePublish {
        from: ConnRef,
        channel: u32,
        owner_slot: u32,
        partition: PartitionId,
        span: Span,
        /// How many of its bytes were granted to the channel.
        granted: u32,
        /// Why it was refused at the door, if it was: it counts in its sequence all the same.
        refused: Option<Box<BatchRefused>>,
        header: FrameHeader,
    },
    /// What became of it.
    RemotePublished {
        to: ConnRef,
        channel: u32,
        span: Span,
        sequence: u64,
        result: Result<RemoteAck, Box<BatchRefused>>,
        credit: u64,
    },
    /// Batches of a channel have reached the level it acknowledges, or (by its sequence) one will not.
    RemoteReached {
        to: ConnRef,
        channel: u32,
        partition: PartitionId,
        owner_slot: u32,
        result: Result<RemoteReached, (u64, Box<BatchRefused>)>,
    },
    /// More credit for a channel.
    RemoteCredit { to: ConnRef, channel: u32, partition: PartitionId, owner_slot: u32, grant: u64 },
    /// The channel is closed; what it was granted and has not used, on its way to it or there, is free again.
    RemoteRelease { owner_slot: u32, partition: PartitionId },
    /// A subscription to a partition of the receiving shard.
    RemoteSubscribe(Box<RemoteSubscribe>),
    /// The answer.
    RemoteSubscribed {
        to: ConnRef,
        request: u64,
        partition: PartitionId,
        result: Result<RemoteSubscription, Code>,
    },
    /// Bytes to send; they stay valid until `RemoteSent` gives them back. At most one is outstanding.
    RemoteDeliver(Box<RemoteDeliver>),
    /// How many of them were sent; the loan itself goes back, for the next one. `blocked`: the socket is full; wait
    /// for `RemoteWritable`.
    RemoteSent { loan: Box<RemoteDeliver>, bytes: u32, blocked: bool },
    /// The short send ended where a frame ends (`cut: false`), or the frame's rest is lost (`cut: true`).
    RemoteWhole { to: ConnRef, partition: PartitionId, subscriber: u32, cut: bool },
    /// The socket takes bytes again.
    RemoteWritable { partition: PartitionId, subscriber: u32, from: ConnRef },
    /// A consumer's credit (absolute limit).
    RemoteConsumerCredit { partition: PartitionId, subscriber: u32, from: ConnRef, limit: u64 },
    /// A commit of a name's offset.
    RemoteCommit { from: ConnRef, request: u64, partition: PartitionId, name: Box<str>, offset: u64 },
    /// The answer.
    RemoteCommitted { to: ConnRef, request: u64, partition: PartitionId, result: Result<u64, Code> },
    /// The subscription ends.
    RemoteUnsubscribe { partition: PartitionId, subscriber: u32, from: ConnRef },
    /// The sender drains, and every subscriber of its partitions has been sent everything.
    Delivered,
    /// From control to a shard.
    Command(Box<Command>),
    /// From a shard to control.
    Report(Box<Report>),
}

/// A connection on its way.
#[derive(Debug)]
pub struct Adoption {
    /// The socket, with no operation outstanding.
    pub socket: SocketHandle,
    /// For the limit on connections of one address.
    pub peer: IpAddr,
    /// Index of the tenant bound at hello.
    pub tenant: u16,
    /// The session's number, as told in welcome.
    pub session: u64,
    /// Received and not yet acted upon; the first frame is the one that named the shard.
    pub pending: Vec<u8>,
    /// Control frames not yet sent.
    pub unsent: Vec<u8>,
    /// Of a connection that speaks TLS.
    pub secured: Option<Box<AdoptedTls>>,
}

/// What goes with a connection that speaks TLS.
pub struct AdoptedTls {
    /// Its handshake is over.
    pub session: crate::tls::Session,
    /// The tenant its certificate stands for.
    pub tenant: Option<u16>,
    /// Records received and not opened.
    pub pending: Vec<u8>,
    /// Records sealed and not sent.
    pub unsent: Vec<u8>,
}

impl std::fmt::Debug for AdoptedTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (pending, unsent) = (self.pending.len(), self.unsent.len());
        f.debug_struct("AdoptedTls")
            .field("pending", &pending)
            .field("unsent", &unsent)
            .finish_non_exhaustive()
    }
}

/// See [`Message::RemoteOpened`].
#[derive(Debug)]
pub struct RemoteChannel {
    /// The owner's index for the channel.
    pub owner_slot: u32,
    /// The partition, so that an answer to a connection that is gone can be undone.
    pub partition: PartitionId,
    /// See `Opened`.
    pub next_sequence: u64,
    /// The first grant.
    pub credit: u64,
}

/// Why a batch was not taken.
#[derive(Debug)]
pub struct BatchRefused {
    pub code: Code,
    /// The record it is about, by its index in the batch.
    pub record: Option<u32>,
    pub detail: String,
}

impl From<Code> for BatchRefused {
    fn from(code: Code) -> Self {
        BatchRefused { code, record: None, detail: String::new() }
    }
}

/// See [`Message::RemotePublished`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteAck {
    /// Where the batch is.
    pub offset: u64,
    /// How many offsets it has.
    pub span: u32,
    /// When it was appended.
    pub append_time_ns: u64,
    /// It had been stored before.
    pub duplicate: bool,
    /// The channel's level is yet to be reached: `RemoteReached` tells when it is.
    pub waits: bool,
}

/// Acknowledgements of one channel that have become due together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteReached {
    /// How many.
    pub batches: u32,
    /// The last of them.
    pub last: RemoteAck,
    /// Its sequence.
    pub sequence: u64,
}

/// See [`Message::RemoteSubscribe`].
#[derive(Debug)]
pub struct RemoteSubscribe {
    pub from: ConnRef,
    pub request: u64,
    pub partition: PartitionId,
    pub start: Start,
    pub name: String,
    pub resume: bool,
    pub credit: u64,
}

/// See [`Message::RemoteSubscribed`].
#[derive(Debug)]
pub struct RemoteSubscription {
    pub subscriber: u32,
    pub start_offset: u64,
    pub log_start_offset: u64,
    pub log_end_offset: u64,
}

/// See [`Message::RemoteDeliver`].
#[derive(Debug)]
pub struct RemoteDeliver {
    pub to: ConnRef,
    pub partition: PartitionId,
    pub subscriber: u32,
    pub gap: Option<Gap>,
    pub spans: Vec<Span>,
    pub bytes: u32,
    pub records: u32,
    /// The first span continues a frame whose beginning was sent before.
    pub continues_frame: bool,
}

impl RemoteDeliver {
    /// For the loans to one subscriber: nothing yet, with room for so many spans.
    #[must_use]
    pub fn empty(to: ConnRef, partition: PartitionId, subscriber: u32, spans_max: usize) -> Self {
        let spans = Vec::with_capacity(spans_max);
        RemoteDeliver {
            to,
            partition,
            subscriber,
            gap: None,
            spans,
            bytes: 0,
            records: 0,
            continues_frame: false,
        }
    }
}

/// From control to a shard. Every command with a ticket is answered by a report with the same ticket.
#[derive(Debug)]
pub enum Command {
    /// A topic exists; sent to every shard, and answered by `Report::Done`.
    AddTopic { ticket: u64, topic: Arc<Topic> },
    /// Every shard knows the topic: clients may open it and subscribe to it.
    TopicReady { topic: TopicId },
    /// Once, at the start: every topic that there is has been told. Before, who asks for one that the shard does not know
    /// waits.
    TopicsTold,
    /// A client's wish for a topic (`Report::WantTopic`) was refused.
    TopicRefused { name: String, code: Code },
    /// A topic is gone; its memory is free once every shard has answered.
    RemoveTopic { ticket: u64, topic: TopicId },
    /// A topic pauses or goes on.
    PauseTopic { ticket: u64, topic: TopicId, paused: bool },
    /// Answered by `Report::Described`.
    Describe { ticket: u64, topic: TopicId },
    /// The whole server pauses or goes on: publishes get `topic_paused`.
    PauseServer { paused: bool },
    /// About a partition of kind `log`.
    Log(LogCommand),
    /// New tokens and rules.
    Access(Arc<crate::access::Access>),
    /// New certificates, for connections that begin from now on.
    Tls(crate::tls::ServerTls),
    /// Take no new connection or batch, deliver what is in flight until this time of the monotonic clock.
    Drain { deadline_ns: u64 },
    /// End at once.
    Stop,
}

/// From control to the shard that owns a partition of kind `log`.
#[derive(Debug)]
pub enum LogCommand {
    /// The file that will be the segment of this number, or why there is none yet: control goes on trying and sends it
    /// when there is one.
    Segment { partition: PartitionId, sequence: u64, result: Result<SegmentFile, SegmentRefused> },
    /// See [`LogReport::WantOpen`]. The text says why not.
    Opened { partition: PartitionId, sequence: u64, result: Result<FileHandle, String> },
    /// Segments below this number have to go. The shard answers `Retired` when nothing reads them any more.
    Retire { partition: PartitionId, below: u64 },
    /// Closes the segment that is written to, so that its file changes no more. Answered by `Rolled` when what it holds
    /// is durable.
    Roll { partition: PartitionId, ticket: u64 },
    /// Takes a snapshot of what there is: nothing goes by retention that none covers.
    Snapshot { partition: PartitionId },
}

/// A file for a segment: created or recycled, of full length, its header block zero, its name durable.
#[derive(Debug)]
pub struct SegmentFile {
    /// Open for reading and writing.
    pub file: FileHandle,
    /// Not one that any segment had before.
    pub nonce: u64,
    /// Length of the file, a multiple of `BLOCK_BYTES`.
    pub bytes: u64,
}

/// Why there is no file for the next segment. At fault: the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentRefused {
    /// The disk, the quota or the log's budget is full.
    NoSpace(String),
    /// Anything else.
    Failed(String),
}

/// From the shard that owns a partition of kind `log` to control.
#[derive(Debug)]
pub enum LogReport {
    /// A file for the segment of this number will be needed; asked for once each, ahead of need.
    WantSegment { partition: PartitionId, sequence: u64 },
    /// This segment takes no more and is durable.
    Sealed { partition: PartitionId, info: Box<SegmentInfo> },
    /// A closed segment's file is wanted for reading.
    WantOpen { partition: PartitionId, sequence: u64 },
    /// Nothing reads the segments below this number any more, and nothing will.
    Retired { partition: PartitionId, below: u64 },
    /// A file the shard is done with, to be closed.
    Close { file: FileHandle },
    /// To be kept in place of the one before.
    Snapshot { partition: PartitionId, snapshot: Box<Snapshot> },
    /// See [`LogCommand::Roll`]: segments below `next` change no more, and hold everything before `end`. `None`: the
    /// partition is fenced, and closes nothing.
    Rolled { partition: PartitionId, ticket: u64, next: u64, end: Option<LogPoint> },
    /// Nothing is written any more until the server starts again; what lies behind `durable` may not be there then, and
    /// has to be cut off.
    Fenced { partition: PartitionId, durable: LogPoint, reason: String },
}

/// From a shard to control.
#[derive(Debug)]
pub enum Report {
    /// About a partition of kind `log`.
    Log(LogReport),
    /// The command with this ticket is carried out.
    Done { ticket: u64, shard: ShardId },
    /// A client named a topic that does not exist, and may create it.
    WantTopic { shard: ShardId, name: String, partition: u32 },
    /// See `Command::Describe`; only the partitions this shard owns.
    Described { ticket: u64, shard: ShardId, partitions: Vec<PartitionStatus> },
    /// To be kept.
    Committed { partition: PartitionId, name: String, offset: u64 },
    /// Where the partitions end, once a second where it changed, and when the shard stops: so that offsets are never reused.
    LogEnds { shard: ShardId, ends: Vec<(PartitionId, u64)> },
    /// The shard has delivered all it could, or its time was up (`leftover` records undelivered).
    /// `settled`: all that its logs took is on the disk.
    Drained { shard: ShardId, leftover: u64, settled: bool },
    /// For the log, as a warning.
    Event { shard: ShardId, event: &'static str, detail: String },
}
