//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz configuration`.

#![no_main]

#[path = "../bodies/configuration.rs"]
mod configuration;
#[path = "../bodies/mutation.rs"]
mod mutation;
#[path = "../bodies/story.rs"]
mod story;

libfuzzer_sys::fuzz_target!(|story: &[u8]| configuration::run(story));
