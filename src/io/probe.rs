//! What this host gives, for `uringest doctor`: each backend of this build, tried, and the limits and settings around
//! it; and what each shortcoming costs and how to mend it.
//!
//! `probe` looks, `findings` judges: the judgement is a pure function of the report.

use std::fs;

use serde::Serialize;

use crate::io::choice::BUILT;
use crate::io::host;
#[cfg(feature = "uring")]
use crate::io::uring::probe::{UringReport, look};

mod findings;
pub use findings::{Finding, Level, findings};
#[cfg(feature = "uring")]
mod uring;

/// What a host gives. See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// As `uname -r` has it; for the reader, nothing is decided by it.
    pub kernel: String,
    /// CPUs this process may use.
    pub cpus: u32,
    /// The backends of this build, the best first.
    pub backends: Vec<&'static str>,
    /// The one that `--io auto` takes here.
    pub auto: &'static str,
    /// What io_uring gives; absent in a build without it.
    #[cfg(feature = "uring")]
    #[serde(flatten)]
    pub uring: UringReport,
    /// `RLIMIT_MEMLOCK`, in bytes.
    pub locked_memory: Limit,
    /// `RLIMIT_NOFILE`.
    pub open_files: Limit,
    /// TCP's congestion control.
    pub congestion_control: CongestionControl,
    /// Huge pages.
    pub huge_pages: HugePages,
    /// Whether system calls are filtered.
    pub seccomp: Seccomp,
}

/// A resource limit; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// In force.
    pub soft: Option<u64>,
    /// As far as this process may raise it.
    pub hard: Option<u64>,
}

/// TCP's congestion control.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CongestionControl {
    /// For new sockets.
    pub in_use: Option<String>,
    /// Loaded.
    pub available: Vec<String>,
}

/// Huge pages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct HugePages {
    /// Reserved (`vm.nr_hugepages`).
    pub reserved: u64,
    /// Reserved and not in use.
    pub free: u64,
    /// Bytes of one.
    pub bytes: u64,
    /// Transparent ones: `always`, `madvise` or `never`.
    pub transparent: Option<String>,
}

/// Whether system calls are filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// They are not.
    Off,
    /// All but a few are forbidden.
    Strict,
    /// By a program: a container's profile, as a rule.
    Filter,
    /// `/proc/self/status` does not say.
    Unknown,
}

/// Looks at this host. Takes some ten milliseconds, and leaves nothing behind.
#[must_use]
pub fn probe() -> HostReport {
    #[cfg(feature = "uring")]
    let uring = look();
    #[cfg(feature = "uring")]
    let first_works = uring.io_uring.available;
    #[cfg(not(feature = "uring"))]
    let first_works = true;
    let auto = if first_works { BUILT.first() } else { BUILT.last() };
    HostReport {
        kernel: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        backends: BUILT.iter().map(|backend| backend.name()).collect(),
        auto: auto.map_or("", |backend| backend.name()),
        #[cfg(feature = "uring")]
        uring,
        locked_memory: limit(host::locked_memory()),
        open_files: limit(host::open_files()),
        congestion_control: CongestionControl {
            in_use: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            available: line("/proc/sys/net/ipv4/tcp_available_congestion_control")
                .map(|names| names.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
        },
        huge_pages: huge_pages(),
        seccomp: fs::read_to_string("/proc/self/status").map_or(Seccomp::Unknown, |text| seccomp_of(&text)),
    }
}

fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn limit((soft, hard): (Option<u64>, Option<u64>)) -> Limit {
    Limit { soft, hard }
}

fn seccomp_of(status: &str) -> Seccomp {
    match field(status, "Seccomp:") {
        Some("0") => Seccomp::Off,
        Some("1") => Seccomp::Strict,
        Some("2") => Seccomp::Filter,
        _ => Seccomp::Unknown,
    }
}

/// The first word after a name at the start of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

fn huge_pages() -> HugePages {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let number = |name| field(&memory, name).and_then(|word| word.parse().ok()).unwrap_or(0);
    let transparent = line("/sys/kernel/mm/transparent_hugepage/enabled");
    HugePages {
        reserved: number("HugePages_Total:"),
        free: number("HugePages_Free:"),
        bytes: number("Hugepagesize:") * 1024,
        transparent: transparent.as_deref().and_then(chosen).map(str::to_owned),
    }
}

/// The word in brackets of a sysfs choice.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

#[cfg(test)]
mod tests;
