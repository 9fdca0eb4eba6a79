//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz log_recovery`.

#![no_main]

#[path = "../bodies/log_recovery.rs"]
mod log_recovery;
#[path = "../bodies/story.rs"]
mod story;

libfuzzer_sys::fuzz_target!(|story: &[u8]| log_recovery::run(story));
