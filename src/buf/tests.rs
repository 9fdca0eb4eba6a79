//! Under Miri too, but for what is asked of the kernel (`mapping`), of a mirror, and for long walks beside a model.

mod accounts;
mod blocks;
mod bulk;
#[cfg(not(miri))]
mod mapping;
mod memory;
mod shared;

use super::*;
use crate::ids::RegionId;

/// Cases of each property.
fn cases() -> proptest::test_runner::Config {
    proptest::test_runner::Config { failure_persistence: None, ..proptest::test_runner::Config::default() }
}

fn span(region: u32, at: u64, bytes: u32) -> Span {
    Span { region: RegionId(region), at, bytes }
}
