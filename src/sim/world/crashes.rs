//! Crashes that wait for their moment.

use super::*;

/// A crash that waits for its moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    pub when: Moment,
    pub power: bool,
    pub behind_ns: u64,
    pub down_ns: u64,
}

impl World<'_> {
    /// An act asks for a crash. Of two that wait, the later one is made.
    pub(super) fn await_crash(&mut self, crash: Awaited) {
        if crash.when == Moment::Now {
            return self.crash(crash.power, crash.down_ns);
        }
        self.awaited = Some(crash);
    }

    /// Something has happened that a crash may wait for.
    pub(super) fn moment(&mut self, moment: Moment) {
        if let Some(crash) = self.awaited.take_if(|crash| crash.when == moment) {
            let Awaited { power, behind_ns, down_ns, .. } = crash;
            let due = Due::Crash { life: self.life, power, down_ns };
            self.plan_at(self.now_ns + behind_ns, due);
        }
    }
}
