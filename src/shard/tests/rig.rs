//! Some shards with control's end of their mesh in the test's hands, stepped in turn, and clients that speak the
//! protocol.

#![allow(clippy::cast_possible_truncation)] // patterns of bytes and small lengths are cut on purpose

use std::collections::HashMap;
use std::sync::Arc;

use crate::access::Access;
use crate::buf::{Buffers, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec};
use crate::commit_log::RecoveredLog;
use crate::ids::{PartitionId, RegionId, ShardId, SockId, TopicId};
use crate::io::scripted::{Disk, Scripted};
use crate::io::{Completions, Io, SocketHandle};
use crate::limits::{BULK_REGION_BYTES, CONTROL_BLOCK_BYTES, HEADER_BYTES};
use crate::mesh::{Census, MeshEnd};
use crate::metrics::CounterPage;
use crate::proto::control::{Hello, Open, Opened, Start, Subscribe};
use crate::proto::header::{AckLevel, FrameHeader, Kind};
use crate::shard::audit::assert_nothing_leaked;
use crate::shard::messages::{Command, Message, Report};
use crate::shard::{Listening, Shard, ShardLimits, ShardSpec, ShardTls};
use crate::tls::record::PLAINTEXT_ROOM_BYTES;
use crate::tls::{ClientTls, Records, ServerSettings, ServerTls, Session, Then, fixture};
use crate::topic::{Overflow, Topic, TopicKind, TopicPartition};
use crate::wire::batch::BatchBuilder;

pub(super) const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// Regions of one shard: shared ring, blocks, control blocks, opened and sealed records, then two for each bulk
/// connection.
const REGIONS_PER_SHARD: u32 = 10;
const RING: RegionId = RegionId(100);
/// Of each shard's memory for sealed records: small, so that it runs short.
const SEALED_BYTES: usize = 512 * 1024;
/// Bytes of each shard's memory for logs.
const LOG_BYTES: usize = 2 * 1024 * 1024;

pub(super) struct Rig {
    pub shards: Vec<Shard<Scripted>>,
    pub control: MeshEnd<Message>,
    pub reports: Vec<Report>,
    completions: Completions,
    next_topic: u32,
    next_partition: u32,
    /// With which clients speak TLS, where they do.
    pub tls: Option<Tls>,
}

/// The clients' side of TLS.
pub(super) struct Tls {
    pub client: ClientTls,
    pub peers: HashMap<SockId, Peer>,
    /// Bytes of content in the clients' records.
    pub record_bytes: usize,
}

/// One connection's.
pub(super) struct Peer {
    pub session: Session,
    /// Records that are not whole.
    sealed: Vec<u8>,
    /// Frames that are not.
    opened: Vec<u8>,
    /// How the last look at records ended.
    pub then: Then,
}

impl Peer {
    /// Everything that waits to be said, with `data` behind it in records of so many bytes.
    fn seal(&mut self, data: &[u8], record_bytes: usize) -> Vec<u8> {
        let mut wire = vec![0; 64 * 1024];
        let written = self.session.transmit(&[], &mut wire).written;
        wire.truncate(written);
        for content in data.chunks(record_bytes) {
            let mut record = vec![0; content.len() + 256];
            let sealed = self.session.transmit(content, &mut record);
            wire.extend_from_slice(&record[..sealed.written]);
        }
        wire
    }

    fn open(&mut self, wire: &[u8]) {
        self.sealed.extend_from_slice(wire);
        let mut out = vec![0; self.sealed.len() + 2 * PLAINTEXT_ROOM_BYTES];
        let received = self.session.receive(&self.sealed, &mut out, fixture::NOW_S);
        self.opened.extend_from_slice(&out[..received.produced]);
        self.sealed.drain(..received.consumed);
        self.then = received.then;
    }
}

/// One shard's receive memory.
struct Receive {
    shared: (RegionId, Arc<Mapping>),
    blocks: (RegionId, Arc<Mapping>),
    control: (RegionId, Arc<Mapping>),
    bulk: Vec<(RegionId, Arc<Mapping>)>,
    opened: (RegionId, Arc<Mapping>),
    sealed: (RegionId, Arc<Mapping>),
    log: (RegionId, Arc<Mapping>),
}

impl Receive {
    fn new(shard: u16, control_blocks: u32) -> Receive {
        let region = |number| RegionId(u32::from(shard) * REGIONS_PER_SHARD + number);
        let mirrored = |bytes| Arc::new(Mapping::mirrored(bytes, Pages::Small).expect("memory for a test"));
        let plain = |bytes| Arc::new(Mapping::plain(bytes, Pages::Small).expect("memory for a test"));
        Receive {
            shared: (region(0), mirrored(256 * 1024)),
            blocks: (region(1), plain(1024 * 1024)),
            control: (region(2), plain((control_blocks * CONTROL_BLOCK_BYTES) as usize)),
            opened: (region(3), mirrored(256 * 1024)),
            sealed: (region(4), plain(SEALED_BYTES)),
            log: (region(9), plain(LOG_BYTES)),
            bulk: (5..9).map(|number| (region(number), mirrored(BULK_REGION_BYTES as usize))).collect(),
        }
    }

    /// What other shards may be lent.
    fn lendable(&self) -> impl Iterator<Item = &(RegionId, Arc<Mapping>)> {
        [&self.shared, &self.blocks, &self.opened, &self.log].into_iter().chain(&self.bulk)
    }

    fn buffers(&self, all: &[Receive], io: &mut Scripted) -> Buffers {
        let mut memory = Memory::new();
        for (id, mapping) in all.iter().flat_map(Receive::lendable).chain([&self.control, &self.sealed]) {
            memory.attach(*id, mapping.clone());
            io.attach_region(*id, mapping, false);
        }
        let receive = ReceiveMemory::new(ReceiveSpec {
            shared: (self.shared.0, &self.shared.1),
            buffers: 4,
            bulk: self.bulk.clone(),
            blocks: self.blocks.clone(),
            opened: Some(self.opened.clone()),
        });
        Buffers { memory, receive }
    }
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
        control_blocks: 1024,
        bulk_regions: 2,
        log_snapshot_bytes: 1 << 20,
        log_read_bytes: 4 << 20,
    }
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig::with_shards(1)
    }

    pub(super) fn with_shards(count: u16) -> Rig {
        Rig::with_mesh(count, 256)
    }

    /// The mesh's rings hold `messages` each.
    pub(super) fn with_mesh(count: u16, messages: usize) -> Rig {
        Rig::with_limits(count, messages, limits())
    }

    pub(super) fn with_limits(count: u16, messages: usize, limits: ShardLimits) -> Rig {
        let mut rig = Rig::build(count, messages, limits, None);
        rig.command_each(|| Command::TopicsTold);
        rig
    }

    /// Shards that are yet to be told that they know every topic.
    pub(super) fn starting(count: u16) -> Rig {
        Rig::build(count, 256, limits(), None)
    }

    /// One shard whose clients speak TLS.
    pub(super) fn secured() -> Rig {
        let files = fixture::Files::new();
        Rig::secured_with(1, 256, &files.server(), fixture::client_tls(&files.client()))
    }

    pub(super) fn secured_with(
        count: u16,
        messages: usize,
        server: &ServerSettings,
        client: ClientTls,
    ) -> Rig {
        let mut rig = Rig::build(count, messages, limits(), Some(fixture::server_tls(server)));
        rig.command_each(|| Command::TopicsTold);
        rig.tls = Some(Tls { client, peers: HashMap::new(), record_bytes: 16 * 1024 });
        for shard in &mut rig.shards {
            shard.io.now.wall_ns = fixture::NOW_S * 1_000_000_000;
        }
        rig.run();
        rig
    }

    fn build(count: u16, messages: usize, limits: ShardLimits, tls: Option<ServerTls>) -> Rig {
        let receive: Vec<Receive> =
            (0..count).map(|shard| Receive::new(shard, limits.control_blocks)).collect();
        let mut ends = MeshEnd::build(usize::from(count) + 1, messages);
        let control = ends.pop().expect("control's end");
        let census = Arc::new(Census::new(32, 0));
        let (mut sockets, mut disk) = (None, None);
        let mut shards = Vec::new();
        for ((own, mesh), id) in receive.iter().zip(ends).zip((0..count).map(ShardId)) {
            let mut io = Scripted::new(own.shared.0, &own.shared.1, 4);
            io.share(sockets.get_or_insert_with(|| io.sockets()).clone());
            io.share_disk(disk.get_or_insert_with(|| io.disk()).clone());
            let spec = ShardSpec {
                id,
                shards: count,
                limits,
                access: Arc::new(Access::open_to_all()),
                peers: (0..=count).map(|_| io.wake_handle()).collect(),
                mesh,
                counters: Arc::new(CounterPage::new()),
                census: Arc::clone(&census),
                buffers: own.buffers(&receive, &mut io),
                log_memory: (own.log.0, own.log.1.bytes() as u64),
                control_region: own.control.0,
                listeners: vec![Listening { socket: SocketHandle::Simulated(0), secured: tls.is_some() }],
                tls: tls.clone().map(|server| ShardTls {
                    server,
                    records: Records::Own,
                    send_memory: (own.sealed.0, own.sealed.1.bytes() as u64),
                }),
                auto_create: false,
                shard_addresses: Vec::new(),
            };
            shards.push(Shard::new(spec, io));
        }
        let completions = Completions::with_capacity(64);
        let mut rig = Rig {
            shards,
            control,
            reports: Vec::new(),
            completions,
            next_topic: 0,
            next_partition: 7,
            tls: None,
        };
        rig.run();
        rig
    }

    /// One tick of one shard.
    pub(super) fn tick_shard(&mut self, shard: usize) {
        let shard = &mut self.shards[shard];
        shard.io.reap(crate::io::Wait::No, &mut self.completions).expect("a scripted world goes on");
        shard.tick(&mut self.completions);
        while let Some((_, message)) = self.control.receive() {
            if let Message::Report(report) = message {
                self.reports.push(*report);
            }
        }
    }

    /// One tick of each shard.
    pub(super) fn tick(&mut self) {
        for shard in 0..self.shards.len() {
            self.tick_shard(shard);
        }
    }

    /// Ticks until everything has come to rest.
    pub(super) fn run(&mut self) {
        for _ in 0..12 * self.shards.len() {
            self.tick();
        }
        // Bytes that arrive one by one are more completions than so many ticks take.
        for _ in 0..2_000 {
            if self.shards.iter().all(|shard| shard.io.completed() == 0) {
                break;
            }
            self.tick();
        }
    }

    /// Time passes.
    pub(super) fn pass(&mut self, ms: u64) {
        self.advance(ms * 1_000);
        self.run();
    }

    /// Time passes, and nobody has noticed yet.
    pub(super) fn advance(&mut self, us: u64) {
        for shard in &mut self.shards {
            shard.io.now.mono_ns += us * 1_000;
            shard.io.now.wall_ns += us * 1_000;
        }
    }

    /// A command for the first shard.
    pub(super) fn command(&mut self, command: Command) {
        self.command_to(0, command);
        self.run();
    }

    /// A command for one shard, which has not acted upon it yet.
    pub(super) fn command_to(&mut self, shard: usize, command: Command) {
        let _wake = self.control.send(shard, Message::Command(Box::new(command))).expect("room in the mesh");
    }

    /// The same command for each shard.
    pub(super) fn command_each(&mut self, command: impl Fn() -> Command) {
        for shard in 0..self.shards.len() {
            self.command_to(shard, command());
        }
        self.run();
    }

    /// A topic with one partition on the first shard.
    pub(super) fn topic(
        &mut self,
        name: &str,
        kind: TopicKind,
        overflow: Overflow,
        ring_bytes: u64,
    ) -> PartitionId {
        self.topic_on(name, kind, overflow, ring_bytes, &[(0, 0)]).partitions[0].id
    }

    /// A topic with a partition for each (shard, first offset).
    pub(super) fn topic_on(
        &mut self,
        name: &str,
        kind: TopicKind,
        overflow: Overflow,
        ring_bytes: u64,
        places: &[(u16, u64)],
    ) -> Arc<Topic> {
        let places = places.iter().map(|&(shard, first_offset)| (shard, first_offset, None));
        let topic = self.announce(name, (kind, overflow), ring_bytes, AckLevel::Received, places);
        self.command_each(|| Command::TopicReady { topic: topic.id });
        topic
    }

    /// A topic of kind `log` with a partition for each (shard, what its files hold); it has no files yet, and is not
    /// ready.
    pub(super) fn announce_log_topic(
        &mut self,
        name: &str,
        ring_bytes: u64,
        durability: AckLevel,
        places: Vec<(u16, RecoveredLog)>,
    ) -> Arc<Topic> {
        let places = places.into_iter().map(|(shard, log)| (shard, log.end.offset, Some(log)));
        self.announce(name, (TopicKind::Log, Overflow::Block), ring_bytes, durability, places)
    }

    /// All shards hear of a topic with a partition for each (shard, first offset, files).
    fn announce(
        &mut self,
        name: &str,
        (kind, overflow): (TopicKind, Overflow),
        ring_bytes: u64,
        durability: AckLevel,
        places: impl Iterator<Item = (u16, u64, Option<RecoveredLog>)>,
    ) -> Arc<Topic> {
        let mut partitions = Vec::new();
        for (shard, first_offset, log) in places {
            let mapping = Mapping::mirrored(usize::try_from(ring_bytes).expect("small"), Pages::Small);
            partitions.push(TopicPartition {
                id: PartitionId(self.next_partition),
                shard: ShardId(shard),
                ring: RegionId(RING.0 + self.next_partition),
                mapping: Arc::new(mapping.expect("memory for a test")),
                first_offset,
                committed: Vec::new(),
                log,
            });
            self.next_partition += 1;
        }
        let id = TopicId(self.next_topic);
        self.next_topic += 1;
        let name = name.into();
        let topic = Arc::new(Topic { id, name, kind, overflow, ring_bytes, durability, partitions });
        self.command_each(|| Command::AddTopic { ticket: 1, topic: Arc::clone(&topic) });
        topic
    }

    /// The disk that all shards share.
    pub(super) fn disk(&self) -> Disk {
        self.shards[0].io.disk()
    }

    /// Which shard has a partition.
    pub(super) fn owner_of(&self, partition: PartitionId) -> usize {
        let owner = self.shards[0].topics.owner(partition).expect("a partition");
        usize::from(owner.0)
    }

    pub(super) fn send(&mut self, sock: SockId, bytes: &[u8]) {
        let wire = match &mut self.tls {
            None => bytes.to_vec(),
            Some(tls) => tls.peers.get_mut(&sock).expect("a client").seal(bytes, tls.record_bytes),
        };
        self.shards[0].io.peer(sock).inbound.extend(wire);
    }

    /// What the server has sent, as the client's TLS leaves it.
    fn open_records(&mut self, sock: SockId) {
        let Some(tls) = &mut self.tls else { return };
        let mut socket = self.shards[0].io.peer(sock);
        let peer = tls.peers.get_mut(&sock).expect("a client");
        let wire = std::mem::take(&mut socket.outbound);
        peer.open(&wire);
        let answer = if peer.session.has_output() { peer.seal(&[], 1) } else { Vec::new() };
        socket.inbound.extend(answer);
    }

    /// Everything the server has said to a connection since the last look, as frames.
    pub(super) fn heard(&mut self, sock: SockId) -> Vec<(FrameHeader, Vec<u8>)> {
        self.open_records(sock);
        if let Some(tls) = &mut self.tls {
            return frames(&mut tls.peers.get_mut(&sock).expect("a client").opened);
        }
        let mut bytes = std::mem::take(&mut self.shards[0].io.peer(sock).outbound);
        let frames = frames(&mut bytes);
        self.shards[0].io.peer(sock).outbound = bytes;
        frames
    }

    /// The next frame that was said in plaintext, if it is whole.
    pub(super) fn hear_one(&mut self, sock: SockId) -> Option<(FrameHeader, Vec<u8>)> {
        let mut peer = self.shards[0].io.peer(sock);
        let first = peer.outbound.first_chunk::<HEADER_BYTES>()?;
        let header = FrameHeader::parse(first, u32::MAX).expect("a good frame");
        if peer.outbound.len() < header.frame_bytes() {
            return None;
        }
        let frame = peer.outbound.drain(..header.frame_bytes()).collect();
        Some((header, frame))
    }

    /// A connection to the first shard that has said hello.
    pub(super) fn client(&mut self) -> SockId {
        self.client_of(0)
    }

    /// A connection to this shard that has said hello.
    pub(super) fn client_of(&mut self, shard: usize) -> SockId {
        let sock = self.connect(shard);
        let hello = Hello { client: "test".into(), version_min: 1, version_max: 1, ..Hello::default() };
        self.send(sock, &hello.frame(0));
        self.run();
        let heard = self.heard(sock);
        assert_eq!(heard[0].0.kind, Kind::Welcome);
        sock
    }

    /// A connection to this shard whose handshake is over, where there is one.
    pub(super) fn connect(&mut self, shard: usize) -> SockId {
        let sock = self.begin(shard);
        for _ in 0..20 {
            self.run();
            self.open_records(sock);
            if self.tls.as_ref().is_none_or(|tls| tls.peers[&sock].session.can_send()) {
                break;
            }
        }
        self.run();
        sock
    }

    /// A connection that has said the first of its handshake.
    pub(super) fn begin(&mut self, shard: usize) -> SockId {
        let sock = self.shards[shard].io.connect();
        if let Some(tls) = &mut self.tls {
            let session = Session::client(&tls.client, "a.example", Records::Own, fixture::NOW_S);
            let peer = Peer { session, sealed: Vec::new(), opened: Vec::new(), then: Then::Wants(0) };
            tls.peers.insert(sock, peer);
            self.send(sock, &[]);
        }
        sock
    }

    /// A connection tied to this shard, so that requests for others' partitions do not move it: it has a
    /// subscription to a topic of that shard, which gets nothing.
    pub(super) fn settled_client(&mut self, shard: u16) -> SockId {
        let name = format!("anchor/{shard}");
        if self.shards[0].topics.by_name(&name).is_none() {
            self.topic_on(&name, TopicKind::Live, Overflow::Block, 1 << 20, &[(shard, 0)]);
        }
        let sock = self.client_of(usize::from(shard));
        self.subscribe(sock, Subscribe { topic: name, ..Subscribe::default() });
        sock
    }

    /// Opens a channel; says its handle and what the server answered.
    pub(super) fn open(&mut self, sock: SockId, topic: &str, producer_id: u64) -> (u32, Opened) {
        let open = Open { topic: topic.into(), producer_id, ack_every_batches: 1, ..Open::default() };
        self.open_as(sock, &open)
    }

    pub(super) fn open_as(&mut self, sock: SockId, open: &Open) -> (u32, Opened) {
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

    /// Whether the server answers a ping on this connection, and says nothing else.
    pub(super) fn answers(&mut self, sock: SockId) -> bool {
        let ping = FrameHeader { sequence: 4711, ..FrameHeader::new(Kind::Ping) }.alone();
        self.send(sock, &ping);
        self.run();
        self.heard(sock).iter().any(|(header, _)| header.kind == Kind::Pong && header.sequence == 4711)
    }

    pub(super) fn closed(&self, sock: SockId) -> bool {
        self.shards[0].io.peer(sock).closed
    }

    pub(super) fn set_room(&self, sock: SockId, room: usize) {
        self.shards[0].io.peer(sock).room = room;
    }

    /// Bytes of all partitions' rings that are promised to producers.
    pub(super) fn granted(&self) -> u64 {
        let slots = |shard: &Shard<Scripted>| shard.topics.slots().collect::<Vec<_>>();
        let of = |shard: &Shard<Scripted>| -> u64 {
            slots(shard)
                .iter()
                .filter_map(|&slot| shard.topics.get(slot))
                .map(|o| o.partition.granted())
                .sum()
        };
        self.shards.iter().map(of).sum()
    }

    /// What must be back at rest when no client is connected.
    pub(super) fn assert_nothing_leaked(&mut self) {
        self.run();
        assert_nothing_leaked(&self.shards);
        for shard in &self.shards {
            let id = shard.id;
            assert_eq!(shard.io.armed(), 0, "operations in flight of {id}");
            assert_eq!(shard.io.lists_in_use(), 0, "lists of spans of {id}");
        }
    }

    /// All clients go.
    pub(super) fn disconnect_all(&mut self) {
        for peer in self.shards[0].io.sockets().borrow_mut()[1..].iter_mut() {
            peer.room = usize::MAX;
            peer.ended = true;
        }
        self.run();
        self.pass(2_000);
    }
}

/// The subscription that gets everything there is.
pub(super) fn all_of(topic: &str) -> Subscribe {
    Subscribe { topic: topic.into(), start: Start::Earliest, credit: u64::MAX / 2, ..Subscribe::default() }
}

/// Takes whole frames off the front of `bytes`.
pub(super) fn frames(bytes: &mut Vec<u8>) -> Vec<(FrameHeader, Vec<u8>)> {
    let mut out = Vec::new();
    let mut rest = &bytes[..];
    while let Some(first) = rest.first_chunk::<HEADER_BYTES>() {
        let header = FrameHeader::parse(first, FRAME_BYTES_MAX).expect("the server's frames are well formed");
        let Some((frame, after)) = rest.split_at_checked(header.frame_bytes()) else { break };
        out.push((header, frame.to_vec()));
        rest = after;
    }
    bytes.drain(..bytes.len() - rest.len());
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
