//! A build without io_uring, in a cage that kills whoever makes a call of it.

use crate::filter::{ALL, deadly, run_caged};
use crate::{end, is_refused_as_not_built, json, records_pass, serve_caged};

#[test]
fn it_serves_and_has_nothing_to_say() {
    let cage = deadly(ALL);
    let server = serve_caged(&[], &cage);
    records_pass(&server, &cage);
    assert!(!server.log().contains("io_uring"), "{}", server.log());
    let ready = json(&server.page("/readyz"));
    assert_eq!(ready["io"]["backend"], "epoll");
    assert_eq!(ready["io"]["because"], "this build has no other backend");
    let keys = ready["degraded"].as_array().expect("a list").iter().map(|one| one["key"].to_string());
    assert!(!keys.into_iter().any(|key| key.contains("uring")), "{ready}");
    end(server);
}

#[test]
fn io_uring_is_refused_by_name() {
    is_refused_as_not_built(&["--io", "uring"], "io (--io)", "uring");
    is_refused_as_not_built(&["--io-tier", "1"], "io_tier (--io-tier)", "uring");
}

#[test]
fn the_doctor_does_not_miss_it() {
    let (code, out, err) = run_caged(&["doctor", "-o", "json"], &deadly(ALL));
    assert_eq!(code, Some(0), "{err}");
    let report = json(&out);
    assert_eq!(report["host"]["backends"], serde_json::json!(["epoll"]));
    assert_eq!(report["host"]["auto"], "epoll");
    let findings = report["findings"].as_array().expect("findings");
    let named = |level: &str| {
        findings.iter().any(|one| one["level"] == level && one.to_string().contains("io_uring"))
    };
    assert!(named("ok") && !named("note") && !named("warn") && !named("bad"), "{findings:?}");
}
