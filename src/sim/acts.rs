//! What is done to a run and when: a list that its seed makes, and that a failing run is made smaller by.

pub mod stories;

use super::plan::{ACT_KINDS, MS, Plan, S, US};
use super::random::Random;
use crate::limits::{FRAME_TIMEOUT_MS, IDLE_TIMEOUT_MS};

/// How a connection ends that nobody has asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both sides are told, whatever was on the way is lost.
    Reset,
    /// The client goes without a word: the server is not told.
    HalfOpen,
    /// The client's end is said behind a part of what was on the way.
    MidFrame,
    /// The client's end is said behind all that it has said.
    End,
}

/// What a crash waits for: that is when a promise shows that was given too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing.
    Now,
    /// The disk has written something.
    Written,
    /// A sync has failed.
    SyncFailed,
    /// A consumer of a log has been given records.
    Shown,
    /// A producer to a log has heard an acknowledgement.
    Acked,
}

/// Who connects where TLS is spoken, and is no client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// It says nothing.
    Silent,
    /// It says the beginning of a ClientHello.
    Stops,
    /// It says a ClientHello, and nothing more.
    Deaf,
    /// A bit of its ClientHello was changed on the way; it says nothing more.
    Changed,
    /// It speaks our protocol without TLS.
    Plain,
    /// It says anything.
    Noise,
}

/// See the module. Clients, topics and shards are named by their index.
#[allow(missing_docs)] // fields are named for what they are
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A producer takes so many records of so many bytes.
    Publish { producer: usize, records: u32, bytes: u32 },
    /// A consumer reads nothing for so long.
    Stall { consumer: usize, ns: u64 },
    /// A client's connection ends.
    Disconnect { client: usize, cut: Cut },
    /// One bit of the next bytes that a client sends is another when they arrive.
    Corrupt { client: usize },
    /// No byte passes between a client and the server for so long.
    Partition { client: usize, ns: u64 },
    /// A shard does not run for so long.
    PauseShard { shard: usize, ns: u64 },
    /// The wall clock jumps, forwards or back.
    Jump { ms: i64 },
    /// A topic pauses, or goes on.
    PauseTopic { topic: usize, paused: bool },
    /// A partition's segment is closed.
    Roll { topic: usize, partition: u32 },
    /// The disk is full for so long.
    DiskFull { ns: u64 },
    /// The process ends without a word, at the moment's next time and so long behind it, and comes back after so long.
    /// `power`: with all that was not durable in doubt.
    Crash { power: bool, when: Moment, behind_ns: u64, down_ns: u64 },
    /// A topic that does not last is made.
    Create { topic: usize },
    /// It is deleted.
    Delete { topic: usize },
    /// The server comes to its end in good order, and is back after so long.
    Drain { down_ns: u64 },
    /// Somebody connects where TLS is spoken.
    Stranger { how: Stranger, shard: usize },
    /// A client that speaks TLS seals with another key from here on.
    ReplaceKey { client: usize },
    /// A shard does, on all its connections that speak TLS.
    ReplaceKeys { shard: usize },
}

/// An act and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    /// Virtual nanoseconds from the beginning.
    pub at_ns: u64,
    /// What.
    pub act: Act,
}

/// The acts of a run, in order.
#[must_use]
pub fn of(plan: &Plan, seed: u64) -> Vec<Timed> {
    let random = &mut Random::new(seed ^ 0xac75);
    let mut acts: Vec<Timed> = (0..plan.acts)
        .map(|_| Timed { at_ns: random.below(plan.duration_ns), act: one(plan, random) })
        .collect();
    let random = &mut Random::new(seed ^ 0x7_1505);
    acts.extend(
        (0..plan.secured.acts)
            .map(|_| Timed { at_ns: random.below(plan.duration_ns), act: of_tls(plan, random) }),
    );
    let random = &mut Random::new(seed ^ 0x90e5);
    acts.extend(of_control(plan, random));
    let again = of_names(plan, &acts, &mut Random::new(seed ^ 0xa6a1));
    acts.extend(again);
    let told = stories::of(plan, &acts, &mut Random::new(seed ^ 0x570_41e5));
    acts.extend(told);
    lengthen(&mut acts, plan, &mut Random::new(seed ^ 0x10_46));
    acts.sort_by_key(|timed| timed.at_ns);
    acts
}

/// Some of what keeps clients and shards from going on lasts longer than anybody waits: peers are given up.
fn lengthen(acts: &mut [Timed], plan: &Plan, random: &mut Random) {
    let ms = |ms: u64| ms * MS;
    for Timed { act, .. } in acts {
        match act {
            Act::Partition { ns, .. } | Act::Stall { ns, .. } if random.chance(plan.long) => {
                *ns = random.below(ms(2 * IDLE_TIMEOUT_MS));
            }
            Act::PauseShard { ns, .. } if random.chance(plan.long) => {
                *ns = random.below(ms(2 * FRAME_TIMEOUT_MS));
            }
            _ => {}
        }
    }
}

fn one(plan: &Plan, random: &mut Random) -> Act {
    let kind = random.index(3 * ACT_KINDS);
    if plan.acts_on.get(kind).copied() != Some(true) {
        return Act::Publish {
            producer: random.index(plan.producers.len()),
            records: u32::try_from(random.range(1, 60)).expect("few"),
            bytes: u32::try_from(random.pick(&[0, 20, 200, 2_000, 20_000])).expect("few"),
        };
    }
    let topic = random.index(plan.topics.len());
    let client = random.index(plan.producers.len() + plan.consumers.len());
    match kind {
        0 => Act::Stall { consumer: random.index(plan.consumers.len()), ns: random.below(3 * S) },
        1 => {
            let cut = random.pick(&[Cut::Reset, Cut::HalfOpen, Cut::MidFrame]);
            Act::Disconnect { client, cut }
        }
        2 => Act::Partition { client, ns: random.below(5 * S) },
        3 => Act::PauseShard {
            shard: random.index(plan.shards.into()),
            ns: random.pick(&[100 * US, 5 * MS, 700 * MS, 3 * S]),
        },
        4 => Act::Jump { ms: i64::try_from(random.below(20_000)).expect("small") - 10_000 },
        5 => Act::PauseTopic { topic, paused: random.chance(500) },
        6 => {
            let of = u64::from(plan.topics[topic].partitions);
            Act::Roll { topic, partition: u32::try_from(random.below(of)).expect("few") }
        }
        7 => Act::DiskFull { ns: random.below(2 * S) },
        8 => Act::Corrupt { client },
        _ => crash(random),
    }
}

fn crash(random: &mut Random) -> Act {
    use Moment::{Acked, Now, Shown, SyncFailed, Written};
    let (power, down_ns) = (random.chance(500), random.below(2 * S));
    let when = random.pick(&[Now, Now, Written, SyncFailed, Shown, Shown, Acked, Acked]);
    let most_ns = match when {
        Now => 1,
        // For what is made of it to come to somebody.
        Written | SyncFailed => random.pick(&[1, 300 * US, 5 * MS]),
        Shown | Acked => random.pick(&[1, 1, 200 * US]),
    };
    Act::Crash { power, when, behind_ns: random.below(most_ns), down_ns }
}

/// Topics come, and most of them go; the server is drained.
fn of_control(plan: &Plan, random: &mut Random) -> Vec<Timed> {
    let mut acts = Vec::new();
    for topic in (plan.lasting..plan.topics.len()).filter(|topic| plan.topics[*topic].first == *topic) {
        let at_ns = random.below(plan.duration_ns);
        acts.push(Timed { at_ns, act: Act::Create { topic } });
        if random.chance(700) {
            let at_ns = at_ns + random.below(plan.duration_ns - at_ns);
            acts.push(Timed { at_ns, act: Act::Delete { topic } });
        }
    }
    for _ in 0..plan.drains {
        let act = Act::Drain { down_ns: random.below(S) };
        acts.push(Timed { at_ns: random.below(plan.duration_ns), act });
    }
    acts
}

/// When a topic has gone another gets its name, most often soon, and goes, too.
fn of_names(plan: &Plan, acts: &[Timed], random: &mut Random) -> Vec<Timed> {
    let mut again: Vec<Timed> = Vec::new();
    for (topic, of) in plan.topics.iter().enumerate().filter(|(topic, of)| of.first != *topic) {
        let is_before = |timed: &&Timed| matches!(timed.act, Act::Delete { topic } if plan.topics[topic].first == of.first);
        let Some(gone) = acts.iter().chain(&again).filter(is_before).map(|timed| timed.at_ns).max() else {
            continue;
        };
        let left_ns = plan.duration_ns.saturating_sub(gone);
        let soon_ns = random.pick(&[1, 20 * MS, S, left_ns]).min(left_ns).max(1);
        let at_ns = gone + random.below(soon_ns);
        again.push(Timed { at_ns, act: Act::Create { topic } });
        let at_ns = at_ns + random.below(plan.duration_ns.saturating_sub(at_ns).max(1));
        again.push(Timed { at_ns, act: Act::Delete { topic } });
        if random.chance(300) {
            again.pop();
        }
    }
    again
}

fn of_tls(plan: &Plan, random: &mut Random) -> Act {
    const HOW: [Stranger; 6] = [
        Stranger::Silent,
        Stranger::Stops,
        Stranger::Deaf,
        Stranger::Changed,
        Stranger::Plain,
        Stranger::Noise,
    ];
    let shard = random.index(plan.shards.into());
    match random.below(4) {
        0 => Act::ReplaceKey { client: random.index(plan.producers.len() + plan.consumers.len()) },
        1 => Act::ReplaceKeys { shard },
        _ => Act::Stranger { how: random.pick(&HOW), shard },
    }
}
