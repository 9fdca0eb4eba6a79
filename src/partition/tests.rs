//! A small world to test partitions in: real mappings, real receive memory, frames with real headers.

mod delivery;
mod eviction;
mod live;
mod model;
mod producers;
mod subscribe;

use std::sync::Arc;

use super::*;
use crate::buf::{BulkId, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec};
use crate::limits::HEADER_BYTES as HEADER;
use crate::proto::header::{Kind, seal};

pub(super) const RING_BYTES: u64 = 64 * 1024;
const RING: RegionId = RegionId(1);
const FOREIGN: RegionId = RegionId(2);
const SHARED: RegionId = RegionId(3);
const BULK: RegionId = RegionId(4);
const ARENA: RegionId = RegionId(5);
const BULK_BYTES: usize = 256 * 1024;
const ME: u64 = 77;

pub(super) struct World {
    pub(super) buffers: Buffers,
    pub(super) partition: Partition,
    slot: ProducerSlot,
    bulk: BulkId,
    foreign_at: u64,
    /// Every batch that was appended, as it has to arrive.
    pub(super) batches: Vec<Batch>,
    pub(super) wall_ns: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) offset: u64,
    pub(super) records: u32,
    pub(super) append_time_ns: u64,
    pub(super) frame: Vec<u8>,
}

pub(super) fn spec(kind: TopicKind, overflow: Overflow) -> PartitionSpec {
    PartitionSpec {
        id: PartitionId(42),
        kind,
        overflow,
        ring: RING,
        ring_bytes: RING_BYTES,
        first_offset: 0,
        committed: Vec::new(),
        log: None,
    }
}

impl World {
    pub(super) fn new(kind: TopicKind, overflow: Overflow) -> World {
        World::with(spec(kind, overflow))
    }

    pub(super) fn with(spec: PartitionSpec) -> World {
        let mapped = |bytes: usize| Arc::new(Mapping::mirrored(bytes, Pages::Small).expect("memory"));
        let ring = usize::try_from(spec.ring_bytes).expect("fits");
        let (shared, bulk, arena) = (mapped(64 * 1024), mapped(BULK_BYTES), mapped(1024 * 1024));
        let mut memory = Memory::new();
        memory.attach(RING, mapped(ring));
        memory.attach(FOREIGN, mapped(BULK_BYTES));
        memory.attach(SHARED, Arc::clone(&shared));
        memory.attach(BULK, Arc::clone(&bulk));
        memory.attach(ARENA, Arc::clone(&arena));
        let mut receive = ReceiveMemory::new(ReceiveSpec {
            shared: (SHARED, &shared),
            buffers: 4,
            bulk: vec![(BULK, bulk)],
            blocks: (ARENA, arena),
            opened: None,
        });
        let bulk = receive.take_region().expect("a region");
        let mut partition = Partition::new(spec);
        let slot = partition.open_producer(9, 0, ME).expect("room").slot;
        World {
            buffers: Buffers { memory, receive },
            partition,
            slot,
            bulk,
            foreign_at: 0,
            batches: Vec::new(),
            wall_ns: 1_000,
        }
    }

    /// The next sequence's frame: header and body, as a producer makes it.
    pub(super) fn frame(&self, body_bytes: usize, records: u32) -> (FrameHeader, Vec<u8>) {
        let sequence = self.batches.len() as u64 + 1;
        let mut header = FrameHeader::new(Kind::Publish);
        header.body_bytes = u32::try_from(body_bytes).expect("small");
        header.record_count = records;
        header.producer_id = 9;
        header.sequence = sequence;
        let mut frame = vec![0; HEADER + body_bytes];
        for (at, byte) in frame[HEADER..].iter_mut().enumerate() {
            *byte = u8::try_from((sequence * 31 + at as u64 * 7) % 251).expect("a byte");
        }
        let (head, body) = frame.split_at_mut(HEADER);
        let head: &mut [u8; HEADER] = head.try_into().expect("a header");
        header.encode(head);
        seal(head, body);
        (FrameHeader::parse(head, u32::MAX).expect("well-formed"), frame)
    }

    /// Publishes one frame as a connection would: received, admitted, appended, consumed.
    pub(super) fn publish(&mut self, body_bytes: usize, records: u32) -> Result<Appended, Code> {
        self.publish_from(body_bytes, records, Source::Local, 1).expect("receive memory")
    }

    /// As `publish`; `None` when receive memory has no room.
    pub(super) fn publish_from(
        &mut self,
        body_bytes: usize,
        records: u32,
        source: Source,
        pieces: usize,
    ) -> Option<Result<Appended, Code>> {
        let (header, frame) = self.frame(body_bytes, records);
        let bytes = u32::try_from(frame.len()).expect("small");
        let span = match source {
            Source::Local => {
                let target = self.buffers.receive.read_target(self.bulk, bytes)?;
                if target.bytes < bytes {
                    return None;
                }
                self.buffers.receive.filled(self.bulk, bytes)
            }
            Source::Foreign => {
                self.foreign_at = (self.foreign_at + 4096) % BULK_BYTES as u64;
                Span { region: FOREIGN, at: self.foreign_at, bytes }
            }
        };
        self.buffers.memory.bytes_mut(span).copy_from_slice(&frame);
        let result = self.append(&header, &split(span, pieces), source, frame);
        if source == Source::Local {
            self.buffers.receive.consumed(self.bulk, bytes);
        } else {
            self.buffers.memory.bytes_mut(span).fill(0xee);
        }
        Some(result)
    }

    fn append(
        &mut self,
        header: &FrameHeader,
        pieces: &[Span],
        source: Source,
        frame: Vec<u8>,
    ) -> Result<Appended, Code> {
        let admission = self.partition.admit(self.slot, ME, header.sequence, header.body_checksum);
        assert_eq!(admission, Admission::New);
        let (slot, wall_ns) = (self.slot, self.wall_ns);
        let appended = self.partition.append(&mut self.buffers, pieces, source, header, slot, wall_ns)?;
        self.remember(header, appended, frame);
        Ok(appended)
    }

    /// Notes what was appended, stamped without the code under test.
    fn remember(&mut self, header: &FrameHeader, appended: Appended, mut frame: Vec<u8>) {
        let stamped = FrameHeader {
            kind: Kind::Deliver,
            channel: 42,
            offset: appended.offset,
            offset_span: header.record_count,
            append_time_ns: appended.append_time_ns,
            ..*header
        };
        stamped.encode((&mut frame[..HEADER]).try_into().expect("a header"));
        self.batches.push(Batch {
            offset: appended.offset,
            records: header.record_count,
            append_time_ns: appended.append_time_ns,
            frame,
        });
    }

    pub(super) fn subscribe(&mut self, start: Start, credit: u64) -> NewSubscription {
        self.partition.subscribe(&self.buffers, start, "c", false, credit, 0).expect("room")
    }

    /// Takes, and copies what the spans say.
    pub(super) fn take(&mut self, id: SubscriberId, bytes_max: u32, spans_max: usize) -> (Taken, Vec<Span>) {
        let mut spans = Vec::new();
        let taken = self.partition.take(&mut self.buffers, id, bytes_max, spans_max, &mut spans);
        assert_eq!(spans.iter().map(|span| span.bytes).sum::<u32>(), taken.bytes);
        assert!(spans.len() <= spans_max);
        (taken, spans)
    }

    pub(super) fn bytes_of(&self, spans: &[Span]) -> Vec<u8> {
        spans.iter().flat_map(|&span| self.buffers.memory.bytes(span)).copied().collect()
    }

    /// Takes and sends all of it.
    pub(super) fn receive(&mut self, id: SubscriberId) -> (Taken, Vec<u8>) {
        let (taken, spans) = self.take(id, u32::MAX, 64);
        let bytes = self.bytes_of(&spans);
        if taken.bytes > 0 {
            let records = self.partition.sent(&mut self.buffers, id, taken.bytes);
            assert_eq!(records, taken.records);
        }
        (taken, bytes)
    }

    /// Where the batch around an offset begins; the offset itself when it has no batch.
    pub(super) fn batch_start(&self, offset: u64) -> u64 {
        let around = self.batches.iter().rev().find(|batch| batch.offset <= offset);
        let around = around.filter(|batch| offset < batch.offset + u64::from(batch.records));
        around.map_or(offset, |batch| batch.offset)
    }

    /// The stamped frames from an offset on.
    pub(super) fn stamped_from(&self, offset: u64) -> Vec<u8> {
        let from = self.batches.iter().filter(|batch| batch.offset >= offset);
        from.flat_map(|batch| batch.frame.clone()).collect()
    }

    pub(super) fn copied(&self, reason: CopyReason) -> u64 {
        self.buffers.memory.copies().of(reason).bytes
    }

    /// Gives up what the world itself uses; what is left is a leak.
    pub(super) fn leaked_bytes(&mut self) -> u64 {
        self.buffers.receive.give_region(self.bulk);
        self.buffers.receive.in_use_bytes()
    }
}

/// A span cut in up to `pieces` parts.
fn split(span: Span, pieces: usize) -> Vec<Span> {
    let mut parts = Vec::new();
    let mut rest = span;
    for left in (1..=pieces).rev() {
        let bytes = if left == 1 { rest.bytes } else { rest.bytes / u32::try_from(left).expect("few") };
        let (part, after) = rest.split_at(bytes);
        parts.push(part);
        rest = after;
    }
    parts
}
