//! Opening one record: from where it was received, straight to where its content is wanted.

use super::keys::Keys;
use super::{Content, HEADER_BYTES, PLAINTEXT_ROOM_BYTES, TAG_BYTES};
use crate::tls::Reason;

/// Bytes of room that the plaintext of a record takes: content, type and padding.
///
/// # Errors
/// When it is too short to be protected, or longer inside than allowed.
pub(super) fn room_bytes(record_bytes: usize) -> Result<usize, Reason> {
    match record_bytes.checked_sub(HEADER_BYTES + TAG_BYTES) {
        None => Err(Reason::BadRecordMac),
        Some(room) if room > PLAINTEXT_ROOM_BYTES => Err(Reason::RecordOverflow),
        Some(room) => Ok(room),
    }
}

/// Opens a whole record into the start of `out`; says what is in it and how many bytes.
///
/// # Errors
/// When the tag is wrong (then `out` holds nothing of it), or there is no type inside.
pub(super) fn open(keys: &mut Keys, record: &[u8], out: &mut [u8]) -> Result<(Content, usize), Reason> {
    let room = room_bytes(record.len())?;
    if keys.exhausted() {
        return Err(Reason::SequenceExhausted);
    }
    let (header, payload) = record.split_first_chunk().ok_or(Reason::BadRecordMac)?;
    let (ciphertext, tag) = payload.split_last_chunk::<TAG_BYTES>().ok_or(Reason::BadRecordMac)?;
    let out = &mut out[..room];
    keys.aead().open(keys.nonce(), *header, ciphertext, *tag, out)?;
    keys.advance();
    // The type is the last byte that is not zero; what is behind it is padding.
    let Some(at) = out.iter().rposition(|&byte| byte != 0) else { return Err(Reason::EmptyRecord) };
    match Content::from_byte(out[at]) {
        Some(content) => Ok((content, at)),
        None => Err(Reason::UnexpectedRecord),
    }
}
