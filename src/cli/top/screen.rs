//! Rates as a page of text.

use super::super::exit::table;
use super::rates::Rates;

/// The whole page.
#[must_use]
pub fn render(rates: &Rates, host: &str) -> String {
    let mut page = format!(
        "uringest {host}  {}  up {}  {} shards on {}  {} connections\n",
        rates.state,
        duration(rates.uptime_seconds),
        rates.shards,
        rates.io,
        rates.connections
    );
    for degraded in &rates.degraded {
        page += &format!("degraded: {}: {}\n", degraded.key, degraded.detail);
    }
    page += "\n";
    page += &table(
        &["", "RECORDS/S", "BYTES/S"],
        &[1, 2],
        &[
            vec!["in".into(), count(rates.records_in_per_second), bytes(rates.bytes_in_per_second)],
            vec!["out".into(), count(rates.records_out_per_second), bytes(rates.bytes_out_per_second)],
        ],
    );
    let per_record = rates.cpu_ns_per_record.map_or_else(|| "-".to_owned(), |ns| format!("{ns:.0} ns"));
    let tick =
        rates.tick_p99_ns.map_or_else(String::new, |ns| format!("   tick p99 {:.0} us", ns as f64 / 1e3));
    let memory = bytes(rates.resident_bytes as f64);
    page +=
        &format!("\ncpu {:.2} CPUs, {per_record} for each record   memory {memory}{tick}\n\n", rates.cpus);
    let copies: Vec<_> = (rates.copies.iter())
        .map(|copy| {
            let share =
                copy.share_of_bytes.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0));
            vec![copy.reason.clone(), bytes(copy.bytes_per_second), share, bytes(copy.total_bytes as f64)]
        })
        .collect();
    page += &table(&["COPIES", "BYTES/S", "OF BYTES IN", "TOTAL"], &[1, 2, 3], &copies);
    if !rates.refusals_per_second.is_empty() {
        let rows: Vec<_> =
            rates.refusals_per_second.iter().map(|(code, rate)| vec![code.clone(), count(*rate)]).collect();
        page += "\n";
        page += &table(&["REFUSED", "A SECOND"], &[1], &rows);
    }
    page + "\n" + &topics(rates)
}

fn topics(rates: &Rates) -> String {
    if rates.topics.is_empty() {
        return "no topics\n".to_owned();
    }
    let mut rows = Vec::new();
    for topic in &rates.topics {
        rows.push(vec![
            topic.name.clone(),
            topic.partitions.to_string(),
            count(topic.records_in_per_second),
            bytes(topic.bytes as f64),
        ]);
        for consumer in &topic.consumers {
            let name = format!("  {}", consumer.name);
            rows.push(vec![
                name,
                String::new(),
                String::new(),
                String::new(),
                consumer.lag_records.to_string(),
                consumer.cause.clone(),
            ]);
        }
    }
    table(&["TOPIC / CONSUMER", "PARTITIONS", "RECORDS/S", "HELD", "LAG", "CAUSE"], &[1, 2, 3, 4], &rows)
}

/// A number in groups of three digits.
pub(super) fn count(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes with a binary unit.
pub(super) fn bytes(number: f64) -> String {
    let mut number = number.max(0.0);
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if number < 1024.0 {
            let digits = usize::from(unit != "B");
            return format!("{number:.digits$} {unit}");
        }
        number /= 1024.0;
    }
    format!("{number:.1} TiB")
}

/// Seconds as `1d 2h`, `3h 4m`, `5m 6s` or `7s`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped; years of uptime fit
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.clamp(0.0, 1e12) as u64;
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}
