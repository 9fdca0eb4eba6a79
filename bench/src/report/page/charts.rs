//! Which charts a page has, and what is in them.

use std::collections::BTreeMap;

use super::super::chart::{Dot, Dots, Lines, Look, Point, Scale, Series};
use super::drive;
use crate::outcome::Outcome;
use crate::report::digest::{Digest, Line};
use crate::report::names;
use crate::report::who::Who;
use crate::scenario::Drive;
use crate::stats::Summary;

/// A point of a curve may be this far from another's in the share, and be the same.
const SAME_SHARE: f64 = 1e-9;
/// Beyond this share a curve is of single batches.
const SHARE_MAX: f64 = 0.999_99;

fn look(who: Who) -> Look {
    Look { class: who.class(), stroke: who.stroke(), marker: who.marker() }
}

/// Everybody's cost in each variant.
pub(super) fn cost(title: &str, digests: &[&Digest<'_>]) -> String {
    let mut dots = Vec::new();
    for digest in digests {
        for (index, line) in digest.lines.iter().enumerate() {
            let p99 = line.middle(|outcome| outcome.latency_us.map(|latency| latency.p99));
            let p99 = p99.map_or(String::new(), |p99| format!(", p99 {} µs", names::figure(p99)));
            dots.push(Dot {
                group: (index == 0).then(|| digest.cell.label.clone()),
                name: line.who.name().into(),
                look: look(line.who),
                value: line.cpu.median,
                low: line.cpu.least,
                high: line.cpu.most,
                text: format!("{} ns{p99}", names::figure(line.cpu.median)),
            });
        }
    }
    let unit = digests.first().map_or("record", |digest| digest.unit());
    let chart = Dots {
        title: title.into(),
        description: said(&dots, "ns"),
        x_label: format!("server CPU, ns a {unit} (logarithmic; whiskers: least and most of the rounds)"),
        x: Scale::log(dots.iter().flat_map(|dot| [dot.low, dot.high])),
        mark: None,
        dots,
    };
    chart.draw()
}

/// A description for those who do not see the chart.
fn said(dots: &[Dot], unit: &str) -> String {
    let one = |dot: &Dot| {
        let group = dot.group.as_ref().map_or(String::new(), |group| format!("{group}: "));
        format!("{group}{} {} {unit}", dot.name, names::figure(dot.value))
    };
    let all: Vec<String> = dots.iter().map(one).collect();
    format!("{}.", all.join("; "))
}

/// uring over epoll in each work; nothing where no work was measured on both.
pub(super) fn backends(digests: &[Digest<'_>]) -> Option<String> {
    let about = |digest: &&Digest<'_>| {
        !digest.cell.sweep && !matches!(drive(digest), Drive::Idle | Drive::Step | Drive::Storm)
    };
    let dot = |digest: &Digest<'_>| {
        let found = digest.ratio(Who::Uring, Who::Epoll)?;
        let (low, high) = found.interval.unwrap_or((found.ratio, found.ratio));
        let interval = found.interval.map_or(String::new(), |(low, high)| format!(" ({low:.2} – {high:.2})"));
        Some(Dot {
            group: None,
            name: short(&format!("{}, {}", digest.cell.scenario, digest.cell.label)),
            look: look(if found.ratio <= 1.0 { Who::Uring } else { Who::Epoll }),
            value: found.ratio,
            low,
            high,
            text: format!("{:.2}{interval}", found.ratio),
        })
    };
    let dots: Vec<Dot> = digests.iter().filter(about).filter_map(dot).collect();
    if dots.is_empty() {
        return None;
    }
    let chart = Dots {
        title: "Server CPU on uring over server CPU on epoll".into(),
        description: said(&dots, "times the CPU on epoll"),
        x_label: "ratio of the medians (whiskers: 95 % interval); left of the dashed line uring is cheaper"
            .into(),
        x: Scale::linear(dots.iter().flat_map(|dot| [dot.low, dot.high]).chain([0.9, 1.1])),
        mark: Some(1.0),
        dots,
    };
    Some(chart.draw())
}

/// A name that fits beside a chart.
fn short(name: &str) -> String {
    name.replace(" connections", " conn.")
        .replace(" connection", " conn.")
        .replace("each record acknowledged", "acked")
}

/// Cost against payload.
pub(super) fn payload(title: &str, sweep: &[&Digest<'_>]) -> String {
    let size = |digest: &Digest<'_>| digest.outcome().map_or(1.0, |outcome| outcome.payload_bytes as f64);
    let point = |digest: &Digest<'_>, who: Who| {
        let cpu = digest.line(who)?.cpu;
        Some(Point { x: size(digest), y: cpu.median, low: cpu.least, high: cpu.most })
    };
    let series = |who: Who| Series {
        name: who.name().into(),
        look: look(who),
        points: sweep.iter().filter_map(|digest| point(digest, who)).collect(),
    };
    let series: Vec<Series> = present(Who::ALL.into_iter().map(series));
    let measured = sweep.iter().filter(|digest| !digest.lines.is_empty());
    let unit = sweep.iter().find_map(|digest| digest.outcome()).map_or("record", Outcome::cpu_unit);
    let chart = Lines {
        title: title.into(),
        description: spoken(&series, &format!("ns a {unit}"), names::bytes),
        x_label: "payload of a record (logarithmic)".into(),
        y_label: format!("server CPU, ns a {unit} (logarithmic)"),
        x: Scale::log_at(measured.map(|digest| (size(digest), names::bytes(size(digest)))).collect()),
        y: Scale::log(values(&series)),
        curve: false,
        mark: None,
        series,
    };
    chart.draw()
}

/// Latency against the share of batches that took no longer.
pub(super) fn latency(title: &str, digest: &Digest<'_>) -> String {
    let series =
        |line: &Line<'_>| Series { name: line.who.name().into(), look: look(line.who), points: curve(line) };
    let series = present(digest.lines.iter().map(series));
    let highest =
        series.iter().filter_map(|series| series.points.last()).map(|point| point.x).fold(0.5, f64::max);
    let tails: Vec<String> = digest
        .lines
        .iter()
        .filter_map(|line| {
            let of = |read: fn(crate::outcome::Latency) -> f64| {
                line.middle(|outcome| outcome.latency_us.map(read)).map(names::figure)
            };
            let (p50, p99) = (of(|latency| latency.p50)?, of(|latency| latency.p99)?);
            Some(format!("{}: median {p50}, 99th percentile {p99} microseconds", line.who.name()))
        })
        .collect();
    let chart = Lines {
        title: title.into(),
        description: format!("{}.", tails.join("; ")),
        x_label: "share of the records that took no longer".into(),
        y_label: "latency, µs (logarithmic)".into(),
        x: Scale::tail(highest),
        y: Scale::log(values(&series)),
        curve: true,
        mark: None,
        series,
    };
    chart.draw()
}

/// Medians over the rounds at the shares that all rounds have.
fn curve(line: &Line<'_>) -> Vec<Point> {
    let curves: Vec<&Vec<(f64, f64)>> = line
        .outcomes()
        .filter_map(|outcome| outcome.flows.first().map(|flow| &flow.latency_curve_us))
        .collect();
    let Some(first) = curves.first() else { return Vec::new() };
    let shares = first.iter().map(|point| point.0).filter(|share| *share <= SHARE_MAX);
    let at = |share: f64| {
        let of = |curve: &&Vec<(f64, f64)>| {
            curve.iter().find(|point| (point.0 - share).abs() < SAME_SHARE).map(|point| point.1)
        };
        let values: Option<Vec<f64>> = curves.iter().map(of).collect();
        let Summary { median, least, most, .. } = Summary::of(&values?)?;
        Some(Point { x: share, y: median, low: least, high: most })
    };
    shares.filter_map(at).collect()
}

/// The tail at each rate.
pub(super) fn step(title: &str, digest: &Digest<'_>) -> String {
    let series = |line: &Line<'_>| {
        let steps = line.last().map_or(&[][..], |outcome| &outcome.steps);
        // A rate that passed the bound was tried again.
        let mut tails: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for step in steps.iter().filter(|step| step.latency_us.count > 0) {
            tails.entry(step.rate_per_s).or_default().push(step.latency_us.p99);
        }
        let point = |(rate, tails): (&u64, &Vec<f64>)| {
            let Summary { median, least, most, .. } = Summary::of(tails)?;
            Some(Point { x: *rate as f64, y: median, low: least, high: most })
        };
        let points = tails.iter().filter_map(point).collect();
        Series { name: line.who.name().into(), look: look(line.who), points }
    };
    let series = present(digest.lines.iter().map(series));
    let bound = digest.outcome().and_then(|outcome| outcome.knee.as_ref()).map(|knee| knee.bound_us);
    let chart = Lines {
        title: title.into(),
        description: spoken(&series, "microseconds", |x| format!("{} a second", names::figure(x))),
        x_label: "records offered a second (logarithmic)".into(),
        y_label: "99th percentile, µs (logarithmic)".into(),
        x: Scale::log(series.iter().flat_map(|series| &series.points).map(|point| point.x)),
        y: Scale::log(values(&series).chain(bound)),
        curve: false,
        mark: bound.map(|bound| (bound, format!("bound: {} µs", names::figure(bound)))),
        series,
    };
    chart.draw()
}

fn present(series: impl Iterator<Item = Series>) -> Vec<Series> {
    series.filter(|series| !series.points.is_empty()).collect()
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> {
    series.iter().flat_map(|series| &series.points).flat_map(|point| [point.low, point.high])
}

/// The lines' ends, in words.
fn spoken(series: &[Series], unit: &str, place: impl Fn(f64) -> String) -> String {
    let one = |series: &Series| {
        let (first, last) = (series.points.first()?, series.points.last()?);
        Some(format!(
            "{}: {} {unit} at {}, {} at {}",
            series.name,
            names::figure(first.y),
            place(first.x),
            names::figure(last.y),
            place(last.x)
        ))
    };
    format!("{}.", series.iter().filter_map(one).collect::<Vec<_>>().join("; "))
}
