//! Builds publish frames for clients, and readdresses them.
//!
//! The frame is built where it will be sent from: payloads are appended behind the header and the table as
//! they are pushed, and `finish` adds what was collected beside them. So a payload is copied once, into the
//! frame, and a builder that gets its frames' memory back allocates nothing.
//!
//! ```text
//! header | root | vtable | table | payload vector | ends | key_ends | keys | times | header_ends | headers | trace
//! ```
//! The table is the lean one (`ends` and `payload`: 28 bytes before the first payload) until something else
//! is asked for, then the full one (76 bytes); the payload so far is moved up, once a batch at most.

use crate::limits::{FRAME_ALIGN_BYTES, HEADER_BYTES};
use crate::proto::checksum::crc32c;
use crate::proto::header::{FrameHeader, Kind, seal};

/// Where the first payload byte of a lean body is.
const LEAN_BYTES: usize = 28;
/// Where the first payload byte of a full body is.
const FULL_BYTES: usize = 76;
/// The full table's position in the body.
const FULL_TABLE: usize = 28;
/// Fields of the table, in the schema's order.
const FIELDS: usize = 9;
/// The scalar's position in the table; the slots of the eight vectors follow it in the schema's order.
const DEADLINE_SLOT: usize = 4;
const SLOTS: usize = 12;

const _: () = {
    assert!(FULL_TABLE + SLOTS + 8 * 4 + 4 == FULL_BYTES);
    assert!((FULL_TABLE + DEADLINE_SLOT).is_multiple_of(8));
    assert!(4 + 4 + 2 * FIELDS <= FULL_TABLE);
};

/// A column's ends and bytes, empty until something is in it.
#[derive(Debug, Default)]
struct Column {
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Column {
    /// Adds record `index`'s entry. Where the column begins late, the records before have empty entries.
    fn push(&mut self, index: usize, entry: &[u8]) {
        if entry.is_empty() && self.ends.is_empty() {
            return;
        }
        self.ends.resize(index, 0);
        self.bytes.extend_from_slice(entry);
        self.ends.push(length(self.bytes.len()));
    }

    fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
    }
}

/// A length or an end as it goes on the wire.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a batch stays far below 4 GiB")
}

/// Collects records and makes sealed publish frames of them. Reused for one batch after the other.
#[derive(Debug)]
pub struct BatchBuilder {
    /// The frame so far: header and body up to the last payload byte.
    frame: Vec<u8>,
    full: bool,
    ends: Vec<u32>,
    keys: Column,
    headers: Column,
    times: Vec<u64>,
    trace: Vec<u8>,
    deadline_ns: u64,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A builder with no memory of its own yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// A builder with room for a frame of this many bytes.
    #[must_use]
    pub fn with_capacity(frame_bytes: usize) -> Self {
        let mut builder = BatchBuilder {
            frame: Vec::with_capacity(frame_bytes),
            full: false,
            ends: Vec::new(),
            keys: Column::default(),
            headers: Column::default(),
            times: Vec::new(),
            trace: Vec::new(),
            deadline_ns: 0,
        };
        builder.clear();
        builder
    }

    /// Adds a record. `time_ns` 0 is no time, an empty `header` no header, an empty key no key.
    ///
    /// # Panics
    /// When the batch passes 4 GiB; keep [`BatchBuilder::bytes_with`] within the server's `frame_bytes_max`.
    #[inline]
    pub fn push(&mut self, payload: &[u8], key: Option<&[u8]>, time_ns: u64, header: &[u8]) {
        let key = key.unwrap_or_default();
        let index = self.ends.len();
        if !(key.is_empty() && header.is_empty() && time_ns == 0) || self.full {
            self.make_full();
            self.keys.push(index, key);
            self.headers.push(index, header);
            if time_ns != 0 || !self.times.is_empty() {
                self.times.resize(index, 0);
                self.times.push(time_ns);
            }
        }
        self.frame.extend_from_slice(payload);
        self.ends.push(length(self.payload_bytes()));
    }

    /// The batch is refused when it reaches the server after this time (ns since 1970 UTC); 0 for never.
    /// Holds for this batch only.
    pub fn deadline(&mut self, deadline_ns: u64) {
        if deadline_ns != 0 {
            self.make_full();
        }
        self.deadline_ns = deadline_ns;
    }

    /// A trace context for this batch.
    pub fn trace(&mut self, trace: &[u8]) {
        if !trace.is_empty() {
            self.make_full();
        }
        self.trace.clear();
        self.trace.extend_from_slice(trace);
    }

    /// Records so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of the frame as `finish` would make it now, header included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes_after(0, [0, 0, 0], !self.times.is_empty())
    }

    /// The same after one more such record.
    #[must_use]
    pub fn bytes_with(&self, payload: &[u8], key: Option<&[u8]>, time_ns: u64, header: &[u8]) -> usize {
        let more = [payload.len(), key.unwrap_or_default().len(), header.len()];
        self.bytes_after(1, more, time_ns != 0 || !self.times.is_empty())
    }

    /// The layout of `finish`, by size alone. `more`: payload, key and header bytes to come.
    fn bytes_after(&self, records: usize, more: [usize; 3], times: bool) -> usize {
        let records = self.ends.len() + records;
        let [payload, key, header] = more;
        let full = self.full || times || key + header != 0;
        let mut at =
            HEADER_BYTES + if full { FULL_BYTES } else { LEAN_BYTES } + self.payload_bytes() + payload;
        let vector = |at: usize, bytes: usize| at.next_multiple_of(4) + 4 + bytes;
        at = vector(at, 4 * records);
        for bytes in [self.keys.bytes.len() + key, self.headers.bytes.len() + header] {
            if bytes != 0 {
                at = vector(vector(at, 4 * records), bytes);
            }
        }
        if times {
            at = (at + 4).next_multiple_of(8) + 8 * records;
        }
        if !self.trace.is_empty() {
            at = vector(at, self.trace.len());
        }
        at.next_multiple_of(FRAME_ALIGN_BYTES)
    }

    /// A sealed publish frame, in memory of its own. The builder is empty again.
    ///
    /// # Panics
    /// When there is no record.
    #[must_use]
    pub fn finish(&mut self, producer_id: u64, sequence: u64, channel: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.frame.capacity());
        self.finish_into(producer_id, sequence, channel, &mut out);
        out
    }

    /// A sealed publish frame in `out`, whose former content goes and whose memory the builder takes for the
    /// next batch: handing frames back this way, nothing is allocated.
    ///
    /// # Panics
    /// When there is no record.
    pub fn finish_into(&mut self, producer_id: u64, sequence: u64, channel: u32, out: &mut Vec<u8>) {
        assert!(!self.ends.is_empty(), "a batch has at least one record");
        let payload_bytes = length(self.payload_bytes());
        let payload_at = if self.full { FULL_BYTES } else { LEAN_BYTES };
        self.put_u32(payload_at - 4, payload_bytes);
        if self.full {
            self.finish_full()
        } else {
            self.finish_lean()
        }
        self.frame.resize(self.frame.len().next_multiple_of(FRAME_ALIGN_BYTES), 0);

        let (head, body) = self.frame.split_at_mut(HEADER_BYTES);
        let header = FrameHeader {
            body_bytes: length(body.len()),
            record_count: length(self.ends.len()),
            producer_id,
            sequence,
            channel,
            ..FrameHeader::new(Kind::Publish)
        };
        let head: &mut [u8; HEADER_BYTES] = head.try_into().expect("split at the header's end");
        header.encode(head);
        seal(head, body);
        std::mem::swap(&mut self.frame, out);
        self.clear();
    }

    /// Drops every record; memory is kept.
    pub fn clear(&mut self) {
        self.frame.clear();
        self.frame.resize(HEADER_BYTES + LEAN_BYTES, 0);
        self.full = false;
        self.ends.clear();
        self.keys.clear();
        self.headers.clear();
        self.times.clear();
        self.trace.clear();
        self.deadline_ns = 0;
    }

    fn payload_bytes(&self) -> usize {
        self.frame.len() - HEADER_BYTES - if self.full { FULL_BYTES } else { LEAN_BYTES }
    }

    /// Moves the payload up behind a full table.
    fn make_full(&mut self) {
        if self.full {
            return;
        }
        let end = self.frame.len();
        self.frame.resize(end + FULL_BYTES - LEAN_BYTES, 0);
        self.frame.copy_within(HEADER_BYTES + LEAN_BYTES..end, HEADER_BYTES + FULL_BYTES);
        self.full = true;
    }

    /// root 12 | vtable 8, 12, ends 4, payload 8 | table: vtable 8 back, ends, payload 4 ahead | payload
    fn finish_lean(&mut self) {
        self.put_u32(0, 12);
        for (slot, value) in [8, 12, 4, 8].into_iter().enumerate() {
            self.put_u16(4 + 2 * slot, value);
        }
        self.put_u32(12, 8);
        self.put_u32(20, 4);
        let ends = std::mem::take(&mut self.ends);
        let ends_at = self.append_u32s(&ends);
        self.put_u32(16, ends_at - 16);
        self.ends = ends;
    }

    fn finish_full(&mut self) {
        let table = length(FULL_TABLE);
        self.put_u32(0, table);
        self.put_u16(4, 4 + 2 * 9);
        self.put_u16(6, 4 + 8 + 8 * 4);
        self.frame[HEADER_BYTES + 8..HEADER_BYTES + FULL_BYTES - 4].fill(0);
        self.put_u32(FULL_TABLE, table - 4);
        self.put_slot(1, length(FULL_BYTES - 4));

        let ends = std::mem::take(&mut self.ends);
        let at = self.append_u32s(&ends);
        self.put_slot(0, at);
        self.ends = ends;
        for (slot, is_keys) in [(2, true), (5, false)] {
            let column = std::mem::take(if is_keys { &mut self.keys } else { &mut self.headers });
            if !column.ends.is_empty() {
                let at = self.append_u32s(&column.ends);
                self.put_slot(slot, at);
                let at = self.append_bytes(&column.bytes);
                self.put_slot(slot + 1, at);
            }
            *(if is_keys { &mut self.keys } else { &mut self.headers }) = column;
        }
        if !self.times.is_empty() {
            let at = self.append_times();
            self.put_slot(4, at);
        }
        if !self.trace.is_empty() {
            let trace = std::mem::take(&mut self.trace);
            let at = self.append_bytes(&trace);
            self.put_slot(7, at);
            self.trace = trace;
        }
        if self.deadline_ns != 0 {
            self.put_u16(8 + 2 * 8, 4);
            let at = HEADER_BYTES + FULL_TABLE + DEADLINE_SLOT;
            self.frame[at..at + 8].copy_from_slice(&self.deadline_ns.to_le_bytes());
        }
    }

    /// Says in the vtable that vector `field` of the full table is there, and in its slot that it is at `at`.
    fn put_slot(&mut self, field: usize, at: u32) {
        let in_table = SLOTS + 4 * field;
        self.put_u16(8 + 2 * field, u16::try_from(in_table).expect("a small table"));
        let slot = FULL_TABLE + in_table;
        self.put_u32(slot, at - length(slot));
    }

    /// Appends a vector of u32 and returns its position in the body.
    fn append_u32s(&mut self, values: &[u32]) -> u32 {
        self.frame.resize(self.frame.len().next_multiple_of(4), 0);
        let at = length(self.frame.len() - HEADER_BYTES);
        self.frame.extend_from_slice(&length(values.len()).to_le_bytes());
        let from = self.frame.len();
        self.frame.resize(from + 4 * values.len(), 0);
        for (slot, value) in self.frame[from..].chunks_exact_mut(4).zip(values) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        at
    }

    /// Appends a vector of bytes and returns its position in the body.
    fn append_bytes(&mut self, bytes: &[u8]) -> u32 {
        self.frame.resize(self.frame.len().next_multiple_of(4), 0);
        let at = length(self.frame.len() - HEADER_BYTES);
        self.frame.extend_from_slice(&length(bytes.len()).to_le_bytes());
        self.frame.extend_from_slice(bytes);
        at
    }

    /// Appends the vector of times, whose elements lie at multiples of 8, and returns its position.
    fn append_times(&mut self) -> u32 {
        self.frame.resize((self.frame.len() + 4).next_multiple_of(8) - 4, 0);
        let at = length(self.frame.len() - HEADER_BYTES);
        self.frame.extend_from_slice(&length(self.times.len()).to_le_bytes());
        for time in &self.times {
            self.frame.extend_from_slice(&time.to_le_bytes());
        }
        at
    }

    fn put_u16(&mut self, at: usize, value: u16) {
        self.frame[HEADER_BYTES + at..HEADER_BYTES + at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.frame[HEADER_BYTES + at..HEADER_BYTES + at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// Readdresses a publish frame to another channel, for resending it on a new connection: only `channel` and
/// the header checksum change, so the batch stays byte-identical for the server's deduplication (the body
/// checksum does not cover the channel).
///
/// # Panics
/// When `frame` is shorter than a header.
pub fn rechannel(frame: &mut [u8], channel: u32) {
    frame[36..40].copy_from_slice(&channel.to_le_bytes());
    let checksum = crc32c(&frame[..60]);
    frame[60..64].copy_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
mod tests;
