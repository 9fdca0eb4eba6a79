//! One thread of the load, and the connections that it goes over.

use std::io;
use std::time::Duration;

use super::pace::NEVER;
use crate::dialect::{Dialect, Producer, Tally};
use crate::histogram::Histogram;
use crate::host::now_ns;
use crate::socket::wait;
use crate::subject::Process;

use super::lane::{Kept, Lane};
use super::pace::Pace;
use super::ready::Ready;
use super::rest::Rest;
use super::tap::Tap;
use super::{FlowMeasured, Measured};

/// One read takes this much, into the same memory for all connections: it stays in the cache.
const READ_BYTES: usize = 128 * 1024;
/// With more connections than this, readiness is asked for, and not each socket.
const TRY_EACH_MAX: usize = 32;
/// Connections that are served before answers are looked at again.
const LOOK_EVERY: usize = 32;
/// Without times to keep, the thread looks for room and answers this long before it sleeps: sleeping costs more than
/// the server takes to make room.
const LOOK_ON_NS: u64 = 200_000;
const SLEEP: Duration = Duration::from_millis(10);
/// The longest sleep between times: what ends a window is looked at in between.
const REST: Duration = Duration::from_millis(1);

/// When a window begins, when its measured part does, and when it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hours {
    pub(super) begin_ns: u64,
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    /// Sleep between times.
    pub(super) rests: bool,
}

/// See the module.
pub(super) struct Team<D: Dialect> {
    pub(super) lanes: Vec<Lane<D::Producer>>,
    pub(super) taps: Vec<Tap<D::Consumer>>,
    /// By flow: its lanes, in the order of their numbers, and whose turn it is.
    turns: Vec<(Vec<usize>, usize)>,
    /// Lanes whose socket is full.
    stuck: Vec<usize>,
    /// Of lanes (by their place) and taps (behind them), where there are many.
    ready: Option<Ready>,
    buffer: Vec<u8>,
    pub(super) found: Vec<Found>,
    /// Consumers of each flow, over all teams.
    pub(super) consumers: Vec<u64>,
    /// Latencies of batches with an earlier time are not counted.
    from_ns: u64,
    /// Sockets found readable.
    readable: Vec<usize>,
}

/// What is counted for a flow.
#[derive(Default)]
pub(super) struct Found {
    pub(super) tally: Tally,
    delivered_before: u64,
    missed_before: u64,
    pub(super) ack: Histogram,
    pub(super) delivery: Histogram,
}

impl<D: Dialect> Team<D> {
    /// `consumers`: of each flow, over all teams.
    pub(super) fn new(consumers: Vec<u64>) -> Team<D> {
        let flows = consumers.len();
        Team {
            lanes: Vec::new(),
            taps: Vec::new(),
            turns: vec![(Vec::new(), 0); flows],
            stuck: Vec::new(),
            ready: None,
            buffer: vec![0; READ_BYTES],
            found: (0..flows).map(|_| Found::default()).collect(),
            consumers,
            from_ns: 0,
            readable: Vec::new(),
        }
    }

    pub(super) fn add_lane(&mut self, lane: Lane<D::Producer>) {
        self.turns[lane.flow].0.push(self.lanes.len());
        self.lanes.push(lane);
    }

    /// Every connection is there.
    pub(super) fn ready(&mut self) -> io::Result<()> {
        self.listen_to_held()?;
        if self.lanes.len() + self.taps.len() <= TRY_EACH_MAX {
            return Ok(());
        }
        let mut ready = Ready::new()?;
        let lanes = self.lanes.iter().map(|lane| &lane.link);
        for (number, link) in lanes.chain(self.taps.iter().map(|tap| &tap.link)).enumerate() {
            ready.add(link.descriptor(), number)?;
        }
        self.ready = Some(ready);
        Ok(())
    }

    /// Reads what came behind the answers to handshakes, of which sockets do not tell any more.
    fn listen_to_held(&mut self) -> io::Result<()> {
        let paces = vec![Pace::AtWill; self.turns.len()];
        let links = self.lanes.iter().map(|lane| &lane.link).chain(self.taps.iter().map(|tap| &tap.link));
        let held: Vec<usize> = links.enumerate().filter(|(_, link)| link.holds()).map(|(i, _)| i).collect();
        held.into_iter().try_for_each(|number| self.listen_to(number, &paces).map(|_| ()))
    }

    /// Runs the load until the window ends, and what was due in it has arrived.
    pub(super) fn run(
        &mut self,
        paces: &[Pace],
        hours: Hours,
        process: &Process,
        rest: &Rest,
    ) -> io::Result<Measured> {
        let timed = paces.iter().any(Pace::is_timed);
        self.from_ns = if timed { hours.from_ns } else { 0 };
        for lane in &mut self.lanes {
            lane.begin();
        }
        self.turns.iter_mut().for_each(|(_, next)| *next = 0);
        while now_ns() < hours.begin_ns {
            std::hint::spin_loop();
        }
        let (mut last, mut moved_last, mut idle_since) = (now_ns(), false, None);
        let (mut busy_ns, mut mark) = (0, None);
        loop {
            let now = now_ns();
            if moved_last {
                busy_ns += now - last;
            }
            last = now;
            if mark.is_none() && now >= hours.from_ns {
                self.mark();
                busy_ns = 0;
                mark = Some((now_ns(), process.cpu_ns()));
            }
            if let Some((from, cpu)) = mark.filter(|_| now >= hours.to_ns) {
                let server_cpu_ns = process.cpu_ns() - cpu;
                let measured = self.measured(paces, now_ns() - from, server_cpu_ns, busy_ns);
                return if timed { self.measured_late(measured, paces, rest) } else { Ok(measured) };
            }
            moved_last = self.step(paces, now)?;
            if moved_last {
                idle_since = None;
            } else if !timed && now - *idle_since.get_or_insert(now) > LOOK_ON_NS {
                self.sleep(SLEEP)?;
            } else if timed && hours.rests {
                self.rest(paces)?;
            }
        }
    }

    /// Sleeps until something comes, or is due.
    fn rest(&self, paces: &[Pace]) -> io::Result<()> {
        let due = self.lanes.iter().filter_map(|lane| lane.due_ns(&paces[lane.flow])).min();
        let until = due
            .filter(|due| *due != NEVER)
            .map_or(REST, |due| Duration::from_nanos(due.saturating_sub(now_ns())));
        if until.is_zero() { Ok(()) } else { self.sleep(until.min(REST)) }
    }

    /// Goes over the connections once; says whether anything could be done.
    pub(super) fn step(&mut self, paces: &[Pace], now: u64) -> io::Result<bool> {
        let mut moved = false;
        for at in (0..self.stuck.len()).rev() {
            let lane = &mut self.lanes[self.stuck[at]];
            moved |= lane.pump(&paces[lane.flow], now)?;
            if !lane.is_stuck() {
                self.stuck.swap_remove(at);
            }
        }
        for (flow, pace) in paces.iter().enumerate() {
            moved |= self.send(flow, pace, now)?;
        }
        moved |= self.listen(paces)?;
        Ok(moved)
    }

    /// Lets the flow's connections send, beginning with the one whose turn it is.
    fn send(&mut self, flow: usize, pace: &Pace, now: u64) -> io::Result<bool> {
        let count = self.turns[flow].0.len();
        let mut moved = false;
        for _ in 0..count.min(LOOK_EVERY) {
            let (lanes, next) = &mut self.turns[flow];
            let number = lanes[*next];
            let lane = &mut self.lanes[number];
            if lane.due_ns(pace).is_some_and(|due| due > now) {
                break; // those behind it are due later
            }
            *next = (*next + 1) % count;
            let was_stuck = lane.is_stuck();
            moved |= lane.pump(pace, now)?;
            if lane.is_stuck() && !was_stuck {
                self.stuck.push(number);
            }
        }
        Ok(moved)
    }

    pub(super) fn listen(&mut self, paces: &[Pace]) -> io::Result<bool> {
        let mut readable = std::mem::take(&mut self.readable);
        readable.clear();
        match &mut self.ready {
            Some(ready) => readable.extend(ready.look(Duration::ZERO)?),
            None => readable.extend(0..self.lanes.len() + self.taps.len()),
        }
        let mut moved = false;
        for number in &readable {
            moved |= self.listen_to(*number, paces)?;
        }
        self.readable = readable;
        Ok(moved)
    }

    fn listen_to(&mut self, number: usize, paces: &[Pace]) -> io::Result<bool> {
        let Some(lane) = self.lanes.get_mut(number) else {
            let tap = &mut self.taps[number - self.lanes.len()];
            let found = &mut self.found[tap.flow];
            let came = tap.listen(&mut self.buffer, &mut found.tally)?;
            if !found.tally.stamps.is_empty() {
                let now = now_ns();
                for stamp in found.tally.stamps.drain(..).filter(|stamp| *stamp >= self.from_ns) {
                    found.delivery.add(now.saturating_sub(stamp));
                }
            }
            return Ok(came);
        };
        if !D::Producer::ANSWERED {
            return Ok(false);
        }
        let (was_stuck, pace) = (lane.is_stuck(), &paces[lane.flow]);
        let came = lane.listen(&mut self.buffer, &mut self.found[lane.flow].ack, self.from_ns)?;
        // An answer makes room for what waited for it; without times, its turn comes anyway.
        if came && pace.is_timed() {
            lane.pump(pace, now_ns())?;
        }
        if lane.is_stuck() && !was_stuck {
            self.stuck.push(number);
        }
        Ok(came)
    }

    /// Waits until something can be done, at most this long.
    fn sleep(&self, time: Duration) -> io::Result<()> {
        if let Some(ready) = &self.ready {
            // A full socket may become writable meanwhile: not for long.
            let time = if self.stuck.is_empty() { time } else { time.min(Duration::from_millis(1)) };
            return wait(&[(ready.descriptor(), false)], time);
        }
        let lanes = self.lanes.iter().map(|lane| (lane.link.descriptor(), lane.is_stuck()));
        let taps = self.taps.iter().map(|tap| (tap.link.descriptor(), false));
        wait(&lanes.chain(taps).collect::<Vec<_>>(), time)
    }

    /// The measured part begins.
    fn mark(&mut self) {
        for lane in &mut self.lanes {
            lane.mark();
        }
        for found in &mut self.found {
            (found.delivered_before, found.missed_before) = (found.tally.records, found.tally.missed);
            found.ack.clear();
            found.delivery.clear();
        }
    }

    fn measured(&self, paces: &[Pace], elapsed_ns: u64, server_cpu_ns: u64, busy_ns: u64) -> Measured {
        let mut measured = Measured { elapsed_ns, server_cpu_ns, busy_ns, ..Measured::default() };
        for found in &self.found {
            measured.missed += found.tally.missed - found.missed_before;
            measured.flows.push(FlowMeasured {
                delivered: found.tally.records - found.delivered_before,
                ack: found.ack.clone(),
                delivery: found.delivery.clone(),
                ..FlowMeasured::default()
            });
        }
        for lane in &self.lanes {
            let (acked, sent) = lane.since_mark();
            let units = if matches!(paces[lane.flow], Pace::AtWill) { acked } else { sent };
            let flow = &mut measured.flows[lane.flow];
            flow.units.push(units);
            flow.unit_records = lane.producer.unit_records();
            flow.records += units * flow.unit_records;
            measured.add(lane.kept);
        }
        measured
    }

    /// What has to be measured until the last batch has arrived: its latency, and how it kept to its time. Rates
    /// and CPU time are those of the window.
    fn measured_late(&mut self, mut measured: Measured, paces: &[Pace], rest: &Rest) -> io::Result<Measured> {
        self.finish(paces, rest)?;
        for (flow, found) in measured.flows.iter_mut().zip(&self.found) {
            (flow.ack, flow.delivery) = (found.ack.clone(), found.delivery.clone());
        }
        (measured.chances, measured.late, measured.blocked) = (0, 0, 0);
        self.lanes.iter().for_each(|lane| measured.add(lane.kept));
        Ok(measured)
    }
}

impl Measured {
    fn add(&mut self, kept: Kept) {
        self.chances += kept.chances;
        self.late += kept.late;
        self.blocked += kept.blocked;
    }
}
