//! Sets a frame's sequence and stamp without summing its body again.
//!
//! A CRC is affine: of two inputs of one length that differ in some bytes, the checksums differ by the exclusive or of
//! what each differing byte contributes, and a byte's contribution depends on its difference and its position
//! alone. So the checksum of a frame whose sequence and stamp are zero is computed once, the contributions of
//! every value of those sixteen bytes are tabulated, and a frame is sealed with sixteen look-ups and one checksum
//! over the header, whatever the size of its body.

use std::sync::Arc;

use uringest::proto::checksum::{Crc32c, crc32c};

use super::HEADER;
use super::consumer::PAYLOAD_AT;
use crate::dialect::STAMP_BYTES;

const SEQUENCE_AT: usize = 24;
const SEQUENCE_BYTES: usize = 8;
/// What the body checksum covers of the header (docs/protocol.md, section 2).
const COVERED_FROM: usize = 4;
const COVERED_TO: usize = 32;

/// Contributions of one byte's values, for the bytes of a field.
type Contributions = [[u32; 256]; 8];

/// The tables for frames of one length. They are the same for every producer.
#[derive(Debug)]
pub struct Tables {
    frame_bytes: usize,
    sequence: Contributions,
    stamp: Contributions,
}

impl Tables {
    /// For frames of this many bytes.
    pub fn new(frame_bytes: usize) -> Tables {
        let mut covered = vec![0; frame_bytes - HEADER + COVERED_TO - COVERED_FROM];
        let sequence = contributions(&mut covered, SEQUENCE_AT - COVERED_FROM);
        let stamp = contributions(&mut covered, PAYLOAD_AT - HEADER + COVERED_TO - COVERED_FROM);
        Tables { frame_bytes, sequence, stamp }
    }

    /// The length of the frames.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }
}

/// `covered` is all zero, before and after.
fn contributions(covered: &mut [u8], at: usize) -> Contributions {
    let zero = crc32c(covered);
    let mut all = [[0; 256]; 8];
    for (byte, values) in all.iter_mut().enumerate() {
        // Contributions of different bits of a byte add up as well: eight checksums make 256 values.
        let bits: [u32; 8] = std::array::from_fn(|bit| {
            covered[at + byte] = 1 << bit;
            crc32c(covered) ^ zero
        });
        covered[at + byte] = 0;
        for (value, contribution) in values.iter_mut().enumerate() {
            let set = bits.iter().enumerate().filter(|(bit, _)| (value >> bit) & 1 == 1);
            *contribution = set.fold(0, |sum, (_, bit)| sum ^ bit);
        }
    }
    all
}

/// See the module. For one producer's frames: the same bytes but for sequence, stamp and checksums.
#[derive(Debug)]
pub struct Patch {
    /// The body checksum with sequence and stamp zero.
    base: u32,
    tables: Arc<Tables>,
}

impl Patch {
    /// For frames like `frame`.
    pub fn new(frame: &[u8], tables: Arc<Tables>) -> Patch {
        assert_eq!(frame.len(), tables.frame_bytes, "contributions depend on the length");
        let mut zeroed = frame.to_vec();
        zeroed[SEQUENCE_AT..SEQUENCE_AT + SEQUENCE_BYTES].fill(0);
        zeroed[PAYLOAD_AT..PAYLOAD_AT + STAMP_BYTES].fill(0);
        let mut crc = Crc32c::new();
        crc.update(&zeroed[COVERED_FROM..COVERED_TO]);
        crc.update(&zeroed[HEADER..]);
        Patch { base: crc.finish(), tables }
    }

    /// Sets sequence and stamp, and seals.
    #[inline]
    pub fn set(&self, frame: &mut [u8], sequence: u64, stamp_ns: u64) {
        let (sequence, stamp) = (sequence.to_le_bytes(), stamp_ns.to_le_bytes());
        frame[SEQUENCE_AT..SEQUENCE_AT + SEQUENCE_BYTES].copy_from_slice(&sequence);
        frame[PAYLOAD_AT..PAYLOAD_AT + STAMP_BYTES].copy_from_slice(&stamp);
        let body = self.base ^ sum(&self.tables.sequence, sequence) ^ sum(&self.tables.stamp, stamp);
        frame[32..36].copy_from_slice(&body.to_le_bytes());
        let header = crc32c(&frame[..60]);
        frame[60..64].copy_from_slice(&header.to_le_bytes());
    }
}

#[inline]
fn sum(all: &Contributions, bytes: [u8; 8]) -> u32 {
    let mut sum = 0;
    for (values, byte) in all.iter().zip(bytes) {
        sum ^= values[usize::from(byte)];
    }
    sum
}
