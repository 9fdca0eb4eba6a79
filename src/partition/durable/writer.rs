//! What is written to a `log` partition's files, and when: flushes, segments, syncs. Places and counts only; the bytes
//! are its caller's.
//!
//! A flush is open while frames are appended to it. It is handed out for writing when nothing else is in flight, or when
//! it is full and closed. One that fits in a block is written from a copy and stays open: more frames go behind what was
//! written, and the block is written again when the write before has completed. A larger one is closed when it is handed
//! out. So no byte that is being written changes, and the disk gets as much at once as came while it was busy. Where
//! writes are durable, one of more than a part ([`FLUSHES_BESIDE`]) of the largest does not wait: it is written beside
//! the one before, as the disk would else stand still from the end of one to the beginning of the next.
//!
//! Invariants:
//! 1. `durable <= written <= submitted <= end`, in positions and in offsets; `written` only passes a flush when all
//!    writes handed out before are complete.
//! 2. A block is in at most one write in flight.
//! 3. A sync counts for what was written when it was submitted, and for one file; files are synced in order. A write that
//!    is durable when it completes needs none, if all before it are durable.
//! 4. After a failure nothing more is handed out.

use std::collections::VecDeque;

use crate::buf::Span;
use crate::commit_log::format::{FlushHeader, SegmentHeader, digest};
use crate::commit_log::{
    BLOCK_BYTES, FLUSH_HEADER_BYTES, IndexEntry, LogPoint, SegmentInfo, block_down, block_up,
};
use crate::ids::PartitionId;
use crate::limits::{FLUSH_BYTES_MAX, LOG_WRITES_IN_FLIGHT, SEGMENT_INDEX_ENTRIES};
use crate::mutation::{self, Mutation};

/// A segment that was filled sooner than this has the files of two more asked for.
const HURRY_NS: u64 = 2_000_000_000;

/// Where writes are durable, a flush of this part of the largest is written beside the one before. The disk gains little
/// from more at once than 1 MiB.
const FLUSHES_BESIDE: u64 = 4;

/// A file for the next segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextSegment {
    /// The number in its name.
    pub sequence: u64,
    /// For its flush headers.
    pub nonce: u64,
    /// Length of the file.
    pub bytes: u64,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSegment {
    /// It is on its way.
    Coming,
    /// The disk is full.
    NoSpace,
    /// It cannot be made.
    Failed,
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement {
    /// Of its first byte.
    pub frame: u64,
    /// A flush begins here first.
    pub begins: Option<u64>,
    /// And a segment.
    pub rolls: bool,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Active {
    info: SegmentInfo,
    /// Where its file ends, as a position.
    limit: u64,
    /// Between two entries of its index, at least.
    granule: u64,
}

/// A run of frames behind one header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flush {
    /// Of its header.
    pub start: u64,
    /// Where its last frame ends.
    pub end: LogPoint,
    pub sequence: u64,
    /// Position of the segment's first block behind its header.
    base: u64,
    nonce: u64,
    first_offset: u64,
    records: u32,
    digest: u32,
    /// As it was handed out last: up to where, how often, under which checksum.
    submitted: u64,
    revision: u32,
    checksum: u32,
    /// Checksum of the flush header before.
    previous: u32,
}

impl Flush {
    fn frame_bytes(&self) -> u64 {
        self.end.position - self.start - u64::from(FLUSH_HEADER_BYTES)
    }

    /// What is written of it: whole blocks.
    pub(super) fn block_bytes(&self) -> u64 {
        block_up(self.end.position) - self.start
    }

    /// Where in its file it lies.
    fn at(&self) -> u64 {
        BLOCK_BYTES + self.start - self.base
    }

    fn header(&self, durable_offset: u64) -> [u8; FLUSH_HEADER_BYTES as usize] {
        FlushHeader {
            frame_bytes: u32::try_from(self.frame_bytes()).expect("a flush is small"),
            nonce: self.nonce,
            position: self.start,
            first_offset: self.first_offset,
            records: self.records,
            digest: self.digest,
            durable_offset,
            previous: self.previous,
            revision: self.revision,
        }
        .encode()
    }
}

/// Closed, and not yet handed out.
#[derive(Debug, Clone, Copy)]
enum Queued {
    Flush(Flush),
    Header(SegmentHeader),
}

/// What is to be written next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    /// A closed flush, whole, as it lies in the ring.
    Ring(Flush),
    /// The open one, as it is now, from a copy.
    Copy(Flush),
    /// A segment's first block.
    Header(SegmentHeader),
}

/// A write in flight.
#[derive(Debug)]
struct InFlight {
    id: u32,
    sequence: u64,
    /// Of the flush; nothing for a segment's header.
    start: Option<u64>,
    /// In the file.
    at: u64,
    span: Span,
    copied: bool,
    /// It is durable when it is complete.
    durably: bool,
    /// Bytes that have been written, in whole blocks while it is not complete.
    progress: u32,
    done: bool,
    /// What is written when this and all before it are.
    covers: LogPoint,
}

/// A write to submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogWrite {
    /// Its name in `wrote`.
    pub id: u32,
    /// To which segment's file.
    pub sequence: u64,
    /// Where in the file.
    pub at: u64,
    /// What.
    pub from: Span,
    /// It has to be durable when it is complete.
    pub durably: bool,
}

/// See the module.
#[derive(Debug)]
pub(in crate::partition) struct Writer {
    partition: PartitionId,
    wall_ns: u64,
    pub(super) end: LogPoint,
    pub(super) written: LogPoint,
    pub(super) durable: LogPoint,
    active: Option<Active>,
    /// Files for the next segments, in any order.
    spares: Vec<NextSegment>,
    /// Why there is none.
    missing: NoSegment,
    /// The last one asked for.
    asked: u64,
    /// When the last segment began, and whether the one before was filled within moments.
    begun_ns: u64,
    hurries: bool,
    open: Option<Flush>,
    queued: VecDeque<Queued>,
    writes: VecDeque<InFlight>,
    next_id: u32,
    /// The sync in flight: what it covers, and how many of `not_durably` are durable by it.
    syncing: Option<(LogPoint, u64)>,
    /// Writes that were complete without being durable, ever, and how many of them a sync has covered since.
    not_durably: u64,
    synced_of_them: u64,
    /// The newest file that has one of them.
    not_durably_in: u64,
    /// Bytes of a flush at most, unless one frame is larger.
    flush_bytes_max: u64,
    /// Segments that take no more and are not durable yet, oldest first.
    closing: VecDeque<SegmentInfo>,
    /// Checksum of the last closed flush's header.
    pub(super) chain: u32,
    pub(super) next_sequence: u64,
}

impl Writer {
    pub(super) fn new(
        partition: PartitionId,
        end: LogPoint,
        chain: u32,
        next_sequence: u64,
        ring_bytes: u64,
    ) -> Writer {
        Writer {
            partition,
            wall_ns: 0,
            end,
            written: end,
            durable: end,
            active: None,
            spares: Vec::new(),
            missing: NoSegment::Coming,
            asked: next_sequence,
            begun_ns: 0,
            hurries: false,
            open: None,
            queued: VecDeque::new(),
            writes: VecDeque::with_capacity(LOG_WRITES_IN_FLIGHT),
            next_id: 0,
            syncing: None,
            not_durably: 0,
            synced_of_them: 0,
            not_durably_in: 0,
            flush_bytes_max: FLUSH_BYTES_MAX.min(block_down(ring_bytes / 4)),
            closing: VecDeque::new(),
            chain,
            next_sequence,
        }
    }

    // ---- segments ----

    /// A file for the next segment has come, or will not for now.
    pub(super) fn offer(&mut self, next: Result<NextSegment, NoSegment>) {
        match next {
            Ok(next) => {
                self.spares.push(next);
                self.missing = NoSegment::Coming;
            }
            Err(why) => self.missing = why,
        }
    }

    fn spare(&self) -> Result<NextSegment, NoSegment> {
        let spare = self.spares.iter().find(|spare| spare.sequence == self.next_sequence);
        spare.copied().ok_or(self.missing)
    }

    /// The number of a segment whose file should be asked for now: that of the next one, and where segments are filled
    /// within moments also that of the one behind it.
    pub(super) fn next_wanted(&mut self) -> Option<u64> {
        let ahead = if self.hurries { 2 } else { 1 };
        (self.asked + 1 < self.next_sequence + ahead).then(|| {
            self.asked += 1;
            self.asked
        })
    }

    /// The disk had no room for a file when last asked.
    pub(super) fn no_space(&self) -> bool {
        self.spares.is_empty() && self.missing != NoSegment::Coming
    }

    /// The segment that is appended to, as far as it goes.
    pub(in crate::partition) fn active(&self) -> Option<&SegmentInfo> {
        self.active.as_ref().map(|active| &active.info)
    }

    /// Segments that are being closed, oldest first.
    pub(in crate::partition) fn closing(&self) -> impl Iterator<Item = &SegmentInfo> {
        self.closing.iter()
    }

    /// The open flush is closed and the segment takes no more. Nothing happens where it holds nothing.
    pub(super) fn roll(&mut self) {
        assert!(self.open.is_none(), "its last flush is closed first");
        if let Some(active) = self.active.take() {
            self.closing.push_back(active.info);
        }
    }

    // ---- appending ----

    /// Where a frame of `bytes` would go.
    pub(super) fn placement(&self, bytes: u64) -> Result<Placement, NoSegment> {
        if let Some(open) = &self.open {
            let end = self.end.position + bytes;
            // Written once from a copy, it stays within its block.
            let most = if open.revision > 0 { BLOCK_BYTES } else { self.flush_bytes_max };
            let limit = self.active.as_ref().expect("an open flush is in a segment").limit;
            if end <= (open.start + most).min(limit) {
                return Ok(Placement { frame: self.end.position, begins: None, rolls: false });
            }
        }
        let start = block_up(self.end.position);
        let frame = start + u64::from(FLUSH_HEADER_BYTES);
        let end = block_up(frame + bytes);
        let rolls = self.active.as_ref().is_none_or(|active| end > active.limit);
        if rolls {
            let next = self.spare()?;
            if end - start > next.bytes - BLOCK_BYTES {
                return Err(NoSegment::Failed);
            }
        }
        Ok(Placement { frame, begins: Some(start), rolls })
    }

    /// A flush begins; the one before is closed. A segment begins with it where the placement said so; its number is
    /// returned.
    pub(super) fn begin(&mut self, placement: Placement, wall_ns: u64) -> Option<u64> {
        assert!(self.open.is_none(), "the flush before is closed");
        let start = placement.begins.expect("it begins");
        let mut begun = None;
        self.wall_ns = wall_ns;
        if placement.rolls {
            self.roll();
            begun = Some(self.begin_segment(LogPoint { position: start, offset: self.end.offset }));
        }
        let info = &self.active.as_ref().expect("a segment has begun").info;
        self.open = Some(Flush {
            start,
            end: LogPoint { position: placement.frame, offset: self.end.offset },
            sequence: info.sequence,
            base: info.base.position,
            nonce: info.nonce,
            first_offset: self.end.offset,
            records: 0,
            digest: 0,
            submitted: placement.frame,
            revision: 0,
            checksum: 0,
            previous: self.chain,
        });
        self.end.position = placement.frame;
        begun
    }

    fn begin_segment(&mut self, base: LogPoint) -> u64 {
        let next = self.spare().expect("placement has seen it");
        self.spares.retain(|spare| spare.sequence != next.sequence);
        self.hurries = self.wall_ns.saturating_sub(self.begun_ns) < HURRY_NS;
        self.begun_ns = self.wall_ns;
        let capacity = next.bytes - BLOCK_BYTES;
        self.queued.push_back(Queued::Header(SegmentHeader {
            partition: self.partition,
            sequence: next.sequence,
            nonce: next.nonce,
            base,
            file_bytes: next.bytes,
            created_ns: self.wall_ns,
            chain: self.chain,
            durable_offset: self.durable.offset,
        }));
        self.active = Some(Active {
            info: SegmentInfo {
                sequence: next.sequence,
                nonce: next.nonce,
                base,
                end: base,
                first_time_ns: 0,
                last_time_ns: 0,
                index: Vec::with_capacity(SEGMENT_INDEX_ENTRIES),
                quarantined: Vec::new(),
            },
            limit: base.position + capacity,
            granule: capacity.div_ceil(SEGMENT_INDEX_ENTRIES as u64 - 1),
        });
        self.next_sequence = next.sequence + 1;
        next.sequence
    }

    /// A frame lies at the end now.
    pub(super) fn appended(&mut self, bytes: u32, records: u32, header_checksum: u32, append_time_ns: u64) {
        let active = self.active.as_mut().expect("frames go into a segment");
        let flush = self.open.as_mut().expect("frames go into a flush");
        if flush.records == 0 {
            let last = active.info.index.last();
            if last.is_none_or(|last| flush.start - last.at.position >= active.granule) {
                let at = LogPoint { position: flush.start, offset: flush.first_offset };
                active.info.index.push(IndexEntry { at, append_time_ns });
            }
            if active.info.first_time_ns == 0 {
                active.info.first_time_ns = append_time_ns;
            }
        }
        self.end.position += u64::from(bytes);
        self.end.offset += u64::from(records);
        flush.end = self.end;
        flush.records += records;
        flush.digest = digest(flush.digest, header_checksum);
        active.info.end = self.end;
        active.info.last_time_ns = append_time_ns;
    }

    /// Takes the open flush for closing: the caller pads it and puts its header in place, then `close`s it.
    pub(super) fn take_open(&mut self) -> Option<Flush> {
        self.open.take()
    }

    /// The header of a flush that is about to be closed or handed out; `None` when what was handed out last is all there
    /// is of it.
    pub(super) fn last_header(&self, flush: &mut Flush) -> Option<[u8; FLUSH_HEADER_BYTES as usize]> {
        if flush.submitted == flush.end.position {
            return None;
        }
        let header = flush.header(self.durable.offset);
        flush.checksum = FlushHeader::checksum(&header);
        Some(header)
    }

    /// The flush takes no more; `unwritten`: it has to be handed out once more.
    pub(super) fn close(&mut self, flush: Flush, unwritten: bool) {
        self.chain = flush.checksum;
        if unwritten {
            self.queued.push_back(Queued::Flush(flush));
        }
    }

    // ---- writing ----

    /// What may be written now.
    pub(super) fn next(&self) -> Option<Next> {
        if self.writes.len() >= LOG_WRITES_IN_FLIGHT {
            return None;
        }
        match self.queued.front() {
            Some(Queued::Flush(flush)) => {
                let again = self.writes.iter().any(|write| !write.done && write.start == Some(flush.start));
                (!again).then_some(Next::Ring(*flush))
            }
            Some(Queued::Header(header)) => Some(Next::Header(*header)),
            None => {
                let open = self.open.as_ref()?;
                let idle = self.writes.is_empty() && open.submitted < open.end.position;
                (idle && open.block_bytes() <= BLOCK_BYTES).then_some(Next::Copy(*open))
            }
        }
    }

    /// Whether the open flush should be closed, for it to be written: it is larger than a block and nothing else is in
    /// flight or waits, or, where writes are durable, it is large enough to be written beside one other.
    pub(super) fn wants_close(&self, durably: bool) -> bool {
        let least = match self.writes.len() {
            0 => BLOCK_BYTES,
            1 if durably => (self.flush_bytes_max / FLUSHES_BESIDE).max(BLOCK_BYTES),
            _ => return false,
        };
        self.queued.is_empty() && self.open.as_ref().is_some_and(|open| open.block_bytes() > least)
    }

    /// Whether everything that is written is durable.
    fn is_clean(&self) -> bool {
        self.not_durably == self.synced_of_them
    }

    /// `next` lies at `span` and is written from there.
    pub(super) fn handed_out(&mut self, next: &Next, span: Span, checksum: u32, durably: bool) -> LogWrite {
        let (sequence, at, start, covers, copied) = match next {
            Next::Ring(flush) => {
                self.queued.pop_front();
                (flush.sequence, flush.at(), Some(flush.start), flush.end, false)
            }
            Next::Header(header) => {
                self.queued.pop_front();
                // It tells of no frame: what is before it stays the measure.
                (header.sequence, 0, None, LogPoint::default(), true)
            }
            Next::Copy(flush) => {
                let open = self.open.as_mut().expect("it is open");
                open.submitted = flush.end.position;
                open.revision += 1;
                open.checksum = checksum;
                (flush.sequence, flush.at(), Some(flush.start), flush.end, true)
            }
        };
        if !mutation::on(Mutation::ReuseToken) {
            self.next_id = self.next_id.wrapping_add(1) & 0x00ff_ffff;
        }
        let id = self.next_id;
        self.writes.push_back(InFlight {
            id,
            sequence,
            start,
            at,
            span,
            copied,
            durably,
            progress: 0,
            done: false,
            covers,
        });
        LogWrite { id, sequence, at, from: span, durably }
    }

    /// A write has got rid of `bytes`. The rest to submit, if any; else the copy it was made from, to be given back, and
    /// whether it is durable by itself.
    pub(super) fn wrote(&mut self, id: u32, bytes: u32) -> Result<(Option<Span>, bool), LogWrite> {
        let write = self.writes.iter_mut().find(|write| write.id == id).expect("a write in flight");
        let written = write.progress + bytes;
        if written < write.span.bytes && !mutation::on(Mutation::ShortWriteWhole) {
            return Err(self.again(id, written));
        }
        write.done = true;
        let (copy, durably) = (write.copied.then_some(write.span), write.durably);
        while self.writes.front().is_some_and(|write| write.done) {
            let write = self.writes.pop_front().expect("one is there");
            if !write.durably {
                self.not_durably += 1;
                self.not_durably_in = write.sequence;
            }
            if write.covers.position > self.written.position {
                self.written = write.covers;
                if write.durably && self.is_clean() {
                    self.durable = write.covers;
                }
            }
        }
        Ok((copy, durably))
    }

    /// What is left of a write of which `written` bytes are done. A block that was written in part is written again.
    pub(super) fn again(&mut self, id: u32, written: u32) -> LogWrite {
        let write = self.writes.iter_mut().find(|write| write.id == id).expect("a write in flight");
        write.progress = u32::try_from(block_down(u64::from(written))).expect("less than the write");
        let (_, rest) = write.span.split_at(write.progress);
        let skipped = if mutation::on(Mutation::RestAtFront) { 0 } else { write.progress };
        let at = write.at + u64::from(skipped);
        LogWrite { id, sequence: write.sequence, at, from: rest, durably: write.durably }
    }

    /// What was written of a write before it failed.
    pub(super) fn progress(&self, id: u32) -> u32 {
        self.writes.iter().find(|write| write.id == id).map_or(0, |write| write.progress)
    }

    /// Positions from here on have not been written, or may be written again: their bytes stay.
    pub(super) fn pinned_from(&self) -> u64 {
        let open = self.open.as_ref().map(|flush| flush.start);
        let queued = self.queued.iter().find_map(|queued| match queued {
            Queued::Flush(flush) => Some(flush.start),
            Queued::Header(_) => None,
        });
        let writing = self.writes.iter().find_map(|write| write.start);
        let writing = writing.filter(|_| !mutation::on(Mutation::FreeUnderWrite));
        [open, queued, writing].into_iter().flatten().min().unwrap_or(self.end.position)
    }

    // ---- syncing ----

    /// The segment whose file is to be synced now. `wanted`: somebody waits, or it is due.
    pub(super) fn next_sync(&mut self, wanted: bool) -> Option<u64> {
        if self.syncing.is_some() || self.written.position <= self.durable.position {
            return None;
        }
        let (sequence, covers) = match self.closing.front() {
            Some(info) if self.written.position >= info.end.position => (info.sequence, info.end),
            Some(info) if wanted => (info.sequence, self.written),
            None if wanted => (self.active.as_ref()?.info.sequence, self.written),
            Some(_) | None => return None,
        };
        // Some may be in the next segment's file, which this is no sync of: its header covers nothing.
        let all = covers == self.written && self.not_durably_in <= sequence;
        let of_them = if all { self.not_durably } else { self.synced_of_them };
        self.syncing = Some((covers, of_them));
        Some(sequence)
    }

    /// The sync has ended well.
    pub(super) fn synced(&mut self) {
        let (covers, of_them) = self.syncing.take().expect("a sync in flight");
        self.synced_of_them = of_them;
        // What was written meanwhile may be durable by itself.
        let all = self.is_clean() || mutation::on(Mutation::SyncCoversAll);
        self.durable = if all { self.written } else { covers };
    }

    /// A segment that is closed, and durable by now.
    pub(super) fn next_closed(&mut self) -> Option<SegmentInfo> {
        let durable = self.durable.position;
        let closed = self.closing.front().is_some_and(|info| info.end.position <= durable);
        if closed { self.closing.pop_front() } else { None }
    }

    /// Nothing waits to be written or is in flight.
    pub(super) fn is_idle(&self) -> bool {
        let written = self.open.as_ref().is_none_or(|open| open.submitted == open.end.position);
        written && self.queued.is_empty() && self.writes.is_empty() && self.syncing.is_none()
    }

    /// Writes and syncs that have not come back. A write that has, and stands behind one that has not, is none: where the
    /// log was fenced meanwhile, or its topic deleted, nobody takes it out any more.
    pub(super) fn in_flight(&self) -> usize {
        let writes = self.writes.iter().filter(|write| !write.done).count();
        writes + usize::from(self.syncing.is_some())
    }

    /// After a failure: a write or the sync has come back. Gives back the copy it was made from.
    pub(super) fn forget_write(&mut self, id: u32) -> Option<Span> {
        let at = self.writes.iter().position(|write| write.id == id)?;
        let write = self.writes.remove(at)?;
        write.copied.then_some(write.span)
    }

    /// See `forget_write`.
    pub(super) fn forget_sync(&mut self) {
        self.syncing = None;
    }
}

#[cfg(test)]
mod tests;
