//! `uringest-bench instructions`: how many instructions fixed pieces of the server's work take.
//!
//! A count under callgrind does not depend on what else the machine does, so a few percent can be told from
//! nothing, in a continuous integration that shares its processor. The program runs itself under valgrind (the
//! hidden `--count`), which counts every piece twice; the counts are compared with `bench/instructions.toml`.
//!
//! What may differ and still be compared: compiler, C library and valgrind, with a wider tolerance, which is said.
//! What may not: the processor that valgrind shows the program and the checksum it chooses there, as other code runs
//! then. That comparison is skipped, and said to be.

mod figures;
mod profile;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::callgrind;
use crate::pieces::{self, Piece};

use figures::{Figures, Verdict};
use profile::ProfileError;

/// Repetitions of a piece before it is counted: rings are full, credit has grown, tables have their memory.
const WARM_UPS: usize = 16;
/// Repetitions that are counted together: acknowledgements and credit come every few.
const REPETITIONS: u64 = 16;
/// How often each piece is counted. All counts are the same, or the piece is not fixed work.
const TIMES: usize = 2;

/// Arguments of the command.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Writes what was counted to the file of figures, in place of comparing.
    #[arg(long)]
    accept: bool,
    /// File of the committed figures.
    #[arg(long, value_name = "FILE", default_value = "bench/instructions.toml")]
    figures: PathBuf,
    /// Runs the pieces; for the run under valgrind.
    #[arg(long, hide = true)]
    count: bool,
}

/// Why nothing was compared.
#[derive(Debug)]
enum InstructionsError {
    /// The pieces could not be counted.
    Profile(ProfileError),
    /// The figures could not be read or written.
    Figures(PathBuf, String),
    /// Standard output took nothing.
    Output(std::io::Error),
    /// `--count` without valgrind.
    NotWatched,
}

impl std::fmt::Display for InstructionsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InstructionsError::Profile(error) => error.fmt(f),
            InstructionsError::Figures(path, error) => write!(f, "{}: {error}", path.display()),
            InstructionsError::Output(error) => write!(f, "standard output: {error}"),
            InstructionsError::NotWatched => {
                f.write_str("--count is for the run under valgrind: leave it out")
            }
        }
    }
}

impl std::error::Error for InstructionsError {}

/// What the counts depend on beside the code.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CountedOn {
    /// Architecture, and the extensions among which code chooses, as valgrind shows them to the program.
    pub processor: String,
    /// The implementation of the checksum of long inputs that was chosen there.
    pub checksum: String,
    /// The compiler.
    pub rustc: String,
    /// The C library, whose `memcpy` counts.
    pub libc: String,
    /// Of valgrind.
    pub valgrind: String,
}

/// What one piece takes.
#[derive(Debug, Clone, PartialEq)]
struct Count {
    /// The piece's name.
    pub name: String,
    /// Instructions of one repetition, rounded.
    pub instructions: u64,
}

/// The command. Fails when something takes more than its figure and its tolerance, or nothing could be counted.
#[must_use]
pub fn main(arguments: &Arguments) -> ExitCode {
    match run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("uringest-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything is within its tolerance.
fn run(arguments: &Arguments) -> Result<bool, InstructionsError> {
    if arguments.count {
        return count().map(|()| true);
    }
    let (counts, on) = profile::take().map_err(InstructionsError::Profile)?;
    let path = &arguments.figures;
    let failed = |error| InstructionsError::Figures(path.clone(), error);
    let committed = if arguments.accept && !path.exists() {
        Figures::none()
    } else {
        Figures::read(path).map_err(failed)?
    };
    let (text, fine) = if arguments.accept {
        let accepted = committed.accepting(&counts, on);
        std::fs::write(path, accepted.to_toml()).map_err(|error| failed(error.to_string()))?;
        (format!("{}{} written\n", table(&committed, &counts, None), path.display()), true)
    } else {
        compare(&committed, &counts, &on, path)
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(InstructionsError::Output)?;
    Ok(fine)
}

/// The table, and what it means.
fn compare(committed: &Figures, counts: &[Count], on: &CountedOn, path: &Path) -> (String, bool) {
    let comparable = committed.comparable(on);
    let mut text = table(committed, counts, comparable.factor);
    for remark in &comparable.remarks {
        text.push_str(remark);
        text.push('\n');
    }
    let Some(factor) = comparable.factor else {
        text.push_str("SKIPPED: the counts are not compared\n");
        return (text, true);
    };
    let verdicts: Vec<Verdict> = counts.iter().map(|count| committed.verdict(count, factor)).collect();
    let gone = committed.gone(counts);
    for name in &gone {
        text.push_str(&format!("{name}: no such piece any more\n"));
    }
    let fine = gone.is_empty() && verdicts.iter().all(Verdict::is_fine);
    if !fine || verdicts.iter().any(|verdict| matches!(verdict, Verdict::Fewer { .. })) {
        let default = Path::new("bench/instructions.toml");
        let figures = if path == default { String::new() } else { format!(" --figures {}", path.display()) };
        text.push_str(&format!(
            "If that is meant, accept the new figures:\n  \
             cargo run --release -p uringest-bench -- instructions --accept{figures}\n"
        ));
    }
    (text, fine)
}

/// One line a piece: committed, counted, their ratio, and for each unit.
fn table(committed: &Figures, counts: &[Count], factor: Option<f64>) -> String {
    let mut text = format!(
        "{:<24} {:>12} {:>12} {:>7} {:>7}  {:<22} {}\n",
        "piece", "committed", "counted", "ratio", "limit", "for each", "verdict"
    );
    for count in counts {
        let units =
            pieces::all().find(|piece| piece.name == count.name).map_or((1, ""), |p| (p.units, p.unit));
        let each = format!("{:.1} a {}", count.instructions as f64 / f64::from(units.0), units.1);
        let (old, ratio, limit) = match committed.of(&count.name) {
            Some(figure) => (
                figure.instructions.to_string(),
                format!("{:.3}", count.instructions as f64 / figure.instructions.max(1) as f64),
                format!("{:.3}", 1.0 + figure.tolerance(factor.unwrap_or(1.0))),
            ),
            None => ("-".into(), "-".into(), "-".into()),
        };
        let verdict = factor.map(|factor| committed.verdict(count, factor).to_string()).unwrap_or_default();
        let line = format!(
            "{:<24} {old:>12} {:>12} {ratio:>7} {limit:>7}  {each:<22} {verdict}",
            count.name, count.instructions
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Under valgrind: says what it runs on, and runs the pieces.
fn count() -> Result<(), InstructionsError> {
    if !callgrind::is_watching() {
        return Err(InstructionsError::NotWatched);
    }
    let mut out = std::io::stdout();
    write!(out, "{}\n{}\n", processor(), checksum())
        .and_then(|()| out.flush())
        .map_err(InstructionsError::Output)?;
    for piece in pieces::all() {
        let mut repeat = (piece.prepare)();
        for _ in 0..WARM_UPS {
            repeat.ready();
            repeat.work();
        }
        for time in 0..TIMES {
            for _ in 0..REPETITIONS {
                repeat.ready();
                callgrind::counted(|| repeat.work());
            }
            callgrind::write_down(&dump_name(piece, time));
        }
    }
    Ok(())
}

fn dump_name(piece: &Piece, time: usize) -> std::ffi::CString {
    std::ffi::CString::new(format!("{}#{time}", piece.name)).expect("names have no NUL")
}

/// The architecture and the extensions that code of the server chooses by.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let extensions = [
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("pclmulqdq", std::arch::is_x86_feature_detected!("pclmulqdq")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("vpclmulqdq", std::arch::is_x86_feature_detected!("vpclmulqdq")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let extensions: [(&str, bool); 0] = [];
    let names = extensions.iter().filter(|(_, there)| *there).map(|(name, _)| *name);
    [std::env::consts::ARCH].into_iter().chain(names).collect::<Vec<_>>().join(" ")
}

fn checksum() -> String {
    crc_fast::get_calculator_target(crc_fast::CrcAlgorithm::Crc32Iscsi)
}

#[cfg(test)]
mod tests;
