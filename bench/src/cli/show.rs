//! Outcomes for people and for programs.

mod log;

use std::fmt::Write as _;

use serde::Serialize;

use crate::compare::Comparison;
use crate::outcome::{FlowOutcome, Latency, LatencyOf, Outcome, StormOutcome, TlsOutcome};

/// Says on standard error what the figures should not be believed without.
pub(super) fn warnings(outcome: &Outcome) {
    outcome.warnings.iter().for_each(|warning| warn(warning));
}

/// The same of one.
pub(super) fn warn(warning: &str) {
    eprintln!("uringest-bench: WARNING: {warning}");
}

/// One line.
pub(super) fn json(result: &impl Serialize) -> String {
    serde_json::to_string(result).expect("results are structs and lists of numbers and text")
}

/// One round of a comparison, as it goes on: on standard error.
pub(super) fn round(label: &str, round: usize, outcome: &Outcome) {
    let round = round + 1;
    if let Some(idle) = outcome.idle.last() {
        let each = idle.rss_bytes_per_connection.unwrap_or_default();
        eprintln!(
            "round {round}: {label}: {each:.0} B a connection, {:.4} % of a CPU",
            idle.server_cpu_share * 100.0
        );
        return;
    }
    let latency = outcome.latency_us.map_or(String::new(), |latency| format!(", p99 {:.1} us", latency.p99));
    eprintln!(
        "round {round}: {label}: {:.1} ns a {}{latency}, {}/s",
        outcome.cpu_ns(),
        outcome.cpu_unit(),
        grouped(outcome.records_per_s)
    );
}

/// A table, and the sentence.
pub(super) fn comparison(comparison: &Comparison) -> String {
    let mut out = String::new();
    let Comparison { scenario, a, b, figures, recommendation, rounds, .. } = comparison;
    // Writing to a string does not fail.
    let _ = writeln!(out, "{scenario}: A is {a}, B is {b}; medians of {} rounds in turns", rounds.len());
    let _ = writeln!(out, "  {:<32} {:>14} {:>14} {:>8}  95 % interval", "", "A", "B", "A over B");
    for figure in figures {
        let number = |value: f64| format!("{value:.*}", digits(value));
        let interval = figure.interval.map_or("-".to_owned(), |(low, high)| format!("{low:.3} to {high:.3}"));
        let _ = writeln!(
            out,
            "  {:<32} {:>14} {:>14} {:>8.3}  {interval}",
            figure.name,
            number(figure.a),
            number(figure.b),
            figure.ratio
        );
    }
    let _ = writeln!(out, "{recommendation}");
    if let Some((first, _)) = rounds.first() {
        let _ = foot(&mut out, first);
    }
    out
}

/// A page.
pub(super) fn text(outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = head(&mut out, outcome);
    let _ = figures(&mut out, outcome);
    let _ = special(&mut out, outcome);
    let _ = foot(&mut out, outcome);
    out
}

fn head(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        out,
        "{} on {} {} ({}, {} topic, {} shard{})",
        outcome.scenario,
        outcome.subject,
        outcome.subject_version,
        outcome.io,
        outcome.kind,
        outcome.shards,
        if outcome.shards == 1 { "" } else { "s" }
    )?;
    outcome.tls.as_ref().map_or(Ok(()), |found| tls(out, found))
}

fn tls(out: &mut String, tls: &TlsOutcome) -> std::fmt::Result {
    writeln!(
        out,
        "  TLS 1.3      {}, {}, server's records {}, the load's of {} B, {} handshakes ({} resumed)",
        tls.suite, tls.key_exchange, tls.records, tls.record_bytes, tls.handshakes, tls.resumed
    )
}

fn figures(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    if outcome.flows.is_empty() {
        return Ok(());
    }
    writeln!(out, "  server CPU   {:.1} ns a record", outcome.server_cpu_ns_per_record)?;
    if let Some(ns) = outcome.server_cpu_ns_per_delivery {
        writeln!(out, "               {ns:.1} ns a delivery")?;
    }
    writeln!(
        out,
        "  rate         {} records/s taken, {} delivered, {:.1} MB/s of payload",
        grouped(outcome.records_per_s),
        grouped(outcome.delivered_per_s),
        outcome.bytes_per_s / 1e6
    )?;
    for flow in &outcome.flows {
        flow_line(out, flow)?;
    }
    writeln!(
        out,
        "  busy         server {:.0} % of a CPU, load {:.0} % of its thread",
        outcome.server_cpu_share * 100.0,
        outcome.load_cpu_share * 100.0
    )?;
    if let Some(ratio) = outcome.copied_bytes_ratio {
        writeln!(out, "  copied       {ratio:.3} of the frame bytes")?;
    }
    if outcome.refused_batches > 0 {
        let refused = grouped(outcome.refused_batches as f64);
        writeln!(out, "  refused      {refused} batches for want of room, each sent again")?;
    }
    writeln!(out, "  fairness     {:.2}", outcome.fairness)
}

fn flow_line(out: &mut String, flow: &FlowOutcome) -> std::fmt::Result {
    let name = if flow.name.is_empty() { "flow" } else { &flow.name };
    writeln!(
        out,
        "  {name:<12} {} B in batches of {}, {} to {} connections{}",
        flow.payload_bytes,
        flow.batch_records,
        flow.connections,
        flow.consumers,
        if flow.rate_per_s > 0 { format!(", {}/s", grouped(flow.rate_per_s as f64)) } else { String::new() }
    )?;
    let Some(latency) = &flow.latency_us else { return Ok(()) };
    let of = if flow.latency_of == Some(LatencyOf::Ack) { "acknowledgement" } else { "delivery" };
    writeln!(out, "               {of}: {}", percentiles(latency))?;
    if let Some(ratio) = flow.tail_over_mean {
        writeln!(out, "               p99 over mean {ratio:.1}")?;
    }
    Ok(())
}

fn percentiles(latency: &Latency) -> String {
    let Latency { p50, p90, p99, p999, max, .. } = latency;
    format!("p50 {p50:.1} us, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1}")
}

fn special(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    for step in &outcome.steps {
        writeln!(
            out,
            "  {:>12}/s  taken {:>12}/s  p50 {:>8.1} us  p99 {:>9.1} us  {:>7.1} ns a record  load {:>3.0} %{}",
            grouped(step.rate_per_s as f64),
            grouped(step.records_per_s),
            step.latency_us.p50,
            step.latency_us.p99,
            step.server_cpu_ns_per_record,
            step.load_cpu_share * 100.0,
            if step.within_bound { "" } else { "  beyond" }
        )?;
    }
    if let Some(knee) = &outcome.knee {
        let rate = |rate: Option<u64>| {
            rate.map_or("none tried".to_owned(), |rate| format!("{}/s", grouped(rate as f64)))
        };
        writeln!(
            out,
            "  knee         p99 within {} us up to {}, beyond at {}",
            knee.bound_us,
            rate(knee.within_per_s),
            rate(knee.beyond_per_s)
        )?;
    }
    if let Some(drift) = &outcome.drift {
        writeln!(
            out,
            "  drift        memory {:+.2} %, rate {:+.2} %, p99 {:+.2} %, CPU {:+.2} % over {:.0} s",
            drift.server_rss * 100.0,
            drift.records_per_s * 100.0,
            drift.p99 * 100.0,
            drift.server_cpu_ns_per_record * 100.0,
            outcome.seconds
        )?;
    }
    if let Some(crossing) = &outcome.crossing {
        writeln!(
            out,
            "  crossing     {:.2} times the {:.1} ns a record of the own shard",
            crossing.cpu_ratio, crossing.own_server_cpu_ns_per_record
        )?;
    }
    for idle in &outcome.idle {
        writeln!(
            out,
            "  {:>6} connections: {:>7.1} MiB resident{}, {:.4} % of a CPU",
            idle.connections,
            idle.server_rss_bytes as f64 / 1_048_576.0,
            idle.rss_bytes_per_connection.map_or(String::new(), |bytes| format!(", {bytes:.0} B each")),
            idle.server_cpu_share * 100.0
        )?;
    }
    if let Some(found) = &outcome.storm {
        storm(out, found)?;
    }
    log::lines(out, outcome)?;
    if let Some(limit) = &outcome.limit {
        writeln!(
            out,
            "  limit        {:.2} times the {:.1} ns of {}",
            limit.ratio,
            limit.server_cpu_ns_per_delivery.unwrap_or(limit.server_cpu_ns_per_record),
            limit.name
        )?;
        if let (Some(ns), Some(ratio)) = (limit.memcpy_ns_per_record, limit.ratio_with_memcpy) {
            writeln!(out, "               {ratio:.2} times that and {ns:.1} ns a record for a copy of it")?;
        }
    }
    Ok(())
}

fn storm(out: &mut String, storm: &StormOutcome) -> std::fmt::Result {
    writeln!(
        out,
        "  storm        {} handshakes in {:.2} s, {}/s, {:.1} us of server CPU each, {} failed",
        storm.handshakes,
        storm.seconds,
        grouped(storm.handshakes_per_s),
        storm.server_cpu_us_per_handshake,
        storm.failed
    )?;
    if let Some(latency) = &storm.handshake_us {
        writeln!(out, "               each: {}", percentiles(latency))?;
    }
    if let (Some(calm), Some(ratio)) = (&storm.calm_latency_us, storm.p99_over_calm) {
        writeln!(out, "               without it: {}", percentiles(calm))?;
        writeln!(out, "               p99 in it {ratio:.2} times that")?;
    }
    Ok(())
}

fn foot(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        out,
        "  {:.1} s after {:.1} s, server on CPU {}, load on CPU {}, {}, {:.0} MiB resident",
        outcome.seconds,
        outcome.warm_up_seconds,
        outcome.server_cpus,
        outcome.load_cpus,
        outcome.congestion_control,
        outcome.server_rss_bytes as f64 / 1_048_576.0
    )?;
    writeln!(
        out,
        "  kernel {}, {}, benchmark {}",
        outcome.machine.kernel, outcome.machine.cpu_model, outcome.commit
    )
}

/// Digits behind the point that a figure of this size is worth.
fn digits(value: f64) -> usize {
    match value.abs() {
        size if size < 1.0 => 4,
        size if size < 1_000.0 => 1,
        _ => 0,
    }
}

/// A count with commas between thousands.
fn grouped(count: f64) -> String {
    let digits = format!("{count:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (count, text) in [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (12_345_678.0, "12,345,678")] {
            assert_eq!(grouped(count), text);
        }
    }
}
