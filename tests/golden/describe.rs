//! What a receiver makes of a frame, as a table of `index.toml`, and the frame made again from such a table.

use std::fmt::Write as _;

use toml::{Table, Value};
use uringest::limits::HEADER_BYTES;
use uringest::proto::code::Code;
use uringest::proto::control::{Commit, Hello, Open, Opened, Refusal, Start, Subscribe, Subscribed, Welcome};
use uringest::proto::header::{AckLevel, FrameHeader, Kind, body_checksum_matches, stamp};
use uringest::wire::batch::{BatchBuilder, verify};

use crate::{FRAME_BYTES_MAX, LIMITS};

/// What a receiver makes of a frame: the header, if it could be read, the body, and the verdict.
pub fn describe(frame: &[u8]) -> (Option<Table>, Option<Table>, &'static str) {
    let header = match FrameHeader::parse(frame.first_chunk().unwrap(), FRAME_BYTES_MAX) {
        Ok(header) => header,
        Err(code) => return (None, None, code.name()),
    };
    assert_eq!(header.frame_bytes(), frame.len());
    let described = Some(header_table(&header));
    if !body_checksum_matches(frame) {
        let code = if header.kind.is_batch() { Code::BadBodyChecksum } else { Code::BadControlChecksum };
        return (described, None, code.name());
    }
    match body_table(&header, &frame[HEADER_BYTES..]) {
        Ok(body) => (described, Some(body), "ok"),
        Err(code) => (described, None, code.name()),
    }
}

fn integer(value: impl TryInto<i64>) -> Value {
    Value::Integer(value.try_into().ok().expect("golden values stay below 2^63"))
}

fn header_table(header: &FrameHeader) -> Table {
    Table::from_iter([
        ("kind".to_owned(), integer(header.kind as u8)),
        ("body_bytes".to_owned(), integer(header.body_bytes)),
        ("flags".to_owned(), integer(header.flags)),
        ("record_count".to_owned(), integer(header.record_count)),
        ("producer_id".to_owned(), integer(header.producer_id)),
        ("sequence".to_owned(), integer(header.sequence)),
        ("body_checksum".to_owned(), integer(header.body_checksum)),
        ("channel".to_owned(), integer(header.channel)),
        ("offset".to_owned(), integer(header.offset)),
        ("append_time_ns".to_owned(), integer(header.append_time_ns)),
        ("offset_span".to_owned(), integer(header.offset_span)),
    ])
}

/// Text where it is plain text, else `hex:` and the digits.
fn bytes_value(bytes: &[u8]) -> Value {
    if bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        return Value::String(String::from_utf8(bytes.to_vec()).unwrap());
    }
    let digits: String = bytes.iter().fold("hex:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    Value::String(digits)
}

fn value_bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    text.strip_prefix("hex:").map_or_else(|| text.as_bytes().to_vec(), hex)
}

pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Table {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn body_table(header: &FrameHeader, body: &[u8]) -> Result<Table, Code> {
    let text = |text: &str| Value::String(text.to_owned());
    Ok(match header.kind {
        Kind::Hello => {
            let hello = Hello::decode(body)?;
            fields([
                ("client", text(&hello.client)),
                ("version_min", integer(hello.version_min)),
                ("version_max", integer(hello.version_max)),
                ("features", integer(hello.features)),
                ("token", text(&hello.token)),
            ])
        }
        Kind::Welcome => welcome_table(&Welcome::decode(body)?),
        Kind::Open => {
            let open = Open::decode(body)?;
            let mut described = fields([
                ("topic", text(&open.topic)),
                ("partition", integer(open.partition)),
                ("producer_id", integer(open.producer_id)),
                ("ack_every_batches", integer(open.ack_every_batches)),
                ("ack_every_us", integer(open.ack_every_us)),
                ("connections", integer(open.connections)),
            ]);
            // Absent is not 0: the topic decides.
            described.extend(open.ack_level.map(|level| ("ack_level".to_owned(), integer(level as u8))));
            described
        }
        Kind::Opened => {
            let opened = Opened::decode(body)?;
            fields([
                ("partition_id", integer(opened.partition_id)),
                ("partition_count", integer(opened.partition_count)),
                ("shard", integer(opened.shard)),
                ("ack_level", integer(opened.ack_level as u8)),
                ("next_sequence", integer(opened.next_sequence)),
                ("credit", integer(opened.credit)),
            ])
        }
        Kind::Subscribe => {
            let subscribe = Subscribe::decode(body)?;
            let (start_at, start_value) = match subscribe.start {
                Start::Latest => (0, 0),
                Start::Earliest => (1, 0),
                Start::Offset(offset) => (2, offset),
                Start::TimeNs(time) => (3, time),
            };
            fields([
                ("topic", text(&subscribe.topic)),
                ("partition", integer(subscribe.partition)),
                ("start_at", integer(start_at)),
                ("start_value", integer(start_value)),
                ("name", text(&subscribe.name)),
                ("resume", Value::Boolean(subscribe.resume)),
                ("credit", integer(subscribe.credit)),
            ])
        }
        Kind::Subscribed => {
            let subscribed = Subscribed::decode(body)?;
            fields([
                ("partition_count", integer(subscribed.partition_count)),
                ("shard", integer(subscribed.shard)),
                ("start_offset", integer(subscribed.start_offset)),
                ("log_start_offset", integer(subscribed.log_start_offset)),
                ("log_end_offset", integer(subscribed.log_end_offset)),
            ])
        }
        Kind::Commit => {
            let commit = Commit::decode(body)?;
            fields([("name", text(&commit.name)), ("offset", integer(commit.offset))])
        }
        Kind::Nack | Kind::Error | Kind::Close if !body.is_empty() => {
            let refusal = Refusal::decode(body)?;
            fields([
                ("code", integer(refusal.code as u16)),
                ("retry_after_us", integer(refusal.retry_after_us)),
                ("record_plus_one", integer(refusal.record.map_or(0, |record| record + 1))),
                ("detail", text(&refusal.detail)),
            ])
        }
        Kind::Publish | Kind::Deliver => batch_table(header, body)?,
        _ => Table::new(),
    })
}

fn welcome_table(welcome: &Welcome) -> Table {
    let addresses = welcome.shard_addresses.iter().cloned().map(Value::String).collect();
    fields([
        ("server", Value::String(welcome.server.clone())),
        ("version", integer(welcome.version)),
        ("features", integer(welcome.features)),
        ("session", integer(welcome.session)),
        ("shard", integer(welcome.shard)),
        ("shards", integer(welcome.shards)),
        ("tenant", Value::String(welcome.tenant.clone())),
        ("frame_bytes_max", integer(welcome.frame_bytes_max)),
        ("record_bytes_max", integer(welcome.record_bytes_max)),
        ("batch_records_max", integer(welcome.batch_records_max)),
        ("inflight_batches_max", integer(welcome.inflight_batches_max)),
        ("channels_max", integer(welcome.channels_max)),
        ("subscriptions_max", integer(welcome.subscriptions_max)),
        ("idle_timeout_ms", integer(welcome.idle_timeout_ms)),
        ("shard_addresses", Value::Array(addresses)),
    ])
}

fn batch_table(header: &FrameHeader, body: &[u8]) -> Result<Table, Code> {
    let batch = verify(body, header.record_count, &LIMITS).map_err(|error| error.code)?;
    let records = batch
        .records()
        .map(|record| {
            let mut row = fields([("payload", bytes_value(record.payload))]);
            if let Some(key) = record.key {
                row.insert("key".to_owned(), bytes_value(key));
            }
            if record.time_ns != 0 {
                row.insert("time_ns".to_owned(), integer(record.time_ns));
            }
            if !record.header.is_empty() {
                row.insert("header".to_owned(), bytes_value(record.header));
            }
            Value::Table(row)
        })
        .collect();
    Ok(fields([
        ("deadline_ns", integer(batch.deadline_ns())),
        ("trace", bytes_value(batch.trace())),
        ("records", Value::Array(records)),
    ]))
}

/// The frame that a description describes, by the encoders.
pub fn make_again(header: &Table, body: &Table) -> Vec<u8> {
    fn number<T: TryFrom<i64>>(table: &Table, name: &str) -> T {
        T::try_from(table[name].as_integer().unwrap()).ok().unwrap()
    }
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    let level = |name| AckLevel::from_number(number(body, name)).unwrap();
    let kind = Kind::from_number(number(header, "kind")).unwrap();
    let sequence = number(header, "sequence");
    let channel = number(header, "channel");
    match kind {
        Kind::Hello => Hello {
            client: text("client"),
            version_min: number(body, "version_min"),
            version_max: number(body, "version_max"),
            features: number(body, "features"),
            token: text("token"),
        }
        .frame(sequence),
        Kind::Welcome => Welcome {
            server: text("server"),
            version: number(body, "version"),
            features: number(body, "features"),
            session: number(body, "session"),
            shard: number(body, "shard"),
            shards: number(body, "shards"),
            tenant: text("tenant"),
            frame_bytes_max: number(body, "frame_bytes_max"),
            record_bytes_max: number(body, "record_bytes_max"),
            batch_records_max: number(body, "batch_records_max"),
            inflight_batches_max: number(body, "inflight_batches_max"),
            channels_max: number(body, "channels_max"),
            subscriptions_max: number(body, "subscriptions_max"),
            idle_timeout_ms: number(body, "idle_timeout_ms"),
            shard_addresses: body["shard_addresses"]
                .as_array()
                .unwrap()
                .iter()
                .map(|address| address.as_str().unwrap().to_owned())
                .collect(),
        }
        .frame(sequence),
        Kind::Open => Open {
            topic: text("topic"),
            partition: number(body, "partition"),
            producer_id: number(body, "producer_id"),
            ack_level: body.contains_key("ack_level").then(|| level("ack_level")),
            ack_every_batches: number(body, "ack_every_batches"),
            ack_every_us: number(body, "ack_every_us"),
            connections: number(body, "connections"),
        }
        .frame(sequence),
        Kind::Opened => Opened {
            partition_id: number(body, "partition_id"),
            partition_count: number(body, "partition_count"),
            shard: number(body, "shard"),
            ack_level: level("ack_level"),
            next_sequence: number(body, "next_sequence"),
            credit: number(body, "credit"),
        }
        .frame(sequence, channel),
        Kind::Subscribe => Subscribe {
            topic: text("topic"),
            partition: number(body, "partition"),
            start: match number::<u8>(body, "start_at") {
                0 => Start::Latest,
                1 => Start::Earliest,
                2 => Start::Offset(number(body, "start_value")),
                _ => Start::TimeNs(number(body, "start_value")),
            },
            name: text("name"),
            resume: body["resume"].as_bool().unwrap(),
            credit: number(body, "credit"),
        }
        .frame(sequence),
        Kind::Subscribed => Subscribed {
            partition_count: number(body, "partition_count"),
            shard: number(body, "shard"),
            start_offset: number(body, "start_offset"),
            log_start_offset: number(body, "log_start_offset"),
            log_end_offset: number(body, "log_end_offset"),
        }
        .frame(sequence, channel),
        Kind::Commit => {
            Commit { name: text("name"), offset: number(body, "offset") }.frame(sequence, channel)
        }
        Kind::Nack | Kind::Error | Kind::Close if !body.is_empty() => Refusal {
            code: Code::from_number(number(body, "code")).unwrap(),
            retry_after_us: number(body, "retry_after_us"),
            record: number::<u32>(body, "record_plus_one").checked_sub(1),
            detail: text("detail"),
        }
        .frame(kind, channel, sequence),
        Kind::Publish | Kind::Deliver => {
            let mut builder = BatchBuilder::new();
            for record in body["records"].as_array().unwrap() {
                let record = record.as_table().unwrap();
                let bytes = |name| record.get(name).map(value_bytes);
                let time_ns = if record.contains_key("time_ns") { number(record, "time_ns") } else { 0 };
                builder.push(
                    &bytes("payload").unwrap(),
                    bytes("key").as_deref(),
                    time_ns,
                    &bytes("header").unwrap_or_default(),
                );
            }
            builder.trace(&value_bytes(&body["trace"]));
            builder.deadline(number(body, "deadline_ns"));
            let mut frame = builder.finish(number(header, "producer_id"), sequence, channel);
            if kind == Kind::Deliver {
                let (offset, span) = (number(header, "offset"), number(header, "offset_span"));
                stamp(&mut frame, channel, offset, span, number(header, "append_time_ns"));
            }
            frame
        }
        _ => FrameHeader {
            flags: number(header, "flags"),
            sequence,
            channel,
            offset: number(header, "offset"),
            append_time_ns: number(header, "append_time_ns"),
            offset_span: number(header, "offset_span"),
            ..FrameHeader::new(kind)
        }
        .alone()
        .to_vec(),
    }
}
