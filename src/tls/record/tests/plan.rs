use proptest::prelude::*;

use crate::tls::record::{CONTENT_BYTES_MAX, Cut, GATHER_BELOW, OVERHEAD_BYTES, next_cut};

const ROOM: usize = 64 * 1024;

fn cut(lengths: &[usize]) -> Cut {
    next_cut(lengths.iter().copied(), ROOM)
}

#[test]
fn long_stretches_are_sealed_where_they_lie_and_short_ones_gathered() {
    assert_eq!(cut(&[]), Cut::Nothing);
    assert_eq!(cut(&[0]), Cut::Nothing);
    assert_eq!(cut(&[100]), Cut::Straight(100));
    assert_eq!(cut(&[100_000]), Cut::Straight(CONTENT_BYTES_MAX));
    assert_eq!(cut(&[GATHER_BELOW, 5]), Cut::Straight(GATHER_BELOW));
    assert_eq!(cut(&[5, GATHER_BELOW]), Cut::Straight(5));
    assert_eq!(cut(&[5, 6, GATHER_BELOW]), Cut::Gather { stretches: 2, bytes: 11 });
    assert_eq!(cut(&[0, 6, 7]), Cut::Gather { stretches: 3, bytes: 13 });
    assert_eq!(cut(&[2000; 20]), Cut::Gather { stretches: 8, bytes: 16_000 });
}

#[test]
fn room_is_not_cut_into_splinters() {
    assert_eq!(next_cut([5000].into_iter(), OVERHEAD_BYTES + 1023), Cut::Nothing);
    assert_eq!(next_cut([5000].into_iter(), OVERHEAD_BYTES + 1024), Cut::Straight(1024));
    assert_eq!(next_cut([500].into_iter(), OVERHEAD_BYTES + 500), Cut::Straight(500));
    assert_eq!(next_cut([500].into_iter(), OVERHEAD_BYTES + 499), Cut::Nothing);
    assert_eq!(next_cut([500].into_iter(), 3), Cut::Nothing);
    assert_eq!(next_cut([500, 500, 500].into_iter(), 1200), Cut::Gather { stretches: 2, bytes: 1000 });
}

proptest! {
    /// Whatever the stretches: everything is sent, once, and only short stretches are gathered.
    #[test]
    fn cuts_cover_all_and_gather_only_what_is_short(
        mut lengths in proptest::collection::vec(prop_oneof![1_usize..3000, 1_usize..40_000], 0..40),
    ) {
        let (all, mut sent) = (lengths.iter().sum::<usize>(), 0);
        while !lengths.is_empty() {
            match cut(&lengths) {
                Cut::Straight(bytes) => {
                    prop_assert!(bytes > 0 && bytes <= CONTENT_BYTES_MAX && bytes <= lengths[0]);
                    sent += bytes;
                    lengths[0] -= bytes;
                    if lengths[0] == 0 {
                        lengths.remove(0);
                    }
                }
                Cut::Gather { stretches, bytes } => {
                    prop_assert!(stretches > 1 && bytes <= CONTENT_BYTES_MAX);
                    prop_assert_eq!(bytes, lengths[..stretches].iter().sum::<usize>());
                    prop_assert!(lengths[..stretches].iter().all(|&length| length < GATHER_BELOW));
                    sent += bytes;
                    lengths.drain(..stretches);
                }
                Cut::Nothing => prop_assert!(false, "{:?}", lengths),
            }
        }
        prop_assert_eq!(sent, all);
    }
}
