//! What is measured: a server that runs as a process of its own.
//!
//! A subject owns its process: dropped, the process is killed and its scratch directory removed. Server programs
//! differ in how they are started and spoken to; the engine sees them all through [`Subject`].

mod log;
mod process;
mod uringest;

use crate::dialect::Dialect;
use crate::failure::Failure;
use crate::outcome::TlsOutcome;

pub use log::{Log, LogCounters};
pub use process::{Process, end_all_on_signal};
pub use uringest::{Uringest, UringestOptions};

/// What a subject says of itself, for the outcome.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Identity {
    /// `uringest`, `bare`, `nats`, ...
    pub name: String,
    /// Its version, and the commit where it says one.
    pub version: String,
    /// What an acknowledgement means: `received`; `none` where it does not answer.
    pub ack: String,
    /// `uring`, `epoll`, or what a peer is.
    pub io: String,
    /// What the user should know before believing the figures, as a debug build.
    pub warnings: Vec<String>,
}

/// A running server with the topics (or what it has instead) of the work.
pub trait Subject {
    /// How its connections speak.
    type Dialect: Dialect;

    /// What it is.
    fn identity(&self) -> &Identity;

    /// The process whose CPU time and memory count.
    fn process(&self) -> &Process;

    /// How to speak to it.
    fn dialect(&self) -> &Self::Dialect;

    /// TLS of the connections so far; `None` where they are in plaintext.
    fn tls(&self) -> Option<TlsOutcome> {
        None
    }

    /// Its log, where it keeps one.
    fn log(&self) -> Option<&Log> {
        None
    }

    /// Has producers that connect from now on ask for acknowledgements as `received` only, or no more; whether it can.
    fn received_only(&self, only: bool) -> bool {
        let _ = only;
        false
    }

    /// Payload bytes that it has copied in user space since it started, where it says so. May take a second:
    /// called outside of measured windows.
    ///
    /// # Errors
    /// It says so, and does not answer.
    fn copied_bytes(&self) -> Result<Option<u64>, Failure> {
        Ok(None)
    }
}
