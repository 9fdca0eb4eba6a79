//! One life of the simulated server: its shards, each on a kernel of its own, and control's part: topics made at the start,
//! files for the logs' segments, and what is kept for the next life.
//!
//! State: a `Server` is dropped where its process ends; [`Kept`] is what the next one finds. Memory is mapped once and
//! used by one life after the other, as it was left.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::access::Access;
use crate::buf::{Buffers, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec};
use crate::commit_log::recovery::Finding;
use crate::ids::{PartitionId, RegionId, ShardId, SockId, TopicId};
use crate::io::scripted::{Disk, Peer, Scripted, Sockets};
use crate::io::sim::{SimIo, Wakes};
use crate::io::{Clock, Completions, Io, SocketHandle, Wait};
use crate::limits::{BULK_REGION_BYTES, CONTROL_BLOCK_BYTES};
use crate::mesh::{Census, MeshEnd};
use crate::metrics::CounterPage;
use crate::proto::code::{Code, Fault};
use crate::shard::messages::{Command, LogCommand, LogReport, Message, Report, SegmentRefused};
use crate::shard::{Listening, Shard, ShardLimits, ShardSpec, ShardTls};
use crate::tls::{Records, ServerTls};
use crate::topic::{Topic, TopicKind, TopicPartition};

use super::oracle::Place;
use super::plan::{Faults, KernelPlan, Plan};
use super::random::Random;
use super::shelf::Shelf;

/// A frame has no more bytes.
pub const FRAME_BYTES_MAX: u32 = 64 * 1024;
const REGIONS_PER_SHARD: u32 = 10;
const FIRST_RING: u32 = 100;
/// Bytes of each partition's ring.
const RING_BYTES: usize = 256 * 1024;
/// More than any partition gets in one life.
const OFFSETS_OF_A_LIFE: u64 = 1_000_000;
const CONTROL_BLOCKS_MAX: u32 = 512;
const SHARDS_MAX: usize = 3;
const PARTITIONS_MAX: usize = 9;

/// Bulk connections of a shard. One that speaks TLS needs two regions.
const BULK_REGIONS: u16 = 2;
/// Of each shard, for records on their way out.
const SEALED_BYTES: usize = 512 * 1024;
/// The listener without TLS, and the one with.
pub const LISTENERS: [SockId; 2] = [SockId(0), SockId(1)];

/// One shard's memory.
struct ShardMemory {
    shared: Arc<Mapping>,
    blocks: Arc<Mapping>,
    control: Arc<Mapping>,
    log: Arc<Mapping>,
    bulk: Vec<Arc<Mapping>>,
    /// Where records are opened to, and sealed to.
    opened: Arc<Mapping>,
    sealed: Arc<Mapping>,
}

/// Memory for servers, one after the other.
pub struct Mappings {
    shards: Vec<ShardMemory>,
    rings: Vec<Arc<Mapping>>,
}

impl Mappings {
    /// Enough for the largest plan.
    ///
    /// # Panics
    /// When the host does not give it.
    #[must_use]
    pub fn new() -> Mappings {
        let mirrored =
            |bytes| Arc::new(Mapping::mirrored(bytes, Pages::Small).expect("memory to simulate in"));
        let plain = |bytes| Arc::new(Mapping::plain(bytes, Pages::Small).expect("memory to simulate in"));
        let shard = |_| ShardMemory {
            shared: mirrored(256 * 1024),
            blocks: plain(512 * 1024),
            control: plain((CONTROL_BLOCKS_MAX * CONTROL_BLOCK_BYTES) as usize),
            log: plain(1024 * 1024),
            bulk: (0..2 * BULK_REGIONS).map(|_| mirrored(BULK_REGION_BYTES as usize)).collect(),
            opened: mirrored(256 * 1024),
            sealed: plain(SEALED_BYTES),
        };
        Mappings {
            shards: (0..SHARDS_MAX).map(shard).collect(),
            rings: (0..PARTITIONS_MAX).map(|_| mirrored(RING_BYTES)).collect(),
        }
    }
}

impl Default for Mappings {
    fn default() -> Mappings {
        Mappings::new()
    }
}

fn limits(kernel: &KernelPlan) -> ShardLimits {
    ShardLimits {
        control_blocks: kernel.control_blocks,
        log_read_bytes: kernel.log_memory_bytes,
        frame_bytes_max: FRAME_BYTES_MAX,
        record_bytes_max: 32 * 1024,
        connections: 64,
        channels: 64,
        subscriptions: 64,
        handshake_timeout_ms: 5_000,
        frame_timeout_ms: 10_000,
        idle_timeout_ms: 20_000,
        bulk_regions: BULK_REGIONS,
        log_snapshot_bytes: 1 << 19,
    }
}

/// Something of interest that a shard has said.
#[derive(Debug)]
pub enum Said {
    /// A partition stores nothing more.
    Fenced(PartitionId, String),
    /// For the log.
    Event(&'static str, String),
}

/// What outlives a server.
pub struct Kept {
    /// The disk.
    pub disk: Disk,
    shelves: BTreeMap<PartitionId, Shelf>,
    /// Starts before this one.
    lives: u64,
    committed: BTreeMap<(PartitionId, String), u64>,
    /// Offsets that recovery has told to be lost.
    reported: Vec<(PartitionId, Range<u64>)>,
    random: Random,
}

impl Kept {
    /// Before the first start.
    #[must_use]
    pub fn new(random: Random) -> Kept {
        let disk: Disk = Rc::default();
        disk.borrow_mut().hold(true);
        Kept {
            disk,
            shelves: BTreeMap::new(),
            lives: 0,
            committed: BTreeMap::new(),
            reported: Vec::new(),
            random,
        }
    }

    fn partition(
        &mut self,
        id: PartitionId,
        shard: u16,
        kind: TopicKind,
        mapping: &Arc<Mapping>,
    ) -> TopicPartition {
        let of_this = |((of, name), &offset): (&(PartitionId, String), &u64)| {
            (*of == id).then(|| (name.clone(), offset))
        };
        let committed = self.committed.iter().filter_map(of_this).collect();
        let log = (kind == TopicKind::Log).then(|| {
            let disk = Rc::clone(&self.disk);
            let shelf = self.shelves.entry(id).or_insert_with(|| Shelf::new(id, disk));
            let recovery = shelf.recover();
            self.reported.extend(recovery.findings.iter().filter_map(lost).map(|range| (id, range)));
            let mut log = recovery.log;
            log.next_sequence = log.next_sequence.max(1);
            log
        });
        let first_offset = match &log {
            Some(log) => log.end.offset,
            // Where the process went without a word, offsets that may have been used are left out.
            None => self.lives * OFFSETS_OF_A_LIFE,
        };
        TopicPartition {
            id,
            shard: ShardId(shard),
            ring: RegionId(FIRST_RING + id.0),
            mapping: Arc::clone(mapping),
            first_offset,
            committed,
            log,
        }
    }
}

/// See the module.
pub struct Server {
    /// The shards.
    pub shards: Vec<Shard<SimIo>>,
    /// Topics, as planned.
    pub topics: Vec<Arc<Topic>>,
    /// Which shards were woken by another.
    pub wakes: Wakes,
    control: MeshEnd<Message>,
    /// Commands that found no room.
    unsent: Vec<(usize, Command)>,
    completions: Completions,
    /// Segments that are owed, for want of room on the disk.
    owed: Vec<(PartitionId, u64)>,
    /// No room for another segment.
    pub full: bool,
    tickets: u64,
    /// What each shard counts.
    counters: Vec<Arc<CounterPage>>,
}

impl Server {
    /// Starts on what the one before has left; `tls`: what it speaks that with, on a listener of its own.
    pub fn start(
        plan: &Plan,
        mappings: &Mappings,
        kept: &mut Kept,
        clock: Clock,
        tls: Option<ServerTls>,
    ) -> Server {
        let count = plan.shards;
        let mut ends = MeshEnd::build(usize::from(count) + 1, plan.mesh);
        let control = ends.pop().expect("control's end");
        let census = Arc::new(Census::new(64, 0));
        let sockets: Sockets = Rc::new(RefCell::new(LISTENERS.map(|_| Peer::listener()).into()));
        let wakes = Wakes::default();
        let mut shards = Vec::new();
        let counters: Vec<_> = (0..count).map(|_| Arc::new(CounterPage::new())).collect();
        for (number, mesh) in ends.into_iter().enumerate() {
            let memory = &mappings.shards[number];
            let shared = region(number, 0);
            let mut inner = Scripted::new(shared, &memory.shared, plan.kernel.buffers);
            inner.empty_buffers = plan.kernel.empty_buffers;
            if plan.kernel.whole_buffers {
                inner.whole_buffers();
            }
            inner.share(Rc::clone(&sockets));
            inner.share_disk(Rc::clone(&kept.disk));
            inner.now = clock;
            let mut io = SimIo::new(inner, number, shared, kept.random.fork(), Rc::clone(&wakes));
            let all = &mappings.shards[..usize::from(count)];
            let buffers = buffers(number, plan.kernel.buffers, all, &mut io, tls.is_some());
            let handle = |of: usize| {
                let ring_fd = i32::try_from(of).expect("few");
                crate::io::WakeHandle { event: None, ring_fd }
            };
            let spec = ShardSpec {
                id: ShardId(u16::try_from(number).expect("few")),
                shards: count,
                limits: limits(&plan.kernel),
                access: Arc::new(Access::open_to_all()),
                peers: (0..=usize::from(count)).map(handle).collect(),
                mesh,
                counters: Arc::clone(&counters[number]),
                census: Arc::clone(&census),
                buffers,
                log_memory: (region(number, 9), plan.kernel.log_memory_bytes.into()),
                control_region: region(number, 2),
                listeners: listeners(tls.is_some()),
                tls: tls.clone().map(|server| ShardTls {
                    server,
                    records: Records::Own,
                    send_memory: (region(number, 4), memory.sealed.bytes() as u64),
                }),
                auto_create: false,
                shard_addresses: Vec::new(),
            };
            shards.push(Shard::new(spec, io));
        }
        let mut server = Server {
            shards,
            topics: Vec::new(),
            wakes,
            control,
            unsent: Vec::new(),
            completions: Completions::with_capacity(256),
            owed: Vec::new(),
            full: false,
            tickets: 0,
            counters,
        };
        server.add_topics(plan, mappings, kept);
        kept.lives += 1;
        server
    }

    fn add_topics(&mut self, plan: &Plan, mappings: &Mappings, kept: &mut Kept) {
        let mut next = 0;
        for (number, of) in plan.topics.iter().enumerate() {
            let mut partitions = Vec::new();
            for &shard in &of.shards {
                let mapping = &mappings.rings[next as usize];
                partitions.push(kept.partition(PartitionId(next), shard, of.kind, mapping));
                next += 1;
            }
            let topic = Arc::new(Topic {
                id: TopicId(u32::try_from(number).expect("few")),
                name: of.name.clone(),
                kind: of.kind,
                overflow: of.overflow,
                ring_bytes: RING_BYTES as u64,
                durability: of.durability,
                partitions,
            });
            self.command_each(|ticket| Command::AddTopic { ticket, topic: Arc::clone(&topic) });
            for partition in &topic.partitions {
                if let Some(log) = &partition.log {
                    self.offer(kept, partition.id, usize::from(partition.shard.0), log.next_sequence);
                }
            }
            self.command_each(|_| Command::TopicReady { topic: topic.id });
            self.topics.push(topic);
        }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&mut self, faults: &Faults) {
        for shard in &mut self.shards {
            shard.io.set_faults(faults);
        }
    }

    /// One turn of a shard; how long it may sleep.
    pub fn turn(&mut self, shard: usize, clock: Clock) -> Wait {
        self.shards[shard].io.inner.now = clock;
        let turned = self.shards[shard].turn(Wait::No, &mut self.completions);
        // What was armed in this turn has perhaps something to tell already: nobody else would wake the shard for it.
        self.shards[shard].io.take_in();
        turned.expect("a simulated world goes on")
    }

    /// The same command for every shard.
    pub fn command_each(&mut self, command: impl Fn(u64) -> Command) {
        self.tickets += 1;
        for shard in 0..self.shards.len() {
            self.command(shard, command(self.tickets));
        }
    }

    /// A command for one shard, in order behind those before.
    pub fn command(&mut self, shard: usize, command: Command) {
        self.unsent.push((shard, command));
        self.send_commands();
    }

    fn send_commands(&mut self) {
        let mut stuck = [false; SHARDS_MAX];
        for (shard, command) in std::mem::take(&mut self.unsent) {
            if stuck[shard] || self.control.room(shard) == 0 {
                stuck[shard] = true;
                self.unsent.push((shard, command));
            } else {
                let _wake =
                    self.control.send(shard, Message::Command(Box::new(command))).expect("there is room");
                self.wakes.borrow_mut().push(shard);
            }
        }
    }

    /// Control's part: takes what shards have reported, and answers.
    pub fn serve(&mut self, kept: &mut Kept) -> Vec<Said> {
        let mut said = Vec::new();
        self.control.awake();
        // It sleeps again behind this: from here on whoever has something for it is told to wake it.
        while let Some((_, message)) = self.next_message() {
            let Message::Report(report) = message else { continue };
            match *report {
                Report::Log(report) => said.extend(self.serve_log(kept, report)),
                Report::Committed { partition, name, offset } => {
                    kept.committed.insert((partition, name), offset);
                }
                Report::Event { event, detail, .. } => said.push(Said::Event(event, detail)),
                Report::Done { .. }
                | Report::LogEnds { .. }
                | Report::Described { .. }
                | Report::Drained { .. } => {}
                Report::WantTopic { .. } => panic!("topics are not made by clients here"),
            }
        }
        if !self.full {
            for (partition, sequence) in std::mem::take(&mut self.owed) {
                let shard = self.owner(partition);
                self.offer(kept, partition, shard, sequence);
            }
        }
        self.send_commands();
        said
    }

    fn next_message(&mut self) -> Option<(usize, Message)> {
        loop {
            let next = self.control.receive();
            if next.is_some() || self.control.about_to_sleep() {
                return next;
            }
        }
    }

    fn serve_log(&mut self, kept: &mut Kept, report: LogReport) -> Option<Said> {
        match report {
            LogReport::WantSegment { partition, sequence } => {
                let shard = self.owner(partition);
                self.offer(kept, partition, shard, sequence);
            }
            LogReport::WantOpen { partition, sequence } => {
                let result = kept.shelves[&partition].open(sequence);
                let shard = self.owner(partition);
                self.command(shard, Command::Log(LogCommand::Opened { partition, sequence, result }));
            }
            LogReport::Sealed { partition, info } => kept.shelf(partition).sealed(&info),
            LogReport::Snapshot { partition, snapshot } => kept.shelf(partition).keep_snapshot(&snapshot),
            LogReport::Fenced { partition, durable, reason } => {
                kept.shelf(partition).fence(durable);
                return Some(Said::Fenced(partition, reason));
            }
            LogReport::Retired { .. } | LogReport::Close { .. } | LogReport::Rolled { .. } => {}
        }
        None
    }

    fn offer(&mut self, kept: &mut Kept, partition: PartitionId, shard: usize, sequence: u64) {
        let result = if self.full {
            self.owed.push((partition, sequence));
            Err(SegmentRefused::NoSpace("the simulated disk is full".to_owned()))
        } else {
            let mut random = kept.random.fork();
            Ok(kept.shelf(partition).make(sequence, &mut random))
        };
        self.command(shard, Command::Log(LogCommand::Segment { partition, sequence, result }));
    }

    /// Each byte of a shard's shared ring is the kernel's to fill or the shard's, and both agree which.
    ///
    /// # Panics
    /// When they do not.
    pub fn assert_buffers_conserved(&self, shard: usize) {
        let shard = &self.shards[shard];
        assert_eq!(shard.io.shared_free_bytes(), shard.shared_free_bytes(), "free bytes of the shared ring");
    }

    /// Where what consumers get of a partition ends.
    pub fn visible_end(&self, partition: PartitionId) -> u64 {
        self.shards[self.owner(partition)].visible_end(partition)
    }

    /// No client breaks the protocol here but where its bytes were `changed` on the way, and nothing that was is taken for
    /// what it said.
    ///
    /// # Panics
    /// When a client was blamed.
    pub fn assert_nobody_is_blamed(&self, changed: bool) {
        let checks = [
            Code::BadMagic,
            Code::BadVersion,
            Code::BadHeaderChecksum,
            Code::BadControlChecksum,
            Code::BadBodyChecksum,
        ];
        let blames = |code: &&Code| code.fault() == Fault::Peer && !code.retryable();
        for code in Code::ALL.iter().filter(blames).filter(|code| !(changed && checks.contains(code))) {
            let times: u64 = self.counters.iter().map(|page| page.read_refused(*code)).sum();
            assert_eq!(times, 0, "clients were refused for {}", code.name());
        }
    }

    /// What clients know a partition by.
    pub fn place(&self, partition: PartitionId) -> Place {
        let places = self.topics.iter().enumerate().flat_map(|(number, topic)| {
            topic.partitions.iter().zip(0..).map(move |(of, index)| (of.id, (number, index)))
        });
        let place = places.into_iter().find(|(id, _)| *id == partition).map(|(_, place)| place);
        place.expect("a partition that was planned")
    }

    /// Which shard has a partition.
    pub fn owner(&self, partition: PartitionId) -> usize {
        let all = self.topics.iter().flat_map(|topic| &topic.partitions);
        let owner = all.into_iter().find(|of| of.id == partition).map(|of| of.shard);
        usize::from(owner.expect("a partition that was planned").0)
    }
}

impl Kept {
    /// What recovery has told to be lost since this was last asked: offsets of partitions.
    pub fn take_reported(&mut self) -> Vec<(PartitionId, Range<u64>)> {
        std::mem::take(&mut self.reported)
    }

    /// Whether some log may not go on behind what was durable.
    pub fn is_fenced(&self) -> bool {
        self.shelves.values().any(Shelf::is_fenced)
    }

    fn shelf(&mut self, partition: PartitionId) -> &mut Shelf {
        self.shelves.get_mut(&partition).expect("a log's partition")
    }
}

/// Offsets that were durable and are gone.
fn lost(finding: &Finding) -> Option<Range<u64>> {
    match finding {
        Finding::Quarantined { range, .. } | Finding::Missing { range, .. } => {
            Some(range.from.offset..range.to.offset)
        }
        _ => None,
    }
}

fn region(shard: usize, number: u32) -> RegionId {
    RegionId(u32::try_from(shard).expect("few") * REGIONS_PER_SHARD + number)
}

/// The shard that has a region for its shared ring.
pub fn shard_of(shared: RegionId) -> usize {
    (shared.0 / REGIONS_PER_SHARD) as usize
}

fn listeners(secured: bool) -> Vec<Listening> {
    let one = |secured: bool| {
        let socket = SocketHandle::Simulated(LISTENERS[usize::from(secured)].0.into());
        Listening { socket, secured }
    };
    if secured { vec![one(false), one(true)] } else { vec![one(false)] }
}

/// A shard's memory, with that of the others it may be lent.
fn buffers(own: usize, count: u16, all: &[ShardMemory], io: &mut SimIo, secured: bool) -> Buffers {
    let regions = usize::from(BULK_REGIONS) * if secured { 2 } else { 1 };
    let mut memory = Memory::new();
    let mut attach = |id, mapping: &Arc<Mapping>| {
        memory.attach(id, Arc::clone(mapping));
        io.attach_region(id, mapping, false);
    };
    for (shard, of) in all.iter().enumerate() {
        attach(region(shard, 0), &of.shared);
        attach(region(shard, 1), &of.blocks);
        attach(region(shard, 9), &of.log);
        for (bulk, number) in of.bulk[..regions].iter().zip(5..) {
            attach(region(shard, number), bulk);
        }
        if secured {
            attach(region(shard, 3), &of.opened);
        }
    }
    attach(region(own, 2), &all[own].control);
    if secured {
        attach(region(own, 4), &all[own].sealed);
    }
    let of = &all[own];
    let receive = ReceiveMemory::new(ReceiveSpec {
        shared: (region(own, 0), &of.shared),
        buffers: count,
        bulk: (5..)
            .zip(&of.bulk[..regions])
            .map(|(number, bulk)| (region(own, number), Arc::clone(bulk)))
            .collect(),
        blocks: (region(own, 1), Arc::clone(&of.blocks)),
        opened: secured.then(|| (region(own, 3), Arc::clone(&of.opened))),
    });
    Buffers { memory, receive }
}
