//! What lies between frames in the ring of a `log` partition: the padding at a flush's end and the next flush's header.
//!
//! A boundary may be named by either side of a hole; [`Holes::over`] gives the one where bytes go on.

use std::collections::VecDeque;

/// Positions `from..to` hold no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// In order; none of other kinds of topics.
#[derive(Debug, Default)]
pub(super) struct Holes(VecDeque<Hole>);

impl Holes {
    /// With room for so many.
    pub(super) fn with_capacity(holes: usize) -> Holes {
        Holes(VecDeque::with_capacity(holes))
    }

    pub(super) fn push(&mut self, from: u64, to: u64) {
        debug_assert!(from < to && self.0.back().is_none_or(|last| last.to < from), "frames lie between");
        self.0.push_back(Hole { from, to });
    }

    /// Forgets those that end at or before `position`.
    pub(super) fn trim(&mut self, position: u64) {
        while self.0.front().is_some_and(|hole| hole.to <= position) {
            self.0.pop_front();
        }
    }

    /// The first hole that begins at or after `position`.
    #[inline]
    pub(super) fn next(&self, position: u64) -> Option<Hole> {
        let before = self.0.partition_point(|hole| hole.from < position);
        self.0.get(before).copied()
    }

    /// `position`, or the end of the hole that begins there.
    #[inline]
    pub(super) fn over(&self, position: u64) -> u64 {
        match self.next(position) {
            Some(hole) if hole.from == position => hole.to,
            _ => position,
        }
    }

    /// The position after `bytes` of frames from `position` on: where the next byte lies, or would.
    #[inline]
    pub(super) fn advance(&self, position: u64, bytes: u64) -> u64 {
        let mut at = self.over(position);
        let mut left = bytes;
        while let Some(hole) = self.next(at) {
            let until = hole.from - at;
            if left < until {
                break;
            }
            left -= until;
            if left == 0 {
                return hole.from;
            }
            at = hole.to;
        }
        at + left
    }
}

#[cfg(test)]
mod tests;
