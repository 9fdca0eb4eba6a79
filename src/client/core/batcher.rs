//! The open batch of one partition: records until size or time closes it.

use crate::client::core::producer::Record;
use crate::wire::batch::BatchBuilder;

/// See the module.
#[derive(Debug)]
pub(crate) struct Batcher {
    builder: BatchBuilder,
    bytes_max: usize,
    records_max: u32,
    /// When the first record came in.
    since_ns: u64,
    /// The number of the first record among all of the producer's.
    first_global: u64,
}

impl Batcher {
    pub fn new(bytes_max: usize, records_max: u32) -> Self {
        Batcher {
            builder: BatchBuilder::with_capacity(bytes_max),
            bytes_max,
            records_max: records_max.max(1),
            since_ns: 0,
            first_global: 0,
        }
    }

    /// Whether the record can go into the batch with what is there already.
    pub fn fits(&self, record: &Record<'_>) -> bool {
        self.builder.is_empty()
            || (self.builder.len() < self.records_max as usize
                && self.builder.bytes_with(record.payload, record.key, record.time_ns, record.header)
                    <= self.bytes_max)
    }

    pub fn push(&mut self, record: &Record<'_>, global: u64, now_ns: u64) {
        if self.builder.is_empty() {
            self.since_ns = now_ns;
            self.first_global = global;
        }
        self.builder.push(record.payload, record.key, record.time_ns, record.header);
    }

    /// Nothing of any use would still fit.
    pub fn is_full(&self) -> bool {
        self.builder.len() >= self.records_max as usize || self.builder.bytes() >= self.bytes_max
    }

    pub fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    pub fn records(&self) -> u32 {
        u32::try_from(self.builder.len()).expect("a batch's records are limited")
    }

    pub fn bytes(&self) -> usize {
        if self.builder.is_empty() { 0 } else { self.builder.bytes() }
    }

    pub fn since_ns(&self) -> u64 {
        self.since_ns
    }

    pub fn first_global(&self) -> u64 {
        self.first_global
    }

    /// The sealed frame; the batcher is empty again.
    pub fn close(&mut self, producer_id: u64, sequence: u64, deadline_ns: u64) -> Vec<u8> {
        self.builder.deadline(deadline_ns);
        self.builder.finish(producer_id, sequence, 0)
    }
}
