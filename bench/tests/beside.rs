//! What is measured beside the server: the bare programs, and the peers that are installed.

mod support;

use std::process::Output;

use serde_json::Value;
use support::{command, number, placement};

/// Runs the benchmark for a fraction of a second a window, without peers on the path.
fn bench(arguments: &[&str]) -> Output {
    let mut command = command(arguments);
    command.args(["--json", "--seconds=0.2"]).args(placement());
    command.env("PATH", "/nowhere").output().expect("the benchmark runs")
}

fn objects(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("never"), "everything arrives and is acknowledged: {said}");
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn the_limit_of_a_scenario_is_taken_on_each_interface() {
    for (scenario, subject, counted) in [
        (&["limit", "ingest"][..], "bare sink", "records"),
        (&["limit", "fanout"], "bare relay", "delivered"),
        (&["limit", "swarm", "--acked", "--connections=20"], "bare answer", "records"),
    ] {
        let outcomes = objects(&bench(scenario));
        assert!((1..=2).contains(&outcomes.len()), "uring where there is one, and epoll");
        assert_eq!(outcomes.last().expect("one at least")["io"], "epoll");
        for outcome in &outcomes {
            assert_eq!(outcome["subject"], subject);
            let (cpu, count) = (number(&outcome["server_cpu_ns"]), number(&outcome[counted]));
            assert!(cpu > 0.0 && count > 0.0, "{outcome}");
            let unit = if counted == "delivered" {
                "server_cpu_ns_per_delivery"
            } else {
                "server_cpu_ns_per_record"
            };
            assert!((number(&outcome[unit]) - cpu / count).abs() < 1e-6 * cpu / count, "{outcome}");
        }
    }
    let output = bench(&["limit", "idle"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("has no limit"), "{said}");
}

#[test]
fn a_run_says_how_far_it_is_from_the_limit() {
    let arguments = ["run", "ingest", "--io=epoll", "--kind=memory", "--with-limit"];
    let outcomes = objects(&bench(&arguments));
    let [outcome] = &outcomes[..] else { panic!("one object") };
    let limit = &outcome["limit"];
    assert_eq!(limit["name"], "epoll bare sink");
    let (own, bare) =
        (number(&outcome["server_cpu_ns_per_record"]), number(&limit["server_cpu_ns_per_record"]));
    let copy = number(&limit["memcpy_ns_per_record"]);
    assert!(bare > 0.0 && copy > 0.0, "{limit}");
    assert!((number(&limit["ratio"]) - own / bare).abs() < 1e-6, "{limit}");
    assert!((number(&limit["ratio_with_memcpy"]) - own / (bare + copy)).abs() < 1e-6, "{limit}");
}

#[test]
fn peers_that_are_not_installed_are_listed_with_their_packages() {
    let contests = objects(&bench(&["peers", "deliver", "--io=epoll", "--rounds=1"]));
    let [contest] = &contests[..] else { panic!("one object") };
    let list = |key: &str| contest[key].as_array().expect("a list").clone();
    let packages: Vec<Value> = list("skipped").iter().map(|skipped| skipped["package"].clone()).collect();
    for package in ["nats-server", "redis-server"] {
        assert!(packages.contains(&package.into()), "{contest}");
    }
    let entries = list("entries");
    assert_eq!(entries[0]["entrant"], "uringest");
    for entry in &entries {
        assert!(number(&entry["server_cpu_ns"]) > 0.0 && number(&entry["records_per_s"]) > 0.0, "{entry}");
    }
    assert_eq!(entries.last().expect("the limit")["entrant"], "limit (epoll)");
}
