//! How far a flow's producers may run ahead of its slowest consumer.
//!
//! Servers that push to consumers without any flow control (publish and subscribe of NATS and Redis) queue without
//! bound, or drop the consumer; a stream that is trimmed forgets what was not read yet. Holding the producers
//! back here lets such a server work in memory that stays in the cache, which is to its advantage. The bare programs
//! get the same: sockets alone would hold tens of megabytes.
//!
//! Shared by all connections of a flow. Counts only grow, and a reader that sees an old one waits a little longer
//! than it had to: relaxed order is enough.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::scenario::Flow;

/// Payload bytes that are sent and not delivered, over all consumers of a flow ...
const LEAD_BYTES: usize = 4 * 1024 * 1024;
/// ... of each of which this much may be.
pub(crate) const LEAD_BYTES_MIN: usize = 1024 * 1024;
/// Batches of each connection that may be, however long they are.
const LEAD_BATCHES: u64 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Lead {
    records_max: u64,
    sent: AtomicU64,
    /// Records delivered to each consumer.
    delivered: Box<[AtomicU64]>,
    joined: AtomicUsize,
}

impl Lead {
    pub(super) fn new(flow: &Flow) -> Lead {
        let payload = flow.payload_bytes.max(1) as u64;
        let bytes = (LEAD_BYTES / flow.consumers.max(1)).max(LEAD_BYTES_MIN);
        let batches = LEAD_BATCHES * flow.connections as u64 * (flow.batch_bytes as u64 / payload + 1);
        Lead {
            records_max: batches.max(bytes as u64 / payload),
            sent: AtomicU64::new(0),
            delivered: (0..flow.consumers).map(|_| AtomicU64::new(0)).collect(),
            joined: AtomicUsize::new(0),
        }
    }

    /// A consumer's place.
    pub(super) fn join(&self) -> usize {
        self.joined.fetch_add(1, Ordering::Relaxed)
    }

    /// So many records have come to this consumer in all.
    #[inline]
    pub(super) fn delivered(&self, place: usize, records: u64) {
        self.delivered[place].store(records, Ordering::Relaxed);
    }

    /// Records that may be sent now.
    #[inline]
    pub(super) fn room(&self) -> u64 {
        let slowest = self.delivered.iter().map(|records| records.load(Ordering::Relaxed)).min();
        let Some(slowest) = slowest else { return u64::MAX };
        (slowest + self.records_max).saturating_sub(self.sent.load(Ordering::Relaxed))
    }

    /// So many more are sent.
    #[inline]
    pub(super) fn sent(&self, records: u64) {
        self.sent.fetch_add(records, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_consumer_holds_the_producers() {
        let flow = Flow {
            name: String::new(),
            payload_bytes: 1024,
            batch_bytes: 0,
            connections: 1,
            consumers: 2,
            rate_per_s: 0,
        };
        let lead = Lead::new(&flow);
        let (quick, slow) = (lead.join(), lead.join());
        assert_eq!(lead.room(), 2048, "two consumers: 2 MiB each");
        lead.sent(2048);
        lead.delivered(quick, 2048);
        assert_eq!(lead.room(), 0);
        lead.delivered(slow, 1000);
        assert_eq!(lead.room(), 1000);
        let nobody = Lead::new(&Flow { consumers: 0, ..flow });
        nobody.sent(u64::from(u32::MAX));
        assert_eq!(nobody.room(), u64::MAX, "without consumers nobody is waited for");
    }
}
