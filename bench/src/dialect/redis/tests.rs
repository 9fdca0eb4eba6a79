//! Answers in any pieces; what is refused.

use super::*;
use crate::dialect::fixture::{self, feed};
use crate::dialect::units::IN_FLIGHT_MAX;
use crate::dialect::{Consumer, Tally};
use crate::scenario::AckPace;

const PIECES: [usize; 7] = [1, 2, 7, 31, 64, 200, 100_000];

fn role(batch_bytes: usize) -> Role {
    let acks = AckPace { every_batches: 16, every_us: 1_000 };
    Role { acks, ..fixture::role(16, batch_bytes, 9) }
}

fn lead(consumers: usize) -> Arc<Lead> {
    fixture::lead(16, 0, consumers)
}

/// A payload with a stamp in every third, and bytes in it that look like the protocol's.
fn payload(number: u64) -> Vec<u8> {
    let stamp = if number.is_multiple_of(3) { number + 1 } else { 0 };
    [&stamp.to_le_bytes()[..], b"\r\n*3\r\n$1"].concat()
}

fn stamps(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.filter(|number| number.is_multiple_of(3)).map(|number| number + 1).collect()
}

#[test]
fn a_unit_is_a_run_of_commands_with_one_stamp() {
    let stamp = u64::from_le_bytes(*b"STAMPED!");
    let zeros = "\0".repeat(8);
    let mut producer = RedisProducer::new(RedisWay::PubSub, &role(150), lead(0));
    assert_eq!((producer.unit_records(), producer.encode(1, stamp)), (2, 1));
    let record = |begin: &str| format!("*3\r\n$7\r\nPUBLISH\r\n$7\r\nbench:0\r\n$16\r\n{begin}ZZZZZZZZ\r\n");
    assert_eq!(String::from_utf8_lossy(producer.encoded()), record("STAMPED!") + &record(&zeros));
    let mut producer = RedisProducer::new(RedisWay::Streams, &role(0), lead(0));
    assert_eq!((producer.unit_records(), producer.encode(9, stamp)), (1, 9));
    let record = "*8\r\n$4\r\nXADD\r\n$7\r\nbench:0\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$7\r\n8388608\r\n$1\r\n*\r\n\
                  $1\r\nd\r\n$16\r\nSTAMPED!ZZZZZZZZ\r\n";
    assert_eq!(String::from_utf8_lossy(producer.encoded()), record.repeat(9));
}

#[test]
fn a_unit_is_acknowledged_when_all_of_it_is_answered() {
    for (way, answer) in [(RedisWay::PubSub, ":0\r\n"), (RedisWay::Streams, "$15\r\n1700000000000-7\r\n")] {
        for piece in PIECES {
            let mut producer = RedisProducer::new(way, &role(300), lead(0));
            let records = producer.unit_records();
            assert!(records > 1);
            while producer.encode(u64::MAX, 1) > 0 {}
            assert_eq!(producer.sent(), IN_FLIGHT_MAX);
            let answers = answer.repeat(usize::try_from(5 * records - 1).expect("few"));
            feed(answers.as_bytes(), piece, |bytes| producer.take(bytes)).expect("well-formed");
            assert_eq!(producer.acked(), 4);
            feed(answer.as_bytes(), piece, |bytes| producer.take(bytes)).expect("well-formed");
            assert_eq!(producer.acked(), 5);
        }
    }
}

#[test]
fn messages_of_a_subscription_are_counted_in_any_pieces() {
    let message = |number| {
        let head = b"*3\r\n$7\r\nmessage\r\n$7\r\nbench:0\r\n$16\r\n";
        [&head[..], &payload(number), b"\r\n"].concat()
    };
    let stream: Vec<u8> = (0..100).flat_map(message).collect();
    for piece in PIECES {
        let mut consumer = RedisConsumer::new(RedisWay::PubSub, "bench:0", Place::new(&lead(1)));
        let mut tally = Tally::default();
        feed(&stream, piece, |bytes| consumer.take(bytes, &mut tally)).expect("well-formed");
        assert_eq!((tally.records, &tally.stamps), (100, &stamps(0..100)), "in pieces of {piece}");
        let mut replies = Vec::new();
        consumer.replies(&mut replies);
        assert!(replies.is_empty(), "a subscription needs no asking");
    }
}

#[test]
fn a_stream_is_read_on_from_the_last_entry() {
    let answer = |numbers: std::ops::Range<u64>| {
        let mut out =
            format!("*1\r\n*2\r\n$7\r\nbench:0\r\n*{}\r\n", numbers.end - numbers.start).into_bytes();
        for number in numbers {
            let name = format!("17000-{number}");
            out.extend_from_slice(
                format!("*2\r\n${}\r\n{name}\r\n*2\r\n$1\r\nd\r\n$16\r\n", name.len()).as_bytes(),
            );
            out.extend_from_slice(&payload(number));
            out.extend_from_slice(b"\r\n");
        }
        out
    };
    for piece in PIECES {
        let lead = lead(1);
        let before = lead.room();
        lead.sent(42);
        let mut consumer = RedisConsumer::new(RedisWay::Streams, "bench:0", Place::new(&lead));
        assert!(consumer.question().ends_with(b"bench:0\r\n$3\r\n0-0\r\n"));
        let (mut tally, mut asked) = (Tally::default(), Vec::new());
        for numbers in [0..1, 1..42] {
            feed(&answer(numbers), piece, |bytes| {
                let used = consumer.take(bytes, &mut tally)?;
                consumer.replies(&mut asked);
                Ok(used)
            })
            .expect("well-formed");
        }
        assert_eq!((tally.records, &tally.stamps), (42, &stamps(0..42)), "in pieces of {piece}");
        let question = |last: &str| {
            format!(
                "*8\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$4\r\n4096\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n\
                 $7\r\nbench:0\r\n${}\r\n{last}\r\n",
                last.len()
            )
        };
        let expected = question("17000-0") + &question("17000-41");
        assert_eq!(String::from_utf8_lossy(&asked), expected, "in pieces of {piece}");
        assert_eq!(lead.room(), before, "all that was sent is delivered");
    }
}

#[test]
fn refusals_and_other_answers_are_errors() {
    let bad = [
        "-OOM command not allowed when used memory > 'maxmemory'\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "$x\r\n",
        "$\r\n",
        ":1\n",
        "\r\n",
        "*99999999999999999999999\r\n",
    ];
    for answer in bad {
        let mut producer = RedisProducer::new(RedisWay::Streams, &role(0), lead(0));
        producer.encode(1, 1);
        assert!(producer.take(answer.as_bytes()).is_err(), "{answer:?} to a producer");
        for way in [RedisWay::PubSub, RedisWay::Streams] {
            let mut consumer = RedisConsumer::new(way, "bench:0", Place::new(&lead(1)));
            let taken = consumer.take(answer.as_bytes(), &mut Tally::default());
            assert!(taken.is_err(), "{answer:?} to a consumer");
        }
    }
    let mut producer = RedisProducer::new(RedisWay::PubSub, &role(0), lead(0));
    assert!(producer.take(b":0\r\n").is_err(), "an answer to nothing");
    assert!(producer.take(&[b'1'; 5000]).is_err(), "a line without an end");
    let mut consumer = RedisConsumer::new(RedisWay::PubSub, "bench:0", Place::new(&lead(1)));
    assert!(consumer.take(b"*3\r\n$9\r\nsubscribe\r\n:1\r\n", &mut Tally::default()).is_err(), "other parts");
}
