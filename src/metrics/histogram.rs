//! A histogram of durations with fixed buckets: four to each power of two, from 1 us to 4 s. A quantile read
//! from it is at most a quarter too high.

use std::sync::atomic::{AtomicU64, Ordering};

/// The first bucket ends at 2^10 ns.
const FIRST_SHIFT: u32 = 10;
/// The last bucket with an end ends at 2^32 ns.
const LAST_SHIFT: u32 = 32;
const SUB_BITS: u32 = 2;
const SUBS: usize = 1 << SUB_BITS;
/// With the first and the one without an end.
pub(super) const BUCKETS: usize = (LAST_SHIFT - FIRST_SHIFT) as usize * SUBS + 2;

/// See the module. One thread adds, any may read.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// A histogram's values at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramValues {
    pub(super) buckets: Vec<u64>,
    pub(super) sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Adds one duration. Only the owner calls this.
    #[inline]
    pub fn add(&self, ns: u64) {
        bump(&self.buckets[bucket_of(ns)], 1);
        bump(&self.sum_ns, ns);
    }

    /// The values now; a reader may see an addition half done.
    #[must_use]
    pub fn read(&self) -> HistogramValues {
        HistogramValues {
            buckets: self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

impl Default for HistogramValues {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], sum_ns: 0 }
    }
}

impl HistogramValues {
    /// How many durations were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds another's values to these.
    pub fn merge(&mut self, other: &HistogramValues) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum_ns += other.sum_ns;
    }

    /// The upper end, in ns, of the bucket in which the quantile lies; 0 when there is nothing, and the
    /// largest end when it lies beyond.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        let count = self.count();
        if count == 0 {
            return 0;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // of a count, in 0..=count
        let rank = ((count as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return upper_ns(bucket).unwrap_or(1 << LAST_SHIFT);
            }
        }
        1 << LAST_SHIFT
    }

    /// Upper ends in ns, at the powers of two, with how many durations were at most that long.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut seen = 0;
        self.buckets.iter().enumerate().filter_map(move |(bucket, n)| {
            seen += n;
            upper_ns(bucket).filter(|end| end.is_power_of_two()).map(|end| (end, seen))
        })
    }
}

/// Adds to a value that only this thread writes: no read-modify-write of the bus.
#[inline]
pub(super) fn bump(value: &AtomicU64, by: u64) {
    value.store(value.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// Buckets contain their upper end, as `le` says.
#[inline]
fn bucket_of(ns: u64) -> usize {
    let below = ns.saturating_sub(1);
    if below < 1 << FIRST_SHIFT {
        return 0;
    }
    let shift = below.ilog2();
    #[allow(clippy::cast_possible_truncation)] // masked
    let sub = (below >> (shift - SUB_BITS)) as usize & (SUBS - 1);
    (1 + (shift - FIRST_SHIFT) as usize * SUBS + sub).min(BUCKETS - 1)
}

/// The largest duration of a bucket in ns; none for the last, which has no end.
pub(super) const fn upper_ns(bucket: usize) -> Option<u64> {
    if bucket == 0 {
        return Some(1 << FIRST_SHIFT);
    }
    if bucket == BUCKETS - 1 {
        return None;
    }
    let octave = (bucket - 1) / SUBS;
    let sub = (bucket - 1) % SUBS;
    Some(((SUBS + sub + 1) as u64) << (FIRST_SHIFT as usize + octave - SUB_BITS as usize))
}
