//! The processor's CRC-32C instruction. The one place of `proto` with `unsafe`: calling a function that is
//! compiled for SSE4.2, after asking the processor for it.
#![allow(unsafe_code)]

/// The register after `piece`, or `None` where the processor has no such instruction.
#[inline]
#[must_use]
pub fn update(register: u32, piece: &[u8]) -> Option<u32> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: `sse42` asks for nothing but a processor with SSE4.2, which was detected on the line above.
        return Some(unsafe { sse42(register, piece) });
    }
    let _ = (register, piece);
    None
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
#[allow(clippy::cast_possible_truncation)] // the instruction leaves the upper half zero
fn sse42(register: u32, piece: &[u8]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};
    let (words, rest) = piece.as_chunks::<8>();
    let mut wide = u64::from(register);
    for word in words {
        wide = _mm_crc32_u64(wide, u64::from_le_bytes(*word));
    }
    let mut register = wide as u32;
    let (half, rest) = match rest.split_first_chunk::<4>() {
        Some((half, rest)) => (Some(half), rest),
        None => (None, rest),
    };
    if let Some(half) = half {
        register = _mm_crc32_u32(register, u32::from_le_bytes(*half));
    }
    for byte in rest {
        register = _mm_crc32_u8(register, *byte);
    }
    register
}
