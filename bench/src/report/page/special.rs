//! Tables of the scenarios that have figures of their own.

use super::table::{NOTHING, Table, figure_or, ratio, spread, spread_or};
use crate::outcome::Outcome;
use crate::report::digest::Digest;
use crate::report::names;

/// Each flow by itself.
pub(super) fn flows(digests: &[&Digest<'_>]) -> Table {
    let mut table = Table::new(&["flow", "p50, µs", "p99, µs", "p99.9, µs", "p99 over mean", "records/s"]);
    for digest in digests {
        for line in &digest.lines {
            let flows = line.last().map_or(0, |outcome| outcome.flows.len());
            for flow in 0..flows {
                let of = |read: fn(&crate::outcome::Latency) -> f64| {
                    line.summary(|outcome| Some(read(outcome.flows.get(flow)?.latency_us.as_ref()?)))
                };
                let name = line.last().map_or("", |outcome| &outcome.flows[flow].name);
                let rate = |outcome: &Outcome| {
                    Some(outcome.flows.get(flow)?.records as f64 / outcome.seconds.max(1e-9))
                };
                table.row(vec![
                    format!("{}, {name}", line.who.name()),
                    figure_or(of(|latency| latency.p50).map(|summary| summary.median)),
                    spread_or(of(|latency| latency.p99)),
                    figure_or(of(|latency| latency.p999).map(|summary| summary.median)),
                    spread_or(line.summary(|outcome| outcome.flows.get(flow)?.tail_over_mean)),
                    figure_or(line.middle(rate)),
                ]);
            }
        }
    }
    table
}

/// Where each one's knee is.
pub(super) fn step(digest: &Digest<'_>) -> Table {
    let bound = digest.outcome().and_then(|outcome| outcome.knee.as_ref()).map_or(0.0, |knee| knee.bound_us);
    let mut table = Table::new(&[
        "".to_owned(),
        format!("highest rate with p99 within {} µs", names::figure(bound)),
        "lowest rate beyond".to_owned(),
        "p50 there within, µs".to_owned(),
        "p99 there within, µs".to_owned(),
        "CPU, ns a delivery".to_owned(),
    ]);
    for line in &digest.lines {
        let knee = |read: fn(&crate::outcome::Knee) -> Option<u64>| {
            line.summary(|outcome| outcome.knee.as_ref().and_then(read).map(|rate| rate as f64))
        };
        table.row(vec![
            line.who.name().into(),
            spread_or(knee(|knee| knee.within_per_s)),
            spread_or(knee(|knee| knee.beyond_per_s)),
            figure_or(line.middle(|outcome| outcome.latency_us.map(|latency| latency.p50))),
            figure_or(line.middle(|outcome| outcome.latency_us.map(|latency| latency.p99))),
            spread(&line.cpu),
        ]);
    }
    table
}

/// What moved over time.
pub(super) fn soak(digests: &[&Digest<'_>]) -> Table {
    let mut table = Table::new(&[
        "from begin to end",
        "memory",
        "rate",
        "p99",
        "CPU a record",
        "records/s",
        "p99, µs",
        "CPU, ns a delivery",
        "seconds",
    ]);
    let share = |share: Option<f64>| share.map_or(NOTHING.into(), |share| format!("{:+.2} %", share * 100.0));
    for digest in digests {
        for line in &digest.lines {
            let drift = |read: fn(&crate::outcome::DriftOutcome) -> f64| {
                share(line.middle(|outcome| outcome.drift.as_ref().map(read)))
            };
            table.row(vec![
                format!("{}, {}", line.who.name(), digest.cell.label),
                drift(|drift| drift.server_rss),
                drift(|drift| drift.records_per_s),
                drift(|drift| drift.p99),
                drift(|drift| drift.server_cpu_ns_per_record),
                names::figure(line.rate()),
                figure_or(line.middle(|outcome| outcome.latency_us.map(|latency| latency.p99))),
                spread(&line.cpu),
                figure_or(line.middle(|outcome| Some(outcome.seconds))),
            ]);
        }
    }
    table
}

/// What the way over another shard costs.
pub(super) fn crossing(digests: &[&Digest<'_>]) -> Table {
    let mut table = Table::new(&[
        "",
        "own shard, ns a record",
        "p99, µs",
        "other shard, ns a record",
        "p99, µs",
        "other ÷ own",
        "records/s",
    ]);
    for digest in digests {
        table.group(&digest.cell.label);
        for line in &digest.lines {
            let own = |read: fn(&crate::outcome::CrossingOutcome) -> Option<f64>| {
                line.summary(|outcome| read(outcome.crossing.as_ref()?))
            };
            table.row(vec![
                line.who.name().into(),
                spread_or(own(|crossing| Some(crossing.own_server_cpu_ns_per_record))),
                spread_or(own(|crossing| crossing.own_latency_us.map(|latency| latency.p99))),
                spread_or(line.summary(|outcome| Some(outcome.server_cpu_ns_per_record))),
                spread_or(line.summary(|outcome| outcome.latency_us.map(|latency| latency.p99))),
                ratio_of(line.summary(|outcome| Some(outcome.crossing.as_ref()?.cpu_ratio))),
                names::figure(line.rate()),
            ]);
        }
    }
    table
}

fn ratio_of(summary: Option<crate::stats::Summary>) -> String {
    let whole = |summary: crate::stats::Summary| {
        let interval = (summary.count > 1).then_some((summary.least, summary.most));
        ratio(Some(crate::stats::Ratio { ratio: summary.median, interval }))
    };
    summary.map_or(NOTHING.into(), whole)
}

/// What connections cost that do nothing.
pub(super) fn idle(digests: &[&Digest<'_>]) -> Table {
    let mut table = Table::new(&["", "connections", "resident", "for each connection", "CPU"]);
    for digest in digests {
        for line in &digest.lines {
            for (index, idle) in line.last().map_or(&[][..], |outcome| &outcome.idle).iter().enumerate() {
                let of = |read: fn(&crate::outcome::IdleOutcome) -> Option<f64>| {
                    line.middle(|outcome| read(outcome.idle.get(index)?))
                };
                table.row(vec![
                    line.who.name().into(),
                    names::grouped(&idle.connections.to_string()),
                    of(|idle| Some(idle.server_rss_bytes as f64)).map_or(NOTHING.into(), names::bytes),
                    of(|idle| idle.rss_bytes_per_connection).map_or(NOTHING.into(), names::bytes),
                    of(|idle| Some(idle.server_cpu_share))
                        .map_or(NOTHING.into(), |share| format!("{:.3} %", share * 100.0)),
                ]);
            }
        }
    }
    table
}

/// What many connections do to a steady load.
pub(super) fn storm(digests: &[&Digest<'_>]) -> Table {
    let mut table = Table::new(&[
        "",
        "p99 without, µs",
        "p99 in the storm, µs",
        "in it ÷ without",
        "handshakes/s",
        "CPU, µs a handshake",
        "failed",
    ]);
    for digest in digests {
        table.group(&digest.cell.label);
        for line in &digest.lines {
            let storm = |read: fn(&crate::outcome::StormOutcome) -> Option<f64>| {
                line.summary(|outcome| read(outcome.storm.as_ref()?))
            };
            table.row(vec![
                line.who.name().into(),
                spread_or(storm(|storm| storm.calm_latency_us.map(|latency| latency.p99))),
                spread_or(line.summary(|outcome| outcome.latency_us.map(|latency| latency.p99))),
                ratio_of(storm(|storm| storm.p99_over_calm)),
                spread_or(storm(|storm| Some(storm.handshakes_per_s))),
                spread_or(storm(|storm| Some(storm.server_cpu_us_per_handshake))),
                figure_or(storm(|storm| Some(storm.failed as f64)).map(|summary| summary.most)),
            ]);
        }
    }
    table
}
