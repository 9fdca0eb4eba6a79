//! Somebody on the way changes, repeats, swaps or drops a record: what was before it is heard, nothing after it.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::tls::record::HEADER_BYTES;

over_each_implementation! {
    only_what_was_before_it_is_heard,
}

#[derive(Debug, Clone)]
enum Tampering {
    None,
    Flip { record: Index, byte: Index, bit: u8 },
    Repeat { record: Index, before: Index },
    Swap { one: Index, other: Index },
    Drop { record: Index },
    CutOff { byte: Index },
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let any = any::<Index>;
    prop_oneof![
        Just(Tampering::None),
        (any(), any(), 0..8_u8).prop_map(|(record, byte, bit)| Tampering::Flip { record, byte, bit }),
        (any(), any()).prop_map(|(record, before)| Tampering::Repeat { record, before }),
        (any(), any()).prop_map(|(one, other)| Tampering::Swap { one, other }),
        any().prop_map(|record| Tampering::Drop { record }),
        any().prop_map(|byte| Tampering::CutOff { byte }),
    ]
}

/// Records with the data in each, KeyUpdates among them, close_notify at the end.
fn records(suite: Suite, writes: &[usize], rekey: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut layer = client(suite);
    layer.rekey_after(rekey);
    let mut all = Vec::new();
    for (number, &bytes) in writes.iter().enumerate() {
        let data = vec![u8::try_from(number % 256).expect("a byte"); bytes];
        let wire = say(&mut layer, &data);
        let (record, update) = wire.split_at(bytes + OVERHEAD_BYTES);
        all.push((record.to_vec(), data));
        if !update.is_empty() {
            all.push((update.to_vec(), Vec::new()));
        }
    }
    layer.close();
    all.push((say(&mut layer, b""), Vec::new()));
    all
}

/// The stream after tampering, and how many of its first records are as they were (`None`: all).
fn tamper(records: &[Vec<u8>], how: &Tampering) -> (Vec<u8>, Option<usize>) {
    let mut records = records.to_vec();
    let count = records.len();
    let good = match how {
        Tampering::None => None,
        Tampering::Flip { record, byte, bit } => {
            let at = record.index(count);
            let byte = byte.index(records[at].len());
            records[at][byte] ^= 1 << bit;
            Some(at)
        }
        Tampering::Repeat { record, before } => {
            let (record, before) = (record.index(count), before.index(count + 1));
            records.insert(before, records[record].clone());
            // Before its own place is as good as behind it: the two are the same.
            Some(before + usize::from(record == before))
        }
        Tampering::Swap { one, other } => {
            let (one, other) = (one.index(count), other.index(count));
            records.swap(one, other);
            (one != other).then_some(one.min(other))
        }
        Tampering::Drop { record } => {
            let at = record.index(count);
            records.remove(at);
            Some(at)
        }
        Tampering::CutOff { byte } => {
            let mut stream = records.concat();
            let at = byte.index(stream.len());
            stream.truncate(at);
            let ends = records.iter().scan(0, |end, record| {
                *end += record.len();
                Some(*end)
            });
            let whole = ends.take_while(|&end| end <= at).count();
            return (stream, Some(whole));
        }
    };
    (records.concat(), good)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    fn only_what_was_before_it_is_heard(
        writes in proptest::collection::vec(1_usize..3000, 1..8),
        how in tampering(),
        rekey in 1_u64..6,
        piece in 1_usize..4000,
        suite in 0..3_usize,
    ) {
        let made = records(SUITES[suite], &writes, rekey);
        let wire: Vec<Vec<u8>> = made.iter().map(|(record, _)| record.clone()).collect();
        let (stream, good) = tamper(&wire, &how);
        let expected: Vec<u8> = made[..good.unwrap_or(made.len())].iter().flat_map(|(_, data)| data.clone()).collect();

        let mut layer = server(SUITES[suite]);
        let (mut heard, mut pending, mut then) = (Vec::new(), Vec::new(), Then::Wants(HEADER_BYTES));
        let mut out = vec![0; PLAINTEXT_ROOM_BYTES];
        for part in stream.chunks(piece) {
            pending.extend_from_slice(part);
            loop {
                let received = layer.receive(&pending, &mut out);
                heard.extend_from_slice(&out[..received.produced]);
                pending.drain(..received.consumed);
                then = received.then;
                if !matches!(then, Then::Room(_)) {
                    break;
                }
            }
        }
        prop_assert_eq!(heard, expected);
        // A good end is an end that was left alone: close_notify came, in its turn.
        let complete = good.is_none_or(|good| good >= made.len());
        prop_assert_eq!(then == Then::Closed, complete, "{:?}", then);
        prop_assert_eq!(layer.end_of_stream().is_ok(), complete);
    }
}
