//! How a list of stretches to send is cut into records.
//!
//! A record's content is sealed out of one stretch of memory, so several stretches in one record have to be
//! gathered first, and that is a copy. A record of its own costs about as much as copying 2 KiB (its 22 bytes on
//! the wire, and the cipher's start and end), so stretches shorter than that are gathered with their neighbours,
//! and all others are sealed where they lie.

use super::{CONTENT_BYTES_MAX, OVERHEAD_BYTES};

/// Stretches shorter than this are gathered.
pub const GATHER_BELOW: usize = 2048;

/// Records that only fill up the room that is left are at least this long, unless nothing else is left to send.
const FRAGMENT_BYTES_MIN: usize = 1024;

/// The next record's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// This many bytes of the first stretch, sealed where they lie.
    Straight(usize),
    /// The first so many stretches whole, and so many bytes in all: copied together, then sealed.
    Gather {
        /// How many.
        stretches: usize,
        /// Their length together.
        bytes: usize,
    },
    /// Nothing to send, or no room for a record worth sending.
    Nothing,
}

/// Plans one record for stretches of these lengths and so much room for the record.
///
/// Stretches of no length may only stand among others that are gathered.
#[must_use]
pub fn next_cut(mut lengths: impl Iterator<Item = usize>, room: usize) -> Cut {
    let Some(first) = lengths.next() else { return Cut::Nothing };
    let content_max = room.saturating_sub(OVERHEAD_BYTES).min(CONTENT_BYTES_MAX);
    if first > content_max {
        return if content_max >= FRAGMENT_BYTES_MIN { Cut::Straight(content_max) } else { Cut::Nothing };
    }
    let (mut stretches, mut bytes) = (1, first);
    if first < GATHER_BELOW {
        for length in lengths {
            if length >= GATHER_BELOW || bytes + length > content_max {
                break;
            }
            stretches += 1;
            bytes += length;
        }
    }
    match (stretches, bytes) {
        (_, 0) => Cut::Nothing,
        (1, _) => Cut::Straight(bytes),
        _ => Cut::Gather { stretches, bytes },
    }
}
