//! Producers' credit: however many share a partition, each that waits for credit gets it, in turn.
//!
//! The producers here are patient: they send a frame that their credit does not cover only where it is larger than all
//! before, although the protocol lets them wherever they are alone.

use super::clients::*;
use super::rig::*;
use crate::ids::SockId;
use crate::limits::{CREDIT_CHANNEL_BYTES, CREDIT_LEAST_BYTES};
use crate::metrics::Counter;
use crate::proto::header::Kind;
use crate::shard::ShardLimits;
use crate::topic::{Overflow, TopicKind};

const MIB: u64 = 1024 * 1024;
/// The largest payload whose frame is within `FRAME_BYTES_MAX`.
const LARGEST: usize = 65_000;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % bound as u64).expect("small")
    }
}

fn rig(shards: u16) -> Rig {
    Rig::with_limits(shards, 4096, ShardLimits { channels: 4096, ..limits() })
}

/// Producers of one partition, so many on each connection, over all shards.
fn producers_on(rig: &mut Rig, ids: std::ops::RangeInclusive<u64>, each: usize) -> Vec<Producer> {
    let shards = rig.shards.len();
    let mut producers: Vec<Producer> = Vec::new();
    let mut sock = SockId(0);
    for id in ids {
        let at = producers.len();
        if at.is_multiple_of(each) {
            sock = rig.settled_client(u16::try_from(at / each % shards).expect("few"));
        }
        let (channel, opened) = rig.open(sock, "t", id);
        producers.push(Producer { patient: true, ..Producer::new(sock, channel, id, opened.credit) });
        // What is said to other channels of the connection.
        listen(rig, &mut producers[at - at % each..]);
    }
    producers
}

fn producers(rig: &mut Rig, ids: std::ops::RangeInclusive<u64>) -> Vec<Producer> {
    producers_on(rig, ids, 10)
}

/// See the audit.
pub(super) fn assert_credit_conserved(rig: &Rig) {
    crate::shard::audit::assert_credit_conserved(&rig.shards);
}

/// A millisecond in which everybody sends what credit allows; says whether all are done.
fn step(rig: &mut Rig, producers: &mut [Producer], batches: u64, bytes: &mut impl FnMut() -> usize) -> bool {
    for producer in producers.iter_mut() {
        while (producer.next <= batches || !producer.refused.is_empty()) && producer.step(rig, bytes()) {}
    }
    rig.advance(1_000);
    rig.tick();
    listen(rig, producers);
    producers.iter().all(|producer| producer.next > batches && producer.idle())
}

/// Steps until all are done, at most so many milliseconds; the reader takes so many bytes in each.
fn publish_patiently(
    rig: &mut Rig,
    producers: &mut [Producer],
    batches: u64,
    ms: usize,
    reader: (SockId, usize),
    mut bytes: impl FnMut() -> usize,
) {
    let mut done = false;
    for _ in 0..ms {
        rig.set_room(reader.0, reader.1);
        done |= step(rig, producers, batches, &mut bytes);
        if done {
            return rig.set_room(reader.0, usize::MAX);
        }
    }
    let stuck = producers.iter().filter(|p| !p.idle() || p.next <= batches);
    let states: Vec<_> = stuck
        .map(|p| (p.id, p.next, p.limit - p.used.min(p.limit), p.unanswered.len(), p.refused.len()))
        .collect();
    panic!("{} of {} are stuck: {states:?}", states.len(), producers.len());
}

#[test]
fn two_hundred_patient_producers_of_one_small_partition_all_get_through() {
    for shards in 1..=3 {
        for (overflow, largest) in
            [(Overflow::Block, LARGEST), (Overflow::Block, 20_000), (Overflow::Reject, LARGEST)]
        {
            let mut rig = rig(shards);
            rig.topic_on("t", TopicKind::Memory, overflow, MIB, &[(0, 0)]);
            let reader = rig.settled_client(0);
            rig.subscribe(reader, all_of("t"));
            let mut all = producers(&mut rig, 1..=200);
            let mut random = Random(7 + u64::from(shards));
            publish_patiently(&mut rig, &mut all, 4, 3_000, (reader, 400_000), || 1 + random.below(largest));
            rig.run();
            let mut consumer = Consumer::from(0);
            let heard = consumer.listen(&mut rig, reader);
            let delivered = heard.iter().filter(|(header, _)| header.kind == Kind::Deliver).count();
            assert_eq!(delivered, 200 * 4, "{shards} shards");
            rig.disconnect_all();
            rig.assert_nothing_leaked();
        }
    }
}

#[test]
fn producers_that_do_nothing_with_their_credit_keep_nobody_waiting() {
    for shards in 1..=2 {
        for kind in [TopicKind::Memory, TopicKind::Live] {
            let mut rig = rig(shards);
            rig.topic_on("t", kind, Overflow::Block, MIB, &[(0, 0)]);
            let reader = rig.settled_client(0);
            rig.subscribe(reader, all_of("t"));
            let mut idle = producers(&mut rig, 1..=150);
            let mut random = Random(5);
            // Some have sent a little and keep the rest.
            publish_patiently(&mut rig, &mut idle[..50], 1, 2_000, (reader, usize::MAX), || {
                1 + random.below(LARGEST)
            });
            let mut all = producers(&mut rig, 1_001..=1_020);
            publish_patiently(&mut rig, &mut all, 20, 3_000, (reader, usize::MAX), || LARGEST);
            assert!(rig.shards[0].counters.read(Counter::CreditForgiven) > 0, "room was promised again");
            // They come back, all together; none has been told less than it had.
            publish_patiently(&mut rig, &mut idle, 3, 3_000, (reader, 400_000), || LARGEST);
            rig.disconnect_all();
            rig.assert_nothing_leaked();
        }
    }
}

/// How many batches of so many bytes each producer got accepted in these milliseconds; each sends at most `pace` in each.
fn accepted_in(
    rig: &mut Rig,
    all: &mut [Producer],
    bytes: usize,
    pace: usize,
    ms: std::ops::Range<u32>,
    reader: Option<SockId>,
) -> Vec<u64> {
    let mut before = Vec::new();
    for at in 0..ms.end {
        if let Some(reader) = reader {
            rig.set_room(reader, 400_000);
            rig.heard(reader);
        }
        if at == ms.start {
            before = all.iter().map(|producer| producer.accepted).collect();
        }
        for producer in all.iter_mut() {
            for _ in 0..pace {
                producer.step(rig, bytes);
            }
        }
        rig.advance(1_000);
        // The simulated kernel serves one connection after another: what was sent is read, so that none is favoured.
        for _ in 0..40 {
            rig.tick();
            if all.iter().all(|producer| rig.shards[0].io.peer(producer.sock).inbound.is_empty()) {
                break;
            }
        }
        listen(rig, all);
    }
    assert_credit_conserved(rig);
    all.iter().zip(before).map(|(producer, before)| producer.accepted - before).collect()
}

fn get_on_evenly(count: u64, bytes: usize, pace: usize, kind: TopicKind, shards: u16, reads: bool) {
    // Until the first grants, which are larger for those that came first, are used up.
    let ms = if count > 1_000 { 200..300 } else { 60..160 };
    let what = format!("{count} producers, {kind:?}, {shards} shards, reader: {reads}");
    let mut rig = rig(shards);
    rig.topic_on("t", kind, Overflow::Block, 4 * MIB, &[(0, 0)]);
    let reader = reads.then(|| rig.settled_client(0));
    if let Some(reader) = reader {
        rig.subscribe(reader, all_of("t"));
    }
    let mut all = producers_on(&mut rig, 1..=count, 100);
    let counts = accepted_in(&mut rig, &mut all, bytes, pace, ms, reader);
    let (least, most) = (*counts.iter().min().expect("some"), *counts.iter().max().expect("some"));
    assert!(least > 0 && least * 2 >= most, "{what}: {least}..{most}: {counts:?}");
    assert!(reads || least >= 75, "{what}: nothing holds them up: {counts:?}");
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn two_hundred_producers_of_a_partition_get_on_evenly() {
    for (shards, kind) in [(1, TopicKind::Memory), (2, TopicKind::Live)] {
        get_on_evenly(100, 10_000, 64, kind, shards, true);
        get_on_evenly(200, 2_000, 4, kind, shards, true);
        get_on_evenly(200, 500, 1, kind, shards, false);
    }
}

#[test]
fn two_thousand_producers_of_a_partition_that_blocks_get_on_evenly() {
    get_on_evenly(2_000, 300, 1, TopicKind::Memory, 1, true);
}

#[test]
fn two_thousand_producers_of_a_live_topic_get_on_evenly() {
    get_on_evenly(2_000, 300, 1, TopicKind::Live, 1, false);
}

#[test]
fn two_thousand_producers_of_two_shards_get_on_evenly() {
    get_on_evenly(2_000, 300, 1, TopicKind::Memory, 2, true);
}

#[test]
fn a_producer_at_work_has_the_full_window_whoever_else_is_idle() {
    for shards in 1..=2 {
        for others in [0, 300] {
            let mut rig = rig(shards);
            rig.topic_on("t", TopicKind::Live, Overflow::Block, 4 * MIB, &[(0, 0)]);
            let mut idle = producers_on(&mut rig, 1_001..=1_000 + others, 50);
            // Some have been busy.
            let busy = idle.len().min(8);
            accepted_in(&mut rig, &mut idle[..busy], 20_000, 3, 0..100, None);
            let mut one = producers(&mut rig, 1..=1);
            for ms in 0..400 {
                let _sent = (0..3).all(|_| one[0].step(&mut rig, 30_000));
                rig.advance(1_000);
                rig.tick();
                listen(&mut rig, &mut one);
                let has = one[0].limit - one[0].used;
                assert!(
                    ms < 300 || has > CREDIT_CHANNEL_BYTES / 4,
                    "{shards} shards, {others} others, {ms} ms: {has}"
                );
            }
            rig.disconnect_all();
            rig.assert_nothing_leaked();
        }
    }
}

#[test]
fn many_that_have_sent_nothing_hold_little() {
    let mut rig = rig(1);
    rig.topic_on("t", TopicKind::Memory, Overflow::Block, 16 * MIB, &[(0, 0)]);
    let all = producers_on(&mut rig, 1..=2_000, 100);
    rig.pass(1_000);
    assert!(all.iter().all(|producer| producer.limit >= CREDIT_LEAST_BYTES), "each may begin");
    assert!(rig.granted() < 16 * MIB, "the ring can hold what is granted: {}", rig.granted());
    assert_eq!(rig.shards[0].counters.read(Counter::CreditForgiven), 0);
}

#[test]
fn a_full_ring_is_waited_for_without_looking() {
    let mut rig = rig(1);
    rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(0, 0)]);
    let reader = rig.settled_client(0);
    rig.subscribe(reader, all_of("t"));
    rig.set_room(reader, 0);
    let mut all = producers(&mut rig, 1..=40);
    for _ in 0..300 {
        step(&mut rig, &mut all, 100, &mut || LARGEST);
    }
    assert!(all.iter().any(|producer| !producer.idle() || producer.next <= 100), "the ring is full");
    let forgiven = rig.shards[0].counters.read(Counter::CreditForgiven);
    rig.pass(1_000);
    assert_eq!(rig.shards[0].credit_due_ns, u64::MAX, "only the consumer can change that");
    assert_eq!(rig.shards[0].counters.read(Counter::CreditForgiven), forgiven);
    publish_patiently(&mut rig, &mut all, 10, 3_000, (reader, usize::MAX), || LARGEST);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn who_waits_and_goes_is_not_waited_for() {
    let mut rig = rig(2);
    rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(0, 0)]);
    let reader = rig.settled_client(0);
    rig.subscribe(reader, all_of("t"));
    rig.set_room(reader, 0);
    let mut all = producers(&mut rig, 1..=60);
    for _ in 0..100 {
        step(&mut rig, &mut all, 100, &mut || LARGEST);
    }
    // Released, closed and reset while they wait; numbers of channels are given out again.
    for (at, producer) in all.iter().enumerate().take(40) {
        match at / 10 {
            0 | 1 => rig.send(producer.sock, &header_only(Kind::Release, producer.channel)),
            2 => rig.shards[0].io.peer(producer.sock).ended = true,
            _ => rig.shards[0].io.peer(producer.sock).reset = true,
        }
    }
    rig.run();
    let mut rest = all.split_off(40);
    rest.extend(producers(&mut rig, 501..=530));
    publish_patiently(&mut rig, &mut rest, 10, 3_000, (reader, usize::MAX), || LARGEST);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}
