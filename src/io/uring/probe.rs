//! What this host gives, for `uringest doctor`: io_uring's features, each tried, and the limits and settings
//! around it; and what each shortcoming costs and how to mend it.
//!
//! `probe` looks, `findings` judges: the judgement is a pure function of the report.

use std::collections::BTreeMap;
use std::fs;

use io_uring::opcode;
use serde::Serialize;

use crate::buf::{Mapping, Pages};
use crate::limits::{BULK_REGION_BYTES, BULK_REGIONS_DEFAULT, CONNECTIONS_MAX_DEFAULT};

use super::features::{self, Features};
use super::ring::{Ring, RingShape};
use super::setup::{disabled_by_sysctl, failed};

/// What a host gives. See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// As `uname -r` has it; for the reader, nothing is decided by it.
    pub kernel: String,
    /// CPUs this process may use.
    pub cpus: u32,
    /// The tier `serve` would use: 2, 1, or 0 for epoll.
    pub tier: u8,
    /// Whether there is an io_uring, or why not.
    pub io_uring: Availability,
    /// Operations the kernel lists, by name, of those this server may use.
    pub operations: BTreeMap<&'static str, bool>,
    /// What works, each tried; absent without io_uring.
    pub features: Option<Features>,
    /// What the kernel said when receive regions, as many as by default, were registered; absent: it did.
    pub regions_error: Option<String>,
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

/// Whether there is an io_uring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Availability {
    /// A ring could be made.
    pub available: bool,
    /// What the kernel said otherwise.
    pub error: Option<String>,
    /// What would help.
    pub remedy: Option<String>,
    /// `kernel.io_uring_disabled`, where the kernel has it.
    pub disabled_sysctl: Option<u8>,
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

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It works, and could be better.
    Warn,
    /// It does not work.
    Bad,
}

/// One thing found out about the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What that costs; empty when nothing.
    pub costs: String,
    /// Exactly what to do; empty when nothing is to be done.
    pub remedy: String,
}

/// Looks at this host. Takes some ten milliseconds, and leaves nothing behind.
#[must_use]
pub fn probe() -> HostReport {
    let features = features::try_all().map_err(|error| failed("making a ring", error));
    let io_uring = Availability {
        available: features.is_ok(),
        error: features.as_ref().err().map(|error| error.source.to_string()),
        remedy: features.as_ref().err().map(|error| error.remedy.clone()),
        disabled_sysctl: disabled_by_sysctl(),
    };
    let features = features.ok();
    HostReport {
        kernel: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        tier: features.map_or(0, |features| if features.missing_for_tier_2().is_empty() { 2 } else { 1 }),
        io_uring,
        operations: operations(),
        features,
        regions_error: register_regions(features).err(),
        locked_memory: limit(libc::RLIMIT_MEMLOCK),
        open_files: limit(libc::RLIMIT_NOFILE),
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

fn limit(resource: libc::__rlimit_resource_t) -> Limit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes; the resource is one the kernel knows, so the call cannot fail.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    let bounded = |value| (value != libc::RLIM_INFINITY).then_some(value);
    Limit { soft: bounded(limit.rlim_cur), hard: bounded(limit.rlim_max) }
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

fn small_ring() -> std::io::Result<Ring> {
    Ring::new(RingShape { sq_entries: 8, cq_entries: 16, modern: false })
}

fn operations() -> BTreeMap<&'static str, bool> {
    let listed = small_ring().and_then(|ring| features::operations(&ring)).ok();
    [
        ("ACCEPT", opcode::Accept::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("MSG_RING", opcode::MsgRingData::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("READ_FIXED", opcode::ReadFixed::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("SEND_ZC", opcode::SendZc::CODE),
        ("TIMEOUT", opcode::Timeout::CODE),
        ("WRITE_FIXED", opcode::WriteFixed::CODE),
    ]
    .into_iter()
    .map(|(name, code)| (name, listed.as_ref().is_some_and(|listed| listed.is_supported(code))))
    .collect()
}

/// Registers as many regions as a shard has by default, and lets go of them.
fn register_regions(features: Option<Features>) -> Result<(), String> {
    if !features.is_some_and(|features| features.registered_buffers) {
        return Err("not supported by this kernel".to_owned());
    }
    let bytes = BULK_REGION_BYTES as usize * usize::from(BULK_REGIONS_DEFAULT);
    let memory = Mapping::mirrored(bytes, Pages::Small).map_err(|error| error.to_string())?;
    let ring = small_ring().map_err(|error| error.to_string())?;
    features::register_empty_buffers(&ring, 1).map_err(|error| error.to_string())?;
    let iovec = libc::iovec { iov_base: memory.base().cast(), iov_len: memory.address_bytes() };
    // SAFETY: the mapping was made before the ring, so it is dropped after it.
    unsafe { ring.submitter().register_buffers_update(0, &[iovec], None) }.map_err(|error| error.to_string())
}

/// What a report means, the worst first.
#[must_use]
pub fn findings(report: &HostReport) -> Vec<Finding> {
    let mut found = vec![backend(report)];
    if let Some(features) = &report.features {
        found.extend(shortcomings(report.tier, features));
        found.extend(registration(report, features));
    }
    found.push(open_files(report));
    found.extend(congestion_control(&report.congestion_control));
    found.push(huge(&report.huge_pages));
    found.extend(filtered(report));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found
}

fn finding(level: Level, what: impl Into<String>, costs: &str, remedy: impl Into<String>) -> Finding {
    Finding { level, what: what.into(), costs: costs.to_owned(), remedy: remedy.into() }
}

fn backend(report: &HostReport) -> Finding {
    let kernel = &report.kernel;
    match (report.tier, &report.features) {
        (2, _) => finding(Level::Ok, format!("io_uring, tier 2 (kernel {kernel})"), "", ""),
        (1, Some(features)) => finding(
            Level::Warn,
            format!("io_uring, tier 1: kernel {kernel} has no {}", features.missing_for_tier_2().join(", ")),
            "each receive and accept is a request of its own: small senders cost more for each record",
            "run Linux 6.1 or newer",
        ),
        _ => {
            let error = report.io_uring.error.as_deref().unwrap_or("unknown");
            finding(
                Level::Bad,
                format!("no io_uring: {error}"),
                "`--io uring` does not start; `--io auto` uses epoll, at up to 1.35 times the CPU for each record",
                report.io_uring.remedy.clone().unwrap_or_default(),
            )
        }
    }
}

fn shortcomings(tier: u8, features: &Features) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut note = |there: bool, what: &str, costs: &str, remedy: &str| {
        if !there {
            found.push(finding(Level::Note, what, costs, remedy));
        }
    };
    if tier == 2 {
        note(
            features.defer_taskrun,
            "no DEFER_TASKRUN",
            "30 to 40 % more CPU with 16 connections",
            "run Linux 6.1 or newer",
        );
        note(
            features.incremental_buffers,
            "no incremental buffers: each receive takes a whole 64 KiB buffer",
            "more frames of 16 KiB straddle two buffers and are copied: 25 % instead of 6 %",
            "run Linux 6.12 or newer",
        );
        note(
            features.direct_descriptors,
            "sockets are used by descriptor: this kernel keeps closed ones of the ring's table too long",
            "a look-up of the descriptor for each request",
            "run Linux 6.13 or newer",
        );
        note(
            features.ring_messages,
            "rings cannot message each other",
            "a write to an event descriptor for each wake-up of another shard",
            "run Linux 6.1 or newer",
        );
    } else {
        note(
            features.multishot_poll,
            "no multishot poll",
            "one more request for each time a connection has something",
            "run Linux 5.13 or newer",
        );
    }
    found
}

fn registration(report: &HostReport, features: &Features) -> Option<Finding> {
    let error = report.regions_error.as_ref()?;
    let costs = "bulk connections are read with RECV instead of READ_FIXED: 5 to 10 % more CPU for each byte";
    if !features.registered_buffers {
        let remedy = "run Linux 6.4 or newer";
        let what = "registered receive regions cannot be read without waiting for the socket";
        return Some(finding(Level::Note, what, costs, remedy));
    }
    let soft =
        report.locked_memory.soft.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
    Some(finding(
        Level::Warn,
        format!("receive regions could not be registered: {error} (locked memory: {soft})"),
        costs,
        "ulimit -l unlimited; systemd: LimitMEMLOCK=infinity; docker run --ulimit memlock=-1",
    ))
}

fn open_files(report: &HostReport) -> Finding {
    // `serve` raises the soft limit itself as far as the hard one goes.
    let wanted = u64::from(CONNECTIONS_MAX_DEFAULT) + 256;
    match report.open_files.hard {
        Some(hard) if hard < wanted => finding(
            Level::Warn,
            format!(
                "at most {hard} open files; the default limit of {CONNECTIONS_MAX_DEFAULT} connections needs {wanted}"
            ),
            "connections above the limit are refused",
            format!(
                "ulimit -n {}; systemd: LimitNOFILE={0}; docker run --ulimit nofile={0}",
                (wanted + 1024).next_power_of_two()
            ),
        ),
        Some(hard) => finding(Level::Ok, format!("{hard} open files"), "", ""),
        None => finding(Level::Ok, "no limit of open files", "", ""),
    }
}

fn congestion_control(found: &CongestionControl) -> Option<Finding> {
    let in_use = found.in_use.as_deref()?;
    if in_use != "bbr" {
        return Some(finding(Level::Ok, format!("TCP congestion control: {in_use}"), "", ""));
    }
    let remedy = if found.available.iter().any(|name| name == "cubic") {
        "on loopback and in a data centre: sysctl -w net.ipv4.tcp_congestion_control=cubic"
    } else {
        "on loopback and in a data centre: modprobe tcp_cubic; sysctl -w net.ipv4.tcp_congestion_control=cubic"
    };
    Some(finding(
        Level::Warn,
        "TCP congestion control: bbr, which paces every connection, loopback too",
        "3.4 instead of 8.5 GB/s measured over loopback; measurements mean nothing",
        remedy,
    ))
}

fn huge(pages: &HugePages) -> Finding {
    let mib = (pages.free * pages.bytes) >> 20;
    if mib > 0 {
        return finding(Level::Ok, format!("{mib} MiB of huge pages are free"), "", "");
    }
    finding(
        Level::Note,
        "no huge pages are reserved",
        "0 to 3 % more CPU for received bytes",
        "sysctl -w vm.nr_hugepages=N, with N of 2 MiB for all rings and regions (serve --explain-memory)",
    )
}

fn filtered(report: &HostReport) -> Option<Finding> {
    if report.seccomp == Seccomp::Filter && !report.io_uring.available {
        return Some(finding(
            Level::Note,
            "a seccomp filter is in force",
            "container profiles forbid io_uring by default",
            "docker run --security-opt seccomp=PROFILE.json, the default profile with io_uring_setup, \
             io_uring_enter and io_uring_register allowed",
        ));
    }
    None
}

#[cfg(test)]
mod tests;
