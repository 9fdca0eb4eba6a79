//! The same rate twice: by itself, and while many connections come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Run;
use crate::engine::{Measured, Passed, Session, Storm, Window, occupy};
use crate::failure::Failure;
use crate::outcome::{Outcome, StormOutcome};
use crate::progress::Progress;
use crate::subject::Subject;

/// The load runs in pieces as long as this until the storm has passed: at most so much of it is without.
const PIECE: Duration = Duration::from_millis(250);
/// A storm that takes longer is given up.
const LONGEST: Duration = Duration::from_secs(60);

pub(super) fn measure<S: Subject>(run: &Run<S>, progress: &mut Progress) -> Result<Outcome, Failure> {
    let (work, process) = (run.work, run.subject.process());
    let mut session = Session::open(run.subject.dialect(), work, run.load_cpus(), false)?;
    let window = Window { rests: true, ..work.window() };
    let whole = window.whole() * 2;
    let over = AtomicBool::new(false);
    let calm = std::thread::scope(|scope| {
        for _ in run.load_cpus().all() {
            scope.spawn(|| occupy(&over));
        }
        let calm = session.window(process, &window, &mut |passed| progress.at(passed, whole));
        over.store(true, Ordering::Relaxed);
        calm
    })?;

    let busy: usize = work.flows.iter().map(|flow| flow.connections + flow.consumers).sum();
    let storm = Storm::new(run.subject.dialect(), process, work.handshakes, busy);
    let piece = Window { warm_up: Duration::ZERO, length: PIECE, ..window };
    let measured = std::thread::scope(|scope| {
        for _ in 0..work.handshakes_at_once.min(work.handshakes) {
            scope.spawn(|| storm.run());
        }
        let measured = beside(&storm, &mut session, |session| {
            progress.say(&format!("{} of {} handshakes", storm.count(), work.handshakes));
            session.window(process, &piece, &mut |_| ())
        });
        storm.give_up();
        measured
    })?;
    let mut outcome = run.outcome(&measured)?;
    outcome.storm = Some(outcome_of(work.handshakes, storm.passed(), &calm, &measured));
    outcome.warnings.extend(outcome.storm.as_ref().and_then(StormOutcome::warning));
    run.finish(session, &mut outcome)?;
    Ok(outcome)
}

/// Runs pieces of the load until the storm has passed.
fn beside<D: crate::dialect::Dialect>(
    storm: &Storm<'_, D>,
    session: &mut Session<D>,
    mut piece: impl FnMut(&mut Session<D>) -> Result<Measured, Failure>,
) -> Result<Measured, Failure> {
    let begun = Instant::now();
    let mut all = piece(session)?;
    while !storm.is_over() && begun.elapsed() < LONGEST {
        all.append(piece(session)?);
    }
    Ok(all)
}

fn outcome_of(wanted: usize, passed: Passed, calm: &Measured, stormy: &Measured) -> StormOutcome {
    let latency = |measured: &Measured| measured.flows.first()?.latencies().0.latency();
    let (calm_latency, latency) = (latency(calm), latency(stormy));
    let seconds = passed.elapsed_ns as f64 / 1e9;
    // What the load takes by itself, in as long a time.
    let besides = calm.server_cpu_ns as f64 / calm.elapsed_ns.max(1) as f64 * passed.elapsed_ns as f64;
    StormOutcome {
        handshakes: passed.done,
        failed: wanted - passed.done,
        first_failure: passed.first_failure,
        seconds,
        handshakes_per_s: passed.done as f64 / seconds.max(1e-9),
        server_cpu_us_per_handshake: (passed.server_cpu_ns as f64 - besides)
            / 1e3
            / passed.done.max(1) as f64,
        handshake_us: passed.took,
        calm_latency_us: calm_latency,
        calm_server_cpu_ns_per_record: calm.cpu_ns_per_record(),
        p99_over_calm: latency.zip(calm_latency).map(|(latency, calm)| latency.p99 / calm.p99.max(1e-9)),
    }
}

impl StormOutcome {
    fn warning(&self) -> Option<String> {
        let why = self.first_failure.as_deref().unwrap_or("they were not made in time");
        (self.failed > 0).then(|| format!("{} connections of the storm failed: {why}", self.failed))
    }
}
