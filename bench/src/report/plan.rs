//! What a report runs: `bench/report.toml` with what the command line changes of it, as a list of cells.

use serde::{Deserialize, Serialize};

use super::who::Who;
use crate::failure::Failure;
use crate::scenario::{Drive, Kind, Overrides, Scenario, ScenarioError, Work};

const PLAN: &str = include_str!("../../report.toml");
/// A quick report's window, in seconds; parts that take longer are shortened by as much.
const QUICK_SECONDS: f64 = 0.2;
/// Starting and ending a server and connecting, in seconds: for the estimate only.
const OVERHEAD_S: f64 = 0.4;
/// Until uringest has published what it copied, on top.
const COUNTERS_S: f64 = 1.2;
/// Windows of `step` until it has found the knee; of `crossing`; of the default `idle`: for the estimate.
const STEP_WINDOWS: f64 = 16.0;
const CROSSING_WINDOWS: f64 = 2.0;
/// A storm, in seconds: for the estimate only.
const STORM_S: f64 = 5.0;
/// Connecting ten thousand connections, in seconds: for the estimate.
const CONNECTING_S: f64 = 4.0;

/// The file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    rounds: u16,
    seconds: f64,
    warm_up_seconds: f64,
    #[serde(rename = "part")]
    parts: Vec<Part>,
    #[serde(rename = "sweep")]
    sweeps: Vec<Sweep>,
}

/// All variants of a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    scenario: String,
    who: Vec<Who>,
    rounds: Option<u16>,
    seconds: Option<f64>,
}

/// A scenario with payloads of several sizes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sweep {
    scenario: String,
    who: Vec<Who>,
    payload_bytes: Vec<usize>,
    #[serde(default)]
    with: Overrides,
}

/// What the command line asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// Rounds in place of the plan's.
    pub rounds: Option<u16>,
    /// Seconds of a window in place of the plan's.
    pub seconds: Option<f64>,
    /// These scenarios only; all when empty.
    pub only: Vec<String>,
    /// One short round, without the sweeps' inner sizes: to see that everything works.
    pub quick: bool,
}

/// One work, measured on everybody named, in rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The scenario's name.
    pub scenario: String,
    /// The variant's label, or the payload's size.
    pub label: String,
    /// Whether it is one size of a sweep.
    pub sweep: bool,
    /// What is changed of the scenario.
    pub with: Overrides,
    /// Seconds of a window.
    pub seconds: f64,
    /// Seconds of the same load before.
    pub warm_up_seconds: f64,
    /// How often.
    pub rounds: u16,
    /// Who is measured.
    pub who: Vec<Who>,
}

impl Cell {
    /// What is done.
    ///
    /// # Errors
    /// There is no such scenario any more, or it cannot be changed so.
    pub fn work(&self) -> Result<Work, ScenarioError> {
        let mut work = Scenario::find(&self.scenario)?
            .work(&Overrides { seconds: Some(self.seconds), ..self.with.clone() })?;
        work.warm_up_seconds = self.warm_up_seconds;
        Ok(work)
    }

    /// About how many seconds one round of one of those measured takes.
    #[must_use]
    pub fn seconds_expected(&self, who: Who) -> f64 {
        let Ok(work) = self.work() else { return 0.0 };
        let window = work.seconds + work.warm_up_seconds;
        let measured = match work.drive {
            Drive::Step => window * STEP_WINDOWS,
            Drive::Crossing => window * CROSSING_WINDOWS,
            Drive::Storm => window + STORM_S,
            Drive::Idle => window * work.idle_connections.len() as f64 + CONNECTING_S,
            Drive::Catchup => window * 2.0 + CONNECTING_S,
            Drive::Saturate
            | Drive::Rounds
            | Drive::Open
            | Drive::Soak
            | Drive::Durable
            | Drive::Recovery => window,
        };
        measured + OVERHEAD_S + if who.is_uringest() { COUNTERS_S } else { 0.0 }
    }
}

/// The cells, in the order in which each round goes through them.
///
/// # Errors
/// A scenario that was asked for is not in the plan, or cannot be run.
pub fn cells(wishes: &Wishes) -> Result<Vec<Cell>, Failure> {
    let plan = plan();
    let known = |name: &String| plan.parts.iter().any(|part| part.scenario == *name);
    if let Some(unknown) = wishes.only.iter().find(|name| !known(name)) {
        return Err(ScenarioError::Unknown(unknown.clone()).into());
    }
    let wanted = |name: &String| wishes.only.is_empty() || wishes.only.contains(name);
    let mut cells = Vec::new();
    for part in plan.parts.iter().filter(|part| wanted(&part.scenario)) {
        let scenario = Scenario::find(&part.scenario)?;
        for variant in &scenario.variants {
            let own = Extent { rounds: part.rounds, seconds: part.seconds };
            cells.push(plan.cell(wishes, &scenario, &variant.label, &variant.with, &part.who, own));
        }
    }
    for sweep in plan.sweeps.iter().filter(|sweep| wanted(&sweep.scenario)) {
        let scenario = Scenario::find(&sweep.scenario)?;
        for &payload_bytes in sizes(&sweep.payload_bytes, wishes.quick) {
            let with = Overrides { payload_bytes: Some(payload_bytes), ..sweep.with.clone() };
            let label = super::names::bytes(payload_bytes as f64);
            let cell = plan.cell(wishes, &scenario, &label, &with, &sweep.who, Extent::default());
            cells.push(Cell { sweep: true, ..cell });
        }
    }
    cells.iter().try_for_each(|cell| cell.work().map(|_| ()))?;
    Ok(cells)
}

/// A part's own rounds and seconds.
#[derive(Default)]
struct Extent {
    rounds: Option<u16>,
    seconds: Option<f64>,
}

impl Plan {
    fn cell(
        &self,
        wishes: &Wishes,
        scenario: &Scenario,
        label: &str,
        with: &Overrides,
        who: &[Who],
        own: Extent,
    ) -> Cell {
        let keeps = with.kind.unwrap_or(scenario.kind) == Kind::Memory;
        let rounds = wishes.rounds.unwrap_or(if wishes.quick { 1 } else { self.rounds });
        let seconds = wishes.seconds.unwrap_or(if wishes.quick { QUICK_SECONDS } else { self.seconds });
        // A part that takes long takes as much longer as the plan says, whatever the window.
        let longer = own.seconds.map_or(1.0, |own| own / self.seconds);
        Cell {
            scenario: scenario.name.clone(),
            label: label.to_owned(),
            sweep: false,
            with: with.clone(),
            seconds: seconds * longer,
            warm_up_seconds: self.warm_up_seconds.min(seconds),
            rounds: own.rounds.map_or(rounds, |own| own.min(rounds)),
            who: who.iter().copied().filter(|who| !keeps || who.keeps()).collect(),
        }
    }
}

/// All sizes, or the outermost.
fn sizes(all: &[usize], quick: bool) -> Box<dyn Iterator<Item = &usize> + '_> {
    if quick {
        Box::new(all.iter().step_by(all.len().saturating_sub(1).max(1)))
    } else {
        Box::new(all.iter())
    }
}

fn plan() -> Plan {
    toml::from_str(PLAN).expect("a test reads the plan")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a whole report may take, with some room: its page says about 25 minutes.
    const SECONDS_MAX: f64 = 1_500.0;

    fn seconds(cells: &[Cell]) -> f64 {
        let runs = cells.iter().flat_map(|cell| cell.who.iter().map(move |who| (cell, *who)));
        runs.map(|(cell, who)| cell.seconds_expected(who) * f64::from(cell.rounds)).sum()
    }

    #[test]
    fn every_scenario_is_in_the_plan_and_it_takes_no_longer_than_it_says() {
        let cells = cells(&Wishes::default()).expect("the plan");
        for scenario in Scenario::built_in() {
            for variant in &scenario.variants {
                let found =
                    cells.iter().any(|cell| cell.scenario == scenario.name && cell.label == variant.label);
                assert!(found, "{} {}", scenario.name, variant.label);
            }
        }
        let whole = seconds(&cells);
        assert!((300.0..SECONDS_MAX).contains(&whole), "{whole}");
        assert!(cells.iter().all(|cell| cell.who.contains(&Who::Uring) && cell.who.contains(&Who::Epoll)));
    }

    #[test]
    fn wishes_change_the_plan() {
        let quick = cells(&Wishes { quick: true, ..Wishes::default() }).expect("the plan");
        assert!(seconds(&quick) < SECONDS_MAX / 4.0, "{}", seconds(&quick));
        assert!(quick.iter().all(|cell| cell.rounds == 1));
        let wishes = Wishes { rounds: Some(5), seconds: Some(2.0), only: vec!["idle".into()], quick: false };
        let idle = cells(&wishes).expect("the plan");
        assert!(
            idle.iter().all(|cell| cell.scenario == "idle" && cell.rounds == 1),
            "its own rounds are few"
        );
        assert!(cells(&Wishes { only: vec!["nothing".into()], ..Wishes::default() }).is_err());
    }

    #[test]
    fn who_keeps_nothing_is_not_beside_topics_that_do() {
        let cells = cells(&Wishes::default()).expect("the plan");
        let kept = cells.iter().filter(|cell| cell.label.contains("memory"));
        assert!(kept.clone().count() > 3);
        assert!(kept.flat_map(|cell| &cell.who).all(|who| who.keeps()));
    }
}
