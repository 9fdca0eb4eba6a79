//! Which bare program stands for which scenario, and what windows come to.

use super::*;
use crate::outcome::sample;
use crate::scenario::{Overrides, Scenario};

#[test]
fn every_scenario_has_its_bare_program_or_a_reason() {
    let sink = ["ingest", "swarm"];
    let relay = ["deliver", "fanout", "latency", "mix", "step", "soak"];
    for scenario in Scenario::built_in() {
        let work = scenario.work(&Overrides::default()).expect("a test reads them all");
        let name = scenario.name.as_str();
        match role(&work) {
            Ok(Role::Sink) => assert!(sink.contains(&name), "{name}: a sink"),
            Ok(Role::Relay) => assert!(relay.contains(&name), "{name}: a relay"),
            Ok(Role::Answer) => panic!("{name}: acknowledgements are far apart"),
            Err(error) => {
                let without = ["crossing", "idle", "storm", "durable", "catchup", "recovery"];
                assert!(without.contains(&name), "{name}: {error}");
                assert!(error.to_string().contains(name), "{error}");
            }
        }
        let acked = Overrides { acked: Some(true), ..Overrides::default() };
        let work = scenario.work(&acked).expect("acknowledgements can be asked for");
        if sink.contains(&name) {
            assert_eq!(role(&work).ok(), Some(Role::Answer), "{name}: each batch is answered");
        }
    }
}

#[test]
fn the_ratio_is_to_the_mean_of_the_windows_around_the_server() {
    let windows = [sample(10.0, None), sample(30.0, None)];
    let limit = limit_of(&sample(50.0, None), &windows, &[None, None]);
    assert_eq!((limit.name.as_str(), limit.server_cpu_ns_per_record), ("epoll bare sink", 20.0));
    assert_eq!((limit.ratio, limit.server_cpu_ns_per_delivery), (2.5, None));
    assert_eq!((limit.memcpy_ns_per_record, limit.ratio_with_memcpy), (None, None));
}

#[test]
fn where_records_are_delivered_the_ratio_is_of_deliveries() {
    let windows = [sample(80.0, Some(10.0)), sample(160.0, Some(20.0))];
    let limit = limit_of(&sample(240.0, Some(30.0)), &windows, &[None, None]);
    assert_eq!((limit.ratio, limit.server_cpu_ns_per_delivery), (2.0, Some(15.0)));
}

#[test]
fn where_records_are_kept_a_copy_is_added() {
    let windows = [sample(20.0, None), sample(20.0, None)];
    let limit = limit_of(&sample(50.0, None), &windows, &[Some(4.0), Some(6.0)]);
    assert_eq!((limit.memcpy_ns_per_record, limit.ratio_with_memcpy), (Some(5.0), Some(2.0)));
    assert_eq!(limit.ratio, 2.5, "the ratio to the bare program alone stays");
}
