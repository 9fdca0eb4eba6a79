//! `log verify`: everything is read, and every checksum checked.

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::{Value, json};

use super::super::exit::{Output, print, print_json};
use super::super::progress::{about, counted};
use super::super::{Exit, Failure, Outcome};
use super::Where;
use super::folder::Folder;
use super::place::{Place, find};
use crate::commit_log::format::{FlushFault, LogFile, SNAPSHOTS};
use crate::commit_log::recovery::{Finding, LogStore as _, Recovery};
use crate::commit_log::window::Damage;
use crate::commit_log::{Quarantined, SegmentInfo, index, snapshot};

/// Looks at a log that a server writes to: what is damaged stays so, what was being written does not.
const LOOKS: usize = 4;

/// What is to be said of a log.
pub struct Report {
    /// As it was found.
    pub recovery: Recovery,
    /// Something has to be done.
    pub damage: Vec<Finding>,
    /// Nothing has: how a server ended, and damage that is known and dealt with.
    pub notes: Vec<Finding>,
}

/// Runs the command.
pub fn run(asked: &Where) -> Outcome {
    let found = find(asked)?;
    let (mut text, mut values, mut damaged) = (String::new(), Vec::new(), 0_usize);
    let begun = Instant::now();
    let mut bytes = 0;
    for place in &found.places {
        let report = verify(place, found.running)?;
        bytes += report.recovery.bytes_read;
        damaged += usize::from(!report.damage.is_empty());
        describe(place, &report, &mut text);
        values.push(value(place, &report));
    }
    let seconds = begun.elapsed().as_secs_f64();
    if found.running {
        text += "a server runs on this directory: what it has not synced yet is not looked at\n";
    }
    if asked.output == Output::Json {
        print_json(&json!({
            "sound": damaged == 0, "running": found.running, "bytes_read": bytes, "seconds": seconds,
            "partitions": values,
        }))?;
    } else {
        let rate = bytes as f64 / seconds.max(1e-9) / 1e6;
        let _ = writeln!(text, "read {} in {seconds:.2} s ({rate:.0} MB/s)", about(bytes));
        print(&text)?;
    }
    if damaged == 0 {
        return Ok(());
    }
    let message = format!("{damaged} of {} logs are damaged", found.places.len());
    let remedy = format!(
        "uringest log repair {} --to DIR   # a copy of what is whole, which a server can use; or restore a backup",
        asked.directory.display()
    );
    Err(Failure::new(Exit::Failed, message, remedy))
}

/// Reads a partition's log.
pub fn verify(place: &Place, running: bool) -> Result<Report, Failure> {
    let folder = Folder::new(place, false);
    let mut report = look(&folder, place)?;
    for _ in 1..LOOKS {
        // What a server was about to write may have been read in parts of different times.
        if !running || report.damage.is_empty() {
            break;
        }
        let again = look(&folder, place)?;
        let lasting = |finding: &Finding| report.damage.contains(finding);
        let damage = again.damage.iter().filter(|finding| lasting(finding)).cloned().collect();
        report = Report { damage, ..again };
    }
    if running {
        report.notes.retain(|finding| !finding.is_usual());
    }
    Ok(report)
}

fn look(folder: &Folder, place: &Place) -> Result<Report, Failure> {
    let recovery = folder.recover(place, false, "verify")?;
    let mut findings = recovery.findings.clone();
    check_snapshots(folder, place, &recovery, &mut findings);
    let (mut damage, mut notes) = (Vec::new(), Vec::new());
    for finding in findings {
        let known = finding.is_usual() || is_known_hole(folder, place, &finding);
        if known { notes.push(finding) } else { damage.push(finding) }
    }
    Ok(Report { recovery, damage, notes })
}

/// Snapshots were not used; they have to be whole, and nothing may be missing that was durable when they were taken.
fn check_snapshots(folder: &Folder, place: &Place, recovery: &Recovery, findings: &mut Vec<Finding>) {
    for age in 0..SNAPSHOTS {
        let file = LogFile::Snapshot(age);
        let Ok(Some(bytes)) = folder.read_small(file) else { continue };
        let found = match snapshot::decode(place.id, &bytes) {
            Ok(found) => found,
            Err(why) => {
                findings.push(Finding::SnapshotIgnored { file, why });
                continue;
            }
        };
        let end = recovery.log.end;
        let told = findings
            .iter()
            .any(|finding| matches!(finding, Finding::Quarantined { range, .. } if range.to == found.at));
        if found.at.offset <= end.offset || told {
            continue;
        }
        let torn = findings.iter().position(|finding| matches!(finding, Finding::TornTail { .. }));
        let (sequence, file_at, why) = match torn.map(|at| findings.remove(at)) {
            Some(Finding::TornTail { sequence, file_at, why, .. }) => (sequence, file_at, why),
            _ => {
                let last = recovery.log.segments.last();
                let file_at = last.map_or(0, |last| {
                    crate::commit_log::BLOCK_BYTES + last.end.position - last.base.position
                });
                (
                    last.map_or(found.sequence, |last| last.sequence),
                    file_at,
                    Damage::Flush(FlushFault::NotAFlush),
                )
            }
        };
        findings.push(Finding::Quarantined {
            sequence,
            range: Quarantined { from: end, to: found.at },
            file_at,
            why,
        });
    }
}

/// Whether a damaged range was emptied by `repair`, and is in the segment's index.
fn is_known_hole(folder: &Folder, place: &Place, finding: &Finding) -> bool {
    let Finding::Quarantined { sequence, range, why: Damage::Flush(FlushFault::NotAFlush), .. } = finding
    else {
        return false;
    };
    let bytes = folder.read_small(LogFile::Index(*sequence)).ok().flatten();
    let info: Option<SegmentInfo> = bytes.and_then(|bytes| index::decode(place.id, &bytes).ok());
    info.is_some_and(|info| info.quarantined.contains(range))
}

fn describe(place: &Place, report: &Report, text: &mut String) {
    let log = &report.recovery.log;
    let start = log.segments.first().map_or(log.end.offset, |first| first.base.offset);
    let verdict = if report.damage.is_empty() { "sound" } else { "DAMAGED" };
    let _ = writeln!(
        text,
        "{}: {verdict}; {}, offsets {start}..{}",
        place.name(),
        counted(log.segments.len() as u64, "segment"),
        log.end.offset
    );
    for finding in &report.damage {
        let _ = writeln!(text, "  damage: {finding}");
    }
    for finding in &report.notes {
        let _ = writeln!(text, "  note: {finding}");
    }
}

fn value(place: &Place, report: &Report) -> Value {
    let log = &report.recovery.log;
    json!({
        "topic": place.topic.as_ref().map(|(topic, _)| topic),
        "partition": place.topic.as_ref().map(|(_, number)| number),
        "partition_id": place.id.0,
        "directory": place.path,
        "sound": report.damage.is_empty(),
        "segments": log.segments.len(),
        "log_start_offset": log.segments.first().map_or(log.end.offset, |first| first.base.offset),
        "log_end_offset": log.end.offset,
        "bytes_read": report.recovery.bytes_read,
        "damage": report.damage.iter().map(finding_value).collect::<Vec<_>>(),
        "notes": report.notes.iter().map(finding_value).collect::<Vec<_>>(),
    })
}

/// A finding for programs.
pub fn finding_value(finding: &Finding) -> Value {
    let mut value = json!({
        "finding": finding.name(), "file": finding.file().name(), "message": finding.to_string(),
        "lost": finding.is_loss(),
    });
    let range = match finding {
        Finding::Quarantined { range, .. } | Finding::Missing { range, .. } => Some(*range),
        Finding::TornTail { at, .. } | Finding::FenceApplied { at } => {
            Some(Quarantined { from: *at, to: *at })
        }
        _ => None,
    };
    if let Some(Quarantined { from, to }) = range {
        value["from_offset"] = from.offset.into();
        value["to_offset"] = to.offset.into();
        value["from_position"] = from.position.into();
        value["to_position"] = to.position.into();
    }
    if let Finding::Quarantined { file_at, .. } | Finding::TornTail { file_at, .. } = finding {
        value["file_byte"] = (*file_at).into();
    }
    value
}
