//! Where subscriptions start; committed names; slots.

use super::*;
use crate::limits::{COMMITTED_NAMES_PER_PARTITION, SUBSCRIBERS_PER_PARTITION};

/// 40 batches of 10 records, one each 100 ns from 1000 on, in a ring that keeps some of them.
fn world(first_offset: u64) -> World {
    let mut world = World::with(PartitionSpec { first_offset, ..spec(TopicKind::Memory, Overflow::Block) });
    for batch in 0..40 {
        world.wall_ns = 1_000 + batch * 100;
        world.publish(4_000 - HEADER, 10).expect("the oldest go");
    }
    world
}

fn start(world: &mut World, start: Start) -> (u64, Option<Gap>) {
    let made = world.subscribe(start, u64::MAX / 2);
    let (taken, bytes) = world.receive(made.id);
    assert!(bytes == world.stamped_from(world.batch_start(made.start_offset)));
    world.partition.unsubscribe(&mut world.buffers, made.id);
    (made.start_offset, taken.gap)
}

#[test]
fn an_offset_gets_the_batch_around_it() {
    let mut world = world(0);
    let first = world.partition.log_start_offset();
    assert!(first > 200 && first < 300, "{first}");
    assert_eq!(world.batch_start(377), 370);
    for offset in first..400 {
        assert_eq!(start(&mut world, Start::Offset(offset)), (offset, None));
    }
    assert_eq!(start(&mut world, Start::Offset(400)), (400, None));
    assert_eq!(start(&mut world, Start::Offset(1_000)), (400, None), "beyond the end is the end");
    assert_eq!(start(&mut world, Start::Latest), (400, None));
    let missed = |from| Some(Gap { from, records: first - from, reason: GapReason::Retention });
    assert_eq!(start(&mut world, Start::Offset(7)), (first, missed(7)));
    assert_eq!(start(&mut world, Start::Earliest), (first, missed(0)));
}

#[test]
fn a_time_gets_the_first_batch_at_or_after_it() {
    let mut world = world(0);
    let first = world.partition.log_start_offset();
    for time in (0..6_000).step_by(50) {
        let expected =
            world.batches.iter().find(|batch| batch.offset >= first && batch.append_time_ns >= time);
        let expected = expected.map_or(400, |batch| batch.offset);
        assert_eq!(start(&mut world, Start::TimeNs(time)), (expected, None), "{time}");
    }
}

#[test]
fn what_a_restart_lost_is_a_gap_too() {
    let mut world =
        World::with(PartitionSpec { first_offset: 500, ..spec(TopicKind::Memory, Overflow::Block) });
    world.publish(8, 3).expect("room");
    let lost = |from| Some(Gap { from, records: 500 - from, reason: GapReason::Restart });
    assert_eq!(start(&mut world, Start::Offset(450)), (500, lost(450)));
    assert_eq!(start(&mut world, Start::Earliest), (500, lost(0)));
    assert_eq!(start(&mut world, Start::Offset(500)), (500, None));
    let mut world = self::world(500);
    let first = world.partition.log_start_offset();
    let gap = start(&mut world, Start::Offset(450)).1.expect("a gap");
    assert_eq!(gap, Gap { from: 450, records: first - 450, reason: GapReason::Retention });
}

#[test]
fn a_name_resumes_where_it_committed() {
    let mut world = world(0);
    assert_eq!(world.partition.commit("a", 390), Ok(390));
    assert_eq!(world.partition.commit("b", 5_000), Ok(400), "not beyond the end");
    assert_eq!(world.partition.commit("b", 380), Ok(380), "a rewind is allowed");
    assert_eq!(world.partition.commit("", 1), Err(Code::BadName));
    for (name, resume, expected) in [("a", true, 390), ("b", true, 380), ("c", true, 400), ("a", false, 400)]
    {
        let made = world.partition.subscribe(&world.buffers, Start::Latest, name, resume, 1, 0);
        assert_eq!(made.expect("room").start_offset, expected);
    }
    for name in 2..COMMITTED_NAMES_PER_PARTITION {
        world.partition.commit(&name.to_string(), 0).expect("room");
    }
    assert_eq!(world.partition.commit("x", 0), Err(Code::TooManyCommittedNames));
    assert_eq!(world.partition.commit("a", 391), Ok(391));
    let status = world.partition.status(&world.buffers, 0, crate::ids::ShardId(0));
    assert_eq!(status.committed.len(), COMMITTED_NAMES_PER_PARTITION as usize);
    assert_eq!(status.committed[0], ("a".to_owned(), 391));
}

#[test]
fn recovered_names_are_kept() {
    let committed = vec![("a".to_owned(), 12)];
    let mut world =
        World::with(PartitionSpec { first_offset: 20, committed, ..spec(TopicKind::Live, Overflow::Block) });
    let made = world.partition.subscribe(&world.buffers, Start::Latest, "a", true, 1, 0).expect("room");
    assert_eq!(made.start_offset, 20);
    let gap = world.take(made.id, u32::MAX, 1).0.gap;
    assert_eq!(gap, Some(Gap { from: 12, records: 8, reason: GapReason::Restart }));
    assert!(!world.partition.has_work(made.id));
}

#[test]
fn subscribers_are_bounded_and_their_slots_used_again() {
    let mut world = World::new(TopicKind::Memory, Overflow::Block);
    for home in 0..u64::from(SUBSCRIBERS_PER_PARTITION) {
        let made = world.partition.subscribe(&world.buffers, Start::Latest, "", false, 1, home);
        assert_eq!(u64::from(made.expect("room").id.0), home);
    }
    let beyond = world.partition.subscribe(&world.buffers, Start::Latest, "", false, 1, 0);
    assert_eq!(beyond, Err(Code::TooManySubscriptions));
    world.partition.unsubscribe(&mut world.buffers, SubscriberId(17));
    assert_eq!(world.partition.subscribers().count(), SUBSCRIBERS_PER_PARTITION as usize - 1);
    let again = world.partition.subscribe(&world.buffers, Start::Latest, "", false, 1, 5_000);
    assert_eq!(again.expect("room").id, SubscriberId(17));
    assert!(world.partition.subscribers().any(|entry| entry == (SubscriberId(17), 5_000)));
}
