//! What the scenarios share: programs that run beside the test, numbered lines, what the server says of itself.

use std::fmt::Display;
use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::support::{PATIENCE, Server, http, run, uringest, wait_for};

/// Makes tests of scenarios, which are `fn(&Case)`: a scenario, and what it runs on. `best` is what a server takes that
/// is told nothing. What rests on a backend is run on each; what rests on the command line alone, on `best`.
macro_rules! scenarios {
    ($($scenario:ident on $($io:ident)+;)+) => { $(
        mod $scenario {
            $(crate::rig::scenarios!(@ $scenario $io);)+
        }
    )+ };
    (@ $scenario:ident best) => { crate::rig::scenarios!(@@ $scenario on_the_best &[]); };
    (@ $scenario:ident tier_1) => {
        #[cfg(feature = "uring")]
        crate::rig::scenarios!(@@ $scenario on_tier_1 &["--io-tier", "1"]);
    };
    (@ $scenario:ident epoll) => {
        #[cfg(feature = "epoll")]
        crate::rig::scenarios!(@@ $scenario on_epoll &["--io", "epoll"]);
    };
    (@@ $scenario:ident $test:ident $args:expr) => {
        #[test]
        fn $test() {
            super::$scenario(&crate::rig::Case::begin($args));
        }
    };
}
pub(crate) use scenarios;

/// One run of a scenario on one kind of I/O: starts its servers, says how to run it again when it fails, and holds every
/// server that is left at the end, when its clients are gone, to what it had at its start (`support::leaks`).
pub struct Case {
    seed: u64,
    /// What its servers are told of their I/O.
    io: &'static [&'static str],
    /// The test target that it is in.
    target: &'static str,
}

impl Case {
    pub fn begin(io: &'static [&'static str]) -> Case {
        Case::of("integration", io)
    }

    /// A scenario of this test target.
    pub fn of(target: &'static str, io: &'static [&'static str]) -> Case {
        let given = std::env::var("INTEGRATION_SEED").ok();
        let seed = given.map(|seed| seed.parse().expect("INTEGRATION_SEED is a number"));
        let seed = seed.unwrap_or_else(|| getrandom::u64().expect("the kernel has random numbers"));
        Case { seed, io, target }
    }

    /// [`Server::start`] on the I/O of this run.
    pub fn start(&self, args: &[&str]) -> Server {
        Server::start(&[self.io, args].concat()).watched_for_leaks()
    }

    /// [`Server::start_in`] on the I/O of this run.
    pub fn start_in(&self, directory: &Path, args: &[&str]) -> Server {
        Server::start_in(directory, &[self.io, args].concat()).watched_for_leaks()
    }

    /// [`Server::start_in_with`] on the I/O of this run.
    #[allow(dead_code)] // `tests/chaos` uses it
    pub fn start_in_with(
        &self,
        directory: &Path,
        args: &[&str],
        change: impl Fn(Command) -> Command,
    ) -> Server {
        Server::start_in_with(directory, &[self.io, args].concat(), change).watched_for_leaks()
    }

    /// [`Server::start_at`] on the I/O of this run.
    pub fn start_at(&self, directory: &Path, data: SocketAddr, admin: SocketAddr, args: &[&str]) -> Server {
        Server::start_at(directory, data, admin, &[self.io, args].concat()).watched_for_leaks()
    }

    /// What its servers are told of their I/O.
    pub fn io(&self) -> &'static [&'static str] {
        self.io
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn random(&self) -> Random {
        Random(self.seed)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            let Case { seed, target, .. } = self;
            eprintln!(
                "--- run it again: INTEGRATION_SEED={seed} cargo test --test {target} {name} -- --exact"
            );
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn of(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }
}

/// A stream of a program, read to its end on a thread of its own.
#[derive(Clone, Default)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    lines: Arc<AtomicUsize>,
}

impl Collected {
    fn of(mut stream: impl Read + Send + 'static) -> (Collected, JoinHandle<()>) {
        let collected = Collected::default();
        let theirs = collected.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                let fresh = &buffer[..read];
                theirs.bytes.lock().expect("not poisoned").extend_from_slice(fresh);
                let lines = fresh.iter().filter(|byte| **byte == b'\n').count();
                theirs.lines.fetch_add(lines, Ordering::SeqCst);
            }
        });
        (collected, thread)
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().expect("not poisoned").clone()
    }
}

/// A command of the program that runs beside the test; ended by its id when it goes out of scope.
pub struct Program {
    child: Child,
    arguments: String,
    stdin: Option<ChildStdin>,
    out: Collected,
    err: Collected,
    readers: Vec<JoinHandle<()>>,
    feeder: Option<JoinHandle<()>>,
}

impl Program {
    pub fn start(args: &[&str]) -> Program {
        let mut command = uringest(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program under test");
        let (out, out_reader) = Collected::of(child.stdout.take().expect("a pipe"));
        let (err, err_reader) = Collected::of(child.stderr.take().expect("a pipe"));
        let stdin = child.stdin.take();
        let readers = vec![out_reader, err_reader];
        Program { child, arguments: args.join(" "), stdin, out, err, readers, feeder: None }
    }

    /// A command that reads this on standard input.
    pub fn fed(args: &[&str], input: Vec<u8>) -> Program {
        let mut program = Program::start(args);
        let mut stdin = program.stdin.take().expect("not fed yet");
        program.feeder = Some(std::thread::spawn(move || {
            let _ = stdin.write_all(&input); // it may end without reading all
        }));
        program
    }

    /// Writes to its standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("open").write_all(bytes).expect("it reads");
    }

    /// Closes its standard input.
    pub fn end_of_input(&mut self) {
        self.stdin = None;
    }

    /// `sub TOPIC` with these further arguments, attached to every partition of the topic.
    pub fn attached(server: &Server, topic: &str, args: &[&str]) -> Program {
        Program::attached_as(server, topic, &[&["sub", topic, "--server", &server.url()], args].concat())
    }

    /// Likewise, with all arguments.
    pub fn attached_as(server: &Server, topic: &str, args: &[&str]) -> Program {
        // Not how many there are: one that has just ended may still be among them.
        let begun = || metric(server, "uringest_subscriptions_total");
        let before = begun();
        let program = Program::start(args);
        wait_for("the subscription", || {
            let partitions = partitions(server, topic);
            (partitions > 0 && begun() >= before + partitions as f64).then_some(())
        });
        program
    }

    /// Complete lines on standard output so far.
    pub fn lines(&self) -> usize {
        self.out.lines.load(Ordering::SeqCst)
    }

    pub fn wait_lines(&self, count: usize) {
        let what = format!("{count} lines of `{}`", self.arguments);
        wait_for(&what, || (self.lines() >= count).then_some(()));
    }

    pub fn out(&self) -> Vec<u8> {
        self.out.bytes()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.err.bytes()).into_owned()
    }

    /// Sends a signal by name, as in `kill -TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.expect("kill").success());
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of this process").is_some()
    }

    /// Waits for its end and all of its output; the exit code, or none after a signal.
    pub fn wait(&mut self) -> Option<i32> {
        let what = format!("the end of `{}`", self.arguments);
        let status = wait_for(&what, || self.child.try_wait().expect("a child of this process"));
        for reader in self.readers.drain(..) {
            reader.join().expect("it only reads");
        }
        status.code()
    }

    /// Waits for an end with exit code 0; the numbers it printed.
    pub fn numbers(&mut self) -> Vec<u64> {
        assert_eq!(self.wait(), Some(0), "{}: {}", self.arguments, self.err());
        numbers(&self.out())
    }

    /// Ends it with SIGTERM; the numbers it printed.
    pub fn stop(&mut self) -> Vec<u64> {
        self.signal("TERM");
        self.numbers()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill(); // by its id; it may have ended
        let _ = self.child.wait();
        for thread in self.readers.drain(..).chain(self.feeder.take()) {
            let _ = thread.join();
        }
        if std::thread::panicking() {
            eprintln!("--- `{}` wrote {} lines; stderr: {}", self.arguments, self.lines(), self.err());
        }
    }
}

/// Each number of a range on a line, as `seq` prints them.
pub fn lines(range: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    range.flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

/// The numbers that begin the lines of an output; a line that does not begin with one fails the test.
pub fn numbers(output: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(output).expect("lines of text");
    let number = |line: &str| line.trim_end_matches('.').parse().ok();
    text.lines().map(|line| number(line).unwrap_or_else(|| panic!("not a number: {line:?}"))).collect()
}

/// Fails at the first number that is not the one behind the number before it.
#[track_caller]
pub fn assert_each_once(got: &[u64], wanted: std::ops::RangeInclusive<u64>) {
    if let Some((index, (got, wanted))) =
        got.iter().zip(wanted.clone()).enumerate().find(|(_, (got, wanted))| **got != *wanted)
    {
        panic!("line {index} is {got} and not {wanted}");
    }
    let count = usize::try_from(wanted.end() + 1 - wanted.start()).expect("few");
    assert_eq!(got.len(), count, "all that came is right, but how many");
}

/// Runs `pub TOPIC` with these lines, and these further arguments, to its good end.
#[track_caller]
pub fn publish(server: &Server, topic: &str, range: std::ops::RangeInclusive<u64>, args: &[&str]) {
    let output = run(&[&["pub", topic, "--server", &server.url()], args].concat(), &lines(range));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "pub {topic}: {stderr}");
}

/// Runs a command to its end: exit code, standard output, standard error.
pub fn ended(args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(args, b"");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Makes a topic over the command line.
#[track_caller]
pub fn create(server: &Server, topic: &str, args: &[&str]) {
    let admin = server.admin.to_string();
    let base = ["topic", "create", topic, "--admin", &admin];
    let partitions: &[&str] = if args.contains(&"--partitions") { &[] } else { &["--partitions", "1"] };
    let (code, _, stderr) = ended(&[&base, partitions, args].concat());
    assert_eq!(code, Some(0), "topic create {topic}: {stderr}");
}

/// What `topic describe -o json` says.
#[track_caller]
pub fn describe(server: &Server, topic: &str) -> Value {
    let admin = server.admin.to_string();
    let (code, stdout, stderr) = ended(&["topic", "describe", topic, "--admin", &admin, "-o", "json"]);
    assert_eq!(code, Some(0), "topic describe {topic}: {stderr}");
    serde_json::from_str(&stdout).expect("JSON")
}

/// The first offset and the end of a topic's partition 0.
pub fn offsets(server: &Server, topic: &str) -> (u64, u64) {
    let one = describe(server, topic)["partitions"][0].clone();
    let number = |name: &str| one[name].as_u64().expect("a number");
    (number("log_start_offset"), number("log_end_offset"))
}

/// A topic's partitions; 0 while there is no such topic.
fn partitions(server: &Server, topic: &str) -> usize {
    let Ok((200, body)) = http(server.admin, "GET", &format!("/v1/topics/{topic}"), "") else { return 0 };
    let topic: Value = serde_json::from_str(&body).expect("JSON");
    topic["partitions"].as_array().expect("a list").len()
}

/// The sum of a metric over its labels.
pub fn metric(server: &Server, name: &str) -> f64 {
    let page = server.page("/metrics");
    let lines = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let values: Vec<f64> = lines
        .map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a value"))
        .collect();
    assert!(!values.is_empty(), "{name} is not on the page");
    values.iter().sum()
}

pub fn wait_for_metric(server: &Server, name: &str, wanted: f64) {
    let what = format!("{name} to be {wanted}");
    wait_for(&what, || ((metric(server, name) - wanted).abs() < 0.5).then_some(()));
}

/// Resident memory of the server in KiB, from `/proc`.
pub fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// Waits until a file holds a number of at least this.
pub fn wait_for_number(path: &Path, at_least: u64) -> u64 {
    wait_for(&format!("{} to reach {at_least}", path.display()), || {
        let number = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
        (number >= at_least).then_some(number)
    })
}

/// A limit that a failure message can name.
#[track_caller]
pub fn assert_at_most<T: PartialOrd + Display>(what: &str, value: T, most: T) {
    assert!(
        value <= most,
        "{what}: {value}, at most {most} is allowed (deadline of all waits: {PATIENCE:?})"
    );
}
