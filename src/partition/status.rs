//! What an operator sees of a partition.

use super::{Partition, State};
use crate::buf::Buffers;
use crate::ids::ShardId;

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

impl Partition {
    /// Every subscriber, with all that is known of it.
    #[cfg(any(test, uringest_sim))]
    pub fn consumers_in_full(&self) -> Vec<String> {
        self.subscribers.iter().map(|(_, subscriber)| format!("{subscriber:?}")).collect()
    }

    /// The partition as an operator sees it; `index` is its number within the topic. A subscriber without a
    /// name is shown by its home in hexadecimal, unless `subscribe` was given a name to show.
    #[must_use]
    pub fn status(&self, _buffers: &Buffers, index: u32, shard: ShardId) -> PartitionStatus {
        let end = self.log.end();
        let consumers = self.subscribers.iter().map(|(_, subscriber)| {
            let lag_records = end.offset - subscriber.boundary.offset;
            let cause = if lag_records == 0 || self.state == State::Deleted {
                "none"
            } else if subscriber.blocked {
                "socket"
            } else if subscriber.credit_left() == 0 && !subscriber.in_frame() {
                "credit"
            } else {
                "catching_up"
            };
            let name = if subscriber.name.is_empty() {
                format!("{:x}", subscriber.home)
            } else {
                subscriber.name.to_string()
            };
            ConsumerStatus {
                name,
                lag_records,
                cause: cause.to_owned(),
                missed_records: subscriber.missed_records,
            }
        });
        PartitionStatus {
            partition_id: self.id.0,
            id: index,
            log_start_offset: self.log_start_offset(),
            log_end_offset: self.log_end_offset(),
            shard: shard.0,
            bytes: end.position - self.log.start().position,
            dropped_records: self.counters.dropped_records,
            consumers: consumers.collect(),
            committed: self.committed.entries().to_vec(),
        }
    }
}
