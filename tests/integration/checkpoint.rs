//! `pub --checkpoint`: what the file says, and what a later run makes of it.

use std::path::Path;

use serde_json::Value;
use uringest::time::parse_time;

use crate::rig::{Case, Program, assert_at_most, assert_each_once, ended, lines, numbers, offsets, wait_for_number};
use crate::support::Server;

const LINES: u64 = 300_000;
/// The documents' promise for `kill -9`, ...
const TWICE_NS: u64 = 100_000_000;
/// ... and what a loaded machine may add: a write to a disk, and a turn of a thread.
const SLACK_NS: u64 = 900_000_000;

/// `pub` of a file with a checkpoint.
fn start(server: &Server, file: &Path, checkpoint: &Path) -> Program {
    let (file, checkpoint) = (file.to_str().expect("UTF-8"), checkpoint.to_str().expect("UTF-8"));
    let url = server.url();
    // Small batches, so that it takes long enough to be ended in the middle.
    let args = ["pub", "lines", "--file", file, "--checkpoint", checkpoint, "--batch-bytes", "256", "--server", &url];
    Program::start(&args)
}

struct Setting {
    _directory: tempfile::TempDir,
    server: Server,
    file: std::path::PathBuf,
    checkpoint: std::path::PathBuf,
}

fn setting() -> Setting {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, checkpoint) = (directory.path().join("lines"), directory.path().join("done"));
    std::fs::write(&file, lines(1..=LINES)).expect("written");
    Setting { _directory: directory, server: Server::start(&["--shards", "2"]), file, checkpoint }
}

fn read(checkpoint: &Path) -> u64 {
    let text = std::fs::read_to_string(checkpoint).expect("a checkpoint");
    assert!(text.ends_with('\n'), "a whole line: {text:?}");
    text.trim().parse().expect("a number")
}

/// All that the topic has.
fn published(server: &Server, form: &[&str]) -> String {
    let (start, end) = offsets(server, "lines");
    let count = (end - start).to_string();
    let args = ["sub", "lines", "--from", "earliest", "--count", &count, "--server", &server.url()];
    let (code, stdout, stderr) = ended(&[&args[..], form].concat());
    assert_eq!(code, Some(0), "{stderr}");
    stdout
}

#[test]
fn a_killed_publisher_loses_nothing_and_doubles_little() {
    let _case = Case::begin();
    let Setting { server, file, checkpoint, .. } = &setting();
    let mut killed = start(server, file, checkpoint);
    wait_for_number(checkpoint, 1);
    killed.signal("KILL");
    assert_eq!(killed.wait(), None, "{}", killed.err());
    let known = read(checkpoint);
    let first_run = offsets(server, "lines").1;
    assert!(known > 0 && known <= first_run, "{known} known to be acknowledged, {first_run} published");
    assert!(first_run < LINES, "it was killed in the middle");
    let mut second = start(server, file, checkpoint);
    assert_eq!(second.wait(), Some(0), "{}", second.err());
    assert_eq!(read(checkpoint), LINES);
    let said = String::from_utf8(second.out()).expect("text");
    assert!(said.contains(&format!("behind the {known} of earlier runs")), "{said}");
    // The first run's records, then those behind the checkpoint: none missing.
    let got = published(server, &["-o", "json"]);
    let records: Vec<Value> = got.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let payloads: Vec<u64> =
        records.iter().map(|record| record["payload"].as_str().expect("text").parse().expect("it")).collect();
    let first = records.len() - usize::try_from(LINES - known).expect("few");
    assert_each_once(&payloads[first..], known + 1..=LINES);
    assert_each_once(&payloads[..first], 1..=u64::try_from(first).expect("few"));
    // Those twice were published within the promised time.
    let doubled = &records[usize::try_from(known).expect("few")..first];
    if let (Some(one), Some(last)) = (doubled.first(), doubled.last()) {
        let at = |record: &Value| parse_time(record["time"].as_str().expect("a time"), 0).expect("a time");
        assert_at_most("ns between the records published twice", at(last) - at(one), TWICE_NS + SLACK_NS);
    }
}

#[test]
fn an_interrupted_publisher_doubles_nothing() {
    let _case = Case::begin();
    let Setting { server, file, checkpoint, .. } = &setting();
    let mut before = 0;
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut interrupted = start(server, file, checkpoint);
        wait_for_number(checkpoint, before + 1);
        interrupted.signal(signal);
        assert_eq!(interrupted.wait(), Some(code), "{}", interrupted.err());
        before = read(checkpoint);
        assert_eq!(before, offsets(server, "lines").1, "what is published is known to be");
        assert!(before < LINES, "it was interrupted in the middle");
    }
    let mut last = start(server, file, checkpoint);
    assert_eq!(last.wait(), Some(0), "{}", last.err());
    assert_each_once(&numbers(published(server, &[]).as_bytes()), 1..=LINES);
    // Once more there is nothing to do.
    let mut again = start(server, file, checkpoint);
    assert_eq!(again.wait(), Some(0), "{}", again.err());
    assert_eq!(offsets(server, "lines").1, LINES);
}

#[test]
fn a_checkpoint_that_is_none_is_refused() {
    let _case = Case::begin();
    let Setting { server, file, checkpoint, .. } = &setting();
    std::fs::write(checkpoint, "yesterday\n").expect("written");
    let mut refused = start(server, file, checkpoint);
    assert_eq!(refused.wait(), Some(2), "{}", refused.err());
    assert!(refused.err().contains("yesterday") && refused.err().contains("try:"), "{}", refused.err());
    assert_eq!(std::fs::read_to_string(checkpoint).expect("kept"), "yesterday\n");
}
