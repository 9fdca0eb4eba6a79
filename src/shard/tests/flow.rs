//! Publish, acknowledge, deliver, credit: what clients see.

use super::rig::*;
use crate::limits::HEADER_BYTES;
use crate::proto::code::Code;
use crate::proto::control::{Refusal, Start, Subscribe};
use crate::proto::header::{FLAG_DUPLICATE, FrameHeader, Kind};
use crate::shard::messages::{Command, Report};
use crate::topic::{Overflow, TopicKind};
use crate::wire::batch;

const MIB: u64 = 1024 * 1024;

fn all_from_the_start(topic: &str) -> Subscribe {
    Subscribe { topic: topic.into(), start: Start::Earliest, credit: u64::MAX / 2, ..Subscribe::default() }
}

#[test]
fn a_batch_is_acknowledged_and_delivered_as_it_was_sent() {
    for kind in [TopicKind::Memory, TopicKind::Live] {
        let mut rig = Rig::new();
        let partition = rig.topic("t", kind, Overflow::Block, MIB);
        let (producer, consumer) = (rig.client(), rig.client());
        rig.subscribe(consumer, all_from_the_start("t"));
        let (channel, opened) = rig.open(producer, "t", 5);
        assert_eq!(opened.next_sequence, 1);
        let frame = super::rig::batch(channel, 5, 1, &[b"one", b"two"]);
        rig.send(producer, &frame);
        rig.run();
        let (ack, _) = rig.heard(producer).remove(0);
        assert_eq!(
            (ack.kind, ack.channel, ack.sequence, ack.offset, ack.offset_span),
            (Kind::Ack, channel, 1, 0, 2)
        );
        let (header, delivered) = rig.heard(consumer).remove(0);
        assert_eq!((header.kind, header.channel, header.offset), (Kind::Deliver, partition.0, 0));
        assert_eq!(delivered[4..36], frame[4..36], "the producer's fields");
        assert_eq!(delivered[HEADER_BYTES..], frame[HEADER_BYTES..], "the body");
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn a_resend_is_a_duplicate_of_its_offset() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Memory, Overflow::Block, MIB);
    let producer = rig.client();
    let (channel, _) = rig.open(producer, "t", 5);
    for sequence in 1..=3 {
        rig.send(producer, &batch_of(channel, 5, sequence, 100));
    }
    rig.send(producer, &batch_of(channel, 5, 2, 100));
    rig.run();
    let acks = rig.heard(producer);
    let last = acks.iter().rfind(|(header, _)| header.kind == Kind::Ack).expect("acknowledged").0;
    assert_eq!(
        (last.kind, last.sequence, last.offset, last.flags & FLAG_DUPLICATE),
        (Kind::Ack, 2, 1, FLAG_DUPLICATE)
    );
    assert_eq!(acks[0].0.sequence, 3, "what was held back is acknowledged first");
}

#[test]
fn a_slow_consumer_blocks_its_producer_and_nobody_else() {
    let mut rig = Rig::new();
    rig.topic("slow", TopicKind::Memory, Overflow::Block, MIB);
    rig.topic("other", TopicKind::Memory, Overflow::Block, MIB);
    let (producer, slow) = (rig.client(), rig.client());
    rig.subscribe(slow, all_from_the_start("slow"));
    rig.shards[0].io.peer(slow).room = 0;
    let (channel, opened) = rig.open(producer, "slow", 5);
    let mut limit = opened.credit;
    let (mut used, mut sequence) = (0, 0);
    loop {
        let frame = batch_of(channel, 5, sequence + 1, 16_000);
        if used + frame.len() as u64 > limit {
            break;
        }
        sequence += 1;
        used += frame.len() as u64;
        rig.send(producer, &frame);
        rig.run();
        for (header, _) in rig.heard(producer) {
            assert_ne!(header.kind, Kind::Nack, "credit is backed by room");
            if header.kind == Kind::Credit {
                limit = limit.max(header.offset);
            }
        }
    }
    assert!(used < MIB, "the ring bounds what is taken in: {used}");
    let (other, _) = rig.open(producer, "other", 5);
    rig.send(producer, &batch_of(other, 5, 1, 16_000));
    rig.run();
    assert!(rig.heard(producer).iter().any(|(h, _)| h.kind == Kind::Ack && h.channel == other));
    rig.shards[0].io.peer(slow).room = usize::MAX;
    rig.run();
    assert_eq!(rig.heard(slow).iter().filter(|(h, _)| h.kind == Kind::Deliver).count() as u64, sequence);
    assert!(rig.heard(producer).iter().any(|(h, _)| h.kind == Kind::Credit), "credit comes back");
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_frame_beyond_its_credit_is_taken_where_it_is_alone() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Memory, Overflow::Block, MIB);
    let (producer, other, slow) = (rig.client(), rig.client(), rig.client());
    rig.subscribe(slow, all_from_the_start("t"));
    rig.shards[0].io.peer(slow).room = 0;
    let (channel, opened) = rig.open(producer, "t", 5);
    rig.open(other, "t", 6);
    let (mut limit, mut used, mut sequence) = (opened.credit, 0, 0);
    let refused = loop {
        // The last one has less credit than it needs, and nothing of the channel is in flight.
        sequence += 1;
        let frame = batch_of(channel, 5, sequence, 24_000);
        used += frame.len() as u64;
        rig.send(producer, &frame);
        rig.run();
        let beyond = used > limit;
        for (header, _) in rig.heard(producer) {
            assert_ne!(header.kind, Kind::Error, "it may send one frame");
            limit = if header.kind == Kind::Credit { header.offset } else { limit };
        }
        if beyond {
            break frame;
        }
    };
    // The other channel's credit is untouched by it, and credit comes back when there is room.
    rig.shards[0].io.peer(slow).room = usize::MAX;
    rig.run();
    let limit_after =
        rig.heard(producer).iter().rev().find(|(h, _)| h.kind == Kind::Credit).map(|(h, _)| h.offset);
    assert!(limit_after > Some(used), "{limit_after:?} {used}");
    rig.send(producer, &refused);
    rig.run();
    assert_eq!(rig.heard(slow).iter().filter(|(h, _)| h.kind == Kind::Deliver).count() as u64, sequence);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn what_a_lagging_consumer_missed_is_stated_and_frames_stay_whole() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Memory, Overflow::DropOldest, MIB);
    let (producer, slow) = (rig.client(), rig.client());
    rig.subscribe(slow, all_from_the_start("t"));
    rig.shards[0].io.peer(slow).room = 20_000; // ends in the middle of the second frame
    let (channel, _) = rig.open(producer, "t", 5);
    for sequence in 1..=200 {
        rig.send(producer, &batch_of(channel, 5, sequence, 16_000));
        rig.run();
    }
    rig.shards[0].io.peer(slow).room = usize::MAX;
    rig.run();
    let mut expected = 0;
    let mut missed = 0;
    for (header, frame) in rig.heard(slow) {
        match header.kind {
            Kind::Gap => {
                assert_eq!(header.offset, expected);
                expected += header.sequence;
                missed += header.sequence;
            }
            Kind::Deliver => {
                assert_eq!(header.offset, expected);
                let limits = batch::BatchLimits { record_bytes_max: 1 << 20, records_max: 1 << 14 };
                batch::verify(&frame[HEADER_BYTES..], header.record_count, &limits).expect("a whole batch");
                expected += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(expected, 200);
    assert!(missed > 100, "{missed}");
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_deadline_that_has_passed_is_refused_and_its_sequence_consumed() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Memory, Overflow::Block, MIB);
    let producer = rig.client();
    let (channel, _) = rig.open(producer, "t", 5);
    let mut builder = crate::wire::batch::BatchBuilder::new();
    builder.push(b"late", None, 0, &[]);
    builder.deadline(1);
    rig.send(producer, &builder.finish(5, 1, channel));
    rig.send(producer, &batch_of(channel, 5, 2, 10));
    rig.run();
    let heard = rig.heard(producer);
    let refusal = Refusal::decode(&heard[0].1[HEADER_BYTES..]).expect("a refusal");
    assert_eq!((heard[0].0.kind, heard[0].0.sequence, refusal.code), (Kind::Nack, 1, Code::DeadlineExpired));
    assert_eq!((heard[1].0.kind, heard[1].0.sequence, heard[1].0.offset), (Kind::Ack, 2, 0));
}

#[test]
fn credit_of_a_consumer_is_kept_to() {
    let mut rig = Rig::new();
    let partition = rig.topic("t", TopicKind::Memory, Overflow::DropOldest, MIB);
    let (producer, consumer) = (rig.client(), rig.client());
    rig.subscribe(consumer, Subscribe { credit: 10_000, ..all_from_the_start("t") });
    let (channel, _) = rig.open(producer, "t", 5);
    for sequence in 1..=10 {
        rig.send(producer, &batch_of(channel, 5, sequence, 4_000));
    }
    rig.run();
    let first = rig.heard(consumer).len();
    assert_eq!(first, 3, "may overshoot by one frame");
    let credit =
        FrameHeader { channel: partition.0, offset: 1_000_000, ..FrameHeader::new(Kind::Credit) }.alone();
    rig.send(consumer, &credit);
    rig.run();
    assert_eq!(first + rig.heard(consumer).len(), 10);
}

#[test]
fn a_deleted_topic_takes_its_subscribers_and_channels_with_it() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Memory, Overflow::Block, MIB);
    let client = rig.client();
    rig.subscribe(client, all_from_the_start("t"));
    let (channel, _) = rig.open(client, "t", 5);
    rig.command(Command::RemoveTopic { ticket: 9, topic: crate::ids::TopicId(0) });
    assert!(rig.reports.iter().any(|report| matches!(report, Report::Done { ticket: 9, .. })));
    let (header, frame) = rig.heard(client).remove(0);
    assert_eq!(header.kind, Kind::Error);
    assert_eq!(Refusal::decode(&frame[HEADER_BYTES..]).expect("a refusal").code, Code::TopicDeleted);
    rig.send(client, &batch_of(channel, 5, 1, 10));
    rig.run();
    let (header, frame) = rig.heard(client).remove(0);
    assert_eq!(header.kind, Kind::Nack);
    assert_eq!(Refusal::decode(&frame[HEADER_BYTES..]).expect("a refusal").code, Code::NoSuchTopicNow);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_drain_delivers_what_is_in_flight_and_refuses_the_rest() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Memory, Overflow::Block, MIB);
    let (producer, consumer) = (rig.client(), rig.client());
    rig.subscribe(consumer, all_from_the_start("t"));
    rig.shards[0].io.peer(consumer).room = 0;
    let (channel, _) = rig.open(producer, "t", 5);
    rig.send(producer, &batch_of(channel, 5, 1, 1000));
    rig.run();
    let deadline_ns = rig.shards[0].io.now.mono_ns + 1_000_000_000;
    rig.command(Command::Drain { deadline_ns });
    assert!(
        !rig.reports.iter().any(|report| matches!(report, Report::Drained { .. })),
        "a record is in flight"
    );
    rig.send(producer, &batch_of(channel, 5, 2, 1000));
    rig.shards[0].io.peer(consumer).room = usize::MAX;
    rig.run();
    let heard = rig.heard(producer);
    assert!(heard.iter().any(|(header, _)| header.kind == Kind::Drain));
    let nack = heard.iter().find(|(header, _)| header.kind == Kind::Nack).expect("refused");
    assert_eq!(Refusal::decode(&nack.1[HEADER_BYTES..]).expect("a refusal").code, Code::Draining);
    assert!(rig.heard(consumer).iter().any(|(header, _)| header.kind == Kind::Deliver));
    rig.disconnect_all();
    assert!(rig.reports.iter().any(|report| matches!(report, Report::Drained { leftover: 0, .. })));
}
