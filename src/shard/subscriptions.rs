//! Subscriptions, from the connection's side and (for consumers of other shards) from the partition's.

use crate::ids::{ConnId, PartitionId, ShardId, SubscriberId};

use super::conn::NONE;
use super::messages::{ConnRef, RemoteDeliver, RemoteSubscription};
use super::topics::PartitionSlot;
use crate::proto::control::Subscribed;

/// Where a subscription's bytes come from.
#[derive(Debug)]
pub(super) enum Feed {
    /// The slot is free.
    Nowhere,
    /// A partition of this shard.
    Local { slot: PartitionSlot, subscriber: SubscriberId },
    /// Asked for at another shard.
    Asked { request: u64 },
    /// A partition of another shard; what it has lent, if anything.
    Remote { shard: ShardId, subscriber: u32, lent: Option<Box<RemoteDeliver>> },
}

/// One subscription of a connection of this shard.
#[derive(Debug)]
pub(super) struct Subscription {
    pub conn: ConnId,
    /// The next subscription of the same connection.
    pub next: u32,
    pub partition: PartitionId,
    pub partition_count: u32,
    pub feed: Feed,
    /// Of a partition of another shard: the limit the client named last, and whether the owner has to hear of it.
    pub credit: u64,
    pub credit_listed: bool,
    /// Part of the send in flight.
    pub in_flight: bool,
    /// The client has unsubscribed, or the topic is going: no more is taken, it ends when nothing is in flight.
    pub ending: bool,
    /// Tell the client when it has ended.
    pub echo: bool,
    /// The answer to the request, which waits until the first offset is found.
    pub announce: Option<(u64, Subscribed)>,
}

/// A table whose slots are reused; it grows to its bound once.
pub(super) struct Table<T> {
    slots: Vec<T>,
    free: Vec<u32>,
    capacity: usize,
}

impl<T> Table<T> {
    pub(super) fn new(capacity: u32) -> Self {
        Table { slots: Vec::new(), free: Vec::new(), capacity: capacity as usize }
    }

    /// Slots that have been used.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = value;
            return Some(index);
        }
        if self.slots.len() == self.capacity {
            return None;
        }
        self.slots.push(value);
        u32::try_from(self.slots.len() - 1).ok()
    }

    /// Frees a slot; the caller leaves a value that says so.
    pub(super) fn remove(&mut self, index: u32, vacant: T) -> T {
        self.free.push(index);
        std::mem::replace(&mut self.slots[index as usize], vacant)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots
            .iter()
            .enumerate()
            .map(|(index, slot)| (u32::try_from(index).expect("capacity is a u32"), slot))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut()
    }

    pub(super) fn look_up(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)
    }
}

impl<T> std::ops::Index<u32> for Table<T> {
    type Output = T;
    fn index(&self, index: u32) -> &T {
        &self.slots[index as usize]
    }
}

impl<T> std::ops::IndexMut<u32> for Table<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.slots[index as usize]
    }
}

/// Subscriptions of this shard's connections.
pub(super) type SubscriptionTable = Table<Subscription>;

impl Subscription {
    pub(super) fn vacant() -> Self {
        Subscription {
            conn: ConnId(NONE),
            next: NONE,
            partition: PartitionId(0),
            partition_count: 0,
            feed: Feed::Nowhere,
            credit: 0,
            credit_listed: false,
            in_flight: false,
            ending: false,
            echo: false,
            announce: None,
        }
    }
}

/// A subscriber of a partition of this shard whose connection is on another one.
#[derive(Debug)]
pub(super) struct RemoteConsumer {
    pub to: ConnRef,
    pub slot: PartitionSlot,
    pub partition: PartitionId,
    pub subscriber: SubscriberId,
    /// Bytes lent and not answered for.
    pub lent: bool,
    /// The loan that came back last: its memory serves the next one.
    pub loan: Option<Box<RemoteDeliver>>,
    /// Unsubscribed while bytes were lent.
    pub ending: bool,
    /// The answer to the request, which waits until the first offset is found.
    pub announce: Option<(u64, RemoteSubscription)>,
    /// The slot is in use.
    pub used: bool,
}

/// See [`RemoteConsumer`].
pub(super) type RemoteConsumers = Table<RemoteConsumer>;

impl RemoteConsumer {
    pub(super) fn vacant() -> Self {
        RemoteConsumer {
            to: ConnRef { shard: ShardId(0), conn: ConnId(NONE), generation: 0 },
            slot: PartitionSlot(NONE),
            partition: PartitionId(0),
            subscriber: SubscriberId(0),
            lent: false,
            loan: None,
            ending: false,
            announce: None,
            used: false,
        }
    }
}

/// What a partition knows a subscriber by: an index into one of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Local(u32),
    Remote(u32),
}

const REMOTE: u64 = 1 << 63;

impl Place {
    pub(super) fn encode(self) -> u64 {
        match self {
            Place::Local(index) => u64::from(index),
            Place::Remote(index) => u64::from(index) | REMOTE,
        }
    }

    #[allow(clippy::cast_possible_truncation)] // the low half is the index
    pub(super) fn decode(home: u64) -> Place {
        if home & REMOTE == 0 { Place::Local(home as u32) } else { Place::Remote(home as u32) }
    }
}
