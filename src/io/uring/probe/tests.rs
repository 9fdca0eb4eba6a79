use super::*;

fn good() -> HostReport {
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
        registered_buffers: true,
        nowait_flag: true,
        ring_messages: true,
        skip_success: true,
        send_zc: true,
    };
    let no_limit = Limit { soft: None, hard: None };
    HostReport {
        kernel: "6.18.0".to_owned(),
        cpus: 2,
        tier: 2,
        io_uring: Availability { available: true, error: None, remedy: None, disabled_sysctl: Some(0) },
        operations: BTreeMap::new(),
        features: Some(features),
        regions_error: None,
        locked_memory: no_limit,
        open_files: no_limit,
        congestion_control: CongestionControl {
            in_use: Some("cubic".to_owned()),
            available: vec!["reno".to_owned(), "cubic".to_owned()],
        },
        huge_pages: HugePages { reserved: 8, free: 8, bytes: 2 << 20, transparent: None },
        seccomp: Seccomp::Off,
    }
}

fn worst(report: &HostReport) -> Finding {
    findings(report).into_iter().next().expect("there is always a finding")
}

#[test]
fn a_good_host_has_nothing_to_mend() {
    for finding in findings(&good()) {
        assert_eq!(finding.level, Level::Ok, "{finding:?}");
        assert!(finding.remedy.is_empty() && finding.costs.is_empty(), "{finding:?}");
    }
}

#[test]
fn each_shortcoming_names_its_remedy() {
    let mut report = good();
    report.congestion_control.in_use = Some("bbr".to_owned());
    assert!(worst(&report).remedy.contains("sysctl -w net.ipv4.tcp_congestion_control=cubic"));
    report.congestion_control.available = vec!["bbr".to_owned()];
    assert!(worst(&report).remedy.contains("modprobe tcp_cubic"));

    let mut report = good();
    report.regions_error = Some("Cannot allocate memory (os error 12)".to_owned());
    report.locked_memory.soft = Some(64 * 1024);
    let finding = worst(&report);
    assert!(finding.what.contains("64 KiB") && finding.what.contains("os error 12"), "{finding:?}");
    assert!(
        finding.remedy.contains("ulimit -l unlimited") && finding.remedy.contains("LimitMEMLOCK=infinity")
    );

    let mut report = good();
    report.open_files.hard = Some(1024);
    let finding = worst(&report);
    assert_eq!(finding.level, Level::Warn);
    assert!(finding.remedy.contains("ulimit -n 32768"), "{finding:?}");

    let mut report = good();
    report.huge_pages = HugePages::default();
    assert_eq!(
        (worst(&report).level, worst(&report).remedy.contains("vm.nr_hugepages")),
        (Level::Note, true)
    );
}

#[test]
fn tiers_are_told_apart() {
    let mut report = good();
    report.tier = 1;
    report.features = report.features.map(|f| Features { multishot_receive: false, ..f });
    let finding = worst(&report);
    assert_eq!(finding.level, Level::Warn);
    assert!(finding.what.contains("tier 1") && finding.what.contains("no multishot receive"), "{finding:?}");

    let error = failed("making a ring", std::io::Error::from_raw_os_error(libc::EPERM));
    report.tier = 0;
    report.features = None;
    report.seccomp = Seccomp::Filter;
    report.io_uring = Availability {
        available: false,
        error: Some(error.source.to_string()),
        remedy: Some(error.remedy),
        disabled_sysctl: Some(0),
    };
    let found = findings(&report);
    assert_eq!(found[0].level, Level::Bad);
    assert!(found[0].what.contains("not permitted"), "{:?}", found[0]);
    assert!(!found[0].remedy.is_empty());
    assert!(found.iter().any(|f| f.remedy.contains("--security-opt seccomp=")), "{found:?}");
}

#[test]
fn files_of_the_kernel_are_read() {
    let status = "Name:\tcat\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n";
    assert_eq!(seccomp_of(status), Seccomp::Filter);
    assert_eq!(seccomp_of("Seccomp:\t0\n"), Seccomp::Off);
    assert_eq!(seccomp_of(""), Seccomp::Unknown);
    assert_eq!(chosen("always [madvise] never"), Some("madvise"));
    assert_eq!(chosen("never"), None);
    assert_eq!(field("MemTotal: 10 kB\nHugepagesize:    2048 kB\n", "Hugepagesize:"), Some("2048"));
}

#[test]
fn this_host_is_described() {
    let report = probe();
    assert!(!report.kernel.is_empty());
    assert_eq!(report.io_uring.available, report.features.is_some());
    assert_eq!(report.io_uring.available, report.io_uring.error.is_none());
    assert_eq!(report.tier > 0, report.io_uring.available);
    if report.io_uring.available {
        assert!(report.operations["RECV"] && report.operations["SENDMSG"], "{report:?}");
    }
    let json = serde_json::to_value(&report).expect("a report is plain data");
    assert_eq!(json["tier"], report.tier);
    let found = findings(&report);
    assert!(!found.is_empty());
    for finding in found {
        let silent = finding.level == Level::Ok;
        assert_eq!(
            silent,
            finding.remedy.is_empty(),
            "what is not as it should be has a remedy: {finding:?}"
        );
    }
}
