//! Every scenario, for a moment, on the real server: that it runs, and that its JSON says what it should.

mod support;

use serde_json::Value;
use support::{number, run};

/// Asks what every outcome that sent records must be able to say.
fn check_figures(outcome: &Value) {
    for field in ["records", "records_per_s", "bytes_per_s", "server_cpu_ns", "server_cpu_ns_per_record"] {
        assert!(number(&outcome[field]) > 0.0, "{field}: {outcome}");
    }
    for field in ["server_cpu_share", "load_cpu_share", "server_rss_bytes", "seconds", "unix_time_s"] {
        assert!(number(&outcome[field]) > 0.0, "{field}: {outcome}");
    }
    let consistent = number(&outcome["server_cpu_ns"]) / number(&outcome["records"]);
    let told = number(&outcome["server_cpu_ns_per_record"]);
    assert!((consistent - told).abs() <= told * 0.01, "{consistent} and {told}");
    assert!((0.0..=1.0).contains(&number(&outcome["fairness"])), "{outcome}");
    assert_eq!(outcome["congestion_control"], "cubic");
    assert!(outcome.get("tls").is_some(), "said, also where there is none");
    for lost in ["missed", "unacknowledged", "undelivered"] {
        assert_eq!(number(&outcome[lost]), 0.0, "{lost}: {outcome}");
    }
    let consumers = number(&outcome["consumers"]);
    if consumers > 0.0 {
        assert!(number(&outcome["delivered"]) > 0.0, "{outcome}");
        assert!(number(&outcome["server_cpu_ns_per_delivery"]) > 0.0);
        assert_eq!(outcome["latency_of"], "delivery");
    } else {
        assert!(outcome["server_cpu_ns_per_delivery"].is_null());
        assert_eq!(outcome["latency_of"], "ack");
    }
    check_latency(&outcome["latency_us"]);
}

fn check_latency(latency: &Value) {
    let points = ["p50", "p90", "p99", "p999", "max"].map(|point| number(&latency[point]));
    assert!(points[0] > 0.0 && points.is_sorted(), "{latency}");
    assert!(number(&latency["mean"]) > 0.0 && number(&latency["count"]) > 0.0, "{latency}");
}

#[test]
fn ingest() {
    let outcome = run("ingest", &["--connections", "3", "--batch-bytes", "4096"]);
    check_figures(&outcome);
    assert_eq!(number(&outcome["connections"]), 3.0);
    // 4096 bytes hold 30 records of 128 bytes with their ends, a header and a table.
    assert_eq!(number(&outcome["flows"][0]["batch_records"]), 30.0);
    assert_eq!((&outcome["kind"], &outcome["ack"]), (&"live".into(), &"received".into()));
}

#[test]
fn ingest_that_is_kept_copies_each_byte_once() {
    let outcome = run("ingest", &["--kind", "memory"]);
    check_figures(&outcome);
    assert_eq!(outcome["kind"], "memory");
    let ratio = number(&outcome["copied_bytes_ratio"]);
    assert!((0.9..1.3).contains(&ratio), "once, and here and there a frame in pieces: {ratio}");
}

#[test]
fn deliver() {
    let outcome = run("deliver", &["--payload", "1024"]);
    check_figures(&outcome);
    assert_eq!((number(&outcome["payload_bytes"]), number(&outcome["consumers"])), (1024.0, 1.0));
}

#[test]
fn fanout() {
    let outcome = run("fanout", &[]);
    check_figures(&outcome);
    let (records, delivered) = (number(&outcome["records"]), number(&outcome["delivered"]));
    assert!(delivered > records * 4.0, "every consumer gets every record: {delivered} of {records}");
}

#[test]
fn swarm() {
    let outcome = run("swarm", &["--acked"]);
    check_figures(&outcome);
    assert_eq!((number(&outcome["connections"]), number(&outcome["batch_bytes"])), (256.0, 0.0));
    assert_eq!((number(&outcome["ack_every_batches"]), number(&outcome["ack_every_us"])), (1.0, 0.0));
    assert_eq!(number(&outcome["flows"][0]["batch_records"]), 1.0);
}

#[test]
fn latency_at_a_fixed_rate() {
    let outcome = run("latency", &["--rate", "5000"]);
    check_figures(&outcome);
    let rate = number(&outcome["records_per_s"]);
    assert!((4_500.0..5_500.0).contains(&rate), "the rate is kept: {rate}");
    let curve = outcome["flows"][0]["latency_curve_us"].as_array().expect("a curve");
    assert!(curve.len() > 10 && number(&curve[curve.len() - 1][0]) == 1.0, "{curve:?}");
    // 5,000/s for 0.2 s: each batch that was due has a latency, whenever it arrived.
    assert_eq!(number(&outcome["latency_us"]["count"]), 1_000.0);
}

#[test]
fn mix() {
    let outcome = run("mix", &[]);
    check_figures(&outcome);
    let flows = outcome["flows"].as_array().expect("flows");
    let sizes: Vec<f64> = flows.iter().map(|flow| number(&flow["payload_bytes"])).collect();
    assert_eq!(sizes, [64.0, 1500.0]);
    for flow in flows {
        check_latency(&flow["latency_us"]);
        assert!(number(&flow["tail_over_mean"]) >= 0.9, "{flow}");
    }
}

#[test]
fn step() {
    let outcome = run("step", &["--rate", "4000", "--bound-us", "3000"]);
    check_figures(&outcome);
    let steps = outcome["steps"].as_array().expect("steps");
    assert!(!steps.is_empty() && steps.len() < 60, "{steps:?}");
    for step in steps {
        check_latency(&step["latency_us"]);
    }
    let knee = &outcome["knee"];
    assert_eq!(number(&knee["bound_us"]), 3_000.0);
    let beyond = number(&knee["beyond_per_s"]);
    assert!(steps.iter().any(|step| number(&step["rate_per_s"]) == beyond && step["within_bound"] == false));
}

#[test]
fn soak() {
    let outcome = run("soak", &["--rate", "20000"]);
    check_figures(&outcome);
    assert_eq!(outcome["intervals"].as_array().map(Vec::len), Some(12));
    for field in ["server_rss", "records_per_s", "p99", "server_cpu_ns_per_record"] {
        assert!(number(&outcome["drift"][field]).is_finite(), "{field}");
    }
}

#[test]
fn crossing() {
    let outcome = run("crossing", &[]);
    check_figures(&outcome);
    assert_eq!(number(&outcome["shards"]), 2.0);
    assert!(number(&outcome["crossing"]["cpu_ratio"]) > 1.0, "crossing costs something: {outcome}");
    let copied = number(&outcome["copied_bytes_ratio"]);
    assert!(copied > 0.9, "what crosses is copied, or nothing has crossed: {copied}");
}

#[test]
fn storm() {
    let outcome = run("storm", &["--handshakes", "60", "--rate", "2000"]);
    check_figures(&outcome);
    let storm = &outcome["storm"];
    assert_eq!((number(&storm["handshakes"]), number(&storm["failed"])), (60.0, 0.0), "{storm}");
    assert!(storm["first_failure"].is_null(), "{storm}");
    for latency in ["handshake_us", "calm_latency_us"] {
        check_latency(&storm[latency]);
    }
    assert!(number(&storm["handshakes_per_s"]) > 0.0 && number(&storm["p99_over_calm"]) > 0.0, "{storm}");
    // The load's own two connections, and those of the storm; none goes on from another one's ticket.
    let tls = &outcome["tls"];
    assert_eq!((number(&tls["handshakes"]), number(&tls["resumed"])), (62.0, 0.0), "{tls}");
}

/// The same work as in plaintext, by each of the server's record layers and in records of several lengths.
#[test]
fn tls() {
    for (scenario, records, flags) in [
        ("ingest", "own", &["--connections", "3", "--payload", "1024"][..]),
        ("ingest", "rustls", &["--tls-records", "rustls"]),
        ("deliver", "own", &["--tls-record-bytes", "1000", "--payload", "1024"]),
        ("deliver", "rustls", &["--tls-records", "rustls", "--kind", "memory"]),
        ("swarm", "own", &["--acked", "--connections", "64"]),
        ("latency", "own", &["--rate", "5000", "--io", "epoll"]),
        ("fanout", "own", &[]),
    ] {
        let outcome = run(scenario, &[&["--tls"], flags].concat());
        check_figures(&outcome);
        let tls = &outcome["tls"];
        assert_eq!((&tls["records"], &tls["suite"]), (&records.into(), &"TLS_AES_128_GCM_SHA256".into()));
        assert_eq!(tls["key_exchange"], "X25519MLKEM768");
        let connections = number(&outcome["connections"]) + number(&outcome["consumers"]);
        assert_eq!((number(&tls["handshakes"]), number(&tls["resumed"])), (connections, 0.0), "{tls}");
    }
}

/// A scenario with a log that is made in no time.
fn small(scenario: &str, from: &str, to: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(format!("{scenario}.toml"));
    let original = std::fs::read_to_string(format!("scenarios/{scenario}.toml")).expect("a scenario");
    let text = original.replace(from, to);
    assert_ne!(text, original);
    std::fs::write(&path, text).expect("a file");
    (directory, path.display().to_string())
}

#[test]
fn durable() {
    let (_directory, path) = small("durable", "warm_up_seconds = 2.0", "warm_up_seconds = 0.1");
    for ack in ["durable", "written"] {
        let outcome = run(&path, &["--ack", ack]);
        check_figures(&outcome);
        assert_eq!((&outcome["kind"], &outcome["ack"]), (&"log".into(), &ack.into()));
        let found = &outcome["durable"];
        for field in ["writes_per_s", "commit_bytes", "commit_us", "raw_records_per_s", "rate_over_raw"] {
            assert!(number(&found[field]) > 0.0, "{field}: {found}");
        }
        // Of a window of a fraction of a second, with what was under way at both of its ends.
        assert!(number(&found["log_bytes_per_record"]) > 64.0, "{found}");
        check_latency(&found["disk_us"]);
        check_latency(&found["low_rate_us"]);
        // 200/s for 0.2 s, but for what is under way at its edges: a busy disk takes tens of milliseconds.
        assert!((20.0..=40.0).contains(&number(&found["low_rate_us"]["count"])), "{found}");
    }
}

#[test]
fn catchup() {
    let (_directory, path) = small("catchup", "retention_bytes = 1073741824", "retention_bytes = 268435456");
    let outcome = run(&path, &[]);
    check_figures(&outcome);
    let found = &outcome["catchup"];
    assert!(number(&found["records"]) * 1024.0 >= 200e6, "all that the log keeps: {outcome}");
    for field in ["server_cpu_ns_per_record", "deliver_server_cpu_ns_per_delivery", "read_bytes_ratio"] {
        assert!(number(&found[field]) > 0.0, "{field}: {found}");
    }
}

#[test]
fn recovery() {
    let (_directory, path) = small("recovery", "retention_bytes = 4294967296", "retention_bytes = 536870912");
    let outcome = run(&path, &[]);
    let found = &outcome["recovery"];
    assert!(number(&found["log_bytes"]) >= 134_217_728.0, "{found}");
    assert_eq!(number(&found["records_read"]), number(&found["records_acknowledged"]), "{found}");
    for field in ["segments", "start_seconds", "raw_bytes_per_s", "peak_rss_bytes", "budget_bytes"] {
        assert!(number(&found[field]) > 0.0, "{field}: {found}");
    }
    assert!(
        outcome["warnings"]
            .as_array()
            .is_some_and(|all| all.iter().all(|said| !said.to_string().contains("afterwards"))),
        "{outcome}"
    );
}

#[test]
fn idle() {
    let outcome = run("idle", &["--connections", "200"]);
    let lines = outcome["idle"].as_array().expect("lines");
    let connections: Vec<f64> = lines.iter().map(|line| number(&line["connections"])).collect();
    assert_eq!(connections, [0.0, 200.0]);
    assert!(lines[0]["rss_bytes_per_connection"].is_null());
    assert!(number(&lines[1]["rss_bytes_per_connection"]) < 65_536.0, "{outcome}");
    assert!(lines.iter().all(|line| number(&line["server_rss_bytes"]) > 1e6), "{outcome}");
}
