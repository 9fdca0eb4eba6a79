use super::*;
use crate::buf::blocks::Blocks;
use crate::limits::{FRAME_BYTES_MAX_CEILING, STRADDLE_ARENA_BYTES, STRADDLE_BLOCK_BYTES_MIN};
use proptest::prelude::*;

const UNIT: u32 = STRADDLE_BLOCK_BYTES_MIN;

fn blocks(units: u32) -> Blocks {
    Blocks::new(RegionId(2), u64::from(units * UNIT))
}

#[test]
fn a_block_is_as_long_as_asked_and_freed_with_its_last_hold() {
    let mut blocks = blocks(16);
    let block = blocks.take(3 * UNIT + 1).unwrap();
    assert_eq!(block, span(2, 0, 3 * UNIT + 1));
    assert_eq!((blocks.free_bytes(), blocks.in_use_bytes()), (12 * UNIT, u64::from(4 * UNIT)));
    let part = Span { bytes: 10, ..block };
    blocks.hold(part);
    blocks.release(block);
    assert_eq!(blocks.free_bytes(), 12 * UNIT);
    blocks.release(Span { bytes: 4 * UNIT, ..block });
    assert_eq!((blocks.free_bytes(), blocks.in_use_bytes()), (16 * UNIT, 0));
}

#[test]
fn all_of_the_arena_is_used_and_joined_again() {
    let mut blocks = blocks(16);
    let singles: Vec<Span> = std::iter::from_fn(|| blocks.take(1)).collect();
    assert_eq!(singles.len(), 16);
    assert_eq!(blocks.take(1), None);
    // Freed in an order that leaves no two neighbours until late.
    for odd in [0, 1] {
        for single in singles.iter().skip(odd).step_by(2) {
            assert_eq!(
                blocks.take(2 * UNIT).is_some_and(|two| {
                    blocks.release(two);
                    true
                }),
                odd == 1 && single.at > u64::from(UNIT)
            );
            blocks.release(*single);
        }
    }
    let all = blocks.take(16 * UNIT).unwrap();
    assert_eq!(blocks.free_bytes(), 0);
    blocks.release(all);
    assert_eq!(blocks.take(16 * UNIT + 1), None);
    assert_eq!(blocks.take(u32::MAX), None);
}

#[test]
fn the_default_arena_holds_the_largest_frames_an_operator_may_allow() {
    let mut blocks = Blocks::new(RegionId(2), u64::from(STRADDLE_ARENA_BYTES));
    let count = STRADDLE_ARENA_BYTES / FRAME_BYTES_MAX_CEILING;
    for _ in 0..count {
        assert!(blocks.take(FRAME_BYTES_MAX_CEILING).is_some());
    }
    assert_eq!(blocks.free_bytes(), 0);
}

#[test]
#[should_panic(expected = "not touched once it is free")]
fn freeing_twice_is_detected() {
    let mut blocks = blocks(4);
    let block = blocks.take(UNIT).unwrap();
    blocks.release(block);
    blocks.release(block);
}

#[test]
fn a_span_anywhere_in_a_block_names_it() {
    let mut blocks = blocks(16);
    let (small, block) = (blocks.take(1).unwrap(), blocks.take(8 * UNIT).unwrap());
    assert_eq!((small.at, block.at), (0, u64::from(8 * UNIT)));
    for skip in [0, 1, UNIT - 1, UNIT, 3 * UNIT + 5, 7 * UNIT, 8 * UNIT - 1] {
        blocks.hold(block.split_at(skip).1);
    }
    blocks.release(block);
    for skip in [8 * UNIT - 1, 0, 1, UNIT, UNIT - 1, 7 * UNIT, 3 * UNIT + 5] {
        assert_eq!(blocks.free_bytes(), 7 * UNIT);
        blocks.release(block.split_at(skip).1);
    }
    assert_eq!(blocks.free_bytes(), 15 * UNIT);
    let nothing = small.split_at(1).1;
    blocks.hold(nothing);
    blocks.release(nothing);
    assert_eq!(blocks.free_bytes(), 15 * UNIT, "a span without bytes holds nothing");
}

#[test]
#[should_panic(expected = "not touched once it is free")]
fn a_span_inside_a_free_block_is_detected() {
    let mut blocks = blocks(4);
    let block = blocks.take(4 * UNIT).unwrap();
    blocks.release(block);
    blocks.hold(block.split_at(3 * UNIT).1);
}

#[test]
#[should_panic(expected = "inside its block")]
fn a_span_longer_than_its_block_is_refused() {
    let mut blocks = blocks(4);
    let block = blocks.take(UNIT).unwrap();
    blocks.hold(Span { bytes: UNIT + 1, ..block });
}

#[test]
#[should_panic(expected = "inside the arena")]
fn a_span_outside_the_arena_is_refused() {
    blocks(4).release(span(2, u64::from(UNIT) << 40, 1));
}

#[derive(Debug, Clone)]
enum Step {
    Take { bytes: u32 },
    Hold { index: usize },
    Release { index: usize },
}

fn step() -> impl Strategy<Value = Step> {
    // Small blocks as often as large ones.
    let bytes = (0..6u32, 1..=UNIT).prop_map(|(order, bytes)| bytes << order);
    prop_oneof![
        4 => bytes.prop_map(|bytes| Step::Take { bytes }),
        1 => any::<usize>().prop_map(|index| Step::Hold { index }),
        4 => any::<usize>().prop_map(|index| Step::Release { index }),
    ]
}

/// The model: which block has each unit.
struct Model {
    units: Vec<Option<usize>>,
    blocks: Vec<(Span, u32)>,
}

impl Model {
    /// A buddy allocator succeeds exactly when some aligned run of free units is long enough.
    fn has_room(&self, units: usize) -> bool {
        let starts = (0..self.units.len()).step_by(units);
        starts
            .map(|start| self.units.get(start..start + units))
            .any(|run| run.is_some_and(|run| run.iter().all(Option::is_none)))
    }

    fn free(&self) -> u32 {
        u32::try_from(self.units.iter().filter(|unit| unit.is_none()).count()).unwrap()
    }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    #[cfg_attr(miri, ignore = "safe code beside a model of every byte: minutes")]
    fn blocks_never_overlap_and_are_refused_only_for_want_of_room(
        units in 1..70u32, steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut blocks = blocks(units);
        let mut model = Model { units: vec![None; units as usize], blocks: Vec::new() };
        let mut id = 0;
        for step in steps {
            match step {
                Step::Take { bytes } => {
                    let size = bytes.div_ceil(UNIT).next_power_of_two() as usize;
                    let block = blocks.take(bytes);
                    prop_assert_eq!(block.is_some(), model.has_room(size));
                    let Some(block) = block else { continue };
                    prop_assert_eq!(block.bytes, bytes);
                    let start = usize::try_from(block.at).unwrap() / UNIT as usize;
                    prop_assert_eq!(block.at, (start * UNIT as usize) as u64);
                    prop_assert!(start.is_multiple_of(size));
                    for unit in &mut model.units[start..start + size] {
                        prop_assert_eq!(unit.replace(id), None);
                    }
                    model.blocks.push((block, 1));
                    id += 1;
                }
                Step::Hold { index } if !model.blocks.is_empty() => {
                    let index = index % model.blocks.len();
                    let (block, _) = model.blocks[index];
                    blocks.hold(block.split_at(block.bytes / 2).1);
                    model.blocks[index].1 += 1;
                }
                Step::Release { index } if !model.blocks.is_empty() => {
                    let index = index % model.blocks.len();
                    let (block, holds) = &mut model.blocks[index];
                    blocks.release(block.split_at(block.bytes - 1).1);
                    *holds -= 1;
                    if *holds == 0 {
                        let start = usize::try_from(block.at).unwrap() / UNIT as usize;
                        let owner = model.units[start];
                        model.units.iter_mut().filter(|unit| **unit == owner).for_each(|unit| *unit = None);
                        model.blocks.swap_remove(index);
                    }
                }
                Step::Hold { .. } | Step::Release { .. } => {}
            }
            prop_assert_eq!(blocks.free_bytes(), model.free() * UNIT);
            prop_assert_eq!(blocks.in_use_bytes(), u64::from((units - model.free()) * UNIT));
        }
        for (block, holds) in model.blocks {
            (0..holds).for_each(|_| blocks.release(block));
        }
        let largest = 1 << units.ilog2();
        prop_assert!(blocks.take(largest * UNIT).is_some(), "everything is joined again");
    }
}
