//! The outbox and its pool of blocks, against queues of bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use crate::buf::{Mapping, Memory, Pages};
use crate::ids::RegionId;
use crate::limits::CONTROL_BLOCK_BYTES;
use crate::shard::outbox::{BlockPool, Outbox};

const REGION: RegionId = RegionId(3);
const BLOCKS: u32 = 24;
const OUTBOXES: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Push {
        outbox: usize,
        bytes: usize,
        socket_full: bool,
    },
    /// So many thousandths of what is queued.
    Advance {
        outbox: usize,
        part: u64,
    },
    Clear {
        outbox: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![4 => 64..300_usize, 1 => Just(64), 1 => 3_000..9_000_usize];
    prop_oneof![
        8 => (0..OUTBOXES, bytes, any::<bool>())
            .prop_map(|(outbox, bytes, socket_full)| Step::Push { outbox, bytes, socket_full }),
        4 => (0..OUTBOXES, prop_oneof![2 => 0..=1_000_u64, 1 => Just(1_000)])
            .prop_map(|(outbox, part)| Step::Advance { outbox, part }),
        1 => (0..OUTBOXES).prop_map(|outbox| Step::Clear { outbox }),
    ]
}

/// Blocks a queue of so many bytes takes whose first byte lies `skipped` bytes into the first.
fn blocks_of(skipped: usize, bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (skipped + bytes).div_ceil(CONTROL_BLOCK_BYTES as usize) }
}

#[derive(Debug, Default)]
struct Model {
    queued: VecDeque<u8>,
    skipped: usize,
}

impl Model {
    fn blocks(&self) -> usize {
        blocks_of(self.skipped, self.queued.len())
    }

    fn advance(&mut self, bytes: usize) {
        self.queued.drain(..bytes);
        self.skipped = (self.skipped + bytes) % CONTROL_BLOCK_BYTES as usize;
        if self.queued.is_empty() {
            self.skipped = 0;
        }
    }
}

fn history(steps: &[Step]) {
    let mut memory = Memory::new();
    let bytes = (BLOCKS * CONTROL_BLOCK_BYTES) as usize;
    memory.attach(REGION, Arc::new(Mapping::plain(bytes, Pages::Small).expect("memory for a test")));
    let mut pool = BlockPool::new(REGION, BLOCKS);
    let mut outboxes = [const { Outbox::new() }; OUTBOXES];
    let mut models: [Model; OUTBOXES] = std::array::from_fn(|_| Model::default());
    let mut next = 0_u8;
    for step in steps {
        match *step {
            Step::Push { outbox: at, bytes, socket_full } => {
                let frame: Vec<u8> = (0..bytes)
                    .map(|_| {
                        next = next.wrapping_add(1);
                        next
                    })
                    .collect();
                let free = BLOCKS as usize - models.iter().map(Model::blocks).sum::<usize>();
                let share = match (free * 4 / BLOCKS as usize, socket_full) {
                    (0, _) => 1,
                    (1, _) => 8,
                    (_, true) => 64,
                    (_, false) => 256,
                };
                let (has, wanted) =
                    (models[at].blocks(), blocks_of(models[at].skipped, models[at].queued.len() + bytes));
                let fits = wanted == has || wanted <= share && wanted - has <= free;
                assert_eq!(outboxes[at].push(&mut pool, &mut memory, &frame, socket_full), fits);
                if fits {
                    models[at].queued.extend(&frame);
                }
            }
            Step::Advance { outbox: at, part } => {
                let bytes = u64::from(outboxes[at].bytes()) * part / 1_000;
                outboxes[at].advance(&mut pool, u32::try_from(bytes).expect("small"));
                models[at].advance(usize::try_from(bytes).expect("small"));
            }
            Step::Clear { outbox: at } => {
                outboxes[at].clear(&mut pool);
                models[at] = Model::default();
            }
        }
        for (outbox, model) in outboxes.iter().zip(&models) {
            let spans: Vec<u8> = outbox.spans(&pool).flat_map(|span| memory.bytes(span).to_vec()).collect();
            assert_eq!(spans, model.queued.iter().copied().collect::<Vec<u8>>());
            assert_eq!(
                (outbox.bytes() as usize, outbox.is_empty()),
                (model.queued.len(), model.queued.is_empty())
            );
        }
        assert_eq!(pool.in_use(), models.iter().map(Model::blocks).sum::<usize>(), "blocks in use");
    }
    for outbox in &mut outboxes {
        outbox.clear(&mut pool);
    }
    assert_eq!(pool.in_use(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_outbox_is_a_queue_and_a_block_is_in_one_place(steps in prop::collection::vec(step(), 1..120)) {
        history(&steps);
    }
}
