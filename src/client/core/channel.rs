//! One producer's stream to one partition: its open batch, what is unacknowledged, and where to resume.
//!
//! The queue holds closed batches from the oldest unacknowledged one, with consecutive sequences; the first
//! `transmitted` of them are on the way on this connection. A retryable refusal moves `transmitted` back to the
//! refused batch. The server then answers everything sent after it with `out_of_sequence`, so resending waits
//! for the answer to the last one: an answer can never be taken for that of a later transmission.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::client::core::batcher::Batcher;
use crate::limits::{FRAME_BYTES_MAX_CEILING, HEADER_BYTES};
use crate::proto::header::{FrameHeader, Kind, seal};
use crate::wire::batch::rechannel;

/// The first wait after a refusal that names none, doubled up to the second.
const RETRY_NS: (u64, u64) = (1_000_000, 100_000_000);

/// A closed batch.
pub(crate) struct Batch {
    pub frame: Bytes,
    pub sequence: u64,
    pub records: u32,
    /// The number of its first record among the channel's.
    pub first_record: u64,
    /// And among the producer's.
    pub first_global: u64,
    /// It was refused for good: its sequence is used up, and its frame one without records, which keeps its place.
    pub refused: bool,
}

/// Without its frame: whoever prints a producer does not want all that it has not sent.
impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Batch { frame, sequence, records, first_record, first_global, refused } = self;
        let mut shown = f.debug_struct("Batch");
        shown.field("bytes", &frame.len()).field("sequence", sequence).field("records", records);
        shown.field("first_record", first_record).field("first_global", first_global);
        shown.field("refused", refused).finish()
    }
}

/// Where the channel stands with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not opened on this connection.
    Closed,
    /// `open` is on its way.
    Opening,
    /// Batches may be sent.
    Open,
    /// `open` was refused for now.
    RetryAt(u64),
}

/// What is to be sent again. It goes when everything from there on is answered: so no batch is ever on the way twice, and
/// each answer says which frame it is to.
#[derive(Debug)]
struct Rewind {
    from: u64,
    not_before_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Channel {
    pub partition: u32,
    pub producer_id: u64,
    pub stage: Stage,
    /// The server's handle while open.
    pub handle: u32,
    /// The server's id of the partition; of the last open.
    pub partition_id: u32,
    pub credit_limit: u64,
    /// Frame bytes sent since it was opened, resends included.
    sent_bytes: u64,
    pub batcher: Batcher,
    /// The open batch is to be sent without waiting for its linger.
    pub flush: bool,
    pub queue: VecDeque<Batch>,
    next_sequence: u64,
    transmitted: usize,
    /// Sequences of what was sent and is not answered, lowest first. They are not those of the `transmitted` first in the
    /// queue: of these some may be refused, and others were sent before a rewind.
    unanswered: VecDeque<u64>,
    rewind: Option<Rewind>,
    refusals_in_a_row: u32,
    /// The sequence that the server expected first on this connection.
    expected: u64,
    /// Records taken so far.
    pub records: u64,
    /// The server has forgotten this producer: a new id is needed before it is opened again.
    pub forgotten: bool,
    /// The latest deadline of the open batch's records; 0: one of them has none.
    deadline_ns: u64,
}

impl Channel {
    pub fn new(partition: u32, producer_id: u64, batcher: Batcher) -> Self {
        Channel {
            partition,
            producer_id,
            stage: Stage::Closed,
            handle: 0,
            partition_id: 0,
            credit_limit: 0,
            sent_bytes: 0,
            batcher,
            flush: false,
            queue: VecDeque::new(),
            next_sequence: 1,
            transmitted: 0,
            unanswered: VecDeque::new(),
            rewind: None,
            refusals_in_a_row: 0,
            expected: 1,
            records: 0,
            forgotten: false,
            deadline_ns: 0,
        }
    }

    /// The sequence the server should expect: of the oldest unacknowledged batch, or of the next one.
    pub fn resume_sequence(&self) -> u64 {
        self.queue.front().map_or(self.next_sequence, |batch| batch.sequence)
    }

    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Nothing waits for the server.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.batcher.is_empty()
    }

    /// The number of the oldest record that is neither acknowledged nor refused, among the channel's.
    pub fn oldest_record(&self) -> u64 {
        self.queue
            .front()
            .map_or(self.records - u64::from(self.batcher.records()), |batch| batch.first_record)
    }

    /// The same among all of the producer's; `None`: there is none.
    pub fn oldest_global(&self) -> Option<u64> {
        self.queue
            .front()
            .map(|batch| batch.first_global)
            .or_else(|| (!self.batcher.is_empty()).then(|| self.batcher.first_global()))
    }

    /// A record came into the open batch.
    pub fn took_record(&mut self, deadline_ns: u64) {
        let first = self.batcher.records() == 1;
        self.deadline_ns = match (first, self.deadline_ns) {
            (true, _) => deadline_ns,
            (false, 0) => 0,
            (false, _) if deadline_ns == 0 => 0,
            (false, latest) => latest.max(deadline_ns),
        };
        self.records += 1;
    }

    /// Closes the open batch; returns its frame's bytes.
    pub fn close_batch(&mut self) -> usize {
        let records = self.batcher.records();
        let first_global = self.batcher.first_global();
        let frame = Bytes::from(self.batcher.close(self.producer_id, self.next_sequence, self.deadline_ns));
        let bytes = frame.len();
        self.queue.push_back(Batch {
            frame,
            sequence: self.next_sequence,
            records,
            first_record: self.records - u64::from(records),
            first_global,
            refused: false,
        });
        self.next_sequence += 1;
        self.flush = false;
        bytes
    }

    /// The transport is gone.
    pub fn disconnected(&mut self) {
        self.stage = Stage::Closed;
        self.transmitted = 0;
        self.unanswered.clear();
        self.rewind = None;
    }

    /// The server opened the channel, and expects that sequence.
    pub fn opened(&mut self, handle: u32, credit: u64, expected: u64) {
        self.stage = Stage::Open;
        self.handle = handle;
        self.expected = expected;
        self.credit_limit = credit;
        self.sent_bytes = 0;
        self.transmitted = 0;
        self.unanswered.clear();
        self.rewind = None;
    }

    /// A new producer id: everything unacknowledged is numbered from 1.
    pub fn renumber(&mut self, producer_id: u64) {
        self.producer_id = producer_id;
        self.forgotten = false;
        self.transmitted = 0;
        self.unanswered.clear();
        self.rewind = None;
        self.queue.retain(|batch| !batch.refused);
        self.next_sequence = 1;
        for batch in &mut self.queue {
            batch.sequence = self.next_sequence;
            self.next_sequence += 1;
            batch.frame = resealed(&batch.frame, producer_id, batch.sequence);
        }
    }

    /// A batch that was refused is passed over where the server knows that its sequence is used up. One that has lost
    /// its memory since may not.
    fn is_passed_over(&self, batch: &Batch) -> bool {
        batch.refused && batch.sequence < self.expected
    }

    /// Whether the oldest batch was refused, and the server that is there now knows that its sequence is used up.
    fn is_done_with_refused(&self, oldest: &Batch) -> bool {
        let answered = self.transmitted > 0 && self.unanswered.front() != Some(&oldest.sequence);
        self.is_passed_over(oldest) || oldest.refused && answered
    }

    /// Whether a batch may go now, or need not.
    fn may_pass(&self, batch: &Batch, inflight_max: usize) -> bool {
        self.is_passed_over(batch) || self.may_send(batch.frame.len(), inflight_max)
    }

    /// Whether a frame of this size may go now: within the credit, or alone.
    fn may_send(&self, frame_bytes: usize, inflight_max: usize) -> bool {
        let within_credit = self.sent_bytes + frame_bytes as u64 <= self.credit_limit;
        let alone = self.unanswered.is_empty();
        self.transmitted < inflight_max && (within_credit || alone)
    }

    /// Whether the open batch has waited long enough.
    fn is_due(&self, linger_ns: u64, now_ns: u64) -> bool {
        !self.batcher.is_empty()
            && (self.flush || self.batcher.is_full() || now_ns >= self.batcher.since_ns() + linger_ns)
    }

    /// Whether what is to be sent again may not be sent yet.
    fn is_rewinding(&self, now_ns: u64) -> bool {
        self.rewind.as_ref().is_some_and(|rewind| now_ns < rewind.not_before_ns || self.awaits_from(rewind))
    }

    fn awaits_from(&self, rewind: &Rewind) -> bool {
        self.unanswered.back().is_some_and(|last| *last >= rewind.from)
    }

    /// Something is on the way whose answer is still due.
    pub fn awaits_answers(&self) -> bool {
        self.stage == Stage::Open && !self.unanswered.is_empty() && self.rewind.is_none()
    }

    pub fn is_refused_for_now(&self) -> bool {
        self.rewind.is_some()
    }

    /// Whether [`Channel::next_frame`] would give one.
    pub fn has_output(&self, inflight_max: usize, linger_ns: u64, now_ns: u64) -> bool {
        if self.stage != Stage::Open || self.is_rewinding(now_ns) {
            return false;
        }
        match self.queue.get(self.transmitted) {
            Some(batch) => self.may_pass(batch, inflight_max),
            None => self.is_due(linger_ns, now_ns) && self.may_send(self.batcher.bytes(), inflight_max),
        }
    }

    /// The next frame to write, and how many bytes the closing of the open batch added to the queue.
    pub fn next_frame(&mut self, inflight_max: usize, linger_ns: u64, now_ns: u64) -> Option<(Bytes, usize)> {
        let mut closed_bytes = 0;
        while self.has_output(inflight_max, linger_ns, now_ns) {
            self.rewind = None;
            if self.transmitted == self.queue.len() {
                closed_bytes = self.close_batch();
            }
            let handle = self.handle;
            let passed_over = self.is_passed_over(&self.queue[self.transmitted]);
            let batch = &mut self.queue[self.transmitted];
            self.transmitted += 1;
            if passed_over {
                continue;
            }
            addressed(&mut batch.frame, handle);
            self.sent_bytes += batch.frame.len() as u64;
            self.unanswered.push_back(batch.sequence);
            return Some((batch.frame.clone(), closed_bytes));
        }
        None
    }

    /// When something may be due by time alone.
    pub fn next_deadline(&self, inflight_max: usize, linger_ns: u64) -> Option<u64> {
        match self.stage {
            Stage::RetryAt(at) => return Some(at),
            Stage::Closed | Stage::Opening => return None,
            Stage::Open => {}
        }
        if let Some(rewind) = &self.rewind {
            // Where time alone does not help, an answer or credit will.
            let next = self.queue.get(self.transmitted);
            let may_go = next.is_none_or(|next| self.may_pass(next, inflight_max));
            return (may_go && !self.awaits_from(rewind)).then_some(rewind.not_before_ns);
        }
        let waits_for_time_only = self.transmitted == self.queue.len()
            && !self.batcher.is_empty()
            && self.may_send(self.batcher.bytes(), inflight_max);
        waits_for_time_only.then(|| self.batcher.since_ns() + linger_ns)
    }

    /// The server has refused `sequence`, for now or for good: this one is answered.
    pub fn refused(&mut self, sequence: u64) {
        if let Ok(at) = self.unanswered.binary_search(&sequence) {
            self.unanswered.remove(at);
        }
    }

    /// The batch at this place of the queue was refused for good: how many bytes go with its records.
    pub fn refuse(&mut self, index: usize) -> usize {
        let batch = &mut self.queue[index];
        let before = batch.frame.len();
        batch.refused = true;
        batch.frame = without_records(self.producer_id, batch.sequence);
        before - batch.frame.len()
    }

    /// Takes what is acknowledged up to and including `sequence` off the queue, and what was refused right behind it
    /// and is answered: no acknowledgement has to follow that would name it.
    pub fn acknowledged(&mut self, sequence: u64) -> impl Iterator<Item = Batch> + '_ {
        let beyond = self.unanswered.partition_point(|sent| *sent <= sequence);
        self.unanswered.drain(..beyond);
        self.refusals_in_a_row = 0;
        if self.rewind.as_ref().is_some_and(|rewind| rewind.from <= sequence) {
            self.rewind = None;
        }
        std::iter::from_fn(move || {
            let front = self.queue.front()?;
            if front.sequence > sequence && !self.is_done_with_refused(front) {
                return None;
            }
            self.transmitted = self.transmitted.saturating_sub(1);
            self.queue.pop_front()
        })
    }

    /// The batch with this sequence, if it is unacknowledged and was sent.
    pub fn index_of(&self, sequence: u64) -> Option<usize> {
        let front = self.queue.front()?.sequence;
        let index = usize::try_from(sequence.checked_sub(front)?).ok()?;
        (index < self.queue.len()).then_some(index)
    }

    /// Whether `sequence` comes after a batch that has to be resent anyway.
    pub fn is_resent_anyway(&self, sequence: u64) -> bool {
        self.rewind.as_ref().is_some_and(|rewind| sequence > rewind.from)
    }

    /// `sequence` was refused for now: it and what follows is sent again, after `wait_ns` (0: some back-off).
    pub fn rewind_to(&mut self, sequence: u64, wait_ns: u64, now_ns: u64) {
        let Some(index) = self.index_of(sequence) else { return };
        if index >= self.transmitted {
            return;
        }
        let backoff_ns = (RETRY_NS.0 << self.refusals_in_a_row.min(10)).min(RETRY_NS.1);
        self.refusals_in_a_row += 1;
        let not_before_ns = now_ns + if wait_ns == 0 { backoff_ns } else { wait_ns };
        self.rewind = Some(Rewind { from: sequence, not_before_ns });
        self.transmitted = index;
    }
}

/// What uses up a sequence, and nothing else: the server refuses it for good.
fn without_records(producer_id: u64, sequence: u64) -> Bytes {
    let header = FrameHeader { producer_id, sequence, ..FrameHeader::new(Kind::Publish) };
    Bytes::copy_from_slice(&header.alone())
}

/// Puts the channel's handle into the frame, in place unless someone else still reads it.
fn addressed(frame: &mut Bytes, handle: u32) {
    if frame[36..40] == handle.to_le_bytes() {
        return;
    }
    let mut bytes = owned(std::mem::take(frame));
    rechannel(&mut bytes, handle);
    *frame = bytes.freeze();
}

fn resealed(frame: &Bytes, producer_id: u64, sequence: u64) -> Bytes {
    let mut bytes = BytesMut::from(&frame[..]);
    let (head, body) = bytes.split_at_mut(HEADER_BYTES);
    let head: &mut [u8; HEADER_BYTES] = head.try_into().expect("split at the header's end");
    let header = FrameHeader::parse(head, FRAME_BYTES_MAX_CEILING).expect("the batcher made it");
    FrameHeader { producer_id, sequence, ..header }.encode(head);
    seal(head, body);
    bytes.freeze()
}

fn owned(frame: Bytes) -> BytesMut {
    frame.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Record;

    const IN_FLIGHT: usize = 8;

    /// A channel with so many batches of one record, and credit for so many of them.
    fn channel(batches: u64, credited: u64) -> Channel {
        let mut channel = Channel::new(0, 9, Batcher::new(4096, 1));
        let mut bytes = 0;
        for number in 0..batches {
            channel.batcher.push(&Record::new(b"record"), number, 0);
            channel.took_record(0);
            bytes = channel.close_batch();
        }
        channel.opened(5, credited * bytes as u64, 1);
        channel
    }

    fn sent(channel: &mut Channel, now_ns: u64) -> usize {
        std::iter::from_fn(|| channel.next_frame(IN_FLIGHT, 0, now_ns)).count()
    }

    const LATER: u64 = 3_600_000_000_000;

    #[test]
    fn nothing_is_sent_again_before_all_behind_it_is_answered() {
        let mut channel = channel(3, 6);
        assert_eq!(sent(&mut channel, 0), 3);
        channel.refused(1);
        channel.rewind_to(1, 1_000, 0);
        assert_eq!(sent(&mut channel, LATER), 0, "two answers are due, however late they are");
        assert_eq!(channel.next_deadline(IN_FLIGHT, 0), None, "and time alone does not change that");
        channel.refused(2);
        channel.refused(3);
        assert_eq!(channel.next_deadline(IN_FLIGHT, 0), Some(1_000));
        assert_eq!(sent(&mut channel, 1_000), 3, "again");
        assert!(channel.acknowledged(3).count() == 3 && !channel.awaits_answers());
    }

    /// A channel that has sent so many batches, of which the second was refused for good.
    fn channel_with_refused(batches: u64) -> Channel {
        let mut channel = channel(batches, 6);
        assert_eq!(sent(&mut channel, 0) as u64, batches);
        channel.refused(2);
        channel.refuse(1);
        channel
    }

    #[test]
    fn the_last_batch_is_done_with_where_it_was_refused() {
        let mut channel = channel_with_refused(2);
        assert_eq!(channel.acknowledged(1).count(), 2, "nothing comes behind it that would be acknowledged");
        assert!(channel.is_idle() && !channel.awaits_answers());
    }

    #[test]
    fn a_server_that_forgets_what_it_refused_hears_of_it_again_in_its_place() {
        let mut channel = channel_with_refused(3);
        for (expected, kinds) in [(3, vec![true, true]), (2, vec![true, false, true])] {
            channel.disconnected();
            channel.opened(6, 1_000, expected);
            let mut frames = std::iter::from_fn(|| channel.next_frame(IN_FLIGHT, 0, 0));
            let has_records: Vec<_> = frames.by_ref().map(|(frame, _)| frame.len() > HEADER_BYTES).collect();
            assert_eq!(has_records, kinds, "expecting {expected}");
        }
        assert_eq!(channel.acknowledged(1).count(), 1, "the second is not answered this time");
        channel.refused(2);
        assert_eq!(channel.acknowledged(0).count(), 1);
        assert_eq!(channel.acknowledged(3).count(), 1);
        assert!(channel.is_idle());
    }

    #[test]
    fn only_a_frame_that_is_alone_goes_beyond_the_credit() {
        let mut channel = channel(3, 2);
        assert_eq!(sent(&mut channel, 0), 2);
        channel.refused(2);
        channel.rewind_to(2, 1_000, 0);
        assert_eq!(sent(&mut channel, LATER), 0, "the first is not answered");
        assert_eq!(channel.acknowledged(1).count(), 1);
        assert_eq!(sent(&mut channel, LATER), 1, "alone");
        assert_eq!(sent(&mut channel, LATER), 0, "the third would not be");
    }
}
