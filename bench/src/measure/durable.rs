//! Commits of a log: the server's, and in the same run what the disk does by itself.

use std::time::Duration;

use super::Run;
use crate::disk::Recycled;
use crate::engine::{Measured, Session, Window};
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::outcome::{DurableOutcome, Latency, Outcome};
use crate::progress::Progress;
use crate::scenario::{Ack, Drive, Work};
use crate::subject::{Log, LogCounters, Subject};

/// The raw loop runs as long.
const RAW: Duration = Duration::from_millis(1_500);
/// Blocks that are written, and synced, before and after the low rate each.
const BLOCKS: usize = 400;
const PACED_BLOCKS: usize = 150;
/// Between the load and what is measured at rest: files that are to be recycled are made ready meanwhile.
const REST: Duration = Duration::from_secs(1);
/// The low rate, at which each record is a commit of its own on any disk, and how long it lasts at most.
const LOW_RATE_PER_S: u64 = 200;
const LOW_RATE_SECONDS_MAX: f64 = 3.0;

pub(super) fn measure<S: Subject>(run: &Run<S>, progress: &mut Progress) -> Result<Outcome, Failure> {
    let log = run.log()?;
    let (process, window) = (run.subject.process(), run.work.window());
    let whole = window.whole();
    let mut session = Session::open(run.subject.dialect(), run.work, run.load_cpus(), false)?;
    // The warm-up is a window of its own, so that the server's counters can be read behind it.
    let part = |length| Window { warm_up: Duration::ZERO, length, ..window.clone() };
    if !window.warm_up.is_zero() {
        session.window(process, &part(window.warm_up), &mut |passed| progress.at(passed, whole))?;
    }
    let before = log.counters()?;
    let measured = session.window(process, &part(window.length), &mut |passed| {
        progress.at(window.warm_up + passed, whole);
    })?;
    let commits = log.counters()?.since(&before);
    let mut outcome = run.outcome(&measured)?;
    run.finish(session, &mut outcome)?;
    progress.say("the disk by itself");
    outcome.durable = Some(beside(run, log, &commits, &measured, &outcome)?);
    Ok(outcome)
}

/// What the disk does by itself, and the server at a low rate.
fn beside<S: Subject>(
    run: &Run<S>,
    log: &Log,
    commits: &LogCounters,
    measured: &Measured,
    outcome: &Outcome,
) -> Result<DurableOutcome, Failure> {
    let synced = run.work.ack != Some(Ack::Written);
    let counted = if synced { commits.syncs + commits.durable_writes } else { commits.writes };
    let (seconds, records) = (measured.elapsed_ns as f64 / 1e9, outcome.records.max(1) as f64);
    let commit_bytes = commits.written_bytes / counted.max(1.0);
    let commit_us = seconds * 1e6 / counted.max(1.0);
    let failed = |source| Failure::Host {
        what: format!("the disk of {} cannot be measured", log.directory().display()),
        source,
    };
    let mut disk = Recycled::make(log.directory().parent().unwrap_or(log.directory())).map_err(failed)?;
    let raw = disk.commits(commit_bytes, RAW, synced).map_err(failed)?;
    std::thread::sleep(REST);
    let (mut blocks, mut paced) = (Histogram::default(), Histogram::default());
    let pause = Duration::from_secs(1) / u32::try_from(LOW_RATE_PER_S).expect("a small number");
    disk.block_latencies(BLOCKS, Duration::ZERO, synced, &mut blocks).map_err(failed)?;
    disk.block_latencies(PACED_BLOCKS, pause, synced, &mut paced).map_err(failed)?;
    let low = low_rate(run)?;
    let received = if run.subject.received_only(true) { low_rate(run)? } else { Measured::default() };
    run.subject.received_only(false);
    disk.block_latencies(PACED_BLOCKS, pause, synced, &mut paced).map_err(failed)?;

    let log_bytes_per_record = commits.written_bytes / records;
    let raw_records_per_s = raw.bytes_per_s() / log_bytes_per_record.max(1.0);
    let of = |measured: &Measured| measured.flows.first().and_then(|flow| flow.ack.latency());
    let (disk_us, disk_paced_us) = (blocks.latency(), paced.latency());
    let (low_rate_us, low_rate_received_us) = (of(&low), of(&received));
    let commit_at_low_rate_us = low_rate_us.zip(low_rate_received_us).map(|(low, way)| low.p50 - way.p50);
    let over = |disk: Option<Latency>| Some(commit_at_low_rate_us? / disk?.p50.max(1e-9));
    Ok(DurableOutcome {
        directory: log.directory().display().to_string(),
        direct: disk.is_direct(),
        writes_per_s: commits.writes / seconds,
        syncs_per_s: commits.syncs / seconds,
        commit_bytes,
        commit_us,
        sync_us: (commits.syncs > 0.0).then(|| commits.sync_seconds * 1e6 / commits.syncs),
        log_bytes_per_record,
        raw_bytes_per_s: raw.bytes_per_s(),
        raw_records_per_s,
        rate_over_raw: outcome.records_per_s / raw_records_per_s.max(1e-9),
        ack_p99_commits: outcome.latency_us.map(|latency| latency.p99 / commit_us.max(1e-9)),
        disk_us,
        disk_paced_us,
        low_rate_per_s: LOW_RATE_PER_S,
        low_rate_us,
        low_rate_received_us,
        commit_at_low_rate_us,
        commit_over_disk: over(disk_us),
        commit_over_paced_disk: over(disk_paced_us),
    })
}

/// One record at a time at a low rate, each acknowledged by itself.
fn low_rate<S: Subject>(run: &Run<S>) -> Result<Measured, Failure> {
    let mut flow = run.work.flows[0].clone();
    (flow.batch_bytes, flow.connections, flow.consumers, flow.rate_per_s) = (0, 1, 0, LOW_RATE_PER_S);
    let work = Work {
        drive: Drive::Open,
        seconds: run.work.seconds.min(LOW_RATE_SECONDS_MAX),
        warm_up_seconds: 0.0,
        flows: vec![flow],
        ..run.work.clone()
    };
    let mut session = Session::open(run.subject.dialect(), &work, run.load_cpus(), false)?;
    let measured = session.window(run.subject.process(), &work.window(), &mut |_| ())?;
    session.settle()?;
    Ok(measured)
}
