//! Connections that do nothing cost next to nothing. `IDLE_CONNECTIONS=10000` makes it ten thousand.

use std::io::{ErrorKind, Read as _};
use std::process::Command;
use std::time::Duration;

use crate::raw::Peer;
use crate::rig::{Case, Program, assert_at_most, assert_each_once, metric, publish, resident_kib, scenarios};
use crate::support::Server;

scenarios! {
    idle_connections_cost_little on best tier_1 epoll;
}

/// So many that a huge page more or less, of memory that is mapped twice, is below 1 KiB each.
const CONNECTIONS: usize = 5_000;
/// Bytes of the server's resident memory for each.
const BYTES_EACH: u64 = 4096;
/// How long the server is watched while it should do nothing.
const WATCH: Duration = Duration::from_secs(2);
/// Processor time it may take meanwhile; the clock's step is 10 ms.
const BUSY: Duration = Duration::from_millis(60);

/// Files this process and the server that it starts may have open: raised as far as it takes.
fn allow_open_files(wanted: usize) {
    let pid = std::process::id().to_string();
    let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit of files");
    let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap_or(usize::MAX));
    let (soft, hard) = (numbers.next().expect("a limit"), numbers.next().expect("a limit"));
    if soft >= wanted {
        return;
    }
    assert!(hard >= wanted, "{wanted} files have to be open; ulimit -Hn says {hard}");
    let raised = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={hard}:{hard}")]).status();
    assert!(raised.expect("prlimit of util-linux").success());
}

/// Processor time of the server so far.
fn busy_seconds(server: &Server) -> f64 {
    metric(server, "process_cpu_seconds_total")
}

fn idle_connections_cost_little(case: &Case) {
    let given = std::env::var("IDLE_CONNECTIONS").ok();
    let count = given.map_or(CONNECTIONS, |count| count.parse().expect("IDLE_CONNECTIONS is a number"));
    // Those of the server beside connections too: it lets fewer in where they would lack.
    allow_open_files(count + 200 + 1_024);
    // The tables for connections are there from the start: against a server that has room for few.
    let few = case.start(&["--shards", "2", "--limits-connections-max", "64"]);
    publish(&few, "lines", 1..=1_000, &[]);
    let before = resident_kib(&few);
    drop(few);
    let room = (count + 200).to_string();
    let server = case.start(&["--shards", "2", "--limits-connections-max", &room]);
    publish(&server, "lines", 1..=1_000, &[]);
    let mut peers: Vec<Peer> = (0..count).map(|_| Peer::greeted(server.data)).collect();
    let grown_bytes = resident_kib(&server).saturating_sub(before) * 1024;
    let each = grown_bytes / u64::try_from(count).expect("few");
    assert_at_most("bytes of resident memory for each idle connection", each, BYTES_EACH);
    let busy = busy_seconds(&server);
    // Waiting for a byte that must not come is the watch.
    peers[0].0.set_read_timeout(Some(WATCH)).expect("a socket");
    let unasked = peers[0].0.read(&mut [0; 64]).expect_err("an idle connection is told nothing");
    assert!(matches!(unasked.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{unasked}");
    assert_at_most("seconds of processor time", busy_seconds(&server) - busy, BUSY.as_secs_f64());
    let open = metric(&server, "uringest_open_connections");
    assert!((open - count as f64).abs() < 0.5, "all are still open: {open}");
    let mut sub = Program::attached(&server, "lines", &["--count", "10000"]);
    publish(&server, "lines", 1..=10_000, &[]);
    assert_each_once(&sub.numbers(), 1..=10_000);
    eprintln!("{count} idle connections: {each} bytes each");
}
