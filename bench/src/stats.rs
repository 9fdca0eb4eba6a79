//! Statistics of few, noisy measurements: medians and their spread, ratios of interleaved rounds, drift.
//!
//! Pure functions of numbers; no state, no clock. Everything here is robust: one round that a neighbour disturbed
//! moves a median or a Theil-Sen slope little, and a mean or a least-squares line a lot. Random resampling is seeded,
//! so that the same results always render to the same page.

#[cfg(test)]
mod tests;

/// Resamples of a bootstrap: the interval's ends then move by less than a tenth of its width from seed to seed.
const RESAMPLES: usize = 4_000;
/// Share of the resamples that an interval leaves out, half of it at each end.
const LEFT_OUT: f64 = 0.05;
/// With fewer rounds than this an interval would say more than is known.
pub(crate) const ROUNDS_FOR_INTERVAL: usize = 3;
/// A slope looks at each pair of points: of more points than this, neighbours are joined first.
const SLOPE_POINTS_MAX: usize = 400;

/// What several measurements of the same thing come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
    /// Median of the distances from the median.
    pub(crate) deviation: f64,
}

impl Summary {
    /// `None` of no values. Values that are not numbers are a programmer's error.
    pub(crate) fn of(values: &[f64]) -> Option<Summary> {
        let sorted = sorted(values);
        let median = quantile(&sorted, 0.5)?;
        let distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        Some(Summary {
            count: values.len(),
            least: quantile(&sorted, 0.0)?,
            median,
            most: quantile(&sorted, 1.0)?,
            deviation: self::median(&distances)?,
        })
    }

    /// The deviation as a share of the median: 0.01 is 1 %.
    pub(crate) fn relative_deviation(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { self.deviation / self.median.abs() }
    }
}

/// The middle value, or the mean of the two in the middle; `None` of no values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    quantile(&sorted(values), 0.5)
}

/// The value below which this share (0 to 1) of the sorted values lies, linear between neighbours (type 7 of Hyndman
/// and Fan, "Sample Quantiles in Statistical Packages", 1996: what R and NumPy do by default).
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = share.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (position.floor(), position.ceil());
    let (low, high) = (sorted[to_index(below)], sorted[to_index(above)]);
    Some(low + (high - low) * (position - below))
}

/// How two things compare that were measured in turns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    /// Median of the first over median of the second.
    pub(crate) ratio: f64,
    /// Where the ratio lies with 95 % confidence; `None` with fewer than [`ROUNDS_FOR_INTERVAL`] rounds.
    pub(crate) interval: Option<(f64, f64)>,
}

#[cfg(test)]
impl Ratio {
    /// Whether the interval leaves no room for "they are the same".
    pub(crate) fn differs(&self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 1.0 || high < 1.0)
    }
}

/// Ratio of the medians of interleaved rounds, one pair a round, with the percentile bootstrap's interval.
///
/// Rounds are resampled whole: what disturbed a round disturbed both of its sides, and stays with both. `None` of no
/// rounds, and where the second side's median is 0.
pub(crate) fn ratio_of_medians(rounds: &[(f64, f64)], seed: u64) -> Option<Ratio> {
    let ratio = median_ratio(rounds)?;
    if rounds.len() < ROUNDS_FOR_INTERVAL {
        return Some(Ratio { ratio, interval: None });
    }
    let mut random = Random(seed);
    let mut resample = Vec::with_capacity(rounds.len());
    let mut ratios = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        resample.clear();
        resample.extend((0..rounds.len()).map(|_| rounds[random.below(rounds.len())]));
        ratios.extend(median_ratio(&resample)); // a resample of nothing but zeros has none
    }
    let ratios = sorted(&ratios);
    let interval = quantile(&ratios, LEFT_OUT / 2.0).zip(quantile(&ratios, 1.0 - LEFT_OUT / 2.0));
    Some(Ratio { ratio, interval })
}

fn median_ratio(rounds: &[(f64, f64)]) -> Option<f64> {
    let (first, second): (Vec<f64>, Vec<f64>) = rounds.iter().copied().unzip();
    let (first, second) = (median(&first)?, median(&second)?);
    (second != 0.0).then(|| first / second)
}

/// How a figure moved over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Drift {
    /// Change for each unit of x: the median of the slopes between all pairs of points (Theil 1950, Sen 1968).
    pub(crate) slope: f64,
    /// The line's value at the first x.
    pub(crate) begin: f64,
    /// The line's value at the last x.
    pub(crate) end: f64,
}

impl Drift {
    /// How much the line rises from its begin to its end, as a share of its begin: 0.01 is 1 %.
    pub(crate) fn relative(&self) -> f64 {
        if self.begin == 0.0 { 0.0 } else { (self.end - self.begin) / self.begin.abs() }
    }
}

/// Drift of points (x, y); `None` when fewer than two of them differ in x.
pub(crate) fn drift(points: &[(f64, f64)]) -> Option<Drift> {
    let points = thinned(points);
    let slopes: Vec<f64> = points
        .iter()
        .enumerate()
        .flat_map(|(i, a)| points[i + 1..].iter().map(move |b| (b.0 - a.0, b.1 - a.1)))
        .filter(|(run, _)| *run != 0.0)
        .map(|(run, rise)| rise / run)
        .collect();
    let slope = median(&slopes)?;
    let intercept = median(&points.iter().map(|(x, y)| y - slope * x).collect::<Vec<_>>())?;
    let at = |x: f64| intercept + slope * x;
    let xs = sorted(&points.iter().map(|point| point.0).collect::<Vec<_>>());
    Some(Drift { slope, begin: at(*xs.first()?), end: at(*xs.last()?) })
}

/// The points themselves, or medians of equally many neighbours where there are too many of them.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(SLOPE_POINTS_MAX).max(1);
    let joined = points.chunks(group).filter_map(|points| {
        let (xs, ys): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        median(&xs).zip(median(&ys))
    });
    joined.collect()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    assert!(values.iter().all(|value| value.is_finite()), "measurements are numbers: {values:?}");
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// A whole, not negative position as an index.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // floor and ceil of a position inside a slice
fn to_index(position: f64) -> usize {
    position as usize
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, and good enough to draw rounds.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, by the high half of a product: nothing here is large enough for its bias to matter.
    fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).expect("less than the bound, which is a usize")
    }
}
