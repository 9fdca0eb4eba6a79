//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz frame_decode`.

#![no_main]

#[path = "../bodies/frame_decode.rs"]
mod frame_decode;
#[path = "../bodies/mutation.rs"]
mod mutation;
#[path = "../bodies/story.rs"]
mod story;

libfuzzer_sys::fuzz_target!(|story: &[u8]| frame_decode::run(story));
