//! What the rounds of a cell come to: medians with their spread, and ratios.

use super::plan::Cell;
use super::results::{Results, Run};
use super::who::Who;
use crate::outcome::Outcome;
use crate::stats::{Ratio, Summary, median, ratio_of_medians};

/// The bootstrap's resampling begins here: the same results always give the same page.
const SEED: u64 = 0x5eed;

/// The server's CPU time for each record or delivery. A ceiling of topics that keep their records has one copy of each
/// payload on top, which was measured beside it.
fn cost_ns(outcome: &Outcome) -> f64 {
    let copy = outcome.limit.as_ref().and_then(|limit| limit.memcpy_ns_per_record).unwrap_or(0.0);
    let records_per_delivery = outcome.cpu_ns() / outcome.server_cpu_ns_per_record.max(1e-9);
    outcome.cpu_ns() + copy * records_per_delivery
}

/// Everything about one cell.
pub(super) struct Digest<'a> {
    pub cell: &'a Cell,
    /// Who was measured at all, in the order of tables.
    pub lines: Vec<Line<'a>>,
}

/// One of those measured.
pub(super) struct Line<'a> {
    pub who: Who,
    /// Every round, in order.
    pub runs: Vec<&'a Run>,
    /// The server's CPU time for each record or delivery, in nanoseconds.
    pub cpu: Summary,
    /// That over the ceiling's, in the same rounds.
    pub over_ceiling: Option<Ratio>,
}

/// Every cell with what was measured of it.
pub(super) fn all(results: &Results) -> Vec<Digest<'_>> {
    let of = |(index, cell)| Digest::new(cell, results.runs.iter().filter(|run| run.cell == index).collect());
    results.cells.iter().enumerate().map(of).collect()
}

impl<'a> Digest<'a> {
    fn new(cell: &'a Cell, runs: Vec<&'a Run>) -> Digest<'a> {
        let line = |who: Who| {
            let mut own: Vec<&Run> = runs.iter().copied().filter(|run| run.who == who).collect();
            own.sort_by_key(|run| run.round);
            let cpu: Vec<f64> = own.iter().map(|run| cost_ns(&run.outcome)).collect();
            Some(Line { who, runs: own, cpu: Summary::of(&cpu)?, over_ceiling: None })
        };
        let mut digest = Digest { cell, lines: Who::ALL.into_iter().filter_map(line).collect() };
        let over = |line: &Line| digest.ratio(line.who, line.who.ceiling()?);
        let ratios: Vec<Option<Ratio>> = digest.lines.iter().map(over).collect();
        for (line, ratio) in digest.lines.iter_mut().zip(ratios) {
            line.over_ceiling = ratio;
        }
        digest
    }

    pub(super) fn line(&self, who: Who) -> Option<&Line<'a>> {
        self.lines.iter().find(|line| line.who == who)
    }

    /// Any outcome: for what all have in common.
    pub(super) fn outcome(&self) -> Option<&'a Outcome> {
        self.lines.first()?.runs.first().map(|run| &run.outcome)
    }

    /// `record` or `delivery`.
    pub(super) fn unit(&self) -> &'static str {
        self.outcome().map_or("record", Outcome::cpu_unit)
    }

    /// The CPU time of one over that of another, in the rounds that have both.
    pub(super) fn ratio(&self, who: Who, to: Who) -> Option<Ratio> {
        let (first, second) = (self.line(who)?, self.line(to)?);
        let pairs: Vec<(f64, f64)> = first
            .runs
            .iter()
            .filter_map(|a| {
                let b = second.runs.iter().find(|b| b.round == a.round)?;
                Some((cost_ns(&a.outcome), cost_ns(&b.outcome)))
            })
            .collect();
        ratio_of_medians(&pairs, SEED)
    }
}

impl Line<'_> {
    pub(super) fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.runs.iter().map(|run| &run.outcome)
    }

    /// Of a figure of every round that has it.
    pub(super) fn summary(&self, read: impl Fn(&Outcome) -> Option<f64>) -> Option<Summary> {
        let values: Vec<f64> = self.outcomes().filter_map(read).collect();
        Summary::of(&values)
    }

    /// Its median.
    pub(super) fn middle(&self, read: impl Fn(&Outcome) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.outcomes().filter_map(read).collect();
        median(&values)
    }

    /// The last round's outcome, for what has no median.
    pub(super) fn last(&self) -> Option<&Outcome> {
        self.outcomes().last()
    }

    /// Records a second that the server took.
    pub(super) fn rate(&self) -> f64 {
        self.middle(|outcome| Some(outcome.records_per_s)).unwrap_or(0.0)
    }

    /// Whether the load had no time left in most rounds while the server had.
    pub(super) fn is_the_loads(&self) -> bool {
        2 * self.outcomes().filter(|outcome| outcome.load_saturated).count() > self.runs.len()
    }
}
