//! What must hold of shards between any two ticks, and when no client is left: for worlds that are stepped.

use std::collections::VecDeque;
use std::fmt::Display;

use super::Shard;
use super::catchup::OPENINGS_MAX;
use super::channels::{Channel, Home};
use super::credit::Waiter;
use super::logs::FILES_KEPT;
use super::session::WAITING_MAX;
use super::topics::{Owned, PartitionSlot};
use crate::buf::SendMemory;
use crate::commit_log::SegmentInfo;
use crate::ids::{ConnId, PartitionId, SubscriberId};
use crate::io::Io;
use crate::lifecycle::State;
use crate::limits::{LOG_ACKS_WAITING_MAX, LOG_WRITES_IN_FLIGHT, TOPICS_MAX};

impl<I: Io> Shard<I> {
    /// Bytes of the shared ring that this shard takes to be the kernel's.
    pub fn shared_free_bytes(&self) -> u64 {
        self.buffers.receive.shared_free_bytes().into()
    }

    /// The offset behind the last record that consumers of a partition of this shard may have.
    pub fn visible_end(&self, partition: PartitionId) -> u64 {
        let owned = self.topics.slot(partition).and_then(|slot| self.topics.get(slot));
        owned.map_or(0, |owned| owned.partition.visible().offset)
    }

    /// Whether consumers may have all that its partitions have taken: none waits to be written, or synced.
    pub fn is_all_visible(&self) -> bool {
        let mut partitions =
            self.topics.slots().filter_map(|slot| self.topics.get(slot)).map(|of| &of.partition);
        partitions.all(|of| of.fenced().is_some() || of.visible().offset == of.log_end_offset())
    }

    /// Partitions that take nothing any more.
    pub fn fenced(&self) -> impl Iterator<Item = PartitionId> {
        let all = self.topics.slots().filter_map(|slot| self.topics.get(slot));
        all.filter(|of| of.partition.fenced().is_some()).map(|of| of.id)
    }

    /// Whether other shards, or control, have sent it something that it has not taken.
    pub fn has_messages(&self) -> bool {
        self.mesh.has_messages()
    }

    /// Whether a partition of this shard pauses; `None` where there is none, or it is deleted.
    pub fn is_paused(&self, partition: PartitionId) -> Option<bool> {
        let owned = self.topics.get(self.topics.slot(partition)?)?;
        (!owned.partition.is_deleted()).then(|| owned.partition.is_paused())
    }

    /// The closed segments of each log of this shard, oldest first.
    pub fn closed_segments(&self) -> impl Iterator<Item = (PartitionId, &VecDeque<SegmentInfo>)> {
        self.topics.slots().filter_map(|slot| {
            let owned = self.topics.get(slot).filter(|owned| !owned.partition.is_deleted())?;
            Some((owned.id, owned.partition.closed_segments()?))
        })
    }
}

/// What each partition has promised is what its producers hold, here and elsewhere.
///
/// # Panics
/// When it is not.
pub fn assert_credit_conserved<I: Io>(shards: &[Shard<I>]) {
    for shard in shards {
        for slot in shard.topics.slots() {
            // What is deleted grants nothing any more, and takes nothing back.
            let owned = shard.topics.get(slot).filter(|owned| !owned.partition.is_deleted());
            let Some(owned) = owned else { continue };
            let here = shard
                .channels
                .iter()
                .filter(|c| matches!(c.home, Home::Local { slot: at, .. } if at == slot));
            let here: u64 = here.map(Channel::available).sum();
            let elsewhere = shard.remote_producers.iter().filter(|(_, p)| p.used && p.slot == slot);
            let elsewhere: u64 = elsewhere.map(|(_, producer)| producer.granted).sum();
            assert_eq!(owned.partition.granted(), here + elsewhere, "partition {} of {}", owned.id, shard.id);
        }
        for channel in shard.channels.iter() {
            let Home::Remote { shard: owner, owner_slot, partition } = channel.home else { continue };
            let owner = &shards[usize::from(owner.0)];
            let account = owner.remote_producers.look_up(owner_slot);
            if let Some(account) = account.filter(|p| p.used && owner.topics.slot(partition) == Some(p.slot))
            {
                assert!(
                    channel.available() <= account.granted,
                    "{channel:?} has what the owner granted: {account:?}"
                );
            }
        }
    }
}

/// Regions of memory that a shard has beside the rings of the topics that it has heard of: as many at all times.
pub fn own_regions<I: Io>(shard: &Shard<I>) -> usize {
    let leaving = shard.removals.iter().map(|removal| &*removal.topic);
    let rings: usize = shard.topics.known().chain(leaving).map(|topic| topic.partitions.len()).sum();
    shard.buffers.memory.attached() - rings
}

/// Every list of a shard is within its bound between two ticks: an entry of a table is in each once at most, so a list is
/// never longer than its table, however long what it waits for takes.
///
/// # Panics
/// When one is not.
pub fn assert_within_bounds<I: Io>(shard: &Shard<I>) {
    let id = shard.id;
    let conns = shard.conns.slots();
    assert!(conns <= shard.conns.capacity(), "connections of {id}: {conns}");
    let index = |&ConnId(conn): &ConnId| conn as usize;
    assert_listed_once("connections to receive from", id, conns, shard.rearm.iter().map(index));
    assert_listed_once("bulk connections to read", id, conns, shard.bulk_ready.iter().map(index));
    assert_listed_once("connections to send to", id, conns, shard.dirty_conns.iter().map(index));
    assert_listed_once("handshakes", id, conns, shard.handshakes.iter().map(index));
    assert_listed_once("waits for send memory", id, conns, shard.sealing.waits.iter().map(index));
    // These are worked off before a tick ends.
    let left = (shard.departing.len(), shard.doomed.len(), shard.expired.len(), shard.ack_list.len());
    assert_eq!(left, (0, 0, 0, 0), "departures, closings, timers and acknowledgements of {id} that are left");
    let subscriptions = shard.subscriptions.slots();
    let credit = shard.credit_list.iter().map(|&index| index as usize);
    assert_listed_once("subscriptions with credit to pass on", id, subscriptions, credit);

    let partitions = shard.topics.slots().count();
    let index = |&PartitionSlot(slot): &PartitionSlot| slot as usize;
    assert_listed_once("partitions with news", id, partitions, shard.dirty_partitions.iter().map(index));
    assert_listed_once("partitions without credit", id, partitions, shard.starving.iter().map(index));
    assert_listed_once("partitions that pin", id, partitions, shard.pinning.iter().map(index));
    assert_listed_once("logs with work", id, partitions, shard.logs.list.iter().map(index));
    // Control has a topic until the last shard has let go of it, and no more topics than this.
    let removals = shard.removals.iter().map(|removal| removal.topic.id.0 as usize);
    assert!(removals.len() <= TOPICS_MAX as usize, "removals of {id}: {}", removals.len());
    assert_listed_once("topics to remove", id, usize::MAX, removals);
    let waiting = shard.waiting_for_topic.len();
    assert!(waiting <= WAITING_MAX, "requests of {id} that wait for a topic: {waiting}");

    // Subscribers are in two tables.
    let subscribers = subscriptions + shard.remote_consumers.slots();
    let readers = shard.logs.readers.waiting().map(|(slot, SubscriberId(subscriber))| {
        assert!(shard.topics.get(slot).is_some(), "{slot:?} of {id}, which is read, is there");
        (slot.0 as usize) << 32 | subscriber as usize
    });
    let readers: Vec<usize> = readers.collect();
    assert!(readers.len() <= subscribers, "reads of {id} that wait: {}", readers.len());
    assert_listed_once("reads", id, usize::MAX, readers.into_iter());
    for owned in shard.topics.slots().filter_map(|slot| shard.topics.get(slot)) {
        assert_partition_within_bounds(shard, owned);
    }
}

fn assert_partition_within_bounds<I: Io>(shard: &Shard<I>, owned: &Owned) {
    let partition = owned.id;
    let (here, elsewhere) = (shard.channels.slots(), shard.remote_producers.slots());
    let waiting = owned.credit.waiting().map(|waiter| match waiter {
        Waiter::Here(handle) => handle as usize,
        Waiter::Elsewhere(owner_slot) => here + owner_slot as usize,
    });
    assert_listed_once("producers that wait for credit", partition, here + elsewhere, waiting);
    let Some(log) = &owned.log else { return };
    assert!(log.acks.len() <= LOG_ACKS_WAITING_MAX, "batches of {partition} wait: {}", log.acks.len());
    assert!(log.no_room.len() <= LOG_WRITES_IN_FLIGHT, "writes of {partition} wait: {:?}", log.no_room);
    assert!(log.opening.len() <= OPENINGS_MAX, "files of {partition} to open: {:?}", log.opening);
}

/// Each entry of a list is of a table with so many slots, and is in it once.
fn assert_listed_once(
    what: &str,
    of: impl Display,
    slots: usize,
    list: impl ExactSizeIterator<Item = usize>,
) {
    if list.len() == 0 {
        return;
    }
    assert!(list.len() <= slots, "{what} of {of}: {} for {slots}", list.len());
    let mut sorted: Vec<usize> = list.collect();
    sorted.sort_unstable();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "{what} of {of} are listed once");
    assert!(sorted.last().is_some_and(|&last| last < slots), "{what} of {of}: {sorted:?} of {slots}");
}

/// What must be back at rest when no client is connected.
///
/// # Panics
/// When something is not.
pub fn assert_nothing_leaked<I: Io>(shards: &[Shard<I>]) {
    for shard in shards {
        let id = shard.id;
        assert_eq!(shard.conns.open_count(), 0, "connections of {id}");
        assert_eq!(shard.channels.open_count(), 0, "channels of {id}");
        assert_eq!(shard.subscriptions.len(), 0, "subscriptions of {id}");
        assert_eq!(shard.remote_producers.len(), 0, "other shards' producers of {id}");
        assert_eq!(shard.remote_consumers.len(), 0, "other shards' consumers of {id}");
        assert_eq!(shard.buffers.receive.in_use_bytes(), 0, "receive memory of {id}");
        assert_eq!(shard.blocks.in_use(), 0, "control blocks of {id}");
        assert_eq!(shard.logs.blocks.in_use_bytes(), 0, "memory for logs of {id}");
        assert!(shard.conns.in_use().all(|conn| conn.waiting_acks == 0), "acknowledgements of {id}");
        assert_eq!(shard.promoted, 0, "regions of {id}");
        assert_eq!(shard.bulk_reading, None, "reads of {id}");
        assert_eq!(shard.holders.first(), None, "partial frames of {id}");
        assert_eq!(shard.waiting_for_topic.len(), 0, "requests of {id}");
        assert!(shard.backlog.iter().all(|backlog| backlog.is_empty()), "messages of {id}");
        assert_eq!((shard.census.total(), shard.census.being_told_no()), (0, 0), "the census");
        let sealed = shard.sealing.memory.as_ref().map_or(0, SendMemory::in_use_bytes);
        assert_eq!(sealed, 0, "send memory of {id}");
        assert!(shard.handshakes.is_empty() && shard.sealing.waits.is_empty(), "queues of {id}");
        assert!(shard.credit_list.is_empty() && shard.starving.is_empty(), "waits for credit of {id}");
        assert!(shard.dirty_conns.is_empty() && shard.bulk_ready.is_empty(), "connections to serve of {id}");
        let granted = shard.topics.slots().filter_map(|slot| shard.topics.get(slot));
        assert_eq!(granted.map(|owned| owned.partition.granted()).sum::<u64>(), 0, "credit of {id}");
    }
}

/// The files that are `attached` to each shard are those of its logs' segments, of logs that control has, and none is in
/// use or asked for: what must be when nobody reads and all is written.
///
/// # Panics
/// When they are not.
pub fn assert_files_at_rest<I: Io>(
    shards: &[Shard<I>],
    attached: impl Fn(&I) -> usize,
    is_listed: impl Fn(PartitionId) -> bool,
) {
    for shard in shards {
        let id = shard.id;
        let mut known = 0;
        for owned in shard.topics.slots().filter_map(|slot| shard.topics.get(slot)) {
            let Some(log) = &owned.log else { continue };
            let partition = owned.id;
            assert!(is_listed(partition), "{id} has files of partition {partition}, which is not there");
            assert!(log.opening.is_empty(), "files of {partition} are still opened: {:?}", log.opening);
            assert_eq!(log.files.iter().map(|open| open.reads).sum::<u32>(), 0, "reads of {partition}");
            let closed = log.files.iter().filter(|open| open.closed).count();
            assert!(closed <= FILES_KEPT, "closed segments of {partition} that are open: {closed}");
            // The one that is written to, and two ahead where it hurries. A fenced log has those, too, that it could not
            // sync.
            let written = log.files.len() - closed;
            assert!(
                written <= 3 || owned.partition.fenced().is_some(),
                "{partition} writes to {written} files"
            );
            known += log.files.len();
        }
        assert_eq!(attached(&shard.io), known, "files of {id}");
        assert!(shard.logs.readers.are_at_rest(), "reads of {id}: {:?}", shard.logs.readers);
    }
}

/// What must be of shards that have ended with nothing left: no word is unsaid, and what the logs took is written.
///
/// # Panics
/// When something is left.
pub fn assert_all_said_and_written<I: Io>(shards: &[Shard<I>]) {
    for shard in shards {
        let id = shard.id;
        assert!(shard.backlog.iter().all(|backlog| backlog.is_empty()), "messages of {id}");
        for owned in shard.topics.slots().filter_map(|slot| shard.topics.get(slot)) {
            // It may be listed to be looked at once more, for nothing: a file that came, or a word about one that went.
            let answered = owned.log.as_ref().is_none_or(|log| log.acks.is_empty());
            let settled = answered && owned.partition.log_settled() && owned.partition.log_is_whole();
            assert!(settled, "{id} has ended with something of {} to write", owned.id);
        }
        assert_eq!(shard.undelivered(), 0, "{id} has ended with records to deliver");
    }
}

/// Sessions that have begun on a shard that drains.
pub fn sessions_in_drain<I: Io>(shard: &Shard<I>) -> Option<u64> {
    (shard.state == State::Draining).then_some(shard.sessions)
}

/// Whether a shard has had its last turn.
pub fn is_stopping<I: Io>(shard: &Shard<I>) -> bool {
    shard.stopping
}

/// On every connection that speaks TLS the next data is sealed with another key.
pub fn replace_keys<I: Io>(shard: &mut Shard<I>) {
    for id in shard.conns.ids() {
        if let Some(secured) = &mut shard.conns[id].secured {
            secured.session.replace_key();
            shard.session_went_on(id);
        }
    }
}

/// What keeps a shard from resting, for whoever wants to know.
pub fn restless<I: Io>(shard: &mut Shard<I>) -> String {
    let dirty: Vec<String> = shard
        .dirty_conns
        .iter()
        .map(|&id| {
            let conn = &shard.conns[id];
            format!("{id:?} {:?} blocked {} sending {}", conn.phase, conn.blocked, conn.ops)
        })
        .collect();
    let since_ns = shard.clock.mono_ns.saturating_sub(shard.last_message_ns);
    let rests = shard.mesh.about_to_sleep();
    shard.mesh.awake();
    let backlog: Vec<usize> = shard.backlog.iter().map(|of| of.len()).collect();
    format!(
        "busy {}, dirty {dirty:?}, a message {since_ns} ns ago, mesh rests {rests}, backlog {backlog:?}",
        shard.busy
    )
}

/// What is known of a partition's consumers, for whoever wonders why one does not get on.
pub fn consumers<I: Io>(shards: &[Shard<I>], partition: PartitionId) -> String {
    let mut said = String::new();
    for shard in shards {
        if let Some(owned) = shard.topics.slot(partition).and_then(|slot| shard.topics.get(slot)) {
            said += &format!(
                "{} {:?} in the logs' memory {}, readers {:?}",
                shard.id,
                owned.partition.consumers_in_full(),
                shard.logs.blocks.in_use_bytes(),
                shard.logs.readers,
            );
        }
        for (_, entry) in shard.subscriptions.iter().filter(|(_, entry)| entry.partition == partition) {
            said += &format!("; on {} {entry:?}", shard.id);
        }
    }
    said
}
