//! A shard: one thread, one ring, and all that it owns: connections, channels, subscriptions, partitions,
//! receive memory. It is generic over the world it runs in ([`Io`]) and never asks which.
//!
//! A tick reads the clock once and does bounded work in fixed phases:
//! completions -> mesh -> handshakes -> timers -> bulk reads -> logs -> fan-out -> credit and acknowledgements -> sends -> recycling.
//!
//! Invariants:
//! 1. Receive memory named by a completion may be read until the end of the tick; what has to live longer
//!    is held. Buffers are recycled in the last phase only.
//! 2. A connection has at most one send in flight; a frame sent in part goes on before anything else.
//! 3. Every operation in flight is counted in its connection's `ops`; sockets are closed, moved and freed
//!    at zero.
//! 4. A span lent to another shard is held until the answer that names it.

mod accept;
mod acks;
#[cfg(any(test, uringest_sim))]
pub mod audit;
mod backlog;
mod bulk;
mod catchup;
mod channels;
mod close;
mod commands;
mod conn;
mod credit;
mod demand;
mod fanout;
mod ingest;
mod list;
mod log_acks;
mod logs;
pub mod messages;
mod moving;
mod open;
mod outbox;
mod receive;
mod records;
mod remote;
mod sealing;
mod secured;
mod session;
mod subscriptions;
mod tables;
mod timers;
mod topics;
mod transmit;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::access::Access;
use crate::buf::{Buffers, Span};
use crate::ids::{ConnId, RegionId, ShardId, SockId};
use crate::io::{
    Clock, Completion, Completions, Io, IoFatal, Op, SocketHandle, Token, TokenKind, Wait, WakeHandle,
};
use crate::lifecycle::State;
use crate::limits::{COMPLETIONS_PER_TICK, SENDS_IN_FLIGHT, SPANS_PER_SEND};
use crate::mesh::{Census, MeshEnd};
use crate::metrics::{Counter, CounterPage};
use crate::proto::code::Code;
use crate::time::TimerWheel;
use crate::wire::batch::BatchLimits;

use backlog::Backlog;
use bulk::Starving;
use channels::ChannelTable;
use conn::ConnTable;
use list::List;
use logs::Logs;
use messages::Message;
use outbox::BlockPool;
use sealing::Sealing;
use subscriptions::{RemoteConsumers, SubscriptionTable};
use topics::{PartitionSlot, TopicTable};
use transmit::Flight;

pub use secured::ShardTls;
pub use tables::{TableSize, tables};

/// Bounds and time-outs of one shard, from the configuration.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // the configuration's keys
pub struct ShardLimits {
    pub frame_bytes_max: u32,
    pub record_bytes_max: u32,
    pub connections: u32,
    pub channels: u32,
    pub subscriptions: u32,
    pub handshake_timeout_ms: u64,
    pub frame_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    /// Blocks for control frames, see `limits::CONTROL_BLOCK_BYTES`.
    pub control_blocks: u32,
    pub bulk_regions: u16,
    /// Bytes written to a partition's log between two of its snapshots.
    pub log_snapshot_bytes: u64,
    /// Memory for reading segments that consumers lag behind in.
    pub log_read_bytes: u32,
}

/// A socket that connections come from.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub socket: SocketHandle,
    /// Its connections speak TLS.
    pub secured: bool,
}

/// Everything a shard is made of.
pub struct ShardSpec {
    /// Which one.
    pub id: ShardId,
    /// How many there are.
    pub shards: u16,
    /// Bounds.
    pub limits: ShardLimits,
    /// Tokens and rules.
    pub access: Arc<Access>,
    /// This shard's end of the mesh; the last peer is control.
    pub mesh: MeshEnd<Message>,
    /// Each peer's wake-up, in the mesh's order.
    pub peers: Vec<WakeHandle>,
    /// Counters, written by this shard alone.
    pub counters: Arc<CounterPage>,
    /// Connections of the whole server.
    pub census: Arc<Census>,
    /// Receive memory, attached.
    pub buffers: Buffers,
    /// Memory of the logs, attached to `buffers` and to the backend.
    pub log_memory: (RegionId, u64),
    /// Region of the control blocks, attached to `buffers` and to the backend.
    pub control_region: RegionId,
    /// Listening sockets.
    pub listeners: Vec<Listening>,
    /// What TLS is spoken with; `None` where no listener does.
    pub tls: Option<ShardTls>,
    /// Clients may create topics by naming them.
    pub auto_create: bool,
    /// `host:port` of each shard's own port; may be empty.
    pub shard_addresses: Vec<String>,
}

/// See the module.
pub struct Shard<I: Io> {
    pub(crate) io: I,
    id: ShardId,
    shards: u16,
    limits: ShardLimits,
    batch_limits: BatchLimits,
    access: Arc<Access>,
    mesh: MeshEnd<Message>,
    peers: Vec<WakeHandle>,
    /// Of each peer.
    backlog: Vec<Backlog>,
    counters: Arc<CounterPage>,
    census: Arc<Census>,
    buffers: Buffers,
    blocks: BlockPool,
    clock: Clock,
    state: State,
    stopping: bool,
    drain_deadline_ns: Option<u64>,
    drained: bool,
    /// The other shards have been told that this one has delivered everything.
    delivered_said: bool,
    /// Other shards that have: their partitions may have subscribers here.
    delivered_elsewhere: u16,
    /// Records left undelivered, once the drain has come to its end.
    drain_leftover: Option<u64>,

    listeners: Vec<Listener>,
    accepts_off: Vec<u32>,
    auto_create: bool,
    shard_addresses: Vec<String>,
    sessions: u64,

    tls: Option<ShardTls>,
    sealing: Sealing,
    logs: Logs,
    /// Handshakes with something to go on with, in their turn.
    handshakes: VecDeque<ConnId>,
    /// The next time a failure of TLS may be logged.
    tls_report_after_ns: u64,

    conns: ConnTable,
    timers: TimerWheel,
    /// Scratch: connections whose timer has run out.
    expired: Vec<ConnId>,
    channels: ChannelTable,
    topics: TopicTable,
    subscriptions: SubscriptionTable,
    remote_consumers: RemoteConsumers,
    remote_producers: remote::RemoteProducers,
    waiting_for_topic: Vec<session::WaitingRequest>,
    removals: Vec<commands::Removal>,

    /// Who holds memory of the rings with a partial frame or record, oldest first; see `receive`.
    holders: List,
    /// Connections whose receive has to be armed again when the tick ends.
    rearm: VecDeque<ConnId>,
    /// Bulk connections with something to read.
    bulk_ready: VecDeque<ConnId>,
    bulk_reading: Option<ConnId>,
    promoted: u16,
    /// Whether regions had no room for a read.
    bulk_starved: Starving,
    /// Partitions with something new for their subscribers.
    dirty_partitions: Vec<PartitionSlot>,
    /// Partitions whose producers wait for credit.
    starving: Vec<PartitionSlot>,
    /// When some of them may be served although nothing happens.
    credit_due_ns: u64,
    /// When credit that lies idle was last looked for.
    credit_looked_ns: u64,
    /// Some was found then.
    credit_idle: bool,
    /// Somebody has got less than it wanted since.
    credit_short: bool,
    /// Partitions of kind `live` that hold receive memory, or did since the last look.
    pinning: Vec<PartitionSlot>,
    ack_list: Vec<u32>,
    dirty_conns: Vec<ConnId>,
    departing: Vec<ConnId>,
    /// Connections to close when the phase is over.
    doomed: Vec<(ConnId, Code)>,
    /// Subscriptions to partitions of other shards whose credit has grown.
    credit_list: Vec<u32>,
    /// Accepting pauses until then: the process is out of descriptors or memory.
    accept_after_ns: u64,
    flights: Vec<Flight>,
    spans: Vec<Span>,
    /// Scratch: what the send being built consists of.
    gathered: Vec<Span>,
    /// Scratch: the subscribers of a partition that have work.
    wanted: Vec<u64>,
    /// Something is left to do at once: do not sleep.
    busy: bool,
    /// Something waits for what others hold: it is looked at again after so many ns, should nothing happen before.
    look_again_ns: u64,
    /// The last tick ended with a sleep.
    slept: bool,
    last_message_ns: u64,
    next_second_ns: u64,
}

/// Mesh messages of one tick.
const MESSAGES_PER_TICK: usize = 256;
/// When memory that others hold is asked for again, should nothing happen before.
const SHORT_NS: u64 = 500_000;
/// How long a shard spins after a mesh message before it sleeps.
const SPIN_NS: u64 = 20_000;

/// A [`Listening`] that the backend has.
struct Listener {
    sock: SockId,
    secured: bool,
}

fn attach_all(io: &mut impl Io, listeners: Vec<Listening>) -> Vec<Listener> {
    let attach = |Listening { socket, secured }| {
        let sock = io.attach(socket).expect("an empty socket table has room for the listeners");
        Listener { sock, secured }
    };
    listeners.into_iter().map(attach).collect()
}

impl<I: Io> Shard<I> {
    /// A shard that has not begun to accept.
    #[must_use]
    pub fn new(spec: ShardSpec, mut io: I) -> Self {
        let clock = io.clock();
        let limits = spec.limits;
        let connections = limits.connections as usize;
        let listeners = attach_all(&mut io, spec.listeners);
        Shard {
            id: spec.id,
            shards: spec.shards,
            limits,
            batch_limits: BatchLimits {
                record_bytes_max: limits.record_bytes_max,
                records_max: crate::limits::BATCH_RECORDS_MAX,
            },
            access: spec.access,
            backlog: (0..spec.mesh.peers()).map(|_| Backlog::default()).collect(),
            mesh: spec.mesh,
            peers: spec.peers,
            counters: spec.counters,
            census: spec.census,
            buffers: spec.buffers,
            blocks: BlockPool::new(spec.control_region, limits.control_blocks),
            clock,
            state: State::Running,
            stopping: false,
            drain_deadline_ns: None,
            drained: false,
            delivered_said: false,
            delivered_elsewhere: 0,
            drain_leftover: None,
            accepts_off: (0..).take(listeners.len()).collect(),
            listeners,
            auto_create: spec.auto_create,
            shard_addresses: spec.shard_addresses,
            sessions: 0,
            sealing: Sealing::new(spec.tls.as_ref()),
            logs: Logs::new(spec.log_memory, limits.frame_bytes_max),
            tls: spec.tls,
            handshakes: VecDeque::new(),
            tls_report_after_ns: 0,
            conns: ConnTable::new(limits.connections),
            timers: TimerWheel::new(connections),
            expired: Vec::with_capacity(connections),
            channels: ChannelTable::new(limits.channels),
            topics: TopicTable::new(),
            subscriptions: SubscriptionTable::new(limits.subscriptions),
            remote_consumers: RemoteConsumers::new(limits.subscriptions),
            remote_producers: remote::RemoteProducers::new(limits.channels),
            waiting_for_topic: Vec::new(),
            removals: Vec::new(),
            holders: List::new(),
            rearm: VecDeque::with_capacity(connections),
            bulk_ready: VecDeque::with_capacity(usize::from(limits.bulk_regions)),
            bulk_reading: None,
            promoted: 0,
            bulk_starved: Starving::default(),
            dirty_partitions: Vec::with_capacity(64),
            starving: Vec::with_capacity(64),
            credit_due_ns: u64::MAX,
            credit_looked_ns: clock.mono_ns,
            credit_idle: false,
            credit_short: false,
            pinning: Vec::with_capacity(64),
            ack_list: Vec::with_capacity(limits.channels as usize),
            dirty_conns: Vec::with_capacity(connections),
            departing: Vec::new(),
            doomed: Vec::new(),
            credit_list: Vec::with_capacity(64),
            accept_after_ns: 0,
            flights: (0..SENDS_IN_FLIGHT).map(|_| Flight::new()).collect(),
            spans: Vec::with_capacity(SPANS_PER_SEND),
            gathered: Vec::with_capacity(2 * SPANS_PER_SEND),
            wanted: Vec::with_capacity(64),
            busy: false,
            look_again_ns: u64::MAX,
            slept: true,
            last_message_ns: 0,
            next_second_ns: clock.mono_ns,
            io,
        }
    }

    /// Runs until control says stop.
    ///
    /// # Errors
    /// When the backend cannot go on.
    pub fn run(mut self) -> Result<(), IoFatal> {
        let mut completions = Completions::with_capacity(COMPLETIONS_PER_TICK);
        let mut wait = Wait::No;
        while !self.stopping {
            wait = self.turn(wait, &mut completions)?;
        }
        Ok(())
    }

    /// One turn of [`Shard::run`], for worlds that are stepped: waits as told, ticks, and says how long the next may
    /// wait. `completions` is empty memory that the turns share.
    ///
    /// # Errors
    /// When the backend cannot go on.
    pub fn turn(&mut self, wait: Wait, completions: &mut Completions) -> Result<Wait, IoFatal> {
        self.io.reap(wait, completions)?;
        self.mesh.awake();
        Ok(self.tick(completions))
    }

    /// One tick over what has completed; says how long the next may wait.
    fn tick(&mut self, completions: &mut Completions) -> Wait {
        let last = self.clock.mono_ns;
        self.clock = self.io.clock();
        if !self.slept {
            self.took(self.clock.mono_ns.saturating_sub(last));
        }
        self.busy = completions.len() == completions.capacity();
        self.look_again_ns = u64::MAX;
        self.counters.add(Counter::Ticks, 1);
        self.counters.add(Counter::Completions, completions.len() as u64);
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.take_messages();
        self.shake_hands();
        self.expire_timers();
        self.visit_bulk();
        self.work_off_logs();
        self.fan_out();
        self.feed_starving();
        self.flush_acks();
        self.pass_credit_on();
        self.end_doomed();
        self.wake_who_waits_for_blocks();
        self.transmit_dirty();
        self.end_of_tick();
        self.end_doomed();
        self.next_wait()
    }

    fn complete(&mut self, completion: Completion) {
        let token = completion.token;
        match token.kind() {
            TokenKind::Wake => self.counters.add(Counter::WakesReceived, 1),
            TokenKind::Accept => self.accepted(token.index(), completion),
            TokenKind::FileWrite => self.log_written(completion),
            TokenKind::FileSync => self.log_synced(completion),
            TokenKind::FileRead => self.log_read(completion),
            kind => {
                // A completion whose slot has changed hands cannot be: a slot is freed at `ops == 0`.
                let id =
                    self.conns.by_token(token).expect("a completion's connection outlives its operations");
                if !completion.more {
                    self.conns[id].ops -= 1;
                }
                match kind {
                    TokenKind::Receive => self.received(id, completion),
                    TokenKind::Read => self.bulk_read(id, completion.outcome),
                    TokenKind::Readable => self.bulk_readable(id, completion),
                    TokenKind::Writable => self.writable(id),
                    TokenKind::Send => self.sent(id, completion.outcome),
                    TokenKind::Close => self.closed(id),
                    _ => {}
                }
                self.after_completion(id, kind);
            }
        }
    }

    /// What waits for the last operation of a connection to end.
    fn after_completion(&mut self, id: ConnId, kind: TokenKind) {
        if kind == TokenKind::Close {
            return;
        }
        self.receive_settled(id);
        if self.conns[id].ops == 0 {
            self.settled(id);
        }
    }

    /// Submits an operation of a connection and counts it.
    fn submit(&mut self, id: ConnId, op: Op, kind: TokenKind) {
        let token = self.conns[id].token(kind, id);
        self.conns[id].ops += 1;
        self.submit_with(op, token);
    }

    fn submit_with(&mut self, op: Op, token: Token) {
        // A backend has room for all that a shard can have outstanding, and empties its queues by itself, so a refusal
        // means that the kernel takes nothing any more.
        if let Err(refused) = self.io.submit(op, token) {
            panic!("the kernel took no operation: {refused:?}");
        }
    }

    fn take_messages(&mut self) {
        for _ in 0..MESSAGES_PER_TICK {
            let Some((from, message)) = self.mesh.receive() else { return };
            self.counters.add(Counter::MeshReceived, 1);
            self.last_message_ns = self.clock.mono_ns;
            self.message(from, message);
        }
        self.busy = true;
    }

    /// Recycles receive memory, arms receives again, and does what is due once a second.
    fn end_of_tick(&mut self) {
        self.flush_backlog();
        self.relieve_pressure();
        while let Some(buffer) = self.buffers.receive.next_recyclable() {
            self.io.recycle(buffer);
        }
        self.rearm_receives();
        self.rearm_accepts();
        self.continue_departures();
        self.continue_removals();
        self.check_drain();
        if self.clock.mono_ns >= self.next_second_ns {
            self.next_second_ns = self.clock.mono_ns + 1_000_000_000;
            self.every_second();
        }
    }

    /// Something waits for what only others can give, and nobody may wake the shard when they have: it looks by itself.
    fn look_again(&mut self, after_ns: u64) {
        self.look_again_ns = self.look_again_ns.min(after_ns);
    }

    /// A tick took this long: until the next one began, or until the shard went to sleep.
    fn took(&self, ns: u64) {
        self.counters.tick_took(ns);
        self.counters.add(Counter::BusyNs, ns);
    }

    /// How long to wait: not while something is left, a short spin after mesh traffic, then asleep.
    fn next_wait(&mut self) -> Wait {
        self.slept = false;
        if self.busy || !self.dirty_conns.is_empty() {
            return Wait::No;
        }
        if self.shards > 1 && self.clock.mono_ns.saturating_sub(self.last_message_ns) < SPIN_NS {
            self.counters.add(Counter::Spins, 1);
            return Wait::No;
        }
        if !self.mesh.about_to_sleep() {
            return Wait::No;
        }
        self.counters.add(Counter::Sleeps, 1);
        self.slept = true;
        self.publish_copies();
        let end = self.io.clock().mono_ns;
        self.took(end.saturating_sub(self.clock.mono_ns));
        let second = self.next_second_ns.min(if self.drained {
            u64::MAX
        } else {
            self.drain_deadline_ns.unwrap_or(u64::MAX)
        });
        let due = second.min(self.credit_due_ns).min(end.saturating_add(self.look_again_ns));
        Wait::Until(self.timers.next_deadline().map_or(due, |deadline| deadline.min(due)))
    }
}
