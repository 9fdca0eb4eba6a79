//! Frames: headers, whole frames in a stream that is cut anywhere, and what is set in them in place.
//!
//! What is accepted and the reason for what is not are held to docs/protocol.md, section 2, as a list of checks that shares
//! nothing with the decoder, its CRC neither.

use crate::mutation::mutate;
use crate::story::Story;
use uringest::client::core::{Error, FrameReader};
use uringest::limits::{FRAME_BYTES_MAX_CEILING, HEADER_BYTES};
use uringest::proto::code::Code;
use uringest::proto::header::{FrameHeader, Kind, body_checksum_matches, seal, stamp};
use uringest::wire::batch::rechannel;

/// The largest frame a header may announce.
const LIMITS: [u32; 4] = [16 * 1024, 128 * 1024, 4096, FRAME_BYTES_MAX_CEILING];
/// Frames of one stream.
const FRAMES_MAX: u8 = 6;
/// Bytes a reader may pin, small enough to be passed.
const PINNED_BYTES: usize = 2000;

/// One story. The first byte says of which kind.
pub fn run(story: &[u8]) {
    let mut story = Story(story);
    match story.byte() % 4 {
        0 => header(&mut story, false),
        1 => header(&mut story, true),
        2 => {
            let bytes = told_stream(&mut story);
            stream(&bytes, &mut story);
        }
        _ => {
            let pieces = story.bytes(4);
            stream(story.0, &mut Story(pieces));
        }
    }
}

/// The bytes of a header as they are, or with a checksum that holds: then what lies behind that check is reached.
fn header(story: &mut Story<'_>, sealed: bool) {
    let frame_bytes_max = LIMITS[usize::from(story.byte()) % LIMITS.len()];
    let mut bytes = [0; HEADER_BYTES];
    let told = story.bytes(HEADER_BYTES);
    bytes[..told.len()].copy_from_slice(told);
    if sealed {
        let checksum = crc32c(&[&bytes[..60]]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
    }
    let parsed = FrameHeader::parse(&bytes, frame_bytes_max);
    let ruled = rule(&bytes, frame_bytes_max);
    assert_eq!(parsed.map(|header| header.kind as u8), ruled, "{bytes:?}, {frame_bytes_max}");
    begun(&bytes, parsed);
    if let Ok(header) = parsed {
        accepted(&bytes, header);
    }
}

/// docs/protocol.md, section 2, "A receiver checks", word by word; the kind where it passes.
fn rule(bytes: &[u8; HEADER_BYTES], frame_bytes_max: u32) -> Result<u8, Code> {
    let number = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte))
    };
    let (kind, body_bytes) = (bytes[3], number(4, 4));
    let flags: u64 = match kind {
        6 => 0x0032,
        14 => 0x000f,
        _ => 0,
    };
    let header_only = [6, 11, 13, 14, 15, 16, 17, 20, 21].contains(&kind);
    let batch = [5, 10].contains(&kind);
    let most = if batch { u64::from(frame_bytes_max) } else { 64 + 4096 };
    if &bytes[..2] != b"UR" {
        Err(Code::BadMagic)
    } else if bytes[2] != 1 {
        Err(Code::BadVersion)
    } else if number(60, 4) != u64::from(crc32c(&[&bytes[..60]])) {
        Err(Code::BadHeaderChecksum)
    } else if !(1..=21).contains(&kind) {
        Err(Code::BadKind)
    } else if number(10, 2) != 0 || number(8, 2) & !flags != 0 {
        Err(Code::ReservedNotZero)
    } else if body_bytes % 8 != 0 || (header_only && body_bytes != 0) {
        Err(Code::BadLength)
    } else if 64 + body_bytes > most {
        Err(Code::FrameTooLarge)
    } else {
        Ok(kind)
    }
}

/// The beginning of a header is refused exactly where the whole would be for it.
fn begun(bytes: &[u8; HEADER_BYTES], parsed: Result<FrameHeader, Code>) {
    for length in 0..HEADER_BYTES {
        let begun = FrameHeader::check_begun(&bytes[..length]);
        let refused = bytes.iter().zip(b"UR").take(length).any(|(byte, magic)| byte != magic);
        assert_eq!(begun, if refused { Err(Code::BadMagic) } else { Ok(()) }, "{length} bytes");
        assert!(begun.is_ok() || parsed == Err(Code::BadMagic));
    }
}

/// What holds for every header that is accepted.
fn accepted(bytes: &[u8; HEADER_BYTES], header: FrameHeader) {
    let mut again = [0; HEADER_BYTES];
    header.encode(&mut again);
    assert_eq!(&again, bytes, "every byte means something");

    // What the server sets leaves what is the producer's.
    let mut stamped = *bytes;
    stamp(&mut stamped, 7, u64::MAX - 1, 9, 11);
    let mine = FrameHeader { channel: 7, offset: u64::MAX - 1, offset_span: 9, append_time_ns: 11, ..header };
    let expected =
        rule(&stamped, FRAME_BYTES_MAX_CEILING).map(|_| FrameHeader { kind: Kind::Deliver, ..mine });
    assert_eq!(FrameHeader::parse(&stamped, FRAME_BYTES_MAX_CEILING), expected);
    assert_eq!(stamped[4..36], bytes[4..36]);

    let mut moved = *bytes;
    rechannel(&mut moved, 3);
    assert_eq!(FrameHeader::parse(&moved, FRAME_BYTES_MAX_CEILING), Ok(FrameHeader { channel: 3, ..header }));

    let alone = header.alone();
    assert!(
        body_checksum_matches(&alone) && header.frame_bytes() == HEADER_BYTES + header.body_bytes as usize
    );
    let parsed =
        FrameHeader::parse(&alone, FRAME_BYTES_MAX_CEILING).expect("a header is a frame of any kind");
    let body_checksum = crc32c(&[&alone[4..32]]);
    assert_eq!(parsed, FrameHeader { body_bytes: 0, body_checksum, ..header });
}

/// Frames as peers send them, and what happened to them on the way.
fn told_stream(story: &mut Story<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..story.byte() % FRAMES_MAX + 1 {
        let Some(kind) = Kind::from_number(story.byte() % 22) else { continue };
        let body_bytes = if kind.is_header_only() { 0 } else { usize::from(story.byte()) * 8 };
        let mut body = story.bytes(body_bytes).to_vec();
        body.resize(body_bytes, 0);
        let fields = [story.byte(), story.byte(), story.byte()].map(u64::from);
        let header = FrameHeader {
            body_bytes: u32::try_from(body_bytes).expect("small"),
            sequence: fields[0] << 56 | 1,
            producer_id: fields[1],
            offset: fields[2] << 60,
            ..FrameHeader::new(kind)
        };
        let mut head = [0; HEADER_BYTES];
        header.encode(&mut head);
        seal(&mut head, &body);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&body);
    }
    mutate(&mut bytes, story);
    bytes
}

/// What a stream is, frame by frame, and what ends it.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    /// Header and body, and whether the body is damaged.
    frames: Vec<(Vec<u8>, bool)>,
    fault: Option<Code>,
    /// What has come of a frame that is not whole.
    rest: Vec<u8>,
}

/// A stream's frames by the rule, from all of its bytes at once.
fn plain(mut bytes: &[u8]) -> Read {
    let mut read = Read { frames: Vec::new(), fault: None, rest: Vec::new() };
    while let Some(head) = bytes.first_chunk() {
        let kind = match rule(head, FRAME_BYTES_MAX_CEILING) {
            Ok(kind) => kind,
            Err(code) => {
                read.fault = Some(code);
                return read;
            }
        };
        let length = HEADER_BYTES + u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if bytes.len() < length {
            break;
        }
        let (frame, rest) = bytes.split_at(length);
        let damaged = crc32c(&[&frame[4..32], &frame[64..]]).to_le_bytes() != frame[32..36];
        if damaged && kind != 10 {
            read.fault = Some(Code::BadControlChecksum);
            return read;
        }
        read.frames.push((frame.to_vec(), damaged));
        bytes = rest;
    }
    read.rest = bytes.to_vec();
    read
}

/// A stream is the same frames however it is cut, and whether or not somebody keeps them.
fn stream(bytes: &[u8], story: &mut Story<'_>) {
    let expected = plain(bytes);
    let sizes: Vec<usize> = (0..4).map(|_| usize::from(story.byte())).collect();
    for sizes in [&sizes[..], &[1], &[usize::MAX]] {
        for keep in [false, true] {
            assert_eq!(in_pieces(bytes, sizes, keep), expected, "in pieces of {sizes:?}");
        }
    }
}

fn in_pieces(mut bytes: &[u8], sizes: &[usize], keep: bool) -> Read {
    let mut reader = FrameReader::new(PINNED_BYTES);
    let mut read = Read { frames: Vec::new(), fault: None, rest: Vec::new() };
    let mut kept = Vec::new();
    for size in sizes.iter().map(|&size| size.max(1)).cycle() {
        loop {
            match reader.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert_eq!(frame.body().len(), frame.header.body_bytes as usize);
                    assert_eq!(body_checksum_matches(&frame.bytes), !frame.damaged);
                    read.frames.push((frame.bytes.to_vec(), frame.damaged));
                    if keep {
                        kept.push(frame.bytes);
                    }
                }
                Err(Error::Protocol { code, .. }) => {
                    read.fault = Some(code);
                    return read;
                }
                Err(other) => panic!("{other}"),
            }
        }
        if bytes.is_empty() {
            break;
        }
        let room = reader.room();
        let length = size.min(room.len()).min(bytes.len());
        room[..length].copy_from_slice(&bytes[..length]);
        bytes = &bytes[length..];
        reader.filled(length);
    }
    for (kept, (frame, _)) in kept.iter().zip(&read.frames) {
        assert_eq!(kept, frame, "what was handed out does not change");
    }
    read.rest = reader.partial().to_vec();
    read
}

/// CRC-32C bit by bit, as docs/protocol.md has it.
fn crc32c(pieces: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in pieces.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}
