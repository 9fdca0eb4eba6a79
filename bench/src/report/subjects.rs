//! Everybody that can be measured here, by [`Who`].

use super::results::{Absent, Settings};
use super::who::Who;
use crate::failure::Failure;
use crate::host::Placement;
use crate::measure::{measure, prepare};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::scenario::Work;
use crate::subject::{Uringest, UringestOptions};

/// How servers are started.
pub struct Subjects {
    /// uringest's program and settings; its backend is chosen by who is measured.
    pub options: UringestOptions,
    /// Where servers and load run.
    pub placement: Placement,
}

impl Subjects {
    /// Starts it, measures, ends it.
    pub(super) fn once(&self, who: Who, work: &Work, progress: &mut Progress) -> Result<Outcome, Failure> {
        match who {
            Who::Uring => self.uringest("uring", work, progress),
            Who::Epoll => self.uringest("epoll", work, progress),
            _ => Err(Failure::Unsupported("this version does not measure it".into())),
        }
    }

    fn uringest(&self, io: &str, work: &Work, progress: &mut Progress) -> Result<Outcome, Failure> {
        prepare(work)?;
        let options = UringestOptions { io: io.to_owned(), ..self.options.clone() };
        measure(work, &self.placement, &Uringest::start(&options, work, &self.placement)?, progress)
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
        String::new()
    }

    /// Who cannot take part here, and why.
    pub(super) fn absent(&self) -> Vec<Absent> {
        let absent = |who: Who| Absent { who, why: "this version does not measure it".into() };
        Who::ALL.into_iter().filter(|who| !matches!(who, Who::Uring | Who::Epoll)).map(absent).collect()
    }
}
