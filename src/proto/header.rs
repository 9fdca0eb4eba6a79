//! The 64-byte frame header: its layout, its checks, and the stamp the server sets in place.
//!
//! ```text
//!  0 u16 magic          4 u32 body_bytes    P   32 u32 body_checksum  = CRC-32C(bytes 4..32 ++ body)
//!  2 u8  version        8 u16 flags         P   36 u32 channel        S
//!  3 u8  kind          10 u16 reserved (0)  P   40 u64 offset         S
//!                      12 u32 record_count  P   48 u64 append_time_ns S
//!                      16 u64 producer_id   P   56 u32 offset_span    S
//!                      24 u64 sequence      P   60 u32 header_checksum = CRC-32C(bytes 0..60)
//! ```
//! Little-endian. P: the producer's, covered by the body checksum from producer to consumer.
//! S: the server's, filled in place at ingest; on a publish frame they are zero except `channel`.

use crate::limits::{CONTROL_BODY_BYTES_MAX, FRAME_ALIGN_BYTES, HEADER_BYTES};
use crate::mutation::{self, Mutation};
use crate::proto::checksum::{Crc32c, crc32c};
use crate::proto::code::Code;

/// The first two bytes of every frame: `U` `R`.
pub const MAGIC: u16 = u16::from_le_bytes(*b"UR");
/// The protocol version this build speaks.
pub const VERSION: u8 = 1;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // docs/protocol.md has a section for each
pub enum Kind {
    Hello = 1,
    Welcome = 2,
    Open = 3,
    Opened = 4,
    Publish = 5,
    Ack = 6,
    Nack = 7,
    Subscribe = 8,
    Subscribed = 9,
    Deliver = 10,
    Credit = 11,
    Commit = 12,
    Committed = 13,
    Gap = 14,
    Ping = 15,
    Pong = 16,
    Drain = 17,
    Close = 18,
    Error = 19,
    Release = 20,
    Unsubscribe = 21,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: &'static [Kind] = &[
        Kind::Hello,
        Kind::Welcome,
        Kind::Open,
        Kind::Opened,
        Kind::Publish,
        Kind::Ack,
        Kind::Nack,
        Kind::Subscribe,
        Kind::Subscribed,
        Kind::Deliver,
        Kind::Credit,
        Kind::Commit,
        Kind::Committed,
        Kind::Gap,
        Kind::Ping,
        Kind::Pong,
        Kind::Drain,
        Kind::Close,
        Kind::Error,
        Kind::Release,
        Kind::Unsubscribe,
    ];

    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Kind> {
        if number == 0 || number as usize > Kind::ALL.len() {
            return None;
        }
        Some(Kind::ALL[number as usize - 1])
    }

    /// Whether a frame of this kind is its header alone.
    #[must_use]
    pub const fn is_header_only(self) -> bool {
        matches!(
            self,
            Kind::Ack
                | Kind::Credit
                | Kind::Committed
                | Kind::Gap
                | Kind::Ping
                | Kind::Pong
                | Kind::Drain
                | Kind::Release
                | Kind::Unsubscribe
        )
    }

    /// Whether the frame carries a batch; every other kind carries a control table or nothing.
    #[must_use]
    pub const fn is_batch(self) -> bool {
        matches!(self, Kind::Publish | Kind::Deliver)
    }
}

/// `ack`: this batch had been stored before; `offset` is where.
pub const FLAG_DUPLICATE: u16 = 0x0002;
/// `ack`: the level that was reached, in bits 4 and 5 (see [`AckLevel`]).
pub const FLAG_ACK_LEVEL_SHIFT: u16 = 4;

/// What an acknowledgement promises.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum AckLevel {
    /// In the server's memory, in order.
    #[default]
    Received = 0,
    /// In the log's file: survives the end of the process, not of the machine. Topic kind `log` only.
    Written = 1,
    /// On the disk: survives power loss. Topic kind `log` only.
    Durable = 2,
}

impl AckLevel {
    /// The level with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<AckLevel> {
        match number {
            0 => Some(AckLevel::Received),
            1 => Some(AckLevel::Written),
            2 => Some(AckLevel::Durable),
            _ => None,
        }
    }

    /// As configurations and people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AckLevel::Received => "received",
            AckLevel::Written => "written",
            AckLevel::Durable => "durable",
        }
    }

    /// The level in the flags of an `ack`.
    #[must_use]
    pub const fn from_flags(flags: u16) -> Option<AckLevel> {
        AckLevel::from_number(((flags >> FLAG_ACK_LEVEL_SHIFT) & 0b11) as u8)
    }

    /// The bits of the level in the flags of an `ack`.
    #[must_use]
    pub const fn flags(self) -> u16 {
        (self as u16) << FLAG_ACK_LEVEL_SHIFT
    }
}

/// Why a `gap` frame was sent; the number stands in the frame's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum GapReason {
    /// Retention took the records before the consumer read them (or before it subscribed).
    Retention = 1,
    /// The topic's overflow policy is `drop_oldest` and the consumer lagged.
    Overflow = 2,
    /// The server restarted; what a `memory` or `live` topic held is gone.
    Restart = 3,
    /// The records are in a damaged part of the log, which is not served.
    Quarantined = 4,
}

impl GapReason {
    /// The reason with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<GapReason> {
        match number {
            1 => Some(GapReason::Retention),
            2 => Some(GapReason::Overflow),
            3 => Some(GapReason::Restart),
            4 => Some(GapReason::Quarantined),
            _ => None,
        }
    }
}

/// A parsed header. `parse` has checked everything that can be known from the header alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the module's table
pub struct FrameHeader {
    pub kind: Kind,
    pub body_bytes: u32,
    pub flags: u16,
    pub record_count: u32,
    pub producer_id: u64,
    pub sequence: u64,
    pub body_checksum: u32,
    pub channel: u32,
    pub offset: u64,
    pub append_time_ns: u64,
    pub offset_span: u32,
}

impl FrameHeader {
    /// A header of this kind with every other field zero.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        FrameHeader {
            kind,
            body_bytes: 0,
            flags: 0,
            record_count: 0,
            producer_id: 0,
            sequence: 0,
            body_checksum: 0,
            channel: 0,
            offset: 0,
            append_time_ns: 0,
            offset_span: 0,
        }
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    /// Parses and checks a header: magic, version, header checksum, kind, reserved bits, length.
    ///
    /// # Errors
    /// The [`Code`] of the first check that fails; each of them ends the connection.
    #[inline]
    pub fn parse(bytes: &[u8; HEADER_BYTES], frame_bytes_max: u32) -> Result<FrameHeader, Code> {
        if u16_at(bytes, 0) != MAGIC {
            return Err(Code::BadMagic);
        }
        if bytes[2] != VERSION {
            return Err(Code::BadVersion);
        }
        if crc32c(&bytes[..60]) != u32_at(bytes, 60) && !mutation::on(Mutation::SkipHeaderChecksum) {
            return Err(Code::BadHeaderChecksum);
        }
        let Some(kind) = Kind::from_number(bytes[3]) else {
            return Err(Code::BadKind);
        };
        let header = FrameHeader {
            kind,
            body_bytes: u32_at(bytes, 4),
            flags: u16_at(bytes, 8),
            record_count: u32_at(bytes, 12),
            producer_id: u64_at(bytes, 16),
            sequence: u64_at(bytes, 24),
            body_checksum: u32_at(bytes, 32),
            channel: u32_at(bytes, 36),
            offset: u64_at(bytes, 40),
            append_time_ns: u64_at(bytes, 48),
            offset_span: u32_at(bytes, 56),
        };
        if u16_at(bytes, 10) != 0 || header.flags & !allowed_flags(kind) != 0 {
            return Err(Code::ReservedNotZero);
        }
        let body_bytes = header.body_bytes as usize;
        if !body_bytes.is_multiple_of(FRAME_ALIGN_BYTES) || (body_bytes != 0 && kind.is_header_only()) {
            return Err(Code::BadLength);
        }
        let frame_bytes_max = if kind.is_batch() {
            frame_bytes_max as usize
        } else {
            HEADER_BYTES + CONTROL_BODY_BYTES_MAX as usize
        };
        if header.frame_bytes() > frame_bytes_max {
            return Err(Code::FrameTooLarge);
        }
        Ok(header)
    }

    /// Whether bytes that are fewer than a header may become one.
    ///
    /// # Errors
    /// [`Code::BadMagic`]: who speaks something else may wait for an answer before it sends more.
    #[inline]
    pub fn check_begun(bytes: &[u8]) -> Result<(), Code> {
        if MAGIC.to_le_bytes().iter().zip(bytes).all(|(magic, byte)| magic == byte) {
            Ok(())
        } else {
            Err(Code::BadMagic)
        }
    }

    /// Writes the header with its checksum.
    #[inline]
    pub fn encode(&self, out: &mut [u8; HEADER_BYTES]) {
        out[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        out[2] = VERSION;
        out[3] = self.kind as u8;
        out[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[8..10].copy_from_slice(&self.flags.to_le_bytes());
        out[10..12].fill(0);
        out[12..16].copy_from_slice(&self.record_count.to_le_bytes());
        out[16..24].copy_from_slice(&self.producer_id.to_le_bytes());
        out[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        out[32..36].copy_from_slice(&self.body_checksum.to_le_bytes());
        out[36..40].copy_from_slice(&self.channel.to_le_bytes());
        out[40..48].copy_from_slice(&self.offset.to_le_bytes());
        out[48..56].copy_from_slice(&self.append_time_ns.to_le_bytes());
        out[56..60].copy_from_slice(&self.offset_span.to_le_bytes());
        let checksum = crc32c(&out[..60]);
        out[60..64].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The bytes of a frame that is a header alone. Its body checksum is that of an empty body.
    #[must_use]
    pub fn alone(mut self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        self.body_bytes = 0;
        self.encode(&mut out);
        seal(&mut out, &[]);
        out
    }
}

/// The flags a kind may carry.
const fn allowed_flags(kind: Kind) -> u16 {
    match kind {
        Kind::Ack => FLAG_DUPLICATE | (0b11 << FLAG_ACK_LEVEL_SHIFT),
        Kind::Gap => 0x000f,
        _ => 0,
    }
}

/// Sets a header's body checksum from its producer-owned bytes and the body, then its header checksum.
pub fn seal(header: &mut [u8; HEADER_BYTES], body: &[u8]) {
    let mut crc = Crc32c::new();
    crc.update(&header[4..32]);
    crc.update(body);
    let body_checksum = crc.finish();
    header[32..36].copy_from_slice(&body_checksum.to_le_bytes());
    let header_checksum = crc32c(&header[..60]);
    header[60..64].copy_from_slice(&header_checksum.to_le_bytes());
}

/// Whether a contiguous frame's body checksum matches. `frame` is header and body.
///
/// # Panics
/// When `frame` is shorter than a header.
#[must_use]
pub fn body_checksum_matches(frame: &[u8]) -> bool {
    let mut crc = Crc32c::new();
    crc.update(&frame[4..32]);
    crc.update(&frame[HEADER_BYTES..]);
    crc.finish() == u32_at(frame, 32)
}

/// Turns an accepted publish frame into a deliver frame, in place: kind, partition, offset, append time,
/// header checksum. `header` is the frame's first 64 bytes; the body is not touched.
///
/// # Panics
/// When `header` is shorter than 64 bytes.
#[inline]
pub fn stamp(header: &mut [u8], partition: u32, offset: u64, offset_span: u32, append_time_ns: u64) {
    header[3] = Kind::Deliver as u8;
    header[36..40].copy_from_slice(&partition.to_le_bytes());
    header[40..48].copy_from_slice(&offset.to_le_bytes());
    header[48..56].copy_from_slice(&append_time_ns.to_le_bytes());
    header[56..60].copy_from_slice(&offset_span.to_le_bytes());
    let checksum = crc32c(&header[..60]);
    header[60..64].copy_from_slice(&checksum.to_le_bytes());
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
