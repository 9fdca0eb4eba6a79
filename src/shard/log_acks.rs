//! Acknowledgements of `log` partitions at a level that is yet to be reached.
//!
//! Each partition has one queue for each of the two levels, in the order of offsets. What a producer of another shard
//! waits for is here too; it is told by message when the level is reached. A channel counts what it waits for, and is
//! not closed before.

use std::collections::VecDeque;

use crate::ids::ConnId;
use crate::io::Io;
use crate::limits::LOG_ACKS_WAITING_MAX;
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::proto::header::AckLevel;

use super::Shard;
use super::channels::{AckPoint, Home};
use super::conn::Phase;
use super::credit::Waiter;
use super::messages::{BatchRefused, Message, RemoteReached};
use super::topics::PartitionSlot;

/// A batch that is appended and not yet acknowledged.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    who: Waiter,
    point: AckPoint,
    /// The offset after its last record.
    end: u64,
}

/// One partition's queues.
#[derive(Debug, Default)]
pub(super) struct LogAcks {
    written: VecDeque<Waiting>,
    durable: VecDeque<Waiting>,
}

impl LogAcks {
    fn queue(&mut self, level: AckLevel) -> &mut VecDeque<Waiting> {
        match level {
            AckLevel::Durable if !mutation::on(Mutation::MixLevels) => &mut self.durable,
            AckLevel::Durable | AckLevel::Written | AckLevel::Received => &mut self.written,
        }
    }

    /// A batch waits. What came twice waits among what came when it did: behind later ones its acknowledgement would be
    /// late, and those of what followed it on its channel would overtake it.
    fn add(&mut self, level: AckLevel, waiting: Waiting) {
        let queue = self.queue(level);
        let place = if waiting.point.duplicate {
            queue.partition_point(|other| other.end <= waiting.end)
        } else {
            queue.len()
        };
        queue.insert(place, waiting);
    }

    /// Whether a sync is waited for.
    pub(super) fn wants_sync(&self) -> bool {
        !self.durable.is_empty()
    }

    /// Whether all that wait want their batches durable.
    pub(super) fn durable_only(&self) -> bool {
        self.written.is_empty() && !self.durable.is_empty()
    }

    /// Whether one batch more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.written.len() + self.durable.len() >= LOG_ACKS_WAITING_MAX
    }

    /// Batches that wait.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn len(&self) -> usize {
        self.written.len() + self.durable.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty() && self.durable.is_empty()
    }
}

impl<I: Io> Shard<I> {
    /// Whether a batch that was stored has to wait for its acknowledgement; if so it waits from now on.
    pub(super) fn wait_for_level(
        &mut self,
        slot: PartitionSlot,
        level: AckLevel,
        who: Waiter,
        point: AckPoint,
    ) -> bool {
        let owned = &mut self.topics[slot];
        let end = point.offset + u64::from(point.span);
        if level == AckLevel::Received || !owned.partition.is_log() || owned.partition.reached(level) >= end {
            return false;
        }
        let log = owned.log.as_mut().expect("a log partition");
        log.acks.add(level, Waiting { who, point, end });
        if let Waiter::Here(handle) = who {
            self.count_waiting(handle);
        }
        true
    }

    /// A batch of this channel waits for its level.
    pub(super) fn count_waiting(&mut self, handle: u32) {
        let channel = &mut self.channels[handle];
        channel.waiting += 1;
        let id = channel.conn;
        self.conns[id].waiting_acks += 1;
    }

    /// Acknowledges what has reached its level.
    pub(super) fn level_reached(&mut self, slot: PartitionSlot) {
        for level in [AckLevel::Written, AckLevel::Durable] {
            let reached = self.topics[slot].partition.reached(level);
            while let Some(waiting) = self.next_reached(slot, level, reached) {
                match waiting.who {
                    Waiter::Here(handle) => self.reached_here(handle, waiting.point),
                    Waiter::Elsewhere(owner_slot) => {
                        let (batches, last) = self.rest_reached(slot, level, reached, waiting);
                        self.say_reached(slot, owner_slot, batches, last);
                    }
                }
            }
        }
    }

    fn next_reached(&mut self, slot: PartitionSlot, level: AckLevel, reached: u64) -> Option<Waiting> {
        let queue = self.topics[slot].log.as_mut()?.acks.queue(level);
        if queue.front()?.end > reached { None } else { queue.pop_front() }
    }

    /// Those right behind `first` that are of the same producer and no duplicates are told together with it.
    fn rest_reached(
        &mut self,
        slot: PartitionSlot,
        level: AckLevel,
        reached: u64,
        first: Waiting,
    ) -> (u32, AckPoint) {
        let Some(log) = self.topics[slot].log.as_mut() else { return (1, first.point) };
        let queue = log.acks.queue(level);
        let (mut batches, mut last) = (1, first.point);
        while let Some(next) = queue.front()
            && next.end <= reached
            && next.who == first.who
            && !next.point.duplicate
            && !last.duplicate
        {
            last = next.point;
            batches += 1;
            queue.pop_front();
        }
        (batches, last)
    }

    fn say_reached(&mut self, slot: PartitionSlot, owner_slot: u32, batches: u32, point: AckPoint) {
        let Some(producer) = self.remote_producers.look_up(owner_slot).filter(|producer| producer.used)
        else {
            return;
        };
        let (to, channel, partition) = (producer.to, producer.channel, self.topics[slot].id);
        let result = Ok(RemoteReached { batches, last: point.remote(false), sequence: point.sequence });
        self.answer(to.shard, Message::RemoteReached { to, channel, partition, owner_slot, result });
    }

    /// The owner's word on batches of a channel of this shard.
    pub(super) fn remote_reached(
        &mut self,
        id: ConnId,
        handle: u32,
        result: Result<RemoteReached, (u64, Box<BatchRefused>)>,
    ) {
        match result {
            Ok(reached) => {
                let point = AckPoint::of(reached.sequence, reached.last);
                for _ in 1..reached.batches {
                    self.uncount(id, handle);
                    self.ack_later(id, handle, point);
                }
                self.reached_here(handle, point);
            }
            Err((sequence, refused)) => {
                self.uncount(id, handle);
                self.nack(id, handle, sequence, *refused);
                self.after_waiting(id, handle);
            }
        }
    }

    fn reached_here(&mut self, handle: u32, point: AckPoint) {
        let id = self.channels[handle].conn;
        self.uncount(id, handle);
        if point.duplicate {
            self.ack_now(id, handle, point);
        } else {
            self.ack_later(id, handle, point);
        }
        self.channels[handle].committed = true;
        self.list_channel(handle);
        self.after_waiting(id, handle);
    }

    fn uncount(&mut self, id: ConnId, handle: u32) {
        self.channels[handle].waiting -= 1;
        self.conns[id].waiting_acks -= 1;
    }

    /// What waited for the last acknowledgement of a channel.
    pub(super) fn after_waiting(&mut self, id: ConnId, handle: u32) {
        let channel = &self.channels[handle];
        if channel.lent > 0 || channel.waiting > 0 {
            return;
        }
        if channel.releasing {
            self.ack_pending(id, handle);
            self.end_channel(id, handle);
        } else if self.conns[id].phase == Phase::Lingering {
            self.ack_pending(id, handle);
        }
        self.nothing_to_send(id);
    }

    /// A channel ends: nobody waits for its batches any more.
    pub(super) fn stop_waiting(&mut self, slot: PartitionSlot, who: Waiter) {
        if let Some(log) = self.topics.get_mut(slot).and_then(|owned| owned.log.as_mut()) {
            log.acks.written.retain(|waiting| waiting.who != who);
            log.acks.durable.retain(|waiting| waiting.who != who);
        }
    }

    /// The partition is fenced, or goes: whoever waits is told.
    pub(super) fn refuse_waiting(&mut self, slot: PartitionSlot, code: Code, detail: &str) {
        let Some(log) = self.topics[slot].log.as_mut() else { return };
        let acks = std::mem::take(&mut log.acks);
        for waiting in acks.written.into_iter().chain(acks.durable) {
            let refused = BatchRefused { code, record: None, detail: detail.to_owned() };
            let sequence = waiting.point.sequence;
            match waiting.who {
                Waiter::Here(handle) => {
                    let id = self.channels[handle].conn;
                    self.uncount(id, handle);
                    self.nack(id, handle, sequence, refused);
                    self.after_waiting(id, handle);
                }
                Waiter::Elsewhere(owner_slot) => {
                    let Some(producer) = self.remote_producers.look_up(owner_slot) else { continue };
                    let (to, channel, partition) = (producer.to, producer.channel, self.topics[slot].id);
                    let result = Err((sequence, Box::new(refused)));
                    let message = Message::RemoteReached { to, channel, partition, owner_slot, result };
                    self.answer(to.shard, message);
                }
            }
        }
    }

    /// Whether the channel waits for this word of its owner: also where this shard has heard first that the topic goes.
    pub(super) fn waits_for(&self, handle: u32, partition: crate::ids::PartitionId, owner_slot: u32) -> bool {
        let channel = &self.channels[handle];
        channel.waiting > 0
            && (channel.home == Home::Gone || self.is_same_channel(handle, partition, owner_slot))
    }

    /// Whether the message of an owner is about the channel as it is now.
    pub(super) fn is_same_channel(
        &self,
        handle: u32,
        partition: crate::ids::PartitionId,
        owner_slot: u32,
    ) -> bool {
        matches!(self.channels[handle].home,
            Home::Remote { partition: at, owner_slot: slot, .. } if at == partition && slot == owner_slot)
    }
}
