use proptest::prelude::*;

use super::*;
use crate::commit_log::IndexEntry;
use crate::commit_log::envelope;
use crate::proto::code::Code;

const PARTITION: PartitionId = PartitionId(7);

prop_compose! {
    fn any_producer()(
        producer_id: u64, before in 0..1_u64 << 40,
        entries in proptest::collection::vec(
            (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), proptest::option::of(0..Code::ALL.len())), 0..5,
        ),
    ) -> ProducerState {
        let entries: Vec<ProducerEntry> = (before..).zip(entries).map(|(sequence, entry)| {
            let (offset, append_time_ns, body_checksum, records, refused) = entry;
            let refused = refused.map(|index| Code::ALL[index]);
            ProducerEntry { sequence, body_checksum, offset, records, append_time_ns, refused }
        }).collect();
        ProducerState { producer_id, next_sequence: before + entries.len() as u64, entries }
    }
}

prop_compose! {
    fn any_snapshot()(
        sequence: u64, block in 64..1_u64 << 40, offset in 100_u64.., chain: u32, last_append_ns: u64,
        first_time_ns: u64, index in proptest::collection::btree_set(0..64_u64, 0..10),
        producers in proptest::collection::vec(any_producer(), 0..4),
    ) -> Snapshot {
        let at = LogPoint { position: block * BLOCK_BYTES, offset };
        let index = index.iter().map(|&block| IndexEntry {
            at: LogPoint { position: block * BLOCK_BYTES, offset: block },
            append_time_ns: block,
        });
        Snapshot { sequence, at, chain, last_append_ns, first_time_ns, index: index.collect(), producers }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn snapshots_come_back(snapshot in any_snapshot()) {
        prop_assert_eq!(decode(PARTITION, &encode(PARTITION, &snapshot)), Ok(snapshot));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_seen(
        snapshot in any_snapshot(), at in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let mut bytes = encode(PARTITION, &snapshot);
        let at = at.index(bytes.len());
        prop_assert_eq!(decode(PARTITION, &bytes[..at]), Err(EnvelopeFault::Corrupt));
        bytes[at] ^= 1 << bit;
        let fault = if at < 8 { EnvelopeFault::WrongMagic } else { EnvelopeFault::Corrupt };
        prop_assert_eq!(decode(PARTITION, &bytes), Err(fault));
    }

    /// Whatever stands in a body with the right checksums: an answer, and no panic.
    #[test]
    fn any_body_is_answered(body in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..200)) {
        let _ = decode(PARTITION, &envelope::seal(MAGIC, PARTITION, &body));
    }
}

#[test]
fn whose_it_is_and_which_format_are_told() {
    let at = LogPoint { position: 100, offset: 7 };
    let bytes = encode_fence(PARTITION, at);
    assert_eq!(decode_fence(PARTITION, &bytes), Ok(at));
    let other = EnvelopeFault::WrongPartition { found: PARTITION };
    assert_eq!(decode_fence(PartitionId(8), &bytes), Err(other));
    assert_eq!(decode(PARTITION, &bytes), Err(EnvelopeFault::WrongMagic));
    let mut newer = bytes;
    newer[8] = 2;
    assert_eq!(decode_fence(PARTITION, &newer), Err(EnvelopeFault::Corrupt));
    let checksum = crate::proto::checksum::crc32c(&newer[..28]);
    newer[28..32].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode_fence(PARTITION, &newer), Err(EnvelopeFault::Newer { format: 2 }));
}

#[test]
fn batches_of_a_producer_follow_each_other() {
    let entry = |sequence| ProducerEntry {
        sequence,
        body_checksum: 1,
        offset: 2,
        records: 3,
        append_time_ns: 4,
        refused: None,
    };
    let with = |next_sequence, entries: Vec<ProducerEntry>| Snapshot {
        sequence: 1,
        at: LogPoint::default(),
        chain: 0,
        last_append_ns: 0,
        first_time_ns: 0,
        index: Vec::new(),
        producers: vec![ProducerState { producer_id: 1, next_sequence, entries }],
    };
    let decoded = |snapshot: Snapshot| decode(PARTITION, &encode(PARTITION, &snapshot));
    assert!(decoded(with(6, vec![entry(4), entry(5)])).is_ok());
    for wrong in
        [with(7, vec![entry(4), entry(5)]), with(6, vec![entry(3), entry(5)]), with(1, vec![entry(0); 2])]
    {
        assert!(matches!(decoded(wrong), Err(EnvelopeFault::Impossible(_))));
    }
}
