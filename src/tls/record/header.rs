//! A record's header: its type and how long it is.

use super::{CONTENT_BYTES_MAX, HEADER_BYTES, RECORD_BYTES_MAX, WAITED_BYTES_MAX};
use crate::tls::Reason;

/// The types of records.
pub(in crate::tls) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(in crate::tls) const ALERT: u8 = 21;
pub(in crate::tls) const HANDSHAKE: u8 = 22;
pub(in crate::tls) const PROTECTED: u8 = 23;

/// What the first bytes of the input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tls) enum Head {
    /// Not a whole header.
    None,
    /// A header of a record of this type and this many bytes, itself included.
    Of { kind: u8, bytes: usize },
}

/// Looks at a header. The version in it is not looked at, as RFC 8446 section 5.1 wants; it is part of what the
/// tag protects.
///
/// # Errors
/// When the record would be longer than any.
pub(in crate::tls) fn head(input: &[u8]) -> Result<Head, Reason> {
    let Some(&[kind, _, _, high, low]) = input.first_chunk::<HEADER_BYTES>() else {
        return Ok(Head::None);
    };
    let bytes = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if bytes > RECORD_BYTES_MAX {
        return Err(Reason::RecordOverflow);
    }
    Ok(Head::Of { kind, bytes })
}

/// The whole records at the start of these bytes: the type of each and what is behind its header.
pub(in crate::tls) fn whole(mut records: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let Ok(Head::Of { kind, bytes }) = head(records) else { return None };
        let (record, rest) = records.split_at_checked(bytes)?;
        records = rest;
        Some((kind, &record[HEADER_BYTES..]))
    })
}

/// Bytes of the record that begins here, as its header says, or of a header while that is not whole. No more than is
/// ever waited for, though the header may say so: it is refused when it is looked at.
#[must_use]
pub fn record_bytes(input: &[u8]) -> u32 {
    #![allow(clippy::cast_possible_truncation)] // 2^14 and a little at most
    const MAX: u32 = WAITED_BYTES_MAX as u32;
    const HEADER: u32 = HEADER_BYTES as u32;
    let Some(&[_, _, _, high, low]) = input.first_chunk::<HEADER_BYTES>() else { return HEADER };
    (HEADER + u32::from(u16::from_be_bytes([high, low]))).min(MAX)
}

/// The header of a protected record with this many bytes of content.
#[allow(clippy::cast_possible_truncation)] // at most 2^14 + 17
pub(super) fn protected(content_bytes: usize) -> [u8; HEADER_BYTES] {
    assert!(content_bytes <= CONTENT_BYTES_MAX, "a record's content is at most 2^14 bytes");
    let [high, low] = ((content_bytes + super::OVERHEAD_BYTES - HEADER_BYTES) as u16).to_be_bytes();
    [super::Content::Data as u8, 3, 3, high, low]
}
