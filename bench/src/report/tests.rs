//! Results by hand: the page they make, and how a report goes on after an interruption.
//!
//! The page and its charts are held to `golden/`, byte for byte; `URINGEST_BLESS=1 cargo test -p uringest-bench report`
//! writes them anew, to be looked at before they are committed.

mod fixture;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::conduct::go_on;
use super::page::{PAGE, render};
use super::results::{FILE, Results};
use super::who::Who;
use super::{interrupted, write_page};
use crate::failure::Failure;
use crate::outcome::COMMIT;
use fixture::{outcome, results};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/golden")
}

#[test]
fn the_page_is_the_golden_one() {
    let files = render(&results());
    assert_eq!(files[0].name, PAGE);
    if std::env::var_os("URINGEST_BLESS").is_some() {
        std::fs::create_dir_all(golden()).expect("a directory");
        for entry in std::fs::read_dir(golden()).expect("a directory").flatten() {
            std::fs::remove_file(entry.path()).expect("a file");
        }
        for file in &files {
            std::fs::write(golden().join(&file.name), &file.text).expect("a file");
        }
    }
    for file in &files {
        let path = golden().join(&file.name);
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        let line = there.lines().zip(file.text.lines()).position(|(a, b)| a != b);
        assert!(
            there == file.text,
            "{} differs, first in line {:?}",
            path.display(),
            line.map(|line| line + 1)
        );
    }
    let entries = std::fs::read_dir(golden()).expect("golden files").flatten();
    let there: BTreeSet<String> = entries.map(|entry| entry.file_name().to_string_lossy().into()).collect();
    assert_eq!(there, files.iter().map(|file| file.name.clone()).collect(), "no file is left over");
}

#[test]
fn charts_are_linked_whole_and_have_no_strangers() {
    let files = render(&results());
    let page = &files[0].text;
    assert_eq!(
        page.matches("](").filter(|_| true).count() - 2,
        files.len() - 1,
        "results.json, #conditions, charts"
    );
    for chart in &files[1..] {
        assert!(page.contains(&format!("({})", chart.name)), "{}", chart.name);
        super::chart::tests::check(&chart.text);
    }
}

#[test]
fn the_page_has_what_a_reader_asks_for() {
    let text = &render(&results())[0].text;
    for part in [
        "Linux 6.18.4",
        "Some CPU, 2 online",
        "| NATS | 2.10.1 | ",
        "cubic",
        "Redis pub/sub: redis-server is not on the PATH",
        "ingest, 1 KiB: NATS: a connection of the load: reset",
        "the load was the bottleneck",
        "(23.5 – 24.5)",
        "| ceiling, io_uring | 16.4 (16.2 – 16.5) |", // with the copy
        "p99, µs",
        "÷ ceiling",
        "--resume",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("NaN") && !text.contains("inf "));
    let mut unfinished = results();
    unfinished.failed.clear();
    unfinished.runs.pop();
    assert!(render(&unfinished)[0].text.contains("**Unfinished**"));
}

#[test]
fn nothing_measured_is_a_page_too() {
    let empty = Results { runs: Vec::new(), ..results() };
    let files = render(&empty);
    assert_eq!(files.len(), 1, "no charts");
    assert!(files[0].text.contains("**Unfinished**"));
}

#[test]
fn results_are_read_as_they_were_written() {
    let results = results();
    let text = results.to_json();
    assert_eq!(Results::parse(&text).expect("results"), results);
    assert!(text.lines().count() > results.runs.len(), "a line a run");
    let other = text.replacen("\"format\": 1", "\"format\": 2", 1);
    assert!(Results::parse(&other).is_err_and(|error| error.contains("format 2")));
    let stranger = text.replacen("{\"cell\":0", "{\"cell\":99", 1);
    assert!(Results::parse(&stranger).is_err_and(|error| error.contains("no cell")));
}

#[test]
fn everybody_takes_turns() {
    let results = results();
    let planned: Vec<_> = results.planned().filter(|(cell, ..)| *cell == 0).collect();
    let first = |round: u16| planned.iter().find(|run| run.2 == round).expect("a round").1;
    assert_ne!(first(0), first(1));
    assert!(planned.iter().all(|run| run.1 != Who::RedisPubsub), "who is absent has no turn");
    let unique: BTreeSet<_> = planned.iter().collect();
    assert_eq!(unique.len(), planned.len());
}

#[test]
fn an_interrupted_report_goes_on_where_it_was() {
    let whole = results();
    let mut results = whole.clone();
    results.failed.clear();
    let kept = 10;
    results.runs.truncate(kept);
    let missing = results.missing();
    let (asked, written) = (RefCell::new(Vec::new()), RefCell::new(0));
    let once = |results: &Results, cell: usize, who, _: &mut crate::progress::Progress| {
        asked.borrow_mut().push((cell, who));
        assert!(cell < results.cells.len());
        Ok(outcome(&results.cells[cell], who, 0))
    };
    let done = |results: &Results| {
        *written.borrow_mut() += 1;
        assert_eq!(results.runs.len(), kept + *written.borrow());
        Ok(())
    };
    go_on(&mut results, once, done).expect("nothing is written");
    assert_eq!(asked.into_inner(), missing.iter().map(|run| (run.0, run.1)).collect::<Vec<_>>());
    assert!(results.missing().is_empty());
    let curves = results.runs[kept..]
        .iter()
        .filter(|run| run.outcome.flows.iter().any(|flow| !flow.latency_curve_us.is_empty()));
    assert!(curves.clone().count() > 0 && curves.into_iter().all(|run| run.outcome.rate_per_s > 0));
}

#[test]
fn what_fails_is_noted_once_and_stops_nothing() {
    let mut results = Results { runs: Vec::new(), failed: Vec::new(), ..results() };
    let tries = RefCell::new(0);
    let once = |results: &Results, cell: usize, who, _: &mut crate::progress::Progress| {
        if who == Who::Nats {
            *tries.borrow_mut() += 1;
            return Err(Failure::Unsupported("broken".into()));
        }
        Ok(outcome(&results.cells[cell], who, 0))
    };
    go_on(&mut results, once, |_| Ok(())).expect("nothing is written");
    let cells = results.cells.iter().filter(|cell| cell.who.contains(&Who::Nats)).count();
    assert_eq!((tries.into_inner(), results.failed.len()), (cells, cells), "not again in later rounds");
    assert!(results.missing().iter().all(|run| run.1 == Who::Nats), "everything else was measured");
}

#[test]
fn the_newest_unfinished_report_of_this_commit_is_found() {
    let out = tempfile::tempdir().expect("a directory");
    assert!(interrupted(out.path()).is_err());
    let machine = super::names::machine(&crate::host::Machine::this());
    let put = |name: &str, begun_unix_s: u64, commit: &str, finished: bool| {
        let mut results = Results { begun_unix_s, commit: commit.into(), ..results() };
        if finished {
            results.cells.clear();
            results.runs.clear();
            results.failed.clear();
        }
        results.write(&out.path().join(&machine).join(name)).expect("a file");
    };
    put("a", 1, COMMIT, false);
    put("b", 3, COMMIT, true);
    put("c", 2, COMMIT, false);
    put("d", 4, "another", false);
    let (directory, found) = interrupted(out.path()).expect("one");
    assert_eq!((directory.file_name().and_then(|name| name.to_str()), found.begun_unix_s), (Some("c"), 2));
    write_page(&found, &directory).expect("a page");
    let (page, json) = (directory.join(PAGE), directory.join(FILE));
    assert!(page.is_file() && json.is_file());
}
