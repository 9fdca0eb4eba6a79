//! Reading a log: what there is to send in bytes read from a segment's file.
//!
//! A reader holds a [`LogPoint`] where a frame begins (or a flush, or where the last frame of one ends), reads blocks
//! around it, and walks them: whole frames, each verified once, become runs of bytes that can be sent as they lie;
//! flush headers and padding between them are checked and passed over. A point is only ever come to from another or
//! from an entry of the index, so no payload is mistaken for a frame.
//!
//! Nothing is allocated but what the caller's list of runs grows by.

use super::format::{FLUSH_HEADER_LEN, FLUSH_MAGIC, FlushFault, FlushHeader};
use super::frames::{self, FrameFault};
use super::{LogPoint, SegmentInfo, block_up};
use crate::ids::PartitionId;
use crate::limits::HEADER_BYTES;
use crate::mutation::{self, Mutation};
use crate::proto::header::{FrameHeader, MAGIC, body_checksum_matches};

/// Bytes read from a segment's file.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// Whose log it is.
    pub partition: PartitionId,
    /// The segment's.
    pub nonce: u64,
    /// Where the bytes begin.
    pub position: u64,
    /// As read; they may go on beyond `end`.
    pub bytes: &'a [u8],
    /// What may be read ends here: where a frame of the segment ends, or a damaged range begins.
    pub end: LogPoint,
}

/// Whole frames side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where the first begins.
    pub from: LogPoint,
    /// Where the last ends.
    pub to: LogPoint,
}

/// How far a walk came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Where to go on. Behind the last whole frame; for a search, where what was searched for begins.
    pub next: LogPoint,
    /// Why it went no further.
    pub stopped: Stopped,
}

/// Why a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// What may be read ends at `next`.
    End,
    /// What was searched for begins at `next`.
    Found,
    /// Bytes before this position are missing, from `next` on.
    Needs {
        /// So many at least have to be read.
        until: u64,
    },
    /// What should be at `next` is not: the caller goes on behind it, at the next entry of the index.
    Damaged(Damage),
}

/// What is wrong in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A flush should begin here.
    Flush(FlushFault),
    /// A frame should begin here.
    Frame(FrameFault),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Damage::Flush(fault) => fault.fmt(f),
            Damage::Frame(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Damage {}

/// What a search looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The frame that holds this offset, or the first after it.
    Offset(u64),
    /// The first frame appended at this time or later, ns since 1970, UTC.
    Time(u64),
}

impl Target {
    #[inline]
    fn is_met_by(self, frame: &FrameHeader) -> bool {
        match self {
            Target::Offset(offset) => frame.offset + u64::from(frame.offset_span) > offset,
            Target::Time(time_ns) => frame.append_time_ns >= time_ns,
        }
    }
}

impl<'a> Window<'a> {
    /// Walks from a point inside the window, verifies whole frames with their bodies, and adds the runs that they form.
    ///
    /// `from` lies at or behind the window's first byte.
    pub fn walk(&self, from: LogPoint, runs: &mut Vec<Run>) -> Walked {
        let mut cursor = Cursor { window: self, at: from, flush_end: None };
        let mut run: Option<Run> = None;
        let (next, stopped) = loop {
            let start = cursor.at;
            match cursor.step() {
                Ok(None) => runs.extend(run.take()),
                Ok(Some(_)) => match self.slice(start.position, cursor.at.position) {
                    Some(frame) if body_checksum_matches(frame) => {
                        run = Some(Run { from: run.map_or(start, |run| run.from), to: cursor.at });
                    }
                    Some(_) => break (start, Stopped::Damaged(Damage::Frame(FrameFault::Body))),
                    None => break (start, Stopped::Needs { until: cursor.at.position }),
                },
                Err(stopped) => break (cursor.at, stopped),
            }
        };
        runs.extend(run);
        Walked { next, stopped }
    }

    /// Looks for a frame from a point inside the window on. Bodies are neither verified nor needed: what is found is
    /// verified when it is walked.
    #[must_use]
    pub fn seek(&self, from: LogPoint, target: Target) -> Walked {
        let mut cursor = Cursor { window: self, at: from, flush_end: None };
        loop {
            let start = cursor.at;
            match cursor.step() {
                Ok(Some(frame)) if target.is_met_by(&frame) => {
                    return Walked { next: start, stopped: Stopped::Found };
                }
                Ok(_) => {}
                Err(stopped) => return Walked { next: cursor.at, stopped },
            }
        }
    }

    /// The bytes of these positions, where all of them were read.
    #[inline]
    fn slice(&self, from: u64, to: u64) -> Option<&'a [u8]> {
        let index = |position: u64| usize::try_from(position.checked_sub(self.position)?).ok();
        self.bytes.get(index(from)?..index(to)?)
    }
}

struct Cursor<'w, 'a> {
    window: &'w Window<'a>,
    at: LogPoint,
    /// Where the frames of the flush end that `at` lies in; unknown until a flush header was met.
    flush_end: Option<u64>,
}

impl Cursor<'_, '_> {
    /// Over a frame, whose header it returns, or over a flush header and the padding before it. Where it fails, `at`
    /// has not moved.
    #[inline]
    fn step(&mut self) -> Result<Option<FrameHeader>, Stopped> {
        let (at, end) = (self.at, self.window.end);
        if at.position >= end.position {
            return Err(self.ended(at.position));
        }
        match self.flush_end {
            Some(flush_end) if at.position < flush_end => self.frame(flush_end).map(Some),
            Some(_) => self.flush().map(|()| None),
            None => {
                // The flush began before the window. Frames and flushes differ in their third byte; padding is zero.
                let first = self.peek::<4>(at.position)?;
                if first[..2] == MAGIC.to_le_bytes() && *first != FLUSH_MAGIC {
                    self.frame(end.position).map(Some)
                } else {
                    self.flush().map(|()| None)
                }
            }
        }
    }

    /// What is next would begin here, at the end or behind it.
    fn ended(&mut self, position: u64) -> Stopped {
        let (at, end) = (self.at, self.window.end);
        // An end may be given as the beginning of what is to follow it: padding lies before.
        if at.offset == end.offset && at.position <= end.position && position <= block_up(end.position) {
            self.at = end;
            return Stopped::End;
        }
        let fault = FrameFault::WrongOffset { found: end.offset, expected: at.offset };
        Stopped::Damaged(Damage::Frame(if at.position > end.position { FrameFault::Beyond } else { fault }))
    }

    #[inline]
    fn frame(&mut self, frames_end: u64) -> Result<FrameHeader, Stopped> {
        let at = self.at;
        let damaged = |fault| Stopped::Damaged(Damage::Frame(fault));
        let bytes = self.peek::<HEADER_BYTES>(at.position)?;
        let header = frames::parse(bytes, self.window.partition, at.offset).map_err(damaged)?;
        let position = at.position + header.frame_bytes() as u64;
        if position > frames_end.min(self.window.end.position) {
            return Err(damaged(FrameFault::Beyond));
        }
        self.at = LogPoint { position, offset: at.offset + u64::from(header.offset_span) };
        Ok(header)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        let damaged = |fault| Stopped::Damaged(Damage::Flush(fault));
        let position = block_up(self.at.position);
        if position >= self.window.end.position {
            return Err(self.ended(position));
        }
        let header = FlushHeader::decode(self.peek::<FLUSH_HEADER_LEN>(position)?).map_err(damaged)?;
        header.check_place(self.window.nonce, position).map_err(damaged)?;
        let (found, expected) = (header.first_offset, self.at.offset);
        if found != expected {
            return Err(damaged(FlushFault::WrongOffset { found, expected }));
        }
        self.at.position = position + FLUSH_HEADER_LEN as u64;
        self.flush_end = Some(header.end());
        Ok(())
    }

    /// `N` bytes at a position.
    #[inline]
    fn peek<const N: usize>(&self, position: u64) -> Result<&[u8; N], Stopped> {
        let until = position + N as u64;
        let bytes = self.window.slice(position, until).and_then(|bytes| bytes.first_chunk());
        bytes.ok_or(Stopped::Needs { until })
    }
}

/// Where a reader of a closed segment goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Here; what was asked for, unless that is in a damaged range.
    pub at: LogPoint,
    /// As far as it may read at once: [`Window::end`].
    pub end: LogPoint,
    /// `end` is the beginning of a damaged range that ends here.
    pub gap_to: Option<LogPoint>,
}

impl SegmentInfo {
    /// The part of the segment that may be read from a point of it: up to the next damaged range or its end.
    #[must_use]
    pub fn part_from(&self, at: LogPoint) -> Part {
        let mut at = at;
        for damaged in &self.quarantined {
            if at.position < damaged.from.position {
                return Part { at, end: damaged.from, gap_to: Some(damaged.to) };
            }
            if at.position < damaged.to.position {
                at = damaged.to;
            }
        }
        Part { at, end: self.end, gap_to: None }
    }

    /// Where to begin to look for a target: the last flush of the index that it cannot lie before.
    #[must_use]
    pub fn seek_from(&self, target: Target) -> LogPoint {
        let before = self.index.partition_point(|entry| match target {
            Target::Offset(offset) => {
                entry.at.offset <= offset + u64::from(mutation::on(Mutation::SeekBeyond))
            }
            Target::Time(time_ns) => entry.append_time_ns < time_ns,
        });
        self.index.get(before.saturating_sub(1)).map_or(self.base, |entry| entry.at)
    }

    /// The first flush of the index behind a point: where a reader goes on that met damage there.
    #[must_use]
    pub fn resume_after(&self, at: LogPoint) -> Option<LogPoint> {
        let behind = self.index.partition_point(|entry| entry.at.position <= at.position);
        self.index.get(behind).map(|entry| entry.at)
    }
}
