//! The bodies of the fuzz targets (tests/fuzz) on stable: over the committed corpus, and over random stories.

#[path = "fuzz/bodies/log_recovery.rs"]
mod log_recovery;
#[path = "fuzz/bodies/story.rs"]
mod story;
#[path = "fuzz/bodies/tls_records.rs"]
mod tls_records;

use std::path::Path;

use proptest::prelude::*;

fn corpus(name: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut stories = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is committed") {
        let file = entry.expect("readable").path();
        println!("{}", file.display());
        run(&std::fs::read(&file).expect("readable"));
        stories += 1;
    }
    assert!(stories >= 10, "{stories} stories in {}", folder.display());
}

#[test]
fn tls_records_of_the_corpus() {
    corpus("tls_records", tls_records::run);
}

#[test]
fn log_recovery_of_the_corpus() {
    corpus("log_recovery", log_recovery::run);
}

/// Stories of each property; `PROPTEST_CASES=30000 cargo test --test fuzz_bodies` tells more of them.
fn cases() -> u32 {
    let told = std::env::var("PROPTEST_CASES").ok();
    told.map_or(300, |told| told.parse().expect("PROPTEST_CASES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn tls_records_of_any_story(story in proptest::collection::vec(any::<u8>(), 0..300)) {
        tls_records::run(&story);
    }

    /// More of what goes well for a while: small numbers, which are the operations.
    #[test]
    fn tls_records_of_any_story_of_small_numbers(
        mode in 0..4_u8,
        story in proptest::collection::vec(prop_oneof![3 => 0..9_u8, 1 => any::<u8>()], 0..200),
    ) {
        tls_records::run(&[&[mode][..], &story].concat());
    }

    #[test]
    fn log_recovery_of_any_story(story in proptest::collection::vec(any::<u8>(), 0..400)) {
        log_recovery::run(&story);
    }

    /// More flushes, and what is overwritten is near them.
    #[test]
    fn log_recovery_of_any_story_of_small_numbers(
        story in proptest::collection::vec(prop_oneof![3 => 0..12_u8, 1 => any::<u8>()], 0..200),
    ) {
        log_recovery::run(&[&[1][..], &story].concat());
    }
}
