//! uringest itself, as it is shipped: the program, started with flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Identity, Log, Process, Subject};
use crate::cpus::CpuList;
use crate::dialect::uringest::{Place, UringestDialect};
use crate::disk;
use crate::failure::Failure;
use crate::host::{CONGESTION_CONTROL, Placement};
use crate::http;
use crate::limit::BareIo;
use crate::outcome::TlsOutcome;
use crate::scenario::{Ack, Drive, Kind, Work};
use crate::socket::free_address;
use crate::tls::{Certificates, LoadTls, TlsWish};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// And how long an end may, with what is still to be written, and a start that has a log to read.
const LONG_PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The shards publish what they copied once a second.
const COUNTERS_SETTLE: Duration = Duration::from_millis(1_100);
const NAME: &str = "uringest";

/// Which program, and how it is started.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct UringestOptions {
    /// The server's I/O backend.
    #[arg(long, value_name = "BACKEND", default_value = "uring", value_parser = ["auto", "uring", "epoll"])]
    pub io: String,
    /// Forces a tier of the uring backend.
    #[arg(long, value_name = "TIER")]
    pub io_tier: Option<u8>,
    /// The server's program; by default `uringest` beside this one.
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// Directory in which the server's own is made; by default the one for temporary files.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// A further setting of the server, as in memory.bulk_regions=8; may be given more than once.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub settings: Vec<String>,
    /// TLS, where it is asked for.
    #[arg(skip)]
    pub tls: Option<TlsWish>,
}

impl UringestOptions {
    /// The program that will be started.
    ///
    /// # Errors
    /// It is not there.
    pub fn program(&self) -> Result<PathBuf, Failure> {
        let path = match &self.server {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .map_err(|source| Failure::Host {
                    what: "this program's own path is not known".into(),
                    source,
                })?
                .with_file_name(NAME),
        };
        if path.is_file() {
            return Ok(path);
        }
        let remedy = "build it with `cargo build --release --workspace`, or name another with --server PATH";
        Err(Failure::NoProgram { path, remedy: remedy.into() })
    }

    /// The interface of the kernel that a bare program beside it has to be on.
    #[must_use]
    pub fn bare_io(&self) -> BareIo {
        match self.io.as_str() {
            "epoll" => BareIo::Epoll,
            "auto" if !BareIo::Uring.is_available() => BareIo::Epoll,
            _ => BareIo::Uring,
        }
    }

    fn flags(&self) -> Result<Vec<String>, Failure> {
        let flag = |setting: &String| {
            let (name, value) = setting.split_once('=').ok_or_else(|| {
                Failure::Unsupported(format!("--set {setting}: say NAME=VALUE, as in memory.bulk_regions=8"))
            })?;
            Ok(format!("--{}={value}", name.replace(['.', '_'], "-")))
        };
        self.settings.iter().map(flag).collect()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Uringest {
    process: Process,
    identity: Identity,
    dialect: UringestDialect,
    admin: SocketAddr,
    log: Option<Log>,
    /// How it was started, to start it again.
    command: Command,
    cpus: CpuList,
}

impl Uringest {
    /// Starts the server and makes a topic for each flow.
    ///
    /// # Errors
    /// The program is not there, does not start, or refuses.
    pub fn start(options: &UringestOptions, work: &Work, placement: &Placement) -> Result<Uringest, Failure> {
        let program = options.program()?;
        let Started { mut process, data, admin, tls, command, scratch } =
            spawn(options, &program, work, placement)?;
        await_ready(&mut process, admin, PATIENCE)?;
        let identity = identify(&program, admin, work, &scratch)?;
        let partitions = if work.drive == Drive::Crossing { 2 } else { 1 };
        for flow in 0..work.flows.len() {
            let mut topic =
                json!({ "name": topic(flow), "partitions": partitions, "kind": work.kind.name() });
            if work.retention_bytes > 0 {
                topic["retention_bytes"] = work.retention_bytes.into();
            }
            ask(admin, "POST", "/v1/topics", &topic.to_string())?;
        }
        let places = (0..work.flows.len()).map(|flow| Place {
            topic: topic(flow),
            partition: 0,
            elsewhere: (partitions == 2).then_some(1),
        });
        let level = work.ack.map(Ack::level);
        let dialect = UringestDialect::new(data, places.collect(), tls).acknowledged_as(level);
        if partitions == 2 {
            let owner = |partition| dialect.owner(&topic(0), partition).map_err(Failure::Load);
            if owner(0)? == owner(1)? {
                let what = "both partitions of a topic are on one shard: nothing would cross".into();
                return Err(Failure::Server { name: NAME.into(), what });
            }
        }
        let log = (work.kind == Kind::Log).then(|| Log::new(scratch.join("log"), admin));
        let cpus = placement.server_cpus.clone();
        Ok(Uringest { process, identity, dialect, admin, log, command, cpus })
    }

    /// Ends the server in good order and starts it again on what it left, after `between`; how long it took from the
    /// start of the process until it was ready.
    ///
    /// # Errors
    /// It does not end, or not start, or `between` fails.
    pub fn restart(&mut self, between: impl FnOnce() -> Result<(), Failure>) -> Result<Duration, Failure> {
        self.process.end(LONG_PATIENCE)?;
        between()?;
        let begun = Instant::now();
        self.process.again(&mut self.command, &self.cpus)?;
        await_ready(&mut self.process, self.admin, LONG_PATIENCE)?;
        Ok(begun.elapsed())
    }
}

fn topic(flow: usize) -> String {
    format!("bench-{flow}")
}

/// A server that was started, and how to reach it.
struct Started {
    process: Process,
    data: SocketAddr,
    admin: SocketAddr,
    tls: Option<LoadTls>,
    command: Command,
    scratch: PathBuf,
}

fn spawn(
    options: &UringestOptions,
    program: &Path,
    work: &Work,
    placement: &Placement,
) -> Result<Started, Failure> {
    let port = || {
        free_address()
            .map_err(|source| Failure::Host { what: "there is no free port on loopback".into(), source })
    };
    let (data, admin) = (port()?, port()?);
    let scratch = scratch(options, data)?;
    let mut command = Command::new(program);
    command.arg("serve").args(["--listen", &data.to_string(), "--admin", &admin.to_string()]);
    command.arg("--data").arg(&scratch).args(["--io", &options.io, "--shards", &work.shards.to_string()]);
    command.args(["--congestion-control", CONGESTION_CONTROL, "--log-level", "warn"]);
    if let Some(tier) = options.io_tier {
        command.args(["--io-tier", &tier.to_string()]);
    }
    let wish = options.tls.or(work.tls.then(TlsWish::default));
    let tls = wish.map(|wish| secure(&mut command, &scratch, wish)).transpose()?;
    command.args(options.flags()?);
    // Settings of the user's own server are not meant for this one.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"URINGEST_"))
    {
        command.env_remove(name);
    }
    let process = Process::start(NAME, &mut command, &placement.server_cpus, Some(scratch.clone()))?;
    Ok(Started { process, data, admin, tls, command, scratch })
}

/// Has the server show a certificate that is made for it.
fn secure(command: &mut Command, scratch: &Path, wish: TlsWish) -> Result<LoadTls, Failure> {
    let files = Certificates::make(&scratch.join("tls"))?;
    command.arg("--tls-cert").arg(&files.certificate).arg("--tls-key").arg(&files.key);
    command.args(["--tls-records", wish.records.name()]);
    LoadTls::new(&files.authority, wish)
}

/// A new directory for the server's files, named after its port, which is free of other servers.
fn scratch(options: &UringestOptions, data: SocketAddr) -> Result<PathBuf, Failure> {
    let within = options.data.clone().unwrap_or_else(std::env::temp_dir);
    let path = within.join(format!("uringest-bench-{}-{}", std::process::id(), data.port()));
    let what = format!(
        "{} cannot be made: name a directory that can be written to (--data, or TMPDIR)",
        path.display()
    );
    std::fs::create_dir_all(&path).map_err(|source| Failure::Host { what, source })?;
    Ok(path)
}

fn await_ready(process: &mut Process, admin: SocketAddr, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        process.check()?;
        if http::request(admin, "GET", "/readyz", "").is_ok() {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Err(Failure::NotReady { name: NAME.into(), waited: patience })
}

fn ask(admin: SocketAddr, method: &str, path: &str, body: &str) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::Server { name: NAME.into(), what: error.to_string() };
    http::request(admin, method, path, body).map_err(failed)
}

fn identify(program: &Path, admin: SocketAddr, work: &Work, scratch: &Path) -> Result<Identity, Failure> {
    let status: Value = serde_json::from_str(&ask(admin, "GET", "/v1/server", "")?).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut warnings = Vec::new();
    let debug = program.parent().is_some_and(|folder| folder.ends_with("debug"));
    if debug {
        warnings.push(format!(
            "{} is a debug build: its figures mean nothing; cargo build --release --workspace",
            program.display()
        ));
    }
    for degraded in status["degraded"].as_array().into_iter().flatten() {
        warnings.push(format!("the server is degraded: {}", text(&degraded["detail"])));
    }
    if work.kind == Kind::Log && disk::is_in_memory(scratch) {
        warnings.push(format!(
            "{} is in memory (tmpfs): nothing is written to a disk; name a directory on one with --data",
            scratch.display()
        ));
    }
    // What a producer gets that asks for nothing.
    let by_kind = if work.kind == Kind::Log { Ack::Durable } else { Ack::Received };
    Ok(Identity {
        name: NAME.into(),
        version: format!("{} ({})", text(&status["version"]), text(&status["commit"])),
        ack: work.ack.unwrap_or(by_kind).name().into(),
        io: text(&status["shards"][0]["backend"]),
        warnings,
    })
}

impl Subject for Uringest {
    type Dialect = UringestDialect;

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn dialect(&self) -> &UringestDialect {
        &self.dialect
    }

    fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    fn received_only(&self, only: bool) -> bool {
        self.dialect.received_only(only);
        true
    }

    fn tls(&self) -> Option<TlsOutcome> {
        Some(self.dialect.tls()?.outcome())
    }

    fn copied_bytes(&self) -> Result<Option<u64>, Failure> {
        std::thread::sleep(COUNTERS_SETTLE);
        let page = ask(self.admin, "GET", "/metrics", "")?;
        let samples = page.lines().filter(|line| line.starts_with("uringest_copied_bytes_total{"));
        Ok(Some(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()))
    }
}
