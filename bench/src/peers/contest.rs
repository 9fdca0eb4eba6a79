//! Rounds of everybody in turns, and what they come to.
//!
//! A machine's speed drifts over minutes: so every round measures everybody, each time beginning with another one,
//! and ratios are of medians over the rounds.

use serde::{Deserialize, Serialize};

use super::Entrant;
use super::shared::default_congestion_control;
use crate::failure::Failure;
use crate::host::CONGESTION_CONTROL;
use crate::outcome::Outcome;
use crate::stats::{Summary, median, ratio_of_medians};

/// The bootstrap's resampling begins here: the same rounds always give the same interval.
const SEED: u64 = 0x5eed;

/// Who did not take part, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// As in [`Entry::entrant`].
    pub entrant: String,
    /// Why.
    pub why: String,
    /// The package to install, where that is what is missing.
    pub package: Option<String>,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `uringest`, `NATS`, `Redis Streams`, `limit (epoll)`, ...
    pub entrant: String,
    /// Its version.
    pub version: String,
    /// `uring`, `epoll`, or what a peer does with records.
    pub io: String,
    /// CPU time for each record or delivery: median of the rounds.
    pub server_cpu_ns: f64,
    /// Median distance of the rounds from that, as a share of it.
    pub deviation: f64,
    /// Its CPU time over uringest's: 2 is twice as dear.
    pub over_uringest: f64,
    /// Where that lies with 95 % confidence; `null` with fewer than three rounds.
    pub interval: Option<(f64, f64)>,
    /// Median of the rounds' medians, in microseconds.
    pub p50_us: Option<f64>,
    /// Median of the rounds' 99th percentiles, in microseconds.
    pub p99_us: Option<f64>,
    /// Median of the rounds' rates.
    pub records_per_s: f64,
    /// Median of the rounds' memory.
    pub server_rss_bytes: f64,
    /// Median share of a CPU that the server used.
    pub server_cpu_share: f64,
    /// Median share of its time that the load was busy.
    pub load_cpu_share: f64,
    /// Every round.
    pub rounds: Vec<Outcome>,
}

/// What `peers --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contest {
    /// The scenario's name.
    pub scenario: String,
    /// What the CPU time is for each of: `record` or `delivery`.
    pub cpu_unit: String,
    /// Those who took part, uringest first.
    pub entries: Vec<Entry>,
    /// Those who did not.
    pub skipped: Vec<Skipped>,
    /// The congestion control of the load's sockets, uringest's and the limit's.
    pub congestion_control: String,
    /// That of the peers' own sockets: the host's default.
    pub peers_congestion_control: String,
    /// What to know before believing the figures, of any round.
    pub warnings: Vec<String>,
}

/// Measures everybody `rounds` times in turns. A peer that breaks is skipped from then on, with what it said.
///
/// # Errors
/// uringest cannot be measured.
pub fn hold(
    scenario: &str,
    mut entrants: Vec<Entrant>,
    mut skipped: Vec<Skipped>,
    rounds: usize,
    mut once: impl FnMut(Entrant, usize) -> Result<Outcome, Failure>,
) -> Result<Contest, Failure> {
    let mut outcomes: Vec<(Entrant, Vec<Outcome>)> = entrants.iter().map(|who| (*who, Vec::new())).collect();
    for round in 0..rounds {
        let turns = entrants.len().max(1);
        entrants.rotate_left(usize::from(round > 0) % turns);
        for entrant in entrants.clone() {
            match once(entrant, round) {
                Ok(outcome) => {
                    let line = outcomes.iter_mut().find(|(who, _)| *who == entrant);
                    line.expect("every entrant has a line").1.push(outcome);
                }
                Err(failure) if entrant == Entrant::Uringest => return Err(failure),
                Err(failure) => {
                    entrants.retain(|who| *who != entrant);
                    outcomes.retain(|(who, _)| *who != entrant);
                    let why = failure.to_string();
                    skipped.push(Skipped { entrant: entrant.name().into(), why, package: None });
                }
            }
        }
    }
    Ok(conclude(scenario, outcomes, skipped))
}

fn conclude(scenario: &str, outcomes: Vec<(Entrant, Vec<Outcome>)>, skipped: Vec<Skipped>) -> Contest {
    let own: Vec<f64> = outcomes
        .iter()
        .filter(|(who, _)| *who == Entrant::Uringest)
        .flat_map(|(_, rounds)| rounds.iter().map(Outcome::cpu_ns))
        .collect();
    let all = outcomes.iter().flat_map(|(_, rounds)| rounds);
    let mut warnings: Vec<String> = Vec::new();
    for (who, rounds) in &outcomes {
        for warning in rounds.iter().flat_map(|outcome| &outcome.warnings) {
            let warning = format!("{}: {warning}", who.name());
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    let cpu_unit = all.map(Outcome::cpu_unit).next().unwrap_or("record").to_owned();
    Contest {
        scenario: scenario.to_owned(),
        cpu_unit,
        entries: outcomes.into_iter().map(|(who, rounds)| entry(who, rounds, &own)).collect(),
        skipped,
        congestion_control: CONGESTION_CONTROL.to_owned(),
        peers_congestion_control: default_congestion_control(),
        warnings,
    }
}

fn entry(entrant: Entrant, rounds: Vec<Outcome>, own: &[f64]) -> Entry {
    let values = |read: fn(&Outcome) -> Option<f64>| rounds.iter().filter_map(read).collect::<Vec<f64>>();
    let middle = |read: fn(&Outcome) -> Option<f64>| median(&values(read));
    let always = |read: fn(&Outcome) -> Option<f64>| middle(read).unwrap_or(0.0);
    let cpu = values(|outcome| Some(outcome.cpu_ns()));
    let pairs: Vec<(f64, f64)> = cpu.iter().copied().zip(own.iter().copied()).collect();
    let ratio = ratio_of_medians(&pairs, SEED);
    Entry {
        entrant: entrant.name().to_owned(),
        version: rounds.first().map_or(String::new(), |outcome| outcome.subject_version.clone()),
        io: rounds.first().map_or(String::new(), |outcome| outcome.io.clone()),
        server_cpu_ns: always(|outcome| Some(outcome.cpu_ns())),
        deviation: Summary::of(&cpu).map_or(0.0, |summary| summary.relative_deviation()),
        over_uringest: ratio.map_or(1.0, |ratio| ratio.ratio),
        interval: ratio.and_then(|ratio| ratio.interval),
        p50_us: middle(|outcome| outcome.latency_us.map(|latency| latency.p50)),
        p99_us: middle(|outcome| outcome.latency_us.map(|latency| latency.p99)),
        records_per_s: always(|outcome| Some(outcome.records_per_s)),
        server_rss_bytes: always(|outcome| Some(outcome.server_rss_bytes as f64)),
        server_cpu_share: always(|outcome| Some(outcome.server_cpu_share)),
        load_cpu_share: always(|outcome| Some(outcome.load_cpu_share)),
        rounds,
    }
}
