//! What a topic is: shared by the catalogue, the shards and the command line.

use std::sync::Arc;

use crate::buf::Mapping;
use crate::commit_log::RecoveredLog;
use crate::ids::{PartitionId, RegionId, ShardId, TopicId};
use crate::proto::header::AckLevel;

/// How long records are kept and what happens to their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicKind {
    /// Sent from receive memory to who is subscribed now; nothing is retained.
    Live,
    /// Kept in the partition's ring, oldest out.
    Memory,
    /// Written to the log from the partition's ring; kept there as long as its retention says.
    Log,
}

/// What happens when a partition is full of records that a current subscriber has yet to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Producers wait (credit is withheld; batches sent regardless get `back_pressure`).
    #[default]
    Block,
    /// The oldest records go; the subscriber is told with a `gap`.
    DropOldest,
    /// New batches get `ring_full`.
    Reject,
}

/// How a topic of kind `log` is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The least level a producer may ask for.
    pub durability: AckLevel,
    /// Bytes that each partition's closed segments may hold together; the oldest go.
    pub retention_bytes: u64,
    /// Segments whose last record is older than this go too; 0: age takes none.
    pub retention_ms: u64,
    /// Length of each partition's files.
    pub segment_bytes: u64,
}

/// A topic as the shards know it. Immutable; a change is a new one.
#[derive(Debug)]
pub struct Topic {
    /// Never reused.
    pub id: TopicId,
    /// As clients name it.
    pub name: String,
    /// See [`TopicKind`].
    pub kind: TopicKind,
    /// See [`Overflow`].
    pub overflow: Overflow,
    /// Bytes of each partition's ring (`memory`: retention; `live`: for laggards; `log`: what is served from memory).
    pub ring_bytes: u64,
    /// `log`: the least level a producer may ask for, and what records have to have reached before consumers get them
    /// (at least `Written`). `Received` for the other kinds.
    pub durability: AckLevel,
    /// In the order of the partition's number.
    pub partitions: Vec<TopicPartition>,
}

/// One partition of a topic.
#[derive(Debug)]
pub struct TopicPartition {
    /// Unique in the server, never reused.
    pub id: PartitionId,
    /// The owner.
    pub shard: ShardId,
    /// The ring's region id, the same on every shard.
    pub ring: RegionId,
    /// The ring's memory (mirrored, prefaulted).
    pub mapping: Arc<Mapping>,
    /// Offset of the first record appended in this run of the server.
    pub first_offset: u64,
    /// Committed offsets by consumer name, as recovered.
    pub committed: Vec<(String, u64)>,
    /// `log`: what its files hold. `None` for the other kinds.
    pub log: Option<RecoveredLog>,
}
