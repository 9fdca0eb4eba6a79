//! The same work twice on one server: connections on the shard of their partition, then on the other one.

use std::time::Duration;

use super::Run;
use crate::engine::Session;
use crate::failure::Failure;
use crate::outcome::{CrossingOutcome, Outcome};
use crate::progress::Progress;
use crate::subject::Subject;

pub(super) fn measure<S: Subject>(run: &Run<S>, progress: &mut Progress) -> Result<Outcome, Failure> {
    let (own, _) = once(run, false, progress)?;
    let copied_before = run.subject.copied_bytes()?.unwrap_or(0);
    let (mut outcome, sent_bytes) = once(run, true, progress)?;
    outcome.copied_bytes_ratio = run.copied_ratio(copied_before, sent_bytes)?;
    outcome.missed += own.missed;
    outcome.unacknowledged += own.unacknowledged;
    outcome.undelivered += own.undelivered;
    outcome.refused_batches += own.refused_batches;
    outcome.crossing = Some(CrossingOutcome {
        own_server_cpu_ns_per_record: own.server_cpu_ns_per_record,
        cpu_ratio: outcome.server_cpu_ns_per_record / own.server_cpu_ns_per_record.max(1e-9),
        own_records_per_s: own.records_per_s,
        own_latency_us: own.latency_us,
    });
    Ok(outcome)
}

/// One of the two, and the bytes that it sent.
fn once<S: Subject>(run: &Run<S>, crossed: bool, progress: &mut Progress) -> Result<(Outcome, u64), Failure> {
    let mut session = Session::open(run.subject.dialect(), run.work, run.load_cpus(), crossed)?;
    let window = run.work.window();
    let whole = window.whole() * 2;
    let before = if crossed { window.whole() } else { Duration::ZERO };
    let measured =
        session.window(run.subject.process(), &window, &mut |passed| progress.at(before + passed, whole))?;
    let mut outcome = run.outcome(&measured)?;
    let sent_bytes = session.sent_bytes();
    outcome.settle(session.settle()?);
    Ok((outcome, sent_bytes))
}
