//! Random histories over several shards: whatever clients, sockets and operators do, each consumer gets each
//! record once, in order, or in a stated gap; nobody who keeps to the protocol is stuck; nothing leaks.

use std::collections::HashMap;
use std::sync::Arc;

use super::clients::*;
use super::credit::assert_credit_conserved;
use super::rig::*;
use crate::ids::{PartitionId, SockId};
use crate::limits::HEADER_BYTES;
use crate::proto::code::{Code, Scope};
use crate::proto::control::{Open, Opened, Subscribe, Subscribed};
use crate::proto::header::{FrameHeader, Kind};
use crate::shard::messages::Command;
use crate::tls::fixture;
use crate::topic::{Overflow, Topic, TopicKind};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("small")
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// A request that waits for its answer.
enum Asked {
    Open { producer: u64 },
    Subscribe { partition: PartitionId, from_start: bool },
}

/// One connection's client.
struct Client {
    sock: SockId,
    asked: HashMap<u64, Asked>,
    next_request: u64,
    producers: Vec<Producer>,
    consumers: HashMap<u32, Consumer>,
    /// Unsubscribed and not yet answered.
    leaving: Vec<u32>,
    /// It has ended the connection, or was told that it ends.
    gone: bool,
    pings: u64,
    pongs: u64,
}

struct World {
    rig: Rig,
    random: Random,
    shards: u16,
    topics: Vec<Arc<Topic>>,
    clients: Vec<Client>,
    seen: HashMap<(u32, u64), u32>,
    next_producer: u64,
    next_name: u32,
}

const KINDS: [(TopicKind, Overflow); 5] = [
    (TopicKind::Memory, Overflow::DropOldest),
    (TopicKind::Memory, Overflow::Block),
    (TopicKind::Memory, Overflow::Reject),
    (TopicKind::Live, Overflow::DropOldest),
    (TopicKind::Live, Overflow::Block),
];

impl World {
    fn new(seed: u64, secured: bool) -> World {
        let shards = 2 + u16::try_from(seed % 2).expect("small");
        let mesh = if seed.is_multiple_of(5) { 8 } else { 256 };
        let mut world = World {
            rig: if secured { World::secured(shards, mesh, seed) } else { Rig::with_mesh(shards, mesh) },
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            shards,
            topics: Vec::new(),
            clients: Vec::new(),
            seen: HashMap::new(),
            next_producer: 1,
            next_name: 0,
        };
        for _ in 0..3 {
            world.create_topic();
        }
        world
    }

    /// Clients speak TLS and cut their frames into records of one size or another.
    fn secured(shards: u16, mesh: usize, seed: u64) -> Rig {
        let files = fixture::Files::new();
        let mut rig = Rig::secured_with(shards, mesh, &files.server(), fixture::client_tls(&files.client()));
        let tls = rig.tls.as_mut().expect("clients of a rig that speaks TLS");
        tls.record_bytes = [100, 5_000, 16 * 1024][usize::try_from(seed % 3).expect("small")];
        rig
    }

    fn create_topic(&mut self) {
        if self.topics.len() >= 5 {
            return;
        }
        let (kind, overflow) = KINDS[self.random.index(KINDS.len())];
        let places: Vec<(u16, u64)> = (0..1 + self.random.below(2))
            .map(|_| {
                (
                    u16::try_from(self.random.index(self.shards.into())).expect("small"),
                    self.random.below(3) * 10,
                )
            })
            .collect();
        self.next_name += 1;
        let name = format!("t{}", self.next_name);
        self.topics.push(self.rig.topic_on(&name, kind, overflow, 1 << 20, &places));
    }

    fn delete_topic(&mut self) {
        if self.topics.len() < 2 {
            return;
        }
        let topic = self.topics.swap_remove(self.random.index(self.topics.len()));
        for shard in 0..usize::from(self.shards) {
            self.rig.command_to(shard, Command::RemoveTopic { ticket: 77, topic: topic.id });
            for _ in 0..self.random.below(3) {
                self.tick_some();
            }
        }
    }

    fn connect(&mut self) {
        if self.clients.len() >= 12 {
            return;
        }
        let shard = self.random.index(self.shards.into());
        let sock = self.rig.client_of(shard);
        if self.random.one_in(3) {
            self.rig.shards[0].io.peer(sock).receive_max = 1 + self.random.index(5_000);
        }
        self.clients.push(Client {
            sock,
            asked: HashMap::new(),
            next_request: 1,
            producers: Vec::new(),
            consumers: HashMap::new(),
            leaving: Vec::new(),
            gone: false,
            pings: 0,
            pongs: 0,
        });
    }

    fn tick_some(&mut self) {
        let shard = self.random.index(self.shards.into());
        self.rig.tick_shard(shard);
    }

    fn some_partition(&mut self) -> (String, u32, PartitionId) {
        let topic = &self.topics[self.random.index(self.topics.len())];
        let number = self.random.index(topic.partitions.len());
        (topic.name.clone(), u32::try_from(number).expect("small"), topic.partitions[number].id)
    }

    fn ask(&mut self, at: usize) {
        let (topic, partition, id) = self.some_partition();
        let client = &mut self.clients[at];
        let request = client.next_request;
        client.next_request += 1;
        let (frame, asked) = if self.random.one_in(2) {
            let producer_id = self.next_producer;
            self.next_producer += 1;
            let ack_every_batches = 1 + u32::try_from(self.random.below(3)).expect("small");
            let open = Open {
                topic,
                partition,
                producer_id,
                ack_every_batches,
                ack_every_us: 500,
                ..Open::default()
            };
            (open.frame(request), Asked::Open { producer: producer_id })
        } else {
            let credit = if self.random.one_in(3) { self.random.below(60_000) } else { u64::MAX / 2 };
            let from_start = self.random.one_in(2);
            let what = Subscribe { partition, credit, ..all_of(&topic) };
            let start = if from_start { what.start } else { crate::proto::control::Start::Latest };
            (Subscribe { start, ..what }.frame(request), Asked::Subscribe { partition: id, from_start })
        };
        client.asked.insert(request, asked);
        let sock = client.sock;
        self.rig.send(sock, &frame);
    }

    fn act(&mut self) {
        let choice = self.random.below(100);
        match choice {
            0..4 => return self.connect(),
            4 => {
                return if self.random.one_in(4) {
                    self.create_topic()
                };
            }
            5 => {
                return if self.random.one_in(6) {
                    self.delete_topic()
                };
            }
            6 => {
                let topic = self.topics[self.random.index(self.topics.len())].id;
                let paused = self.random.one_in(3);
                for shard in 0..usize::from(self.shards) {
                    self.rig.command_to(shard, Command::PauseTopic { ticket: 78, topic, paused });
                }
                return;
            }
            7 => return self.rig.pass(1),
            8..45 => return self.tick_some(),
            _ => {}
        }
        let open: Vec<usize> = (0..self.clients.len()).filter(|&at| !self.clients[at].gone).collect();
        if open.is_empty() {
            return self.connect();
        }
        let at = open[self.random.index(open.len())];
        let sock = self.clients[at].sock;
        match choice {
            45..55 => self.ask(at),
            55..80 => self.publish(at),
            80..84 => {
                self.clients[at].pings += 1;
                self.rig.send(sock, &FrameHeader::new(Kind::Ping).alone());
            }
            84..90 => {
                let room = if self.random.one_in(3) { 0 } else { self.random.index(40_000) };
                self.rig.set_room(sock, room);
            }
            90..94 => self.rig.set_room(sock, usize::MAX),
            94 => self.release_or_unsubscribe(at),
            95 => self.raise_credit(at),
            96 => self.promote(),
            97 => self.end(at),
            _ => self.hear(at),
        }
    }

    fn publish(&mut self, at: usize) {
        let bytes = if self.random.one_in(4) { 20_000 } else { 1 + self.random.index(3_000) };
        let count = self.clients[at].producers.len();
        if count == 0 {
            return;
        }
        let which = self.random.index(count);
        for _ in 0..1 + self.random.below(4) {
            self.hear(at);
            let client = &mut self.clients[at];
            if !client.gone {
                client.producers[which].step(&mut self.rig, bytes);
            }
        }
    }

    fn release_or_unsubscribe(&mut self, at: usize) {
        self.hear(at);
        let client = &mut self.clients[at];
        if let Some(&partition) = client.consumers.keys().min()
            && self.random.one_in(2)
            && !client.leaving.contains(&partition)
        {
            client.leaving.push(partition);
            let sock = client.sock;
            self.rig.send(sock, &header_only(Kind::Unsubscribe, partition));
        } else if let Some(which) = client.producers.iter().position(|p| p.unanswered.is_empty()) {
            let producer = client.producers.swap_remove(which);
            let sock = client.sock;
            self.rig.send(sock, &header_only(Kind::Release, producer.channel));
        }
    }

    fn raise_credit(&mut self, at: usize) {
        let client = &self.clients[at];
        let Some(&partition) = client.consumers.keys().min() else { return };
        let frame =
            FrameHeader { channel: partition, offset: u64::MAX / 2, ..FrameHeader::new(Kind::Credit) }
                .alone();
        let sock = client.sock;
        self.rig.send(sock, &frame);
    }

    fn promote(&mut self) {
        let shard = self.random.index(self.shards.into());
        let ids = self.rig.shards[shard].conns.ids();
        let open: Vec<_> = ids
            .into_iter()
            .filter(|&id| self.rig.shards[shard].conns[id].phase == crate::shard::conn::Phase::Open)
            .collect();
        if open.is_empty() {
            return;
        }
        let id = open[self.random.index(open.len())];
        if self.random.one_in(2) {
            self.rig.shards[shard].promote(id);
        } else {
            self.rig.shards[shard].demote(id);
        }
    }

    fn end(&mut self, at: usize) {
        if !self.random.one_in(3) {
            return;
        }
        let sock = self.clients[at].sock;
        self.clients[at].gone = true;
        match self.random.below(4) {
            0 => self.rig.shards[0].io.peer(sock).reset = true,
            1 => self.rig.shards[0].io.peer(sock).ended = true,
            2 => self.rig.send(sock, &header_only(Kind::Close, 0)),
            _ => {
                let half = batch_of(1, 1, 1, 500);
                self.rig.send(sock, &half[..100]);
                self.rig.shards[0].io.peer(sock).ended = true;
            }
        }
    }

    /// The client reads.
    fn hear(&mut self, at: usize) {
        let heard = self.rig.heard(self.clients[at].sock);
        for (header, frame) in heard {
            self.hear_frame(at, &header, &frame);
        }
    }

    fn hear_frame(&mut self, at: usize, header: &FrameHeader, frame: &[u8]) {
        let client = &mut self.clients[at];
        let body = &frame[HEADER_BYTES..];
        match header.kind {
            Kind::Opened => {
                let asked = client.asked.remove(&header.sequence);
                let Some(Asked::Open { producer }) = asked else { panic!("{header:?} answers an open") };
                let credit = Opened::decode(body).expect("opened").credit;
                let mut producer = Producer::new(client.sock, header.channel, producer, credit);
                producer.patient = self.random.one_in(2);
                client.producers.push(producer);
            }
            Kind::Subscribed => {
                let asked = client.asked.remove(&header.sequence);
                let Some(Asked::Subscribe { partition, from_start }) = asked else {
                    panic!("{header:?} answers a subscribe")
                };
                assert_eq!(partition.0, header.channel);
                let said = Subscribed::decode(body).expect("subscribed");
                let topic = self.topics.iter().find(|t| t.partitions.iter().any(|p| p.id == partition));
                let live = topic.is_none_or(|topic| topic.kind == TopicKind::Live);
                let consumer = match (from_start, live) {
                    (true, false) => Consumer::from(0),
                    (true, true) => Consumer::default(),
                    (false, _) => Consumer::from(said.start_offset),
                };
                let before = client.consumers.insert(partition.0, consumer);
                assert!(before.is_none(), "subscribed once");
            }
            Kind::Error if header.sequence != 0 => {
                assert!(client.asked.remove(&header.sequence).is_some(), "each request is answered once");
            }
            Kind::Error if code_of(frame).scope() == Scope::Request => {
                assert_eq!(code_of(frame), Code::TopicDeleted);
                let known = client.consumers.remove(&header.channel).is_some();
                assert!(known, "the end of a subscription that was made: {header:?}");
                client.leaving.retain(|&leaving| leaving != header.channel);
            }
            Kind::Error => panic!("a client that keeps to the protocol is told {}", code_of(frame)),
            Kind::Unsubscribe => {
                client.leaving.retain(|&leaving| leaving != header.channel);
                client.consumers.remove(&header.channel);
            }
            Kind::Deliver | Kind::Gap => {
                let consumer = client.consumers.get_mut(&header.channel);
                let consumer = consumer.unwrap_or_else(|| panic!("not subscribed: {header:?}"));
                consumer.hear(header, frame, &mut self.seen);
            }
            Kind::Pong => client.pongs += 1,
            Kind::Ack | Kind::Nack | Kind::Credit => {
                if let Some(producer) = client.producers.iter_mut().find(|p| p.channel == header.channel) {
                    producer.hear(header, frame);
                }
            }
            kind => panic!("{kind:?}"),
        }
    }

    /// Everybody reads and everything is allowed again: nobody may be stuck.
    fn settle(&mut self) {
        let topics: Vec<_> = self.topics.iter().map(|topic| topic.id).collect();
        for topic in topics {
            self.rig.command_each(|| Command::PauseTopic { ticket: 79, topic, paused: false });
        }
        for peer in self.rig.shards[0].io.sockets().borrow_mut()[1..].iter_mut() {
            peer.room = usize::MAX;
            peer.receive_max = usize::MAX;
        }
        self.rig.run();
        self.rig.pass(1_100); // who has left is gone
        for at in 0..self.clients.len() {
            let sock = self.clients[at].sock;
            self.hear(at);
            for &partition in self.clients[at].consumers.keys().filter(|_| !self.clients[at].gone) {
                let credit = FrameHeader {
                    channel: partition,
                    offset: u64::MAX / 2,
                    ..FrameHeader::new(Kind::Credit)
                };
                self.rig.send(sock, &credit.alone());
            }
        }
        self.rig.pass(1);
        // Where credit is short, frames go one at a time.
        for _ in 0..400 {
            let mut idle = true;
            for at in 0..self.clients.len() {
                self.hear(at);
                let client = &mut self.clients[at];
                for producer in client.producers.iter_mut().filter(|p| !client.gone && !p.idle()) {
                    idle = false;
                    if !producer.refused.is_empty() {
                        producer.step(&mut self.rig, 100);
                    }
                }
            }
            if idle {
                break;
            }
            self.rig.pass(1);
        }
        for at in (0..self.clients.len()).filter(|&at| !self.clients[at].gone).collect::<Vec<_>>() {
            self.hear(at);
            self.assert_served(at);
        }
    }

    fn assert_served(&mut self, at: usize) {
        let sock = self.clients[at].sock;
        assert!(!self.rig.closed(sock), "{sock}: a client that keeps to the protocol is kept");
        let client = &self.clients[at];
        assert_eq!(client.pings, client.pongs, "{sock}: pings are answered");
        assert!(client.asked.is_empty(), "{sock}: requests are answered: {:?}", client.asked.keys());
        assert!(client.leaving.is_empty(), "{sock}: unsubscribe is answered");
        for producer in &client.producers {
            let (id, waits) = (producer.id, (producer.used, producer.limit, producer.last_code));
            let refused = producer.refused.values().next().map(Vec::len);
            assert!(producer.idle(), "{sock}: producer {id} gets through: {waits:?}, {refused:?}");
        }
        for (&partition, consumer) in &client.consumers {
            let end = self.log_end(PartitionId(partition)).expect("a subscription's partition is there");
            let caught_up = consumer.expected.is_none_or(|expected| expected == end);
            assert!(caught_up, "{sock}: partition {partition} ends at {end}, not {:?}", consumer.expected);
        }
    }

    fn log_end(&self, partition: PartitionId) -> Option<u64> {
        self.rig.shards.iter().find_map(|shard| {
            let slot = shard.topics.slot(partition)?;
            Some(shard.topics.get(slot)?.partition.log_end_offset())
        })
    }
}

fn history(seed: u64, steps: u32, secured: bool) {
    let mut world = World::new(seed, secured);
    for _ in 0..steps {
        world.act();
        assert_credit_conserved(&world.rig);
    }
    world.settle();
    assert_credit_conserved(&world.rig);
    world.rig.disconnect_all();
    world.rig.assert_nothing_leaked();
}

/// A failure names its seed; this runs that one alone, or more of them: `URINGEST_SEEDS=31..=31`.
fn histories(seeds: &str, secured: bool) {
    let wanted = std::env::var("URINGEST_SEEDS").unwrap_or_else(|_| seeds.into());
    let (first, last) = wanted.split_once("..=").expect("FIRST..=LAST");
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    for seed in number(first)..=number(last) {
        let outcome = std::panic::catch_unwind(|| history(seed, 1_500, secured));
        if let Err(panic) = outcome {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn random_histories_of_several_shards() {
    histories("1..=24", false);
}

#[test]
fn random_histories_over_tls() {
    histories("1..=12", true);
}
