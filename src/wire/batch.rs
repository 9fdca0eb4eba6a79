//! A verified, borrowed view over a batch: the body of `publish` and `deliver` (`schemas/batch.fbs`).
//!
//! [`verify`] proves everything that reading relies on, once: the FlatBuffers structure, that every vector
//! has one entry a record, and that every vector of ends never decreases and ends where its bytes end. After
//! that a record is found by two loads and no check can fail.
//!
//! The scan over a vector of ends has no branch for each record. With `prev` the end before (0 at first),
//! `end` and `length = end - prev` as 32-bit two's complement numbers, all of `end`, `length` and
//! `length_max - length` are non-negative exactly when the ends are below 2^31, never decrease, and no
//! record is too long; so the sign bit of all of them or-ed together is the answer for the whole vector, and
//! the loop is four plain vector operations for each group of lanes. Since no end reaches 2^31, a sum that
//! wraps cannot pass. Only a batch that failed is scanned again, record by record, to name the culprit.
//!
//! The structure is walked here ([`table`]) and not by the generated verifier, which takes some 70 ns more
//! for a table of nine fields: most of the cost of a batch of one. The tests hold that both say the same of
//! any bytes.

mod table;

use crate::proto::code::Code;
pub use crate::wire::build::{BatchBuilder, rechannel};

/// What a batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes of one record's payload; its key and its header each keep to it too. Below 2^31.
    pub record_bytes_max: u32,
    /// Records of one batch.
    pub records_max: u32,
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchError {
    /// For the nack.
    pub code: Code,
    /// The index of the first record at fault, where one is.
    pub record: Option<u32>,
    /// Which check failed.
    pub detail: &'static str,
}

impl BatchError {
    const fn whole(code: Code, detail: &'static str) -> Self {
        BatchError { code, record: None, detail }
    }
}

impl std::fmt::Display for BatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.record {
            Some(record) => write!(f, "{}: {} (record {record})", self.code, self.detail),
            None => write!(f, "{}: {}", self.code, self.detail),
        }
    }
}

impl std::error::Error for BatchError {}

/// A column of byte strings: the ends as they lie on the wire, and the bytes.
#[derive(Debug, Clone, Copy)]
struct Column<'a> {
    ends: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Column<'a> {
    const ABSENT: Column<'static> = Column { ends: &[], bytes: &[] };

    /// Entry `index` of a verified column; empty in an absent one.
    #[inline]
    fn entry(&self, index: usize) -> &'a [u8] {
        if self.ends.is_empty() {
            return &[];
        }
        let from = if index == 0 { 0 } else { end_at(self.ends, index - 1) };
        &self.bytes[from..end_at(self.ends, index)]
    }

    /// Whether the ends never decrease up to the length of the bytes, and no entry is too long. There is at least one.
    #[inline]
    fn is_good(&self, limits: &BatchLimits) -> bool {
        let last = end_at(self.ends, self.ends.len() / 4 - 1);
        last == self.bytes.len() && scan(self.ends, limits.record_bytes_max)
    }
}

#[inline]
fn end_at(ends: &[u8], index: usize) -> usize {
    let at = index * 4;
    u32::from_le_bytes([ends[at], ends[at + 1], ends[at + 2], ends[at + 3]]) as usize
}

/// A batch that [`verify`] has accepted.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    len: u32,
    payload: Column<'a>,
    keys: Column<'a>,
    headers: Column<'a>,
    times: &'a [u8],
    trace: &'a [u8],
    deadline_ns: u64,
}

/// One record of a batch, borrowed from the frame's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the batch; its offset is the frame's `offset` plus this.
    pub index: u32,
    /// The application's bytes.
    pub payload: &'a [u8],
    /// Absent and empty are the same.
    pub key: Option<&'a [u8]>,
    /// The producer's time in ns since 1970 UTC; 0 when it gave none.
    pub time_ns: u64,
    /// Opaque to the server; empty when the producer gave none.
    pub header: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Records; at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // a verified batch is never empty
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// When the batch is of no more use, in ns since 1970 UTC; 0 for never.
    #[must_use]
    pub const fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// The trace context, opaque; empty when there is none.
    #[must_use]
    pub const fn trace(&self) -> &'a [u8] {
        self.trace
    }

    /// Bytes of all payloads.
    #[must_use]
    pub const fn payload_bytes(&self) -> usize {
        self.payload.bytes.len()
    }

    /// Record `index`, if the batch has so many.
    #[must_use]
    #[inline]
    pub fn record(&self, index: u32) -> Option<Record<'a>> {
        if index >= self.len {
            return None;
        }
        let i = index as usize;
        let key = self.keys.entry(i);
        let time_ns = match self.times.get(i * 8..i * 8 + 8) {
            Some(bytes) => u64::from_le_bytes(bytes.try_into().expect("eight bytes")),
            None => 0,
        };
        Some(Record {
            index,
            payload: self.payload.entry(i),
            key: (!key.is_empty()).then_some(key),
            time_ns,
            header: self.headers.entry(i),
        })
    }

    /// The records in their order.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records { batch: *self, next: 0 }
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = Record<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.records()
    }
}

/// See [`Batch::records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    batch: Batch<'a>,
    next: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        let record = self.batch.record(self.next)?;
        self.next += 1;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.batch.len - self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// What is wrong with a body that is no table: nothing but that there is none, where no record is said to be in it.
#[cold]
fn no_table(body: &[u8], record_count: u32) -> BatchError {
    if body.is_empty() && record_count == 0 {
        return BatchError::whole(Code::EmptyBatch, "the batch has no body");
    }
    BatchError::whole(Code::BadBatch, "the body is not a Batch table")
}

/// Verifies the body of a batch frame in place. `record_count` is the frame header's.
///
/// # Errors
/// The first check that fails: `EmptyBatch` (no body, and none said), `BadBatch` (structure), `EmptyBatch`,
/// `TooManyRecords`, `CountMismatch`, `EndsNotMonotonic`, `RecordTooLarge`.
#[inline]
pub fn verify<'a>(body: &'a [u8], record_count: u32, limits: &BatchLimits) -> Result<Batch<'a>, BatchError> {
    debug_assert!(limits.record_bytes_max <= i32::MAX.unsigned_abs());
    let Some(table) = table::read(body) else {
        return Err(no_table(body, record_count));
    };
    let (keys, headers) = (column(table.key_ends, table.keys)?, column(table.header_ends, table.headers)?);
    let ends = table.ends;
    let records = ends.len() / 4;
    if records == 0 {
        return Err(BatchError::whole(Code::EmptyBatch, "the batch has no records"));
    }
    if records > limits.records_max as usize {
        return Err(BatchError::whole(Code::TooManyRecords, "more records than batch_records_max"));
    }
    if records != record_count as usize {
        return Err(BatchError::whole(Code::CountMismatch, "record_count is not the number of ends"));
    }
    let as_many = |column: &Option<Column<'_>>| column.is_none_or(|column| column.ends.len() == ends.len());
    if !as_many(&keys) || !as_many(&headers) {
        return Err(BatchError::whole(Code::CountMismatch, "a vector of ends has another length than ends"));
    }
    if table.times.is_some_and(|times| times.len() / 8 != records) {
        return Err(BatchError::whole(Code::CountMismatch, "times has another length than ends"));
    }
    let payload = Column { ends, bytes: table.payload };
    let good = |column: &Option<Column<'_>>| column.is_none_or(|column| column.is_good(limits));
    if !payload.is_good(limits) || !good(&keys) || !good(&headers) {
        return Err(blame([Some(payload), keys, headers], limits.record_bytes_max));
    }
    Ok(Batch {
        len: record_count,
        payload,
        keys: keys.unwrap_or(Column::ABSENT),
        headers: headers.unwrap_or(Column::ABSENT),
        times: table.times.unwrap_or_default(),
        trace: table.trace,
        deadline_ns: table.deadline_ns,
    })
}

/// An optional column: both vectors or neither.
#[inline]
fn column<'a>(ends: Option<&'a [u8]>, bytes: Option<&'a [u8]>) -> Result<Option<Column<'a>>, BatchError> {
    match (ends, bytes) {
        (None, None) => Ok(None),
        (Some(ends), Some(bytes)) => Ok(Some(Column { ends, bytes })),
        _ => Err(BatchError::whole(Code::BadBatch, "a vector of ends without its bytes, or the reverse")),
    }
}

/// Whether the ends are below 2^31 and never decrease, and no entry is longer than `length_max`: see the
/// module's text. `ends` holds at least one.
#[inline]
#[allow(clippy::cast_possible_wrap)] // the arithmetic is on the two's complement bits
fn scan(ends: &[u8], length_max: u32) -> bool {
    let length_max = length_max as i32;
    let i32_of = |bytes: &[u8]| i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let first = i32_of(&ends[..4]);
    let mut signs = first | length_max.wrapping_sub(first);
    let before = &ends[..ends.len() - 4];
    for (prev, end) in before.chunks_exact(4).zip(ends[4..].chunks_exact(4)) {
        let end = i32_of(end);
        let length = end.wrapping_sub(i32_of(prev));
        signs |= end | length | length_max.wrapping_sub(length);
    }
    signs >= 0
}

/// Names what was refused: ends first, of all columns, and only then lengths.
#[cold]
#[inline(never)]
fn blame(columns: [Option<Column<'_>>; 3], length_max: u32) -> BatchError {
    let u32_of = |end: &[u8]| u32::from_le_bytes([end[0], end[1], end[2], end[3]]);
    for column in columns.iter().flatten() {
        let mut prev = 0;
        for (record, end) in (0u32..).zip(column.ends.chunks_exact(4).map(u32_of)) {
            if end < prev || end as usize > column.bytes.len() {
                let detail = "an end is below the one before it or beyond the bytes";
                return BatchError { code: Code::EndsNotMonotonic, record: Some(record), detail };
            }
            prev = end;
        }
        if prev as usize != column.bytes.len() {
            let detail = "the last end is not the length of the bytes";
            return BatchError::whole(Code::EndsNotMonotonic, detail);
        }
    }
    let names = ["a record's payload", "a record's key", "a record's header"];
    for (column, detail) in columns.iter().zip(names) {
        let mut prev = 0;
        let ends = column.iter().flat_map(|column| column.ends.chunks_exact(4).map(u32_of));
        for (record, end) in (0u32..).zip(ends) {
            if end - prev > length_max {
                return BatchError { code: Code::RecordTooLarge, record: Some(record), detail };
            }
            prev = end;
        }
    }
    // An end of 2^31 or more is refused by its sign: no frame is so long.
    BatchError::whole(Code::EndsNotMonotonic, "an end lies beyond 2 GiB")
}

#[cfg(test)]
mod tests;
