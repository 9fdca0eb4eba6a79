//! The catalogue's file: one JSON object `{"format":1,"crc32c":"xxxxxxxx","catalogue":{...}}`.
//!
//! The checksum (CRC-32C, eight hexadecimal digits) is over the exact bytes of the `catalogue` value. A file of
//! a newer format is refused before anything else of it is looked at.
//!
//! Format 2 has topics of kind `log`. A catalogue without one is written in format 1, so that servers from before
//! read it too.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Catalogue, Least, check_log};
use crate::limits::{PARTITIONS_MAX, PARTITIONS_PER_TOPIC, TOPICS_MAX};
use crate::proto::checksum::crc32c;
use crate::topic::TopicKind;

/// The newest format this server reads and writes.
pub const FORMAT: u32 = 2;
/// What is written while there is no topic of kind `log`.
const FORMAT_WITHOUT_LOGS: u32 = 1;

/// The file is not one this server may use. Nothing is overwritten then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogueError {
    /// It was written by a newer server.
    Newer {
        /// The file's format.
        format: u32,
    },
    /// It is damaged, or was edited by hand.
    Corrupt(String),
}

impl std::fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CatalogueError::Newer { format } => write!(
                f,
                "the catalogue has format {format} and this server knows formats up to {FORMAT}: run the newer \
                 server, or another data directory",
            ),
            CatalogueError::Corrupt(detail) => write!(
                f,
                "the catalogue is damaged ({detail}): put catalogue.json.1, the previous version, in its place, or \
                 move both away to start with no topics",
            ),
        }
    }
}

impl std::error::Error for CatalogueError {}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    crc32c: &'a str,
    #[serde(borrow)]
    catalogue: &'a RawValue,
}

/// The file's bytes.
#[must_use]
pub fn encode(catalogue: &Catalogue) -> Vec<u8> {
    // Plain structs with string keys: serde_json has no way to fail on them.
    let body = serde_json::to_string(catalogue).expect("a catalogue is always valid JSON");
    let checksum = crc32c(body.as_bytes());
    let logs = catalogue.topics.iter().any(|topic| topic.kind == TopicKind::Log);
    let format = if logs { FORMAT } else { FORMAT_WITHOUT_LOGS };
    format!("{{\"format\":{format},\"crc32c\":\"{checksum:08x}\",\"catalogue\":{body}}}\n").into_bytes()
}

/// Reads the file's bytes.
///
/// # Errors
/// The file is damaged or from a newer server.
pub fn decode(bytes: &[u8]) -> Result<Catalogue, CatalogueError> {
    decode_within(bytes, Least::default())
}

/// The same, of topics that may be as small as `least`.
///
/// # Errors
/// The file is damaged or from a newer server.
pub fn decode_within(bytes: &[u8], least: Least) -> Result<Catalogue, CatalogueError> {
    let corrupt = |error: serde_json::Error| CatalogueError::Corrupt(error.to_string());
    let Format { format } = serde_json::from_slice(bytes).map_err(corrupt)?;
    if format > FORMAT {
        return Err(CatalogueError::Newer { format });
    }
    if format == 0 {
        return Err(CatalogueError::Corrupt("there is no format 0".into()));
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(corrupt)?;
    let body = envelope.catalogue.get();
    let checksum = format!("{:08x}", crc32c(body.as_bytes()));
    if envelope.crc32c != checksum {
        return Err(CatalogueError::Corrupt(format!(
            "its checksum is {} and its contents have {checksum}",
            envelope.crc32c
        )));
    }
    let catalogue: Catalogue = serde_json::from_str(body).map_err(corrupt)?;
    check(&catalogue, least).map_err(CatalogueError::Corrupt)?;
    Ok(catalogue)
}

/// What a server relies on and a checksum cannot say.
fn check(catalogue: &Catalogue, least: Least) -> Result<(), String> {
    if catalogue.topics.len() > TOPICS_MAX as usize || catalogue.partition_count() > PARTITIONS_MAX as usize {
        return Err("it has more topics or partitions than a server may have".into());
    }
    let (mut names, mut topics, mut partitions) = (HashSet::new(), HashSet::new(), HashSet::new());
    for topic in &catalogue.topics {
        if !names.insert(topic.name.as_str()) {
            return Err(format!("topic {} is there twice", topic.name));
        }
        if !topics.insert(topic.id) || topic.id >= catalogue.next_topic_id {
            return Err(format!("topic {} has an id that is not its own", topic.name));
        }
        if topic.partitions.is_empty() || topic.partitions.len() > PARTITIONS_PER_TOPIC as usize {
            return Err(format!("topic {} has {} partitions", topic.name, topic.partitions.len()));
        }
        check_log(topic.kind, topic.log.as_ref(), least)
            .map_err(|why| format!("topic {}: {why}", topic.name))?;
        for partition in &topic.partitions {
            if !partitions.insert(partition.id) || partition.id >= catalogue.next_partition_id {
                return Err(format!("a partition of topic {} has an id that is not its own", topic.name));
            }
            if partition.clean_end.is_some_and(|end| end > partition.reserved_offset) {
                return Err(format!("partition {} ends past its reservation", partition.id));
            }
        }
    }
    Ok(())
}
