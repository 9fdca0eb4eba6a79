//! A build with both backends.

use serde_json::Value;

use crate::filter::{
    ALL, Cage, IO_URING_ENTER, IO_URING_REGISTER, deadly, run_caged, without, without_large_rings,
};
use crate::support::{Server, feed, uringest};
use crate::{does_not_serve, end, json, records_pass, serve_caged};

/// Serves on epoll from end to end, and says everywhere that it does and why.
fn serves_on_epoll(cage: &Cage, cause: &str) {
    let server = serve_caged(&[], cage);
    let admin = server.admin.to_string();
    records_pass(&server, cage);
    // Once in the log, at warn, with the cause and what mends it.
    let log = server.log();
    let told: Vec<Value> = log
        .lines()
        .map(json)
        .filter(|line| line["level"] == "warn" && line.to_string().contains("uring"))
        .collect();
    let [told] = &told[..] else { panic!("it is said once: {told:?}") };
    assert_eq!(told["event"], "io_uring_unavailable");
    let message = told["message"].as_str().expect("text");
    for part in [cause, "all shards run on epoll", "To mend it: ", "--io epoll"] {
        assert!(message.contains(part), "{part} in: {message}");
    }
    let starting =
        log.lines().map(json).find(|line| line["event"] == "starting").expect("it says what it starts on");
    assert_eq!((&starting["io"], &starting["tier"]), (&"epoll".into(), &"0".into()));
    assert!(starting["io_because"].as_str().is_some_and(|why| why.contains(cause)), "{starting}");
    // To whoever asks: the probe, the page of metrics, the status, `top`.
    let ready = json(&server.page("/readyz"));
    assert_eq!((&ready["ready"], &ready["io"]["backend"]), (&true.into(), &"epoll".into()));
    assert_eq!(ready["degraded"][0]["key"], "io_uring_unavailable", "{ready}");
    let metrics = server.page("/metrics");
    for sample in [
        r#"uringest_io_info{shard="0",backend="epoll",tier="0"} 1"#,
        r#"uringest_io_info{shard="1",backend="epoll",tier="0"} 1"#,
        r#"uringest_degraded{what="io_uring_unavailable"} 1"#,
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample} in\n{metrics}");
    }
    let status = json(&server.page("/v1/server"));
    assert!(
        status["shards"].as_array().expect("shards").iter().all(|shard| shard["backend"] == "epoll"),
        "{status}"
    );
    let top = feed(&mut uringest(&["top", "--once", "-o", "json", "--admin", &admin]), b"");
    let top = json(&String::from_utf8_lossy(&top.stdout));
    assert_eq!(
        (&top["io"]["backend"], &top["degraded"][0]["key"]),
        (&"epoll".into(), &"io_uring_unavailable".into())
    );
    end(server);
}

#[test]
fn it_serves_where_io_uring_is_forbidden() {
    serves_on_epoll(&without(ALL, libc::EPERM), "Operation not permitted");
}

#[test]
fn it_serves_where_there_is_no_io_uring() {
    serves_on_epoll(&without(ALL, libc::ENOSYS), "Function not implemented");
}

/// A ring that can be made and not entered would fail with the first connection.
#[test]
fn it_serves_where_a_ring_can_be_made_and_not_used() {
    serves_on_epoll(&without(&[IO_URING_ENTER], libc::EPERM), "Operation not permitted");
    serves_on_epoll(&without(&[IO_URING_REGISTER], libc::EPERM), "Operation not permitted");
}

/// Small rings are made and those of the shards are not, as with too little memory to lock.
#[test]
fn it_serves_where_rings_are_too_large_for_the_host() {
    serves_on_epoll(&without_large_rings(libc::EMFILE), "making the ring: Too many open files");
}

#[test]
fn what_is_asked_for_by_name_is_refused_with_its_remedy() {
    for asked in [&["--io", "uring"][..], &["--io", "auto", "--io-tier", "1"]] {
        for (errno, cause) in
            [(libc::EPERM, "Operation not permitted"), (libc::ENOSYS, "Function not implemented")]
        {
            let (code, err) = does_not_serve(asked, &without(ALL, errno));
            assert_eq!(code, Some(1), "{err}");
            for part in ["io_uring cannot be used", cause, "\n  try: ", "io_uring_", "--io epoll"] {
                assert!(err.contains(part), "{asked:?}: {part} in: {err}");
            }
        }
    }
}

#[test]
fn the_demo_says_what_it_ran_on() {
    let (code, out, err) = run_caged(&["demo", "--seconds", "2"], &without(ALL, libc::EPERM));
    assert_eq!(code, Some(0), "{err}");
    for part in
        ["every record arrived once", "ran on epoll", "degraded: io_uring_unavailable: ", "To mend it: "]
    {
        assert!(out.contains(part), "{part} in: {out}");
    }
}

/// Who asks for epoll gets it without a word, and without a call of io_uring: the cage kills whoever makes one.
#[test]
fn what_was_chosen_needs_no_excuse() {
    let cage = deadly(ALL);
    let (killed, ..) = run_caged(&["doctor"], &cage);
    assert_eq!(killed, None, "the cage is deadly to whoever tries io_uring");
    let server = serve_caged(&["--io", "epoll"], &cage);
    records_pass(&server, &cage);
    assert!(!server.log().contains("io_uring"), "{}", server.log());
    let ready = json(&server.page("/readyz"));
    let keys = ready["degraded"].as_array().expect("a list").iter().map(|one| one["key"].to_string());
    assert!(!keys.into_iter().any(|key| key.contains("uring")), "{ready}");
    assert_eq!(ready["io"]["because"], "it is configured");
    end(server);
}

#[test]
fn the_doctor_finds_the_cage() {
    for (errno, cause) in
        [(libc::EPERM, "Operation not permitted"), (libc::ENOSYS, "Function not implemented")]
    {
        let (code, out, err) = run_caged(&["doctor", "-o", "json"], &without(ALL, errno));
        assert_eq!(code, Some(0), "the server can run here: {err}");
        let report = json(&out);
        assert_eq!(report["host"]["backends"], serde_json::json!(["uring", "epoll"]));
        assert_eq!(
            (&report["host"]["auto"], &report["host"]["seccomp"]),
            (&"epoll".into(), &"filter".into())
        );
        assert_eq!(report["host"]["io_uring"]["available"], false);
        let findings = report["findings"].as_array().expect("findings");
        let named = |begins: &str| {
            let found =
                findings.iter().find(|one| one["what"].as_str().is_some_and(|what| what.starts_with(begins)));
            found.unwrap_or_else(|| panic!("{begins} in {findings:?}")).clone()
        };
        let missing = named("no io_uring");
        assert!(missing["level"] == "warn" && missing.to_string().contains(cause), "{missing}");
        assert!(missing["costs"].as_str().is_some_and(|costs| costs.contains("epoll")), "{missing}");
        assert!(missing["remedy"].as_str().is_some_and(|remedy| remedy.contains("io_uring_")), "{missing}");
        assert_eq!(named("epoll")["level"], "ok");
    }
    let (_, out, _) = run_caged(&["doctor"], &without(ALL, libc::EPERM));
    assert!(out.contains("`--io auto` takes epoll"), "{out}");
}

/// That the cage holds is what the other tests rest on; and outside of it, where this host has io_uring, `auto` takes it.
#[test]
fn the_cage_is_what_makes_the_difference() {
    let outside = feed(&mut uringest(&["doctor", "-o", "json"]), b"");
    let outside = json(&String::from_utf8_lossy(&outside.stdout));
    if outside["host"]["io_uring"]["available"] != true {
        return println!("SKIPPED: no io_uring here: {}", outside["host"]["io_uring"]);
    }
    assert_eq!(outside["host"]["auto"], "uring");
    let server = Server::start(&[]);
    let ready = json(&server.page("/readyz"));
    assert_eq!(ready["io"]["backend"], "uring");
    assert_eq!(ready["io"]["because"], "io_uring works on this host");
    end(server);
}
