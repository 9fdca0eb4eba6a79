//! Power cuts, kills and disks that fail, thousands of times: a partition and its files without a shard around it, on the
//! simulated disk, through several lives. After each, what recovery finds is held against what had been said to be
//! written and durable.
//!
//! `POWER_SEED=N` runs one seed alone, `POWER_SEEDS=N` so many of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::rig::batch_of;
use crate::buf::{Buffers, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec, SendMemory, Span};
use crate::commit_log::format::LogFile;
use crate::commit_log::recovery::{LogStore, Recovery, Request, recover};
use crate::commit_log::snapshot::{encode, encode_fence};
use crate::commit_log::window::{Stopped, Window};
use crate::commit_log::{BLOCK_BYTES, RecoveredLog, index};
use crate::ids::{FileId, PartitionId, RegionId};
use crate::io::scripted::disk::{DiskOp, SimDisk};
use crate::io::scripted::{Disk, Scripted};
use crate::io::{Completions, Io, IoError, Op, Outcome, Token, TokenKind, Wait};
use crate::limits::HEADER_BYTES;
use crate::partition::{
    Admission, LogEvent, LogSpec, LogWrite, NextSegment, NoSegment, Partition, PartitionSpec, ProducerSlot,
    Source, Wrote,
};
use crate::proto::code::Code;
use crate::proto::header::{AckLevel, FrameHeader};
use crate::topic::{Overflow, TopicKind};

const ID: PartitionId = PartitionId(5);
const RING: RegionId = RegionId(1);
const BLOCKS: RegionId = RegionId(2);
const INBOX: RegionId = RegionId(3);
const STRADDLE: RegionId = RegionId(4);
const RING_BYTES: u64 = 256 * 1024;
const SEGMENT_BYTES: u64 = 96 * 1024;
const PRODUCERS: u64 = 3;
const LIVES: u64 = 4;
const SEEDS: u64 = 250;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A batch that was appended.
#[derive(Debug, Clone)]
struct Stored {
    offset: u64,
    producer: u64,
    sequence: u64,
    body: Vec<u8>,
}

/// Memory that all lives share: making it takes longer than a life.
struct Mappings {
    ring: Arc<Mapping>,
    blocks: Arc<Mapping>,
    inbox: Arc<Mapping>,
    straddle: Arc<Mapping>,
}

impl Mappings {
    fn new() -> Mappings {
        let mirrored = |bytes| Arc::new(Mapping::mirrored(bytes, Pages::Small).expect("memory for a test"));
        let plain = |bytes| Arc::new(Mapping::plain(bytes, Pages::Small).expect("memory for a test"));
        Mappings {
            ring: mirrored(usize::try_from(RING_BYTES).expect("small")),
            blocks: plain(256 * 1024),
            inbox: mirrored(64 * 1024),
            straddle: plain(64 * 1024),
        }
    }
}

/// What outlives the process: the disk, the names of its files, and what control keeps beside them.
struct Kept {
    disk: Disk,
    segments: BTreeMap<u64, u64>,
    small: BTreeMap<String, Vec<u8>>,
    nonces: u64,
}

impl LogStore for Kept {
    fn segments(&self) -> io::Result<Vec<(u64, u64)>> {
        let disk = self.disk.borrow();
        Ok(self.segments.iter().map(|(&sequence, &number)| (sequence, disk.length(number))).collect())
    }

    fn read_at(&self, sequence: u64, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.disk.borrow().read_at(self.segments[&sequence], at, into.len());
        into[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn read_small(&self, file: LogFile) -> io::Result<Option<Vec<u8>>> {
        Ok(self.small.get(&file.name()).cloned())
    }
}

impl Kept {
    fn new(disk: Disk) -> Kept {
        Kept { disk, segments: BTreeMap::new(), small: BTreeMap::new(), nonces: 0x77 }
    }

    /// A file for a segment: new, or full of what another log may have left.
    fn make(&mut self, sequence: u64, rng: &mut Rng) -> NextSegment {
        let mut contents = vec![if rng.below(2) == 0 { 0 } else { 0xa5 }; small(SEGMENT_BYTES)];
        contents[..small(BLOCK_BYTES)].fill(0);
        let number = self.disk.borrow_mut().create(contents);
        self.segments.insert(sequence, number);
        self.nonces += 1;
        NextSegment { sequence, nonce: self.nonces, bytes: SEGMENT_BYTES }
    }

    /// Recovers, twice: the second time nothing may come out otherwise; then does what a start does with the outcome.
    fn recover(&mut self) -> Recovery {
        let mut buffer = vec![0; 64 * 1024];
        let mut once = |use_snapshots| {
            let request = Request { partition: ID, use_snapshots };
            recover(self, request, &mut buffer, &mut |_, _| ()).expect("it can be recovered")
        };
        let recovery = once(true);
        let again = once(true);
        assert_eq!(recovery.log, again.log, "recovery changes nothing");
        if recovery.fenced_at.is_none() {
            let scanned = once(false).log;
            // Behind a segment whose header is lost, of which nothing was durable, the longer look may find some more.
            assert!(recovery.log.end.offset <= scanned.end.offset, "a snapshot only saves reading");
            if recovery.log.end == scanned.end {
                assert_eq!(producers(&recovery.log), producers(&scanned), "of what the log tells");
            }
        }
        for &number in self.segments.values() {
            self.disk.borrow_mut().settle(number);
        }
        for sequence in recovery.dropped.iter().chain(&recovery.unused) {
            self.segments.remove(sequence);
        }
        for info in recovery.log.segments.iter().filter(|info| recovery.unindexed.contains(&info.sequence)) {
            self.small.insert(LogFile::Index(info.sequence).name(), index::encode(ID, info));
        }
        self.keep_snapshot(&recovery.log.snapshot());
        self.small.remove(&LogFile::Fence.name());
        recovery
    }

    fn keep_snapshot(&mut self, snapshot: &crate::commit_log::Snapshot) {
        let newest = LogFile::Snapshot(0).name();
        if let Some(before) = self.small.remove(&newest) {
            self.small.insert(LogFile::Snapshot(1).name(), before);
        }
        self.small.insert(newest, encode(ID, snapshot));
    }
}

/// Producers and the sequences they go on with.
fn producers(log: &RecoveredLog) -> BTreeMap<u64, u64> {
    log.producers.iter().map(|producer| (producer.producer_id, producer.next_sequence)).collect()
}

fn small(bytes: u64) -> usize {
    usize::try_from(bytes).expect("small")
}

/// One run of the process.
struct Life<'a> {
    kept: &'a mut Kept,
    io: Scripted,
    buffers: Buffers,
    blocks: SendMemory,
    partition: Partition,
    slots: Vec<ProducerSlot>,
    files: BTreeMap<u64, FileId>,
    next: BTreeMap<u64, u64>,
    wants: Vec<u64>,
    completions: Completions,
    wall_ns: u64,
}

impl<'a> Life<'a> {
    fn new(kept: &'a mut Kept, mappings: &Mappings, log: &RecoveredLog, wall_ns: u64) -> Life<'a> {
        let mut io = Scripted::new(INBOX, &mappings.inbox, 4);
        io.share_disk(kept.disk.clone());
        let mut memory = Memory::new();
        for (id, mapping) in [(RING, &mappings.ring), (BLOCKS, &mappings.blocks), (INBOX, &mappings.inbox)] {
            memory.attach(id, Arc::clone(mapping));
            io.attach_region(id, mapping, false);
        }
        memory.attach(STRADDLE, Arc::clone(&mappings.straddle));
        let receive = ReceiveMemory::new(ReceiveSpec {
            shared: (INBOX, &mappings.inbox),
            buffers: 4,
            bulk: Vec::new(),
            blocks: (STRADDLE, Arc::clone(&mappings.straddle)),
            opened: None,
        });
        let next = producers(log);
        let mut partition = Partition::new(PartitionSpec {
            id: ID,
            kind: TopicKind::Log,
            overflow: Overflow::Block,
            ring: RING,
            ring_bytes: RING_BYTES,
            first_offset: log.end.offset,
            committed: Vec::new(),
            log: Some(LogSpec {
                recovered: log.clone(),
                durability: AckLevel::Received,
                snapshot_bytes: 128 * 1024,
            }),
        });
        let open = |id| {
            let opened = partition.open_producer(id, 0, id).expect("room for a producer");
            assert_eq!(opened.next_sequence, next.get(&id).copied().unwrap_or(1), "as it was recovered");
            opened.slot
        };
        let slots = (1..=PRODUCERS).map(open).collect();
        Life {
            kept,
            io,
            buffers: Buffers { memory, receive },
            blocks: SendMemory::new(BLOCKS, 256 * 1024),
            partition,
            slots,
            files: BTreeMap::new(),
            next,
            wants: vec![log.next_sequence],
            completions: Completions::with_capacity(64),
            wall_ns,
        }
    }

    /// Stores a batch of some producer, if it is taken.
    fn append(&mut self, rng: &mut Rng, stored: &mut Vec<Stored>) {
        let producer = 1 + rng.below(PRODUCERS);
        let sequence = self.next.get(&producer).copied().unwrap_or(1);
        let bytes = [10, 60, 500, 3_000, 9_000, 30_000][small(rng.below(6))];
        let frame = batch_of(9, producer, sequence, bytes + small(rng.below(9)));
        let inbox = Span { region: INBOX, at: 0, bytes: u32::try_from(frame.len()).expect("small") };
        self.buffers.memory.bytes_mut(inbox).copy_from_slice(&frame);
        let header =
            FrameHeader::parse(frame.first_chunk().expect("a header"), u32::MAX).expect("a good frame");
        let slot = self.slots[small(producer - 1)];
        let admitted = self.partition.admit(slot, producer, sequence, header.body_checksum);
        assert!(matches!(admitted, Admission::New), "{admitted:?}");
        self.wall_ns += rng.below(3);
        let appended =
            self.partition.append(&mut self.buffers, &[inbox], Source::Local, &header, slot, self.wall_ns);
        match appended {
            Ok(appended) => {
                let body = frame[HEADER_BYTES..].to_vec();
                stored.push(Stored { offset: appended.offset, producer, sequence, body });
                self.next.insert(producer, sequence + 1);
            }
            Err(Code::BackPressure | Code::DiskFull | Code::PartitionFenced) => {}
            Err(code) => panic!("{code}"),
        }
    }

    fn submit(&mut self, write: LogWrite) {
        let LogWrite { at, from, .. } = write;
        let file = self.files[&write.sequence];
        let op = if write.durably {
            Op::WriteFileDurably { file, at, from }
        } else {
            Op::WriteFile { file, at, from }
        };
        self.io.submit(op, Token::new(TokenKind::FileWrite, write.id, 0)).expect("taken");
    }

    /// What the end of a tick does.
    fn work_off(&mut self, sync: bool) {
        while let Some(write) = self.partition.next_write(&mut self.buffers, &mut self.blocks, sync) {
            self.submit(write);
        }
        if let Some(sequence) = self.partition.next_sync(sync) {
            let op = Op::SyncFile { file: self.files[&sequence] };
            self.io.submit(op, Token::new(TokenKind::FileSync, 0, 0)).expect("taken");
        }
        while let Some(event) = self.partition.next_log_event() {
            match event {
                LogEvent::WantSegment(sequence) => self.wants.push(sequence),
                LogEvent::Snapshot(snapshot) => self.kept.keep_snapshot(&snapshot),
                LogEvent::Sealed(info) => {
                    self.kept.small.insert(LogFile::Index(info.sequence).name(), index::encode(ID, &info));
                }
            }
        }
    }

    fn offer(&mut self, rng: &mut Rng) {
        if self.wants.is_empty() {
            return;
        }
        if rng.below(8) == 0 {
            return self.partition.offer_segment(Err(NoSegment::NoSpace));
        }
        // In any order, as control's tasks come to their end.
        let sequence = self.wants.swap_remove(small(rng.below(self.wants.len() as u64)));
        let next = self.kept.make(sequence, rng);
        let handle = self.kept.disk.borrow().open(self.kept.segments[&sequence]);
        self.files.insert(sequence, self.io.attach_file(handle).expect("room for a file"));
        self.partition.offer_segment(Ok(next));
    }

    fn reap(&mut self) {
        self.io.reap(Wait::No, &mut self.completions).expect("it goes on");
        for completion in std::mem::take(&mut self.completions) {
            let id = completion.token.generation();
            match (completion.token.kind(), completion.outcome) {
                (TokenKind::FileSync, Outcome::Done) => self.partition.synced(),
                (TokenKind::FileSync, outcome) => self.fence(&format!("{outcome:?}"), true),
                (_, Outcome::Written { bytes }) => {
                    if let Wrote::Again(rest) = self.partition.wrote(id, bytes, &mut self.blocks) {
                        self.submit(rest);
                    }
                }
                (_, Outcome::Failed(IoError::NoSpace)) => {
                    let again = self.partition.write_again(id);
                    self.submit(again);
                }
                (_, outcome) => {
                    self.partition.gave_up_write(id, &mut self.blocks);
                    self.fence(&format!("{outcome:?}"), false);
                }
            }
        }
        self.completions = Completions::with_capacity(64);
    }

    fn fence(&mut self, reason: &str, sync: bool) {
        self.partition.fence(reason, sync);
        let fence = encode_fence(ID, self.partition.durable_point());
        self.kept.small.insert(LogFile::Fence.name(), fence);
    }

    fn fault(&mut self, rng: &mut Rng) {
        let mut disk = self.kept.disk.borrow_mut();
        match rng.below(40) {
            0..4 => disk.short_next(DiskOp::Write, 512 * (1 + u32::try_from(rng.below(20)).expect("small"))),
            4..7 => disk.fail_next(DiskOp::Write, IoError::NoSpace),
            7 => disk.fail_next(DiskOp::Write, IoError::Os(5)),
            8 => disk.fail_next(DiskOp::Sync, IoError::Os(5)),
            9 => disk.fail_next(DiskOp::DurableWrite, IoError::Os(5)),
            10..12 => disk.short_next(DiskOp::DurableWrite, 1024),
            _ => {}
        }
    }

    /// Runs for a while; what was said to be written and to be durable by then.
    fn run(&mut self, rng: &mut Rng, stored: &mut Vec<Stored>) -> (u64, u64) {
        let (steps, faults, syncs) = (30 + rng.below(300), rng.below(3) == 0, 1 + rng.below(6));
        self.kept.disk.borrow_mut().failed_syncs_drop(rng.below(2) == 0);
        self.kept.disk.borrow_mut().hold(true);
        for _ in 0..steps {
            match rng.below(10) {
                0..4 => self.append(rng, stored),
                4 => self.offer(rng),
                5 if faults && rng.below(4) == 0 => self.fault(rng),
                6 if rng.below(30) == 0 => self.partition.roll(&mut self.buffers),
                _ => {
                    self.kept.disk.borrow_mut().complete_any(rng.next());
                    self.reap();
                }
            }
            let sync = rng.below(syncs) == 0;
            self.work_off(sync);
        }
        (self.partition.reached(AckLevel::Written), self.partition.reached(AckLevel::Durable))
    }
}

/// Every frame of the log in order, as (offset, producer, sequence, body).
fn frames(kept: &Kept, log: &RecoveredLog) -> Vec<Stored> {
    let mut all = Vec::new();
    for info in &log.segments {
        let bytes = kept.disk.borrow().contents(kept.segments[&info.sequence]);
        let position = info.base.position;
        let window = Window {
            partition: ID,
            nonce: info.nonce,
            position,
            bytes: &bytes[small(BLOCK_BYTES)..],
            end: info.end,
        };
        let mut runs = Vec::new();
        let walked = window.walk(info.base, &mut runs);
        assert_eq!(walked.stopped, Stopped::End, "segment {}: {walked:?}", info.sequence);
        for run in runs {
            let mut rest =
                &window.bytes[small(run.from.position - position)..small(run.to.position - position)];
            while let Some(head) = rest.first_chunk() {
                let header = FrameHeader::parse(head, u32::MAX).expect("a good frame");
                let (frame, after) = rest.split_at(header.frame_bytes());
                all.push(Stored {
                    offset: header.offset,
                    producer: header.producer_id,
                    sequence: header.sequence,
                    body: frame[HEADER_BYTES..].to_vec(),
                });
                rest = after;
            }
        }
    }
    all
}

fn check(kept: &Kept, recovery: &Recovery, stored: &[Stored], least: u64, seed: u64) {
    let log = &recovery.log;
    let end = log.end.offset;
    assert!(
        end >= least,
        "seed {seed}: {least} records were promised, {end} are there: {:?}",
        recovery.findings
    );
    let damaged: Vec<_> = log.segments.iter().flat_map(|info| &info.quarantined).collect();
    assert!(damaged.is_empty(), "seed {seed}: nothing was damaged: {damaged:?} {:?}", recovery.findings);
    let found = frames(kept, log);
    assert_eq!(found.len() as u64, end, "seed {seed}: one record a batch");
    for (found, stored) in found.iter().zip(stored) {
        let same = (found.offset, found.producer, found.sequence)
            == (stored.offset, stored.producer, stored.sequence);
        assert!(same && found.body == stored.body, "seed {seed}: record {} is another", stored.offset);
    }
    for (producer, next) in producers(log) {
        let last = stored[..small(end)].iter().rev().find(|batch| batch.producer == producer);
        assert_eq!(Some(next - 1), last.map(|batch| batch.sequence), "seed {seed}: producer {producer}");
    }
}

fn lives(mappings: &Mappings, seed: u64) {
    let mut rng = Rng(seed);
    let mut kept = Kept::new(std::rc::Rc::new(std::cell::RefCell::new(SimDisk::new())));
    let mut log = RecoveredLog { next_sequence: 1, ..RecoveredLog::default() };
    let mut stored: Vec<Stored> = Vec::new();
    for life in 0..LIVES {
        let mut process = Life::new(&mut kept, mappings, &log, 1_000 * (life + 1));
        let (written, durable) = process.run(&mut rng, &mut stored);
        let fenced = process.partition.fenced().is_some();
        drop(process);
        let killed = rng.below(2) == 0;
        let mut disk = kept.disk.borrow_mut();
        if killed {
            disk.kill(rng.next())
        } else {
            disk.power_cut(rng.next())
        }
        drop(disk);
        let recovery = kept.recover();
        if fenced {
            let promised = recovery.fenced_at.expect("the fence was kept").offset;
            assert_eq!(recovery.log.end.offset, promised, "seed {seed}: cut at the fence");
        }
        let least = if killed && !fenced { written } else { durable };
        check(&kept, &recovery, &stored, least, seed);
        stored.truncate(small(recovery.log.end.offset));
        log = recovery.log;
    }
}

#[test]
fn what_was_promised_outlives_kills_power_cuts_and_failing_disks() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("POWER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("POWER_SEEDS").unwrap_or(SEEDS),
    };
    let mappings = Mappings::new();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lives(&mappings, seed)));
        if let Err(panic) = outcome {
            eprintln!("again with: POWER_SEED={seed} cargo test --lib power");
            std::panic::resume_unwind(panic);
        }
    }
}
