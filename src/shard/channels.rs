//! Producers' channels: credit, and acknowledgements on their way.
//!
//! Credit is absolute: `limit` and `used` count the frame bytes of the channel since it was opened.
//! `used <= limit`, except for one frame sent while nothing was unacknowledged (docs/protocol.md).

use crate::ids::{ConnId, PartitionId, ShardId};
use crate::limits::HEADER_BYTES;
use crate::mutation::{self, Mutation};
use crate::partition::ProducerSlot;
use crate::proto::header::{AckLevel, FLAG_ACK_LEVEL_SHIFT, FLAG_DUPLICATE, FrameHeader, Kind};

use super::conn::NONE;
use super::demand::Demand;
use super::messages::RemoteAck;
use super::topics::PartitionSlot;

/// Where a channel's partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// The slot is free.
    Nowhere,
    /// Waiting for the owner's answer.
    Opening { shard: ShardId, partition: PartitionId },
    /// On this shard.
    Local { slot: PartitionSlot, producer: ProducerSlot },
    /// The topic was deleted under it: batches are refused until the client releases it.
    Gone,
    /// On another shard, which calls the producer `owner_slot`.
    Remote { shard: ShardId, partition: PartitionId, owner_slot: u32 },
}

/// What the next acknowledgement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct AckPoint {
    pub sequence: u64,
    pub offset: u64,
    pub span: u32,
    pub append_time_ns: u64,
    pub duplicate: bool,
}

impl AckPoint {
    /// As its message says it.
    pub(super) fn of(sequence: u64, ack: RemoteAck) -> AckPoint {
        let RemoteAck { offset, span, append_time_ns, duplicate, waits: _ } = ack;
        AckPoint { sequence, offset, span, append_time_ns, duplicate }
    }

    /// For its message.
    pub(super) fn remote(self, waits: bool) -> RemoteAck {
        let AckPoint { sequence: _, offset, span, append_time_ns, duplicate } = self;
        RemoteAck { offset, span, append_time_ns, duplicate, waits }
    }
}

/// One producer on one partition.
#[derive(Debug)]
pub(super) struct Channel {
    pub conn: ConnId,
    /// The next channel of the same connection.
    pub next: u32,
    pub home: Home,
    pub limit: u64,
    pub used: u64,
    /// How much credit it should have.
    pub demand: Demand,
    /// Every batch of the channel carries it.
    pub producer_id: u64,
    /// What the partition knows it by, where that is this shard's; see [`ChannelTable::new_owner`].
    pub owner: u64,
    /// As told in `opened`.
    pub partition_count: u32,
    pub level: AckLevel,
    pub every_batches: u32,
    pub every_ns: u64,
    pub unacked: u32,
    pub first_unacked_ns: u64,
    pub point: AckPoint,
    /// The batch that found the mesh full, 0 for none: later ones wait until it comes again.
    pub turned_away: u64,
    /// In the list of channels to look at when the tick ends.
    pub listed: bool,
    /// A commit has ended: what it covers is acknowledged now, whatever the pacing, since there is one for many batches.
    pub committed: bool,
    /// Batches lent to the owner that have not come back.
    pub lent: u32,
    /// Batches that are stored and have not reached the channel's level.
    pub waiting: u32,
    /// Closed by the client while batches were lent or waiting; freed when none are.
    pub releasing: bool,
}

impl Channel {
    /// Bytes that may still be sent.
    pub(super) fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// Counts a frame; says how many of its bytes were granted, `None` when the channel had no right to send it.
    /// A frame that is alone may be larger than what was granted.
    #[must_use]
    pub(super) fn spend(&mut self, frame_bytes: u32) -> Option<u32> {
        let alone = self.unacked == 0 && self.lent == 0 && self.waiting == 0;
        let granted = u32::try_from(self.available()).unwrap_or(u32::MAX).min(frame_bytes);
        if granted < frame_bytes && !alone {
            return None; // nothing is counted, so that all that was granted is given back with the channel
        }
        self.used += u64::from(frame_bytes);
        self.demand.sent(frame_bytes);
        Some(granted)
    }

    /// Adds a grant. What was used beyond the limit by a frame that was alone stays beyond it.
    pub(super) fn extend(&mut self, granted: u64) {
        self.limit = self.limit.max(self.used) + granted;
    }

    /// Notes an accepted batch; says whether an acknowledgement is due now.
    pub(super) fn accepted(&mut self, point: AckPoint, now_ns: u64) -> bool {
        if self.unacked == 0 {
            self.first_unacked_ns = now_ns;
        }
        self.unacked += 1;
        self.point = point;
        self.unacked >= self.every_batches
    }

    /// When the batches held back for pacing have to be acknowledged.
    pub(super) fn ack_due_ns(&self) -> u64 {
        if self.unacked == 0 { u64::MAX } else { self.first_unacked_ns.saturating_add(self.every_ns) }
    }

    /// The client is told what became of everything up to this batch. Where the mesh turned one of them away it was a copy
    /// of one that had been lent before: it does not come again, and nothing waits for it.
    pub(super) fn settled(&mut self, sequence: u64) {
        if self.turned_away <= sequence {
            self.turned_away = 0;
        }
    }

    /// The acknowledgement of everything up to `point`.
    pub(super) fn ack(&mut self, handle: u32) -> [u8; HEADER_BYTES] {
        self.unacked = 0;
        self.settled(self.point.sequence);
        let duplicate = if self.point.duplicate { FLAG_DUPLICATE } else { 0 };
        FrameHeader {
            flags: duplicate | (self.level as u16) << FLAG_ACK_LEVEL_SHIFT,
            channel: handle,
            sequence: self.point.sequence + u64::from(mutation::on(Mutation::AckAhead)),
            offset: self.point.offset,
            offset_span: self.point.span,
            append_time_ns: self.point.append_time_ns,
            ..FrameHeader::new(Kind::Ack)
        }
        .alone()
    }
}

/// All channels of the shard. Grows to its bound as channels are first used, then never again.
pub(super) struct ChannelTable {
    slots: Vec<Channel>,
    free: Vec<u32>,
    capacity: usize,
    /// Owners so far.
    owners: u64,
}

impl ChannelTable {
    pub(super) fn new(capacity: u32) -> Self {
        let capacity = capacity as usize;
        let (slots, free) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        ChannelTable { slots, free, capacity, owners: 0 }
    }

    /// A name for whoever opens a producer on a partition of this shard, here or from another shard: no two have the same,
    /// so what comes late from one that has gone is never taken for its successor's in the same places.
    pub(super) fn new_owner(&mut self) -> u64 {
        self.owners += 1;
        self.owners
    }

    /// Slots that have been used.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn open_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, conn: ConnId, home: Home, next: u32) -> Option<u32> {
        let channel = Channel {
            conn,
            next,
            home,
            limit: 0,
            used: 0,
            demand: Demand::default(),
            producer_id: 0,
            owner: 0,
            partition_count: 0,
            level: AckLevel::Received,
            every_batches: 1,
            every_ns: 0,
            unacked: 0,
            first_unacked_ns: 0,
            point: AckPoint::default(),
            turned_away: 0,
            listed: false,
            committed: false,
            lent: 0,
            waiting: 0,
            releasing: false,
        };
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = channel;
            return Some(index);
        }
        if self.slots.len() == self.capacity {
            return None;
        }
        self.slots.push(channel);
        u32::try_from(self.slots.len() - 1).ok()
    }

    pub(super) fn remove(&mut self, index: u32) {
        let channel = &mut self.slots[index as usize];
        assert_ne!(channel.home, Home::Nowhere, "a channel is freed once");
        channel.home = Home::Nowhere;
        channel.releasing = false;
        channel.conn = ConnId(NONE);
        self.free.push(index);
    }

    /// The channel of this handle, whoever's it is.
    pub(super) fn look_up(&self, handle: u32) -> Option<&Channel> {
        self.slots.get(handle as usize)
    }

    /// The channel of this handle, if it is this connection's and open.
    pub(super) fn of(&mut self, conn: ConnId, handle: u32) -> Option<&mut Channel> {
        let channel = self.slots.get_mut(handle as usize)?;
        let usable = channel.conn == conn && !channel.releasing;
        (usable && !matches!(channel.home, Home::Nowhere | Home::Opening { .. })).then_some(channel)
    }
}

impl std::ops::Index<u32> for ChannelTable {
    type Output = Channel;
    fn index(&self, index: u32) -> &Channel {
        &self.slots[index as usize]
    }
}

impl std::ops::IndexMut<u32> for ChannelTable {
    fn index_mut(&mut self, index: u32) -> &mut Channel {
        &mut self.slots[index as usize]
    }
}

impl ChannelTable {
    /// All open channels, in no order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.slots.iter_mut().filter(|channel| channel.home != Home::Nowhere)
    }

    /// The same, to look at.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.slots.iter().filter(|channel| channel.home != Home::Nowhere)
    }

    /// Handles of all open channels whose home satisfies `wanted`.
    pub(super) fn find(&self, wanted: impl Fn(&Home) -> bool) -> Vec<u32> {
        let all = self.slots.iter().enumerate().filter(|(_, channel)| wanted(&channel.home));
        all.map(|(index, _)| u32::try_from(index).expect("capacity is a u32")).collect()
    }
}
