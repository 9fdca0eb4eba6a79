//! Sums over a partition, for the shard's metrics and for a drain.

use super::Partition;

impl Partition {
    /// Frame bytes kept.
    #[must_use]
    pub fn retained_bytes(&self) -> u64 {
        self.log.end().position - self.log.start().position
    }

    /// Records that current subscribers have yet to get, summed over them.
    #[must_use]
    pub fn lag_records(&self) -> u64 {
        let end = self.log.end().offset;
        self.subscribers.iter().map(|(_, subscriber)| end - subscriber.boundary.offset).sum()
    }
}
