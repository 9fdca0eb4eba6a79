//! Against known answers.

use super::{Random, Summary, drift, median, quantile, ratio_of_medians};

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found}, not {expected}");
}

#[test]
fn medians_of_odd_and_even_counts() {
    assert_eq!(median(&[]), None);
    near(median(&[7.0]).expect("one"), 7.0);
    near(median(&[9.0, 1.0, 5.0]).expect("three"), 5.0);
    near(median(&[9.0, 1.0, 5.0, 6.0]).expect("four"), 5.5);
    near(median(&[1.0, 1.0, 1.0, 1e9]).expect("an outlier"), 1.0);
}

#[test]
fn quantiles_are_those_of_r_and_numpy() {
    // numpy.quantile([1, 2, 4, 8, 16], [...])
    let values = [1.0, 2.0, 4.0, 8.0, 16.0];
    for (share, expected) in
        [(0.0, 1.0), (0.1, 1.4), (0.25, 2.0), (0.5, 4.0), (0.9, 12.8), (0.99, 15.68), (1.0, 16.0)]
    {
        near(quantile(&values, share).expect("values"), expected);
    }
    near(quantile(&values, 2.0).expect("values"), 16.0);
    assert_eq!(quantile(&[], 0.5), None);
}

#[test]
fn a_summary_has_quartiles_and_the_median_absolute_deviation() {
    // The usual example of the median absolute deviation: distances 1 1 0 0 2 4 7, of which 1 is in the middle.
    let values = [1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0];
    let summary = Summary::of(&values).expect("values");
    assert_eq!(summary.count, 7);
    near(summary.least, 1.0);
    near(quantile(&values, 0.25).expect("values"), 1.5);
    near(summary.median, 2.0);
    near(quantile(&values, 0.75).expect("values"), 5.0);
    near(summary.most, 9.0);
    near(summary.deviation, 1.0);
    near(summary.relative_deviation(), 0.5);
    assert_eq!(Summary::of(&[]), None);
    near(Summary::of(&[0.0, 0.0]).expect("values").relative_deviation(), 0.0);
}

#[test]
#[should_panic(expected = "measurements are numbers")]
fn what_is_no_number_is_not_measured() {
    median(&[1.0, f64::NAN]);
}

#[test]
fn a_ratio_of_equals_is_one_and_sure() {
    let ratio = ratio_of_medians(&[(3.0, 3.0), (5.0, 5.0), (4.0, 4.0)], 1).expect("rounds");
    near(ratio.ratio, 1.0);
    assert_eq!(ratio.interval, Some((1.0, 1.0)));
    assert!(!ratio.differs());
}

#[test]
fn a_pair_is_resampled_whole() {
    // The machine's speed halves and doubles from round to round, the ratio is always 2.
    let rounds: Vec<(f64, f64)> = [1.0, 2.0, 4.0, 8.0, 16.0].map(|pace| (2.0 * pace, pace)).to_vec();
    let ratio = ratio_of_medians(&rounds, 7).expect("rounds");
    near(ratio.ratio, 2.0);
    assert_eq!(ratio.interval, Some((2.0, 2.0)));
    assert!(ratio.differs());
}

#[test]
fn few_rounds_give_no_interval_or_the_widest() {
    assert_eq!(ratio_of_medians(&[], 1), None);
    assert_eq!(ratio_of_medians(&[(1.0, 0.0)], 1), None);
    let two = ratio_of_medians(&[(10.0, 10.0), (12.0, 10.0)], 1).expect("rounds");
    near(two.ratio, 1.1);
    assert_eq!(two.interval, None);
    assert!(!two.differs());
    // Of the 27 resamples of three, 7 have the least round in the middle and 7 the most.
    let three = ratio_of_medians(&[(10.0, 10.0), (12.0, 10.0), (11.0, 10.0)], 1).expect("rounds");
    near(three.ratio, 1.1);
    assert_eq!(three.interval, Some((1.0, 1.2)));
}

/// The bootstrap of a median of odd `n` is known: the k-th least or a lesser one is in the middle when at least
/// (n + 1) / 2 of n draws are among the k least.
#[test]
fn the_interval_is_the_exact_bootstraps() {
    let n = 11_u32;
    let rounds: Vec<(f64, f64)> = (1..=n).map(|i| (f64::from(i), 1.0)).collect();
    let at_most = |k: u32| -> f64 {
        let share = f64::from(k) / f64::from(n);
        let choose = |j: u32| (0..j).map(|i| f64::from(n - i) / f64::from(i + 1)).product::<f64>();
        let of = |j: u32| choose(j) * share.powi(j.cast_signed()) * (1.0 - share).powi((n - j).cast_signed());
        (n.div_ceil(2)..=n).map(of).sum()
    };
    let exact = |tail: f64| (1..=n).find(|&k| at_most(k) >= tail).map(f64::from).expect("the last has all");
    let (low, high) = (exact(0.025), exact(0.975));
    assert_eq!((low, high), (3.0, 9.0), "as a table of the binomial says");
    let ratio = ratio_of_medians(&rounds, 42).expect("rounds");
    near(ratio.ratio, 6.0);
    assert_eq!(ratio.interval, Some((low, high)));
    assert!(ratio.differs());
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let rounds: Vec<(f64, f64)> =
        (0..9).map(|i| (100.0 + f64::from(i * i % 7), 98.0 + f64::from(i % 4))).collect();
    assert_eq!(ratio_of_medians(&rounds, 5), ratio_of_medians(&rounds, 5));
    let (low, high) = ratio_of_medians(&rounds, 5).and_then(|ratio| ratio.interval).expect("rounds");
    assert!(low <= high && low > 0.97 && high < 1.08, "{low} to {high}");
}

#[test]
fn drift_is_a_lines_slope_whatever_some_points_do() {
    let line = |x: u32| (f64::from(x), 100.0 + 0.5 * f64::from(x));
    let mut points: Vec<(f64, f64)> = (0..=20).map(line).collect();
    let clean = drift(&points).expect("points");
    near(clean.slope, 0.5);
    near(clean.begin, 100.0);
    near(clean.end, 110.0);
    near(clean.relative(), 0.1);
    points[3].1 = 1e6; // a disturbed second
    points[15].1 = 0.0;
    near(drift(&points).expect("points").slope, 0.5);
}

#[test]
fn drift_of_many_points_is_that_of_a_few() {
    let points: Vec<(f64, f64)> = (0..10_000).map(|x| (f64::from(x), 5.0 - 0.001 * f64::from(x))).collect();
    let drift = drift(&points).expect("points");
    near(drift.slope, -0.001);
    assert!((drift.begin - 5.0).abs() < 0.02 && (drift.end + 5.0).abs() < 0.02, "{drift:?}");
}

#[test]
fn drift_needs_two_places() {
    assert_eq!(drift(&[]), None);
    assert_eq!(drift(&[(1.0, 2.0)]), None);
    assert_eq!(drift(&[(1.0, 2.0), (1.0, 3.0)]), None);
    let flat = drift(&[(1.0, 0.0), (2.0, 0.0)]).expect("points");
    near(flat.slope, 0.0);
    near(flat.relative(), 0.0);
}

/// The generator's first numbers from seed 1234567, as its authors' reference program prints them.
#[test]
fn the_generator_is_splitmix() {
    let mut random = Random(1_234_567);
    let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
    assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    let mut seen = [0_u32; 5];
    (0..5_000).for_each(|_| seen[random.below(5)] += 1);
    assert!(seen.iter().all(|count| (900..1_100).contains(count)), "{seen:?}");
}
