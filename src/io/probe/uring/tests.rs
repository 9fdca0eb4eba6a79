use std::collections::BTreeMap;

use super::*;
use crate::io::probe::findings;
use crate::io::probe::tests::{good as good_host, worst};
use crate::io::uring::probe::{Availability, UringReport, look};

/// A kernel that gives everything.
pub(in crate::io::probe) fn good() -> UringReport {
    let features = Features {
        ext_arg: true,
        multishot_poll: true,
        multishot_accept: true,
        buffer_ring: true,
        multishot_receive: true,
        incremental_buffers: true,
        single_issuer: true,
        defer_taskrun: true,
        no_sqarray: true,
        direct_descriptors: true,
        buffer_updates: true,
        registered_buffers: true,
        nowait_flag: true,
        ring_messages: true,
        skip_success: true,
        send_zc: true,
    };
    UringReport {
        tier: 2,
        io_uring: Availability { available: true, error: None, remedy: None, disabled_sysctl: Some(0) },
        operations: BTreeMap::new(),
        features: Some(features),
        regions_error: None,
    }
}

#[test]
fn regions_that_cannot_be_registered_name_the_limit() {
    let mut report = good_host();
    report.uring.regions_error = Some("Cannot allocate memory (os error 12)".to_owned());
    report.locked_memory.soft = Some(64 * 1024);
    let finding = worst(&report);
    assert!(finding.what.contains("64 KiB") && finding.what.contains("os error 12"), "{finding:?}");
    assert!(
        finding.remedy.contains("ulimit -l unlimited") && finding.remedy.contains("LimitMEMLOCK=infinity")
    );
}

#[test]
fn tiers_are_told_apart() {
    let mut report = good_host();
    report.uring.tier = 1;
    report.uring.features = report.uring.features.map(|f| Features { multishot_receive: false, ..f });
    let finding = worst(&report);
    assert_eq!(finding.level, Level::Warn);
    assert!(finding.what.contains("tier 1") && finding.what.contains("no multishot receive"), "{finding:?}");

    report.uring.tier = 0;
    report.uring.features = None;
    report.seccomp = Seccomp::Filter;
    report.uring.io_uring = Availability {
        available: false,
        error: Some("Operation not permitted (os error 1)".to_owned()),
        remedy: Some("allow io_uring_setup".to_owned()),
        disabled_sysctl: Some(0),
    };
    report.backends = vec!["uring"];
    report.auto = "uring";
    let alone = worst(&report);
    assert_eq!(alone.level, Level::Bad, "nothing else can run: {alone:?}");
    assert!(alone.what.contains("not permitted"), "{alone:?}");
    assert!(
        alone.remedy.starts_with("allow io_uring_setup; ") && alone.remedy.contains("--features epoll"),
        "{alone:?}"
    );
    report.backends = vec!["uring", "epoll"];
    report.auto = "epoll";
    let found = findings(&report);
    assert_eq!(found[0].level, Level::Warn, "epoll can: {:?}", found[0]);
    assert!(found[0].costs.contains("epoll") && found[0].remedy == "allow io_uring_setup", "{:?}", found[0]);
    assert!(found.iter().any(|f| f.remedy.contains("--security-opt seccomp=")), "{found:?}");
    assert!(found.iter().any(|f| f.what == "epoll, which `--io auto` takes here"), "{found:?}");
    report.uring.io_uring.remedy = Some("a seccomp profile forbids it".to_owned());
    let told = findings(&report).iter().filter(|f| (f.what.clone() + &f.remedy).contains("seccomp")).count();
    assert_eq!(told, 1, "the filter is told of once: {:?}", findings(&report));
}

#[test]
fn this_kernel_is_described() {
    let report = look();
    assert_eq!(report.io_uring.available, report.features.is_some());
    assert_eq!(report.io_uring.available, report.io_uring.error.is_none());
    assert_eq!(report.tier > 0, report.io_uring.available);
    if report.io_uring.available {
        assert!(report.operations["RECV"] && report.operations["SENDMSG"], "{report:?}");
    }
}
