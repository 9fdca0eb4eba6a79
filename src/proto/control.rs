//! The control tables as plain Rust: what each kind with a body says. `encode` makes a whole sealed frame,
//! `decode` takes a verified header's body. The tables themselves are in `schemas/control.fbs`.

use crate::proto::code::Code;
use crate::proto::header::AckLevel;

/// Client to server, first frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // docs/protocol.md, section of the kind
pub struct Hello {
    pub client: String,
    pub version_min: u8,
    pub version_max: u8,
    pub features: u64,
    /// Absent when empty.
    pub token: String,
}

/// Server to client, the answer to hello.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Welcome {
    pub server: String,
    pub version: u8,
    pub features: u64,
    pub session: u64,
    pub shard: u16,
    pub shards: u16,
    pub tenant: String,
    pub frame_bytes_max: u32,
    pub record_bytes_max: u32,
    pub batch_records_max: u32,
    pub inflight_batches_max: u32,
    pub channels_max: u32,
    pub subscriptions_max: u32,
    pub idle_timeout_ms: u32,
    /// `host:port` of each shard's own port, in the order of the shards; empty unless configured.
    pub shard_addresses: Vec<String>,
}

/// Client to server: a producer's channel on one partition. `header.sequence` is the request id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Open {
    pub topic: String,
    pub partition: u32,
    /// Chosen by the client at random and kept over reconnects; not 0.
    pub producer_id: u64,
    pub ack_level: AckLevel,
    /// An ack after this many batches (at least 1) ...
    pub ack_every_batches: u32,
    /// ... or this long after the first unacknowledged one, whichever comes first.
    pub ack_every_us: u32,
}

/// Server to client: the channel is `header.channel`, the request id `header.sequence`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Opened {
    pub partition_id: u32,
    pub partition_count: u32,
    pub shard: u16,
    pub ack_level: AckLevel,
    /// The sequence the server expects next from this producer; 1 for a producer it does not know.
    pub next_sequence: u64,
    /// Absolute limit of frame bytes on this channel, counted from its opening.
    pub credit: u64,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The oldest record kept.
    Earliest,
    /// Only what is appended from now on.
    #[default]
    Latest,
    /// This offset, or the oldest kept with a gap.
    Offset(u64),
    /// The first batch appended at or after this time (ns since 1970, UTC).
    TimeNs(u64),
}

/// Client to server: `header.sequence` is the request id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Subscribe {
    pub topic: String,
    pub partition: u32,
    pub start: Start,
    /// The consumer's name for `commit` and for `topic describe`; may be empty.
    pub name: String,
    /// Start at the name's committed offset if there is one, else at `start`.
    pub resume: bool,
    /// Absolute limit of frame bytes, counted from here.
    pub credit: u64,
}

/// Server to client. The request id is `header.sequence`, the partition id `header.channel`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Subscribed {
    pub partition_count: u32,
    pub shard: u16,
    pub start_offset: u64,
    pub log_start_offset: u64,
    pub log_end_offset: u64,
}

/// Client to server: the records below `offset` are dealt with. `header.channel` is the partition id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Commit {
    pub name: String,
    pub offset: u64,
}

/// The body of `nack`, `error` and `close`. For `nack` the header has channel and sequence; for `error`
/// the request id (0 when the connection itself is refused).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Refusal {
    pub code: Code,
    /// Not before this long; 0 where it makes no difference.
    pub retry_after_us: u32,
    /// The index of the record that was refused, where one was.
    pub record: Option<u32>,
    /// For people and logs: what was seen and what was expected.
    pub detail: String,
}
