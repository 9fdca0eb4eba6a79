//! A server in a few lines, for tests: docs/protocol.md sections 7 and 8 taken literally, with knobs.

use std::collections::{BTreeMap, VecDeque};

use crate::client::core::FrameReader;
use crate::limits::HEADER_BYTES;
use crate::proto::code::Code;
use crate::proto::control::{Commit, Hello, Open, Opened, Refusal, Start, Subscribe, Subscribed, Welcome};
use crate::proto::header::{AckLevel, FLAG_DUPLICATE, FrameHeader, GapReason, Kind, stamp};
use crate::wire::batch::{BatchLimits, verify};

#[derive(Debug, Default)]
struct Producer {
    expected: u64,
    stored: BTreeMap<u64, (u32, u64)>,
    /// Known from the log alone: its first batch may skip what the log does not know.
    recovered: bool,
}

#[derive(Debug, Default)]
pub struct Partition {
    producers: BTreeMap<u64, Producer>,
    /// Delivered form, with the first offset and the span.
    pub frames: Vec<(u64, u64, Vec<u8>)>,
    pub end: u64,
    /// The oldest offset kept.
    pub start: u64,
    pub committed: BTreeMap<String, u64>,
    /// So many of the frames were acknowledged.
    pub acked: usize,
}

impl Partition {
    /// The frame of this offset, and all before it, are acknowledged.
    fn acked_to(&mut self, offset: u64) {
        self.acked = self.acked.max(self.frames.partition_point(|frame| frame.0 <= offset));
    }

    /// Every payload from `start` on, in order.
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for (_, _, frame) in &self.frames {
            let count = u32::from_le_bytes(frame[12..16].try_into().expect("four bytes"));
            let batch =
                verify(&frame[HEADER_BYTES..], count, &limits()).expect("it was verified when it came");
            all.extend(batch.records().map(|record| record.payload.to_vec()));
        }
        all
    }
}

pub fn limits() -> BatchLimits {
    BatchLimits { record_bytes_max: 64 * 1024, records_max: 16 * 1024 }
}

/// The server; it outlives its connections.
#[derive(Debug)]
pub struct Model {
    pub partitions: Vec<Partition>,
    /// Each channel's credit beyond what was answered.
    pub credit: u64,
    /// Answers for the next acceptable batches; `None` accepts one.
    pub refusals: VecDeque<Option<Code>>,
    /// What a refusal says of when to come again.
    pub retry_after_us: u32,
    pub ack_every: u32,
    pub acks: bool,
    /// Of every channel.
    pub level: AckLevel,
    pub topic_exists: bool,
    /// The first partition's id. Another one: the topic was deleted, and made again.
    pub ids_from: u32,
    /// Frames of `publish`, for looking at resends.
    pub published: Vec<Vec<u8>>,
    pub overruns: u32,
}

impl Model {
    pub fn new(partitions: usize) -> Self {
        Model {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            credit: 1 << 20,
            refusals: VecDeque::new(),
            retry_after_us: 0,
            ack_every: 1,
            acks: true,
            level: AckLevel::Received,
            topic_exists: true,
            ids_from: 100,
            published: Vec::new(),
            overruns: 0,
        }
    }

    /// Producers are forgotten, and records; offsets go on.
    pub fn restart(&mut self) {
        for partition in &mut self.partitions {
            partition.producers.clear();
        }
    }

    /// The topic is a log, and the server was killed: of a partition's frames `kept` are left, and its producers are
    /// known by these.
    pub fn crash(&mut self, partition: usize, kept: usize) {
        let partition = &mut self.partitions[partition];
        partition.frames.truncate(kept);
        partition.acked = partition.acked.min(kept);
        partition.end = partition.frames.last().map_or(0, |(offset, span, _)| offset + span);
        for producer in partition.producers.values_mut() {
            producer.stored.retain(|_, (_, offset)| *offset < partition.end);
            producer.expected = producer.stored.last_key_value().map_or(1, |(sequence, _)| sequence + 1);
            producer.recovered = true;
        }
        partition.producers.retain(|_, producer| !producer.stored.is_empty());
    }
}

#[derive(Debug)]
struct Channel {
    partition: usize,
    producer_id: u64,
    received: u64,
    limit: u64,
    unacked: u32,
    in_flight: u32,
}

#[derive(Debug)]
struct Sub {
    sent: u64,
    limit: u64,
    next: u64,
}

/// One connection to it.
#[derive(Debug)]
pub struct Connection {
    reader: FrameReader,
    channels: Vec<Option<Channel>>,
    subs: BTreeMap<u32, Sub>,
    out: Vec<u8>,
}

impl Connection {
    pub fn new() -> Self {
        Connection {
            reader: FrameReader::new(usize::MAX),
            channels: Vec::new(),
            subs: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// Bytes from the client; what the server answers at once.
    pub fn receive(&mut self, model: &mut Model, mut bytes: &[u8]) -> Vec<u8> {
        while !bytes.is_empty() {
            let room = self.reader.room();
            let taken = room.len().min(bytes.len());
            room[..taken].copy_from_slice(&bytes[..taken]);
            self.reader.filled(taken);
            bytes = &bytes[taken..];
            while let Some(frame) = self.reader.next_frame().expect("the client sends frames") {
                self.frame(model, &frame.header, &frame.bytes);
            }
        }
        self.deliver(model);
        std::mem::take(&mut self.out)
    }

    /// What became due without bytes from the client.
    pub fn tick(&mut self, model: &mut Model) -> Vec<u8> {
        self.deliver(model);
        std::mem::take(&mut self.out)
    }

    fn frame(&mut self, model: &mut Model, header: &FrameHeader, bytes: &[u8]) {
        let body = &bytes[HEADER_BYTES..];
        let request = header.sequence;
        match header.kind {
            Kind::Hello => {
                Hello::decode(body).expect("a hello");
                let welcome = Welcome {
                    version: 1,
                    frame_bytes_max: 128 * 1024,
                    record_bytes_max: 64 * 1024,
                    batch_records_max: 16 * 1024,
                    inflight_batches_max: 8,
                    channels_max: 256,
                    subscriptions_max: 256,
                    idle_timeout_ms: 30_000,
                    ..Welcome::default()
                };
                self.out.extend(welcome.frame(0));
            }
            Kind::Open => self.open(model, request, &Open::decode(body).expect("an open")),
            Kind::Publish => self.publish(model, header, bytes),
            Kind::Release => self.channels[header.channel as usize] = None,
            Kind::Subscribe => self.subscribe(model, request, &Subscribe::decode(body).expect("a subscribe")),
            Kind::Unsubscribe => {
                self.subs.remove(&header.channel);
                let answer = FrameHeader { channel: header.channel, ..FrameHeader::new(Kind::Unsubscribe) };
                self.out.extend(answer.alone());
            }
            Kind::Credit => {
                let sub = self.subs.get_mut(&header.channel).expect("subscribed");
                assert!(header.offset >= sub.limit, "a limit never goes down");
                sub.limit = header.offset;
            }
            Kind::Commit => {
                let commit = Commit::decode(body).expect("a commit");
                if let Some(Some(code)) = model.refusals.pop_front() {
                    self.refuse_for(Kind::Error, code, header.channel, request, model.retry_after_us);
                    return;
                }
                let partition = &mut model.partitions[(header.channel - model.ids_from) as usize];
                let offset = commit.offset.min(partition.end);
                partition.committed.insert(commit.name, offset);
                let answer = FrameHeader {
                    sequence: request,
                    channel: header.channel,
                    offset,
                    ..FrameHeader::new(Kind::Committed)
                };
                self.out.extend(answer.alone());
            }
            Kind::Ping => {
                self.out.extend(FrameHeader { sequence: request, ..FrameHeader::new(Kind::Pong) }.alone());
            }
            other => panic!("a client does not send {other:?} here"),
        }
    }

    fn refuse(&mut self, kind: Kind, code: Code, channel: u32, sequence: u64) {
        self.refuse_for(kind, code, channel, sequence, 0);
    }

    fn refuse_for(&mut self, kind: Kind, code: Code, channel: u32, sequence: u64, retry_after_us: u32) {
        let refusal = Refusal { code, retry_after_us, record: None, detail: String::new() };
        self.out.extend(refusal.frame(kind, channel, sequence));
    }

    fn open(&mut self, model: &mut Model, request: u64, open: &Open) {
        if !model.topic_exists {
            return self.refuse(Kind::Error, Code::UnknownTopic, 0, request);
        }
        let partition_count = u32::try_from(model.partitions.len()).expect("few");
        let partition = &mut model.partitions[open.partition as usize];
        let producer = partition.producers.entry(open.producer_id).or_default();
        producer.expected = producer.expected.max(1);
        let opened = Opened {
            partition_id: open.partition + model.ids_from,
            partition_count,
            next_sequence: producer.expected,
            credit: model.credit,
            ack_level: model.level,
            ..Opened::default()
        };
        self.out.extend(opened.frame(request, u32::try_from(self.channels.len()).expect("few")));
        self.channels.push(Some(Channel {
            partition: open.partition as usize,
            producer_id: open.producer_id,
            received: 0,
            limit: model.credit,
            unacked: 0,
            in_flight: 0,
        }));
    }

    fn publish(&mut self, model: &mut Model, header: &FrameHeader, bytes: &[u8]) {
        model.published.push(bytes.to_vec());
        let channel = self.channels[header.channel as usize].as_mut().expect("an open channel");
        assert_eq!(channel.producer_id, header.producer_id);
        channel.received += bytes.len() as u64;
        if channel.received > channel.limit && channel.in_flight > 0 {
            model.overruns += 1;
        }
        channel.in_flight += 1;
        let partition = &mut model.partitions[channel.partition];
        let Some(producer) = partition.producers.get_mut(&header.producer_id) else {
            channel.in_flight -= 1;
            return self.refuse(Kind::Nack, Code::UnknownProducer, header.channel, header.sequence);
        };
        let sequence = header.sequence;
        if std::mem::take(&mut producer.recovered) {
            producer.expected = producer.expected.max(sequence);
        }
        if sequence > producer.expected {
            channel.in_flight -= 1;
            return self.refuse(Kind::Nack, Code::OutOfSequence, header.channel, sequence);
        }
        if sequence < producer.expected {
            channel.in_flight = 0;
            let (checksum, offset) = producer.stored[&sequence];
            assert_eq!(checksum, header.body_checksum, "a resend is byte-identical");
            partition.acked_to(offset);
            return self.ack(model, header, offset, FLAG_DUPLICATE);
        }
        if let Some(Some(code)) = model.refusals.pop_front() {
            if !code.retryable() {
                producer.expected += 1;
            }
            channel.in_flight -= 1;
            return self.refuse_for(Kind::Nack, code, header.channel, sequence, model.retry_after_us);
        }
        producer.expected += 1;
        let offset = partition.end;
        producer.stored.insert(sequence, (header.body_checksum, offset));
        let mut stored = bytes.to_vec();
        let id = u32::try_from(channel.partition).expect("few") + model.ids_from;
        stamp(&mut stored, id, offset, header.record_count, 1);
        partition.frames.push((offset, u64::from(header.record_count), stored));
        partition.end += u64::from(header.record_count);
        channel.unacked += 1;
        if channel.unacked >= model.ack_every && model.acks {
            channel.unacked = 0;
            channel.in_flight = 0;
            partition.acked = partition.frames.len();
            self.ack(model, header, offset, 0);
        }
    }

    fn ack(&mut self, model: &Model, header: &FrameHeader, offset: u64, flags: u16) {
        let channel = self.channels[header.channel as usize].as_mut().expect("open");
        channel.limit = channel.received + model.credit;
        let limit = channel.limit;
        let ack = FrameHeader {
            channel: header.channel,
            sequence: header.sequence,
            offset,
            offset_span: header.record_count,
            flags: flags | model.level.flags(),
            ..FrameHeader::new(Kind::Ack)
        };
        self.out.extend(ack.alone());
        let credit = FrameHeader { channel: header.channel, offset: limit, ..FrameHeader::new(Kind::Credit) };
        self.out.extend(credit.alone());
    }

    fn subscribe(&mut self, model: &mut Model, request: u64, subscribe: &Subscribe) {
        if !model.topic_exists {
            return self.refuse(Kind::Error, Code::UnknownTopic, 0, request);
        }
        let partition = &model.partitions[subscribe.partition as usize];
        let asked = match subscribe.start {
            Start::Earliest => partition.start,
            Start::Latest => partition.end,
            Start::Offset(offset) => offset,
            Start::TimeNs(_) => partition.end,
        };
        let resumed = subscribe.resume.then(|| partition.committed.get(&subscribe.name).copied()).flatten();
        let asked = resumed.unwrap_or(asked).min(partition.end);
        let start = asked.max(partition.start);
        let id = subscribe.partition + model.ids_from;
        let subscribed = Subscribed {
            partition_count: u32::try_from(model.partitions.len()).expect("few"),
            shard: 0,
            start_offset: start,
            log_start_offset: partition.start,
            log_end_offset: partition.end,
        };
        self.out.extend(subscribed.frame(request, id));
        if asked < start {
            let gap = FrameHeader {
                channel: id,
                offset: asked,
                sequence: start - asked,
                flags: GapReason::Retention as u16,
                ..FrameHeader::new(Kind::Gap)
            };
            self.out.extend(gap.alone());
        }
        self.subs.insert(id, Sub { sent: 0, limit: subscribe.credit, next: start });
    }

    fn deliver(&mut self, model: &Model) {
        for (id, sub) in &mut self.subs {
            for (offset, span, frame) in &model.partitions[(*id - model.ids_from) as usize].frames {
                if offset + span > sub.next && sub.sent < sub.limit {
                    self.out.extend(frame);
                    sub.sent += frame.len() as u64;
                    sub.next = offset + span;
                }
            }
        }
    }
}
