//! Measures what is planned and not yet measured, and writes it down after every run.

use std::path::Path;
use std::time::Instant;

use super::names;
use super::results::{Failed, Results, ResultsError, Run};
use super::subjects::Subjects;
use super::who::Who;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::progress::{Progress, Whole, is_shown, left};
use crate::scenario::Drive;

/// So many seconds as a first guess count beside what was really needed: one slow run is no pace.
const GUESS_S: f64 = 20.0;

/// How things go on compared with what was expected.
struct Pace {
    all_s: f64,
    done_s: f64,
    needed_s: f64,
    expected_s: f64,
}

impl Pace {
    fn whole(&self, this_s: f64) -> Whole {
        let pace = (self.needed_s + GUESS_S) / (self.expected_s + GUESS_S);
        Whole { all_s: self.all_s, done_s: self.done_s, this_s, pace }
    }

    fn done(&mut self, expected_s: f64, needed_s: f64) {
        self.done_s += expected_s;
        self.expected_s += expected_s;
        self.needed_s += needed_s;
    }
}

/// Measures what is missing. What fails is noted, not tried again in later rounds, and does not stop the rest; `done` is
/// called after every measurement, to write the results down.
///
/// # Errors
/// `done`'s.
pub(super) fn go_on(
    results: &mut Results,
    mut once: impl FnMut(&Results, usize, Who, &mut Progress) -> Result<Outcome, Failure>,
    mut done: impl FnMut(&Results) -> Result<(), ResultsError>,
) -> Result<(), ResultsError> {
    let missing = results.missing();
    results.failed.clear(); // they are tried again
    let expected = |results: &Results, cell: usize, who: Who| results.cells[cell].seconds_expected(who);
    let all_s = missing.iter().map(|&(cell, who, _)| expected(results, cell, who)).sum();
    let mut pace = Pace { all_s, done_s: 0.0, needed_s: 0.0, expected_s: 0.0 };
    for (index, &(cell, who, round)) in missing.iter().enumerate() {
        let this_s = expected(results, cell, who);
        if results.failed.iter().any(|failed| failed.cell == cell && failed.who == who) {
            pace.done_s += this_s;
            continue;
        }
        let label = label(results, cell, who, round);
        let begun = Instant::now();
        let mut progress = Progress::within(pace.whole(this_s), &label);
        let outcome = once(results, cell, who, &mut progress);
        drop(progress);
        pace.done(this_s, begun.elapsed().as_secs_f64());
        let (_, time) = pace.whole(0.0).at(0.0);
        match outcome {
            Ok(outcome) => {
                if !is_shown() {
                    let said = said(&outcome);
                    eprintln!("[{}/{}] {label}: {said}; {}", index + 1, missing.len(), left(time));
                }
                let variant = Some(results.cells[cell].label.clone());
                let outcome = Outcome { variant, ..trimmed(outcome) };
                results.runs.push(Run { cell, who, round, outcome });
            }
            Err(failure) => {
                eprintln!("[{}/{}] {label}: FAILED: {failure}", index + 1, missing.len());
                results.failed.push(Failed { cell, who, round, why: failure.to_string() });
            }
        }
        done(results)?;
    }
    Ok(())
}

/// The real thing: every measurement on real servers, written down into the directory.
pub(super) fn conduct(
    results: &mut Results,
    subjects: &Subjects,
    directory: &Path,
) -> Result<(), ResultsError> {
    results.write(directory)?;
    let once = |results: &Results, cell: usize, who: Who, progress: &mut Progress| {
        subjects.once(who, &results.cells[cell].work()?, progress)
    };
    go_on(results, once, |results| results.write(directory))
}

fn label(results: &Results, cell: usize, who: Who, round: u16) -> String {
    let cell = &results.cells[cell];
    format!("{}, {}: {}, round {} of {}", cell.scenario, cell.label, who.name(), round + 1, cell.rounds)
}

/// The first figures of an outcome.
fn said(outcome: &Outcome) -> String {
    if let Some(idle) = outcome.idle.last() {
        return format!("{} connections, {}", idle.connections, names::bytes(idle.server_rss_bytes as f64));
    }
    let p99 = outcome
        .latency_us
        .map_or(String::new(), |latency| format!(", p99 {} us", names::figure(latency.p99)));
    format!("{} ns a {}{p99}", names::figure(outcome.cpu_ns()), outcome.cpu_unit())
}

/// Without the curves that no chart shows: of a load that sends as much as it can they tell how deep its queues are.
fn trimmed(mut outcome: Outcome) -> Outcome {
    if !matches!(outcome.drive, Drive::Open) {
        outcome.flows.iter_mut().for_each(|flow| flow.latency_curve_us.clear());
    }
    outcome
}
