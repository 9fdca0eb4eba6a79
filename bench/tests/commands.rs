//! The command line: comparing, listing, refusing, and leaving nothing behind.

mod support;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use support::{bench, command, number, one_object, placement, run, server};

const PATIENCE: Duration = Duration::from_secs(30);
/// linux/capability.h
const CAP_SYS_RESOURCE: libc::c_ulong = 24;

#[test]
fn two_programs_are_compared_in_turns() {
    let program = server();
    let mut arguments = vec!["ab", "deliver", "--rounds", "3", "--seconds", "0.1", "--json", "--against"];
    arguments.push(program.to_str().expect("a path of ASCII"));
    arguments.extend(placement());
    let output = bench(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let comparison = one_object(&output);
    assert_eq!(comparison["rounds"].as_array().map(Vec::len), Some(3));
    let figures = comparison["figures"].as_array().expect("figures");
    assert_eq!(figures[0]["name"], "server_cpu_ns_per_delivery");
    for figure in figures {
        let (ratio, a, b) = (number(&figure["ratio"]), number(&figure["a"]), number(&figure["b"]));
        assert!((ratio - a / b).abs() < 1e-6, "{figure}");
        let (low, high) = (number(&figure["interval"][0]), number(&figure["interval"][1]));
        assert!(low <= ratio && ratio <= high, "{figure}");
    }
    let sentence = comparison["recommendation"].as_str().expect("a sentence");
    assert!(sentence.starts_with("On this host this over ") && sentence.ends_with('.'), "{sentence}");
    // The order of the sides changes with every round.
    let order: Vec<bool> = said
        .lines()
        .filter_map(|line| line.strip_prefix("round ")?.split_once(": "))
        .map(|(_, rest)| rest.starts_with("this"))
        .collect();
    assert_eq!(order, [true, false, false, true, true, false], "{said}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    for arguments in [
        &["ab", "ingest", "--io", "uring"][..],
        &["ab", "ingest", "--io", "uring,epoll,auto"],
        &["ab", "ingest", "--tls", "plain,own,rustls"],
        &["ab", "ingest", "--tls", "plain,own", "--io", "uring,epoll"],
    ] {
        let output = bench(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("--against PATH"), "{said}");
    }
}

#[test]
fn mistakes_are_answered_with_a_remedy() {
    for (arguments, code, expected) in [
        (&["run", "ingets"][..], 2, "ingest, deliver"),
        (&["run", "ingest", "--server", "/nowhere/uringest"], 2, "cargo build --release"),
        (&["run", "ingest", "--server-cpus", "900"], 1, "--server-cpus"),
        (&["run", "ingest", "--server-cpus", "x"], 2, "as in 0,2-3"),
        (&["run", "mix", "--payload", "100"], 2, "2 flows"),
        (&["run", "ingest", "--set", "nonsense"], 2, "NAME=VALUE"),
        (&["run", "ingest", "--tls", "--tls-record-bytes", "100"], 2, "512 to 16384"),
        (&["run", "ingest", "--tls-records", "own"], 2, "--tls"),
        (&["run", "ingest", "--set", "no.such=1"], 1, "uringest"),
        (&["limit", "idle"], 2, "has no limit"),
    ] {
        let output = bench(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "nothing but results on standard output");
    }
}

#[test]
fn scenarios_are_listed_and_a_file_of_ones_own_is_run() {
    let listed = String::from_utf8(bench(&["scenarios"]).stdout).expect("UTF-8");
    for name in ["ingest", "swarm", "idle"] {
        assert!(listed.lines().any(|line| line.starts_with(name)), "{listed}");
    }
    let file = String::from_utf8(bench(&["scenarios", "deliver"]).stdout).expect("UTF-8");
    let own = file.replacen("\"deliver\"", "\"my-own\"", 1).replacen("consumers = 1", "consumers = 2", 1);
    let path = std::env::temp_dir().join(format!("uringest-bench-test-{}.toml", std::process::id()));
    std::fs::write(&path, own).expect("a temporary file");
    let outcome = run(path.to_str().expect("a path of ASCII"), &[]);
    std::fs::remove_file(&path).expect("it is there");
    assert_eq!((&outcome["scenario"], number(&outcome["consumers"])), (&"my-own".into(), 2.0));
}

#[test]
fn too_few_open_files_are_told_of_before_anything_is_started() {
    let mut command = command(&["run", "idle", "--connections", "3000"]);
    // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 600, rlim_max: 600 };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            // Root may raise a hard limit by this capability; who is not root does not have it, and fails here.
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_RESOURCE);
            Ok(())
        });
    }
    let output = command.args(placement()).output().expect("the benchmark starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
    assert!(said.contains("needs 3512 open files and at most 600 are allowed"), "{said}");
    assert!(said.contains("ulimit -Hn 3512"), "{said}");
}

/// A benchmark that runs for long, and its server.
fn started() -> (Child, u32) {
    let mut arguments = vec!["run", "ingest", "--seconds", "600"];
    arguments.extend(placement());
    let child = command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.expect("the benchmark starts");
    let server = within_patience(|| child_of(child.id()));
    (child, server)
}

fn within_patience<T>(mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The process whose parent this is.
fn child_of(parent: u32) -> Option<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

fn is_gone(process: u32) -> Option<()> {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    matches!(state, None | Some('Z' | 'X')).then_some(())
}

fn send(process: u32, signal: i32) {
    // SAFETY: sends a signal to a process that this test started and has not waited for.
    let sent = unsafe { libc::kill(i32::try_from(process).expect("a process id"), signal) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn an_interrupted_benchmark_takes_its_server_along() {
    let (mut child, server) = started();
    send(child.id(), libc::SIGINT);
    let status = child.wait().expect("a child");
    assert_eq!(status.code(), Some(130), "{status}");
    within_patience(|| is_gone(server));
    assert_eq!(scratch_of(child.id()), Vec::<PathBuf>::new());
}

/// Scratch directories of the servers of a benchmark.
fn scratch_of(benchmark: u32) -> Vec<PathBuf> {
    let all = std::fs::read_dir(std::env::temp_dir()).expect("a directory").flatten();
    let prefix = format!("uringest-bench-{benchmark}-");
    let of = all.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    of.map(|entry| entry.path()).collect()
}

#[test]
fn a_killed_benchmark_takes_its_server_along() {
    let (mut child, server) = started();
    send(child.id(), libc::SIGKILL);
    let status = child.wait().expect("a child");
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}");
    within_patience(|| is_gone(server));
    // Nobody is left to remove it.
    for left in scratch_of(child.id()) {
        std::fs::remove_dir_all(left).expect("a directory of this test's");
    }
}
