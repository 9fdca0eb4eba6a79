//! From a partition that has something new to the connections that want it.

use crate::ids::{PartitionId, SubscriberId};
use crate::io::Io;
use crate::limits::SPANS_PER_SEND;

use super::Shard;
use super::messages::{Message, RemoteDeliver};
use super::subscriptions::Place;
use super::topics::PartitionSlot;

/// Bytes lent to another shard at once for one subscriber: what it can hope to send in one go.
const LEND_BYTES_MAX: u32 = 256 * 1024;
/// Spans of such a loan.
const LEND_SPANS_MAX: usize = SPANS_PER_SEND / 4;

impl<I: Io> Shard<I> {
    /// Marks every connection that a changed partition has something for.
    pub(super) fn fan_out(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty_partitions);
        for slot in dirty.drain(..) {
            if let Some(owned) = self.topics.get_mut(slot) {
                owned.dirty = false;
                self.wake_subscribers(slot);
            }
        }
        self.dirty_partitions = dirty;
    }

    pub(super) fn wake_subscribers(&mut self, slot: PartitionSlot) {
        let mut wanted = std::mem::take(&mut self.wanted);
        let partition = &self.topics[slot].partition;
        let working = partition.subscribers().filter(|&(subscriber, _)| partition.has_work(subscriber));
        wanted.extend(working.map(|(_, home)| home));
        for home in wanted.drain(..) {
            match Place::decode(home) {
                Place::Local(index) => {
                    let conn = self.subscriptions[index].conn;
                    self.mark_dirty(conn);
                }
                Place::Remote(index) => self.lend(index),
            }
        }
        if self.topics[slot].partition.is_log() {
            let partition = &self.topics[slot].partition;
            let behind = partition.subscribers().filter(|&(subscriber, _)| partition.wants_read(subscriber));
            wanted.extend(behind.map(|(subscriber, _)| u64::from(subscriber.0)));
            for subscriber in wanted.drain(..) {
                let subscriber = u32::try_from(subscriber).expect("it was one");
                self.feed_from_log(slot, SubscriberId(subscriber));
            }
        }
        self.wanted = wanted;
    }

    /// Lends a remote consumer its next bytes, unless it has some already.
    pub(super) fn lend(&mut self, index: u32) {
        let consumer = &self.remote_consumers[index];
        let (slot, subscriber, to, partition) =
            (consumer.slot, consumer.subscriber, consumer.to, consumer.partition);
        if consumer.lent || consumer.ending || !self.topics[slot].partition.has_work(subscriber) {
            return;
        }
        let owner = &mut self.topics[slot].partition;
        let continues_frame = owner.in_frame(subscriber);
        let mut loan = self.remote_consumers[index]
            .loan
            .take()
            .unwrap_or_else(|| Box::new(RemoteDeliver::empty(to, partition, index, LEND_SPANS_MAX)));
        loan.spans.clear();
        let taken =
            owner.take(&mut self.buffers, subscriber, LEND_BYTES_MAX, LEND_SPANS_MAX, &mut loan.spans);
        if taken.bytes == 0 && taken.gap.is_none() {
            self.remote_consumers[index].loan = Some(loan);
            return;
        }
        (loan.bytes, loan.records, loan.gap) = (taken.bytes, taken.records, taken.gap);
        loan.continues_frame = continues_frame;
        self.remote_consumers[index].lent = true;
        self.send_surely(usize::from(to.shard.0), Message::RemoteDeliver(loan));
    }

    /// Makes `live` partitions let go of receive memory that slow subscribers pin.
    pub(super) fn unpin_partitions(&mut self) {
        self.pinning.retain(|&slot| {
            let Some(owned) = self.topics.get_mut(slot) else { return false };
            owned.partition.unpin(&mut self.buffers);
            owned.pinning = owned.partition.holds_receive_memory();
            owned.pinning
        });
    }

    /// Where a partition of this shard is, for messages that name it.
    pub(super) fn slot_of(&self, partition: PartitionId) -> Option<PartitionSlot> {
        self.topics.slot(partition)
    }
}
