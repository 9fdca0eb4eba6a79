//! Everybody that can be measured here, by [`Who`].

use super::plan::Cell;
use super::results::{Absent, Settings};
use super::who::Who;
use crate::dialect::redis::RedisWay;
use crate::failure::Failure;
use crate::host::Placement;
use crate::limit::{BareIo, copy_ns_per_record};
use crate::outcome::{LimitOutcome, Outcome};
use crate::peers::{Entrant, default_congestion_control};
use crate::progress::Progress;
use crate::scenario::Work;
use crate::subject::UringestOptions;

/// How servers are started.
pub struct Subjects {
    /// uringest's program and settings; its backend is chosen by who is measured.
    pub options: UringestOptions,
    /// Where servers and load run.
    pub placement: Placement,
}

impl Subjects {
    /// Starts it, measures, ends it. A ceiling of topics that keep their records says what a copy costs, too.
    pub(super) fn once(&self, who: Who, work: &Work, progress: &mut Progress) -> Result<Outcome, Failure> {
        let io = if who == Who::Epoll { "epoll" } else { "uring" };
        let options = UringestOptions { io: io.to_owned(), ..self.options.clone() };
        let mut outcome = entrant(who).once(work, &options, &self.placement, progress)?;
        if let Entrant::Limit(_) = entrant(who)
            && let Some(copy) = copy_ns_per_record(work, &self.placement)?
        {
            let name = "one copy".to_owned();
            let limit = LimitOutcome { name, memcpy_ns_per_record: Some(copy), ..LimitOutcome::default() };
            outcome.limit = Some(limit);
        }
        Ok(outcome)
    }

    /// Takes over what an interrupted report was measured with.
    ///
    /// # Errors
    /// Its CPUs are no lists of CPUs.
    pub fn resume(&mut self, settings: &Settings) -> Result<(), Failure> {
        let cpus = |list: &str| list.parse().map_err(Failure::Unsupported);
        self.placement.server_cpus = cpus(&settings.server_cpus)?;
        self.placement.load_cpus = cpus(&settings.load_cpus)?;
        self.options.settings.clone_from(&settings.server_settings);
        Ok(())
    }

    /// The congestion control of the peers' own sockets: they have no setting for it.
    pub(super) fn peers_congestion_control() -> String {
        default_congestion_control()
    }
}

fn entrant(who: Who) -> Entrant {
    match who {
        Who::Uring | Who::Epoll => Entrant::Uringest,
        Who::LimitUring => Entrant::Limit(BareIo::Uring),
        Who::LimitEpoll => Entrant::Limit(BareIo::Epoll),
        Who::Nats => Entrant::Nats,
        Who::RedisPubsub => Entrant::Redis(RedisWay::PubSub),
        Who::RedisStreams => Entrant::Redis(RedisWay::Streams),
    }
}

/// Who cannot take part here in any of the cells that name it, and why.
pub(super) fn absent(cells: &[Cell]) -> Vec<Absent> {
    let path = std::env::var_os("PATH");
    let why = |who: Who, cell: &Cell| {
        if who == Who::Uring && !BareIo::Uring.is_available() {
            return Some("there is no io_uring here: uringest doctor says why".to_owned());
        }
        Some(entrant(who).absent(&cell.work().ok()?, path.as_deref())?.why)
    };
    let absent = |who: Who| {
        let mut named = cells.iter().filter(|cell| cell.who.contains(&who)).peekable();
        named.peek()?;
        let whys: Option<Vec<String>> = named.map(|cell| why(who, cell)).collect();
        Some(Absent { who, why: whys?.swap_remove(0) })
    };
    Who::ALL.into_iter().filter_map(absent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plan::{Wishes, cells};

    /// What the plan names can be done: by everybody that is installed, or by nobody of that kind.
    #[test]
    fn everybody_can_do_what_the_plan_names() {
        let cells = cells(&Wishes::default()).expect("the plan");
        let absent = absent(&cells);
        let path = std::env::var_os("PATH");
        for cell in &cells {
            let work = cell.work().expect("a work");
            for who in cell.who.iter().filter(|who| !absent.iter().any(|absent| absent.who == **who)) {
                let why = entrant(*who).absent(&work, path.as_deref());
                assert!(why.is_none(), "{}, {}: {why:?}", cell.scenario, cell.label);
            }
        }
    }
}
