//! Room in the ring, by policy.

use super::super::log::Boundary;
use super::super::subscribers::{Subscriber, Subscribers};
use super::*;

#[test]
fn without_subscribers_the_oldest_go_and_the_ring_stays_nearly_full() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::Reject] {
        let mut world = World::new(TopicKind::Memory, overflow);
        for round in 0..300 {
            world.publish(1_000 - HEADER, 2).expect("the oldest go");
            let status = world.partition.status(&world.buffers, 3, crate::ids::ShardId(1));
            assert_eq!((status.partition_id, status.id, status.shard), (42, 3, 1));
            if round > 70 {
                assert!(status.bytes > RING_BYTES - 1_000 - RING_BYTES / 64 - 1_000);
                assert_eq!(status.dropped_records, status.log_start_offset);
            }
        }
        let reader = world.subscribe(Start::Earliest, u64::MAX / 2);
        let (taken, bytes) = world.receive(reader.id);
        let gap = Gap { from: 0, records: reader.start_offset, reason: GapReason::Retention };
        assert_eq!(taken.gap, Some(gap));
        assert!(bytes == world.stamped_from(reader.start_offset));
        assert_eq!(world.copied(CopyReason::Retain), world.partition.counters().appended_bytes);
        let counters = *world.partition.counters();
        assert_eq!(counters.evicted_records, counters.dropped_records);
        assert_eq!((counters.appended_batches, counters.appended_records), (300, 600));
    }
}

#[test]
fn block_and_reject_keep_what_a_subscriber_has_yet_to_receive() {
    for (overflow, code) in [(Overflow::Block, Code::BackPressure), (Overflow::Reject, Code::RingFull)] {
        let mut world = World::new(TopicKind::Memory, overflow);
        let slow = world.subscribe(Start::Latest, u64::MAX / 2).id;
        let fast = world.subscribe(Start::Latest, u64::MAX / 2).id;
        let mut accepted = 0;
        while world.publish(1_024 - HEADER, 1).is_ok() {
            accepted += 1;
            assert!(accepted <= RING_BYTES / 1_024, "no more than the ring");
            world.receive(fast);
        }
        assert_eq!(accepted, RING_BYTES / 1_024);
        assert_eq!(world.publish(1_024 - HEADER, 1), Err(code));
        assert_eq!(world.partition.log_end_offset(), accepted);
        let (taken, bytes) = world.receive(slow);
        assert_eq!(taken.gap, None);
        assert!(bytes == world.stamped_from(0));
        world.publish(1_024 - HEADER, 1).expect("room again");
        assert_eq!(world.partition.counters().dropped_records, 0);
    }
}

#[test]
fn a_batch_beyond_half_of_the_ring_is_refused_for_good() {
    let half = usize::try_from(RING_BYTES / 2).expect("fits");
    let mut world = World::new(TopicKind::Memory, Overflow::DropOldest);
    assert_eq!(world.publish(half - HEADER + 8, 1), Err(Code::BatchTooLarge));
    assert!(!Code::BatchTooLarge.retryable());
    world.publish(half - HEADER, 1).expect("half is allowed");
}

#[test]
fn a_dropped_frame_that_was_begun_is_finished_first() {
    let mut world = World::new(TopicKind::Memory, Overflow::DropOldest);
    let reader = world.subscribe(Start::Latest, u64::MAX / 2).id;
    world.publish(10_000, 5).expect("room");
    let frame = world.batches[0].frame.clone();
    let (taken, _) = world.take(reader, u32::MAX, 1);
    assert_eq!(taken.bytes as usize, frame.len());
    assert_eq!(world.partition.sent(&mut world.buffers, reader, 4_000), 0);
    assert!(world.partition.in_frame(reader));
    while world.partition.log_start_offset() == 0 {
        world.publish(10_000, 5).expect("the oldest go");
    }
    assert_eq!(world.copied(CopyReason::Lagging), frame.len() as u64 - 4_000);
    let (taken, spans) = world.take(reader, 1, 1);
    assert_eq!((taken.gap, taken.records), (None, 5));
    assert!(world.bytes_of(&spans) == frame[4_000..]);
    assert_eq!(world.partition.sent(&mut world.buffers, reader, 1_000), 0);
    // It lags on while it finishes: the gap grows.
    for _ in 0..20 {
        world.publish(10_000, 5).expect("the oldest go");
    }
    assert!(world.partition.in_frame(reader));
    let (taken, bytes) = world.receive(reader);
    assert_eq!((taken.gap, taken.records), (None, 5));
    assert!(bytes == frame[5_000..]);
    assert!(!world.partition.in_frame(reader));
    let (taken, bytes) = world.receive(reader);
    let start = world.partition.log_start_offset();
    assert_eq!(taken.gap, Some(Gap { from: 5, records: start - 5, reason: GapReason::Overflow }));
    assert!(bytes == world.stamped_from(start));
    assert_eq!(world.partition.counters().gap_records, start - 5);
    world.partition.unsubscribe(&mut world.buffers, reader);
    assert_eq!(world.leaked_bytes(), 0);
}

#[test]
fn taken_bytes_are_not_dropped() {
    let mut world = World::new(TopicKind::Memory, Overflow::DropOldest);
    let reader = world.subscribe(Start::Latest, u64::MAX / 2).id;
    world.publish(10_000, 1).expect("room");
    let (_, spans) = world.take(reader, u32::MAX, 1);
    let refused = (0..20).find_map(|_| world.publish(10_000, 1).err());
    assert_eq!(refused, Some(Code::BackPressure));
    assert_eq!(world.publish(10_000, 1), Err(Code::BackPressure));
    assert!(world.bytes_of(&spans) == world.batches[0].frame);
    world.partition.sent(&mut world.buffers, reader, 0);
    world.publish(10_000, 1).expect("nothing is taken");
}

#[test]
fn no_block_for_a_begun_frame_is_back_pressure() {
    let mut world = World::new(TopicKind::Memory, Overflow::DropOldest);
    let reader = world.subscribe(Start::Latest, u64::MAX / 2).id;
    world.publish(10_000, 1).expect("room");
    world.take(reader, u32::MAX, 1);
    world.partition.sent(&mut world.buffers, reader, 100);
    let blocks: Vec<Span> = std::iter::from_fn(|| world.buffers.receive.block(1024)).collect();
    let refused = (0..20).find_map(|_| world.publish(10_000, 1).err());
    assert_eq!(refused, Some(Code::BackPressure));
    assert_eq!(world.publish(10_000, 1), Err(Code::BackPressure));
    assert_eq!(world.partition.log_start_offset(), 0);
    blocks.into_iter().for_each(|block| world.buffers.receive.release(block));
    world.publish(10_000, 1).expect("a block");
    assert!(world.receive(reader).1 == world.batches[0].frame[100..]);
}

#[test]
fn a_deleted_partition_finishes_the_begun_frame_and_refuses_all_else() {
    for kind in [TopicKind::Memory, TopicKind::Live] {
        let mut world = World::new(kind, Overflow::Block);
        let (begun, flying, idle) = (
            world.subscribe(Start::Latest, u64::MAX / 2).id,
            world.subscribe(Start::Latest, u64::MAX / 2).id,
            world.subscribe(Start::Latest, u64::MAX / 2).id,
        );
        for _ in 0..3 {
            world.publish(1_000, 1).expect("room");
        }
        let frame = world.batches[0].frame.clone();
        world.take(begun, u32::MAX, 1);
        world.partition.sent(&mut world.buffers, begun, 100);
        let (taken, spans) = world.take(flying, u32::MAX, 1);
        let before = world.bytes_of(&spans);
        world.partition.delete(&mut world.buffers);
        assert!(world.partition.is_deleted());
        assert!(!world.partition.has_work(idle) && !world.partition.in_frame(idle));
        assert!(world.bytes_of(&spans) == before, "what is taken stays");
        assert_eq!(world.partition.holds_receive_memory(), kind == TopicKind::Live);
        world.partition.sent(&mut world.buffers, flying, taken.bytes - 10);
        assert!(!world.partition.holds_receive_memory());
        assert!(world.partition.has_work(begun) && world.partition.has_work(flying));
        assert!(world.receive(begun).1 == frame[100..]);
        assert!(world.receive(flying).1 == before[before.len() - 10..]);
        assert!(!world.partition.has_work(begun) && !world.partition.in_frame(flying));

        let slot = world.slot;
        assert_eq!(world.partition.admit(slot, ME, 4, 0), Admission::Refused(Code::NoSuchTopicNow));
        assert_eq!(world.partition.open_producer(1, 0, 1), Err(Code::TopicDeleted));
        assert_eq!(world.partition.commit("c", 1), Err(Code::TopicDeleted));
        assert_eq!(world.partition.grant(10), 0);
        let late = world.partition.subscribe(&world.buffers, Start::Latest, "c", false, 1, 0);
        assert_eq!(late, Err(Code::TopicDeleted));
        for id in [begun, flying, idle] {
            world.partition.unsubscribe(&mut world.buffers, id);
        }
        assert_eq!(world.leaked_bytes(), 0);
    }
}

#[test]
fn a_begun_frame_that_cannot_be_finished_stays_begun_after_delete() {
    let mut world = World::new(TopicKind::Memory, Overflow::Block);
    let reader = world.subscribe(Start::Latest, u64::MAX / 2).id;
    world.publish(1_000, 1).expect("room");
    world.take(reader, u32::MAX, 1);
    world.partition.sent(&mut world.buffers, reader, 100);
    while world.buffers.receive.block(1024).is_some() {}
    world.partition.delete(&mut world.buffers);
    assert!(world.partition.in_frame(reader) && !world.partition.has_work(reader));
}

#[test]
fn a_frame_that_was_sent_in_part_is_taken_from_where_it_begins() {
    let mut subscribers = Subscribers::default();
    let id =
        subscribers.insert(Subscriber::new(Boundary { position: 128, offset: 1 }, "", 0, 0)).expect("room");
    let subscriber = subscribers.at_mut(id);
    (subscriber.position, subscriber.taken_bytes) = (192, 64);
    subscriber.taken_end = Boundary { position: 256, offset: 2 };
    for (from, to, first) in [
        (0, 512, Some(128)),
        (0, 160, Some(128)), // what is taken begins behind it, the frame does not
        (0, 128, None),
        (160, 512, Some(160)),
        (256, 512, None),
    ] {
        assert_eq!(subscribers.first_taken_within(from, to), first, "{from}..{to}");
    }
}
