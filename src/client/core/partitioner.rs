//! Which partition a record goes to.

use crate::proto::checksum::crc32c;

/// How a producer chooses. A record that names its partition goes there whatever the partitioner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partitioner {
    /// A record with a key goes to [`partition_of_key`]; one without goes where the open batch is, and the next
    /// batch goes to the next partition.
    #[default]
    KeyElseSticky,
    /// Every record goes to this one.
    Fixed(u32),
}

/// The partition of a key: its CRC-32C, modulo the number of partitions. Every client in every language must
/// choose the same, so that the records of one key stay in order.
///
/// # Panics
/// With no partitions.
#[must_use]
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    crc32c(key) % partitions
}
