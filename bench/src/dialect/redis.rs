//! Redis, in two ways: publish and subscribe, which stores nothing, and streams, which store in memory.
//!
//! Commands are pipelined: a unit is a run of them in one write. Redis answers every command, so every record is
//! acknowledged, however far apart acknowledgements are asked for. A stream is trimmed to about as much as
//! [`STREAM_BYTES`] of payload; consumers ask for more as soon as they have what they asked for.

mod consumer;
mod resp;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use super::lead::Lead;
use super::units::Units;
use super::{Dialect, Producer, Role};
use crate::link::Link;
use crate::scenario::Flow;

use consumer::Place;
pub use consumer::RedisConsumer;
use resp::{Head, command, head};

/// Payload that a stream keeps, about: more than is ever on its way to a consumer.
const STREAM_BYTES: usize = 128 * 1024 * 1024;

/// What Redis does with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisWay {
    /// `PUBLISH` and `SUBSCRIBE`.
    PubSub,
    /// `XADD` and `XREAD`.
    Streams,
}

/// See the module.
#[derive(Debug)]
pub struct RedisDialect {
    address: SocketAddr,
    way: RedisWay,
    leads: Vec<Arc<Lead>>,
}

impl RedisDialect {
    /// For a server at `address`, and a channel or stream for each flow.
    #[must_use]
    pub fn new(address: SocketAddr, way: RedisWay, flows: &[Flow]) -> RedisDialect {
        let leads = flows.iter().map(|flow| Arc::new(Lead::new(flow))).collect();
        RedisDialect { address, way, leads }
    }

    /// Connects, and sees that Redis answers.
    fn connect(&self, number: usize) -> io::Result<Link> {
        let mut stream = Link::connect(self.address, number, None)?;
        ask(&mut stream, &command(&[b"PING"]), b"+PONG\r\n")?;
        Ok(stream)
    }

    /// What the server says its version is.
    ///
    /// # Errors
    /// It is not there, or is no Redis server.
    pub fn version(&self) -> io::Result<String> {
        let mut stream = self.connect(0)?;
        stream.write_all(&command(&[b"INFO", b"server"]))?;
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut piece)?;
            bytes.extend_from_slice(&piece[..read]);
            let Some((Head::Bulk(length), at)) = head(&bytes)? else {
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            };
            if let Some(text) = bytes.get(at..at + length) {
                let text = String::from_utf8_lossy(text);
                let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
                return Ok(version.unwrap_or("unknown").to_owned());
            }
        }
    }
}

/// Sends a command on a socket that blocks, and holds its answer to what it has to be.
fn ask(stream: &mut Link, command: &[u8], answer: &[u8]) -> io::Result<()> {
    stream.write_all(command)?;
    let mut got = vec![0; answer.len()];
    stream.read_exact(&mut got)?;
    if got == answer {
        return Ok(());
    }
    Err(io::Error::other(format!("redis-server: {}", String::from_utf8_lossy(&got).trim_end())))
}

/// Channel or stream of a flow.
fn key(flow: usize) -> String {
    format!("bench:{flow}")
}

impl Dialect for RedisDialect {
    type Producer = RedisProducer;
    type Consumer = RedisConsumer;

    fn producer(&self, role: &Role) -> io::Result<(Link, RedisProducer)> {
        let stream = self.connect(role.number)?;
        Ok((stream, RedisProducer::new(self.way, role, Arc::clone(&self.leads[role.flow]))))
    }

    fn consumer(&self, role: &Role) -> io::Result<(Link, RedisConsumer)> {
        let mut stream = self.connect(role.number)?;
        let key = key(role.flow);
        let consumer = RedisConsumer::new(self.way, &key, Place::new(&self.leads[role.flow]));
        match self.way {
            RedisWay::PubSub => {
                let told = format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{key}\r\n:1\r\n", key.len());
                ask(&mut stream, &command(&[b"SUBSCRIBE", key.as_bytes()]), told.as_bytes())?;
            }
            RedisWay::Streams => stream.write_all(&consumer.question())?,
        }
        Ok((stream, consumer))
    }

    fn idler(&self, number: usize) -> io::Result<Link> {
        self.connect(number)
    }
}

/// See the module.
#[derive(Debug)]
pub struct RedisProducer {
    units: Units,
    replies: u64,
    lead: Arc<Lead>,
}

impl RedisProducer {
    fn new(way: RedisWay, role: &Role, lead: Arc<Lead>) -> RedisProducer {
        let key = key(role.flow);
        let most = (STREAM_BYTES / role.payload_bytes).to_string();
        let units = Units::new(role, |out, payload| {
            let record = match way {
                RedisWay::PubSub => command(&[b"PUBLISH", key.as_bytes(), payload]),
                RedisWay::Streams => {
                    let (key, most) = (key.as_bytes(), most.as_bytes());
                    command(&[b"XADD", key, b"MAXLEN", b"~", most, b"*", b"d", payload])
                }
            };
            out.extend_from_slice(&record);
            record.len() - payload.len() - 2
        });
        RedisProducer { units, replies: 0, lead }
    }
}

impl Producer for RedisProducer {
    fn unit_records(&self) -> u64 {
        self.units.records()
    }

    fn unit_bytes(&self) -> u64 {
        self.units.unit_bytes()
    }

    #[inline]
    fn encode(&mut self, units: u64, stamp_ns: u64) -> u64 {
        self.units.encode_within(&self.lead, self.acked(), units, stamp_ns)
    }

    #[inline]
    fn encoded(&self) -> &[u8] {
        self.units.encoded()
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        while let Some((head, used)) = head(&bytes[at..])? {
            let body = match head {
                Head::Integer => 0,               // how many got a message
                Head::Bulk(length) => length + 2, // the entry's name
                Head::Array(_) => return Err(io::Error::other("redis-server: not an answer to a record")),
            };
            if bytes.len() < at + used + body {
                break;
            }
            at += used + body;
            self.replies += 1;
        }
        if self.acked() > self.sent() {
            return Err(io::Error::other("redis-server: more answers than records"));
        }
        Ok(at)
    }

    fn sent(&self) -> u64 {
        self.units.sent()
    }

    fn acked(&self) -> u64 {
        self.replies / self.units.records()
    }
}
