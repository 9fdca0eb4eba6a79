//! How a connection speaks: what a producer sends, what counts as an answer, what a consumer counts.
//!
//! The engine owns sockets, clocks and buffers; a dialect only makes and reads bytes, after a handshake on a
//! socket that still blocks. Implementations are picked at compile time (the engine is generic over
//! [`Dialect`]), so nothing is looked up in the load's loop.
//!
//! A **unit** is what is sent and acknowledged together: one batch. Units are encoded ahead; sending one patches
//! what differs (its sequence, its time). The first payload of a unit begins with its **stamp**: the time, in
//! nanoseconds of this host's monotonic clock and little-endian, at which it was sent or ought to have been.
//! Consumers find it there: one latency for each unit.

pub mod bare;
#[cfg(test)]
mod fixture;
mod lead;
pub mod nats;
pub mod redis;
mod units;
pub mod uringest;

use std::io;
use std::time::Duration;

use crate::link::Link;
use crate::scenario::AckPace;

pub(crate) use lead::LEAD_BYTES_MIN;

/// Bytes of a stamp.
pub const STAMP_BYTES: usize = 8;
/// Most bytes that a producer encodes ahead for one write.
pub const WRITE_BYTES: usize = 64 * 1024;

/// What a connection is to do.
#[derive(Debug, Clone)]
pub struct Role {
    /// Which flow of the work, that is, which topic.
    pub flow: usize,
    /// The connection's number in the run, from 0, unique over producers and consumers.
    pub number: usize,
    /// Bytes of a record's payload; at least [`STAMP_BYTES`].
    pub payload_bytes: usize,
    /// Most bytes of a unit; 0 for one record a unit. A unit has at least one record.
    pub batch_bytes: usize,
    /// Most units that are encoded for one write.
    pub units_at_once: usize,
    /// Most units on their way or unanswered, where the server's protocol has answers.
    pub in_flight: u64,
    /// When units are to be acknowledged.
    pub acks: AckPace,
    /// A consumer begins with the oldest record kept, and not with the next one.
    pub from_start: bool,
    /// The connection is to live on the shard that does not own the topic's partition.
    pub crossed: bool,
}

/// One way of speaking to a server. Made by the subject, which knows the addresses.
pub trait Dialect: Sync {
    /// A connection that sends.
    type Producer: Producer;
    /// A connection that is sent to.
    type Consumer: Consumer;

    /// Connects a producer and shakes hands. The engine makes the socket non-blocking.
    ///
    /// # Errors
    /// The server is not there, or refuses.
    fn producer(&self, role: &Role) -> io::Result<(Link, Self::Producer)>;

    /// Connects a consumer, shakes hands, and waits until it is subscribed.
    ///
    /// # Errors
    /// The server is not there, or refuses.
    fn consumer(&self, role: &Role) -> io::Result<(Link, Self::Consumer)>;

    /// Connects, says who it is, and does nothing more.
    ///
    /// # Errors
    /// The server is not there, or refuses.
    fn idler(&self, number: usize) -> io::Result<Link>;
}

/// A connection that sends.
pub trait Producer: Send {
    /// Whether the server answers at all: without answers, what is written counts as taken, and there is no
    /// acknowledgement latency.
    const ANSWERED: bool = true;

    /// Records in a unit.
    fn unit_records(&self) -> u64;

    /// Bytes of a unit as it is sent.
    fn unit_bytes(&self) -> u64;

    /// Encodes at most `units` units, all with this stamp, for one write of about [`WRITE_BYTES`] at most (or of
    /// one unit where that is longer), in place of what [`Producer::encoded`] was; returns how many. 0 where what
    /// is in flight allows no more. The engine calls this only when everything encoded has been written.
    fn encode(&mut self, units: u64, stamp_ns: u64) -> u64;

    /// What the last call of [`Producer::encode`] made.
    fn encoded(&self) -> &[u8];

    /// Reads answers; returns how many bytes are used up. The rest is given again, in front of what comes next:
    /// it should be short (one answer at most).
    ///
    /// # Errors
    /// The server refuses something, or says what cannot be.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Units encoded so far.
    fn sent(&self) -> u64;

    /// Units that the server has said it has taken, counted from the first. Where the server never answers
    /// ([`Producer::ANSWERED`]), the same as [`Producer::sent`].
    fn acked(&self) -> u64;

    /// Nothing more is to come for now: bytes that ask for the acknowledgement of everything sent, appended to `out`,
    /// where none is on its way. Only called between units.
    fn ask(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Bytes that have to be written besides units (an answer to a ping), appended to `out`. Only asked for
    /// between units.
    fn replies(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Where units were refused for a passing reason and have to be sent again: how long to wait before that. They
    /// count as sent, and nothing new is encoded before.
    fn to_resend(&self) -> Option<Duration> {
        None
    }

    /// Appends units that were refused, with their stamps, as far as what is in flight allows.
    fn resend(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// How often units were refused for a passing reason.
    fn refusals(&self) -> u64 {
        0
    }
}

/// A connection that is sent to.
pub trait Consumer: Send {
    /// Counts what arrived; returns how many bytes are used up. The rest is given again, in front of what comes
    /// next: it should be short (a header, not a body: bodies can be used up in parts).
    ///
    /// # Errors
    /// The server says what cannot be.
    fn take(&mut self, bytes: &[u8], tally: &mut Tally) -> io::Result<usize>;

    /// Bytes that have to be written (credit, an answer to a ping), appended to `out`.
    fn replies(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }
}

/// What consumers count.
#[derive(Debug, Default)]
pub struct Tally {
    /// Records delivered.
    pub records: u64,
    /// Records that the server said would not come.
    pub missed: u64,
    /// Stamps found, since the engine last took them.
    pub stamps: Vec<u64>,
}

impl Tally {
    /// Adds a record, with the stamp that its payload begins with where it is the first of its unit: others begin
    /// with zeros.
    #[inline]
    pub(crate) fn record(&mut self, payload: &[u8]) {
        self.records += 1;
        if payload[..STAMP_BYTES] != [0; STAMP_BYTES] {
            self.stamp(payload);
        }
    }

    /// Adds a stamp, from the first bytes of a unit's first payload.
    #[inline]
    pub fn stamp(&mut self, payload: &[u8]) {
        if let Some(stamp) = payload.first_chunk::<STAMP_BYTES>() {
            self.stamps.push(u64::from_le_bytes(*stamp));
        }
    }
}
