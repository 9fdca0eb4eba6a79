use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::control::files::sim::SimFiles;
use crate::control::files::{Files, replace};
use crate::proto::header::AckLevel;

const MIB: u64 = 1024 * 1024;

fn spec(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        kind: TopicKind::Memory,
        overflow: Overflow::Block,
        ring_bytes: 4 * MIB,
        log: None,
        partitions,
    }
}

fn with_topics(names: &[&str]) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for name in names {
        catalogue.create(&spec(name, 2), 1 << 40, 7).expect("there is room");
    }
    catalogue
}

#[test]
fn round_trip() {
    let mut catalogue = with_topics(&["a", "b/c"]);
    catalogue.begin();
    catalogue.commit(PartitionId(2), "who", u64::MAX);
    catalogue.set_paused("a", true);
    assert_eq!(decode(&encode(&catalogue)), Ok(catalogue));
    assert_eq!(decode(&encode(&Catalogue::default())), Ok(Catalogue::default()));
}

#[test]
fn create_is_idempotent_only_when_identical() {
    let mut catalogue = with_topics(&["a"]);
    assert_eq!(catalogue.create(&spec("a", 2), 1 << 40, 8), Ok(Created::Existing(0)));
    let before = catalogue.clone();
    let others = [
        spec("a", 3),
        TopicSpec { kind: TopicKind::Live, ..spec("a", 2) },
        TopicSpec { overflow: Overflow::Reject, ..spec("a", 2) },
        TopicSpec { ring_bytes: 8 * MIB, ..spec("a", 2) },
    ];
    for other in others {
        assert!(matches!(catalogue.create(&other, 1 << 40, 8), Err(CreateRefused::Differs(_))), "{other:?}");
    }
    assert_eq!(catalogue, before);
}

#[test]
fn create_refuses_what_does_not_fit() {
    let mut catalogue = with_topics(&["a"]);
    assert_eq!(
        catalogue.create(&spec("b", 2), 13 * MIB, 0),
        Err(CreateRefused::Memory {
            needed_bytes: 8 * MIB,
            free_bytes: 5 * MIB,
            fits_ring_bytes: 5 * MIB / 2
        })
    );
    assert_eq!(catalogue.create(&spec("b", 2), 16 * MIB, 0), Ok(Created::New(1)));
    for (bad, code) in [
        (spec("", 1), Code::BadName),
        (spec("x", 0), Code::BadName),
        (spec("x", PARTITIONS_PER_TOPIC + 1), Code::BadName),
        (TopicSpec { ring_bytes: 4095, ..spec("x", 1) }, Code::BadName),
        (TopicSpec { ring_bytes: u64::MAX, ..spec("x", 1) }, Code::BadName),
        (TopicSpec { ring_bytes: u64::MAX / 2, ..spec("x", 2) }, Code::MemoryExhausted),
    ] {
        assert_eq!(catalogue.create(&bad, 1 << 40, 0).map_err(|error| error.code()), Err(code), "{bad:?}");
    }
    let mut full = Catalogue::default();
    for number in 0..PARTITIONS_MAX / PARTITIONS_PER_TOPIC {
        full.create(&spec(&format!("t{number}"), PARTITIONS_PER_TOPIC), u64::MAX, 0).expect("there is room");
    }
    assert!(matches!(full.create(&spec("x", 1), u64::MAX, 0), Err(CreateRefused::Full(_))));
}

fn log_spec(name: &str) -> TopicSpec {
    let log = LogSettings {
        durability: AckLevel::Durable,
        retention_bytes: 1 << 30,
        retention_ms: 60_000,
        segment_bytes: 8 * MIB,
    };
    TopicSpec { kind: TopicKind::Log, log: Some(log), ..spec(name, 2) }
}

#[test]
fn topics_of_kind_log_say_how_they_are_kept() {
    let mut catalogue = with_topics(&["a"]);
    let format = |catalogue: &Catalogue| {
        let text = String::from_utf8(encode(catalogue)).expect("JSON");
        text.strip_prefix("{\"format\":").expect("first").as_bytes()[0]
    };
    assert_eq!(format(&catalogue), b'1', "servers from before the log read it");
    catalogue.create(&log_spec("kept"), 1 << 40, 0).expect("there is room");
    assert_eq!(format(&catalogue), b'2');
    assert_eq!(decode(&encode(&catalogue)), Ok(catalogue.clone()));
    assert_eq!(catalogue.create(&log_spec("kept"), 1 << 40, 0), Ok(Created::Existing(1)));
    let with = |change: fn(&mut LogSettings)| {
        let mut spec = log_spec("kept");
        spec.log.as_mut().map(change).expect("a log");
        spec
    };
    let differing: [fn(&mut LogSettings); 4] = [
        |log| log.durability = AckLevel::Received,
        |log| log.retention_bytes += MIB,
        |log| log.retention_ms = 0,
        |log| log.segment_bytes = 4 * MIB,
    ];
    for change in differing {
        let refused = catalogue.create(&with(change), 1 << 40, 0).expect_err("another topic");
        assert!(refused.to_string().contains("durability durable, retention_bytes 1073741824"), "{refused}");
    }
    let impossible = [
        with(|log| log.segment_bytes = 8 * MIB + 1),
        with(|log| log.segment_bytes = MIB / 2),
        with(|log| log.retention_bytes = 0),
        TopicSpec { kind: TopicKind::Memory, ..log_spec("x") },
        TopicSpec { log: None, ..log_spec("x") },
        TopicSpec { ring_bytes: MIB, ..log_spec("x") },
    ];
    for spec in impossible {
        assert!(matches!(catalogue.create(&spec, 1 << 40, 0), Err(CreateRefused::BadSpec(_))), "{spec:?}");
    }
    let mut wrong = catalogue.clone();
    wrong.topics[1].log = None;
    assert!(matches!(decode(&encode(&wrong)), Err(CatalogueError::Corrupt(_))));
}

#[test]
fn ids_are_not_reused() {
    let mut catalogue = with_topics(&["a", "b"]);
    let gone = catalogue.delete("b").expect("it was there");
    assert!(catalogue.delete("b").is_none());
    catalogue.create(&spec("b", 1), 1 << 40, 0).expect("there is room");
    let again = catalogue.topic("b").expect("it is there");
    assert!(again.id > gone.id);
    assert!(again.partitions[0].id > gone.partitions[1].id);
}

#[test]
fn offsets_go_on() {
    let mut catalogue = with_topics(&["a"]);
    assert_eq!(catalogue.begin(), [(PartitionId(1), 0), (PartitionId(2), 0)]);
    assert!(!catalogue.ended_at(PartitionId(1), 1_000));
    assert!(catalogue.ended_at(PartitionId(2), RESERVE_LOW_RECORDS + 1));
    assert!(!catalogue.ended_at(PartitionId(9), u64::MAX), "an unknown partition is nobody's");
    catalogue.stopped_at(PartitionId(1), 1_500);
    // Partition 1 stopped cleanly, 2 did not.
    assert_eq!(
        catalogue.begin(),
        [(PartitionId(1), 1_500), (PartitionId(2), RESERVE_LOW_RECORDS + 1 + RESERVE_RECORDS)]
    );
    assert_eq!(catalogue.topics[0].partitions[0].clean_end, None);
}

#[test]
fn damaged_files_are_refused() {
    let good = encode(&with_topics(&["a"]));
    let text = String::from_utf8(good.clone()).expect("JSON");
    let newer = text.replacen("\"format\":1", "\"format\":3", 1);
    assert_eq!(decode(newer.as_bytes()), Err(CatalogueError::Newer { format: 3 }));
    for end in 0..good.len() - 1 {
        assert!(matches!(decode(&good[..end]), Err(CatalogueError::Corrupt(_))), "cut at {end}");
    }
    let edited = text.replacen("\"name\":\"a\"", "\"name\":\"b\"", 1);
    assert!(
        matches!(decode(edited.as_bytes()), Err(CatalogueError::Corrupt(detail)) if detail.contains("checksum"))
    );
    let mut twice = with_topics(&["a", "b"]);
    twice.topics[1].name = "a".into();
    assert!(matches!(decode(&encode(&twice)), Err(CatalogueError::Corrupt(_))));
    let mut reused = with_topics(&["a"]);
    reused.next_partition_id = 2;
    assert!(matches!(decode(&encode(&reused)), Err(CatalogueError::Corrupt(_))));
}

#[derive(Debug, Clone)]
enum Change {
    Create(u8, u32),
    Delete(u8),
    Pause(u8, bool),
    Commit(u32, u8, u64),
    /// A partition takes records.
    Append(u32, u64),
    /// The server is killed in the save that follows; at which step, and how much of a write gets through.
    Kill(usize, usize),
    Stop,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..6u8, 1..4u32).prop_map(|(name, partitions)| Change::Create(name, partitions)),
        (0..6u8).prop_map(Change::Delete),
        (0..6u8, any::<bool>()).prop_map(|(name, paused)| Change::Pause(name, paused)),
        (1..12u32, 0..3u8, any::<u64>()).prop_map(|(id, name, offset)| Change::Commit(id, name, offset)),
        (1..12u32, 0..RESERVE_LOW_RECORDS).prop_map(|(id, records)| Change::Append(id, records)),
        (0..6usize, 0..600usize).prop_map(|(step, torn)| Change::Kill(step, torn)),
        Just(Change::Stop),
    ]
}

/// The server's life around the catalogue, with the offsets each partition has handed out.
struct Model {
    files: SimFiles,
    catalogue: Catalogue,
    /// Last saved without an error.
    saved: Catalogue,
    ends: BTreeMap<u32, u64>,
    /// Highest end of any run.
    highest: BTreeMap<u32, u64>,
}

const PATH: &str = "/data/catalogue.json";

impl Model {
    fn new() -> Self {
        Model {
            files: SimFiles::default(),
            catalogue: Catalogue::default(),
            saved: Catalogue::default(),
            ends: BTreeMap::new(),
            highest: BTreeMap::new(),
        }
    }

    fn save(&mut self) -> bool {
        self.catalogue.version += 1;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let bytes = encode(&self.catalogue);
        let done = runtime.block_on(replace(&self.files, Path::new(PATH), bytes, None)).is_ok();
        if done {
            self.saved = self.catalogue.clone();
        }
        done
    }

    fn begin(&mut self) {
        for (id, first) in self.catalogue.begin() {
            let highest = self.highest.get(&id.0).copied().unwrap_or(0);
            assert!(first >= highest, "partition {id} starts at {first} after {highest}");
            self.ends.insert(id.0, first);
        }
        assert!(self.save());
    }

    /// Power is lost during a save that fails: every possible disk is the old or the new catalogue.
    fn kill(&mut self, step: usize, torn_bytes: usize) {
        let old = self.saved.clone();
        self.files.fail_after(step, torn_bytes);
        let done = self.save();
        let mut disks = self.files.after_crash();
        for disk in &disks {
            let loaded = match disk.read(Path::new(PATH)).expect("read") {
                None => Catalogue::default(),
                Some(bytes) => decode(&bytes).expect("the file is never broken"),
            };
            assert!(loaded == self.catalogue || (!done && loaded == old), "neither old nor new: {loaded:?}");
        }
        self.files = disks.swap_remove(step % disks.len());
        let bytes = self.files.read(Path::new(PATH)).expect("read");
        self.catalogue = bytes.map_or_else(Catalogue::default, |bytes| decode(&bytes).expect("not broken"));
        self.saved = self.catalogue.clone();
        self.ends.clear();
        self.begin();
    }

    fn apply(&mut self, change: &Change) {
        match *change {
            Change::Create(name, partitions) => {
                if let Ok(Created::New(index)) =
                    self.catalogue.create(&spec(&format!("t{name}"), partitions), 1 << 40, 0)
                {
                    let begun = self.catalogue.begin_topic(index);
                    assert!(self.save());
                    self.ends.extend(begun.iter().map(|(id, first)| (id.0, *first)));
                }
            }
            Change::Delete(name) => {
                if let Some(topic) = self.catalogue.delete(&format!("t{name}")) {
                    for partition in topic.partitions {
                        self.ends.remove(&partition.id);
                    }
                }
            }
            Change::Pause(name, paused) => {
                let _ = self.catalogue.set_paused(&format!("t{name}"), paused);
            }
            Change::Commit(id, name, offset) => {
                self.catalogue.commit(PartitionId(id), &format!("c{name}"), offset);
            }
            Change::Append(id, records) => {
                if let Some(end) = self.ends.get_mut(&id) {
                    *end += records;
                    let highest = self.highest.entry(id).or_default();
                    *highest = (*highest).max(*end);
                    if self.catalogue.ended_at(PartitionId(id), *end) {
                        assert!(self.save());
                    }
                }
            }
            Change::Kill(step, torn_bytes) => self.kill(step, torn_bytes),
            Change::Stop => {
                for (id, end) in std::mem::take(&mut self.ends) {
                    self.catalogue.stopped_at(PartitionId(id), end);
                }
                assert!(self.save());
                self.begin();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, the file is old or new and no offset is handed out twice.
    #[test]
    fn crashes_never_break_the_file_nor_reuse_an_offset(changes in prop::collection::vec(change(), 1..40)) {
        let mut model = Model::new();
        model.begin();
        for change in &changes {
            model.apply(change);
        }
    }

    #[test]
    fn random_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes).is_err());
    }
}
