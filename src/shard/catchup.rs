//! Reads of a log's files for subscribers that lag behind its ring, or that begin before it.
//!
//! A bounded number of readers, each with a block of the logs' memory; who finds none waits in a queue. A reader is one
//! read: its block goes on to the subscriber as a window of frames, and comes back when they are sent. So what lagging
//! consumers may take of memory and of the disk is fixed, and the tail's traffic has its own.
//!
//! Invariants: a reader's token is its index and generation; its block is the kernel's until the read completes, also
//! when the subscriber has gone. A subscriber waits in the queue once.

use std::collections::VecDeque;

use crate::buf::Span;
use crate::commit_log::BLOCK_BYTES;
use crate::ids::{PartitionId, SubscriberId};
use crate::io::{Completion, FileHandle, Io, Op, Outcome, Token, TokenKind};
use crate::limits::{LOG_READ_BYTES, LOG_READERS};
use crate::metrics::Counter;
use crate::mutation::{self, Mutation};
use crate::partition::{ReadFailed, ReadPlan};

use super::Shard;
use super::logs::OpenFile;
use super::messages::{LogReport, Message, Report};
use super::subscriptions::Place;
use super::topics::PartitionSlot;

/// Files of one partition open for reading at once; who needs another waits.
pub(super) const OPENINGS_MAX: usize = 8;
/// `BLOCK_BYTES`, as a length of what is read.
#[allow(clippy::cast_possible_truncation)] // 4096
const BLOCK: u32 = BLOCK_BYTES as u32;

/// So many reads in a row of less than a block, and the file ends within it.
const SHORT_READS_MAX: u8 = 8;

/// One read.
#[derive(Debug, Clone, Copy)]
struct Reader {
    slot: PartitionSlot,
    /// `None`: it has gone.
    subscriber: Option<SubscriberId>,
    block: Span,
    sequence: u64,
    at: u64,
    /// Submitted; else it waits for its file.
    submitted: bool,
    /// Bytes that have been read.
    filled: u32,
    /// Reads in a row that have not brought a block.
    short: u8,
}

/// The readers of a shard, and who waits for one.
#[derive(Debug)]
pub(super) struct Readers {
    slots: Vec<Option<Reader>>,
    generations: Vec<u32>,
    queue: VecDeque<(PartitionSlot, SubscriberId)>,
    /// Those whose last read failed: they are in the queue again with the next second.
    again: Vec<(PartitionSlot, SubscriberId)>,
    /// Bytes of a block: the largest frame fits, with what blocks are rounded by.
    bytes: u32,
}

impl Readers {
    pub(super) fn new(frame_bytes_max: u32) -> Readers {
        let bytes = LOG_READ_BYTES.max((frame_bytes_max + 8 * 1024).next_power_of_two());
        Readers {
            slots: vec![None; LOG_READERS],
            generations: vec![0; LOG_READERS],
            queue: VecDeque::new(),
            again: Vec::new(),
            bytes,
        }
    }

    fn free(&self) -> Option<usize> {
        self.slots.iter().position(Option::is_none)
    }

    /// Who waits for a reader, or to be read for again.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn waiting(&self) -> impl Iterator<Item = (PartitionSlot, SubscriberId)> {
        self.queue.iter().chain(&self.again).copied()
    }

    /// Nobody reads, and nobody waits.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn are_at_rest(&self) -> bool {
        self.queue.is_empty() && self.again.is_empty() && self.slots.iter().all(Option::is_none)
    }

    /// Nobody reads or waits any more for a subscriber that goes.
    fn forget(&mut self, slot: PartitionSlot, subscriber: SubscriberId) {
        self.queue.retain(|&waiting| waiting != (slot, subscriber));
        self.again.retain(|&waiting| waiting != (slot, subscriber));
        for reader in self.slots.iter_mut().flatten() {
            if reader.slot == slot && reader.subscriber == Some(subscriber) {
                reader.subscriber = None;
            }
        }
    }
}

impl<I: Io> Shard<I> {
    /// Reads for a subscriber of a `log` partition what it needs next and the ring does not have.
    pub(super) fn feed_from_log(&mut self, slot: PartitionSlot, subscriber: SubscriberId) {
        if !self.topics[slot].partition.is_log() {
            return;
        }
        if let Some(block) = self.topics[slot].partition.window_done(subscriber, false) {
            self.logs.blocks.give(block);
        }
        if !self.topics[slot].partition.wants_read(subscriber) {
            return;
        }
        let waiting = (slot, subscriber);
        if self.logs.readers.queue.contains(&waiting) || self.logs.readers.again.contains(&waiting) {
            return;
        }
        self.logs.readers.queue.push_back(waiting);
        self.serve_readers();
    }

    /// Begins reads for those that wait, as far as there are readers and memory.
    fn serve_readers(&mut self) {
        while let Some(index) = self.logs.readers.free()
            && let Some((slot, subscriber)) = self.logs.readers.queue.pop_front()
        {
            if !self.topics[slot].partition.wants_read(subscriber) {
                continue;
            }
            let Some(block) = self.read_block() else {
                return self.logs.readers.queue.push_front((slot, subscriber));
            };
            match self.topics[slot].partition.plan_read(subscriber, block.bytes) {
                ReadPlan::Nothing => {
                    self.logs.blocks.give(block);
                    self.caught_up(slot, subscriber);
                }
                ReadPlan::Read { sequence, at, bytes } => {
                    let (block, _) = block.split_at(bytes);
                    let reader = Reader {
                        slot,
                        subscriber: Some(subscriber),
                        block,
                        sequence,
                        at,
                        submitted: false,
                        filled: 0,
                        short: 0,
                    };
                    self.logs.readers.slots[index] = Some(reader);
                    self.begin_read(index);
                }
            }
        }
    }

    /// Whoever waits for memory to read into gets it as soon as others have given theirs back, or rest on it.
    pub(super) fn serve_waiting_readers(&mut self) {
        if !self.logs.readers.queue.is_empty() {
            self.serve_readers();
            if !self.logs.readers.queue.is_empty() {
                self.look_again(super::SHORT_NS);
            }
        }
    }

    /// A block to read into; where none is free, that of a window whose subscriber does not go on.
    fn read_block(&mut self) -> Option<Span> {
        let bytes = self.logs.readers.bytes;
        if let Some(block) = self.logs.blocks.take(bytes) {
            return Some(block);
        }
        for slot in self.topics.slots() {
            let Some(owned) = self.topics.get_mut(slot) else { continue };
            if let Some(idle) = owned.partition.reclaim_window(&mut self.buffers) {
                self.logs.blocks.give(idle);
                return self.logs.blocks.take(bytes);
            }
        }
        None
    }

    /// The subscriber goes on from the ring, or has a gap to be told.
    fn caught_up(&mut self, slot: PartitionSlot, subscriber: SubscriberId) {
        if let Some(offset) = self.topics[slot].partition.seek_in_ring(&self.buffers, subscriber) {
            self.start_found(slot, subscriber, offset);
        }
        self.wake_subscriber(slot, subscriber);
    }

    /// The first offset of a subscription that began by a search is known: its answer goes out.
    fn start_found(&mut self, slot: PartitionSlot, subscriber: SubscriberId, offset: u64) {
        match Place::decode(self.topics[slot].partition.home_of(subscriber)) {
            Place::Local(index) => {
                if let Some((request, mut subscribed)) = self.subscriptions[index].announce.take() {
                    subscribed.start_offset = offset;
                    let (id, partition) =
                        (self.subscriptions[index].conn, self.subscriptions[index].partition);
                    self.say_subscribed(id, request, partition, &subscribed);
                }
            }
            Place::Remote(index) => {
                let consumer = &mut self.remote_consumers[index];
                if let Some((request, mut new)) = consumer.announce.take() {
                    new.start_offset = offset;
                    let (to, partition) = (consumer.to, consumer.partition);
                    let result = Ok(new);
                    self.answer(to.shard, Message::RemoteSubscribed { to, request, partition, result });
                }
            }
        }
    }

    /// Submits a read, or asks for its file first.
    fn begin_read(&mut self, index: usize) {
        let reader = self.logs.readers.slots[index].as_mut().expect("a reader");
        let (slot, sequence) = (reader.slot, reader.sequence);
        let log = self.topics[slot].log.as_mut().expect("a log partition");
        if let Some(open) = log.files.iter_mut().find(|open| open.sequence == sequence) {
            open.reads += 1;
            reader.submitted = true;
            let (_, into) = reader.block.split_at(reader.filled);
            let op = Op::ReadFile { file: open.file, at: reader.at + u64::from(reader.filled), into };
            let number = u32::try_from(index).expect("readers are few");
            let token = Token::new(TokenKind::FileRead, self.logs.readers.generations[index], number);
            return self.submit_with(op, token);
        }
        if !log.opening.contains(&sequence) && log.opening.len() < OPENINGS_MAX {
            log.opening.push(sequence);
            let partition = self.topics[slot].id;
            self.report(Report::Log(LogReport::WantOpen { partition, sequence }));
        }
    }

    pub(super) fn segment_opened(
        &mut self,
        partition: PartitionId,
        sequence: u64,
        result: Result<FileHandle, String>,
    ) {
        let Some(slot) = self.slot_of(partition) else {
            if let Ok(file) = result {
                self.close_file(file);
            }
            return;
        };
        let log = self.topics[slot].log.as_mut().expect("control knows kinds");
        log.opening.retain(|&opening| opening != sequence);
        let attached = result.and_then(|file| {
            self.io.attach_file(file).map_err(|(_, file)| {
                self.report(Report::Log(LogReport::Close { file }));
                "the shard's table of files is full".to_owned()
            })
        });
        let failed = match attached {
            Ok(file) => {
                let log = self.topics[slot].log.as_mut().expect("control knows kinds");
                log.files.push(OpenFile { sequence, file, reads: 0, closed: true });
                None
            }
            Err(reason) => Some(reason),
        };
        for index in 0..self.logs.readers.slots.len() {
            let Some(reader) =
                self.logs.readers.slots[index].filter(|reader| reader.slot == slot && !reader.submitted)
            else {
                continue;
            };
            match &failed {
                Some(reason) if reader.sequence == sequence => self.read_failed(index, reason),
                _ => self.begin_read(index),
            }
        }
        self.close_idle_files(slot);
    }

    /// A read has come back.
    pub(super) fn log_read(&mut self, completion: Completion) {
        let index = completion.token.index() as usize;
        let reader = self.logs.readers.slots[index].as_mut().expect("a reader outlives its read");
        reader.submitted = false;
        let log = self.topics[reader.slot].log.as_mut().expect("a log goes after its reads");
        let open = log.files.iter_mut().find(|open| open.sequence == reader.sequence);
        open.expect("a file that is read is open").reads -= 1;
        match completion.outcome {
            Outcome::Read { bytes } => {
                self.counters.add(Counter::LogReads, 1);
                self.counters.add(Counter::LogReadBytes, bytes.into());
                reader.filled += bytes;
                let (filled, wanted) = (reader.filled, reader.block.bytes);
                if reader.subscriber.is_none() {
                    self.end_reader(index, true);
                } else if filled < wanted && !mutation::on(Mutation::ShortReadWhole) {
                    // Short, for whatever reason; at the file's end the next one says so. What was read of a block in
                    // part is read again, unless the file ends there: then nothing more ever comes.
                    reader.short = if bytes < BLOCK { reader.short + 1 } else { 0 };
                    if reader.short == SHORT_READS_MAX {
                        reader.block.bytes = filled;
                        return self.read_whole(index, false);
                    }
                    reader.filled = filled - filled % BLOCK;
                    self.begin_read(index);
                } else {
                    self.read_whole(index, true);
                }
            }
            Outcome::EndOfStream if reader.filled > 0 && reader.subscriber.is_some() => {
                reader.block.bytes = reader.filled;
                self.read_whole(index, false);
            }
            outcome => self.read_failed(index, &format!("{outcome:?}")),
        }
    }

    fn read_whole(&mut self, index: usize, whole: bool) {
        let Reader { slot, subscriber, block, sequence, .. } =
            self.logs.readers.slots[index].expect("a reader");
        let subscriber = subscriber.expect("it is still there");
        let partition = &mut self.topics[slot].partition;
        let done = partition.read_done(&self.buffers.memory, subscriber, block, whole);
        if let Some(at) = done.damaged {
            self.damaged(slot, sequence, at.position, at.offset, "damaged");
        }
        if let Some(offset) = done.found {
            self.start_found(slot, subscriber, offset);
        }
        self.end_reader(index, !done.kept);
        self.go_on(slot, subscriber);
    }

    /// It is tried again for some seconds; what cannot be read then is passed over, and consumers are told by a gap.
    fn read_failed(&mut self, index: usize, why: &str) {
        let Reader { slot, subscriber, sequence, at, .. } = self.logs.readers.slots[index].expect("a reader");
        self.end_reader(index, true);
        let Some(subscriber) = subscriber else { return };
        self.counters.add(Counter::LogReadsFailed, 1);
        match self.topics[slot].partition.read_failed(subscriber) {
            ReadFailed::Again { times } => {
                self.logs.readers.again.push((slot, subscriber));
                if times == 1 {
                    let partition = self.topics[slot].id;
                    let detail = format!("partition {partition}, segment {sequence}, byte {at}: {why}");
                    self.report(Report::Event { shard: self.id, event: "log_read_failed", detail });
                }
            }
            ReadFailed::PassedOver(at) => {
                self.damaged(slot, sequence, at.position, at.offset, why);
                self.go_on(slot, subscriber);
            }
        }
    }

    /// Once a second: reads that failed are tried again.
    pub(super) fn read_again(&mut self) {
        let again = std::mem::take(&mut self.logs.readers.again);
        self.logs.readers.queue.extend(again);
        self.serve_readers();
    }

    fn damaged(&mut self, slot: PartitionSlot, sequence: u64, position: u64, offset: u64, why: &str) {
        self.counters.add(Counter::LogReadsDamaged, 1);
        let partition = self.topics[slot].id;
        let detail =
            format!("partition {partition}, segment {sequence}, position {position}, offset {offset}: {why}");
        let shard = self.id;
        self.report(Report::Event { shard, event: "log_damaged", detail });
    }

    fn go_on(&mut self, slot: PartitionSlot, subscriber: SubscriberId) {
        self.wake_subscriber(slot, subscriber);
        self.feed_from_log(slot, subscriber);
    }

    fn end_reader(&mut self, index: usize, give: bool) {
        let reader = self.logs.readers.slots[index].take().expect("a reader");
        self.logs.readers.generations[index] = self.logs.readers.generations[index].wrapping_add(1);
        if give {
            self.logs.blocks.give(reader.block);
        }
        self.retire_segments(reader.slot);
        self.serve_readers();
    }

    /// The subscription goes: its window's memory is free, and a read in flight is for nobody.
    pub(super) fn stop_reading(&mut self, slot: PartitionSlot, subscriber: SubscriberId) {
        if !self.topics[slot].partition.is_log() {
            return;
        }
        self.logs.readers.forget(slot, subscriber);
        if let Some(block) = self.topics[slot].partition.window_done(subscriber, true) {
            self.logs.blocks.give(block);
            self.serve_readers();
        }
        // Those that wait for a file have nothing in flight.
        for index in 0..self.logs.readers.slots.len() {
            let orphan =
                |reader: Reader| reader.slot == slot && reader.subscriber.is_none() && !reader.submitted;
            if self.logs.readers.slots[index].is_some_and(orphan) {
                self.end_reader(index, true);
            }
        }
    }

    /// Marks the connection, or lends to the shard, that a subscriber belongs to.
    fn wake_subscriber(&mut self, slot: PartitionSlot, subscriber: SubscriberId) {
        let partition = &self.topics[slot].partition;
        if !partition.has_work(subscriber) {
            return;
        }
        match Place::decode(partition.home_of(subscriber)) {
            Place::Local(index) => {
                let conn = self.subscriptions[index].conn;
                self.mark_dirty(conn);
            }
            Place::Remote(index) => self.lend(index),
        }
    }

    /// Drops segments that are past retention, as soon as no read of them is in flight, and says so.
    pub(super) fn retire_segments(&mut self, slot: PartitionSlot) {
        let Some(owned) = self.topics.get_mut(slot) else { return };
        let Some(log) = owned.log.as_mut().filter(|log| log.retire_below > 0) else { return };
        let below = log.retire_below;
        let read = log.files.iter().any(|open| open.sequence < below && open.reads > 0);
        let wanted = self.logs.readers.slots.iter().flatten();
        let planned = wanted.filter(|reader| reader.slot == slot).any(|reader| reader.sequence < below);
        if read || planned {
            return;
        }
        owned.partition.retire(below);
        let partition = owned.id;
        self.close_idle_files(slot);
        let log = self.topics[slot].log.as_mut().expect("a log partition");
        log.retire_below = 0;
        self.report(Report::Log(LogReport::Retired { partition, below }));
    }
}
