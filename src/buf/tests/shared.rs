use super::*;
use crate::buf::shared::Shared;
use crate::ids::BufId;
use proptest::prelude::*;
use std::collections::VecDeque;

const BUFFERS: u16 = 4;
const EACH: u32 = 32;
const RING: u64 = BUFFERS as u64 * EACH as u64;
const NOTHING: [u16; 0] = [];

fn ring() -> Shared {
    Shared::new(RegionId(5), RING, BUFFERS, true)
}

fn receive(ring: &mut Shared, buffer: u16, at: u32, bytes: u32, done: bool) -> Span {
    let span = span(5, u64::from(buffer) * u64::from(EACH) + u64::from(at), bytes);
    ring.received(BufId(buffer), span, done);
    span
}

fn recycled(ring: &mut Shared) -> Vec<u16> {
    std::iter::from_fn(|| ring.next_recyclable()).map(|id| id.0).collect()
}

#[test]
fn buffers_come_back_in_order_when_done_and_not_held() {
    let mut ring = ring();
    assert_eq!(recycled(&mut ring), NOTHING);
    assert_eq!(ring.free_bytes(), 128);
    let first = receive(&mut ring, 0, 0, 20, false);
    assert_eq!(ring.free_bytes(), 108);
    assert_eq!(recycled(&mut ring), NOTHING, "the kernel still has it");
    receive(&mut ring, 0, 20, 12, true);
    let second = receive(&mut ring, 1, 0, 5, true);
    ring.hold(first);
    assert_eq!(recycled(&mut ring), NOTHING, "buffer 0 is held, and buffer 1 waits for its turn");
    assert_eq!(ring.oldest_held(), Some(BufId(0)));
    assert_eq!((ring.free_bytes(), ring.held_bytes()), (64, 32));
    ring.hold(first);
    ring.release(first);
    ring.hold(second);
    assert_eq!(recycled(&mut ring), NOTHING);
    ring.release(first);
    assert_eq!(recycled(&mut ring), [0]);
    assert_eq!(ring.oldest_held(), Some(BufId(1)));
    ring.release(second);
    assert_eq!(recycled(&mut ring), [1]);
    assert_eq!((ring.free_bytes(), ring.oldest_held(), ring.held_bytes()), (128, None, 0));
}

#[test]
fn pressure_is_less_than_half_of_the_buffers_with_the_kernel_or_recyclable() {
    let mut ring = ring();
    let spans: Vec<Span> = (0..4).map(|buffer| receive(&mut ring, buffer, 0, 1, true)).collect();
    assert!(!ring.pressure(), "all may be recycled");
    ring.hold(spans[2]);
    assert!(!ring.pressure(), "buffers 0 and 1 may be recycled");
    ring.hold(spans[1]);
    assert!(ring.pressure(), "only buffer 0 may; 3 waits for 1 and 2");
    assert_eq!(recycled(&mut ring), [0]);
    assert!(ring.pressure(), "recycling is no relief");
    ring.release(spans[1]);
    assert!(!ring.pressure(), "the oldest is let go");
    assert_eq!(recycled(&mut ring), [1]);
    assert!(!ring.pressure());
}

#[test]
fn bytes_across_a_boundary_or_the_seam_are_one_span() {
    let mut ring = ring();
    for buffer in 0..3 {
        receive(&mut ring, buffer, 0, 32, true);
    }
    assert_eq!(recycled(&mut ring), [0, 1, 2]);
    let a = receive(&mut ring, 3, 0, 32, true);
    let b = receive(&mut ring, 0, 0, 32, true);
    let c = receive(&mut ring, 1, 0, 8, false);
    let (_, tail) = a.split_at(30);
    assert!(ring.contiguous(tail, b) && ring.contiguous(b, c) && !ring.contiguous(a, c));
    assert!(!ring.contiguous(c, b) && !ring.contiguous(b, tail));
    let two = ring.merge(tail, b);
    assert_eq!(two, span(5, 126, 34));
    let three = ring.merge(two, c);
    assert_eq!(three, span(5, 126, 42));
    // The part of it in the second copy has two addresses; both are the same bytes.
    let (_, rest) = three.split_at(2);
    assert_eq!(rest.at, 128);
    assert!(ring.contiguous(tail, rest) && ring.contiguous(rest, span(5, 40, 1)));
    assert_eq!(ring.merge(rest.split_at(32).0, c), span(5, 0, 40), "the result starts in the first copy");

    ring.hold(three);
    assert_eq!(ring.held_bytes(), 96);
    assert_eq!(ring.oldest_held(), Some(BufId(3)));
    assert_eq!(recycled(&mut ring), NOTHING);
    ring.release(three);
    assert_eq!(recycled(&mut ring), [3, 0]);
    assert!(!ring.contiguous(span(6, 0, 1), span(6, 1, 1)), "another region");
}

#[test]
fn without_a_mirror_nothing_crosses_the_seam() {
    let mut ring = Shared::new(RegionId(5), RING, BUFFERS, false);
    for buffer in 0..4 {
        receive(&mut ring, buffer, 0, 32, true);
    }
    assert!(ring.contiguous(span(5, 0, 32), span(5, 32, 8)));
    assert!(!ring.contiguous(span(5, 96, 32), span(5, 0, 8)));
}

#[test]
fn a_span_of_the_whole_ring_may_be_held() {
    let mut ring = ring();
    for buffer in 0..4 {
        receive(&mut ring, buffer, 0, 32, true);
    }
    let all = span(5, 40, 128); // from inside buffer 1 round to where it starts
    ring.hold(all);
    ring.hold(span(5, 40, 0));
    assert_eq!(ring.held_bytes(), 128);
    ring.release(span(5, 40, 0));
    ring.release(all);
    assert_eq!(recycled(&mut ring), [0, 1, 2, 3]);
}

#[test]
#[should_panic(expected = "what is held was received")]
fn what_was_not_received_cannot_be_held() {
    let mut ring = ring();
    let got = receive(&mut ring, 0, 0, 20, false);
    ring.hold(Span { bytes: 21, ..got });
}

#[test]
#[should_panic(expected = "what is released was held")]
fn what_was_not_held_cannot_be_released() {
    let mut ring = ring();
    let got = receive(&mut ring, 0, 0, 20, false);
    ring.release(got);
}

#[test]
#[should_panic(expected = "the kernel's when something is received")]
fn a_buffer_that_was_not_recycled_cannot_be_received_into() {
    let mut ring = ring();
    receive(&mut ring, 0, 0, 20, true);
    receive(&mut ring, 0, 20, 1, true);
}

#[test]
#[should_panic(expected = "from its start on")]
fn a_buffer_is_filled_without_holes() {
    receive(&mut ring(), 0, 1, 20, true);
}

#[derive(Debug, Clone)]
enum Step {
    /// The kernel receives this much, and finishes the buffer early when told so (as without incremental buffers).
    Receive {
        bytes: u32,
        done: bool,
    },
    /// Holds a range of what lies side by side and is still in the ring: where, and how long, in 1/256.
    Hold {
        from: u8,
        share: u8,
    },
    Release {
        index: usize,
    },
    EndOfTick,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..=EACH, any::<bool>()).prop_map(|(bytes, done)| Step::Receive { bytes, done }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(from, share)| Step::Hold { from, share }),
        2 => any::<usize>().prop_map(|index| Step::Release { index }),
        2 => Just(Step::EndOfTick),
    ]
}

/// The model: absolute positions that never wrap, bytes received as ranges, holds as ranges, one lap after another.
#[derive(Default)]
struct Model {
    /// Number of the buffer (counted on for ever) that is being filled, and how far.
    filling: u64,
    filled: u32,
    /// The oldest buffer not recycled.
    oldest: u64,
    /// Bytes received into each buffer from `oldest` on.
    got: VecDeque<u32>,
    /// Absolute ranges.
    held: Vec<(u64, u32)>,
}

impl Model {
    fn is_held(&self, buffer: u64) -> bool {
        let (start, end) = (buffer * u64::from(EACH), (buffer + 1) * u64::from(EACH));
        self.held.iter().any(|&(at, bytes)| bytes > 0 && at < end && at + u64::from(bytes) > start)
    }

    fn recycle(&mut self) -> Vec<u16> {
        let mut ids = Vec::new();
        while self.oldest < self.filling && !self.is_held(self.oldest) {
            ids.push(u16::try_from(self.oldest % u64::from(BUFFERS)).unwrap());
            self.oldest += 1;
            self.got.pop_front();
        }
        ids
    }

    /// Every absolute range of received bytes that lie side by side.
    fn runs(&self) -> Vec<(u64, u32)> {
        let mut runs: Vec<(u64, u32)> = Vec::new();
        for (number, &bytes) in (self.oldest..).zip(&self.got) {
            let start = number * u64::from(EACH);
            match runs.last_mut() {
                Some((at, length)) if *at + u64::from(*length) == start => *length += bytes,
                _ => runs.push((start, bytes)),
            }
        }
        runs.retain(|&(_, bytes)| bytes > 0);
        runs
    }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    #[cfg_attr(miri, ignore = "safe code beside a model of every byte: minutes")]
    fn the_account_agrees_with_a_model_that_knows_every_byte(steps in prop::collection::vec(step(), 1..200)) {
        let mut ring = ring();
        let mut model = Model::default();
        let to_span = |(at, bytes): (u64, u32)| span(5, at % RING, bytes);
        for step in steps {
            match step {
                Step::Receive { bytes, done } => {
                    if model.filling == model.oldest + u64::from(BUFFERS) {
                        prop_assert_eq!(ring.free_bytes(), 0, "no buffers");
                        continue;
                    }
                    let bytes = bytes.min(EACH - model.filled);
                    let done = done || model.filled + bytes == EACH;
                    let id = u16::try_from(model.filling % u64::from(BUFFERS)).unwrap();
                    receive(&mut ring, id, model.filled, bytes, done);
                    if model.filled == 0 {
                        model.got.push_back(0);
                    }
                    *model.got.back_mut().unwrap() += bytes;
                    model.filled += bytes;
                    if done {
                        (model.filling, model.filled) = (model.filling + 1, 0);
                    }
                }
                Step::Hold { from, share } => {
                    let runs = model.runs();
                    if runs.is_empty() {
                        continue;
                    }
                    let (at, length) = runs[usize::from(from) % runs.len()];
                    let skip = length * u32::from(from) / 256;
                    let bytes = ((length - skip) * u32::from(share)).div_ceil(256);
                    let held = (at + u64::from(skip), bytes);
                    ring.hold(to_span(held));
                    model.held.push(held);
                }
                Step::Release { index } => {
                    if model.held.is_empty() {
                        continue;
                    }
                    let index = index % model.held.len();
                    ring.release(to_span(model.held.swap_remove(index)));
                }
                Step::EndOfTick => prop_assert_eq!(recycled(&mut ring), model.recycle()),
            }
            let done = u32::try_from(model.filling - model.oldest).unwrap();
            prop_assert_eq!(ring.free_bytes(), (u32::from(BUFFERS) - done) * EACH - model.filled);
            let stuck = (model.oldest..model.filling).skip_while(|&number| !model.is_held(number)).count();
            prop_assert_eq!(ring.pressure(), 2 * stuck > usize::from(BUFFERS));
            let held = (model.oldest..=model.filling).filter(|&number| model.is_held(number));
            let held: Vec<u64> = held.map(|number| number % u64::from(BUFFERS)).collect();
            prop_assert_eq!(ring.held_bytes(), held.len() as u64 * u64::from(EACH));
            prop_assert_eq!(ring.oldest_held().map(|id| u64::from(id.0)), held.first().copied());
        }
        for held in std::mem::take(&mut model.held) {
            ring.release(to_span(held));
        }
        prop_assert_eq!(recycled(&mut ring), model.recycle());
        prop_assert_eq!(ring.held_bytes(), 0);
    }
}
