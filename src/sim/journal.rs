//! What has happened, as one number and, where somebody wants to read it, as lines.

use std::hash::{DefaultHasher, Hasher};

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
            println!("{:>14.6} ms  {what} {numbers:?}", at_ns as f64 / 1e6);
        }
    }

    /// The number. Two runs with the same are the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }
}
