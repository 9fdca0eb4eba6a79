//! A server's start on a log without its snapshots and indexes.

use std::time::{Duration, Instant};

use uringest::config::parse_bytes;
use uringest::limits::LOG_RECOVERY_BYTES_DEFAULT;

use super::catchup::catch_up;
use super::{Run, prepare};
use crate::disk;
use crate::engine::{Measured, Session, Window};
use crate::failure::Failure;
use crate::host::Placement;
use crate::outcome::{Outcome, RecoveryOutcome};
use crate::progress::Progress;
use crate::scenario::Work;
use crate::subject::{Log, Subject, Uringest, UringestOptions};

/// The log that is recovered, at most, and at most such a part of what the topic keeps, so that nothing goes meanwhile.
const LOG_BYTES: u64 = 1024 * 1024 * 1024;
const PART_OF_RETENTION: u64 = 4;
/// A log that does not grow for so long is not written.
const STILL_MAX: Duration = Duration::from_secs(10);
/// What recovery is compared with where the disk is faster.
const BOUND_BYTES_PER_S: f64 = 1e9;
/// Which setting is the budget.
const BUDGET: &str = "storage.recovery_buffer_bytes";

/// Fills a log, and starts its server again: once on what it left, once without what spares it the reading.
///
/// # Errors
/// The server breaks, or does not start again.
pub fn recovery(
    options: &UringestOptions,
    work: &Work,
    placement: &Placement,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    prepare(work)?;
    let mut server = Uringest::start(options, work, placement)?;
    let (mut outcome, log_bytes) = filled(&Run { work, placement, subject: &server }, progress)?;
    let log = server.log().cloned().ok_or_else(|| Failure::Unsupported("there is no log".into()))?;

    progress.say("a start with the snapshot");
    let with_snapshot = server.restart(|| forget(&log))?;
    let peak_rss_with_snapshot_bytes = server.process().peak_rss_bytes()?;
    progress.say("a start without");
    let start = server.restart(|| {
        remove(&log)?;
        forget(&log)
    })?;
    let peak_rss_bytes = server.process().peak_rss_bytes()?;
    progress.say("reading");
    let files = segments(&log)?;
    files.iter().try_for_each(|file| disk::forget(file)).map_err(|source| failed(&log, source))?;
    let (file_bytes, raw_ns) = disk::read_all(&files).map_err(|source| failed(&log, source))?;
    let read = catch_up(&Run { work, placement, subject: &server })?;

    let recovery_seconds = start.saturating_sub(with_snapshot).as_secs_f64();
    let bytes_per_s = log_bytes as f64 / recovery_seconds.max(1e-9);
    let raw_bytes_per_s = file_bytes as f64 * 1e9 / raw_ns.max(1) as f64;
    outcome.recovery = Some(RecoveryOutcome {
        log_bytes,
        segments: files.len(),
        file_bytes,
        start_seconds: start.as_secs_f64(),
        start_with_snapshot_seconds: with_snapshot.as_secs_f64(),
        recovery_seconds,
        bytes_per_s,
        raw_bytes_per_s,
        over_bound: bytes_per_s / raw_bytes_per_s.min(BOUND_BYTES_PER_S),
        peak_rss_bytes,
        peak_rss_with_snapshot_bytes,
        budget_bytes: budget(options),
        records_read: read.delivered(),
        records_acknowledged: outcome.records,
    });
    let RecoveryOutcome { records_read, records_acknowledged, .. } =
        outcome.recovery.clone().unwrap_or_default();
    if records_read != records_acknowledged {
        let what = format!(
            "{records_acknowledged} records were acknowledged, and {records_read} are there afterwards"
        );
        outcome.warnings.push(what);
    }
    outcome.judge();
    Ok(outcome)
}

/// Publishes until the log is as long as it should be; the outcome of all of it, and the log's bytes.
fn filled<S: Subject>(run: &Run<S>, progress: &mut Progress) -> Result<(Outcome, u64), Failure> {
    let log = run.log()?;
    let work = run.work;
    let wanted = if work.retention_bytes == 0 {
        LOG_BYTES
    } else {
        LOG_BYTES.min(work.retention_bytes / PART_OF_RETENTION)
    };
    let mut session = Session::open(run.subject.dialect(), work, run.load_cpus(), false)?;
    let window = Window { warm_up: Duration::ZERO, ..work.window() };
    let mut all = Measured::default();
    let mut written = 0.0;
    let mut grown = Instant::now();
    while written < wanted as f64 {
        all.append(session.window(run.subject.process(), &window, &mut |_| ())?);
        let now = log.counters()?.written_bytes;
        if now > written {
            grown = Instant::now();
        } else if grown.elapsed() > STILL_MAX {
            return Err(Failure::Load(std::io::Error::other("nothing is written to the log")));
        }
        written = now;
        progress.say(&format!("{:.0} of {} MiB", written / 1_048_576.0, wanted >> 20));
    }
    let mut outcome = run.outcome(&all)?;
    let acknowledged = session.sent_records();
    run.finish(session, &mut outcome)?;
    outcome.records = acknowledged - outcome.unacknowledged;
    let bytes = log.counters()?.written_bytes;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count of bytes
    Ok((outcome, bytes as u64))
}

fn segments(log: &Log) -> Result<Vec<std::path::PathBuf>, Failure> {
    log.files(|name| name.ends_with(".seg"))
}

/// Removes all that spares a start the reading of the log.
fn remove(log: &Log) -> Result<(), Failure> {
    for file in log.files(|name| name.ends_with(".idx") || name.starts_with("snapshot"))? {
        std::fs::remove_file(&file).map_err(|source| failed(log, source))?;
    }
    Ok(())
}

/// Has the next start read from the disk.
fn forget(log: &Log) -> Result<(), Failure> {
    segments(log)?.iter().try_for_each(|file| disk::forget(file)).map_err(|source| failed(log, source))
}

fn failed(log: &Log, source: std::io::Error) -> Failure {
    Failure::Host { what: format!("the log in {} cannot be worked on", log.directory().display()), source }
}

fn budget(options: &UringestOptions) -> u64 {
    let set = options.settings.iter().rev().find_map(|setting| {
        let (name, value) = setting.split_once('=')?;
        (name == BUDGET).then(|| parse_bytes(value).ok())?
    });
    set.unwrap_or(LOG_RECOVERY_BYTES_DEFAULT)
}
