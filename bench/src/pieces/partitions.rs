//! A partition's ring: batches appended to it, and delivered to its subscribers.

use std::sync::Arc;

use uringest::buf::{Buffers, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec, Span};
use uringest::ids::{BulkId, PartitionId, RegionId, SubscriberId};
use uringest::limits::{HEADER_BYTES, SPANS_PER_SEND};
use uringest::partition::{Admission, Partition, PartitionSpec, ProducerSlot, Source};
use uringest::proto::control::Start;
use uringest::proto::header::FrameHeader;
use uringest::topic::{Overflow, TopicKind};

use super::{Piece, RECORDS_4K, Repeat, frame};

/// Frames of one repetition: half of what a region of receive memory holds.
const FRAMES: u32 = 32;
const RECORDS: u32 = FRAMES * RECORDS_4K;
const RING_BYTES: usize = 1024 * 1024;
const PRODUCER: u64 = 1;
const OWNER: u64 = 1;

pub(super) const PIECES: &[Piece] = &[
    Piece { name: "append_live", unit: "record", units: RECORDS, prepare: || Log::boxed(TopicKind::Live, 0) },
    Piece {
        name: "append_memory",
        unit: "record",
        units: RECORDS,
        prepare: || Log::boxed(TopicKind::Memory, 0),
    },
    Piece {
        name: "deliver_live",
        unit: "record",
        units: RECORDS,
        prepare: || Log::boxed(TopicKind::Live, 1),
    },
    Piece {
        name: "deliver_memory",
        unit: "record",
        units: RECORDS,
        prepare: || Log::boxed(TopicKind::Memory, 1),
    },
    Piece {
        name: "deliver_live_to_8",
        unit: "delivery",
        units: 8 * RECORDS,
        prepare: || Log::boxed(TopicKind::Live, 8),
    },
];

/// A partition, where its batches are received, and who gets them.
struct Log {
    buffers: Buffers,
    source: BulkId,
    partition: Partition,
    slot: ProducerSlot,
    subscribers: Vec<SubscriberId>,
    frame: Vec<u8>,
    header: FrameHeader,
    /// Received and not appended.
    received: Vec<Span>,
    spans: Vec<Span>,
}

impl Log {
    fn boxed(kind: TopicKind, subscribers: u64) -> Box<dyn Repeat> {
        let mut memory = Memory::new();
        let mut region = |id: u32, bytes: usize| {
            let mapping = Arc::new(Mapping::mirrored(bytes, Pages::Small).expect("memory for a benchmark"));
            memory.attach(RegionId(id), Arc::clone(&mapping));
            (RegionId(id), mapping)
        };
        let (ring, shared) = (region(1, RING_BYTES), region(2, 64 * 1024));
        let (bulk, blocks) = (region(3, 256 * 1024), region(4, 256 * 1024));
        let spec =
            ReceiveSpec { shared: (shared.0, &shared.1), buffers: 4, bulk: vec![bulk], blocks, opened: None };
        let mut receive = ReceiveMemory::new(spec);
        let source = receive.take_region().expect("there is one");
        let buffers = Buffers { memory, receive };
        let mut partition = Partition::new(PartitionSpec {
            id: PartitionId(1),
            kind,
            overflow: Overflow::DropOldest,
            ring: ring.0,
            ring_bytes: RING_BYTES as u64,
            first_offset: 0,
            committed: Vec::new(),
            log: None,
        });
        let slot = partition.open_producer(PRODUCER, 0, OWNER).expect("room for one").slot;
        let subscribers = (0..subscribers)
            .map(|home| {
                partition.subscribe(&buffers, Start::Latest, "", false, u64::MAX, home).expect("room").id
            })
            .collect();
        let frame = frame(RECORDS_4K, PRODUCER, 1, 1);
        let first = frame.first_chunk::<HEADER_BYTES>().expect("a header");
        let mut header = FrameHeader::parse(first, 64 * 1024).expect("a sealed frame");
        header.sequence = 0;
        Box::new(Log {
            buffers,
            source,
            partition,
            slot,
            subscribers,
            frame,
            header,
            received: Vec::with_capacity(FRAMES as usize),
            spans: Vec::with_capacity(SPANS_PER_SEND),
        })
    }
}

impl Repeat for Log {
    /// Receives the batches, as a kernel would.
    fn ready(&mut self) {
        let bytes = u32::try_from(self.frame.len()).expect("a small frame");
        for _ in 0..FRAMES {
            let target =
                self.buffers.receive.read_target(self.source, bytes).expect("all before were consumed");
            self.buffers.memory.bytes_mut(target).copy_from_slice(&self.frame);
            self.received.push(self.buffers.receive.filled(self.source, bytes));
        }
    }

    fn work(&mut self) {
        for span in self.received.drain(..) {
            self.header.sequence += 1;
            let header = &self.header;
            let admission = self.partition.admit(self.slot, OWNER, header.sequence, header.body_checksum);
            assert!(admission == Admission::New);
            self.partition
                .append(&mut self.buffers, &[span], Source::Local, header, self.slot, header.sequence)
                .expect("the oldest go");
            self.buffers.receive.consumed(self.source, span.bytes);
        }
        let expected = self.frame.len() * FRAMES as usize;
        for &id in &self.subscribers {
            let mut bytes = 0;
            while self.partition.has_work(id) {
                self.spans.clear();
                let taken =
                    self.partition.take(&mut self.buffers, id, u32::MAX, SPANS_PER_SEND, &mut self.spans);
                assert!(taken.gap.is_none());
                self.partition.sent(&mut self.buffers, id, taken.bytes);
                bytes += taken.bytes as usize;
            }
            assert!(bytes == expected);
        }
    }
}
