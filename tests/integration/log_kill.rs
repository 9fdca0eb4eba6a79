//! A server of logs that is killed again and again, under load and while it starts: whatever was acknowledged as written
//! or durable is served afterwards, once and in order, and producers that never were told anything else go on.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use uringest::client::{AckLevel, Start};

use crate::log_rig::{Got, Writer, check, read_all, read_from};
use crate::rig::{Case, Random, create, scenarios};
use crate::support::uringest;

scenarios! {
    what_was_acknowledged_survives_kills_on_one_shard on best epoll;
    what_was_acknowledged_survives_kills_on_two_shards on best epoll;
}

/// Of each of the four runs: a hundred together.
const KILLS: usize = 25;
const PARTITIONS: u32 = 2;
/// Writers of each partition; every other one asks for `durable`.
const WRITERS: u64 = 3;
/// Records that each writer may send in a round: more than it does in [`LOAD_MS`], so that there is load at each kill,
/// and a bound, so that a slow machine does not have all the more to read for being slow.
const ROUND_RECORDS: u64 = 2_000;
/// Records that are read again each time.
const OVERLAP: usize = 2_000;
/// How long the load goes on before a kill, at most.
const LOAD_MS: usize = 150;
/// How long a start goes on before it is killed too, at most.
const START_MS: usize = 60;

fn what_was_acknowledged_survives_kills_on_one_shard(case: &Case) {
    killed(case, "1");
}

fn what_was_acknowledged_survives_kills_on_two_shards(case: &Case) {
    killed(case, "2");
}

fn killed(case: &Case, shards: &str) {
    let mut random = case.random();
    eprintln!("INTEGRATION_SEED={}", case.seed());
    let directory = tempfile::tempdir().expect("a directory");
    // Small files and frequent snapshots, so that kills come at all of their moments.
    let args = ["--shards", shards, "--storage-segment-bytes", "1MiB", "--storage-snapshot-bytes", "1MiB"];
    let mut server = case.start_in(directory.path(), &args);
    let (data, admin) = (server.data, server.admin);
    create(&server, "events", &["--kind", "log", "--partitions", &PARTITIONS.to_string()]);
    let writers: Vec<Writer> = (0..u64::from(PARTITIONS) * WRITERS)
        .map(|id| {
            let level = if id % 2 == 0 { AckLevel::Written } else { AckLevel::Durable };
            let partition = u32::try_from(id / WRITERS).expect("few");
            Writer::connect(&server, "events", id + 1, partition, Some(level))
        })
        .collect();
    let stop = AtomicBool::new(false);
    let allowed = AtomicU64::new(0);
    let allowed_now = || allowed.load(Ordering::Relaxed);
    let mut before: Vec<Vec<Got>> = vec![Vec::new(); PARTITIONS as usize];
    std::thread::scope(|scope| {
        let loads: Vec<_> =
            writers.iter().map(|writer| scope.spawn(|| writer.send_until(&stop, allowed_now))).collect();
        let stopped = StopAtTheEnd(&stop);
        for round in 0..KILLS {
            allowed.fetch_add(ROUND_RECORDS, Ordering::Relaxed);
            std::thread::park_timeout(Duration::from_millis(
                u64::try_from(random.below(LOAD_MS)).expect("few"),
            ));
            server.signal("KILL");
            server.wait();
            let acked: Vec<u64> = writers.iter().map(Writer::acked).collect();
            if round % 4 == 3 {
                kill_a_start(case, directory.path(), (data, admin), &args, &mut random);
            }
            server = case.start_at(directory.path(), data, admin, &args);
            for (partition, before) in (0_u32..).zip(&mut before) {
                // All of it every now and then; else what is new, and some of what was served before.
                let from = if round % 8 == 7 { 0 } else { before.len().saturating_sub(OVERLAP) };
                let got = read_from(&server, "events", partition, Start::Offset(from as u64));
                let known = before.len() - from;
                assert!(got.len() >= known, "round {round}: what was served is still there");
                assert!(got[..known] == before[from..], "round {round}: what was served is served as it was");
                before.extend_from_slice(&got[known..]);
                let own = |(writer, _): &(&Writer, u64)| writer.partition == partition;
                check(before, writers.iter().zip(acked.iter().copied()).filter(own));
            }
        }
        drop(stopped);
        loads.into_iter().for_each(|load| load.join().expect("it only sends"));
    });
    writers.iter().for_each(Writer::flush);
    for partition in 0..PARTITIONS {
        let got = read_all(&server, "events", partition);
        let own: Vec<&Writer> = writers.iter().filter(|writer| writer.partition == partition).collect();
        check(&got, own.iter().map(|writer| (*writer, writer.acked())));
        let sent: u64 = own.iter().map(|writer| writer.sent()).sum();
        assert_eq!(got.len() as u64, sent, "each record once");
        for writer in own {
            let told = writer.told.lock().expect("not poisoned");
            assert_eq!(told.level, writer.level, "never less than what was asked for");
            assert!(told.acked > KILLS as u64, "something was published in between: {}", told.acked);
        }
    }
}

/// Starts a server and kills it before or soon after it is ready.
fn kill_a_start(
    case: &Case,
    directory: &Path,
    (data, admin): (SocketAddr, SocketAddr),
    args: &[&str],
    random: &mut Random,
) {
    let mut command: Command =
        uringest(&["serve", "--listen", &data.to_string(), "--admin", &admin.to_string()]);
    command.arg("--data").arg(directory.join("data")).args(case.io()).args(args);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it");
    std::thread::park_timeout(Duration::from_millis(u64::try_from(random.below(START_MS)).expect("few")));
    child.kill().expect("a child of this process");
    child.wait().expect("a child of this process");
}

/// Tells the loads to stop, also when the test fails.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
