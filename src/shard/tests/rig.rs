//! One shard with control's end of its mesh in the test's hands, and clients that speak the protocol.

#![allow(clippy::cast_possible_truncation)] // patterns of bytes and small lengths are cut on purpose

use std::sync::Arc;

use crate::access::Access;
use crate::buf::{Buffers, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec};
use crate::ids::{PartitionId, RegionId, ShardId, SockId, TopicId};
use crate::io::scripted::Scripted;
use crate::io::{Completions, Io, SocketHandle};
use crate::limits::{BULK_REGION_BYTES, CONTROL_BLOCK_BYTES, HEADER_BYTES};
use crate::mesh::{Census, MeshEnd};
use crate::metrics::CounterPage;
use crate::proto::control::{Hello, Open, Opened, Subscribe};
use crate::proto::header::{FrameHeader, Kind};
use crate::shard::messages::{Command, Message, Report};
use crate::shard::{Shard, ShardLimits, ShardSpec};
use crate::topic::{Overflow, Topic, TopicKind, TopicPartition};
use crate::wire::batch::BatchBuilder;

pub(super) const FRAME_BYTES_MAX: u32 = 64 * 1024;
const SHARED: RegionId = RegionId(0);
const BLOCKS: RegionId = RegionId(1);
const CONTROL: RegionId = RegionId(2);
const BULK: RegionId = RegionId(10);
const RING: RegionId = RegionId(100);

pub(super) struct Rig {
    pub shard: Shard<Scripted>,
    pub control: MeshEnd<Message>,
    pub reports: Vec<Report>,
    completions: Completions,
    next_topic: u32,
}

pub(super) fn limits() -> ShardLimits {
    ShardLimits {
        frame_bytes_max: FRAME_BYTES_MAX,
        record_bytes_max: 32 * 1024,
        connections: 64,
        channels: 64,
        subscriptions: 64,
        handshake_timeout_ms: 5_000,
        frame_timeout_ms: 10_000,
        idle_timeout_ms: 120_000,
        control_blocks: 128,
        bulk_regions: 2,
    }
}

impl Rig {
    pub(super) fn new() -> Rig {
        let limits = limits();
        let mapped =
            |bytes: usize| Arc::new(Mapping::mirrored(bytes, Pages::Small).expect("memory for a test"));
        let shared = mapped(256 * 1024);
        let blocks = Arc::new(Mapping::plain(1024 * 1024, Pages::Small).expect("memory for a test"));
        let control_bytes = (limits.control_blocks * CONTROL_BLOCK_BYTES) as usize;
        let control_blocks =
            Arc::new(Mapping::plain(control_bytes, Pages::Small).expect("memory for a test"));
        let bulk: Vec<_> =
            (0..2).map(|i| (RegionId(BULK.0 + i), mapped(BULK_REGION_BYTES as usize))).collect();
        let mut memory = Memory::new();
        let mut io = Scripted::new(SHARED, &shared, 4);
        let regions = [(SHARED, &shared), (BLOCKS, &blocks), (CONTROL, &control_blocks)];
        for (id, mapping) in regions.into_iter().chain(bulk.iter().map(|(id, mapping)| (*id, mapping))) {
            memory.attach(id, mapping.clone());
            io.attach_region(id, mapping, false);
        }
        let receive = ReceiveMemory::new(ReceiveSpec {
            shared: (SHARED, &shared),
            buffers: 4,
            bulk: bulk.clone(),
            blocks: (BLOCKS, blocks.clone()),
        });
        let mut ends = MeshEnd::build(2, 256);
        let control = ends.pop().expect("control's end");
        let spec = ShardSpec {
            id: ShardId(0),
            shards: 1,
            limits,
            access: Arc::new(Access::open_to_all()),
            mesh: ends.pop().expect("the shard's end"),
            peers: vec![io.wake_handle(), io.wake_handle()],
            counters: Arc::new(CounterPage::new()),
            census: Arc::new(Census::new(32, 0)),
            buffers: Buffers { memory, receive },
            control_region: CONTROL,
            listeners: vec![SocketHandle::Simulated(0)],
            auto_create: false,
            shard_addresses: Vec::new(),
        };
        let shard = Shard::new(spec, io);
        let completions = Completions::with_capacity(64);
        let mut rig = Rig { shard, control, reports: Vec::new(), completions, next_topic: 0 };
        rig.run();
        rig
    }

    /// One tick; says whether the shard would wait now.
    pub(super) fn tick(&mut self) {
        self.shard.io.reap(crate::io::Wait::No, &mut self.completions).expect("a scripted world goes on");
        self.shard.tick(&mut self.completions);
        while let Some((_, message)) = self.control.receive() {
            if let Message::Report(report) = message {
                self.reports.push(*report);
            }
        }
    }

    /// Ticks until everything has come to rest.
    pub(super) fn run(&mut self) {
        for _ in 0..12 {
            self.tick();
        }
    }

    /// Time passes.
    pub(super) fn pass(&mut self, ms: u64) {
        self.shard.io.now.mono_ns += ms * 1_000_000;
        self.shard.io.now.wall_ns += ms * 1_000_000;
        self.run();
    }

    pub(super) fn command(&mut self, command: Command) {
        let _wake = self.control.send(0, Message::Command(Box::new(command))).expect("room in the mesh");
        self.run();
    }

    pub(super) fn topic(
        &mut self,
        name: &str,
        kind: TopicKind,
        overflow: Overflow,
        ring_bytes: u64,
    ) -> PartitionId {
        let number = self.next_topic;
        self.next_topic += 1;
        let mapping = Mapping::mirrored(usize::try_from(ring_bytes).expect("small"), Pages::Small);
        let partition = TopicPartition {
            id: PartitionId(number + 7),
            shard: ShardId(0),
            ring: RegionId(RING.0 + number),
            mapping: Arc::new(mapping.expect("memory for a test")),
            first_offset: 0,
            committed: Vec::new(),
        };
        let id = partition.id;
        let topic = Topic {
            id: TopicId(number),
            name: name.into(),
            kind,
            overflow,
            ring_bytes,
            partitions: vec![partition],
        };
        let topic_id = topic.id;
        self.command(Command::AddTopic { ticket: 1, topic: Arc::new(topic) });
        self.command(Command::TopicReady { topic: topic_id });
        id
    }

    pub(super) fn send(&mut self, sock: SockId, bytes: &[u8]) {
        self.shard.io.peer(sock).inbound.extend(bytes);
    }

    /// Everything the server has said to a connection since the last look, as frames.
    pub(super) fn heard(&mut self, sock: SockId) -> Vec<(FrameHeader, Vec<u8>)> {
        let mut bytes = std::mem::take(&mut self.shard.io.peer(sock).outbound);
        let frames = frames(&mut bytes);
        self.shard.io.peer(sock).outbound = bytes;
        frames
    }

    /// A connection that has said hello.
    pub(super) fn client(&mut self) -> SockId {
        let sock = self.shard.io.connect();
        let hello = Hello { client: "test".into(), version_min: 1, version_max: 1, ..Hello::default() };
        self.send(sock, &hello.frame(0));
        self.run();
        let heard = self.heard(sock);
        assert_eq!(heard[0].0.kind, Kind::Welcome);
        sock
    }

    /// Opens a channel; says its handle and what the server answered.
    pub(super) fn open(&mut self, sock: SockId, topic: &str, producer_id: u64) -> (u32, Opened) {
        let open = Open { topic: topic.into(), producer_id, ack_every_batches: 1, ..Open::default() };
        self.send(sock, &open.frame(1));
        self.run();
        let (header, frame) = self.heard(sock).remove(0);
        assert_eq!(header.kind, Kind::Opened);
        (header.channel, Opened::decode(&frame[HEADER_BYTES..]).expect("opened"))
    }

    pub(super) fn subscribe(&mut self, sock: SockId, what: Subscribe) {
        self.send(sock, &what.frame(2));
        self.run();
        let heard = self.heard(sock);
        assert!(heard.iter().any(|(header, _)| header.kind == Kind::Subscribed), "{heard:?}");
    }

    /// What must be back at rest when no client is connected.
    pub(super) fn assert_nothing_leaked(&mut self) {
        self.run();
        assert_eq!(self.shard.conns.open_count(), 0, "connections");
        assert_eq!(self.shard.channels.open_count(), 0, "channels");
        assert_eq!(self.shard.subscriptions.len(), 0, "subscriptions");
        assert_eq!(self.shard.buffers.receive.in_use_bytes(), 0, "receive memory");
        assert_eq!(self.shard.blocks.in_use(), 0, "control blocks");
        assert_eq!(self.shard.io.armed(), 0, "operations in flight");
        assert_eq!(self.shard.census.total(), 0, "the census");
    }

    /// All clients go.
    pub(super) fn disconnect_all(&mut self) {
        for peer in &mut self.shard.io.peers[1..] {
            peer.room = usize::MAX;
            peer.ended = true;
        }
        self.run();
        self.pass(2_000);
    }
}

/// Takes whole frames off the front of `bytes`.
pub(super) fn frames(bytes: &mut Vec<u8>) -> Vec<(FrameHeader, Vec<u8>)> {
    let mut out = Vec::new();
    while let Some(first) = bytes.first_chunk::<HEADER_BYTES>() {
        let header = FrameHeader::parse(first, FRAME_BYTES_MAX).expect("the server's frames are well formed");
        if bytes.len() < header.frame_bytes() {
            break;
        }
        let rest = bytes.split_off(header.frame_bytes());
        out.push((header, std::mem::replace(bytes, rest)));
    }
    out
}

/// A publish frame with these payloads.
pub(super) fn batch(channel: u32, producer_id: u64, sequence: u64, payloads: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for payload in payloads {
        builder.push(payload, None, 0, &[]);
    }
    builder.finish(producer_id, sequence, channel)
}

/// A publish frame of one record of `bytes` bytes, filled with something that differs by sequence.
pub(super) fn batch_of(channel: u32, producer_id: u64, sequence: u64, bytes: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..bytes).map(|i| (i as u64 * 31 + sequence * 7) as u8).collect();
    batch(channel, producer_id, sequence, &[&payload])
}
