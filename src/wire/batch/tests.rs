use flatbuffers::FlatBufferBuilder;
use proptest::prelude::*;

use super::*;
use crate::wire::generated::batch as fb;

const LIMITS: BatchLimits = BatchLimits { record_bytes_max: 1000, records_max: 64 };

/// The columns of a batch, right or wrong.
#[derive(Debug, Clone, Default)]
struct Columns {
    ends: Vec<u32>,
    payload: Vec<u8>,
    key_ends: Option<Vec<u32>>,
    keys: Option<Vec<u8>>,
    times: Option<Vec<u64>>,
    header_ends: Option<Vec<u32>>,
    headers: Option<Vec<u8>>,
    trace: Option<Vec<u8>>,
    deadline_ns: u64,
}

impl Columns {
    /// As any writer with generated code encodes them.
    fn encode(&self) -> Vec<u8> {
        let mut b = FlatBufferBuilder::new();
        let args = fb::BatchArgs {
            ends: Some(b.create_vector(&self.ends)),
            payload: Some(b.create_vector(&self.payload)),
            key_ends: self.key_ends.as_ref().map(|v| b.create_vector(v)),
            keys: self.keys.as_ref().map(|v| b.create_vector(v)),
            times: self.times.as_ref().map(|v| b.create_vector(v)),
            header_ends: self.header_ends.as_ref().map(|v| b.create_vector(v)),
            headers: self.headers.as_ref().map(|v| b.create_vector(v)),
            trace: self.trace.as_ref().map(|v| b.create_vector(v)),
            deadline_ns: self.deadline_ns,
        };
        let table = fb::Batch::create(&mut b, &args);
        b.finish(table, None);
        let mut body = b.finished_data().to_vec();
        body.resize(body.len().next_multiple_of(8), 0);
        body
    }

    /// What [`verify`] must say, by going through the records one by one, in the order of docs/protocol.md.
    fn naive(&self, record_count: u32) -> Result<(), Code> {
        let payload = (Some(&self.ends), Some(&self.payload));
        let columns = [
            payload,
            (self.key_ends.as_ref(), self.keys.as_ref()),
            (self.header_ends.as_ref(), self.headers.as_ref()),
        ];
        if columns.iter().any(|(ends, bytes)| ends.is_some() != bytes.is_some()) {
            return Err(Code::BadBatch);
        }
        if self.ends.is_empty() {
            return Err(Code::EmptyBatch);
        }
        if self.ends.len() > LIMITS.records_max as usize {
            return Err(Code::TooManyRecords);
        }
        let lengths = columns.iter().filter_map(|(ends, _)| Some(ends.as_ref()?.len()));
        if lengths.chain(self.times.as_ref().map(Vec::len)).any(|length| length != record_count as usize) {
            return Err(Code::CountMismatch);
        }
        let columns = columns.into_iter().filter_map(|(ends, bytes)| Some((ends?, bytes?)));
        columns.clone().try_for_each(|(ends, bytes)| naive_ends(ends, bytes))?;
        columns.into_iter().try_for_each(|(ends, _)| naive_lengths(ends))
    }
}

fn naive_ends(ends: &[u32], bytes: &[u8]) -> Result<(), Code> {
    let mut prev = 0;
    for &end in ends {
        if end < prev || end as usize > bytes.len() {
            return Err(Code::EndsNotMonotonic);
        }
        prev = end;
    }
    if prev as usize == bytes.len() { Ok(()) } else { Err(Code::EndsNotMonotonic) }
}

fn naive_lengths(ends: &[u32]) -> Result<(), Code> {
    let mut prev = 0;
    for &end in ends {
        if end - prev > LIMITS.record_bytes_max {
            return Err(Code::RecordTooLarge);
        }
        prev = end;
    }
    Ok(())
}

fn refused(columns: &Columns, record_count: u32) -> BatchError {
    verify(&columns.encode(), record_count, &LIMITS).unwrap_err()
}

#[test]
fn a_batch_of_any_writer_is_read() {
    let columns = Columns {
        ends: vec![1, 1, 4],
        payload: b"abcd".to_vec(),
        key_ends: Some(vec![0, 2, 3]),
        keys: Some(b"xyz".to_vec()),
        times: Some(vec![7, 0, u64::MAX]),
        header_ends: Some(vec![3, 3, 3]),
        headers: Some(b"hhh".to_vec()),
        trace: Some(b"trace".to_vec()),
        deadline_ns: 99,
    };
    let body = columns.encode();
    let batch = verify(&body, 3, &LIMITS).unwrap();
    assert_eq!((batch.len(), batch.deadline_ns(), batch.trace()), (3, 99, &b"trace"[..]));
    let records: Vec<_> = batch.records().collect();
    let record = |index, payload, key, time_ns, header| Record { index, payload, key, time_ns, header };
    assert_eq!(
        records,
        [
            record(0, &b"a"[..], None, 7, &b"hhh"[..]),
            record(1, b"", Some(&b"xy"[..]), 0, b""),
            record(2, b"bcd", Some(b"z"), u64::MAX, b""),
        ]
    );
    assert_eq!(batch.record(3), None);
    assert_eq!(batch.records().len(), 3);
}

#[test]
fn memory_need_not_be_aligned() {
    let columns = Columns {
        ends: vec![2, 5],
        payload: b"hello".to_vec(),
        times: Some(vec![1, 2]),
        ..Columns::default()
    };
    let body = columns.encode();
    for shift in 0..8 {
        let mut memory = vec![0; shift];
        memory.extend_from_slice(&body);
        let batch = verify(&memory[shift..], 2, &LIMITS).unwrap();
        assert_eq!(batch.record(1).unwrap().payload, b"llo");
        assert_eq!(batch.record(1).unwrap().time_ns, 2);
    }
}

#[test]
fn each_refusal_names_its_code_and_record() {
    let good = Columns { ends: vec![1, 2, 4], payload: b"abcd".to_vec(), ..Columns::default() };
    assert!(verify(&good.encode(), 3, &LIMITS).is_ok());
    let with = |change: fn(&mut Columns)| {
        let mut columns = good.clone();
        change(&mut columns);
        columns
    };
    type Row = (Code, Option<u32>, u32, fn(&mut Columns));
    let table: &[Row] = &[
        (Code::CountMismatch, None, 2, |_| {}),
        (Code::CountMismatch, None, u32::MAX, |_| {}),
        (Code::EmptyBatch, None, 0, |c| c.ends.clear()),
        (Code::TooManyRecords, None, 65, |c| c.ends = vec![4; 65]),
        (Code::EndsNotMonotonic, Some(1), 3, |c| c.ends = vec![2, 1, 4]),
        (Code::EndsNotMonotonic, Some(0), 3, |c| c.ends = vec![u32::MAX, 1, 4]),
        (Code::EndsNotMonotonic, Some(2), 3, |c| c.ends = vec![1, 2, 5]),
        (Code::EndsNotMonotonic, None, 3, |c| c.ends = vec![1, 2, 3]),
        (Code::RecordTooLarge, Some(2), 3, |c| {
            c.ends = vec![1, 2, 1003];
            c.payload = vec![0; 1003];
        }),
        (Code::BadBatch, None, 3, |c| c.key_ends = Some(vec![0, 0, 0])),
        (Code::BadBatch, None, 3, |c| c.headers = Some(vec![1])),
        (Code::CountMismatch, None, 3, |c| {
            c.keys = Some(vec![1]);
            c.key_ends = Some(vec![0, 1]);
        }),
        (Code::EndsNotMonotonic, Some(1), 3, |c| {
            c.headers = Some(vec![1]);
            c.header_ends = Some(vec![1, 0, 1]);
        }),
        (Code::CountMismatch, None, 3, |c| c.times = Some(vec![1, 2])),
        // Two faults: the first of the document's table is told.
        (Code::BadBatch, None, 0, |c| {
            c.ends.clear();
            c.headers = Some(vec![1]);
        }),
        (Code::CountMismatch, None, 3, |c| {
            c.ends = vec![1, 2, 3];
            c.times = Some(vec![1]);
        }),
        (Code::EndsNotMonotonic, Some(1), 3, |c| {
            c.ends = vec![1, 2, 1003];
            c.payload = vec![0; 1003];
            c.keys = Some(vec![1]);
            c.key_ends = Some(vec![1, 0, 1]);
        }),
    ];
    for (row, (code, record, count, change)) in table.iter().enumerate() {
        let error = refused(&with(*change), *count);
        assert_eq!((error.code, error.record), (*code, *record), "row {row}: {error}");
    }
    assert_eq!(verify(&[], 1, &LIMITS).unwrap_err().code, Code::BadBatch);
    assert_eq!(verify(&[], 0, &LIMITS).unwrap_err().code, Code::EmptyBatch);
    assert_eq!(verify(&[0; 64], 1, &LIMITS).unwrap_err().code, Code::BadBatch);
}

#[test]
fn a_sum_that_wraps_is_refused() {
    // Every step is within the limit and the last end is right, but on the way the ends pass 2^32.
    let limits = BatchLimits { record_bytes_max: 1 << 30, records_max: 64 };
    let columns = Columns {
        ends: vec![1 << 30, 1 << 31, (1 << 30) + (1 << 31), 0, 4],
        payload: b"abcd".to_vec(),
        ..Columns::default()
    };
    let error = verify(&columns.encode(), 5, &limits).unwrap_err();
    assert_eq!((error.code, error.record), (Code::EndsNotMonotonic, Some(0)));
}

/// Ends that are often right: the builder of hostile vectors.
fn ends_strategy() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(prop_oneof![8 => 0..40u32, 1 => 900..1100u32], 0..70).prop_flat_map(|lengths| {
        let ends: Vec<u32> = lengths
            .iter()
            .scan(0u32, |end, length| {
                *end += length;
                Some(*end)
            })
            .collect();
        let damage = proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u32>()));
        (Just(ends), damage).prop_map(|(mut ends, damage)| {
            if let (Some((at, value)), false) = (damage, ends.is_empty()) {
                let at = at.index(ends.len());
                ends[at] = if value % 2 == 0 { value } else { value % 2000 };
            }
            ends
        })
    })
}

prop_compose! {
    fn columns()(
        ends in ends_strategy(),
        keys in proptest::option::of(ends_strategy()),
        headers in proptest::option::of(ends_strategy()),
        times in proptest::option::of(0..70usize),
        short in 0..20u8,
        aligned in any::<bool>(),
    ) -> Columns {
        let bytes = |ends: &[u32]| vec![7u8; ends.last().map_or(0, |&end| (end as usize).min(100_000))];
        let records = ends.len();
        // Mostly as many entries as records, so that the checks behind the count are reached.
        let fit = |mut ends: Vec<u32>| {
            if aligned {
                let last = ends.last().copied().unwrap_or(0);
                ends.resize(records, last);
            }
            ends
        };
        let keys = keys.map(fit);
        let headers = headers.map(fit);
        let mut columns = Columns {
            payload: bytes(&ends),
            keys: keys.as_ref().map(|ends| bytes(ends)),
            key_ends: keys,
            headers: headers.as_ref().map(|ends| bytes(ends)),
            header_ends: headers,
            times: times.map(|n| vec![3; if aligned { records } else { n }]),
            ends,
            ..Columns::default()
        };
        if short == 0 {
            columns.payload.push(0);
        }
        columns
    }
}

/// The generated verifier's opinion of the structure, and what it reads.
fn generated(body: &[u8]) -> Option<fb::Batch<'_>> {
    let options = flatbuffers::VerifierOptions {
        max_depth: 1,
        max_tables: 1,
        max_apparent_size: usize::MAX,
        ignore_missing_null_terminator: false,
    };
    flatbuffers::root_with_opts::<fb::Batch<'_>>(&options, body).ok()
}

fn same_structure(body: &[u8]) -> Result<(), TestCaseError> {
    match (table::read(body), generated(body)) {
        (None, None) => {}
        (Some(ours), Some(theirs)) => {
            prop_assert_eq!(ours.ends, theirs.ends().bytes());
            prop_assert_eq!(ours.payload, theirs.payload().bytes());
            prop_assert_eq!(ours.key_ends, theirs.key_ends().map(|v| v.bytes()));
            prop_assert_eq!(ours.keys, theirs.keys().map(|v| v.bytes()));
            prop_assert_eq!(ours.times, theirs.times().map(|v| v.bytes()));
            prop_assert_eq!(ours.header_ends, theirs.header_ends().map(|v| v.bytes()));
            prop_assert_eq!(ours.headers, theirs.headers().map(|v| v.bytes()));
            prop_assert_eq!(ours.trace, theirs.trace().map_or(&[][..], |v| v.bytes()));
            prop_assert_eq!(ours.deadline_ns, theirs.deadline_ns());
        }
        (ours, theirs) => {
            prop_assert!(false, "ours {}, generated {}: {body:?}", ours.is_some(), theirs.is_some());
        }
    }
    Ok(())
}

/// A full batch, and a lean one.
fn sample_body(full: bool) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    if full {
        builder.trace(b"trace");
        builder.deadline(9);
        builder.push(b"one", Some(b"k"), 5, b"h");
    }
    builder.push(b"two", None, 0, b"");
    builder.finish(1, 1, 1)[crate::limits::HEADER_BYTES..].to_vec()
}

#[test]
fn every_byte_changed_gets_the_generated_verifiers_verdict() {
    for full in [false, true] {
        let good = sample_body(full);
        for at in 0..good.len() {
            for byte in 0..=255 {
                let mut body = good.clone();
                body[at] = byte;
                same_structure(&body).unwrap();
            }
            same_structure(&good[..at]).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn the_structure_is_what_the_generated_verifier_says(
        columns in columns(),
        random in proptest::collection::vec(0..20u8, 0..80),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        same_structure(&random)?;
        let mut body = columns.encode();
        for (at, byte) in damage {
            // Mostly in the front, where the table is.
            let front = body.len().min(96);
            body[at.index(front)] = byte;
        }
        same_structure(&body)?;
    }

    #[test]
    fn the_fast_verdict_is_the_naive_one(columns in columns(), other_count in 0..10u8) {
        let count = u32::try_from(columns.ends.len()).unwrap() + u32::from(other_count == 0);
        let body = columns.encode();
        let verdict = verify(&body, count, &LIMITS);
        prop_assert_eq!(verdict.as_ref().map(|_| ()).map_err(|error| error.code), columns.naive(count));
        if let Ok(batch) = verdict {
            let mut from = 0;
            for (record, &end) in batch.records().zip(&columns.ends) {
                prop_assert_eq!(record.payload, &columns.payload[from as usize..end as usize]);
                from = end;
            }
        }
    }

    #[test]
    fn the_scan_is_the_naive_scan(lengths in proptest::collection::vec(any::<u32>(), 1..200), shift in 0..32u32, max in 0..=i32::MAX.unsigned_abs()) {
        let ends: Vec<u32> = lengths
            .iter()
            .scan(0u32, |end, length| {
                *end = end.wrapping_add(length >> shift);
                Some(*end)
            })
            .collect();
        let mut prev = 0;
        let naive = ends.iter().all(|&end| {
            let ok = end >= prev && end <= i32::MAX.unsigned_abs() && end - prev <= max;
            prev = end;
            ok
        });
        let bytes: Vec<u8> = ends.iter().flat_map(|end| end.to_le_bytes()).collect();
        prop_assert_eq!(scan(&bytes, max), naive);
    }

    #[test]
    fn no_bytes_make_verify_panic(body in proptest::collection::vec(any::<u8>(), 0..400), count in 0..4u32) {
        if let Ok(batch) = verify(&body, count, &LIMITS) {
            prop_assert_eq!(batch.records().count(), count as usize);
        }
    }

    /// Damage to a good body is refused, or what is accepted can be read.
    #[test]
    fn no_damage_makes_verify_or_reading_panic(
        at in any::<prop::sample::Index>(),
        bytes in any::<[u8; 4]>(),
        width in 1..5usize,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut builder = BatchBuilder::new();
        builder.push(b"one", Some(b"k"), 5, b"h");
        builder.push(b"two", None, 6, b"");
        let frame = builder.finish(1, 1, 1);
        let mut body = frame[crate::limits::HEADER_BYTES..].to_vec();
        let at = at.index(body.len() - 3);
        body[at..at + width].copy_from_slice(&bytes[..width]);
        let mut read = 0;
        if let Ok(batch) = verify(&body, 2, &LIMITS) {
            read = batch.records().map(|r| r.payload.len() + r.header.len() + r.key.map_or(0, <[u8]>::len)).sum();
        }
        prop_assert!(read <= 3 * body.len());
        body.truncate(cut.index(body.len() + 1));
        if let Ok(batch) = verify(&body, 2, &LIMITS) {
            prop_assert_eq!(batch.records().count(), 2);
        }
    }
}
