//! The server gets next to no processor time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::groups::{Controller, Group};
use crate::harness::{Figures, Skipped};
use crate::load::{Load, here, is_ready};
use crate::network::tool;
use crate::rig::{Case, metric};

/// How long.
const STARVED: Duration = Duration::from_secs(3);
/// Of one processor: 5 ms in every 100.
const THOUSANDTHS: u32 = 50;
/// In which everything goes on afterwards.
const RECOVERS: Duration = Duration::from_secs(10);

/// Threads that use all processors for as long as this is in scope: where there are no groups.
struct Spinners(Arc<AtomicBool>);

impl Spinners {
    fn start() -> Spinners {
        let stop = Arc::new(AtomicBool::new(false));
        let count = std::thread::available_parallelism().map_or(2, usize::from) * 4;
        for _ in 0..count {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Spinners(stop)
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A twentieth of one processor for a while; where there are no control groups, the least niceness beside spinning threads.
/// What must hold: it is slow and nothing else: nobody is cut off, it is ready, everything acknowledged is there once.
pub fn starved(case: &Case) -> Result<Figures, Skipped> {
    let group = Group::new(Controller::Cpu);
    let directory = tempfile::tempdir().expect("a directory");
    let server = case.start_in_with(directory.path(), &["--shards", "2"], |command| match &group {
        Ok(group) => group.entered_by(command),
        Err(_) => command,
    });
    let load = Load::of_both_kinds(&server, &here);
    let handshakes = metric(&server, "uringest_handshakes_total");
    let (by, spinners) = match &group {
        Ok(group) => {
            group.limit_processor(Some(THOUSANDTHS));
            ("a group's quota", None)
        }
        Err(_) => {
            tool("renice", &["-n", "19", "-p", &server.pid().to_string()]).map_err(Skipped)?;
            ("niceness beside spinning threads", Some(Spinners::start()))
        }
    };
    let acked = load.acked();
    load.go_on(STARVED);
    is_ready(&server);
    let starved = load.acked() - acked;
    assert!(starved > 0, "it goes on, however slowly");
    if let Ok(group) = &group {
        assert!(group.throttled() > 10, "its quota is used up: {}", group.throttled());
        group.limit_processor(None);
    }
    drop(spinners);
    let recovery = load.recovers(RECOVERS);
    let figures = load.finish(recovery);
    let reconnects = metric(&server, "uringest_handshakes_total") - handshakes;
    assert!(reconnects < 0.5, "{reconnects} were cut off");
    drop(server);
    let rate = starved as f64 / STARVED.as_secs_f64();
    Ok(figures.note("acknowledged a second meanwhile", format!("{rate:.0}")).note("by", by))
}
