//! What an application decides. Every field has a default that suits a service; times are in the unit named.

use std::time::Duration;

use crate::client::core::address::Address;
use crate::client::core::error::Error;
use crate::client::core::partitioner::Partitioner;
use crate::client::core::tls::Tls;
use crate::limits::{CREDIT_CONSUMER_BYTES, FRAME_BYTES_MAX_CEILING, INFLIGHT_BATCHES_MAX};
use crate::proto::control::Start;
use crate::proto::header::AckLevel;

/// How to reach the server and how long to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// Where it is, and whether TLS is spoken to it.
    pub server: Address,
    /// Whom to trust and what to show, for an address of `uringest+tls://` and no other. `None` there: the
    /// authorities this host trusts, and no certificate of the client's own.
    pub tls: Option<Tls>,
    /// Sent in hello where the server wants one.
    pub token: Option<String>,
    /// This application's name in the server's log.
    pub client: String,
    /// How long to try again while the server cannot be reached or refuses for now, without any progress.
    pub retry_for: Duration,
    /// The first wait before trying again; doubled each time up to `backoff_max`, less a random part.
    pub backoff_min: Duration,
    /// See `backoff_min`.
    pub backoff_max: Duration,
    /// How long one attempt to connect, and the answer to hello, may take.
    pub connect_timeout: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        ConnectionConfig {
            server: Address::default(),
            tls: None,
            token: None,
            client: concat!("uringest-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry_for: Duration::from_secs(60),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

impl ConnectionConfig {
    fn check(&self) -> Result<(), Error> {
        if self.tls.is_some() && !self.server.is_secured() {
            return Err(Error::BadConfig(format!(
                "TLS is configured, and the address {} does not ask for it; write uringest+tls://{}",
                self.server, self.server
            )));
        }
        Ok(())
    }
}

/// What happens to a record when the producer's buffer is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WindowPolicy {
    /// `send` waits for room.
    #[default]
    Block,
    /// `send` fails with `SendError::Full`.
    Fail,
    /// The record is dropped and counted.
    Drop,
}

/// A producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerConfig {
    /// The server.
    pub connection: ConnectionConfig,
    /// The topic; created by the server if its policy allows.
    pub topic: String,
    /// A batch is closed when its frame would exceed this. A larger record is a batch of its own.
    pub batch_bytes: usize,
    /// How long a record may wait for others in its batch. Zero: a batch is closed as soon as the connection can
    /// take it, so that records only wait while earlier ones are being sent.
    pub linger: Duration,
    /// Batches on the way on one partition; the server has a limit of its own.
    pub inflight_batches: u32,
    /// Bytes of unacknowledged and unsent batches together; at least one batch is always taken.
    pub buffer_bytes: usize,
    /// See [`WindowPolicy`].
    pub window: WindowPolicy,
    /// See [`Partitioner`].
    pub partitioner: Partitioner,
    /// What an acknowledgement has to promise. `None`: what the topic's kind has by default, `durable` on a `log`
    /// and `received` on others.
    pub ack_level: Option<AckLevel>,
    /// The server acknowledges after this many batches ...
    pub ack_every_batches: u32,
    /// ... or this long after the first unacknowledged one.
    pub ack_every: Duration,
}

impl ProducerConfig {
    /// The defaults, for a topic.
    #[must_use]
    pub fn new(topic: impl Into<String>) -> Self {
        ProducerConfig {
            connection: ConnectionConfig::default(),
            topic: topic.into(),
            batch_bytes: 16 * 1024,
            linger: Duration::from_millis(5),
            inflight_batches: INFLIGHT_BATCHES_MAX,
            buffer_bytes: 4 * 1024 * 1024,
            window: WindowPolicy::Block,
            partitioner: Partitioner::default(),
            ack_level: None,
            ack_every_batches: 8,
            ack_every: Duration::from_millis(1),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.connection.check()?;
        topic_ok(&self.topic)?;
        if !(256..=FRAME_BYTES_MAX_CEILING as usize).contains(&self.batch_bytes) {
            return Err(Error::BadConfig(format!("batch_bytes is from 256 to {FRAME_BYTES_MAX_CEILING}")));
        }
        if self.inflight_batches == 0 {
            return Err(Error::BadConfig("inflight_batches is at least 1".to_owned()));
        }
        Ok(())
    }
}

/// Which partitions a consumer takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Partitions {
    /// All there are.
    #[default]
    All,
    /// These.
    Some(Vec<u32>),
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// The server.
    pub connection: ConnectionConfig,
    /// The topic; created by the server if its policy allows.
    pub topic: String,
    /// See [`Partitions`].
    pub partitions: Partitions,
    /// Where to start.
    pub start: Start,
    /// The name for commits and for `topic describe`; may be empty.
    pub name: String,
    /// Start at the name's committed offset if it has one, else at `start`.
    pub resume: bool,
    /// While the topic does not exist and may not be created by clients: try again, for as long as it takes.
    pub wait_for_topic: bool,
    /// Bytes of frames on the way or not yet taken by the application, for each partition.
    pub credit_bytes: u64,
    /// Bytes of receive memory that delivered payloads may hold; beyond it they are copied, and counted.
    pub pinned_bytes_max: usize,
}

impl ConsumerConfig {
    /// The defaults, for a topic: all partitions, from the latest.
    #[must_use]
    pub fn new(topic: impl Into<String>) -> Self {
        ConsumerConfig {
            connection: ConnectionConfig::default(),
            topic: topic.into(),
            partitions: Partitions::All,
            start: Start::Latest,
            name: String::new(),
            resume: false,
            wait_for_topic: false,
            credit_bytes: CREDIT_CONSUMER_BYTES,
            pinned_bytes_max: 64 * 1024 * 1024,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.connection.check()?;
        topic_ok(&self.topic)?;
        if self.credit_bytes == 0 {
            return Err(Error::BadConfig("credit_bytes is at least 1".to_owned()));
        }
        if self.resume && self.name.is_empty() {
            return Err(Error::BadConfig("to resume, a consumer needs a name".to_owned()));
        }
        if matches!(&self.partitions, Partitions::Some(list) if list.is_empty()) {
            return Err(Error::BadConfig("the list of partitions is empty".to_owned()));
        }
        Ok(())
    }
}

fn topic_ok(topic: &str) -> Result<(), Error> {
    if topic.is_empty() {
        return Err(Error::BadConfig("the topic's name is empty".to_owned()));
    }
    Ok(())
}
