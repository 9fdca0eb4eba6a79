//! The body of a published batch: accepted where docs/protocol.md, section 6, has it accepted, refused with its code, and
//! read as it was written.
//!
//! Its structure is read by the `flatbuffers` crate's verifier and generated code, and what is asked of the columns is a list
//! of plain loops, in the document's order.

#[path = "../../../src/wire/generated/batch_generated.rs"]
#[allow(warnings, clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]
mod generated;

use crate::mutation::mutate;
use crate::story::Story;
use generated::uringest::wire as fb;
use uringest::limits::HEADER_BYTES;
use uringest::proto::code::Code;
use uringest::proto::header::{FrameHeader, body_checksum_matches};
use uringest::wire::batch::{Batch, BatchBuilder, BatchLimits, Record, verify};

/// Records of one story.
const RECORDS_MAX: u8 = 24;
/// Small enough to be passed.
const LIMITS: [BatchLimits; 3] = [
    BatchLimits { record_bytes_max: 100, records_max: 16 },
    BatchLimits { record_bytes_max: 65_536, records_max: 65_536 },
    BatchLimits { record_bytes_max: 1, records_max: 1 },
];

/// One story. The first byte says of which kind, the second which limits hold, the third how many records the header says
/// there are.
pub fn run(story: &[u8]) {
    let mut story = Story(story);
    let (kind, limits, count) = (story.byte(), story.byte(), story.byte());
    let limits = &LIMITS[usize::from(limits) % LIMITS.len()];
    match kind % 4 {
        0 => check(story.0, u32::from(count), limits),
        1 => built(&mut story, count, limits),
        2 => columns(&mut story, count, limits),
        _ => {
            // The corpus has batches of other writers; this is what may become of one on the way.
            let length = story.number() % 1024;
            let mut body = story.bytes(length).to_vec();
            mutate(&mut body, &mut story);
            check(&body, u32::from(count), limits);
        }
    }
}

/// A batch of the builder: it is what was pushed; and then what damage makes of it.
fn built(story: &mut Story<'_>, count: u8, limits: &BatchLimits) {
    let mut builder = BatchBuilder::new();
    // A builder that was used before, and one that was not.
    if count & 1 == 1 {
        builder.push(b"before", Some(b"key"), 3, b"header");
        builder.trace(b"trace");
        builder.deadline(1);
        builder.clear();
    }
    let mut pushed = Vec::new();
    let (trace, deadline) = (story.byte(), u64::from(story.byte()));
    let trace = story.bytes(usize::from(trace) % 20);
    builder.trace(trace);
    builder.deadline(deadline);
    for _ in 0..story.byte() % RECORDS_MAX + 1 {
        let lengths = [story.byte() % 128, story.byte() % 16, story.byte() % 16].map(usize::from);
        let [payload, key, header] = lengths.map(|length| story.bytes(length));
        let time_ns = u64::from(story.byte() % 4);
        let bytes = builder.bytes_with(payload, Some(key), time_ns, header);
        builder.push(payload, Some(key), time_ns, header);
        assert_eq!(builder.bytes(), bytes, "as it was foretold");
        pushed.push(Record {
            index: u32::try_from(pushed.len()).expect("few"),
            payload,
            key: (!key.is_empty()).then_some(key),
            time_ns,
            header,
        });
    }
    let bytes = builder.bytes();
    let frame = builder.finish(9, 8, 7);
    assert_eq!(frame.len(), bytes, "as it was foretold");
    assert!(body_checksum_matches(&frame) && builder.is_empty());
    let header = FrameHeader::parse(frame.first_chunk().expect("a header"), u32::MAX).expect("it was made");
    assert_eq!((header.producer_id, header.sequence, header.channel), (9, 8, 7));
    assert_eq!(header.record_count as usize, pushed.len());

    let mut body = frame[HEADER_BYTES..].to_vec();
    let wide = BatchLimits { record_bytes_max: 1 << 20, records_max: 1 << 20 };
    let batch = verify(&body, header.record_count, &wide).expect("it was made");
    assert_eq!(batch.records().collect::<Vec<_>>(), pushed);
    assert_eq!((batch.trace(), batch.deadline_ns()), (trace, deadline));
    check(&body, header.record_count, limits);
    mutate(&mut body, story);
    check(&body, header.record_count, limits);
}

/// Columns that may be anything, encoded as any writer does.
fn columns(story: &mut Story<'_>, count: u8, limits: &BatchLimits) {
    let ends = |story: &mut Story<'_>, records: u8| -> Vec<u32> {
        let mut end = 0_u32;
        let step = |story: &mut Story<'_>| match story.byte() {
            // One that decreases or goes far beyond, now and then.
            byte @ 250.. => u32::from(byte) << 24 | u32::from(story.byte()),
            byte => u32::from(byte % 32),
        };
        (0..records)
            .map(|_| {
                end = end.wrapping_add(step(story));
                end
            })
            .collect()
    };
    let bytes = |ends: &[u32], more: u8| {
        let length = ends.last().map_or(0, |&end| end as usize % 4096) + usize::from(more == 0);
        vec![more; length]
    };
    let records = story.byte() % RECORDS_MAX;
    let there = story.byte();
    // Mostly as many entries as records.
    let other = |story: &mut Story<'_>| if story.byte() > 240 { records ^ 1 } else { records };
    let payload_ends = ends(story, records);
    let payload = bytes(&payload_ends, story.byte());
    let column = |story: &mut Story<'_>, bit: u8| {
        let entries = other(story);
        let ends = ends(story, entries);
        let bytes = bytes(&ends, story.byte());
        let (with_ends, with_bytes) = match there >> bit & 3 {
            0 => (false, false),
            1 if story.byte() > 240 => (true, false),
            _ => (true, true),
        };
        (with_ends.then_some(ends), with_bytes.then_some(bytes))
    };
    let (keys, headers) = (column(story, 0), column(story, 2));
    let times = (there & 16 != 0).then(|| vec![5_u64; usize::from(other(story))]);
    let mut b = flatbuffers::FlatBufferBuilder::new();
    let args = fb::BatchArgs {
        ends: Some(b.create_vector(&payload_ends)),
        payload: Some(b.create_vector(&payload)),
        key_ends: keys.0.as_ref().map(|ends| b.create_vector(ends)),
        keys: keys.1.as_ref().map(|bytes| b.create_vector(bytes)),
        times: times.as_ref().map(|times| b.create_vector(times)),
        header_ends: headers.0.as_ref().map(|ends| b.create_vector(ends)),
        headers: headers.1.as_ref().map(|bytes| b.create_vector(bytes)),
        trace: (there & 32 != 0).then(|| b.create_vector(&[1_u8, 2, 3])),
        deadline_ns: u64::from(there & 64),
    };
    let table = fb::Batch::create(&mut b, &args);
    b.finish(table, None);
    let mut body = b.finished_data().to_vec();
    body.resize(body.len().next_multiple_of(8), 0);
    let count = if count > 240 { u32::from(count) } else { u32::from(records) };
    check(&body, count, limits);
    mutate(&mut body, story);
    check(&body, count, limits);
}

/// The verdict is the rule's, and what is accepted reads as the generated code reads it.
fn check(body: &[u8], record_count: u32, limits: &BatchLimits) {
    let verdict = verify(body, record_count, limits);
    let ruled = rule(body, record_count, limits);
    match (verdict, ruled) {
        (Ok(batch), Ok(table)) => assert_reads(&batch, &table),
        (Err(error), Err((code, record))) => {
            assert_eq!((error.code, error.record), (code, record), "{error}: {body:?}");
            assert!(error.record.is_none_or(|record| record < record_count) && !error.detail.is_empty());
        }
        (verdict, ruled) => {
            let (verdict, ruled) = (verdict.map(|_| ()), ruled.map(|_| ()));
            panic!("{verdict:?}, and the rule says {ruled:?}: {body:?}");
        }
    }
}

fn assert_reads(batch: &Batch<'_>, table: &fb::Batch<'_>) {
    assert_eq!(batch.len() as usize, table.ends().len());
    assert_eq!(batch.payload_bytes(), table.payload().len());
    assert_eq!(batch.deadline_ns(), table.deadline_ns());
    assert_eq!(batch.trace(), table.trace().map_or(&[][..], |trace| trace.bytes()));
    assert_eq!(batch.record(batch.len()), None);
    assert_eq!(batch.records().len(), table.ends().len());
    let (payloads, keys) =
        (entries(Some(table.ends()), Some(table.payload())), entries(table.key_ends(), table.keys()));
    let headers = entries(table.header_ends(), table.headers());
    for (index, record) in batch.records().enumerate() {
        assert_eq!(Some(record), batch.record(record.index));
        assert_eq!((record.index as usize, record.payload), (index, payloads[index]));
        assert_eq!(record.key.unwrap_or_default(), keys.get(index).copied().unwrap_or_default());
        assert_ne!(record.key, Some(&[][..]));
        assert_eq!(record.header, headers.get(index).copied().unwrap_or_default());
        assert_eq!(record.time_ns, table.times().map_or(0, |times| times.get(index)));
    }
}

type Ends<'a> = flatbuffers::Vector<'a, u32>;
type Bytes<'a> = flatbuffers::Vector<'a, u8>;

/// A column's entries, one by one.
fn entries<'a>(ends: Option<Ends<'a>>, bytes: Option<Bytes<'a>>) -> Vec<&'a [u8]> {
    let (Some(ends), Some(bytes)) = (ends, bytes) else { return Vec::new() };
    let mut from = 0;
    let mut entry = |end: u32| {
        let entry = &bytes.bytes()[from..end as usize];
        from = end as usize;
        entry
    };
    ends.iter().map(&mut entry).collect()
}

/// The first check of the document's table that fails, and the record at fault.
fn rule<'a>(
    body: &'a [u8],
    record_count: u32,
    limits: &BatchLimits,
) -> Result<fb::Batch<'a>, (Code, Option<u32>)> {
    if body.is_empty() && record_count == 0 {
        return Err((Code::EmptyBatch, None));
    }
    // One table, and no bound on vectors that lie upon each other: the body is bounded.
    let options = flatbuffers::VerifierOptions {
        max_apparent_size: usize::MAX,
        ..flatbuffers::VerifierOptions::default()
    };
    let table = flatbuffers::root_with_opts::<fb::Batch<'a>>(&options, body);
    let table = table.map_err(|_| (Code::BadBatch, None))?;
    let ends = table.ends();
    let columns = [
        (Some(ends), Some(table.payload())),
        (table.key_ends(), table.keys()),
        (table.header_ends(), table.headers()),
    ];
    if columns.iter().any(|(ends, bytes)| ends.is_some() != bytes.is_some()) {
        return Err((Code::BadBatch, None));
    }
    if ends.is_empty() {
        return Err((Code::EmptyBatch, None));
    }
    if ends.len() > limits.records_max as usize {
        return Err((Code::TooManyRecords, None));
    }
    let lengths = columns.iter().filter_map(|(ends, _)| Some(ends.as_ref()?.len()));
    let mut lengths = lengths.chain(table.times().map(|times| times.len()));
    if lengths.any(|length| length != record_count as usize) {
        return Err((Code::CountMismatch, None));
    }
    let columns = columns.iter().filter_map(|(ends, bytes)| Some((ends.as_ref()?, bytes.as_ref()?.len())));
    for (ends, bytes) in columns.clone() {
        let mut before = 0;
        for (record, end) in (0..).zip(ends.iter()) {
            if end < before || end as usize > bytes {
                return Err((Code::EndsNotMonotonic, Some(record)));
            }
            before = end;
        }
        if before as usize != bytes {
            return Err((Code::EndsNotMonotonic, None));
        }
    }
    for (ends, _) in columns {
        let mut before = 0;
        for (record, end) in (0..).zip(ends.iter()) {
            if end - before > limits.record_bytes_max {
                return Err((Code::RecordTooLarge, Some(record)));
            }
            before = end;
        }
    }
    Ok(table)
}
