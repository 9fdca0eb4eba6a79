//! Holds a server, once its clients are gone, to what it had at its start: descriptors, connections, buffers and the
//! memory that its gauges tell of. Gauges have to be zero, whoever came before the first look: without clients and topics a
//! server holds nothing. Then its topics are deleted, so that their rings and files have to come back too.
//!
//! What is looked at from outside (`/proc`) needs no word of the server; sockets that it keeps without a descriptor (by
//! index in a ring) are found by their port in the kernel's table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{http, pause};

/// How long a server has to let go of what its last clients had.
pub const LETS_GO: Duration = Duration::from_secs(20);

/// Gauges that are not of what may leak: they name a time, or a fault of the host.
const NO_HOLDINGS: &[&str] =
    &["uringest_uptime_seconds", "uringest_degraded", "uringest_tls_certificate_expiry_timestamp_seconds"];
/// Gauges of what topics have as long as they are there.
const OF_TOPICS: &[&str] = &[
    "uringest_retained_bytes",
    "uringest_topics",
    "uringest_partitions",
    "uringest_log_files_bytes",
    "uringest_log_partitions_full",
    "uringest_log_partitions_fenced",
];
/// What the rows of regular files begin with.
const FILE: &str = "descriptors of the file ";
/// `TCP_LISTEN` in the kernel's table (proc_net_tcp).
const LISTENS: &str = "0A";

/// What a server holds: how much of what, by name.
pub type Holdings = BTreeMap<String, f64>;

/// A server that can be asked, wherever it came from.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    pub pid: u32,
    pub admin: SocketAddr,
}

/// The descriptors that a server had at its start.
pub struct Start(Holdings);

impl Start {
    /// As if the rows with this in their names had not been there: for a test of the look itself.
    pub fn forget(&mut self, part: &str) {
        self.0.retain(|name, _| !name.contains(part));
    }
}

impl Watched {
    /// What it has now, as it has begun.
    pub fn at_start(self) -> Result<Start, String> {
        self.descriptors().map(Start)
    }

    /// Waits until the server holds no more than at its start; says what it has too much.
    pub fn is_as_at(self, start: &Start, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        // With topics first: deleting them would end what still uses them, and hide it.
        self.wait(start, deadline, |name| !OF_TOPICS.contains(&name) && !name.starts_with(FILE))?;
        for topic in self.topics()? {
            let (status, body) = self.ask("DELETE", &format!("/v1/topics/{}", topic.replace('/', "%2F")))?;
            if status != 200 && status != 204 {
                return Err(format!("topic {topic} could not be deleted: {status} {body}"));
            }
        }
        self.wait(start, deadline, |_| true)
    }

    fn wait(self, start: &Start, deadline: Instant, counts: impl Fn(&str) -> bool) -> Result<(), String> {
        loop {
            let mut more = more_than(&Holdings::new(), &self.gauges()?);
            more.extend(more_than(&start.0, &self.descriptors()?));
            more.retain(|(name, _)| counts(name));
            if more.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let told: Vec<String> =
                    more.into_iter().map(|(name, text)| format!("{name}: {text}")).collect();
                return Err(told.join("; "));
            }
            pause();
        }
    }

    fn topics(self) -> Result<Vec<String>, String> {
        let (status, body) = self.ask("GET", "/v1/topics")?;
        let all: serde_json::Value =
            serde_json::from_str(&body).map_err(|error| format!("topics: {status} {error}: {body}"))?;
        let names = all["topics"].as_array().into_iter().flatten();
        Ok(names.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect())
    }

    fn ask(self, method: &str, path: &str) -> Result<(u16, String), String> {
        http(self.admin, method, path, "").map_err(|error| format!("{method} {path}: {error}"))
    }

    fn gauges(self) -> Result<Holdings, String> {
        match self.ask("GET", "/metrics")? {
            (200, page) => Ok(gauges(&page)),
            (status, page) => Err(format!("/metrics: {status} {page}")),
        }
    }

    fn descriptors(self) -> Result<Holdings, String> {
        self.proc_descriptors().map_err(|error| format!("/proc of the server: {error}"))
    }

    /// Descriptors by what they are of, and sockets that are no listeners.
    fn proc_descriptors(self) -> std::io::Result<Holdings> {
        let mut holdings = Holdings::new();
        let proc = Path::new("/proc").join(self.pid.to_string());
        let sockets = tcp_sockets(&proc)?;
        let listening = sockets.iter().filter(|socket| socket.state == LISTENS);
        let listeners: BTreeSet<&str> = listening.map(|socket| socket.inode.as_str()).collect();
        let mut inodes = BTreeSet::new();
        for entry in std::fs::read_dir(proc.join("fd"))? {
            let entry = entry?;
            // One that was closed meanwhile is none.
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let target = target.display().to_string();
            let row = if let Some(inode) = target.strip_prefix("socket:[") {
                let inode = inode.trim_end_matches(']').to_owned();
                let known = sockets.iter().any(|socket| socket.inode == inode);
                inodes.insert(inode);
                if known {
                    continue; // it is counted below
                }
                "sockets that are not connected".to_owned()
            } else if target.starts_with('/') && !target.starts_with("/memfd:") {
                format!("{FILE}{target}")
            } else {
                format!("descriptors of {}", target.trim_end_matches(|sign: char| sign.is_ascii_digit()))
            };
            if target == "anon_inode:[io_uring]" {
                let info = proc.join("fdinfo").join(entry.file_name());
                // The kernel leaves the list out where the ring is busy: so nothing is compared with an earlier look.
                let info = std::fs::read_to_string(info).unwrap_or_default();
                let by_index =
                    info.lines().filter_map(|line| line.split_once("socket:[")?.1.split(']').next());
                let held = by_index.filter(|inode| !listeners.contains(inode)).count();
                *holdings.entry("sockets by index in rings".into()).or_default() += held as f64;
            }
            *holdings.entry(row).or_default() += 1.0;
        }
        let own = |socket: &&TcpSocket| socket.state == LISTENS && inodes.contains(&socket.inode);
        let mut ports: BTreeSet<u16> = sockets.iter().filter(own).map(|socket| socket.port).collect();
        ports.remove(&self.admin.port()); // this look's own
        let held = sockets.iter().filter(|socket| {
            let ours = ports.contains(&socket.port) || inodes.contains(&socket.inode);
            // Inode 0: nobody's any more, the kernel ends the connection by itself.
            ours && socket.state != LISTENS && socket.inode != "0" && socket.port != self.admin.port()
        });
        holdings.insert("connections in the kernel's table".into(), held.count() as f64);
        Ok(holdings)
    }
}

/// What there is more of than before: its name, and how much.
fn more_than(before: &Holdings, now: &Holdings) -> Vec<(String, String)> {
    let was = |name: &String| before.get(name).copied().unwrap_or_default();
    let more = now.iter().filter(|(name, value)| **value > was(name));
    more.map(|(name, value)| (name.clone(), format!("{value}, and {} at the start", was(name)))).collect()
}

/// The gauges of a metrics page that tell of what the server holds, each the sum over its labels.
fn gauges(page: &str) -> Holdings {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge"));
    let names: BTreeSet<&str> =
        types.filter(|name| name.starts_with("uringest_") && !NO_HOLDINGS.contains(name)).collect();
    let mut sums = Holdings::new();
    for line in page.lines() {
        let (sample, value) = line.rsplit_once(' ').unwrap_or_default();
        let name = sample.split('{').next().unwrap_or_default();
        if let (true, Ok(value)) = (names.contains(name), value.parse::<f64>()) {
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
    sums
}

/// A line of the kernel's table of TCP sockets.
struct TcpSocket {
    port: u16,
    state: String,
    inode: String,
}

/// All TCP sockets of the network that a process is in.
fn tcp_sockets(proc: &Path) -> std::io::Result<Vec<TcpSocket>> {
    let mut all = std::fs::read_to_string(proc.join("net/tcp"))?;
    // A host may be without IPv6.
    all.push_str(&std::fs::read_to_string(proc.join("net/tcp6")).unwrap_or_default());
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        Some(TcpSocket { port, state: (*fields.get(3)?).to_owned(), inode: (*fields.get(9)?).to_owned() })
    };
    Ok(all.lines().filter_map(parse).collect())
}
