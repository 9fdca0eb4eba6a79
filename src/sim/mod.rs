//! A whole server and its clients on virtual time, in one thread: shards as they are, the clients' cores as they are, and
//! around them a network, a kernel, a disk and a clock that go wrong as a seed decides.
//!
//! A run is decided by its seed: [`plan`] says what there is and what goes wrong how often, [`acts`] what is done when,
//! [`world`] lets it happen, [`secured`] has its TLS, [`oracle`] holds what is seen against what was promised.

pub mod acts;
pub mod plan;
pub mod random;

mod clients;
mod commits;
mod executor;
mod files;
mod journal;
mod leaks;
mod net;
mod oracle;
mod secured;
mod server;
mod world;

#[cfg(test)]
mod tests;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use server::Mappings;

use acts::Timed;
use plan::Plan;

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Of everything that happened, in order.
    pub hash: u64,
    /// Events.
    pub events: u64,
    /// Completions that shards were told.
    pub completions: u64,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Records that consumers were given.
    pub delivered: u64,
    /// Segments that retention has taken.
    pub retired: u64,
    /// Virtual time that passed, ns.
    pub virtual_ns: u64,
}

impl Outcome {
    /// What was done to and by the server: records taken and acknowledged, records delivered, and operations of the
    /// kernel that were told.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.acknowledged + self.delivered + self.completions
    }
}

/// What was not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The line of the source that noticed.
    pub at: String,
    /// In words.
    pub what: String,
}

impl Failure {
    /// Two runs of a seed were not the same.
    #[must_use]
    pub fn other(once: &Outcome, again: &Outcome) -> Failure {
        Failure { at: SECOND_RUN.to_owned(), what: format!("it was another: {once:?}, then {again:?}") }
    }

    /// It is of two runs that were not the same: neither fails by itself.
    #[must_use]
    pub fn is_of_second_run(&self) -> bool {
        self.at == SECOND_RUN
    }
}

/// What a world ends with that has come to its bound of events, wherever it is.
struct Overlong;

const SECOND_RUN: &str = "the second run";

thread_local! {
    /// A world is running in this thread.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic of this thread was.
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of simulated worlds are told as failures, and not printed by themselves; where `RUST_BACKTRACE` asks for it, how
/// they came about is. Any other panic is printed as ever.
pub fn quiet_panics() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !RUNNING.get() {
            return loud(info);
        }
        let at = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
        PANICKED_AT.with(|last| *last.borrow_mut() = at.unwrap_or_default());
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            eprintln!("{trace}");
        }
    }));
}

/// One run with the acts that its seed makes.
///
/// # Errors
/// What was not as it must be.
pub fn run(seed: u64, mappings: &Mappings, printed: bool) -> Result<Outcome, Failure> {
    let plan = Plan::new(seed);
    let acts = acts::of(&plan, seed);
    run_acts(seed, acts, mappings, printed)
}

/// One run of at most so many events: `None` where it has more.
///
/// # Errors
/// What was not as it must be.
pub fn run_at_most(events: u64, seed: u64, mappings: &Mappings) -> Result<Option<Outcome>, Failure> {
    let plan = Plan::new(seed);
    let acts = acts::of(&plan, seed);
    run_bounded(seed, acts, mappings, (false, events))
}

/// One run with these acts in place of those.
///
/// # Errors
/// What was not as it must be.
pub fn run_acts(seed: u64, acts: Vec<Timed>, mappings: &Mappings, printed: bool) -> Result<Outcome, Failure> {
    run_bounded(seed, acts, mappings, (printed, u64::MAX)).map(|outcome| outcome.expect("without a bound"))
}

fn run_bounded(
    seed: u64,
    acts: Vec<Timed>,
    mappings: &Mappings,
    (printed, events_max): (bool, u64),
) -> Result<Option<Outcome>, Failure> {
    let plan = Plan::new(seed);
    let printed = printed && journal::say(&format!("{plan:#?}"));
    let run = || {
        let mut world = world::World::new(plan, acts, mappings, seed, printed);
        world.events_max = events_max;
        world.run();
        world.outcome()
    };
    RUNNING.set(true);
    crate::log::silence(!printed);
    let ended = catch_unwind(AssertUnwindSafe(run));
    crate::log::silence(false);
    RUNNING.set(false);
    match ended {
        Ok(outcome) => Ok(Some(outcome)),
        Err(panic) if panic.is::<Overlong>() => Ok(None),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            let at = PANICKED_AT.with(|last| last.borrow().clone());
            Err(Failure { at, what: text.unwrap_or_default() })
        }
    }
}

/// A shorter list of a seed's acts that fails in the same place: parts of it are left out, smaller and smaller ones, as
/// long as it does and `go_on`, which hears how many are left, says so.
pub fn shrink(
    seed: u64,
    failure: &Failure,
    mappings: &Mappings,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> Vec<Timed> {
    let mut acts = acts::of(&Plan::new(seed), seed);
    let mut part = acts.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        while at < acts.len() {
            if !go_on(acts.len()) {
                return acts;
            }
            let mut fewer = acts.clone();
            fewer.drain(at..(at + part).min(acts.len()));
            let fails = run_acts(seed, fewer.clone(), mappings, false);
            if fails.is_err_and(|other| other.at == failure.at) {
                acts = fewer;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    acts
}
