//! The bytes alone: payloads one after the other, as the bare programs move them (`limit`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::lead::Lead;
use super::units::Units;
use super::{Consumer, Dialect, Producer, Role, Tally};
use crate::limit::bare::REPLY_BYTES;
use crate::link::Link;
use crate::scenario::Flow;

/// See the module. `ANSWERED`: the program replies to each unit.
#[derive(Debug)]
pub struct BareDialect<const ANSWERED: bool> {
    address: SocketAddr,
    leads: Vec<Arc<Lead>>,
}

impl<const ANSWERED: bool> BareDialect<ANSWERED> {
    /// For a program at `address` that serves these flows.
    #[must_use]
    pub fn new(address: SocketAddr, flows: &[Flow]) -> Self {
        BareDialect { address, leads: flows.iter().map(|flow| Arc::new(Lead::new(flow))).collect() }
    }
}

impl<const ANSWERED: bool> Dialect for BareDialect<ANSWERED> {
    type Producer = BareProducer<ANSWERED>;
    type Consumer = BareConsumer;

    fn producer(&self, role: &Role) -> io::Result<(Link, BareProducer<ANSWERED>)> {
        let lead = Arc::clone(&self.leads[role.flow]);
        Ok((
            Link::connect(self.address, role.number, None)?,
            BareProducer { units: units(role), replied: 0, lead },
        ))
    }

    fn consumer(&self, role: &Role) -> io::Result<(Link, BareConsumer)> {
        let consumer = BareConsumer::new(role, Arc::clone(&self.leads[role.flow]));
        Ok((Link::connect(self.address, role.number, None)?, consumer))
    }

    fn idler(&self, number: usize) -> io::Result<Link> {
        Link::connect(self.address, number, None)
    }
}

fn units(role: &Role) -> Units {
    Units::new(role, |out, payload| {
        out.extend_from_slice(payload);
        0
    })
}

/// Bytes of a unit of this shape; what the programs are told.
pub(crate) fn unit_bytes(payload_bytes: usize, batch_bytes: usize) -> u64 {
    ((batch_bytes / payload_bytes).max(1) * payload_bytes) as u64
}

/// See the module.
#[derive(Debug)]
pub struct BareProducer<const ANSWERED: bool> {
    units: Units,
    /// Replies read.
    replied: u64,
    lead: Arc<Lead>,
}

impl<const ANSWERED: bool> Producer for BareProducer<ANSWERED> {
    const ANSWERED: bool = ANSWERED;

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
        let replies = bytes.len() / REPLY_BYTES;
        self.replied += replies as u64;
        if self.replied > self.units.sent() {
            return Err(io::Error::other("more replies than requests"));
        }
        Ok(replies * REPLY_BYTES)
    }

    fn sent(&self) -> u64 {
        self.units.sent()
    }

    fn acked(&self) -> u64 {
        if ANSWERED { self.replied } else { self.units.sent() }
    }
}

/// See the module.
#[derive(Debug)]
pub struct BareConsumer {
    unit_bytes: u64,
    payload_bytes: u64,
    /// Bytes used up so far.
    bytes: u64,
    lead: Arc<Lead>,
    place: usize,
}

impl BareConsumer {
    fn new(role: &Role, lead: Arc<Lead>) -> BareConsumer {
        let (unit_bytes, payload_bytes) = (units(role).unit_bytes(), role.payload_bytes as u64);
        let place = lead.join();
        BareConsumer { unit_bytes, payload_bytes, bytes: 0, lead, place }
    }
}

impl Consumer for BareConsumer {
    #[inline]
    fn take(&mut self, bytes: &[u8], tally: &mut Tally) -> io::Result<usize> {
        let before = self.bytes;
        let mut at = 0;
        while at < bytes.len() {
            let into_unit = self.bytes % self.unit_bytes;
            let rest = &bytes[at..];
            if into_unit == 0 {
                if rest.len() < super::STAMP_BYTES {
                    break; // a stamp does not come in parts
                }
                tally.stamp(rest);
            }
            let step = (self.unit_bytes - into_unit).min(rest.len() as u64);
            self.bytes += step;
            at += usize::try_from(step).expect("within the slice");
        }
        let records = self.bytes / self.payload_bytes;
        tally.records += records - before / self.payload_bytes;
        self.lead.delivered(self.place, records);
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, role};
    use super::super::units::IN_FLIGHT_MAX;
    use super::*;

    #[test]
    fn units_are_cut_as_the_program_is_told() {
        for (payload, batch) in [(128, 65_536), (128, 0), (1000, 4096), (70_000, 4096)] {
            assert_eq!(units(&role(payload, batch, 1)).unit_bytes(), unit_bytes(payload, batch));
        }
    }

    fn lead(consumers: usize) -> Arc<Lead> {
        fixture::lead(100, 1000, consumers)
    }

    #[test]
    fn what_a_producer_encodes_a_consumer_counts_in_any_pieces() {
        let role = role(100, 1000, 1000);
        let mut producer = BareProducer::<false> { units: units(&role), replied: 0, lead: lead(0) };
        let mut stream = Vec::new();
        for stamp in 1..=5 {
            assert_eq!(producer.encode(3, stamp), 3);
            stream.extend_from_slice(producer.encoded());
        }
        for piece in [7, 8, 99, 100, 1001, 100_000] {
            let lead = lead(1);
            let before = lead.room();
            lead.sent(150);
            let (mut consumer, mut tally) = (BareConsumer::new(&role, Arc::clone(&lead)), Tally::default());
            let mut held = Vec::new();
            for bytes in stream.chunks(piece) {
                held.extend_from_slice(bytes);
                let used = consumer.take(&held, &mut tally).expect("bytes are bytes");
                held.drain(..used);
            }
            assert_eq!(tally.records, 150, "in pieces of {piece}");
            assert_eq!(lead.room(), before, "all that was sent is delivered");
            let expected: Vec<u64> = (1..=5).flat_map(|stamp| [stamp; 3]).collect();
            assert_eq!(tally.stamps, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn an_answered_producer_waits_for_replies() {
        let mut producer = BareProducer::<true> { units: units(&role(128, 0, 1)), replied: 0, lead: lead(0) };
        let sent: u64 = (0..100).map(|_| producer.encode(1, 1)).sum();
        assert_eq!(sent, IN_FLIGHT_MAX);
        assert_eq!(producer.take(&[0; 2 * REPLY_BYTES + 5]).expect("replies"), 2 * REPLY_BYTES);
        assert_eq!((producer.acked(), producer.encode(9, 1)), (2, 1), "one write takes one unit");
        assert!(producer.take(&[0; 65 * REPLY_BYTES]).is_err(), "more than was asked");
    }
}
