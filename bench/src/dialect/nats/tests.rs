//! Answers in any pieces; what is refused.

use super::*;
use crate::dialect::fixture::{self, feed};

fn role(batch_bytes: usize, acks: AckPace) -> Role {
    Role { flow: 3, acks, ..fixture::role(16, batch_bytes, 1000) }
}

fn lead(consumers: usize) -> Arc<Lead> {
    fixture::lead(16, 128, consumers)
}

const APART: AckPace = AckPace { every_batches: 16, every_us: 1_000 };

#[test]
fn a_unit_is_a_run_of_pubs_with_one_stamp() {
    let mut producer = NatsProducer::new(&role(128, APART), lead(0));
    assert_eq!(producer.unit_records(), 3, "each is 16 + 16 + 2 bytes");
    let record = |begin: &str| format!("PUB bench.3 16\r\n{begin}ZZZZZZZZ\r\n");
    let rest = record(&"\0".repeat(8)).repeat(2);
    for stamp in ["STAMPED!", "ANOTHER."] {
        let bytes = stamp.as_bytes().try_into().expect("eight");
        assert_eq!(producer.encode(1, u64::from_le_bytes(bytes)), 1);
        assert_eq!(String::from_utf8_lossy(producer.encoded()), record(stamp) + &rest);
    }
}

#[test]
fn pongs_acknowledge_what_was_sent_before_their_ping() {
    for piece in [1, 3, 100] {
        let mut producer = NatsProducer::new(&role(0, APART), lead(0));
        let mut encoded = 0;
        while producer.encode(16, 1) > 0 {
            encoded += 1;
            assert!(producer.encoded().ends_with(b"PING\r\n"), "16 units: a PING is due");
        }
        assert_eq!((encoded, producer.sent(), producer.acked()), (4, IN_FLIGHT_MAX, 0));
        feed(b"PONG\r\nINFO {}\r\nPONG\r\nPING\r\n", piece, |bytes| producer.take(bytes))
            .expect("well-formed");
        assert_eq!(producer.acked(), 32);
        let mut replies = Vec::new();
        producer.replies(&mut replies);
        producer.replies(&mut replies);
        assert_eq!(replies, b"PONG\r\n", "a PING is answered once");
        assert_eq!(producer.encode(3, 1), 3);
        assert!(producer.encoded().ends_with(b"Z\r\n"), "no PING is due");
    }
}

#[test]
fn what_is_left_in_the_end_is_asked_for_once() {
    let mut producer = NatsProducer::new(&role(0, APART), lead(0));
    let mut asked = Vec::new();
    producer.ask(&mut asked);
    assert!(asked.is_empty(), "nothing is sent");
    assert_eq!(producer.encode(3, 1), 3);
    producer.ask(&mut asked);
    producer.ask(&mut asked);
    assert_eq!(asked, b"PING\r\n");
    feed(b"PONG\r\n", 2, |bytes| producer.take(bytes)).expect("well-formed");
    assert_eq!(producer.acked(), 3);
}

#[test]
fn a_verbose_connection_has_an_ok_for_each() {
    let mut producer = NatsProducer::new(&role(0, AckPace::EACH), lead(0));
    assert_eq!(producer.encode(5, 1), 5);
    assert!(!producer.encoded().ends_with(b"PING\r\n"));
    feed(b"+OK\r\n+OK\r\n+OK\r\n", 2, |bytes| producer.take(bytes)).expect("well-formed");
    assert_eq!(producer.acked(), 3);
}

#[test]
fn refusals_are_errors() {
    let mut producer = NatsProducer::new(&role(0, APART), lead(0));
    assert!(producer.take(b"-ERR 'Maximum Payload Violation'\r\n").is_err());
    assert!(producer.take(b"PONG\r\n").is_err(), "nobody asked");
    assert!(producer.take(&[b'x'; LINE_BYTES_MAX]).is_err(), "a line without an end");
    let mut consumer = NatsConsumer::new(lead(1));
    let mut tally = Tally::default();
    for bad in [
        &b"-ERR 'Slow Consumer'\r\n"[..],
        b"MSG bench.3 1 x\r\n",
        b"MSG bench.3 1 \r\n",
        b"MSG b 1 3\r\nabc\r\n",
    ] {
        assert!(consumer.take(bad, &mut tally).is_err(), "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn messages_are_counted_in_any_pieces() {
    let mut stream = Vec::new();
    for number in 0..50_u64 {
        let stamp = if number % 3 == 0 { number + 1 } else { 0 };
        stream.extend_from_slice(b"MSG bench.3 1 16\r\n");
        stream.extend_from_slice(&stamp.to_le_bytes());
        stream.extend_from_slice(b"\r\n\r\nMSG \r\n");
        if number == 20 {
            stream.extend_from_slice(b"PING\r\n");
        }
    }
    for piece in [1, 5, 17, 18, 35, 36, 1000] {
        let lead = lead(1);
        let before = lead.room();
        lead.sent(50);
        let mut consumer = NatsConsumer::new(Arc::clone(&lead));
        let mut tally = Tally::default();
        feed(&stream, piece, |bytes| consumer.take(bytes, &mut tally)).expect("well-formed");
        assert_eq!(tally.records, 50, "in pieces of {piece}");
        let stamps: Vec<u64> = (0..50).filter(|number| number % 3 == 0).map(|number| number + 1).collect();
        assert_eq!(tally.stamps, stamps, "in pieces of {piece}");
        assert_eq!(lead.room(), before, "all that was sent is delivered");
        let mut replies = Vec::new();
        consumer.replies(&mut replies);
        assert_eq!(replies, b"PONG\r\n");
    }
}
