//! The clients: the cores that applications use, on virtual time, with an application that numbers its records and notes
//! what it is told.

use crate::client::core::{
    ConnectionConfig, ConsumerConfig, ConsumerCore, ConsumerEvent, Core, ProducerConfig, ProducerCore,
    ProducerEvent, Record, SendError, Sent, Tls, WindowPolicy,
};
use crate::client::secured::Lost;
use crate::io::Clock;
use crate::proto::code::Code;
use crate::proto::control::Start;
use crate::proto::header::AckLevel;

use crate::topic::TopicKind;

use super::oracle::{Name, Oracle, Place};
use super::plan::{ConsumerPlan, Plan, ProducerPlan, S};
use super::secured::SERVER_NAME;
use super::secured::line::Line;
use super::world::EPOCH;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// Nobody gives up within a run.
const RETRY_FOR: Duration = Duration::from_secs(100_000);

/// So many records before what it has seen does a consumer commit now and then.
const BACK_RECORDS: u64 = 12;

/// What a client is.
pub enum Role {
    /// It publishes.
    Producer(Producer),
    /// It subscribes.
    Consumer(Consumer),
}

/// One that publishes.
pub struct Producer {
    /// The client's core.
    pub core: ProducerCore,
    /// Index of the first topic of the name.
    topic: usize,
    number: u32,
    next: u64,
    /// Records that the core has not taken yet: so many of so many bytes.
    waiting: Vec<(u32, u32)>,
}

/// One that subscribes.
pub struct Consumer {
    /// The client's core.
    pub core: ConsumerCore,
    topic: usize,
    /// Of each partition, as its last subscription says: the server's id, and what that is.
    places: BTreeMap<u32, (u32, Place)>,
    expected: BTreeMap<u32, u64>,
    /// Where the last subscription began.
    begun: BTreeMap<u32, u64>,
    /// Behind the last record that was delivered.
    seen: BTreeMap<u32, u64>,
    /// Where each partition's last commit was asked for.
    asked: BTreeMap<u32, u64>,
    /// It commits, under this number's name.
    commits: Option<usize>,
    /// It has gone over to a topic that was made again.
    anew: bool,
    /// It keeps what it is given, for the audit.
    pub kept: Option<BTreeMap<u32, Vec<(u64, Name)>>>,
    taken: u64,
}

/// A client and what it reads with.
pub struct Client {
    /// See [`Role`].
    pub role: Role,
    /// Between its core and the network.
    pub line: Line,
    /// Bytes that it has sent were changed on the way: it may be refused for good.
    pub hurt: bool,
    /// Its connection, by its index.
    pub conn: Option<usize>,
    /// The server is gone, and it was not told: until this time it believes to be connected.
    pub unheard_ns: Option<u64>,
    /// Its topic is deleted, and it has heard so.
    pub over: bool,
    /// The application ends, and another takes its place.
    pub leaves: bool,
    /// When its last connection began.
    pub connected_ns: u64,
    /// Reads nothing before this time.
    pub stalled_ns: u64,
    /// When it is to run next.
    pub due_ns: u64,
}

fn connection(name: &str, tls: Option<Tls>) -> ConnectionConfig {
    let scheme = if tls.is_some() { "uringest+tls" } else { "uringest" };
    let server = format!("{scheme}://{SERVER_NAME}").parse().expect("an address");
    let client = name.to_owned();
    ConnectionConfig { server, tls, retry_for: RETRY_FOR, client, ..ConnectionConfig::default() }
}

impl Client {
    fn new(role: Role) -> Client {
        let config = match &role {
            Role::Producer(producer) => producer.core.connection(),
            Role::Consumer(consumer) => consumer.core.connection(),
        };
        let line = Line::new(config, EPOCH.wall_ns / S);
        Client {
            role,
            line,
            hurt: false,
            conn: None,
            unheard_ns: None,
            over: false,
            leaves: false,
            connected_ns: 0,
            stalled_ns: 0,
            due_ns: 0,
        }
    }

    /// One that publishes as planned, under a number of its own: first what another could not, `waiting`. `now`: which
    /// topic has the name.
    pub fn producer(
        plan: &Plan,
        (at, number, now): (usize, u32, usize),
        (seed, tls): (u64, Option<Tls>),
        waiting: Vec<(u32, u32)>,
    ) -> Client {
        let ProducerPlan { topic, level, batch_bytes, inflight, ack_every } = plan.producers[at];
        let level = match &plan.topics[now] {
            of if of.kind == TopicKind::Log => level.max(of.durability),
            _ => AckLevel::Received,
        };
        let config = ProducerConfig {
            connection: connection("producer", tls),
            batch_bytes,
            linger: Duration::from_millis(1),
            inflight_batches: inflight,
            buffer_bytes: 256 * 1024,
            window: WindowPolicy::Fail,
            ack_level: Some(level),
            ack_every_batches: ack_every,
            ..ProducerConfig::new(plan.topics[topic].name.clone())
        };
        let core = ProducerCore::new(config, seed).expect("a good configuration");
        Client::new(Role::Producer(Producer { core, topic, number, next: 0, waiting }))
    }

    /// One that subscribes as planned, with the name of its number where it commits; `resume`: where it has committed.
    pub fn consumer(
        plan: &Plan,
        (number, of): (usize, &ConsumerPlan),
        resume: bool,
        by: (u64, Option<Tls>),
    ) -> Client {
        Client::subscriber(plan, of, (of.commits.then_some(number), resume), by, false)
    }

    /// One that reads all of a topic, for the audit.
    pub fn auditor(plan: &Plan, topic: usize, seed: u64, tls: Option<Tls>) -> Client {
        let of = ConsumerPlan {
            topic,
            from_earliest: true,
            credit_bytes: 1 << 20,
            commits: false,
            resumes: false,
        };
        Client::subscriber(plan, &of, (None, false), (seed, tls), true)
    }

    fn subscriber(
        plan: &Plan,
        of: &ConsumerPlan,
        (commits, resume): (Option<usize>, bool),
        (seed, tls): (u64, Option<Tls>),
        keeps: bool,
    ) -> Client {
        let config = ConsumerConfig {
            connection: connection("consumer", tls),
            start: if of.from_earliest { Start::Earliest } else { Start::Latest },
            name: commits.map_or(String::new(), |number| format!("c{number}")),
            resume,
            credit_bytes: of.credit_bytes,
            ..ConsumerConfig::new(plan.topics[of.topic].name.clone())
        };
        let core = ConsumerCore::new(config, seed).expect("a good configuration");
        Client::new(Role::Consumer(Consumer {
            core,
            topic: of.topic,
            places: BTreeMap::new(),
            expected: BTreeMap::new(),
            begun: BTreeMap::new(),
            seen: BTreeMap::new(),
            asked: BTreeMap::new(),
            commits,
            anew: false,
            kept: keeps.then(BTreeMap::new),
            taken: 0,
        }))
    }

    /// What a producer has not published.
    pub fn take_waiting(&mut self) -> Vec<(u32, u32)> {
        match &mut self.role {
            Role::Producer(producer) => std::mem::take(&mut producer.waiting),
            Role::Consumer(_) => Vec::new(),
        }
    }

    /// The topic that it publishes to or reads: the first of the name.
    pub fn topic(&self) -> usize {
        match &self.role {
            Role::Producer(producer) => producer.topic,
            Role::Consumer(consumer) => consumer.topic,
        }
    }

    /// The core, whichever it is.
    pub fn core(&mut self) -> &mut dyn Core {
        self.parts().0
    }

    fn parts(&mut self) -> (&mut dyn Core, &mut Line) {
        match &mut self.role {
            Role::Producer(producer) => (&mut producer.core, &mut self.line),
            Role::Consumer(consumer) => (&mut consumer.core, &mut self.line),
        }
    }

    /// A connection begins.
    pub fn connected(&mut self, now: Clock) {
        self.connected_ns = now.mono_ns;
        let (core, line) = self.parts();
        line.begin(now.wall_ns / S);
        core.connected(now.mono_ns);
    }

    /// What it has to say now.
    pub fn write(&mut self, now: Clock) -> Vec<u8> {
        let (core, line) = self.parts();
        line.write(core, now.mono_ns)
    }

    /// Something has arrived; says why the connection is of no use any more, if so.
    pub fn read(&mut self, bytes: &[u8], now: Clock) -> Option<String> {
        let (core, line) = self.parts();
        let lost = line.read(core, bytes, now.mono_ns, now.wall_ns / S).err()?;
        self.lost(&lost, now)
    }

    /// The server's bytes have come to their end; says what that means.
    pub fn ended(&mut self, now: Clock) -> Option<String> {
        let lost = self.line.ended();
        self.lost(&lost, now)
    }

    fn lost(&mut self, lost: &Lost, now: Clock) -> Option<String> {
        if let Lost::Garbled(error) = lost {
            assert!(self.line.is_secured(), "the server sends frames: {error}");
            self.core().garbled(error.clone(), now.mono_ns);
        }
        Some(lost.to_string())
    }

    /// The application's part: publishes what waits, and hears what the core has to tell.
    pub fn act(&mut self, oracle: &mut Oracle, now_ns: u64) {
        match &mut self.role {
            Role::Producer(producer) => producer.act(oracle, now_ns, self.hurt),
            Role::Consumer(consumer) => consumer.act(oracle, now_ns),
        }
    }
}

/// A record: who published it, its number, and as many bytes more as it should have.
fn payload(producer: u32, number: u64, bytes: u32) -> Vec<u8> {
    let mut payload = Vec::with_capacity(12 + bytes as usize);
    payload.extend_from_slice(&producer.to_le_bytes());
    payload.extend_from_slice(&number.to_le_bytes());
    payload.resize(12 + bytes as usize, u8::try_from(number % 251).expect("small"));
    payload
}

fn name_of(payload: &[u8]) -> (u32, u64) {
    let (producer, rest) = payload.split_first_chunk().expect("a record of ours");
    let (number, filling) = rest.split_first_chunk().expect("a record of ours");
    let number = u64::from_le_bytes(*number);
    assert!(filling.iter().all(|byte| u64::from(*byte) == number % 251), "a record is as it was published");
    (u32::from_le_bytes(*producer), number)
}

impl Producer {
    /// So many more records.
    pub fn publish(&mut self, records: u32, bytes: u32) {
        self.waiting.push((records, bytes));
    }

    /// Whether all that it was to publish is published and answered.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.core.is_idle()
    }

    /// What it has yet to get rid of, for whoever wonders why it does not.
    pub fn what_waits(&self) -> String {
        let taken = (self.core.records(), self.core.resolved_prefix());
        format!("taken and answered {taken:?}, {:?} to be taken, {:?}", self.waiting, self.core)
    }

    fn act(&mut self, oracle: &mut Oracle, now_ns: u64, hurt: bool) {
        let mut waiting = std::mem::take(&mut self.waiting).into_iter();
        for (mut records, bytes) in waiting.by_ref() {
            while records > 0 && self.take(oracle, bytes, now_ns) {
                records -= 1;
            }
            if records > 0 {
                self.waiting.push((records, bytes));
                break;
            }
        }
        self.waiting.extend(waiting);
        while let Some(event) = self.core.poll_event() {
            self.hear(oracle, event, hurt);
        }
    }

    fn take(&mut self, oracle: &mut Oracle, bytes: u32, now_ns: u64) -> bool {
        let payload = payload(self.number, self.next, bytes);
        match self.core.send(&Record::new(&payload), now_ns) {
            Ok(Sent::Taken(ticket)) => {
                oracle.took(self.number, (self.topic, ticket.partition), ticket.record, self.next);
                self.next += 1;
                true
            }
            Ok(Sent::Dropped) => panic!("nothing is dropped by this policy"),
            // Of a core that has ended another goes on with what is left.
            Err(SendError::Full | SendError::NotReady | SendError::Ended(_)) => false,
            Err(error) => panic!("a record of {bytes} bytes: {error:?}"),
        }
    }

    fn hear(&mut self, oracle: &mut Oracle, event: ProducerEvent, hurt: bool) {
        let place = |partition| -> Place { (self.topic, partition) };
        match event {
            ProducerEvent::Acked { partition, partition_id, records, offset, level, .. } => {
                assert!(
                    Some(level) >= self.core.config().ack_level,
                    "an acknowledgement promises what was asked for, or more"
                );
                let acked_in = oracle.place(partition_id);
                assert_eq!(oracle.named(acked_in), place(partition), "it is its topic's, or of that name");
                oracle.acked(self.number, acked_in, records, (offset, level));
            }
            ProducerEvent::Refused { code: Code::BadBodyChecksum, .. } if hurt => {}
            ProducerEvent::Refused { code: Code::SequenceTooOld, .. } if oracle.may_forget() => {}
            ProducerEvent::Refused { partition, records, code, detail } => {
                panic!("records {records:?} on {partition} are refused for good: {code} {detail}")
            }
            ProducerEvent::Renumbered { partition, .. } => oracle.renumbered(self.number, place(partition)),
            // That those are missing is looked at when everything is read: none of them comes twice.
            ProducerEvent::CameBackBehind { .. }
            | ProducerEvent::Ready { .. }
            | ProducerEvent::Deferred { .. }
            | ProducerEvent::Connected
            | ProducerEvent::Disconnected { .. } => {}
        }
    }
}

impl Consumer {
    fn act(&mut self, oracle: &mut Oracle, now_ns: u64) {
        for (partition, beyond) in self.core.beyond_credit() {
            // The frame that reaches the limit may go beyond it, and is the last.
            assert_eq!(beyond, 0, "a frame on {partition} began so many bytes beyond what was granted");
        }
        while let Some(event) = self.core.poll_event() {
            match event {
                ConsumerEvent::Batch(delivery) => {
                    let partition = delivery.partition();
                    let place = self.place(partition);
                    let next = self.expected.entry(partition).or_insert(delivery.first_offset());
                    assert_eq!(*next, delivery.first_offset(), "each record once, in order, on {partition}");
                    *next = delivery.next_offset();
                    self.seen.insert(partition, *next);
                    for record in delivery.records() {
                        let name = name_of(record.payload);
                        oracle.read(place, record.offset, name);
                        if let Some(kept) = &mut self.kept {
                            kept.entry(partition).or_default().push((record.offset, name));
                        }
                        self.taken += 1;
                    }
                    if let Some(number) = self.commits.filter(|_| self.taken.is_multiple_of(7)) {
                        // Who is to see some records again goes back.
                        let back = if self.taken.is_multiple_of(5) { BACK_RECORDS } else { 0 };
                        let offset = delivery.next_offset().saturating_sub(back);
                        self.core.commit(partition, offset).expect("it has a name");
                        self.asked.insert(partition, offset);
                        oracle.commits.asked(number, place, offset);
                    }
                }
                ConsumerEvent::Gap { partition, from, records, reason } => {
                    oracle.missed(self.place(partition), from..from + records, reason);
                    let next = self.expected.entry(partition).or_insert(from);
                    // What is gone before a subscription's start is told behind its start, with what went meanwhile.
                    let at_start = self.begun.get(&partition) == Some(&*next);
                    assert!(
                        *next == from || at_start && (from..=from + records).contains(next),
                        "a gap begins where the last record ended, on {partition}: {next}, {from} + {records}"
                    );
                    *next = from + records;
                }
                ConsumerEvent::Subscribed {
                    partition,
                    partition_id,
                    start_offset,
                    log_start_offset,
                    log_end_offset,
                } => {
                    let place = oracle.place(partition_id);
                    let log = log_start_offset..log_end_offset;
                    self.begins(oracle, partition, (partition_id, place), (start_offset, &log));
                    self.stands(oracle, partition, start_offset, log);
                    self.begun.insert(partition, start_offset);
                    let next = self.expected.entry(partition).or_insert(start_offset);
                    // What was appended and not visible may be gone; what was delivered only for a reason.
                    let seen = self.seen.get(&partition).copied().unwrap_or(0);
                    if start_offset < seen {
                        oracle.rewound(place, seen);
                        self.seen.insert(partition, start_offset);
                    }
                    *next = start_offset.min(*next);
                }
                ConsumerEvent::Committed { partition, offset } => {
                    let number = self.commits.expect("who commits nothing is told of nothing");
                    oracle.commits.confirmed(number, self.place(partition), offset, now_ns);
                }
                ConsumerEvent::Disconnected { .. } => {
                    self.commits.iter().for_each(|number| oracle.commits.parted(*number));
                }
                ConsumerEvent::NoSuchTopic | ConsumerEvent::Connected => {}
            }
        }
    }

    /// What a partition is, as it was last told.
    fn place(&self, partition: u32) -> Place {
        self.places[&partition].1
    }

    /// Whether its subscription of a partition is of this one.
    pub fn reads(&self, partition: u32, id: u32) -> bool {
        self.places.get(&partition).is_some_and(|(of, _)| *of == id)
    }

    /// A subscription stands in this place. Where another topic has got the name, nothing that was known of the one before
    /// means anything, and all of it is to be read.
    fn begins(
        &mut self,
        oracle: &Oracle,
        partition: u32,
        (id, place): (u32, Place),
        (start, log): (u64, &Range<u64>),
    ) {
        assert_eq!(oracle.named(place), oracle.named((self.topic, partition)), "it has asked for it");
        let before = self.places.insert(partition, (id, place));
        // Where the disk has forgotten it, the same topic is another.
        if before.is_some_and(|(before, _)| before != id) {
            assert!(
                start == log.start || oracle.disk_lies(),
                "{place:?} is made again, and read from {start} on: {log:?}"
            );
            for known in [&mut self.expected, &mut self.begun, &mut self.seen, &mut self.asked] {
                known.remove(&partition);
            }
            self.anew = true;
        }
    }

    /// A subscription stands, of one who may have committed.
    fn stands(&self, oracle: &mut Oracle, partition: u32, start: u64, log: Range<u64>) {
        let Some(number) = self.commits else { return };
        let place = self.place(partition);
        if let Some(&asked) = self.asked.get(&partition) {
            // The core asks again for what is not confirmed. Beyond the end, the end is kept, which may be this one.
            if asked > log.end {
                oracle.commits.asked(number, place, log.end);
            }
            oracle.commits.asked(number, place, asked);
        }
        let config = self.core.config();
        if config.resume && !self.begun.contains_key(&partition) {
            let earliest = config.start == Start::Earliest || self.anew;
            let otherwise = if earliest { log.start } else { log.end };
            oracle.commits.resumed(number, place, (start, otherwise), log);
        }
    }

    /// The topic it reads.
    pub fn topic(&self) -> usize {
        self.topic
    }
}
