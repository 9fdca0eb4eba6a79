//! The catalogue: which topics exist, where their offsets go on, and what consumers have committed.
//!
//! A pure state machine; [`encode`] and [`decode`] are its file format. Control saves it by atomic replacement
//! ([`super::files::replace`]).
//!
//! Invariants:
//! 1. Topic and partition ids are never reused (`next_*_id` only grows).
//! 2. An offset is never handed out twice, whatever the server's end: `reserved_offset` on disk is past every
//!    offset in use. A clean stop stores the exact end; after any other stop the partition begins at the
//!    reservation, and the offsets between are never used.
//! 3. The sum of all rings stays within the retention budget.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::commit_log::BLOCK_BYTES;
use crate::ids::PartitionId;
use crate::limits::{
    LOG_RETENTION_BYTES_MAX, LOG_RING_BYTES_MIN, LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN,
    PARTITIONS_MAX, PARTITIONS_PER_TOPIC, RETENTION_BYTES_MIN, TOPICS_MAX,
};
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::proto::control::topic_name_ok;
use crate::topic::{LogSettings, Overflow, TopicKind};

mod format;
#[cfg(test)]
mod tests;

pub use format::{CatalogueError, FORMAT, decode, decode_within, encode};

/// Offsets reserved at a time: the file is written for this reason once in this many records.
pub const RESERVE_RECORDS: u64 = 1 << 32;
/// A new reservation is made when fewer than this many reserved offsets are left. Ends are reported once a
/// second, so a partition would have to take two billion records a second to outrun it.
pub const RESERVE_LOW_RECORDS: u64 = 1 << 31;
/// Rings are sized in multiples of this: the largest page of any architecture this runs on.
pub const RING_BYTES_ALIGN: u64 = 64 * 1024;

/// The whole catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Counts the saved versions.
    pub version: u64,
    /// The next topic's id.
    pub next_topic_id: u32,
    /// The next partition's id.
    pub next_partition_id: u32,
    /// In no particular order.
    pub topics: Vec<TopicEntry>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Catalogue { version: 0, next_topic_id: 1, next_partition_id: 1, topics: Vec::new() }
    }
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicEntry {
    /// Never reused.
    pub id: u32,
    /// As clients name it.
    pub name: String,
    /// See [`TopicKind`].
    pub kind: TopicKind,
    /// See [`Overflow`].
    pub overflow: Overflow,
    /// Bytes of each partition's ring; a multiple of [`RING_BYTES_ALIGN`].
    pub ring_bytes: u64,
    /// Of kind `log` alone: how it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSettings>,
    /// In the order of the partition's number.
    pub partitions: Vec<PartitionEntry>,
    /// Publishes are refused.
    pub paused: bool,
    /// When it was created, in ns since 1970, UTC.
    pub created_ns: u64,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionEntry {
    /// Never reused.
    pub id: u32,
    /// No offset at or past this one has been handed out.
    pub reserved_offset: u64,
    /// The exact end, after a clean stop; absent while a server runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_end: Option<u64>,
    /// Committed offsets by consumer name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub committed: BTreeMap<String, u64>,
}

/// A topic as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// See `TopicEntry`.
    pub name: String,
    /// See `TopicEntry`.
    pub kind: TopicKind,
    /// See `TopicEntry`.
    pub overflow: Overflow,
    /// Rounded up to [`RING_BYTES_ALIGN`].
    pub ring_bytes: u64,
    /// See `TopicEntry`.
    pub log: Option<LogSettings>,
    /// How many.
    pub partitions: u32,
}

/// How small a topic may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Least {
    /// Bytes of a ring of kind `memory` or `live`.
    pub ring_bytes: u64,
    /// Bytes of a ring of kind `log`.
    pub log_ring_bytes: u64,
    /// Bytes of a log's segments.
    pub segment_bytes: u64,
    /// Bytes that a log keeps.
    pub retention_bytes: u64,
}

impl Default for Least {
    /// What operators may ask for.
    fn default() -> Least {
        Least {
            ring_bytes: RETENTION_BYTES_MIN,
            log_ring_bytes: LOG_RING_BYTES_MIN,
            segment_bytes: LOG_SEGMENT_BYTES_MIN,
            retention_bytes: RETENTION_BYTES_MIN,
        }
    }
}

/// Why a topic was not created. The request's fault, except `Full` and `Memory`: the server is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateRefused {
    /// The name is not one the protocol allows.
    BadName,
    /// A number is out of bounds.
    BadSpec(String),
    /// A topic of this name exists and is not the same; what differs.
    Differs(String),
    /// There are as many topics or partitions as there may be.
    Full(String),
    /// The rings do not fit in the retention budget.
    Memory {
        /// Bytes the topic's rings would take.
        needed_bytes: u64,
        /// Bytes that are left.
        free_bytes: u64,
        /// As many bytes a partition would fit.
        fits_ring_bytes: u64,
    },
}

impl CreateRefused {
    /// The code clients and operators see.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            CreateRefused::BadName => Code::BadName,
            CreateRefused::BadSpec(_) | CreateRefused::Differs(_) => Code::BadName,
            CreateRefused::Full(_) => Code::TooManyTopics,
            CreateRefused::Memory { .. } => Code::MemoryExhausted,
        }
    }
}

impl std::fmt::Display for CreateRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CreateRefused::BadName => f.write_str(Code::BadName.text()),
            CreateRefused::BadSpec(detail) | CreateRefused::Differs(detail) | CreateRefused::Full(detail) => {
                f.write_str(detail)
            }
            CreateRefused::Memory { needed_bytes, free_bytes, fits_ring_bytes } => write!(
                f,
                "The topic's rings need {needed_bytes} bytes and {free_bytes} of memory.retention_budget_bytes are \
                 left: at most {fits_ring_bytes} bytes a partition would fit.",
            ),
        }
    }
}

/// What `create` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The topic is new, at this index.
    New(usize),
    /// The same topic existed, at this index.
    Existing(usize),
}

impl Catalogue {
    /// The topic of that name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&TopicEntry> {
        self.topics.iter().find(|topic| topic.name == name)
    }

    /// Bytes of all rings.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        self.topics.iter().map(|topic| topic.ring_bytes * topic.partitions.len() as u64).sum()
    }

    /// Number of partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.topics.iter().map(|topic| topic.partitions.len()).sum()
    }

    /// Adds a topic whose rings fit in what `budget_bytes` has left. An identical one is not an error.
    ///
    /// # Errors
    /// See [`CreateRefused`]; nothing has changed then.
    pub fn create(
        &mut self,
        spec: &TopicSpec,
        budget_bytes: u64,
        now_ns: u64,
    ) -> Result<Created, CreateRefused> {
        self.create_within(spec, budget_bytes, now_ns, Least::default())
    }

    /// The same, of a topic that may be as small as `least`.
    ///
    /// # Errors
    /// See [`CreateRefused`]; nothing has changed then.
    pub fn create_within(
        &mut self,
        spec: &TopicSpec,
        budget_bytes: u64,
        now_ns: u64,
        least: Least,
    ) -> Result<Created, CreateRefused> {
        let ring_bytes = check_spec(spec, least)?;
        if let Some(index) = self.topics.iter().position(|topic| topic.name == spec.name) {
            return match difference(&self.topics[index], spec, ring_bytes) {
                None => Ok(Created::Existing(index)),
                Some(detail) => Err(CreateRefused::Differs(detail)),
            };
        }
        if self.topics.len() >= TOPICS_MAX as usize {
            return Err(CreateRefused::Full(format!(
                "There are {TOPICS_MAX} topics, as many as there may be."
            )));
        }
        if self.partition_count() + spec.partitions as usize > PARTITIONS_MAX as usize {
            return Err(CreateRefused::Full(format!(
                "There would be more than {PARTITIONS_MAX} partitions in this server."
            )));
        }
        let free_bytes = budget_bytes.saturating_sub(self.ring_bytes());
        let needed_bytes = ring_bytes.saturating_mul(u64::from(spec.partitions));
        if needed_bytes > free_bytes {
            let fits = free_bytes / u64::from(spec.partitions);
            let fits_ring_bytes = fits - fits % RING_BYTES_ALIGN;
            return Err(CreateRefused::Memory { needed_bytes, free_bytes, fits_ring_bytes });
        }
        let entry = self.entry(spec, ring_bytes, now_ns)?;
        self.topics.push(entry);
        Ok(Created::New(self.topics.len() - 1))
    }

    fn entry(&mut self, spec: &TopicSpec, ring_bytes: u64, now_ns: u64) -> Result<TopicEntry, CreateRefused> {
        let exhausted = || CreateRefused::Full("The server has used up its topic or partition ids.".into());
        let next_topic_id = self.next_topic_id.checked_add(1).ok_or_else(exhausted)?;
        let mut first_id = self.next_partition_id;
        if mutation::on(Mutation::IdsAgain) {
            let ids = self.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.id);
            first_id = ids.max().map_or(1, |last| last + 1);
        }
        let next_partition_id = first_id.checked_add(spec.partitions).ok_or_else(exhausted)?;
        let partitions = (first_id..next_partition_id)
            .map(|id| PartitionEntry {
                id,
                reserved_offset: RESERVE_RECORDS,
                clean_end: Some(0),
                committed: BTreeMap::new(),
            })
            .collect();
        let entry = TopicEntry {
            id: self.next_topic_id,
            name: spec.name.clone(),
            kind: spec.kind,
            overflow: spec.overflow,
            ring_bytes,
            log: spec.log,
            partitions,
            paused: false,
            created_ns: now_ns,
        };
        self.next_topic_id = next_topic_id;
        self.next_partition_id = next_partition_id;
        Ok(entry)
    }

    /// Takes a topic out.
    pub fn delete(&mut self, name: &str) -> Option<TopicEntry> {
        let index = self.topics.iter().position(|topic| topic.name == name)?;
        Some(self.topics.remove(index))
    }

    /// Whether the topic exists and its pause has changed.
    pub fn set_paused(&mut self, name: &str, paused: bool) -> Option<bool> {
        let topic = self.topics.iter_mut().find(|topic| topic.name == name)?;
        let changed = topic.paused != paused;
        topic.paused = paused;
        Some(changed)
    }

    /// Where each partition begins in this run of the server. It must be saved, and durable, before the first
    /// record is taken: from then on the file says "not stopped cleanly".
    pub fn begin(&mut self) -> Vec<(PartitionId, u64)> {
        self.partitions_mut().map(|partition| (PartitionId(partition.id), partition.begin())).collect()
    }

    /// Begins one topic's partitions; see [`Catalogue::begin`].
    pub fn begin_topic(&mut self, index: usize) -> Vec<(PartitionId, u64)> {
        let partitions = self.topics[index].partitions.iter_mut();
        partitions.map(|partition| (PartitionId(partition.id), partition.begin())).collect()
    }

    /// A partition's end was reported. `true`: its reservation was raised and has to be saved.
    pub fn ended_at(&mut self, id: PartitionId, end: u64) -> bool {
        let Some(partition) = self.partition_mut(id) else { return false };
        if end.saturating_add(RESERVE_LOW_RECORDS) <= partition.reserved_offset {
            return false;
        }
        partition.reserved_offset = end.saturating_add(RESERVE_RECORDS);
        true
    }

    /// The partition has stopped at `end` and takes nothing more.
    pub fn stopped_at(&mut self, id: PartitionId, end: u64) {
        if let Some(partition) = self.partition_mut(id) {
            partition.clean_end = Some(end);
            partition.reserved_offset = partition.reserved_offset.max(end);
        }
    }

    /// A consumer's committed offset. `true` when that is news.
    pub fn commit(&mut self, id: PartitionId, name: &str, offset: u64) -> bool {
        let Some(partition) = self.partition_mut(id) else { return false };
        match partition.committed.get_mut(name) {
            Some(known) if *known == offset => false,
            Some(known) if *known > offset && mutation::on(Mutation::CommitForward) => false,
            Some(known) => {
                *known = offset;
                true
            }
            None => {
                partition.committed.insert(name.to_owned(), offset);
                true
            }
        }
    }

    /// No consumer's committed offset is past `end`.
    pub fn limit_commits(&mut self, id: PartitionId, end: u64) {
        if let Some(partition) = self.partition_mut(id) {
            for offset in partition.committed.values_mut() {
                *offset = end.min(*offset);
            }
        }
    }

    fn partitions_mut(&mut self) -> impl Iterator<Item = &mut PartitionEntry> {
        self.topics.iter_mut().flat_map(|topic| topic.partitions.iter_mut())
    }

    fn partition_mut(&mut self, id: PartitionId) -> Option<&mut PartitionEntry> {
        self.partitions_mut().find(|partition| partition.id == id.0)
    }
}

impl PartitionEntry {
    fn begin(&mut self) -> u64 {
        let clean_end =
            if mutation::on(Mutation::KeepCleanEnd) { self.clean_end } else { self.clean_end.take() };
        let first = clean_end.unwrap_or(self.reserved_offset);
        self.reserved_offset = first.saturating_add(RESERVE_RECORDS);
        first
    }
}

/// Checks a topic's name and numbers; its ring's bytes, rounded up.
fn check_spec(spec: &TopicSpec, least: Least) -> Result<u64, CreateRefused> {
    topic_name_ok(&spec.name).map_err(|_| CreateRefused::BadName)?;
    if spec.partitions == 0 || spec.partitions > PARTITIONS_PER_TOPIC {
        return Err(CreateRefused::BadSpec(format!("A topic has 1 to {PARTITIONS_PER_TOPIC} partitions.")));
    }
    let ring_least = if spec.kind == TopicKind::Log { least.log_ring_bytes } else { least.ring_bytes };
    if spec.ring_bytes < ring_least {
        return Err(CreateRefused::BadSpec(format!("A partition's ring has at least {ring_least} bytes.")));
    }
    check_log(spec.kind, spec.log.as_ref(), least).map_err(CreateRefused::BadSpec)?;
    spec.ring_bytes
        .checked_next_multiple_of(RING_BYTES_ALIGN)
        .ok_or_else(|| CreateRefused::BadSpec("The ring's size is not possible.".into()))
}

/// What is said of the log fits the kind, and its numbers are possible.
fn check_log(kind: TopicKind, log: Option<&LogSettings>, least: Least) -> Result<(), String> {
    let Some(log) = log else {
        return match kind {
            TopicKind::Log => Err("A topic of kind log says how it is kept.".into()),
            TopicKind::Live | TopicKind::Memory => Ok(()),
        };
    };
    if kind != TopicKind::Log {
        return Err("durability, retention_ms and segment_bytes are for topics of kind log.".into());
    }
    if !(least.segment_bytes..=LOG_SEGMENT_BYTES_MAX).contains(&log.segment_bytes)
        || !log.segment_bytes.is_multiple_of(BLOCK_BYTES)
    {
        return Err(format!(
            "segment_bytes is a multiple of {BLOCK_BYTES} from {} to {LOG_SEGMENT_BYTES_MAX}.",
            least.segment_bytes
        ));
    }
    if !(least.retention_bytes..=LOG_RETENTION_BYTES_MAX).contains(&log.retention_bytes) {
        return Err(format!(
            "retention_bytes is from {} to {LOG_RETENTION_BYTES_MAX} for a topic of kind log.",
            least.retention_bytes
        ));
    }
    Ok(())
}

fn difference(entry: &TopicEntry, spec: &TopicSpec, ring_bytes: u64) -> Option<String> {
    let name = &entry.name;
    if entry.kind != spec.kind {
        Some(format!("Topic {name} exists with another kind."))
    } else if entry.overflow != spec.overflow {
        Some(format!("Topic {name} exists with another overflow policy."))
    } else if entry.ring_bytes != ring_bytes {
        Some(format!("Topic {name} exists with {} bytes a partition.", entry.ring_bytes))
    } else if let (Some(log), true) = (&entry.log, entry.log != spec.log) {
        let LogSettings { durability, retention_bytes, retention_ms, segment_bytes } = log;
        Some(format!(
            "Topic {name} exists with durability {}, retention_bytes {retention_bytes}, retention_ms \
             {retention_ms} and segment_bytes {segment_bytes}.",
            durability.name()
        ))
    } else if entry.partitions.len() != spec.partitions as usize {
        Some(format!("Topic {name} exists with {} partitions.", entry.partitions.len()))
    } else {
        None
    }
}
