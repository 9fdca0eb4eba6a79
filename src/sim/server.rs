//! One life of the simulated server: its shards, each on a kernel of its own, and control with its tasks and files, all on
//! the world's time.
//!
//! State: a `Server` is dropped where its process ends; [`Kept`] is what the next one finds. Memory is mapped once and
//! used by one life after the other, as it was left.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::access::Access;
use crate::buf::{Buffers, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec};
use crate::commit_log::format::LogFile;
use crate::config::Config;
use crate::control;
use crate::control::api::ApiError;
use crate::control::catalogue::{Least, TopicSpec};
use crate::control::host::Host as _;
use crate::control::stepped::{Listed, Stepped, Stepping};
use crate::ids::{PartitionId, RegionId, ShardId, SockId};
use crate::io::scripted::{Disk, Peer, Scripted, Sockets};
use crate::io::sim::{SimIo, Wakes};
use crate::io::{Clock, Completions, Io, SocketHandle, Wait};
use crate::limits::{BULK_REGION_BYTES, CONTROL_BLOCK_BYTES, MESH_RETRY_MS};
use crate::mesh::{Census, MeshEnd};
use crate::metrics::CounterPage;
use crate::proto::code::{Code, Fault};
use crate::shard::messages::Message;
use crate::shard::{Listening, Shard, ShardLimits, ShardSpec, ShardTls, audit};
use crate::tls::{Reason, Records, ServerTls};
use crate::topic::{LogSettings, Topic, TopicKind};

use super::executor::{Executor, SimHost};
use super::files::{DATA, FileSystem, SimFiles};
use super::plan::{Faults, KernelPlan, MS, Plan, TopicPlan};
use super::random::Random;

/// A frame has no more bytes.
pub const FRAME_BYTES_MAX: u32 = 64 * 1024;
const REGIONS_PER_SHARD: u32 = 10;
const FIRST_RING: u32 = 100;
/// Bytes of each partition's ring.
const RING_BYTES: usize = 256 * 1024;
/// Bytes of a segment's file.
pub const SEGMENT_BYTES: u64 = 256 * 1024;
/// More than any log gets.
const RETENTION_BYTES: u64 = 1 << 40;
/// How long the server may deliver what it has when it comes to its end.
pub const DRAIN_MS: u64 = 5_000;
/// How small topics are here.
const LEAST: Least = Least {
    ring_bytes: RING_BYTES as u64,
    log_ring_bytes: RING_BYTES as u64,
    segment_bytes: SEGMENT_BYTES,
    retention_bytes: SEGMENT_BYTES,
};
/// A connection on which nothing comes is let go after so long.
pub const IDLE_MS: u64 = 20_000;
/// One that says no whole hello, likewise,
pub const HANDSHAKE_MS: u64 = 5_000;
/// and one in the middle of a frame.
pub const FRAME_MS: u64 = 10_000;
/// Connections that the server holds at most.
pub const CONNECTIONS: u32 = 64;
const CONTROL_BLOCKS_MAX: u32 = 512;
const SHARDS_MAX: usize = 3;
const RINGS: usize = 64;

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
            rings: (0..RINGS).map(|_| mirrored(RING_BYTES)).collect(),
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
        connections: CONNECTIONS,
        channels: 64,
        subscriptions: 64,
        handshake_timeout_ms: HANDSHAKE_MS,
        frame_timeout_ms: FRAME_MS,
        idle_timeout_ms: IDLE_MS,
        bulk_regions: BULK_REGIONS,
        log_snapshot_bytes: 1 << 19,
    }
}

/// What outlives a server.
pub struct Kept {
    /// The disk.
    pub disk: Disk,
    /// What its files are called, and what goes wrong with that.
    pub files: Rc<RefCell<FileSystem>>,
    random: Random,
}

impl Kept {
    /// Before the first start.
    #[must_use]
    pub fn new(mut random: Random) -> Kept {
        let disk: Disk = Rc::default();
        disk.borrow_mut().hold(true);
        let files = FileSystem::new(Rc::clone(&disk), random.fork());
        Kept { disk, files, random }
    }

    /// The process has ended, with the power or without.
    pub fn ended(&mut self, power: bool) {
        let seed = self.random.number();
        if power {
            self.disk.borrow_mut().power_cut(seed);
            self.files.borrow_mut().power_cut();
        } else {
            self.disk.borrow_mut().kill(seed);
            self.files.borrow_mut().killed();
        }
    }

    /// Whether some log may not go on behind what was durable.
    pub fn is_fenced(&self) -> bool {
        let files = self.files.borrow();
        let logs = PathBuf::from(DATA).join("log");
        let fence = LogFile::Fence.name();
        files.list(&logs).iter().any(|folder| files.list(&logs.join(folder)).contains(&fence))
    }
}

/// What control does at an operator's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// A topic of the plan comes to be.
    Create(usize),
    /// It goes.
    Delete(usize),
    /// It pauses, or goes on.
    Pause(usize, bool),
}

impl Wish {
    /// Index of the topic.
    pub fn topic(self) -> usize {
        let (Wish::Create(topic) | Wish::Delete(topic) | Wish::Pause(topic, _)) = self;
        topic
    }
}

/// What came of a wish.
pub type Answer = (Wish, Result<(), ApiError>);

/// See the module.
pub struct Server {
    /// The shards.
    pub shards: Vec<Shard<SimIo>>,
    /// Which shards were woken by another.
    pub wakes: Wakes,
    control: Stepped,
    executor: Rc<Executor>,
    completions: Completions,
    /// What each shard counts.
    counters: Vec<Arc<CounterPage>>,
    /// Control lets the shards begin.
    released: Rc<Cell<bool>>,
    /// What the start came to.
    started: Rc<RefCell<Option<Result<(), String>>>>,
    answers: Rc<RefCell<Vec<Answer>>>,
    draining: bool,
    /// How the server has ended.
    exited: Rc<Cell<Option<u8>>>,
    /// Shards that run no more.
    stopped: Vec<bool>,
    /// Regions of memory that each shard has beside the topics' rings.
    own_regions: Vec<usize>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.executor.end();
    }
}

impl Server {
    /// Starts on what the one before has left; `tls`: what it speaks that with, on a listener of its own.
    ///
    /// # Errors
    /// Why it cannot, in words.
    ///
    /// # Panics
    /// When the one before has left something in memory.
    pub fn start(
        plan: &Plan,
        mappings: &Mappings,
        kept: &mut Kept,
        clock: Clock,
        tls: Option<ServerTls>,
    ) -> Result<Server, String> {
        let count = plan.shards;
        let mut ends = MeshEnd::build(usize::from(count) + 1, plan.mesh);
        let mesh = ends.pop().expect("control's end");
        let wakes = Wakes::default();
        let counters: Vec<_> = (0..count).map(|_| Arc::new(CounterPage::new())).collect();
        let free = mappings.rings.iter().all(|ring| Arc::strong_count(ring) == 1);
        assert!(free, "a ring has outlived its server");
        let executor = Executor::new(clock, kept.random.fork(), mappings.rings.clone());
        kept.files.borrow_mut().begin_start();
        let files = SimFiles::new(Rc::clone(&kept.files), Rc::clone(&executor));
        let woken = Rc::clone(&wakes);
        let rings = &mut |count, bytes| executor.take_rings(count, bytes).expect("rings for all topics");
        let stepping = Stepping {
            config: config(plan),
            least: LEAST,
            disk: control::files::Disk::Other(Rc::new(files.clone())),
            host: Rc::new(SimHost(Rc::clone(&executor))),
            mesh,
            wake: Box::new(move |shard| woken.borrow_mut().push(shard.index())),
            counters: counters.clone(),
            first_region: RegionId(FIRST_RING),
            rings,
        };
        let control = Stepped::new(stepping, &files);
        let ended = kept.files.borrow_mut().end_start();
        let control = control?;
        if ended {
            return Err("the process has ended within its start".to_owned());
        }
        let shards = shards(plan, mappings, kept, (clock, tls), (ends, &wakes, &counters));
        let own_regions = shards.iter().map(audit::own_regions).collect();
        let mut server = Server {
            shards,
            own_regions,
            wakes,
            control,
            executor,
            completions: Completions::with_capacity(256),
            counters,
            released: Rc::default(),
            started: Rc::default(),
            answers: Rc::default(),
            draining: false,
            exited: Rc::default(),
            stopped: vec![false; usize::from(count)],
        };
        server.begin();
        Ok(server)
    }

    fn begin(&mut self) {
        let (released, started) = (Rc::clone(&self.released), Rc::clone(&self.started));
        let start = self.control.start(move || released.set(true));
        self.spawn(async move {
            let result = start.await;
            *started.borrow_mut() = Some(result);
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        SimHost(Rc::clone(&self.executor)).spawn(Box::pin(task));
    }

    /// What goes wrong from now on.
    pub fn set_faults(&mut self, faults: &Faults) {
        for shard in &mut self.shards {
            shard.io.set_faults(faults);
        }
    }

    /// One turn of a shard; how long it may sleep. `None`: it does not run, as control has not let it yet, or it has come to
    /// its end.
    pub fn turn(&mut self, shard: usize, clock: Clock) -> Option<Wait> {
        if !self.released.get() || self.stopped[shard] {
            return None;
        }
        self.shards[shard].io.inner.now = clock;
        let turned = self.shards[shard].turn(Wait::No, &mut self.completions);
        // What was armed in this turn has perhaps something to tell already: nobody else would wake the shard for it.
        self.shards[shard].io.take_in();
        if audit::is_stopping(&self.shards[shard]) {
            self.stopped[shard] = true;
            self.control.shard_ended(ShardId(u16::try_from(shard).expect("few")));
            self.wakes.borrow_mut().push(self.shards.len());
        }
        Some(turned.expect("a simulated world goes on"))
    }

    /// The server is to come to its end in good order.
    pub fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) {
            let exited = Rc::clone(&self.exited);
            let drained = self.control.drain();
            self.spawn(async move { exited.set(Some(drained.await)) });
        }
    }

    /// Whether it is asked to come to its end.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// How it has ended, where it has.
    pub fn exited(&self) -> Option<u8> {
        self.exited.get()
    }

    /// Whether the shards run.
    pub fn is_released(&self) -> bool {
        self.released.get()
    }

    /// What the start came to, once.
    pub fn take_started(&mut self) -> Option<Result<(), String>> {
        self.started.borrow_mut().take()
    }

    /// Control's turn: everything that it can do now. When it wants the next.
    pub fn serve(&mut self, clock: Clock) -> Option<u64> {
        self.executor.set_clock(clock);
        loop {
            let waits = self.control.turn();
            if !self.executor.run() {
                let retry_ns = waits.then(|| clock.mono_ns + MESH_RETRY_MS * MS);
                return self.executor.next_ns().into_iter().chain(retry_ns).min();
            }
        }
    }

    /// An operator wants something of a topic.
    pub fn ask(&mut self, wish: Wish, topic: &TopicPlan) {
        let answers = Rc::clone(&self.answers);
        let name = topic.name.clone();
        let work: Pin<Box<dyn Future<Output = Result<(), ApiError>>>> = match wish {
            Wish::Create(_) => {
                let created = self.control.create(specification(topic));
                Box::pin(async move { created.await.map(|_| ()) })
            }
            Wish::Delete(_) => Box::pin(self.control.delete(name)),
            Wish::Pause(_, paused) => Box::pin(self.control.pause(name, paused)),
        };
        self.spawn(async move {
            let answer = work.await;
            answers.borrow_mut().push((wish, answer));
        });
    }

    /// What came of wishes since this was last asked.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut *self.answers.borrow_mut())
    }

    /// A partition's segment is closed.
    pub fn roll(&self, partition: PartitionId) {
        self.control.roll(partition);
    }

    /// Topics of the catalogue.
    pub fn listed(&self) -> Vec<Listed> {
        self.control.listed()
    }

    /// The topics that clients may have.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.control.topics()
    }

    /// A topic that clients may have.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.control.topics().into_iter().find(|topic| topic.name == name)
    }

    /// Offsets that recovery has told to be lost, by the topic's name and the partition's number.
    pub fn lost(&self) -> Vec<(String, u32, Range<u64>)> {
        let topics = self.control.topics();
        let named = |(id, offsets): &(PartitionId, Range<u64>)| {
            let all =
                topics.iter().flat_map(|topic| topic.partitions.iter().zip(0..).map(move |of| (topic, of)));
            let (topic, (_, number)) = all.into_iter().find(|(_, (of, _))| of.id == *id)?;
            Some((topic.name.clone(), number, offsets.clone()))
        };
        self.control.lost().iter().map(|lost| named(lost).expect("a partition of the catalogue")).collect()
    }

    /// What recovery has found in the logs that a server which ends in good order does not leave.
    pub fn found(&self) -> &[&'static str] {
        self.control.found()
    }

    /// It has ended in good order, and says that all is well: every shard has had its last turn, said all it had to say,
    /// and written all it took.
    ///
    /// # Panics
    /// When it has not.
    pub fn assert_ended_cleanly(&self) {
        assert!(self.stopped.iter().all(|&stopped| stopped), "shards that ended: {:?}", self.stopped);
        audit::assert_all_said_and_written(&self.shards);
        self.assert_rings_conserved();
    }

    /// Each ring that is lent is some topic's.
    ///
    /// # Panics
    /// When one is not.
    pub fn assert_rings_conserved(&self) {
        let of_topics: usize = self.control.topics().iter().map(|topic| topic.partitions.len()).sum();
        assert_eq!(self.executor.rings_in_use(), of_topics, "rings that are lent");
    }

    /// What has to do with files is at rest: those that shards have are logs' that are listed, and what control has opened is
    /// closed, or theirs.
    ///
    /// # Panics
    /// When it is not.
    pub fn assert_files_at_rest(&self) {
        let topics = self.control.topics();
        let is_listed = |id| topics.iter().flat_map(|topic| &topic.partitions).any(|of| of.id == id);
        audit::assert_files_at_rest(&self.shards, |io| io.inner.files(), is_listed);
        assert_eq!(
            self.executor.files_open(),
            self.files_attached(),
            "files that are open, and those of the shards"
        );
    }

    /// Whether a file is open that no shard has: it is on its way from one to control, or back.
    pub fn files_are_moving(&self) -> bool {
        self.executor.files_open() != self.files_attached()
    }

    fn files_attached(&self) -> i64 {
        let attached: usize = self.shards.iter().map(|shard| shard.io.inner.files()).sum();
        i64::try_from(attached).expect("few")
    }

    /// Of each log that control has: its folder, and the names there of its segments' files and of those that are free.
    pub fn folders(&self) -> BTreeMap<PathBuf, Vec<String>> {
        self.control.folders()
    }

    /// Each log that control has is of a topic.
    ///
    /// # Panics
    /// When one is not.
    pub fn assert_logs_are_of_topics(&self) {
        let topics = self.control.topics();
        let logs = topics.iter().filter(|topic| topic.kind == TopicKind::Log);
        let of_topics: usize = logs.map(|topic| topic.partitions.len()).sum();
        assert_eq!(self.folders().len(), of_topics, "logs that control has");
    }

    /// Files of segments that are on their way in or out.
    pub fn moving(&self) -> Vec<PathBuf> {
        self.control.moving()
    }

    /// What works worse than it could, as control says.
    pub fn degraded(&self) -> Vec<(&'static str, String)> {
        self.control.degraded()
    }

    /// A shard has the memory that it was given at the start and the rings of topics that there are, and each byte of its
    /// shared ring is the kernel's to fill or the shard's, and both agree which.
    ///
    /// # Panics
    /// When they do not.
    pub fn assert_buffers_conserved(&self, shard: usize) {
        let own_regions = self.own_regions[shard];
        let shard = &self.shards[shard];
        assert_eq!(audit::own_regions(shard), own_regions, "regions of memory that are no topic's");
        assert_eq!(shard.io.shared_free_bytes(), shard.shared_free_bytes(), "free bytes of the shared ring");
    }

    /// Where what consumers get of a topic's partition ends; `None` where there is none.
    pub fn visible_end(&self, topic: &str, partition: u32) -> Option<(PartitionId, u64)> {
        let topic = self.topic(topic)?;
        let of = topic.partitions.get(partition as usize)?;
        Some((of.id, self.shards[of.shard.index()].visible_end(of.id)))
    }

    /// Whether a shard has been sent something that it will take with its next turn.
    pub fn has_messages(&self, shard: usize) -> bool {
        !self.stopped[shard] && self.shards[shard].has_messages()
    }

    /// All partitions of a topic do what its operator was told.
    ///
    /// # Panics
    /// When one pauses and the others go on, or the other way round.
    pub fn assert_paused(&self, topic: &str, paused: bool) {
        for of in self.topic(topic).iter().flat_map(|topic| &topic.partitions) {
            let is_paused = self.shards[of.shard.index()].is_paused(of.id);
            let as_told = is_paused.is_none_or(|is_paused| is_paused == paused);
            assert!(as_told, "partition {} of {topic} pauses: {is_paused:?}, and was to: {paused}", of.id);
        }
    }

    /// No client breaks the protocol here but where its bytes were `changed` on the way, and nothing that was is taken for
    /// what it said; `tampered`: so may be what it has sealed.
    ///
    /// # Panics
    /// When a client was blamed.
    pub fn assert_nobody_is_blamed(&self, changed: bool, tampered: bool) {
        let unsealed = |page: &Arc<CounterPage>| page.read_tls_failed(Reason::BadRecordMac);
        let unsealed: u64 = self.counters.iter().map(unsealed).sum();
        assert!(tampered || unsealed == 0, "{unsealed} records that clients have sealed were not opened");
        let checks = [
            Code::BadMagic,
            Code::BadVersion,
            Code::BadHeaderChecksum,
            Code::BadControlChecksum,
            Code::BadBodyChecksum,
            // What keeps the place of a batch that was refused so, before a server that has forgotten it.
            Code::EmptyBatch,
        ];
        let blames = |code: &&Code| code.fault() == Fault::Peer && !code.retryable();
        for code in Code::ALL.iter().filter(blames).filter(|code| !(changed && checks.contains(code))) {
            let times: u64 = self.counters.iter().map(|page| page.read_refused(*code)).sum();
            assert_eq!(times, 0, "clients were refused for {}", code.name());
        }
    }
}

/// As an operator would have it.
fn config(plan: &Plan) -> Config {
    let mut config = Config { data: DATA.into(), shards: plan.shards, ..Config::default() };
    config.limits.frame_bytes_max = FRAME_BYTES_MAX;
    config.topics.auto_create = false;
    config.drain_deadline_ms = DRAIN_MS;
    config
}

/// A topic as it is asked for.
fn specification(topic: &TopicPlan) -> TopicSpec {
    let log = (topic.kind == TopicKind::Log).then_some(LogSettings {
        durability: topic.durability,
        retention_bytes: match topic.retention.segments {
            0 => RETENTION_BYTES,
            segments => segments * SEGMENT_BYTES,
        },
        retention_ms: topic.retention.ms,
        segment_bytes: SEGMENT_BYTES,
    });
    TopicSpec {
        name: topic.name.clone(),
        kind: topic.kind,
        overflow: topic.overflow,
        ring_bytes: RING_BYTES as u64,
        log,
        partitions: topic.partitions,
    }
}

/// The shards of one life, with their ends of the mesh.
fn shards(
    plan: &Plan,
    mappings: &Mappings,
    kept: &mut Kept,
    (clock, tls): (Clock, Option<ServerTls>),
    (ends, wakes, counters): (Vec<MeshEnd<Message>>, &Wakes, &[Arc<CounterPage>]),
) -> Vec<Shard<SimIo>> {
    let count = plan.shards;
    let census = Arc::new(Census::new(CONNECTIONS, 0));
    let sockets: Sockets = Rc::new(RefCell::new(LISTENERS.map(|_| Peer::listener()).into()));
    let mut shards = Vec::new();
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
        let mut io = SimIo::new(inner, number, shared, kept.random.fork(), Rc::clone(wakes));
        io.single_shots = plan.kernel.single_shots;
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
    shards
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
