//! What the figures were taken under, and how to take them again.

use super::Page;
use super::table::Table;
use crate::report::digest::Digest;
use crate::report::names;
use crate::report::results::Results;
use crate::report::who::Who;

impl Page {
    pub(super) fn conditions(&mut self, results: &Results, digests: &[Digest<'_>]) {
        self.paragraph("## Conditions");
        self.paragraph(settings(results));
        self.paragraph(versions(digests));
        if !results.absent.is_empty() {
            self.say("Not measured:\n");
            for absent in &results.absent {
                self.say(format_args!("- {}: {}", absent.who.name(), absent.why));
            }
            self.say("");
        }
        if !results.failed.is_empty() {
            self.say("Failed:\n");
            for failed in &results.failed {
                let cell = &results.cells[failed.cell];
                let why = failed.why.replace('\n', " ");
                self.say(format_args!("- {}, {}: {}: {why}", cell.scenario, cell.label, failed.who.name()));
            }
            self.say("");
        }
        self.warnings(digests);
        self.paragraph(
            "\\* The load had no time left and the server had: the rate is the load's, not the server's.",
        );
        self.paragraph(
            "The same on another host: `cargo build --release --workspace`, then `uringest-bench report`; an \
             interrupted run goes on with `--resume`, and `uringest-bench report --from results.json` makes this page \
             anew.",
        );
    }

    /// What to know before believing some of the figures: each once, with how often it was said.
    fn warnings(&mut self, digests: &[Digest<'_>]) {
        let mut counted: Vec<(Who, String, String, usize)> = Vec::new();
        for digest in digests {
            for line in &digest.lines {
                for warning in line.outcomes().flat_map(|outcome| &outcome.warnings) {
                    let work = format!("{}, {}", digest.cell.scenario, digest.cell.label);
                    match counted.iter_mut().find(|entry| entry.0 == line.who && same(&entry.2, warning)) {
                        Some(entry) => entry.3 += 1,
                        None => counted.push((line.who, work, warning.clone(), 1)),
                    }
                }
            }
        }
        if counted.is_empty() {
            return;
        }
        self.say("Warnings, each with the first work that gave it and how often it was given:\n");
        for (who, work, warning, times) in counted {
            self.say(format_args!("- {} ({work}; {times} ×): {warning}", who.name()));
        }
        self.say("");
    }
}

/// Whether two warnings differ in numbers alone.
fn same(a: &str, b: &str) -> bool {
    let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect::<String>();
    words(a) == words(b)
}

fn settings(results: &Results) -> Table {
    let (machine, settings) = (&results.machine, &results.settings);
    let mut table = Table::new(&["setting", "value"]);
    let mut row = |name: &str, value: String| table.row(vec![name.into(), value]);
    row("kernel", machine.kernel.clone());
    row("processor", format!("{}, {} online", machine.cpu_model, machine.cpus));
    row("memory", names::bytes(machine.memory_bytes as f64));
    row("CPUs of the server / of the load", format!("{} / {}", settings.server_cpus, settings.load_cpus));
    row("congestion control", settings.congestion_control.clone());
    row("congestion control of the peers' own sockets", settings.peers_congestion_control.clone());
    let range = |values: Vec<f64>, unit: &str| {
        let (least, most) = values
            .iter()
            .fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(*value), most.max(*value)));
        if least >= most { format!("{most}{unit}") } else { format!("{least} to {most}{unit}") }
    };
    row("rounds", range(results.cells.iter().map(|cell| f64::from(cell.rounds)).collect(), ""));
    row("measured window", range(results.cells.iter().map(|cell| cell.seconds).collect(), " s"));
    row(
        "the same load before it",
        range(results.cells.iter().map(|cell| cell.warm_up_seconds).collect(), " s"),
    );
    if !settings.server_settings.is_empty() {
        row("settings of uringest", settings.server_settings.join(" "));
    }
    if !settings.only.is_empty() {
        row("only", settings.only.join(", "));
    }
    row("benchmark", format!("commit {}", results.commit));
    table
}

fn versions(digests: &[Digest<'_>]) -> Table {
    let mut table = Table::new(&["who", "version", "I/O", "an acknowledgement means"]);
    for who in Who::ALL {
        let Some(line) = digests.iter().find_map(|digest| digest.line(who)) else { continue };
        let Some(outcome) = line.last() else { continue };
        let ack = if outcome.ack.is_empty() { "none" } else { &outcome.ack };
        table.row(vec![who.name().into(), outcome.subject_version.clone(), outcome.io.clone(), ack.into()]);
    }
    table
}
