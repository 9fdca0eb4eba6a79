//! The record layer of a connection whose handshake is over (RFC 8446 sections 5, 4.6 and 6).
//!
//! State and owner: [`RecordLayer`] owns the keys and record numbers of both directions, what has come of a
//! handshake message, what it owes the peer (a KeyUpdate, an alert), and whether each direction is open. It owns
//! no buffers: records are read where they were received and written where they will be sent from.
//!
//! Opening: ciphertext lies in receive memory, plaintext is wanted packed in another place. Each record is opened
//! from the one straight into the other, right behind the plaintext of the record before; its type byte and
//! padding, which are protected with it, lie behind its content and are overwritten by the next record. So a
//! message of any size lies in one piece, whatever records the peer cut it into, and no byte is moved after it
//! was decrypted.
//!
//! Invariants
//! 1. Plaintext is counted in `produced` only after its record's tag was verified; where one is wrong, its place
//!    is zeroed.
//! 2. A record number is used once for each key, in order, from 0; a key ends before its limit.
//! 3. What is owed goes out before the data that comes after it; after an alert nothing goes out.
//! 4. After a violation nothing is opened any more, and the peer is told one alert.
//! 5. Nothing is allocated for data. A client's tickets and new keys are.

mod cipher;
mod header;
mod keys;
mod layer;
mod messages;
mod open;
mod plan;
mod seal;

#[cfg(test)]
pub(in crate::tls) mod tests;

pub use cipher::Implementation;
pub use header::record_bytes;
pub(super) use header::{ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE, Head, PROTECTED, head, whole};
pub use keys::Suite;
pub(super) use keys::{Keys, NextKeys};
pub use layer::{RecordLayer, Side};
pub use plan::{Cut, GATHER_BELOW, next_cut};

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 5;
/// Bytes of an AEAD tag, the same for all suites.
pub const TAG_BYTES: usize = 16;
/// Bytes of content in one record at most.
pub const CONTENT_BYTES_MAX: usize = 1 << 14;
/// Bytes a record has beyond its content: header, inner type, tag.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// Bytes of a record at most: its length field may say 2^14 + 256.
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + CONTENT_BYTES_MAX + 256;
/// The longest record that is waited for: in a handshake only rustls can say that one is too long, and does when it has
/// opened it.
pub const WAITED_BYTES_MAX: usize = HEADER_BYTES + CONTENT_BYTES_MAX + 2048;
/// Room for plaintext that is enough for any record: content or padding, and the type.
pub const PLAINTEXT_ROOM_BYTES: usize = CONTENT_BYTES_MAX + 1;
/// Bytes of a KeyUpdate's record.
pub const KEY_UPDATE_RECORD_BYTES: usize = 5 + OVERHEAD_BYTES;
/// Bytes of an alert's record.
pub const ALERT_RECORD_BYTES: usize = 2 + OVERHEAD_BYTES;

/// Records after which a key is replaced: an eighth of what RFC 8446 section 5.5 allows for AES-GCM (2^24.5 full
/// records). The same for ChaCha20-Poly1305, which has no such limit.
pub const REKEY_AFTER_RECORDS: u64 = 3 << 20;
/// Empty records in a row that are put up with.
pub(super) const EMPTY_RECORDS_MAX: u8 = 32;
/// KeyUpdates that are put up with until so much data has come between them: each costs more than a record.
pub(super) const DATA_BYTES_BETWEEN_KEY_UPDATES: usize = 64 * 1024;
/// See [`DATA_BYTES_BETWEEN_KEY_UPDATES`].
pub(super) const KEY_UPDATES_MAX: u8 = 32;
/// Warnings that are put up with.
pub(super) const WARNINGS_MAX: u8 = 4;
/// Bytes of a handshake message after the handshake: a ticket with its header.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 + (1 << 16);

const _: () = {
    assert!(REKEY_AFTER_RECORDS < 1 << 24);
    assert!(PLAINTEXT_ROOM_BYTES + TAG_BYTES <= RECORD_BYTES_MAX - HEADER_BYTES);
};

/// What is in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Alert = 21,
    Handshake = 22,
    Data = 23,
}

impl Content {
    pub(super) const fn from_byte(byte: u8) -> Option<Content> {
        match byte {
            21 => Some(Content::Alert),
            22 => Some(Content::Handshake),
            23 => Some(Content::Data),
            _ => None,
        }
    }
}

/// What `receive` did, and why it stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes of plaintext at the start of the output.
    pub produced: usize,
    /// How many of `produced`, from their start, came before the handshake was over (0-RTT): they may be a replay.
    pub early: usize,
    /// What comes next.
    pub then: Then,
}

/// Why `receive` stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// The next step needs this many bytes of input, counted from the first that was not consumed.
    Wants(usize),
    /// The next record needs this many bytes of room for its plaintext: at most [`PLAINTEXT_ROOM_BYTES`].
    Room(usize),
    /// The peer has said that nothing more will come; what comes all the same is dropped.
    Closed,
    /// The connection is over, at once and for good. An alert may wait to be sent.
    Failed(super::Failure),
}

/// What `transmit` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sealed {
    /// Bytes of the source that are in records now.
    pub taken: usize,
    /// Bytes at the start of the output that are to be sent.
    pub written: usize,
}
