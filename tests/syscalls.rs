//! A busy shard makes next to no other system calls than its backend's, and few of those: counted by strace on the
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
/// The backend's own calls in per cent of all, at least.
const OWN_PERCENT_MIN: u64 = 95;

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
    /// The backend.
    io: &'static [&'static str],
    /// Its calls.
    own: &'static [&'static str],
    /// Calls for a thousand batches, at most.
    calls_per_thousand_max: u64,
}

/// Runs a load, and counts the shard's calls meanwhile.
fn check(case: &Case) -> Result<(), String> {
    let args = [&["--shards", "1", "--congestion-control", load::unpaced()], case.io].concat();
    let server = Server::start(&args);
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
    let own: u64 = case.own.iter().filter_map(|call| calls.get(*call)).sum();
    let what = format!(
        "{}, {} producers, {} consumers, {} B, {:?}: {all} calls for {batches} batches: {calls:?}",
        case.kind, case.producers, case.consumers, case.batches.frame_bytes, case.io
    );
    println!("{what}");
    assert!(own > 0, "{what}");
    assert!(own * 100 >= all * OWN_PERCENT_MIN, "{what}");
    assert!(all * 1_000 <= case.calls_per_thousand_max * batches, "{what}");
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

/// io_uring: the busier, the fewer (15 to 50 calls for a thousand batches where this was written).
#[cfg(feature = "uring")]
const fn uring(
    tier: &'static [&'static str],
    kind: &'static str,
    (producers, consumers): (usize, usize),
    batches: Batches,
) -> Case {
    let own = &["io_uring_enter"];
    Case { kind, producers, consumers, batches, io: tier, own, calls_per_thousand_max: 500 }
}

#[cfg(feature = "uring")]
#[test]
fn a_busy_shard_calls_io_uring_enter_and_nothing_else() {
    const TIER_2: &[&str] = &["--io-tier", "2"];
    run(&[
        uring(TIER_2, "memory", (4, 0), SMALL),
        uring(TIER_2, "live", (4, 2), SMALL),
        uring(TIER_2, "live", (2, 1), BULK),
        uring(TIER_2, "memory", (32, 1), BULK),
    ]);
}

#[cfg(feature = "uring")]
#[test]
fn tier_1_needs_no_other_calls_either() {
    run(&[uring(&["--io-tier", "1"], "memory", (4, 1), SMALL)]);
}

/// epoll: one wait for many sockets, a call for each receive and each send, and a last receive that finds nothing.
#[cfg(feature = "epoll")]
#[test]
fn a_busy_epoll_shard_waits_receives_and_sends_and_nothing_else() {
    const OWN: &[&str] = &["epoll_wait", "epoll_pwait2", "recvfrom", "recvmsg", "sendto", "sendmsg"];
    let case = |kind, (producers, consumers), batches, calls_per_thousand_max| {
        let io: &[&str] = &["--io", "epoll"];
        Case { kind, producers, consumers, batches, io, own: OWN, calls_per_thousand_max }
    };
    run(&[case("memory", (4, 1), SMALL, 500), case("live", (2, 1), BULK, 1_500)]);
}
