//! What runs on a log found, for people.

use std::fmt::Write as _;

use super::{grouped, percentiles};
use crate::outcome::{CatchupOutcome, DurableOutcome, Outcome, RecoveryOutcome};

const MIB: f64 = 1_048_576.0;

pub(super) fn lines(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    if let Some(found) = &outcome.durable {
        durable(out, found, &outcome.ack)?;
    }
    if let Some(found) = &outcome.catchup {
        catchup(out, found)?;
    }
    outcome.recovery.as_ref().map_or(Ok(()), |found| recovery(out, found))
}

fn durable(out: &mut String, found: &DurableOutcome, ack: &str) -> std::fmt::Result {
    writeln!(
        out,
        "  commits      {} of {:.0} KiB each {:.0} us, {} writes and {} syncs/s{}, {:.1} B of log a record",
        ack,
        found.commit_bytes / 1024.0,
        found.commit_us,
        grouped(found.writes_per_s),
        grouped(found.syncs_per_s),
        found.sync_us.map_or(String::new(), |us| format!(" of {us:.0} us")),
        found.log_bytes_per_record
    )?;
    if let Some(commits) = found.ack_p99_commits {
        writeln!(out, "               an acknowledgement's p99 is {commits:.2} commits")?;
    }
    writeln!(
        out,
        "  the disk     {:.0} MB/s in such commits{}: {} records/s, of which the server had {:.2}",
        found.raw_bytes_per_s / 1e6,
        if found.direct { "" } else { " (through the page cache)" },
        grouped(found.raw_records_per_s),
        found.rate_over_raw
    )?;
    if let Some(latency) = &found.disk_us {
        writeln!(out, "               a block of 4 KiB: {}", percentiles(latency))?;
    }
    if let Some(latency) = &found.disk_paced_us {
        writeln!(out, "               at {}/s:          {}", found.low_rate_per_s, percentiles(latency))?;
    }
    if let Some(latency) = &found.low_rate_us {
        writeln!(out, "  at {}/s     {}", found.low_rate_per_s, percentiles(latency))?;
    }
    let over = found.commit_over_disk.zip(found.commit_over_paced_disk);
    if let (Some(us), Some(way), Some((disk, paced))) =
        (found.commit_at_low_rate_us, &found.low_rate_received_us, over)
    {
        writeln!(
            out,
            "               p50 as received {:.1} us: a commit adds {us:.1}, {disk:.2} times the disk's block, {paced:.2} at that rate",
            way.p50
        )?;
    }
    writeln!(out, "  in           {}", found.directory)
}

fn catchup(out: &mut String, found: &CatchupOutcome) -> std::fmt::Result {
    writeln!(
        out,
        "  catching up  {:.1} ns of server CPU a record, {} records/s, {:.0} MB/s, {} records in {:.2} s",
        found.server_cpu_ns_per_record,
        grouped(found.records_per_s),
        found.bytes_per_s / 1e6,
        grouped(found.records as f64),
        found.seconds
    )?;
    writeln!(
        out,
        "               {} times passing on at the tail ({:.1} ns: {:.1} less {:.1} for taking in), {:.2} times both",
        found.over_tail.map_or("?".to_owned(), |ratio| format!("{ratio:.2}")),
        found.tail_server_cpu_ns_per_record,
        found.deliver_server_cpu_ns_per_delivery,
        found.ingest_server_cpu_ns_per_record,
        found.over_deliver
    )?;
    writeln!(out, "               {:.2} bytes read from files for each of payload", found.read_bytes_ratio)
}

fn recovery(out: &mut String, found: &RecoveryOutcome) -> std::fmt::Result {
    writeln!(
        out,
        "  recovery     {:.0} MiB in {} files in {:.3} s ({:.3} s to start, {:.3} s with the snapshot): {:.0} MB/s",
        found.log_bytes as f64 / MIB,
        found.segments,
        found.recovery_seconds,
        found.start_seconds,
        found.start_with_snapshot_seconds,
        found.bytes_per_s / 1e6
    )?;
    writeln!(
        out,
        "               {:.2} of the bound; reading the files takes {:.0} MB/s",
        found.over_bound,
        found.raw_bytes_per_s / 1e6
    )?;
    writeln!(
        out,
        "               at most {:.1} MiB resident, {:.1} with the snapshot; {:.0} MiB allowed",
        found.peak_rss_bytes as f64 / MIB,
        found.peak_rss_with_snapshot_bytes as f64 / MIB,
        found.budget_bytes as f64 / MIB
    )?;
    writeln!(
        out,
        "               {} of {} records read back",
        grouped(found.records_read as f64),
        grouped(found.records_acknowledged as f64)
    )
}
