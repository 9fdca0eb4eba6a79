//! A consumer that begins where the log does, beside one at its end.

use std::time::{Duration, Instant};

use super::Run;
use crate::engine::{Measured, Session, Window};
use crate::failure::Failure;
use crate::outcome::{CatchupOutcome, Outcome};
use crate::progress::Progress;
use crate::scenario::{Flow, Work};
use crate::subject::Subject;

/// What is caught up with is read in windows as long as this, until so many in turn bring nothing more.
const PIECE: Duration = Duration::from_millis(50);
const QUIET_PIECES: usize = 20;
/// How long the first record may take, and the whole.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(120);
/// Before anything is measured so many times what the log keeps is published: from then on files are used again, and
/// none is made.
const FILLED: f64 = 1.3;
/// In windows as long as this.
const FILLING: Duration = Duration::from_millis(500);

pub(super) fn measure<S: Subject>(run: &Run<S>, progress: &mut Progress) -> Result<Outcome, Failure> {
    let log = run.log()?;
    let whole = run.work.window().whole() * 2;
    // Without consumers first: what taking in costs by itself.
    let alone = Work { flows: run.work.flows.iter().map(without_consumers).collect(), ..run.work.clone() };
    fill(run, &alone, progress)?;
    let (ingest, _) = window(run, &alone, &mut |passed| progress.at(passed, whole))?;
    let half = whole / 2;
    let (tail, session) = window(run, run.work, &mut |passed| progress.at(half + passed, whole))?;
    let mut outcome = run.outcome(&tail)?;
    run.finish(session, &mut outcome)?;

    progress.say("catching up");
    let before = log.counters()?;
    let caught = catch_up(run)?;
    let read_bytes = log.counters()?.since(&before).read_bytes;
    outcome.catchup = Some(outcome_of(run, &ingest, &tail, &caught, read_bytes));
    Ok(outcome)
}

/// Publishes until the log is as long as it becomes.
fn fill<S: Subject>(run: &Run<S>, work: &Work, progress: &mut Progress) -> Result<(), Failure> {
    let log = run.log()?;
    let wanted = work.retention_bytes as f64 * FILLED;
    let mut session = Session::open(run.subject.dialect(), work, run.load_cpus(), false)?;
    let window = Window { warm_up: Duration::ZERO, length: FILLING, ..work.window() };
    let begun = Instant::now();
    loop {
        let written = log.counters()?.written_bytes;
        if written >= wanted || begun.elapsed() > LONGEST {
            return session.settle().map(|_| ());
        }
        progress.say(&format!("filling: {:.0} of {:.0} MiB", written / 1_048_576.0, wanted / 1_048_576.0));
        session.window(run.subject.process(), &window, &mut |_| ())?;
    }
}

fn without_consumers(flow: &Flow) -> Flow {
    Flow { consumers: 0, ..flow.clone() }
}

fn window<S: Subject>(
    run: &Run<S>,
    work: &Work,
    told: &mut dyn FnMut(Duration),
) -> Result<(Measured, Session<S::Dialect>), Failure> {
    let mut session = Session::open(run.subject.dialect(), work, run.load_cpus(), false)?;
    let measured = session.window(run.subject.process(), &work.window(), told)?;
    Ok((measured, session))
}

/// Reads the log from its start to its end, and measures as long as something comes.
pub(super) fn catch_up<S: Subject>(run: &Run<S>) -> Result<Measured, Failure> {
    let flows = run.work.flows.iter().map(|flow| Flow { connections: 0, consumers: 1, ..flow.clone() });
    let work = Work { from_start: true, flows: flows.collect(), ..run.work.clone() };
    let mut session = Session::open(run.subject.dialect(), &work, run.load_cpus(), false)?;
    let rates_per_s = vec![0; work.flows.len()];
    let piece = Window { warm_up: Duration::ZERO, length: PIECE, rates_per_s, rests: false };
    let (begun, mut all, mut quiet) = (Instant::now(), Measured::default(), Vec::new());
    loop {
        let measured = session.window(run.subject.process(), &piece, &mut |_| ())?;
        let came = measured.delivered() + measured.missed;
        if came > 0 {
            // A pause in the middle counts; that behind the end does not.
            quiet.drain(..).for_each(|pause| all.append(pause));
            all.append(measured);
        } else if all.delivered() > 0 {
            quiet.push(measured);
            if quiet.len() == QUIET_PIECES {
                return Ok(all);
            }
        } else if begun.elapsed() > FIRST {
            return Err(Failure::Load(std::io::Error::other("nothing of the log was delivered")));
        }
        if begun.elapsed() > LONGEST {
            return Err(Failure::Load(std::io::Error::other("the end of the log is never reached")));
        }
    }
}

fn outcome_of<S: Subject>(
    run: &Run<S>,
    ingest: &Measured,
    tail: &Measured,
    caught: &Measured,
    read_bytes: f64,
) -> CatchupOutcome {
    let (records, seconds) = (caught.delivered(), caught.elapsed_ns as f64 / 1e9);
    let flows = run.work.flows.iter().zip(&caught.flows);
    let payload: f64 = flows.map(|(flow, got)| got.delivered as f64 * flow.payload_bytes as f64).sum();
    let each = caught.server_cpu_ns as f64 / records.max(1) as f64;
    let taking_in = ingest.cpu_ns_per_record();
    let deliver = tail.server_cpu_ns as f64 / tail.delivered().max(1) as f64;
    let passing_on = deliver - taking_in * tail.records() as f64 / tail.delivered().max(1) as f64;
    CatchupOutcome {
        records,
        seconds,
        records_per_s: records as f64 / seconds.max(1e-9),
        bytes_per_s: payload / seconds.max(1e-9),
        server_cpu_ns_per_record: each,
        read_bytes_ratio: read_bytes / payload.max(1.0),
        ingest_server_cpu_ns_per_record: taking_in,
        deliver_server_cpu_ns_per_delivery: deliver,
        tail_server_cpu_ns_per_record: passing_on,
        over_tail: (passing_on > 0.0).then(|| each / passing_on),
        over_deliver: each / deliver.max(1e-9),
    }
}

impl Measured {
    pub(super) fn delivered(&self) -> u64 {
        self.flows.iter().map(|flow| flow.delivered).sum()
    }
}
