//! Which of what was read is not known to be on the disk.
//!
//! What can be read need not be there: a sync of it may never have been made, or have failed, after which Linux reads it
//! from memory and no later sync writes it. What a header, snapshot or fence says was durable is; everything from the
//! first flush on of which none says so has to be written again before a sync of it means anything.

use std::collections::VecDeque;

use super::super::LogPoint;
use crate::mutation::{self, Mutation};

/// The flushes of which nothing says that they were durable.
#[derive(Default)]
pub struct Unsynced {
    /// Every record before it was durable, by the word of what was read.
    durable_offset: u64,
    /// Where each of them begins, and the offset that it ends before.
    flushes: VecDeque<(LogPoint, u64)>,
}

impl Unsynced {
    /// A flush was read, which begins there.
    pub fn flush(&mut self, at: LogPoint, end_offset: u64) {
        self.flushes.push_back((at, end_offset));
        self.drop_durable();
    }

    /// Records before this offset were durable.
    pub fn durable(&mut self, offset: u64) {
        self.durable_offset = self.durable_offset.max(offset);
        self.drop_durable();
    }

    /// A flush without records counts by where it is: what says that a record behind it was durable covers it too.
    fn drop_durable(&mut self) {
        let durable = self.durable_offset;
        while self.flushes.front().is_some_and(|(at, end)| at.offset < durable && *end <= durable) {
            self.flushes.pop_front();
        }
    }

    /// Where the first of them begins.
    pub fn from(&self) -> Option<LogPoint> {
        self.flushes.front().map(|(at, _)| *at).filter(|_| !mutation::on(Mutation::SyncAlone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64, offset: u64) -> LogPoint {
        LogPoint { position, offset }
    }

    #[test]
    fn the_first_flush_that_nothing_calls_durable_is_kept() {
        let mut unsynced = Unsynced::default();
        unsynced.flush(at(0, 0), 10);
        unsynced.flush(at(4096, 10), 20);
        unsynced.flush(at(8192, 20), 30);
        assert_eq!(unsynced.from(), Some(at(0, 0)));
        unsynced.durable(19);
        assert_eq!(unsynced.from(), Some(at(4096, 10)), "one record of it may be missing");
        unsynced.durable(20);
        assert_eq!(unsynced.from(), Some(at(8192, 20)));
        unsynced.durable(3);
        unsynced.durable(30);
        assert_eq!(unsynced.from(), None);
    }

    #[test]
    fn a_flush_without_records_at_the_end_is_kept() {
        let mut unsynced = Unsynced::default();
        unsynced.durable(30);
        unsynced.flush(at(4096, 10), 30);
        unsynced.flush(at(8192, 30), 30);
        assert_eq!(unsynced.from(), Some(at(8192, 30)));
        unsynced.flush(at(12288, 30), 40);
        unsynced.durable(40);
        assert_eq!(unsynced.from(), None);
    }
}
