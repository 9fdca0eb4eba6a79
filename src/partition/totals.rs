//! Sums over a partition, for the shard's metrics and for a drain.

use super::Partition;
use crate::ids::SubscriberId;

impl Partition {
    /// Frame bytes kept.
    #[must_use]
    pub fn retained_bytes(&self) -> u64 {
        self.log.end().position - self.log.start().position
    }

    /// The topic was deleted and the rest of the frame this subscriber had begun is gone: its stream cannot go on.
    #[must_use]
    pub fn is_cut_off(&self, id: SubscriberId) -> bool {
        self.subscribers.at(id).cut_off
    }

    /// Records that current subscribers have yet to get, summed over them.
    #[must_use]
    pub fn lag_records(&self) -> u64 {
        let end = self.log.end().offset;
        self.subscribers.iter().map(|(_, subscriber)| end - subscriber.boundary.offset).sum()
    }

    /// Bytes granted to producers and not given back.
    #[cfg(any(test, uringest_sim))]
    pub(crate) fn granted(&self) -> u64 {
        self.credit.granted()
    }
}
