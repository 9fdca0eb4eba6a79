//! One segment, flush by flush.

use super::RecoveryError;
use super::producers::{Producers, Stored};
use super::stream::{BLOCK, Stream};
use super::unsynced::Unsynced;
use super::{LogStore, RESYNC_BYTES};
use crate::commit_log::format::{
    FLUSH_HEADER_LEN, FLUSH_MAGIC, FlushFault, FlushHeader, SegmentHeader, digest,
};
use crate::commit_log::frames::{self, FrameFault};
use crate::commit_log::window::Damage;
use crate::commit_log::{
    BLOCK_BYTES, IndexEntry, LogPoint, ProducerEntry, Quarantined, SegmentInfo, block_down, block_up,
};
use crate::ids::PartitionId;
use crate::limits::{FRAME_BYTES_MAX_CEILING, HEADER_BYTES, SEGMENT_INDEX_ENTRIES};
use crate::mutation::{self, Mutation};
use crate::proto::checksum::Crc32c;
use crate::proto::header::{FrameHeader, body_checksum_matches};

/// How far the log is known.
pub struct State {
    /// Where the last whole frame ends.
    pub at: LogPoint,
    /// Checksum of the last flush header.
    pub chain: u32,
    /// Append time of the last batch.
    pub last_append_ns: u64,
    /// `None` while what is read is older than the snapshot.
    pub producers: Option<Producers>,
    /// What of it may not be on the disk.
    pub unsynced: Unsynced,
}

/// Why the walk over a segment ended; `State::at` is where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// All that belongs to it was found.
    Whole,
    /// What comes next is not what belongs there.
    Bad(Damage),
}

/// What lies behind a bad place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Behind {
    /// The first flush header that is where it should be.
    pub first: Option<LogPoint>,
    /// The most that any of those looked at knows to be durable.
    pub durable_offset: u64,
}

/// A segment on the way to being known.
pub struct Segment {
    partition: PartitionId,
    pub header: SegmentHeader,
    /// Where it ends for sure: the next segment, or where the log is cut.
    pub limit: Option<LogPoint>,
    pub info: SegmentInfo,
    /// Batches of the flush that is read, until it is known whether they count.
    notes: Vec<Stored>,
    /// The next flush follows a damaged range: it need not follow what lies before.
    resumed: bool,
    /// Where the next flush after a bad place may begin.
    behind_from: u64,
}

impl Segment {
    pub fn new(partition: PartitionId, header: SegmentHeader, limit: Option<LogPoint>) -> Self {
        let info = SegmentInfo {
            sequence: header.sequence,
            nonce: header.nonce,
            base: header.base,
            end: header.base,
            first_time_ns: 0,
            last_time_ns: 0,
            index: Vec::new(),
            quarantined: Vec::new(),
        };
        let behind_from = header.base.position;
        Segment { partition, header, limit, info, notes: Vec::new(), resumed: false, behind_from }
    }

    /// Walks from `state.at`, where a flush begins, as far as all is well.
    pub fn walk<S: LogStore>(
        &mut self,
        stream: &mut Stream<'_, S>,
        state: &mut State,
    ) -> Result<Stop, RecoveryError> {
        let stop = loop {
            if let Some(limit) = self.limit
                && block_up(state.at.position) >= limit.position
            {
                let fault = FrameFault::WrongOffset { found: limit.offset, expected: state.at.offset };
                let missing = state.at.offset < limit.offset;
                break if missing { Stop::Bad(Damage::Frame(fault)) } else { Stop::Whole };
            }
            match self.flush(stream, state)? {
                None => {}
                // What follows the limit's offset was cut off before.
                Some(_) if self.is_at_limit(state) => break Stop::Whole,
                Some(stop) => break stop,
            }
        };
        self.info.end = state.at;
        Ok(stop)
    }

    fn is_at_limit(&self, state: &State) -> bool {
        self.limit.is_some_and(|limit| state.at.offset >= limit.offset)
    }

    /// Goes on behind a damaged range.
    pub fn skip(&mut self, state: &mut State, to: LogPoint) {
        let range = Quarantined { from: state.at, to };
        if range.from.position < to.position {
            self.info.quarantined.push(range);
        }
        state.at = to;
        self.info.end = to;
        self.resumed = true;
    }

    /// After all of it was found: flushes without records may be missing before the limit, which is no loss. A reader
    /// passes over them as over a damaged range.
    pub fn reach_limit(&mut self, state: &mut State) {
        if let Some(limit) = self.limit
            && block_up(state.at.position) < limit.position
        {
            self.skip(state, limit);
        }
    }

    /// One flush; `None` where it is good.
    fn flush<S: LogStore>(
        &mut self,
        stream: &mut Stream<'_, S>,
        state: &mut State,
    ) -> Result<Option<Stop>, RecoveryError> {
        let position = block_up(state.at.position);
        self.behind_from = position + BLOCK_BYTES;
        let (header, checksum) = match self.flush_header(stream, state, position)? {
            Ok(header) => header,
            Err(fault) => return Ok(Some(Stop::Bad(Damage::Flush(fault)))),
        };
        let start = LogPoint { position, offset: header.first_offset };
        let end = header.end();
        let mut at = LogPoint { position: position + FLUSH_HEADER_LEN as u64, offset: header.first_offset };
        let mut sum = 0;
        let mut stop = None;
        self.notes.clear();
        while at.position < end {
            if self.limit.is_some_and(|limit| at.offset >= limit.offset) {
                stop = Some(Stop::Whole);
                break;
            }
            match self.frame(stream, at, end)? {
                Ok((frame, header_checksum)) => {
                    sum = digest(sum, header_checksum);
                    at.position += frame.frame_bytes() as u64;
                    at.offset += u64::from(frame.offset_span);
                    self.notes.push(note(&frame));
                }
                Err(_) if mutation::on(Mutation::TakeTorn) => {
                    at = LogPoint { position: end, offset: start.offset + u64::from(header.records) };
                    sum = header.digest;
                }
                Err(fault) => {
                    stop = Some(Stop::Bad(Damage::Frame(fault)));
                    break;
                }
            }
        }
        if stop.is_none() && (sum != header.digest || at.offset - start.offset != u64::from(header.records)) {
            // Each of its frames is whole, and together they are not what was written: none of them counts.
            return Ok(Some(Stop::Bad(Damage::Flush(FlushFault::WrongDigest))));
        }
        if stop.is_none() || !self.notes.is_empty() {
            state.at = at;
            state.chain = checksum;
            state.unsynced.flush(start, at.offset);
            state.unsynced.durable(header.durable_offset);
            self.resumed = false;
            self.behind_from = block_down(at.position) + BLOCK_BYTES;
        }
        self.take_notes(state, start);
        Ok(stop)
    }

    /// The header of the flush at a position, and its checksum.
    fn flush_header<S: LogStore>(
        &self,
        stream: &mut Stream<'_, S>,
        state: &State,
        position: u64,
    ) -> Result<Result<(FlushHeader, u32), FlushFault>, RecoveryError> {
        let file_end = self.header.file_end();
        if position + FLUSH_HEADER_LEN as u64 > file_end {
            return Ok(Err(FlushFault::NotAFlush));
        }
        let file_at = self.header.file_at(position);
        let bytes = stream.bytes(self.header.sequence, file_at, FLUSH_HEADER_LEN)?;
        let Some(bytes) = bytes.first_chunk() else { return Ok(Err(FlushFault::NotAFlush)) };
        let checked = FlushHeader::decode(bytes).and_then(|header| {
            header.check_place(self.header.nonce, position)?;
            if header.frame_bytes > FRAME_BYTES_MAX_CEILING || header.end() > file_end {
                return Err(FlushFault::TooLong);
            }
            let (found, expected) = (header.first_offset, state.at.offset);
            if found != expected {
                return Err(FlushFault::WrongOffset { found, expected });
            }
            if header.previous != state.chain && !self.resumed {
                return Err(FlushFault::WrongChain);
            }
            Ok((header, FlushHeader::checksum(bytes)))
        });
        Ok(checked)
    }

    /// The frame at a point of a flush, verified, and its header's checksum.
    #[inline]
    fn frame<S: LogStore>(
        &self,
        stream: &mut Stream<'_, S>,
        at: LogPoint,
        flush_end: u64,
    ) -> Result<Result<(FrameHeader, u32), FrameFault>, RecoveryError> {
        let (sequence, file_at) = (self.header.sequence, self.header.file_at(at.position));
        let bytes = stream.bytes(sequence, file_at, HEADER_BYTES)?;
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(Err(FrameFault::Beyond)) };
        let header = match frames::parse(head, self.partition, at.offset) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        let head = *head;
        let length = header.frame_bytes();
        if at.position + length as u64 > flush_end {
            return Ok(Err(FrameFault::Beyond));
        }
        let matches = match bytes.get(..length) {
            Some(frame) => body_checksum_matches(frame) || mutation::on(Mutation::RecoverUnchecked),
            None => self.long_body_matches(stream, &head, file_at, length)?,
        };
        let checksum = u32::from_le_bytes([head[60], head[61], head[62], head[63]]);
        Ok(if matches { Ok((header, checksum)) } else { Err(FrameFault::Body) })
    }

    /// A body that goes on beyond the buffer.
    #[cold]
    fn long_body_matches<S: LogStore>(
        &self,
        stream: &mut Stream<'_, S>,
        head: &[u8; HEADER_BYTES],
        file_at: u64,
        length: usize,
    ) -> Result<bool, RecoveryError> {
        let mut crc = Crc32c::new();
        crc.update(&head[4..32]);
        let mut done = HEADER_BYTES;
        while done < length {
            let bytes = stream.bytes(self.header.sequence, file_at + done as u64, 1)?;
            let piece = &bytes[..bytes.len().min(length - done)];
            if piece.is_empty() {
                return Ok(false);
            }
            crc.update(piece);
            done += piece.len();
        }
        Ok(crc.finish().to_le_bytes() == head[32..36])
    }

    /// The batches of a flush that begins at `start` are part of the log.
    fn take_notes(&mut self, state: &mut State, start: LogPoint) {
        let (Some(first), Some(last)) = (self.notes.first(), self.notes.last()) else { return };
        let (first_ns, last_ns) = (first.entry.append_time_ns, last.entry.append_time_ns);
        if self.info.index.is_empty() {
            self.info.first_time_ns = first_ns;
        }
        let granule = self.header.file_bytes / SEGMENT_INDEX_ENTRIES as u64;
        let due = self.info.index.last().is_none_or(|entry| start.position - entry.at.position >= granule);
        if due && self.info.index.len() < SEGMENT_INDEX_ENTRIES {
            self.info.index.push(IndexEntry { at: start, append_time_ns: first_ns });
        }
        self.info.last_time_ns = last_ns;
        state.last_append_ns = last_ns;
        if let Some(producers) = &mut state.producers {
            self.notes.iter().for_each(|&stored| producers.store(stored));
        }
    }

    /// Looks for flush headers behind the bad place that `walk` has stopped at, block by block, until one says that what
    /// was there was durable.
    pub fn look_behind<S: LogStore>(
        &self,
        stream: &mut Stream<'_, S>,
        bad: LogPoint,
    ) -> Result<Behind, RecoveryError> {
        let far = bad.position.saturating_add(RESYNC_BYTES);
        let end = self.limit.map_or(far, |limit| limit.position).min(self.header.file_end());
        let mut behind = Behind::default();
        let mut position = self.behind_from;
        while position < end && behind.durable_offset <= bad.offset {
            let bytes = stream.bytes(self.header.sequence, self.header.file_at(position), BLOCK)?;
            if bytes.len() < FLUSH_HEADER_LEN {
                break;
            }
            for block in bytes.chunks(BLOCK) {
                if position < end
                    && let Some(header) = flush_at(block, self.header.nonce, position)
                    && header.first_offset >= bad.offset
                {
                    let at = LogPoint { position, offset: header.first_offset };
                    behind.first = behind.first.or(Some(at));
                    behind.durable_offset = behind.durable_offset.max(header.durable_offset);
                }
                position += BLOCK_BYTES;
            }
        }
        Ok(behind)
    }
}

/// The flush header that a block begins with, if it belongs there.
fn flush_at(block: &[u8], nonce: u64, position: u64) -> Option<FlushHeader> {
    if !block.starts_with(&FLUSH_MAGIC) {
        return None;
    }
    let header = FlushHeader::decode(block.first_chunk()?).ok()?;
    header.check_place(nonce, position).ok()?;
    Some(header)
}

#[inline]
fn note(frame: &FrameHeader) -> Stored {
    let entry = ProducerEntry {
        sequence: frame.sequence,
        body_checksum: frame.body_checksum,
        offset: frame.offset,
        records: frame.offset_span,
        append_time_ns: frame.append_time_ns,
        refused: None,
    };
    Stored { producer_id: frame.producer_id, entry }
}
