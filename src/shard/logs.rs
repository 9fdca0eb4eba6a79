//! The files of this shard's `log` partitions: writes and syncs handed to the kernel, what their completions mean, and
//! the talk with control, which makes, opens and keeps the files.
//!
//! State: each partition plans its own writes (`partition::durable`); here are its files, by segment, and who waits for
//! a level (`log_acks`). A partition with something to do is in one list, worked off once a tick, after everything that
//! appends: what came in one tick is one flush.
//!
//! Invariants: a write's token is the partition's slot and the write's number, a sync's the slot; a slot is reused only
//! when no operation on its files is in flight. A file is let go when its segment is closed and nobody reads it.

use crate::buf::SendMemory;
use crate::commit_log::LogPoint;
use crate::ids::{FileId, PartitionId, RegionId};
use crate::io::{Completion, FileHandle, Io, IoError, Op, Outcome, Token, TokenKind};
use crate::metrics::Counter;
use crate::mutation::{self, Mutation};
use crate::partition::{LogEvent, LogWrite, NextSegment, NoSegment, Wrote};
use crate::proto::code::Code;

use super::Shard;
use super::catchup::Readers;
use super::log_acks::LogAcks;
use super::messages::{LogCommand, LogReport, Report, SegmentFile, SegmentRefused};
use super::topics::PartitionSlot;

/// Files of closed segments that stay open for the next reader, for each partition.
pub(super) const FILES_KEPT: usize = 4;

/// A segment's file.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenFile {
    pub sequence: u64,
    pub file: FileId,
    /// Reads in flight.
    pub reads: u32,
    /// The segment is closed and durable.
    pub closed: bool,
}

/// What the shard keeps for a partition of kind `log`.
#[derive(Debug, Default)]
pub(super) struct OwnedLog {
    pub files: Vec<OpenFile>,
    pub acks: LogAcks,
    /// In the list of those to work off.
    listed: bool,
    /// A sync is due although nobody waits for it.
    sync_due: bool,
    sync_began_ns: u64,
    /// Writes that found no room on the disk.
    pub no_room: Vec<u32>,
    /// `Roll`s that wait until what they closed is durable.
    rolling: Vec<Rolling>,
    /// Segments below this one are to go.
    pub retire_below: u64,
    /// Files asked for and not yet opened.
    pub opening: Vec<u64>,
    /// Why the last file for a segment did not come.
    pub refused: String,
}

/// A `Roll`: its ticket, the first segment after it, and what lies before that.
#[derive(Debug, Clone, Copy)]
struct Rolling {
    ticket: u64,
    next: u64,
    end: LogPoint,
}

impl OwnedLog {
    pub(super) fn file(&self, sequence: u64) -> Option<&OpenFile> {
        self.files.iter().find(|open| open.sequence == sequence)
    }
}

/// The shard's part that is not any partition's.
pub(super) struct Logs {
    pub blocks: SendMemory,
    pub readers: Readers,
    /// Partitions with something to write, to sync or to tell.
    pub list: Vec<PartitionSlot>,
}

impl Logs {
    pub(super) fn new(memory: (RegionId, u64), frame_bytes_max: u32) -> Logs {
        Logs {
            blocks: SendMemory::new(memory.0, memory.1),
            readers: Readers::new(frame_bytes_max),
            list: Vec::with_capacity(64),
        }
    }
}

impl<I: Io> Shard<I> {
    /// Puts a partition in the list of those whose log has something to do.
    #[inline]
    pub(super) fn list_log(&mut self, slot: PartitionSlot) {
        if let Some(log) = self.topics[slot].log.as_mut()
            && !log.listed
        {
            log.listed = true;
            self.logs.list.push(slot);
        }
    }

    /// The phase of a tick that writes and syncs what came in it.
    pub(super) fn work_off_logs(&mut self) {
        let mut list = std::mem::take(&mut self.logs.list);
        for slot in list.drain(..) {
            if let Some(log) = self.topics.get_mut(slot).and_then(|owned| owned.log.as_mut()) {
                log.listed = false;
                self.work_off_log(slot);
            }
        }
        // Those that were listed meanwhile wait for the next tick.
        std::mem::swap(&mut list, &mut self.logs.list);
        self.logs.list.append(&mut list);
        self.serve_waiting_readers();
    }

    fn work_off_log(&mut self, slot: PartitionSlot) {
        let owned = &mut self.topics[slot];
        let durable_only = owned.log.as_ref().is_some_and(|log| log.acks.durable_only());
        while let Some(write) =
            self.topics[slot].partition.next_write(&mut self.buffers, &mut self.logs.blocks, durable_only)
        {
            self.submit_write(slot, write);
        }
        if self.topics[slot].partition.waits_for_block() {
            // A write or a window that ends gives one back, and wakes the shard.
            self.list_log(slot);
            self.look_again(super::SHORT_NS);
        }
        let owned = &mut self.topics[slot];
        let log = owned.log.as_mut().expect("a log partition");
        let wanted = log.acks.wants_sync() || log.sync_due || !log.rolling.is_empty();
        if let Some(sequence) = owned.partition.next_sync(wanted) {
            log.sync_due = false;
            log.sync_began_ns = self.clock.mono_ns;
            let file = log.file(sequence).expect("what is written to is open").file;
            self.submit_with(Op::SyncFile { file }, Token::new(TokenKind::FileSync, 0, slot.0));
        }
        self.tell_log_events(slot);
    }

    fn submit_write(&mut self, slot: PartitionSlot, write: LogWrite) {
        let log = self.topics[slot].log.as_ref().expect("a log partition");
        let file = log.file(write.sequence).expect("what is written to is open").file;
        let token = Token::new(TokenKind::FileWrite, write.id, slot.0);
        let LogWrite { at, from, .. } = write;
        let op = if write.durably {
            Op::WriteFileDurably { file, at, from }
        } else {
            Op::WriteFile { file, at, from }
        };
        self.submit_with(op, token);
    }

    // ---- completions ----

    pub(super) fn log_written(&mut self, completion: Completion) {
        let slot = PartitionSlot(completion.token.index());
        let id = completion.token.generation();
        let partition = &mut self.topics[slot].partition;
        match completion.outcome {
            Outcome::Written { bytes } => {
                self.counters.add(Counter::LogWrittenBytes, bytes.into());
                match partition.wrote(id, bytes, &mut self.logs.blocks) {
                    Wrote::Done { durably } => {
                        self.counters.add(Counter::LogWrites, 1);
                        self.counters.add(Counter::LogDurableWrites, u64::from(durably));
                    }
                    Wrote::Again(rest) => return self.submit_write(slot, rest),
                }
            }
            Outcome::Failed(IoError::NoSpace) if partition.fenced().is_none() => {
                // The file's room was made sure of, but not every file system keeps such a promise. Nothing is lost: it
                // is tried again, and producers wait meanwhile.
                return self.topics[slot].log.as_mut().expect("a log partition").no_room.push(id);
            }
            outcome => {
                partition.gave_up_write(id, &mut self.logs.blocks);
                self.fence(slot, &format!("a write to its file failed: {}", why(outcome)), false);
            }
        }
        self.log_went_on(slot);
    }

    pub(super) fn log_synced(&mut self, completion: Completion) {
        let slot = PartitionSlot(completion.token.index());
        if completion.outcome == Outcome::Done || mutation::on(Mutation::IgnoreFailedSync) {
            let began = self.topics[slot].log.as_ref().expect("a log partition").sync_began_ns;
            self.counters.add(Counter::LogSyncs, 1);
            self.counters.add(Counter::LogSyncNs, self.clock.mono_ns.saturating_sub(began));
            self.topics[slot].partition.synced();
        } else {
            self.fence(slot, &format!("a sync of its file failed: {}", why(completion.outcome)), true);
        }
        self.log_went_on(slot);
    }

    /// More is written or durable: acknowledgements are due, consumers get more, and more may be written.
    fn log_went_on(&mut self, slot: PartitionSlot) {
        self.level_reached(slot);
        let owned = &mut self.topics[slot];
        if !owned.dirty {
            owned.dirty = true;
            self.dirty_partitions.push(slot);
        }
        self.list_log(slot);
    }

    /// The partition takes nothing more: its files cannot be trusted with what was not durable.
    fn fence(&mut self, slot: PartitionSlot, reason: &str, sync: bool) {
        let owned = &mut self.topics[slot];
        let before = owned.partition.fenced().is_some();
        owned.partition.fence(reason, sync);
        if before {
            return;
        }
        let (partition, durable) = (owned.id, owned.partition.durable_point());
        if !mutation::on(Mutation::FenceUntold) {
            self.refuse_waiting(slot, Code::PartitionFenced, reason);
        }
        self.report(Report::Log(LogReport::Fenced { partition, durable, reason: reason.to_owned() }));
    }

    // ---- control ----

    pub(super) fn log_command(&mut self, command: LogCommand) {
        match command {
            LogCommand::Segment { partition, sequence, result } => {
                self.take_segment(partition, sequence, result)
            }
            LogCommand::Opened { partition, sequence, result } => {
                self.segment_opened(partition, sequence, result)
            }
            LogCommand::Retire { partition, below } => {
                if let Some(slot) = self.slot_of(partition) {
                    let log = self.topics[slot].log.as_mut().expect("control knows kinds");
                    log.retire_below = log.retire_below.max(below);
                    self.retire_segments(slot);
                }
            }
            LogCommand::Roll { partition, ticket } => {
                if let Some(slot) = self.slot_of(partition) {
                    let owned = &mut self.topics[slot];
                    owned.partition.roll(&mut self.buffers);
                    let rolling = Rolling {
                        ticket,
                        next: owned.partition.next_segment(),
                        end: owned.partition.log_point(),
                    };
                    owned.log.as_mut().expect("control knows kinds").rolling.push(rolling);
                    self.list_log(slot);
                }
            }
            LogCommand::Snapshot { partition } => {
                if let Some(slot) = self.slot_of(partition) {
                    self.topics[slot].partition.take_snapshot(&mut self.buffers);
                    self.list_log(slot);
                }
            }
        }
    }

    fn take_segment(
        &mut self,
        partition: PartitionId,
        sequence: u64,
        result: Result<SegmentFile, SegmentRefused>,
    ) {
        let Some(slot) = self.slot_of(partition) else {
            // The topic was deleted meanwhile.
            if let Ok(segment) = result {
                self.close_file(segment.file);
            }
            return;
        };
        let (next, refused) = match result {
            Ok(SegmentFile { file, nonce, bytes }) => match self.io.attach_file(file) {
                Ok(file) => {
                    let log = self.topics[slot].log.as_mut().expect("control knows kinds");
                    log.files.push(OpenFile { sequence, file, reads: 0, closed: false });
                    (Ok(NextSegment { sequence, nonce, bytes }), String::new())
                }
                Err((_, file)) => {
                    self.close_file(file);
                    (Err(NoSegment::Failed), "the shard's table of files is full".to_owned())
                }
            },
            Err(SegmentRefused::NoSpace(detail)) => (Err(NoSegment::NoSpace), detail),
            Err(SegmentRefused::Failed(detail)) => (Err(NoSegment::Failed), detail),
        };
        let owned = &mut self.topics[slot];
        owned.partition.offer_segment(next);
        owned.log.as_mut().expect("a log partition").refused = refused;
        self.list_log(slot);
    }

    fn tell_log_events(&mut self, slot: PartitionSlot) {
        let partition = self.topics[slot].id;
        while let Some(event) = self.topics[slot].partition.next_log_event() {
            let report = match event {
                LogEvent::WantSegment(sequence) => LogReport::WantSegment { partition, sequence },
                LogEvent::Snapshot(snapshot) => LogReport::Snapshot { partition, snapshot },
                LogEvent::Sealed(info) => {
                    self.counters.add(Counter::LogSegmentsClosed, 1);
                    let log = self.topics[slot].log.as_mut().expect("a log partition");
                    if let Some(open) = log.files.iter_mut().find(|open| open.sequence == info.sequence) {
                        open.closed = true;
                    }
                    LogReport::Sealed { partition, info }
                }
            };
            self.report(Report::Log(report));
        }
        self.close_idle_files(slot);
        let owned = &mut self.topics[slot];
        let log = owned.log.as_mut().expect("a log partition");
        let (fenced, closing) = (owned.partition.fenced().is_some(), owned.partition.oldest_closing());
        let mut closed = Vec::new();
        log.rolling.retain(|rolling| {
            let open = closing.is_some_and(|oldest| oldest < rolling.next) && !fenced;
            if !open {
                closed.push(*rolling);
            }
            open
        });
        for Rolling { ticket, next, end } in closed {
            let end = (!fenced).then_some(end);
            self.report(Report::Log(LogReport::Rolled { partition, ticket, next, end }));
        }
    }

    /// Lets files of closed segments go that nobody reads, but for a few.
    pub(super) fn close_idle_files(&mut self, slot: PartitionSlot) {
        loop {
            let log = self.topics[slot].log.as_mut().expect("a log partition");
            let retired = log.retire_below;
            let idle = |open: &OpenFile| open.closed && open.reads == 0;
            let kept = log.files.iter().filter(|open| idle(open)).count();
            let gone = log
                .files
                .iter()
                .position(|open| idle(open) && (kept > FILES_KEPT || open.sequence < retired));
            let Some(at) = gone else { return };
            let open = log.files.remove(at);
            let file = self.io.detach_file(open.file);
            self.close_file(file);
        }
    }

    pub(super) fn close_file(&mut self, file: FileHandle) {
        if mutation::on(Mutation::LoseFile) {
            return std::mem::forget(file);
        }
        self.report(Report::Log(LogReport::Close { file }));
    }

    // ---- once a second, and at the end ----

    /// Syncs what nobody waits for, tries writes again that found no room and reads that failed, and counts who takes
    /// nothing.
    pub(super) fn logs_every_second(&mut self) {
        let (mut full, mut fenced) = (0, 0);
        for slot in self.topics.slots() {
            let Some(owned) = self.topics.get_mut(slot) else { continue };
            let Some(log) = owned.log.as_mut() else { continue };
            log.sync_due = true;
            let again = std::mem::take(&mut log.no_room);
            fenced += u64::from(owned.partition.fenced().is_some());
            full += u64::from(!again.is_empty() || owned.partition.is_out_of_space());
            for id in again.into_iter().filter(|_| !mutation::on(Mutation::NoRoomOnce)) {
                let write = self.topics[slot].partition.write_again(id);
                self.submit_write(slot, write);
            }
            self.list_log(slot);
        }
        self.read_again();
        self.counters.set(Counter::LogPartitionsFenced, fenced);
        self.counters.set(Counter::LogPartitionsFull, full);
        self.counters.set(Counter::LogMemoryInUseBytes, self.logs.blocks.in_use_bytes());
    }

    /// The server goes: every log is written, synced and closed.
    pub(super) fn finish_logs(&mut self) {
        for slot in self.topics.slots() {
            if let Some(owned) = self.topics.get_mut(slot)
                && owned.partition.is_log()
            {
                owned.partition.finish(&mut self.buffers);
                self.list_log(slot);
            }
        }
    }

    /// Whether every log has nothing left to write, sync or acknowledge.
    pub(super) fn logs_settled(&self) -> bool {
        self.topics.slots().filter_map(|slot| self.topics.get(slot)).all(|owned| {
            let settled = owned.log.as_ref().is_none_or(|log| log.acks.is_empty() && !log.listed);
            settled && owned.partition.log_settled()
        })
    }

    /// Whether every log has on the disk what it took: one that is fenced may have lost something.
    pub(super) fn logs_are_whole(&self) -> bool {
        self.topics
            .slots()
            .filter_map(|slot| self.topics.get(slot))
            .all(|owned| owned.partition.log_is_whole())
    }

    /// The topic goes: nothing more is written, and the files are let go.
    pub(super) fn forget_log(&mut self, slot: PartitionSlot) {
        let Some(log) = self.topics[slot].log.take() else { return };
        self.logs.list.retain(|&listed| listed != slot);
        for open in log.files {
            if mutation::on(Mutation::KeepFiles) {
                continue;
            }
            let file = self.io.detach_file(open.file);
            self.close_file(file);
        }
    }
}

fn why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(IoError::Os(number)) => format!("error {number}"),
        outcome => format!("{outcome:?}"),
    }
}
