//! The catalogue together with what only lives as long as the server runs: the topics' rings, the ids of their
//! regions, and where each partition ends.
//!
//! Invariant: a region id is handed out again only after every shard has let go of the topic that had it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::api::{LogDescription, TopicDescription, TopicSummary};
use super::catalogue::{Catalogue, TopicEntry};
use super::storage::FIRST_SEQUENCE;
use crate::buf::{HUGE_PAGE_BYTES, MapError, Mapping, Pages};
use crate::commit_log::RecoveredLog;
use crate::ids::{PartitionId, RegionId, ShardId, TopicId};
use crate::limits::REGIONS_MAX;
use crate::partition::PartitionStatus;
use crate::proto::header::AckLevel;
use crate::topic::{LogSettings, Topic, TopicKind, TopicPartition};

/// Region ids above the shards' receive regions.
#[derive(Debug)]
struct RegionIds {
    next: u32,
    free: Vec<u32>,
}

impl RegionIds {
    fn take(&mut self) -> RegionId {
        RegionId(self.free.pop().unwrap_or_else(|| {
            let id = self.next;
            assert!((id as usize) < REGIONS_MAX, "limits.rs has a region for every partition");
            self.next += 1;
            id
        }))
    }

    fn give(&mut self, id: RegionId) {
        self.free.push(id.0);
    }
}

/// See the module.
pub(crate) struct Registry {
    pub(super) catalogue: Catalogue,
    /// Topics that have rings, by id.
    live: BTreeMap<u32, Arc<Topic>>,
    regions: RegionIds,
    /// Where each partition was last known to end.
    ends: HashMap<PartitionId, u64>,
    shards: u16,
}

impl Registry {
    /// `first_region`: the first id that no shard's receive memory has.
    pub(crate) fn new(catalogue: Catalogue, shards: u16, first_region: RegionId) -> Registry {
        let regions = RegionIds { next: first_region.0, free: Vec::new() };
        Registry { catalogue, live: BTreeMap::new(), regions, ends: HashMap::new(), shards }
    }

    /// Every topic of the catalogue, in this run of the server. What the catalogue says then has to be durable before
    /// the first record is taken.
    ///
    /// # Errors
    /// There are no rings.
    pub(crate) fn begin<E>(
        mut catalogue: Catalogue,
        (shards, first_region): (u16, RegionId),
        logs: &mut HashMap<PartitionId, RecoveredLog>,
        mut rings: impl FnMut(usize, u64) -> Result<Vec<Arc<Mapping>>, E>,
    ) -> Result<Registry, E> {
        let begins = catalogue.begin();
        catalogue.version += 1;
        let mut rest = &begins[..];
        let mut registry = Registry::new(catalogue, shards, first_region);
        for index in 0..registry.topic_count() {
            let (count, ring_bytes) = registry.rings_of(index);
            let rings = rings(count, ring_bytes)?;
            let (own, others) = rest.split_at(count);
            rest = others;
            registry.bring_up(index, own, rings, logs);
        }
        Ok(registry)
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub(crate) fn topic_count(&self) -> usize {
        self.catalogue.topics.len()
    }

    /// How many rings the topic at `index` has, and the bytes of each.
    pub(crate) fn rings_of(&self, index: usize) -> (usize, u64) {
        let entry = &self.catalogue.topics[index];
        (entry.partitions.len(), entry.ring_bytes)
    }

    /// Which shard owns a partition.
    pub(super) fn owner(&self, id: PartitionId) -> ShardId {
        ShardId(u16::try_from(id.0 % u32::from(self.shards)).expect("less than the shards' number"))
    }

    /// Makes the catalogue's topic at `index` known, with the offsets its partitions begin at and their rings. A
    /// partition of kind `log` begins where its log ends, whatever was reserved.
    pub(crate) fn bring_up(
        &mut self,
        index: usize,
        begins: &[(PartitionId, u64)],
        rings: Vec<Arc<Mapping>>,
        logs: &mut HashMap<PartitionId, RecoveredLog>,
    ) -> Arc<Topic> {
        let entry = &self.catalogue.topics[index];
        assert_eq!((begins.len(), rings.len()), (entry.partitions.len(), entry.partitions.len()));
        let mut partitions = Vec::with_capacity(rings.len());
        for ((partition, &(id, first_offset)), mapping) in entry.partitions.iter().zip(begins).zip(rings) {
            assert_eq!(partition.id, id.0, "begins are in the order of the partitions");
            assert_eq!(mapping.bytes() as u64, entry.ring_bytes, "a ring wraps where its mirror begins");
            let log = (entry.kind == TopicKind::Log).then(|| {
                let new = || RecoveredLog { next_sequence: FIRST_SEQUENCE, ..RecoveredLog::default() };
                logs.remove(&id).unwrap_or_else(new)
            });
            let first_offset = log.as_ref().map_or(first_offset, |log| log.end.offset);
            self.ends.insert(id, first_offset);
            partitions.push(TopicPartition {
                id,
                shard: self.owner(id),
                ring: self.regions.take(),
                mapping,
                first_offset,
                committed: partition.committed.iter().map(|(name, offset)| (name.clone(), *offset)).collect(),
                log,
            });
        }
        let topic = Arc::new(Topic {
            id: TopicId(entry.id),
            name: entry.name.clone(),
            kind: entry.kind,
            overflow: entry.overflow,
            ring_bytes: entry.ring_bytes,
            durability: entry.log.map_or(AckLevel::Received, |log| log.durability),
            partitions,
        });
        self.live.insert(entry.id, Arc::clone(&topic));
        topic
    }

    /// Takes a topic out of use; its regions stay taken until [`Registry::free`].
    pub(super) fn take_down(&mut self, id: u32) -> Option<Arc<Topic>> {
        let topic = self.live.remove(&id)?;
        for partition in &topic.partitions {
            self.ends.remove(&partition.id);
        }
        Some(topic)
    }

    /// Every shard has let go of the topic.
    pub(super) fn free(&mut self, topic: &Topic) {
        for partition in &topic.partitions {
            self.regions.give(partition.ring);
        }
    }

    /// Topics that have rings, in the order of their ids.
    pub(super) fn live(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.live.values()
    }

    pub(super) fn is_live(&self, id: u32) -> bool {
        self.live.contains_key(&id)
    }

    /// A partition's end was reported. `true`: the catalogue has to be saved.
    pub(super) fn ended_at(&mut self, id: PartitionId, end: u64) -> bool {
        let Some(known) = self.ends.get_mut(&id) else { return false };
        *known = (*known).max(end);
        self.catalogue.ended_at(id, end)
    }

    /// This shard has stopped in good order: its partitions' ends are exact.
    pub(super) fn shard_stopped(&mut self, shard: ShardId) {
        let stopped: Vec<_> = self
            .ends
            .iter()
            .map(|(id, end)| (*id, *end))
            .filter(|(id, _)| self.owner(*id) == shard)
            .collect();
        for (id, end) in stopped {
            self.catalogue.stopped_at(id, end);
        }
    }

    pub(super) fn summaries(&self) -> Vec<TopicSummary> {
        let mut topics: Vec<_> = self.catalogue.topics.iter().map(summary).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }
}

fn retention_bytes(entry: &TopicEntry) -> u64 {
    entry.log.map_or(entry.ring_bytes, |log| log.retention_bytes)
}

fn log_description(entry: &TopicEntry) -> Option<LogDescription> {
    let LogSettings { durability, retention_bytes: _, retention_ms, segment_bytes } = entry.log?;
    Some(LogDescription { durability, retention_ms, segment_bytes, ring_bytes: entry.ring_bytes })
}

fn summary(entry: &TopicEntry) -> TopicSummary {
    TopicSummary {
        name: entry.name.clone(),
        kind: entry.kind,
        overflow: entry.overflow,
        retention_bytes: retention_bytes(entry),
        log: log_description(entry),
        paused: entry.paused,
        partitions: u32::try_from(entry.partitions.len()).expect("bounded by PARTITIONS_PER_TOPIC"),
    }
}

/// A topic as the shards described its partitions. Each shard knows the number of a partition within its topic
/// only by the topic's list, so the number is set here.
pub(super) fn description(entry: &TopicEntry, statuses: Vec<PartitionStatus>) -> TopicDescription {
    let mut by_id: HashMap<u32, PartitionStatus> =
        statuses.into_iter().map(|status| (status.partition_id, status)).collect();
    let numbered = (0..).zip(&entry.partitions);
    let partitions = numbered.filter_map(|(number, partition)| {
        let mut status = by_id.remove(&partition.id)?;
        status.id = number;
        Some(status.into())
    });
    TopicDescription {
        name: entry.name.clone(),
        kind: entry.kind,
        overflow: entry.overflow,
        retention_bytes: retention_bytes(entry),
        log: log_description(entry),
        paused: entry.paused,
        partitions: partitions.collect(),
    }
}

/// Maps and touches `count` rings. Takes about 0.3 ms for each MiB.
///
/// # Errors
/// The host does not give the memory; what was mapped is unmapped.
pub(crate) fn make_rings(count: usize, ring_bytes: u64, huge: bool) -> Result<Vec<Arc<Mapping>>, MapError> {
    let bytes = usize::try_from(ring_bytes).expect("64-bit addresses");
    // A ring wraps where its mirror begins, so its mapping must not be rounded up.
    let huge = huge && bytes.is_multiple_of(HUGE_PAGE_BYTES);
    let pages = if huge { Pages::HugeIfAvailable } else { Pages::Small };
    let ring = || {
        let mapping = Mapping::mirrored(bytes, pages)?;
        mapping.prefault();
        Ok(Arc::new(mapping))
    };
    (0..count).map(|_| ring()).collect()
}
