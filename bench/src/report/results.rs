//! `results.json`: everything that was measured for a report, and all that its page is made from.
//!
//! Written anew after every run, whole, beside the old one and then in its place: whenever a report is interrupted,
//! the file is what was measured until then, and `--resume` goes on from it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::Cell;
use super::who::Who;
use crate::host::Machine;
use crate::outcome::Outcome;

/// The file's name in a report's directory.
pub const FILE: &str = "results.json";
/// Of the file's layout.
const FORMAT: u32 = 1;

/// What was asked for and set, beside the cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The command line's wish that scenarios be these alone; empty for all.
    pub only: Vec<String>,
    /// CPUs of the servers.
    pub server_cpus: String,
    /// CPUs of the load.
    pub load_cpus: String,
    /// Congestion control of the load's sockets, uringest's and the ceilings'.
    pub congestion_control: String,
    /// That of the peers' own sockets: the host's default.
    pub peers_congestion_control: String,
    /// Further settings of uringest.
    pub server_settings: Vec<String>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Index of the cell.
    pub cell: usize,
    /// Who was measured.
    pub who: Who,
    /// From 0.
    pub round: u16,
    /// What was found, as `uringest-bench run --json` prints it. Latency curves are kept where the load was at
    /// fixed times.
    pub outcome: Outcome,
}

/// A measurement that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Index of the cell.
    pub cell: usize,
    /// Who was to be measured.
    pub who: Who,
    /// From 0.
    pub round: u16,
    /// Why.
    pub why: String,
}

/// Who did not take part at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// Who.
    pub who: Who,
    /// Why, and what to install.
    pub why: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Of the layout; another one is refused.
    pub format: u32,
    /// Seconds since 1970 UTC at which the first measurement began.
    pub begun_unix_s: u64,
    /// The benchmark's commit.
    pub commit: String,
    /// Where.
    pub machine: Machine,
    /// How.
    pub settings: Settings,
    /// What.
    pub cells: Vec<Cell>,
    /// Who did not take part.
    pub absent: Vec<Absent>,
    /// What was measured, in the order in which it was.
    pub runs: Vec<Run>,
    /// What could not be.
    pub failed: Vec<Failed>,
}

/// Why there are no results.
#[derive(Debug)]
pub enum ResultsError {
    /// The file cannot be read or written.
    Io(PathBuf, io::Error),
    /// It is not one, or of another version.
    Syntax(PathBuf, String),
}

impl std::fmt::Display for ResultsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ResultsError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            ResultsError::Syntax(path, error) => write!(
                f,
                "{}: {error}: not the results of a report, or of another version of this program",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ResultsError {}

impl Results {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(begun_unix_s: u64, commit: &str, settings: Settings, cells: Vec<Cell>) -> Results {
        Results {
            format: FORMAT,
            begun_unix_s,
            commit: commit.to_owned(),
            machine: Machine::this(),
            settings,
            cells,
            absent: Vec::new(),
            runs: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Reads a file, or the one in a directory.
    ///
    /// # Errors
    /// There is none, or it is something else.
    pub fn read(path: &Path) -> Result<Results, ResultsError> {
        let file = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let text = std::fs::read_to_string(&file).map_err(|error| ResultsError::Io(file.clone(), error))?;
        Results::parse(&text).map_err(|error| ResultsError::Syntax(file, error))
    }

    /// From the file's text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Results, String> {
        let results: Results = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if results.format != FORMAT {
            return Err(format!("format {}, where {FORMAT} is read", results.format));
        }
        let cells = results.cells.len();
        if results.runs.iter().any(|run| run.cell >= cells)
            || results.failed.iter().any(|run| run.cell >= cells)
        {
            return Err("a run of no cell".into());
        }
        Ok(results)
    }

    /// The file's text: a run to a line, so that it can be read and compared.
    ///
    /// # Panics
    /// Never: results are structs and lists of numbers and text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let line = |run: &Run| serde_json::to_string(run).expect("numbers and text");
        let runs: Vec<String> = self.runs.iter().map(line).collect();
        let mut rest =
            serde_json::to_value(Results { runs: Vec::new(), ..self.clone() }).expect("numbers and text");
        let fields = rest.as_object_mut().expect("a struct");
        fields.remove("runs");
        let head = serde_json::to_string_pretty(&rest).expect("numbers and text");
        let head = head.trim_end().trim_end_matches('}').trim_end();
        let body = runs.join(",\n");
        format!("{head},\n  \"runs\": [\n{body}\n  ]\n}}\n")
    }

    /// Puts the file into a directory, which is made.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), ResultsError> {
        let (file, new) = (directory.join(FILE), directory.join(format!("{FILE}.new")));
        let write = || {
            std::fs::create_dir_all(directory)?;
            std::fs::write(&new, self.to_json())?;
            std::fs::rename(&new, &file)
        };
        write().map_err(|error| ResultsError::Io(file.clone(), error))
    }

    /// Every measurement that is planned: cell, who, round, in the order in which they are made. Those named to a cell
    /// take turns, each round beginning with another one.
    pub fn planned(&self) -> impl Iterator<Item = (usize, Who, u16)> + '_ {
        let rounds = self.cells.iter().map(|cell| cell.rounds).max().unwrap_or(0);
        (0..rounds).flat_map(move |round| {
            let cells = self.cells.iter().enumerate().filter(move |(_, cell)| round < cell.rounds);
            cells.flat_map(move |(index, cell)| {
                let present = cell.who.iter().copied().filter(|who| !self.is_absent(*who));
                let mut who: Vec<Who> = present.collect();
                let turns = who.len().max(1);
                who.rotate_left(usize::from(round) % turns);
                who.into_iter().map(move |who| (index, who, round))
            })
        })
    }

    /// Those of them that have not been made.
    #[must_use]
    pub fn missing(&self) -> Vec<(usize, Who, u16)> {
        let made: std::collections::HashSet<(usize, Who, u16)> =
            self.runs.iter().map(|run| (run.cell, run.who, run.round)).collect();
        self.planned().filter(|planned| !made.contains(planned)).collect()
    }

    fn is_absent(&self, who: Who) -> bool {
        self.absent.iter().any(|absent| absent.who == who)
    }
}
