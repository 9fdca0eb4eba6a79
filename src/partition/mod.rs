//! One partition's whole state as a pure state machine: no I/O, no clock, no libc.
//!
//! Owns: the log's window of positions and offsets ([`log`]), the subscribers' cursors, the producers'
//! deduplication table, committed names, the credit pool, and (kind `live`) the holds on receive memory.
//!
//! Positions are absolute byte counts since the partition was made. A frame at position `p` belongs at
//! `p % ring_bytes` of the partition's mirrored ring; kind `memory` copies it there once at append, kind
//! `live` leaves it in receive memory, held, and copies it there only when a laggard must not pin that memory.
//!
//! Invariants
//! - `start <= every cursor <= end <= start + ring_bytes`; `start`, `end` and every cursor's `boundary` are
//!   where frames begin. So whatever a `live` partition holds can always be copied to its ring.
//! - Offsets in the window have no holes; a subscriber gets each record once, in order, or a [`Gap`] that
//!   says exactly which it does not get.
//! - Bytes that are taken and not yet accounted for by `sent` stay where they are.
//! - A frame that was begun on a socket is finished before anything else, whatever credit or overflow say.

mod catchup;
mod committed;
mod credit;
mod durable;
mod holes;
mod index;
mod live;
mod log;
mod producers;
mod status;
mod subscribers;
mod take;
mod totals;

#[cfg(test)]
mod tests;

use crate::buf::{Buffers, CopyReason, Span};
use crate::commit_log::RecoveredLog;
use crate::ids::{PartitionId, RegionId, SubscriberId};
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::proto::control::Start;
use crate::proto::header::{AckLevel, FrameHeader, GapReason, stamp};
use crate::topic::{Overflow, TopicKind};

pub use catchup::{ReadDone, ReadFailed, ReadPlan};
pub use durable::{LogEvent, LogWrite, NextSegment, NoSegment, Wrote};
pub use producers::{Admission, OpenedProducer, ProducerSlot};
pub use status::{ConsumerStatus, PartitionStatus};

use committed::Committed;
use credit::CreditPool;
pub use credit::CreditRoom;
use durable::Durable;
use log::{Boundary, HEADER_BYTES, Log};
use producers::{Producers, Remembered};
use subscribers::{Subscriber, Subscribers};

/// Records a subscriber will not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from: u64,
    /// How many.
    pub records: u64,
    /// Why.
    pub reason: GapReason,
}

/// What a partition is made from.
#[derive(Debug, Clone)]
pub struct PartitionSpec {
    /// Unique in the server; the `channel` of delivered frames.
    pub id: PartitionId,
    /// See [`TopicKind`].
    pub kind: TopicKind,
    /// See [`Overflow`].
    pub overflow: Overflow,
    /// A mirrored region of `ring_bytes`.
    pub ring: RegionId,
    /// Distinct bytes of the ring.
    pub ring_bytes: u64,
    /// Offset of the first record.
    pub first_offset: u64,
    /// Committed offsets by consumer name, as recovered.
    pub committed: Vec<(String, u64)>,
    /// Kind `log`, and no other.
    pub log: Option<LogSpec>,
}

/// See [`PartitionSpec::log`].
#[derive(Debug, Clone)]
pub struct LogSpec {
    /// What its files hold.
    pub recovered: RecoveredLog,
    /// What records have to have reached before consumers get them; `Received` counts as `Written`.
    pub durability: AckLevel,
    /// Bytes of log between two snapshots of the small state.
    pub snapshot_bytes: u64,
}

/// Whose memory a frame to append lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This shard's: it may be held and written to.
    Local,
    /// Another shard's: it is copied before `append` returns.
    Foreign,
}

/// Where a batch was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Of its first record.
    pub offset: u64,
    /// ns since 1970, UTC; never less than that of the batch before.
    pub append_time_ns: u64,
}

/// What `take` gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Bytes of the spans together.
    pub bytes: u32,
    /// Records of the frames that end in these bytes. `sent` says how many of them went.
    pub records: u32,
    /// To be told before the bytes; given once, so it has to be sent.
    pub gap: Option<Gap>,
}

/// A subscription that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewSubscription {
    /// Its name in every later call; reused after `unsubscribe`.
    pub id: SubscriberId,
    /// The first offset is looked for in the files: it is known when `read_done` or `seek_in_ring` say so, and nothing
    /// comes before.
    pub seeking: bool,
    /// The first offset asked for that it will get; the batch around it comes whole, and its reader skips.
    pub start_offset: u64,
    /// The oldest offset kept.
    pub log_start_offset: u64,
    /// The offset the next record gets.
    pub log_end_offset: u64,
}

/// What has happened in a partition since it was made; read by the shard for its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionCounters {
    /// Batches appended.
    pub appended_batches: u64,
    /// Records appended.
    pub appended_records: u64,
    /// Frame bytes appended.
    pub appended_bytes: u64,
    /// Records that left the ring to make room.
    pub evicted_records: u64,
    /// Frame bytes that left the ring to make room.
    pub evicted_bytes: u64,
    /// Of the evicted records, those that went before every subscriber had them, or while nobody was subscribed.
    pub dropped_records: u64,
    /// Records subscribers were told they missed, summed over subscribers.
    pub gap_records: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    Paused,
    Deleted,
}

/// See the module.
#[derive(Debug)]
pub struct Partition {
    id: PartitionId,
    kind: TopicKind,
    overflow: Overflow,
    state: State,
    first_offset: u64,
    last_append_ns: u64,
    log: Log,
    /// Kind `log`.
    durable: Option<Box<Durable>>,
    subscribers: Subscribers,
    producers: Producers,
    committed: Committed,
    credit: CreditPool,
    counters: PartitionCounters,
}

impl Partition {
    /// An empty partition. All it needs at steady state is allocated here, or with each new subscriber,
    /// producer or committed name up to their bounds in `limits`.
    ///
    /// # Panics
    /// When the ring has no room for two headers.
    #[must_use]
    pub fn new(spec: PartitionSpec) -> Partition {
        assert_eq!(spec.log.is_some(), spec.kind == TopicKind::Log, "a log has files, and nothing else has");
        let mut producers = Producers::default();
        let (mut start, mut first_offset) =
            (Boundary { position: 0, offset: spec.first_offset }, spec.first_offset);
        let (mut last_append_ns, mut overflow, mut credited) = (0, spec.overflow, spec.ring_bytes);
        let durable = spec.log.map(|mut log| {
            let recovered = &mut log.recovered;
            producers.recover(&std::mem::take(&mut recovered.producers));
            start = recovered.end;
            first_offset = recovered.segments.first().map_or(recovered.end.offset, |first| first.base.offset);
            last_append_ns = recovered.last_append_ns;
            // Slow consumers read from the files. Headers and padding take their part of the ring.
            (overflow, credited) = (Overflow::Block, spec.ring_bytes - spec.ring_bytes / 4);
            Box::new(Durable::new(spec.id, log, spec.ring_bytes))
        });
        Partition {
            id: spec.id,
            kind: spec.kind,
            overflow,
            state: State::Active,
            first_offset,
            last_append_ns,
            log: Log::new(spec.ring, spec.ring_bytes, start, spec.kind),
            durable,
            subscribers: Subscribers::default(),
            producers,
            committed: Committed::new(spec.committed),
            credit: CreditPool::new(overflow, credited),
            counters: PartitionCounters::default(),
        }
    }

    /// The partition's id.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// The topic's kind.
    #[must_use]
    pub fn kind(&self) -> TopicKind {
        self.kind
    }

    /// The oldest offset kept; for `live`, of what is queued.
    #[must_use]
    pub fn log_start_offset(&self) -> u64 {
        let first = self.durable.as_ref().and_then(|durable| durable.first());
        first.unwrap_or(self.log.start()).offset.min(self.log.start().offset)
    }

    /// The offset the next record gets.
    #[must_use]
    pub fn log_end_offset(&self) -> u64 {
        self.log.end().offset
    }

    /// See [`PartitionCounters`].
    #[must_use]
    pub fn counters(&self) -> &PartitionCounters {
        &self.counters
    }

    /// Batches get `topic_paused` from now on; delivery goes on.
    pub fn pause(&mut self) {
        if self.state == State::Active {
            self.state = State::Paused;
        }
    }

    /// Whether it takes nothing until its topic goes on.
    #[cfg(any(test, uringest_sim))]
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state == State::Paused
    }

    /// Ends a pause.
    pub fn resume(&mut self) {
        if self.state == State::Paused {
            self.state = State::Active;
        }
    }

    /// Refuses everything from now on and lets go of all memory, at once except for what is taken, which
    /// goes with its `sent`. Subscribers stay until `unsubscribe`; they get the rest of a frame that was
    /// begun, from a block, and nothing more. Where there was no block for it, `in_frame` stays true and
    /// the connection cannot go on.
    pub fn delete(&mut self, buffers: &mut Buffers) {
        self.state = State::Deleted;
        if self.durable.is_some() {
            self.fence("the topic was deleted", false);
        }
        for slot in 0..self.subscribers.slots() {
            if self.subscribers.slot(slot).is_some_and(|subscriber| !subscriber.in_flight()) {
                self.let_go(buffers, slot);
            }
        }
        self.trim_live(buffers);
    }

    /// After `delete`: moves a subscriber of which nothing is taken to the log's end.
    fn let_go(&mut self, buffers: &mut Buffers, slot: usize) {
        let rest = self.set_aside_rest(buffers, slot);
        self.subscribers.forget_slowest();
        let end = self.log.end();
        let subscriber = self.subscribers.slot_mut(slot).expect("a subscriber");
        subscriber.cut_off |= rest.is_err();
        subscriber.gap = None;
        subscriber.boundary = end;
        subscriber.position = end.position;
    }

    /// Whether `delete` was called.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.state == State::Deleted
    }

    // ---- producers ----

    /// Makes `owner` (the shard's name for a channel) the one that may publish as `producer_id`, which says that it has
    /// made so many `connections` (0: it does not say).
    ///
    /// # Errors
    /// `TooManyProducers` when every remembered producer has an open channel; `ProducerFenced` when it was opened on a
    /// later connection before; `TopicDeleted`.
    pub fn open_producer(
        &mut self,
        producer_id: u64,
        connections: u64,
        owner: u64,
    ) -> Result<OpenedProducer, Code> {
        if self.state == State::Deleted {
            return Err(Code::TopicDeleted);
        }
        self.producers.open(producer_id, connections, owner)
    }

    /// Whether batches that this producer sends again would be recognised, and nobody has it open.
    #[must_use]
    pub fn may_resume(&self, producer_id: u64) -> bool {
        self.producers.may_resume(producer_id)
    }

    /// The channel is closed. The producer stays remembered until its place is needed. No effect when
    /// another owner has opened it since.
    pub fn close_producer(&mut self, slot: ProducerSlot, owner: u64) {
        self.producers.close(slot, owner);
    }

    /// Whether a verified batch is new. Nothing changes until `append` or `consume_sequence`, save that
    /// a new producer's first sequence has been seen: call it before refusing a batch for a passing reason.
    #[inline]
    pub fn admit(&mut self, slot: ProducerSlot, owner: u64, sequence: u64, body_checksum: u32) -> Admission {
        if self.state == State::Deleted {
            return Admission::Refused(Code::NoSuchTopicNow);
        }
        self.producers.admit(slot, owner, sequence, body_checksum)
    }

    /// The batch with this sequence was refused for good with `code`: if it was the expected one it is
    /// used up, and the same sequence sent again gets the same code. No effect otherwise.
    ///
    /// # Panics
    /// When `code` is retryable.
    pub fn consume_sequence(&mut self, slot: ProducerSlot, owner: u64, sequence: u64, code: Code) {
        self.producers.consume(slot, owner, sequence, code);
    }

    /// Appends a verified and admitted frame: `pieces` are its bytes in order, header included.
    ///
    /// `memory`: copied to the ring's end, stamped there. `live`: held where it is and stamped there
    /// (`Foreign`: copied to the ring); with no subscriber nothing is kept.
    ///
    /// # Errors
    /// `TopicPaused`, `BackPressure`, `RingFull`: not now; the sequence is still expected.
    /// `BatchTooLarge`, `NoSuchTopicNow`: for good (the caller consumes the sequence).
    ///
    /// # Panics
    /// When the batch was not admitted as new, the pieces are not as long as the header says, or a local
    /// frame for a `live` partition comes in more than one piece.
    #[inline]
    pub fn append(
        &mut self,
        buffers: &mut Buffers,
        pieces: &[Span],
        source: Source,
        header: &FrameHeader,
        slot: ProducerSlot,
        wall_ns: u64,
    ) -> Result<Appended, Code> {
        match self.state {
            State::Active => {}
            State::Paused => return Err(Code::TopicPaused),
            State::Deleted => return Err(Code::NoSuchTopicNow),
        }
        let bytes = header.frame_bytes() as u64;
        assert!(pieces.iter().map(|piece| u64::from(piece.bytes)).sum::<u64>() == bytes, "the whole frame");
        if bytes > self.log.ring_bytes() / 2 {
            return Err(Code::BatchTooLarge);
        }
        let appended =
            Appended { offset: self.log.end().offset, append_time_ns: self.last_append_ns.max(wall_ns) };
        if self.durable.is_some() {
            self.append_to_log(buffers, pieces, header, appended)?;
        } else if self.kind == TopicKind::Memory || !self.subscribers.is_empty() {
            self.make_room(buffers, bytes)?;
            self.place(buffers, pieces, source, header, appended)?;
        } else {
            self.log.skip(header.record_count);
        }
        self.last_append_ns = appended.append_time_ns;
        self.producers.accepted(
            slot,
            header.sequence,
            Remembered::accepted(header.body_checksum, appended, header.record_count),
        );
        self.counters.appended_batches += 1;
        self.counters.appended_records += u64::from(header.record_count);
        self.counters.appended_bytes += bytes;
        Ok(appended)
    }

    /// Puts the frame at the log's end, where there is room, and stamps it.
    #[inline]
    fn place(
        &mut self,
        buffers: &mut Buffers,
        pieces: &[Span],
        source: Source,
        header: &FrameHeader,
        appended: Appended,
    ) -> Result<(), Code> {
        let at_rest = match (self.kind, source) {
            (TopicKind::Memory, _) => self.log.copy_to_end(&mut buffers.memory, pieces, CopyReason::Retain),
            (TopicKind::Log, _) => unreachable!("it has its own way"),
            (TopicKind::Live, Source::Foreign) => {
                self.log.copy_to_end(&mut buffers.memory, pieces, CopyReason::Crossing)
            }
            (TopicKind::Live, Source::Local) => {
                let &[frame] = pieces else {
                    panic!("a local frame for a live partition lies in one piece");
                };
                if !self.log.held.takes(frame, self.log.end().position) {
                    self.unpin(buffers);
                    if self.log.held.is_full() {
                        return Err(Code::BackPressure);
                    }
                }
                self.log.held.push(frame, self.log.end().position);
                buffers.receive.hold(frame);
                frame
            }
        };
        let (head, _) = at_rest.split_at(HEADER_BYTES);
        stamp(
            buffers.memory.bytes_mut(head),
            self.id.0,
            appended.offset,
            header.record_count,
            appended.append_time_ns,
        );
        self.log.extend(at_rest.bytes, header.record_count, appended.append_time_ns);
        Ok(())
    }

    // ---- room ----

    /// Makes room for `bytes` more at the log's end, as the overflow policy allows.
    #[inline]
    fn make_room(&mut self, buffers: &mut Buffers, bytes: u64) -> Result<(), Code> {
        let target = match self.log.start_needed(bytes) {
            None => return Ok(()),
            Some(target) => target,
        };
        let Some(slowest) = self.subscribers.slowest_for(target) else {
            let start = self.log.eviction_boundary(&buffers.memory, target, self.log.end().position);
            self.counters.dropped_records += start.offset - self.log.start().offset;
            self.evict(buffers, start);
            return Ok(());
        };
        if target <= slowest.position {
            let start = self.log.eviction_boundary(&buffers.memory, target, slowest.position);
            self.evict(buffers, start);
            return Ok(());
        }
        match self.overflow {
            Overflow::Block => Err(Code::BackPressure),
            Overflow::Reject if !mutation::on(Mutation::RejectDrops) => Err(Code::RingFull),
            Overflow::Reject | Overflow::DropOldest => {
                let start = self.log.eviction_boundary(&buffers.memory, target, self.log.end().position);
                self.skip_laggards(buffers, start)?;
                self.counters.dropped_records += start.offset - slowest.offset;
                self.evict(buffers, start);
                Ok(())
            }
        }
    }

    /// Moves every subscriber that is before `start` there, with a gap; one that is inside a frame first
    /// gets what is left of it in a block of its own.
    fn skip_laggards(&mut self, buffers: &mut Buffers, start: Boundary) -> Result<(), Code> {
        for slot in 0..self.subscribers.slots() {
            if let Some(subscriber) = self.subscribers.slot(slot)
                && subscriber.boundary.position < start.position
                && subscriber.taken_bytes > 0
                && !mutation::on(Mutation::DropUnderSend)
            {
                return Err(Code::BackPressure);
            }
        }
        self.subscribers.forget_slowest();
        for slot in 0..self.subscribers.slots() {
            let Some(subscriber) = self.subscribers.slot(slot) else { continue };
            if subscriber.boundary.position >= start.position {
                continue;
            }
            let first = subscriber.boundary.offset;
            let finishing = self.set_aside_rest(buffers, slot)?;
            if let Some(subscriber) = self.subscribers.slot_mut(slot) {
                subscriber.skip_to(start, first + u64::from(finishing));
            }
        }
        Ok(())
    }

    /// Copies what is left of the frame a subscriber is inside of to a block, from which `take` finishes it.
    /// Returns the records of that frame; 0 when there is none in the log that was begun.
    fn set_aside_rest(&mut self, buffers: &mut Buffers, slot: usize) -> Result<u32, Code> {
        let Some(subscriber) = self.subscribers.slot_mut(slot) else { return Ok(0) };
        let begun = subscriber.boundary.position;
        if subscriber.position <= begun {
            return Ok(0);
        }
        let (rest, records) = match subscriber.rest_in_window(&buffers.memory) {
            Some(rest) => rest,
            None => {
                let frame = self.log.frame_at(&buffers.memory, begun);
                let sent = small(subscriber.position - begun);
                (self.log.span_at(begun, frame.bytes).split_at(sent).1, frame.records)
            }
        };
        let block = buffers.receive.block(rest.bytes).ok_or(Code::BackPressure)?;
        buffers.memory.copy(rest, block, CopyReason::Lagging);
        subscriber.finish_from(block, records);
        Ok(records)
    }

    /// Moves the log's start up, counted as eviction.
    fn evict(&mut self, buffers: &mut Buffers, start: Boundary) {
        self.counters.evicted_bytes += start.position - self.log.start().position;
        self.counters.evicted_records += start.offset - self.log.start().offset;
        self.log.trim(buffers, start);
    }

    /// `live`: lets go of what every subscriber has passed.
    fn trim_live(&mut self, buffers: &mut Buffers) {
        if self.kind != TopicKind::Live {
            return;
        }
        let start = self.subscribers.slowest().unwrap_or(self.log.end());
        if start.position > self.log.start().position {
            self.log.trim(buffers, start);
        }
    }

    /// `live`: copies what still waits in receive memory to the ring and lets go of that memory, oldest
    /// first, except from the first frame of each run that is taken. Always finds room: `append` keeps the
    /// window within the ring. To be called when receive memory runs short, and at a tick's end for what stays.
    pub fn unpin(&mut self, buffers: &mut Buffers) {
        let subscribers = &self.subscribers;
        self.log.unpin(buffers, |from, to| subscribers.first_taken_within(from, to));
    }

    /// Whether any receive memory is held.
    #[must_use]
    pub fn holds_receive_memory(&self) -> bool {
        !self.log.held.is_empty()
    }

    // ---- subscribers ----

    /// Adds a subscriber.
    ///
    /// `Earliest` is the oldest record kept; on a `memory` partition the gap from offset 0 is stated. An
    /// offset inside a batch gets the whole batch; below the oldest kept, that with a gap (`restart` when the
    /// partition began above it and still keeps all it had, else `retention`); above the end, the end. A time
    /// gets the first batch appended at or after it. `resume` prefers the name's committed offset.
    ///
    /// # Errors
    /// `TopicDeleted`, `BadName` (too long), `TooManySubscriptions`.
    #[allow(clippy::too_many_arguments)] // a subscribe frame's fields
    pub fn subscribe(
        &mut self,
        buffers: &Buffers,
        start: Start,
        name: &str,
        resume: bool,
        credit: u64,
        home: u64,
    ) -> Result<NewSubscription, Code> {
        if self.state == State::Deleted {
            return Err(Code::TopicDeleted);
        }
        if name.len() > crate::limits::CONSUMER_NAME_BYTES_MAX {
            return Err(Code::BadName);
        }
        let committed = if resume { self.committed.offset_of(name) } else { None };
        let ahead = u64::from(mutation::on(Mutation::CommitAhead));
        let start = committed.map_or(start, |offset| Start::Offset(offset + ahead));
        let behind = self.begin_behind(start);
        let ((boundary, asked), catchup) = match behind {
            Some((boundary, asked, catchup)) => ((boundary, asked), catchup),
            None => (self.start_boundary(buffers, start), None),
        };
        let mut subscriber = Subscriber::new(boundary, name, home, credit);
        let seeks = catchup.is_some();
        subscriber.catchup = catchup.map(Box::new);
        if asked < boundary.offset && boundary.offset == self.log_start_offset() {
            let restarted = asked < self.first_offset && boundary.offset == self.first_offset;
            let reason =
                if restarted && self.durable.is_none() { GapReason::Restart } else { GapReason::Retention };
            subscriber.gap = Some(Gap { from: asked, records: boundary.offset - asked, reason });
        }
        let id = self.subscribers.insert(subscriber).ok_or(Code::TooManySubscriptions)?;
        Ok(NewSubscription {
            seeking: seeks && matches!(start, Start::TimeNs(_)),
            id,
            start_offset: asked.max(boundary.offset),
            log_start_offset: self.log_start_offset(),
            log_end_offset: self.log_end_offset(),
        })
    }

    /// Where a subscription starts, and the offset it asked for.
    fn start_boundary(&self, buffers: &Buffers, start: Start) -> (Boundary, u64) {
        let (first, end) = (self.log.start(), self.log.end());
        match start {
            Start::Latest => (end, end.offset),
            Start::Earliest if self.kind == TopicKind::Live => (first, first.offset),
            Start::Earliest => (first, 0),
            Start::Offset(offset) if offset <= first.offset => (first, offset),
            Start::Offset(offset) => {
                let boundary = self.log.boundary_of_offset(&buffers.memory, offset);
                (boundary, offset.min(end.offset))
            }
            Start::TimeNs(time) => {
                let boundary = self.log.boundary_of_time(&buffers.memory, time);
                (boundary, boundary.offset)
            }
        }
    }

    /// Ends a subscription.
    ///
    /// # Panics
    /// When there is none of this id, or something of it is taken.
    pub fn unsubscribe(&mut self, buffers: &mut Buffers, id: SubscriberId) {
        let mut subscriber = self.subscribers.remove(id);
        assert!(!subscriber.in_flight(), "nothing of an ending subscription is taken");
        subscriber.drop_finish(&mut buffers.receive);
        self.trim_live(buffers);
    }

    /// Sets a subscriber's credit: the absolute limit of frame bytes since it subscribed.
    ///
    /// # Errors
    /// `ConsumerCreditInvalid` when it went backwards; `NotSubscribed`.
    pub fn credit(&mut self, id: SubscriberId, limit: u64) -> Result<(), Code> {
        let subscriber = self.subscribers.try_at_mut(id).ok_or(Code::NotSubscribed)?;
        if limit < subscriber.credit_limit {
            return Err(Code::ConsumerCreditInvalid);
        }
        subscriber.credit_limit = limit;
        Ok(())
    }

    /// Whether the last byte sent was not a frame's last.
    #[must_use]
    pub fn in_frame(&self, id: SubscriberId) -> bool {
        self.subscribers.at(id).in_frame()
    }

    /// Its socket is full, or takes bytes again.
    pub fn set_blocked(&mut self, id: SubscriberId, blocked: bool) {
        self.subscribers.at_mut(id).blocked = blocked;
    }

    /// Every subscriber, and what `subscribe` was told of its home.
    pub fn subscribers(&self) -> impl Iterator<Item = (SubscriberId, u64)> + '_ {
        self.subscribers.iter().map(|(id, subscriber)| (id, subscriber.home))
    }

    /// What `subscribe` was told of its home.
    #[must_use]
    pub fn home_of(&self, id: SubscriberId) -> u64 {
        self.subscribers.at(id).home
    }

    /// Keeps an offset by name: what is below it is dealt with. It may go backwards; beyond the log's end
    /// it is the end. Returns what is kept.
    ///
    /// # Errors
    /// `BadName` (empty or too long), `TooManyCommittedNames`, `TopicDeleted`.
    pub fn commit(&mut self, name: &str, offset: u64) -> Result<u64, Code> {
        if self.state == State::Deleted {
            return Err(Code::TopicDeleted);
        }
        let offset = offset.min(self.log_end_offset());
        if mutation::on(Mutation::ForgetCommit) {
            return Ok(offset);
        }
        self.committed.set(name, offset)
    }

    // ---- producers' credit ----

    /// Reserves up to `want` frame bytes of the ring for a producer's channel; returns how many.
    pub fn grant(&mut self, want: u64) -> u64 {
        if self.state == State::Deleted {
            return 0;
        }
        let protected = self.protected();
        self.credit.grant(want, protected)
    }

    /// What could be granted.
    pub fn credit_room(&mut self) -> CreditRoom {
        if self.state == State::Deleted {
            return CreditRoom { free: 0, whole: 0 };
        }
        let protected = self.protected();
        self.credit.room(protected)
    }

    /// Bytes that some subscriber has yet to receive; of a log, those that are not written.
    fn protected(&mut self) -> u64 {
        if let Some(durable) = &self.durable {
            return durable.unwritten();
        }
        let end = self.log.end().position;
        self.subscribers.slowest().map_or(0, |slowest| end - slowest.position)
    }

    /// So much of what is granted lies idle and is not counted on: `grant` may promise its room again. Who has it may
    /// still use it, and finds room or not.
    ///
    /// # Panics
    /// When it is more than is granted.
    pub fn set_idle_credit(&mut self, bytes: u64) {
        self.credit.set_idle(bytes);
    }

    /// What was last said to lie idle.
    #[must_use]
    pub fn idle_credit(&self) -> u64 {
        self.credit.idle()
    }

    /// Gives reserved bytes back: used by a batch (accepted or refused), or never to be used.
    ///
    /// # Panics
    /// When more are given back than were granted.
    pub fn ungrant(&mut self, bytes: u64) {
        self.credit.ungrant(bytes);
    }
}

/// A count of bytes within one frame or one take.
#[inline]
fn small(bytes: u64) -> u32 {
    u32::try_from(bytes).expect("within one frame or one take")
}
