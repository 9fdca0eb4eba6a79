//! Acts that lead together to where each alone would come once in a thousand runs: some of the clients' last words, and a
//! server that has to make sense of them.

use super::{Act, Cut, Timed};
use crate::proto::header::AckLevel;
use crate::sim::plan::{MS, Plan, US};
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
        let story = match random.below(2) {
            0 => gone_before_the_answer(plan, at_ns, random),
            _ => all_at_once(plan, at_ns, random),
        };
        told.extend(story);
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

/// A producer has as many batches on the way as it may, and does not hear what became of them.
fn all_at_once(plan: &Plan, at_ns: u64, random: &mut Random) -> Vec<Timed> {
    let producer = random.index(plan.producers.len());
    let of = &plan.producers[producer];
    // One record to a batch, and as many batches on each partition as are on the way at the most.
    let bytes = u32::try_from(of.batch_bytes.min(20_000) * 2 / 3).expect("small");
    let records = 2 * of.inflight * plan.topics[of.topic].partitions;
    // An acknowledgement that promises more takes longer.
    let most_ns = if of.level == AckLevel::Received { 2 * MS } else { 10 * MS };
    let cut = random.pick(&[Cut::Reset, Cut::HalfOpen]);
    vec![
        Timed { at_ns, act: Act::Publish { producer, records, bytes } },
        Timed {
            at_ns: at_ns + 200 * US + random.below(most_ns),
            act: Act::Disconnect { client: producer, cut },
        },
    ]
}

/// Clients have just lost their connections when a drain begins, and come back in it.
fn back_in_a_drain(plan: &Plan, drain_ns: u64, random: &mut Random) -> Vec<Timed> {
    let clients = plan.producers.len() + plan.consumers.len();
    let lost = |random: &mut Random| Timed {
        at_ns: drain_ns.saturating_sub(random.below(3 * MS)),
        act: Act::Disconnect { client: random.index(clients), cut: Cut::Reset },
    };
    (0..random.range(1, 3)).map(|_| lost(random)).collect()
}
