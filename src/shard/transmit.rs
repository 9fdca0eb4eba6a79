//! Sending: one vectored send at a time for each connection, made of control frames and of frames straight
//! from partitions' memory, in the order they must be read.
//!
//! A send never waits in the kernel, so what it does not take is known at its completion and given back to
//! where it came from. A frame that was sent in part goes on before anything else (`Conn::resume`).

use crate::buf::Span;
use crate::ids::ConnId;
use crate::io::{Io, IoError, Op, Outcome, SpanListId, TokenKind};
use crate::limits::{SEND_BYTES_MAX, SPANS_PER_SEND};
use crate::metrics::Counter;
use crate::mutation::{self, Mutation};
use crate::partition::Gap;
use crate::proto::code::Code;
use crate::proto::header::{FrameHeader, Kind};

use super::Shard;
use super::conn::{NONE, Phase};
use super::subscriptions::Feed;

/// One stretch of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// From the connection's outbox.
    Control { bytes: u32 },
    /// From a subscription's partition, here or lent by another shard.
    Data { subscription: u32, bytes: u32, records: u32 },
}

/// What a send in flight consists of, in order.
#[derive(Debug)]
pub(super) struct Flight {
    parts: Vec<Part>,
    bytes: u32,
    spans: usize,
    control: u32,
    bytes_max: u32,
}

impl Flight {
    pub(super) fn new() -> Self {
        Flight { parts: Vec::with_capacity(2 * SPANS_PER_SEND), bytes: 0, spans: 0, control: 0, bytes_max: 0 }
    }

    fn clear(&mut self, bytes_max: u32) {
        self.parts.clear();
        (self.bytes, self.spans, self.control) = (0, 0, 0);
        self.bytes_max = bytes_max;
    }

    fn spans_left(&self) -> usize {
        SPANS_PER_SEND - self.spans
    }

    fn room(&self) -> u32 {
        self.bytes_max.saturating_sub(self.bytes)
    }
}

/// Spans kept back in each round for control frames that have to go between data (gaps).
const SPANS_FOR_CONTROL: usize = 4;

impl<I: Io> Shard<I> {
    /// Queues a frame of the server's own for a connection. A peer that does not read its answers is cut
    /// off when its share of the control memory is full.
    pub(super) fn say(&mut self, id: ConnId, frame: &[u8]) {
        let conn = &mut self.conns[id];
        let over = conn.doomed || matches!(conn.phase, Phase::Free | Phase::Closing);
        // A reason is the last word, and so is the end of the stream.
        let last_said = conn.phase == Phase::Lingering && (conn.reason.is_some() || !conn.close_when_sent);
        let closed = conn.secured.as_ref().is_some_and(|secured| secured.closing);
        if over || last_said || closed {
            return;
        }
        if conn.outbox.push(&mut self.blocks, &mut self.buffers.memory, frame, conn.blocked) {
            self.mark_dirty(id);
        } else {
            // Its channels and subscriptions may be in use by the caller: it goes when the phase is over.
            self.doom(id, Code::PeerNotReading);
        }
    }

    /// Condemns a connection: it is closed at the end of the phase, and nothing more is said on it.
    pub(super) fn doom(&mut self, id: ConnId, code: Code) {
        let conn = &mut self.conns[id];
        if !conn.doomed && !matches!(conn.phase, Phase::Free | Phase::Closing) {
            conn.doomed = true;
            self.doomed.push((id, code));
        }
    }

    pub(super) fn end_doomed(&mut self) {
        while let Some((id, code)) = self.doomed.pop() {
            if self.conns[id].doomed {
                self.lost(id, code);
            }
        }
    }

    pub(super) fn mark_dirty(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        if !conn.dirty && conn.sending.is_none() && !conn.blocked {
            conn.dirty = true;
            self.dirty_conns.push(id);
        }
    }

    pub(super) fn transmit_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty_conns);
        for id in dirty.drain(..) {
            if self.conns[id].dirty {
                self.conns[id].dirty = false;
                self.transmit(id);
            }
        }
        // What was marked meanwhile (no free span list) waits for the next tick.
        std::mem::swap(&mut dirty, &mut self.dirty_conns);
        self.dirty_conns.extend(dirty);
    }

    /// Builds and submits one send of what the connection has to get.
    fn transmit(&mut self, id: ConnId) {
        let conn = &self.conns[id];
        if conn.doomed
            || conn.sending.is_some()
            || conn.blocked
            || matches!(conn.phase, Phase::Free | Phase::Closing | Phase::Moving)
        {
            return;
        }
        let Some(list) = self.io.span_list() else {
            return self.mark_dirty(id);
        };
        if self.conns[id].secured.is_some() {
            return self.transmit_sealed(id, list);
        }
        self.gather(id, list, SEND_BYTES_MAX);
        let flight = &self.flights[list.0 as usize];
        if flight.parts.is_empty() {
            self.io.drop_span_list(list);
            return self.nothing_to_send(id);
        }
        self.counters.add(Counter::Sends, 1);
        self.counters.add(Counter::SendSpans, flight.spans as u64);
        for &span in &self.gathered {
            self.io.push_span(list, span);
        }
        let sock = self.conns[id].sock;
        self.conns[id].sending = Some(list);
        self.submit(id, Op::Send { sock, spans: list }, TokenKind::Send);
    }

    /// Gathers what the connection has to get, up to so many bytes: spans in `gathered`, and where they come from in
    /// the list's flight.
    #[inline]
    pub(super) fn gather(&mut self, id: ConnId, list: SpanListId, bytes_max: u32) {
        self.flights[list.0 as usize].clear(bytes_max);
        self.gathered.clear();
        if bytes_max == 0 {
            return;
        }
        let resume = self.conns[id].resume;
        if resume != NONE {
            self.load_data(id, list, resume);
            if self.gathered.is_empty() {
                return self.rest_is_missing(id, resume);
            }
        }
        self.load_control(id, list);
        self.load_subscriptions(id, list);
    }

    /// Ends a session that waited only for its last words to be sent.
    pub(super) fn nothing_to_send(&mut self, id: ConnId) {
        let conn = &self.conns[id];
        let idle = conn.outbox.is_empty() && conn.sending.is_none() && conn.resume == NONE;
        if !idle || conn.lent > 0 || conn.waiting_acks > 0 {
            return;
        }
        let last = conn.phase == Phase::Lingering && (conn.close_when_sent || conn.ended);
        if last && self.has_said_close(id) {
            self.all_said(id);
        }
    }

    /// The rest of a frame that was begun is not there. Another shard sends it by message; of a partition of
    /// this shard it is gone for good (the topic was deleted and no block was free), and with it the stream.
    fn rest_is_missing(&mut self, id: ConnId, resume: u32) {
        if let Feed::Local { slot, subscriber } = self.subscriptions[resume].feed
            && self.topics[slot].partition.is_cut_off(subscriber)
        {
            self.doom(id, Code::TopicDeleted);
        }
    }

    /// Adds what the outbox holds beyond what this send has of it already.
    fn load_control(&mut self, id: ConnId, list: SpanListId) {
        let flight = &mut self.flights[list.0 as usize];
        let outbox = &self.conns[id].outbox;
        let mut skip = flight.control;
        let mut added = 0;
        for span in outbox.spans(&self.blocks) {
            let hidden = skip.min(span.bytes);
            skip -= hidden;
            let (_, rest) = span.split_at(hidden);
            if rest.bytes == 0 {
                continue;
            }
            if flight.spans_left() == 0 {
                break;
            }
            self.gathered.push(rest);
            flight.spans += 1;
            added += rest.bytes;
        }
        if added > 0 {
            flight.control += added;
            flight.bytes += added;
            flight.parts.push(Part::Control { bytes: added });
        }
    }

    /// Adds data of the connection's subscriptions, each in its turn.
    fn load_subscriptions(&mut self, id: ConnId, list: SpanListId) {
        let first = self.conns[id].subscriptions;
        if first == NONE || self.conns[id].phase != Phase::Open {
            return;
        }
        let start = if self.conns[id].turn == NONE { first } else { self.conns[id].turn };
        let mut at = start;
        loop {
            let flight = &self.flights[list.0 as usize];
            if flight.room() == 0 || flight.spans_left() <= SPANS_FOR_CONTROL {
                break;
            }
            self.load_data(id, list, at);
            let next = self.subscriptions[at].next;
            at = if next == NONE { first } else { next };
            if at == start {
                break;
            }
        }
        self.conns[id].turn = at;
    }

    /// Adds what one subscription may get now.
    fn load_data(&mut self, id: ConnId, list: SpanListId, subscription: u32) {
        let entry = &mut self.subscriptions[subscription];
        if entry.in_flight || entry.ending && self.conns[id].resume != subscription {
            return;
        }
        let flight = &self.flights[list.0 as usize];
        let (room, spans_max) = (flight.room(), flight.spans_left().saturating_sub(SPANS_FOR_CONTROL).max(1));
        let mut spans = std::mem::take(&mut self.spans);
        spans.clear();
        let (bytes, records, gap, partition) = match &mut entry.feed {
            Feed::Local { slot, subscriber } => {
                let owned = &mut self.topics[*slot];
                if owned.partition.has_work(*subscriber) {
                    let taken =
                        owned.partition.take(&mut self.buffers, *subscriber, room, spans_max, &mut spans);
                    (taken.bytes, taken.records, taken.gap, owned.id)
                } else {
                    (0, 0, None, owned.id)
                }
            }
            Feed::Remote { lent: Some(lent), .. } if lent.spans.len() <= spans_max => {
                spans.extend_from_slice(&lent.spans);
                (lent.bytes, lent.records, lent.gap.take(), entry.partition)
            }
            _ => (0, 0, None, entry.partition),
        };
        let (bytes, records) = match gap {
            Some(gap) if !self.say_gap(id, list, partition.0, gap) => {
                // Nothing may follow a gap that could not be told; the connection is doomed.
                self.untake(subscription);
                spans.clear();
                (0, 0)
            }
            _ => (bytes, records),
        };
        if bytes == 0 {
            self.return_empty_loan(subscription);
        }
        self.load_spans(list, &spans);
        if bytes > 0 {
            let flight = &mut self.flights[list.0 as usize];
            flight.bytes += bytes;
            flight.parts.push(Part::Data { subscription, bytes, records });
            self.subscriptions[subscription].in_flight = true;
        }
        self.spans = spans;
    }

    fn load_spans(&mut self, list: SpanListId, spans: &[Span]) {
        self.gathered.extend_from_slice(spans);
        self.flights[list.0 as usize].spans += spans.len();
    }

    /// A gap is told before the bytes that follow it; `false` when there was no room to say it.
    #[must_use]
    fn say_gap(&mut self, id: ConnId, list: SpanListId, partition: u32, gap: Gap) -> bool {
        self.queue_gap(id, partition, gap);
        self.load_control(id, list);
        !self.conns[id].doomed
    }

    /// What was taken of a partition of this shard is not sent after all. A loan stays where it is.
    fn untake(&mut self, subscription: u32) {
        if let Feed::Local { slot, subscriber } = self.subscriptions[subscription].feed {
            self.topics[slot].partition.sent(&mut self.buffers, subscriber, 0);
        }
    }

    pub(super) fn queue_gap(&mut self, id: ConnId, partition: u32, gap: Gap) {
        if mutation::on(Mutation::GapUntold) {
            return;
        }
        self.counters.add(Counter::GapRecords, gap.records);
        let frame = FrameHeader {
            channel: partition,
            offset: gap.from,
            sequence: gap.records - u64::from(mutation::on(Mutation::GapShort)),
            flags: gap.reason as u16,
            ..FrameHeader::new(Kind::Gap)
        }
        .alone();
        self.say(id, &frame);
    }

    /// A send has come to its end.
    pub(super) fn sent(&mut self, id: ConnId, outcome: Outcome) {
        let list = self.conns[id].sending.take().expect("a send was in flight");
        let sent = match outcome {
            Outcome::Sent { .. } if mutation::on(Mutation::ShortSendWhole) => {
                self.flights[list.0 as usize].bytes
            }
            // What is left is taken up a byte before, or at the front.
            Outcome::Sent { bytes } if mutation::on(Mutation::ResumeBefore) => {
                let whole = bytes == self.flights[list.0 as usize].bytes;
                bytes - u32::from(!whole && bytes > 0)
            }
            Outcome::Sent { bytes } => bytes,
            _ => 0,
        };
        self.counters.add(Counter::BytesSent, u64::from(sent));
        let total = match self.conns[id].secured.as_ref().and_then(|secured| secured.unsent) {
            Some(unsent) => {
                self.sealed_sent(id, sent);
                unsent.rest.bytes
            }
            None => {
                self.account(id, list, sent);
                self.flights[list.0 as usize].bytes
            }
        };
        match outcome {
            Outcome::Sent { .. } if sent == total => self.mark_dirty(id),
            Outcome::Sent { .. } => {
                self.counters.add(Counter::ShortSends, 1);
                self.block(id);
            }
            Outcome::Failed(IoError::WouldBlock) => self.block(id),
            Outcome::Failed(IoError::Cancelled) => {}
            _ => self.peer_gone(id),
        }
    }

    /// Says to each part of a send how much of it was sent.
    pub(super) fn account(&mut self, id: ConnId, list: SpanListId, sent: u32) {
        self.conns[id].resume = NONE;
        let parts = std::mem::take(&mut self.flights[list.0 as usize].parts);
        let mut left = sent;
        for part in &parts {
            match *part {
                Part::Control { bytes } => {
                    let done = left.min(bytes);
                    left -= done;
                    self.conns[id].outbox.advance(&mut self.blocks, done);
                }
                Part::Data { subscription, bytes, records } => {
                    let done = left.min(bytes);
                    left -= done;
                    let all = done == bytes;
                    self.counters.add(Counter::RecordsDelivered, if all { u64::from(records) } else { 0 });
                    self.data_sent(id, subscription, done, all);
                }
            }
        }
        self.flights[list.0 as usize].parts = parts;
    }

    fn data_sent(&mut self, id: ConnId, subscription: u32, done: u32, all: bool) {
        let closing = self.conns[id].phase == Phase::Closing;
        let entry = &mut self.subscriptions[subscription];
        entry.in_flight = false;
        match &mut entry.feed {
            Feed::Local { slot, subscriber } => {
                let (slot, subscriber) = (*slot, *subscriber);
                let partition = &mut self.topics[slot].partition;
                partition.sent(&mut self.buffers, subscriber, done);
                if partition.in_frame(subscriber) && !closing {
                    self.conns[id].resume = subscription;
                }
                self.feed_from_log(slot, subscriber);
            }
            Feed::Remote { shard, lent, .. } => {
                let loan = lent.take().expect("what is in flight was lent");
                let shard = *shard;
                // Where a short send ended, only the owner can tell: it answers with the rest of the frame, or
                // with `RemoteWhole` when there is none.
                let inside = if done == 0 { loan.continues_frame } else { !all };
                if inside && !closing {
                    self.conns[id].resume = subscription;
                }
                self.give_back(shard, loan, done, !all);
            }
            Feed::Nowhere | Feed::Asked { .. } => unreachable!("only a fed subscription is in flight"),
        }
        if self.subscriptions[subscription].ending && self.conns[id].resume != subscription {
            self.end_subscription(id, subscription);
        }
    }

    /// The socket is full: wait until it is writable.
    fn block(&mut self, id: ConnId) {
        if !matches!(self.conns[id].phase, Phase::Greeting | Phase::Open | Phase::Lingering) {
            return;
        }
        self.counters.add(Counter::SendBlocked, 1);
        self.conns[id].blocked = true;
        self.set_blocked(id, true);
        let sock = self.conns[id].sock;
        self.submit(id, Op::PollWritable { sock }, TokenKind::Writable);
    }

    pub(super) fn writable(&mut self, id: ConnId) {
        if !self.conns[id].blocked {
            return;
        }
        self.conns[id].blocked = false;
        if !self.conns[id].waits_for_block() {
            self.set_blocked(id, false);
        }
        self.mark_dirty(id);
    }

    /// Tells the partitions, so that `topic describe` can say why a consumer lags, and so that it reads on.
    pub(super) fn set_blocked(&mut self, id: ConnId, blocked: bool) {
        let mut at = self.conns[id].subscriptions;
        while at != NONE {
            let entry = &self.subscriptions[at];
            let next = entry.next;
            match entry.feed {
                Feed::Local { slot, subscriber } => {
                    self.topics[slot].partition.set_blocked(subscriber, blocked);
                    if !blocked {
                        // What was read for it may have been given to others meanwhile.
                        self.feed_from_log(slot, subscriber);
                    }
                }
                Feed::Remote { shard, subscriber, .. } if !blocked => {
                    self.say_writable(id, shard, entry.partition, subscriber);
                }
                // What came while the send was in flight must not stay lent for as long as the socket is full.
                Feed::Remote { lent: Some(_), .. } if !entry.in_flight => self.return_lent(id, at),
                _ => {}
            }
            at = next;
        }
    }
}
