//! A simulated disk that worlds share: what is written, what of it is durable, and what a power cut leaves.
//!
//! A file is its durable bytes and, in order, the writes that have completed since they were; a reader sees both. A
//! sync makes durable what had completed when it was submitted, no more. When the power is cut, of each write that is
//! not durable (and of each that is in flight) every sector of 512 bytes is kept or lost by itself.
//!
//! Operations complete at the next `reap` of the world they came from, in order; a test may hold them back and complete
//! them one by one in any order, make them short or make them fail.
//!
//! What a backend's user must keep to is asserted here, as no real disk would: spans and positions are whole blocks,
//! no byte under a write changes until the write has completed, and no two writes to the same bytes are in flight.
//!
//! State and owner: the disk owns the files and all operations in flight on them, with a copy of what each writes; the
//! memory that an operation names stays mapped until it ends. What a file is called is not the disk's business.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::buf::{Mapping, Span};
use crate::ids::RegionId;
use crate::io::{Completion, FileHandle, IoError, Outcome, Token};
use crate::mutation::{self, Mutation};

/// What spans and positions are multiples of.
pub const BLOCK_BYTES: u64 = 4096;
/// What is written whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

/// Which operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskOp {
    /// `Op::WriteFile`.
    Write,
    /// `Op::WriteFileDurably`.
    DurableWrite,
    /// `Op::ReadFile`.
    Read,
    /// `Op::SyncFile`.
    Sync,
}

impl DiskOp {
    /// Whether it writes.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, DiskOp::Write | DiskOp::DurableWrite)
    }
}

/// An operation in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Of this operation alone; later ones have greater numbers.
    pub id: u64,
    /// What it is.
    pub op: DiskOp,
    /// The file's number.
    pub file: u64,
    /// Position of its first byte; 0 for a sync.
    pub at: u64,
    /// Bytes asked for; 0 for a sync.
    pub bytes: u32,
}

/// What has happened on the disk, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskEvent {
    /// An operation was submitted.
    Began(InFlight),
    /// An operation has ended so.
    Ended(InFlight, Outcome),
    /// The power was cut.
    PowerCut,
    /// The process was killed.
    Killed,
}

/// A write that has completed and is not durable.
struct Unsynced {
    id: u64,
    at: u64,
    bytes: Vec<u8>,
    /// The sectors of it that were written, where not all were.
    sectors: Option<Vec<bool>>,
}

impl Unsynced {
    /// The pieces that were written, each with its position.
    fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let sector = match &self.sectors {
            Some(_) => sector_len(),
            None => self.bytes.len().max(1),
        };
        self.bytes.chunks(sector).enumerate().filter_map(move |(index, piece)| {
            let kept = self.sectors.as_ref().is_none_or(|sectors| sectors[index]);
            kept.then_some((self.at + (index * sector) as u64, piece))
        })
    }
}

/// One file. See the module.
#[derive(Default)]
struct SimFile {
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// What readers see, where that is not `durable` under `unsynced`: after a sync that dropped what it was to write.
    seen: Option<Vec<u8>>,
}

/// Puts bytes into a file, which grows as it must.
fn put(contents: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).expect("files are small");
    let end = at + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[at..end].copy_from_slice(bytes);
}

fn sector_len() -> usize {
    usize::try_from(SECTOR_BYTES).expect("sectors are small")
}

impl SimFile {
    fn written(&mut self, write: Unsynced) {
        if let Some(seen) = &mut self.seen {
            for (at, piece) in write.pieces() {
                put(seen, at, piece);
            }
        }
        self.unsynced.push(write);
    }

    /// What was written durably is so at once, and nothing of before comes back in its place.
    fn written_durably(&mut self, at: u64, bytes: &[u8]) {
        if let Some(seen) = &mut self.seen {
            put(seen, at, bytes);
        }
        put(&mut self.durable, at, bytes);
        let end = at + bytes.len() as u64;
        for write in &mut self.unsynced {
            let from = write.at;
            let sectors = write.bytes.len().div_ceil(sector_len());
            let kept = write.sectors.get_or_insert_with(|| vec![true; sectors]);
            for (position, kept) in (from..).step_by(sector_len()).zip(kept) {
                *kept &= position < at || position >= end;
            }
        }
    }

    fn length(&self) -> u64 {
        let durable = self.seen.as_ref().unwrap_or(&self.durable).len() as u64;
        let written = self.unsynced.iter().flat_map(Unsynced::pieces);
        written.map(|(at, piece)| at + piece.len() as u64).fold(durable, u64::max)
    }

    /// What a reader of these bytes sees; fewer at the file's end.
    fn read(&self, at: u64, bytes: usize) -> Vec<u8> {
        let end = self.length().min(at + bytes as u64);
        let base = self.seen.as_ref().unwrap_or(&self.durable);
        let mut out = vec![0; usize::try_from(end.saturating_sub(at)).expect("files are small")];
        overlay(&mut out, at, 0, base);
        if self.seen.is_none() {
            for (from, piece) in self.unsynced.iter().flat_map(Unsynced::pieces) {
                overlay(&mut out, at, from, piece);
            }
        }
        out
    }

    /// Makes the writes with smaller numbers durable.
    fn sync(&mut self, below: u64) {
        let covered = self.unsynced.iter().take_while(|write| write.id < below).count();
        for write in self.unsynced.drain(..covered) {
            for (at, piece) in write.pieces() {
                put(&mut self.durable, at, piece);
            }
        }
    }

    /// Forgets that the writes with smaller numbers are still to be written; readers see them all the same.
    fn drop_unsynced(&mut self, below: u64) {
        if self.seen.is_none() {
            self.seen = Some(self.read(0, usize::MAX >> 1));
        }
        self.unsynced.retain(|write| write.id >= below);
    }
}

/// Copies what of `piece`, which lies at `from`, lies in `out`, which begins at `at`.
fn overlay(out: &mut [u8], at: u64, from: u64, piece: &[u8]) {
    let (start, end) = (from.max(at), (from + piece.len() as u64).min(at + out.len() as u64));
    if start < end {
        let index = |position: u64, base: u64| usize::try_from(position - base).expect("files are small");
        out[index(start, at)..index(end, at)].copy_from_slice(&piece[index(start, from)..index(end, from)]);
    }
}

/// An operation in flight, with what it needs to end.
struct Pending {
    info: InFlight,
    world: RegionId,
    token: Token,
    /// The memory it names, and where in it; `None` for a sync.
    memory: Option<(Arc<Mapping>, u64)>,
    /// A write's bytes when it was submitted.
    copy: Vec<u8>,
    /// A sync's: the writes it covers have smaller numbers in the order of completion.
    below: u64,
}

impl Pending {
    /// The bytes under the operation.
    fn bytes(&self) -> &[u8] {
        let Some((mapping, at)) = &self.memory else { return &[] };
        // SAFETY: `submit` checked the range, and the mapping is held. The memory is the disk's until the operation
        // ends; whoever writes to it all the same does so on this thread, not now.
        unsafe { std::slice::from_raw_parts(address(mapping, *at), self.info.bytes as usize) }
    }

    /// # Panics
    /// When bytes under a write have changed.
    fn unchanged(&self) {
        if !self.info.op.writes() || mutation::on(Mutation::FreeUnderWrite) {
            return;
        }
        let changed = self.bytes().iter().zip(&self.copy).position(|(now, then)| now != then);
        if let Some(index) = changed {
            let InFlight { file, at, bytes, .. } = self.info;
            panic!(
                "a byte under a write has changed: file {file}, position {}, of the {bytes} bytes written at {at}",
                at + index as u64
            );
        }
    }

    /// What a write writes.
    fn data(&self) -> &[u8] {
        if mutation::on(Mutation::FreeUnderWrite) { self.bytes() } else { &self.copy }
    }

    fn overlaps(&self, of: &InFlight) -> bool {
        let end = |info: &InFlight| info.at + u64::from(info.bytes);
        self.info.file == of.file && self.info.at < end(of) && of.at < end(&self.info)
    }
}

fn address(mapping: &Mapping, at: u64) -> *mut u8 {
    let at = usize::try_from(at).expect("regions are small");
    assert!(at <= mapping.address_bytes(), "a span lies in its region");
    // SAFETY: inside the mapping or one past its end, asserted above.
    unsafe { mapping.base().add(at) }
}

/// What the next operation of a kind comes to instead of success.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Fails(IoError),
    Short(u32),
}

/// A generator for choices: the same seed, the same choices.
struct Coin(u64);

impl Coin {
    fn new(seed: u64) -> Coin {
        Coin(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03)
    }

    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// How much of a write is kept: all, nothing, each half as likely as not, or all but a little.
    fn sectors(&mut self, bytes: usize) -> Vec<bool> {
        let sectors = bytes.div_ceil(sector_len());
        let of_16 = match self.next() % 4 {
            0 => 16,
            1 => 0,
            2 => 8,
            _ => 14,
        };
        (0..sectors).map(|_| self.next() % 16 < of_16).collect()
    }
}

/// See the module.
#[derive(Default)]
pub struct SimDisk {
    files: BTreeMap<u64, SimFile>,
    files_made: u64,
    /// Rises with each power cut and kill; handles of before are stale.
    boot: u64,
    pending: Vec<Pending>,
    ops: u64,
    /// Writes that have completed.
    written: u64,
    completed: Vec<(RegionId, Completion)>,
    faults: BTreeMap<DiskOp, VecDeque<Fault>>,
    holds: bool,
    full: bool,
    failed_syncs_drop: bool,
    syncs_lie: bool,
    events: Vec<DiskEvent>,
}

/// Files.
impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// A new file with these contents, durable: zeros, or what a recycled file held. Its number.
    pub fn create(&mut self, contents: Vec<u8>) -> u64 {
        let number = self.files_made;
        self.files_made += 1;
        self.files.insert(number, SimFile { durable: contents, ..SimFile::default() });
        number
    }

    /// A handle on a file, good until the next power cut or kill.
    #[must_use]
    pub fn open(&self, file: u64) -> FileHandle {
        let _exists = self.file(file);
        FileHandle::Simulated(self.boot << 32 | file)
    }

    /// The number of the file a handle is on, be it stale or not.
    ///
    /// # Panics
    /// When it is not a handle of a simulated world.
    #[must_use]
    pub fn number(handle: &FileHandle) -> u64 {
        match handle {
            FileHandle::Simulated(raw) => raw & u64::from(u32::MAX),
            FileHandle::Fd { .. } => panic!("a handle of a simulated world"),
        }
    }

    /// The files there are.
    pub fn files(&self) -> impl Iterator<Item = u64> {
        self.files.keys().copied()
    }

    /// Whether there is this file.
    #[must_use]
    pub fn has(&self, file: u64) -> bool {
        self.files.contains_key(&file)
    }

    /// What a reader of the whole file sees.
    #[must_use]
    pub fn contents(&self, file: u64) -> Vec<u8> {
        self.read_at(file, 0, usize::MAX >> 1)
    }

    /// What a reader of this part of the file sees; fewer bytes at the file's end.
    #[must_use]
    pub fn read_at(&self, file: u64, at: u64, bytes: usize) -> Vec<u8> {
        self.file(file).read(at, bytes)
    }

    /// Bytes of the file.
    #[must_use]
    pub fn length(&self, file: u64) -> u64 {
        self.file(file).length()
    }

    /// Cuts or lengthens a file, durably.
    pub fn truncate(&mut self, file: u64, bytes: u64) {
        self.settle(file);
        self.file_mut(file).durable.resize(usize::try_from(bytes).expect("files are small"), 0);
    }

    /// Deletes a file.
    ///
    /// # Panics
    /// When an operation on it is in flight.
    pub fn delete(&mut self, file: u64) {
        assert!(self.pending.iter().all(|pending| pending.info.file != file), "file {file} is in use");
        assert!(self.files.remove(&file).is_some(), "there is a file {file}");
    }

    /// Makes all that has been written to a file durable.
    pub fn settle(&mut self, file: u64) {
        let all = u64::MAX;
        let file = self.file_mut(file);
        if let Some(seen) = file.seen.take() {
            file.durable = seen;
            file.unsynced.clear();
        }
        file.sync(all);
    }

    /// Writes that have completed and are not durable.
    #[must_use]
    pub fn unsynced(&self, file: u64) -> usize {
        self.file(file).unsynced.len()
    }

    fn file(&self, file: u64) -> &SimFile {
        self.files.get(&file).unwrap_or_else(|| panic!("there is a file {file}"))
    }

    fn file_mut(&mut self, file: u64) -> &mut SimFile {
        self.files.get_mut(&file).unwrap_or_else(|| panic!("there is a file {file}"))
    }
}

/// What others do to files than worlds' operations do: over at once.
impl SimDisk {
    /// Writes, so that readers see it; durable it is with the next sync.
    pub fn write(&mut self, file: u64, at: u64, bytes: &[u8]) {
        self.landed(file, at, bytes.to_vec(), None);
    }

    /// Makes durable what a file holds, unless syncs lie.
    pub fn sync(&mut self, file: u64) {
        if !self.syncs_lie {
            self.file_mut(file).sync(u64::MAX);
        }
    }

    /// What a sync that fails leaves where Linux drops what it was to write: readers see it, and no later sync writes it.
    pub fn drop_unsynced(&mut self, file: u64) {
        self.file_mut(file).drop_unsynced(u64::MAX);
    }

    /// Whether syncs make nothing durable.
    #[must_use]
    pub fn lies(&self) -> bool {
        self.syncs_lie
    }
}

/// What a test controls.
impl SimDisk {
    /// Operations from now on complete only when they are told to (`complete`). Let go, they complete by themselves
    /// again, and so do those that were held.
    pub fn hold(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Operations in flight, oldest first.
    #[must_use]
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.pending.iter().map(|pending| pending.info).collect()
    }

    /// Completes one operation. The world it came from hands it out with its next `reap`.
    ///
    /// # Panics
    /// When it is not in flight, or bytes under it have changed.
    pub fn complete(&mut self, id: u64) {
        let index = self.pending.iter().position(|pending| pending.info.id == id);
        let pending = self.pending.remove(index.expect("an operation in flight"));
        self.end(&pending);
    }

    /// Completes an operation in flight, whichever the seed picks; false when there is none.
    pub fn complete_any(&mut self, seed: u64) -> bool {
        let count = self.pending.len() as u64;
        if count == 0 {
            return false;
        }
        let index = usize::try_from(Coin::new(seed).next() % count).expect("few operations");
        let pending = self.pending.remove(index);
        self.end(&pending);
        true
    }

    /// The next operation of this kind to complete, of those that no fault is planned for yet, fails. Of a write that
    /// fails otherwise than for want of space, the first half may have been written.
    pub fn fail_next(&mut self, op: DiskOp, error: IoError) {
        self.faults.entry(op).or_default().push_back(Fault::Fails(error));
    }

    /// Likewise, it gets no further than this many bytes: whole sectors, for a write.
    pub fn short_next(&mut self, op: DiskOp, bytes: u32) {
        assert!(op != DiskOp::Sync && bytes > 0, "a transfer of something");
        let whole = u64::from(bytes).is_multiple_of(SECTOR_BYTES);
        assert!(op == DiskOp::Read || whole, "what is written is whole sectors");
        self.faults.entry(op).or_default().push_back(Fault::Short(bytes));
    }

    /// Every write fails for want of space, until there is some again.
    pub fn full(&mut self, full: bool) {
        self.full = full;
    }

    /// What a sync that fails was to write is written never, though readers see it: what Linux does.
    pub fn failed_syncs_drop(&mut self, drop: bool) {
        self.failed_syncs_drop = drop;
    }

    /// Syncs, and writes that are to be durable, end well and make nothing durable: a drive that acknowledges what lies
    /// in its cache.
    pub fn syncs_lie(&mut self, lie: bool) {
        self.syncs_lie = lie;
    }

    /// What has happened since the disk was made, or since this was last asked.
    pub fn take_events(&mut self) -> Vec<DiskEvent> {
        std::mem::take(&mut self.events)
    }

    /// Cuts the power: of what is not durable, each sector is kept or lost, as the seed says. Nothing in flight
    /// completes any more, and handles are stale.
    ///
    /// # Panics
    /// When bytes under a write in flight have changed.
    pub fn power_cut(&mut self, seed: u64) {
        let mut coin = Coin::new(seed);
        self.land_in_flight(&mut coin);
        for file in self.files.values_mut() {
            file.seen = None;
            for mut write in std::mem::take(&mut file.unsynced) {
                let mut kept = coin.sectors(write.bytes.len());
                if let Some(written) = &write.sectors {
                    kept.iter_mut().zip(written).for_each(|(kept, written)| *kept &= *written);
                }
                write.sectors = Some(kept);
                for (at, piece) in write.pieces() {
                    put(&mut file.durable, at, piece);
                }
            }
        }
        self.events.push(DiskEvent::PowerCut);
    }

    /// Kills the process: what has completed is there, of writes in flight each sector is or is not, as the seed says,
    /// and none of that is durable by it. Nothing in flight completes any more, and handles are stale.
    ///
    /// # Panics
    /// When bytes under a write in flight have changed.
    pub fn kill(&mut self, seed: u64) {
        self.land_in_flight(&mut Coin::new(seed));
        self.events.push(DiskEvent::Killed);
    }

    /// Lets writes in flight be what the process leaves behind, in any order.
    fn land_in_flight(&mut self, coin: &mut Coin) {
        for pending in std::mem::take(&mut self.pending) {
            pending.unchanged();
            if pending.info.op.writes() {
                let sectors = Some(coin.sectors(pending.copy.len()));
                self.landed(pending.info.file, pending.info.at, pending.copy, sectors);
            }
        }
        self.completed.clear();
        self.faults.clear();
        self.boot += 1;
    }

    fn landed(&mut self, file: u64, at: u64, bytes: Vec<u8>, sectors: Option<Vec<bool>>) {
        let id = self.written;
        self.written += 1;
        self.file_mut(file).written(Unsynced { id, at, bytes, sectors });
    }
}

/// What worlds do.
impl SimDisk {
    /// Whether a handle is of now.
    pub(super) fn is_current(&self, handle: u64) -> bool {
        handle >> 32 == self.boot
    }

    /// Takes an operation in; one on a stale handle is never heard of again.
    pub(super) fn submit(
        &mut self,
        (world, token): (RegionId, Token),
        op: DiskOp,
        handle: u64,
        at: u64,
        memory: Option<(&Arc<Mapping>, Span)>,
    ) {
        if !self.is_current(handle) {
            return;
        }
        let file = handle & u64::from(u32::MAX);
        let _exists = self.file(file);
        let bytes = memory.map_or(0, |(_, span)| span.bytes);
        let info = InFlight { id: self.ops, op, file, at, bytes };
        self.ops += 1;
        if let Some((mapping, span)) = memory {
            let whole = |of: u64| of.is_multiple_of(BLOCK_BYTES);
            assert!(
                bytes > 0 && whole(at) && whole(u64::from(bytes)) && whole(span.at),
                "whole blocks: {info:?} {span:?}"
            );
            assert!(span.end() <= mapping.address_bytes() as u64, "a span lies in its region: {span:?}");
        }
        if op.writes() {
            let other = self.pending.iter().find(|other| other.info.op.writes() && other.overlaps(&info));
            assert!(other.is_none(), "two writes to the same bytes are in flight: {info:?}");
        }
        let memory = memory.map(|(mapping, span)| (Arc::clone(mapping), span.at));
        let mut pending = Pending { info, world, token, memory, copy: Vec::new(), below: self.written };
        if op.writes() {
            pending.copy = pending.bytes().to_vec();
        }
        self.pending.push(pending);
        self.events.push(DiskEvent::Began(info));
    }

    /// What has completed for a world.
    pub(super) fn reap(&mut self, world: RegionId, out: &mut VecDeque<Completion>) {
        if !self.holds {
            let all = std::mem::take(&mut self.pending);
            let (mine, others): (Vec<_>, _) = all.into_iter().partition(|pending| pending.world == world);
            self.pending = others;
            for pending in &mine {
                self.end(pending);
            }
        }
        self.completed.retain(|(of, completion)| {
            if *of == world {
                out.push_back(*completion);
            }
            *of != world
        });
    }

    fn end(&mut self, pending: &Pending) {
        pending.unchanged();
        let InFlight { op, file, at, bytes, .. } = pending.info;
        let fault = self.faults.get_mut(&op).and_then(VecDeque::pop_front);
        let outcome = match (op, fault) {
            (DiskOp::Write | DiskOp::DurableWrite, Some(Fault::Fails(error))) => {
                if error != IoError::NoSpace {
                    let half = pending.copy.len() / sector_len() / 2 * sector_len();
                    self.landed(file, at, pending.data()[..half].to_vec(), None);
                }
                Outcome::Failed(error)
            }
            (DiskOp::Write | DiskOp::DurableWrite, _) if self.full => Outcome::Failed(IoError::NoSpace),
            (DiskOp::Write | DiskOp::DurableWrite, fault) => {
                let bytes = if let Some(Fault::Short(most)) = fault { bytes.min(most) } else { bytes };
                let written = &pending.data()[..bytes as usize];
                if op == DiskOp::DurableWrite && !self.syncs_lie {
                    self.file_mut(file).written_durably(at, written);
                } else {
                    self.landed(file, at, written.to_vec(), None);
                }
                Outcome::Written { bytes }
            }
            (DiskOp::Sync, Some(Fault::Fails(error))) => {
                if self.failed_syncs_drop {
                    self.file_mut(file).drop_unsynced(pending.below);
                }
                Outcome::Failed(error)
            }
            (DiskOp::Sync, _) => {
                if !self.syncs_lie {
                    self.file_mut(file).sync(pending.below);
                }
                Outcome::Done
            }
            (DiskOp::Read, Some(Fault::Fails(error))) => Outcome::Failed(error),
            (DiskOp::Read, fault) => {
                let bytes = if let Some(Fault::Short(most)) = fault { bytes.min(most) } else { bytes };
                self.read_into(pending, bytes)
            }
        };
        let completion = Completion { token: pending.token, outcome, more: false };
        self.completed.push((pending.world, completion));
        self.events.push(DiskEvent::Ended(pending.info, outcome));
    }

    fn read_into(&self, pending: &Pending, bytes: u32) -> Outcome {
        let got = self.read_at(pending.info.file, pending.info.at, bytes as usize);
        let Some((mapping, at)) = &pending.memory else { return Outcome::EndOfStream };
        // SAFETY: `submit` checked the range of which this is a part, the mapping is held, and the memory is the disk's
        // to write to until the operation ends.
        unsafe { std::ptr::copy_nonoverlapping(got.as_ptr(), address(mapping, *at), got.len()) };
        match u32::try_from(got.len()).expect("no more than was asked for") {
            0 => Outcome::EndOfStream,
            bytes => Outcome::Read { bytes },
        }
    }
}

#[cfg(test)]
mod tests;
