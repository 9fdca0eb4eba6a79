//! uringest's protocol (docs/protocol.md), spoken with the server's own codec.

mod consumer;
mod patch;
mod producer;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use uringest::proto::control::{Hello, Open, Opened, Refusal, Start, Subscribe};
use uringest::proto::header::{AckLevel, FrameHeader, Kind};

use super::{Dialect, Role};
use crate::link::Link;
use crate::scenario::AckPace;
use crate::tls::LoadTls;

use patch::Tables;

pub use consumer::UringestConsumer;
pub use producer::UringestProducer;

const HEADER: usize = 64;
/// More than any server's `frame_bytes_max`.
const FRAME_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub struct UringestDialect {
    address: SocketAddr,
    topics: Vec<Place>,
    tls: Option<LoadTls>,
    /// What an acknowledgement has to promise; `None`: what the topic's kind has by default.
    level: Option<AckLevel>,
    /// Producers ask for `received`, whatever the level is.
    received_only: AtomicBool,
    /// Producers so far.
    producers: AtomicU64,
    /// Those made so far: one for each length of frame.
    tables: Mutex<Vec<Arc<Tables>>>,
}

/// A partition, and one on another shard.
#[derive(Debug, Clone)]
pub struct Place {
    /// The topic's name.
    pub topic: String,
    /// The partition that takes the records.
    pub partition: u32,
    /// A partition of the same topic whose owner is another shard: a connection that names it first stays there.
    pub elsewhere: Option<u32>,
}

impl UringestDialect {
    /// For a server at `address` and the topic and partition of each flow; with TLS where its port speaks that.
    #[must_use]
    pub fn new(address: SocketAddr, topics: Vec<Place>, tls: Option<LoadTls>) -> UringestDialect {
        UringestDialect {
            address,
            topics,
            tls,
            level: None,
            received_only: AtomicBool::new(false),
            producers: AtomicU64::new(0),
            tables: Mutex::default(),
        }
    }

    /// Has producers ask for this level.
    #[must_use]
    pub fn acknowledged_as(self, level: Option<AckLevel>) -> UringestDialect {
        UringestDialect { level, ..self }
    }

    /// From now on producers ask for no more than `received`, or again for what was set.
    pub fn received_only(&self, only: bool) {
        self.received_only.store(only, Ordering::Relaxed);
    }

    /// TLS of all connections.
    #[must_use]
    pub fn tls(&self) -> Option<&LoadTls> {
        self.tls.as_ref()
    }

    fn tables(&self, frame_bytes: usize) -> Arc<Tables> {
        let mut all = self.tables.lock().expect("nobody panics while holding it");
        if let Some(found) = all.iter().find(|tables| tables.frame_bytes() == frame_bytes) {
            return Arc::clone(found);
        }
        let made = Arc::new(Tables::new(frame_bytes));
        all.push(Arc::clone(&made));
        made
    }

    fn connect(&self, number: usize) -> io::Result<Link> {
        let mut stream = Link::connect(self.address, number, self.tls.as_ref())?;
        let hello =
            Hello { client: "uringest-bench".into(), version_min: 1, version_max: 1, ..Hello::default() };
        ask(&mut stream, &hello.frame(0), Kind::Welcome)?;
        Ok(stream)
    }

    /// The shard that owns a partition.
    ///
    /// # Errors
    /// The server is not there, or refuses.
    pub fn owner(&self, topic: &str, partition: u32) -> io::Result<u16> {
        let mut stream = self.connect(0)?;
        let (_, opened) = self.open(&mut stream, topic, partition, u64::MAX, &AckPace::EACH)?;
        Ok(opened.shard)
    }

    /// Another one for each channel, never 0, also in a later session: the server remembers.
    fn producer_id(&self) -> u64 {
        self.producers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A producer's channel.
    fn open(
        &self,
        stream: &mut Link,
        topic: &str,
        partition: u32,
        producer_id: u64,
        acks: &AckPace,
    ) -> io::Result<(FrameHeader, Opened)> {
        let only = self.received_only.load(Ordering::Relaxed);
        let level = if only { Some(AckLevel::Received) } else { self.level };
        let open = Open {
            topic: topic.to_owned(),
            partition,
            producer_id,
            ack_level: level,
            ack_every_batches: acks.every_batches,
            ack_every_us: acks.every_us,
            connections: 0,
        };
        let (header, body) = ask(stream, &open.frame(1), Kind::Opened)?;
        let opened = Opened::decode(&body).map_err(|code| io::Error::other(code.name()))?;
        if level.is_some_and(|level| level != opened.ack_level) {
            return Err(io::Error::other(format!("the server acknowledges as {}", opened.ack_level.name())));
        }
        Ok((header, opened))
    }

    /// Ties the connection to the shard that does not own the partition.
    fn cross(&self, stream: &mut Link, role: &Role) -> io::Result<()> {
        let place = &self.topics[role.flow];
        let Some(elsewhere) = place.elsewhere else {
            return Err(io::Error::other("there is no partition on another shard"));
        };
        self.open(stream, &place.topic, elsewhere, self.producer_id(), &role.acks).map(|_| ())
    }
}

impl Dialect for UringestDialect {
    type Producer = UringestProducer;
    type Consumer = UringestConsumer;

    fn producer(&self, role: &Role) -> io::Result<(Link, UringestProducer)> {
        let mut stream = self.connect(role.number)?;
        if role.crossed {
            self.cross(&mut stream, role)?;
        }
        let place = &self.topics[role.flow];
        let id = self.producer_id();
        let (header, opened) = self.open(&mut stream, &place.topic, place.partition, id, &role.acks)?;
        let batch = producer::batch(role, id, header.channel);
        let tables = self.tables(batch.0.len());
        Ok((stream, UringestProducer::new(role, batch, tables, opened.credit)))
    }

    fn consumer(&self, role: &Role) -> io::Result<(Link, UringestConsumer)> {
        let mut stream = self.connect(role.number)?;
        if role.crossed {
            self.cross(&mut stream, role)?;
        }
        let place = &self.topics[role.flow];
        let subscribe = Subscribe {
            topic: place.topic.clone(),
            partition: place.partition,
            start: if role.from_start { Start::Earliest } else { Start::Latest },
            credit: consumer::CREDIT_BYTES,
            ..Subscribe::default()
        };
        let (header, _) = ask(&mut stream, &subscribe.frame(2), Kind::Subscribed)?;
        Ok((stream, UringestConsumer::new(header.channel)))
    }

    fn idler(&self, number: usize) -> io::Result<Link> {
        self.connect(number)
    }
}

/// Sends a request on a socket that blocks, and reads until its answer.
fn ask(stream: &mut Link, frame: &[u8], kind: Kind) -> io::Result<(FrameHeader, Vec<u8>)> {
    stream.write_all(frame)?;
    loop {
        let mut head = [0; HEADER];
        stream.read_exact(&mut head)?;
        let header =
            FrameHeader::parse(&head, FRAME_BYTES_MAX).map_err(|code| io::Error::other(code.name()))?;
        let mut body = vec![0; header.body_bytes as usize];
        stream.read_exact(&mut body)?;
        if header.kind == kind {
            return Ok((header, body));
        }
        refused(&header, &body)?;
    }
}

/// A refusal as an error; anything else passes.
fn refused(header: &FrameHeader, body: &[u8]) -> io::Result<()> {
    if !matches!(header.kind, Kind::Nack | Kind::Error | Kind::Close) {
        return Ok(());
    }
    let refusal = Refusal::decode(body).map_err(|code| io::Error::other(code.name()))?;
    Err(io::Error::other(format!("the server refused: {}: {}", refusal.code.name(), refusal.detail)))
}
