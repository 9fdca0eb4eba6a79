//! What is done with each frame before its batch is looked at.

use std::hint::black_box;

use uringest::limits::{FRAME_BYTES_MAX_DEFAULT, HEADER_BYTES};
use uringest::proto::header::{FrameHeader, Kind, body_checksum_matches};

use super::{Piece, RECORDS_4K, Repeat, frame};

const HEADERS: u32 = 1_024;
const FRAMES: u32 = 64;

pub(super) const PIECES: &[Piece] = &[
    Piece {
        name: "frame_header",
        unit: "header",
        units: HEADERS,
        prepare: || {
            let header = |sequence| FrameHeader { sequence, ..FrameHeader::new(Kind::Credit) }.alone();
            Box::new(Headers((1..=u64::from(HEADERS)).map(header).collect()))
        },
    },
    Piece {
        name: "frame_checksum_4k",
        unit: "frame",
        units: FRAMES,
        prepare: || Box::new(Bodies((1..=u64::from(FRAMES)).map(|n| frame(RECORDS_4K, 1, n, 1)).collect())),
    },
];

/// Headers to decode and check.
struct Headers(Vec<[u8; HEADER_BYTES]>);

impl Repeat for Headers {
    fn work(&mut self) {
        for (header, sequence) in self.0.iter().zip(1..) {
            let header =
                FrameHeader::parse(black_box(header), FRAME_BYTES_MAX_DEFAULT).expect("a sealed header");
            assert!(header.sequence == sequence);
        }
    }
}

/// Whole frames to check the body of.
struct Bodies(Vec<Vec<u8>>);

impl Repeat for Bodies {
    fn work(&mut self) {
        for frame in &self.0 {
            assert!(body_checksum_matches(black_box(frame)));
        }
    }
}
