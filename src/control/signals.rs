//! SIGTERM and SIGINT drain, a second one ends at once; SIGHUP reloads.

use std::io;
use std::rc::Rc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Control, journal};
use crate::log::Level;

/// What a shell reports for a program that a signal ended: 128 and its number.
const BY_INTERRUPT: i32 = 130;
const BY_TERMINATE: i32 = 143;

pub(super) fn listen(control: &Rc<Control>) -> io::Result<()> {
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;
    tokio::task::spawn_local(ends(Rc::clone(control), terminate, interrupt));
    tokio::task::spawn_local(reloads(Rc::clone(control), hangup));
    Ok(())
}

async fn ends(control: Rc<Control>, mut terminate: Signal, mut interrupt: Signal) {
    let mut asked = false;
    loop {
        let (name, status) = tokio::select! {
            _ = terminate.recv() => ("SIGTERM", BY_TERMINATE),
            _ = interrupt.recv() => ("SIGINT", BY_INTERRUPT),
        };
        if asked {
            journal::note(Level::Warn, "stopped_at_once", &format!("a second signal: {name}"));
            std::process::exit(status);
        }
        asked = true;
        journal::note(Level::Info, "signal", name);
        control.stop();
    }
}

async fn reloads(control: Rc<Control>, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        // The outcome is in the log.
        let _ = control.reload();
    }
}
