//! What a report says of io_uring.

use super::findings::{Finding, Level, finding, ok};
use super::{HostReport, Seccomp};
use crate::io::choice::which_build;
use crate::io::uring::Features;

pub(super) fn judge(report: &HostReport) -> Vec<Finding> {
    let mut found = vec![backend(report)];
    if let Some(features) = &report.uring.features {
        found.extend(shortcomings(report.uring.tier, features));
        found.extend(registration(report, features));
    }
    found.extend(filtered(report));
    found
}

fn backend(report: &HostReport) -> Finding {
    let kernel = &report.kernel;
    match (report.uring.tier, &report.uring.features) {
        (2, _) => ok(format!("io_uring, tier 2 (kernel {kernel})")),
        (1, Some(features)) => finding(
            Level::Warn,
            format!("io_uring, tier 1: kernel {kernel} has no {}", features.missing_for_tier_2().join(", ")),
            "each receive and accept is a request of its own: small senders cost more for each record",
            "run Linux 6.1 or newer",
        ),
        _ => {
            let io_uring = &report.uring.io_uring;
            let error = io_uring.error.as_deref().unwrap_or("unknown");
            let what = format!("no io_uring: {error}");
            let remedy = io_uring.remedy.clone().unwrap_or_default();
            if report.backends.contains(&"epoll") {
                let costs = "`--io uring` does not start; `--io auto` runs on epoll, at up to 1.35 times the CPU for \
                             each record";
                return finding(Level::Warn, what, costs, remedy);
            }
            let costs = "`serve` does not start: this build has no other backend";
            let remedy = format!("{remedy}; or run on epoll: {}", which_build("epoll"));
            finding(Level::Bad, what, costs, remedy)
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
    let error = report.uring.regions_error.as_ref()?;
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

/// Says so where the kernel's error did not: a filter may answer with any.
fn filtered(report: &HostReport) -> Option<Finding> {
    let io_uring = &report.uring.io_uring;
    let said = io_uring.remedy.as_ref().is_some_and(|remedy| remedy.contains("seccomp"));
    if report.seccomp == Seccomp::Filter && !io_uring.available && !said {
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
pub(super) mod tests;
