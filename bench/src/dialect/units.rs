//! Units of protocols without numbers or checksums: the same bytes again and again, but for the stamp.

use super::lead::Lead;
use super::{Role, STAMP_BYTES, WRITE_BYTES};

/// Units of a connection in flight, at most: as many as with uringest.
pub(super) const IN_FLIGHT_MAX: u64 = 64;

/// What a payload is filled with. Only the first of a unit begins with a stamp; the others begin with zeros, so
/// that a consumer knows the stamp wherever a server has put units into each other.
const FILL: u8 = 0x5a;

/// As many units as one write takes, encoded ahead.
#[derive(Debug)]
pub(super) struct Units {
    bytes: Vec<u8>,
    unit_bytes: usize,
    records: u64,
    stamp_at: usize,
    encoded: usize,
    sent: u64,
}

impl Units {
    /// Units of as many records as the role's batch takes. `put` appends a record with this payload, and says
    /// where in it the payload begins.
    pub(super) fn new(role: &Role, put: impl Fn(&mut Vec<u8>, &[u8]) -> usize) -> Units {
        let mut payload = vec![FILL; role.payload_bytes];
        payload[..STAMP_BYTES].fill(0);
        let mut record = Vec::new();
        let stamp_at = put(&mut record, &payload);
        let records = (role.batch_bytes / record.len()).max(1);
        let unit_bytes = records * record.len();
        let fit = (WRITE_BYTES / unit_bytes).min(role.units_at_once).max(1);
        Units {
            bytes: record.repeat(records * fit),
            unit_bytes,
            records: records as u64,
            stamp_at,
            encoded: 0,
            sent: 0,
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn unit_bytes(&self) -> u64 {
        self.unit_bytes as u64
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Encodes at most so many, as far as what is in flight and the flow's lead allow; returns how many.
    #[inline]
    pub(super) fn encode_within(&mut self, lead: &Lead, acked: u64, units: u64, stamp_ns: u64) -> u64 {
        let allowed = (IN_FLIGHT_MAX - (self.sent - acked)).min(lead.room() / self.records);
        let units = self.encode(units.min(allowed), stamp_ns);
        lead.sent(units * self.records);
        units
    }

    #[inline]
    fn encode(&mut self, units: u64, stamp_ns: u64) -> u64 {
        let fit = (self.bytes.len() / self.unit_bytes) as u64;
        let units = units.min(fit);
        self.encoded = 0;
        for _ in 0..units {
            let stamp = &mut self.bytes[self.encoded + self.stamp_at..][..STAMP_BYTES];
            stamp.copy_from_slice(&stamp_ns.to_le_bytes());
            self.encoded += self.unit_bytes;
        }
        self.sent += units;
        units
    }

    #[inline]
    pub(super) fn encoded(&self) -> &[u8] {
        &self.bytes[..self.encoded]
    }
}
