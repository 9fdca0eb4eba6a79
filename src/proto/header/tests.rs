use proptest::prelude::*;

use super::*;
use crate::limits::FRAME_BYTES_MAX_DEFAULT;
use crate::wire::generated::header as fb;

/// A header's bytes after a change, with its checksum made right again.
fn changed(header: &FrameHeader, change: impl Fn(&mut [u8; HEADER_BYTES])) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    header.encode(&mut bytes);
    change(&mut bytes);
    let checksum = crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn headers() -> impl Strategy<Value = FrameHeader> {
    let left = (0..Kind::ALL.len(), any::<u16>(), 0..512u32, any::<u32>(), any::<u64>(), any::<u64>());
    let right = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u32>());
    (left, right).prop_map(|(left, right)| {
        let kind = Kind::ALL[left.0];
        FrameHeader {
            kind,
            flags: left.1 & allowed_flags(kind),
            body_bytes: if kind.is_header_only() { 0 } else { left.2 * 8 },
            record_count: left.3,
            producer_id: left.4,
            sequence: left.5,
            body_checksum: right.0,
            channel: right.1,
            offset: right.2,
            append_time_ns: right.3,
            offset_span: right.4,
        }
    })
}

proptest! {
    #[test]
    fn what_was_encoded_is_parsed(header in headers()) {
        let mut bytes = [0; HEADER_BYTES];
        header.encode(&mut bytes);
        prop_assert_eq!(FrameHeader::parse(&bytes, FRAME_BYTES_MAX_DEFAULT), Ok(header));
    }

    #[test]
    fn the_schema_has_the_same_layout(header in headers()) {
        let mut bytes = [0; HEADER_BYTES];
        header.encode(&mut bytes);
        let generated = fb::FrameHeader(bytes);
        prop_assert_eq!(generated.magic(), MAGIC);
        prop_assert_eq!(generated.version(), VERSION);
        prop_assert_eq!(generated.kind(), header.kind as u8);
        prop_assert_eq!(generated.body_bytes(), header.body_bytes);
        prop_assert_eq!(generated.flags(), header.flags);
        prop_assert_eq!(generated.reserved(), 0);
        prop_assert_eq!(generated.record_count(), header.record_count);
        prop_assert_eq!(generated.producer_id(), header.producer_id);
        prop_assert_eq!(generated.sequence(), header.sequence);
        prop_assert_eq!(generated.body_checksum(), header.body_checksum);
        prop_assert_eq!(generated.channel(), header.channel);
        prop_assert_eq!(generated.offset(), header.offset);
        prop_assert_eq!(generated.append_time_ns(), header.append_time_ns);
        prop_assert_eq!(generated.offset_span(), header.offset_span);
        prop_assert_eq!(generated.header_checksum(), crc32c(&bytes[..60]));
    }

    #[test]
    fn no_bytes_make_parse_panic(bytes in any::<[u8; 32]>(), frame_bytes_max in any::<u32>(), sealed in any::<bool>()) {
        let mut all = [0; HEADER_BYTES];
        all[..32].copy_from_slice(&bytes);
        all[32..].copy_from_slice(&bytes);
        if sealed {
            all[..2].copy_from_slice(b"UR");
            all[2] = VERSION;
            let checksum = crc32c(&all[..60]);
            all[60..].copy_from_slice(&checksum.to_le_bytes());
        }
        let _ = FrameHeader::parse(&all, frame_bytes_max);
    }

    #[test]
    fn any_flipped_bit_is_noticed(header in headers(), bit in 0..HEADER_BYTES * 8) {
        let mut bytes = [0; HEADER_BYTES];
        header.encode(&mut bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(FrameHeader::parse(&bytes, FRAME_BYTES_MAX_DEFAULT).is_err());
    }
}

#[test]
fn each_check_has_its_code() {
    let good = FrameHeader { body_bytes: 64, record_count: 1, ..FrameHeader::new(Kind::Publish) };
    let ack =
        FrameHeader { flags: FLAG_DUPLICATE | AckLevel::Durable.flags(), ..FrameHeader::new(Kind::Ack) };
    let put_u32 = |at: usize, value: u32| {
        move |bytes: &mut [u8; HEADER_BYTES]| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes())
    };
    let parse = |bytes: [u8; HEADER_BYTES]| FrameHeader::parse(&bytes, 4096).map(|header| header.kind);
    assert_eq!(parse(changed(&good, |_| ())), Ok(Kind::Publish));
    assert_eq!(parse(changed(&ack, |_| ())), Ok(Kind::Ack));
    assert_eq!(parse(changed(&good, |b| b[0] = b'X')), Err(Code::BadMagic));
    assert_eq!(parse(changed(&good, |b| b[2] = 2)), Err(Code::BadVersion));
    assert_eq!(parse(changed(&good, |b| b[3] = 0)), Err(Code::BadKind));
    assert_eq!(parse(changed(&good, |b| b[3] = 22)), Err(Code::BadKind));
    assert_eq!(parse(changed(&good, |b| b[8] = 1)), Err(Code::ReservedNotZero));
    assert_eq!(parse(changed(&ack, |b| b[8] |= 1)), Err(Code::ReservedNotZero));
    assert_eq!(parse(changed(&good, |b| b[10] = 1)), Err(Code::ReservedNotZero));
    assert_eq!(parse(changed(&good, put_u32(4, 65))), Err(Code::BadLength));
    assert_eq!(parse(changed(&good, put_u32(4, 4032))), Ok(Kind::Publish));
    assert_eq!(parse(changed(&good, put_u32(4, 4040))), Err(Code::FrameTooLarge));
    assert_eq!(parse(changed(&good, put_u32(4, u32::MAX - 7))), Err(Code::FrameTooLarge));
    assert_eq!(parse(changed(&ack, put_u32(4, 8))), Err(Code::BadLength));
    let nack = FrameHeader::new(Kind::Nack);
    assert_eq!(
        FrameHeader::parse(&changed(&nack, put_u32(4, CONTROL_BODY_BYTES_MAX)), 16384).unwrap().kind,
        Kind::Nack
    );
    assert_eq!(parse(changed(&nack, put_u32(4, CONTROL_BODY_BYTES_MAX + 8))), Err(Code::FrameTooLarge));
    let mut bytes = changed(&good, |_| ());
    bytes[60] ^= 1;
    assert_eq!(parse(bytes), Err(Code::BadHeaderChecksum));
}

#[test]
fn a_stamp_leaves_the_producers_part_alone() {
    let mut frame = [0u8; HEADER_BYTES + 8];
    let (head, body) = frame.split_first_chunk_mut::<HEADER_BYTES>().unwrap();
    body.copy_from_slice(b"the body");
    let publish = FrameHeader {
        body_bytes: 8,
        record_count: 3,
        producer_id: 4,
        sequence: 5,
        channel: 6,
        ..FrameHeader::new(Kind::Publish)
    };
    publish.encode(head);
    seal(head, body);
    let sealed = FrameHeader::parse(head, 4096).unwrap();
    assert!(body_checksum_matches(&frame));
    stamp(&mut frame, 70, 80, 3, 90);
    let expected = FrameHeader {
        kind: Kind::Deliver,
        channel: 70,
        offset: 80,
        offset_span: 3,
        append_time_ns: 90,
        ..sealed
    };
    assert_eq!(FrameHeader::parse(frame[..HEADER_BYTES].try_into().unwrap(), 4096), Ok(expected));
    assert!(body_checksum_matches(&frame));
    frame[HEADER_BYTES] ^= 1;
    assert!(!body_checksum_matches(&frame));
    frame[HEADER_BYTES] ^= 1;
    frame[24] ^= 1;
    assert!(!body_checksum_matches(&frame), "the sequence is the producer's too");
}

#[test]
fn a_header_alone_is_a_whole_frame() {
    let ack = FrameHeader {
        channel: 1,
        sequence: 2,
        flags: AckLevel::Written.flags(),
        ..FrameHeader::new(Kind::Ack)
    };
    let bytes = ack.alone();
    let parsed = FrameHeader::parse(&bytes, 4096).unwrap();
    assert_eq!(parsed, FrameHeader { body_checksum: parsed.body_checksum, ..ack });
    assert!(body_checksum_matches(&bytes));
    assert_eq!(AckLevel::from_flags(parsed.flags), Some(AckLevel::Written));
}

#[test]
fn kinds_and_numbers() {
    assert_eq!(Kind::ALL.len(), 21);
    for number in 0..=255 {
        let kind = Kind::from_number(number);
        assert_eq!(kind.map(|kind| kind as u8), (1..=21).contains(&number).then_some(number));
        let generated = fb::Kind(number).variant_name();
        assert_eq!(kind.map(|kind| format!("{kind:?}")).as_deref(), generated);
    }
}
