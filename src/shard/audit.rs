//! What must hold of shards between any two ticks, and when no client is left: for worlds that are stepped.

use std::collections::VecDeque;

use super::Shard;
use super::channels::{Channel, Home};
use super::logs::FILES_KEPT;
use crate::buf::SendMemory;
use crate::commit_log::SegmentInfo;
use crate::ids::PartitionId;
use crate::io::Io;

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
        assert_eq!(shard.census.total(), 0, "the census");
        let sealed = shard.sealing.memory.as_ref().map_or(0, SendMemory::in_use_bytes);
        assert_eq!(sealed, 0, "send memory of {id}");
        assert!(shard.handshakes.is_empty() && shard.sealing.waits.is_empty(), "queues of {id}");
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
        assert!(shard.logs_settled(), "{id} has ended with something of a log to write");
        assert_eq!(shard.undelivered(), 0, "{id} has ended with records to deliver");
    }
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
