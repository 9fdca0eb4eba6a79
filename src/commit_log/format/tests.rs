use proptest::prelude::*;

use super::*;

fn any_point() -> impl Strategy<Value = LogPoint> {
    (0..u64::MAX / (8 * BLOCK_BYTES), any::<u64>())
        .prop_map(|(block, offset)| LogPoint { position: block * BLOCK_BYTES, offset })
}

prop_compose! {
    fn any_segment_header()(
        partition: u32, sequence: u64, nonce: u64, base in any_point(), blocks in 0..u64::from(u32::MAX),
        created_ns: u64, chain: u32, durable_offset: u64,
    ) -> SegmentHeader {
        let file_bytes = blocks * BLOCK_BYTES;
        let partition = PartitionId(partition);
        SegmentHeader { partition, sequence, nonce, base, file_bytes, created_ns, chain, durable_offset }
    }
}

prop_compose! {
    fn any_flush_header()(
        frame_bytes: u32, nonce: u64, position: u64, first_offset: u64, records: u32, digest: u32,
        durable_offset: u64, previous: u32, revision: u32,
    ) -> FlushHeader {
        FlushHeader {
            frame_bytes, nonce, position, first_offset, records, digest, durable_offset, previous, revision,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn headers_come_back(segment in any_segment_header(), flush in any_flush_header()) {
        prop_assert_eq!(SegmentHeader::decode(&segment.encode()), Ok(segment));
        prop_assert_eq!(FlushHeader::decode(&flush.encode()), Ok(flush));
    }

    /// Also those of bytes that say nothing: a later format may use them, and nobody may change them meanwhile.
    #[test]
    fn a_flipped_bit_is_seen(
        segment in any_segment_header(), flush in any_flush_header(), at in 0..SEGMENT_HEADER_BYTES * 8,
    ) {
        let mut bytes = segment.encode();
        bytes[at / 8] ^= 1 << (at % 8);
        let fault = SegmentHeader::decode(&bytes).expect_err("a bit is wrong");
        prop_assert_eq!(at < 64, fault == SegmentFault::NotASegment, "{:?}", fault);
        let at = at % (FLUSH_HEADER_LEN * 8);
        let mut bytes = flush.encode();
        bytes[at / 8] ^= 1 << (at % 8);
        let fault = if at < 32 { FlushFault::NotAFlush } else { FlushFault::Corrupt };
        prop_assert_eq!(FlushHeader::decode(&bytes), Err(fault));
    }

    #[test]
    fn a_digest_is_the_checksum_of_the_checksums(checksums in proptest::collection::vec(any::<u32>(), 0..20)) {
        let bytes: Vec<u8> = checksums.iter().flat_map(|checksum| checksum.to_le_bytes()).collect();
        prop_assert_eq!(checksums.iter().fold(0, |so_far, &next| digest(so_far, next)), crc32c(&bytes));
    }

    #[test]
    fn names_come_back(number: u64, partition: u32) {
        for file in [LogFile::Segment(number), LogFile::Index(number)] {
            prop_assert_eq!(LogFile::from_name(&file.name()), Some(file));
        }
        let partition = PartitionId(partition);
        prop_assert_eq!(partition_of_folder(&partition_folder(partition)), Some(partition));
    }
}

fn with_checksum(mut bytes: [u8; SEGMENT_HEADER_BYTES]) -> [u8; SEGMENT_HEADER_BYTES] {
    let checksum = crc32c(&bytes[..124]);
    bytes[124..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn header() -> SegmentHeader {
    SegmentHeader {
        partition: PartitionId(7),
        sequence: 12,
        nonce: 0x0123_4567_89ab_cdef,
        base: LogPoint { position: 5 * BLOCK_BYTES, offset: 40 },
        file_bytes: 16 * BLOCK_BYTES,
        created_ns: 9,
        chain: 3,
        durable_offset: 38,
    }
}

#[test]
fn a_later_format_is_told_from_damage() {
    let mut bytes = header().encode();
    bytes[8] = 2;
    assert!(matches!(SegmentHeader::decode(&bytes), Err(SegmentFault::Corrupt { .. })));
    assert_eq!(SegmentHeader::decode(&with_checksum(bytes)), Err(SegmentFault::Newer { format: 2 }));
    bytes[8] = 0;
    assert!(matches!(SegmentHeader::decode(&with_checksum(bytes)), Err(SegmentFault::Impossible(_))));
}

#[test]
fn an_impossible_header_is_refused() {
    let mut odd_base = header();
    odd_base.base.position += 1;
    let mut odd_length = header();
    odd_length.file_bytes += 512;
    let mut endless = header();
    endless.base.position = u64::MAX - u64::MAX % BLOCK_BYTES;
    for header in [odd_base, odd_length, endless] {
        let decoded = SegmentHeader::decode(&header.encode());
        assert!(matches!(decoded, Err(SegmentFault::Impossible(_))), "{decoded:?}");
    }
}

#[test]
fn a_header_belongs_to_one_place() {
    let segment = header();
    assert_eq!(segment.check_place(PartitionId(7), 12), Ok(()));
    let other = SegmentFault::WrongPartition { found: PartitionId(7) };
    assert_eq!(segment.check_place(PartitionId(8), 12), Err(other));
    assert_eq!(segment.check_place(PartitionId(7), 13), Err(SegmentFault::WrongSequence { found: 12 }));
    let flush = FlushHeader { nonce: 4, position: BLOCK_BYTES, ..FlushHeader::default() };
    assert_eq!(flush.check_place(4, BLOCK_BYTES), Ok(()));
    assert_eq!(flush.check_place(5, BLOCK_BYTES), Err(FlushFault::WrongNonce));
    assert_eq!(flush.check_place(4, 0), Err(FlushFault::WrongPosition { found: BLOCK_BYTES }));
}

#[test]
fn positions_lie_behind_the_header_block() {
    let segment = header();
    assert_eq!(segment.file_at(segment.base.position), BLOCK_BYTES);
    assert_eq!(segment.file_at(segment.file_end()), segment.file_bytes);
}

#[test]
fn names_are_those_of_the_specification() {
    assert_eq!(LogFile::Segment(12).name(), "00000000000000000012.seg");
    assert_eq!(LogFile::Index(12).name(), "00000000000000000012.idx");
    assert_eq!(partition_folder(PartitionId(7)), "p00000007");
    for file in [LogFile::Snapshot(0), LogFile::Snapshot(1), LogFile::Fence] {
        assert_eq!(LogFile::from_name(&file.name()), Some(file));
    }
    for foreign in [
        "12.seg",
        "00000000000000000012.seg.tmp",
        "+0000000000000000012.seg",
        "99999999999999999999.seg",
        "",
        "x",
    ] {
        assert_eq!(LogFile::from_name(foreign), None, "{foreign}");
    }
    for foreign in ["p7", "00000007", "p+0000007", "p000000007", "p0000000x"] {
        assert_eq!(partition_of_folder(foreign), None, "{foreign}");
    }
}
