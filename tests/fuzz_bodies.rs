//! The bodies of the fuzz targets (tests/fuzz) on stable: over the committed corpus, and over random stories.

#[path = "fuzz/bodies/batch_verify.rs"]
mod batch_verify;
#[path = "fuzz/bodies/configuration.rs"]
mod configuration;
#[path = "fuzz/bodies/control_tables.rs"]
mod control_tables;
#[path = "fuzz/bodies/frame_decode.rs"]
mod frame_decode;
#[path = "fuzz/bodies/log_recovery.rs"]
mod log_recovery;
#[path = "fuzz/bodies/mutation.rs"]
mod mutation;
#[path = "fuzz/bodies/story.rs"]
mod story;
#[path = "fuzz/bodies/tls_records.rs"]
mod tls_records;

use std::path::{Path, PathBuf};

use proptest::prelude::*;

/// The committed stories of a target, by their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).expect("the corpus is committed");
    let files = entries.map(|entry| entry.expect("readable").path());
    let mut stories: Vec<_> =
        files.map(|file| (file.clone(), std::fs::read(&file).expect("readable"))).collect();
    stories.sort();
    assert!(stories.len() >= 10, "{} stories in {}", stories.len(), folder.display());
    stories
}

fn replay(name: &str, run: fn(&[u8])) {
    for (file, story) in corpus(name) {
        println!("{}", file.display());
        run(&story);
    }
}

/// Stories near those of a corpus: some bytes changed, pieces of two put together, or cut short.
fn near(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let stories: Vec<_> = corpus(name).into_iter().map(|(_, story)| story).collect();
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..8_u8);
    let changes = proptest::collection::vec(change, 0..6);
    let other = proptest::option::weighted(
        0.2,
        (prop::sample::select(stories.clone()), any::<prop::sample::Index>()),
    );
    (prop::sample::select(stories), other, changes).prop_map(|(mut story, other, changes)| {
        if let Some((other, at)) = other {
            story.truncate(at.index(story.len() + 1));
            story.extend(other.iter().skip(at.index(other.len() + 1)));
        }
        for (at, byte, kind) in changes {
            let at = at.index(story.len() + 1);
            match (kind, story.get_mut(at)) {
                (0, _) => story.insert(at, byte),
                (1, _) => story.truncate(at),
                (2, Some(_)) => drop(story.remove(at)),
                (3 | 4, Some(to)) => *to ^= 1 << (byte % 8),
                (_, Some(to)) => *to = byte,
                (_, None) => story.push(byte),
            }
        }
        story
    })
}

/// The targets: their corpora, any story, and stories near the corpus.
macro_rules! targets {
    ($($target:ident: $of_the_corpus:ident, $of_any:ident, $near:ident;)*) => {
        $(
            #[test]
            fn $of_the_corpus() {
                replay(stringify!($target), $target::run);
            }
        )*

        proptest! {
            #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
            $(
                #[test]
                fn $of_any(story in proptest::collection::vec(any::<u8>(), 0..400)) {
                    $target::run(&story);
                }

                #[test]
                fn $near(story in near(stringify!($target))) {
                    $target::run(&story);
                }
            )*
        }
    };
}

targets! {
    batch_verify: batch_verify_of_the_corpus, batch_verify_of_any_story, batch_verify_near_the_corpus;
    configuration: configuration_of_the_corpus, configuration_of_any_story, configuration_near_the_corpus;
    control_tables: control_tables_of_the_corpus, control_tables_of_any_story, control_tables_near_the_corpus;
    frame_decode: frame_decode_of_the_corpus, frame_decode_of_any_story, frame_decode_near_the_corpus;
    log_recovery: log_recovery_of_the_corpus, log_recovery_of_any_story, log_recovery_near_the_corpus;
    tls_records: tls_records_of_the_corpus, tls_records_of_any_story, tls_records_near_the_corpus;
}

/// Stories of each property; `PROPTEST_CASES=30000 cargo test --test fuzz_bodies` tells more of them.
fn cases() -> u32 {
    let told = std::env::var("PROPTEST_CASES").ok();
    told.map_or(300, |told| told.parse().expect("PROPTEST_CASES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    /// More of what goes well for a while: small numbers, which are the operations.
    #[test]
    fn tls_records_of_any_story_of_small_numbers(
        mode in 0..4_u8,
        story in proptest::collection::vec(prop_oneof![3 => 0..9_u8, 1 => any::<u8>()], 0..200),
    ) {
        tls_records::run(&[&[mode][..], &story].concat());
    }

    /// More flushes, and what is overwritten is near them.
    #[test]
    fn log_recovery_of_any_story_of_small_numbers(
        story in proptest::collection::vec(prop_oneof![3 => 0..12_u8, 1 => any::<u8>()], 0..200),
    ) {
        log_recovery::run(&[&[1][..], &story].concat());
    }
}
