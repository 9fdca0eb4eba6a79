//! The consumer's side, sans-io: subscriptions out, verified batches and gaps as events, credit by what the
//! application has taken.
//!
//! Credit: for each partition, what the server may send is `credit_bytes` less what waits here, counted from
//! the subscription's start; a new limit is sent once it is ahead of the old one by half of `credit_bytes`.
//! After a cut the subscription goes on at the next offset not yet seen, so nothing comes twice. Where another topic has the
//! name by then, all of that one is read.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::client::core::config::{ConnectionConfig, ConsumerConfig, Partitions};
use crate::client::core::delivery::Delivery;
use crate::client::core::error::Error;
use crate::client::core::fields;
use crate::client::core::link::{Heard, Link, nanos};
use crate::client::core::reader::Frame;
use crate::client::core::verbs::{Core, Wish};
use crate::limits::{BATCH_RECORDS_MAX, FRAME_BYTES_MAX_CEILING, PARTITIONS_PER_TOPIC};
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::proto::control::{Commit, Refusal, Start, Subscribe, Subscribed};
use crate::proto::header::{GapReason, Kind};
use crate::wire::batch::BatchLimits;

/// How often a topic that does not exist is asked for again.
const WAIT_FOR_TOPIC_NS: u64 = 500_000_000;
/// Request ids of commits; those of subscriptions are the partition plus one.
const COMMIT_REQUESTS: u64 = 1 << 32;

/// What a consumer has to tell.
#[derive(Debug, Clone)]
pub enum ConsumerEvent {
    /// Records.
    Batch(Delivery),
    /// Records that will not come.
    Gap {
        /// The topic's partition.
        partition: u32,
        /// The first of them.
        from: u64,
        /// How many.
        records: u64,
        /// Why; `None` where the server did not say.
        reason: Option<GapReason>,
    },
    /// A partition's subscription stands, or stands again.
    Subscribed {
        /// The topic's partition.
        partition: u32,
        /// The server's id of it. Offsets of another id are another topic's, which had the name before.
        partition_id: u32,
        /// Where it starts.
        start_offset: u64,
        /// The oldest offset kept.
        log_start_offset: u64,
        /// The offset the next record gets.
        log_end_offset: u64,
    },
    /// The server keeps this offset for this consumer's name.
    Committed {
        /// The topic's partition.
        partition: u32,
        /// The records below it are dealt with.
        offset: u64,
    },
    /// The topic does not exist and may not be created by clients; it is asked for again.
    NoSuchTopic,
    /// The connection is there, again.
    Connected,
    /// The connection is gone or could not be made; it will be tried again.
    Disconnected {
        /// Why.
        why: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Requested,
    Active,
    RetryAt(u64),
    /// It is given up, and asked for again when the server has said so.
    Leaving,
}

#[derive(Debug)]
struct Subscription {
    partition: u32,
    stage: Stage,
    /// The server's id of the partition, while active.
    id: u32,
    /// The next offset not yet seen; unknown until the first answer.
    next_offset: Option<u64>,
    /// Nothing has come yet.
    fresh: bool,
    /// It is of another topic than before, which had the name: all of this one is to be read.
    anew: bool,
    /// The application knows which topic's partition this is: what it commits is meant for it.
    told: bool,
    /// Frame bytes received on this subscription.
    received_bytes: u64,
    /// So many bytes beyond what was granted the frame began that began furthest there.
    #[cfg(any(test, uringest_sim))]
    beyond_bytes: u64,
    /// Frame bytes of deliveries that wait for the application, of earlier connections too.
    waiting_bytes: u64,
    granted: u64,
    /// The latest commit, and the one the server has confirmed.
    commit: Option<u64>,
    committed: Option<u64>,
    /// Commits on this connection that are not answered.
    commits_out: u32,
    /// The latest commit was refused for now; it is sent again at this time.
    commit_again_ns: Option<u64>,
}

impl Subscription {
    fn new(partition: u32) -> Self {
        Subscription {
            partition,
            stage: Stage::Idle,
            id: 0,
            next_offset: None,
            fresh: true,
            anew: false,
            told: true,
            received_bytes: 0,
            #[cfg(any(test, uringest_sim))]
            beyond_bytes: 0,
            waiting_bytes: 0,
            granted: 0,
            commit: None,
            committed: None,
            commits_out: 0,
            commit_again_ns: None,
        }
    }

    fn limit(&self, credit_bytes: u64) -> u64 {
        self.received_bytes + credit_bytes.saturating_sub(self.waiting_bytes)
    }
}

/// See the module.
#[derive(Debug)]
pub struct ConsumerCore {
    config: ConsumerConfig,
    link: Link,
    subscriptions: Vec<Subscription>,
    /// The number of partitions is known.
    counted: bool,
    events: VecDeque<ConsumerEvent>,
}

impl ConsumerCore {
    /// A consumer that will want to connect. `seed`: any random number.
    ///
    /// # Errors
    /// `BadConfig`.
    pub fn new(config: ConsumerConfig, seed: u64) -> Result<Self, Error> {
        config.check()?;
        let subscriptions = match &config.partitions {
            Partitions::All => vec![Subscription::new(0)],
            Partitions::Some(list) => list.iter().map(|partition| Subscription::new(*partition)).collect(),
        };
        let counted = matches!(config.partitions, Partitions::Some(_));
        let link = Link::new(config.connection.clone(), seed);
        Ok(ConsumerCore { config, link, subscriptions, counted, events: VecDeque::new() })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// The next thing it has to tell. A batch counts as taken by the application: its credit is given back.
    pub fn poll_event(&mut self) -> Option<ConsumerEvent> {
        let event = self.events.pop_front()?;
        if let ConsumerEvent::Batch(delivery) = &event {
            let bytes = delivery.frame_bytes() as u64;
            if let Some(index) = self.index_of_partition(delivery.partition()) {
                // Of a topic that was there before it may be what a later one's partition never had.
                let waiting = &mut self.subscriptions[index].waiting_bytes;
                *waiting = waiting.saturating_sub(bytes);
                self.replenish(index);
            }
        }
        if let ConsumerEvent::Subscribed { partition, partition_id, .. } = &event
            && let Some(index) = self.index_of_partition(*partition)
        {
            let subscription = &mut self.subscriptions[index];
            subscription.told |= subscription.id == *partition_id;
        }
        Some(event)
    }

    /// Whether every partition is subscribed.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.counted && self.subscriptions.iter().all(|subscription| subscription.stage == Stage::Active)
    }

    /// The next offset of each partition that has not been seen, once known.
    pub fn positions(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.subscriptions.iter().filter_map(|s| Some((s.partition, s.next_offset?)))
    }

    /// Of each partition: by how many bytes a frame that came began beyond what was granted.
    #[cfg(any(test, uringest_sim))]
    pub fn beyond_credit(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.subscriptions.iter().map(|s| (s.partition, s.beyond_bytes))
    }

    /// Says that the records of a partition below `offset` are dealt with, under this consumer's name. Of several
    /// commits the latest counts; one that is cut off is sent again.
    ///
    /// # Errors
    /// `BadConfig`: the consumer has no name, or no such partition.
    pub fn commit(&mut self, partition: u32, offset: u64) -> Result<(), Error> {
        if self.config.name.is_empty() {
            return Err(Error::BadConfig("to commit, a consumer needs a name".to_owned()));
        }
        let Some(index) = self.index_of_partition(partition) else {
            return Err(Error::BadConfig(format!("not subscribed to partition {partition}")));
        };
        // What it has of a topic that is gone needs no commit.
        if self.subscriptions[index].told {
            self.subscriptions[index].commit = Some(offset);
            self.send_commit(index);
        }
        Ok(())
    }

    /// Whether the server has confirmed every commit.
    #[must_use]
    pub fn commits_settled(&self) -> bool {
        self.subscriptions.iter().all(|subscription| subscription.commit == subscription.committed)
    }

    fn index_of_partition(&self, partition: u32) -> Option<usize> {
        let at_its_number =
            self.subscriptions.get(partition as usize).is_some_and(|s| s.partition == partition);
        if at_its_number {
            return Some(partition as usize);
        }
        self.subscriptions.iter().position(|subscription| subscription.partition == partition)
    }

    fn index_of_id(&self, id: u32) -> Option<usize> {
        self.subscriptions.iter().position(|s| s.stage == Stage::Active && s.id == id)
    }

    fn send_commit(&mut self, index: usize) {
        let subscription = &mut self.subscriptions[index];
        subscription.commit_again_ns = None;
        if let (Stage::Active, Some(offset)) = (subscription.stage, subscription.commit) {
            let request = COMMIT_REQUESTS + u64::from(subscription.partition);
            let frame = Commit { name: self.config.name.clone(), offset }.frame(request, subscription.id);
            subscription.commits_out += 1;
            self.link.push(frame);
        }
    }

    fn replenish(&mut self, index: usize) {
        let subscription = &mut self.subscriptions[index];
        let limit = subscription.limit(self.config.credit_bytes);
        if subscription.stage == Stage::Active
            && limit >= subscription.granted + self.config.credit_bytes.div_ceil(2)
        {
            subscription.granted = limit;
            self.link.push(fields::credit(subscription.id, limit));
        }
    }

    fn subscribe(&mut self, index: usize) {
        let subscription = &mut self.subscriptions[index];
        subscription.stage = Stage::Requested;
        subscription.received_bytes = 0;
        subscription.granted = subscription.limit(self.config.credit_bytes);
        let start = if subscription.anew { Start::Earliest } else { self.config.start };
        let subscribe = Subscribe {
            topic: self.config.topic.clone(),
            partition: subscription.partition,
            start: subscription.next_offset.map_or(start, Start::Offset),
            name: self.config.name.clone(),
            resume: self.config.resume && subscription.next_offset.is_none(),
            credit: subscription.granted,
        };
        self.link.push(subscribe.frame(u64::from(subscription.partition) + 1));
    }

    fn subscribe_idle(&mut self, now_ns: u64) {
        // How many there are, the first one's answer says.
        let known = if self.counted { self.subscriptions.len() } else { 1 };
        for index in 0..known {
            match self.subscriptions[index].stage {
                Stage::Idle => self.subscribe(index),
                Stage::RetryAt(at) if at <= now_ns => self.subscribe(index),
                _ => {}
            }
            if self.subscriptions[index].commit_again_ns.is_some_and(|at| at <= now_ns) {
                self.send_commit(index);
            }
        }
    }

    fn on_subscribed(&mut self, frame: &Frame, now_ns: u64) {
        let subscribed = match Subscribed::decode(frame.body()) {
            Ok(subscribed) => subscribed,
            Err(code) => return self.link.fail(Error::Protocol { code, detail: "in subscribed".to_owned() }),
        };
        let partition = u32::try_from(frame.header.sequence.saturating_sub(1)).unwrap_or(u32::MAX);
        let Some(index) = self.index_of_partition(partition) else { return };
        let subscription = &mut self.subscriptions[index];
        if subscription.stage != Stage::Requested {
            return;
        }
        let is_another = subscription.next_offset.is_some() && subscription.id != frame.header.channel;
        if is_another && !mutation::on(Mutation::KeepPlace) {
            return self.begin_anew(index, frame.header.channel);
        }
        subscription.stage = Stage::Active;
        subscription.id = frame.header.channel;
        subscription.commits_out = 0;
        // It starts below only where the partition ends below: it began anew, and the old place means nothing.
        let next = subscription
            .next_offset
            .map_or(subscribed.start_offset, |next| next.min(subscribed.start_offset));
        subscription.next_offset = Some(next);
        self.events.push_back(ConsumerEvent::Subscribed {
            partition,
            partition_id: frame.header.channel,
            start_offset: subscribed.start_offset,
            log_start_offset: subscribed.log_start_offset,
            log_end_offset: subscribed.log_end_offset,
        });
        if self.subscriptions[index].commit != self.subscriptions[index].committed {
            self.send_commit(index);
        }
        if !self.counted {
            let count = subscribed.partition_count;
            if count == 0 || count > PARTITIONS_PER_TOPIC {
                let detail = format!("subscribed names {count} partitions");
                return self.link.fail(Error::Protocol { code: Code::BadControlBody, detail });
            }
            self.counted = true;
            let known = u32::try_from(self.subscriptions.len()).unwrap_or(u32::MAX);
            let anew = self.subscriptions[index].anew;
            let more = |partition| Subscription { anew, ..Subscription::new(partition) };
            self.subscriptions.extend((known..count).map(more));
            self.subscriptions.truncate(count as usize);
            self.subscribe_idle(now_ns);
        }
        if self.is_subscribed() {
            self.link.progress();
        }
    }

    /// The partition is another topic's than before: the first was deleted while there was no connection, and one of its
    /// name is there. What was known of the old one means nothing in it: neither place nor commits.
    fn begin_anew(&mut self, index: usize, id: u32) {
        let subscription = &mut self.subscriptions[index];
        let Subscription { partition, waiting_bytes, .. } = *subscription;
        let fresh = Subscription::new(partition);
        *subscription =
            Subscription { stage: Stage::Leaving, id, waiting_bytes, anew: true, told: false, ..fresh };
        self.link.push(fields::unsubscribe(id));
    }

    fn on_unsubscribed(&mut self, frame: &Frame, now_ns: u64) {
        let id = frame.header.channel;
        let left = self.subscriptions.iter_mut().find(|of| of.stage == Stage::Leaving && of.id == id);
        if let Some(subscription) = left {
            subscription.stage = Stage::Idle;
            self.subscribe_idle(now_ns);
        }
    }

    fn on_deliver(&mut self, frame: Frame) {
        let Some(index) = self.index_of_id(frame.header.channel) else { return };
        let (offset, span) = (frame.header.offset, u64::from(frame.header.offset_span));
        let limits = self.batch_limits();
        let subscription = &mut self.subscriptions[index];
        let partition = subscription.partition;
        #[cfg(any(test, uringest_sim))]
        {
            let beyond = (subscription.received_bytes + 1).saturating_sub(subscription.granted);
            subscription.beyond_bytes = subscription.beyond_bytes.max(beyond);
        }
        subscription.received_bytes += frame.bytes.len() as u64;
        subscription.fresh = false;
        let next = subscription.next_offset.unwrap_or(offset);
        if offset + span <= next {
            return self.replenish(index);
        }
        let corrupt = |code| Error::Corrupt { partition, offset, code };
        if frame.damaged {
            return self.link.fail(corrupt(Code::BadBodyChecksum));
        }
        if offset > next {
            let gap = ConsumerEvent::Gap { partition, from: next, records: offset - next, reason: None };
            self.events.push_back(gap);
        }
        let skip =
            u32::try_from(next.saturating_sub(offset)).unwrap_or(u32::MAX).min(frame.header.record_count);
        let delivery = match Delivery::new(partition, frame.header, frame.bytes, skip, limits) {
            Ok(delivery) => delivery,
            Err(code) => return self.link.fail(corrupt(code)),
        };
        subscription.next_offset = Some(offset + span);
        if !delivery.is_empty() {
            subscription.waiting_bytes += delivery.frame_bytes() as u64;
            self.events.push_back(ConsumerEvent::Batch(delivery));
        }
        self.link.progress();
    }

    fn on_gap(&mut self, frame: &Frame) {
        let Some(index) = self.index_of_id(frame.header.channel) else { return };
        let (from, records, reason) = fields::gap(&frame.header);
        let subscription = &mut self.subscriptions[index];
        let end = from.saturating_add(records);
        let next = subscription.next_offset.unwrap_or(from);
        // The first subscription's first gap lies before its start: what was asked for and is gone.
        let from = if std::mem::take(&mut subscription.fresh) { from } else { from.max(next) };
        if end <= from {
            return;
        }
        subscription.next_offset = Some(end.max(next));
        let partition = subscription.partition;
        self.events.push_back(ConsumerEvent::Gap { partition, from, records: end - from, reason });
    }

    fn on_committed(&mut self, frame: &Frame) {
        let partition =
            u32::try_from(frame.header.sequence.saturating_sub(COMMIT_REQUESTS)).unwrap_or(u32::MAX);
        let Some(index) = self.index_of_partition(partition) else { return };
        let subscription = &mut self.subscriptions[index];
        if subscription.stage != Stage::Active {
            return;
        }
        let offset = fields::committed_offset(&frame.header);
        subscription.committed = Some(offset);
        subscription.commits_out = subscription.commits_out.saturating_sub(1);
        if subscription.commits_out == 0 {
            // Where more was committed than there is, the answer is as much as there is.
            subscription.commit = subscription.commit.map(|commit| commit.min(offset));
        }
        self.events.push_back(ConsumerEvent::Committed { partition, offset });
    }

    fn on_refused(&mut self, request: u64, refusal: Refusal, now_ns: u64) {
        let Refusal { code, retry_after_us, detail, .. } = refusal;
        let is_commit = request >= COMMIT_REQUESTS;
        let number = if is_commit { request - COMMIT_REQUESTS } else { request - 1 };
        let partition = u32::try_from(number).unwrap_or(u32::MAX);
        let Some(index) = self.index_of_partition(partition) else { return };
        let wait_ns = if code == Code::UnknownTopic && self.config.wait_for_topic && !is_commit {
            self.events.push_back(ConsumerEvent::NoSuchTopic);
            self.link.progress();
            WAIT_FOR_TOPIC_NS
        } else if code.retryable() {
            self.link.stall(now_ns, &format!("the server refuses for now: {code}: {detail}"));
            (u64::from(retry_after_us) * 1000).max(nanos(self.config.connection.backoff_min))
        } else {
            return self.link.fail(Error::Refused { code, detail });
        };
        if is_commit {
            let out = &mut self.subscriptions[index].commits_out;
            *out = out.saturating_sub(1);
            self.subscriptions[index].commit_again_ns = Some(now_ns + wait_ns);
        } else {
            self.subscriptions[index].stage = Stage::RetryAt(now_ns + wait_ns);
        }
    }

    fn batch_limits(&self) -> BatchLimits {
        match self.link.welcome() {
            Some(welcome) => BatchLimits {
                record_bytes_max: welcome.record_bytes_max.min(FRAME_BYTES_MAX_CEILING),
                records_max: welcome.batch_records_max,
            },
            None => BatchLimits { record_bytes_max: FRAME_BYTES_MAX_CEILING, records_max: BATCH_RECORDS_MAX },
        }
    }
}

impl Core for ConsumerCore {
    fn wish(&self) -> Wish {
        self.link.wish()
    }

    fn connected(&mut self, now_ns: u64) {
        self.link.connected(now_ns);
    }

    fn disconnected(&mut self, now_ns: u64, why: &str) {
        if self.link.wish() == Wish::End {
            return;
        }
        for subscription in &mut self.subscriptions {
            subscription.stage = Stage::Idle;
            subscription.commits_out = 0;
        }
        // The topic may be another when it is there again, with more partitions or fewer.
        self.counted &= matches!(self.config.partitions, Partitions::Some(_));
        let why = self.link.disconnected(now_ns, why);
        self.events.push_back(ConsumerEvent::Disconnected { why });
    }

    fn frame(&mut self, frame: Frame, now_ns: u64) {
        let frame = match self.link.heard(frame, now_ns) {
            Heard::Up => {
                self.events.push_back(ConsumerEvent::Connected);
                return self.subscribe_idle(now_ns);
            }
            Heard::Nothing => return,
            Heard::Refused { request, refusal } => return self.on_refused(request, refusal, now_ns),
            Heard::Other(frame) => frame,
        };
        match frame.header.kind {
            Kind::Deliver => self.on_deliver(frame),
            Kind::Subscribed => self.on_subscribed(&frame, now_ns),
            Kind::Gap => self.on_gap(&frame),
            Kind::Committed => self.on_committed(&frame),
            Kind::Unsubscribe => self.on_unsubscribed(&frame, now_ns),
            _ => {}
        }
    }

    fn garbled(&mut self, error: Error, _now_ns: u64) {
        self.link.garbled(error);
    }

    fn transmit(&mut self, _bytes_max: usize, now_ns: u64, out: &mut Vec<Bytes>) {
        self.link.transmit(now_ns, out);
    }

    fn has_output(&self, _now_ns: u64) -> bool {
        self.link.has_output()
    }

    fn expire(&mut self, now_ns: u64) {
        self.link.expire(now_ns);
        if self.link.is_up() {
            self.subscribe_idle(now_ns);
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        let of = |subscription: &Subscription| match subscription.stage {
            Stage::RetryAt(at) => Some(at),
            Stage::Active => subscription.commit_again_ns,
            Stage::Idle | Stage::Requested | Stage::Leaving => None,
        };
        let retry = self.subscriptions.iter().filter_map(of).filter(|_| self.link.is_up());
        retry.chain(self.link.next_deadline()).min()
    }

    fn failure(&self) -> Option<&Error> {
        self.link.failure()
    }

    fn buffered_bytes(&self) -> usize {
        0
    }

    fn pinned_bytes_max(&self) -> usize {
        self.config.pinned_bytes_max
    }

    fn connection(&self) -> &ConnectionConfig {
        self.link.config()
    }

    fn close(&mut self) {
        self.link.end();
    }
}
