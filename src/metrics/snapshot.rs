//! The counters at one time, for `top` and `-o json`: what the admin port sends as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::counter::Counter;
use super::histogram::HistogramValues;
use super::page::{COPY_REASONS, CounterPage};
use crate::proto::code::Code;

/// All counters, summed and by shard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken: ns since 1970.
    pub wall_ns: u64,
    /// The sums over all shards.
    pub total: Sums,
    /// In the order of the shards.
    pub shards: Vec<Sums>,
}

/// The counters of a shard, or of all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// By metric name (the sample's, as on the metrics page); times in nanoseconds.
    pub counters: BTreeMap<String, u64>,
    /// By code, those that happened.
    pub refusals: BTreeMap<String, u64>,
    /// By reason, all of them.
    pub copies: BTreeMap<String, Copies>,
    /// Durations of ticks.
    pub tick: Durations,
}

/// Copies for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Copies {
    /// How many.
    pub count: u64,
    /// How much.
    pub bytes: u64,
}

/// A histogram in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// Their sum in ns.
    pub sum_ns: u64,
    /// The median in ns (a bucket's upper end, at most a quarter too high).
    pub p50_ns: u64,
    /// The 99th percentile in ns.
    pub p99_ns: u64,
    /// The 99.9th percentile in ns.
    pub p999_ns: u64,
}

impl Snapshot {
    /// Reads the shards' pages, given in their order.
    #[must_use]
    pub fn take(pages: &[Arc<CounterPage>], wall_ns: u64) -> Snapshot {
        let mut ticks = HistogramValues::default();
        let mut total = Sums::default();
        let mut shards = Vec::with_capacity(pages.len());
        for page in pages {
            let mut sums = Sums::of(page);
            let values = page.tick().read();
            sums.tick = Durations::of(&values);
            ticks.merge(&values);
            total.add(&sums);
            shards.push(sums);
        }
        total.tick = Durations::of(&ticks);
        Snapshot { wall_ns, total, shards }
    }
}

impl Sums {
    /// A counter's value; 0 where it is not there.
    #[must_use]
    pub fn value(&self, counter: Counter) -> u64 {
        self.counters.get(&counter.sample()).copied().unwrap_or(0)
    }

    fn of(page: &CounterPage) -> Sums {
        let refused = Code::ALL.iter().map(|&code| (code.name().to_owned(), page.read_refused(code)));
        let copies = COPY_REASONS.iter().map(|&(reason, name)| {
            let (count, bytes) = page.read_copies(reason);
            (name.to_owned(), Copies { count, bytes })
        });
        Sums {
            counters: Counter::ALL.iter().map(|&counter| (counter.sample(), page.read(counter))).collect(),
            refusals: refused.filter(|&(_, count)| count > 0).collect(),
            copies: copies.collect(),
            tick: Durations::default(),
        }
    }

    fn add(&mut self, other: &Sums) {
        for (name, value) in &other.counters {
            let sum = self.counters.entry(name.clone()).or_default();
            *sum = sum.wrapping_add(*value);
        }
        for (name, value) in &other.refusals {
            *self.refusals.entry(name.clone()).or_default() += value;
        }
        for (name, value) in &other.copies {
            let sum = self.copies.entry(name.clone()).or_default();
            sum.count += value.count;
            sum.bytes += value.bytes;
        }
    }
}

impl Durations {
    fn of(values: &HistogramValues) -> Durations {
        Durations {
            count: values.count(),
            sum_ns: values.sum_ns,
            p50_ns: values.quantile_ns(0.5),
            p99_ns: values.quantile_ns(0.99),
            p999_ns: values.quantile_ns(0.999),
        }
    }
}
