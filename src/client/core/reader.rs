//! From what a socket gave to verified frames, without a copy: the receive memory of a connection.
//!
//! Owns one chunk that the driver reads into. A complete frame is split off as `Bytes`, so that a delivered
//! payload is a slice of the memory the kernel wrote. A chunk that is used up lives on for as long as a slice of
//! it does. What is copied is counted: the piece of a frame that straddles two chunks, and, while the live
//! slices pin more than `pinned_bytes_max`, each further delivery, so that a few small payloads cannot hold a
//! multiple of their size.

use bytes::{Bytes, BytesMut};

use crate::client::core::error::Error;
use crate::limits::{FRAME_BYTES_MAX_CEILING, HEADER_BYTES};
use crate::proto::code::Code;
use crate::proto::header::{FrameHeader, Kind, body_checksum_matches};

/// Bytes of a chunk of receive memory.
const CHUNK_BYTES: usize = 256 * 1024;
/// A read into less room than this is not worth its system call.
const ROOM_BYTES_MIN: usize = 16 * 1024;

/// A whole frame with a valid header and, unless `damaged`, a valid body checksum.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The parsed header.
    pub header: FrameHeader,
    /// Header and body.
    pub bytes: Bytes,
    /// The body checksum of a delivered batch does not match. (Of a control frame, that is an error at once.)
    pub damaged: bool,
}

impl Frame {
    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }
}

/// See the module.
#[derive(Debug)]
pub struct FrameReader {
    /// The rest of the current chunk; its first `filled` bytes were received.
    chunk: BytesMut,
    filled: usize,
    /// One byte of each chunk that is used up and may still be referred to, with the chunk's size.
    retired: Vec<(Bytes, usize)>,
    retired_bytes: usize,
    /// A byte of the current chunk, once a frame was split off.
    witness: Option<Bytes>,
    chunk_bytes: usize,
    pinned_bytes_max: usize,
    straddle_bytes: u64,
    pinned_copy_bytes: u64,
}

impl FrameReader {
    /// With no memory yet.
    #[must_use]
    pub fn new(pinned_bytes_max: usize) -> Self {
        FrameReader {
            chunk: BytesMut::new(),
            filled: 0,
            retired: Vec::new(),
            retired_bytes: 0,
            witness: None,
            chunk_bytes: 0,
            pinned_bytes_max,
            straddle_bytes: 0,
            pinned_copy_bytes: 0,
        }
    }

    /// Forgets a partial frame: a new connection begins.
    pub fn reset(&mut self) {
        self.filled = 0;
    }

    /// What has come of the next frame.
    #[must_use]
    pub fn partial(&self) -> &[u8] {
        &self.chunk[..self.filled]
    }

    /// Where the next bytes go; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        self.room_for(1)
    }

    /// The same, for at least so many bytes.
    pub fn room_for(&mut self, bytes: usize) -> &mut [u8] {
        let wanted = self.partial_frame_bytes().max(self.filled + bytes);
        // Renewing costs a copy of what has arrived of a frame: only where that frame does not fit, or nothing has.
        let scant = self.filled == 0 && self.chunk.len() < ROOM_BYTES_MIN;
        if self.chunk.len() < wanted || scant {
            self.renew(wanted);
        }
        &mut self.chunk[self.filled..]
    }

    /// The first `bytes` of the room were written.
    ///
    /// # Panics
    /// When that is more than the room.
    pub fn filled(&mut self, bytes: usize) {
        assert!(self.filled + bytes <= self.chunk.len(), "no more is filled than there was room");
        self.filled += bytes;
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// `Protocol`: the bytes are not frames; the connection cannot go on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        let Some(header_bytes) = self.chunk[..self.filled].first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = FrameHeader::parse(header_bytes, FRAME_BYTES_MAX_CEILING)
            .map_err(|code| Error::Protocol { code, detail: "in a frame's header".to_owned() })?;
        let frame_bytes = header.frame_bytes();
        if self.filled < frame_bytes {
            return Ok(None);
        }
        let mut bytes = self.chunk.split_to(frame_bytes).freeze();
        self.filled -= frame_bytes;
        if self.witness.is_none() {
            self.witness = Some(bytes.slice(..1));
        }
        let damaged = !body_checksum_matches(&bytes);
        if damaged && header.kind != Kind::Deliver {
            let detail = format!("in a frame of kind {:?}", header.kind);
            return Err(Error::Protocol { code: Code::BadControlChecksum, detail });
        }
        if header.kind == Kind::Deliver && self.pinned_bytes() > self.pinned_bytes_max {
            self.pinned_copy_bytes += bytes.len() as u64;
            bytes = Bytes::copy_from_slice(&bytes);
        }
        Ok(Some(Frame { header, bytes, damaged }))
    }

    /// Bytes copied because a frame lay across two chunks, and because too much memory was pinned.
    #[must_use]
    pub fn copied_bytes(&self) -> (u64, u64) {
        (self.straddle_bytes, self.pinned_copy_bytes)
    }

    /// Bytes of used-up chunks that someone referred to when the latest chunk was begun.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.retired_bytes
    }

    /// Bytes of the frame that has begun to arrive, as far as they are known.
    fn partial_frame_bytes(&self) -> usize {
        self.chunk[..self.filled]
            .first_chunk::<HEADER_BYTES>()
            .and_then(|bytes| FrameHeader::parse(bytes, FRAME_BYTES_MAX_CEILING).ok())
            .map_or(HEADER_BYTES, |header| header.frame_bytes())
    }

    fn renew(&mut self, wanted: usize) {
        if let Some(witness) = self.witness.take() {
            self.retired.push((witness, self.chunk_bytes));
        }
        let mut chunk = BytesMut::zeroed(CHUNK_BYTES.max(wanted + ROOM_BYTES_MIN));
        chunk[..self.filled].copy_from_slice(&self.chunk[..self.filled]);
        self.straddle_bytes += self.filled as u64;
        self.chunk_bytes = chunk.len();
        self.chunk = chunk; // the old one lives on in the slices, if at all
        self.retired.retain(|(witness, _)| !witness.is_unique());
        self.retired_bytes = self.retired.iter().map(|(_, bytes)| bytes).sum();
    }
}
