//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz control_tables`.

#![no_main]

#[path = "../bodies/control_tables.rs"]
mod control_tables;
#[path = "../bodies/mutation.rs"]
mod mutation;
#[path = "../bodies/story.rs"]
mod story;

libfuzzer_sys::fuzz_target!(|story: &[u8]| control_tables::run(story));
