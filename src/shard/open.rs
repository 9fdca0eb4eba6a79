//! Opening and closing channels and subscriptions, on this shard's partitions or another's.

use crate::ids::{ConnId, PartitionId, ShardId};
use crate::io::Io;
use crate::limits::INFLIGHT_BATCHES_MAX;
use crate::metrics::Counter;
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::proto::control::{Commit, Open, Opened, Subscribe, Subscribed};
use crate::proto::header::{FrameHeader, Kind};

use super::Shard;
use super::channels::Home;
use super::conn::NONE;
use super::credit::Waiter;
use super::messages::{Message, RemoteSubscribe, Report};
use super::subscriptions::{Feed, Place, Subscription};

/// Commits on their way to control beyond which more are refused.
const COMMITS_WAITING_MAX: usize = 256;

impl<I: Io> Shard<I> {
    pub(super) fn open_channel(
        &mut self,
        id: ConnId,
        request: u64,
        partition: PartitionId,
        owner: ShardId,
        partition_count: u32,
        open: &Open,
    ) {
        let next = self.conns[id].channels;
        let Some(handle) = self.channels.insert(id, Home::Opening { shard: owner, partition }, next) else {
            return self.refuse(id, request, Code::TooManyChannels, "of this shard".into());
        };
        self.conns[id].channels = handle;
        self.conns[id].channel_count += 1;
        let channel = &mut self.channels[handle];
        channel.level = open.ack_level.unwrap_or_default(); // decided in `answer_request`
        channel.every_batches = open.ack_every_batches.clamp(1, INFLIGHT_BATCHES_MAX);
        channel.every_ns = u64::from(open.ack_every_us) * 1_000;
        channel.producer_id = open.producer_id;
        channel.partition_count = partition_count;
        self.counters.set(Counter::ChannelsOpen, self.channels.open_count() as u64);
        if owner == self.id {
            return self.open_local(id, request, handle, partition, open);
        }
        let message = Message::RemoteOpen {
            from: self.conn_ref(id),
            request,
            channel: handle,
            partition,
            producer_id: open.producer_id,
            connections: open.connections,
            level: self.channels[handle].level,
        };
        if self.try_send(usize::from(owner.0), message).is_err() {
            self.channels[handle].home = Home::Gone;
            self.end_channel(id, handle);
            self.refuse(id, request, Code::Unavailable, String::new());
        }
    }

    fn open_local(&mut self, id: ConnId, request: u64, handle: u32, partition: PartitionId, open: &Open) {
        let owner = self.channels.new_owner();
        self.channels[handle].owner = owner;
        let opened = match self.slot_of(partition) {
            Some(slot) => {
                let partition = &mut self.topics[slot].partition;
                partition
                    .open_producer(open.producer_id, open.connections, owner)
                    .map(|opened| (slot, opened))
            }
            None => Err(Code::TopicDeleted),
        };
        let (slot, opened) = match opened {
            Ok(opened) => opened,
            Err(code) => {
                self.channels[handle].home = Home::Gone;
                self.end_channel(id, handle);
                return self.refuse(id, request, code, String::new());
            }
        };
        self.channels[handle].home = Home::Local { slot, producer: opened.slot };
        self.topics[slot].credit.opened();
        self.channels[handle].limit = self.credit_channel(slot, handle);
        self.say_opened(id, request, handle, opened.next_sequence);
    }

    pub(super) fn say_opened(&mut self, id: ConnId, request: u64, handle: u32, next_sequence: u64) {
        let channel = &self.channels[handle];
        let (partition_id, owner) = match channel.home {
            Home::Local { slot, .. } => (self.topics[slot].id, self.id),
            Home::Remote { partition, shard, .. } | Home::Opening { partition, shard } => (partition, shard),
            Home::Gone | Home::Nowhere => (PartitionId(0), self.id),
        };
        let opened = Opened {
            partition_id: partition_id.0,
            partition_count: channel.partition_count,
            shard: owner.0,
            ack_level: channel.level,
            next_sequence,
            credit: channel.limit,
        };
        let frame = opened.frame(request, handle);
        self.say(id, &frame);
    }

    pub(super) fn release_channel(&mut self, id: ConnId, handle: u32) {
        let Some(channel) = self.channels.of(id, handle) else {
            return self.fail(id, Code::UnknownChannel, format!("release of channel {handle}"));
        };
        let lent = channel.lent > 0 || channel.waiting > 0;
        channel.releasing = lent;
        self.ack_pending(id, handle);
        if !lent {
            self.end_channel(id, handle);
        }
    }

    /// Ends a channel: the partition forgets its credit and remembers its producer.
    pub(super) fn end_channel(&mut self, id: ConnId, handle: u32) {
        self.unlink_channel(id, handle);
        self.conns[id].waiting_acks -= std::mem::take(&mut self.channels[handle].waiting);
        if let Home::Local { slot, .. } = self.channels[handle].home {
            self.stop_waiting(slot, Waiter::Here(handle));
        }
        let channel = &self.channels[handle];
        let (home, unused, demand) = (channel.home, channel.available(), channel.demand);
        let owner = channel.owner;
        match home {
            Home::Local { slot, producer } => {
                if let Some(owned) = self.topics.get_mut(slot) {
                    owned.partition.close_producer(producer, owner);
                    if !mutation::on(Mutation::LoseCredit) {
                        owned.partition.ungrant(unused);
                    }
                    owned.credit.closed(Waiter::Here(handle), &demand);
                }
            }
            Home::Remote { shard, partition, owner_slot } => {
                let message = Message::RemoteRelease { owner_slot, partition };
                self.send_surely(usize::from(shard.0), message);
            }
            // An answer that comes for a channel that is gone is released by its handler.
            Home::Opening { .. } | Home::Gone | Home::Nowhere => {}
        }
        self.channels.remove(handle);
        self.counters.set(Counter::ChannelsOpen, self.channels.open_count() as u64);
    }

    fn unlink_channel(&mut self, id: ConnId, handle: u32) {
        let next = self.channels[handle].next;
        self.conns[id].channel_count -= 1;
        if self.conns[id].channels == handle {
            self.conns[id].channels = next;
            return;
        }
        let mut at = self.conns[id].channels;
        while self.channels[at].next != handle {
            at = self.channels[at].next;
        }
        self.channels[at].next = next;
    }

    pub(super) fn subscribe(
        &mut self,
        id: ConnId,
        request: u64,
        partition: PartitionId,
        owner: ShardId,
        partition_count: u32,
        subscribe: Subscribe,
    ) {
        // Also one that is ending: its last frames, and the word that it has ended, come first.
        if self.has_subscription(id, partition) {
            return self.refuse(id, request, Code::AlreadySubscribed, subscribe.topic);
        }
        let entry = Subscription {
            conn: id,
            next: self.conns[id].subscriptions,
            partition,
            partition_count,
            feed: Feed::Asked { request },
            credit: subscribe.credit,
            ..Subscription::vacant()
        };
        let Some(index) = self.subscriptions.insert(entry) else {
            return self.refuse(id, request, Code::TooManySubscriptions, "of this shard".into());
        };
        self.conns[id].subscriptions = index;
        self.conns[id].subscription_count += 1;
        self.counters.set(Counter::SubscriptionsOpen, self.subscriptions.len() as u64);
        if owner == self.id {
            return self.subscribe_local(id, request, index, partition, &subscribe);
        }
        let from = self.conn_ref(id);
        let Subscribe { start, name, resume, credit, .. } = subscribe;
        let ask = RemoteSubscribe { from, request, partition, start, name, resume, credit };
        if self.try_send(usize::from(owner.0), Message::RemoteSubscribe(Box::new(ask))).is_err() {
            self.remove_subscription(id, index);
            self.refuse(id, request, Code::Unavailable, String::new());
        }
    }

    fn subscribe_local(
        &mut self,
        id: ConnId,
        request: u64,
        index: u32,
        partition: PartitionId,
        ask: &Subscribe,
    ) {
        let Some(slot) = self.slot_of(partition) else {
            self.remove_subscription(id, index);
            return self.refuse(id, request, Code::TopicDeleted, String::new());
        };
        let home = Place::Local(index).encode();
        let owned = &mut self.topics[slot];
        match owned.partition.subscribe(&self.buffers, ask.start, &ask.name, ask.resume, ask.credit, home) {
            Ok(new) => {
                self.subscriptions[index].feed = Feed::Local { slot, subscriber: new.id };
                let subscribed = Subscribed {
                    partition_count: self.subscriptions[index].partition_count,
                    shard: self.id.0,
                    start_offset: new.start_offset,
                    log_start_offset: new.log_start_offset,
                    log_end_offset: new.log_end_offset,
                };
                if new.seeking {
                    self.subscriptions[index].announce = Some((request, subscribed));
                } else {
                    self.say_subscribed(id, request, partition, &subscribed);
                }
                self.feed_from_log(slot, new.id);
            }
            Err(code) => {
                self.remove_subscription(id, index);
                self.refuse(id, request, code, String::new());
            }
        }
    }

    pub(super) fn say_subscribed(
        &mut self,
        id: ConnId,
        request: u64,
        partition: PartitionId,
        subscribed: &Subscribed,
    ) {
        self.counters.add(Counter::Subscriptions, 1);
        self.say(id, &subscribed.frame(request, partition.0));
    }

    fn has_subscription(&self, id: ConnId, partition: PartitionId) -> bool {
        let mut at = self.conns[id].subscriptions;
        while at != NONE && self.subscriptions[at].partition != partition {
            at = self.subscriptions[at].next;
        }
        at != NONE
    }

    /// The connection's subscription to a partition, unless it is ending.
    pub(super) fn subscription_to(&self, id: ConnId, partition: PartitionId) -> Option<u32> {
        let mut at = self.conns[id].subscriptions;
        while at != NONE {
            let entry = &self.subscriptions[at];
            if entry.partition == partition && !entry.ending {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    pub(super) fn consumer_credit(&mut self, id: ConnId, partition: PartitionId, limit: u64) {
        let Some(index) = self.subscription_to(id, partition) else {
            return; // it may have been on its way when the subscription ended
        };
        match self.subscriptions[index].feed {
            Feed::Local { slot, subscriber } => match self.topics[slot].partition.credit(subscriber, limit) {
                Ok(()) => {
                    self.mark_dirty(id);
                    self.feed_from_log(slot, subscriber);
                }
                Err(code) => self.fail(id, code, format!("partition {partition}, limit {limit}")),
            },
            Feed::Remote { .. } | Feed::Asked { .. } => {
                let entry = &mut self.subscriptions[index];
                if limit < entry.credit {
                    let detail = format!("partition {partition}, limit {limit}");
                    return self.fail(id, Code::ConsumerCreditInvalid, detail);
                }
                entry.credit = limit;
                if !entry.credit_listed {
                    entry.credit_listed = true;
                    self.credit_list.push(index);
                }
            }
            Feed::Nowhere => {}
        }
    }

    /// Tells owners on other shards of their consumers' credit: the latest limit, once a tick.
    pub(super) fn pass_credit_on(&mut self) {
        if self.credit_list.is_empty() {
            return;
        }
        let mut listed = std::mem::take(&mut self.credit_list);
        let mut full = false;
        listed.retain(|&index| {
            let entry = &self.subscriptions[index];
            let (partition, limit) = (entry.partition, entry.credit);
            let passed = match entry.feed {
                Feed::Remote { shard, subscriber, .. } => {
                    let from = self.conn_ref(entry.conn);
                    let message = Message::RemoteConsumerCredit { partition, subscriber, from, limit };
                    self.try_send(usize::from(shard.0), message).is_ok()
                }
                Feed::Asked { .. } => false,
                Feed::Local { .. } | Feed::Nowhere => true,
            };
            self.subscriptions[index].credit_listed &= !passed;
            full |= !passed && matches!(self.subscriptions[index].feed, Feed::Remote { .. });
            !passed
        });
        self.credit_list = listed;
        if full {
            self.look_again(super::backlog::LOOK_NS);
        }
    }

    pub(super) fn commit(&mut self, id: ConnId, request: u64, partition: PartitionId, commit: Commit) {
        if self.subscription_to(id, partition).is_none() {
            return self.refuse(id, request, Code::NotSubscribed, format!("partition {partition}"));
        }
        let Some(owner) = self.topics.owner(partition) else {
            return self.refuse(id, request, Code::TopicDeleted, String::new());
        };
        if owner == self.id {
            let result = self.commit_here(partition, &commit.name, commit.offset);
            return self.committed(id, request, partition, result);
        }
        if !self.backlog[usize::from(owner.0)].is_empty() {
            return self.refuse(id, request, Code::Unavailable, "commits outrun the shards".into());
        }
        let from = self.conn_ref(id);
        let message = Message::RemoteCommit {
            from,
            request,
            partition,
            name: commit.name.into(),
            offset: commit.offset,
        };
        self.send_surely(usize::from(owner.0), message);
    }

    pub(super) fn commit_here(
        &mut self,
        partition: PartitionId,
        name: &str,
        offset: u64,
    ) -> Result<u64, Code> {
        let slot = self.slot_of(partition).ok_or_else(|| self.topics.why_missing(partition))?;
        if self.backlog[self.mesh.control()].len() >= COMMITS_WAITING_MAX {
            return Err(Code::Unavailable);
        }
        let stored = self.topics[slot].partition.commit(name, offset)?;
        self.counters.add(Counter::Commits, 1);
        self.report(Report::Committed { partition, name: name.to_owned(), offset: stored });
        Ok(stored)
    }

    pub(super) fn committed(
        &mut self,
        id: ConnId,
        request: u64,
        partition: PartitionId,
        result: Result<u64, Code>,
    ) {
        match result {
            Ok(offset) => {
                let header = FrameHeader {
                    channel: partition.0,
                    sequence: request,
                    offset,
                    ..FrameHeader::new(Kind::Committed)
                };
                self.say(id, &header.alone());
            }
            Err(code) => self.refuse(id, request, code, format!("partition {partition}")),
        }
    }

    pub(super) fn unsubscribe_by_client(&mut self, id: ConnId, partition: PartitionId) {
        match self.subscription_to(id, partition) {
            Some(index) => {
                self.subscriptions[index].echo = true;
                self.unsubscribe(id, index);
            }
            None => self.say_unsubscribed(id, partition),
        }
    }

    /// Ends a subscription as soon as none of it is in flight and no frame is half sent.
    pub(super) fn unsubscribe(&mut self, id: ConnId, index: u32) {
        let entry = &mut self.subscriptions[index];
        entry.ending = true;
        // One that was asked for at another shard ends when the answer is there, so that each request has one.
        let asked = matches!(entry.feed, Feed::Asked { .. });
        if !entry.in_flight && !asked && self.conns[id].resume != index {
            self.end_subscription(id, index);
        }
    }

    pub(super) fn end_subscription(&mut self, id: ConnId, index: u32) {
        let entry = &mut self.subscriptions[index];
        let partition = entry.partition;
        let feed = std::mem::replace(&mut entry.feed, Feed::Nowhere);
        match feed {
            Feed::Local { slot, subscriber } => {
                self.stop_reading(slot, subscriber);
                self.topics[slot].partition.unsubscribe(&mut self.buffers, subscriber);
            }
            Feed::Remote { shard, subscriber, lent } => {
                if let Some(loan) = lent {
                    self.give_back(shard, loan, 0, true);
                }
                let from = self.conn_ref(id);
                let message = Message::RemoteUnsubscribe { partition, subscriber, from };
                self.send_surely(usize::from(shard.0), message);
            }
            // The answer finds no subscription and undoes it at the owner.
            Feed::Asked { .. } | Feed::Nowhere => {}
        }
        let echo = self.subscriptions[index].echo;
        self.remove_subscription(id, index);
        if echo {
            self.say_unsubscribed(id, partition);
        }
    }

    pub(super) fn say_unsubscribed(&mut self, id: ConnId, partition: PartitionId) {
        let frame = FrameHeader { channel: partition.0, ..FrameHeader::new(Kind::Unsubscribe) }.alone();
        self.say(id, &frame);
    }

    pub(super) fn remove_subscription(&mut self, id: ConnId, index: u32) {
        let next = self.subscriptions[index].next;
        let conn = &mut self.conns[id];
        conn.subscription_count -= 1;
        if conn.turn == index {
            conn.turn = NONE;
        }
        if conn.subscriptions == index {
            conn.subscriptions = next;
        } else {
            let mut at = conn.subscriptions;
            while self.subscriptions[at].next != index {
                at = self.subscriptions[at].next;
            }
            self.subscriptions[at].next = next;
        }
        let removed = self.subscriptions.remove(index, Subscription::vacant());
        // The next one in the slot is listed for itself.
        if removed.credit_listed {
            self.credit_list.retain(|&listed| listed != index);
        }
        self.counters.set(Counter::SubscriptionsOpen, self.subscriptions.len() as u64);
    }
}
