//! The world a server and its clients live in: virtual time, the network between them, and what is done to them.
//!
//! State and owner: everything is here, and one thread does everything in the order of time; of things due at the same
//! time, the one that was planned first is first. So the seed decides the run.
//!
//! Invariant: time only rises. Whoever could do something has a time at which it is looked at: shards and clients have one
//! due time each, connections one for each direction, the disk one for each operation.

mod crashes;
mod ending;
mod lives;
mod operator;
mod refusals;
mod resuming;
mod retention;
mod strangers;
mod traffic;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::io::scripted::disk::{DiskEvent, DiskOp};
use crate::io::{Clock, IoError, Wait};
use crate::mutation::{self, Mutation};
use crate::proto::header::AckLevel;
use crate::shard::audit;
use crate::topic::TopicKind;

use super::acts::{Act, Cut, Moment, Timed};
use super::clients::{Client, Role};
use super::journal::Journal;
use super::net::{Conn, DOWN_BYTES_MAX, Pipe, UP_BYTES_MAX};
use super::oracle::{Disk, Oracle};
use super::plan::{ConsumerPlan, Faults, MS, Plan, S, US};
use super::random::Random;
use super::secured::Secured;
use super::{Outcome, Overlong};
use crashes::Awaited;
use operator::Operator;
use retention::Retained;
use strangers::Known;

use super::server::{Kept, Mappings, Server, Wish, shard_of};
use crate::client::core::Wish as Wants;
use crate::ids::SockId;

/// The clocks' reading when a run begins.
pub const EPOCH: Clock = Clock { mono_ns: S, wall_ns: 1_700_000_000 * S };
/// As long after the last fault everything has to have come right.
const GRACE_NS: u64 = 300 * S;

/// Turns in a row, a microsecond apart, that a shard that is told nothing may want: it spins for two milliseconds for each
/// peer whose ring is full.
const RESTLESS_MAX: u32 = 20_000;
/// A shard that was woken for a message has its next turn by then.
const WOKEN_NS: u64 = MS;

/// So much virtual time is looked at together,
const SPELL_NS: u64 = 10 * S;
/// and a shard has so many turns in it at most. It could have three times as many; what there is to do has never taken it
/// half as many, even in one second.
const SPELL_TURNS_MAX: u32 = 3_000_000;

/// How a write fails for good: of the file system's medium, of one that has become read-only, for want of memory.
const WRITES_FAIL: [IoError; 3] = [IoError::Os(libc::EIO), IoError::Os(libc::EROFS), IoError::NoMemory];
/// How a sync does: room that was promised may be found wanting only then.
const SYNCS_FAIL: [IoError; 3] = [IoError::Os(libc::EIO), IoError::NoSpace, IoError::Os(libc::EROFS)];
/// How a read does: of the medium, of a file system that finds itself damaged, for want of memory.
const READS_FAIL: [IoError; 3] = [IoError::Os(libc::EIO), IoError::Os(libc::EUCLEAN), IoError::NoMemory];

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Shard(usize),
    Client(usize),
    Up(usize),
    Down(usize),
    /// Of an operation on the disk, by its number, in this life.
    Disk {
        life: u64,
        id: u64,
    },
    Act(usize),
    /// The server starts.
    Start,
    /// The disk has room again.
    Room,
    /// Control is looked at.
    Control,
    /// The process ends, in the life that this was planned in.
    Crash {
        life: u64,
        power: bool,
        down_ns: u64,
    },
    /// A drain has had its time.
    Drained {
        life: u64,
    },
    /// An operator ends this life of the server.
    Replace {
        life: u64,
    },
    /// The operator sees what has not come to be yet.
    Operator,
    /// A stranger is looked at.
    Stranger(usize),
}

/// See the module.
pub struct World<'a> {
    plan: Plan,
    mappings: &'a Mappings,
    random: Random,
    now_ns: u64,
    /// The wall clock's distance from the monotonic one.
    wall_offset_ns: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Due)>>,
    numbers: u64,
    server: Option<Server>,
    life: u64,
    /// When control is due.
    control_ns: u64,
    operator: Operator,
    /// Steps on files that had failed when this life began.
    failed_before: u64,
    /// When this life began.
    start_ns: u64,
    /// The power was cut on a disk whose syncs lie.
    lied: bool,
    /// When the server was asked to drain, and how long it is down then.
    drain: (u64, u64),
    /// The life before this one ended with nothing left.
    ended_cleanly: bool,
    /// What recovery found in the logs when this life began.
    found: Vec<&'static str>,
    /// When the operator has heard that a partition is fenced.
    fenced_ns: Option<u64>,
    /// When each shard is due, and before when it does not run.
    shards: Vec<(u64, u64)>,
    kept: Kept,
    clients: Vec<Client>,
    conns: Vec<Option<Conn>>,
    faults: Faults,
    acts: Vec<Timed>,
    /// The crash that waits for its moment.
    awaited: Option<Awaited>,
    disk_full_ns: u64,
    /// Producers there have been.
    incarnations: u32,
    /// Bytes of some client were changed on the way, and not in a secured connection.
    changed: bool,
    oracle: Oracle,
    retained: Retained,
    secured: Secured,
    strangers: Vec<Option<Known>>,
    /// Others, who say nothing.
    crowd: Vec<SockId>,
    /// Some shard has not run until this time.
    paused_until_ns: u64,
    /// What has happened.
    pub journal: Journal,
    calm: bool,
    /// What is left to chance of applications that resume.
    resuming: Random,
    /// Completions that shards were told.
    told: u64,
    /// Turns of each shard in a row that it was told nothing in, and did not want to rest behind.
    restless: Vec<u32>,
    /// Sessions that had begun when each shard was last seen to drain.
    drained_sessions: Vec<Option<u64>>,
    /// Turns of each shard in the spell that began at this time.
    spell: (u64, Vec<u32>),
    /// The run ends where it has more.
    pub events_max: u64,
}

impl<'a> World<'a> {
    /// A world as planned, in which these acts are done.
    pub fn new(plan: Plan, acts: Vec<Timed>, mappings: &'a Mappings, seed: u64, printed: bool) -> World<'a> {
        let mut random = Random::new(seed ^ 0x30_71d);
        let kept = Kept::new(random.fork());
        kept.disk.borrow_mut().syncs_lie(plan.syncs_lie);
        kept.files.borrow_mut().set_faults(&plan.faults);
        let mut world = World {
            shards: vec![(u64::MAX, 0); usize::from(plan.shards)],
            faults: plan.faults.clone(),
            mappings,
            now_ns: EPOCH.mono_ns,
            wall_offset_ns: EPOCH.wall_ns,
            queue: BinaryHeap::new(),
            numbers: 0,
            server: None,
            life: 0,
            control_ns: u64::MAX,
            operator: Operator::new(&plan.topics, plan.lasting),
            failed_before: 0,
            start_ns: 0,
            lied: false,
            ended_cleanly: false,
            found: Vec::new(),
            fenced_ns: None,
            drain: (0, 0),
            kept,
            clients: Vec::new(),
            conns: Vec::new(),
            awaited: None,
            disk_full_ns: 0,
            incarnations: 0,
            changed: false,
            retained: Retained::default(),
            oracle: Oracle::new(Disk { syncs_lie: plan.syncs_lie }, &plan.topics),
            secured: Secured::new(plan.secured.clone(), Random::new(seed ^ 0x715)),
            journal: Journal::new(printed),
            calm: false,
            resuming: Random::new(seed ^ 0x4e5),
            told: 0,
            restless: vec![0; usize::from(plan.shards)],
            drained_sessions: vec![None; usize::from(plan.shards)],
            spell: (0, vec![0; usize::from(plan.shards)]),
            events_max: u64::MAX,
            strangers: Vec::new(),
            crowd: Vec::new(),
            paused_until_ns: 0,
            acts,
            random,
            plan,
        };
        for number in 0..world.plan.producers.len() {
            let client = world.new_producer(number, Vec::new());
            world.clients.push(client);
        }
        for of in world.plan.consumers.clone() {
            let client = world.new_consumer(world.clients.len(), &of);
            world.clients.push(client);
        }
        world.plan_at(world.now_ns, Due::Start);
        for at in 0..world.acts.len() {
            world.plan_at(EPOCH.mono_ns + world.acts[at].at_ns, Due::Act(at));
        }
        for client in 0..world.clients.len() {
            world.wake_client(client, world.now_ns + MS);
        }
        world
    }

    fn new_producer(&mut self, at: usize, waiting: Vec<(u32, u32)>) -> Client {
        self.incarnations += 1;
        let tls = self.secured.client(at);
        let now = self.operator.current(self.plan.producers[at].topic);
        Client::producer(&self.plan, (at, self.incarnations, now), (self.random.number(), tls), waiting)
    }

    fn new_consumer(&mut self, at: usize, of: &ConsumerPlan) -> Client {
        let tls = self.secured.client(at);
        let seed = self.random.number();
        self.oracle.commits.parted(at);
        let resume = of.resumes && (self.calm || self.resuming.chance(800));
        Client::consumer(&self.plan, (at, of), resume, (seed, tls))
    }

    /// Runs to the end: acts and faults, then calm, perhaps another start, the audit, and the clients' going.
    ///
    /// # Panics
    /// When anything is not as it must be.
    pub fn run(&mut self) {
        self.run_until(EPOCH.mono_ns + self.plan.duration_ns, |_| false);
        self.calm_down();
        let settled = self.run_until(self.now_ns + GRACE_NS, World::is_settled);
        assert!(settled, "nothing is in the way, and not everything comes through: {}", self.unsettled());
        self.come_back();
        self.resume_all();
        self.audit();
        self.leave();
        self.assert_retention_done();
    }

    /// What has come of it so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome {
            hash: self.journal.hash(),
            events: self.journal.events,
            completions: self.told,
            acknowledged: self.oracle.acknowledged,
            delivered: self.oracle.delivered,
            retired: self.retained.segments,
            virtual_ns: self.now_ns - EPOCH.mono_ns,
        }
    }

    // ---- time ----

    fn plan_at(&mut self, at_ns: u64, due: Due) {
        self.numbers += 1;
        self.queue.push(Reverse((at_ns.max(self.now_ns), self.numbers, due)));
    }

    fn wake_shard(&mut self, shard: usize, at_ns: u64) {
        let (due_ns, paused_ns) = self.shards[shard];
        let at_ns = at_ns.max(paused_ns).max(self.now_ns);
        if at_ns < due_ns {
            self.shards[shard].0 = at_ns;
            self.plan_at(at_ns, Due::Shard(shard));
        }
    }

    /// One direction of a connection is looked at by then, once however often it is said.
    fn plan_pipe(&mut self, due: Due, at_ns: u64) {
        let at_ns = at_ns.max(self.now_ns);
        if self.pipe(due).is_some_and(|pipe| pipe.no_later_than(at_ns)) {
            self.plan_at(at_ns, due);
        }
    }

    fn is_pipe_due(&mut self, due: Due) -> bool {
        let now_ns = self.now_ns;
        self.pipe(due).is_some_and(|pipe| pipe.is_due(now_ns))
    }

    fn pipe(&mut self, due: Due) -> Option<&mut Pipe> {
        let (Due::Up(at) | Due::Down(at)) = due else { return None };
        let conn = self.conns.get_mut(at)?.as_mut()?;
        Some(if due == Due::Up(at) { &mut conn.up } else { &mut conn.down })
    }

    fn wake_control(&mut self, at_ns: u64) {
        let at_ns = at_ns.max(self.now_ns);
        if at_ns < self.control_ns {
            self.control_ns = at_ns;
            self.plan_at(at_ns, Due::Control);
        }
    }

    fn wake_client(&mut self, client: usize, at_ns: u64) {
        let at_ns = at_ns.max(self.now_ns);
        let due_ns = &mut self.clients[client].due_ns;
        if *due_ns <= self.now_ns || at_ns < *due_ns {
            *due_ns = at_ns;
            self.plan_at(at_ns, Due::Client(client));
        }
    }

    /// Until this time, or until `done`; whether that was.
    fn run_until(&mut self, end_ns: u64, done: impl Fn(&World) -> bool) -> bool {
        let mut looks = 0_u32;
        while let Some(&Reverse((at_ns, _, _))) = self.queue.peek() {
            if at_ns > end_ns {
                break;
            }
            let Reverse((at_ns, _, due)) = self.queue.pop().expect("one is there");
            self.now_ns = at_ns;
            if self.journal.events > self.events_max {
                std::panic::panic_any(Overlong);
            }
            self.take(due);
            looks += 1;
            if looks.is_multiple_of(64) && done(self) {
                return true;
            }
        }
        if !done(self) {
            self.now_ns = self.now_ns.max(end_ns);
            return false;
        }
        true
    }

    fn take(&mut self, due: Due) {
        match due {
            Due::Shard(shard) if self.shards[shard].0 == self.now_ns => self.turn(shard),
            Due::Client(client) if self.clients[client].due_ns == self.now_ns => self.step_client(client),
            Due::Shard(_) | Due::Client(_) => {}
            Due::Up(_) | Due::Down(_) if !self.is_pipe_due(due) => {}
            Due::Up(conn) => self.arrive_up(conn),
            Due::Down(conn) => self.arrive_down(conn),
            Due::Disk { life, id } if life == self.life => self.disk_done(id),
            Due::Disk { .. } => {}
            Due::Act(at) => self.act(self.acts[at].act),
            Due::Start => self.start(),
            Due::Room if self.now_ns >= self.disk_full_ns => self.set_disk_full(false),
            Due::Room => {}
            Due::Crash { life, power, down_ns } if life == self.life => self.crash(power, down_ns),
            Due::Crash { .. } => {}
            Due::Control if self.control_ns == self.now_ns => self.serve(),
            Due::Control => {}
            Due::Operator => self.ask_again(),
            Due::Replace { life } if life == self.life => self.replace(),
            Due::Replace { .. } => {}
            Due::Drained { life } if life == self.life => self.look_at_drain(),
            Due::Drained { .. } => {}
            Due::Stranger(at) => self.look_at_stranger(at),
        }
    }

    fn clock(&self) -> Clock {
        let since_ns = i64::try_from(self.now_ns - EPOCH.mono_ns).expect("hours");
        let drift_ns = since_ns / 1_000_000 * self.plan.drift_ppm;
        let wall_ns = (self.wall_offset_ns + self.now_ns).saturating_add_signed(drift_ns);
        Clock { mono_ns: self.now_ns, wall_ns }
    }

    // ---- the server ----

    fn turn(&mut self, shard: usize) {
        self.shards[shard].0 = u64::MAX;
        let clock = self.clock();
        let Some(server) = &mut self.server else { return };
        let told = server.shards[shard].io.told;
        // Nobody takes what one that does not run would be told.
        let Some(wait) = server.turn(shard, clock) else { return };
        let io = &server.shards[shard].io;
        let (told, next_ns) = (io.told - told, io.next_ns());
        self.told += told;
        let cost_ns = US + told * US;
        let again_ns = match wait {
            Wait::No => self.now_ns,
            Wait::Until(at_ns) => at_ns,
            Wait::Forever => u64::MAX,
        };
        let again_ns = again_ns.max(self.now_ns + cost_ns);
        let rests_ns = again_ns - self.now_ns - cost_ns;
        self.journal.note(self.now_ns, "turn", &[shard as u64, told, rests_ns]);
        self.assert_rests(shard, rests_ns > 0 || told > 0);
        let Some(server) = &mut self.server else { return };
        if !mutation::on(Mutation::LoseCredit) {
            audit::assert_credit_conserved(&server.shards);
        }
        server.assert_buffers_conserved(shard);
        audit::assert_within_bounds(&server.shards[shard]);
        self.assert_welcomes_nobody(shard);
        self.look_at_logs(shard);
        let Some(server) = &mut self.server else { return };
        let wakes = std::mem::take(&mut *server.wakes.borrow_mut());
        for at_ns in [again_ns].into_iter().chain(next_ns) {
            self.wake_shard(shard, at_ns.max(self.now_ns + cost_ns));
        }
        for woken in wakes {
            self.woken(woken);
        }
        self.assert_woken();
        self.plan_disk();
        self.carry_down(shard);
    }

    /// In a drain no session begins: nobody would tell it of the end.
    fn assert_welcomes_nobody(&mut self, shard: usize) {
        let Some(server) = &self.server else { return };
        let now = audit::sessions_in_drain(&server.shards[shard]);
        let before = std::mem::replace(&mut self.drained_sessions[shard], now);
        assert!(
            before.is_none() || now.is_none() || before == now,
            "shard {shard} drains, and welcomes somebody"
        );
    }

    /// Whoever was sent a message is awake, or was woken for it.
    fn assert_woken(&self) {
        let Some(server) = &self.server else { return };
        for (shard, &(due_ns, paused_ns)) in self.shards.iter().enumerate() {
            let soon_ns = paused_ns.max(self.now_ns) + WOKEN_NS;
            let comes = due_ns <= soon_ns || !server.has_messages(shard);
            assert!(comes, "shard {shard} sleeps until {due_ns} ns, and has messages");
        }
    }

    /// A shard that is told nothing has nothing to do before long, and whatever it is told, it is not busy with itself.
    fn assert_rests(&mut self, shard: usize, rests: bool) {
        let (began_ns, all) = &mut self.spell;
        if self.now_ns - *began_ns > SPELL_NS {
            *began_ns = self.now_ns;
            all.fill(0);
        }
        all[shard] += 1;
        assert!(
            all[shard] <= SPELL_TURNS_MAX,
            "shard {shard} turns without end: {SPELL_TURNS_MAX} times since {began_ns} ns"
        );
        let turns = &mut self.restless[shard];
        *turns = if rests { 0 } else { *turns + 1 };
        if *turns > RESTLESS_MAX {
            let server = self.server.as_mut().expect("it has just had its turn");
            panic!("shard {shard} does not rest: {}", audit::restless(&mut server.shards[shard]));
        }
    }

    fn woken(&mut self, peer: usize) {
        let delay_ns = self.random.below(20 * US);
        if peer == self.shards.len() {
            let late = if self.random.chance(self.faults.late) { 50 * MS } else { 0 };
            return self.wake_control(self.now_ns + delay_ns + late);
        }
        self.wake_shard(peer, self.now_ns + delay_ns);
    }

    // ---- the disk ----

    /// Operations that have begun get a time to end.
    fn plan_disk(&mut self) {
        let events = self.kept.disk.borrow_mut().take_events();
        for event in events {
            if let DiskEvent::Began(info) = event {
                let named = self.kept.files.borrow_mut().has_name(info.file);
                assert!(named, "nobody uses a file that control has taken away: {info:?}");
                let slow = self.random.chance(self.faults.disk_slow);
                let delay_ns = 20 * US + self.random.below(if slow { 50 * MS } else { 300 * US });
                let due = Due::Disk { life: self.life, id: info.id };
                self.plan_at(self.now_ns + delay_ns, due);
            }
        }
    }

    fn disk_done(&mut self, id: u64) {
        let mut disk = self.kept.disk.borrow_mut();
        let Some(info) = disk.in_flight().into_iter().find(|info| info.id == id) else { return };
        let (faults, random) = (&self.faults, &mut self.random);
        let sectors = info.bytes / 512;
        let mut moment = info.op.writes().then_some(Moment::Written);
        match info.op {
            DiskOp::Write | DiskOp::DurableWrite => {
                if random.chance(faults.disk_no_space) {
                    disk.fail_next(info.op, IoError::NoSpace);
                } else if random.chance(faults.disk_short) && sectors > 1 {
                    let some = u32::try_from(random.range(1, u64::from(sectors) - 1)).expect("few");
                    disk.short_next(info.op, 512 * some);
                } else if random.chance(faults.disk_write_fails) {
                    disk.fail_next(info.op, random.pick(&WRITES_FAIL));
                }
            }
            DiskOp::Sync if random.chance(faults.disk_sync_fails) => {
                disk.failed_syncs_drop(random.chance(500));
                moment = Some(Moment::SyncFailed);
                disk.fail_next(info.op, random.pick(&SYNCS_FAIL));
            }
            DiskOp::Read if random.chance(faults.disk_read_fails) => {
                self.oracle.read_failed();
                disk.fail_next(info.op, random.pick(&READS_FAIL));
            }
            DiskOp::Read if random.chance(faults.disk_short) && sectors > 1 => {
                let some = u32::try_from(random.range(1, u64::from(sectors) - 1)).expect("few");
                disk.short_next(info.op, 512 * some);
            }
            DiskOp::Sync | DiskOp::Read => {}
        }
        disk.complete(id);
        drop(disk);
        if let Some(moment) = moment {
            self.moment(moment);
        }
        self.journal.note(self.now_ns, "disk", &[id, u64::from(info.bytes)]);
        for shard in 0..self.shards.len() {
            self.wake_shard(shard, self.now_ns);
        }
    }

    fn set_disk_full(&mut self, full: bool) {
        self.kept.disk.borrow_mut().full(full);
        self.kept.files.borrow_mut().set_full(full);
    }

    // ---- acts ----

    fn act(&mut self, act: Act) {
        self.journal.note(self.now_ns, "act", &[]);
        self.journal.tell(&act);
        let consumers = self.plan.producers.len();
        match act {
            Act::Publish { producer, records, bytes } => {
                if let Role::Producer(producer) = &mut self.clients[producer].role {
                    producer.publish(records, bytes);
                }
                self.wake_client(producer, self.now_ns);
            }
            Act::Stall { consumer, ns } => self.clients[consumers + consumer].stalled_ns = self.now_ns + ns,
            Act::Disconnect { client, cut } => {
                if let Some(at) = self.clients[client].conn {
                    self.end_towards_server(at, cut);
                    self.let_go(client, "cut");
                }
            }
            Act::Corrupt { client } => {
                if let Some(conn) = self.clients[client].conn.and_then(|at| self.conns[at].as_mut()) {
                    conn.corrupt = true;
                }
            }
            Act::Partition { client, ns } => {
                if let Some(at) = self.clients[client].conn
                    && let Some(conn) = &mut self.conns[at]
                {
                    conn.parted_ns = self.now_ns + ns;
                    self.plan_pipe(Due::Up(at), self.now_ns + ns);
                }
            }
            Act::PauseShard { shard, ns } => {
                self.shards[shard] = (u64::MAX, self.now_ns + ns);
                self.paused_until_ns = self.paused_until_ns.max(self.now_ns + ns);
                self.oracle.commits.disturbed(self.now_ns, self.paused_until_ns);
                self.wake_shard(shard, self.now_ns);
            }
            Act::Jump { ms } => {
                let ns = ms * i64::try_from(MS).expect("small");
                self.note_wall();
                self.wall_offset_ns = self.wall_offset_ns.saturating_add_signed(ns);
            }
            Act::PauseTopic { topic, paused } => self.wish(Wish::Pause(topic, paused), false),
            Act::Create { topic } => self.wish(Wish::Create(topic), true),
            Act::Delete { topic } => self.delete(topic),
            Act::Drain { down_ns } => self.drain(down_ns),
            Act::Roll { topic, partition } => self.roll(topic, partition),
            Act::DiskFull { ns } => {
                self.oracle.was_full = true;
                self.disk_full_ns = self.now_ns + ns;
                self.set_disk_full(true);
                self.plan_at(self.disk_full_ns, Due::Room);
            }
            Act::Crash { power, when, behind_ns, down_ns } => {
                self.await_crash(Awaited { when, power, behind_ns, down_ns });
            }
            Act::Stranger { how, shard } => self.stranger(how, shard),
            Act::ReplaceKey { client } => {
                self.clients[client].line.replace_key();
                self.wake_client(client, self.now_ns);
            }
            Act::ReplaceKeys { shard } => {
                if let Some(server) = &mut self.server {
                    audit::replace_keys(&mut server.shards[shard]);
                    self.wake_shard(shard, self.now_ns);
                }
            }
        }
    }
}
