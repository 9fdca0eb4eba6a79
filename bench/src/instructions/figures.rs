//! The committed figures: `bench/instructions.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Count, CountedOn};
use crate::pieces;

/// How much more a piece may take, by default, in percent.
const TOLERANCE_PERCENT: f64 = 3.0;
/// How much wider tolerances are where another compiler, C library or valgrind counted.
const ELSEWHERE: f64 = 5.0;

const HEAD: &str = "\
# Instructions that fixed pieces of the server's work take, counted under callgrind: a guard against regressions.
# Written by `cargo run --release -p uringest-bench -- instructions --accept`; docs/benchmark.md explains them.
# A count above its figure by more than the tolerance fails the check. With another compiler, C library or valgrind
# than below the tolerance is five times as wide; with another processor or checksum nothing is compared.
";

/// The file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Figures {
    /// What they were counted on; none of an empty file.
    counted_on: Option<CountedOn>,
    #[serde(default)]
    pieces: BTreeMap<String, Figure>,
}

/// One piece's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Figure {
    /// Of one repetition.
    pub instructions: u64,
    /// How much more it may take.
    pub tolerance_percent: f64,
}

impl Figure {
    /// As a share, made wider by a factor.
    pub(super) fn tolerance(&self, factor: f64) -> f64 {
        self.tolerance_percent / 100.0 * factor
    }
}

/// Whether figures and counts can be compared.
pub(super) struct Comparable {
    /// How much wider the tolerances are; `None`: they cannot be compared.
    pub factor: Option<f64>,
    /// What is different.
    pub remarks: Vec<String>,
}

/// What a count is beside its figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// Within the tolerance.
    Same,
    /// Below it: fine, and worth accepting, so that it stays.
    Fewer { ratio: f64 },
    /// Above it.
    More { ratio: f64 },
    /// There is no figure.
    New,
}

impl Verdict {
    /// Whether the check passes.
    pub(super) fn is_fine(&self) -> bool {
        matches!(self, Verdict::Same | Verdict::Fewer { .. })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |ratio: f64| 100.0 * (ratio - 1.0).abs();
        match self {
            Verdict::Same => f.write_str("same"),
            Verdict::Fewer { ratio } => write!(f, "fewer by {:.1} %", percent(*ratio)),
            Verdict::More { ratio } => write!(f, "MORE by {:.1} %", percent(*ratio)),
            Verdict::New => f.write_str("NEW: no committed figure"),
        }
    }
}

impl Figures {
    pub(super) fn none() -> Figures {
        Figures { counted_on: None, pieces: BTreeMap::new() }
    }

    pub(super) fn read(path: &Path) -> Result<Figures, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Figures::parse(&text)
    }

    pub(super) fn parse(text: &str) -> Result<Figures, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// The figures with these counts; tolerances that were set stay.
    pub(super) fn accepting(&self, counts: &[Count], on: CountedOn) -> Figures {
        let figure = |count: &Count| {
            let tolerance_percent =
                self.of(&count.name).map_or(TOLERANCE_PERCENT, |old| old.tolerance_percent);
            (count.name.clone(), Figure { instructions: count.instructions, tolerance_percent })
        };
        Figures { counted_on: Some(on), pieces: counts.iter().map(figure).collect() }
    }

    /// The file's text, pieces in the order in which they are shown, one a line.
    pub(super) fn to_toml(&self) -> String {
        let mut text = HEAD.to_owned();
        if let Some(on) = &self.counted_on {
            text.push_str("\n[counted_on]\n");
            text.push_str(&toml::to_string(on).expect("a table of strings"));
        }
        text.push_str("\n[pieces]\n");
        for piece in pieces::all() {
            if let Some(figure) = self.of(piece.name) {
                text.push_str(&format!(
                    "{} = {{ instructions = {}, tolerance_percent = {:?} }}\n",
                    piece.name, figure.instructions, figure.tolerance_percent
                ));
            }
        }
        text
    }

    pub(super) fn of(&self, name: &str) -> Option<&Figure> {
        self.pieces.get(name)
    }

    /// Figures of pieces that were not counted.
    pub(super) fn gone(&self, counts: &[Count]) -> Vec<String> {
        let counted = |name: &String| counts.iter().any(|count| count.name == *name);
        self.pieces.keys().filter(|name| !counted(name)).cloned().collect()
    }

    pub(super) fn comparable(&self, on: &CountedOn) -> Comparable {
        let Some(then) = &self.counted_on else {
            return Comparable {
                factor: None,
                remarks: vec!["The file does not say what it was counted on.".into()],
            };
        };
        let mut factor = Some(1.0);
        let mut remarks = Vec::new();
        let mut look = |what: &str, then: &str, now: &str, elsewhere: Option<f64>| {
            if then == now {
                return;
            }
            factor = factor.and(elsewhere);
            let so = match elsewhere {
                Some(times) => format!("tolerances are {times} times as wide"),
                None => "other code runs there".into(),
            };
            remarks.push(format!("The figures are of {what} {then}, this is {now}: {so}."));
        };
        look("rustc", &then.rustc, &on.rustc, Some(ELSEWHERE));
        look("C library", &then.libc, &on.libc, Some(ELSEWHERE));
        look("valgrind", &then.valgrind, &on.valgrind, Some(ELSEWHERE));
        look("processor", &then.processor, &on.processor, None);
        look("checksum", &then.checksum, &on.checksum, None);
        Comparable { factor, remarks }
    }

    pub(super) fn verdict(&self, count: &Count, factor: f64) -> Verdict {
        let Some(figure) = self.of(&count.name) else { return Verdict::New };
        let ratio = count.instructions as f64 / figure.instructions.max(1) as f64;
        let tolerance = figure.tolerance(factor);
        if ratio > 1.0 + tolerance {
            Verdict::More { ratio }
        } else if ratio < 1.0 - tolerance {
            Verdict::Fewer { ratio }
        } else {
            Verdict::Same
        }
    }
}
