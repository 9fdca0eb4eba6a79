//! A busy shard makes next to no other system call than io_uring_enter, and few of those: counted by strace on the
//! shard's thread of the real program. Skipped, with a line that says why (`--nocapture` shows it), where strace is
//! not installed or may not attach.

#[path = "support/load.rs"]
mod load;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use load::{Batches, Load};
use support::{Server, http, wait_for};

/// Batches acknowledged while strace counts.
const WINDOW_BATCHES: u64 = 4_000;
/// io_uring_enter in per cent of all calls, at least.
const ENTER_PERCENT_MIN: u64 = 95;

/// Calls for a thousand batches, at most: the busier, the fewer (15 to 50 where this was written).
const CALLS_PER_THOUSAND_MAX: u64 = 500;

/// The thread of the process with this name.
fn thread_named(pid: u32, name: &str) -> u32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    let mut tasks = tasks.map(|task| task.expect("an entry").path());
    let task =
        tasks.find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name));
    let task = task.unwrap_or_else(|| panic!("no thread {name}"));
    task.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a thread's id")
}

/// Calls by name, from the table of `strace -c`: the calls are the fourth column, the name is the last.
fn parse(table: &str) -> BTreeMap<String, u64> {
    let rows = table.lines().filter_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let calls = columns.get(3)?.parse().ok()?;
        columns.last().filter(|name| **name != "total").map(|name| ((*name).to_owned(), calls))
    });
    rows.collect()
}

/// What the thread calls while `until` runs; `Err` says why it cannot be counted here.
fn count_calls(thread: u32, table: &Path, until: impl FnOnce()) -> Result<BTreeMap<String, u64>, String> {
    let mut strace = Command::new("strace")
        .args(["-c", "-o"])
        .arg(table)
        .args(["-p", &thread.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("strace does not start ({error}): install it"))?;
    let mut said = String::new();
    // Kept open: strace says more when it ends.
    let mut stderr = BufReader::new(strace.stderr.take().expect("a pipe"));
    stderr.read_line(&mut said).expect("a pipe");
    if !said.contains("attached") {
        let _ = strace.wait();
        return Err(format!("strace may not attach ({}): allow ptrace", said.trim()));
    }
    until();
    let interrupted = Command::new("kill").args(["-INT", &strace.id().to_string()]).status();
    assert!(interrupted.expect("kill").success());
    strace.wait().expect("a child of this process");
    Ok(parse(&std::fs::read_to_string(table).expect("strace's table")))
}

struct Case {
    kind: &'static str,
    producers: usize,
    consumers: usize,
    batches: Batches,
    tier: &'static str,
}

/// Runs a load, and counts the shard's calls meanwhile.
fn check(case: &Case) -> Result<(), String> {
    let server =
        Server::start(&["--shards", "1", "--io-tier", case.tier, "--congestion-control", load::unpaced()]);
    let spec = format!(r#"{{"name":"t","partitions":1,"kind":"{}"}}"#, case.kind);
    assert_eq!(http(server.admin, "POST", "/v1/topics", &spec).expect("an answer").0, 201);
    let directory = tempfile::tempdir().expect("a directory");
    let thread = thread_named(server.pid(), "shard-0");
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut load = Load::new(server.data, "t", case.batches);
    load.consume(case.consumers).produce(case.producers);
    let (calls, batches) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                load.run(500);
                acknowledged.store(load.acknowledged(), Ordering::Relaxed);
            }
        });
        wait_for("the load to begin", || (acknowledged.load(Ordering::Relaxed) > 0).then_some(()));
        let first = acknowledged.load(Ordering::Relaxed);
        let calls = count_calls(thread, &directory.path().join("table"), || {
            let enough = || acknowledged.load(Ordering::Relaxed) >= first + WINDOW_BATCHES;
            wait_for("the window's batches", || enough().then_some(()));
        });
        let batches = acknowledged.load(Ordering::Relaxed) - first;
        stop.store(true, Ordering::Relaxed);
        calls.map(|calls| (calls, batches))
    })?;
    assert!(server.metric("uringest_batches_accepted_total") > WINDOW_BATCHES as f64);
    let all: u64 = calls.values().sum();
    let enters = calls.get("io_uring_enter").copied().unwrap_or(0);
    let what = format!(
        "{}, {} producers, {} consumers, {} B, tier {}: {all} calls for {batches} batches: {calls:?}",
        case.kind, case.producers, case.consumers, case.batches.frame_bytes, case.tier
    );
    println!("{what}");
    assert!(enters > 0, "{what}");
    assert!(enters * 100 >= all * ENTER_PERCENT_MIN, "{what}");
    assert!(all * 1_000 <= CALLS_PER_THOUSAND_MAX * batches, "{what}");
    Ok(())
}

const SMALL: Batches = Batches { frame_bytes: 1_024, record_bytes: 100 };
const BULK: Batches = Batches { frame_bytes: 16 * 1_024, record_bytes: 256 };

fn run(cases: &[Case]) {
    for case in cases {
        if let Err(why) = check(case) {
            return println!("SKIPPED: {why}");
        }
    }
}

#[test]
fn a_busy_shard_calls_io_uring_enter_and_nothing_else() {
    run(&[
        Case { kind: "memory", producers: 4, consumers: 0, batches: SMALL, tier: "2" },
        Case { kind: "live", producers: 4, consumers: 2, batches: SMALL, tier: "2" },
        Case { kind: "live", producers: 2, consumers: 1, batches: BULK, tier: "2" },
        Case { kind: "memory", producers: 32, consumers: 1, batches: BULK, tier: "2" },
    ]);
}

#[test]
fn tier_1_needs_no_other_calls_either() {
    run(&[Case { kind: "memory", producers: 4, consumers: 1, batches: SMALL, tier: "1" }]);
}
