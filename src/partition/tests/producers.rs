//! The deduplication table and the credit pool.

use super::*;
use crate::limits::{DEDUP_WINDOW, PRODUCERS_PER_PARTITION};

const REFUSED: fn(Code) -> Admission = Admission::Refused;

fn world() -> World {
    World::new(TopicKind::Memory, Overflow::Block)
}

#[test]
fn a_resend_is_a_duplicate_and_other_bytes_are_a_mismatch() {
    let mut world = world();
    let (first, _) = world.frame(64, 3);
    let appended = world.publish(64, 3).expect("room");
    world.publish(64, 2).expect("room");
    let slot = world.slot;
    let again = world.partition.admit(slot, ME, 1, first.body_checksum);
    let expected = Admission::Duplicate { offset: 0, span: 3, append_time_ns: appended.append_time_ns };
    assert_eq!(again, expected);
    assert_eq!(world.partition.admit(slot, ME, 1, first.body_checksum ^ 1), REFUSED(Code::DuplicateMismatch));
    assert_eq!(world.partition.admit(slot, ME, 4, 0), REFUSED(Code::OutOfSequence));
    assert_eq!(world.partition.admit(slot, ME, 3, 0), Admission::New);
    assert_eq!(world.partition.admit(slot, ME, 0, 0), REFUSED(Code::SequenceTooOld));
}

#[test]
fn the_window_remembers_exactly_its_size() {
    let mut world = world();
    let mut checksums = vec![0];
    for _ in 0..DEDUP_WINDOW + 10 {
        checksums.push(world.frame(8, 1).0.body_checksum);
        world.publish(8, 1).expect("room");
    }
    let slot = world.slot;
    for sequence in 1..=u64::from(DEDUP_WINDOW) + 10 {
        let checksum = checksums[usize::try_from(sequence).expect("small")];
        let admission = world.partition.admit(slot, ME, sequence, checksum);
        if sequence <= 10 {
            assert_eq!(admission, REFUSED(Code::SequenceTooOld));
        } else {
            assert!(
                matches!(admission, Admission::Duplicate { offset, span: 1, .. } if offset == sequence - 1)
            );
        }
    }
}

#[test]
fn a_refusal_for_good_uses_its_sequence_up() {
    let mut world = world();
    let slot = world.slot;
    world.partition.consume_sequence(slot, ME, 2, Code::BadBatch);
    assert_eq!(world.partition.admit(slot, ME, 1, 5), Admission::New, "only the expected one is used up");
    world.partition.consume_sequence(slot, ME + 1, 1, Code::BadBatch);
    assert_eq!(world.partition.admit(slot, ME, 1, 5), Admission::New, "only its owner uses it up");
    world.partition.consume_sequence(slot, ME, 1, Code::DeadlineExpired);
    assert_eq!(world.partition.admit(slot, ME, 1, 5), REFUSED(Code::DeadlineExpired));
    assert_eq!(world.partition.admit(slot, ME, 2, 5), Admission::New);
}

#[test]
fn a_passing_refusal_keeps_the_sequence_expected() {
    let mut world = world();
    world.partition.pause();
    assert_eq!(world.publish(8, 1), Err(Code::TopicPaused));
    let slot = world.slot;
    assert_eq!(
        world.partition.admit(slot, ME, 2, 0),
        REFUSED(Code::OutOfSequence),
        "not unknown: 1 was seen"
    );
    world.partition.resume();
    assert_eq!(world.publish(8, 1).expect("room").offset, 0);
}

#[test]
fn the_last_to_open_owns_the_producer() {
    let mut world = world();
    world.publish(8, 1).expect("room");
    let slot = world.slot;
    let opened = world.partition.open_producer(9, 0, ME + 1).expect("known");
    assert_eq!((opened.slot, opened.next_sequence, opened.fenced), (slot, 2, Some(ME)));
    assert_eq!(world.partition.admit(slot, ME, 2, 0), REFUSED(Code::ProducerFenced));
    assert_eq!(world.partition.admit(slot, ME + 1, 2, 0), Admission::New);
    world.partition.close_producer(slot, ME);
    assert_eq!(world.partition.admit(slot, ME + 1, 2, 0), Admission::New, "a fenced owner closes nothing");
    world.partition.close_producer(slot, ME + 1);
    let again = world.partition.open_producer(9, 0, ME).expect("known");
    assert_eq!((again.next_sequence, again.fenced), (2, None));
    assert_eq!(world.partition.open_producer(9, 0, ME).expect("known").fenced, None, "not by itself");
}

#[test]
fn an_open_of_an_earlier_connection_that_comes_late_fences_nobody() {
    let mut world = world();
    let slot = world.partition.open_producer(9, 2, ME + 1).expect("known").slot;
    assert_eq!(world.partition.open_producer(9, 1, ME + 2), Err(Code::ProducerFenced));
    assert_eq!(world.partition.admit(slot, ME + 1, 1, 0), Admission::New, "it is still the owner");
    // On the same connection once more, on a later one, and by one who does not say.
    for (connections, owner) in [(2, ME + 3), (3, ME + 4), (0, ME + 5), (1, ME + 6)] {
        let fenced = world.partition.open_producer(9, connections, owner).expect("the newest").fenced;
        assert_eq!(fenced, Some(if owner == ME + 3 { ME + 1 } else { owner - 1 }));
    }
}

#[test]
fn a_full_table_forgets_the_longest_closed_and_says_so() {
    let mut world = world();
    world.publish(8, 1).expect("room");
    let mut slots = Vec::new();
    for id in 100..100 + u64::from(PRODUCERS_PER_PARTITION) - 1 {
        slots.push(world.partition.open_producer(id, 0, id).expect("room").slot);
    }
    assert_eq!(world.partition.open_producer(7, 0, 7), Err(Code::TooManyProducers));
    // 9 is closed after 101: 101 goes first, then 9.
    let (old, one) = (world.slot, slots[1]);
    world.partition.close_producer(one, 101);
    world.partition.close_producer(old, ME);
    let seven = world.partition.open_producer(7, 0, 7).expect("a place");
    assert_eq!(seven.next_sequence, 1);
    assert_ne!(seven.slot, one);
    assert_eq!(world.partition.admit(one, 101, 1, 0), REFUSED(Code::UnknownProducer));
    assert_eq!(world.partition.open_producer(8, 0, 8).expect("a place").next_sequence, 1);
    assert_eq!(world.partition.open_producer(9, 0, ME), Err(Code::TooManyProducers), "all are open");
    world.partition.close_producer(seven.slot, 7);
    let again = world.partition.open_producer(9, 0, ME).expect("a place");
    assert_eq!(again.next_sequence, 1, "it was forgotten");
    assert_eq!(world.partition.admit(again.slot, ME, 2, 0), REFUSED(Code::UnknownProducer));
    assert_eq!(world.partition.admit(again.slot, ME, 1, 0), Admission::New);
    assert_eq!(world.partition.admit(again.slot, ME, 2, 0), REFUSED(Code::OutOfSequence));
}

#[test]
fn what_is_granted_fits_what_the_slowest_leaves_free() {
    let mut world = world();
    let reserve = RING_BYTES / 8;
    assert_eq!(world.partition.grant(u64::MAX), RING_BYTES - reserve);
    assert_eq!(world.partition.grant(1), 0);
    world.partition.ungrant(RING_BYTES - reserve);
    let reader = world.subscribe(Start::Latest, u64::MAX / 2).id;
    world.publish(10_000 - HEADER, 1).expect("room");
    assert_eq!(world.partition.grant(u64::MAX), RING_BYTES - reserve - 10_000);
    world.partition.ungrant(5_000);
    world.receive(reader);
    assert_eq!(world.partition.grant(u64::MAX), 15_000);
    assert_eq!(world.partition.credit.granted(), RING_BYTES - reserve);
}

#[test]
fn drop_oldest_grants_half_of_the_ring() {
    let mut world = World::new(TopicKind::Memory, Overflow::DropOldest);
    world.subscribe(Start::Latest, 0);
    for _ in 0..20 {
        world.publish(8_000, 1).expect("the oldest go");
    }
    assert_eq!(world.partition.grant(20_000), 20_000);
    assert_eq!(world.partition.grant(20_000), RING_BYTES / 2 - 20_000);
    assert_eq!(world.partition.grant(20_000), 0);
}

#[test]
fn credit_that_lies_idle_is_promised_again_and_may_still_be_used() {
    let mut world = world();
    let all = RING_BYTES - RING_BYTES / 8;
    let room = |free| CreditRoom { free, whole: all };
    assert_eq!(world.partition.grant(u64::MAX), all);
    assert_eq!(world.partition.credit_room(), room(0));
    world.partition.set_idle_credit(all);
    assert_eq!(world.partition.credit_room(), room(all));
    assert_eq!(world.partition.grant(10_000), 10_000);
    assert_eq!(world.partition.credit_room(), room(all - 10_000));
    // Some of the old is used: it was not counted, so that makes room until it is looked at again.
    world.partition.ungrant(5_000);
    assert_eq!(world.partition.credit_room(), room(all - 5_000));
    world.partition.set_idle_credit(all - 5_000);
    assert_eq!(world.partition.credit_room(), room(all - 10_000));
    // All of it comes back: there is never more room than the whole.
    world.partition.ungrant(all - 5_000 + 10_000);
    assert_eq!(world.partition.credit_room(), room(all));
    world.partition.set_idle_credit(0);
    assert_eq!(world.partition.grant(u64::MAX), all);
    assert_eq!((world.partition.grant(1), world.partition.credit.granted()), (0, all));
}

#[test]
#[should_panic(expected = "only what was granted")]
fn nothing_is_given_back_twice() {
    let mut world = world();
    assert_eq!(world.partition.grant(100), 100);
    world.partition.ungrant(100);
    world.partition.ungrant(1);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    /// `block`: what is sent within granted credit is always taken in.
    #[test]
    fn granted_bytes_find_room(
        steps in proptest::collection::vec((0..5_000usize, proptest::prelude::any::<bool>()), 1..200),
    ) {
        let mut world = world();
        let reader = world.subscribe(Start::Latest, u64::MAX / 2).id;
        let mut held = 0;
        for (words, read) in steps {
            let bytes = (HEADER + words % 2_000 * 8) as u64;
            held += world.partition.grant(bytes.saturating_sub(held));
            if held >= bytes {
                proptest::prop_assert!(world.publish(words % 2_000 * 8, 1).is_ok());
                world.partition.ungrant(bytes);
                held -= bytes;
            }
            if read {
                world.receive(reader);
            }
            proptest::prop_assert_eq!(world.partition.credit.granted(), held);
        }
    }
}

#[test]
fn a_recovered_producer_may_skip_once_and_never_past_what_was_refused_for_now() {
    use crate::commit_log::ProducerState;
    use crate::partition::producers::Producers;
    let recovered = || {
        let mut producers = Producers::default();
        producers.recover(&[ProducerState { producer_id: 7, next_sequence: 5, entries: Vec::new() }]);
        let opened = producers.open(7, 0, ME).expect("a place");
        assert_eq!(opened.next_sequence, 5);
        (producers, opened.slot)
    };
    // The first that comes says where it goes on, ...
    let (mut producers, slot) = recovered();
    assert_eq!(producers.admit(slot, ME, 8, 0), Admission::New);
    assert_eq!(producers.admit(slot, ME, 9, 0), REFUSED(Code::OutOfSequence));
    assert_eq!(producers.admit(slot, ME, 8, 0), Admission::New, "it was not stored yet");
    assert_eq!(producers.admit(slot, ME, 6, 0), REFUSED(Code::SequenceTooOld));
    // ... also where that is what was expected, and there is no room for it just now.
    let (mut producers, slot) = recovered();
    assert_eq!(producers.admit(slot, ME, 5, 0), Admission::New);
    assert_eq!(producers.admit(slot, ME, 6, 0), REFUSED(Code::OutOfSequence));
    assert_eq!(producers.admit(slot, ME, 5, 0), Admission::New);
    // What is asked for again first says nothing of that.
    let (mut producers, slot) = recovered();
    assert_eq!(producers.admit(slot, ME, 4, 0), REFUSED(Code::SequenceTooOld));
    assert_eq!(producers.admit(slot, ME, 6, 0), Admission::New);
}

/// A snapshot tells each sequence up to the next one: one with a hole would be taken for damaged by the next start.
#[test]
fn what_a_recovered_producer_skips_leaves_no_hole_in_a_snapshot() {
    use crate::commit_log::{ProducerEntry, ProducerState};
    use crate::partition::Appended;
    use crate::partition::producers::{Producers, Remembered};
    let entry = ProducerEntry {
        sequence: 4,
        body_checksum: 44,
        offset: 3,
        records: 1,
        append_time_ns: 1,
        refused: None,
    };
    let mut producers = Producers::default();
    producers.recover(&[ProducerState { producer_id: 7, next_sequence: 5, entries: vec![entry] }]);
    let slot = producers.open(7, 0, ME).expect("a place").slot;
    assert_eq!(producers.admit(slot, ME, 8, 0), Admission::New);
    producers.accepted(slot, 8, Remembered::accepted(88, Appended { offset: 4, append_time_ns: 2 }, 2));
    for _ in 0..2 {
        let states = producers.states();
        let told: Vec<_> = states[0].entries.iter().map(|entry| entry.sequence).collect();
        assert_eq!((told, states[0].next_sequence), (vec![4, 5, 6, 7, 8], 9));
        producers = Producers::default();
        producers.recover(&states);
        let slot = producers.open(7, 0, ME).expect("a place").slot;
        assert!(matches!(producers.admit(slot, ME, 4, 44), Admission::Duplicate { offset: 3, .. }));
        assert_eq!(producers.admit(slot, ME, 6, 0), REFUSED(Code::SequenceTooOld));
        assert!(matches!(producers.admit(slot, ME, 8, 88), Admission::Duplicate { offset: 4, .. }));
    }
}
