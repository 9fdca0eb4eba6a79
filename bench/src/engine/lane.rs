//! A connection that sends.

use std::io;

use crate::dialect::Producer;
use crate::histogram::Histogram;
use crate::host::now_ns;
use crate::link::Link;

use super::pace::{NEVER, Pace};
use super::tap::read_with;

/// Stamps that are kept for acknowledgements: more batches than are ever in flight with latencies of interest.
const STAMPS: usize = 128;
/// A batch sent this long after it was due is late.
const LATE_NS: u64 = 1_000_000;

/// See the module.
pub(super) struct Lane<P> {
    pub(super) link: Link,
    pub(super) producer: P,
    pub(super) flow: usize,
    /// Its number in the flow.
    index: usize,
    /// Bytes of what is encoded that are written.
    written: usize,
    /// What the last read left over.
    held: Vec<u8>,
    replies: Vec<u8>,
    /// Stamps of the latest batches, by their number.
    stamps: Box<[u64; STAMPS]>,
    /// Batches sent since the window began.
    turns: u64,
    /// Whether a batch that is due waits for the server: for credit, an acknowledgement, or room in the socket.
    waits: bool,
    pub(super) kept: Kept,
    /// Since when something refused waits to be sent again.
    refused_ns: Option<u64>,
    /// `acked` and `sent` when the measured part began.
    before: (u64, u64),
    /// Nothing will be sent any more, and the server knows.
    ended: bool,
}

/// How well the lane kept to its times or turns in the measured part.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    /// Batches with a time, or turns.
    pub(super) chances: u64,
    /// Batches sent late because the load's thread was elsewhere.
    pub(super) late: u64,
    /// Batches sent late because the server took no more, or turns at which it took none.
    pub(super) blocked: u64,
}

/// Where a batch's stamp is kept.
fn place(unit: u64) -> usize {
    usize::try_from(unit % STAMPS as u64).expect("less than a usize")
}

impl<P: Producer> Lane<P> {
    pub(super) fn new(link: Link, producer: P, flow: usize, index: usize) -> Lane<P> {
        Lane {
            link,
            producer,
            flow,
            index,
            written: 0,
            held: Vec::new(),
            replies: Vec::new(),
            stamps: Box::new([0; STAMPS]),
            turns: 0,
            waits: false,
            kept: Kept::default(),
            refused_ns: None,
            before: (0, 0),
            ended: false,
        }
    }

    /// A window begins: times are counted anew.
    pub(super) fn begin(&mut self) {
        self.turns = 0;
        self.waits = false;
    }

    /// The measured part begins.
    pub(super) fn mark(&mut self) {
        self.before = (self.producer.acked(), self.producer.sent());
        self.kept = Kept::default();
    }

    /// Batches since [`Lane::mark`]: acknowledged, or sent.
    pub(super) fn since_mark(&self) -> (u64, u64) {
        (self.producer.acked() - self.before.0, self.producer.sent() - self.before.1)
    }

    /// Whether something encoded is not written yet, or something refused not sent again.
    #[inline]
    pub(super) fn is_stuck(&self) -> bool {
        self.written < self.producer.encoded().len()
            || !self.replies.is_empty()
            || self.link.is_stuck()
            || self.producer.to_resend().is_some()
    }

    /// When the next batch is due.
    #[inline]
    pub(super) fn due_ns(&self, pace: &Pace) -> Option<u64> {
        pace.due_ns(self.index, self.turns)
    }

    /// Sends what its pace and the server allow; says whether anything was.
    #[inline]
    pub(super) fn pump(&mut self, pace: &Pace, now_ns: u64) -> io::Result<bool> {
        let mut moved = self.is_stuck() && self.write()?;
        match pace {
            Pace::AtWill => moved |= self.send(u64::MAX, now_ns)?,
            Pace::Turn => {
                let sent = self.send(1, now_ns)?;
                self.kept.chances += 1;
                self.kept.blocked += u64::from(!sent);
                moved |= sent;
            }
            Pace::Timed { .. } => moved |= self.send_due(pace, now_ns)?,
        }
        Ok(moved)
    }

    /// Sends every batch that is due and may be sent.
    #[inline]
    fn send_due(&mut self, pace: &Pace, now_ns: u64) -> io::Result<bool> {
        let mut moved = false;
        while let Some(due) = self.due_ns(pace).filter(|due| *due <= now_ns) {
            if !self.send(1, due)? {
                self.waits = true;
                return Ok(moved);
            }
            self.count(now_ns - due > LATE_NS);
            moved = true;
        }
        self.waits = false;
        Ok(moved)
    }

    fn count(&mut self, late: bool) {
        self.kept.chances += 1;
        self.kept.blocked += u64::from(late && self.waits);
        self.kept.late += u64::from(late && !self.waits);
    }

    /// Nothing will be due any more, and all that was is written.
    pub(super) fn is_through(&self, pace: &Pace) -> bool {
        self.due_ns(pace).is_none_or(|due| due == NEVER) && !self.is_stuck()
    }

    /// Gives up on what was due and could not be sent: when each of these batches was due.
    pub(super) fn give_up(&mut self, pace: &Pace, mut due_at: impl FnMut(u64)) {
        while let Some(due) = self.due_ns(pace).filter(|due| *due != NEVER) {
            self.turns += 1;
            self.waits = true;
            self.count(true);
            due_at(due);
        }
    }

    /// Writes what is stuck, asks for the acknowledgements that nobody has asked for, and sends nothing more.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        if !self.is_stuck() {
            self.producer.ask(&mut self.replies);
        }
        Ok(self.is_stuck() && self.write()?)
    }

    /// Tells a server that never answers that this was all, by the end of the stream: it may have kept back what it
    /// would otherwise wait for more of.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if P::ANSWERED || self.is_stuck() || self.ended {
            return Ok(());
        }
        self.ended = true;
        self.link.end()
    }

    /// Encodes and writes once, where nothing is stuck.
    #[inline]
    fn send(&mut self, units: u64, stamp_ns: u64) -> io::Result<bool> {
        if self.is_stuck() {
            return Ok(false);
        }
        let first = self.producer.sent();
        let encoded = self.producer.encode(units, stamp_ns);
        self.written = 0;
        if encoded == 0 {
            return Ok(false);
        }
        for unit in first..first + encoded {
            self.stamps[place(unit)] = stamp_ns;
        }
        self.turns += encoded;
        self.write()?;
        Ok(true)
    }

    /// Writes replies once nothing encoded is left, as they must not come inside of a batch.
    fn write(&mut self) -> io::Result<bool> {
        let mut moved = self.link.flush_some()?;
        let encoded = self.producer.encoded();
        if self.written < encoded.len() {
            let written = self.link.write_some(&encoded[self.written..])?;
            self.written += written;
            moved |= written > 0;
        }
        if self.written < self.producer.encoded().len() {
            return Ok(moved);
        }
        if self.replies.is_empty() {
            self.resend();
        }
        if !self.replies.is_empty() {
            let replied = self.link.write_some(&self.replies)?;
            self.replies.drain(..replied);
            moved |= replied > 0;
        }
        Ok(moved)
    }

    /// Sends again what was refused, when it has waited long enough.
    fn resend(&mut self) {
        let Some(pause) = self.producer.to_resend() else { return };
        let now = now_ns();
        let since = *self.refused_ns.get_or_insert(now);
        if u128::from(now - since) >= pause.as_nanos() {
            self.producer.resend(&mut self.replies);
            self.refused_ns = None;
        }
    }

    /// Reads answers; says whether any came. The latency of the last batch that they name is counted: that of
    /// the ones before it depends on how far apart acknowledgements are asked for. Batches from before `from_ns` are
    /// not counted.
    #[inline]
    pub(super) fn listen(
        &mut self,
        buffer: &mut [u8],
        latencies: &mut Histogram,
        from_ns: u64,
    ) -> io::Result<bool> {
        let before = self.producer.acked();
        let producer = &mut self.producer;
        let came = read_with(&mut self.link, &mut self.held, buffer, |bytes| producer.take(bytes))?;
        if came {
            self.producer.replies(&mut self.replies);
            let acked = self.producer.acked();
            if P::ANSWERED && acked > before && self.producer.sent() - acked < STAMPS as u64 {
                let stamp = self.stamps[place(acked - 1)];
                if stamp >= from_ns {
                    latencies.add(now_ns().saturating_sub(stamp));
                }
            }
        }
        Ok(came)
    }
}
