//! Many connections that come beside the load: each connects, shakes hands, says hello, waits for the answer, and goes.
//!
//! They are made by threads of their own on the load's CPUs that run only when nothing else wants to (`SCHED_IDLE`):
//! the load, which sleeps between its times ([`super::Window::rests`]), takes the CPU from them at once when it has
//! something to do. So what the other side of a handshake computes here does not delay what is measured.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::dialect::Dialect;
use crate::histogram::Histogram;
use crate::host::now_ns;
use crate::outcome::Latency;
use crate::subject::Process;

/// See the module. Shared by its threads, and by who waits for them.
pub(crate) struct Storm<'a, D> {
    dialect: &'a D,
    process: &'a Process,
    wanted: usize,
    /// The number of the first connection, in the run.
    first: usize,
    begun: Moment,
    next: AtomicUsize,
    over: AtomicUsize,
    given_up: AtomicBool,
    found: Mutex<Found>,
}

/// A time, with the server's CPU time then.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at_ns: u64,
    server_cpu_ns: u64,
}

#[derive(Default)]
struct Found {
    took: Histogram,
    first_failure: Option<String>,
    ended: Option<Moment>,
}

/// What a storm came to.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// Connections that the server answered.
    pub(crate) done: usize,
    /// Why the first of those failed that it did not.
    pub(crate) first_failure: Option<String>,
    /// From the first connection's begin to the last one's end.
    pub(crate) elapsed_ns: u64,
    /// The server's CPU time in it.
    pub(crate) server_cpu_ns: u64,
    /// Of each, from connecting to the answer.
    pub(crate) took: Option<Latency>,
}

impl<'a, D: Dialect> Storm<'a, D> {
    /// So many connections, the first of them with this number in the run.
    pub(crate) fn new(dialect: &'a D, process: &'a Process, wanted: usize, first: usize) -> Storm<'a, D> {
        Storm {
            dialect,
            process,
            wanted,
            first,
            begun: Moment::now(process),
            next: AtomicUsize::new(0),
            over: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            found: Mutex::default(),
        }
    }

    /// Makes connections until all are made: on a thread of its own, for several at once on several.
    pub(crate) fn run(&self) {
        only_when_idle();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.wanted || self.given_up.load(Ordering::Relaxed) {
                return;
            }
            let begun = now_ns();
            let made = self.dialect.idler(self.first + number);
            let took = now_ns() - begun;
            self.note(made.map(|_gone| took));
        }
    }

    fn note(&self, made: std::io::Result<u64>) {
        let mut found = self.found.lock().expect("nobody panics while holding it");
        match made {
            Ok(took) => found.took.add(took),
            Err(error) => {
                found.first_failure.get_or_insert(error.to_string());
            }
        }
        if self.over.fetch_add(1, Ordering::AcqRel) + 1 == self.wanted {
            found.ended = Some(Moment::now(self.process));
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) == self.wanted
    }

    /// How many connections have been made, or have failed.
    pub(crate) fn count(&self) -> usize {
        self.over.load(Ordering::Relaxed)
    }

    /// No more connections are begun.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// What it came to. To be asked when its threads have ended.
    pub(crate) fn passed(self) -> Passed {
        let found = self.found.into_inner().expect("nobody panics while holding it");
        let ended = found.ended.unwrap_or_else(|| Moment::now(self.process));
        let took = found.took.latency();
        Passed {
            done: took.map_or(0, |took| usize::try_from(took.count).unwrap_or(usize::MAX)),
            first_failure: found.first_failure,
            elapsed_ns: ended.at_ns - self.begun.at_ns,
            server_cpu_ns: ended.server_cpu_ns - self.begun.server_cpu_ns,
            took,
        }
    }
}

impl Moment {
    fn now(process: &Process) -> Moment {
        Moment { at_ns: now_ns(), server_cpu_ns: process.cpu_ns() }
    }
}

/// Takes the time that nobody wants of the calling thread's CPUs, until told to stop: what is measured without a storm
/// then wakes on a CPU that does not have to wake first, as it does in one.
pub(crate) fn occupy(stop: &AtomicBool) {
    only_when_idle();
    while !stop.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

/// From now on the calling thread runs when nobody else wants its CPU. Nobody is refused this (sched(7)).
fn only_when_idle() {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a local that lives over the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) };
}
