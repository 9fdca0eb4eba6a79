use proptest::prelude::*;

use super::*;
use crate::proto::header::body_checksum_matches;
use crate::wire::batch::{Batch, BatchLimits, verify};

const LIMITS: BatchLimits = BatchLimits { record_bytes_max: 1 << 20, records_max: 4096 };

fn header(frame: &[u8]) -> FrameHeader {
    FrameHeader::parse(frame[..HEADER_BYTES].try_into().unwrap(), 1 << 22).unwrap()
}

fn batch(frame: &[u8]) -> Batch<'_> {
    assert_eq!(header(frame).frame_bytes(), frame.len());
    assert!(body_checksum_matches(frame));
    verify(&frame[HEADER_BYTES..], header(frame).record_count, &LIMITS).unwrap()
}

#[test]
fn a_plain_record_costs_four_bytes_of_framing() {
    let mut builder = BatchBuilder::new();
    for _ in 0..100 {
        builder.push(&[1; 128], None, 0, b"");
    }
    let frame = builder.finish(7, 8, 9);
    assert_eq!(frame.len(), HEADER_BYTES + LEAN_BYTES + 100 * 128 + 4 + 100 * 4);
    let header = header(&frame);
    assert_eq!((header.kind, header.producer_id, header.sequence, header.channel), (Kind::Publish, 7, 8, 9));
    assert_eq!(batch(&frame).len(), 100);
}

#[test]
fn a_builder_that_gets_frames_back_does_not_allocate() {
    let mut builder = BatchBuilder::with_capacity(4096);
    let mut out = Vec::with_capacity(4096);
    let mut addresses = Vec::new();
    for sequence in 1..10 {
        builder.push(&[3; 2000], Some(b"k"), sequence, b"hh");
        builder.deadline(sequence);
        builder.finish_into(1, sequence, 1, &mut out);
        assert_eq!(batch(&out).deadline_ns(), sequence);
        assert!(builder.is_empty());
        addresses.push(out.as_ptr());
    }
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 2, "the two frames take turns");
}

#[test]
fn what_one_batch_asked_for_does_not_reach_the_next() {
    let mut builder = BatchBuilder::new();
    builder.push(b"a", Some(b"k"), 1, b"h");
    builder.deadline(5);
    builder.trace(b"t");
    let _ = builder.finish(1, 1, 1);
    builder.push(b"b", None, 0, b"");
    let frame = builder.finish(1, 2, 1);
    let record = batch(&frame).record(0).unwrap();
    assert_eq!((record.key, record.time_ns, record.header), (None, 0, &b""[..]));
    assert_eq!((batch(&frame).deadline_ns(), batch(&frame).trace()), (0, &b""[..]));
    assert_eq!(frame.len(), HEADER_BYTES + 40);
}

#[test]
fn a_readdressed_frame_is_the_same_batch() {
    let mut builder = BatchBuilder::new();
    builder.push(b"payload", None, 0, b"");
    let frame = builder.finish(3, 4, 5);
    let mut other = frame.clone();
    rechannel(&mut other, 99);
    assert_eq!(header(&other), FrameHeader { channel: 99, ..header(&frame) });
    assert!(body_checksum_matches(&other));
    rechannel(&mut other, 5);
    assert_eq!(other, frame);
}

type Row = (Vec<u8>, Option<Vec<u8>>, u64, Vec<u8>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max);
    // Mostly plain, so that columns begin late.
    let key = proptest::option::weighted(0.2, bytes(9));
    let time = prop_oneof![4 => Just(0u64), 1 => any::<u64>()];
    let header = prop_oneof![4 => Just(Vec::new()), 1 => bytes(5)];
    proptest::collection::vec((bytes(40), key, time, header), 1..40)
}

proptest! {
    #[test]
    fn what_was_pushed_is_read(
        rows in rows(),
        deadline in prop_oneof![Just(0u64), any::<u64>()],
        trace in proptest::collection::vec(any::<u8>(), 0..20),
        options_first in any::<bool>(),
    ) {
        let mut builder = BatchBuilder::new();
        if options_first {
            builder.deadline(deadline);
            builder.trace(&trace);
        }
        for (payload, key, time, header) in &rows {
            let announced = builder.bytes_with(payload, key.as_deref(), *time, header);
            builder.push(payload, key.as_deref(), *time, header);
            prop_assert_eq!(builder.bytes(), announced);
        }
        if !options_first {
            builder.deadline(deadline);
            builder.trace(&trace);
        }
        let announced = builder.bytes();
        prop_assert_eq!(builder.len(), rows.len());
        let frame = builder.finish(1, 2, 3);
        prop_assert_eq!(frame.len(), announced);
        prop_assert_eq!(frame.len() % 8, 0);
        let batch = batch(&frame);
        prop_assert_eq!((batch.deadline_ns(), batch.trace()), (deadline, &trace[..]));
        prop_assert_eq!(batch.len() as usize, rows.len());
        for (record, (payload, key, time, header)) in batch.records().zip(&rows) {
            prop_assert_eq!(record.payload, &payload[..]);
            prop_assert_eq!(record.key, key.as_deref().filter(|key| !key.is_empty()));
            prop_assert_eq!(record.time_ns, *time);
            prop_assert_eq!(record.header, &header[..]);
        }
    }
}
