//! The file beside a segment that takes no more: what recovery would otherwise have to read the whole segment for.
//! docs/log-format.md, section 6.

use super::envelope::{EnvelopeFault, Fields, open, seal};
use super::format::POSITION_MAX;
use super::{BLOCK_BYTES, IndexEntry, LogPoint, Quarantined, SegmentInfo};
use crate::ids::PartitionId;
use crate::limits::SEGMENT_INDEX_ENTRIES;

const MAGIC: [u8; 8] = *b"URLOGIDX";
const ENTRY_BYTES: usize = 24;
const QUARANTINED_BYTES: usize = 32;

/// The file's bytes.
#[must_use]
pub fn encode(partition: PartitionId, info: &SegmentInfo) -> Vec<u8> {
    let mut body = Vec::with_capacity(128 + info.index.len() * ENTRY_BYTES);
    put_u64(&mut body, &[info.sequence, info.nonce]);
    put_points(&mut body, &[info.base, info.end]);
    put_u64(&mut body, &[info.first_time_ns, info.last_time_ns]);
    put_index(&mut body, &info.index);
    put_count(&mut body, info.quarantined.len());
    for damaged in &info.quarantined {
        put_points(&mut body, &[damaged.from, damaged.to]);
    }
    seal(MAGIC, partition, &body)
}

/// What a file says of its segment.
///
/// # Errors
/// Why it cannot be used; the segment is read instead.
pub fn decode(partition: PartitionId, bytes: &[u8]) -> Result<SegmentInfo, EnvelopeFault> {
    let mut fields = open(MAGIC, partition, bytes)?;
    let (sequence, nonce) = (fields.u64()?, fields.u64()?);
    let (base, end) = (point(&mut fields)?, point(&mut fields)?);
    let (first_time_ns, last_time_ns) = (fields.u64()?, fields.u64()?);
    let index = index(&mut fields)?;
    let count = fields.count(QUARANTINED_BYTES)?;
    let mut quarantined = Vec::with_capacity(count);
    for _ in 0..count {
        quarantined.push(Quarantined { from: point(&mut fields)?, to: point(&mut fields)? });
    }
    fields.end()?;
    let info = SegmentInfo { sequence, nonce, base, end, first_time_ns, last_time_ns, index, quarantined };
    check(&info)?;
    Ok(info)
}

/// Readers go by what an index says: it has to be in order, and inside its segment.
fn check(info: &SegmentInfo) -> Result<(), EnvelopeFault> {
    let inside = |at: LogPoint| {
        (info.base.position..=info.end.position).contains(&at.position)
            && (info.base.offset..=info.end.offset).contains(&at.offset)
    };
    if !info.base.position.is_multiple_of(BLOCK_BYTES) || !inside(info.end) {
        return Err(EnvelopeFault::Impossible("the segment ends before it begins"));
    }
    if !info.index.iter().all(|entry| inside(entry.at)) {
        return Err(EnvelopeFault::Impossible("an entry lies outside of the segment"));
    }
    let mut before = info.base;
    for damaged in &info.quarantined {
        if damaged.from.position < before.position
            || damaged.to.position <= damaged.from.position
            || !inside(damaged.from)
            || !inside(damaged.to)
        {
            return Err(EnvelopeFault::Impossible("its damaged ranges are not in order"));
        }
        before = damaged.to;
    }
    Ok(())
}

pub(super) fn put_u64(body: &mut Vec<u8>, values: &[u64]) {
    for value in values {
        body.extend_from_slice(&value.to_le_bytes());
    }
}

pub(super) fn put_points(body: &mut Vec<u8>, points: &[LogPoint]) {
    for point in points {
        put_u64(body, &[point.position, point.offset]);
    }
}

pub(super) fn put_count(body: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("tables are bounded");
    body.extend_from_slice(&count.to_le_bytes());
}

pub(super) fn put_index(body: &mut Vec<u8>, index: &[IndexEntry]) {
    put_count(body, index.len());
    for entry in index {
        put_points(body, &[entry.at]);
        put_u64(body, &[entry.append_time_ns]);
    }
}

pub(super) fn point(fields: &mut Fields<'_>) -> Result<LogPoint, EnvelopeFault> {
    let point = LogPoint { position: fields.u64()?, offset: fields.u64()? };
    if point.position > POSITION_MAX {
        return Err(EnvelopeFault::Impossible("a point lies beyond every position"));
    }
    Ok(point)
}

pub(super) fn index(fields: &mut Fields<'_>) -> Result<Vec<IndexEntry>, EnvelopeFault> {
    let count = fields.count(ENTRY_BYTES)?;
    if count > SEGMENT_INDEX_ENTRIES {
        return Err(EnvelopeFault::Impossible("its index is too long"));
    }
    let mut index: Vec<IndexEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = IndexEntry { at: point(fields)?, append_time_ns: fields.u64()? };
        let behind = index.last().is_none_or(|last| last.at.position < entry.at.position);
        if !entry.at.position.is_multiple_of(BLOCK_BYTES) || !behind {
            return Err(EnvelopeFault::Impossible("its index is not in order"));
        }
        index.push(entry);
    }
    Ok(index)
}

#[cfg(test)]
mod tests;
