//! The bodies of control frames: decoded where docs/protocol.md, section 5, has them accepted, with the same values, and
//! refused with its code.
//!
//! Structure and values are read by the `flatbuffers` crate's verifier and generated code; what is asked of the values is
//! written out here once more. Every body is read as each of the tables, as a peer may send any under any kind.

#[path = "../../../src/wire/generated/control_generated.rs"]
#[allow(warnings, clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]
mod generated;

use crate::mutation::mutate;
use crate::story::Story;
use flatbuffers::{FlatBufferBuilder, Follow, Verifiable, VerifierOptions, WIPOffset};
use generated::uringest::wire as fb;
use uringest::limits::HEADER_BYTES;
use uringest::proto::code::Code;
use uringest::proto::control::{Commit, Hello, Open, Opened, Refusal, Start, Subscribe, Subscribed, Welcome};
use uringest::proto::header::{AckLevel, FrameHeader, Kind, body_checksum_matches};

/// Of a control frame's body, and of the memory the server sends one from, in bytes.
const BODY_BYTES_MAX: usize = 4096;

/// One story. The first byte says of which kind.
pub fn run(story: &[u8]) {
    let mut story = Story(story);
    match story.byte() % 3 {
        0 => check(story.0),
        1 => {
            let mut body = encoded(&mut story);
            check(&body);
            mutate(&mut body, &mut story);
            check(&body);
        }
        _ => {
            let length = story.number() % 1024;
            let mut body = story.bytes(length).to_vec();
            mutate(&mut body, &mut story);
            check(&body);
        }
    }
}

fn check(body: &[u8]) {
    check_as::<Hello>(body);
    check_as::<Welcome>(body);
    check_as::<Open>(body);
    check_as::<Opened>(body);
    check_as::<Subscribe>(body);
    check_as::<Subscribed>(body);
    check_as::<Commit>(body);
    check_as::<Refusal>(body);
}

/// The verdict is the rule's, and what is accepted is sent on as the same.
fn check_as<T: Table>(body: &[u8]) {
    let decoded = T::decode(body);
    match T::rule(body) {
        Ruled::Not => assert_eq!(decoded, Err(Code::BadControlBody), "{body:?}"),
        Ruled::Is { told, text_bytes } => {
            // Strings that lie upon each other are no table that anybody writes: the decoder may bound them.
            let bounded = text_bytes > BODY_BYTES_MAX && decoded == Err(Code::BadControlBody);
            assert!(bounded || decoded == told, "{decoded:?}, and the rule says {told:?}: {body:?}");
        }
    }
    let Ok(table) = decoded else { return };
    let frame = table.frame();
    let header = FrameHeader::parse(frame.first_chunk().expect("a header"), 0).expect("it was made");
    assert_eq!((header.kind, header.frame_bytes()), (T::KIND, frame.len()));
    assert!(body_checksum_matches(&frame) && frame.len() <= BODY_BYTES_MAX, "{} bytes", frame.len());
    let again = T::decode(&frame[HEADER_BYTES..]);
    assert!(again.as_ref().is_ok_and(|again| table.is_told_by(again)), "{table:?} became {again:?}");
}

/// What a body is by the rule.
enum Ruled<T> {
    /// Not this table.
    Not,
    Is {
        told: Result<T, Code>,
        /// Bytes of all texts in it.
        text_bytes: usize,
    },
}

/// A control table, by its decoder and by the rule.
trait Table: Sized + PartialEq + std::fmt::Debug {
    const KIND: Kind;
    fn decode(body: &[u8]) -> Result<Self, Code>;
    fn rule(body: &[u8]) -> Ruled<Self>;
    fn frame(&self) -> Vec<u8>;
    /// Whether this came out of a frame of `self`.
    fn is_told_by(&self, again: &Self) -> bool {
        self == again
    }
}

/// What the verifier makes of a body, with no bound but the body's own.
fn structure<'a, T>(body: &'a [u8]) -> Option<T::Inner>
where
    T: Follow<'a> + Verifiable + 'a,
{
    let options = VerifierOptions { max_apparent_size: usize::MAX, ..VerifierOptions::default() };
    flatbuffers::root_with_opts::<T>(&options, body).ok().filter(|_| body.len() <= BODY_BYTES_MAX)
}

macro_rules! table {
    ($name:ident, $kind:expr, |$table:ident| $texts:expr => $told:expr, |$self:ident| $frame:expr $(, |$one:ident, $again:ident| $same:expr)?) => {
        impl Table for $name {
            const KIND: Kind = $kind;
            fn decode(body: &[u8]) -> Result<Self, Code> {
                $name::decode(body)
            }
            fn rule(body: &[u8]) -> Ruled<Self> {
                let Some($table) = structure::<fb::$name<'_>>(body) else { return Ruled::Not };
                let texts: &[Option<&str>] = &$texts;
                let text_bytes = texts.iter().flatten().map(|text| text.len()).sum();
                Ruled::Is { told: $told, text_bytes }
            }
            fn frame(&self) -> Vec<u8> {
                let $self = self;
                $frame
            }
            $(fn is_told_by(&self, again: &Self) -> bool {
                let ($one, $again) = (self, again);
                $same
            })?
        }
    };
}

table!(Hello, Kind::Hello, |table| [table.client(), table.token()] => hello(&table), |hello| hello.frame(0));
table!(
    Welcome,
    Kind::Welcome,
    |table| addresses(&table).into_iter().map(Some).chain([table.server(), table.tenant()]).collect::<Vec<_>>()
        => welcome(&table),
    |welcome| welcome.frame(0),
    // Addresses that would not fit in what the server sends from are left out, all of them.
    |one, again| one == again
        || Welcome { shard_addresses: Vec::new(), ..one.clone() } == *again
            && one.shard_addresses.iter().map(|address| address.len() + 12).sum::<usize>() > 3520
);
table!(Open, Kind::Open, |table| [Some(table.topic())] => open(&table), |open| open.frame(1));
table!(Opened, Kind::Opened, |table| [] => opened(&table), |opened| opened.frame(1, 2));
table!(
    Subscribe,
    Kind::Subscribe,
    |table| [Some(table.topic()), table.name()] => subscribe(&table),
    |subscribe| subscribe.frame(1)
);
table!(Subscribed, Kind::Subscribed, |table| [] => Ok(subscribed(&table)), |subscribed| subscribed.frame(1, 2));
table!(Commit, Kind::Commit, |table| [Some(table.name())] => commit(&table), |commit| commit.frame(1, 2));
table!(
    Refusal,
    Kind::Nack,
    |table| [table.detail()] => refusal(&table),
    |refusal| refusal.frame(Kind::Nack, 1, 2),
    // A code that is not known is told in the detail, which may be cut for that.
    |one, again| one == again
        || one.detail.len() > 512 && one.detail.starts_with(&again.detail) && again.detail.len() > 508
            && (one.code, one.record, one.retry_after_us) == (again.code, again.record, again.retry_after_us)
);

fn at_most(text: Option<&str>, bytes: usize, otherwise: Code) -> Result<String, Code> {
    let text = text.unwrap_or("");
    if text.len() > bytes { Err(otherwise) } else { Ok(text.to_owned()) }
}

/// "1 to so many of `A-Z a-z 0-9 . _ / -`, not beginning with a dot".
fn named(name: &str, bytes: usize) -> Result<String, Code> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._/-".contains(letter);
    let good = (1..=bytes).contains(&name.len()) && !name.starts_with('.') && name.chars().all(allowed);
    if good { Ok(name.to_owned()) } else { Err(Code::BadName) }
}

fn level(number: u8) -> Result<AckLevel, Code> {
    let levels = [AckLevel::Received, AckLevel::Written, AckLevel::Durable];
    levels.get(usize::from(number)).copied().ok_or(Code::ImpossibleAckLevel)
}

fn hello(table: &fb::Hello<'_>) -> Result<Hello, Code> {
    let (version_min, version_max) = (table.version_min(), table.version_max());
    if version_min == 0 || version_max < version_min {
        return Err(Code::BadHello);
    }
    let client = at_most(table.client(), 128, Code::BadHello)?;
    let token = at_most(table.token(), 512, Code::BadHello)?;
    Ok(Hello { client, version_min, version_max, features: table.features(), token })
}

fn addresses<'a>(table: &fb::Welcome<'a>) -> Vec<&'a str> {
    table.shard_addresses().map(|addresses| addresses.iter().collect()).unwrap_or_default()
}

fn welcome(table: &fb::Welcome<'_>) -> Result<Welcome, Code> {
    let shard_addresses: Vec<String> = addresses(table).into_iter().map(str::to_owned).collect();
    if shard_addresses.len() > 64 {
        return Err(Code::BadControlBody);
    }
    Ok(Welcome {
        server: at_most(table.server(), 128, Code::BadControlBody)?,
        version: table.version(),
        features: table.features(),
        session: table.session(),
        shard: table.shard(),
        shards: table.shards(),
        tenant: at_most(table.tenant(), 128, Code::BadControlBody)?,
        frame_bytes_max: table.frame_bytes_max(),
        record_bytes_max: table.record_bytes_max(),
        batch_records_max: table.batch_records_max(),
        inflight_batches_max: table.inflight_batches_max(),
        channels_max: table.channels_max(),
        subscriptions_max: table.subscriptions_max(),
        idle_timeout_ms: table.idle_timeout_ms(),
        shard_addresses,
    })
}

fn open(table: &fb::Open<'_>) -> Result<Open, Code> {
    if table.producer_id() == 0 {
        return Err(Code::BadControlBody);
    }
    Ok(Open {
        topic: named(table.topic(), 200)?,
        partition: table.partition(),
        producer_id: table.producer_id(),
        ack_level: table.ack_level().map(|number| level(number.0)).transpose()?,
        // "0 is read as 1".
        ack_every_batches: table.ack_every_batches().max(1),
        ack_every_us: table.ack_every_us(),
        connections: table.connections(),
    })
}

fn opened(table: &fb::Opened<'_>) -> Result<Opened, Code> {
    Ok(Opened {
        partition_id: table.partition_id(),
        partition_count: table.partition_count(),
        shard: table.shard(),
        ack_level: level(table.ack_level().0)?,
        next_sequence: table.next_sequence(),
        credit: table.credit(),
    })
}

fn subscribe(table: &fb::Subscribe<'_>) -> Result<Subscribe, Code> {
    let topic = named(table.topic(), 200)?;
    let name = match table.name() {
        None | Some("") if !table.resume() => String::new(),
        name => named(name.unwrap_or(""), 100)?,
    };
    let start = match (table.start_at().0, table.start_value()) {
        (0, _) => Start::Latest,
        (1, _) => Start::Earliest,
        (2, offset) => Start::Offset(offset),
        (3, time) => Start::TimeNs(time),
        _ => return Err(Code::BadStart),
    };
    let (partition, resume, credit) = (table.partition(), table.resume(), table.credit());
    Ok(Subscribe { topic, partition, start, name, resume, credit })
}

fn subscribed(table: &fb::Subscribed<'_>) -> Subscribed {
    Subscribed {
        partition_count: table.partition_count(),
        shard: table.shard(),
        start_offset: table.start_offset(),
        log_start_offset: table.log_start_offset(),
        log_end_offset: table.log_end_offset(),
    }
}

fn commit(table: &fb::Commit<'_>) -> Result<Commit, Code> {
    Ok(Commit { name: named(table.name(), 100)?, offset: table.offset() })
}

fn refusal(table: &fb::Refusal<'_>) -> Result<Refusal, Code> {
    let detail = at_most(table.detail(), 512, Code::BadControlBody)?;
    let known = Code::ALL.iter().copied().find(|code| *code as u16 == table.code());
    let record = match table.record_plus_one() {
        0 => None,
        plus_one => Some(plus_one - 1),
    };
    let detail = if known.is_some() { detail } else { format!("code {}: {detail}", table.code()) };
    let code = known.unwrap_or(Code::Unspecified);
    Ok(Refusal { code, retry_after_us: table.retry_after_us(), record, detail })
}

/// A table as any writer's generated code encodes it, with values that may be anything.
fn encoded(story: &mut Story<'_>) -> Vec<u8> {
    let mut b = FlatBufferBuilder::new();
    match story.byte() % 8 {
        0 => {
            let (client, token) = (text(story, &mut b), text(story, &mut b));
            let (version_min, version_max) = (story.byte() % 4, story.byte() % 4);
            let features = u64::from(story.byte());
            let args = fb::HelloArgs { client, version_min, version_max, features, token };
            let table = fb::Hello::create(&mut b, &args);
            b.finish(table, None);
        }
        1 => told_welcome(story, &mut b),
        2 => {
            let topic = name(story, &mut b);
            let ack_level = (story.byte() & 1 == 1).then(|| fb::AckLevel(story.byte() % 5));
            let (producer_id, partition) = (u64::from(story.byte()), u32::from(story.byte()));
            let (ack_every_batches, ack_every_us) = (u32::from(story.byte()), u32::from(story.byte()));
            let args = fb::OpenArgs {
                topic,
                partition,
                producer_id,
                ack_level,
                ack_every_batches,
                ack_every_us,
                // What a story of before says goes on meaning the same.
                connections: u64::from(ack_every_us) << 32,
            };
            let table = fb::Open::create(&mut b, &args);
            b.finish(table, None);
        }
        3 => {
            let args = fb::OpenedArgs {
                partition_id: u32::from(story.byte()),
                ack_level: fb::AckLevel(story.byte() % 5),
                credit: u64::from(story.byte()) << 56,
                ..Default::default()
            };
            let table = fb::Opened::create(&mut b, &args);
            b.finish(table, None);
        }
        4 => {
            let (topic, name) = (name(story, &mut b), text(story, &mut b));
            let (start_at, start_value) = (fb::StartAt(story.byte() % 6), u64::from(story.byte()));
            let (resume, credit) = (story.byte() & 1 == 1, u64::from(story.byte()));
            let partition = u32::from(story.byte());
            let args = fb::SubscribeArgs { topic, partition, start_at, start_value, name, resume, credit };
            let table = fb::Subscribe::create(&mut b, &args);
            b.finish(table, None);
        }
        5 => {
            let (start_offset, log_end_offset) = (u64::from(story.byte()), u64::from(story.byte()));
            let args = fb::SubscribedArgs { start_offset, log_end_offset, ..Default::default() };
            let table = fb::Subscribed::create(&mut b, &args);
            b.finish(table, None);
        }
        6 => {
            let (name, offset) = (name(story, &mut b), u64::from(story.byte()));
            let table = fb::Commit::create(&mut b, &fb::CommitArgs { name, offset });
            b.finish(table, None);
        }
        _ => {
            let (detail, code) = (text(story, &mut b), u16::from(story.byte()) * 2);
            let (retry_after_us, plus_one) = (u32::from(story.byte()), u32::from(story.byte() % 3));
            let record_plus_one = if plus_one == 2 { u32::MAX } else { plus_one };
            let args = fb::RefusalArgs { code, retry_after_us, record_plus_one, detail };
            let table = fb::Refusal::create(&mut b, &args);
            b.finish(table, None);
        }
    }
    b.finished_data().to_vec()
}

fn told_welcome(story: &mut Story<'_>, b: &mut FlatBufferBuilder<'_>) {
    let (server, tenant) = (text(story, b), text(story, b));
    let count = story.byte() % 70;
    let texts: Vec<_> = (0..count).map(|_| b.create_string(&any_text(story))).collect();
    let shard_addresses = (count > 0).then(|| b.create_vector(&texts));
    let args = fb::WelcomeArgs {
        server,
        tenant,
        version: story.byte(),
        session: u64::from(story.byte()),
        idle_timeout_ms: u32::from(story.byte()) << 24,
        shard_addresses,
        ..Default::default()
    };
    let table = fb::Welcome::create(b, &args);
    b.finish(table, None);
}

/// A text that may be absent.
fn text<'b>(story: &mut Story<'_>, b: &mut FlatBufferBuilder<'b>) -> Option<WIPOffset<&'b str>> {
    if story.byte() & 3 == 0 {
        return None;
    }
    let text = any_text(story);
    Some(b.create_string(&text))
}

/// A text that is required.
fn name<'b>(story: &mut Story<'_>, b: &mut FlatBufferBuilder<'b>) -> Option<WIPOffset<&'b str>> {
    let text = any_text(story);
    Some(b.create_string(&text))
}

/// A text: often a good name, and at the limits' lengths now and then.
fn any_text(story: &mut Story<'_>) -> String {
    let kind = story.byte();
    let length = usize::from(kind >> 3);
    match kind % 8 {
        0 => String::new(),
        1 => "n".repeat([100, 101, 128, 129, 200, 201, 512, 513][length % 8]),
        2 => "é".repeat(length * 10),
        3 => String::from_utf8_lossy(story.bytes(length)).into_owned(),
        _ => story.bytes(length).iter().map(|byte| char::from(b"az09._/-A"[usize::from(byte % 9)])).collect(),
    }
}
