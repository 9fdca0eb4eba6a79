//! What is wrong with figures, where something is.

use crate::cpus::CpuList;
use crate::engine::Settled;
use crate::outcome::Outcome;
use crate::scenario::Drive;

/// A side with less of its time left than this is at its limit.
pub(super) const FULL: f64 = 0.95;
/// A rate of which less than this was taken was not reached.
pub(super) const REACHED: f64 = 0.98;
/// More batches late, or kept back, than this change a figure.
const NOTABLE: f64 = 0.01;
/// With more turns than this let go by, it is the server's permissions that are measured.
const HELD_BACK: f64 = 0.05;
/// The slowest connection's share of the fastest one's records below which it is said.
const UNFAIR: f64 = 0.5;

impl Outcome {
    pub(super) fn settle(&mut self, settled: Settled) {
        self.unacknowledged = settled.unacknowledged;
        self.undelivered = settled.undelivered;
        self.refused_batches = settled.refused_batches;
    }

    /// Appends a warning for everything that is wrong with the figures.
    pub(super) fn judge(&mut self) {
        let server_share = self.server_cpu_share / self.server_cpus_used();
        let load_full = self.load_cpu_share >= FULL && server_share < FULL;
        // A thread that looks in vain for a connection that may send is busy as well.
        let in_turns = self.drive == Drive::Rounds && self.rate_per_s == 0;
        let held_back = in_turns && server_share < FULL && self.blocked_share > HELD_BACK;
        self.load_saturated = load_full && !held_back;
        let found = [
            self.load_saturated.then(|| self.load_was_full(server_share)),
            held_back.then(|| self.was_held_back()),
            self.lost(),
            (self.late_share > NOTABLE).then(|| self.was_late()),
            self.rate_missed(),
            self.unfair(),
        ];
        self.warnings.extend(found.into_iter().flatten());
    }

    /// CPUs that the server can use at once.
    fn server_cpus_used(&self) -> f64 {
        let cpus = self.server_cpus.parse::<CpuList>().map_or(1, |list| list.all().len());
        cpus.min(usize::from(self.shards)).max(1) as f64
    }

    fn load_was_full(&self, server_share: f64) -> String {
        format!(
            "the load was the bottleneck ({:.0} % of its thread, while the server used {:.0} % of its CPUs): the \
             rate is the load's, and CPU for each record is that of a server that is not full; give the load more \
             CPUs (--load-cpus), or compare at a fixed rate",
            self.load_cpu_share * 100.0,
            server_share * 100.0
        )
    }

    fn was_held_back(&self) -> String {
        format!(
            "at {:.0} % of the turns a connection was not allowed to send (its credit or its batches in flight were \
             used up): the rate is what the server grants",
            self.blocked_share * 100.0
        )
    }

    /// Records that did not arrive where they ought to.
    fn lost(&self) -> Option<String> {
        let Outcome { missed, unacknowledged, undelivered, .. } = *self;
        let lost = [
            (missed > 0).then(|| format!("the server told consumers that {missed} records would not come")),
            (undelivered > 0).then(|| format!("{undelivered} records never reached a consumer")),
            (undelivered < 0).then(|| format!("{} records reached a consumer twice", -undelivered)),
            (unacknowledged > 0).then(|| format!("{unacknowledged} records were never acknowledged")),
        ];
        let lost: Vec<String> = lost.into_iter().flatten().collect();
        (!lost.is_empty()).then(|| lost.join("; "))
    }

    fn was_late(&self) -> String {
        format!(
            "{:.1} % of the batches were sent more than a millisecond after they were due because of the load itself \
             ({:.0} % of its thread was used): {}",
            self.late_share * 100.0,
            self.load_cpu_share * 100.0,
            if self.load_cpu_share >= FULL {
                "give it more CPUs (--load-cpus), or a lower rate"
            } else {
                "something else runs on its CPUs"
            }
        )
    }

    /// `step` looks for such a rate, and says so itself.
    fn rate_missed(&self) -> Option<String> {
        let rate = self.rate_per_s as f64;
        let missed = self.drive != Drive::Step && rate > 0.0 && self.records_per_s < REACHED * rate;
        missed.then(|| {
            format!(
                "{:.0} of {rate:.0} records/s were taken: {:.1} % of the batches waited for the server",
                self.records_per_s,
                self.blocked_share * 100.0
            )
        })
    }

    fn unfair(&self) -> Option<String> {
        let greedy = matches!(self.drive, Drive::Saturate | Drive::Rounds | Drive::Crossing | Drive::Durable);
        (greedy && self.fairness < UNFAIR).then(|| {
            format!("the slowest connection got {:.0} % of what the fastest got", self.fairness * 100.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(drive: Drive) -> Outcome {
        let (server_cpus, load_cpus) = ("0".into(), "1".into());
        Outcome { drive, shards: 1, fairness: 1.0, server_cpus, load_cpus, ..Outcome::default() }
    }

    #[test]
    fn a_load_without_time_left_is_told_of_where_the_server_has_some() {
        for (load, server, saturated) in [(0.99, 0.6, true), (0.99, 0.97, false), (0.8, 0.6, false)] {
            let mut outcome =
                Outcome { load_cpu_share: load, server_cpu_share: server, ..outcome(Drive::Saturate) };
            outcome.judge();
            assert_eq!(outcome.load_saturated, saturated, "{load} {server}");
            let told = outcome.warnings.iter().any(|warning| warning.contains("load was the bottleneck"));
            assert_eq!(told, saturated, "{:?}", outcome.warnings);
        }
        // On two CPUs 1.2 CPUs are not all.
        let mut outcome = Outcome {
            shards: 2,
            server_cpus: "0,2".into(),
            load_cpu_share: 1.0,
            server_cpu_share: 1.2,
            ..outcome(Drive::Crossing)
        };
        outcome.judge();
        assert!(outcome.load_saturated);
    }

    #[test]
    fn turns_without_permission_are_not_the_loads_work() {
        let mut outcome = Outcome {
            load_cpu_share: 1.0,
            server_cpu_share: 0.3,
            blocked_share: 0.9,
            ..outcome(Drive::Rounds)
        };
        outcome.judge();
        assert!(!outcome.load_saturated);
        assert!(outcome.warnings[0].starts_with("at 90 % of the turns"), "{:?}", outcome.warnings);
    }

    #[test]
    fn what_is_lost_late_or_unfair_is_told_of() {
        let settled =
            |unacknowledged, undelivered| Settled { unacknowledged, undelivered, refused_batches: 0 };
        for (settled, expected) in [
            (settled(0, 7), "7 records never reached a consumer"),
            (settled(0, -2), "2 records reached a consumer twice"),
            (settled(3, 0), "3 records were never acknowledged"),
        ] {
            let mut outcome = outcome(Drive::Saturate);
            outcome.settle(settled);
            outcome.judge();
            assert_eq!(outcome.warnings, [expected]);
        }
        let clean = Outcome { rate_per_s: 100, records_per_s: 100.0, ..outcome(Drive::Open) };
        for (changed, expected) in [
            (Outcome { late_share: 0.02, ..clean.clone() }, "because of the load itself"),
            (Outcome { records_per_s: 90.0, ..clean.clone() }, "90 of 100 records/s were taken"),
            (Outcome { missed: 1, ..clean.clone() }, "would not come"),
            (Outcome { drive: Drive::Saturate, fairness: 0.1, ..clean.clone() }, "got 10 % of"),
        ] {
            let mut outcome = changed;
            outcome.judge();
            let said = outcome.warnings.join("\n");
            assert!(said.contains(expected), "{expected}: {said}");
        }
        let mut clean = clean;
        clean.judge();
        assert!(clean.warnings.is_empty(), "{:?}", clean.warnings);
    }
}
