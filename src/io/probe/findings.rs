//! What a report means.

use serde::Serialize;

use super::{CongestionControl, HostReport, HugePages};
use crate::limits::CONNECTIONS_MAX_DEFAULT;

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

/// What a report means, the worst first.
#[must_use]
pub fn findings(report: &HostReport) -> Vec<Finding> {
    let mut found = backends(report);
    found.push(open_files(report));
    found.extend(congestion_control(&report.congestion_control));
    found.push(huge(&report.huge_pages));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found
}

#[cfg(feature = "uring")]
fn backends(report: &HostReport) -> Vec<Finding> {
    let mut found = super::uring::judge(report);
    if report.backends.contains(&"epoll") {
        let what = match report.auto {
            "epoll" => "epoll, which `--io auto` takes here",
            _ => "epoll, for `--io epoll`",
        };
        found.push(ok(what));
    }
    found
}

#[cfg(not(feature = "uring"))]
fn backends(_: &HostReport) -> Vec<Finding> {
    vec![ok("epoll, the only backend of this build: it was built without io_uring")]
}

pub(super) fn ok(what: impl Into<String>) -> Finding {
    finding(Level::Ok, what, "", "")
}

pub(super) fn finding(
    level: Level,
    what: impl Into<String>,
    costs: &str,
    remedy: impl Into<String>,
) -> Finding {
    Finding { level, what: what.into(), costs: costs.to_owned(), remedy: remedy.into() }
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
