//! Two subjects in turns: interleaved rounds, ratios of medians with their intervals, and what to make of them.
//!
//! A machine's speed drifts over minutes, and neighbours come and go; so A and B are measured in turns, the order
//! changing every round (A B, B A, ...), and rounds are compared, not averages of different times.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::scenario::Drive;
use crate::stats::{ROUNDS_FOR_INTERVAL, median, ratio_of_medians};

/// Ratios nearer to 1 than this are called equal, as hosts and kernels move more ...
const EQUAL_WITHIN: f64 = 0.03;
/// ... where their interval is as near: else too little is known.
const EQUAL_INTERVAL: f64 = 0.1;
/// The bootstrap's resampling begins here: the same rounds always give the same interval.
const SEED: u64 = 0x5eed;

/// Runs both sides `rounds` times in turns; outcomes by round, A's first.
///
/// # Errors
/// The first failure of a side.
pub fn interleave(
    rounds: usize,
    mut a: impl FnMut(usize) -> Result<Outcome, Failure>,
    mut b: impl FnMut(usize) -> Result<Outcome, Failure>,
) -> Result<Vec<(Outcome, Outcome)>, Failure> {
    (0..rounds)
        .map(|round| {
            if round % 2 == 0 {
                let first = a(round)?;
                Ok((first, b(round)?))
            } else {
                let first = b(round)?;
                Ok((a(round)?, first))
            }
        })
        .collect()
}

/// A figure of both sides.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figure {
    /// The outcome's field.
    pub name: String,
    /// Whether less is better.
    pub less_is_better: bool,
    /// Median of A's rounds.
    pub a: f64,
    /// Median of B's rounds.
    pub b: f64,
    /// A's over B's.
    pub ratio: f64,
    /// Where the ratio lies with 95 % confidence; `null` with fewer than three rounds.
    pub interval: Option<(f64, f64)>,
}

/// What a figure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    ABetter,
    BBetter,
    Equal,
    Unknown,
}

impl Figure {
    fn verdict(&self) -> Verdict {
        let Some((low, high)) = self.interval else { return Verdict::Unknown };
        let near = (low - 1.0).abs().max((high - 1.0).abs()) < EQUAL_INTERVAL;
        if near && (self.ratio - 1.0).abs() < EQUAL_WITHIN {
            return Verdict::Equal;
        }
        match (low > 1.0, high < 1.0) {
            (false, false) => Verdict::Unknown,
            (more, _) if more == self.less_is_better => Verdict::BBetter,
            _ => Verdict::ABetter,
        }
    }

    fn words(&self) -> String {
        let interval = self.interval.map_or(String::new(), |(low, high)| format!(" ({low:.2} to {high:.2})"));
        format!("{:.2}{interval}", self.ratio)
    }
}

/// See the module. What `ab --json` prints.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// The scenario's name.
    pub scenario: String,
    /// What A is.
    pub a: String,
    /// What B is.
    pub b: String,
    /// The figures; the first is the one that the recommendation begins with.
    pub figures: Vec<Figure>,
    /// A sentence for this host.
    pub recommendation: String,
    /// What to know before believing the figures, of any round.
    pub warnings: Vec<String>,
    /// Every round's outcomes: A's and B's.
    pub rounds: Vec<(Outcome, Outcome)>,
}

/// Compares the rounds of two sides.
#[must_use]
pub fn compare(a: &str, b: &str, rounds: Vec<(Outcome, Outcome)>) -> Comparison {
    let figures = figures(&rounds);
    let warnings = warnings(&rounds);
    let scenario = rounds.first().map_or(String::new(), |(a, _)| a.scenario.clone());
    let recommendation = recommend(&scenario, a, b, &figures, rounds.len());
    Comparison { scenario, a: a.into(), b: b.into(), figures, recommendation, warnings, rounds }
}

/// The warnings of all runs. The same one with other numbers is given once, with how many runs had it.
fn warnings(rounds: &[(Outcome, Outcome)]) -> Vec<String> {
    let mut found: Vec<(String, &str, usize)> = Vec::new();
    for warning in rounds.iter().flat_map(|(a, b)| a.warnings.iter().chain(&b.warnings)) {
        let words: String = warning.chars().filter(|c| !c.is_ascii_digit()).collect();
        match found.iter_mut().find(|(known, ..)| *known == words) {
            Some((.., runs)) => *runs += 1,
            None => found.push((words, warning, 1)),
        }
    }
    let all = rounds.len() * 2;
    found.into_iter().map(|(_, warning, runs)| format!("{runs} of {all} runs: {warning}")).collect()
}

/// A figure's name, how it is read, and whether less is better.
type Reading = (&'static str, fn(&Outcome) -> Option<f64>, bool);

const CPU_DELIVERY: Reading =
    ("server_cpu_ns_per_delivery", |outcome| outcome.server_cpu_ns_per_delivery, true);
const CPU_RECORD: Reading =
    ("server_cpu_ns_per_record", |outcome| Some(outcome.server_cpu_ns_per_record), true);
const P50: Reading = ("latency_us.p50", |outcome| outcome.latency_us.map(|latency| latency.p50), true);
const P99: Reading = ("latency_us.p99", |outcome| outcome.latency_us.map(|latency| latency.p99), true);
const RATE: Reading = ("records_per_s", |outcome| Some(outcome.records_per_s), false);
#[allow(clippy::redundant_closure_for_method_calls)] // a field of each element
const KNEE: Reading =
    ("knee.within_per_s", |outcome| outcome.knee.as_ref()?.within_per_s.map(|rate| rate as f64), false);
const IDLE_BYTES: Reading =
    ("idle.rss_bytes_per_connection", |outcome| outcome.idle.last()?.rss_bytes_per_connection, true);
const IDLE_CPU: Reading =
    ("idle.server_cpu_share", |outcome| Some(outcome.idle.last()?.server_cpu_share), true);

const STORM_CPU: Reading = (
    "storm.server_cpu_us_per_handshake",
    |outcome| Some(outcome.storm.as_ref()?.server_cpu_us_per_handshake),
    true,
);
const STORM_RATE: Reading =
    ("storm.handshakes_per_s", |outcome| Some(outcome.storm.as_ref()?.handshakes_per_s), false);
const CATCHUP_CPU: Reading = (
    "catchup.server_cpu_ns_per_record",
    |outcome| Some(outcome.catchup.as_ref()?.server_cpu_ns_per_record),
    true,
);
const RECOVERY: Reading =
    ("recovery.bytes_per_s", |outcome| Some(outcome.recovery.as_ref()?.bytes_per_s), false);
const STORM_P99: Reading = ("storm.p99_over_calm", |outcome| outcome.storm.as_ref()?.p99_over_calm, true);

fn figures(rounds: &[(Outcome, Outcome)]) -> Vec<Figure> {
    let Some((first, _)) = rounds.first() else { return Vec::new() };
    let cpu = if first.consumers > 0 { CPU_DELIVERY } else { CPU_RECORD };
    let readings: &[Reading] = match first.drive {
        Drive::Idle => &[IDLE_BYTES, IDLE_CPU],
        Drive::Storm => &[P99, STORM_CPU, STORM_RATE, STORM_P99],
        Drive::Step => &[KNEE, cpu, P50, P99],
        Drive::Saturate | Drive::Crossing | Drive::Durable => &[cpu, P99, RATE],
        Drive::Catchup => &[CATCHUP_CPU, cpu, RATE],
        Drive::Recovery => &[RECOVERY],
        Drive::Rounds | Drive::Open | Drive::Soak => &[cpu, P50, P99],
    };
    readings.iter().filter_map(|reading| figure(reading, rounds)).collect()
}

fn figure(&(name, read, less_is_better): &Reading, rounds: &[(Outcome, Outcome)]) -> Option<Figure> {
    let pairs: Vec<(f64, f64)> = rounds.iter().filter_map(|(a, b)| read(a).zip(read(b))).collect();
    let ratio = ratio_of_medians(&pairs, SEED)?;
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    Some(Figure {
        name: name.into(),
        less_is_better,
        a: median(&a)?,
        b: median(&b)?,
        ratio: ratio.ratio,
        interval: ratio.interval,
    })
}

/// The sentence: the first figure decides, and the tail may object.
fn recommend(scenario: &str, a: &str, b: &str, figures: &[Figure], rounds: usize) -> String {
    let Some(first) = figures.first() else {
        return format!("Nothing of `{scenario}` could be compared.");
    };
    let said = format!("On this host {a} over {b} in `{scenario}` is {} in {}", first.words(), first.name);
    if rounds < ROUNDS_FOR_INTERVAL {
        return format!("{said}: too few rounds to recommend either; take at least {ROUNDS_FOR_INTERVAL}.");
    }
    let tail = figures.iter().skip(1).find(|figure| figure.name == P99.0);
    let tail_words =
        tail.map_or(String::new(), |tail| format!(", and {} in the 99th percentile", tail.words()));
    let tail = tail.map_or(Verdict::Equal, Figure::verdict);
    let counts = match first.name.as_str() {
        name if name == KNEE.0 => "the rate",
        name if name == IDLE_BYTES.0 => "memory",
        _ => "CPU",
    };
    let advice = match (first.verdict(), tail) {
        (Verdict::ABetter, Verdict::BBetter) => {
            format!("take {a} where {counts} counts most, {b} where the tail does")
        }
        (Verdict::BBetter, Verdict::ABetter) => {
            format!("take {b} where {counts} counts most, {a} where the tail does")
        }
        (Verdict::ABetter, _) => format!("take {a}"),
        (Verdict::BBetter, _) => format!("take {b}"),
        (Verdict::Equal, Verdict::ABetter) => format!("as good, and {a} has the shorter tail: take {a}"),
        (Verdict::Equal, Verdict::BBetter) => format!("as good, and {b} has the shorter tail: take {b}"),
        (Verdict::Equal, _) => "no difference that matters: take either".into(),
        (Verdict::Unknown, _) => "the rounds differ more than the two do: take more rounds, or either".into(),
    };
    format!("{said}{tail_words}: {advice}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, ratio: f64, width: f64) -> Figure {
        let interval = Some((ratio - width, ratio + width));
        Figure { name: name.into(), less_is_better: true, a: ratio, b: 1.0, ratio, interval }
    }

    #[test]
    fn the_sentence_follows_from_the_figures() {
        for (cpu, p99, expected) in [
            ((0.88, 0.02), (0.9, 0.05), "take uring."),
            ((0.88, 0.02), (1.0, 0.2), "take uring."),
            ((0.88, 0.02), (1.5, 0.2), "take uring where CPU counts most, epoll where the tail does."),
            ((1.2, 0.02), (1.5, 0.2), "take epoll."),
            ((1.2, 0.02), (0.5, 0.2), "take epoll where CPU counts most, uring where the tail does."),
            ((1.01, 0.005), (0.5, 0.2), "uring has the shorter tail: take uring."),
            ((1.01, 0.005), (1.0, 0.5), "take either."),
            ((1.1, 0.2), (1.0, 0.5), "take more rounds, or either."),
            ((1.01, 0.3), (1.0, 0.5), "take more rounds, or either."),
        ] {
            let figures = [figure("server_cpu_ns_per_record", cpu.0, cpu.1), figure(P99.0, p99.0, p99.1)];
            let sentence = recommend("swarm", "uring", "epoll", &figures, 5);
            assert!(sentence.ends_with(expected), "{sentence}");
            assert!(sentence.contains(&format!("{:.2} (", cpu.0)), "{sentence}");
        }
        let sentence = recommend("swarm", "a", "b", &[figure("x", 0.5, 0.1)], 2);
        assert!(sentence.contains("too few rounds"), "{sentence}");
    }

    #[test]
    fn more_is_better_for_rates() {
        let mut rate = figure("knee.within_per_s", 1.3, 0.1);
        rate.less_is_better = false;
        assert_eq!(rate.verdict(), Verdict::ABetter);
        rate.ratio = 0.7;
        rate.interval = Some((0.6, 0.8));
        assert_eq!(rate.verdict(), Verdict::BBetter);
    }

    #[test]
    fn warnings_that_differ_in_numbers_are_one() {
        let run = |warning: &str| Outcome { warnings: vec![warning.into()], ..Outcome::default() };
        let rounds = [(run("97 % busy"), run("missed 1")), (run("9 % busy"), Outcome::default())];
        assert_eq!(warnings(&rounds), ["2 of 4 runs: 97 % busy", "1 of 4 runs: missed 1"]);
    }

    #[test]
    fn rounds_alternate() {
        let order = std::cell::RefCell::new(Vec::new());
        let run = |name: &'static str| {
            let order = &order;
            move |round| {
                order.borrow_mut().push((round, name));
                Err::<Outcome, _>(Failure::Unsupported(name.into()))
            }
        };
        assert!(interleave(3, run("a"), run("b")).is_err());
        assert_eq!(order.borrow()[..], [(0, "a")], "the first failure ends it");
    }
}
