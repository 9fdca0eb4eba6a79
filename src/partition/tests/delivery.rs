//! What `take` gives out, and the status of who takes.

use super::*;
use crate::ids::ShardId;

const FRAME: u32 = 1_000;

fn filled(frames: usize, credit: u64) -> (World, SubscriberId) {
    let mut world = World::new(TopicKind::Memory, Overflow::Block);
    let reader = world.subscribe(Start::Latest, credit).id;
    for _ in 0..frames {
        world.publish(FRAME as usize - HEADER, 3).expect("room");
    }
    (world, reader)
}

#[test]
fn frames_that_fit_and_at_least_one() {
    for (bytes_max, frames) in
        [(1, 1), (999, 1), (1_000, 1), (1_999, 1), (2_000, 2), (9_999, 9), (u32::MAX, 10)]
    {
        let (mut world, reader) = filled(10, u64::MAX / 2);
        let (taken, spans) = world.take(reader, bytes_max, 1);
        assert_eq!((taken.bytes, taken.records, spans.len()), (frames * FRAME, frames * 3, 1), "{bytes_max}");
    }
}

#[test]
fn credit_is_overshot_by_one_frame_at_most() {
    for (credit, frames) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2), (2_000, 2), (9_500, 10), (10_000, 10)] {
        let (mut world, reader) = filled(10, credit);
        assert_eq!(world.partition.has_work(reader), frames > 0);
        assert_eq!(world.take(reader, u32::MAX, 1).0.bytes, frames * FRAME, "{credit}");
    }
}

#[test]
fn a_begun_frame_needs_no_credit() {
    let (mut world, reader) = filled(10, 300);
    assert_eq!(world.take(reader, u32::MAX, 1).0.bytes, FRAME);
    assert_eq!(world.partition.sent(&mut world.buffers, reader, 400), 0);
    assert!(world.partition.in_frame(reader) && world.partition.has_work(reader));
    let (taken, spans) = world.take(reader, u32::MAX, 1);
    assert_eq!((taken.bytes, taken.records), (600, 3));
    assert!(world.bytes_of(&spans) == world.batches[0].frame[400..]);
    assert_eq!(world.partition.sent(&mut world.buffers, reader, 600), 3);
    assert!(!world.partition.has_work(reader), "now credit counts");
    assert_eq!(world.partition.credit(reader, 200), Err(Code::ConsumerCreditInvalid));
    assert_eq!(world.partition.credit(SubscriberId(9), 1), Err(Code::NotSubscribed));
    world.partition.credit(reader, 1_001).expect("more");
    assert_eq!(world.take(reader, u32::MAX, 1).0.bytes, FRAME);
}

#[test]
fn the_records_of_a_partial_send_are_counted_once() {
    let (mut world, reader) = filled(10, u64::MAX / 2);
    world.take(reader, u32::MAX, 1);
    assert_eq!(world.partition.sent(&mut world.buffers, reader, 4_500), 12);
    let lag = |world: &World| {
        let status = world.partition.status(&world.buffers, 0, ShardId(0));
        status.consumers[0].lag_records
    };
    assert_eq!(lag(&world), 18);
    let (taken, _) = world.take(reader, 1_000, 1);
    assert_eq!((taken.bytes, taken.records), (500, 3));
    assert_eq!(world.partition.sent(&mut world.buffers, reader, 500), 3);
    assert_eq!(lag(&world), 15);
    assert_eq!(world.receive(reader).0.records, 15);
    assert_eq!(lag(&world), 0);
}

#[test]
fn a_lagging_consumer_is_named_with_its_cause() {
    let (mut world, reader) = filled(0, 500);
    let cause = |world: &World| {
        let status = world.partition.status(&world.buffers, 0, ShardId(0));
        (status.consumers[0].name.clone(), status.consumers[0].cause.clone())
    };
    assert_eq!(cause(&world), ("c".to_owned(), "none".to_owned()));
    world.publish(104, 1).expect("room");
    assert_eq!(cause(&world).1, "catching_up");
    world.partition.set_blocked(reader, true);
    assert_eq!(cause(&world).1, "socket");
    assert!(!world.partition.has_work(reader));
    world.partition.set_blocked(reader, false);
    world.publish(1_000, 1).expect("room");
    world.publish(1_000, 1).expect("room");
    world.receive(reader);
    assert_eq!(cause(&world).1, "credit");
}

#[test]
#[should_panic(expected = "only what was taken")]
fn more_than_was_taken_is_never_sent() {
    let (mut world, reader) = filled(2, u64::MAX / 2);
    world.take(reader, 1_000, 1);
    world.partition.sent(&mut world.buffers, reader, 1_001);
}

#[test]
fn append_time_never_goes_back() {
    let mut world = World::new(TopicKind::Memory, Overflow::Block);
    let mut times = Vec::new();
    for wall_ns in [500, 700, 600, 0, 701] {
        world.wall_ns = wall_ns;
        times.push(world.publish(8, 1).expect("room").append_time_ns);
    }
    assert_eq!(times, [500, 700, 700, 700, 701]);
}
