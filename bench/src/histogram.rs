//! Latencies, counted in buckets whose width grows with the value: every quantile is right within 1 %.
//!
//! Values below 2^[`EXACT_BITS`] have a bucket each; above, every power of two is cut into as many buckets as
//! half of that. What is read from a bucket is its middle, the maximum is kept exactly, and so is the sum.

use crate::outcome::Latency;

const EXACT_BITS: u32 = 7;
const HALF: usize = 1 << (EXACT_BITS - 1);
/// Up to 2^44 ns, almost five hours; longer ones count as that.
const TOP_BIT: u32 = 44;
const BUCKETS: usize = (TOP_BIT - EXACT_BITS) as usize * HALF + 2 * HALF;
const LARGEST: u64 = (1 << TOP_BIT) - 1;

/// See the module. In nanoseconds.
#[derive(Clone)]
pub struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = vec![0; BUCKETS].into_boxed_slice();
        Histogram { buckets: buckets.try_into().expect("as many"), count: 0, sum: 0, max: 0 }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count).field("max", &self.max).finish()
    }
}

#[inline]
fn bucket_of(value: u64) -> usize {
    let value = value.min(LARGEST);
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(EXACT_BITS);
    let within = usize::try_from(value >> shift).expect("at most seven bits");
    shift as usize * HALF + within
}

/// The middle of a bucket.
fn value_of(bucket: usize) -> u64 {
    if bucket < 2 * HALF {
        return bucket as u64;
    }
    let shift = bucket / HALF - 1;
    let low = ((bucket - shift * HALF) as u64) << shift;
    low + (1 << shift) / 2
}

impl Histogram {
    /// Counts a latency.
    #[inline]
    pub fn add(&mut self, ns: u64) {
        self.buckets[bucket_of(ns)] += 1;
        self.count += 1;
        self.sum += u128::from(ns);
        self.max = self.max.max(ns);
    }

    /// Counts all that another has counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        (self.count, self.sum, self.max) = (0, 0, 0);
    }

    /// The value that a share (0 to 1) of all values is not above; 0 of none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share of a count
        let rank = ((self.count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += count;
            if below >= rank {
                return value_of(bucket).min(self.max);
            }
        }
        self.max
    }

    /// The percentiles; `None` of no values.
    #[must_use]
    pub fn latency(&self) -> Option<Latency> {
        let us = |share| self.quantile(share) as f64 / 1e3;
        (self.count > 0).then(|| Latency {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            max: self.max as f64 / 1e3,
            mean: self.sum as f64 / self.count as f64 / 1e3,
            count: self.count,
        })
    }

    /// Points (share, microseconds) for a chart: denser towards the tail, as far as there are values.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let mut shares: Vec<f64> = (0..9).map(|tenth| f64::from(tenth) / 10.0).collect();
        let mut left = 0.1;
        while left * self.count as f64 >= 1.0 {
            shares.extend([1.0, 0.75, 0.5, 0.25].map(|part| 1.0 - left * part));
            left /= 10.0;
        }
        shares.push(1.0);
        if self.count == 0 {
            return Vec::new();
        }
        shares.into_iter().map(|share| (share, self.quantile(share) as f64 / 1e3)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quantiles_are_right_within_one_percent(
            values in prop::collection::vec(prop_oneof![0_u64..300, 0..1_000_000_u64, 0..LARGEST], 1..300),
            share in 0.0..=1.0_f64,
        ) {
            let mut histogram = Histogram::default();
            let (mut left, mut right) = (Histogram::default(), Histogram::default());
            for (i, value) in values.iter().enumerate() {
                histogram.add(*value);
                if i % 3 == 0 { left.add(*value) } else { right.add(*value) }
            }
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let rank = (share * values.len() as f64).ceil().max(1.0);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most the length
            let exact = sorted[rank as usize - 1] as f64;
            let found = histogram.quantile(share) as f64;
            prop_assert!((found - exact).abs() <= exact * 0.01, "{found} for {exact}");
            left.merge(&right);
            prop_assert_eq!(left.latency(), histogram.latency());
            let mean = values.iter().map(|value| *value as f64).sum::<f64>() / values.len() as f64 / 1e3;
            let latency = histogram.latency().expect("there are values");
            prop_assert!((latency.mean - mean).abs() <= mean * 1e-9);
            prop_assert_eq!(latency.max, sorted[sorted.len() - 1] as f64 / 1e3);
        }

        #[test]
        fn buckets_hold_their_middles_and_are_in_order(value in 0..LARGEST) {
            let bucket = bucket_of(value);
            prop_assert_eq!(bucket_of(value_of(bucket)), bucket);
            prop_assert!(bucket_of(value + 1) >= bucket && bucket < BUCKETS);
        }
    }

    #[test]
    fn the_ends_of_the_scale() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.latency(), histogram.curve()), (None, Vec::new()));
        histogram.add(u64::MAX);
        histogram.add(0);
        assert_eq!((histogram.quantile(0.0), histogram.count()), (0, 2));
        assert!(histogram.quantile(1.0) >= LARGEST - LARGEST / 100);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        histogram.clear();
        assert_eq!(histogram.latency(), None);
    }

    #[test]
    fn a_curve_rises_and_ends_at_the_maximum() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|value| histogram.add(value * 1_000));
        let curve = histogram.curve();
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{curve:?}");
        assert_eq!(curve.last(), Some(&(1.0, 10_000.0)));
        assert!(curve.iter().any(|point| (point.0 - 0.999).abs() < 1e-9), "{curve:?}");
    }
}
