//! A `log` partition's way to its files: frames are appended to the ring as in any other, behind the headers of flushes;
//! what is written, from where, and what that makes of acknowledgements, consumers and room in the ring.
//!
//! Owns: the writer's plan, the closed segments' list, the state that was captured for a snapshot, and what is to be
//! told to control. The ring and the subscribers are the partition's.
//!
//! Invariants: consumers get what is written (of a topic whose durability is `durable`: what is durable) and nothing
//! else; the ring keeps what is not written; a partition that is fenced stores nothing and hands nothing out.

use std::collections::VecDeque;

use super::log::HEADER_BYTES;
use super::{Appended, Boundary, LogSpec, Partition, small};
use crate::buf::{Buffers, CopyReason, SendMemory, Span};
use crate::commit_log::format::FlushHeader;
use crate::commit_log::{
    BLOCK_BYTES, FLUSH_HEADER_BYTES, LogPoint, RecoveredLog, SegmentInfo, Snapshot, block_up,
};
use crate::ids::PartitionId;
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::proto::header::{AckLevel, FrameHeader, stamp};

mod writer;

pub use writer::{LogWrite, NextSegment, NoSegment};
use writer::{Next, Placement, Writer};

/// Something for control.
#[derive(Debug)]
pub enum LogEvent {
    /// A file for the segment of this number will be needed.
    WantSegment(u64),
    /// A segment takes no more and is durable: its file can be let go.
    Sealed(Box<SegmentInfo>),
    /// The small state of a moment that is durable now.
    Snapshot(Box<Snapshot>),
}

/// What became of a write.
#[derive(Debug)]
pub enum Wrote {
    /// It is complete; `durably`: no sync is needed for it.
    Done {
        /// It was to be durable when complete.
        durably: bool,
    },
    /// The rest is to be submitted.
    Again(LogWrite),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) writer: Writer,
    /// Closed and durable, oldest first.
    pub(super) segments: VecDeque<SegmentInfo>,
    /// What consumers wait for.
    level: AckLevel,
    fenced: Option<Box<str>>,
    /// Captured, and durable some time soon.
    snapshot: Option<Box<Snapshot>>,
    /// Position of the last one captured.
    snapshot_at: u64,
    /// As much log lies between two of them.
    snapshot_bytes: u64,
    /// Everything is to be written, synced and closed; a last snapshot goes with it.
    finishing: bool,
    pub(super) events: VecDeque<LogEvent>,
}

impl Durable {
    pub(super) fn new(partition: PartitionId, spec: LogSpec, ring_bytes: u64) -> Durable {
        let LogSpec { recovered, durability: level, snapshot_bytes } = spec;
        let RecoveredLog { end, chain, next_sequence, .. } = recovered;
        let writer = Writer::new(partition, end, chain, next_sequence, ring_bytes);
        Durable {
            writer,
            segments: recovered.segments.into(),
            level,
            fenced: None,
            snapshot: None,
            snapshot_at: end.position,
            snapshot_bytes,
            finishing: false,
            events: VecDeque::new(),
        }
    }

    /// What consumers may have.
    #[inline]
    pub(super) fn visible(&self) -> Boundary {
        let waits = self.level == AckLevel::Durable && !mutation::on(Mutation::ShowUnwritten);
        if waits { self.writer.durable } else { self.writer.written }
    }

    /// Bytes of the ring that are not written.
    #[inline]
    pub(super) fn unwritten(&self) -> u64 {
        self.writer.end.position - self.writer.written.position
    }
}

const LOG: &str = "a partition of kind log";

impl Partition {
    /// Whether its records go to files.
    #[inline]
    #[must_use]
    pub fn is_log(&self) -> bool {
        self.durable.is_some()
    }

    fn durable(&self) -> &Durable {
        self.durable.as_ref().expect(LOG)
    }

    pub(super) fn durable_mut(&mut self) -> &mut Durable {
        self.durable.as_mut().expect(LOG)
    }

    /// The offset after the last record that has reached this level.
    #[must_use]
    pub fn reached(&self, level: AckLevel) -> u64 {
        let writer = match &self.durable {
            None => return self.log.end().offset,
            Some(durable) => &durable.writer,
        };
        match level {
            AckLevel::Received => writer.end.offset,
            AckLevel::Written => writer.written.offset,
            AckLevel::Durable if mutation::on(Mutation::AckBeforeSync) => writer.written.offset,
            AckLevel::Durable => writer.durable.offset,
        }
    }

    /// Why nothing is stored any more.
    #[must_use]
    pub fn fenced(&self) -> Option<&str> {
        self.durable.as_ref()?.fenced.as_deref()
    }

    /// Whether there is no room for the next segment: batches are refused once this one is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        self.durable.as_ref().is_some_and(|durable| durable.writer.no_space())
    }

    /// The last point that is durable.
    #[must_use]
    pub fn durable_point(&self) -> LogPoint {
        self.durable().writer.durable
    }

    // ---- appending ----

    /// `append` of a `log` partition.
    pub(super) fn append_to_log(
        &mut self,
        buffers: &mut Buffers,
        pieces: &[Span],
        header: &FrameHeader,
        appended: Appended,
    ) -> Result<(), Code> {
        let durable = self.durable();
        if durable.fenced.is_some() {
            return Err(Code::PartitionFenced);
        }
        let bytes = header.frame_bytes() as u64;
        let placement = durable.writer.placement(bytes).map_err(|why| match why {
            NoSegment::Coming => Code::BackPressure,
            NoSegment::NoSpace | NoSegment::Failed => Code::DiskFull,
        })?;
        self.make_log_room(buffers, block_up(placement.frame + bytes))?;
        if placement.begins.is_some() {
            self.begin_flush(buffers, placement, appended.append_time_ns);
        }
        let frame = self.log.copy_to_end(&mut buffers.memory, pieces, CopyReason::Retain);
        let (head, _) = frame.split_at(HEADER_BYTES);
        let head = buffers.memory.bytes_mut(head);
        stamp(head, self.id.0, appended.offset, header.record_count, appended.append_time_ns);
        let checksum = u32::from_le_bytes(head[60..64].try_into().expect("four bytes"));
        self.log.extend(frame.bytes, header.record_count, appended.append_time_ns);
        let writer = &mut self.durable_mut().writer;
        writer.appended(frame.bytes, header.record_count, checksum, appended.append_time_ns);
        debug_assert_eq!(self.durable().writer.end, self.log.end());
        Ok(())
    }

    fn begin_flush(&mut self, buffers: &mut Buffers, placement: Placement, wall_ns: u64) {
        self.close_flush(buffers);
        let start = placement.begins.expect("a flush begins");
        let due = start - self.durable().snapshot_at >= self.durable().snapshot_bytes;
        let begun = self.durable_mut().writer.begin(placement, wall_ns);
        self.log.leave_hole(placement.frame);
        if begun.is_some() {
            let durable = self.durable_mut();
            while let Some(sequence) = durable.writer.next_wanted() {
                durable.events.push_back(LogEvent::WantSegment(sequence));
            }
        }
        if due {
            let info = self.durable().writer.active().expect("a segment is appended to").clone();
            let at = LogPoint { position: start, offset: self.log.end().offset };
            self.capture(info, at);
        }
    }

    /// Keeps the small state of this moment until all before it is durable. `at` lies in the segment, or at its end.
    fn capture(&mut self, segment: SegmentInfo, at: LogPoint) {
        let producers = self.producers.states();
        let last_append_ns = self.last_append_ns;
        let durable = self.durable_mut();
        let chain = durable.writer.chain;
        durable.snapshot_at = at.position;
        let SegmentInfo { sequence, first_time_ns, index, .. } = segment;
        let snapshot = Snapshot { sequence, at, chain, last_append_ns, first_time_ns, index, producers };
        durable.snapshot = Some(Box::new(snapshot));
    }

    /// Pads the open flush, puts its header in its place, and has it written.
    fn close_flush(&mut self, buffers: &mut Buffers) {
        let Some(mut flush) = self.durable_mut().writer.take_open() else { return };
        let header = self.durable().writer.last_header(&mut flush);
        if let Some(header) = header {
            let end = flush.end.position;
            let padding = self.log.ring_span(end, small(block_up(end) - end));
            if padding.bytes > 0 {
                buffers.memory.bytes_mut(padding).fill(0);
            }
            let place = self.log.ring_span(flush.start, FLUSH_HEADER_BYTES);
            buffers.memory.bytes_mut(place).copy_from_slice(&header);
        }
        self.durable_mut().writer.close(flush, header.is_some());
    }

    // ---- room ----

    /// Makes room in the ring for a log that ends at `end`. What is written may go; consumers that have yet to get it
    /// read it from the files.
    fn make_log_room(&mut self, buffers: &mut Buffers, end: u64) -> Result<(), Code> {
        let Some(needed) = self.log.start_needed_for(end) else { return Ok(()) };
        // In steps: each looks at every subscriber.
        let wanted = needed + self.log.ring_bytes() / 32;
        let pinned = self.durable().writer.pinned_from();
        let from = self.log.start().position;
        // Whatever is taken, however far behind: the start may go beyond what is wanted, to where a frame begins.
        let taken = self.subscribers.first_taken_within(from, u64::MAX);
        let taken = taken.filter(|_| !mutation::on(Mutation::FreeUnderSend)).unwrap_or(u64::MAX);
        let limit = self.log.floor(&buffers.memory, self.log.start(), pinned.min(taken));
        if limit.position < needed {
            return Err(Code::BackPressure);
        }
        let target = wanted.min(limit.position);
        let start = self.log.eviction_boundary(&buffers.memory, target, limit.position);
        for slot in 0..self.subscribers.slots() {
            self.leave_ring(buffers, slot, start)?;
        }
        self.evict(buffers, start);
        Ok(())
    }

    /// A subscriber that is inside a frame before `start` gets the rest of it from a block.
    fn leave_ring(&mut self, buffers: &mut Buffers, slot: usize, start: Boundary) -> Result<(), Code> {
        let Some(subscriber) = self.subscribers.slot(slot) else { return Ok(()) };
        let (boundary, first) = (subscriber.boundary, self.log.start());
        let inside = subscriber.position > boundary.position;
        if !inside || boundary.position >= start.position || boundary.position < first.position {
            return Ok(());
        }
        self.set_aside_rest(buffers, slot)?;
        let next = self.log.after(&buffers.memory, boundary);
        let subscriber = self.subscribers.slot_mut(slot).expect("a subscriber");
        subscriber.boundary = next;
        subscriber.position = next.position;
        Ok(())
    }

    // ---- segments ----

    /// A file for the next segment, or why there is none for now.
    pub fn offer_segment(&mut self, next: Result<NextSegment, NoSegment>) {
        self.durable_mut().writer.offer(next);
    }

    /// What control has to be told next.
    pub fn next_log_event(&mut self) -> Option<LogEvent> {
        self.durable.as_mut()?.events.pop_front()
    }

    /// Closes the segment that is appended to.
    pub fn roll(&mut self, buffers: &mut Buffers) {
        self.close_flush(buffers);
        self.durable_mut().writer.roll();
        self.went_durable();
    }

    /// The oldest segment that takes no more and is not durable yet.
    #[must_use]
    pub fn oldest_closing(&self) -> Option<u64> {
        self.durable().writer.closing().next().map(|info| info.sequence)
    }

    /// Where the log ends.
    #[must_use]
    pub fn log_point(&self) -> LogPoint {
        self.log.end()
    }

    /// The number of the next segment.
    #[must_use]
    pub fn next_segment(&self) -> u64 {
        self.durable().writer.next_sequence
    }

    /// Closes the log for good: everything is written and synced, and a last snapshot taken.
    pub fn finish(&mut self, buffers: &mut Buffers) {
        if self.durable().finishing || self.durable().fenced.is_some() {
            return;
        }
        self.durable_mut().finishing = true;
        self.take_snapshot(buffers);
        self.roll(buffers);
    }

    /// A snapshot is taken of all there is, and told when that is durable; none where there is nothing new since the last.
    pub fn take_snapshot(&mut self, buffers: &mut Buffers) {
        if self.durable().fenced.is_some() {
            return;
        }
        self.close_flush(buffers);
        let Durable { writer, segments, snapshot_at, .. } = self.durable();
        let end = self.log.end();
        let at = LogPoint { position: block_up(end.position), offset: end.offset };
        let last = writer.active().or_else(|| writer.closing().last()).or_else(|| segments.back());
        if at.position > *snapshot_at
            && let Some(segment) = last.cloned()
        {
            self.capture(segment, at);
        }
        self.release_snapshot();
    }

    /// Whether everything that was appended is durable and told, or will not be.
    #[must_use]
    pub fn log_settled(&self) -> bool {
        let Some(durable) = &self.durable else { return true };
        let idle = durable.writer.is_idle() && durable.writer.closing().next().is_none();
        durable.fenced.is_some() || self.log_is_whole() && idle
    }

    /// Whether everything that was appended is durable.
    #[must_use]
    pub fn log_is_whole(&self) -> bool {
        let writer = self.durable.as_ref().map(|durable| &durable.writer);
        writer.is_none_or(|writer| writer.durable.offset == writer.end.offset)
    }

    // ---- writing ----

    /// What is to be written now, if anything. Small flushes are copied to a block of `blocks`; where there is none, it is
    /// asked again later. `durable_only`: nobody waits for less than durable, so that one operation does both.
    pub fn next_write(
        &mut self,
        buffers: &mut Buffers,
        blocks: &mut SendMemory,
        durable_only: bool,
    ) -> Option<LogWrite> {
        if self.durable().fenced.is_some() {
            return None;
        }
        if self.durable().writer.wants_close(durable_only) {
            self.close_flush(buffers);
        }
        let next = self.durable().writer.next()?;
        let (span, checksum) = match next {
            Next::Ring(flush) => (self.log.ring_span(flush.start, small(flush.block_bytes())), 0),
            Next::Copy(mut flush) => {
                let block = blocks.take(small(BLOCK_BYTES))?;
                let header =
                    self.durable().writer.last_header(&mut flush).expect("something is to be written");
                let frames_at = flush.start + u64::from(FLUSH_HEADER_BYTES);
                let frames = self.log.ring_span(frames_at, small(flush.end.position - frames_at));
                let (head, rest) = block.split_at(FLUSH_HEADER_BYTES);
                let (body, padding) = rest.split_at(frames.bytes);
                buffers.memory.bytes_mut(head).copy_from_slice(&header);
                buffers.memory.copy(frames, body, CopyReason::Block);
                if padding.bytes > 0 {
                    buffers.memory.bytes_mut(padding).fill(0);
                }
                (block, FlushHeader::checksum(&header))
            }
            Next::Header(header) => {
                let block = blocks.take(small(BLOCK_BYTES))?;
                let encoded = header.encode();
                let bytes = buffers.memory.bytes_mut(block);
                bytes[..encoded.len()].copy_from_slice(&encoded);
                bytes[encoded.len()..].fill(0);
                (block, 0)
            }
        };
        let writer = &mut self.durable_mut().writer;
        // A small one is written and then synced: the worker of the kernel that ends a durable write may have to wait for
        // its CPU, and for few records that time is worth more than the work saved.
        let durably = durable_only && !matches!(next, Next::Copy(_));
        Some(writer.handed_out(&next, span, checksum, durably))
    }

    /// Whether something could be written if there were a block for it.
    #[must_use]
    pub fn waits_for_block(&self) -> bool {
        self.durable().fenced.is_none() && self.durable().writer.next().is_some()
    }

    /// A write has written so many bytes.
    pub fn wrote(&mut self, id: u32, bytes: u32, blocks: &mut SendMemory) -> Wrote {
        let durable = self.durable_mut();
        if durable.fenced.is_some() {
            self.gave_up_write(id, blocks);
            return Wrote::Done { durably: false };
        }
        match durable.writer.wrote(id, bytes) {
            Err(again) => Wrote::Again(again),
            Ok((copy, durably)) => {
                if let Some(copy) = copy {
                    blocks.give(copy);
                }
                self.went_durable();
                Wrote::Done { durably }
            }
        }
    }

    /// The write found no room on the disk: it is to be submitted again, later.
    pub fn write_again(&mut self, id: u32) -> LogWrite {
        let writer = &mut self.durable_mut().writer;
        let done = writer.progress(id);
        writer.again(id, done)
    }

    /// The write has failed, or has come back to a partition that is fenced.
    pub fn gave_up_write(&mut self, id: u32, blocks: &mut SendMemory) {
        if let Some(copy) = self.durable_mut().writer.forget_write(id) {
            blocks.give(copy);
        }
    }

    /// The segment whose file is to be synced now. `wanted`: somebody waits for it, or it is due.
    pub fn next_sync(&mut self, wanted: bool) -> Option<u64> {
        let durable = self.durable_mut();
        if durable.fenced.is_some() {
            return None;
        }
        let wanted = wanted || durable.finishing || durable.level == AckLevel::Durable;
        durable.writer.next_sync(wanted)
    }

    /// The sync has ended well.
    pub fn synced(&mut self) {
        let durable = self.durable_mut();
        if durable.fenced.is_some() {
            return durable.writer.forget_sync();
        }
        durable.writer.synced();
        self.went_durable();
    }

    /// Tells of segments that are closed and durable, and of the snapshot that waited for it.
    fn went_durable(&mut self) {
        let durable = self.durable_mut();
        while let Some(info) = durable.writer.next_closed() {
            durable.segments.push_back(info.clone());
            durable.events.push_back(LogEvent::Sealed(Box::new(info)));
        }
        self.release_snapshot();
    }

    /// Hands out the captured snapshot once all before it is durable.
    fn release_snapshot(&mut self) {
        let durable = self.durable_mut();
        let reached = durable.writer.durable.offset;
        let early = mutation::on(Mutation::SnapshotEarly);
        if let Some(snapshot) = durable.snapshot.take_if(|snapshot| early || reached >= snapshot.at.offset) {
            durable.events.push_back(LogEvent::Snapshot(snapshot));
        }
    }

    /// Something of the files has failed: nothing more is stored or written. `sync`: the sync in flight has come back.
    pub fn fence(&mut self, reason: &str, sync: bool) {
        let durable = self.durable_mut();
        if sync {
            durable.writer.forget_sync();
        }
        durable.fenced.get_or_insert_with(|| reason.into());
    }

    /// Operations on its files that have not come back.
    #[must_use]
    pub fn log_operations(&self) -> usize {
        self.durable.as_ref().map_or(0, |durable| durable.writer.in_flight())
    }
}
