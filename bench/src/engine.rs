//! The load: connections, what is sent when, and what is counted.
//!
//! A [`Session`] owns every connection of a work, dealt out to one [`team`] for each CPU of the load. A
//! [`Window`] runs the load on all teams at once, first to warm up and then measured; a session may have many.
//! Between windows nothing is sent or read. At the end a session is [settled](Session::settle): everything sent has to
//! have arrived.
//!
//! A team is one thread that goes over its sockets without ever blocking in one. It knows how much of its time it
//! had something to do: that share, not the CPU time it spins away, says whether the load was the bottleneck.

mod lane;
mod pace;
mod ready;
mod rest;
mod storm;
mod tap;
mod team;
#[cfg(test)]
mod tests;

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use crate::cpus::{CpuList, pin_to};
use crate::dialect::{Dialect, Producer, Role, WRITE_BYTES};
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::host::now_ns;
use crate::scenario::{Drive, Work};
use crate::subject::Process;

use lane::Lane;
use pace::Pace;
use rest::Rest;
use tap::Tap;
use team::Team;

pub use rest::Settled;
pub(crate) use storm::{Passed, Storm, occupy};

/// The teams begin together, a moment after they were started.
const HEAD_START_NS: u64 = 2_000_000;
/// How often progress is told of.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// A time in which the load runs.
#[derive(Debug, Clone)]
pub struct Window {
    /// Before the measured part.
    pub warm_up: Duration,
    /// The measured part.
    pub length: Duration,
    /// Records a second of each flow; 0 for as many as possible.
    pub rates_per_s: Vec<u64>,
    /// Between its times the load sleeps, so that what else is on its CPUs can run, and does not look in vain.
    pub rests: bool,
}

/// What one flow did in a window.
#[derive(Debug, Clone, Default)]
pub struct FlowMeasured {
    /// Records the server took: acknowledged where the load is bounded by that, else sent.
    pub records: u64,
    /// Records consumers read.
    pub delivered: u64,
    /// Batches of each connection.
    pub units: Vec<u64>,
    /// Records in a batch.
    pub unit_records: u64,
    /// From sending (or when it was due) to the acknowledgement.
    pub ack: Histogram,
    /// From sending (or when it was due) to reading.
    pub delivery: Histogram,
}

/// What a window measured.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// By flow.
    pub flows: Vec<FlowMeasured>,
    /// Records that the server said would not come.
    pub missed: u64,
    /// Length of the measured part, as it was.
    pub elapsed_ns: u64,
    /// User and system time of the server in it.
    pub server_cpu_ns: u64,
    /// Time in it in which the busiest team had something to do.
    pub busy_ns: u64,
    /// Batches that had a time; without times, turns of connections that send one batch a turn.
    pub chances: u64,
    /// Of `chances`, those sent more than a millisecond late because the load's thread was elsewhere.
    pub late: u64,
    /// Of `chances`, those sent as late, or turns let go by, because the server took no more.
    pub blocked: u64,
}

/// See the module.
pub struct Session<D: Dialect> {
    teams: Vec<Team<D>>,
    flows: usize,
    /// Producers of each flow, over all teams.
    connections: Vec<usize>,
    drive: Drive,
    load_cpus: CpuList,
}

impl<D: Dialect> Session<D> {
    /// Makes every connection of the work, consumers first, so that they miss nothing.
    ///
    /// # Errors
    /// The server refuses one.
    pub fn open(dialect: &D, work: &Work, load_cpus: &CpuList, crossed: bool) -> Result<Session<D>, Failure> {
        let consumers: Vec<u64> = work.flows.iter().map(|flow| flow.consumers as u64).collect();
        let mut teams: Vec<Team<D>> = load_cpus.all().iter().map(|_| Team::new(consumers.clone())).collect();
        let count = teams.len();
        let at_once = if work.drive.sends_at_will() { WRITE_BYTES } else { 1 };
        let mut number = 0;
        let mut role = |flow: usize| {
            number += 1;
            Role {
                flow,
                number: number - 1,
                payload_bytes: work.flows[flow].payload_bytes,
                batch_bytes: work.flows[flow].batch_bytes,
                units_at_once: at_once,
                in_flight: work.in_flight,
                acks: work.acks,
                from_start: work.from_start,
                crossed,
            }
        };
        for (flow, shape) in work.flows.iter().enumerate() {
            for i in 0..shape.consumers {
                let (link, consumer) = dialect.consumer(&role(flow)).map_err(Failure::Load)?;
                link.run_free().map_err(Failure::Load)?;
                teams[i % count].taps.push(Tap::new(link, consumer, flow));
            }
        }
        for (flow, shape) in work.flows.iter().enumerate() {
            for i in 0..shape.connections {
                let (link, producer) = dialect.producer(&role(flow)).map_err(Failure::Load)?;
                link.run_free().map_err(Failure::Load)?;
                teams[i % count].add_lane(Lane::new(link, producer, flow, i));
            }
        }
        teams.iter_mut().try_for_each(Team::ready).map_err(Failure::Load)?;
        Ok(Session {
            teams,
            flows: work.flows.len(),
            connections: work.flows.iter().map(|flow| flow.connections).collect(),
            drive: work.drive,
            load_cpus: load_cpus.clone(),
        })
    }

    /// Runs the load, and where it has times until all that was due has arrived. `told` is called now and then with the time that has passed since its begin.
    ///
    /// # Errors
    /// A connection broke, or the server refused something.
    pub fn window(
        &mut self,
        process: &Process,
        window: &Window,
        told: &mut dyn FnMut(Duration),
    ) -> Result<Measured, Failure> {
        let begin_ns = now_ns() + HEAD_START_NS;
        let from_ns = begin_ns + nanos(window.warm_up);
        let hours =
            team::Hours { begin_ns, from_ns, to_ns: from_ns + nanos(window.length), rests: window.rests };
        let paces: Vec<Pace> = (0..self.flows).map(|flow| self.pace(flow, window, hours)).collect();
        let rest = Rest::new(self.teams.len());
        let (done, parts) = std::sync::mpsc::channel();
        let measured = std::thread::scope(|scope| {
            for (team, cpu) in self.teams.iter_mut().zip(self.load_cpus.all()) {
                let (paces, rest, done) = (&paces, &rest, done.clone());
                scope.spawn(move || {
                    // The placement was tried before.
                    let _pinned = pin_to(&[*cpu]);
                    if hours.rests {
                        wake_in_time();
                    }
                    let _received = done.send(team.run(paces, hours, process, rest));
                });
            }
            drop(done);
            let mut measured = Vec::new();
            loop {
                match parts.recv_timeout(PROGRESS_EVERY) {
                    Ok(part) => measured.push(part),
                    Err(RecvTimeoutError::Timeout) => {
                        told(Duration::from_nanos(now_ns().saturating_sub(begin_ns)));
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            measured.into_iter().collect::<Result<Vec<_>, _>>()
        });
        Ok(merge(measured.map_err(Failure::Load)?, self.flows))
    }

    /// Bytes of all batches sent so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        let lanes = self.teams.iter().flat_map(|team| &team.lanes);
        lanes.map(|lane| lane.producer.sent() * lane.producer.unit_bytes()).sum()
    }

    /// Records of all batches sent so far.
    #[must_use]
    pub fn sent_records(&self) -> u64 {
        let lanes = self.teams.iter().flat_map(|team| &team.lanes);
        lanes.map(|lane| lane.producer.sent() * lane.producer.unit_records()).sum()
    }

    fn pace(&self, flow: usize, window: &Window, hours: team::Hours) -> Pace {
        let rate = window.rates_per_s[flow];
        let records = self.teams.iter().find_map(|team| team.unit_records(flow)).unwrap_or(1);
        match (self.drive, rate) {
            (Drive::Rounds, 0) => Pace::Turn,
            (_, 0) => Pace::AtWill,
            _ => Pace::timed((hours.begin_ns, hours.to_ns), rate, records, self.connections[flow]),
        }
    }
}

impl Drive {
    /// Whether a write takes as many batches as fit, and not one.
    fn sends_at_will(self) -> bool {
        matches!(self, Drive::Saturate | Drive::Crossing) || self.is_about_the_log()
    }
}

/// Has the calling thread woken when it asked to be, and not up to 50 us later (prctl(2), `PR_SET_TIMERSLACK`).
fn wake_in_time() {
    // SAFETY: takes numbers; there are no pointers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// The teams' results as one. CPU time and length are those that one of them saw.
fn merge(parts: Vec<Measured>, flows: usize) -> Measured {
    let mut all = Measured { flows: vec![FlowMeasured::default(); flows], ..Measured::default() };
    for (i, part) in parts.into_iter().enumerate() {
        if i == 0 {
            (all.elapsed_ns, all.server_cpu_ns) = (part.elapsed_ns, part.server_cpu_ns);
        }
        all.missed += part.missed;
        all.chances += part.chances;
        all.late += part.late;
        all.blocked += part.blocked;
        all.busy_ns = all.busy_ns.max(part.busy_ns);
        for (flow, other) in all.flows.iter_mut().zip(part.flows) {
            flow.records += other.records;
            flow.delivered += other.delivered;
            flow.units.extend(other.units);
            flow.unit_records = flow.unit_records.max(other.unit_records);
            flow.ack.merge(&other.ack);
            flow.delivery.merge(&other.delivery);
        }
    }
    all
}

impl<D: Dialect> Team<D> {
    fn unit_records(&self, flow: usize) -> Option<u64> {
        self.lanes.iter().find(|lane| lane.flow == flow).map(|lane| lane.producer.unit_records())
    }
}
