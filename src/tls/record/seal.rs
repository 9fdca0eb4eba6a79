//! Sealing one record: from where its content lies, straight to where it is sent from.

use aws_lc_rs::aead::Aad;

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
    let (ciphertext, type_and_tag) = out[HEADER_BYTES..].split_at_mut(from.len());
    keys.aead()
        .seal_out_of_place_scatter(
            keys.nonce(),
            Aad::from(header),
            from,
            ciphertext,
            &[content as u8],
            type_and_tag,
        )
        .map_err(|_unspecified| Reason::Internal)?;
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
    let (in_place, type_and_tag) = out[HEADER_BYTES..].split_at_mut(bytes);
    keys.aead()
        .seal_in_place_scatter(keys.nonce(), Aad::from(header), in_place, &[content as u8], type_and_tag)
        .map_err(|_unspecified| Reason::Internal)?;
    keys.advance();
    Ok(bytes + OVERHEAD_BYTES)
}
