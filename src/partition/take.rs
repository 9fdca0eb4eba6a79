//! Delivery: what a subscriber gets next, and what became of it.

use super::log::Boundary;
use super::{Partition, State, Taken};
use crate::buf::{Buffers, Span};
use crate::ids::SubscriberId;
use crate::mutation::{self, Mutation};

impl Partition {
    /// Whether `take` would give something: nothing is taken, its socket is not full, and there is a frame
    /// to finish, or credit and either data or a gap to tell.
    #[inline]
    #[must_use]
    pub fn has_work(&self, id: SubscriberId) -> bool {
        let subscriber = self.subscribers.at(id);
        if subscriber.blocked || subscriber.in_flight() {
            return false;
        }
        if self.state == State::Deleted {
            return subscriber.finish.is_some();
        }
        if self.durable.is_some()
            && subscriber.finish.is_none()
            && let Some(works) = self.has_work_behind(subscriber)
        {
            return works;
        }
        let waits = subscriber.gap.is_some() || subscriber.position < self.visible().position;
        subscriber.in_frame() || (waits && subscriber.credit_left() > 0)
    }

    /// What subscribers may get: all of the log, or what is written of it.
    #[inline]
    pub(crate) fn visible(&self) -> Boundary {
        match &self.durable {
            None => self.log.end(),
            Some(durable) => durable.visible(),
        }
    }

    /// Gives out what comes next for a subscriber: whole frames (and the rest of one that was begun), at
    /// least one if there is credit, else as many as fit in `bytes_max`, `spans_max` and its credit, which
    /// the last one may overshoot. The spans are appended to `out` and stay valid until `sent`.
    ///
    /// # Panics
    /// When something of it is taken already, or `spans_max` is 0.
    #[inline]
    pub fn take(
        &mut self,
        buffers: &mut Buffers,
        id: SubscriberId,
        bytes_max: u32,
        spans_max: usize,
        out: &mut Vec<Span>,
    ) -> Taken {
        assert!(spans_max > 0, "room for a span");
        let end = self.visible();
        let deleted = self.state == State::Deleted;
        let subscriber = self.subscribers.at_mut(id);
        assert!(!subscriber.in_flight(), "what was taken is accounted for first");
        if let Some(finish) = &mut subscriber.finish {
            finish.taken = true;
            let rest = finish.rest();
            out.push(rest);
            return Taken { bytes: rest.bytes, records: finish.records, gap: None };
        }
        let mut credit = subscriber.credit_left();
        if mutation::on(Mutation::BeyondCredit) && credit > 0 {
            credit += 100;
        }
        if deleted || (credit == 0 && !subscriber.in_frame()) {
            return Taken::default();
        }
        if subscriber.has_window() {
            return self.take_window(&buffers.memory, id, bytes_max, spans_max, out);
        }
        let gap = subscriber.gap.take();
        if let Some(gap) = gap {
            subscriber.missed_records += gap.records;
            self.counters.gap_records += gap.records;
        }
        if self.durable.is_some() && subscriber.position == subscriber.boundary.position {
            // The end of a flush is where the next one's frames begin.
            let first = self.log.start();
            let at =
                if subscriber.boundary.offset == first.offset { first.position } else { subscriber.position };
            subscriber.position = self.log.holes.over(at);
            subscriber.boundary.position = subscriber.position;
            if subscriber.boundary.offset < first.offset {
                // Only the gap: the rest is read from the files.
                return Taken { gap, ..Taken::default() };
            }
        }
        let (position, boundary) = (subscriber.position, subscriber.boundary);
        let waiting = end.position.saturating_sub(position);
        if waiting == 0 {
            return Taken { gap, ..Taken::default() };
        }
        let mut until = if waiting <= u64::from(bytes_max) && waiting <= credit {
            end
        } else {
            self.take_end(buffers, position, boundary, u64::from(bytes_max), credit)
        };
        let (mut at, mut bytes) = (position, 0);
        for _ in 0..spans_max {
            if at >= until.position {
                break;
            }
            let span = self.log.span_from(at, until.position);
            out.push(span);
            bytes += span.bytes;
            at = self.log.holes.over(at + u64::from(span.bytes));
        }
        if at < until.position {
            // Spans ran out: they end where one run does, and there a frame ends.
            until = self.log.floor(&buffers.memory, boundary, at);
            debug_assert_eq!(until.position, at, "runs are whole frames");
        }
        let subscriber = self.subscribers.at_mut(id);
        subscriber.taken_bytes = bytes;
        subscriber.taken_end = until;
        Taken { bytes: subscriber.taken_bytes, records: records(boundary.offset, until.offset), gap }
    }

    /// Where a take that cannot have everything ends: after the last frame that fits in `bytes_max`, not
    /// after the one that reaches the credit, and not before the end of the first.
    fn take_end(
        &self,
        buffers: &Buffers,
        position: u64,
        boundary: Boundary,
        bytes_max: u64,
        credit: u64,
    ) -> Boundary {
        let memory = &buffers.memory;
        let by_bytes = self.log.floor(memory, boundary, position.saturating_add(bytes_max));
        let mut by_credit = self.log.floor(memory, boundary, position.saturating_add(credit));
        if by_credit.position < position.saturating_add(credit)
            && by_credit.position < self.log.end().position
        {
            by_credit = self.log.after(memory, by_credit);
        }
        let until = if by_bytes.position < by_credit.position { by_bytes } else { by_credit };
        let visible = self.visible();
        let until = if until.position > visible.position { visible } else { until };
        if until.position > position { until } else { self.log.after(memory, boundary) }
    }

    /// `bytes` of what was taken were sent; the rest is given back and comes again with the next `take`.
    /// Returns the records of the frames that were completed by them.
    ///
    /// # Panics
    /// When more was sent than was taken.
    #[inline]
    pub fn sent(&mut self, buffers: &mut Buffers, id: SubscriberId, bytes: u32) -> u32 {
        let subscriber = self.subscribers.at_mut(id);
        subscriber.sent_bytes += u64::from(bytes);
        let completed = if subscriber.finish.is_some_and(|finish| finish.taken) {
            subscriber.finish_sent(&mut buffers.receive, bytes)
        } else {
            self.sent_of_log(buffers, id, bytes)
        };
        if self.state == State::Deleted {
            self.let_go(buffers, id.index());
        }
        if self.subscribers.slowest_moved() {
            self.trim_live(buffers);
        }
        completed
    }
}

impl Partition {
    /// `sent` of what lies in the log.
    #[inline]
    fn sent_of_log(&mut self, buffers: &Buffers, id: SubscriberId, bytes: u32) -> u32 {
        let subscriber = self.subscribers.at_mut(id);
        let taken_bytes = std::mem::take(&mut subscriber.taken_bytes);
        assert!(bytes <= taken_bytes, "only what was taken is sent");
        if bytes == 0 {
            return 0;
        }
        let before = subscriber.boundary;
        let boundary = if bytes == taken_bytes {
            subscriber.position = subscriber.taken_end.position;
            subscriber.taken_end
        } else if let Some((position, boundary)) = self.sent_of_window(&buffers.memory, id, bytes) {
            // At a run's end the next frame's boundary lies behind a hole: the position is there, too.
            self.subscribers.at_mut(id).position = position.max(boundary.position);
            boundary
        } else {
            let position =
                self.log.holes.over(self.log.holes.advance(self.subscribers.at(id).position, bytes.into()));
            self.subscribers.at_mut(id).position = position;
            self.log.floor(&buffers.memory, before, position)
        };
        if boundary.position > before.position {
            self.subscribers.at_mut(id).boundary = boundary;
            self.subscribers.left(before);
        }
        records(before.offset, boundary.offset)
    }
}

/// Records between two boundaries of one take. Each frame has at least 64 bytes for at most
/// `BATCH_RECORDS_MAX` records, and a take is at most 4 GiB: more than fits is counted as what fits.
#[inline]
fn records(from: u64, to: u64) -> u32 {
    u32::try_from(to - from).unwrap_or(u32::MAX)
}
