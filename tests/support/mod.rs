//! For integration tests: the real binary on free loopback ports with a directory of its own, ended by its
//! process id when it goes out of scope.

#![allow(dead_code)] // each test crate uses a part

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub mod leaks;

/// How long anything in these tests may take before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long a server that no longer answers may take to end.
const ENDS: Duration = Duration::from_secs(10);

/// The program under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_uringest"))
}

/// A command of the program, with no environment that could change what it does.
pub fn uringest(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("URINGEST_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// An address of the loopback interface where nobody listens. Somebody else may take it before it is used: tests
/// that care start again (see [`Server::start`]).
///
/// None of those the kernel gives to whoever connects: while a server is away to come back, a client that tries again and
/// again might be given the server's port for its own, and be connected to itself.
pub fn free_address() -> SocketAddr {
    const PORTS: std::ops::Range<u32> = 20_000..32_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.end - PORTS.start;
    for _ in 0..count {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (std::process::id().wrapping_mul(97).wrapping_add(tried)) % count;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("below 32,000")));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port of {PORTS:?} is free")
}

/// A running server.
pub struct Server {
    child: Child,
    pub data: SocketAddr,
    pub admin: SocketAddr,
    directory: PathBuf,
    /// What it held at its start, where its end is held to that.
    at_start: Option<leaks::Start>,
    /// Kept for its drop, unless the directory belongs to the test.
    _temporary: Option<tempfile::TempDir>,
}

impl Server {
    /// `uringest serve` with these further arguments, ready.
    pub fn start(args: &[&str]) -> Server {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let mut server = Server::start_in(temporary.path(), args);
        server._temporary = Some(temporary);
        server
    }

    /// The same by a command that `change` has changed.
    pub fn start_with(args: &[&str], change: impl Fn(Command) -> Command) -> Server {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let mut server = Server::attempts(temporary.path(), args, change);
        server._temporary = Some(temporary);
        server
    }

    /// The same with a data directory of the test's, to start again in.
    pub fn start_in(directory: &Path, args: &[&str]) -> Server {
        Server::start_in_with(directory, args, |command| command)
    }

    /// The same by a command that `change` has changed.
    pub fn start_in_with(directory: &Path, args: &[&str], change: impl Fn(Command) -> Command) -> Server {
        Server::attempts(directory, args, change)
    }

    fn attempts(directory: &Path, args: &[&str], change: impl Fn(Command) -> Command) -> Server {
        let mut last = String::new();
        for _ in 0..3 {
            match Server::attempt(directory, free_address(), free_address(), args, &change) {
                Ok(server) => return server,
                Err(why) => last = why,
            }
        }
        panic!("the server does not start: {last}");
    }

    /// At given addresses, for a server that comes back where it was.
    pub fn start_at(directory: &Path, data: SocketAddr, admin: SocketAddr, args: &[&str]) -> Server {
        Server::attempt(directory, data, admin, args, &|command| command)
            .unwrap_or_else(|why| panic!("the server does not start: {why}"))
    }

    fn attempt(
        directory: &Path,
        data: SocketAddr,
        admin: SocketAddr,
        args: &[&str],
        change: &impl Fn(Command) -> Command,
    ) -> Result<Server, String> {
        let log = directory.join("server.log");
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log file");
        let mut command = uringest(&["serve", "--listen", &data.to_string(), "--admin", &admin.to_string()]);
        command.arg("--data").arg(directory.join("data")).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = change(command).spawn().expect("the program under test");
        let mut server =
            Server { child, data, admin, directory: directory.to_owned(), at_start: None, _temporary: None };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = server.child.try_wait().expect("a child of this process") {
                return Err(format!("it ended with {status}:\n{}", server.log()));
            }
            if matches!(http(admin, "GET", "/readyz", ""), Ok((200, _))) {
                return Ok(server);
            }
            if Instant::now() > deadline {
                return Err(format!("it is not ready in {PATIENCE:?}:\n{}", server.log()));
            }
            pause();
        }
    }

    /// Holds it, when it goes out of scope and has not ended by then, to what it has now: see [`leaks`].
    #[must_use]
    pub fn watched_for_leaks(mut self) -> Server {
        let start = self.watched().at_start().unwrap_or_else(|why| panic!("{why}\n{}", self.log()));
        self.at_start = Some(start);
        self
    }

    /// Takes that back, for this reason.
    pub fn keeps_more(&mut self, why: &str) {
        eprintln!("not looked for leaks: {why}");
        self.at_start = None;
    }

    pub fn watched(&self) -> leaks::Watched {
        leaks::Watched { pid: self.pid(), admin: self.admin }
    }

    /// What it has more than at its start, where that is to be told. Who has ended has given all back to the kernel.
    fn leaked(&mut self) -> Option<String> {
        let start = self.at_start.take()?;
        if std::thread::panicking() || !self.is_running() {
            return None;
        }
        let leaked = self.watched().is_as_at(&start, leaks::LETS_GO).err()?;
        // It may have been about to end, and a sanitizer looks through all of its memory then.
        let deadline = Instant::now() + ENDS;
        while self.is_running() {
            if Instant::now() >= deadline {
                return Some(format!("left when all clients are gone: {leaked}\n{}", self.log()));
            }
            pause();
        }
        None
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of this process").is_none()
    }

    /// `uringest://` and the data address.
    pub fn url(&self) -> String {
        format!("uringest://{}", self.data)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("server.log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The body of a page of the admin port.
    pub fn page(&self, path: &str) -> String {
        let (status, body) = http(self.admin, "GET", path, "").expect("the admin port answers");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The sum of the samples of the metrics page that begin so, over their labels.
    pub fn metric(&self, begins: &str) -> f64 {
        let page = self.page("/metrics");
        let samples = page.lines().filter(|line| line.starts_with(begins));
        let values: Vec<f64> =
            samples.filter_map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok())).collect();
        assert!(!values.is_empty(), "no {begins} on the page");
        values.iter().sum()
    }

    /// Sends a signal by name, as in `kill -TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill").success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the server's end", || self.child.try_wait().expect("a child of this process"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let leaked = self.leaked();
        let _ = self.child.kill(); // by its id; it may have ended
        let _ = self.child.wait();
        if let Some(leaked) = leaked {
            panic!("{leaked}");
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.log());
        }
    }
}

/// One request to an admin port: status and body.
pub fn http(admin: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = status.ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {answer:?}")))?;
    Ok((status, body.to_owned()))
}

/// Runs a command of the program to its end, with this on standard input.
pub fn run(args: &[&str], input: &[u8]) -> Output {
    feed(&mut uringest(args), input)
}

/// Runs any command to its end with this on its standard input.
pub fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all(&input); // it may end without reading all
    });
    let output = child.wait_with_output().expect("a child of this process");
    feeder.join().expect("it only writes");
    output
}

/// Waits until `ask` answers.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        pause();
    }
}

/// Between two looks at a condition with a deadline.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(10));
}
