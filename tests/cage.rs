//! The real program in a cage: a seccomp filter that forbids the three calls of io_uring, as a container's default
//! profile does (`EPERM`) or as a sandbox that does not know them (`ENOSYS`). It says so, and serves on epoll.
//!
//! The filter is the test's own, put on between fork and exec: it needs no rights, and nobody else is in it.
#![cfg(all(feature = "uring", feature = "epoll", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::Value;
use support::{Server, feed, uringest};

const IO_URING_SETUP: u32 = 425;
const IO_URING_ENTER: u32 = 426;
const IO_URING_REGISTER: u32 = 427;
const ALL: &[u32] = &[IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// What a filter sees of a call (`struct seccomp_data`, seccomp(2)): its number, its architecture, and the lower half
/// of its first argument, which is a ring's entries.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ENTRIES_AT: u32 = 16;
/// Rings that are made to try things on have fewer entries, those of shards more.
const ENTRIES_TO_TRY: u32 = 64;

/// Steps of a filter (bpf(4) and seccomp(2)).
type Cage = Vec<libc::sock_filter>;

#[allow(clippy::cast_possible_truncation)] // codes are 16 bits wide
fn step(code: u32, value: u32, (skip_if, skip_else): (u8, u8)) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: skip_if, jf: skip_else, k: value }
}

fn load(at: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, (0, 0))
}

/// Skips steps if what was loaded is the value, and others if not.
fn equal(value: u32, skip: (u8, u8)) -> libc::sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, skip)
}

fn above(value: u32, skip: (u8, u8)) -> libc::sock_filter {
    step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, value, skip)
}

fn answer(verdict: u32) -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, verdict, (0, 0))
}

fn refuse(errno: i32) -> libc::sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

fn allow() -> libc::sock_filter {
    answer(libc::SECCOMP_RET_ALLOW)
}

/// These calls fail with this error; all others are as they were.
fn without(calls: &[u32], errno: i32) -> Cage {
    let mut cage = vec![load(ARCHITECTURE_AT), equal(ARCHITECTURE, (1, 0)), allow(), load(NUMBER_AT)];
    for call in calls {
        cage.extend([equal(*call, (0, 1)), refuse(errno)]);
    }
    cage.push(allow());
    cage
}

/// Rings of the size that shards have fail with this error; those to try things on are made.
fn without_large_rings(errno: i32) -> Cage {
    vec![
        load(ARCHITECTURE_AT),
        equal(ARCHITECTURE, (1, 0)),
        allow(),
        load(NUMBER_AT),
        equal(IO_URING_SETUP, (0, 3)),
        load(ENTRIES_AT),
        above(ENTRIES_TO_TRY, (0, 1)),
        refuse(errno),
        allow(),
    ]
}

/// Puts the command into the cage.
fn caged(mut command: Command, cage: &Cage) -> Command {
    let mut cage = cage.clone();
    let enter = move || {
        let len = u16::try_from(cage.len()).expect("a short program");
        let program = libc::sock_fprog { len, filter: cage.as_mut_ptr() };
        // SAFETY: the first call takes no pointer. The second reads `program` and the steps it points to, which the
        // closure owns; the kernel copies them. Neither allocates or locks, as must be between fork and exec.
        let results = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            ]
        };
        if results == [0, 0] { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: what runs between fork and exec makes two system calls and nothing else.
    unsafe { command.pre_exec(enter) };
    command
}

/// Runs a command of the program in the cage to its end: exit code, standard output, standard error.
fn run_caged(args: &[&str], cage: &Cage) -> (Option<i32>, String, String) {
    let output = feed(&mut caged(uringest(args), cage), b"");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Serves on epoll from end to end, and says everywhere that it does and why.
fn serves_on_epoll(cage: &Cage, cause: &str) {
    let server =
        Server::start_with(&["--shards", "2", "--log-format", "json"], |command| caged(command, cage));
    let admin = server.admin.to_string();
    let url = server.url();
    // Records go through, as many as it takes for every path of a shard.
    let lines: Vec<u8> = (1..=50_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let published = feed(&mut uringest(&["pub", "caged", "--server", &url]), &lines);
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let consumed = feed(
        &mut uringest(&["sub", "caged", "--from", "earliest", "--count", "50000", "--server", &url]),
        b"",
    );
    assert!(consumed.stdout == lines, "{} bytes came of {}", consumed.stdout.len(), lines.len());
    // Once in the log, at warn, with the cause and what mends it.
    let log = server.log();
    let told: Vec<Value> = log
        .lines()
        .map(json)
        .filter(|line| line["level"] == "warn" && line.to_string().contains("uring"))
        .collect();
    let [told] = &told[..] else { panic!("it is said once: {told:?}") };
    assert_eq!(told["event"], "io_uring_unavailable");
    let message = told["message"].as_str().expect("text");
    for part in [cause, "all shards run on epoll", "To mend it: ", "--io epoll"] {
        assert!(message.contains(part), "{part} in: {message}");
    }
    let starting =
        log.lines().map(json).find(|line| line["event"] == "starting").expect("it says what it starts on");
    assert_eq!((&starting["io"], &starting["tier"]), (&"epoll".into(), &"0".into()));
    assert!(starting["io_because"].as_str().is_some_and(|why| why.contains(cause)), "{starting}");
    // To whoever asks: the probe, the page of metrics, the status, `top`.
    let ready = json(&server.page("/readyz"));
    assert_eq!((&ready["ready"], &ready["io"]["backend"]), (&true.into(), &"epoll".into()));
    assert_eq!(ready["degraded"][0]["key"], "io_uring_unavailable", "{ready}");
    let metrics = server.page("/metrics");
    for sample in [
        r#"uringest_io_info{shard="0",backend="epoll",tier="0"} 1"#,
        r#"uringest_io_info{shard="1",backend="epoll",tier="0"} 1"#,
        r#"uringest_degraded{what="io_uring_unavailable"} 1"#,
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample} in\n{metrics}");
    }
    let status = json(&server.page("/v1/server"));
    assert!(
        status["shards"].as_array().expect("shards").iter().all(|shard| shard["backend"] == "epoll"),
        "{status}"
    );
    let top = feed(&mut uringest(&["top", "--once", "-o", "json", "--admin", &admin]), b"");
    let top = json(&String::from_utf8_lossy(&top.stdout));
    assert_eq!(
        (&top["io"]["backend"], &top["degraded"][0]["key"]),
        (&"epoll".into(), &"io_uring_unavailable".into())
    );
    end(server);
}

fn end(mut server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn it_serves_where_io_uring_is_forbidden() {
    serves_on_epoll(&without(ALL, libc::EPERM), "Operation not permitted");
}

#[test]
fn it_serves_where_there_is_no_io_uring() {
    serves_on_epoll(&without(ALL, libc::ENOSYS), "Function not implemented");
}

/// A ring that can be made and not entered would fail with the first connection.
#[test]
fn it_serves_where_a_ring_can_be_made_and_not_used() {
    serves_on_epoll(&without(&[IO_URING_ENTER], libc::EPERM), "Operation not permitted");
    serves_on_epoll(&without(&[IO_URING_REGISTER], libc::EPERM), "Operation not permitted");
}

/// Small rings are made and those of the shards are not, as with too little memory to lock.
#[test]
fn it_serves_where_rings_are_too_large_for_the_host() {
    serves_on_epoll(&without_large_rings(libc::EMFILE), "making the ring: Too many open files");
}

#[test]
fn what_is_asked_for_by_name_is_refused_with_its_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("UTF-8");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", data];
    for asked in [&["--io", "uring"][..], &["--io", "auto", "--io-tier", "1"]] {
        for (errno, cause) in
            [(libc::EPERM, "Operation not permitted"), (libc::ENOSYS, "Function not implemented")]
        {
            let (code, _, err) = run_caged(&[&serve[..], asked].concat(), &without(ALL, errno));
            assert_eq!(code, Some(1), "{err}");
            for part in ["io_uring cannot be used", cause, "\n  try: ", "io_uring_", "--io epoll"] {
                assert!(err.contains(part), "{asked:?}: {part} in: {err}");
            }
        }
    }
}

#[test]
fn what_was_chosen_needs_no_excuse() {
    let server = Server::start_with(&["--io", "epoll"], |command| caged(command, &without(ALL, libc::EPERM)));
    assert!(!server.log().contains("io_uring"), "{}", server.log());
    let ready = json(&server.page("/readyz"));
    let keys = ready["degraded"].as_array().expect("a list").iter().map(|one| one["key"].to_string());
    assert!(!keys.into_iter().any(|key| key.contains("uring")), "{ready}");
    assert_eq!(ready["io"]["because"], "it is configured");
    end(server);
}

#[test]
fn the_doctor_finds_the_cage() {
    for (errno, cause) in
        [(libc::EPERM, "Operation not permitted"), (libc::ENOSYS, "Function not implemented")]
    {
        let (code, out, err) = run_caged(&["doctor", "-o", "json"], &without(ALL, errno));
        assert_eq!(code, Some(0), "the server can run here: {err}");
        let report = json(&out);
        assert_eq!(report["host"]["backends"], serde_json::json!(["uring", "epoll"]));
        assert_eq!(
            (&report["host"]["auto"], &report["host"]["seccomp"]),
            (&"epoll".into(), &"filter".into())
        );
        assert_eq!(report["host"]["io_uring"]["available"], false);
        let findings = report["findings"].as_array().expect("findings");
        let named = |begins: &str| {
            let found =
                findings.iter().find(|one| one["what"].as_str().is_some_and(|what| what.starts_with(begins)));
            found.unwrap_or_else(|| panic!("{begins} in {findings:?}")).clone()
        };
        let missing = named("no io_uring");
        assert!(missing["level"] == "warn" && missing.to_string().contains(cause), "{missing}");
        assert!(missing["costs"].as_str().is_some_and(|costs| costs.contains("epoll")), "{missing}");
        assert!(missing["remedy"].as_str().is_some_and(|remedy| remedy.contains("io_uring_")), "{missing}");
        assert_eq!(named("epoll")["level"], "ok");
    }
    let (_, out, _) = run_caged(&["doctor"], &without(ALL, libc::EPERM));
    assert!(out.contains("`--io auto` takes epoll"), "{out}");
}

/// That the cage holds is what the other tests rest on; and outside of it, where this host has io_uring, `auto` takes it.
#[test]
fn the_cage_is_what_makes_the_difference() {
    let outside = feed(&mut uringest(&["doctor", "-o", "json"]), b"");
    let outside = json(&String::from_utf8_lossy(&outside.stdout));
    if outside["host"]["io_uring"]["available"] != true {
        return println!("SKIPPED: no io_uring here: {}", outside["host"]["io_uring"]);
    }
    assert_eq!(outside["host"]["auto"], "uring");
    let server = Server::start(&[]);
    let ready = json(&server.page("/readyz"));
    assert_eq!(ready["io"]["backend"], "uring");
    assert_eq!(ready["io"]["because"], "io_uring works on this host");
    end(server);
}
