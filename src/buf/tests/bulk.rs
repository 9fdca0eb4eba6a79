use super::*;
use crate::buf::bulk::Bulk;
use proptest::prelude::*;

const REGION: u64 = 128; // chunks of 16

fn taken() -> Bulk {
    let mut bulk = Bulk::new(RegionId(7), REGION);
    assert!(bulk.take());
    bulk
}

#[test]
fn what_is_pending_is_contiguous_across_the_seam() {
    let mut bulk = taken();
    assert_eq!(bulk.read_target(1000), Some(span(7, 0, 128)));
    assert_eq!(bulk.read_target(100), Some(span(7, 0, 100)));
    assert_eq!(bulk.filled(100), span(7, 0, 100));
    bulk.consumed(90);
    assert_eq!(bulk.pending(), span(7, 90, 10));
    assert_eq!(
        bulk.read_target(1000),
        Some(span(7, 100, 118)),
        "behind what is filled, round to what is pending"
    );
    assert_eq!(bulk.filled(60), span(7, 100, 60));
    assert_eq!(bulk.pending(), span(7, 90, 70));
    bulk.consumed(50);
    assert_eq!(bulk.pending(), span(7, 12, 20), "counted from the first copy");
    assert_eq!(bulk.filled(108), span(7, 32, 108));
    assert_eq!(bulk.read_target(1), None, "full");
    assert_eq!(bulk.pending().bytes, 128);
}

#[test]
fn a_hold_keeps_its_chunk_and_what_follows_it() {
    let mut bulk = taken();
    let got = bulk.filled(100);
    let held = Span { at: got.at + 40, bytes: 20, ..got };
    bulk.hold(held);
    bulk.consumed(100);
    assert_eq!(bulk.positions(), (32, 100, 100), "chunk 2 starts at 32");
    assert_eq!(bulk.read_target(1000), Some(span(7, 100, 60)));
    assert_eq!(bulk.filled(60), span(7, 100, 60));
    assert_eq!(bulk.read_target(1), None);
    bulk.release(held);
    assert_eq!(bulk.positions(), (100, 100, 160));
}

#[test]
fn a_chunk_of_the_next_lap_is_not_taken_for_the_same_of_this_one() {
    let mut bulk = taken();
    bulk.filled(128);
    bulk.consumed(8); // inside chunk 0
    let next_lap = bulk.filled(8); // positions 128..136: where chunk 0 lies
    assert_eq!(next_lap.at, 0);
    bulk.hold(next_lap);
    bulk.consumed(120);
    assert_eq!(bulk.positions(), (128, 128, 136), "the hold is on chunk 8, not on chunk 0");
    bulk.consumed(8);
    assert_eq!(bulk.positions(), (128, 136, 136));
    bulk.release(next_lap);
    assert_eq!(bulk.positions(), (136, 136, 136));
}

#[test]
fn a_region_given_up_is_taken_again_only_when_nothing_is_held() {
    let mut bulk = taken();
    assert!(!bulk.take(), "somebody has it");
    assert_eq!(bulk.in_use_bytes(), 128);
    let held = bulk.filled(40).split_at(30).1;
    bulk.hold(held);
    bulk.give();
    assert!(!bulk.take(), "it is held");
    assert_eq!(bulk.in_use_bytes(), 32, "two chunks");
    bulk.release(held);
    assert_eq!(bulk.in_use_bytes(), 0);
    assert!(bulk.take());
    assert_eq!(bulk.positions(), (0, 0, 0));
}

#[test]
#[should_panic(expected = "not yet free")]
fn what_is_consumed_and_free_cannot_be_held() {
    let mut bulk = taken();
    let got = bulk.filled(10);
    bulk.consumed(10);
    bulk.hold(got);
}

#[test]
#[should_panic(expected = "what is released was held")]
fn what_was_not_held_cannot_be_released() {
    let mut bulk = taken();
    let got = bulk.filled(10);
    bulk.release(got);
}

#[test]
#[should_panic(expected = "stays within the free room")]
fn a_read_cannot_bring_more_than_there_was_room_for() {
    let mut bulk = taken();
    bulk.filled(100);
    bulk.filled(29);
}

#[test]
#[should_panic(expected = "is taken")]
fn a_region_nobody_has_cannot_be_read_into() {
    let _ = Bulk::new(RegionId(7), REGION).read_target(1);
}

#[derive(Debug, Clone)]
enum Step {
    Read {
        bytes_max: u32,
    },
    Consume {
        share: u8,
    },
    /// Holds part of what is pending.
    Hold {
        from: u8,
        share: u8,
    },
    /// Holds again what is held.
    HoldAgain {
        index: usize,
    },
    Release {
        index: usize,
    },
    GiveAndTake,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..150u32).prop_map(|bytes_max| Step::Read { bytes_max }),
        5 => any::<u8>().prop_map(|share| Step::Consume { share }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(from, share)| Step::Hold { from, share }),
        1 => any::<usize>().prop_map(|index| Step::HoldAgain { index }),
        4 => any::<usize>().prop_map(|index| Step::Release { index }),
        1 => Just(Step::GiveAndTake),
    ]
}

/// The model: every byte that was ever read, by its absolute position, and the memory with what was written last.
struct Model {
    memory: Vec<u64>,
    free_from: u64,
    consumed: u64,
    filled: u64,
    held: Vec<(u64, u32)>,
}

impl Model {
    fn new() -> Model {
        Model {
            memory: vec![0; usize::try_from(REGION).unwrap()],
            free_from: 0,
            consumed: 0,
            filled: 0,
            held: Vec::new(),
        }
    }

    /// Memory is free below what is consumed, or the start of the oldest chunk with a hold; and stays free.
    fn update(&mut self) {
        let holds = self.held.iter().filter(|&&(_, bytes)| bytes > 0).map(|&(at, _)| at / 16 * 16);
        self.free_from = self.free_from.max(self.consumed.min(holds.min().unwrap_or(u64::MAX)));
    }

    fn write(&mut self, at: u64, bytes: u32) {
        for position in self.filled..self.filled + u64::from(bytes) {
            assert_eq!((at + position - self.filled) % REGION, position % REGION);
            self.memory[usize::try_from(position % REGION).unwrap()] = position;
        }
        self.filled += u64::from(bytes);
    }

    /// The memory still has what was read at these positions.
    fn intact(&self, at: u64, bytes: u32) -> bool {
        (at..at + u64::from(bytes)).all(|p| self.memory[usize::try_from(p % REGION).unwrap()] == p)
    }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    #[cfg_attr(miri, ignore = "safe code beside a model of every byte: minutes")]
    fn nothing_needed_is_overwritten_and_nothing_else_is_kept(steps in prop::collection::vec(step(), 1..200)) {
        let mut bulk = taken();
        let mut model = Model::new();
        let to_span = |(at, bytes): (u64, u32)| span(7, at % REGION, bytes);
        for step in steps {
            match step {
                Step::Read { bytes_max } => {
                    let room = model.free_from + REGION - model.filled;
                    let target = bulk.read_target(bytes_max);
                    prop_assert_eq!(target.map_or(0, |span| u64::from(span.bytes)), room.min(u64::from(bytes_max)));
                    let Some(target) = target else { continue };
                    let bytes = target.bytes.div_ceil(1 + bytes_max % 2); // short reads too
                    prop_assert_eq!(bulk.filled(bytes), Span { bytes, ..target });
                    model.write(target.at, bytes);
                }
                Step::Consume { share } => {
                    let bytes = bulk.pending().bytes * u32::from(share) / 255;
                    bulk.consumed(bytes);
                    model.consumed += u64::from(bytes);
                }
                Step::Hold { from, share } => {
                    let skip = bulk.pending().bytes * u32::from(from) / 256;
                    let bytes = (bulk.pending().bytes - skip) * u32::from(share) / 255;
                    let held = (model.consumed + u64::from(skip), bytes);
                    bulk.hold(to_span(held));
                    model.held.push(held);
                }
                Step::HoldAgain { index } if !model.held.is_empty() => {
                    let held = model.held[index % model.held.len()];
                    bulk.hold(to_span(held));
                    model.held.push(held);
                }
                Step::Release { index } if !model.held.is_empty() => {
                    let index = index % model.held.len();
                    bulk.release(to_span(model.held.swap_remove(index)));
                }
                Step::HoldAgain { .. } | Step::Release { .. } => {}
                Step::GiveAndTake => {
                    bulk.give();
                    (model.consumed, model.held) = (model.filled, model.held);
                    model.update();
                    let held = model.held.iter().any(|&(_, bytes)| bytes > 0);
                    prop_assert_eq!(bulk.in_use_bytes() > 0, held);
                    prop_assert_eq!(bulk.take(), !held);
                    for held in std::mem::take(&mut model.held) {
                        prop_assert!(model.intact(held.0, held.1));
                        bulk.release(to_span(held));
                    }
                    prop_assert!(!held || bulk.take());
                    prop_assert_eq!(bulk.positions(), (0, 0, 0));
                    model = Model::new();
                }
            }
            model.update();
            prop_assert_eq!(bulk.positions(), (model.free_from, model.consumed, model.filled));
            prop_assert!(model.held.iter().all(|&(at, bytes)| model.intact(at, bytes)));
            let pending = bulk.pending();
            prop_assert_eq!(pending, to_span((model.consumed, pending.bytes)));
            prop_assert!(model.intact(model.consumed, pending.bytes));
        }
    }
}
