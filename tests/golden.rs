//! The golden frames of `tests/golden/`: what clients in any language are checked against.
//!
//! Each case is built here, must equal the file byte for byte, must decode to what `index.toml` says, and
//! must come out again, byte for byte, from what `index.toml` says. `URINGEST_BLESS=1 cargo test --test
//! golden` writes the files anew: only for a new case, as published files are part of the protocol.

#[path = "golden/describe.rs"]
mod describe;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use toml::{Table, Value};
use uringest::limits::HEADER_BYTES;
use uringest::proto::code::Code;
use uringest::proto::control::{Commit, Hello, Open, Opened, Refusal, Start, Subscribe, Subscribed, Welcome};
use uringest::proto::header::{AckLevel, FLAG_DUPLICATE, FrameHeader, GapReason, Kind, seal, stamp};
use uringest::wire::batch::{BatchBuilder, BatchLimits};

use crate::describe::{describe, hex, make_again};

const LIMITS: BatchLimits = BatchLimits { record_bytes_max: 65_536, records_max: 16_384 };
const FRAME_BYTES_MAX: u32 = 131_072;
const PRODUCER: u64 = 0x0123_4567_89ab_cdef;
const TIME: u64 = 1_790_000_000_000_000_000;

/// A frame with its name and a sentence about it.
struct Case {
    name: &'static str,
    note: &'static str,
    bytes: Vec<u8>,
    /// Written by another encoder than ours: decoded, but not made again.
    foreign: bool,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

// ---- the cases -------------------------------------------------------------------------------------------

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, note, bytes| cases.push(Case { name, note, bytes, foreign: false });
    control_cases(&mut add);
    header_only_cases(&mut add);
    batch_cases(&mut add);
    refused_cases(&mut add);
    for (name, note, bytes) in [
        ("hello_other_writer", "As hello, by the writer of docs/protocol.md section 13.", hex(HELLO_BY_HAND)),
        ("open_other_writer", "As open, by the writer of docs/protocol.md section 13.", hex(OPEN_BY_HAND)),
        (
            "publish_other_writer",
            "Two records by the FlatBuffers library: vectors and table in another order than ours.",
            batch_frame(2, &foreign_batch(&[3, 6], b"onetwo", None)),
        ),
    ] {
        cases.push(Case { name, note, bytes, foreign: true });
    }
    cases
}

type Add<'a> = dyn FnMut(&'static str, &'static str, Vec<u8>) + 'a;

fn control_cases(add: &mut Add<'_>) {
    let mut hello = Hello {
        client: "golden/1".into(),
        version_min: 1,
        version_max: 1,
        features: 0,
        token: String::new(),
    };
    add("hello", "A client without a token.", hello.frame(0));
    hello.token = "s3cret".into();
    add("hello_token", "A client with a token.", hello.frame(0));
    let mut welcome = Welcome {
        server: "uringest/0.1.0".into(),
        version: 1,
        features: 0,
        session: 42,
        shard: 1,
        shards: 2,
        tenant: "default".into(),
        frame_bytes_max: FRAME_BYTES_MAX,
        record_bytes_max: LIMITS.record_bytes_max,
        batch_records_max: LIMITS.records_max,
        inflight_batches_max: 64,
        channels_max: 256,
        subscriptions_max: 256,
        idle_timeout_ms: 120_000,
        shard_addresses: Vec::new(),
    };
    add("welcome", "One data port.", welcome.frame(0));
    welcome.shard_addresses = vec!["10.0.0.1:7450".into(), "10.0.0.1:7451".into()];
    add("welcome_addresses", "A port for each shard beside the common one.", welcome.frame(0));
    let open = Open {
        topic: "sensors/floor-1".into(),
        partition: 3,
        producer_id: PRODUCER,
        ack_level: None,
        ack_every_batches: 8,
        ack_every_us: 500,
        connections: 0,
    };
    add("open", "Request 7: a channel on partition 3.", open.frame(7));
    let again = Open { connections: 3, ..open.clone() };
    add("open_connections", "The same on the producer's third connection.", again.frame(7));
    let open = |ack_level| Open { ack_level: Some(ack_level), ..open.clone() };
    add("open_received", "The same with level 0, which is not absent.", open(AckLevel::Received).frame(7));
    add("open_durable", "The same with level 2.", open(AckLevel::Durable).frame(7));
    let opened = Opened {
        partition_id: 19,
        partition_count: 4,
        shard: 1,
        ack_level: AckLevel::Received,
        next_sequence: 1,
        credit: 65_536,
    };
    add("opened", "The answer to request 7: channel 5 with 64 KiB of credit.", opened.frame(7, 5));
    let subscribe = |start, name: &str, resume| Subscribe {
        topic: "sensors/floor-1".into(),
        partition: 3,
        start,
        name: name.into(),
        resume,
        credit: 1 << 22,
    };
    add(
        "subscribe_latest",
        "No name: everything but topic, partition and credit is default.",
        subscribe(Start::Latest, "", false).frame(8),
    );
    add(
        "subscribe_resume",
        "Where `billing` left off, else at the beginning.",
        subscribe(Start::Earliest, "billing", true).frame(9),
    );
    add("subscribe_offset", "From offset 1000.", subscribe(Start::Offset(1000), "", false).frame(10));
    add("subscribe_time", "From a time.", subscribe(Start::TimeNs(TIME), "billing", false).frame(11));
    let subscribed = Subscribed {
        partition_count: 4,
        shard: 1,
        start_offset: 1000,
        log_start_offset: 200,
        log_end_offset: 5000,
    };
    add("subscribed", "The answer to request 10: partition id 19.", subscribed.frame(10, 19));
    add(
        "commit",
        "Request 12: `billing` is done with what is below 1234.",
        Commit { name: "billing".into(), offset: 1234 }.frame(12, 19),
    );
    let refusal = |code, retry_after_us, record, detail: &str| Refusal {
        code,
        retry_after_us,
        record,
        detail: detail.into(),
    };
    add(
        "nack_retryable",
        "Batch 3 of channel 5, to be sent again in 1 ms at the earliest.",
        refusal(Code::RingFull, 1000, None, "").frame(Kind::Nack, 5, 3),
    );
    add(
        "nack_terminal",
        "Batch 4 of channel 5, because of its record 2.",
        refusal(Code::RecordTooLarge, 0, Some(2), "65537 bytes, at most 65536").frame(Kind::Nack, 5, 4),
    );
    add(
        "error_request",
        "Request 13 failed.",
        refusal(Code::UnknownTopic, 0, None, "no topic `nope`").frame(Kind::Error, 0, 13),
    );
    add(
        "error_connection",
        "The connection is refused.",
        refusal(Code::Unauthenticated, 0, None, "").frame(Kind::Error, 0, 0),
    );
    add(
        "close_server",
        "The server ends the connection.",
        refusal(Code::ServerDraining, 1_000_000, None, "").frame(Kind::Close, 0, 0),
    );
}

fn header_only_cases(add: &mut Add<'_>) {
    let mut alone = |name, note, header: FrameHeader| add(name, note, header.alone().to_vec());
    let ack = FrameHeader {
        channel: 5,
        sequence: 9,
        offset: 4096,
        offset_span: 100,
        append_time_ns: TIME,
        ..FrameHeader::new(Kind::Ack)
    };
    alone("ack", "All batches of channel 5 up to 9 are received.", ack);
    alone(
        "ack_durable_duplicate",
        "Batch 9 had been stored before, and is durable.",
        FrameHeader { flags: FLAG_DUPLICATE | AckLevel::Durable.flags(), ..ack },
    );
    alone(
        "credit_producer",
        "Server to client: channel 5 may send 1 MiB in all.",
        FrameHeader { channel: 5, offset: 1 << 20, ..FrameHeader::new(Kind::Credit) },
    );
    alone(
        "credit_consumer",
        "Client to server: partition id 19 may send 8 MiB in all.",
        FrameHeader { channel: 19, offset: 1 << 23, ..FrameHeader::new(Kind::Credit) },
    );
    alone(
        "committed",
        "The answer to request 12.",
        FrameHeader { channel: 19, sequence: 12, offset: 1234, ..FrameHeader::new(Kind::Committed) },
    );
    for (name, note, reason) in [
        ("gap_retention", "100 records from offset 200 on are no longer kept.", GapReason::Retention),
        ("gap_overflow", "100 records from offset 200 on were dropped.", GapReason::Overflow),
        ("gap_restart", "100 records from offset 200 on went with a restart.", GapReason::Restart),
    ] {
        alone(
            name,
            note,
            FrameHeader {
                channel: 19,
                offset: 200,
                sequence: 100,
                flags: reason as u16,
                ..FrameHeader::new(Kind::Gap)
            },
        );
    }
    alone("ping", "Either side.", FrameHeader { sequence: 77, ..FrameHeader::new(Kind::Ping) });
    alone("pong", "The answer to ping 77.", FrameHeader { sequence: 77, ..FrameHeader::new(Kind::Pong) });
    alone(
        "drain",
        "The server closes at this time.",
        FrameHeader { append_time_ns: TIME, ..FrameHeader::new(Kind::Drain) },
    );
    alone("close_client", "The client is done.", FrameHeader::new(Kind::Close));
    alone("release", "Channel 5 is given up.", FrameHeader { channel: 5, ..FrameHeader::new(Kind::Release) });
    alone(
        "unsubscribe",
        "No more of partition id 19; and the answer to it.",
        FrameHeader { channel: 19, ..FrameHeader::new(Kind::Unsubscribe) },
    );
}

fn batch_cases(add: &mut Add<'_>) {
    let mut builder = BatchBuilder::new();
    builder.push(b"hello, world", None, 0, b"");
    let one = builder.finish(PRODUCER, 1, 5);
    add("publish_one", "One record, nothing but a payload.", one.clone());
    let mut delivered = one;
    stamp(&mut delivered, 19, 1000, 1, TIME);
    add("deliver_one", "publish_one as consumers get it: offset 1000 of partition id 19.", delivered);
    builder.push(b"", None, 0, b"");
    add("publish_empty_record", "One record whose payload is empty.", builder.finish(PRODUCER, 2, 5));
    for record in 0..100 {
        builder.push(format!("record {record}").as_bytes(), None, 0, b"");
    }
    add("publish_many", "100 records.", builder.finish(PRODUCER, 3, 5));
    let full = |builder: &mut BatchBuilder| {
        builder.push(b"21.5", Some(b"sensor-1"), TIME, b"unit=C");
        builder.push(b"no key, no time, no header", None, 0, b"");
        builder.push(&[0, 255, 128, 10], Some(b"sensor-2"), TIME + 1, b"");
        builder.trace(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        builder.deadline(TIME + 5_000_000_000);
    };
    full(&mut builder);
    let everything = builder.finish(PRODUCER, 4, 5);
    add("publish_everything", "Keys, times, headers, a trace and a deadline.", everything.clone());
    let mut delivered = everything;
    stamp(&mut delivered, 19, 1001, 3, TIME + 2);
    add("deliver_everything", "publish_everything as consumers get it: offsets 1001 to 1003.", delivered);
    builder.push(b"a", Some(b"k"), 0, b"");
    add("publish_key", "One record with a key; no times, no headers.", builder.finish(PRODUCER, 5, 5));
}

fn refused_cases(add: &mut Add<'_>) {
    let mut builder = BatchBuilder::new();
    for payload in [b"ab", b"cd", b"ef"] {
        builder.push(payload, None, 0, b"");
    }
    let good = builder.finish(PRODUCER, 1, 5);
    // Body: 28 fixed bytes, 6 of payload, 2 of padding, the count at 36, the ends at 40, 44, 48.
    let end = |record: usize| HEADER_BYTES + 40 + 4 * record;
    let changed = |at: usize, value: u8| with(&good, at, value);
    add("bad_magic", "The first byte is wrong.", reseal_header(changed(0, b'X')));
    add("bad_version", "Version 2.", reseal_header(changed(2, 2)));
    add("bad_kind", "Kind 22.", reseal_header(changed(3, 22)));
    add("bad_flag", "A flag that publish does not have.", reseal(changed(8, 1)));
    add("bad_reserved", "A reserved byte is set.", reseal(changed(10, 1)));
    add("bad_header_checksum", "One bit of the sequence is flipped.", changed(24, good[24] ^ 1));
    add("bad_length", "A body of 7 bytes.", reseal_header(changed(4, 7)));
    add("bad_length_header_only", "An ack that claims a body.", {
        let ack = FrameHeader::new(Kind::Ack).alone();
        let mut frame = [&ack[..], &[0; 8]].concat();
        frame[4] = 8;
        reseal(frame)
    });
    add("frame_too_large", "A body of 2 GiB.", reseal_header(changed(7, 0x80)));
    add(
        "bad_body_checksum",
        "One bit of the payload is flipped.",
        changed(HEADER_BYTES + 28, good[HEADER_BYTES + 28] ^ 1),
    );
    add("bad_batch_root", "The table is beyond the body.", reseal(changed(HEADER_BYTES, 0xf0)));
    add(
        "bad_batch_keys",
        "key_ends without keys.",
        batch_frame(2, &foreign_batch(&[3, 6], b"onetwo", Some(&[0, 0]))),
    );
    add("count_mismatch", "The header says 4 records, the batch has 3.", reseal(changed(12, 4)));
    add("empty_batch", "No record.", batch_frame(0, &foreign_batch(&[], b"", None)));
    add("ends_decrease", "The second end is below the first.", reseal(changed(end(1), 1)));
    add("ends_beyond", "The last end is beyond the payload.", reseal(changed(end(2), 7)));
    add("ends_short", "The last end is before the payload's end.", reseal(changed(end(2), 5)));
    add(
        "record_too_large",
        "Record 1 has 65537 bytes; golden frames are judged with record_bytes_max 65536.",
        {
            let mut payload = vec![b'x'; 65_537];
            payload.extend_from_slice(b"yz");
            batch_frame(2, &foreign_batch(&[2, 65_539], &payload, None))
        },
    );
    let hello =
        Hello { client: "c".into(), version_min: 1, version_max: 1, features: 0, token: String::new() };
    let frame = hello.frame(0);
    add(
        "bad_control_checksum",
        "A hello with a flipped bit.",
        with(&frame, HEADER_BYTES + 9, frame[HEADER_BYTES + 9] ^ 1),
    );
    add(
        "bad_control_body",
        "A hello whose body is eight bytes 0xff.",
        control_frame(Kind::Hello, &[0xff; 8]),
    );
    add("bad_hello", "version_min is above version_max.", Hello { version_min: 2, ..hello }.frame(0));
    let open = Open { topic: "two words".into(), producer_id: 1, ..Open::default() };
    add("bad_name", "A topic's name with a space.", open.frame(1));
    add(
        "producer_id_zero",
        "An open without a producer id.",
        Open { topic: "t".into(), producer_id: 0, ..open }.frame(1),
    );
    add(
        "impossible_ack_level",
        "Acknowledgement level 3.",
        control_frame(Kind::Open, &small_table("t", &[(8, 1)], &[(10, 3)])),
    );
    add(
        "bad_start",
        "A start that does not exist.",
        control_frame(Kind::Subscribe, &small_table("t", &[], &[(8, 9)])),
    );
}

/// The hello and the open that docs/protocol.md's Python makes.
const HELLO_BY_HAND: &str = include_str!("golden/hello_by_hand.hex");
const OPEN_BY_HAND: &str = include_str!("golden/open_by_hand.hex");

// ---- making frames ---------------------------------------------------------------------------------------

fn with(frame: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = value;
    frame
}

/// Makes both checksums right again.
fn reseal(mut frame: Vec<u8>) -> Vec<u8> {
    let (head, body) = frame.split_first_chunk_mut::<HEADER_BYTES>().unwrap();
    seal(head, body);
    frame
}

/// Makes the header's checksum right again, so that the field before it is what is refused.
fn reseal_header(mut frame: Vec<u8>) -> Vec<u8> {
    let checksum = uringest::proto::checksum::crc32c(&frame[..60]);
    frame[60..64].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn whole(header: FrameHeader, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    frame.extend_from_slice(body);
    frame.resize(frame.len().next_multiple_of(8), 0);
    let body_bytes = u32::try_from(frame.len() - HEADER_BYTES).unwrap();
    FrameHeader { body_bytes, ..header }.encode(frame.first_chunk_mut().unwrap());
    reseal(frame)
}

fn batch_frame(record_count: u32, body: &[u8]) -> Vec<u8> {
    let header = FrameHeader::new(Kind::Publish);
    whole(FrameHeader { record_count, producer_id: PRODUCER, sequence: 1, channel: 5, ..header }, body)
}

fn control_frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    whole(FrameHeader { sequence: 1, ..FrameHeader::new(kind) }, body)
}

/// A batch as the FlatBuffers library writes it.
fn foreign_batch(ends: &[u32], payload: &[u8], key_ends: Option<&[u32]>) -> Vec<u8> {
    let mut b = FlatBufferBuilder::new();
    let ends = b.create_vector(ends);
    let payload = b.create_vector(payload);
    let key_ends = key_ends.map(|ends| b.create_vector(ends));
    let start = b.start_table();
    b.push_slot_always(4, ends);
    b.push_slot_always(6, payload);
    if let Some(key_ends) = key_ends {
        b.push_slot_always(8, key_ends);
    }
    let table = b.end_table(start);
    b.finish_minimal(WIPOffset::<u32>::new(table.value()));
    b.finished_data().to_vec()
}

/// A table with a string in field 0 and scalars in the vtable slots named.
fn small_table(name: &str, wide: &[(u16, u64)], narrow: &[(u16, u8)]) -> Vec<u8> {
    let mut b = FlatBufferBuilder::new();
    let name = b.create_string(name);
    let start = b.start_table();
    for (slot, value) in wide {
        b.push_slot_always(*slot, *value);
    }
    b.push_slot_always(4, name);
    for (slot, value) in narrow {
        b.push_slot_always(*slot, *value);
    }
    let table = b.end_table(start);
    b.finish_minimal(WIPOffset::<u32>::new(table.value()));
    b.finished_data().to_vec()
}

/// The index's text for one case.
fn entry(case: &Case) -> String {
    let (header, body, expect) = describe(&case.bytes);
    let mut out = format!("[[frame]]\nfile = \"{}.bin\"\nnote = {}\n", case.name, Value::from(case.note));
    writeln!(out, "expect = \"{expect}\"\nother_writer = {}", case.foreign).unwrap();
    // The largest refused frame is all filler: its file has the bytes.
    if case.bytes.len() <= 4096 {
        out.push_str("hex = \"\"\"\n");
        for line in case.bytes.chunks(16) {
            let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(out, "{}", digits.join(" ")).unwrap();
        }
        out.push_str("\"\"\"\n");
    }
    for (name, table) in [("header", header), ("body", body)] {
        let Some(table) = table.filter(|table| !table.is_empty()) else { continue };
        writeln!(out, "[frame.{name}]").unwrap();
        for (key, value) in &table {
            match value {
                Value::Array(rows) if rows.iter().any(Value::is_table) => {
                    writeln!(out, "{key} = [").unwrap();
                    for row in rows {
                        writeln!(out, "  {row},").unwrap();
                    }
                    writeln!(out, "]").unwrap();
                }
                _ => writeln!(out, "{key} = {value}").unwrap(),
            }
        }
    }
    out
}

const INDEX_HEAD: &str = "# The frames in this directory: see docs/protocol.md, section 14. Written by tests/golden.rs.\n\
# Absent header: it was refused before it could be believed. Absent body: it is empty, or was refused.\n\
# Bytes are given as text where they are plain text, else as `hex:` and digits.\n";

fn index() -> String {
    cases().iter().fold(INDEX_HEAD.to_owned(), |text, case| text + "\n" + &entry(case))
}

#[test]
fn the_files_are_what_the_encoders_make() {
    let directory = directory();
    if std::env::var_os("URINGEST_BLESS").is_some() {
        for case in cases() {
            std::fs::write(directory.join(format!("{}.bin", case.name)), &case.bytes).unwrap();
        }
        std::fs::write(directory.join("index.toml"), index()).unwrap();
    }
    for case in cases() {
        let file = std::fs::read(directory.join(format!("{}.bin", case.name))).unwrap();
        assert!(file == case.bytes, "{}.bin differs from what is encoded now", case.name);
    }
    assert_eq!(std::fs::read_to_string(directory.join("index.toml")).unwrap(), index());
}

#[test]
fn every_file_says_what_the_index_says_and_comes_back_from_it() {
    let text = std::fs::read_to_string(directory().join("index.toml")).unwrap();
    let index: Table = text.parse().unwrap();
    let frames = index["frame"].as_array().unwrap();
    let mut files: Vec<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".bin"))
        .collect();
    files.sort();
    let mut indexed: Vec<&str> = frames.iter().map(|frame| frame["file"].as_str().unwrap()).collect();
    indexed.sort_unstable();
    assert_eq!(files, indexed);
    let mut kinds = std::collections::BTreeSet::new();
    for frame in frames {
        let file = frame["file"].as_str().unwrap();
        let bytes = std::fs::read(directory().join(file)).unwrap();
        if let Some(digits) = frame.get("hex") {
            assert_eq!(hex(digits.as_str().unwrap()), bytes, "{file}");
        }
        let (header, body, expect) = describe(&bytes);
        assert_eq!(frame["expect"].as_str().unwrap(), expect, "{file}");
        assert_eq!(frame.get("header").and_then(Value::as_table), header.as_ref(), "{file}");
        let body = body.filter(|body| !body.is_empty());
        assert_eq!(frame.get("body").and_then(Value::as_table), body.as_ref(), "{file}");
        if expect != "ok" {
            continue;
        }
        let header = frame["header"].as_table().unwrap();
        kinds.insert(header["kind"].as_integer().unwrap());
        if !frame["other_writer"].as_bool().unwrap() {
            let empty = Table::new();
            let body = frame.get("body").and_then(Value::as_table).unwrap_or(&empty);
            assert_eq!(make_again(header, body), bytes, "{file}");
        }
    }
    assert_eq!(kinds.len(), Kind::ALL.len(), "every kind has a frame");
}
