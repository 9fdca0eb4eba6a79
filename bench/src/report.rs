//! `report`: everything measured in turns, and a page about it.
//!
//! | module | what it is |
//! |---|---|
//! | `plan` | what is run: `bench/report.toml` and the command line's wishes, as cells |
//! | `who` | who is measured, and how it is drawn |
//! | `subjects` | starts and measures them |
//! | `conduct` | goes through what is missing, and writes `results.json` after every run |
//! | `results` | that file |
//! | `digest` | medians, spreads and ratios of the rounds |
//! | `page`, `chart` | Markdown and SVG, from results alone |
//!
//! Two halves that meet in `results.json`: one measures and knows nothing of pages, the other is a pure function.

mod chart;
mod conduct;
mod digest;
pub mod names;
pub mod page;
pub mod plan;
pub mod results;
mod subjects;
#[cfg(test)]
mod tests;
pub mod who;

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::outcome::COMMIT;
use results::{Results, ResultsError, Settings};
pub use subjects::Subjects;

/// Begins a report: the directory in which it will be, and nothing measured yet.
///
/// # Errors
/// What is wished for is not in the plan.
pub fn begin(
    wishes: &plan::Wishes,
    subjects: &Subjects,
    out: &Path,
    now_unix_s: u64,
) -> Result<(PathBuf, Results), Failure> {
    let settings = Settings {
        only: wishes.only.clone(),
        server_cpus: subjects.placement.server_cpus.to_string(),
        load_cpus: subjects.placement.load_cpus.to_string(),
        congestion_control: crate::host::CONGESTION_CONTROL.to_owned(),
        peers_congestion_control: Subjects::peers_congestion_control(),
        server_settings: subjects.options.settings.clone(),
    };
    let mut results = Results::new(now_unix_s, COMMIT, settings, plan::cells(wishes)?);
    results.absent = subjects::absent(&results.cells);
    let name = format!("{}-{COMMIT}", names::date(now_unix_s));
    Ok((out.join(names::machine(&results.machine)).join(name), results))
}

/// The newest unfinished report of this machine and this commit.
///
/// # Errors
/// There is none.
pub fn interrupted(out: &Path) -> Result<(PathBuf, Results), Failure> {
    let directory = out.join(names::machine(&crate::host::Machine::this()));
    let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
    let read = |path: PathBuf| Results::read(&path).ok().map(|results| (path, results));
    let unfinished = entries
        .filter_map(|entry| read(entry.path()))
        .filter(|(_, results)| results.commit == COMMIT && !results.missing().is_empty());
    unfinished.max_by_key(|(_, results)| results.begun_unix_s).ok_or_else(|| {
        Failure::Unsupported(format!(
            "no unfinished report of commit {COMMIT} is in {}: begin one without --resume",
            directory.display()
        ))
    })
}

/// Measures what is missing and writes results and page into the directory.
///
/// # Errors
/// The directory cannot be written. Measurements that fail are in the results.
pub fn conduct(results: &mut Results, subjects: &Subjects, directory: &Path) -> Result<(), Failure> {
    conduct::conduct(results, subjects, directory)?;
    write_page(results, directory)
}

/// Writes the page and its charts.
///
/// # Errors
/// The directory cannot be written.
pub fn write_page(results: &Results, directory: &Path) -> Result<(), Failure> {
    let write = |file: &page::File| {
        let path = directory.join(&file.name);
        std::fs::write(&path, &file.text).map_err(|error| ResultsError::Io(path.clone(), error))
    };
    page::render(results).iter().try_for_each(write).map_err(Failure::from)
}

impl From<ResultsError> for Failure {
    fn from(error: ResultsError) -> Failure {
        Failure::Results(error)
    }
}
