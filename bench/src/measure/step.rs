//! A rate that rises until the tail passes a bound, and a few rates between the last good and the first bad one.

use super::{FULL, Run};
use crate::engine::{Measured, Session, Window};
use crate::failure::Failure;
use crate::outcome::{Knee, Outcome, Step};
use crate::progress::Progress;
use crate::subject::Subject;

/// Steps at most: far beyond what any server takes.
const STEPS_MAX: usize = 60;
/// Rates tried between the two sides of the knee; each halves what is not known.
const REFINEMENTS: usize = 3;
/// A rate of which less than this was taken was not reached.
const REACHED: f64 = 0.98;

pub(super) fn measure<S: Subject>(run: &Run<S>, progress: &mut Progress) -> Result<Outcome, Failure> {
    let mut session = Session::open(run.subject.dialect(), run.work, run.load_cpus(), false)?;
    let mut search = Search { factor: run.work.step_factor, within: None, beyond: None, refined: 0 };
    let (mut steps, mut best) = (Vec::new(), None);
    let mut rate = run.work.flows[0].rate_per_s;
    for _ in 0..STEPS_MAX {
        progress.say(&format!("{rate}/s"));
        let window = Window { rates_per_s: vec![rate; run.work.flows.len()], ..run.work.window() };
        let measured = session.window(run.subject.process(), &window, &mut |_| ())?;
        let step = step(rate, &measured, run.work.bound_us);
        if step.within_bound || best.is_none() {
            best = Some((rate, measured));
        }
        search.note(rate, step.within_bound);
        steps.push(step);
        match search.next(rate) {
            Some(next) => rate = next,
            None => break,
        }
    }
    let (rate, measured) = best.expect("at least one step is made");
    let mut outcome = run.outcome(&measured)?;
    outcome.rate_per_s = rate;
    let bound_us = run.work.bound_us;
    outcome.knee = Some(Knee { bound_us, within_per_s: search.within, beyond_per_s: search.beyond });
    let first_beyond = search.beyond.and_then(|rate| steps.iter().find(|step| step.rate_per_s == rate));
    if first_beyond.is_some_and(|step| step.load_cpu_share >= FULL) {
        outcome.warnings.push(
            "the knee may be the load's: it had no time left at the first rate beyond the bound; give it more \
             CPUs (--load-cpus)"
                .into(),
        );
    }
    outcome.steps = steps;
    outcome.copied_bytes_ratio = run.copied_ratio(0, session.sent_bytes())?;
    Ok(outcome)
}

fn step(rate: u64, measured: &Measured, bound_us: f64) -> Step {
    let latency = measured.flows[0].latencies().0.latency().unwrap_or_default();
    let reached = measured.records_per_s() >= REACHED * rate as f64 * measured.flows.len() as f64;
    Step {
        rate_per_s: rate,
        records_per_s: measured.records_per_s(),
        latency_us: latency,
        server_cpu_ns_per_record: measured.cpu_ns_per_record(),
        load_cpu_share: measured.load_cpu_share(),
        within_bound: reached && latency.count > 0 && latency.p99 <= bound_us,
    }
}

/// Which rate comes next.
struct Search {
    factor: f64,
    within: Option<u64>,
    beyond: Option<u64>,
    refined: usize,
}

impl Search {
    fn note(&mut self, rate: u64, within: bool) {
        if within {
            self.within = self.within.max(Some(rate));
        } else {
            self.beyond = Some(self.beyond.map_or(rate, |beyond| beyond.min(rate)));
        }
    }

    /// Up by the factor until the bound is passed, then between the two sides.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // rates are far below 2^52
    fn next(&mut self, rate: u64) -> Option<u64> {
        let Some(beyond) = self.beyond else {
            return Some((rate as f64 * self.factor).ceil() as u64);
        };
        let within = self.within?;
        self.refined += 1;
        let between = (within as f64 * beyond as f64).sqrt().round() as u64;
        (self.refined <= REFINEMENTS && between > within && between < beyond).then_some(between)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates that are tried when those up to `knee` are good.
    fn tried(knee: u64) -> (Vec<u64>, Option<u64>, Option<u64>) {
        let mut search = Search { factor: 2.0, within: None, beyond: None, refined: 0 };
        let (mut rates, mut next) = (Vec::new(), Some(1_000));
        while let Some(rate) = next {
            rates.push(rate);
            search.note(rate, rate <= knee);
            next = search.next(rate);
        }
        (rates, search.within, search.beyond)
    }

    #[test]
    fn the_knee_is_closed_in_on() {
        assert_eq!(tried(999), (vec![1_000], None, Some(1_000)), "the first is too much already");
        let (rates, within, beyond) = tried(5_000);
        assert_eq!(rates[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(rates.len(), 4 + REFINEMENTS);
        let (within, beyond) = (within.expect("found"), beyond.expect("found"));
        assert!(
            within <= 5_000 && beyond > 5_000 && (beyond as f64) < within as f64 * 1.1,
            "{within} {beyond}"
        );
    }
}
