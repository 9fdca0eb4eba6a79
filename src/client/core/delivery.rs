//! A delivered batch, in the memory it was received in.

use bytes::Bytes;

use crate::limits::HEADER_BYTES;
use crate::proto::code::Code;
use crate::proto::header::FrameHeader;
use crate::wire::batch::{Batch, BatchLimits, verify};

/// A batch the way it came: read it record by record without a copy, or take records out as `Bytes` that share
/// the receive memory.
#[derive(Debug, Clone)]
pub struct Delivery {
    partition: u32,
    header: FrameHeader,
    bytes: Bytes,
    /// Records before this one were asked for by nobody (the subscription starts inside the batch).
    skip: u32,
    limits: BatchLimits,
}

/// One record of a [`Delivery`], borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveredRecord<'a> {
    /// The topic's partition.
    pub partition: u32,
    /// The record's place there.
    pub offset: u64,
    /// When the server appended it: ns since 1970 UTC.
    pub append_time_ns: u64,
    /// The producer's time, or 0.
    pub time_ns: u64,
    /// The producer that published it.
    pub producer_id: u64,
    /// The application's bytes.
    pub payload: &'a [u8],
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The application's header; may be empty.
    pub header: &'a [u8],
}

impl Delivery {
    /// Verifies the batch.
    ///
    /// # Errors
    /// The check that failed.
    pub(crate) fn new(
        partition: u32,
        header: FrameHeader,
        bytes: Bytes,
        skip: u32,
        limits: BatchLimits,
    ) -> Result<Self, Code> {
        verify(&bytes[HEADER_BYTES..], header.record_count, &limits).map_err(|error| error.code)?;
        Ok(Delivery { partition, header, bytes, skip, limits })
    }

    /// The topic's partition.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Offset of the first record that was asked for.
    #[must_use]
    pub fn first_offset(&self) -> u64 {
        self.header.offset + u64::from(self.skip)
    }

    /// The offset after the batch: where to go on, and what to commit once it is dealt with.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.header.offset + u64::from(self.header.offset_span)
    }

    /// Records that were asked for.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.header.record_count - self.skip
    }

    /// Whether there is none; a delivery handed to the application has at least one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The frame's header: producer id, sequence, append time.
    #[must_use]
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The producer's trace context; empty for none.
    #[must_use]
    pub fn trace(&self) -> &[u8] {
        self.batch().trace()
    }

    /// The records that were asked for, in their order.
    pub fn records(&self) -> impl Iterator<Item = DeliveredRecord<'_>> {
        let batch = self.batch();
        (self.skip..self.header.record_count).map(move |index| {
            let record = batch.record(index).expect("the count is the batch's");
            DeliveredRecord {
                partition: self.partition,
                offset: self.header.offset + u64::from(index),
                append_time_ns: self.header.append_time_ns,
                time_ns: record.time_ns,
                producer_id: self.header.producer_id,
                payload: record.payload,
                key: record.key,
                header: record.header,
            }
        })
    }

    /// A part of this delivery (a record's payload or key) as `Bytes` of its own: no copy, and the memory it was
    /// received in lives for as long as it does.
    ///
    /// # Panics
    /// When `part` is not a part of this delivery.
    #[must_use]
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.bytes.slice_ref(part)
    }

    /// The payloads that were asked for, each as `Bytes` that share the receive memory.
    pub fn payloads(&self) -> impl Iterator<Item = Bytes> {
        self.records().map(|record| self.share(record.payload))
    }

    /// Constant work: the structure was proven when the delivery was made.
    fn batch(&self) -> Batch<'_> {
        verify(&self.bytes[HEADER_BYTES..], self.header.record_count, &self.limits)
            .expect("verified when the delivery was made, and immutable")
    }
}
