//! The cores against a model of the server, in virtual time, with the connection cut at any byte.

mod log;
mod model;

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    ConnectionConfig, ConsumerConfig, ConsumerCore, ConsumerEvent, Core, Error, FrameReader, Partitioner,
    ProducerConfig, ProducerCore, ProducerEvent, Record, SendError, Sent, Ticket, TicketStatus, WindowPolicy,
    Wish, partition_of_key,
};
use crate::proto::code::Code;
use crate::proto::control::Start;
use crate::proto::header::AckLevel;
use model::{Connection, Model};

/// A core, its connection to the model, and the bytes that may still pass before the connection is cut.
struct World<C> {
    core: C,
    model: Model,
    connection: Option<(Connection, FrameReader)>,
    now_ns: u64,
    /// Bytes to the server until the next cuts; the last one is followed by none.
    cuts_up: Vec<usize>,
    /// Bytes from the server until the next cuts.
    cuts_down: Vec<usize>,
    connects: u32,
    reachable: bool,
}

impl<C: Core> World<C> {
    fn new(core: C, model: Model) -> Self {
        World {
            core,
            model,
            connection: None,
            now_ns: 1,
            cuts_up: Vec::new(),
            cuts_down: Vec::new(),
            connects: 0,
            reachable: true,
        }
    }

    /// One step; whether anything moved.
    fn step(&mut self) -> bool {
        self.core.expire(self.now_ns);
        match self.core.wish() {
            Wish::Connect if self.reachable => {
                self.connects += 1;
                self.connection = Some((Connection::new(), FrameReader::new(usize::MAX)));
                self.core.connected(self.now_ns);
                true
            }
            Wish::Connect => {
                self.core.disconnected(self.now_ns, "unreachable");
                true
            }
            Wish::Hangup => {
                self.cut("hung up");
                true
            }
            Wish::Wait | Wish::End => false,
            Wish::Run => self.exchange(),
        }
    }

    fn exchange(&mut self) -> bool {
        let mut out: Vec<Bytes> = Vec::new();
        self.core.transmit(64 * 1024, self.now_ns, &mut out);
        let up: Vec<u8> = out.concat();
        let (up, cut_up) = passed(&up, &mut self.cuts_up);
        let Some((connection, reader)) = &mut self.connection else { panic!("running without a connection") };
        let mut down = connection.receive(&mut self.model, up);
        down.extend(connection.tick(&mut self.model));
        let moved = !up.is_empty() || !down.is_empty();
        let (mut down, cut_down) = passed(&down, &mut self.cuts_down);
        while !down.is_empty() {
            let room = reader.room();
            let taken = room.len().min(down.len()).min(1000);
            room[..taken].copy_from_slice(&down[..taken]);
            reader.filled(taken);
            down = &down[taken..];
            while let Some(frame) = reader.next_frame().expect("the model sends frames") {
                self.core.frame(frame, self.now_ns);
            }
        }
        if cut_up || cut_down {
            self.cut("cut");
            return true;
        }
        moved
    }

    fn cut(&mut self, why: &str) {
        self.connection = None;
        self.core.disconnected(self.now_ns, why);
    }

    /// Until nothing moves, without letting time pass.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it never settles");
    }

    /// Lets time pass from deadline to deadline until `done`, at most for `limit`.
    fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now_ns + u64::try_from(limit.as_nanos()).expect("a short time");
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            if self.core.has_output(self.now_ns) {
                continue;
            }
            let next = self.core.next_deadline().unwrap_or(end).max(self.now_ns + 1);
            if next > end || self.core.wish() == Wish::End {
                return false;
            }
            self.now_ns = next;
        }
    }
}

/// What of `bytes` passes before the next cut, and whether it is cut.
fn passed<'a>(bytes: &'a [u8], cuts: &mut Vec<usize>) -> (&'a [u8], bool) {
    match cuts.first_mut() {
        Some(left) if *left <= bytes.len() => {
            let at = *left;
            cuts.remove(0);
            (&bytes[..at], true)
        }
        Some(left) => {
            *left -= bytes.len();
            (bytes, false)
        }
        None => (bytes, false),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

fn producer_config() -> ProducerConfig {
    ProducerConfig {
        batch_bytes: 512,
        buffer_bytes: 1 << 20,
        linger: Duration::from_millis(5),
        ..ProducerConfig::new("t")
    }
}

fn producer(config: ProducerConfig, model: Model) -> World<ProducerCore> {
    let mut world = World::new(ProducerCore::new(config, 7).expect("a good configuration"), model);
    world.settle();
    world
}

fn payload(number: usize) -> Vec<u8> {
    format!("record {number} {}", "x".repeat(number % 50)).into_bytes()
}

fn send_numbers(world: &mut World<ProducerCore>, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let now_ns = world.now_ns;
        let sent = world.core.send(&Record::new(&payload(number)), now_ns);
        assert!(matches!(sent, Ok(Sent::Taken(_))), "record {number}: {sent:?}");
    }
}

fn all_acked(world: &mut World<ProducerCore>) -> bool {
    let records = world.core.records();
    world.run_until(MINUTE, |world| world.core.acknowledged_prefix() == records)
}

fn expected(numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    numbers.map(payload).collect()
}

#[test]
fn records_arrive_once_and_in_order() {
    let mut world = producer(producer_config(), Model::new(1));
    send_numbers(&mut world, 0..500);
    assert!(all_acked(&mut world));
    assert_eq!(world.model.partitions[0].payloads(), expected(0..500));
    assert_eq!(world.connects, 1);
}

/// How many bytes pass in each direction when nothing is cut: the positions the next test cuts at.
fn bytes_of_a_run() -> (usize, usize) {
    let mut world = World::new(ProducerCore::new(producer_config(), 7).expect("good"), Model::new(1));
    (world.cuts_up, world.cuts_down) = (vec![usize::MAX], vec![usize::MAX]);
    world.settle();
    send_numbers(&mut world, 0..40);
    assert!(all_acked(&mut world));
    (usize::MAX - world.cuts_up[0], usize::MAX - world.cuts_down[0])
}

#[test]
fn a_cut_at_any_byte_loses_and_doubles_nothing() {
    let (up, down) = bytes_of_a_run();
    assert!(up > 1500 && down > 500, "enough to cut: {up} {down}");
    let cuts = (0..=up).map(|at| (vec![at], vec![])).chain((0..=down).map(|at| (vec![], vec![at])));
    for (cuts_up, cuts_down) in cuts {
        let mut world = World::new(ProducerCore::new(producer_config(), 7).expect("good"), Model::new(1));
        (world.cuts_up, world.cuts_down) = (cuts_up.clone(), cuts_down.clone());
        let ready = world.run_until(MINUTE, |world| world.core.partitions().is_some());
        assert!(ready, "{cuts_up:?} {cuts_down:?}");
        send_numbers(&mut world, 0..40);
        assert!(all_acked(&mut world), "{cuts_up:?} {cuts_down:?}");
        assert_eq!(world.model.partitions[0].payloads(), expected(0..40), "{cuts_up:?} {cuts_down:?}");
    }
}

#[test]
fn every_resend_of_a_batch_is_the_same_bytes_but_for_channel_and_header_checksum() {
    let mut model = Model::new(1);
    model.acks = false;
    let mut world = producer(producer_config(), model);
    send_numbers(&mut world, 0..40);
    world.run_until(Duration::from_millis(20), |_| false);
    let first = world.model.published.clone();
    assert!(first.len() > 3);
    world.model.published.clear();
    // The server forgets what it stored, not the producer: everything is sent again.
    world.model.partitions[0] = Default::default();
    world.model.acks = true;
    world.cut("test");
    assert!(all_acked(&mut world));
    let same = |a: &[u8], b: &[u8]| a[..36] == b[..36] && a[40..60] == b[40..60] && a[64..] == b[64..];
    assert!(first.iter().zip(&world.model.published).all(|(a, b)| same(a, b)));
    assert_eq!(world.model.partitions[0].payloads(), expected(0..40));
}

#[test]
fn a_lost_ack_is_learned_from_the_reopening() {
    let mut model = Model::new(1);
    model.ack_every = 1000;
    let mut world = producer(producer_config(), model);
    send_numbers(&mut world, 0..40);
    world.run_until(Duration::from_millis(20), |_| false);
    assert_eq!(world.core.acknowledged_prefix(), 0);
    assert_eq!(world.model.partitions[0].payloads(), expected(0..40));
    world.cut("test");
    world.run_until(Duration::from_secs(1), |world| world.core.is_idle());
    assert_eq!(world.core.acknowledged_prefix(), 40);
    assert_eq!(world.model.partitions[0].payloads(), expected(0..40));
}

#[test]
fn a_restarted_server_gets_what_is_unacknowledged_under_a_new_producer_id() {
    let mut world = producer(producer_config(), Model::new(1));
    send_numbers(&mut world, 0..40);
    assert!(all_acked(&mut world));
    world.model.acks = false;
    send_numbers(&mut world, 40..60);
    world.run_until(Duration::from_millis(20), |_| false);
    let old_id = world.model.published[0][16..24].to_vec();
    world.model.restart();
    world.model.acks = true;
    world.cut("restart");
    assert!(all_acked(&mut world));
    let mut renumbered = 0;
    while let Some(event) = world.core.poll_event() {
        if let ProducerEvent::Renumbered { batches, .. } = event {
            renumbered += batches;
        }
    }
    assert!(renumbered > 0);
    let stored = world.model.partitions[0].payloads();
    let twice = [expected(0..60), expected(40..60)].concat();
    assert_eq!(stored, twice, "at least once over a restart of the server, in order");
    let last = world.model.published.last().expect("some");
    assert_ne!(last[16..24], old_id[..]);
}

#[test]
fn a_forgotten_producer_reconnects_under_a_new_id() {
    let mut world = producer(producer_config(), Model::new(1));
    send_numbers(&mut world, 0..40);
    assert!(all_acked(&mut world));
    world.model.restart(); // evicted, while the channel stays open
    send_numbers(&mut world, 40..60);
    assert!(all_acked(&mut world));
    assert_eq!(world.model.partitions[0].payloads(), expected(0..60));
    assert_eq!(world.connects, 2);
}

#[test]
fn a_retryable_refusal_is_resent_in_order() {
    for refused in 0..6 {
        let mut model = Model::new(1);
        model.refusals = (0..refused).map(|_| None).chain([Some(Code::BackPressure); 3]).collect();
        let mut world = producer(producer_config(), model);
        send_numbers(&mut world, 0..100);
        assert!(all_acked(&mut world));
        assert_eq!(world.model.partitions[0].payloads(), expected(0..100));
        assert_eq!(world.connects, 1);
        let resends = world.model.published.len() - world.model.partitions[0].frames.len();
        assert!(resends <= 3 * 8, "each refusal costs at most a window: {resends}");
    }
}

#[test]
fn a_terminal_refusal_costs_its_batch_alone() {
    let mut model = Model::new(1);
    model.refusals = [None, Some(Code::DeadlineExpired), None].into();
    model.ack_every = 3;
    let mut world = producer(producer_config(), model);
    send_numbers(&mut world, 0..60);
    world.core.flush();
    let records = 60;
    world.run_until(Duration::from_secs(1), |_| false);
    world.model.ack_every = 1;
    world.cut("so that the last acks are learned");
    assert!(world.run_until(MINUTE, |world| world.core.resolved_prefix() == records));
    let mut refused = None;
    while let Some(event) = world.core.poll_event() {
        if let ProducerEvent::Refused { records, code: Code::DeadlineExpired, .. } = event {
            assert!(refused.replace(records).is_none(), "once");
        }
    }
    let refused = refused.expect("one batch was refused");
    let numbers =
        usize::try_from(refused.start).expect("small")..usize::try_from(refused.end).expect("small");
    let kept = [expected(0..numbers.start), expected(numbers.end..60)].concat();
    assert_eq!(world.model.partitions[0].payloads(), kept);
    assert_eq!(world.core.acknowledged_prefix(), refused.start);
    let status = |record| world.core.status(Ticket { partition: 0, record });
    assert_eq!(status(refused.start), TicketStatus::Refused(Code::DeadlineExpired));
    assert_eq!(status(refused.end), TicketStatus::Acked);
    assert_eq!(status(0), TicketStatus::Acked);
    assert_eq!(status(60), TicketStatus::Pending);
}

#[test]
fn a_full_buffer_does_as_the_policy_says() {
    for policy in [WindowPolicy::Block, WindowPolicy::Fail, WindowPolicy::Drop] {
        let mut model = Model::new(1);
        model.acks = false;
        let config = ProducerConfig { buffer_bytes: 2048, window: policy, ..producer_config() };
        let mut world = producer(config, model);
        let mut taken = 0;
        let outcome = loop {
            match world.core.send(&Record::new(&payload(taken)), 1) {
                Ok(Sent::Taken(_)) => taken += 1,
                other => break other,
            }
            assert!(taken < 1000, "the buffer is bounded");
        };
        match policy {
            WindowPolicy::Drop => assert_eq!((outcome, world.core.dropped_records()), (Ok(Sent::Dropped), 1)),
            _ => assert_eq!(outcome, Err(SendError::Full)),
        }
        assert!(world.core.buffered_bytes() <= 2048 + 512);
        world.model.acks = true;
        world.settle();
        world.cut("learn what was accepted");
        assert!(all_acked(&mut world));
        assert!(matches!(world.core.send(&Record::new(b"more"), world.now_ns), Ok(Sent::Taken(_))));
        assert_eq!(world.model.partitions[0].payloads(), expected(0..taken));
    }
}

#[test]
fn credit_is_never_overrun_and_a_stall_ends_with_credit() {
    for credit in [0, 100, 600, 1200, 5000] {
        let mut model = Model::new(1);
        model.credit = credit;
        let mut world = producer(producer_config(), model);
        send_numbers(&mut world, 0..300);
        assert!(all_acked(&mut world));
        assert_eq!(world.model.overruns, 0, "credit {credit}");
        assert_eq!(world.model.partitions[0].payloads(), expected(0..300));
    }
}

#[test]
fn lingering_gathers_and_zero_linger_sends_at_once() {
    let mut world = producer(producer_config(), Model::new(1));
    send_numbers(&mut world, 0..3);
    world.settle();
    assert_eq!(world.model.published.len(), 0, "it lingers");
    world.now_ns += 5_000_000;
    world.settle();
    assert_eq!(world.model.published.len(), 1, "one batch of three");

    let config = ProducerConfig { linger: Duration::ZERO, ..producer_config() };
    let mut world = producer(config, Model::new(1));
    send_numbers(&mut world, 0..1);
    world.settle();
    assert_eq!(world.model.published.len(), 1);
}

#[test]
fn keys_choose_partitions_and_keep_their_order() {
    let config = ProducerConfig { partitioner: Partitioner::KeyElseSticky, ..producer_config() };
    let mut world = producer(config, Model::new(4));
    for number in 0..400 {
        let key = format!("key {}", number % 17);
        world.core.send(&Record::keyed(&payload(number), key.as_bytes()), 1).expect("room");
    }
    assert!(all_acked(&mut world));
    for (partition, stored) in world.model.partitions.iter().enumerate() {
        let of_key = |number: &usize| {
            partition_of_key(format!("key {}", number % 17).as_bytes(), 4) as usize == partition
        };
        let wanted: Vec<_> = (0..400).filter(of_key).map(payload).collect();
        assert_eq!(stored.payloads(), wanted);
    }
    assert_eq!(partition_of_key(b"123456789", 1000), 0xE306_9283 % 1000, "the CRC-32C of the specification");
}

#[test]
fn it_gives_up_when_nothing_goes_forward_for_too_long() {
    let connection = ConnectionConfig { retry_for: Duration::from_secs(3), ..ConnectionConfig::default() };
    let config = ProducerConfig { connection, ..producer_config() };
    let mut world = World::new(ProducerCore::new(config, 7).expect("good"), Model::new(1));
    world.reachable = false;
    assert!(!world.run_until(MINUTE, |_| false));
    assert!(
        matches!(world.core.failure(), Some(Error::GaveUp { tried_ms: 3000..=5000, .. })),
        "{:?}",
        world.core.failure()
    );
    assert!(matches!(world.core.send(&Record::new(b"x"), 1), Err(SendError::Ended(Error::GaveUp { .. }))));
}

#[test]
fn a_refused_open_ends_the_producer_with_its_code() {
    let mut model = Model::new(1);
    model.topic_exists = false;
    let world = producer(producer_config(), model);
    assert!(matches!(world.core.failure(), Some(Error::Refused { code: Code::UnknownTopic, .. })));
}

#[test]
fn an_idle_connection_is_kept_by_pings() {
    let mut world = producer(producer_config(), Model::new(1));
    world.run_until(Duration::from_secs(300), |_| false);
    assert_eq!(world.connects, 1);
    assert_eq!(world.core.wish(), Wish::Run);
}

// --- the consumer ---

fn filled(partitions: usize, records: usize) -> Model {
    filled_with(Model::new(partitions), records)
}

fn filled_with(model: Model, records: usize) -> Model {
    let config = ProducerConfig { partitioner: Partitioner::KeyElseSticky, ..producer_config() };
    let mut world = producer(config, model);
    send_numbers(&mut world, 0..records);
    assert!(all_acked(&mut world));
    world.model
}

fn consumer(start: Start, credit_bytes: u64, model: Model) -> World<ConsumerCore> {
    let config = ConsumerConfig { start, credit_bytes, ..ConsumerConfig::new("t") };
    World::new(ConsumerCore::new(config, 9).expect("a good configuration"), model)
}

/// Takes every event; payloads by partition, and gaps.
fn take_all(world: &mut World<ConsumerCore>, into: &mut [Vec<Vec<u8>>], gaps: &mut Vec<(u32, u64, u64)>) {
    while let Some(event) = world.core.poll_event() {
        match event {
            ConsumerEvent::Batch(delivery) => {
                let place = &mut into[delivery.partition() as usize];
                for (record, shared) in delivery.records().zip(delivery.payloads()) {
                    assert_eq!(record.payload, &shared[..]);
                    place.push(record.payload.to_vec());
                }
            }
            ConsumerEvent::Gap { partition, from, records, .. } => gaps.push((partition, from, records)),
            _ => {}
        }
    }
}

#[test]
fn every_partition_is_delivered_within_its_credit() {
    for credit_bytes in [1, 700, 100_000] {
        let mut world = consumer(Start::Earliest, credit_bytes, filled(3, 300));
        let (mut got, mut gaps) = (vec![Vec::new(); 3], Vec::new());
        let done = world.run_until(MINUTE, |world| {
            take_all(world, &mut got, &mut gaps);
            got.iter().map(Vec::len).sum::<usize>() == 300
        });
        assert!(done, "with credit {credit_bytes}");
        for (got, partition) in got.iter().zip(&world.model.partitions) {
            assert_eq!(*got, partition.payloads());
        }
        assert!(gaps.is_empty());
    }
}

#[test]
fn a_consumer_that_takes_nothing_holds_no_more_than_its_credit() {
    let mut world = consumer(Start::Earliest, 2000, filled(1, 300));
    world.run_until(Duration::from_secs(5), |_| false);
    world.cut("again");
    world.run_until(Duration::from_secs(5), |_| false);
    let mut bytes = 0;
    while let Some(event) = world.core.poll_event() {
        if let ConsumerEvent::Batch(delivery) = event {
            bytes += delivery.frame_bytes();
        }
    }
    assert!((1000..=2000 + 600).contains(&bytes), "one frame beyond the credit at most: {bytes}");
}

#[test]
fn a_cut_at_any_byte_repeats_and_skips_nothing() {
    let reference = filled(1, 40).partitions[0].payloads();
    for at in 0..3000 {
        let mut world = consumer(Start::Earliest, 1000, filled(1, 40));
        world.cuts_down = vec![at];
        let (mut got, mut gaps) = (vec![Vec::new()], Vec::new());
        let done = world.run_until(MINUTE, |world| {
            take_all(world, &mut got, &mut gaps);
            got[0].len() >= 40
        });
        assert!(done && got[0] == reference && gaps.is_empty(), "cut at {at}");
        if world.connects == 1 {
            assert!(at > 1500, "the run was long enough to be cut everywhere");
            return;
        }
    }
    panic!("the run never was shorter than the cut");
}

#[test]
fn an_offset_inside_a_batch_skips_what_is_below() {
    for from in 0..40 {
        let mut world = consumer(Start::Offset(from), 1 << 20, filled(1, 40));
        let (mut got, mut gaps) = (vec![Vec::new()], Vec::new());
        let from = usize::try_from(from).expect("small");
        world.run_until(MINUTE, |world| {
            take_all(world, &mut got, &mut gaps);
            got[0].len() == 40 - from
        });
        assert_eq!(got[0], expected(from..40));
    }
}

#[test]
fn what_retention_took_is_a_gap() {
    let mut model = filled(1, 100);
    let partition = &mut model.partitions[0];
    let kept = partition.frames.split_off(partition.frames.len() / 2);
    partition.frames = kept;
    partition.start = partition.frames[0].0;
    let start = partition.start;
    assert!(start > 10);
    let mut world = consumer(Start::Offset(10), 1 << 20, model);
    let (mut got, mut gaps) = (vec![Vec::new()], Vec::new());
    world.run_until(Duration::from_secs(1), |world| {
        take_all(world, &mut got, &mut gaps);
        false
    });
    assert_eq!(gaps, [(0, 10, start - 10)]);
    assert_eq!(got[0], expected(usize::try_from(start).expect("small")..100));
}

#[test]
fn a_commit_that_is_refused_for_now_is_sent_again() {
    let mut model = filled(1, 20);
    model.refusals = [Some(Code::Unavailable), Some(Code::Unavailable)].into();
    model.retry_after_us = 300_000;
    let config = ConsumerConfig { name: "billing".into(), ..ConsumerConfig::new("t") };
    let mut world = World::new(ConsumerCore::new(config, 1).expect("good"), model);
    world.settle();
    let before_ns = world.now_ns;
    world.core.commit(0, 25).expect("it has a name");
    assert!(world.run_until(MINUTE, |world| world.core.commits_settled()), "{:?}", world.core.failure());
    assert_eq!(world.model.partitions[0].committed["billing"], 20, "as much as there is");
    assert!(world.now_ns >= before_ns + 600_000_000, "it waits as long as it is told");
    assert_eq!(world.connects, 1);
}

#[test]
fn a_name_resumes_where_it_committed() {
    let config = ConsumerConfig {
        start: Start::Earliest,
        name: "n".to_owned(),
        resume: true,
        ..ConsumerConfig::new("t")
    };
    let mut world = World::new(ConsumerCore::new(config.clone(), 1).expect("good"), filled(1, 40));
    world.settle();
    world.core.commit(0, 25).expect("it has a name");
    assert!(!world.core.commits_settled());
    world.cut("before the commit was sent");
    assert!(world.run_until(MINUTE, |world| world.core.commits_settled()));
    let model = std::mem::replace(&mut world.model, Model::new(1));
    let mut world = World::new(ConsumerCore::new(config, 2).expect("good"), model);
    let (mut got, mut gaps) = (vec![Vec::new()], Vec::new());
    world.settle();
    take_all(&mut world, &mut got, &mut gaps);
    assert_eq!(got[0], expected(25..40));
    let mut nameless = consumer(Start::Latest, 1, Model::new(1));
    nameless.settle();
    assert!(matches!(nameless.core.commit(0, 1), Err(Error::BadConfig(_))));
}

/// While nobody is connected a topic is deleted, and one of its name is made that has more to read than the first had, and
/// more or fewer partitions: all of it is read, and what is committed of the first is not committed there.
#[test]
fn a_topic_that_was_made_again_is_read_from_its_beginning() {
    for (before, after) in [(1, 1), (1, 3), (2, 1)] {
        let config =
            ConsumerConfig { name: "n".to_owned(), start: Start::Earliest, ..ConsumerConfig::new("t") };
        let mut world = World::new(ConsumerCore::new(config, 9).expect("good"), filled(before, 40));
        world.settle();
        world.core.commit(0, 20).expect("it has a name");
        world.cut("before the commit was sent");
        world.model = filled_with(Model { ids_from: 500, ..Model::new(after) }, 100);
        world.run_until(Duration::from_secs(10), |_| false);
        let mut got = vec![Vec::new(); before.max(after)];
        let (mut ids, mut first) = (std::collections::BTreeMap::new(), 0);
        while let Some(event) = world.core.poll_event() {
            match event {
                ConsumerEvent::Subscribed { partition, partition_id, .. } => {
                    ids.insert(partition, partition_id);
                }
                ConsumerEvent::Batch(delivery) if ids[&delivery.partition()] < 500 => {
                    first += delivery.records().count();
                    world.core.commit(delivery.partition(), 1).expect("it has a name");
                }
                ConsumerEvent::Batch(delivery) => {
                    let of = &mut got[delivery.partition() as usize];
                    of.extend(delivery.records().map(|record| record.payload.to_vec()));
                }
                ConsumerEvent::Gap { partition, from, records, .. } => {
                    panic!("a gap of {records} at {from} on {partition}")
                }
                _ => {}
            }
            world.settle();
        }
        assert_eq!(first, 40, "what had come of the first is there");
        let stored: Vec<_> = world.model.partitions.iter().map(model::Partition::payloads).collect();
        assert_eq!(got[..after], stored[..], "{before} then {after}: {:?}", world.core.failure());
        assert!(world.model.partitions.iter().all(|partition| partition.committed.is_empty()));
        assert!(world.core.is_subscribed() && world.core.commits_settled());
    }
}

#[test]
fn it_waits_for_a_topic_where_asked_to() {
    let mut model = Model::new(1);
    model.topic_exists = false;
    let config = ConsumerConfig { wait_for_topic: true, ..ConsumerConfig::new("t") };
    let mut world = World::new(ConsumerCore::new(config, 1).expect("good"), model);
    world.run_until(Duration::from_secs(100), |_| false);
    assert!(world.core.failure().is_none());
    world.model.topic_exists = true;
    assert!(world.run_until(Duration::from_secs(1), |world| world.core.is_subscribed()));
}

#[test]
fn damaged_deliveries_are_named_and_never_handed_out() {
    let mut model = filled(1, 40);
    let (offset, _, frame) = &mut model.partitions[0].frames[1];
    let offset = *offset;
    let last = frame.len() - 9;
    frame[last] ^= 1;
    let mut world = consumer(Start::Earliest, 1 << 20, model);
    world.settle();
    let corrupt = Error::Corrupt { partition: 0, offset, code: Code::BadBodyChecksum };
    assert_eq!(world.core.failure(), Some(&corrupt));
    let (mut got, mut gaps) = (vec![Vec::new()], Vec::new());
    take_all(&mut world, &mut got, &mut gaps);
    assert_eq!(got[0], expected(0..usize::try_from(offset).expect("small")));
}

#[test]
fn payloads_beyond_the_bound_on_pinned_memory_are_copied_and_counted() {
    let model = filled(1, 4000);
    let frames: Vec<u8> = model.partitions[0].frames.iter().flat_map(|(_, _, frame)| frame.clone()).collect();
    let read_all = |pinned_bytes_max| {
        let mut reader = FrameReader::new(pinned_bytes_max);
        let mut kept = Vec::new();
        for _ in 0..20 {
            let mut left = &frames[..];
            while !left.is_empty() {
                let room = reader.room();
                let taken = room.len().min(left.len());
                room[..taken].copy_from_slice(&left[..taken]);
                reader.filled(taken);
                left = &left[taken..];
                while let Some(frame) = reader.next_frame().expect("frames") {
                    kept.push(frame);
                }
            }
        }
        (reader.copied_bytes().1, reader.pinned_bytes())
    };
    let (copied, pinned) = read_all(usize::MAX);
    assert_eq!(copied, 0);
    assert!(pinned > 3_000_000, "everything is kept: {pinned}");
    let (copied, pinned) = read_all(600_000);
    assert!(copied > 3_000_000, "what is beyond the bound is copied: {copied}");
    assert!(pinned <= 600_000 + 2 * 300_000, "and the bound holds but for a chunk: {pinned}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any cuts, refusals, credit, pace of acks and partitions: once, and in order for each partition.
    #[test]
    fn whatever_happens_each_record_arrives_once_in_order(
        cuts_up in prop::collection::vec(0usize..4000, 0..6),
        cuts_down in prop::collection::vec(0usize..2000, 0..6),
        refusals in prop::collection::vec(prop::option::weighted(0.2, Just(Code::RingFull)), 0..40),
        credit in 0u64..3000,
        partitions in 1usize..4,
        records in 1usize..200,
        durable in any::<bool>(),
    ) {
        let mut model = Model::new(partitions);
        model.level = if durable { AckLevel::Durable } else { AckLevel::Received };
        model.refusals = refusals.into();
        model.credit = credit;
        let mut world = World::new(ProducerCore::new(producer_config(), 7).expect("good"), model);
        (world.cuts_up, world.cuts_down) = (cuts_up, cuts_down);
        prop_assert!(world.run_until(MINUTE, |world| world.core.partitions().is_some()));
        let mut by_partition = vec![Vec::new(); partitions];
        for number in 0..records {
            let now_ns = world.now_ns;
            match world.core.send(&Record::new(&payload(number)), now_ns) {
                Ok(Sent::Taken(ticket)) => by_partition[ticket.partition as usize].push(payload(number)),
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
            if number % 7 == 0 {
                world.settle();
            }
        }
        prop_assert!(all_acked(&mut world), "{:?}", world.core.failure());
        prop_assert_eq!(world.model.overruns, 0);
        for (sent, stored) in by_partition.iter().zip(&world.model.partitions) {
            prop_assert_eq!(sent, &stored.payloads());
        }
    }

    /// Bytes that are no frames end a connection, never the process.
    #[test]
    fn garbage_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 64..400), magic in any::<bool>()) {
        if magic {
            bytes[..3].copy_from_slice(b"UR\x01");
        }
        let mut reader = FrameReader::new(0);
        reader.room()[..bytes.len()].copy_from_slice(&bytes);
        reader.filled(bytes.len());
        prop_assert!(reader.next_frame().is_err());
    }
}

#[test]
fn a_server_that_cannot_be_trusted_ends_a_client_at_first_and_is_tried_again_later() {
    use super::TlsFault;
    let fault = |fault| Error::Tls { fault, detail: String::new() };
    let unknown = || fault(TlsFault::UnknownAuthority);
    let config = || ConsumerConfig::new("t");
    let mut fresh = ConsumerCore::new(config(), 1).expect("a good configuration");
    fresh.connected(1);
    fresh.garbled(fault(TlsFault::Broken), 2);
    assert_eq!((fresh.wish(), fresh.failure()), (Wish::Hangup, None), "chance is given another one");
    fresh.disconnected(3, "closed");
    fresh.expire(50_000_000);
    fresh.connected(50_000_000);
    fresh.garbled(unknown(), 50_000_000);
    assert_eq!((fresh.wish(), fresh.failure()), (Wish::End, Some(&unknown())));

    let core = ConsumerCore::new(config(), 1).expect("a good configuration");
    let mut world = World::new(core, Model::new(1));
    assert!(world.run_until(Duration::from_secs(1), |world| world.core.is_subscribed()));
    world.core.garbled(unknown(), world.now_ns);
    assert_eq!((world.core.wish(), world.core.failure()), (Wish::Hangup, None), "it was good before");
}
