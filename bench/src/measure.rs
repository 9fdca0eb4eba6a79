//! A work done on a subject: connections, windows, and what they come to.

mod assemble;
mod catchup;
mod crossing;
mod durable;
mod idle;
mod judge;
mod plain;
mod recovery;
mod soak;
mod step;
mod storm;

use crate::cpus::CpuList;
use crate::failure::Failure;
use crate::host::{Placement, allow_open_files};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::scenario::{Drive, Work};
use crate::subject::{Log, Subject};

pub use recovery::recovery;

/// Files that the server has open besides its connections, and the load besides its own.
const OPEN_FILES_BESIDES: u64 = 512;

/// Measures. The subject was started for this work, and nothing was done with it before.
///
/// # Errors
/// A connection breaks, the server refuses something, or it ends.
pub fn measure<S: Subject>(
    work: &Work,
    placement: &Placement,
    subject: &S,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    let run = Run { work, placement, subject };
    let mut outcome = match work.drive {
        Drive::Saturate | Drive::Rounds | Drive::Open => plain::measure(&run, progress)?,
        Drive::Step => step::measure(&run, progress)?,
        Drive::Soak => soak::measure(&run, progress)?,
        Drive::Crossing => crossing::measure(&run, progress)?,
        Drive::Idle => idle::measure(&run, progress)?,
        Drive::Storm => storm::measure(&run, progress)?,
        Drive::Durable => durable::measure(&run, progress)?,
        Drive::Catchup => catchup::measure(&run, progress)?,
        Drive::Recovery => {
            let what = "recovery starts the server again, which only `run` does".into();
            return Err(Failure::Unsupported(what));
        }
    };
    outcome.tls = subject.tls();
    outcome.judge();
    Ok(outcome)
}

/// Lets this process and the server have the files open that the work needs: to be called before the server is
/// started, which inherits it.
///
/// # Errors
/// The host does not allow it.
pub fn prepare(work: &Work) -> Result<(), Failure> {
    let idle = work.idle_connections.iter().copied().max().unwrap_or(0);
    let busy: usize = work.flows.iter().map(|flow| flow.connections + flow.consumers).sum();
    allow_open_files((idle + busy + work.handshakes_at_once) as u64 + OPEN_FILES_BESIDES)
}

/// What every kind of measurement needs.
struct Run<'a, S> {
    work: &'a Work,
    placement: &'a Placement,
    subject: &'a S,
}

impl<S: Subject> Run<'_, S> {
    /// The subject's log.
    fn log(&self) -> Result<&Log, Failure> {
        let none = || Failure::Unsupported(format!("{} keeps no log here", self.subject.identity().name));
        self.subject.log().ok_or_else(none)
    }

    fn load_cpus(&self) -> &CpuList {
        &self.placement.load_cpus
    }
}
