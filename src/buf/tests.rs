//! The tests of the accounts touch no memory from `mmap` and run under Miri too; those of mappings do not.

mod accounts;
mod blocks;
mod bulk;
#[cfg(not(miri))]
mod mapping;
#[cfg(not(miri))]
mod memory;
mod shared;

use super::*;
use crate::ids::RegionId;

/// Cases of each property; fewer under Miri, which is slow.
fn cases() -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases: if cfg!(miri) { 8 } else { 256 },
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    }
}

fn span(region: u32, at: u64, bytes: u32) -> Span {
    Span { region: RegionId(region), at, bytes }
}
