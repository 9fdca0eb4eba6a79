//! Subscribers of a `log` partition that are behind what its ring holds: what they read from the files, and how they come
//! back to the ring without a gap or a repeat.
//!
//! A cursor is a position and an offset, the same in the ring and in the files. Behind the ring, its bytes are in a
//! window: blocks that were read around it, walked once ([`Window`]): runs of whole verified frames, sent as they lie.
//! When a window is used up the next one is read where it ended, or the cursor is in the ring by then.
//!
//! Invariants: a window belongs to one subscriber, and its memory stays until nothing of it is taken; a cursor behind the
//! ring is inside a frame only while its window holds that frame.

use std::collections::VecDeque;

use super::durable::Durable;
use super::log::{Boundary, HEADER_BYTES};
use super::subscribers::Subscriber;
use super::{Gap, Partition, State, Taken, small};
use crate::buf::{Buffers, Memory, Span};
use crate::commit_log::window::{Run, Stopped, Target, Window};
use crate::commit_log::{BLOCK_BYTES, LogPoint, SegmentInfo, block_down, block_up};
use crate::ids::SubscriberId;
use crate::limits::LOG_READ_TRIES;
use crate::proto::control::Start;
use crate::proto::header::GapReason;

/// What was read for a subscriber, or is being read.
#[derive(Debug, Default)]
pub(super) struct Catchup {
    /// Where to begin is to be found first.
    seek: Option<Target>,
    /// A read is planned or in flight.
    reading: Option<Part>,
    /// Reads that failed since the last that did not, or since something was passed over.
    failures: u8,
    held: Option<Held>,
    /// Kept for the next window.
    runs: Vec<Run>,
}

impl Catchup {
    pub(super) fn has_window(&self) -> bool {
        self.held.is_some()
    }
}

/// What is being read.
#[derive(Debug, Clone, Copy)]
struct Part {
    nonce: u64,
    /// Position of its first byte.
    position: u64,
    end: LogPoint,
    /// Where to go on when there is damage.
    behind: LogPoint,
}

/// A window's memory, and what of it can be sent.
#[derive(Debug)]
struct Held {
    block: Span,
    /// Position of its first byte.
    position: u64,
    runs: Vec<Run>,
    /// Where the last run ends, and the next window goes on.
    next: LogPoint,
}

/// What there is to do for a subscriber that lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadPlan {
    /// Nothing: the ring, or a gap, has something for it.
    Nothing,
    /// Whole blocks of a segment's file.
    Read {
        /// Which one.
        sequence: u64,
        /// Where in the file.
        at: u64,
        /// How many bytes.
        bytes: u32,
    },
}

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadDone {
    /// The block holds something for the subscriber now; else it is free again.
    pub kept: bool,
    /// What it covers is damaged from here on: it is passed over.
    pub damaged: Option<LogPoint>,
    /// The search for the subscription's start has ended: its first offset.
    pub found: Option<u64>,
}

/// What becomes of what could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFailed {
    /// It is wanted as before: the disk may get over it.
    Again {
        /// Times that it has failed.
        times: u8,
    },
    /// It has failed too often: it is passed over from here on.
    PassedOver(LogPoint),
}

impl Held {
    /// Where the span of these positions is.
    fn span(&self, from: u64, to: u64) -> Span {
        let (_, rest) = self.block.split_at(small(from - self.position));
        Span { bytes: small(to - from), ..rest }
    }

    /// Bytes and records of the frame that begins here.
    fn frame_at(&self, memory: &Memory, at: u64) -> (u64, u64) {
        let header = memory.bytes(self.span(at, at + u64::from(HEADER_BYTES)));
        let field = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        (u64::from(HEADER_BYTES + field(4)), u64::from(field(56)))
    }

    /// The boundary after the frames that lie before `position`, from `known` on.
    fn floor(&self, memory: &Memory, known: Boundary, position: u64) -> Boundary {
        let mut at = known;
        for run in self.runs.iter().filter(|run| run.to.position > known.position) {
            if run.from.position > at.position {
                at = run.from;
            }
            if position >= run.to.position {
                at = run.to;
                continue;
            }
            while at.position < position {
                let (bytes, records) = self.frame_at(memory, at.position);
                if at.position + bytes > position {
                    break;
                }
                at = Boundary { position: at.position + bytes, offset: at.offset + records };
            }
            break;
        }
        at
    }

    /// The position after `bytes` of frames from `position` on.
    fn advance(&self, position: u64, bytes: u64) -> u64 {
        let (mut at, mut left) = (position, bytes);
        for run in self.runs.iter().filter(|run| run.to.position > position) {
            at = at.max(run.from.position);
            let part = left.min(run.to.position - at);
            at += part;
            left -= part;
            if left == 0 {
                break;
            }
        }
        at
    }

    /// Where a take ends that cannot have all of a run: after the last frame that fits, not after the one that reaches
    /// the credit, and not before the end of the first where nothing is taken yet.
    fn end_within(
        &self,
        memory: &Memory,
        first: Boundary,
        from: u64,
        taken: u64,
        bytes_max: u64,
        credit: u64,
    ) -> Boundary {
        let mut at = first;
        loop {
            let (bytes, records) = self.frame_at(memory, at.position);
            let next = Boundary { position: at.position + bytes, offset: at.offset + records };
            let total = taken + next.position - from;
            let something = taken > 0 || at.position > from;
            if total > bytes_max && something {
                return at;
            }
            at = next;
            if total >= bytes_max.min(credit) {
                return at;
            }
        }
    }
}

impl Durable {
    /// All segments, oldest first.
    fn all_segments(&self) -> impl Iterator<Item = &SegmentInfo> {
        self.segments.iter().chain(self.writer.closing()).chain(self.writer.active())
    }

    /// The oldest point of the files, where there is one.
    pub(super) fn first(&self) -> Option<LogPoint> {
        self.all_segments().next().map(|info| info.base)
    }

    /// The segment that holds this offset, or the first behind it.
    fn segment_of(&self, offset: u64) -> Option<&SegmentInfo> {
        self.all_segments().find(|info| info.end.offset > offset)
    }
}

impl Partition {
    /// Whether a subscriber's next bytes are not in the ring any more.
    #[inline]
    pub(super) fn is_behind(&self, subscriber: &Subscriber) -> bool {
        self.durable.is_some() && subscriber.boundary.offset < self.log.start().offset
    }

    /// Whether something has to be read from the files for it, and it could go on then.
    #[must_use]
    pub fn wants_read(&self, id: SubscriberId) -> bool {
        if self.durable.is_none() || self.state == State::Deleted {
            return false;
        }
        let subscriber = self.subscribers.at(id);
        let catchup = subscriber.catchup.as_deref();
        let busy = catchup.is_some_and(|catchup| catchup.reading.is_some() || catchup.held.is_some());
        let seeks = catchup.is_some_and(|catchup| catchup.seek.is_some());
        !busy
            && subscriber.finish.is_none()
            && (seeks || subscriber.credit_left() > 0 && self.is_behind(subscriber))
    }

    /// What to read for a subscriber that wants it, into a block of `bytes_max`. What is not there any more, or damaged,
    /// becomes a gap.
    pub fn plan_read(&mut self, id: SubscriberId, bytes_max: u32) -> ReadPlan {
        let first = self.log.start();
        let durable = self.durable.as_ref().expect("a log partition");
        let subscriber = self.subscribers.at_mut(id);
        loop {
            let at = subscriber.boundary;
            if at.offset >= first.offset {
                return ReadPlan::Nothing;
            }
            let Some(info) = durable.segment_of(at.offset) else {
                subscriber.pass_over(first, GapReason::Retention);
                return ReadPlan::Nothing;
            };
            if at.offset < info.base.offset {
                // The ring may begin before the files do, and nothing in it begins where a segment does.
                let to = if info.base.offset < first.offset { info.base } else { first };
                subscriber.pass_over(to, GapReason::Retention);
                continue;
            }
            let part = info.part_from(LogPoint { position: at.position.max(info.base.position), ..at });
            if part.at.offset > at.offset {
                subscriber.pass_over(part.at, GapReason::Quarantined);
                continue;
            }
            let end = if part.end.offset > first.offset { first } else { part.end };
            let position = block_down(part.at.position);
            let bytes = u64::from(bytes_max).min(block_up(end.position) - position);
            // Damage in it is passed over to the next place that is known to be good.
            let behind =
                info.resume_after(part.at).filter(|behind| behind.offset < end.offset).unwrap_or(end);
            subscriber.boundary = part.at;
            subscriber.position = part.at.position;
            let catchup = subscriber.catchup.get_or_insert_default();
            catchup.reading = Some(Part { nonce: info.nonce, position, end, behind });
            let at = BLOCK_BYTES + position - info.base.position;
            return ReadPlan::Read { sequence: info.sequence, at, bytes: small(bytes) };
        }
    }

    /// The block holds the first `bytes` of what was planned; `whole`: that is all of it.
    pub fn read_done(&mut self, memory: &Memory, id: SubscriberId, block: Span, whole: bool) -> ReadDone {
        let partition = self.id;
        let subscriber = self.subscribers.at_mut(id);
        let catchup = subscriber.catchup.as_mut().expect("a read was planned");
        let part = catchup.reading.take().expect("a read was planned");
        catchup.failures = 0;
        let bytes = memory.bytes(block);
        let window = Window { partition, nonce: part.nonce, position: part.position, bytes, end: part.end };
        let mut done = ReadDone::default();
        let mut from = subscriber.boundary;
        if let Some(target) = catchup.seek {
            let walked = window.seek(from, target);
            from = walked.next;
            subscriber.boundary = from;
            subscriber.position = from.position;
            match walked.stopped {
                Stopped::Found => {
                    catchup.seek = None;
                    done.found = Some(from.offset);
                    subscriber.gap = missed(target, from, subscriber.gap);
                }
                Stopped::End => return done,
                Stopped::Needs { .. } if whole && walked.next.position > part.position => return done,
                Stopped::Needs { .. } | Stopped::Damaged(_) => {
                    done.damaged = Some(from);
                    subscriber.boundary = part.behind;
                    subscriber.position = part.behind.position;
                    return done;
                }
            }
        }
        let mut runs = std::mem::take(&mut catchup.runs);
        runs.clear();
        let walked = window.walk(from, &mut runs);
        let stuck = runs.is_empty() && !matches!(walked.stopped, Stopped::End);
        if stuck && (!whole || matches!(walked.stopped, Stopped::Damaged(_))) {
            catchup.runs = runs;
            done.damaged = Some(walked.next);
            subscriber.pass_over(part.behind, GapReason::Quarantined);
        } else if runs.is_empty() {
            catchup.runs = runs;
            subscriber.boundary = walked.next;
            subscriber.position = walked.next.position;
        } else {
            catchup.held = Some(Held { block, position: part.position, runs, next: walked.next });
            done.kept = true;
        }
        done
    }

    /// What was planned cannot be read; it is passed over when that has been so [`LOG_READ_TRIES`] times.
    pub fn read_failed(&mut self, id: SubscriberId) -> ReadFailed {
        let subscriber = self.subscribers.at_mut(id);
        let catchup = subscriber.catchup.as_mut().expect("a read was planned");
        let part = catchup.reading.take().expect("a read was planned");
        catchup.failures += 1;
        if catchup.failures < LOG_READ_TRIES {
            return ReadFailed::Again { times: catchup.failures };
        }
        catchup.failures = 0;
        let at = subscriber.boundary;
        if catchup.seek.is_some() {
            subscriber.boundary = part.behind;
            subscriber.position = part.behind.position;
        } else {
            subscriber.pass_over(part.behind, GapReason::Quarantined);
        }
        ReadFailed::PassedOver(at)
    }

    /// A search that has come to the ring ends there: the subscription's first offset.
    pub fn seek_in_ring(&mut self, buffers: &Buffers, id: SubscriberId) -> Option<u64> {
        let subscriber = self.subscribers.at(id);
        let target = subscriber.catchup.as_ref()?.seek?;
        if self.is_behind(subscriber) {
            return None;
        }
        let memory = &buffers.memory;
        let boundary = match target {
            // What was searched for may lie in what could not be read, before the ring; which may be empty.
            Target::Offset(offset) => {
                self.log.boundary_of_offset(memory, offset.max(self.log.start().offset))
            }
            Target::Time(time_ns) => self.log.boundary_of_time(memory, time_ns),
        };
        let subscriber = self.subscribers.at_mut(id);
        subscriber.boundary = boundary;
        subscriber.position = boundary.position;
        subscriber.gap = missed(target, boundary, subscriber.gap);
        subscriber.catchup.as_mut().expect("it searches").seek = None;
        Some(boundary.offset)
    }

    /// The block of a window that is used up, or (`ending`) whatever it is.
    pub fn window_done(&mut self, id: SubscriberId, ending: bool) -> Option<Span> {
        let subscriber = self.subscribers.at_mut(id);
        let in_flight = subscriber.in_flight();
        let catchup = subscriber.catchup.as_mut()?;
        let next = catchup.held.as_ref()?.next;
        let used_up = !in_flight && subscriber.boundary.offset >= next.offset;
        if !used_up && !ending {
            return None;
        }
        let held = catchup.held.take()?;
        catchup.runs = held.runs;
        if used_up {
            subscriber.boundary = next;
            subscriber.position = next.position;
        }
        Some(held.block)
    }

    /// The block of a window that its subscriber has no use for now: its socket is full, or it grants no credit. It will
    /// be read again.
    pub fn reclaim_window(&mut self, buffers: &mut Buffers) -> Option<Span> {
        self.durable.as_ref()?;
        for slot in 0..self.subscribers.slots() {
            let idle = |subscriber: &Subscriber| {
                let waits = subscriber.blocked || subscriber.credit_left() == 0;
                waits && subscriber.has_window() && !subscriber.in_flight() && subscriber.finish.is_none()
            };
            if !self.subscribers.slot(slot).is_some_and(idle) {
                continue;
            }
            let Ok(records) = self.set_aside_rest(buffers, slot) else { continue };
            let subscriber = self.subscribers.slot_mut(slot).expect("a subscriber");
            let held = subscriber.catchup.as_mut().and_then(|catchup| catchup.held.take());
            let held = held.expect("it has a window");
            if records > 0 {
                let (bytes, _) = held.frame_at(&buffers.memory, subscriber.boundary.position);
                subscriber.boundary.position += bytes;
                subscriber.boundary.offset += u64::from(records);
                subscriber.position = subscriber.boundary.position;
            }
            return Some(held.block);
        }
        None
    }

    /// Segments below this one are gone. Who has yet to read them is told by a gap.
    pub fn retire(&mut self, below: u64) {
        let segments = &mut self.durable_mut().segments;
        while segments.front().is_some_and(|info| info.sequence < below) {
            segments.pop_front();
        }
    }

    /// Closed and durable, oldest first, where this is a log.
    #[must_use]
    pub fn closed_segments(&self) -> Option<&VecDeque<SegmentInfo>> {
        self.durable.as_ref().map(|durable| &durable.segments)
    }

    /// Where a subscription begins that starts before the ring, the offset it asked for, and what is looked for from
    /// there on. `None`: it starts in the ring.
    pub(super) fn begin_behind(&self, start: Start) -> Option<(Boundary, u64, Option<Catchup>)> {
        let durable = self.durable.as_ref()?;
        let (oldest, ring) = (durable.first()?, self.log.start());
        let (target, asked) = match start {
            Start::Latest => return None,
            Start::Earliest => (Target::Offset(0), 0),
            Start::Offset(offset) => (Target::Offset(offset), offset),
            Start::TimeNs(time_ns) => (Target::Time(time_ns), u64::MAX),
        };
        let before = |info: &&SegmentInfo| match target {
            Target::Offset(offset) => info.end.offset > offset,
            Target::Time(time_ns) => info.last_time_ns >= time_ns,
        };
        let info = durable.all_segments().find(before)?;
        if asked <= oldest.offset && oldest.offset < ring.offset {
            return Some((oldest, asked, None));
        }
        let at = info.seek_from(target);
        if at.offset >= ring.offset {
            return None;
        }
        let asked = if asked == u64::MAX { at.offset } else { asked };
        Some((at, asked, Some(Catchup { seek: Some(target), ..Catchup::default() })))
    }

    /// `has_work` of a subscriber with a window, or behind the ring without one.
    pub(super) fn has_work_behind(&self, subscriber: &Subscriber) -> Option<bool> {
        let catchup = subscriber.catchup.as_deref();
        if catchup.is_some_and(|catchup| catchup.seek.is_some()) {
            return Some(false);
        }
        if let Some(held) = catchup.and_then(|catchup| catchup.held.as_ref()) {
            let waits = subscriber.gap.is_some() || subscriber.boundary.offset < held.next.offset;
            return Some(subscriber.in_frame() || waits && subscriber.credit_left() > 0);
        }
        self.is_behind(subscriber).then(|| subscriber.gap.is_some() && subscriber.credit_left() > 0)
    }

    /// `take` of a subscriber with a window: its frames, as they were read.
    pub(super) fn take_window(
        &mut self,
        memory: &Memory,
        id: SubscriberId,
        bytes_max: u32,
        spans_max: usize,
        out: &mut Vec<Span>,
    ) -> Taken {
        let subscriber = self.subscribers.at_mut(id);
        let (credit, gap) = (subscriber.credit_left(), subscriber.gap.take());
        let (position, boundary) = (subscriber.position, subscriber.boundary);
        let held = subscriber.catchup.as_ref().and_then(|catchup| catchup.held.as_ref());
        let held = held.expect("it has a window");
        let (mut bytes, mut until, mut spans) = (0, boundary, 0);
        for run in held.runs.iter().filter(|run| run.to.position > position) {
            let from = position.max(run.from.position);
            let whole = run.to.position - from;
            let to = if bytes + whole <= u64::from(bytes_max).min(credit) {
                run.to
            } else {
                let first = if run.from.position > boundary.position { run.from } else { boundary };
                held.end_within(memory, first, from, bytes, u64::from(bytes_max), credit)
            };
            if to.position <= from || spans == spans_max {
                break;
            }
            out.push(held.span(from, to.position));
            spans += 1;
            bytes += to.position - from;
            until = to;
            if to != run.to || bytes >= credit {
                break;
            }
        }
        if let Some(gap) = gap {
            subscriber.missed_records += gap.records;
            self.counters.gap_records += gap.records;
        }
        subscriber.taken_bytes = small(bytes);
        subscriber.taken_end = until;
        let records = u32::try_from(until.offset - boundary.offset).unwrap_or(u32::MAX);
        Taken { bytes: small(bytes), records, gap }
    }

    /// `sent` of a subscriber with a window: where its cursor is then. `None` where it has none.
    pub(super) fn sent_of_window(
        &self,
        memory: &Memory,
        id: SubscriberId,
        bytes: u32,
    ) -> Option<(u64, Boundary)> {
        let subscriber = self.subscribers.at(id);
        let held = subscriber.catchup.as_ref()?.held.as_ref()?;
        let position = held.advance(subscriber.position, bytes.into());
        Some((position, held.floor(memory, subscriber.boundary, position)))
    }
}

/// A search for an offset that ends behind it has passed over damage, or what is told of it already: segments may have
/// gone since it was asked for.
fn missed(target: Target, found: LogPoint, told: Option<Gap>) -> Option<Gap> {
    let reason = told.map_or(GapReason::Quarantined, |gap| gap.reason);
    match target {
        Target::Offset(from) if found.offset > from => {
            Some(Gap { from, records: found.offset - from, reason })
        }
        Target::Offset(_) | Target::Time(_) => None,
    }
}

impl Subscriber {
    /// What is left of the frame it is inside of, and that frame's records, where a window has it.
    pub(super) fn rest_in_window(&self, memory: &Memory) -> Option<(Span, u32)> {
        let held = self.catchup.as_ref()?.held.as_ref()?;
        let begun = self.boundary.position;
        let (bytes, records) = held.frame_at(memory, begun);
        Some((held.span(self.position, begun + bytes), small(records)))
    }

    /// Goes on at `to`, and is told why it does not get what is before.
    fn pass_over(&mut self, to: LogPoint, reason: GapReason) {
        let from = self.gap.map_or(self.boundary.offset, |gap| gap.from);
        let reason = self.gap.map_or(reason, |gap| gap.reason);
        if to.offset > from {
            self.gap = Some(Gap { from, records: to.offset - from, reason });
        }
        self.boundary = to;
        self.position = to.position;
    }
}
