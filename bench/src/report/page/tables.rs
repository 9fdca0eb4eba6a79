//! The tables that most scenarios share.

use super::table::{NOTHING, Table, figure_or, percent, ratio, spread, spread_or};
use super::{drive, is_about_cost};
use crate::outcome::{Latency, Outcome};
use crate::report::digest::{Digest, Line};
use crate::report::names;
use crate::report::who::Who;

/// Every work in one line.
pub(super) fn glance(digests: &[Digest<'_>]) -> Table {
    let mut table = Table::new(&[
        "work",
        "uring, ns",
        "p99, µs",
        "÷ ceiling",
        "epoll, ns",
        "p99, µs",
        "÷ ceiling",
        "uring ÷ epoll",
        "best peer, ns",
        "p99, µs",
    ]);
    for digest in digests.iter().filter(|digest| !digest.cell.sweep && is_about_cost(drive(digest))) {
        let own = |who: Who| {
            let line = digest.line(who);
            let over = line.and_then(|line| line.over_ceiling).map(|over| over.ratio);
            [
                line.map_or(NOTHING.into(), |line| names::figure(line.cpu.median)),
                figure_or(line.and_then(|line| line.middle(p99))),
                over.map_or(NOTHING.into(), |over| format!("{over:.2}")),
            ]
        };
        let Some(_) = digest.outcome() else { continue };
        let peers = digest.lines.iter().filter(|line| line.who.is_peer());
        let best = peers.min_by(|a, b| a.cpu.median.total_cmp(&b.cpu.median));
        let mut cells = vec![format!("{}, {}", digest.cell.scenario, digest.cell.label)];
        cells.extend(own(Who::Uring));
        cells.extend(own(Who::Epoll));
        cells.push(ratio(digest.ratio(Who::Uring, Who::Epoll)));
        cells.push(best.map_or(NOTHING.into(), |best| {
            format!("{} ({})", names::figure(best.cpu.median), best.who.name())
        }));
        cells.push(figure_or(best.and_then(|best| best.middle(p99))));
        table.row(cells);
    }
    table
}

/// Cost, rate and latency of everybody, variant by variant.
pub(super) fn cost(digests: &[&Digest<'_>]) -> Table {
    let unit = digests.first().map_or("record", |digest| digest.unit());
    let mut table = Table::new(&[
        "",
        &format!("CPU, ns a {unit}"),
        "÷ ceiling",
        "records/s",
        "payload, MB/s",
        "p50, µs",
        "p99, µs",
        "server busy",
        "load busy",
    ]);
    for digest in digests {
        table.group(&digest.cell.label);
        for line in &digest.lines {
            table.row(vec![
                line.who.name().into(),
                spread(&line.cpu),
                ratio(line.over_ceiling),
                format!("{}{}", names::figure(line.rate()), if line.is_the_loads() { " \\*" } else { "" }),
                figure_or(line.middle(|outcome| Some(outcome.bytes_per_s / 1e6))),
                figure_or(line.middle(|outcome| outcome.latency_us.map(|latency| latency.p50))),
                spread_or(line.summary(p99)),
                percent(line.middle(|outcome| Some(outcome.server_cpu_share))),
                percent(line.middle(|outcome| Some(outcome.load_cpu_share))),
            ]);
        }
    }
    table
}

/// The percentiles of one latency.
pub(super) fn latency(digest: &Digest<'_>) -> Table {
    let mut table = Table::new(&[
        "",
        "p50, µs",
        "p90, µs",
        "p99, µs",
        "p99.9, µs",
        "most, µs",
        "CPU, ns a delivery",
        "÷ ceiling",
        "late",
    ]);
    for line in &digest.lines {
        let of = |read: fn(Latency) -> f64| line.summary(|outcome| outcome.latency_us.map(read));
        table.row(vec![
            line.who.name().into(),
            spread_or(of(|latency| latency.p50)),
            figure_or(of(|latency| latency.p90).map(|summary| summary.median)),
            spread_or(of(|latency| latency.p99)),
            figure_or(of(|latency| latency.p999).map(|summary| summary.median)),
            figure_or(of(|latency| latency.max).map(|summary| summary.most)),
            spread(&line.cpu),
            ratio(line.over_ceiling),
            late(line),
        ]);
    }
    table
}

/// Batches that were not sent in time, which says when a load could not keep to its times.
fn late(line: &Line<'_>) -> String {
    let share = line.middle(|outcome| Some(outcome.late_share)).unwrap_or(0.0);
    if share == 0.0 { "0".into() } else { format!("{:.2} %", share * 100.0) }
}

/// Cost of everybody, a column for each, a line for each payload.
pub(super) fn payload(sweep: &[&Digest<'_>]) -> Table {
    let present = |who: &Who| sweep.iter().any(|digest| digest.line(*who).is_some());
    let who: Vec<Who> = Who::ALL.into_iter().filter(present).collect();
    let unit = sweep.iter().find_map(|digest| digest.outcome()).map_or("record", Outcome::cpu_unit);
    let mut heads = vec!["payload".to_owned()];
    heads.extend(who.iter().map(|who| format!("{}, ns a {unit}", who.name())));
    heads.push("uring ÷ ceiling".into());
    heads.push("uring, p99 µs".into());
    let mut table = Table::new(&heads);
    for digest in sweep.iter().filter(|digest| !digest.lines.is_empty()) {
        let mut cells = vec![digest.cell.label.clone()];
        cells.extend(who.iter().map(|who| spread_or(digest.line(*who).map(|line| line.cpu))));
        let uring = digest.line(Who::Uring);
        cells.push(ratio(uring.and_then(|line| line.over_ceiling)));
        cells.push(figure_or(uring.and_then(|line| line.middle(p99))));
        table.row(cells);
    }
    table
}

fn p99(outcome: &Outcome) -> Option<f64> {
    outcome.latency_us.map(|latency| latency.p99)
}
