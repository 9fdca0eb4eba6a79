//! After a window: what is under way is waited for, and accounts are settled.
//!
//! A window with times is not over when its time is: what was due in it is still sent, and everything sent is read,
//! so that the slowest batches are in the histogram like all others. A session that has ended is settled: whatever
//! was sent has to be acknowledged, and every consumer has to have got it, or have been told that it would not come.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::dialect::{Dialect, Producer};
use crate::failure::Failure;
use crate::host::now_ns;

use super::Session;
use super::pace::Pace;
use super::team::Team;

/// How long a window's batches are waited for: a server that needs longer has stopped.
const PATIENCE_NS: u64 = 2_000_000_000;
/// How long nothing has to arrive until what is missing is given up.
const QUIET: Duration = Duration::from_secs(3);
/// Between two looks, when nothing has arrived.
const PAUSE: Duration = Duration::from_micros(200);

/// What all teams together have sent and read: none of them sees all of it.
pub(super) struct Rest {
    teams: usize,
    /// Teams that have sent all that was due.
    through: AtomicUsize,
    /// Records that their consumers have to get; complete when all teams are through.
    expected: AtomicU64,
    arrived: AtomicU64,
}

impl Rest {
    pub(super) fn new(teams: usize) -> Rest {
        let zero = || AtomicU64::new(0);
        Rest { teams, through: AtomicUsize::new(0), expected: zero(), arrived: zero() }
    }

    fn is_over(&self) -> bool {
        self.through.load(Ordering::Acquire) == self.teams
            && self.arrived.load(Ordering::Relaxed) >= self.expected.load(Ordering::Relaxed)
    }
}

/// How the accounts of a session stand, from its first record on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Records sent that the server never said it had taken.
    pub unacknowledged: u64,
    /// Records that consumers neither got nor were told they would not get, over all of them; less than 0 where they
    /// got more than was sent.
    pub undelivered: i64,
    /// Batches that the server refused for want of room, each of which was sent again.
    pub refused_batches: u64,
}

impl<D: Dialect> Team<D> {
    /// Sends what was due before the window's end, and reads until all of it has arrived everywhere.
    pub(super) fn finish(&mut self, paces: &[Pace], rest: &Rest) -> io::Result<()> {
        let deadline = now_ns() + PATIENCE_NS;
        let (mut through, mut told) = (false, 0);
        while !rest.is_over() {
            let now = now_ns();
            if now >= deadline {
                break;
            }
            if !through && self.is_through(paces) {
                through = true;
                rest.expected.fetch_add(self.expected(), Ordering::Relaxed);
                rest.through.fetch_add(1, Ordering::Release);
            }
            self.step(paces, now)?;
            for lane in &mut self.lanes {
                if lane.is_through(&paces[lane.flow]) {
                    lane.flush()?;
                }
            }
            let arrived = self.arrived();
            rest.arrived.fetch_add(arrived - told, Ordering::Relaxed);
            told = arrived;
        }
        self.give_up(paces);
        Ok(())
    }

    /// Everything that was due is on its way, and acknowledged where that is what is measured.
    fn is_through(&self, paces: &[Pace]) -> bool {
        self.lanes.iter().all(|lane| {
            lane.is_through(&paces[lane.flow])
                && (self.consumers[lane.flow] > 0 || lane.producer.acked() == lane.producer.sent())
        })
    }

    /// What could not be sent has waited at least until now, for each that it was meant for.
    fn give_up(&mut self, paces: &[Pace]) {
        let now = now_ns();
        for lane in &mut self.lanes {
            let (found, consumers) = (&mut self.found[lane.flow], self.consumers[lane.flow]);
            let latencies = if consumers > 0 { &mut found.delivery } else { &mut found.ack };
            lane.give_up(&paces[lane.flow], |due| {
                for _ in 0..consumers.max(1) {
                    latencies.add(now.saturating_sub(due));
                }
            });
        }
    }

    /// Records that consumers have to get of what was sent since the session began.
    fn expected(&self) -> u64 {
        let of = |lane: &super::Lane<D::Producer>| {
            lane.producer.sent() * lane.producer.unit_records() * self.consumers[lane.flow]
        };
        self.lanes.iter().map(of).sum()
    }

    /// Records that consumers got, or know that they will not get, since the session began.
    fn arrived(&self) -> u64 {
        self.found.iter().map(|found| found.tally.records + found.tally.missed).sum()
    }

    fn unacknowledged(&self) -> u64 {
        let of = |lane: &super::Lane<D::Producer>| {
            (lane.producer.sent() - lane.producer.acked()) * lane.producer.unit_records()
        };
        self.lanes.iter().map(of).sum()
    }

    fn refusals(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.producer.refusals()).sum()
    }

    /// Writes what was begun, and reads; says whether anything moved.
    fn wind_up(&mut self, paces: &[Pace]) -> io::Result<bool> {
        let mut moved = false;
        for lane in &mut self.lanes {
            moved |= lane.flush()?;
            lane.end()?;
        }
        Ok(moved | self.listen(paces)?)
    }
}

impl<D: Dialect> Session<D> {
    /// Waits for what is under way, and says what never came. Nothing can be measured afterwards.
    ///
    /// # Errors
    /// A connection broke, or the server refused something.
    pub fn settle(mut self) -> Result<Settled, Failure> {
        let paces = vec![Pace::AtWill; self.flows];
        let mut last_moved = Instant::now();
        loop {
            let settled = self.accounts();
            if settled.is_even() || last_moved.elapsed() > QUIET {
                return Ok(settled);
            }
            let mut moved = false;
            for team in &mut self.teams {
                moved |= team.wind_up(&paces).map_err(Failure::Load)?;
            }
            if moved {
                last_moved = Instant::now();
            } else {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn accounts(&self) -> Settled {
        let sum = |of: fn(&Team<D>) -> u64| self.teams.iter().map(of).sum::<u64>();
        let count = |records: u64| i64::try_from(records).unwrap_or(i64::MAX);
        Settled {
            unacknowledged: sum(Team::unacknowledged),
            undelivered: count(sum(Team::expected)) - count(sum(Team::arrived)),
            refused_batches: sum(Team::refusals),
        }
    }
}

impl Settled {
    fn is_even(&self) -> bool {
        self.unacknowledged == 0 && self.undelivered == 0
    }
}
