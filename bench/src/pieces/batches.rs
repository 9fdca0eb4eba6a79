//! Verifying a batch: structure, bounds, and the scan over the ends of its records.

use std::hint::black_box;

use uringest::limits::{BATCH_RECORDS_MAX, HEADER_BYTES};
use uringest::wire::batch::{BatchLimits, verify};

use super::{Piece, RECORDS_4K, RECORDS_64K, Repeat, frame};

const LIMITS: BatchLimits = BatchLimits { record_bytes_max: 64 * 1024, records_max: BATCH_RECORDS_MAX };

pub(super) const PIECES: &[Piece] = &[
    Piece { name: "batch_verify_1", unit: "batch", units: 1_024, prepare: || batches(1, 1_024) },
    Piece { name: "batch_verify_4k", unit: "batch", units: 256, prepare: || batches(RECORDS_4K, 256) },
    Piece { name: "batch_verify_64k", unit: "batch", units: 64, prepare: || batches(RECORDS_64K, 64) },
];

fn batches(records: u32, times: u32) -> Box<dyn Repeat> {
    Box::new(Batch { frame: frame(records, 1, 1, 1), records, times })
}

struct Batch {
    frame: Vec<u8>,
    records: u32,
    times: u32,
}

impl Repeat for Batch {
    fn work(&mut self) {
        for _ in 0..self.times {
            let batch =
                verify(black_box(&self.frame[HEADER_BYTES..]), self.records, &LIMITS).expect("a batch");
            assert!(batch.len() == self.records);
        }
    }
}
