//! What control asks of a shard: topics come, pause and go; description; drain; stop.

use crate::access::{Access, TenantId};
use crate::buf::SendMemory;
use crate::ids::{ConnId, PartitionId, TopicId};
use crate::io::Io;
use crate::lifecycle::State;
use crate::limits::CONTROL_BLOCK_BYTES;
use crate::metrics::Counter;
use crate::mutation::{self, Mutation};
use crate::partition::{LogSpec, Partition, PartitionSpec};
use crate::proto::code::Code;
use crate::proto::control::Refusal;
use crate::proto::header::{FrameHeader, Kind};
use crate::topic::{Topic, TopicPartition};

use super::Shard;
use super::channels::Home;
use super::conn::{Conn, NONE, Phase};
use super::credit::CreditQueue;
use super::messages::{Command, Message, Report};
use super::subscriptions::Feed;
use super::topics::{Owned, PartitionSlot};

/// A topic on its way out: its memory is free once nothing refers to it.
pub(super) struct Removal {
    ticket: u64,
    pub topic: std::sync::Arc<Topic>,
}

impl<I: Io> Shard<I> {
    pub(super) fn command(&mut self, command: Command) {
        let shard = self.id;
        match command {
            Command::AddTopic { ticket, topic } => {
                self.add_topic(topic);
                self.report(Report::Done { ticket, shard });
            }
            Command::TopicReady { topic } => {
                if let Some(name) = self.topics.ready(topic) {
                    self.topic_decided(&name, Ok(()));
                }
            }
            Command::TopicsTold => self.topics_told(),
            Command::TopicRefused { name, code } => self.topic_decided(&name, Err(code)),
            Command::RemoveTopic { ticket, topic } => self.remove_topic(ticket, topic),
            Command::PauseTopic { ticket, topic, paused } => {
                self.pause_topic(topic, paused);
                self.report(Report::Done { ticket, shard });
            }
            Command::Describe { ticket, topic } => self.describe(ticket, topic),
            Command::Log(command) => self.log_command(command),
            Command::PauseServer { paused } => {
                // A server that drains stays with it; asked for twice, it stays as it is.
                let _left = self.state.advance(if paused { State::Paused } else { State::Running });
            }
            Command::Access(access) => self.renew_access(access),
            Command::Tls(server) => self.renew_tls(server),
            Command::Drain { deadline_ns } => self.drain(deadline_ns),
            Command::Stop => self.stopping = true,
        }
    }

    /// Tenants are numbered as the configuration lists them: each connection goes on as the one of its name.
    fn renew_access(&mut self, access: std::sync::Arc<Access>) {
        let before = std::mem::replace(&mut self.access, access);
        for id in self.conns.ids() {
            let renewed = |tenant: TenantId| self.access.renumbered(&before, tenant);
            let conn = &mut self.conns[id];
            let certified = conn.secured.as_mut().and_then(|secured| secured.tenant.as_mut());
            let kept = certified.is_none_or(|tenant| renewed(*tenant).map(|new| *tenant = new).is_some());
            let bound =
                conn.phase != Phase::Open || renewed(conn.tenant).map(|new| conn.tenant = new).is_some();
            if !kept || !bound {
                self.fail(id, Code::Unauthenticated, "the tenant is not configured any more".into());
            }
        }
    }

    fn add_topic(&mut self, topic: std::sync::Arc<Topic>) {
        for (number, partition) in (0u32..).zip(&topic.partitions) {
            // Every shard may be lent memory of every ring, so every shard knows them all.
            self.buffers.memory.attach(partition.ring, partition.mapping.clone());
            self.io.attach_region(partition.ring, &partition.mapping, false);
            if partition.shard == self.id {
                self.own_partition(&topic, number, partition);
            }
        }
        self.topics.learn(topic);
    }

    fn own_partition(&mut self, topic: &Topic, number: u32, partition: &TopicPartition) {
        let spec = PartitionSpec {
            id: partition.id,
            kind: topic.kind,
            overflow: topic.overflow,
            ring: partition.ring,
            ring_bytes: topic.ring_bytes,
            first_offset: partition.first_offset,
            committed: partition.committed.clone(),
            log: partition.log.clone().map(|recovered| LogSpec {
                recovered,
                durability: topic.durability,
                snapshot_bytes: self.limits.log_snapshot_bytes,
            }),
        };
        self.topics.own(Owned {
            partition: Partition::new(spec),
            id: partition.id,
            topic: topic.id,
            number,
            dirty: false,
            pinning: false,
            credit: CreditQueue::new(self.limits.frame_bytes_max, topic.ring_bytes),
            reported_end: partition.first_offset,
            log: partition.log.is_some().then(Box::default),
        });
    }

    fn pause_topic(&mut self, topic: TopicId, paused: bool) {
        if let Some(known) = self.topics.by_id(topic) {
            // Asked for twice, it stays as it is.
            let _left = known.state.advance(if paused { State::Paused } else { State::Running });
        }
        for slot in self.topics.slots() {
            let Some(owned) = self.topics.get_mut(slot) else { continue };
            if owned.topic == topic && !(self.id.0 == 0 && mutation::on(Mutation::PauseOne)) {
                if paused { owned.partition.pause() } else { owned.partition.resume() }
            }
        }
    }

    fn describe(&mut self, ticket: u64, topic: TopicId) {
        let shard = self.id;
        let mut partitions = Vec::new();
        for slot in self.topics.slots() {
            let Some(owned) = self.topics.get(slot) else { continue };
            if owned.topic == topic {
                partitions.push(owned.partition.status(&self.buffers, owned.number, shard));
            }
        }
        self.report(Report::Described { ticket, shard, partitions });
    }

    /// Takes a topic away under its clients; each is told.
    fn remove_topic(&mut self, ticket: u64, topic: TopicId) {
        let shard = self.id;
        let Some(known) = self.topics.forget(topic) else {
            return self.report(Report::Done { ticket, shard });
        };
        let ids: Vec<PartitionId> = known.topic.partitions.iter().map(|partition| partition.id).collect();
        for slot in self.topics.slots() {
            if let Some(owned) = self.topics.get_mut(slot).filter(|owned| owned.topic == topic) {
                owned.partition.delete(&mut self.buffers);
                owned.credit.forget_local();
                self.refuse_waiting(slot, Code::NoSuchTopicNow, "");
            }
        }
        let local: Vec<PartitionSlot> = ids.iter().filter_map(|&id| self.slot_of(id)).collect();
        for handle in self.channels.find(|home| match home {
            Home::Local { slot, .. } => local.contains(slot),
            Home::Remote { partition, .. } => ids.contains(partition),
            _ => false,
        }) {
            self.channels[handle].home = Home::Gone;
            self.let_ask(handle);
        }
        self.end_subscriptions_of(&ids);
        self.cut_remote_consumers_of(&ids);
        self.removals.push(Removal { ticket, topic: known.topic });
        self.busy = true;
    }

    fn end_subscriptions_of(&mut self, ids: &[PartitionId]) {
        let ended: Vec<u32> = self
            .subscriptions
            .iter()
            .filter(|(_, entry)| entry.conn.0 != NONE && ids.contains(&entry.partition) && !entry.ending)
            .map(|(index, _)| index)
            .collect();
        for index in ended {
            let (id, partition) = (self.subscriptions[index].conn, self.subscriptions[index].partition);
            if matches!(self.subscriptions[index].feed, Feed::Asked { .. }) {
                // It has not been made: the owner's answer is turned into a refusal of the request.
                self.unsubscribe(id, index);
                continue;
            }
            if let Some((request, _)) = self.subscriptions[index].announce.take() {
                self.refuse(id, request, Code::TopicDeleted, String::new());
                self.unsubscribe(id, index);
                continue;
            }
            let detail = format!("partition {partition}");
            let refusal = Refusal { code: Code::TopicDeleted, retry_after_us: 0, record: None, detail };
            self.say(id, &refusal.frame(Kind::Error, partition.0, 0));
            self.unsubscribe(id, index);
        }
    }

    /// Consumers of other shards whose frame cannot be finished are told so.
    fn cut_remote_consumers_of(&mut self, ids: &[PartitionId]) {
        let consumers = self.remote_consumers.iter();
        let of_topic = consumers.filter(|(_, consumer)| consumer.used && ids.contains(&consumer.partition));
        for index in of_topic.map(|(index, _)| index).collect::<Vec<_>>() {
            let consumer = &mut self.remote_consumers[index];
            if let Some((request, _)) = consumer.announce.take() {
                let (to, partition, result) = (consumer.to, consumer.partition, Err(Code::TopicDeleted));
                self.answer(to.shard, Message::RemoteSubscribed { to, request, partition, result });
                self.remove_remote_consumer(index);
                continue;
            }
            self.say_whole(index);
        }
    }

    /// Finishes removals whose memory nothing refers to any more.
    pub(super) fn continue_removals(&mut self) {
        for removal in std::mem::take(&mut self.removals) {
            if self.is_referred_to(&removal.topic) {
                self.removals.push(removal);
                continue;
            }
            for partition in &removal.topic.partitions {
                self.forget_partition(partition);
            }
            let (ticket, shard) = (removal.ticket, self.id);
            self.report(Report::Done { ticket, shard });
        }
    }

    fn is_referred_to(&self, topic: &Topic) -> bool {
        let of_topic = |id: PartitionId| topic.partitions.iter().any(|partition| partition.id == id);
        let subscribed = self.subscriptions.iter().any(|(_, entry)| {
            entry.conn.0 != NONE && of_topic(entry.partition) && !matches!(entry.feed, Feed::Nowhere)
        });
        let writing = topic.partitions.iter().filter_map(|partition| self.slot_of(partition.id));
        subscribed
            || writing.map(|slot| &self.topics[slot]).any(Owned::has_file_operations)
            || self.remote_consumers.iter().any(|(_, consumer)| consumer.used && of_topic(consumer.partition))
    }

    fn forget_partition(&mut self, partition: &TopicPartition) {
        if let Some(slot) = self.slot_of(partition.id) {
            self.forget_remote_producers(slot);
            self.forget_log(slot);
            self.pinning.retain(|&pinning| pinning != slot);
            self.dirty_partitions.retain(|&dirty| dirty != slot);
            self.starving.retain(|&starving| starving != slot);
            self.topics.disown(partition.id);
        }
        self.io.detach_region(partition.ring);
        self.buffers.memory.detach(partition.ring);
    }

    /// The server is going: no new batch is taken, what subscribers have yet to get is delivered.
    fn drain(&mut self, deadline_ns: u64) {
        if self.state.advance(State::Draining).is_err() {
            return;
        }
        self.drain_deadline_ns = Some(deadline_ns);
        self.finish_logs();
        self.stop_accepting();
        for id in self.conns.ids() {
            if self.conns[id].phase == Phase::Open {
                self.ack_all(id);
                if !mutation::on(Mutation::DrainUntold) {
                    self.say_drain(id);
                }
            }
        }
    }

    pub(super) fn say_drain(&mut self, id: ConnId) {
        let left_ns = self.drain_deadline_ns.unwrap_or(0).saturating_sub(self.clock.mono_ns);
        let append_time_ns = self.clock.wall_ns + left_ns;
        let frame = FrameHeader { append_time_ns, ..FrameHeader::new(Kind::Drain) }.alone();
        self.say(id, &frame);
    }

    /// Whether the drain has come to its end: all is delivered and acknowledged, or the time is up. Then every
    /// peer is told that the server goes, and control once they have heard it and gone, or have had their time: what a
    /// socket has taken is not with the peer yet, and is lost when the socket goes while the peer still speaks. What
    /// other shards' partitions hold for connections of this one counts too: each shard tells all others when its own
    /// partitions are done.
    pub(super) fn check_drain(&mut self) {
        let Some(deadline_ns) = self.drain_deadline_ns else { return };
        if self.drained {
            return;
        }
        let late = self.clock.mono_ns >= deadline_ns;
        if self.drain_leftover.is_none() {
            let leftover = self.undelivered();
            if leftover == 0 {
                self.say_delivered();
            }
            let everywhere =
                leftover == 0 && self.delivered_elsewhere + 1 >= self.shards && self.logs_settled();
            if everywhere && self.all_quiet() || late {
                self.drain_leftover = Some(leftover);
                self.say_goodbye();
            }
        }
        if let Some(leftover) = self.drain_leftover
            && (late || self.all_quiet() && !self.somebody_lingers())
        {
            self.drained = true;
            self.report_log_ends();
            let (shard, settled) = (self.id, self.logs_settled() && self.logs_are_whole());
            self.report(Report::Drained { shard, leftover, settled });
        }
    }

    /// Tells the other shards once: a connection here may be subscribed there, and is told goodbye last.
    fn say_delivered(&mut self) {
        if std::mem::replace(&mut self.delivered_said, true) {
            return;
        }
        let own = usize::from(self.id.0);
        for to in (0..usize::from(self.shards)).filter(|&to| to != own) {
            self.send_surely(to, Message::Delivered);
        }
    }

    /// Nothing waits to be sent or to come back, and no subscription for its answer.
    fn all_quiet(&self) -> bool {
        let quiet = |conn: &Conn| {
            let owes = conn.secured.as_ref().is_some_and(|secured| secured.owes());
            conn.outbox.is_empty()
                && conn.sending.is_none()
                && conn.lent == 0
                && conn.waiting_acks == 0
                && !owes
        };
        let asked = |feed: &Feed| matches!(feed, Feed::Asked { .. });
        self.conns.in_use().all(quiet) && !self.subscriptions.iter().any(|(_, entry)| asked(&entry.feed))
    }

    fn somebody_lingers(&self) -> bool {
        self.conns.in_use().any(|conn| conn.phase == Phase::Lingering)
    }

    fn say_goodbye(&mut self) {
        let detail = String::new();
        let refusal = Refusal { code: Code::ServerDraining, retry_after_us: 0, record: None, detail };
        let frame = refusal.frame(Kind::Close, 0, 0);
        for id in self.conns.ids() {
            if self.conns[id].phase == Phase::Open {
                self.say(id, &frame);
                self.linger(id, None);
            }
        }
        self.busy = true;
    }

    /// Records that current subscribers have yet to get.
    pub(super) fn undelivered(&self) -> u64 {
        self.topics
            .slots()
            .filter_map(|slot| self.topics.get(slot))
            .map(|owned| owned.partition.lag_records())
            .chain(
                self.conns
                    .in_use()
                    .filter_map(|conn| conn.secured.as_ref())
                    .map(|secured| secured.unsent_records()),
            )
            .sum()
    }

    pub(super) fn report_log_ends(&mut self) {
        let mut ends = Vec::new();
        for slot in self.topics.slots() {
            let Some(owned) = self.topics.get_mut(slot) else { continue };
            let end = owned.partition.log_end_offset();
            if end != owned.reported_end {
                owned.reported_end = end;
                ends.push((owned.id, end));
            }
        }
        if !ends.is_empty() {
            let shard = self.id;
            self.report(Report::LogEnds { shard, ends });
        }
    }

    /// Puts the copy counters on the page: once a second, and before each sleep, so that they are right at rest.
    pub(super) fn publish_copies(&self) {
        for (reason, copied) in self.buffers.memory.copies().iter() {
            self.counters.set_copies(reason, copied.count, copied.bytes);
        }
    }

    pub(super) fn every_second(&mut self) {
        self.report_log_ends();
        self.logs_every_second();
        self.publish_copies();
        let mut retained = 0;
        let (mut evicted_records, mut evicted_bytes) = (0, 0);
        for slot in self.topics.slots() {
            let Some(owned) = self.topics.get(slot) else { continue };
            retained += owned.partition.retained_bytes();
            let counts = owned.partition.counters();
            evicted_records += counts.evicted_records;
            evicted_bytes += counts.evicted_bytes;
        }
        let control_bytes = self.blocks.in_use() as u64 * u64::from(CONTROL_BLOCK_BYTES);
        self.counters.set(Counter::ControlMemoryInUseBytes, control_bytes);
        self.counters.set(Counter::CqOverflows, self.io.overflows());
        self.counters.set(Counter::RetainedBytes, retained);
        self.counters.set(Counter::EvictedRecords, evicted_records);
        self.counters.set(Counter::EvictedBytes, evicted_bytes);
        self.counters.set(Counter::ReceiveMemoryInUseBytes, self.buffers.receive.in_use_bytes());
        let sending = self.sealing.memory.as_ref().map_or(0, SendMemory::in_use_bytes);
        self.counters.set(Counter::SendMemoryInUseBytes, sending);
        self.end_stalled();
    }
}
