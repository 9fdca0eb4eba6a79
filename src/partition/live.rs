//! The receive memory a `live` partition holds: runs of frames that lie side by side, in the log's order.
//!
//! Each frame is held by a span of its own (holds are counted by chunk, so the span released must be the
//! one held); a run's frames are found again by their headers.

use std::collections::VecDeque;

use super::log::frame_bytes_at;
use crate::buf::{Buffers, Span};
use crate::limits::LIVE_RUNS_MAX;

/// Frames side by side in memory and in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// The log's position of the first frame.
    pub(super) position: u64,
    /// Where they lie.
    pub(super) span: Span,
}

impl Run {
    pub(super) fn end(&self) -> u64 {
        self.position + u64::from(self.span.bytes)
    }

    /// Lets go of the frames before `position`, which is where a frame begins or the run's end.
    fn release_until(&mut self, buffers: &mut Buffers, position: u64) {
        while self.position < position {
            let (frame, rest) = self.span.split_at(frame_bytes_at(&buffers.memory, self.span));
            buffers.receive.release(frame);
            self.span = rest;
            self.position += u64::from(frame.bytes);
        }
    }
}

/// At most `LIVE_RUNS_MAX` runs; what lies in the log and in no run lies in the ring.
#[derive(Debug)]
pub(super) struct HeldRuns(VecDeque<Run>);

impl HeldRuns {
    /// `used`: whether runs will ever be held, so that the others' storage is not allocated.
    pub(super) fn new(used: bool) -> HeldRuns {
        HeldRuns(VecDeque::with_capacity(if used { LIVE_RUNS_MAX } else { 0 }))
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= LIVE_RUNS_MAX
    }

    fn extends_last(&self, frame: Span, position: u64) -> bool {
        self.0.back().is_some_and(|last| {
            last.end() == position
                && last.span.region == frame.region
                && last.span.at + u64::from(last.span.bytes) == frame.at
                && last.span.bytes.checked_add(frame.bytes).is_some()
        })
    }

    /// Whether `push` has a place for the frame.
    #[inline]
    pub(super) fn takes(&self, frame: Span, position: u64) -> bool {
        !self.is_full() || self.extends_last(frame, position)
    }

    /// Adds a frame at the log's end.
    #[inline]
    pub(super) fn push(&mut self, frame: Span, position: u64) {
        if self.extends_last(frame, position) {
            self.0.back_mut().expect("it was just looked at").span.bytes += frame.bytes;
        } else {
            assert!(!self.is_full(), "room was looked for");
            self.0.push_back(Run { position, span: frame });
        }
    }

    /// The run that covers `position`, or else the first beyond it.
    #[inline]
    pub(super) fn at_or_after(&self, position: u64) -> Option<&Run> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(self.0.partition_point(|run| run.end() <= position))
    }

    /// Lets go of every frame before `position`, where a frame begins.
    pub(super) fn trim(&mut self, buffers: &mut Buffers, position: u64) {
        while let Some(run) = self.0.front_mut() {
            run.release_until(buffers, position.min(run.end()));
            if run.span.bytes > 0 {
                return;
            }
            self.0.pop_front();
        }
    }

    /// For each run, oldest first: `keep_from` says from where it has to stay; what is before goes to
    /// `copy`, then is let go of.
    pub(super) fn unpin(
        &mut self,
        buffers: &mut Buffers,
        keep_from: impl Fn(u64, u64) -> Option<u64>,
        copy: impl Fn(&mut Buffers, u64, Span),
    ) {
        for _ in 0..self.0.len() {
            let Some(mut run) = self.0.pop_front() else { return };
            let until = keep_from(run.position, run.end()).unwrap_or(run.end());
            if until > run.position {
                let (leaving, _) = run.span.split_at(super::small(until - run.position));
                copy(buffers, run.position, leaving);
                run.release_until(buffers, until);
            }
            if run.span.bytes > 0 {
                self.0.push_back(run);
            }
        }
    }
}
