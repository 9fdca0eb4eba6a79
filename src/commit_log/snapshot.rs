//! The small state of a partition in a file, and the mark of a fence: docs/log-format.md, sections 7 and 8.

use super::envelope::{EnvelopeFault, Fields, open, seal};
use super::index::{index, point, put_count, put_index, put_points, put_u64};
use super::{BLOCK_BYTES, LogPoint, ProducerEntry, ProducerState, Snapshot};
use crate::ids::PartitionId;
use crate::limits::{DEDUP_WINDOW, PRODUCERS_PER_PARTITION};

const MAGIC: [u8; 8] = *b"URLOGSNP";
const FENCE_MAGIC: [u8; 8] = *b"URLOGFNC";
const PRODUCER_BYTES: usize = 20;
const ENTRY_BYTES: usize = 36;

/// The bytes of `snapshot`.
#[must_use]
pub fn encode(partition: PartitionId, snapshot: &Snapshot) -> Vec<u8> {
    let entries: usize = snapshot.producers.iter().map(|producer| producer.entries.len()).sum();
    let room = 256 + snapshot.index.len() * 24 + snapshot.producers.len() * PRODUCER_BYTES;
    let mut body = Vec::with_capacity(room + entries * ENTRY_BYTES);
    put_u64(&mut body, &[snapshot.sequence]);
    put_points(&mut body, &[snapshot.at]);
    put_u64(&mut body, &[snapshot.last_append_ns, snapshot.first_time_ns]);
    body.extend_from_slice(&snapshot.chain.to_le_bytes());
    put_index(&mut body, &snapshot.index);
    put_count(&mut body, snapshot.producers.len());
    for producer in &snapshot.producers {
        put_u64(&mut body, &[producer.producer_id, producer.next_sequence]);
        put_count(&mut body, producer.entries.len());
        for entry in &producer.entries {
            put_u64(&mut body, &[entry.sequence, entry.offset, entry.append_time_ns]);
            let refused = entry.refused.map_or(0, |code| code as u32);
            for value in [entry.body_checksum, entry.records, refused] {
                body.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    seal(MAGIC, partition, &body)
}

/// What a `snapshot` says.
///
/// # Errors
/// Why it cannot be used; recovery uses the one before, or none.
pub fn decode(partition: PartitionId, bytes: &[u8]) -> Result<Snapshot, EnvelopeFault> {
    let mut fields = open(MAGIC, partition, bytes)?;
    let sequence = fields.u64()?;
    let at = point(&mut fields)?;
    if !at.position.is_multiple_of(BLOCK_BYTES) {
        return Err(EnvelopeFault::Impossible("it was taken inside of a block"));
    }
    let (last_append_ns, first_time_ns) = (fields.u64()?, fields.u64()?);
    let chain = fields.u32()?;
    let index = index(&mut fields)?;
    if index.last().is_some_and(|entry| entry.at.position >= at.position || entry.at.offset > at.offset) {
        return Err(EnvelopeFault::Impossible("its index goes beyond it"));
    }
    let count = fields.count(PRODUCER_BYTES)?;
    if count > PRODUCERS_PER_PARTITION as usize {
        return Err(EnvelopeFault::Impossible("it has too many producers"));
    }
    let mut producers = Vec::with_capacity(count);
    for _ in 0..count {
        producers.push(producer(&mut fields)?);
    }
    fields.end()?;
    Ok(Snapshot { sequence, at, chain, last_append_ns, first_time_ns, index, producers })
}

fn producer(fields: &mut Fields<'_>) -> Result<ProducerState, EnvelopeFault> {
    let (producer_id, next_sequence) = (fields.u64()?, fields.u64()?);
    let count = fields.count(ENTRY_BYTES)?;
    if count > DEDUP_WINDOW as usize {
        return Err(EnvelopeFault::Impossible("a producer has too many batches"));
    }
    let Some(first) = next_sequence.checked_sub(count as u64) else {
        return Err(EnvelopeFault::Impossible("a producer has more batches than it sent"));
    };
    let mut entries = Vec::with_capacity(count);
    for expected in first..next_sequence {
        let (sequence, offset, append_time_ns) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (body_checksum, records) = (fields.u32()?, fields.u32()?);
        let refused = fields.refused()?;
        if sequence != expected {
            return Err(EnvelopeFault::Impossible("a producer's batches do not follow each other"));
        }
        entries.push(ProducerEntry { sequence, body_checksum, offset, records, append_time_ns, refused });
    }
    Ok(ProducerState { producer_id, next_sequence, entries })
}

/// The bytes of `fence`: what lies behind this point may be lost and is to be cut at the next start.
#[must_use]
pub fn encode_fence(partition: PartitionId, durable: LogPoint) -> Vec<u8> {
    let mut body = Vec::with_capacity(16);
    put_points(&mut body, &[durable]);
    seal(FENCE_MAGIC, partition, &body)
}

/// Where a `fence` says to cut.
///
/// # Errors
/// Why it cannot be used.
pub fn decode_fence(partition: PartitionId, bytes: &[u8]) -> Result<LogPoint, EnvelopeFault> {
    let mut fields = open(FENCE_MAGIC, partition, bytes)?;
    let at = point(&mut fields)?;
    fields.end()?;
    Ok(at)
}

#[cfg(test)]
mod tests;
