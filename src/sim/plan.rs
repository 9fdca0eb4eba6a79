//! What a seed decides before a run begins: the server's size, the topics, the clients, and which faults there are and how
//! often. Each fault is on or off by itself, so that most runs meet some of them often and others never.

pub mod secured;

use super::random::Random;
use crate::proto::header::AckLevel;
use crate::topic::{Overflow, TopicKind};
use secured::{SecuredFaults, SecuredPlan};

/// Nanoseconds of a microsecond, a millisecond, a second.
pub const US: u64 = 1_000;
/// See [`US`].
pub const MS: u64 = 1_000 * US;
/// See [`US`].
pub const S: u64 = 1_000 * MS;

/// Kinds of acts, publishing aside.
pub const ACT_KINDS: usize = 10;

/// A topic.
#[derive(Debug, Clone)]
pub struct TopicPlan {
    /// What clients call it.
    pub name: String,
    /// Index of the first topic of that name: others come when the one before is deleted.
    pub first: usize,
    /// Its kind.
    pub kind: TopicKind,
    /// What happens when the ring is full.
    pub overflow: Overflow,
    /// Of a log.
    pub durability: AckLevel,
    /// How many partitions it has.
    pub partitions: u32,
    /// Of a log: what of it may go.
    pub retention: Retention,
}

/// What of a log may go. Most keep all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// What is beyond so many segments' bytes; 0: nothing.
    pub segments: u64,
    /// What is older; 0: nothing.
    pub ms: u64,
}

impl Retention {
    /// Nothing is to go.
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        *self == Retention::default()
    }

    /// Two of five logs keep all.
    fn new(random: &mut Random) -> Retention {
        let (few, young) =
            random.pick(&[(false, false), (false, false), (true, false), (false, true), (true, true)]);
        let (segments, ms) = (random.range(2, 4), random.pick(&[500, 2_000, 5_000, 15_000]));
        Retention { segments: if few { segments } else { 0 }, ms: if young { ms } else { 0 } }
    }
}

/// A client that publishes.
#[derive(Debug, Clone)]
pub struct ProducerPlan {
    /// Index of its topic.
    pub topic: usize,
    /// What it asks acknowledgements to promise.
    pub level: AckLevel,
    /// Bytes of its batches.
    pub batch_bytes: usize,
    /// Batches on the way.
    pub inflight: u32,
    /// Batches an acknowledgement stands for.
    pub ack_every: u32,
}

/// A client that subscribes.
#[derive(Debug, Clone)]
pub struct ConsumerPlan {
    /// Index of its topic.
    pub topic: usize,
    /// From the first record there is; else from the latest.
    pub from_earliest: bool,
    /// Bytes of credit.
    pub credit_bytes: u64,
    /// It commits what it has seen now and then, under a name of its own.
    pub commits: bool,
    /// It resumes, and may end where its connection does, with another in its place.
    pub resumes: bool,
}

/// How often what goes wrong, of a thousand chances each, and how long things take.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// A completion is told milliseconds late.
    pub late: u32,
    /// A reap hands out less than there is.
    pub pressure: u32,
    /// A receive that could go on ends behind what it reports.
    pub receives_end: u32,
    /// A poll reports what is not so, or an accept fails.
    pub spurious: u32,
    /// There is no list for a send.
    pub no_lists: u32,
    /// A connection's receives give few bytes at a time.
    pub short_receives: u32,
    /// A connection's socket takes few bytes at a time.
    pub small_sends: u32,
    /// A segment on the wire is delayed by up to `slow_ns`.
    pub slow: u32,
    /// See `slow`.
    pub slow_ns: u64,
    /// A new connection's first words are late by up to a third of a second, as where they have to be sent again.
    pub late_words: u32,
    /// A file operation takes up to 50 ms.
    pub disk_slow: u32,
    /// A write gets less far than it should, a read gives less.
    pub disk_short: u32,
    /// A write finds no room.
    pub disk_no_space: u32,
    /// A write fails for good.
    pub disk_write_fails: u32,
    /// A sync fails, and what it was to write is lost.
    pub disk_sync_fails: u32,
    /// A read fails.
    pub disk_read_fails: u32,
    /// A sync of a log fails at a start, and what it was to write may be lost. There are few of them.
    pub start_sync_fails: u32,
    /// The process ends within a start.
    pub start_ends: u32,
    /// A name of a file is not changed, a directory not synced, or a file not opened.
    pub names_fail: u32,
    /// Of TLS.
    pub secured: SecuredFaults,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Shards of the server.
    pub shards: u16,
    /// Messages that a ring of the mesh holds.
    pub mesh: usize,
    /// Topics.
    pub topics: Vec<TopicPlan>,
    /// So many of them, the first, are there from the beginning to the end. Others come by an act, and may go by one.
    pub lasting: usize,
    /// How often the server is drained.
    pub drains: usize,
    /// Producers.
    pub producers: Vec<ProducerPlan>,
    /// Consumers.
    pub consumers: Vec<ConsumerPlan>,
    /// Until faults stop.
    pub duration_ns: u64,
    /// Of a thousand partitions, pauses and clients that read nothing: so many are longer than any time-out.
    pub long: u32,
    /// Things that are done in that time.
    pub acts: usize,
    /// Kinds of acts that this run knows, beside publishing.
    pub acts_on: Vec<bool>,
    /// See [`Faults`].
    pub faults: Faults,
    /// TLS.
    pub secured: SecuredPlan,
    /// See [`KernelPlan`].
    pub kernel: KernelPlan,
    /// Of a million seconds of the monotonic clock, so many more pass on the wall clock.
    pub drift_ppm: i64,
    /// Syncs say that they are done, and are not.
    pub syncs_lie: bool,
}

/// What kind of kernel there is, and how much the server has.
#[derive(Debug, Clone)]
pub struct KernelPlan {
    /// Buffers of the shared ring.
    pub buffers: u16,
    /// Each receive takes a whole buffer, as kernels before 6.12 do.
    pub whole_buffers: bool,
    /// A buffer may come back with nothing in it where a stream ends.
    pub empty_buffers: bool,
    /// No receive and no accept goes on behind what it reports, as kernels before 6.0 and 5.19, and epoll, have it.
    pub single_shots: bool,
    /// Blocks for what the server has to say to all its connections.
    pub control_blocks: u32,
    /// Bytes of memory that logs are written from, and read into for consumers that lag.
    pub log_memory_bytes: u32,
}

const KINDS: [(TopicKind, Overflow); 6] = [
    (TopicKind::Log, Overflow::Block),
    (TopicKind::Log, Overflow::Block),
    (TopicKind::Memory, Overflow::Block),
    (TopicKind::Memory, Overflow::DropOldest),
    (TopicKind::Live, Overflow::Block),
    (TopicKind::Live, Overflow::DropOldest),
];

impl Plan {
    /// What this seed decides.
    #[must_use]
    pub fn new(seed: u64) -> Plan {
        let random = &mut Random::new(seed);
        let shards = u16::try_from(random.range(1, 3)).expect("few");
        let topics: Vec<_> = (0..random.range(1, 3)).map(|number| topic(random, number)).collect();
        let producers = (0..random.range(1, 6)).map(|_| producer(random, &topics)).collect();
        let consumers: Vec<_> = (0..random.range(1, 6))
            .map(|_| ConsumerPlan {
                topic: random.index(topics.len()),
                from_earliest: random.chance(600),
                credit_bytes: random.pick(&[4 * 1024, 64 * 1024, 1 << 20]),
                commits: random.chance(400),
                resumes: false,
            })
            .collect();
        let mesh = random.pick(&[8, 64, 256]);
        let duration = if random.chance(250) { random.range(20, 300) } else { random.range(1, 20) };
        let mut plan = Plan {
            shards,
            mesh,
            lasting: topics.len(),
            drains: 0,
            topics,
            producers,
            consumers,
            duration_ns: duration * S,
            long: 0,
            acts: usize::try_from(random.range(50, 600)).expect("few"),
            acts_on: (0..ACT_KINDS).map(|_| random.chance(450)).collect(),
            faults: faults(random),
            kernel: kernel(random),
            drift_ppm: if random.chance(300) { i64::from(random.signed(50_000)) } else { 0 },
            syncs_lie: random.chance(100),
            secured: SecuredPlan::default(),
        };
        let mut extra = random.fork();
        let mut passing = random.fork();
        plan.add_passing(&mut passing);
        let mut starts = random.fork();
        plan.faults.start_ends = if starts.chance(500) { starts.pick(&[100, 300, 600]) } else { 0 };
        plan.secured = SecuredPlan::new(&mut extra, plan.producers.len() + plan.consumers.len());
        if plan.secured.is_on() {
            plan.faults.secured = SecuredFaults::new(&mut extra);
        }
        plan.let_resume(&mut Random::new(seed ^ 0xc0_3317));
        plan.add_later(&mut Random::new(seed ^ 0xa6_a14));
        let mut longer = Random::new(seed ^ 0x10_46e4);
        plan.kernel.single_shots = longer.chance(200);
        plan.long = if longer.chance(300) { longer.pick(&[100, 500]) } else { 0 };
        let random = &mut Random::new(seed ^ 0x4e7a);
        for topic in plan.topics.iter_mut().filter(|topic| topic.kind == TopicKind::Log) {
            topic.retention = Retention::new(random);
        }
        plan.let_reject(&mut Random::new(seed ^ 0x4e1ec7));
        let random = &mut Random::new(seed ^ 0x1a7e);
        plan.faults.late_words = if random.chance(400) { random.pick(&[50, 300]) } else { 0 };
        plan
    }
}

impl Plan {
    /// Of consumers that commit, some resume.
    fn let_resume(&mut self, random: &mut Random) {
        for consumer in self.consumers.iter_mut().filter(|consumer| consumer.commits) {
            consumer.resumes = random.chance(600);
        }
    }

    /// Names of topics that go are used again: by others, of any kind. Nothing holds of names where the disk forgets which
    /// topics there are.
    fn add_later(&mut self, random: &mut Random) {
        let firsts = if self.syncs_lie { 0 } else { self.topics.len() };
        for first in self.lasting..firsts {
            let count = if random.chance(700) { random.range(1, 3) } else { 0 };
            for _ in 0..count {
                let name = self.topics[first].name.clone();
                self.topics.push(TopicPlan { name, first, ..topic(random, 0) });
            }
        }
    }

    /// Some topics that are kept in memory refuse what there is no room for. Logs may say what they like of that: they
    /// hold their producers back.
    fn let_reject(&mut self, random: &mut Random) {
        for topic in &mut self.topics {
            let others: &[Overflow] = match topic.kind {
                TopicKind::Log => &[Overflow::Reject, Overflow::DropOldest],
                TopicKind::Memory | TopicKind::Live => &[Overflow::Reject],
            };
            if random.chance(350) {
                topic.overflow = random.pick(others);
            }
        }
    }

    /// Topics that come and go, each with a producer and a consumer, in half of the plans.
    fn add_passing(&mut self, random: &mut Random) {
        self.drains = if random.chance(350) { 1 + random.index(4) } else { 0 };
        let count = if random.chance(500) { random.range(1, 5) } else { 0 };
        for number in 0..count {
            let of = topic(random, self.topics.len() as u64);
            let only = [TopicPlan { name: format!("p{number}"), ..of }];
            self.producers.push(ProducerPlan { topic: self.topics.len(), ..producer(random, &only) });
            self.consumers.push(ConsumerPlan {
                topic: self.topics.len(),
                from_earliest: random.chance(600),
                credit_bytes: random.pick(&[4 * 1024, 64 * 1024, 1 << 20]),
                commits: random.chance(400),
                resumes: false,
            });
            self.topics.extend(only);
        }
    }
}

fn topic(random: &mut Random, number: u64) -> TopicPlan {
    let (kind, overflow) = random.pick(&KINDS);
    let durability = match kind {
        TopicKind::Log => random.pick(&[AckLevel::Received, AckLevel::Written, AckLevel::Durable]),
        _ => AckLevel::Received,
    };
    let partitions = u32::try_from(random.range(1, 3)).expect("few");
    let first = usize::try_from(number).expect("few");
    let name = format!("t{number}");
    TopicPlan { name, first, kind, overflow, durability, partitions, retention: Retention::default() }
}

fn producer(random: &mut Random, topics: &[TopicPlan]) -> ProducerPlan {
    let topic = random.index(topics.len());
    let level = match topics[topic].kind {
        TopicKind::Log => random.pick(&[AckLevel::Received, AckLevel::Written, AckLevel::Durable]),
        _ => AckLevel::Received,
    };
    ProducerPlan {
        topic,
        level: level.max(topics[topic].durability),
        batch_bytes: random.pick(&[300, 2_000, 16_000, 60_000]),
        inflight: u32::try_from(random.pick(&[1u64, 4, 64])).expect("few"),
        ack_every: u32::try_from(random.range(1, 5)).expect("few"),
    }
}

fn kernel(random: &mut Random) -> KernelPlan {
    KernelPlan {
        buffers: random.pick(&[4, 4, 16]),
        whole_buffers: random.chance(300),
        empty_buffers: random.chance(300),
        single_shots: false,
        control_blocks: random.pick(&[512, 512, 96]),
        log_memory_bytes: random.pick(&[1 << 20, 1 << 20, 512 * 1024]),
    }
}

fn faults(random: &mut Random) -> Faults {
    // Where they fail often, much is made of it within a life.
    let syncs = if random.chance(300) { 60 } else { 6 };
    let mut often = |most: u64| {
        let on = random.chance(400);
        if on { u32::try_from(random.range(1, most)).expect("a few in a thousand") } else { 0 }
    };
    Faults {
        late: often(200),
        pressure: often(300),
        short_receives: often(800),
        small_sends: often(800),
        slow: often(300),
        slow_ns: u64::from(often(1_000)) * MS,
        late_words: 0,
        disk_slow: often(300),
        disk_short: often(200),
        disk_no_space: often(100),
        disk_write_fails: often(6),
        disk_sync_fails: often(syncs),
        disk_read_fails: often(100),
        receives_end: often(300),
        spurious: often(20),
        no_lists: often(300),
        names_fail: often(30),
        start_sync_fails: often(300),
        start_ends: 0,
        secured: SecuredFaults::default(),
    }
}
