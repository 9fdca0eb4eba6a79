//! A whole shard, stepped in a world in memory: from completions to sends, with everything in between.
//!
//! The receive memory is the server's by default (1 MiB shared ring in incremental buffers, regions for bulk
//! connections), so that large batches are promoted and small ones are not, as on a host. Clients are played between
//! two repetitions: each producer's next frames are written to its socket, what the server said is read. What the
//! world does (moving bytes, making completions) is not counted; timing a shard here would time the world.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use uringest::access::Access;
use uringest::buf::{Buffers, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec};
use uringest::ids::{PartitionId, RegionId, ShardId, SockId, TopicId};
use uringest::io::scripted::Scripted;
use uringest::io::{Completions, Io, SocketHandle, Wait};
use uringest::limits;
use uringest::mesh::{Census, MeshEnd};
use uringest::metrics::CounterPage;
use uringest::proto::control::{Hello, Open, Opened, Subscribe};
use uringest::proto::header::{FrameHeader, Kind, seal};
use uringest::shard::messages::{Command, Message};
use uringest::shard::{Listening, Shard, ShardLimits, ShardSpec};
use uringest::topic::{Overflow, Topic, TopicKind, TopicPartition};

use super::world::World;
use super::{Piece, RECORDS_4K, RECORDS_64K, Repeat, frame};

pub(super) const PIECES: &[Piece] = &[
    Piece {
        name: "shard_ingest_live_64k",
        unit: "record",
        units: 4 * RECORDS_64K,
        prepare: || Load { frames: 4, records: RECORDS_64K, ..Load::INGEST }.boxed(),
    },
    Piece {
        name: "shard_ingest_live_4k",
        unit: "record",
        units: 64 * RECORDS_4K,
        prepare: || Load::INGEST.boxed(),
    },
    Piece {
        name: "shard_ingest_memory_4k",
        unit: "record",
        units: 64 * RECORDS_4K,
        prepare: || Load { kind: TopicKind::Memory, ring_bytes: 2 * 1024 * 1024, ..Load::INGEST }.boxed(),
    },
    Piece {
        name: "shard_deliver_64k",
        unit: "delivery",
        units: 4 * RECORDS_64K,
        prepare: || Load { frames: 4, records: RECORDS_64K, consumers: 1, ..Load::INGEST }.boxed(),
    },
    Piece {
        name: "shard_fanout_4k",
        unit: "delivery",
        units: 8 * 64 * RECORDS_4K,
        prepare: || Load { consumers: 8, ..Load::INGEST }.boxed(),
    },
    Piece { name: "shard_swarm_256", unit: "record", units: 256, prepare: || Load::SWARM.boxed() },
    Piece {
        name: "shard_swarm_256_acked",
        unit: "record",
        units: 256,
        prepare: || Load { ack_every: 1, ..Load::SWARM }.boxed(),
    },
];

/// What a piece's clients do. A producer's frames of one repetition stay below half of a channel's credit: what is there
/// at least when the shard is at rest.
#[derive(Clone, Copy)]
struct Load {
    kind: TopicKind,
    producers: u32,
    consumers: u32,
    /// Frames of each producer in one repetition.
    frames: u32,
    /// Records of a frame.
    records: u32,
    /// Batches of a producer that share an acknowledgement.
    ack_every: u32,
    /// Or so long after the first of them; a repetition takes a millisecond.
    ack_every_us: u32,
    ring_bytes: u64,
}

const TOPIC: &str = "counted";
const RING: RegionId = RegionId(100);
const PARTITION: PartitionId = PartitionId(1);
/// Turns after which a shard that still has work is stuck.
const TURNS_MAX: usize = 10_000;
/// Repetitions until credit covers one, at most; and how many of them it has to cover in a row.
const WARM_UPS_MAX: usize = 200;
const WHOLE_IN_TURN: usize = 4;
/// Turns in a row without a word from the shard, after which it is at rest.
const QUIET_TURNS: usize = 3;

impl Load {
    const INGEST: Load = Load {
        kind: TopicKind::Live,
        producers: 1,
        consumers: 0,
        frames: 64,
        records: RECORDS_4K,
        ack_every: 16,
        ack_every_us: 1_000,
        ring_bytes: 16 * 1024 * 1024,
    };
    /// The ring backs every producer's credit; of a live topic without consumers it is not touched.
    const SWARM: Load = Load {
        producers: 256,
        frames: 1,
        records: 1,
        ack_every: 64,
        ack_every_us: 1_000_000,
        ring_bytes: 512 * 1024 * 1024,
        ..Load::INGEST
    };

    fn boxed(self) -> Box<dyn Repeat> {
        Box::new(Stage::new(self))
    }
}

/// A connection that publishes.
struct Producer {
    sock: SockId,
    /// The frame to send; its sequence is changed each time.
    frame: Vec<u8>,
    sequence: u64,
    acked: u64,
    used: u64,
    limit: u64,
}

/// The shard and its clients.
struct Stage {
    load: Load,
    shard: Shard<World>,
    world: Rc<RefCell<Scripted>>,
    completions: Completions,
    /// Control's end: commands go in, reports are dropped.
    control: MeshEnd<Message>,
    producers: Vec<Producer>,
    consumers: Vec<SockId>,
    /// Frame bytes sent in this repetition: what each consumer gets.
    sent_bytes: usize,
}

impl Repeat for Stage {
    fn ready(&mut self) {
        self.prepare(false);
    }

    fn work(&mut self) {
        self.run();
    }
}

impl Producer {
    /// Acts on what the server has said.
    fn heed(&mut self, mut said: &[u8]) {
        while let Some(first) = said.first_chunk::<{ limits::HEADER_BYTES }>() {
            let header =
                FrameHeader::parse(first, limits::FRAME_BYTES_MAX_DEFAULT).expect("a server's header");
            match header.kind {
                Kind::Ack => self.acked = header.sequence,
                Kind::Credit => self.limit = header.offset,
                kind => panic!("{kind:?}"),
            }
            said = &said[header.frame_bytes()..];
        }
    }

    fn has_credit(&self) -> bool {
        self.used + self.frame.len() as u64 <= self.limit
    }

    fn next(&mut self) -> &[u8] {
        assert!(self.has_credit(), "{} bytes used of {}", self.used, self.limit);
        self.sequence += 1;
        self.used += self.frame.len() as u64;
        self.frame[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        let (header, body) = self.frame.split_first_chunk_mut().expect("a frame has a header");
        seal(header, body);
        &self.frame
    }
}

impl Stage {
    fn new(load: Load) -> Stage {
        let mut ends = MeshEnd::build(2, 256).into_iter();
        let (mesh, control) = ends.next().zip(ends.next()).expect("the shard's and control's");
        let (shard, world) = shard(mesh);
        let completions = Completions::with_capacity(limits::COMPLETIONS_PER_TICK);
        let mut stage = Stage {
            load,
            shard,
            world,
            completions,
            control,
            producers: Vec::new(),
            consumers: Vec::new(),
            sent_bytes: 0,
        };
        stage.run();
        stage.add_topic();
        stage.consumers = (0..load.consumers).map(|_| stage.consumer()).collect();
        stage.producers = (0..u64::from(load.producers)).map(|number| stage.producer(number + 1)).collect();
        stage.warm_up();
        stage
    }

    /// Until the credit of every producer covers a repetition, and goes on doing so: it grows with what is used.
    fn warm_up(&mut self) {
        let mut whole = 0;
        for _ in 0..WARM_UPS_MAX {
            whole = if self.prepare(true) { whole + 1 } else { 0 };
            self.run();
            if whole == WHOLE_IN_TURN {
                return;
            }
        }
        panic!("credit never covers a repetition");
    }

    /// Reads what the server has said, checks it, and writes the next frames: with `growing` no more than credit
    /// covers. Whether that was all.
    fn prepare(&mut self, growing: bool) -> bool {
        let mut world = self.world.borrow_mut();
        world.received.clear();
        world.sent.clear();
        world.now.mono_ns += 1_000_000;
        world.now.wall_ns += 1_000_000;
        for &sock in &self.consumers {
            let got = std::mem::take(&mut world.peer(sock).outbound).len();
            assert_eq!(got, self.sent_bytes, "every consumer has everything");
        }
        self.sent_bytes = 0;
        let mut all = true;
        for producer in &mut self.producers {
            let said = std::mem::take(&mut world.peer(producer.sock).outbound);
            producer.heed(&said);
            assert!(
                producer.sequence - producer.acked < self.load.ack_every.into(),
                "everything is acknowledged in time"
            );
            for _ in 0..self.load.frames {
                if growing && !producer.has_credit() {
                    all = false;
                    break;
                }
                world.peer(producer.sock).inbound.extend(producer.next());
                self.sent_bytes += producer.frame.len();
            }
        }
        all
    }

    /// Turns until the shard has come to rest.
    fn run(&mut self) {
        let mut quiet = 0;
        for _ in 0..TURNS_MAX {
            let wait = self.shard.turn(Wait::No, &mut self.completions).expect("a scripted world goes on");
            while self.control.receive().is_some() {}
            quiet = if wait == Wait::No { 0 } else { quiet + 1 };
            if quiet == QUIET_TURNS {
                return;
            }
        }
        panic!("the shard does not come to rest");
    }

    fn add_topic(&mut self) {
        let ring_bytes = usize::try_from(self.load.ring_bytes).expect("memory for a benchmark");
        let partition = TopicPartition {
            id: PARTITION,
            shard: ShardId(0),
            ring: RING,
            mapping: Arc::new(Mapping::mirrored(ring_bytes, Pages::Small).expect("memory for a benchmark")),
            first_offset: 0,
            committed: Vec::new(),
            log: None,
        };
        let topic = Arc::new(Topic {
            id: TopicId(1),
            name: TOPIC.into(),
            kind: self.load.kind,
            overflow: Overflow::Block,
            ring_bytes: self.load.ring_bytes,
            durability: uringest::proto::header::AckLevel::Received,
            partitions: vec![partition],
        });
        for command in [Command::AddTopic { ticket: 1, topic }, Command::TopicReady { topic: TopicId(1) }] {
            let _wake = self.control.send(0, Message::Command(Box::new(command))).expect("room in the mesh");
            self.run();
        }
    }

    /// A connection that has said hello.
    fn client(&mut self) -> SockId {
        let sock = self.world.borrow_mut().connect();
        let hello = Hello { client: "pieces".into(), version_min: 1, version_max: 1, ..Hello::default() };
        self.ask(sock, &hello.frame(0), Kind::Welcome);
        sock
    }

    /// Sends a request; the answer, which has to be of this kind.
    fn ask(&mut self, sock: SockId, frame: &[u8], kind: Kind) -> (FrameHeader, Vec<u8>) {
        self.world.borrow_mut().peer(sock).inbound.extend(frame);
        self.run();
        let said = std::mem::take(&mut self.world.borrow_mut().peer(sock).outbound);
        let (first, body) = said.split_first_chunk().expect("an answer");
        let header = FrameHeader::parse(first, limits::FRAME_BYTES_MAX_DEFAULT).expect("a server's header");
        assert_eq!(header.kind, kind);
        (header, body.to_vec())
    }

    fn consumer(&mut self) -> SockId {
        let sock = self.client();
        let subscribe = Subscribe { topic: TOPIC.into(), credit: u64::MAX / 2, ..Subscribe::default() };
        self.ask(sock, &subscribe.frame(1), Kind::Subscribed);
        sock
    }

    fn producer(&mut self, producer_id: u64) -> Producer {
        let sock = self.client();
        let open = Open {
            topic: TOPIC.into(),
            producer_id,
            ack_every_batches: self.load.ack_every,
            ack_every_us: self.load.ack_every_us,
            ..Open::default()
        };
        let (header, body) = self.ask(sock, &open.frame(1), Kind::Opened);
        let limit = Opened::decode(&body).expect("opened").credit;
        let frame = frame(self.load.records, producer_id, 1, header.channel);
        Producer { sock, frame, sequence: 0, acked: 0, used: 0, limit }
    }
}

/// A shard as `serve` makes it by default, but for its size, and the world it runs in.
fn shard(mesh: MeshEnd<Message>) -> (Shard<World>, Rc<RefCell<Scripted>>) {
    let bounds = ShardLimits {
        frame_bytes_max: limits::FRAME_BYTES_MAX_DEFAULT,
        record_bytes_max: 64 * 1024,
        connections: 512,
        channels: 512,
        subscriptions: 64,
        handshake_timeout_ms: limits::HANDSHAKE_TIMEOUT_MS,
        frame_timeout_ms: limits::FRAME_TIMEOUT_MS,
        idle_timeout_ms: limits::IDLE_TIMEOUT_MS,
        control_blocks: 1024,
        bulk_regions: limits::BULK_REGIONS_DEFAULT,
        log_snapshot_bytes: limits::LOG_SNAPSHOT_BYTES_DEFAULT,
        log_read_bytes: limits::LOG_READ_BYTES_DEFAULT,
    };
    let mirrored = |bytes: u32| Mapping::mirrored(bytes as usize, Pages::Small);
    let region = |id: u32, mapping: Result<Mapping, _>| {
        let mapping: Result<_, uringest::buf::MapError> = mapping;
        (RegionId(id), Arc::new(mapping.expect("memory for a benchmark")))
    };
    let shared = region(0, mirrored(limits::SHARED_RING_BYTES));
    let blocks = region(1, Mapping::plain(1024 * 1024, Pages::Small));
    let control_bytes = bounds.control_blocks as usize * limits::CONTROL_BLOCK_BYTES as usize;
    let control = region(2, Mapping::plain(control_bytes, Pages::Small));
    let log = region(3, Mapping::plain(4 * 1024 * 1024, Pages::Small));
    let bulk: Vec<_> = (4..4 + u32::from(bounds.bulk_regions))
        .map(|id| region(id, mirrored(limits::BULK_REGION_BYTES)))
        .collect();

    let buffers = limits::SHARED_BUFFERS_INCREMENTAL;
    let (mut io, world) = World::new(Scripted::new(shared.0, &shared.1, buffers));
    let mut memory = Memory::new();
    for (id, mapping) in [&shared, &blocks, &control, &log].into_iter().chain(&bulk) {
        memory.attach(*id, Arc::clone(mapping));
        io.attach_region(*id, mapping, false);
    }
    let spec = ReceiveSpec { shared: (shared.0, &shared.1), buffers, bulk, blocks, opened: None };
    let spec = ShardSpec {
        id: ShardId(0),
        shards: 1,
        limits: bounds,
        access: Arc::new(Access::open_to_all()),
        mesh,
        peers: vec![io.wake_handle(), io.wake_handle()],
        counters: Arc::new(CounterPage::new()),
        census: Arc::new(Census::new(512, 0)),
        buffers: Buffers { memory, receive: ReceiveMemory::new(spec) },
        log_memory: (log.0, log.1.bytes() as u64),
        control_region: control.0,
        listeners: vec![Listening { socket: SocketHandle::Simulated(0), secured: false }],
        tls: None,
        auto_create: false,
        shard_addresses: Vec::new(),
    };
    (Shard::new(spec, io), world)
}
