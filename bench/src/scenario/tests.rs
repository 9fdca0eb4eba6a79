use super::*;

#[test]
fn every_built_in_scenario_is_read_and_written_unchanged() {
    let names = Scenario::names();
    let expected = [
        "ingest", "deliver", "fanout", "swarm", "latency", "mix", "step", "soak", "crossing", "idle",
        "storm", "durable", "catchup", "recovery",
    ];
    assert_eq!(names, expected);
    for (scenario, text) in Scenario::built_in().iter().zip(BUILT_IN) {
        let reported = !scenario.drive.is_about_the_log();
        assert_eq!(
            !scenario.variants.is_empty(),
            reported,
            "{}: a report has something to run",
            scenario.name
        );
        assert!(scenario.description.ends_with('.'), "{}", scenario.description);
        let again = Scenario::parse("again", &scenario.to_toml()).expect("what is written can be read");
        assert_eq!(&again, scenario);
        assert!(text.starts_with(&format!("name = \"{}\"\n", scenario.name)));
    }
}

fn ingest() -> String {
    BUILT_IN[0].to_owned()
}

#[test]
fn unknown_keys_are_refused_with_those_that_are_allowed() {
    for (from, to, allowed) in [
        ("seconds = 5.0", "secs = 5.0", "seconds"),
        ("payload_bytes = 128\n", "payload = 128\n", "payload_bytes"),
        ("with = { connections = 16 }", "with = { conns = 16 }", "connections"),
    ] {
        let text = ingest().replacen(from, to, 1);
        assert_ne!(text, ingest());
        let error = Scenario::parse("mine.toml", &text).expect_err(to).to_string();
        assert!(error.contains("unknown field") && error.contains(allowed), "{error}");
        assert!(error.contains("mine.toml"), "{error}");
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    for (from, to, expected) in [
        ("name = \"ingest\"", "name = \"in gest\"", "letters"),
        ("drive = \"saturate\"", "drive = \"open\"", "rate"),
        ("drive = \"saturate\"", "drive = \"step\"", "step_factor"),
        ("drive = \"saturate\"", "drive = \"soak\"", "intervals"),
        ("drive = \"saturate\"", "drive = \"idle\"", "[[flow]]"),
        ("drive = \"saturate\"", "drive = \"storm\"", "handshakes"),
        ("drive = \"saturate\"", "drive = \"saturate\"\nhandshakes = 5", "handshakes"),
        ("drive = \"saturate\"", "drive = \"crossing\"", "shards"),
        ("drive = \"saturate\"", "drive = \"durable\"", "kind log"),
        ("drive = \"saturate\"", "drive = \"saturate\"\nack = \"written\"", "more than received"),
        ("drive = \"saturate\"", "drive = \"catchup\"\nkind = \"log\"", "at least one"),
        ("drive = \"saturate\"", "drive = \"faster\"", "expected one of"),
        ("seconds = 5.0", "seconds = 0.0", "seconds"),
        ("payload_bytes = 128\n", "payload_bytes = 4\n", "payload"),
        ("batch_bytes = 65536\n", "batch_bytes = 1000000\n", "batch"),
        ("connections = 1\n", "connections = 0\n", "producer"),
        ("128 B, 64 KiB batches, 16 connections\"", "128 B, 64 KiB batches, 1 connection\"", "two variants"),
        ("with = { connections = 16 }", "with = { connections = 0 }", "variant"),
    ] {
        let text = ingest().replacen(from, to, 1);
        assert_ne!(text, ingest(), "{from}");
        let error = Scenario::parse("mine.toml", &text).expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn the_command_line_changes_flows() {
    let ingest = Scenario::find("ingest").expect("built in");
    let with = Overrides {
        payload_bytes: Some(1024),
        connections: Some(16),
        kind: Some(Kind::Memory),
        acked: Some(true),
        seconds: Some(0.2),
        ..Overrides::default()
    };
    let work = ingest.work(&with).expect("it can be done");
    assert_eq!((work.flows[0].payload_bytes, work.flows[0].batch_bytes), (1024, 65_536));
    assert_eq!((work.flows[0].connections, work.kind, work.acks), (16, Kind::Memory, AckPace::EACH));
    assert!((work.warm_up_seconds - 0.2).abs() < 1e-9, "no longer than what is measured");

    let mix = Scenario::find("mix").expect("built in");
    let error = mix.work(&with).expect_err("there are two flows").to_string();
    assert!(error.contains("2 flows"), "{error}");
    let both = Overrides { seconds: Some(2.0), consumers: Some(3), ..Overrides::default() };
    let work = mix.work(&both).expect("it is of both");
    assert!(work.flows.iter().all(|flow| flow.consumers == 3));

    let idle = Scenario::find("idle").expect("built in");
    let work =
        idle.work(&Overrides { connections: Some(50), ..Overrides::default() }).expect("it can be done");
    assert_eq!(work.idle_connections, [0, 50]);
    assert!(idle.work(&with).is_err(), "nothing is sent");
}

#[test]
fn what_is_no_scenario_is_named_with_those_that_are() {
    let error = Scenario::find("ingets").expect_err("no such scenario").to_string();
    assert!(error.contains("ingets") && error.contains("ingest, deliver"), "{error}");
    let error = Scenario::find("nowhere/mine.toml").expect_err("no such file").to_string();
    assert!(error.contains("nowhere/mine.toml"), "{error}");
}
