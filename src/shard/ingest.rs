//! Frames to records: header, body checksum and batch are verified where they lie, once, before anything
//! refers to them; then sequence and credit, then the partition.

use crate::buf::Span;
use crate::ids::ConnId;
use crate::io::Io;
use crate::lifecycle::State;
use crate::limits::{HEADER_BYTES, HEADER_BYTES_U32};
use crate::metrics::Counter;
use crate::mutation::{self, Mutation};
use crate::partition::{Admission, ProducerSlot, Source};
use crate::proto::code::Code;
use crate::proto::control::Refusal;
use crate::proto::header::{FrameHeader, Kind, body_checksum_matches};
use crate::wire::batch;

use super::Shard;
use super::channels::{AckPoint, Home};
use super::conn::Phase;
use super::credit::Waiter;
use super::messages::BatchRefused;
use super::topics::PartitionSlot;

/// Whether a frame was dealt with or has to stay where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Done with.
    Done,
    /// The connection moves to another shard, which will act on this frame.
    Leave,
}

impl<I: Io> Shard<I> {
    /// Acts on every whole frame of a contiguous run; says how many bytes were dealt with. A connection
    /// that failed on the way has dealt with all of them.
    pub(super) fn ingest(&mut self, id: ConnId, run: Span) -> u32 {
        let mut rest = run;
        loop {
            let header = match self.next_header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(code) => {
                    self.fail(id, code, String::new());
                    return run.bytes;
                }
            };
            let frame_bytes = HEADER_BYTES_U32 + header.body_bytes;
            if rest.bytes < frame_bytes {
                break;
            }
            let (frame, after) = rest.split_at(frame_bytes);
            if self.conns[id].is_handshaking() && self.has_to_wait(id, frame, &header) {
                break;
            }
            let verdict = self.frame(id, frame, &header);
            if verdict == Verdict::Leave {
                break;
            }
            if !self.conns[id].is_live() {
                return run.bytes;
            }
            self.conns[id].frame_began_ns = 0;
            rest = after;
        }
        run.bytes - rest.bytes
    }

    /// The header at the start of a run; `None` while it is not whole.
    #[inline]
    fn next_header(&self, run: Span) -> Result<Option<FrameHeader>, Code> {
        let bytes = self.buffers.memory.bytes(run);
        match bytes.first_chunk::<HEADER_BYTES>() {
            Some(header) => FrameHeader::parse(header, self.limits.frame_bytes_max).map(Some),
            None => FrameHeader::check_begun(bytes).map(|()| None),
        }
    }

    fn frame(&mut self, id: ConnId, frame: Span, header: &FrameHeader) -> Verdict {
        self.counters.add(Counter::FramesReceived, 1);
        if header.kind == Kind::Publish {
            if self.conns[id].phase == Phase::Open {
                self.publish(id, frame, header);
            } else {
                self.fail(id, Code::UnexpectedKind, "publish before hello".into());
            }
            return Verdict::Done;
        }
        self.control_frame(id, frame, header)
    }

    fn publish(&mut self, id: ConnId, frame: Span, header: &FrameHeader) {
        self.conns[id].frame_bytes_seen = frame.bytes;
        let handle = header.channel;
        let Some(channel) = self.channels.of(id, handle) else {
            return self.fail(id, Code::UnknownChannel, format!("channel {handle}"));
        };
        if header.offset != 0 || header.append_time_ns != 0 || header.offset_span != 0 {
            return self.fail(id, Code::ReservedNotZero, "a publish frame's server fields are zero".into());
        }
        let Some(granted) = channel.spend(frame.bytes) else {
            let sent = channel.used + u64::from(frame.bytes);
            let detail = format!("channel {handle}: {sent} bytes sent, limit {}", channel.limit);
            return self.fail(id, Code::CreditOverrun, detail);
        };
        let (home, producer_id) = (channel.home, channel.producer_id);
        if header.producer_id != producer_id {
            // Of another producer, so it says nothing of this one's sequences; its credit is used up.
            self.channels[handle].extend(u64::from(granted));
            let detail = format!("the channel was opened for producer {producer_id}");
            let refused = BatchRefused { code: Code::UnknownProducer, record: None, detail };
            return self.nack(id, handle, header.sequence, refused);
        }
        let verified = self.verify(frame, header);
        match home {
            Home::Local { slot, producer } => {
                self.publish_local(id, handle, slot, producer, frame, header, verified);
                self.topics[slot].partition.ungrant(u64::from(granted));
                self.list_channel(handle);
            }
            Home::Remote { .. } => self.lend_batch(id, handle, frame, granted, header, verified),
            Home::Gone | Home::Nowhere | Home::Opening { .. } => {
                self.nack(id, handle, header.sequence, Code::NoSuchTopicNow.into());
            }
        }
    }

    /// Body checksum, batch structure and deadline; nothing here depends on the partition.
    fn verify(&self, frame: Span, header: &FrameHeader) -> Result<(), BatchRefused> {
        let bytes = self.buffers.memory.bytes(frame);
        if !body_checksum_matches(bytes) && !mutation::on(Mutation::SkipBodyChecksum) {
            return Err(Code::BadBodyChecksum.into());
        }
        let batch = batch::verify(&bytes[HEADER_BYTES..], header.record_count, &self.batch_limits).map_err(
            |error| BatchRefused { code: error.code, record: error.record, detail: error.detail.into() },
        )?;
        let deadline = batch.deadline_ns();
        if deadline != 0 && deadline < self.clock.wall_ns {
            let late = self.clock.wall_ns - deadline;
            return Err(BatchRefused {
                code: Code::DeadlineExpired,
                record: None,
                detail: format!("{late} ns too late"),
            });
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // what a publish consists of
    fn publish_local(
        &mut self,
        id: ConnId,
        handle: u32,
        slot: PartitionSlot,
        producer: ProducerSlot,
        frame: Span,
        header: &FrameHeader,
        verified: Result<(), BatchRefused>,
    ) {
        let owner = self.channels[handle].owner;
        let result = self.store(slot, producer, owner, &[frame], Source::Local, header, verified);
        match result {
            Ok(point) if point.duplicate && mutation::on(Mutation::AckDuplicateEarly) => {
                self.ack_now(id, handle, point);
            }
            Ok(point)
                if self.wait_for_level(slot, self.channels[handle].level, Waiter::Here(handle), point) => {}
            Ok(point) if point.duplicate => self.ack_now(id, handle, point),
            Ok(point) => self.ack_later(id, handle, point),
            Err(refused) => self.nack(id, handle, header.sequence, refused),
        }
    }

    /// Admission and append on a partition of this shard; the same for local and remote producers.
    #[allow(clippy::too_many_arguments)] // what an append consists of
    pub(super) fn store(
        &mut self,
        slot: PartitionSlot,
        producer: ProducerSlot,
        owner: u64,
        pieces: &[Span],
        source: Source,
        header: &FrameHeader,
        verified: Result<(), BatchRefused>,
    ) -> Result<AckPoint, BatchRefused> {
        let state = self.state;
        let owned = &mut self.topics[slot];
        let sequence = header.sequence;
        // Another shard's channel ends only when that shard hears of it, too.
        if owned.partition.is_deleted() {
            return Err(Code::NoSuchTopicNow.into());
        }
        if let Some(reason) = owned.partition.fenced() {
            let detail = reason.to_owned();
            return Err(BatchRefused { code: Code::PartitionFenced, record: None, detail });
        }
        match owned.partition.admit(producer, owner, sequence, header.body_checksum) {
            Admission::New => {}
            Admission::Duplicate { offset, span, append_time_ns } => {
                self.counters.add(Counter::BatchesDuplicate, 1);
                return Ok(AckPoint { sequence, offset, span, append_time_ns, duplicate: true });
            }
            Admission::Refused(code) => return Err(code.into()),
        }
        if let Err(refused) = verified {
            if !refused.code.retryable() {
                owned.partition.consume_sequence(producer, owner, sequence, refused.code);
            }
            return Err(refused);
        }
        match state {
            State::Running => {}
            State::Paused => return Err(Code::TopicPaused.into()),
            _ => return Err(Code::Draining.into()),
        }
        if owned.log.as_ref().is_some_and(|log| log.acks.is_full()) {
            return Err(Code::BackPressure.into());
        }
        let appended =
            owned.partition.append(&mut self.buffers, pieces, source, header, producer, self.clock.wall_ns);
        let appended = match appended {
            Ok(appended) => appended,
            Err(code) => {
                if !code.retryable() {
                    owned.partition.consume_sequence(producer, owner, sequence, code);
                }
                let detail = owned.why_not(code);
                return Err(BatchRefused { code, record: None, detail });
            }
        };
        if owned.partition.is_log() {
            self.list_log(slot);
        }
        let owned = &mut self.topics[slot];
        if !owned.pinning && owned.partition.holds_receive_memory() {
            owned.pinning = true;
            self.pinning.push(slot);
        }
        if !owned.dirty {
            owned.dirty = true;
            self.dirty_partitions.push(slot);
        }
        self.counters.add(Counter::BatchesAccepted, 1);
        self.counters.add(Counter::RecordsAccepted, u64::from(header.record_count));
        self.counters.add(Counter::PayloadBytesAccepted, HEADER_BYTES as u64 + u64::from(header.body_bytes));
        Ok(AckPoint {
            sequence,
            offset: appended.offset,
            span: header.record_count,
            append_time_ns: appended.append_time_ns,
            duplicate: false,
        })
    }

    /// Answers one batch with the reason why it was not taken.
    pub(super) fn nack(&mut self, id: ConnId, handle: u32, sequence: u64, refused: BatchRefused) {
        self.counters.add(Counter::BatchesRefused, 1);
        self.counters.add(Counter::NacksSent, 1);
        self.counters.refused(refused.code);
        // What was accepted before is acknowledged first, so that the client sees one order.
        self.ack_pending(id, handle);
        let retry_after_us = retry_after_us(refused.code);
        let refusal =
            Refusal { code: refused.code, retry_after_us, record: refused.record, detail: refused.detail };
        let frame = refusal.frame(Kind::Nack, handle, sequence);
        self.say(id, &frame);
    }
}

/// How long a client that is told to try again waits at least.
const fn retry_after_us(code: Code) -> u32 {
    match code {
        // These end when somebody does something about them.
        Code::DiskFull | Code::PartitionFenced => 1_000_000,
        Code::TopicPaused => 100_000,
        code if code.retryable() => 1_000,
        _ => 0,
    }
}
