//! The control tables as plain Rust: what each kind with a body says.
//!
//! `frame` makes a whole sealed frame and `encode_into` appends one; `decode` takes the body of a frame whose
//! header and checksum are verified, and checks everything in it: structure (FlatBuffers verification within
//! `limits.rs`), lengths and names. The tables themselves are in `schemas/control.fbs`, what they mean in
//! `docs/protocol.md`. Not on the hot path: these allocate.

use flatbuffers::{FlatBufferBuilder, VerifierOptions};

use crate::limits::{
    CONSUMER_NAME_BYTES_MAX, CONTROL_BLOCK_BYTES, CONTROL_BODY_BYTES_MAX, DETAIL_BYTES_MAX,
    FRAME_ALIGN_BYTES, HEADER_BYTES, PEER_NAME_BYTES_MAX, SHARDS_MAX, TOKEN_BYTES_MAX, TOPIC_NAME_BYTES_MAX,
};
use crate::proto::code::Code;
use crate::proto::header::{AckLevel, FrameHeader, Kind, seal};
use crate::wire::generated::control as fb;

/// Client to server, first frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // docs/protocol.md, section of the kind
pub struct Hello {
    pub client: String,
    pub version_min: u8,
    pub version_max: u8,
    pub features: u64,
    /// Absent when empty.
    pub token: String,
}

/// Server to client, the answer to hello.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // docs/protocol.md, section of the kind
pub struct Welcome {
    pub server: String,
    pub version: u8,
    pub features: u64,
    pub session: u64,
    pub shard: u16,
    pub shards: u16,
    pub tenant: String,
    pub frame_bytes_max: u32,
    pub record_bytes_max: u32,
    pub batch_records_max: u32,
    pub inflight_batches_max: u32,
    pub channels_max: u32,
    pub subscriptions_max: u32,
    pub idle_timeout_ms: u32,
    /// `host:port` of each shard's own port, in the order of the shards; empty unless configured.
    pub shard_addresses: Vec<String>,
}

/// Client to server: a producer's channel on one partition. `header.sequence` is the request id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // docs/protocol.md, section of the kind
pub struct Open {
    pub topic: String,
    pub partition: u32,
    /// Chosen by the client at random and kept over reconnects; not 0.
    pub producer_id: u64,
    /// `None`: as the topic's kind has it; `opened` says which.
    pub ack_level: Option<AckLevel>,
    /// An ack after this many batches (at least 1) ...
    pub ack_every_batches: u32,
    /// ... or this long after the first unacknowledged one, whichever comes first.
    pub ack_every_us: u32,
    /// How many connections the producer has made, this one included; 0: not said.
    pub connections: u64,
}

/// Server to client: the channel is `header.channel`, the request id `header.sequence`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // docs/protocol.md, section of the kind
pub struct Opened {
    pub partition_id: u32,
    pub partition_count: u32,
    pub shard: u16,
    pub ack_level: AckLevel,
    /// The sequence the server expects next from this producer; 1 for a producer it does not know.
    pub next_sequence: u64,
    /// Absolute limit of frame bytes on this channel, counted from its opening.
    pub credit: u64,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The oldest record kept.
    Earliest,
    /// Only what is appended from now on.
    #[default]
    Latest,
    /// This offset, or the oldest kept with a gap.
    Offset(u64),
    /// The first batch appended at or after this time (ns since 1970, UTC).
    TimeNs(u64),
}

/// Client to server: `header.sequence` is the request id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // docs/protocol.md, section of the kind
pub struct Subscribe {
    pub topic: String,
    pub partition: u32,
    pub start: Start,
    /// The consumer's name for `commit` and for `topic describe`; may be empty.
    pub name: String,
    /// Start at the name's committed offset if there is one, else at `start`.
    pub resume: bool,
    /// Absolute limit of frame bytes, counted from here.
    pub credit: u64,
}

/// Server to client. The request id is `header.sequence`, the partition id `header.channel`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // docs/protocol.md, section of the kind
pub struct Subscribed {
    pub partition_count: u32,
    pub shard: u16,
    pub start_offset: u64,
    pub log_start_offset: u64,
    pub log_end_offset: u64,
}

/// Client to server: the records below `offset` are dealt with. `header.channel` is the partition id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // docs/protocol.md, section of the kind
pub struct Commit {
    pub name: String,
    pub offset: u64,
}

/// The body of `nack`, `error` and `close`. For `nack` the header has channel and sequence; for `error`
/// the request id (0 when the connection itself is refused).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // docs/protocol.md, section of the kind
pub struct Refusal {
    pub code: Code,
    /// Not before this long; 0 where it makes no difference.
    pub retry_after_us: u32,
    /// The index of the record that was refused, where one was.
    pub record: Option<u32>,
    /// For people and logs: what was seen and what was expected.
    pub detail: String,
}

/// What a name may be made of, for topics and consumers alike: 1 to `bytes_max` of `A-Z a-z 0-9 . _ / -`,
/// not beginning with a dot.
fn name_ok(name: &str, bytes_max: usize) -> Result<(), Code> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-');
    if name.is_empty() || name.len() > bytes_max || name.starts_with('.') || !name.bytes().all(allowed) {
        return Err(Code::BadName);
    }
    Ok(())
}

/// Whether a topic may have this name.
///
/// # Errors
/// [`Code::BadName`].
pub fn topic_name_ok(name: &str) -> Result<(), Code> {
    name_ok(name, TOPIC_NAME_BYTES_MAX)
}

/// Whether a consumer may commit under this name.
///
/// # Errors
/// [`Code::BadName`].
pub fn consumer_name_ok(name: &str) -> Result<(), Code> {
    name_ok(name, CONSUMER_NAME_BYTES_MAX)
}

/// Room for the largest control frame a builder makes without growing.
const BUILDER_BYTES: usize = 1024;

/// Appends a sealed frame whose body is what `builder` finished. `header` has the kind and its own fields.
fn append(mut header: FrameHeader, builder: &FlatBufferBuilder<'_>, out: &mut Vec<u8>) {
    let body = builder.finished_data();
    let body_bytes = body.len().next_multiple_of(FRAME_ALIGN_BYTES);
    assert!(body_bytes <= CONTROL_BODY_BYTES_MAX as usize, "a control body within its bound");
    header.body_bytes = u32::try_from(body_bytes).expect("bounded above");
    let at = out.len();
    out.resize(at + HEADER_BYTES + body_bytes, 0);
    let (head, tail) = out[at..].split_at_mut(HEADER_BYTES);
    tail[..body.len()].copy_from_slice(body);
    let head: &mut [u8; HEADER_BYTES] = head.try_into().expect("split at the header's end");
    header.encode(head);
    seal(head, tail);
}

/// Verifies a control body as table `T`, within bounds far below the library's own.
fn root<'a, T>(body: &'a [u8]) -> Result<T::Inner, Code>
where
    T: flatbuffers::Follow<'a> + flatbuffers::Verifiable + 'a,
{
    // One table, its strings, and a vector of strings; a string may be pointed at more than once, so the
    // apparent size is a small multiple of the body.
    let options = VerifierOptions {
        max_depth: 2,
        max_tables: 1,
        max_apparent_size: 2 * CONTROL_BODY_BYTES_MAX as usize,
        ignore_missing_null_terminator: false,
    };
    if body.len() > CONTROL_BODY_BYTES_MAX as usize {
        return Err(Code::BadControlBody);
    }
    flatbuffers::root_with_opts::<T>(&options, body).map_err(|_| Code::BadControlBody)
}

/// The longest prefix of at most `bytes_max` bytes that ends between characters.
fn clipped(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// An optional string of at most `bytes_max` bytes; absent is empty.
fn text(field: Option<&str>, bytes_max: usize, otherwise: Code) -> Result<String, Code> {
    let field = field.unwrap_or_default();
    if field.len() > bytes_max { Err(otherwise) } else { Ok(field.to_owned()) }
}

fn ack_level(number: fb::AckLevel) -> Result<AckLevel, Code> {
    AckLevel::from_number(number.0).ok_or(Code::ImpossibleAckLevel)
}

impl Hello {
    /// A sealed frame. `sequence` is echoed nowhere and may be 0.
    #[must_use]
    pub fn frame(&self, sequence: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(sequence, &mut out);
        out
    }

    /// Appends the frame. A client name or token beyond its limit is cut there.
    pub fn encode_into(&self, sequence: u64, out: &mut Vec<u8>) {
        let mut b = FlatBufferBuilder::with_capacity(BUILDER_BYTES);
        let client = b.create_string(clipped(&self.client, PEER_NAME_BYTES_MAX));
        let token = (!self.token.is_empty()).then(|| b.create_string(clipped(&self.token, TOKEN_BYTES_MAX)));
        let args = fb::HelloArgs {
            client: Some(client),
            version_min: self.version_min,
            version_max: self.version_max,
            features: self.features,
            token,
        };
        let table = fb::Hello::create(&mut b, &args);
        b.finish(table, None);
        append(FrameHeader { sequence, ..FrameHeader::new(Kind::Hello) }, &b, out);
    }

    /// Of a `hello` frame's body.
    ///
    /// # Errors
    /// `BadControlBody`: not such a table. `BadHello`: a version range that is none, or a text beyond its limit.
    pub fn decode(body: &[u8]) -> Result<Self, Code> {
        let table = root::<fb::Hello<'_>>(body)?;
        if table.version_min() == 0 || table.version_min() > table.version_max() {
            return Err(Code::BadHello);
        }
        Ok(Hello {
            client: text(table.client(), PEER_NAME_BYTES_MAX, Code::BadHello)?,
            version_min: table.version_min(),
            version_max: table.version_max(),
            features: table.features(),
            token: text(table.token(), TOKEN_BYTES_MAX, Code::BadHello)?,
        })
    }
}

impl Welcome {
    /// A sealed frame.
    #[must_use]
    pub fn frame(&self, sequence: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(sequence, &mut out);
        out
    }

    /// Appends the frame, which fits in one control block: where the shards' addresses would not, they are
    /// left out, and clients use the one data port.
    pub fn encode_into(&self, sequence: u64, out: &mut Vec<u8>) {
        // Each address is a vector slot, a length, the text with its zero, and padding.
        let addresses_bytes: usize = self.shard_addresses.iter().map(|address| address.len() + 12).sum();
        let room = CONTROL_BLOCK_BYTES as usize - HEADER_BYTES - 2 * PEER_NAME_BYTES_MAX - 256;
        let with_addresses = !self.shard_addresses.is_empty()
            && self.shard_addresses.len() <= SHARDS_MAX
            && addresses_bytes <= room;
        let mut b = FlatBufferBuilder::with_capacity(BUILDER_BYTES);
        let server = b.create_string(clipped(&self.server, PEER_NAME_BYTES_MAX));
        let tenant = b.create_string(clipped(&self.tenant, PEER_NAME_BYTES_MAX));
        let shard_addresses = with_addresses.then(|| {
            let addresses: Vec<_> =
                self.shard_addresses.iter().map(|address| b.create_string(address)).collect();
            b.create_vector(&addresses)
        });
        let args = fb::WelcomeArgs {
            server: Some(server),
            version: self.version,
            features: self.features,
            session: self.session,
            shard: self.shard,
            shards: self.shards,
            tenant: Some(tenant),
            frame_bytes_max: self.frame_bytes_max,
            record_bytes_max: self.record_bytes_max,
            batch_records_max: self.batch_records_max,
            inflight_batches_max: self.inflight_batches_max,
            channels_max: self.channels_max,
            subscriptions_max: self.subscriptions_max,
            idle_timeout_ms: self.idle_timeout_ms,
            shard_addresses,
        };
        let table = fb::Welcome::create(&mut b, &args);
        b.finish(table, None);
        append(FrameHeader { sequence, ..FrameHeader::new(Kind::Welcome) }, &b, out);
    }

    /// Of a `welcome` frame's body.
    ///
    /// # Errors
    /// `BadControlBody`: not such a table.
    pub fn decode(body: &[u8]) -> Result<Self, Code> {
        let table = root::<fb::Welcome<'_>>(body)?;
        let addresses = table.shard_addresses();
        if addresses.is_some_and(|addresses| addresses.len() > SHARDS_MAX) {
            return Err(Code::BadControlBody);
        }
        Ok(Welcome {
            server: text(table.server(), PEER_NAME_BYTES_MAX, Code::BadControlBody)?,
            version: table.version(),
            features: table.features(),
            session: table.session(),
            shard: table.shard(),
            shards: table.shards(),
            tenant: text(table.tenant(), PEER_NAME_BYTES_MAX, Code::BadControlBody)?,
            frame_bytes_max: table.frame_bytes_max(),
            record_bytes_max: table.record_bytes_max(),
            batch_records_max: table.batch_records_max(),
            inflight_batches_max: table.inflight_batches_max(),
            channels_max: table.channels_max(),
            subscriptions_max: table.subscriptions_max(),
            idle_timeout_ms: table.idle_timeout_ms(),
            shard_addresses: addresses
                .map(|addresses| addresses.iter().map(str::to_owned).collect())
                .unwrap_or_default(),
        })
    }
}

impl Open {
    /// A sealed frame; `request` is the request id.
    #[must_use]
    pub fn frame(&self, request: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(request, &mut out);
        out
    }

    /// Appends the frame. A topic name beyond its limit is sent one byte too long, and so refused.
    pub fn encode_into(&self, request: u64, out: &mut Vec<u8>) {
        let mut b = FlatBufferBuilder::with_capacity(BUILDER_BYTES);
        let topic = b.create_string(clipped(&self.topic, TOPIC_NAME_BYTES_MAX + 4));
        let args = fb::OpenArgs {
            topic: Some(topic),
            partition: self.partition,
            producer_id: self.producer_id,
            ack_level: self.ack_level.map(|level| fb::AckLevel(level as u8)),
            ack_every_batches: self.ack_every_batches,
            ack_every_us: self.ack_every_us,
            connections: self.connections,
        };
        let table = fb::Open::create(&mut b, &args);
        b.finish(table, None);
        append(FrameHeader { sequence: request, ..FrameHeader::new(Kind::Open) }, &b, out);
    }

    /// Of an `open` frame's body. `ack_every_batches` 0 is read as 1.
    ///
    /// # Errors
    /// `BadControlBody`: not such a table, or producer id 0. `BadName`, `ImpossibleAckLevel`: as named.
    pub fn decode(body: &[u8]) -> Result<Self, Code> {
        let table = root::<fb::Open<'_>>(body)?;
        if table.producer_id() == 0 {
            return Err(Code::BadControlBody);
        }
        topic_name_ok(table.topic())?;
        Ok(Open {
            topic: table.topic().to_owned(),
            partition: table.partition(),
            producer_id: table.producer_id(),
            ack_level: table.ack_level().map(ack_level).transpose()?,
            ack_every_batches: table.ack_every_batches().max(1),
            ack_every_us: table.ack_every_us(),
            connections: table.connections(),
        })
    }
}

impl Opened {
    /// A sealed frame in answer to `request`; `channel` is the new channel.
    #[must_use]
    pub fn frame(&self, request: u64, channel: u32) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(request, channel, &mut out);
        out
    }

    /// Appends the frame.
    pub fn encode_into(&self, request: u64, channel: u32, out: &mut Vec<u8>) {
        let mut b = FlatBufferBuilder::with_capacity(BUILDER_BYTES);
        let args = fb::OpenedArgs {
            partition_id: self.partition_id,
            partition_count: self.partition_count,
            shard: self.shard,
            ack_level: fb::AckLevel(self.ack_level as u8),
            next_sequence: self.next_sequence,
            credit: self.credit,
        };
        let table = fb::Opened::create(&mut b, &args);
        b.finish(table, None);
        append(FrameHeader { sequence: request, channel, ..FrameHeader::new(Kind::Opened) }, &b, out);
    }

    /// Of an `opened` frame's body.
    ///
    /// # Errors
    /// `BadControlBody`: not such a table. `ImpossibleAckLevel`: a level this version does not know.
    pub fn decode(body: &[u8]) -> Result<Self, Code> {
        let table = root::<fb::Opened<'_>>(body)?;
        Ok(Opened {
            partition_id: table.partition_id(),
            partition_count: table.partition_count(),
            shard: table.shard(),
            ack_level: ack_level(table.ack_level())?,
            next_sequence: table.next_sequence(),
            credit: table.credit(),
        })
    }
}

impl Subscribe {
    /// A sealed frame; `request` is the request id.
    #[must_use]
    pub fn frame(&self, request: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(request, &mut out);
        out
    }

    /// Appends the frame. A name beyond its limit is sent too long, and so refused.
    pub fn encode_into(&self, request: u64, out: &mut Vec<u8>) {
        let (start_at, start_value) = match self.start {
            Start::Latest => (fb::StartAt::Latest, 0),
            Start::Earliest => (fb::StartAt::Earliest, 0),
            Start::Offset(offset) => (fb::StartAt::Offset, offset),
            Start::TimeNs(time) => (fb::StartAt::TimeNs, time),
        };
        let mut b = FlatBufferBuilder::with_capacity(BUILDER_BYTES);
        let topic = b.create_string(clipped(&self.topic, TOPIC_NAME_BYTES_MAX + 4));
        let name = (!self.name.is_empty())
            .then(|| b.create_string(clipped(&self.name, CONSUMER_NAME_BYTES_MAX + 4)));
        let args = fb::SubscribeArgs {
            topic: Some(topic),
            partition: self.partition,
            start_at,
            start_value,
            name,
            resume: self.resume,
            credit: self.credit,
        };
        let table = fb::Subscribe::create(&mut b, &args);
        b.finish(table, None);
        append(FrameHeader { sequence: request, ..FrameHeader::new(Kind::Subscribe) }, &b, out);
    }

    /// Of a `subscribe` frame's body.
    ///
    /// # Errors
    /// `BadControlBody`: not such a table. `BadName` (also: `resume` without a name), `BadStart`: as named.
    pub fn decode(body: &[u8]) -> Result<Self, Code> {
        let table = root::<fb::Subscribe<'_>>(body)?;
        topic_name_ok(table.topic())?;
        let name = table.name().unwrap_or_default();
        if !name.is_empty() || table.resume() {
            consumer_name_ok(name)?;
        }
        let start = match table.start_at() {
            fb::StartAt::Latest => Start::Latest,
            fb::StartAt::Earliest => Start::Earliest,
            fb::StartAt::Offset => Start::Offset(table.start_value()),
            fb::StartAt::TimeNs => Start::TimeNs(table.start_value()),
            _ => return Err(Code::BadStart),
        };
        Ok(Subscribe {
            topic: table.topic().to_owned(),
            partition: table.partition(),
            start,
            name: name.to_owned(),
            resume: table.resume(),
            credit: table.credit(),
        })
    }
}

impl Subscribed {
    /// A sealed frame in answer to `request`; `partition` is the partition's id.
    #[must_use]
    pub fn frame(&self, request: u64, partition: u32) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(request, partition, &mut out);
        out
    }

    /// Appends the frame.
    pub fn encode_into(&self, request: u64, partition: u32, out: &mut Vec<u8>) {
        let mut b = FlatBufferBuilder::with_capacity(BUILDER_BYTES);
        let args = fb::SubscribedArgs {
            partition_count: self.partition_count,
            shard: self.shard,
            start_offset: self.start_offset,
            log_start_offset: self.log_start_offset,
            log_end_offset: self.log_end_offset,
        };
        let table = fb::Subscribed::create(&mut b, &args);
        b.finish(table, None);
        append(
            FrameHeader { sequence: request, channel: partition, ..FrameHeader::new(Kind::Subscribed) },
            &b,
            out,
        );
    }

    /// Of a `subscribed` frame's body.
    ///
    /// # Errors
    /// `BadControlBody`: not such a table.
    pub fn decode(body: &[u8]) -> Result<Self, Code> {
        let table = root::<fb::Subscribed<'_>>(body)?;
        Ok(Subscribed {
            partition_count: table.partition_count(),
            shard: table.shard(),
            start_offset: table.start_offset(),
            log_start_offset: table.log_start_offset(),
            log_end_offset: table.log_end_offset(),
        })
    }
}

impl Commit {
    /// A sealed frame; `request` is the request id, `partition` the partition's id.
    #[must_use]
    pub fn frame(&self, request: u64, partition: u32) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(request, partition, &mut out);
        out
    }

    /// Appends the frame. A name beyond its limit is sent too long, and so refused.
    pub fn encode_into(&self, request: u64, partition: u32, out: &mut Vec<u8>) {
        let mut b = FlatBufferBuilder::with_capacity(BUILDER_BYTES);
        let name = b.create_string(clipped(&self.name, CONSUMER_NAME_BYTES_MAX + 4));
        let args = fb::CommitArgs { name: Some(name), offset: self.offset };
        let table = fb::Commit::create(&mut b, &args);
        b.finish(table, None);
        append(
            FrameHeader { sequence: request, channel: partition, ..FrameHeader::new(Kind::Commit) },
            &b,
            out,
        );
    }

    /// Of a `commit` frame's body.
    ///
    /// # Errors
    /// `BadControlBody`: not such a table. `BadName`: as named.
    pub fn decode(body: &[u8]) -> Result<Self, Code> {
        let table = root::<fb::Commit<'_>>(body)?;
        consumer_name_ok(table.name())?;
        Ok(Commit { name: table.name().to_owned(), offset: table.offset() })
    }
}

impl Refusal {
    /// A sealed frame of kind `nack` (`channel` and the batch's `sequence`), `error` (the request's id as
    /// `sequence`, 0 for the connection) or `close`.
    ///
    /// # Panics
    /// On any other kind.
    #[must_use]
    pub fn frame(&self, kind: Kind, channel: u32, sequence: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(kind, channel, sequence, &mut out);
        out
    }

    /// Appends the frame. A detail beyond [`DETAIL_BYTES_MAX`] is cut there.
    ///
    /// # Panics
    /// On another kind than `nack`, `error` and `close`.
    pub fn encode_into(&self, kind: Kind, channel: u32, sequence: u64, out: &mut Vec<u8>) {
        assert!(matches!(kind, Kind::Nack | Kind::Error | Kind::Close), "a kind with a refusal as its body");
        let mut b = FlatBufferBuilder::with_capacity(BUILDER_BYTES);
        let detail =
            (!self.detail.is_empty()).then(|| b.create_string(clipped(&self.detail, DETAIL_BYTES_MAX)));
        let args = fb::RefusalArgs {
            code: self.code as u16,
            retry_after_us: self.retry_after_us,
            record_plus_one: self.record.map_or(0, |record| record.saturating_add(1)),
            detail,
        };
        let table = fb::Refusal::create(&mut b, &args);
        b.finish(table, None);
        append(FrameHeader { sequence, channel, ..FrameHeader::new(kind) }, &b, out);
    }

    /// Of the body of a `nack`, `error` or `close`.
    ///
    /// # Errors
    /// `BadControlBody`: not such a table. A code this version does not know is no error: it is read as
    /// `Unspecified`, with its number in the detail.
    pub fn decode(body: &[u8]) -> Result<Self, Code> {
        let table = root::<fb::Refusal<'_>>(body)?;
        let mut detail = text(table.detail(), DETAIL_BYTES_MAX, Code::BadControlBody)?;
        let code = Code::from_number(table.code()).unwrap_or_else(|| {
            detail = format!("code {}: {detail}", table.code());
            Code::Unspecified
        });
        Ok(Refusal {
            code,
            retry_after_us: table.retry_after_us(),
            record: table.record_plus_one().checked_sub(1),
            detail,
        })
    }
}

#[cfg(test)]
mod tests;
