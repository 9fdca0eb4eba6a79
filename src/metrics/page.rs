//! What one shard counts, in memory that control reads while the shard writes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::counter::Counter;
use super::histogram::{Histogram, bump};
use crate::buf::CopyReason;
use crate::proto::code::Code;
use crate::tls::Reason;

/// Every reason with its label on the metrics page.
pub const COPY_REASONS: [(CopyReason, &str); CopyReason::ALL.len()] = [
    (CopyReason::Retain, "retain"),
    (CopyReason::Straddle, "straddle"),
    (CopyReason::Lagging, "lagging"),
    (CopyReason::Gather, "gather"),
    (CopyReason::Crossing, "crossing"),
    (CopyReason::Moved, "moved"),
    (CopyReason::Block, "block"),
];

const CODE_NUMBERS: usize = 128;
const NO_CODE: u8 = u8::MAX;
/// The place of each code's number in `Code::ALL`.
const CODE_INDEX: [u8; CODE_NUMBERS] = {
    let mut table = [NO_CODE; CODE_NUMBERS];
    let mut index = 0;
    while index < Code::ALL.len() {
        #[allow(clippy::cast_possible_truncation)] // asserted: there are fewer codes than NO_CODE
        {
            table[Code::ALL[index] as usize] = index as u8;
        }
        index += 1;
    }
    table
};
const _: () = assert!(Code::ALL.len() < NO_CODE as usize);

/// How often and how much was copied for one reason.
#[derive(Debug, Default)]
struct Copied {
    count: AtomicU64,
    bytes: AtomicU64,
}

/// One shard's counters. One thread writes, with a plain load and store each; any thread reads. Values are
/// never torn, and different values may be of slightly different moments.
#[derive(Debug)]
#[repr(align(128))]
pub struct CounterPage {
    counters: [AtomicU64; Counter::COUNT],
    refusals: [AtomicU64; Code::ALL.len()],
    copies: [Copied; COPY_REASONS.len()],
    tls_failures: [AtomicU64; Reason::ALL.len()],
    tick: Histogram,
}

impl Default for CounterPage {
    fn default() -> Self {
        Self {
            counters: [const { AtomicU64::new(0) }; Counter::COUNT],
            refusals: [const { AtomicU64::new(0) }; Code::ALL.len()],
            copies: Default::default(),
            tls_failures: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            tick: Histogram::default(),
        }
    }
}

impl CounterPage {
    /// A page of zeros.
    #[must_use]
    pub fn new() -> CounterPage {
        CounterPage::default()
    }

    /// Adds to a counter. Only the owner calls this and the others that take `&self` and return nothing.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        bump(&self.counters[counter as usize], n);
    }

    /// Sets a gauge, or a counter whose sum is kept elsewhere.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        self.counters[counter as usize].store(value, Ordering::Relaxed);
    }

    /// Takes from a gauge.
    #[inline]
    pub fn sub(&self, counter: Counter, n: u64) {
        bump(&self.counters[counter as usize], n.wrapping_neg());
    }

    /// Counts a refusal.
    #[inline]
    pub fn refused(&self, code: Code) {
        bump(&self.refusals[usize::from(CODE_INDEX[code as usize])], 1);
    }

    /// Counts a connection whose TLS failed.
    #[inline]
    pub fn tls_failed(&self, reason: Reason) {
        bump(&self.tls_failures[reason.index()], 1);
    }

    /// Sets the sums of one reason's copies.
    #[inline]
    pub fn set_copies(&self, reason: CopyReason, count: u64, bytes: u64) {
        let copied = &self.copies[reason as usize];
        copied.count.store(count, Ordering::Relaxed);
        copied.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Adds a tick's duration to the histogram.
    #[inline]
    pub fn tick_took(&self, ns: u64) {
        self.tick.add(ns);
    }

    /// A counter's or gauge's value.
    #[must_use]
    pub fn read(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// How often this code was the answer.
    #[must_use]
    pub fn read_refused(&self, code: Code) -> u64 {
        self.refusals[usize::from(CODE_INDEX[code as usize])].load(Ordering::Relaxed)
    }

    /// How many connections' TLS failed for this reason.
    #[must_use]
    pub fn read_tls_failed(&self, reason: Reason) -> u64 {
        self.tls_failures[reason.index()].load(Ordering::Relaxed)
    }

    /// Count and bytes of one reason's copies.
    #[must_use]
    pub fn read_copies(&self, reason: CopyReason) -> (u64, u64) {
        let copied = &self.copies[reason as usize];
        (copied.count.load(Ordering::Relaxed), copied.bytes.load(Ordering::Relaxed))
    }

    /// The ticks' durations.
    #[must_use]
    pub fn tick(&self) -> &Histogram {
        &self.tick
    }
}
