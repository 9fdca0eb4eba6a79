//! The ceiling: what a plain program spends on moving the same bytes.
//!
//! The bare programs run as processes of this same binary, on the server's CPUs, under the same load. They
//! have no frames, checks, credit or acknowledgements; what the server spends beyond them is what its
//! protocol costs.

pub(crate) mod bare;
mod copying;
mod server;
#[cfg(test)]
mod tests;

use crate::failure::Failure;
use crate::host::Placement;
use crate::measure::{measure, prepare};
use crate::outcome::{LimitOutcome, Outcome};
use crate::progress::Progress;
use crate::scenario::{Drive, Kind, Work};

pub use bare::{BareIo, Role};
use server::BareServer;

/// A window of the limit beside a server's is at least this long.
const SECONDS_MIN: f64 = 0.5;

/// The bare program for a work: a sink, a relay where there are consumers, a request-reply loop where every
/// batch is acknowledged.
///
/// # Errors
/// No bare program does such a work.
pub fn role(work: &Work) -> Result<Role, Failure> {
    match work.drive {
        Drive::Idle | Drive::Crossing | Drive::Storm | Drive::Durable | Drive::Catchup | Drive::Recovery => {
            Err(Failure::Unsupported(format!(
                "`{}` has no limit: a bare program has no sessions to keep or begin, no shards to cross and no log",
                work.scenario
            )))
        }
        _ if work.flows.iter().any(|flow| flow.consumers > 0) => Ok(Role::Relay),
        _ if work.acks.every_batches <= 1 => Ok(Role::Answer),
        _ => Ok(Role::Sink),
    }
}

/// Measures a bare program.
///
/// # Errors
/// There is none for this work, or it does not run here.
pub fn once(
    work: &Work,
    io: BareIo,
    placement: &Placement,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    let role = role(work)?;
    prepare(work)?;
    if role == Role::Answer {
        measure(work, placement, &BareServer::<true>::start(role, io, work, placement)?, progress)
    } else {
        measure(work, placement, &BareServer::<false>::start(role, io, work, placement)?, progress)
    }
}

/// Measures a server between two windows of the bare program on the same interface, each half as long, so
/// that a host that drifts drifts for both; sets the outcome's `limit`.
///
/// # Errors
/// Either cannot be measured.
pub fn beside(
    work: &Work,
    io: BareIo,
    placement: &Placement,
    server: impl FnOnce() -> Result<Outcome, Failure>,
) -> Result<Outcome, Failure> {
    let half = Work { seconds: (work.seconds / 2.0).max(SECONDS_MIN), ..work.clone() };
    let label = format!("{} on bare {}", work.scenario, io.name());
    let copy_before = copy_ns_per_record(work, placement)?;
    let before = once(&half, io, placement, &mut Progress::new(&label))?;
    let mut outcome = server()?;
    let after = once(&half, io, placement, &mut Progress::new(&label))?;
    let copies = [copy_before, copy_ns_per_record(work, placement)?];
    outcome.limit = Some(limit_of(&outcome, &[before, after], &copies));
    Ok(outcome)
}

/// What a copy of a record costs on the server's CPU; `None` where records are not kept.
///
/// # Errors
/// It cannot be measured there.
pub fn copy_ns_per_record(work: &Work, placement: &Placement) -> Result<Option<f64>, Failure> {
    let Some(flow) = work.main_flow().filter(|_| work.kind == Kind::Memory) else { return Ok(None) };
    let ns = copying::ns_per_byte(flow.batch_bytes.max(flow.payload_bytes), placement)?;
    Ok(Some(ns * flow.payload_bytes as f64))
}

/// What windows of the bare program, and the copies measured beside them, come to beside a server's outcome.
fn limit_of(outcome: &Outcome, windows: &[Outcome], copies: &[Option<f64>]) -> LimitOutcome {
    let mean = |read: fn(&Outcome) -> f64| windows.iter().map(read).sum::<f64>() / windows.len() as f64;
    let deliveries = windows.iter().all(|window| window.server_cpu_ns_per_delivery.is_some());
    let quickest = windows.iter().filter_map(|window| window.latency_us);
    let per_record = mean(|window| window.server_cpu_ns_per_record);
    let copies: Option<Vec<f64>> = copies.iter().copied().collect();
    let copy = copies.map(|copies| copies.iter().sum::<f64>() / copies.len() as f64);
    LimitOutcome {
        name: windows.first().map_or(String::new(), |window| format!("{} {}", window.io, window.subject)),
        server_cpu_ns_per_record: per_record,
        server_cpu_ns_per_delivery: deliveries.then(|| mean(Outcome::cpu_ns)),
        ratio: outcome.cpu_ns() / mean(Outcome::cpu_ns).max(1e-9),
        memcpy_ns_per_record: copy,
        ratio_with_memcpy: copy.map(|copy| outcome.server_cpu_ns_per_record / (per_record + copy).max(1e-9)),
        latency_us: quickest.min_by(|a, b| a.p99.total_cmp(&b.p99)),
    }
}
