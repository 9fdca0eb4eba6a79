//! Random logs: what was written, before anything happens to it.

use proptest::prelude::*;
use uringest::commit_log::BLOCK_BYTES;

use crate::log_writer::{BLOCK, Batch, Writer};

/// Blocks of a segment's file, its header's included.
pub const SEGMENT_BLOCKS: usize = 24;

/// One act of a writer.
#[derive(Debug, Clone)]
pub enum Act {
    /// A flush.
    Flush(Vec<Body>),
    /// More frames in the last flush.
    Grow(Vec<Body>),
    /// Everything written is durable from now on.
    Sync,
    /// The rest of the segment stays empty.
    Roll,
}

/// A batch's body.
#[derive(Debug, Clone)]
pub enum Body {
    /// Bytes of one value.
    Plain { bytes: usize, value: u8, records: u32, producer: u8 },
    /// The last frame and the last flush's header once more, at a place where a block of the file begins.
    Impostor { producer: u8 },
}

pub fn body() -> impl Strategy<Value = Body> {
    let bytes = prop_oneof![4 => 0_usize..400, 2 => 0_usize..3_000, 1 => 3_000_usize..14_000];
    prop_oneof![
        8 => (bytes, any::<u8>(), 1_u32..5, 1_u8..4).prop_map(|(bytes, value, records, producer)| Body::Plain {
            bytes,
            value,
            records,
            producer,
        }),
        1 => (1_u8..4).prop_map(|producer| Body::Impostor { producer }),
    ]
}

pub fn acts(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Act>> {
    // A flush may hold nothing, and is written again only with more in it: log-format.md, section 5.
    let bodies = |least| proptest::collection::vec(body(), least..6);
    let act = prop_oneof![
        4 => bodies(0).prop_map(Act::Flush),
        4 => bodies(1).prop_map(Act::Grow),
        2 => Just(Act::Sync),
        1 => Just(Act::Roll),
    ];
    proptest::collection::vec(act, count)
}

/// Writes the story; segments are numbered from 1, and the files held what `garbage` makes before.
pub struct Teller {
    pub log: Writer,
    pub sequences: [u64; 4],
    pub segment: u64,
    garbage: fn(u64, usize) -> Vec<u8>,
}

impl Teller {
    pub fn new(log: Writer, first_segment: u64, garbage: fn(u64, usize) -> Vec<u8>) -> Teller {
        let mut teller = Teller { log, sequences: [0; 4], segment: first_segment - 1, garbage };
        teller.roll();
        teller
    }

    pub fn tell(&mut self, acts: &[Act]) {
        for act in acts {
            match act {
                Act::Flush(bodies) => self.flush(bodies),
                Act::Grow(bodies) => {
                    let sequences = self.sequences;
                    let batches = self.batches(bodies);
                    if !self.log.grow(&batches) {
                        self.sequences = sequences;
                        self.flush(bodies);
                    }
                }
                Act::Sync => self.log.sync(),
                Act::Roll => self.roll(),
            }
        }
    }

    fn flush(&mut self, bodies: &[Body]) {
        let sequences = self.sequences;
        let batches = self.batches(bodies);
        if !self.log.flush(&batches) {
            self.sequences = sequences;
            self.roll();
            let batches = self.batches(bodies);
            assert!(self.log.flush(&batches), "a story's flush fits in a segment");
        }
    }

    fn roll(&mut self) {
        self.segment += 1;
        let before = (self.garbage)(self.segment, SEGMENT_BLOCKS * BLOCK);
        self.log.begin(self.segment, nonce(self.segment), before);
    }

    fn batches(&mut self, bodies: &[Body]) -> Vec<Batch> {
        bodies.iter().map(|body| self.batch(body)).collect()
    }

    fn batch(&mut self, body: &Body) -> Batch {
        let (producer, records, bytes) = match body {
            Body::Plain { bytes, value, records, producer } => (*producer, *records, vec![*value; *bytes]),
            Body::Impostor { producer } => (*producer, 1, self.impostor()),
        };
        let sequence = &mut self.sequences[usize::from(producer)];
        *sequence += 1;
        Batch { producer_id: u64::from(producer), sequence: *sequence, records, body: bytes }
    }

    /// A body that holds what came before, at every eighth byte of a block somewhere: a frame and a flush header that
    /// are whole. Its flush header has another nonce, as nobody outside knows the right one.
    fn impostor(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let flush = self.log.flushes.last().map(|flush| {
            let mut header = flush.header;
            header.nonce ^= 1;
            header.position += BLOCK_BYTES;
            header.first_offset = self.log.end.offset;
            header.encode()
        });
        let frame = self.log.frames.last().map(|frame| frame.bytes.clone()).unwrap_or_default();
        while bytes.len() < 2 * BLOCK {
            bytes.extend_from_slice(flush.as_ref().map_or(&[][..], |header| &header[..]));
            bytes.extend_from_slice(&frame[..frame.len().min(256)]);
            bytes.extend_from_slice(&[0; 8]);
        }
        bytes
    }
}

/// The nonce of a segment.
pub fn nonce(sequence: u64) -> u64 {
    0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(sequence + 1)
}

/// A file that was made for it.
pub fn zeros(_sequence: u64, bytes: usize) -> Vec<u8> {
    vec![0; bytes]
}
