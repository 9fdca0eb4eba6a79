use super::*;

/// A host that gives everything.
pub(super) fn good() -> HostReport {
    let no_limit = Limit { soft: None, hard: None };
    HostReport {
        kernel: "6.18.0".to_owned(),
        cpus: 2,
        backends: BUILT.iter().map(|backend| backend.name()).collect(),
        auto: BUILT[0].name(),
        #[cfg(feature = "uring")]
        uring: uring::tests::good(),
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

pub(super) fn worst(report: &HostReport) -> Finding {
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
    assert!(report.backends.contains(&report.auto), "{report:?}");
    let json = serde_json::to_value(&report).expect("a report is plain data");
    assert_eq!(json["auto"], report.auto);
    // What scripts read has stayed where it was, and is absent where there is no io_uring to speak of.
    assert_eq!(json.get("tier").is_some(), report.backends.contains(&"uring"));
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
