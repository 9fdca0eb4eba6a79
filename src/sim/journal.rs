//! What has happened, as one number and, where somebody wants to read it, as lines.

use std::hash::{DefaultHasher, Hasher};
use std::io::Write as _;

/// See the module.
#[derive(Default)]
pub struct Journal {
    hash: DefaultHasher,
    /// Events so far.
    pub events: u64,
    /// Each event is printed.
    pub printed: bool,
}

impl Journal {
    /// Nothing yet.
    #[must_use]
    pub fn new(printed: bool) -> Journal {
        Journal { printed, ..Journal::default() }
    }

    /// Something has happened.
    pub fn note(&mut self, at_ns: u64, what: &str, numbers: &[u64]) {
        self.events += 1;
        self.hash.write_u64(at_ns);
        self.hash.write(what.as_bytes());
        for number in numbers {
            self.hash.write_u64(*number);
        }
        if self.printed {
            self.printed = say(&format!("{:>14.6} ms  {what} {numbers:?}", at_ns as f64 / 1e6));
        }
    }

    /// A line more of what has happened, for whoever reads it.
    pub fn tell(&mut self, what: &dyn std::fmt::Debug) {
        if self.printed {
            self.printed = say(&format!("{what:?}"));
        }
    }

    /// The number. Two runs with the same are the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }
}

/// Prints a line. Not where the reader has gone, or its disk is full: the run goes on without, and the program hears of it
/// when it says how it ended.
#[must_use]
pub fn say(line: &str) -> bool {
    writeln!(std::io::stdout(), "{line}").is_ok()
}
