//! The bodies of the fuzz targets (tests/fuzz) on stable: over the committed corpus, and over random stories.

#[path = "fuzz/bodies/tls_records.rs"]
mod tls_records;

use std::path::Path;

use proptest::prelude::*;

#[test]
fn tls_records_of_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/tls_records");
    let mut stories = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is committed") {
        let file = entry.expect("readable").path();
        println!("{}", file.display());
        tls_records::run(&std::fs::read(&file).expect("readable"));
        stories += 1;
    }
    assert!(stories >= 10, "{stories} stories in {}", folder.display());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
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
}
