//! Producers' credit: who is granted how much, and who waits for it.
//!
//! A producer that has less than it needs ([`Demand`]) waits in its partition's queue, whatever shard it is of. While
//! somebody waits nobody else is granted anything, and the first comes next; what there is is shared by all that wait.
//! No producer is kept at more than an equal part for each that has published of late; one alone has what it wants.
//!
//! Grants are backed by room, and a grant cannot be taken back. So producers that do little with theirs could keep all
//! others waiting. Where somebody waits or gets little although the partition has room, all grants are looked through:
//! what is far more than its producer has used since the last look, at least `LOOK_NS` ago, is idle, and its room is
//! promised anew. Should the idle ones come back all together, some are answered that there is no room now. A grant that
//! is not used at all is idle at the second look: hence each producer that waits is served, however many there are, as
//! long as consumers make room.

use std::collections::VecDeque;

use crate::ids::ConnId;
use crate::io::Io;
use crate::limits::{CREDIT_LEAST_BYTES, CREDIT_STARTER_BYTES};
use crate::metrics::Counter;
use crate::mutation::{self, Mutation};
use crate::proto::header::{FrameHeader, Kind};

use super::Shard;
use super::channels::Home;
use super::demand::{Demand, Offer, Want};
use super::messages::Message;
use super::topics::PartitionSlot;

/// Between two looks for idle credit where somebody waits.
const LOOK_NS: u64 = 20_000_000;
/// A producer is busy that has published in this period of 2^26 ns, or in the one before.
const PERIOD_BITS: u32 = 26;
/// What was found idle is looked at again after this time although nobody waits any more.
const REVIEW_NS: u64 = 200_000_000;
/// Producers that may wait for one partition's credit before the queue grows.
const WAITING: usize = 16;

/// A producer that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A channel of this shard.
    Here(u32),
    /// A producer of another shard, by its `owner_slot`.
    Elsewhere(u32),
}

/// One partition's producers that wait, in order.
#[derive(Debug)]
pub(super) struct CreditQueue {
    waiting: VecDeque<Waiter>,
    /// Channels that are open on the partition, of all shards.
    channels: u64,
    /// The period in which producers are counted.
    period: u64,
    /// Producers that have published in it, and in the one before.
    busy: u64,
    busy_before: u64,
    /// As it was last worked out.
    offer: Offer,
    /// The queue is in the shard's list of those to look at.
    listed: bool,
    /// Idle credit found by a look that goes on.
    idle: u64,
}

impl CreditQueue {
    pub(super) fn new(frame_bytes_max: u32, ring_bytes: u64) -> CreditQueue {
        CreditQueue {
            waiting: VecDeque::with_capacity(WAITING),
            channels: 0,
            period: 0,
            busy: 0,
            busy_before: 0,
            offer: Offer {
                largest: u64::from(frame_bytes_max).min(ring_bytes / 2),
                starter: CREDIT_STARTER_BYTES,
                share: u64::MAX,
            },
            listed: false,
            idle: 0,
        }
    }

    /// A channel was opened.
    pub(super) fn opened(&mut self) {
        self.channels += 1;
    }

    /// A channel was closed.
    pub(super) fn closed(&mut self, waiter: Waiter, demand: &Demand) {
        self.channels -= 1;
        if demand.waits && !mutation::on(Mutation::KeepListed) {
            self.waiting.retain(|&waiting| waiting != waiter);
        }
    }

    /// Who waits.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn waiting(&self) -> impl ExactSizeIterator<Item = Waiter> {
        self.waiting.iter().copied()
    }

    /// The topic is gone, and with it what channels of this shard could wait for.
    pub(super) fn forget_local(&mut self) {
        self.waiting.retain(|waiting| matches!(waiting, Waiter::Elsewhere(_)));
    }

    /// Counts a producer that publishes.
    #[inline]
    fn count(&mut self, demand: &mut Demand, period: u64) {
        if demand.counts_in(period) {
            if self.period != period {
                self.busy_before = if self.period + 1 == period { self.busy } else { 0 };
                self.busy = 0;
                self.period = period;
            }
            self.busy += 1;
        }
    }

    /// First grants are small where many share the partition: together they leave room for those that publish.
    fn offer(&mut self, whole: u64) -> Offer {
        let starter = whole / (8 * self.channels.max(1));
        self.offer.starter = starter.clamp(CREDIT_LEAST_BYTES, CREDIT_STARTER_BYTES);
        self.offer.share = whole / self.busy.max(self.busy_before).max(1);
        self.offer
    }
}

enum Served {
    /// It has got something, or needs nothing any more.
    Yes,
    /// There is not enough; `room`: there would be if nothing were promised.
    No { room: bool },
}

impl<I: Io> Shard<I> {
    /// Grants a channel of this shard more credit where it wants some, or lets it wait.
    pub(super) fn top_up(&mut self, id: ConnId, handle: u32) {
        let Home::Local { slot, .. } = self.channels[handle].home else { return };
        let granted = self.credit_channel(slot, handle);
        if granted > 0 {
            self.extend_and_say(id, handle, granted);
        }
    }

    /// What a channel of this shard is granted now; the caller adds it to the channel's limit.
    pub(super) fn credit_channel(&mut self, slot: PartitionSlot, handle: u32) -> u64 {
        let channel = &mut self.channels[handle];
        self.topics[slot].credit.count(&mut channel.demand, self.clock.mono_ns >> PERIOD_BITS);
        let (demand, available) = (channel.demand, channel.available());
        let granted = self.grant_at_once(slot, &demand, available, Waiter::Here(handle));
        self.note_grant(Waiter::Here(handle), granted);
        granted
    }

    /// The same for a producer of another shard, whose account this shard keeps.
    pub(super) fn credit_remote(&mut self, slot: PartitionSlot, owner_slot: u32) -> u64 {
        let producer = &mut self.remote_producers[owner_slot];
        self.topics[slot].credit.count(&mut producer.demand, self.clock.mono_ns >> PERIOD_BITS);
        let (demand, available) = (producer.demand, producer.granted);
        let granted = self.grant_at_once(slot, &demand, available, Waiter::Elsewhere(owner_slot));
        self.remote_producers[owner_slot].granted += granted;
        self.note_grant(Waiter::Elsewhere(owner_slot), granted);
        granted
    }

    fn demand(&mut self, waiter: Waiter) -> &mut Demand {
        match waiter {
            Waiter::Here(handle) => &mut self.channels[handle].demand,
            Waiter::Elsewhere(owner_slot) => &mut self.remote_producers[owner_slot].demand,
        }
    }

    fn note_grant(&mut self, waiter: Waiter, granted: u64) {
        let now = self.clock.mono_ns;
        if granted > 0 {
            self.demand(waiter).got(now);
        }
    }

    /// Grants to whom has not waited: nothing while others wait. Queues whom is left with less than it needs.
    fn grant_at_once(&mut self, slot: PartitionSlot, demand: &Demand, available: u64, waiter: Waiter) -> u64 {
        if demand.waits || demand.content(available, self.topics[slot].credit.offer) {
            return 0;
        }
        let offer = self.offer(slot);
        let Some(want) = demand.want(available, offer, self.clock.mono_ns) else { return 0 };
        let owned = &mut self.topics[slot];
        let mut granted = 0;
        if owned.credit.waiting.is_empty() {
            // Something is left for the next one.
            let portion = owned.partition.credit_room().free / 2;
            granted = self.grant_some(slot, want, portion);
        }
        if granted == 0 && want.waits {
            self.demand(waiter).waits = true;
            self.wait_for_credit(slot, waiter);
        }
        granted
    }

    fn offer(&mut self, slot: PartitionSlot) -> Offer {
        let owned = &mut self.topics[slot];
        let whole = owned.partition.credit_room().whole;
        owned.credit.offer(whole)
    }

    /// Grants this portion, but at least `want.least` or nothing.
    fn grant_some(&mut self, slot: PartitionSlot, want: Want, portion: u64) -> u64 {
        let partition = &mut self.topics[slot].partition;
        self.credit_short |= portion < want.most / 2;
        let little = portion < want.least;
        if little && !want.waits || partition.credit_room().free < want.least {
            return 0;
        }
        let portion = portion.clamp(want.least, want.most);
        let granted = partition.grant(portion);
        assert_eq!(granted, portion, "a part of what is free can be granted");
        granted
    }

    /// The channel's topic is gone. Who waits for credit to send its next frame would never hear of it.
    pub(super) fn let_ask(&mut self, handle: u32) {
        let channel = &mut self.channels[handle];
        let (id, available) = (channel.conn, channel.available());
        let missing = u64::from(self.limits.frame_bytes_max).saturating_sub(available);
        if missing > 0 && self.conns[id].is_live() {
            self.extend_and_say(id, handle, missing);
        }
    }

    pub(super) fn extend_and_say(&mut self, id: ConnId, handle: u32, granted: u64) {
        let channel = &mut self.channels[handle];
        channel.extend(granted);
        let limit = channel.limit;
        self.say_credit(id, handle, limit);
    }

    pub(super) fn say_credit(&mut self, id: ConnId, handle: u32, limit: u64) {
        let frame = FrameHeader { channel: handle, offset: limit, ..FrameHeader::new(Kind::Credit) }.alone();
        self.counters.add(Counter::CreditFramesSent, 1);
        self.say(id, &frame);
    }

    fn wait_for_credit(&mut self, slot: PartitionSlot, waiter: Waiter) {
        let due = self.credit_looked_ns + LOOK_NS;
        self.credit_due_ns = self.credit_due_ns.min(due.max(self.clock.mono_ns));
        let queue = &mut self.topics[slot].credit;
        queue.waiting.push_back(waiter);
        if !queue.listed {
            queue.listed = true;
            self.starving.push(slot);
        }
    }

    /// Serves the producers that wait, as far as there is room.
    pub(super) fn feed_starving(&mut self) {
        let now = self.clock.mono_ns;
        self.credit_due_ns = u64::MAX;
        let mut waits = !self.starving.is_empty() && self.serve_starving();
        let pause_ns = if waits || self.credit_short { LOOK_NS } else { REVIEW_NS };
        if (waits || self.credit_short || self.credit_idle) && now >= self.credit_looked_ns + pause_ns {
            self.look_for_idle_credit();
            waits = waits && self.serve_starving();
        }
        if waits {
            self.credit_due_ns = self.credit_looked_ns + LOOK_NS;
        }
    }

    /// Says whether somebody still waits where there would be room if nothing were promised.
    fn serve_starving(&mut self) -> bool {
        let mut starving = std::mem::take(&mut self.starving);
        let mut short = false;
        starving.retain(|&slot| {
            if self.topics.get(slot).is_none() {
                return false;
            }
            short |= self.serve_queue(slot);
            let queue = &mut self.topics[slot].credit;
            queue.listed = !queue.waiting.is_empty();
            queue.listed
        });
        debug_assert!(self.starving.is_empty(), "serving makes nobody wait");
        self.starving = starving;
        short
    }

    /// Serves one partition's queue from its front; says whether the next one waits for what others hold.
    fn serve_queue(&mut self, slot: PartitionSlot) -> bool {
        while let Some(&first) = self.topics[slot].credit.waiting.front() {
            match self.serve(slot, first) {
                Served::Yes => {
                    self.topics[slot].credit.waiting.pop_front();
                }
                Served::No { room } => return room,
            }
        }
        false
    }

    fn serve(&mut self, slot: PartitionSlot, waiter: Waiter) -> Served {
        let offer = self.offer(slot);
        let now = self.clock.mono_ns;
        let want = match waiter {
            Waiter::Here(handle) => {
                let channel = &self.channels[handle];
                let here = matches!(channel.home, Home::Local { slot: at, .. } if at == slot);
                let live = here && self.conns[channel.conn].is_live();
                channel.demand.want(channel.available(), offer, now).filter(|_| live)
            }
            Waiter::Elsewhere(owner_slot) => {
                let producer = &self.remote_producers[owner_slot];
                producer.demand.want(producer.granted, offer, now)
            }
        };
        let Some(want) = want else {
            self.demand(waiter).waits = false;
            return Served::Yes;
        };
        let owned = &mut self.topics[slot];
        let portion = owned.partition.credit_room().free / (owned.credit.waiting.len() as u64 + 1);
        // Who has got enough meanwhile would not be served without the queue.
        let granted = self.grant_some(slot, Want { waits: true, ..want }, portion);
        if granted == 0 {
            return Served::No { room: self.topics[slot].partition.credit_room().whole >= want.least };
        }
        self.note_grant(waiter, granted);
        match waiter {
            Waiter::Here(handle) => self.extend_and_say(self.channels[handle].conn, handle, granted),
            Waiter::Elsewhere(owner_slot) => self.send_grant(slot, owner_slot, granted),
        }
        Served::Yes
    }

    fn send_grant(&mut self, slot: PartitionSlot, owner_slot: u32, grant: u64) {
        let producer = &mut self.remote_producers[owner_slot];
        producer.granted += grant;
        let (to, channel) = (producer.to, producer.channel);
        let partition = self.topics[slot].id;
        self.answer(to.shard, Message::RemoteCredit { to, channel, partition, owner_slot, grant });
    }

    /// Finds what of all partitions' credit lies idle.
    fn look_for_idle_credit(&mut self) {
        self.credit_looked_ns = self.clock.mono_ns;
        self.credit_short = false;
        for channel in self.channels.iter_mut() {
            if let Home::Local { slot, .. } = channel.home {
                self.topics[slot].credit.idle += channel.demand.idle(channel.available());
            }
        }
        for producer in self.remote_producers.iter_mut().filter(|producer| producer.used) {
            self.topics[producer.slot].credit.idle += producer.demand.idle(producer.granted);
        }
        self.credit_idle = false;
        for slot in self.topics.slots() {
            let Some(owned) = self.topics.get_mut(slot) else { continue };
            let idle = std::mem::take(&mut owned.credit.idle);
            if idle > owned.partition.idle_credit() {
                self.counters.add(Counter::CreditForgiven, 1);
            }
            owned.partition.set_idle_credit(idle);
            self.credit_idle |= idle > 0;
        }
    }
}
