//! Kind `live`: nothing copied that need not be, nothing held that need not be.

use super::*;
use crate::limits::LIVE_RUNS_MAX;

#[test]
fn without_subscribers_nothing_is_held() {
    let mut world = World::new(TopicKind::Live, Overflow::Block);
    for round in 0..100 {
        assert_eq!(world.publish(30_000, 2).expect("room").offset, round * 2);
        assert!(!world.partition.holds_receive_memory());
    }
    assert_eq!((world.partition.log_start_offset(), world.partition.log_end_offset()), (200, 200));
    assert_eq!(world.leaked_bytes(), 0);
}

#[test]
fn a_consumer_that_keeps_up_gets_receive_memory_itself() {
    let mut world = World::new(TopicKind::Live, Overflow::Block);
    let reader = world.subscribe(Start::Latest, u64::MAX / 2).id;
    for _ in 0..200 {
        let from = world.batches.len();
        for _ in 0..3 {
            world.publish(5_000, 1).expect("room");
        }
        let (taken, spans) = world.take(reader, u32::MAX, 64);
        assert!(spans.iter().all(|span| span.region == BULK));
        assert!(spans.len() <= 2, "frames side by side are one span");
        assert!(world.bytes_of(&spans) == world.stamped_from(from as u64));
        assert!(world.partition.holds_receive_memory());
        assert_eq!(world.partition.sent(&mut world.buffers, reader, taken.bytes), 3);
        assert!(!world.partition.holds_receive_memory());
    }
    for reason in [CopyReason::Retain, CopyReason::Lagging, CopyReason::Crossing] {
        assert_eq!(world.copied(reason), 0);
    }
}

#[test]
fn a_laggard_reads_on_from_the_copy() {
    let mut world = World::new(TopicKind::Live, Overflow::Block);
    let (fast, slow) =
        (world.subscribe(Start::Latest, u64::MAX / 2).id, world.subscribe(Start::Latest, u64::MAX / 2).id);
    for _ in 0..4 {
        world.publish(5_000, 1).expect("room");
    }
    world.receive(fast);
    world.take(slow, 5_064, 64);
    world.partition.sent(&mut world.buffers, slow, 1_000);
    world.partition.unpin(&mut world.buffers);
    assert!(!world.partition.holds_receive_memory());
    assert_eq!(world.copied(CopyReason::Lagging), 4 * 5_064);
    for _ in 0..2 {
        world.publish(5_000, 1).expect("room");
    }
    let (taken, spans) = world.take(slow, u32::MAX, 64);
    let regions: Vec<RegionId> = spans.iter().map(|span| span.region).collect();
    assert_eq!(regions, [RING, BULK]);
    assert!(world.bytes_of(&spans) == world.stamped_from(0)[1_000..]);
    world.partition.sent(&mut world.buffers, slow, taken.bytes);
    assert!(world.partition.holds_receive_memory(), "the fast one has not had the last two");
    world.partition.unsubscribe(&mut world.buffers, fast);
    assert!(!world.partition.holds_receive_memory());
    world.partition.unsubscribe(&mut world.buffers, slow);
    assert_eq!(world.leaked_bytes(), 0);
}

#[test]
fn what_is_taken_stays_pinned_and_what_is_before_it_does_not() {
    let mut world = World::new(TopicKind::Live, Overflow::Block);
    let (fast, slow) =
        (world.subscribe(Start::Latest, u64::MAX / 2).id, world.subscribe(Start::Latest, u64::MAX / 2).id);
    world.publish(1_000, 1).expect("room");
    world.publish(1_000, 1).expect("room");
    world.receive(fast);
    world.publish(1_000, 1).expect("room");
    let (taken, spans) = world.take(fast, u32::MAX, 64);
    world.partition.unpin(&mut world.buffers);
    assert_eq!(world.copied(CopyReason::Lagging), 2 * 1_064);
    assert!(world.partition.holds_receive_memory());
    assert!(world.bytes_of(&spans) == world.stamped_from(2));
    world.partition.sent(&mut world.buffers, fast, taken.bytes);
    world.partition.unpin(&mut world.buffers);
    assert!(!world.partition.holds_receive_memory());
    assert!(world.receive(slow).1 == world.stamped_from(0));
}

#[test]
fn another_shards_frame_is_copied_at_once() {
    let mut world = World::new(TopicKind::Live, Overflow::Block);
    let reader = world.subscribe(Start::Latest, u64::MAX / 2).id;
    world.publish(1_000, 1).expect("room");
    world.publish_from(1_000, 1, Source::Foreign, 2).expect("memory").expect("room");
    world.publish(1_000, 1).expect("room");
    assert_eq!(world.copied(CopyReason::Crossing), 1_064);
    let (_, spans) = world.take(reader, u32::MAX, 64);
    let regions: Vec<RegionId> = spans.iter().map(|span| span.region).collect();
    assert_eq!(regions, [BULK, RING, BULK]);
    assert!(world.bytes_of(&spans) == world.stamped_from(0));
    world.partition.sent(&mut world.buffers, reader, 0);
    world.partition.unpin(&mut world.buffers);
    let (_, spans) = world.take(reader, u32::MAX, 64);
    assert_eq!(spans.len(), 1, "once copied they lie side by side");
    assert!(world.bytes_of(&spans) == world.stamped_from(0));
}

#[test]
#[should_panic(expected = "one piece")]
fn a_local_frame_in_pieces_is_a_mistake() {
    let mut world = World::new(TopicKind::Live, Overflow::Block);
    world.subscribe(Start::Latest, 0);
    let _ = world.publish_from(1_000, 1, Source::Local, 2);
}

#[test]
fn runs_are_bounded_by_copying_out() {
    let ring_bytes = 2 * RING_BYTES;
    let mut world = World::with(PartitionSpec { ring_bytes, ..spec(TopicKind::Live, Overflow::Block) });
    let reader = world.subscribe(Start::Latest, u64::MAX / 2).id;
    // Blocks of 1 KiB with a frame of 64 bytes in each: no two frames lie side by side.
    let slot = world.slot;
    for _ in 0..LIVE_RUNS_MAX {
        let (header, frame) = world.frame(0, 1);
        let block = world.buffers.receive.block(64).expect("a block");
        world.buffers.memory.bytes_mut(block).copy_from_slice(&frame);
        assert_eq!(world.partition.admit(slot, ME, header.sequence, header.body_checksum), Admission::New);
        let appended = world
            .partition
            .append(&mut world.buffers, &[block], Source::Local, &header, slot, 1)
            .expect("room in the ring");
        world.buffers.receive.release(block);
        world.remember(&header, appended, frame);
    }
    assert!(world.partition.log.held.is_full());
    assert_eq!(world.copied(CopyReason::Lagging), 0);
    // Everything is in flight: there is no place for one more.
    world.take(reader, u32::MAX, LIVE_RUNS_MAX);
    assert_eq!(world.publish(0, 1), Err(Code::BackPressure));
    world.partition.sent(&mut world.buffers, reader, 0);
    world.publish(0, 1).expect("the others are copied out");
    assert_eq!(world.copied(CopyReason::Lagging), 64 * LIVE_RUNS_MAX as u64);
    let (_, bytes) = world.receive(reader);
    assert!(bytes == world.stamped_from(0));
    assert_eq!(world.leaked_bytes(), 0);
}
