//! One partition's state: see docs/architecture.md.

use crate::proto::header::GapReason;

/// Records a subscriber will not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from: u64,
    /// How many.
    pub records: u64,
    /// Why.
    pub reason: GapReason,
}

/// A partition as `topic describe` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartitionStatus {
    /// The partition's id in the server.
    pub partition_id: u32,
    /// Its number within the topic.
    pub id: u32,
    /// The oldest offset kept.
    pub log_start_offset: u64,
    /// The offset the next record gets.
    pub log_end_offset: u64,
    /// The shard that owns it.
    pub shard: u16,
    /// Bytes held.
    pub bytes: u64,
    /// Records taken by retention or overflow before every subscriber had them.
    pub dropped_records: u64,
    /// Who is subscribed.
    pub consumers: Vec<ConsumerStatus>,
    /// Committed offsets by name.
    pub committed: Vec<(String, u64)>,
}

/// A subscriber as `topic describe` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConsumerStatus {
    /// As it named itself, or `shard/connection`.
    pub name: String,
    /// Records between its cursor and the log's end.
    pub lag_records: u64,
    /// Why it lags: `none`, `credit` (it grants none), `socket` (it does not read), `catching_up`.
    pub cause: String,
    /// Records it was told it missed.
    pub missed_records: u64,
}
