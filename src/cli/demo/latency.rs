//! A histogram of latencies: 32 steps for each power of two, so a quantile is at most 3 % off.

const STEPS: usize = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();

#[derive(Debug, Clone)]
pub(super) struct Latencies {
    counts: Vec<u64>,
    count: u64,
    max_ns: u64,
}

impl Latencies {
    pub fn new() -> Self {
        Latencies { counts: vec![0; 64 * STEPS], count: 0, max_ns: 0 }
    }

    pub fn add(&mut self, ns: u64) {
        self.counts[slot(ns)] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    pub fn merge(&mut self, other: &Latencies) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// So many of the latencies are at most this long: the upper bound of the step; 0 without any.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        let wanted = quantile * self.count as f64;
        let mut seen = 0;
        for (slot, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                return upper(slot).min(self.max_ns);
            }
        }
        self.max_ns
    }

    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }
}

#[allow(clippy::cast_possible_truncation)] // `ns >> shift` is below twice the steps
fn slot(ns: u64) -> usize {
    let shift = (64 - ns.leading_zeros()).saturating_sub(STEP_BITS + 1);
    shift as usize * STEPS + (ns >> shift) as usize
}

/// The largest value of a slot.
fn upper(slot: usize) -> u64 {
    if slot < 2 * STEPS {
        return slot as u64;
    }
    let shift = slot / STEPS - 1;
    (((slot - shift * STEPS + 1) as u64) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_holds_values_up_to_its_bound() {
        for ns in (0..5000).chain([1 << 20, (1 << 20) + 1, 999_999_999, 1 << 40]) {
            let bound = upper(slot(ns));
            assert!(bound >= ns && bound <= ns + ns / 32, "{ns}: {bound}");
            assert!(ns == 0 || slot(ns - 1) <= slot(ns));
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut latencies = Latencies::new();
        (1..=1000).for_each(|us| latencies.add(us * 1000));
        for (quantile, us) in [(0.5, 500), (0.9, 900), (0.99, 990)] {
            let found = latencies.quantile_ns(quantile);
            assert!((us * 1000..=us * 1032).contains(&found), "{quantile}: {found}");
        }
        assert_eq!(latencies.max_ns(), 1_000_000);
        assert_eq!(Latencies::new().quantile_ns(0.5), 0);
    }
}
