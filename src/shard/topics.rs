//! What the shard knows of topics, and the partitions it owns.
//!
//! Every shard knows every topic (control tells all of them); only the owner has the partition's state.
//! A partition's slot is reused only after the topic was removed and nothing refers to it any more.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ids::{PartitionId, ShardId, TopicId};
use crate::lifecycle::State;
use crate::partition::Partition;
use crate::proto::code::Code;
use crate::topic::Topic;

use super::credit::CreditQueue;
use super::logs::OwnedLog;

/// Index of a partition this shard owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PartitionSlot(pub u32);

/// A partition of this shard.
pub(super) struct Owned {
    pub partition: Partition,
    pub id: PartitionId,
    pub topic: TopicId,
    /// Its number within the topic.
    pub number: u32,
    /// In the list of partitions to fan out.
    pub dirty: bool,
    /// In the list of partitions that may hold receive memory.
    pub pinning: bool,
    /// Producers that wait for credit.
    pub credit: CreditQueue,
    /// Log end when it was last reported to control.
    pub reported_end: u64,
    /// Kind `log`.
    pub log: Option<Box<OwnedLog>>,
}

impl Owned {
    /// Whether anything on its files is in flight.
    pub(super) fn has_file_operations(&self) -> bool {
        let reads = self.log.as_ref().is_some_and(|log| log.files.iter().any(|open| open.reads > 0));
        reads || self.partition.log_operations() > 0
    }

    /// What goes with a refusal, where there is more to say than its code does.
    pub(super) fn why_not(&self, code: Code) -> String {
        match (&self.log, code) {
            (Some(log), Code::DiskFull) => log.refused.clone(),
            _ => String::new(),
        }
    }
}

/// A topic as the shard knows it.
pub(super) struct Known {
    pub topic: Arc<Topic>,
    /// INIT until every shard knows the topic: before, clients wait.
    pub state: State,
}

/// See the module.
pub(super) struct TopicTable {
    by_name: HashMap<String, TopicId>,
    by_id: HashMap<TopicId, Known>,
    slots: Vec<Option<Owned>>,
    slot_of: HashMap<PartitionId, PartitionSlot>,
    owner_of: HashMap<PartitionId, ShardId>,
    /// The highest partition id ever learned. Control tells every shard of new topics in the order of their ids.
    newest: PartitionId,
    /// Control has told of every topic that there was at the start.
    all_told: bool,
}

impl TopicTable {
    pub(super) fn new() -> Self {
        TopicTable {
            by_name: HashMap::new(),
            by_id: HashMap::new(),
            slots: Vec::new(),
            slot_of: HashMap::new(),
            owner_of: HashMap::new(),
            newest: PartitionId(0),
            all_told: false,
        }
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Known> {
        self.by_id.get(self.by_name.get(name)?).filter(|known| known.state != State::Init)
    }

    /// Whether a topic of this name is about to be ready, or may be, as the server starts.
    pub(super) fn may_come(&self, name: &str) -> bool {
        !self.all_told || self.by_name.contains_key(name)
    }

    /// Every topic that there is is known.
    pub(super) fn told(&mut self) {
        self.all_told = true;
    }

    /// Clients may have the topic from now on; says its name.
    pub(super) fn ready(&mut self, id: TopicId) -> Option<String> {
        let known = self.by_id.get_mut(&id)?;
        known.state.advance(State::Running).ok()?;
        Some(known.topic.name.clone())
    }

    pub(super) fn by_id(&mut self, id: TopicId) -> Option<&mut Known> {
        self.by_id.get_mut(&id)
    }

    /// All that it knows, in no order.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn known(&self) -> impl Iterator<Item = &Topic> {
        self.by_id.values().map(|known| &*known.topic)
    }

    pub(super) fn slot(&self, id: PartitionId) -> Option<PartitionSlot> {
        self.slot_of.get(&id).copied()
    }

    /// What to tell another shard of a partition that is not here: it has gone, or control's word of it has reached
    /// the other shard first and comes here any moment.
    pub(super) fn why_missing(&self, id: PartitionId) -> Code {
        if id > self.newest { Code::Unavailable } else { Code::TopicDeleted }
    }

    pub(super) fn owner(&self, id: PartitionId) -> Option<ShardId> {
        self.owner_of.get(&id).copied()
    }

    pub(super) fn learn(&mut self, topic: Arc<Topic>) {
        for partition in &topic.partitions {
            self.owner_of.insert(partition.id, partition.shard);
            self.newest = self.newest.max(partition.id);
        }
        self.by_name.insert(topic.name.clone(), topic.id);
        self.by_id.insert(topic.id, Known { topic, state: State::Init });
    }

    pub(super) fn forget(&mut self, id: TopicId) -> Option<Known> {
        let known = self.by_id.remove(&id)?;
        self.by_name.remove(&known.topic.name);
        for partition in &known.topic.partitions {
            self.owner_of.remove(&partition.id);
        }
        Some(known)
    }

    pub(super) fn own(&mut self, owned: Owned) -> PartitionSlot {
        let id = owned.id;
        let index = match self.slots.iter().position(Option::is_none) {
            Some(index) => {
                self.slots[index] = Some(owned);
                index
            }
            None => {
                self.slots.push(Some(owned));
                self.slots.len() - 1
            }
        };
        let slot = PartitionSlot(u32::try_from(index).expect("partitions are bounded"));
        self.slot_of.insert(id, slot);
        slot
    }

    /// Gives a partition up; its slot is free.
    pub(super) fn disown(&mut self, id: PartitionId) -> Option<Owned> {
        let slot = self.slot_of.remove(&id)?;
        self.slots[slot.0 as usize].take()
    }

    pub(super) fn get(&self, slot: PartitionSlot) -> Option<&Owned> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: PartitionSlot) -> Option<&mut Owned> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// Slots of partitions, in use or not.
    pub(super) fn slots(&self) -> impl Iterator<Item = PartitionSlot> + use<> {
        let count = u32::try_from(self.slots.len()).expect("partitions are bounded");
        (0..count).map(PartitionSlot)
    }
}

impl std::ops::Index<PartitionSlot> for TopicTable {
    type Output = Owned;
    fn index(&self, slot: PartitionSlot) -> &Owned {
        self.slots[slot.0 as usize].as_ref().expect("a slot in use: references go before the partition does")
    }
}

impl std::ops::IndexMut<PartitionSlot> for TopicTable {
    fn index_mut(&mut self, slot: PartitionSlot) -> &mut Owned {
        self.slots[slot.0 as usize].as_mut().expect("a slot in use: references go before the partition does")
    }
}
