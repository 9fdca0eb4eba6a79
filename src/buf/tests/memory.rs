use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const PAGE: u64 = 4096;

/// Region 0: mirrored, two pages. Region 1: plain, one page. Region 2: region 0 under another id.
fn memory() -> Memory {
    let mut memory = Memory::new();
    let ring = Arc::new(Mapping::mirrored(8192, Pages::Small).unwrap());
    memory.attach(RegionId(0), Arc::clone(&ring));
    memory.attach(RegionId(1), Arc::new(Mapping::plain(4096, Pages::Small).unwrap()));
    memory.attach(RegionId(2), ring);
    memory
}

fn panics(memory: &mut Memory, run: impl Fn(&mut Memory)) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(memory))).is_err()
}

#[test]
fn a_span_outside_its_region_is_never_read_or_written() {
    let mut memory = memory();
    let inside = [span(0, 0, 8192), span(0, PAGE, 8192), span(0, 16_384, 0), span(1, 4095, 1)];
    for good in inside {
        assert_eq!(memory.bytes(good).len(), good.bytes as usize);
        assert_eq!(memory.bytes_mut(good).len(), good.bytes as usize);
    }
    let outside = [
        span(0, 16_384, 1),
        span(0, 16_000, 500),
        span(0, 0, 8193), // longer than the memory, though not than the addresses: it would alias itself
        span(0, u64::MAX, 2),
        span(1, 1, 4096),
        span(3, 0, 0),
        span(u32::MAX, 0, 0),
    ];
    for bad in outside {
        assert!(panics(&mut memory, |memory| assert!(memory.bytes(bad).len() < usize::MAX)), "{bad:?}");
        assert!(panics(&mut memory, |memory| memory.bytes_mut(bad).fill(1)), "{bad:?}");
        assert!(panics(&mut memory, |memory| memory.copy(bad, bad, CopyReason::Gather)), "{bad:?}");
    }
    assert!(memory.copies().iter().all(|(_, copied)| copied == Copied::default()));
}

#[test]
#[cfg_attr(miri, ignore = "nothing is mirrored there")]
fn copies_are_made_and_counted_by_reason() {
    let mut memory = memory();
    memory.copy_in(b"hello, ring", span(0, 8186, 11), CopyReason::Moved);
    assert_eq!(memory.bytes(span(0, 8186, 11)), b"hello, ring");
    memory.copy(span(0, 8186, 11), span(1, 100, 11), CopyReason::Straddle);
    memory.copy(span(1, 100, 5), span(1, 105, 5), CopyReason::Straddle); // side by side in one region
    assert_eq!(memory.bytes(span(1, 100, 11)), b"hellohellog");
    memory.copy(span(1, 100, 5), span(0, 8191, 5), CopyReason::Retain); // across the seam
    assert_eq!(memory.bytes(span(2, 0, 4)), b"ello");
    let mut out = [0; 5];
    memory.copy_out(span(0, 8191, 5), &mut out, CopyReason::Lagging);
    assert_eq!(&out, b"hello");

    let expected = [
        (CopyReason::Retain, Copied { count: 1, bytes: 5 }),
        (CopyReason::Straddle, Copied { count: 2, bytes: 16 }),
        (CopyReason::Lagging, Copied { count: 1, bytes: 5 }),
        (CopyReason::Gather, Copied::default()),
        (CopyReason::Crossing, Copied::default()),
        (CopyReason::Moved, Copied { count: 1, bytes: 11 }),
        (CopyReason::Block, Copied::default()),
    ];
    assert_eq!(memory.copies().iter().collect::<Vec<_>>(), expected);
    for (reason, copied) in expected {
        assert_eq!(memory.copies().of(reason), copied);
    }
    let names: Vec<_> = CopyReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names, ["retain", "straddle", "lagging", "gather", "crossing", "moved", "block"]);
}

#[test]
fn a_copy_that_overlaps_itself_or_changes_length_is_refused() {
    let mut memory = memory();
    let overlapping = [
        (span(1, 0, 10), span(1, 9, 10)),
        (span(1, 9, 10), span(1, 0, 10)),
        (span(1, 0, 10), span(1, 0, 10)),
        (span(0, 0, 10), span(0, 8192, 10)), // the same bytes by other addresses
        (span(0, 8190, 10), span(0, 5, 10)), // across the seam into the start
        (span(0, 5, 10), span(0, 8190, 10)), // and the other way round
        (span(0, 100, 10), span(2, 105, 10)), // one mapping under two ids
        (span(0, 0, 8192), span(2, 4096, 8192)), // all of it, turned
    ];
    for (from, to) in overlapping {
        assert!(panics(&mut memory, |memory| memory.copy(from, to, CopyReason::Gather)), "{from:?} {to:?}");
        assert!(panics(&mut memory, |memory| _ = memory.pair(from, to)), "{from:?} {to:?}");
    }
    let apart = [
        (span(1, 0, 10), span(1, 10, 10)),
        (span(0, 8186, 10), span(0, 4, 10)),
        (span(0, 4, 10), span(0, 8186, 10)),
        (span(0, 0, 4096), span(2, 4096, 4096)),
        (span(0, 0, 10), span(1, 0, 10)),
        (span(0, 7, 0), span(0, 7, 0)),
    ];
    for (from, to) in apart {
        assert!(!panics(&mut memory, |memory| memory.copy(from, to, CopyReason::Gather)), "{from:?} {to:?}");
    }
    assert!(panics(&mut memory, |memory| memory.copy(span(0, 0, 5), span(1, 0, 6), CopyReason::Gather)));
    assert!(panics(&mut memory, |memory| memory.copy_in(b"abc", span(1, 0, 2), CopyReason::Gather)));
    assert!(panics(&mut memory, |memory| memory.copy_out(span(1, 0, 2), &mut [0; 3], CopyReason::Gather)));
    assert_eq!(memory.copies().of(CopyReason::Gather).count, apart.len() as u64);
}

#[test]
fn a_pair_is_one_to_read_and_one_to_write_of_any_lengths() {
    let mut memory = memory();
    memory.bytes_mut(span(0, 8186, 10)).copy_from_slice(b"0123456789");
    let (from, to) = memory.pair(span(0, 8186, 10), span(0, 4, 20));
    to[..10].copy_from_slice(from);
    assert_eq!(memory.bytes(span(0, 4, 10)), b"0123456789");
    for (from, to) in [
        (span(1, 0, 3), span(1, 2, 100)),
        (span(1, 50, 3), span(1, 2, 100)),
        (span(1, 2, 100), span(1, 50, 3)),
        (span(0, 8190, 4), span(0, 1, 100)), // over the seam
    ] {
        assert!(panics(&mut memory, |memory| _ = memory.pair(from, to)), "{from:?} {to:?}");
    }
    for (from, to) in
        [(span(1, 0, 3), span(1, 3, 100)), (span(1, 5, 0), span(1, 2, 100)), (span(1, 2, 100), span(1, 5, 0))]
    {
        let (read, written) = memory.pair(from, to);
        assert_eq!((read.len(), written.len()), (from.bytes as usize, to.bytes as usize));
    }
}

#[test]
fn the_table_is_bounded_and_an_id_names_one_region() {
    let mut memory = memory();
    let last = u32::try_from(crate::limits::REGIONS_MAX - 1).unwrap();
    let page = || Arc::new(Mapping::plain(1, Pages::Small).unwrap());
    memory.attach(RegionId(last), page());
    assert!(memory.mapping(RegionId(last)).is_some() && memory.mapping(RegionId(last - 1)).is_none());
    assert!(panics(&mut memory, |memory| memory.attach(RegionId(last + 1), page())));
    assert!(panics(&mut memory, |memory| memory.attach(RegionId(0), page())));
    memory.detach(RegionId(0));
    assert!(panics(&mut memory, |memory| memory.detach(RegionId(0))));
    assert!(panics(&mut memory, |memory| assert!(memory.bytes(span(0, 0, 0)).is_empty())));
    assert_eq!(memory.bytes(span(2, 0, 1)), [0], "the same mapping under its other id");
    memory.attach(RegionId(0), page());
    assert_eq!(memory.bytes(span(0, 0, 4096)).len(), 4096);
}

#[test]
fn detaching_drops_the_mapping_unless_someone_else_has_it() {
    let mut memory = Memory::new();
    let mapping = Arc::new(Mapping::plain(1, Pages::Small).unwrap());
    memory.attach(RegionId(9), Arc::clone(&mapping));
    assert_eq!(Arc::strong_count(&mapping), 2);
    memory.detach(RegionId(9));
    assert_eq!(Arc::strong_count(&mapping), 1);
}
