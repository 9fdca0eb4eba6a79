//! A rate that rises until the tail passes a bound twice in turn, and a few rates between the last good and the first
//! bad one.

use super::Run;
use super::judge::{FULL, REACHED};
use crate::engine::{Measured, Session, Window};
use crate::failure::Failure;
use crate::outcome::{Knee, Outcome, Step};
use crate::progress::Progress;
use crate::subject::Subject;

/// Steps at most: far beyond what any server takes.
const STEPS_MAX: usize = 60;
/// No rate below this is tried, in records a second.
const RATE_LEAST: u64 = 100;
/// Rates tried between the two sides of the knee; each halves what is not known.
const REFINEMENTS: usize = 3;

pub(super) fn measure<S: Subject>(run: &Run<S>, progress: &mut Progress) -> Result<Outcome, Failure> {
    let mut session = Session::open(run.subject.dialect(), run.work, run.load_cpus(), false)?;
    let mut search = Search { factor: run.work.step_factor, ..Search::default() };
    let (mut steps, mut best) = (Vec::new(), None);
    let mut rate = run.work.flows[0].rate_per_s;
    for _ in 0..STEPS_MAX {
        progress.say(&format!("{rate}/s"));
        let window = Window { rates_per_s: vec![rate; run.work.flows.len()], ..run.work.window() };
        let measured = session.window(run.subject.process(), &window, &mut |_| ())?;
        let step = step(rate, &measured, run.work.bound_us);
        let within = step.within_bound;
        // Rates within the bound only rise; as long as there is none, the lowest says most.
        if within || search.within.is_none() {
            best = Some((measured, rate));
        }
        steps.push(step);
        match search.next(rate, within) {
            Some(next) => rate = next,
            None => break,
        }
    }
    let (measured, rate) = best.expect("at least one step is made");
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
    run.finish(session, &mut outcome)?;
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
#[derive(Debug, Default)]
struct Search {
    factor: f64,
    within: Option<u64>,
    beyond: Option<u64>,
    /// A rate whose first window was beyond the bound: what disturbs a host for a moment is no knee.
    doubted: Option<u64>,
    refined: usize,
}

impl Search {
    /// Takes note of a window, and says which rate the next one has: the same once more where its tail was too long,
    /// else up by the factor until the bound is passed (or down where that was so at once), then between the two
    /// sides.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // rates are far below 2^52
    fn next(&mut self, rate: u64, within: bool) -> Option<u64> {
        if within {
            self.within = self.within.max(Some(rate));
        } else if self.doubted.replace(rate) != Some(rate) {
            return Some(rate);
        } else {
            self.beyond = Some(self.beyond.map_or(rate, |beyond| beyond.min(rate)));
        }
        let (within, beyond) = match (self.within, self.beyond) {
            (_, None) => return Some((rate as f64 * self.factor).ceil() as u64),
            (None, Some(beyond)) => {
                let less = (beyond as f64 / self.factor) as u64;
                return (less >= RATE_LEAST).then_some(less);
            }
            (Some(within), Some(beyond)) => (within, beyond),
        };
        self.refined += 1;
        let between = (within as f64 * beyond as f64).sqrt().round() as u64;
        (self.refined <= REFINEMENTS && between > within && between < beyond).then_some(between)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates that are tried when those up to `knee` are good and the window of number `disturbed` is not.
    fn tried(knee: u64, disturbed: Option<usize>) -> (Vec<u64>, Search) {
        let mut search = Search { factor: 2.0, ..Search::default() };
        let (mut rates, mut next) = (Vec::new(), Some(1_000));
        while let Some(rate) = next {
            let within = rate <= knee && disturbed != Some(rates.len());
            rates.push(rate);
            next = search.next(rate, within);
        }
        (rates, search)
    }

    #[test]
    fn the_knee_is_closed_in_on() {
        let (rates, search) = tried(5_000, None);
        assert_eq!(rates[..5], [1_000, 2_000, 4_000, 8_000, 8_000]);
        let (within, beyond) = (search.within.expect("found"), search.beyond.expect("found"));
        assert!(
            within <= 5_000 && beyond > 5_000 && (beyond as f64) < within as f64 * 1.1,
            "{within} {beyond}"
        );
        assert!(rates.len() <= 5 + 2 * REFINEMENTS, "{rates:?}");
    }

    #[test]
    fn a_first_rate_that_is_too_high_is_gone_down_from() {
        let (rates, search) = tried(300, None);
        assert_eq!(rates[..5], [1_000, 1_000, 500, 500, 250]);
        assert!(search.within.is_some_and(|within| within <= 300), "{search:?}");
        let (rates, search) = tried(0, None);
        assert_eq!((search.within, search.beyond), (None, rates.last().copied()), "it ends");
    }

    #[test]
    fn one_disturbed_window_is_no_knee() {
        let (calm, _) = tried(5_000, None);
        let (disturbed, search) = tried(5_000, Some(1));
        assert_eq!(disturbed[..3], [1_000, 2_000, 2_000]);
        assert_eq!(disturbed.len(), calm.len() + 1);
        assert!(search.beyond.is_some_and(|beyond| beyond > 5_000), "{search:?}");
    }
}
