//! How a command ends: one table of exit codes, and one line with a remedy for what went wrong.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

/// Every exit code. `docs/operations.md` and each `--help` list the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or the reader of our output has gone.
    Ok = 0,
    /// The command ran and failed, or found something bad.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The server cannot be reached, or did not answer in time.
    Unreachable = 3,
    /// The server answered, and refused.
    Refused = 4,
    /// The server ended before it had delivered everything.
    Incomplete = 5,
}

/// The end of every `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong command line or configuration; \
    3 server not reachable or no answer in time; 4 refused by the server.";

/// Why a command does not end well.
#[derive(Debug)]
pub struct Failure {
    /// The process's exit code.
    pub exit: Exit,
    /// One line; empty when nothing is to be said.
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

/// A command's end.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure with its remedy.
    pub fn new(exit: Exit, message: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), remedy: remedy.into() }
    }

    /// Ends the command without a word.
    #[must_use]
    pub fn silent(exit: Exit) -> Failure {
        Failure::new(exit, "", "")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n  try: {}", self.remedy) }
    }
}

/// Standard output failed: whoever read it has gone (as `| head` does), or its disk is full.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(Exit::Ok),
            _ => Failure::new(Exit::Failed, format!("cannot write to standard output: {error}"), ""),
        }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Failure {
        let remedy = "uringest config show --template   # every setting, its default and what is allowed";
        Failure::new(Exit::Usage, error.to_string(), remedy)
    }
}

impl Exit {
    /// Says on standard error why, if there is anything to say, and becomes the process's exit code.
    pub fn of(outcome: &Outcome) -> ExitCode {
        let Err(failure) = outcome else { return ExitCode::from(Exit::Ok as u8) };
        if !failure.message.is_empty() {
            // Where standard error is gone too there is nobody left to tell.
            let _ = writeln!(io::stderr(), "uringest: {failure}");
        }
        ExitCode::from(failure.exit as u8)
    }
}

/// What `-o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON value.
    Json,
}

/// Writes all of it to standard output.
///
/// # Errors
/// See `From<io::Error>`.
pub fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a value as JSON, indented on a terminal.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &impl serde::Serialize) -> Outcome {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    match text {
        Ok(text) => print(&(text + "\n")),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write JSON: {error}"), "")),
    }
}

/// Lines up rows under a head; the columns named in `right` are numbers.
#[must_use]
pub fn table(head: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (column, cell) in cells.enumerate() {
            let width = widths[column];
            out += &if right.contains(&column) {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            };
        }
        out.trim_end().to_owned() + "\n"
    };
    let mut out = line(&mut head.iter().copied());
    for row in rows {
        out += &line(&mut row.iter().map(String::as_str));
    }
    out
}
