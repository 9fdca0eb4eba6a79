//! Traffic with other shards: producers and consumers whose connection is on one shard and whose partition
//! is on another.
//!
//! The producer's shard verifies a batch, holds it where it lies and lends it; the owner copies it into the
//! partition (once) and answers in the same tick, so a slow topic pins nothing of the producer's shard.
//! The owner lends a consumer's shard what it can hope to send in one go; that shard tries at once and
//! answers with what was sent, so a slow consumer pins nothing of the owner's.

use crate::buf::Span;
use crate::ids::{ConnId, PartitionId, ShardId};
use crate::io::Io;
use crate::lifecycle::State;
use crate::limits::HEADER_BYTES_U32;
use crate::mutation::{self, Mutation};
use crate::partition::{ProducerSlot, Source};
use crate::proto::code::Code;
use crate::proto::control::Subscribed;
use crate::proto::header::{AckLevel, FrameHeader};

use super::Shard;
use super::channels::{AckPoint, Home};
use super::conn::{NONE, Phase};
use super::credit::Waiter;
use super::demand::Demand;
use super::messages::{
    BatchRefused, ConnRef, Message, RemoteAck, RemoteChannel, RemoteDeliver, RemoteSubscribe,
    RemoteSubscription,
};
use super::subscriptions::{Feed, Place, RemoteConsumer, Table};
use super::topics::PartitionSlot;

/// A producer of another shard, as the owner of its partition knows it.
#[derive(Debug)]
pub(super) struct RemoteProducer {
    pub to: ConnRef,
    pub channel: u32,
    pub slot: PartitionSlot,
    producer: ProducerSlot,
    /// What the partition knows it by.
    owner: u64,
    /// What it acknowledges.
    level: AckLevel,
    pub used: bool,
    /// Granted to the channel and not used, wherever the grants are.
    pub granted: u64,
    /// How much credit it should have.
    pub demand: Demand,
}

/// See [`RemoteProducer`].
pub(super) type RemoteProducers = Table<RemoteProducer>;

fn vacant_producer() -> RemoteProducer {
    RemoteProducer {
        to: ConnRef { shard: ShardId(0), conn: ConnId(NONE), generation: 0 },
        channel: NONE,
        slot: PartitionSlot(NONE),
        producer: ProducerSlot(NONE),
        owner: 0,
        level: AckLevel::Received,
        used: false,
        granted: 0,
        demand: Demand::default(),
    }
}

impl<I: Io> Shard<I> {
    /// Acts on a message of the mesh.
    pub(super) fn message(&mut self, from: usize, message: Message) {
        match message {
            Message::Adopt(adoption) => self.adopt(*adoption),
            Message::RemoteOpen { from, request, channel, partition, producer_id, connections, level } => {
                let result = self.remote_open(from, channel, partition, (producer_id, connections), level);
                self.answer(from.shard, Message::RemoteOpened { to: from, request, channel, result });
            }
            Message::RemoteOpened { to, request, channel, result } => {
                self.remote_opened(to, request, channel, result)
            }
            Message::RemotePublish {
                from,
                channel,
                owner_slot,
                partition,
                span,
                granted,
                refused,
                header,
            } => {
                self.remote_publish(from, channel, owner_slot, partition, span, granted, refused, &header);
            }
            Message::RemotePublished { to, channel, span, sequence, result, credit } => {
                if !(mutation::on(Mutation::KeepLent) && self.conns.by_ref(to).is_none()) {
                    self.buffers.receive.release(span);
                }
                self.remote_published(to, channel, sequence, result, credit);
            }
            Message::RemoteReached { to, channel, partition, owner_slot, result } => {
                if let Some(id) = self.remote_channel(to, channel)
                    && self.waits_for(channel, partition, owner_slot)
                {
                    self.remote_reached(id, channel, result);
                }
            }
            Message::RemoteCredit { to, channel, partition, owner_slot, grant } => {
                self.remote_credit(to, channel, partition, owner_slot, grant);
            }
            Message::RemoteWhole { to, partition, subscriber, cut } => {
                self.remote_whole(to, partition, subscriber, cut);
            }
            Message::RemoteRelease { owner_slot, partition } => self.remote_release(owner_slot, partition),
            Message::RemoteSubscribe(ask) => self.remote_subscribe(*ask),
            Message::RemoteSubscribed { to, request, partition, result } => {
                self.remote_subscribed(to, from, request, partition, result);
            }
            Message::RemoteDeliver(deliver) => self.remote_deliver(from, deliver),
            Message::RemoteSent { loan, bytes, blocked } => self.remote_sent(loan, bytes, blocked),
            Message::RemoteWritable { partition, subscriber, from } => {
                self.remote_writable(partition, subscriber, from)
            }
            Message::RemoteConsumerCredit { partition, subscriber, from, limit } => {
                self.remote_consumer_credit(partition, subscriber, from, limit);
            }
            Message::RemoteCommit { from, request, partition, name, offset } => {
                let result = self.commit_here(partition, &name, offset);
                self.answer(from.shard, Message::RemoteCommitted { to: from, request, partition, result });
            }
            Message::RemoteCommitted { to, request, partition, result } => {
                if let Some(id) = self.conns.by_ref(to) {
                    self.committed(id, request, partition, result);
                }
            }
            Message::RemoteUnsubscribe { partition, subscriber, from } => {
                self.remote_unsubscribe(partition, subscriber, from);
            }
            Message::Delivered => self.delivered_elsewhere += 1,
            Message::Command(command) => self.command(*command),
            Message::Report(_) => unreachable!("reports go to control"),
        }
    }

    pub(super) fn answer(&mut self, to: ShardId, message: Message) {
        self.send_surely(usize::from(to.0), message);
    }

    // The owner's side of a producer.

    fn remote_open(
        &mut self,
        from: ConnRef,
        channel: u32,
        partition: PartitionId,
        (producer_id, connections): (u64, u64),
        level: AckLevel,
    ) -> Result<RemoteChannel, Code> {
        let slot = self.slot_of(partition).ok_or_else(|| self.topics.why_missing(partition))?;
        let owner = self.channels.new_owner();
        let opened = self.topics[slot].partition.open_producer(producer_id, connections, owner)?;
        let entry = RemoteProducer {
            to: from,
            channel,
            slot,
            producer: opened.slot,
            owner,
            level,
            used: true,
            ..vacant_producer()
        };
        let Some(owner_slot) = self.remote_producers.insert(entry) else {
            self.topics[slot].partition.close_producer(opened.slot, owner);
            return Err(Code::TooManyChannels);
        };
        self.topics[slot].credit.opened();
        let credit = self.credit_remote(slot, owner_slot);
        Ok(RemoteChannel { owner_slot, partition, next_sequence: opened.next_sequence, credit })
    }

    fn remote_producer(
        &self,
        owner_slot: u32,
        partition: PartitionId,
    ) -> Option<(PartitionSlot, ProducerSlot)> {
        let entry = self.remote_producers.look_up(owner_slot)?;
        let current = entry.used && self.topics.get(entry.slot)?.id == partition;
        current.then_some((entry.slot, entry.producer))
    }

    #[allow(clippy::too_many_arguments)] // the message's fields
    fn remote_publish(
        &mut self,
        from: ConnRef,
        channel: u32,
        owner_slot: u32,
        partition: PartitionId,
        span: Span,
        granted: u32,
        refused: Option<Box<BatchRefused>>,
        header: &FrameHeader,
    ) {
        let verified = refused.map_or(Ok(()), |refused| Err(*refused));
        let mut credit = 0;
        let result = match self.remote_producer(owner_slot, partition) {
            None => Err(Code::NoSuchTopicNow.into()),
            Some((slot, producer)) => {
                let owner = self.remote_producers[owner_slot].owner;
                let stored = self.store(slot, producer, owner, &[span], Source::Foreign, header, verified);
                let account = &mut self.remote_producers[owner_slot];
                account.granted -= u64::from(granted);
                account.demand.sent(HEADER_BYTES_U32 + header.body_bytes);
                self.topics[slot].partition.ungrant(u64::from(granted));
                credit = self.credit_remote(slot, owner_slot);
                stored
            }
        };
        let result = result.map_err(Box::new).map(|point| {
            let entry = &self.remote_producers[owner_slot];
            let (slot, level) = (entry.slot, entry.level);
            point.remote(self.wait_for_level(slot, level, Waiter::Elsewhere(owner_slot), point))
        });
        let sequence = header.sequence;
        self.answer(
            from.shard,
            Message::RemotePublished { to: from, channel, span, sequence, result, credit },
        );
    }

    fn remote_release(&mut self, owner_slot: u32, partition: PartitionId) {
        let Some((slot, producer)) = self.remote_producer(owner_slot, partition) else { return };
        self.stop_waiting(slot, Waiter::Elsewhere(owner_slot));
        let account = self.remote_producers.remove(owner_slot, vacant_producer());
        let owned = &mut self.topics[slot];
        owned.partition.close_producer(producer, account.owner);
        if !mutation::on(Mutation::KeepGranted) {
            owned.partition.ungrant(account.granted);
        }
        owned.credit.closed(Waiter::Elsewhere(owner_slot), &account.demand);
    }

    // The producer's side.

    /// The connection's channel of this handle, if both are still what the message means.
    fn remote_channel(&self, to: ConnRef, channel: u32) -> Option<ConnId> {
        let id = self.conns.by_ref(to)?;
        (self.channels.look_up(channel)?.conn == id).then_some(id)
    }

    fn remote_opened(
        &mut self,
        to: ConnRef,
        request: u64,
        channel: u32,
        result: Result<RemoteChannel, Code>,
    ) {
        let waiting = self.remote_channel(to, channel).and_then(|id| match self.channels[channel].home {
            Home::Opening { shard, partition } => Some((id, shard, partition)),
            _ => None,
        });
        match (waiting, result) {
            (Some((id, shard, partition)), Ok(opened)) => {
                let entry = &mut self.channels[channel];
                entry.home = Home::Remote { shard, partition, owner_slot: opened.owner_slot };
                entry.limit = opened.credit;
                self.say_opened(id, request, channel, opened.next_sequence);
            }
            (Some((id, ..)), Err(code)) => {
                self.channels[channel].home = Home::Gone;
                self.end_channel(id, channel);
                self.refuse(id, request, code, String::new());
            }
            // The connection went away meanwhile; the owner hears of it by the release it is sent here.
            (None, Ok(opened)) => self.disown_channel(&opened),
            (None, Err(_)) => {}
        }
    }

    /// Undoes an open whose connection is gone.
    fn disown_channel(&mut self, opened: &RemoteChannel) {
        let (owner_slot, partition) = (opened.owner_slot, opened.partition);
        let message = Message::RemoteRelease { owner_slot, partition };
        if let Some(shard) = self.topics.owner(partition) {
            self.answer(shard, message);
        }
    }

    /// Lends a batch to its partition's shard, also one that was refused at the door: only the owner knows
    /// whether its turn has come. Where the mesh is full the client tries again.
    pub(super) fn lend_batch(
        &mut self,
        id: ConnId,
        handle: u32,
        frame: Span,
        granted: u32,
        header: &FrameHeader,
        verified: Result<(), BatchRefused>,
    ) {
        let Home::Remote { shard, partition, owner_slot } = self.channels[handle].home else { return };
        let waiting_for = self.channels[handle].turned_away;
        if waiting_for != 0 && header.sequence > waiting_for {
            return self.turn_batch_away(id, handle, granted, header.sequence, Code::OutOfSequence);
        }
        let message = Message::RemotePublish {
            from: self.conn_ref(id),
            channel: handle,
            owner_slot,
            partition,
            span: frame,
            granted,
            refused: verified.err().map(Box::new),
            header: *header,
        };
        self.buffers.receive.hold(frame);
        if self.try_send(usize::from(shard.0), message).is_err() {
            self.buffers.receive.release(frame);
            self.channels[handle].turned_away = header.sequence;
            return self.turn_batch_away(id, handle, granted, header.sequence, Code::BackPressure);
        }
        let channel = &mut self.channels[handle];
        if header.sequence == channel.turned_away {
            channel.turned_away = 0;
        }
        channel.lent += 1;
        self.conns[id].lent += 1;
    }

    /// Refuses a batch that was not lent: what it used of the credit was not used after all.
    fn turn_batch_away(&mut self, id: ConnId, handle: u32, granted: u32, sequence: u64, code: Code) {
        self.channels[handle].extend(u64::from(granted));
        let limit = self.channels[handle].limit;
        self.nack(id, handle, sequence, code.into());
        self.say_credit(id, handle, limit);
    }

    fn remote_published(
        &mut self,
        to: ConnRef,
        handle: u32,
        sequence: u64,
        result: Result<RemoteAck, Box<BatchRefused>>,
        credit: u64,
    ) {
        let Some(id) = self.remote_channel(to, handle).filter(|_| self.channels[handle].lent > 0) else {
            return;
        };
        self.conns[id].lent -= 1;
        self.channels[handle].lent -= 1;
        match result {
            Ok(ack) if ack.waits => self.count_waiting(handle),
            Ok(ack) => {
                let point = AckPoint::of(sequence, ack);
                if ack.duplicate {
                    self.ack_now(id, handle, point)
                } else {
                    self.ack_later(id, handle, point)
                }
                self.list_channel(handle);
            }
            Err(refused) => {
                // For good; one that was out of sequence comes again.
                if !refused.code.retryable() && refused.code != Code::OutOfSequence {
                    self.channels[handle].settled(sequence);
                }
                self.nack(id, handle, sequence, *refused);
            }
        }
        self.extend_credit(id, handle, credit);
        self.after_waiting(id, handle);
        self.nothing_to_send(id);
    }

    fn remote_credit(
        &mut self,
        to: ConnRef,
        handle: u32,
        partition: PartitionId,
        owner_slot: u32,
        grant: u64,
    ) {
        let Some(id) = self.remote_channel(to, handle) else { return };
        // The handle may have been released and opened again meanwhile.
        if self.is_same_channel(handle, partition, owner_slot) {
            self.extend_credit(id, handle, grant);
        }
    }

    /// More credit for a remote channel. The owner grants it in worthwhile portions, so each is told.
    fn extend_credit(&mut self, id: ConnId, handle: u32, grant: u64) {
        if grant > 0 {
            self.extend_and_say(id, handle, grant);
        }
    }

    // The owner's side of a consumer.

    fn remote_subscribe(&mut self, ask: RemoteSubscribe) {
        let (to, request, partition) = (ask.from, ask.request, ask.partition);
        let result = self.add_remote_consumer(ask);
        let Ok((new, seeking)) = result else {
            let result = result.map(|(new, _)| new);
            return self.answer(to.shard, Message::RemoteSubscribed { to, request, partition, result });
        };
        let consumer = &mut self.remote_consumers[new.subscriber];
        let (index, slot, subscriber) = (new.subscriber, consumer.slot, consumer.subscriber);
        if seeking {
            consumer.announce = Some((request, new));
        } else {
            self.answer(to.shard, Message::RemoteSubscribed { to, request, partition, result: Ok(new) });
        }
        self.feed_from_log(slot, subscriber);
        self.lend(index);
    }

    fn add_remote_consumer(&mut self, ask: RemoteSubscribe) -> Result<(RemoteSubscription, bool), Code> {
        let slot = self.slot_of(ask.partition).ok_or_else(|| self.topics.why_missing(ask.partition))?;
        if self.state == State::Draining {
            // What it would be owed is counted already, and its own shard may be about to say goodbye.
            return Err(Code::ServerDraining);
        }
        let entry = RemoteConsumer {
            to: ask.from,
            slot,
            partition: ask.partition,
            used: true,
            ..RemoteConsumer::vacant()
        };
        let index = self.remote_consumers.insert(entry).ok_or(Code::TooManySubscriptions)?;
        let home = Place::Remote(index).encode();
        let partition = &mut self.topics[slot].partition;
        match partition.subscribe(&self.buffers, ask.start, &ask.name, ask.resume, ask.credit, home) {
            Ok(new) => {
                self.remote_consumers[index].subscriber = new.id;
                let subscription = RemoteSubscription {
                    subscriber: index,
                    start_offset: new.start_offset,
                    log_start_offset: new.log_start_offset,
                    log_end_offset: new.log_end_offset,
                };
                Ok((subscription, new.seeking))
            }
            Err(code) => {
                self.remote_consumers.remove(index, RemoteConsumer::vacant());
                Err(code)
            }
        }
    }

    /// The consumer of this index, if it is still the one the message means.
    fn remote_consumer(&self, index: u32, partition: PartitionId, from: ConnRef) -> bool {
        self.remote_consumers
            .look_up(index)
            .is_some_and(|c| c.used && c.partition == partition && c.to == from)
    }

    fn remote_sent(&mut self, loan: Box<RemoteDeliver>, bytes: u32, blocked: bool) {
        let index = loan.subscriber;
        if !self.remote_consumer(index, loan.partition, loan.to) {
            return;
        }
        self.remote_consumers[index].lent = false;
        self.remote_consumers[index].loan = Some(loan);
        let (slot, subscriber) = (self.remote_consumers[index].slot, self.remote_consumers[index].subscriber);
        let owner = &mut self.topics[slot].partition;
        owner.sent(&mut self.buffers, subscriber, bytes);
        owner.set_blocked(subscriber, blocked);
        self.feed_from_log(slot, subscriber);
        if self.remote_consumers[index].ending {
            self.remove_remote_consumer(index);
        } else if !blocked {
            self.lend(index);
        } else {
            self.say_whole(index);
        }
    }

    /// After a short send: tells the consumer's shard when no rest of a frame will come.
    pub(super) fn say_whole(&mut self, index: u32) {
        let consumer = &self.remote_consumers[index];
        let (to, partition, subscriber, slot) =
            (consumer.to, consumer.partition, consumer.subscriber, consumer.slot);
        if consumer.lent || consumer.ending {
            return;
        }
        let owner = &self.topics[slot].partition;
        let inside = owner.in_frame(subscriber);
        let cut = owner.is_cut_off(subscriber);
        if cut || !inside {
            self.answer(to.shard, Message::RemoteWhole { to, partition, subscriber: index, cut });
        }
    }

    /// The owner has nothing to add to what was sent of a frame.
    fn remote_whole(&mut self, to: ConnRef, partition: PartitionId, subscriber: u32, cut: bool) {
        let Some(id) = self.conns.by_ref(to) else { return };
        let Some(index) = self.fed_by(id, partition, subscriber) else { return };
        if cut {
            return self.doom(id, Code::TopicDeleted);
        }
        if self.conns[id].resume == index {
            self.conns[id].resume = NONE;
            self.mark_dirty(id);
            if self.subscriptions[index].ending && !self.subscriptions[index].in_flight {
                self.end_subscription(id, index);
            }
        }
    }

    fn remote_writable(&mut self, partition: PartitionId, index: u32, from: ConnRef) {
        if self.remote_consumer(index, partition, from) {
            let (slot, subscriber) =
                (self.remote_consumers[index].slot, self.remote_consumers[index].subscriber);
            self.topics[slot].partition.set_blocked(subscriber, false);
            // What was read for it may have been given to others meanwhile.
            self.feed_from_log(slot, subscriber);
            self.lend(index);
        }
    }

    fn remote_consumer_credit(&mut self, partition: PartitionId, index: u32, from: ConnRef, limit: u64) {
        if self.remote_consumer(index, partition, from) {
            let (slot, subscriber) =
                (self.remote_consumers[index].slot, self.remote_consumers[index].subscriber);
            // A limit that goes backwards changes nothing; the connection's own shard cannot tell.
            if self.topics[slot].partition.credit(subscriber, limit).is_err() {
                self.counters.refused(Code::ConsumerCreditInvalid);
            }
            self.feed_from_log(slot, subscriber);
            self.lend(index);
        }
    }

    fn remote_unsubscribe(&mut self, partition: PartitionId, index: u32, from: ConnRef) {
        if !self.remote_consumer(index, partition, from) {
            return;
        }
        if self.remote_consumers[index].lent {
            self.remote_consumers[index].ending = true;
        } else {
            self.remove_remote_consumer(index);
        }
    }

    pub(super) fn remove_remote_consumer(&mut self, index: u32) {
        let consumer = self.remote_consumers.remove(index, RemoteConsumer::vacant());
        if self.topics.get(consumer.slot).is_some() {
            self.stop_reading(consumer.slot, consumer.subscriber);
        }
        if let Some(owned) = self.topics.get_mut(consumer.slot) {
            owned.partition.unsubscribe(&mut self.buffers, consumer.subscriber);
        }
    }

    // The consumer's side.

    fn remote_subscribed(
        &mut self,
        to: ConnRef,
        owner: usize,
        request: u64,
        partition: PartitionId,
        result: Result<RemoteSubscription, Code>,
    ) {
        let shard = ShardId(u16::try_from(owner).expect("shards are few"));
        let asked = self.conns.by_ref(to).and_then(|id| Some((id, self.asked_by(id, request)?)));
        match (asked, result) {
            (Some((id, index)), Ok(new)) => {
                let deleted = self.subscriptions[index].ending && !self.subscriptions[index].echo;
                self.subscriptions[index].feed =
                    Feed::Remote { shard, subscriber: new.subscriber, lent: None };
                if deleted {
                    self.end_subscription(id, index);
                    return self.refuse(id, request, Code::TopicDeleted, String::new());
                }
                let subscribed = Subscribed {
                    partition_count: self.subscriptions[index].partition_count,
                    shard: shard.0,
                    start_offset: new.start_offset,
                    log_start_offset: new.log_start_offset,
                    log_end_offset: new.log_end_offset,
                };
                self.say_subscribed(id, request, partition, &subscribed);
                if self.subscriptions[index].ending {
                    self.end_subscription(id, index);
                }
            }
            (Some((id, index)), Err(code)) => {
                let echo = self.subscriptions[index].echo;
                self.remove_subscription(id, index);
                self.refuse(id, request, code, String::new());
                if echo {
                    self.say_unsubscribed(id, partition);
                }
            }
            (None, Ok(new)) => {
                let message = Message::RemoteUnsubscribe { partition, subscriber: new.subscriber, from: to };
                self.answer(shard, message);
            }
            (None, Err(_)) => {}
        }
    }

    /// The subscription that waits for the answer to this request.
    fn asked_by(&self, id: ConnId, asked: u64) -> Option<u32> {
        let mut at = self.conns[id].subscriptions;
        while at != NONE {
            let entry = &self.subscriptions[at];
            if matches!(entry.feed, Feed::Asked { request } if request == asked) {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    fn remote_deliver(&mut self, owner: usize, loan: Box<RemoteDeliver>) {
        let shard = ShardId(u16::try_from(owner).expect("shards are few"));
        let fed = |id| self.fed_by(id, loan.partition, loan.subscriber);
        let index = self.conns.by_ref(loan.to).and_then(fed);
        let Some(index) = index else {
            // Gone meanwhile: everything goes back.
            return self.give_back(shard, loan, 0, true);
        };
        let id = self.subscriptions[index].conn;
        if let Feed::Remote { lent, .. } = &mut self.subscriptions[index].feed {
            *lent = Some(loan);
        }
        let conn = &self.conns[id];
        let full = conn.blocked && conn.sending.is_none();
        let over = conn.phase != Phase::Open && conn.resume != index;
        if full || over {
            self.return_lent(id, index);
        } else {
            self.mark_dirty(id);
        }
    }

    /// The subscription that a subscriber of another shard's partition feeds.
    fn fed_by(&self, id: ConnId, partition: PartitionId, fed_by: u32) -> Option<u32> {
        let mut at = self.conns[id].subscriptions;
        while at != NONE {
            let entry = &self.subscriptions[at];
            let feeds = matches!(entry.feed, Feed::Remote { subscriber, .. } if subscriber == fed_by);
            if feeds && entry.partition == partition {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    /// A loan that held nothing but a gap has been told.
    pub(super) fn return_empty_loan(&mut self, index: u32) {
        if let Feed::Remote { shard, lent, .. } = &mut self.subscriptions[index].feed
            && let Some(loan) = lent.take_if(|lent| lent.bytes == 0)
        {
            let shard = *shard;
            self.give_back(shard, loan, 0, false);
        }
    }

    /// A connection that is about to end needs no more than the rest of the frame it has begun.
    pub(super) fn return_loans(&mut self, id: ConnId) {
        let mut at = self.conns[id].subscriptions;
        while at != NONE {
            let entry = &self.subscriptions[at];
            let next = entry.next;
            let idle = !entry.in_flight && self.conns[id].resume != at;
            if idle && matches!(entry.feed, Feed::Remote { lent: Some(_), .. }) {
                self.return_lent(id, at);
            }
            at = next;
        }
    }

    /// Gives back what cannot be sent now: the socket is full, or the connection ends.
    pub(super) fn return_lent(&mut self, id: ConnId, index: u32) {
        let entry = &mut self.subscriptions[index];
        let partition = entry.partition;
        if let Feed::Remote { shard, lent, .. } = &mut entry.feed
            && let Some(mut loan) = lent.take()
        {
            let shard = *shard;
            // The owner tells a gap once, so it is told now.
            if let Some(gap) = loan.gap.take() {
                self.queue_gap(id, partition.0, gap);
            }
            self.give_back(shard, loan, 0, true);
        }
    }

    /// Answers a loan: this many bytes were sent.
    pub(super) fn give_back(&mut self, shard: ShardId, loan: Box<RemoteDeliver>, bytes: u32, blocked: bool) {
        self.answer(shard, Message::RemoteSent { loan, bytes, blocked });
    }

    pub(super) fn say_writable(
        &mut self,
        id: ConnId,
        shard: ShardId,
        partition: PartitionId,
        subscriber: u32,
    ) {
        let from = self.conn_ref(id);
        self.answer(shard, Message::RemoteWritable { partition, subscriber, from });
    }
}

impl<I: Io> Shard<I> {
    /// Producers of other shards on a partition that goes: their channels get `no_such_topic_now`.
    pub(super) fn forget_remote_producers(&mut self, slot: PartitionSlot) {
        let gone: Vec<u32> = self
            .remote_producers
            .iter()
            .filter(|(_, entry)| entry.used && entry.slot == slot)
            .map(|(index, _)| index)
            .collect();
        for index in gone {
            self.remote_producers.remove(index, vacant_producer());
        }
    }
}
