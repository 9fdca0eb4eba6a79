//! `pub --checkpoint`: what the file says, and what a later run makes of it.

use std::path::Path;

use serde_json::Value;
use uringest::time::parse_time;

use crate::rig::{
    Case, Program, assert_at_most, assert_each_once, ended, lines, numbers, offsets, scenarios,
    wait_for_number,
};
use crate::support::Server;

scenarios! {
    a_killed_publisher_loses_nothing_and_doubles_little on best;
    an_interrupted_publisher_doubles_nothing on best;
    a_checkpoint_that_is_none_is_refused on best;
}

const LINES: u64 = 1_500_000;
/// The documents' promise for `kill -9`, ...
const TWICE_NS: u64 = 100_000_000;
/// ... and what a loaded machine may add: a write to a disk, and a turn of a thread.
const SLACK_NS: u64 = 900_000_000;

/// `pub` of a file with a checkpoint.
fn start(server: &Server, file: &Path, checkpoint: &Path) -> Program {
    let (file, checkpoint) = (file.to_str().expect("UTF-8"), checkpoint.to_str().expect("UTF-8"));
    let url = server.url();
    // Small batches, so that it takes long enough to be ended in the middle.
    let args = [
        "pub",
        "lines",
        "--file",
        file,
        "--checkpoint",
        checkpoint,
        "--batch-bytes",
        "256",
        "--server",
        &url,
    ];
    Program::start(&args)
}

struct Setting {
    _directory: tempfile::TempDir,
    server: Server,
    file: std::path::PathBuf,
    checkpoint: std::path::PathBuf,
}

fn setting(case: &Case) -> Setting {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, checkpoint) = (directory.path().join("lines"), directory.path().join("done"));
    std::fs::write(&file, lines(1..=LINES)).expect("written");
    Setting { _directory: directory, server: case.start(&["--shards", "2"]), file, checkpoint }
}

fn read(checkpoint: &Path) -> u64 {
    let text = std::fs::read_to_string(checkpoint).expect("a checkpoint");
    assert!(text.ends_with('\n'), "a whole line: {text:?}");
    text.trim().parse().expect("a number")
}

/// So many of the topic's records from an offset on, in this form.
fn published(server: &Server, from: u64, count: u64, form: &str) -> String {
    let (from, count) = (from.to_string(), count.to_string());
    let args = ["sub", "lines", "--from", &from, "--count", &count, "-o", form, "--server", &server.url()];
    let (code, stdout, stderr) = ended(&args);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    stdout
}

fn a_killed_publisher_loses_nothing_and_doubles_little(case: &Case) {
    let Setting { server, file, checkpoint, .. } = &setting(case);
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
    let end = offsets(server, "lines").1;
    let got = numbers(published(server, 0, end, "raw").as_bytes());
    let first = end - (LINES - known);
    let (before, behind) = got.split_at(usize::try_from(first).expect("few"));
    assert_each_once(before, 1..=first);
    assert_each_once(behind, known + 1..=LINES);
    // Those twice were published within the promised time.
    if first > known {
        let doubled = published(server, known, first - known, "json");
        let at = |line: Option<&str>| {
            let record: Value = serde_json::from_str(line.expect("a record")).expect("JSON");
            parse_time(record["time"].as_str().expect("a time"), 0).expect("a time")
        };
        let took_ns = at(doubled.lines().last()) - at(doubled.lines().next());
        assert_at_most("ns between the records published twice", took_ns, TWICE_NS + SLACK_NS);
    }
}

fn an_interrupted_publisher_doubles_nothing(case: &Case) {
    let Setting { server, file, checkpoint, .. } = &setting(case);
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
    assert_each_once(&numbers(published(server, 0, LINES, "raw").as_bytes()), 1..=LINES);
    // Once more there is nothing to do.
    let mut again = start(server, file, checkpoint);
    assert_eq!(again.wait(), Some(0), "{}", again.err());
    assert_eq!(offsets(server, "lines").1, LINES);
}

fn a_checkpoint_that_is_none_is_refused(case: &Case) {
    let Setting { server, file, checkpoint, .. } = &setting(case);
    std::fs::write(checkpoint, "yesterday\n").expect("written");
    let mut refused = start(server, file, checkpoint);
    assert_eq!(refused.wait(), Some(2), "{}", refused.err());
    assert!(refused.err().contains("yesterday") && refused.err().contains("try:"), "{}", refused.err());
    assert_eq!(std::fs::read_to_string(checkpoint).expect("kept"), "yesterday\n");
}
