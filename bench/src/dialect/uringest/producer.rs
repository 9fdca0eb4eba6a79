//! The sending side: one batch encoded ahead, as often as one write takes it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use uringest::proto::code::Code;
use uringest::proto::control::Refusal;
use uringest::proto::header::{FrameHeader, Kind};
use uringest::wire::batch::BatchBuilder;

use super::patch::{Patch, Tables};
use super::{FRAME_BYTES_MAX, HEADER, refused};
use crate::dialect::{Producer, Role, WRITE_BYTES};
use crate::scenario::IN_FLIGHT_MAX;

#[allow(clippy::cast_possible_truncation)] // a small number
const IN_FLIGHT: usize = IN_FLIGHT_MAX as usize;

/// See the module.
#[derive(Debug)]
pub struct UringestProducer {
    /// The same frame, one after the other, as many as one write takes.
    frames: Vec<u8>,
    frame_bytes: usize,
    patch: Patch,
    records: u64,
    /// Most batches in flight.
    in_flight_max: u64,
    /// Bytes of `frames` that the last encoding is.
    encoded: usize,
    /// Batches encoded, which is the last one's sequence.
    pub(super) sequence: u64,
    /// The last sequence that is on its way or accepted: below `sequence` when those behind it were refused.
    pub(super) out: u64,
    /// Stamps of what is in flight, for sending it again.
    stamps: [u64; IN_FLIGHT],
    refused: Option<Refused>,
    /// How long the server asks to wait with what it refused.
    pause: Duration,
    refusals: u64,
    pub(super) acked: u64,
    /// Frame bytes sent, and how many may be.
    used: u64,
    pub(super) limit: u64,
}

/// A batch that was refused, and how many have been since it was sent, itself included.
#[derive(Debug, Clone, Copy)]
struct Refused {
    from: u64,
    answered: u64,
}

/// Where a batch's stamp is kept.
fn place(sequence: u64) -> usize {
    usize::try_from(sequence % IN_FLIGHT_MAX).expect("less than a usize")
}

/// A batch of the role's shape, and its records.
pub(super) fn batch(role: &Role, producer_id: u64, channel: u32) -> (Vec<u8>, u64) {
    let mut builder = BatchBuilder::new();
    let payload = vec![0x5a; role.payload_bytes];
    while builder.is_empty() || builder.bytes_with(&payload, None, 0, &[]) <= role.batch_bytes {
        builder.push(&payload, None, 0, &[]);
    }
    let records = builder.len() as u64;
    (builder.finish(producer_id, 1, channel), records)
}

impl UringestProducer {
    pub(super) fn new(
        role: &Role,
        (frame, records): (Vec<u8>, u64),
        tables: Arc<Tables>,
        credit: u64,
    ) -> UringestProducer {
        let fit = (WRITE_BYTES / frame.len()).min(role.units_at_once).max(1);
        UringestProducer {
            patch: Patch::new(&frame, tables),
            frames: frame.repeat(fit),
            frame_bytes: frame.len(),
            records,
            in_flight_max: role.in_flight,
            encoded: 0,
            sequence: 0,
            out: 0,
            stamps: [0; IN_FLIGHT],
            refused: None,
            pause: Duration::ZERO,
            refusals: 0,
            acked: 0,
            used: 0,
            limit: credit,
        }
    }

    /// Units that credit and the bound on batches in flight allow.
    fn allowed(&self) -> u64 {
        let in_flight = self.out - self.acked;
        let by_credit = self.limit.saturating_sub(self.used) / self.frame_bytes as u64;
        // A channel with nothing in flight may always send one frame.
        let by_credit = if in_flight == 0 { by_credit.max(1) } else { by_credit };
        by_credit.min(self.in_flight_max.saturating_sub(in_flight))
    }

    /// Takes note of a batch that was refused for want of room, and of those behind it. When all of them are
    /// answered they have to be sent again, in order (docs/protocol.md, section 7).
    fn turned_away(&mut self, header: &FrameHeader, body: &[u8]) -> io::Result<()> {
        let refusal = Refusal::decode(body).map_err(|code| io::Error::other(code.name()))?;
        let no_room = matches!(refusal.code, Code::BackPressure | Code::RingFull);
        match &mut self.refused {
            None if no_room => {
                self.refusals += 1;
                self.pause = Duration::from_micros(refusal.retry_after_us.into());
                self.refused = Some(Refused { from: header.sequence, answered: 1 });
            }
            Some(behind)
                if (no_room || refusal.code == Code::OutOfSequence) && header.sequence > behind.from =>
            {
                behind.answered += 1;
            }
            _ => return refused(header, body),
        }
        if let Some(Refused { from, answered }) = self.refused
            && from + answered > self.out
        {
            (self.out, self.refused) = (from - 1, None);
        }
        Ok(())
    }
}

impl Producer for UringestProducer {
    fn unit_records(&self) -> u64 {
        self.records
    }

    fn unit_bytes(&self) -> u64 {
        self.frame_bytes as u64
    }

    #[inline]
    fn encode(&mut self, units: u64, stamp_ns: u64) -> u64 {
        let fit = (self.frames.len() / self.frame_bytes) as u64;
        let held_back = self.refused.is_some() || self.out < self.sequence;
        let units = if held_back { 0 } else { units.min(fit).min(self.allowed()) };
        self.encoded = 0;
        for _ in 0..units {
            self.sequence += 1;
            let end = self.encoded + self.frame_bytes;
            self.patch.set(&mut self.frames[self.encoded..end], self.sequence, stamp_ns);
            self.stamps[place(self.sequence)] = stamp_ns;
            self.encoded = end;
        }
        self.out += units;
        self.used += self.encoded as u64;
        units
    }

    #[inline]
    fn encoded(&self) -> &[u8] {
        &self.frames[..self.encoded]
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        while let Some(head) = bytes[at..].first_chunk::<HEADER>() {
            let header =
                FrameHeader::parse(head, FRAME_BYTES_MAX).map_err(|code| io::Error::other(code.name()))?;
            let end = at + header.frame_bytes();
            if end > bytes.len() {
                break;
            }
            match header.kind {
                Kind::Ack => self.acked = self.acked.max(header.sequence),
                Kind::Credit => self.limit = self.limit.max(header.offset),
                Kind::Nack => self.turned_away(&header, &bytes[at + HEADER..end])?,
                _ => refused(&header, &bytes[at + HEADER..end])?,
            }
            at = end;
        }
        Ok(at)
    }

    fn sent(&self) -> u64 {
        self.sequence
    }

    fn acked(&self) -> u64 {
        self.acked
    }

    #[inline]
    fn to_resend(&self) -> Option<Duration> {
        (self.out < self.sequence && self.refused.is_none()).then_some(self.pause)
    }

    fn resend(&mut self, out: &mut Vec<u8>) {
        while self.out < self.sequence && self.allowed() > 0 {
            self.out += 1;
            let at = out.len();
            out.extend_from_slice(&self.frames[..self.frame_bytes]);
            self.patch.set(&mut out[at..], self.out, self.stamps[place(self.out)]);
            self.used += self.frame_bytes as u64;
        }
    }

    fn refusals(&self) -> u64 {
        self.refusals
    }
}
