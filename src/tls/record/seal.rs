//! Sealing one record: from where its content lies, straight to where it is sent from.

use super::header::protected;
use super::keys::Keys;
use super::{Content, HEADER_BYTES, OVERHEAD_BYTES};
use crate::tls::Reason;

/// Writes one record with this content to the start of `out`; says how long it is.
///
/// # Panics
/// When `out` has no room for it, or the content is longer than a record's.
///
/// # Errors
/// When the key is used up.
pub(super) fn seal(keys: &mut Keys, content: Content, from: &[u8], out: &mut [u8]) -> Result<usize, Reason> {
    if keys.exhausted() {
        return Err(Reason::Internal);
    }
    let header = protected(from.len());
    let out = &mut out[..from.len() + OVERHEAD_BYTES];
    out[..HEADER_BYTES].copy_from_slice(&header);
    keys.aead().seal(keys.nonce(), header, from, content as u8, &mut out[HEADER_BYTES..])?;
    keys.advance();
    Ok(from.len() + OVERHEAD_BYTES)
}

/// The same for content that lies in `out` already, behind the room for a header.
///
/// # Panics
/// As [`seal`].
///
/// # Errors
/// As [`seal`].
pub(super) fn seal_placed(
    keys: &mut Keys,
    content: Content,
    bytes: usize,
    out: &mut [u8],
) -> Result<usize, Reason> {
    if keys.exhausted() {
        return Err(Reason::Internal);
    }
    let header = protected(bytes);
    let out = &mut out[..bytes + OVERHEAD_BYTES];
    out[..HEADER_BYTES].copy_from_slice(&header);
    out[HEADER_BYTES + bytes] = content as u8;
    keys.aead().seal_in_place(keys.nonce(), header, &mut out[HEADER_BYTES..])?;
    keys.advance();
    Ok(bytes + OVERHEAD_BYTES)
}
