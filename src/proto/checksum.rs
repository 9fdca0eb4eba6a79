//! CRC-32C, the one checksum of the protocol (Castagnoli, reflected polynomial 0x82F63B78, initial value and
//! final xor 0xFFFFFFFF; RFC 3720 appendix B.4).
//!
//! Two ways to the same number. `crc-fast` folds long inputs with carry-less multiplication but spends some
//! nanoseconds on its dispatch, which is most of the cost of a 60-byte header; so inputs below
//! [`SHORT_BYTES`] use the processor's own CRC-32C instruction, where it has one (x86-64 with SSE4.2).

mod instruction;

/// Inputs below this length use the processor's instruction: where the two cost the same, measured.
const SHORT_BYTES: usize = 224;

/// CRC-32C of `bytes`.
#[must_use]
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(bytes);
    crc.finish()
}

/// CRC-32C over pieces.
#[derive(Debug, Clone)]
pub struct Crc32c {
    /// The register, not yet inverted.
    register: u32,
}

impl Crc32c {
    /// Over nothing yet.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Crc32c { register: u32::MAX }
    }

    /// Over what has this checksum, to go on from there.
    #[must_use]
    #[inline]
    pub const fn resume(checksum: u32) -> Self {
        Crc32c { register: !checksum }
    }

    /// Adds the next piece.
    #[inline]
    pub fn update(&mut self, piece: &[u8]) {
        if piece.len() < SHORT_BYTES
            && let Some(register) = instruction::update(self.register, piece)
        {
            self.register = register;
            return;
        }
        self.register = folded(self.register, piece);
    }

    /// The checksum of all pieces.
    #[must_use]
    #[inline]
    pub const fn finish(&self) -> u32 {
        !self.register
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::cast_possible_truncation)] // a 32-bit register in a 64-bit value
fn folded(register: u32, piece: &[u8]) -> u32 {
    let mut digest =
        crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, u64::from(register));
    digest.update(piece);
    digest.get_state() as u32
}

#[cfg(test)]
mod tests;
