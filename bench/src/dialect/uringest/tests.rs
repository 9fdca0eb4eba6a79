use std::time::Duration;

use proptest::prelude::*;
use uringest::proto::code::Code;
use uringest::proto::header::body_checksum_matches;

use super::*;
use crate::dialect::{Consumer, Producer, Tally, fixture};

fn producer(payload_bytes: usize, batch_bytes: usize, units_at_once: usize) -> UringestProducer {
    let role = Role { number: 3, ..fixture::role(payload_bytes, batch_bytes, units_at_once) };
    let batch = producer::batch(&role, 0x1003, 7);
    let tables = Arc::new(Tables::new(batch.0.len()));
    UringestProducer::new(&role, batch, tables, u64::MAX)
}

/// The frames as a server would deliver them.
fn delivered(frames: &[u8]) -> Vec<u8> {
    let mut out = frames.to_vec();
    let mut at = 0;
    while at < out.len() {
        let head: &[u8; HEADER] = out[at..].first_chunk().expect("whole frames");
        let mut header = FrameHeader::parse(head, FRAME_BYTES_MAX).expect("a header");
        header.kind = Kind::Deliver;
        header.encode((&mut out[at..at + HEADER]).try_into().expect("a header's bytes"));
        at += header.frame_bytes();
    }
    out
}

proptest! {
    #[test]
    fn patched_frames_are_sealed(
        payload in 8_usize..3_000, batch in 0_usize..70_000, skip in 0_u64..1_000, stamp: u64
    ) {
        let mut producer = producer(payload, batch, 9);
        (producer.sequence, producer.out, producer.acked) = (skip, skip, skip);
        let units = producer.encode(5, stamp);
        prop_assert!((1..=5).contains(&units));
        let unit = usize::try_from(producer.unit_bytes()).expect("small");
        prop_assert_eq!(producer.encoded().len() as u64, units * producer.unit_bytes());
        for (sequence, frame) in (skip + 1..).zip(producer.encoded().chunks(unit)) {
            let header = FrameHeader::parse(frame.first_chunk().expect("a header"), FRAME_BYTES_MAX);
            let header = header.expect("sealed");
            prop_assert_eq!(header.sequence, sequence);
            prop_assert_eq!(u64::from(header.record_count), producer.unit_records());
            prop_assert!(body_checksum_matches(frame));
        }
    }

    #[test]
    fn a_consumer_counts_the_same_however_the_bytes_come(
        payload in 8_usize..2_000, batch in 0_usize..10_000, cuts in prop::collection::vec(1_usize..9_000, 1..60)
    ) {
        let mut producer = producer(payload, batch, 20);
        let units = producer.encode(20, 0x0123_4567_89ab_cdef);
        let bytes = delivered(producer.encoded());
        let mut consumer = UringestConsumer::new(1);
        let mut tally = Tally::default();
        let (mut held, mut at, mut cut) = (Vec::new(), 0, cuts.iter().cycle());
        while at < bytes.len() {
            let end = bytes.len().min(at + cut.next().expect("a cycle"));
            held.extend_from_slice(&bytes[at..end]);
            at = end;
            let used = consumer.take(&held, &mut tally).expect("frames");
            held.drain(..used);
            prop_assert!(held.len() < HEADER + 28 + 8, "only a head is kept: {}", held.len());
        }
        prop_assert!(held.is_empty());
        prop_assert_eq!(tally.records, units * producer.unit_records());
        prop_assert_eq!(tally.stamps.len() as u64, units);
        prop_assert!(tally.stamps.iter().all(|stamp| *stamp == 0x0123_4567_89ab_cdef));
    }
}

#[test]
fn in_flight_and_credit_bound_what_is_encoded() {
    let mut producer = producer(128, 0, 100);
    producer.limit = 10 * producer.unit_bytes();
    assert_eq!(producer.encode(100, 0), 10, "credit");
    assert_eq!(producer.encode(100, 0), 0);
    producer.acked = 10;
    assert_eq!(producer.encode(100, 0), 1, "one frame may always be sent when nothing is in flight");
    producer.limit = u64::MAX;
    assert_eq!(producer.encode(100, 0), 63, "batches in flight");
    assert_eq!(producer.encode(100, 0), 0);
}

fn nack(sequence: u64, code: Code) -> Vec<u8> {
    let refusal = Refusal { code, retry_after_us: 700, record: None, detail: String::new() };
    refusal.frame(Kind::Nack, 7, sequence)
}

/// Sequences and stamps of frames.
fn sent(frames: &[u8], unit: usize) -> Vec<(u64, u64)> {
    let frame = |frame: &[u8]| {
        let header = FrameHeader::parse(frame.first_chunk().expect("a header"), FRAME_BYTES_MAX);
        assert!(body_checksum_matches(frame));
        let stamp = frame[consumer::PAYLOAD_AT..].first_chunk().expect("a stamp");
        (header.expect("sealed").sequence, u64::from_le_bytes(*stamp))
    };
    frames.chunks(unit).map(frame).collect()
}

#[test]
fn what_there_was_no_room_for_is_sent_again_in_order() {
    let mut producer = producer(128, 0, 100);
    let unit = usize::try_from(producer.unit_bytes()).expect("small");
    assert_eq!((producer.encode(3, 10), producer.encode(2, 20)), (3, 2));
    let ack = FrameHeader { sequence: 1, channel: 7, ..FrameHeader::new(Kind::Ack) }.alone();
    producer.take(&ack).expect("an answer");
    producer.take(&nack(2, Code::BackPressure)).expect("passes");
    producer.take(&nack(3, Code::OutOfSequence)).expect("follows from it");
    producer.take(&nack(4, Code::BackPressure)).expect("follows from it");
    assert_eq!((producer.to_resend(), producer.encode(1, 30)), (None, 0), "one is not answered yet");
    producer.take(&nack(5, Code::OutOfSequence)).expect("follows from it");
    assert_eq!(producer.to_resend(), Some(Duration::from_micros(700)));
    assert_eq!((producer.encode(1, 30), producer.sent(), producer.refusals()), (0, 5, 1));

    // Credit for two: the others wait.
    producer.limit = 7 * producer.unit_bytes();
    let mut again = Vec::new();
    producer.resend(&mut again);
    assert_eq!(sent(&again, unit), [(2, 10), (3, 10)]);
    producer.take(&FrameHeader { sequence: 3, ..FrameHeader::new(Kind::Ack) }.alone()).expect("an answer");
    again.clear();
    producer.resend(&mut again);
    assert_eq!(sent(&again, unit), [(4, 20)], "nothing is in flight");
    producer.limit = u64::MAX;
    again.clear();
    producer.resend(&mut again);
    assert_eq!(sent(&again, unit), [(5, 20)]);
    assert_eq!((producer.to_resend(), producer.encode(1, 30)), (None, 1));
    assert_eq!(sent(producer.encoded(), unit), [(6, 30)]);
}

#[test]
fn any_other_refusal_is_an_error() {
    for (sequence, code) in [(1, Code::OutOfSequence), (1, Code::UnknownProducer)] {
        let mut producer = producer(128, 0, 1);
        assert_eq!(producer.encode(1, 0), 1);
        let error = producer.take(&nack(sequence, code)).expect_err("an end").to_string();
        assert!(error.contains(code.name()), "{error}");
    }
}

#[test]
fn answers_are_counted_also_in_parts() {
    let mut producer = producer(128, 0, 1);
    let ack = FrameHeader { sequence: 9, channel: 7, ..FrameHeader::new(Kind::Ack) }.alone();
    let credit = FrameHeader { offset: 12_345, channel: 7, ..FrameHeader::new(Kind::Credit) }.alone();
    producer.limit = 0;
    let bytes = [ack, credit].concat();
    assert_eq!(producer.take(&bytes[..100]).expect("frames"), HEADER);
    assert_eq!((producer.acked(), producer.limit), (9, 0));
    assert_eq!(producer.take(&bytes[HEADER..]).expect("frames"), HEADER);
    assert_eq!(producer.limit, 12_345);
}

#[test]
fn a_consumer_renews_its_credit_at_half() {
    let mut consumer = UringestConsumer::new(1);
    let mut out = Vec::new();
    consumer.replies(&mut out);
    assert!(out.is_empty());
    consumer.bytes = consumer::CREDIT_BYTES / 2 + 1;
    consumer.replies(&mut out);
    let header = FrameHeader::parse(out.first_chunk().expect("a frame"), FRAME_BYTES_MAX).expect("a header");
    assert_eq!((header.kind, header.offset), (Kind::Credit, consumer.bytes + consumer::CREDIT_BYTES));
    out.clear();
    consumer.replies(&mut out);
    assert!(out.is_empty());
}
