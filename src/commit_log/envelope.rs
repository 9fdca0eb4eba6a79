//! What a log's small files have around them: a magic number, the format, the partition, a length and a checksum.
//!
//! ```text
//!  0 8 bytes magic   8 u32 format   12 u32 partition   16 u64 body bytes   24 u32 CRC-32C(body)
//! 28 u32 CRC-32C(bytes 0..28)   32 body
//! ```
//! Little-endian. The file ends with the body.

use std::fmt;

use super::format::{FORMAT, u32_at, u64_at};
use crate::ids::PartitionId;
use crate::proto::checksum::crc32c;
use crate::proto::code::Code;

/// Bytes before the body.
const HEAD_BYTES: usize = 32;

/// Why a small file of a log cannot be used. At fault: who put it there, or the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeFault {
    /// It is something else.
    WrongMagic,
    /// Some of its bytes changed, or are missing.
    Corrupt,
    /// A later version wrote it.
    Newer {
        /// What it says.
        format: u32,
    },
    /// It is another partition's.
    WrongPartition {
        /// Whose it is.
        found: PartitionId,
    },
    /// It is whole and says what cannot be.
    Impossible(&'static str),
}

impl fmt::Display for EnvelopeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnvelopeFault::WrongMagic => f.write_str("it is another kind of file"),
            EnvelopeFault::Corrupt => f.write_str("it is damaged: a checksum does not match"),
            EnvelopeFault::Newer { format } => {
                write!(f, "it has format {format}, and this version reads formats up to {FORMAT}")
            }
            EnvelopeFault::WrongPartition { found } => write!(f, "it is of partition {found}"),
            EnvelopeFault::Impossible(what) => write!(f, "it is impossible: {what}"),
        }
    }
}

impl std::error::Error for EnvelopeFault {}

/// A file with this body.
pub fn seal(magic: [u8; 8], partition: PartitionId, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + body.len());
    out.extend_from_slice(&magic);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&partition.0.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&crc32c(body).to_le_bytes());
    let checksum = crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// The body of a file.
pub fn open(magic: [u8; 8], partition: PartitionId, bytes: &[u8]) -> Result<Fields<'_>, EnvelopeFault> {
    let Some((head, body)) = bytes.split_at_checked(HEAD_BYTES) else {
        return Err(EnvelopeFault::Corrupt);
    };
    if head[..8] != magic {
        return Err(EnvelopeFault::WrongMagic);
    }
    // Every format keeps this checksum where it is, so that a flipped bit is not taken for a later format.
    if crc32c(&head[..28]) != u32_at(head, 28) {
        return Err(EnvelopeFault::Corrupt);
    }
    let format = u32_at(head, 8);
    if format > FORMAT {
        return Err(EnvelopeFault::Newer { format });
    }
    let found = PartitionId(u32_at(head, 12));
    if found != partition {
        return Err(EnvelopeFault::WrongPartition { found });
    }
    if u64_at(head, 16) != body.len() as u64 || crc32c(body) != u32_at(head, 24) {
        return Err(EnvelopeFault::Corrupt);
    }
    Ok(Fields(body))
}

/// What is left of a body. A field that is not there is a fault: the checksums held, so whoever wrote it was wrong.
pub struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    pub fn u64(&mut self) -> Result<u64, EnvelopeFault> {
        let (first, rest) = self.0.split_first_chunk().ok_or(EnvelopeFault::Impossible("it is too short"))?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*first))
    }

    pub fn u32(&mut self) -> Result<u32, EnvelopeFault> {
        let (first, rest) = self.0.split_first_chunk().ok_or(EnvelopeFault::Impossible("it is too short"))?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*first))
    }

    /// The code of a refusal; 0 is none.
    pub fn refused(&mut self) -> Result<Option<Code>, EnvelopeFault> {
        let number = self.u32()?;
        if number == 0 {
            return Ok(None);
        }
        let code = u16::try_from(number).ok().and_then(Code::from_number);
        code.map(Some).ok_or(EnvelopeFault::Impossible("a refusal for no known reason"))
    }

    /// How many items of this size follow, for which there has to be room.
    pub fn count(&mut self, item_bytes: usize) -> Result<usize, EnvelopeFault> {
        let count = self.u32()? as usize;
        if count.checked_mul(item_bytes).is_none_or(|bytes| bytes > self.0.len()) {
            return Err(EnvelopeFault::Impossible("it is too short"));
        }
        Ok(count)
    }

    pub fn end(self) -> Result<(), EnvelopeFault> {
        if self.0.is_empty() { Ok(()) } else { Err(EnvelopeFault::Impossible("it is too long")) }
    }
}
