//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz tls_records`.

#![no_main]

#[path = "../bodies/story.rs"]
mod story;
#[path = "../bodies/tls_records.rs"]
mod tls_records;

libfuzzer_sys::fuzz_target!(|story: &[u8]| tls_records::run(story));
