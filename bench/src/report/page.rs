//! The page and its charts, from results and nothing else: the same results give the same bytes anywhere.

mod charts;
mod conditions;
mod special;
mod table;
mod tables;

use std::fmt::Write as _;

use super::digest::{self, Digest};
use super::names;
use super::results::Results;
use crate::scenario::{Drive, Scenario};

/// The page's name: what a forge shows of a directory.
pub const PAGE: &str = "README.md";

/// One file of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name, without a directory.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// The page, first, and its charts.
#[must_use]
pub fn render(results: &Results) -> Vec<File> {
    let mut page = Page { text: String::new(), files: Vec::new() };
    let digests = digest::all(results);
    page.head(results);
    page.glance(&digests);
    page.backends(&digests);
    page.payloads(&digests);
    page.latencies(&digests);
    for scenario in scenarios(&digests) {
        page.scenario(&scenario, &digests);
    }
    page.conditions(results, &digests);
    let Page { text, files } = page;
    [File { name: PAGE.into(), text }].into_iter().chain(files).collect()
}

/// What is written so far.
struct Page {
    text: String,
    files: Vec<File>,
}

/// Scenarios that were measured, in order.
fn scenarios(digests: &[Digest<'_>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for digest in digests.iter().filter(|digest| !digest.cell.sweep && !digest.lines.is_empty()) {
        if !names.contains(&digest.cell.scenario) {
            names.push(digest.cell.scenario.clone());
        }
    }
    names
}

/// Those of one scenario that are no sweep and were measured.
fn variants<'a, 'b>(
    digests: &'b [Digest<'a>],
    scenario: &'b str,
) -> impl Iterator<Item = &'b Digest<'a>> + use<'a, 'b> {
    let of = move |digest: &&Digest<'_>| digest.cell.scenario == scenario && !digest.cell.sweep;
    digests.iter().filter(of).filter(|digest| !digest.lines.is_empty())
}

/// How the load of a digest was applied.
fn drive(digest: &Digest<'_>) -> Drive {
    digest.outcome().map_or(Drive::Saturate, |outcome| outcome.drive)
}

/// Whether CPU time for each record is what the scenario is about.
fn is_about_cost(drive: Drive) -> bool {
    matches!(drive, Drive::Saturate | Drive::Rounds | Drive::Open)
}

impl Page {
    /// A line. Writing to a string does not fail.
    fn say(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{line}");
    }

    /// A paragraph or a table, with an empty line behind it.
    fn paragraph(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{}\n", text.to_string().trim_end());
    }

    /// A chart: its file, and its place in the page.
    fn chart(&mut self, name: &str, title: &str, svg: String) {
        let name = format!("{}.svg", names::slug(name));
        self.paragraph(format_args!("![{title}]({name})"));
        self.files.push(File { name, text: svg });
    }

    fn head(&mut self, results: &Results) {
        let machine = &results.machine;
        let processor = if machine.cpu_model.is_empty() { "this processor" } else { &machine.cpu_model };
        self.paragraph(format_args!("# uringest on {processor}, Linux {}", machine.kernel));
        self.paragraph(format_args!(
            "Measured on {} with commit `{}` by `uringest-bench report`; every figure is from \
             [results.json](results.json). [Conditions](#conditions) has the settings and the versions of everybody.",
            names::date(results.begun_unix_s),
            results.commit
        ));
        self.paragraph(
            "The first figure is server CPU: user and system time of the whole server process in the measured window, \
             over the records taken or, where there are consumers, over the deliveries. It is the median of rounds in \
             which everybody takes turns; in brackets the least and the most of them. The ceiling is a bare program \
             that moves the same bytes on the same interface of the kernel, without frames, checks or \
             acknowledgements, and for topics that keep their records one copy of each payload, measured beside it; `÷ ceiling` is the ratio of the medians (peers: to the ceiling on epoll). Intervals are \
             at 95 %, by resampling rounds. Latency of deliveries is from when a record was due or handed to the \
             socket until a consumer had read it; without consumers it is that of acknowledgements, which some peers \
             do not have. Where a server is given as much as it takes, its latency is that of its full queues.",
        );
        let missing = results.missing().len();
        if missing > 0 {
            self.paragraph(format_args!(
                "**Unfinished**: {missing} of {} measurements are missing.",
                results.planned().count()
            ));
        }
    }

    fn glance(&mut self, digests: &[Digest<'_>]) {
        let table = tables::glance(digests);
        if table.is_empty() {
            return;
        }
        self.paragraph("## At a glance");
        self.paragraph(
            "Nanoseconds of server CPU a record or (`deliver`, `fanout`, `latency`, `mix`) a delivery, with the 99th \
             percentile of the latency beside it.",
        );
        self.paragraph(table);
    }

    fn backends(&mut self, digests: &[Digest<'_>]) {
        let Some(svg) = charts::backends(digests) else { return };
        self.paragraph("## uring beside epoll");
        self.paragraph(
            "The same program, the same load: server CPU on uring over that on epoll. Left of 1, uring is cheaper; \
             where the interval reaches over 1, these rounds cannot tell.",
        );
        self.chart("uring-over-epoll", "CPU on uring over CPU on epoll, for each work", svg);
    }

    fn payloads(&mut self, digests: &[Digest<'_>]) {
        let mut names: Vec<&str> = Vec::new();
        for digest in digests.iter().filter(|digest| digest.cell.sweep && !digest.lines.is_empty()) {
            if !names.contains(&digest.cell.scenario.as_str()) {
                names.push(&digest.cell.scenario);
            }
        }
        if names.is_empty() {
            return;
        }
        self.paragraph("## Cost against payload");
        for name in names {
            let of = |digest: &&Digest<'_>| digest.cell.sweep && digest.cell.scenario == name;
            let sweep: Vec<&Digest<'_>> = digests.iter().filter(of).collect();
            let title = format!("{name}: server CPU against payload");
            self.chart(&format!("payload-{name}"), &title, charts::payload(&title, &sweep));
            self.paragraph(tables::payload(&sweep));
        }
    }

    fn latencies(&mut self, digests: &[Digest<'_>]) {
        let open = |digest: &&Digest<'_>| drive(digest) == Drive::Open && digest.cell.scenario == "latency";
        let open: Vec<&Digest<'_>> =
            digests.iter().filter(open).filter(|digest| !digest.lines.is_empty()).collect();
        if open.is_empty() {
            return;
        }
        self.paragraph("## Latency");
        self.paragraph(
            "Records one by one at fixed times, counted from when each was due: whatever the server or the load delays \
             is in the figure. Bands are from the least to the most of the rounds.",
        );
        for digest in open {
            let title = format!("latency, {}", digest.cell.label);
            self.chart(&title, &title, charts::latency(&title, digest));
            self.paragraph(tables::latency(digest));
        }
    }

    fn scenario(&mut self, name: &str, digests: &[Digest<'_>]) {
        let own: Vec<&Digest<'_>> = variants(digests, name).collect();
        let Some(drive) = own.first().map(|digest| drive(digest)) else { return };
        self.paragraph(format_args!("## {name}"));
        if let Ok(scenario) = Scenario::find(name) {
            self.paragraph(scenario.description);
        }
        if is_about_cost(drive) && name != "latency" {
            let title = format!("{name}: server CPU for each {}", own[0].unit());
            self.chart(&format!("cost-{name}"), &title, charts::cost(&title, &own));
        }
        match drive {
            Drive::Saturate | Drive::Rounds => self.paragraph(tables::cost(&own)),
            Drive::Open => {
                self.paragraph(tables::cost(&own));
                if own.iter().any(|digest| digest.outcome().is_some_and(|outcome| outcome.flows.len() > 1)) {
                    self.paragraph(special::flows(&own));
                }
            }
            Drive::Step => {
                for digest in &own {
                    let title = format!("{name}, {}", digest.cell.label);
                    self.chart(&title, &title, charts::step(&title, digest));
                    self.paragraph(special::step(digest));
                }
            }
            Drive::Soak => self.paragraph(special::soak(&own)),
            Drive::Crossing => self.paragraph(special::crossing(&own)),
            Drive::Idle => self.paragraph(special::idle(&own)),
            Drive::Storm => self.paragraph(special::storm(&own)),
            // Not in the plan of a report.
            Drive::Durable | Drive::Catchup | Drive::Recovery => {}
        }
    }
}
