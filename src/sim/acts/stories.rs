//! Stories: acts that lead together to where each alone would come once in a thousand runs.

use super::{Act, Cut, Timed};
use crate::sim::plan::{MS, Plan};
use crate::sim::random::Random;

/// Of a thousand runs, so many have stories.
const TOLD: u32 = 400;

/// The stories of a run that these acts are done in.
#[must_use]
pub fn of(plan: &Plan, acts: &[Timed], random: &mut Random) -> Vec<Timed> {
    if !random.chance(TOLD) {
        return Vec::new();
    }
    let mut told = Vec::new();
    for _ in 0..random.range(1, 8) {
        let at_ns = random.below(plan.duration_ns);
        told.extend(gone_before_the_answer(plan, at_ns, random));
    }
    let drains = acts.iter().filter(|timed| matches!(timed.act, Act::Drain { .. }));
    told.extend(drains.flat_map(|drain| back_in_a_drain(plan, drain.at_ns, random)));
    told
}

/// A shard stands still that has batches of another shard's clients, and one of these goes.
fn gone_before_the_answer(plan: &Plan, at_ns: u64, random: &mut Random) -> Vec<Timed> {
    let shard = random.index(plan.shards.into());
    let producer = random.index(plan.producers.len());
    let pause_ns = random.pick(&[5 * MS, 50 * MS, 700 * MS]);
    let cut = random.pick(&[Cut::Reset, Cut::Reset, Cut::End]);
    vec![
        Timed { at_ns, act: Act::Publish { producer, records: 20, bytes: random.pick(&[20, 2_000]) } },
        Timed { at_ns: at_ns + random.below(MS), act: Act::PauseShard { shard, ns: pause_ns } },
        Timed { at_ns: at_ns + MS + random.below(3 * MS), act: Act::Disconnect { client: producer, cut } },
    ]
}

/// Clients have lost their connections when a drain begins, and come back in it.
fn back_in_a_drain(plan: &Plan, drain_ns: u64, random: &mut Random) -> Vec<Timed> {
    let clients = plan.producers.len() + plan.consumers.len();
    let lost = |random: &mut Random| Timed {
        at_ns: drain_ns.saturating_sub(random.below(500 * MS)),
        act: Act::Disconnect { client: random.index(clients), cut: Cut::Reset },
    };
    (0..random.range(1, 4)).map(|_| lost(random)).collect()
}
