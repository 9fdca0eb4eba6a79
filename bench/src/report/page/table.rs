//! Tables in Markdown.

use crate::report::names;
use crate::stats::{Ratio, Summary};

/// A row that a table would not have anything in.
pub(super) const NOTHING: &str = "–";

/// Columns with heads, and rows.
pub(super) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The first column is text, the others are numbers.
    pub(super) fn new<T: AsRef<str>>(heads: &[T]) -> Table {
        Table { heads: heads.iter().map(|head| head.as_ref().to_owned()).collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        assert!(cells.len() == self.heads.len(), "a cell for each column: {cells:?}");
        self.rows.push(cells);
    }

    /// A heading inside of the table.
    pub(super) fn group(&mut self, name: &str) {
        let mut cells = vec![String::new(); self.heads.len()];
        cells[0] = format!("**{name}**");
        self.rows.push(cells);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = |f: &mut std::fmt::Formatter<'_>, cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            writeln!(f, "| {} |", cells.join(" | "))
        };
        line(f, &self.heads)?;
        writeln!(f, "|---{}|", "|--:".repeat(self.heads.len() - 1))?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
}

/// A median with the least and the most of the rounds.
pub(super) fn spread(summary: &Summary) -> String {
    let middle = names::figure(summary.median);
    if summary.count < 2 {
        return middle;
    }
    format!("{middle} ({} – {})", names::figure(summary.least), names::figure(summary.most))
}

/// The same, or nothing.
pub(super) fn spread_or(summary: Option<Summary>) -> String {
    summary.map_or(NOTHING.into(), |summary| spread(&summary))
}

/// A number, or nothing.
pub(super) fn figure_or(value: Option<f64>) -> String {
    value.map_or(NOTHING.into(), names::figure)
}

/// A ratio, with its interval.
pub(super) fn ratio(ratio: Option<Ratio>) -> String {
    let Some(Ratio { ratio, interval }) = ratio else { return NOTHING.into() };
    match interval {
        Some((low, high)) => format!("{ratio:.2} ({low:.2} – {high:.2})"),
        None => format!("{ratio:.2}"),
    }
}

/// A share of a CPU.
pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or(NOTHING.into(), |share| format!("{:.0} %", share * 100.0))
}
