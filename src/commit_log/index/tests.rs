use proptest::prelude::*;

use super::*;
use crate::commit_log::envelope;

const PARTITION: PartitionId = PartitionId(7);

prop_compose! {
    fn any_info()(
        sequence: u64, nonce: u64, first in 0..1_u64 << 40, first_time_ns: u64, last_time_ns: u64,
        index in proptest::collection::btree_set(0..100_u64, 0..10),
        damaged in proptest::collection::btree_set(0..100_u64, 0..6),
    ) -> SegmentInfo {
        let at = |block: u64| LogPoint { position: (first + block) * BLOCK_BYTES, offset: 5 + block };
        let damaged: Vec<u64> = damaged.into_iter().collect();
        SegmentInfo {
            sequence,
            nonce,
            base: at(0),
            end: at(100),
            first_time_ns,
            last_time_ns,
            index: index.into_iter().map(|block| IndexEntry { at: at(block), append_time_ns: block }).collect(),
            quarantined: damaged.chunks_exact(2).map(|of| Quarantined { from: at(of[0]), to: at(of[1]) }).collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn indexes_come_back(info in any_info()) {
        prop_assert_eq!(decode(PARTITION, &encode(PARTITION, &info)), Ok(info));
    }

    #[test]
    fn a_flipped_bit_is_seen(info in any_info(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = encode(PARTITION, &info);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(decode(PARTITION, &bytes).is_err());
    }

    #[test]
    fn any_body_is_answered(body in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..300)) {
        let _ = decode(PARTITION, &envelope::seal(MAGIC, PARTITION, &body));
    }

    #[test]
    fn an_index_out_of_order_or_outside_is_refused(info in any_info(), which in 0..4) {
        let mut info = info;
        let beyond = LogPoint { position: info.end.position + BLOCK_BYTES, offset: info.end.offset };
        match which {
            0 => info.end.offset = info.base.offset - 1,
            1 => info.index = vec![IndexEntry { at: beyond, append_time_ns: 0 }],
            2 => info.quarantined = vec![Quarantined { from: info.end, to: info.base }],
            _ => info.index = vec![IndexEntry { at: info.base, append_time_ns: 0 }; 2],
        }
        let decoded = decode(PARTITION, &encode(PARTITION, &info));
        prop_assert!(matches!(decoded, Err(EnvelopeFault::Impossible(_))), "{:?}", decoded);
    }
}
