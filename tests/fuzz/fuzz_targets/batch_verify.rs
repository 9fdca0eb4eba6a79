//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz batch_verify`.

#![no_main]

#[path = "../bodies/batch_verify.rs"]
mod batch_verify;
#[path = "../bodies/mutation.rs"]
mod mutation;
#[path = "../bodies/story.rs"]
mod story;

libfuzzer_sys::fuzz_target!(|story: &[u8]| batch_verify::run(story));
