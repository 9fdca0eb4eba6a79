//! The producer's side, sans-io: records in, publish frames out, acknowledgements as events.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::client::core::batcher::Batcher;
use crate::client::core::channel::{Channel, Stage};
use crate::client::core::config::{ConnectionConfig, ProducerConfig, WindowPolicy};
use crate::client::core::error::{Error, SendError};
use crate::client::core::fields;
use crate::client::core::link::{Heard, Link, nanos};
use crate::client::core::partitioner::{Partitioner, partition_of_key};
use crate::client::core::reader::Frame;
use crate::client::core::verbs::{Core, Wish};
use crate::limits::PARTITIONS_PER_TOPIC;
use crate::proto::code::Code;
use crate::proto::control::{Open, Opened, Refusal};
use crate::proto::header::{AckLevel, FLAG_DUPLICATE, FrameHeader, Kind};

/// Refused batches whose tickets can still be asked for.
const REFUSALS_KEPT: usize = 1024;
/// Room for what surrounds a record that is alone in its frame.
const FRAME_OVERHEAD_BYTES: usize = 256;

/// One record to publish, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record<'a> {
    /// The application's bytes.
    pub payload: &'a [u8],
    /// Decides the partition, and goes with the record. Empty is none.
    pub key: Option<&'a [u8]>,
    /// The application's time in ns since 1970 UTC; 0 for none.
    pub time_ns: u64,
    /// Opaque to the server; may be empty.
    pub header: &'a [u8],
    /// The record goes here, whatever the partitioner says.
    pub partition: Option<u32>,
    /// Of no use after this time (ns since 1970 UTC); 0 for never. The server refuses a batch once the
    /// latest of its records' deadlines has passed; a record without one keeps its batch alive.
    pub deadline_ns: u64,
}

impl<'a> Record<'a> {
    /// A payload and nothing else.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Record { payload, ..Record::default() }
    }

    /// With a key.
    #[must_use]
    pub fn keyed(payload: &'a [u8], key: &'a [u8]) -> Self {
        Record { payload, key: Some(key), ..Record::default() }
    }
}

/// Names a record that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Where it goes.
    pub partition: u32,
    /// Its number among this producer's records on that partition, from 0.
    pub record: u64,
}

/// What became of a ticket's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketStatus {
    /// Not decided.
    Pending,
    /// The server has it.
    Acked,
    /// The server refused its batch for good.
    Refused(Code),
}

/// What became of a record that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Taken.
    Taken(Ticket),
    /// Dropped and counted: the buffer is full and the policy is `Drop`.
    Dropped,
}

/// What a producer has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProducerEvent {
    /// The topic's partitions are known: records are taken.
    Ready {
        /// How many there are.
        partitions: u32,
    },
    /// The server has these records.
    Acked {
        /// Where.
        partition: u32,
        /// The server's id of it. Another one than before is another topic's, which was made when the first was deleted.
        partition_id: u32,
        /// By their ticket's number.
        records: Range<u64>,
        /// The offset of the first; `None` where an acknowledgement covered several batches (it names the last
        /// one's) or was learned from a reconnect.
        offset: Option<u64>,
        /// The server had them already: an acknowledgement was lost.
        duplicate: bool,
        /// What was promised of them.
        level: AckLevel,
    },
    /// The server takes nothing for now: what there is is kept, and sent again after a while. Told each time.
    Deferred {
        /// Where.
        partition: u32,
        /// Why.
        code: Code,
        /// The server's words.
        detail: String,
    },
    /// The server refused these records for good.
    Refused {
        /// Where.
        partition: u32,
        /// By their ticket's number.
        records: Range<u64>,
        /// Why.
        code: Code,
        /// The server's words.
        detail: String,
    },
    /// The server has come back without batches that it had acknowledged below level `durable`, or had refused
    /// for good before it went. What is unacknowledged follows behind them, once.
    CameBackBehind {
        /// Where.
        partition: u32,
        /// So many batches at the most are gone.
        batches: u64,
    },
    /// The server has forgotten this producer (it restarted, or evicted it): these unacknowledged batches are
    /// sent again under a new producer id, and may be there twice.
    Renumbered {
        /// Where.
        partition: u32,
        /// How many.
        batches: usize,
    },
    /// The connection is there, again.
    Connected,
    /// The connection is gone or could not be made; it will be tried again.
    Disconnected {
        /// Why.
        why: String,
    },
}

/// See the module.
#[derive(Debug)]
pub struct ProducerCore {
    config: ProducerConfig,
    link: Link,
    /// Empty until the first `opened` has said how many there are; then one for each partition.
    channels: Vec<Channel>,
    probing: bool,
    /// Bytes of closed batches.
    queued_bytes: usize,
    sticky: u32,
    next_turn: usize,
    records: u64,
    dropped_records: u64,
    /// The lowest number of a record that was refused.
    first_refused: Option<u64>,
    /// The lowest level of an acknowledgement so far.
    acknowledged_level: Option<AckLevel>,
    first_refusal: Option<(Code, String)>,
    refusals: VecDeque<(u32, Range<u64>, Code)>,
    events: VecDeque<ProducerEvent>,
    linger_ns: u64,
    producer_id: u64,
}

impl ProducerCore {
    /// A producer that will want to connect. `seed`: any random number, different for each producer; its id
    /// comes from it.
    ///
    /// # Errors
    /// `BadConfig`.
    pub fn new(config: ProducerConfig, seed: u64) -> Result<Self, Error> {
        config.check()?;
        let mut link = Link::new(config.connection.clone(), seed);
        let producer_id = link.random().producer_id();
        Ok(ProducerCore {
            linger_ns: nanos(config.linger),
            config,
            link,
            channels: Vec::new(),
            probing: false,
            queued_bytes: 0,
            sticky: 0,
            next_turn: 0,
            records: 0,
            dropped_records: 0,
            first_refused: None,
            acknowledged_level: None,
            first_refusal: None,
            refusals: VecDeque::new(),
            events: VecDeque::new(),
            producer_id,
        })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ProducerConfig {
        &self.config
    }

    /// How many partitions the topic has, once known.
    #[must_use]
    pub fn partitions(&self) -> Option<u32> {
        u32::try_from(self.channels.len()).ok().filter(|count| *count > 0)
    }

    /// Takes a record.
    ///
    /// # Errors
    /// [`SendError`]; the record was not taken.
    pub fn send(&mut self, record: &Record<'_>, now_ns: u64) -> Result<Sent, SendError> {
        self.check_size(record)?;
        let partition = self.partition_for(record)?;
        let channel = &mut self.channels[partition as usize];
        let fits = channel.batcher.fits(record);
        if (!fits || channel.batcher.is_empty())
            && self.queued_bytes + channel.batcher.bytes() >= self.config.buffer_bytes
        {
            if self.config.window == WindowPolicy::Drop {
                self.dropped_records += 1;
                return Ok(Sent::Dropped);
            }
            return Err(SendError::Full);
        }
        if !fits {
            self.queued_bytes += channel.close_batch();
        }
        let ticket = Ticket { partition, record: channel.records };
        channel.batcher.push(record, self.records, now_ns);
        channel.took_record(record.deadline_ns);
        self.records += 1;
        if channel.batcher.is_full() {
            self.queued_bytes += channel.close_batch();
            self.turn_sticky(partition);
        }
        if self.channels[partition as usize].stage == Stage::Closed && self.link.is_up() {
            self.open(partition);
        }
        Ok(Sent::Taken(ticket))
    }

    /// Sends open batches without waiting for their linger.
    pub fn flush(&mut self) {
        for channel in &mut self.channels {
            channel.flush = !channel.batcher.is_empty();
        }
    }

    /// Records taken so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Records dropped so far by the policy `Drop`.
    #[must_use]
    pub fn dropped_records(&self) -> u64 {
        self.dropped_records
    }

    /// So many of the first records, in the order they were given, are all acknowledged.
    #[must_use]
    pub fn acknowledged_prefix(&self) -> u64 {
        let resolved = self.resolved_prefix();
        self.first_refused.map_or(resolved, |refused| refused.min(resolved))
    }

    /// So many of the first records are all acknowledged or refused.
    #[must_use]
    pub fn resolved_prefix(&self) -> u64 {
        self.channels.iter().filter_map(Channel::oldest_global).min().unwrap_or(self.records)
    }

    /// What holds of every record acknowledged so far; `None` while there is none.
    #[must_use]
    pub fn acknowledged_level(&self) -> Option<AckLevel> {
        self.acknowledged_level
    }

    /// The first refusal for good of a batch, if there was one.
    #[must_use]
    pub fn first_refusal(&self) -> Option<&(Code, String)> {
        self.first_refusal.as_ref()
    }

    /// Whether batches are on the way to a partition whose answers are due.
    #[cfg(any(test, uringest_sim))]
    #[must_use]
    pub fn awaits_answers_of(&self, partition: u32) -> bool {
        self.channels.get(partition as usize).is_some_and(Channel::awaits_answers)
    }

    /// Whether every record is acknowledged or refused.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.channels.iter().all(Channel::is_idle)
    }

    /// What became of a record. Refusals are remembered for the latest 1024 refused batches.
    #[must_use]
    pub fn status(&self, ticket: Ticket) -> TicketStatus {
        let refusal = self.refusals.iter().find(|(partition, records, _)| {
            *partition == ticket.partition && records.contains(&ticket.record)
        });
        if let Some((_, _, code)) = refusal {
            return TicketStatus::Refused(*code);
        }
        match self.channels.get(ticket.partition as usize) {
            Some(channel) if ticket.record < channel.oldest_record() => TicketStatus::Acked,
            _ => TicketStatus::Pending,
        }
    }

    /// The next thing it has to tell.
    pub fn poll_event(&mut self) -> Option<ProducerEvent> {
        self.events.pop_front()
    }

    fn check_size(&self, record: &Record<'_>) -> Result<(), SendError> {
        let Some(welcome) = self.link.welcome() else { return Ok(()) };
        let bytes = record.payload.len() + record.key.map_or(0, <[u8]>::len) + record.header.len();
        let frame_max = (welcome.frame_bytes_max as usize).saturating_sub(FRAME_OVERHEAD_BYTES);
        let bytes_max = frame_max.min(welcome.record_bytes_max as usize);
        let largest = record.payload.len().max(record.key.map_or(0, <[u8]>::len)).max(record.header.len());
        if bytes > frame_max || largest > bytes_max {
            return Err(SendError::RecordTooLarge { bytes, bytes_max });
        }
        Ok(())
    }

    fn partition_for(&self, record: &Record<'_>) -> Result<u32, SendError> {
        if let Some(error) = self.link.failure() {
            return Err(SendError::Ended(error.clone()));
        }
        if self.link.wish() == Wish::End {
            return Err(SendError::Ended(Error::Closed));
        }
        let partitions = self.partitions().ok_or(SendError::NotReady)?;
        let key = record.key.filter(|key| !key.is_empty());
        let partition = match (record.partition, self.config.partitioner, key) {
            (Some(partition), _, _) | (None, Partitioner::Fixed(partition), _) => partition,
            (None, Partitioner::KeyElseSticky, Some(key)) => partition_of_key(key, partitions),
            (None, Partitioner::KeyElseSticky, None) => self.sticky,
        };
        if partition >= partitions {
            return Err(SendError::UnknownPartition { partition, partitions });
        }
        Ok(partition)
    }

    /// The batch that keyless records went into is closed: the next one goes elsewhere.
    fn turn_sticky(&mut self, partition: u32) {
        if partition == self.sticky {
            self.sticky = (partition + 1) % self.partitions().unwrap_or(1);
        }
    }

    fn inflight_max(&self) -> usize {
        let server = self.link.welcome().map_or(1, |welcome| welcome.inflight_batches_max.max(1));
        self.config.inflight_batches.min(server) as usize
    }

    /// Asks for a channel on the partition.
    fn open(&mut self, partition: u32) {
        let mut producer_id = self.producer_id;
        if let Some(channel) = self.channels.get_mut(partition as usize) {
            if channel.forgotten {
                let id = self.link.random().producer_id();
                channel.renumber(id);
                let batches = channel.queue.len();
                if batches > 0 {
                    self.events.push_back(ProducerEvent::Renumbered { partition, batches });
                }
            }
            channel.stage = Stage::Opening;
            producer_id = channel.producer_id;
        }
        let open = Open {
            topic: self.config.topic.clone(),
            partition,
            producer_id,
            ack_level: self.config.ack_level,
            ack_every_batches: self.config.ack_every_batches.max(1),
            ack_every_us: u32::try_from(self.config.ack_every.as_micros()).unwrap_or(u32::MAX).max(1),
            connections: self.link.connections(),
        };
        self.link.push(open.frame(u64::from(partition) + 1));
    }

    fn first_partition(&self) -> u32 {
        match self.config.partitioner {
            Partitioner::Fixed(partition) => partition,
            Partitioner::KeyElseSticky => 0,
        }
    }

    /// The greeting is complete.
    fn greeted(&mut self) {
        self.events.push_back(ProducerEvent::Connected);
        if self.channels.is_empty() {
            self.probing = true;
            self.open(self.first_partition());
            return;
        }
        if let Some(welcome) = self.link.welcome() {
            let smaller = self.config.batch_bytes.min(welcome.frame_bytes_max as usize);
            self.config.batch_bytes = smaller;
        }
        for index in 0..self.channels.len() {
            let channel = &self.channels[index];
            if !channel.is_idle() || channel.next_sequence() > 1 {
                self.open(channel.partition);
            }
        }
    }

    fn on_opened(&mut self, frame: &Frame) {
        let opened = match Opened::decode(frame.body()) {
            Ok(opened) => opened,
            Err(code) => return self.link.fail(Error::Protocol { code, detail: "in opened".to_owned() }),
        };
        let Some(partition) = frame.header.sequence.checked_sub(1).and_then(|p| u32::try_from(p).ok()) else {
            return;
        };
        if self.probing {
            self.probing = false;
            let count = opened.partition_count;
            if count == 0 || count > PARTITIONS_PER_TOPIC || partition >= count {
                let detail = format!("opened names {count} partitions");
                return self.link.fail(Error::Protocol { code: Code::BadControlBody, detail });
            }
            self.make_channels(count);
            self.channels[partition as usize].stage = Stage::Opening;
            self.events.push_back(ProducerEvent::Ready { partitions: count });
        }
        let Some(channel) = self.channels.get_mut(partition as usize) else { return };
        if channel.stage != Stage::Opening {
            return;
        }
        channel.opened(frame.header.channel, opened.credit, opened.next_sequence);
        channel.partition_id = opened.partition_id;
        let (expected, resume) = (opened.next_sequence, channel.resume_sequence());
        if (expected == 1 && resume > 1) || expected > channel.next_sequence() {
            // It has forgotten this producer, or knows another of the same id.
            let release = fields::release(channel.handle);
            channel.stage = Stage::Closed;
            channel.forgotten = true;
            self.link.push(release);
            return self.open(partition);
        }
        if expected < resume {
            // Its log ends, for this producer, before what it last told: the next batch may skip what is missing.
            self.events.push_back(ProducerEvent::CameBackBehind { partition, batches: resume - expected });
        }
        // That a batch was received is known from `next_sequence`. How far it has come since tells the answer to
        // sending it again.
        let done = if opened.ack_level == AckLevel::Received { expected.saturating_sub(1) } else { 0 };
        self.acknowledge(partition, done, None);
        if self.channels[partition as usize].queue.is_empty() {
            self.link.progress();
        }
    }

    fn make_channels(&mut self, count: u32) {
        let (frame_max, records_max) = self.link.welcome().map_or((usize::MAX, u32::MAX), |welcome| {
            (welcome.frame_bytes_max as usize, welcome.batch_records_max)
        });
        let bytes_max = self.config.batch_bytes.min(frame_max);
        self.channels = (0..count)
            .map(|partition| Channel::new(partition, self.producer_id, Batcher::new(bytes_max, records_max)))
            .collect();
        self.sticky = u32::try_from(self.link.random().next() % u64::from(count)).expect("below a u32");
    }

    /// Everything up to `sequence` is acknowledged; `header` is the ack's, for the last one.
    fn acknowledge(&mut self, partition: u32, sequence: u64, header: Option<&FrameHeader>) {
        let channel = &mut self.channels[partition as usize];
        let level = header.and_then(|header| AckLevel::from_flags(header.flags)).unwrap_or_default();
        let partition_id = channel.partition_id;
        let mut any = false;
        for batch in channel.acknowledged(sequence) {
            self.queued_bytes -= batch.frame.len();
            any = true;
            if batch.refused {
                continue;
            }
            let named = header.filter(|_| batch.sequence == sequence);
            self.events.push_back(ProducerEvent::Acked {
                partition,
                partition_id,
                records: batch.first_record..batch.first_record + u64::from(batch.records),
                offset: named.map(|header| header.offset),
                duplicate: named.is_some_and(|header| header.flags & FLAG_DUPLICATE != 0),
                level,
            });
            self.acknowledged_level = Some(self.acknowledged_level.map_or(level, |lowest| lowest.min(level)));
        }
        if any {
            self.link.progress();
        }
    }

    fn on_nack(&mut self, frame: &Frame, now_ns: u64) {
        let Ok(refusal) = Refusal::decode(frame.body()) else { return };
        let (handle, sequence) = (frame.header.channel, frame.header.sequence);
        let Some(partition) = self.partition_of_handle(handle) else { return };
        let channel = &mut self.channels[partition as usize];
        channel.refused(sequence);
        match refusal.code {
            Code::UnknownProducer => {
                channel.forgotten = true;
                self.link.hangup("the server no longer remembers this producer", true);
            }
            Code::ProducerFenced | Code::NoSuchTopicNow => {
                self.link.fail(Error::Refused { code: refusal.code, detail: refusal.detail });
            }
            Code::OutOfSequence => {
                if !channel.is_resent_anyway(sequence) && !channel.is_refused_for_now() {
                    let oldest = channel.resume_sequence();
                    channel.rewind_to(oldest, 0, now_ns);
                }
            }
            code if code.retryable() => {
                if !channel.is_resent_anyway(sequence) {
                    let detail = refusal.detail.clone();
                    self.events.push_back(ProducerEvent::Deferred { partition, code, detail });
                    channel.rewind_to(sequence, u64::from(refusal.retry_after_us) * 1000, now_ns);
                    self.link
                        .stall(now_ns, &format!("the server refuses for now: {code}: {}", refusal.detail));
                }
            }
            code => {
                if !channel.is_resent_anyway(sequence) {
                    self.refuse(partition, sequence, code, refusal.detail);
                }
            }
        }
    }

    /// A batch is refused for good: its sequence is consumed.
    fn refuse(&mut self, partition: u32, sequence: u64, code: Code, detail: String) {
        let channel = &mut self.channels[partition as usize];
        let Some(index) = channel.index_of(sequence) else { return };
        let batch = &channel.queue[index];
        if !batch.refused {
            let records = batch.first_record..batch.first_record + u64::from(batch.records);
            let first = batch.first_global;
            self.queued_bytes -= channel.refuse(index);
            self.first_refused = Some(self.first_refused.map_or(first, |refused| refused.min(first)));
            self.first_refusal.get_or_insert_with(|| (code, detail.clone()));
            if self.refusals.len() == REFUSALS_KEPT {
                self.refusals.pop_front();
            }
            self.refusals.push_back((partition, records.clone(), code));
            self.events.push_back(ProducerEvent::Refused { partition, records, code, detail });
        }
        self.acknowledge(partition, 0, None);
    }

    fn partition_of_handle(&self, handle: u32) -> Option<u32> {
        let channel = self.channels.iter().find(|c| c.stage == Stage::Open && c.handle == handle)?;
        Some(channel.partition)
    }

    /// An `open` was refused.
    fn on_refused(&mut self, request: u64, refusal: Refusal, now_ns: u64) {
        if !refusal.code.retryable() {
            return self.link.fail(Error::Refused { code: refusal.code, detail: refusal.detail });
        }
        let why = format!("the server refuses for now: {}: {}", refusal.code, refusal.detail);
        if self.probing {
            self.probing = false;
            return self.link.hangup(&why, false);
        }
        self.link.stall(now_ns, &why);
        let partition = usize::try_from(request - 1).unwrap_or(usize::MAX);
        if let Some(channel) = self.channels.get_mut(partition) {
            let wait_ns = u64::from(refusal.retry_after_us) * 1000;
            channel.stage = Stage::RetryAt(now_ns + wait_ns.max(nanos(self.config.connection.backoff_min)));
            let partition = channel.partition;
            let (code, detail) = (refusal.code, refusal.detail);
            self.events.push_back(ProducerEvent::Deferred { partition, code, detail });
        }
    }

    /// After `drain` the connection is kept only while answers are due.
    fn hang_up_when_drained(&mut self) {
        if self.link.is_draining() && self.channels.iter().all(|channel| !channel.awaits_answers()) {
            self.link.hangup("the server is draining", false);
        }
    }
}

impl Core for ProducerCore {
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
        self.probing = false;
        for channel in &mut self.channels {
            channel.disconnected();
        }
        let why = self.link.disconnected(now_ns, why);
        self.events.push_back(ProducerEvent::Disconnected { why });
    }

    fn frame(&mut self, frame: Frame, now_ns: u64) {
        let frame = match self.link.heard(frame, now_ns) {
            Heard::Up => return self.greeted(),
            Heard::Nothing => return self.hang_up_when_drained(),
            Heard::Refused { request, refusal } => return self.on_refused(request, refusal, now_ns),
            Heard::Other(frame) => frame,
        };
        match frame.header.kind {
            Kind::Opened => self.on_opened(&frame),
            Kind::Ack => {
                if let Some(partition) = self.partition_of_handle(frame.header.channel) {
                    self.acknowledge(partition, frame.header.sequence, Some(&frame.header));
                }
            }
            Kind::Nack => self.on_nack(&frame, now_ns),
            Kind::Credit => {
                if let Some(partition) = self.partition_of_handle(frame.header.channel) {
                    let channel = &mut self.channels[partition as usize];
                    channel.credit_limit = channel.credit_limit.max(fields::credit_limit(&frame.header));
                }
            }
            _ => {}
        }
        self.hang_up_when_drained();
    }

    fn garbled(&mut self, error: Error, _now_ns: u64) {
        self.link.garbled(error);
    }

    fn transmit(&mut self, bytes_max: usize, now_ns: u64, out: &mut Vec<Bytes>) {
        self.link.transmit(now_ns, out);
        if !self.link.is_up() || self.link.is_draining() {
            return;
        }
        let inflight_max = self.inflight_max();
        let mut bytes = 0;
        let count = self.channels.len();
        for turn in 0..count {
            let index = (self.next_turn + turn) % count;
            while bytes < bytes_max {
                let channel = &mut self.channels[index];
                let Some((frame, closed_bytes)) = channel.next_frame(inflight_max, self.linger_ns, now_ns)
                else {
                    break;
                };
                if closed_bytes > 0 {
                    self.queued_bytes += closed_bytes;
                    self.turn_sticky(u32::try_from(index).expect("partitions are few"));
                }
                bytes += frame.len();
                out.push(frame);
            }
            if bytes >= bytes_max {
                self.next_turn = (index + 1) % count;
                break;
            }
        }
        if bytes > 0 {
            self.link.sent(now_ns);
        }
    }

    fn has_output(&self, now_ns: u64) -> bool {
        let inflight_max = self.inflight_max();
        self.link.has_output()
            || (self.link.is_up()
                && !self.link.is_draining()
                && self
                    .channels
                    .iter()
                    .any(|channel| channel.has_output(inflight_max, self.linger_ns, now_ns)))
    }

    fn expire(&mut self, now_ns: u64) {
        self.link.expire(now_ns);
        if !self.link.is_up() {
            return;
        }
        for index in 0..self.channels.len() {
            let channel = &self.channels[index];
            let retry = matches!(channel.stage, Stage::RetryAt(at) if at <= now_ns);
            if retry || (channel.stage == Stage::Closed && !channel.is_idle()) {
                self.open(channel.partition);
            }
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        let mut next = self.link.next_deadline();
        if self.link.is_up() && !self.link.is_draining() {
            let inflight_max = self.inflight_max();
            for channel in &self.channels {
                let deadline = channel.next_deadline(inflight_max, self.linger_ns);
                next = [next, deadline].into_iter().flatten().min();
            }
        }
        next
    }

    fn failure(&self) -> Option<&Error> {
        self.link.failure()
    }

    fn buffered_bytes(&self) -> usize {
        self.queued_bytes
    }

    fn pinned_bytes_max(&self) -> usize {
        usize::MAX
    }

    fn connection(&self) -> &ConnectionConfig {
        self.link.config()
    }

    fn close(&mut self) {
        self.link.end();
    }
}
