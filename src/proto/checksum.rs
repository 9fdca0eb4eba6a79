//! CRC-32C, the one checksum of the protocol.

/// CRC-32C (Castagnoli, iSCSI, RFC 3720 appendix B.4) of `bytes`.
#[must_use]
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(bytes);
    crc.finish()
}

/// CRC-32C over pieces.
pub struct Crc32c(crc_fast::Digest);

impl Crc32c {
    /// Over nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Crc32c(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }

    /// Adds the next piece.
    #[inline]
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The checksum of all pieces.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // a 32-bit CRC in a 64-bit return value
    pub fn finish(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}
