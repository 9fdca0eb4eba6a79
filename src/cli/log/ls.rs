//! `log ls`: partitions, or the segments of one.

use serde_json::{Value, json};

use super::super::Outcome;
use super::super::exit::{Output, print, print_json, table};
use super::super::progress::about;
use super::Where;
use super::folder::Folder;
use super::place::{Found, Kind, Place, find};
use crate::commit_log::recovery::Recovery;
use crate::time::format_utc;

/// Runs the command.
pub fn run(asked: &Where) -> Outcome {
    let found = find(asked)?;
    if found.kind == Kind::Partition || (found.places.len() == 1 && asked.partition.is_some()) {
        return segments(asked, &found.places[0]);
    }
    partitions(asked, &found)
}

fn partitions(asked: &Where, found: &Found) -> Outcome {
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for place in &found.places {
        let folder = Folder::new(place, false);
        let recovery = folder.recover(place, true, "look at")?;
        let log = &recovery.log;
        let start = log.segments.first().map_or(log.end.offset, |first| first.base.offset);
        let (bytes, segments) = (folder.bytes(), log.segments.len());
        let last = time(log.last_append_ns);
        rows.push(vec![
            place.name(),
            place.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            segments.to_string(),
            about(bytes),
            start.to_string(),
            log.end.offset.to_string(),
            lost(&recovery).to_string(),
            last.clone(),
        ]);
        values.push(json!({
            "topic": place.topic.as_ref().map(|(topic, _)| topic),
            "partition": place.topic.as_ref().map(|(_, number)| number),
            "partition_id": place.id.0,
            "directory": place.path,
            "segments": segments,
            "bytes": bytes,
            "log_start_offset": start,
            "log_end_offset": log.end.offset,
            "quarantined_records": lost(&recovery),
            "last_append_ns": log.last_append_ns,
        }));
    }
    if asked.output == Output::Json {
        return print_json(&json!({ "running": found.running, "partitions": values }));
    }
    let head = ["LOG", "DIRECTORY", "SEGMENTS", "BYTES", "FIRST", "END", "LOST", "LAST APPENDED"];
    let note = if found.running { "a server runs on this directory: its logs go on\n" } else { "" };
    print(&(table(&head, &[2, 3, 4, 5, 6], &rows) + note))
}

fn lost(recovery: &Recovery) -> u64 {
    let ranges = recovery.log.segments.iter().flat_map(|info| &info.quarantined);
    ranges.map(|range| range.to.offset - range.from.offset).sum()
}

fn segments(asked: &Where, place: &Place) -> Outcome {
    let folder = Folder::new(place, false);
    let recovery = folder.recover(place, true, "look at")?;
    let mut rows = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    for info in &recovery.log.segments {
        let lost: u64 = info.quarantined.iter().map(|range| range.to.offset - range.from.offset).sum();
        let bytes = info.end.position - info.base.position;
        rows.push(vec![
            info.sequence.to_string(),
            about(bytes),
            info.base.offset.to_string(),
            info.end.offset.to_string(),
            lost.to_string(),
            info.base.position.to_string(),
            info.index.len().to_string(),
            time(info.first_time_ns),
            time(info.last_time_ns),
        ]);
        values.push(json!({
            "sequence": info.sequence,
            "bytes": bytes,
            "first_offset": info.base.offset,
            "end_offset": info.end.offset,
            "quarantined_records": lost,
            "base_position": info.base.position,
            "end_position": info.end.position,
            "index_entries": info.index.len(),
            "first_time_ns": info.first_time_ns,
            "last_time_ns": info.last_time_ns,
        }));
    }
    if asked.output == Output::Json {
        return print_json(&json!({ "partition_id": place.id.0, "segments": values }));
    }
    let head = ["SEGMENT", "BYTES", "FIRST", "END", "LOST", "POSITION", "INDEX", "FROM", "TO"];
    print(&table(&head, &[0, 1, 2, 3, 4, 5, 6], &rows))
}

/// A time, or a dash where there is none.
pub fn time(ns: u64) -> String {
    if ns == 0 { "-".to_owned() } else { format_utc(ns) }
}
