//! The document has every field of the JSON, and no other.

use std::collections::BTreeSet;

use serde::Serialize;

use super::*;
use crate::compare::{Comparison, Figure};
use crate::records::{RecordsOutcome, RecordsRow};

const PAGE: &str = include_str!("../../../docs/benchmark.md");

/// Names in the first column of the tables of a section.
fn described(section: &str) -> BTreeSet<String> {
    let heading = format!("\n## {section}\n");
    let (_, rest) = PAGE.split_once(&heading).unwrap_or_else(|| panic!("no section {section}"));
    let section = rest.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(ToOwned::to_owned).collect()
}

fn fields<T: Default + Serialize>() -> BTreeSet<String> {
    let value = serde_json::to_value(T::default()).expect("a struct of numbers and text");
    value.as_object().expect("a struct").keys().cloned().collect()
}

#[test]
fn every_field_is_described() {
    for (section, fields) in [
        ("Fields of a run", fields::<Outcome>()),
        ("Fields of a latency", fields::<Latency>()),
        ("Fields of a flow", fields::<FlowOutcome>()),
        ("Fields of a step", fields::<Step>()),
        ("Fields of a knee", fields::<Knee>()),
        ("Fields of an interval", fields::<Interval>()),
        ("Fields of a drift", fields::<DriftOutcome>()),
        ("Fields of a crossing", fields::<CrossingOutcome>()),
        ("Fields of an idle line", fields::<IdleOutcome>()),
        ("Fields of a storm", fields::<StormOutcome>()),
        ("Fields of TLS", fields::<TlsOutcome>()),
        ("Fields of a durable run", fields::<DurableOutcome>()),
        ("Fields of a catch-up", fields::<CatchupOutcome>()),
        ("Fields of a recovery", fields::<RecoveryOutcome>()),
        ("Fields of a limit", fields::<LimitOutcome>()),
        ("Fields of records", fields::<RecordsOutcome>()),
        ("Fields of a row of records", fields::<RecordsRow>()),
        ("Fields of a comparison", fields::<Comparison>()),
        ("Fields of a figure", fields::<Figure>()),
    ] {
        assert_eq!(described(section), fields, "docs/benchmark.md, {section}");
    }
}

/// Every flag of `run`, `ab` and `report`, and every scenario.
#[test]
fn flags_and_scenarios_are_described() {
    let flags = described("How to run it");
    for command in ["run", "ab"] {
        for flag in crate::cli::flags(command) {
            assert!(flags.iter().any(|row| row.split(' ').next() == Some(&flag)), "{command} {flag}");
        }
    }
    let flags = described("A report");
    for flag in crate::cli::flags("report") {
        assert!(flags.iter().any(|row| row.split(' ').next() == Some(&flag)), "report {flag}");
    }
    let names: BTreeSet<String> = crate::scenario::Scenario::names().into_iter().collect();
    assert_eq!(described("Scenarios"), names);
}
