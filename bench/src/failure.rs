//! Why a measurement could not be made, with what to do about it.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::report::results::ResultsError;
use crate::scenario::ScenarioError;

/// See the module. `Display` ends in the remedy where there is one.
#[derive(Debug)]
pub enum Failure {
    /// The scenario, or what was asked for on top of it.
    Scenario(ScenarioError),
    /// A server's program is not where it was looked for.
    NoProgram {
        /// Where.
        path: PathBuf,
        /// How to get it.
        remedy: String,
    },
    /// A server ended, or said that it cannot do what the work needs.
    Server {
        /// Which.
        name: String,
        /// What happened.
        what: String,
    },
    /// A server was not ready in time.
    NotReady {
        /// Which.
        name: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The host does not give what the measurement needs.
    Host {
        /// What, with the remedy.
        what: String,
        /// The system's words.
        source: io::Error,
    },
    /// A connection of the load broke, or was refused.
    Load(io::Error),
    /// The results of a report cannot be read or written.
    Results(ResultsError),
    /// There are no certificates for a server of the benchmark's own.
    Tls(String),
    /// The subject cannot do this work.
    Unsupported(String),
}

/// As of `uringest`: what was asked for cannot be, whatever the host and the server do.
const WRONG_COMMAND_LINE: u8 = 2;

impl Failure {
    /// What the program ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Scenario(_) | Failure::NoProgram { .. } | Failure::Unsupported(_) => {
                ExitCode::from(WRONG_COMMAND_LINE)
            }
            _ => ExitCode::FAILURE,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Scenario(error) => error.fmt(f),
            Failure::NoProgram { path, remedy } => write!(f, "{} is not there: {remedy}", path.display()),
            Failure::Server { name, what } => write!(f, "{name}: {what}"),
            Failure::NotReady { name, waited } => {
                write!(f, "{name} was not ready within {} s; what it says is above", waited.as_secs())
            }
            Failure::Host { what, source } => write!(f, "{what} ({source})"),
            Failure::Load(error) => write!(f, "a connection of the load: {error}"),
            Failure::Results(error) => error.fmt(f),
            Failure::Tls(what) => write!(f, "certificates for this run: {what}"),
            Failure::Unsupported(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Failure::Scenario(error) => Some(error),
            Failure::Host { source, .. } => Some(source),
            Failure::Load(error) => Some(error),
            Failure::Results(error) => Some(error),
            Failure::NoProgram { .. }
            | Failure::Server { .. }
            | Failure::NotReady { .. }
            | Failure::Tls(_)
            | Failure::Unsupported(_) => None,
        }
    }
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Failure {
        Failure::Scenario(error)
    }
}
