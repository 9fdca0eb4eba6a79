//! The same rate for long, interval by interval.

use std::time::Duration;

use super::Run;
use crate::engine::{Measured, Session};
use crate::failure::Failure;
use crate::outcome::{DriftOutcome, Interval, Outcome};
use crate::progress::Progress;
use crate::stats::drift;
use crate::subject::Subject;

pub(super) fn measure<S: Subject>(run: &Run<S>, progress: &mut Progress) -> Result<Outcome, Failure> {
    let (work, process) = (run.work, run.subject.process());
    let mut session = Session::open(run.subject.dialect(), work, run.load_cpus(), false)?;
    let mut window = work.window();
    let whole = window.whole();
    window.length /= work.intervals;
    let (mut all, mut intervals, mut passed_before) = (Measured::default(), Vec::new(), Duration::ZERO);
    for _ in 0..work.intervals {
        let measured =
            session.window(process, &window, &mut |passed| progress.at(passed_before + passed, whole))?;
        passed_before += window.whole();
        window.warm_up = Duration::ZERO;
        intervals.push(Interval {
            at_s: (all.elapsed_ns + measured.elapsed_ns) as f64 / 1e9,
            records_per_s: measured.records_per_s(),
            server_rss_bytes: process.rss_bytes()?,
            server_cpu_ns_per_record: measured.cpu_ns_per_record(),
            latency_us: measured.flows[0].latencies().0.latency().unwrap_or_default(),
        });
        all.append(measured);
    }
    let mut outcome = run.outcome(&all)?;
    outcome.drift = drift_of(&intervals);
    outcome.intervals = intervals;
    run.finish(session, &mut outcome)?;
    Ok(outcome)
}

fn drift_of(intervals: &[Interval]) -> Option<DriftOutcome> {
    let of = |value: fn(&Interval) -> f64| {
        let points: Vec<(f64, f64)> =
            intervals.iter().map(|interval| (interval.at_s, value(interval))).collect();
        drift(&points).map(|drift| drift.relative())
    };
    Some(DriftOutcome {
        server_rss: of(|interval| interval.server_rss_bytes as f64)?,
        records_per_s: of(|interval| interval.records_per_s)?,
        p99: of(|interval| interval.latency_us.p99)?,
        server_cpu_ns_per_record: of(|interval| interval.server_cpu_ns_per_record)?,
    })
}

impl Measured {
    /// Adds what came after.
    pub(super) fn append(&mut self, other: Measured) {
        self.missed += other.missed;
        self.elapsed_ns += other.elapsed_ns;
        self.server_cpu_ns += other.server_cpu_ns;
        self.busy_ns += other.busy_ns;
        self.chances += other.chances;
        self.late += other.late;
        self.blocked += other.blocked;
        if self.flows.is_empty() {
            self.flows = other.flows;
            return;
        }
        for (flow, other) in self.flows.iter_mut().zip(other.flows) {
            flow.records += other.records;
            flow.delivered += other.delivered;
            for (units, more) in flow.units.iter_mut().zip(other.units) {
                *units += more;
            }
            flow.ack.merge(&other.ack);
            flow.delivery.merge(&other.delivery);
        }
    }
}
