//! What a connection says besides batches: hello, open, subscribe, credit, commit, ping, close.

use crate::access::Verb;
use crate::buf::Span;
use crate::ids::{ConnId, PartitionId};
use crate::io::Io;
use crate::lifecycle::State;
use crate::limits::{
    BATCH_RECORDS_MAX, CHANNELS_PER_CONNECTION, HEADER_BYTES, INFLIGHT_BATCHES_MAX,
    SUBSCRIPTIONS_PER_CONNECTION,
};
use crate::metrics::Counter;
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::proto::control::{Commit, Hello, Open, Refusal, Subscribe, Welcome, topic_name_ok};
use crate::proto::header::{AckLevel, FrameHeader, Kind, VERSION, body_checksum_matches};
use crate::topic::{Topic, TopicKind};

use super::Shard;
use super::conn::Phase;
use super::ingest::Verdict;
use super::messages::{ConnRef, Report};

/// A request that names a topic.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Open(Open),
    Subscribe(Subscribe),
}

impl Request {
    fn topic(&self) -> &str {
        match self {
            Request::Open(open) => &open.topic,
            Request::Subscribe(subscribe) => &subscribe.topic,
        }
    }

    fn partition(&self) -> u32 {
        match self {
            Request::Open(open) => open.partition,
            Request::Subscribe(subscribe) => subscribe.partition,
        }
    }

    fn verb(&self) -> Verb {
        match self {
            Request::Open(_) => Verb::Publish,
            Request::Subscribe(_) => Verb::Subscribe,
        }
    }
}

/// A request whose topic control has been asked for.
pub(super) struct WaitingRequest {
    conn: ConnRef,
    request: u64,
    what: Request,
}

/// Requests of one shard that may wait for control at once.
pub(super) const WAITING_MAX: usize = 4096;

impl<I: Io> Shard<I> {
    /// Acts on a frame that is not a batch.
    pub(super) fn control_frame(&mut self, id: ConnId, frame: Span, header: &FrameHeader) -> Verdict {
        let bytes = self.buffers.memory.bytes(frame);
        if !body_checksum_matches(bytes) {
            self.fail(id, Code::BadControlChecksum, String::new());
            return Verdict::Done;
        }
        if self.conns[id].phase == Phase::Greeting {
            self.greeting(id, frame, header);
            return Verdict::Done;
        }
        if (header.kind.is_header_only() || header.kind == Kind::Close) && header.body_bytes != 0 {
            self.fail(id, Code::BadLength, format!("{:?} has no body", header.kind));
            return Verdict::Done;
        }
        if !self.request_id_ok(id, header) {
            return Verdict::Done;
        }
        let bytes = self.buffers.memory.bytes(frame);
        match header.kind {
            Kind::Open => match Open::decode(&bytes[HEADER_BYTES..]) {
                Ok(open) => return self.request(id, header.sequence, Request::Open(open)),
                Err(code) => self.refuse_or_fail(id, header.sequence, code),
            },
            Kind::Subscribe => match Subscribe::decode(&bytes[HEADER_BYTES..]) {
                Ok(subscribe) => return self.request(id, header.sequence, Request::Subscribe(subscribe)),
                Err(code) => self.refuse_or_fail(id, header.sequence, code),
            },
            Kind::Commit => match Commit::decode(&bytes[HEADER_BYTES..]) {
                Ok(commit) => self.commit(id, header.sequence, PartitionId(header.channel), commit),
                Err(code) => self.refuse_or_fail(id, header.sequence, code),
            },
            Kind::Credit => self.consumer_credit(id, PartitionId(header.channel), header.offset),
            Kind::Ping => {
                let pong = FrameHeader { sequence: header.sequence, ..FrameHeader::new(Kind::Pong) }.alone();
                self.say(id, &pong);
            }
            Kind::Pong => {}
            Kind::Close => self.finish(id),
            Kind::Release => self.release_channel(id, header.channel),
            Kind::Unsubscribe => self.unsubscribe_by_client(id, PartitionId(header.channel)),
            Kind::Hello => self.fail(id, Code::BadHello, "hello was said before".into()),
            kind => self.fail(id, Code::UnexpectedKind, format!("{kind:?} comes from the server only")),
        }
        Verdict::Done
    }

    fn greeting(&mut self, id: ConnId, frame: Span, header: &FrameHeader) {
        if header.kind != Kind::Hello {
            return self.fail(id, Code::UnexpectedKind, format!("{:?} before hello", header.kind));
        }
        let bytes = self.buffers.memory.bytes(frame);
        let hello = match Hello::decode(&bytes[HEADER_BYTES..]) {
            Ok(hello) => hello,
            Err(code) => return self.fail(id, code, String::new()),
        };
        if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            let detail = format!(
                "this server speaks {VERSION}, the client {}..={}",
                hello.version_min, hello.version_max
            );
            return self.fail(id, Code::BadVersion, detail);
        }
        let Some(tenant) = self.tenant_at_hello(id, &hello.token) else {
            return self.fail(id, Code::Unauthenticated, String::new());
        };
        if self.state == State::Draining && !mutation::on(Mutation::DrainTakes) {
            // It was let in before, or nobody would have told it of the drain.
            return self.fail(id, Code::ServerDraining, String::new());
        }
        self.sessions += 1;
        let session = (u64::from(self.id.0) << 48) | self.sessions;
        let conn = &mut self.conns[id];
        conn.phase = Phase::Open;
        conn.tenant = tenant;
        conn.session = session;
        self.counters.add(Counter::Handshakes, 1);
        self.arm_timer(id);
        let welcome = Welcome {
            server: concat!("uringest/", env!("CARGO_PKG_VERSION")).into(),
            version: VERSION,
            features: 0,
            session,
            shard: self.id.0,
            shards: self.shards,
            tenant: self.access.tenant_name(tenant).into(),
            frame_bytes_max: self.limits.frame_bytes_max,
            record_bytes_max: self.limits.record_bytes_max,
            batch_records_max: BATCH_RECORDS_MAX,
            inflight_batches_max: INFLIGHT_BATCHES_MAX,
            channels_max: CHANNELS_PER_CONNECTION,
            subscriptions_max: SUBSCRIPTIONS_PER_CONNECTION,
            idle_timeout_ms: u32::try_from(self.limits.idle_timeout_ms).unwrap_or(u32::MAX),
            shard_addresses: self.shard_addresses.clone(),
        };
        let frame = welcome.frame(header.sequence);
        self.say(id, &frame);
    }

    /// A request for a topic: known, unknown, or on another shard.
    fn request(&mut self, id: ConnId, request: u64, what: Request) -> Verdict {
        if let Err(code) = self.request_allowed(id, &what) {
            self.refuse(id, request, code, what.topic().into());
            return Verdict::Done;
        }
        let Some(known) = self.topics.by_name(what.topic()) else {
            self.want_topic(id, request, what);
            return Verdict::Done;
        };
        let Some(partition) = known.topic.partitions.get(what.partition() as usize) else {
            let detail = format!("{} has {} partitions", what.topic(), known.topic.partitions.len());
            self.refuse(id, request, Code::UnknownPartition, detail);
            return Verdict::Done;
        };
        let owner = partition.shard;
        if owner != self.id && self.may_move(id) {
            self.begin_move(id, owner);
            return Verdict::Leave;
        }
        self.answer_request(id, request, what);
        Verdict::Done
    }

    /// A request's id tells its answer from others; 0 stands for the connection itself.
    fn request_id_ok(&mut self, id: ConnId, header: &FrameHeader) -> bool {
        let named = matches!(header.kind, Kind::Open | Kind::Subscribe | Kind::Commit);
        if named && header.sequence == 0 {
            self.fail(id, Code::BadControlBody, "a request's id (sequence) is not 0".into());
            return false;
        }
        true
    }

    fn request_allowed(&self, id: ConnId, what: &Request) -> Result<(), Code> {
        if self.state == State::Draining {
            return Err(Code::ServerDraining);
        }
        topic_name_ok(what.topic())?;
        let conn = &self.conns[id];
        if !self.access.allows(conn.tenant, what.verb(), what.topic()) {
            return Err(Code::NotAuthorized);
        }
        match what {
            Request::Open(_) if conn.channel_count >= CHANNELS_PER_CONNECTION => Err(Code::TooManyChannels),
            Request::Subscribe(_) if conn.subscription_count >= SUBSCRIPTIONS_PER_CONNECTION => {
                Err(Code::TooManySubscriptions)
            }
            Request::Open(open) if open.producer_id == 0 => Err(Code::UnknownProducer),
            _ => Ok(()),
        }
    }

    /// Answers a request whose topic and partition are known to exist.
    fn answer_request(&mut self, id: ConnId, request: u64, what: Request) {
        let Some(known) = self.topics.by_name(what.topic()) else { return };
        let count = u32::try_from(known.topic.partitions.len()).expect("partitions are bounded");
        let Some(partition) = known.topic.partitions.get(what.partition() as usize) else {
            return self.refuse(id, request, Code::UnknownPartition, format!("{count} partitions"));
        };
        let (partition, owner) = (partition.id, partition.shard);
        match what {
            Request::Open(mut open) => {
                match agreed_level(&known.topic, open.ack_level) {
                    Ok(level) => open.ack_level = Some(level),
                    Err(detail) => return self.refuse(id, request, Code::ImpossibleAckLevel, detail),
                }
                self.open_channel(id, request, partition, owner, count, &open);
            }
            Request::Subscribe(subscribe) => self.subscribe(id, request, partition, owner, count, subscribe),
        }
    }

    /// Asks control for a topic that nobody knows yet.
    fn want_topic(&mut self, id: ConnId, request: u64, what: Request) {
        let coming = self.topics.may_come(what.topic());
        if !self.auto_create && !coming {
            return self.refuse(id, request, Code::UnknownTopic, what.topic().into());
        }
        if self.waiting_for_topic.len() >= WAITING_MAX {
            return self.refuse(id, request, Code::Unavailable, String::new());
        }
        let asked = self.waiting_for_topic.iter().any(|waiting| waiting.what.topic() == what.topic());
        if !asked && !coming {
            let (shard, name, partition) = (self.id, what.topic().to_owned(), what.partition());
            self.report(Report::WantTopic { shard, name, partition });
        }
        self.conns[id].waiting += 1;
        let conn = self.conn_ref(id);
        self.waiting_for_topic.push(WaitingRequest { conn, request, what });
    }

    /// Control has answered: the topic exists now (`Ok`) or will not.
    pub(super) fn topic_decided(&mut self, name: &str, decision: Result<(), Code>) {
        let decided = |_: &Self, topic: &str| topic == name;
        self.end_waits(decided, |shard, id, request, what| match decision {
            Ok(()) => shard.answer_request(id, request, what),
            Err(code) => shard.refuse(id, request, code, name.into()),
        });
    }

    /// Control has told of every topic: who waits for another hears that there is none, or has it made.
    pub(super) fn topics_told(&mut self) {
        self.topics.told();
        let unknown = |shard: &Self, topic: &str| !shard.topics.may_come(topic);
        self.end_waits(unknown, Self::want_topic);
    }

    /// Acts on the requests that wait for such a topic, in the order in which they came. Each stops waiting before it
    /// is acted on, as that may have it wait again; those of a connection that is being closed are forgotten.
    fn end_waits(
        &mut self,
        of_topic: impl Fn(&Self, &str) -> bool,
        mut act: impl FnMut(&mut Self, ConnId, u64, Request),
    ) {
        let waiting = std::mem::take(&mut self.waiting_for_topic);
        let (ended, others): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|waiting| of_topic(self, waiting.what.topic()));
        self.waiting_for_topic = others;
        for WaitingRequest { conn, request, what } in ended {
            let Some(id) = self.conns.by_ref(conn) else { continue };
            self.conns[id].waiting -= 1;
            if self.conns[id].phase == Phase::Open {
                act(self, id, request, what);
            } else {
                self.settled(id);
            }
        }
    }

    /// Answers a request with the reason why not; the connection goes on.
    pub(super) fn refuse(&mut self, id: ConnId, request: u64, code: Code, detail: String) {
        self.counters.refused(code);
        let refusal = Refusal { code, retry_after_us: 0, record: None, detail };
        let frame = refusal.frame(Kind::Error, 0, request);
        self.say(id, &frame);
    }

    fn refuse_or_fail(&mut self, id: ConnId, request: u64, code: Code) {
        if code.scope() == crate::proto::code::Scope::Connection {
            self.fail(id, code, String::new());
        } else {
            self.refuse(id, request, code, String::new());
        }
    }

    pub(super) fn conn_ref(&self, id: ConnId) -> ConnRef {
        ConnRef { shard: self.id, conn: id, generation: self.conns[id].generation }
    }
}

/// The level at which a producer is acknowledged that asked for one, or for none; or why it may not have that one.
pub(super) fn agreed_level(topic: &Topic, asked: Option<AckLevel>) -> Result<AckLevel, String> {
    let (default, possible) = match topic.kind {
        TopicKind::Live | TopicKind::Memory => (AckLevel::Received, AckLevel::Received..=AckLevel::Received),
        TopicKind::Log => (AckLevel::Durable, topic.durability..=AckLevel::Durable),
    };
    let level = asked.unwrap_or(default);
    if possible.contains(&level) {
        return Ok(level);
    }
    let (least, most) = (possible.start().name(), possible.end().name());
    Err(match topic.kind {
        TopicKind::Live | TopicKind::Memory => format!("{:?} topics acknowledge `{most}` only", topic.kind),
        TopicKind::Log => format!("the topic's durability is `{least}`: ask for that or more"),
    })
}
