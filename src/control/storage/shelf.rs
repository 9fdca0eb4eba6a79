//! One partition's files as control knows them: which segments are closed, which are free to be used again, and which
//! have to go. Pure: no file is touched here.
//!
//! Invariants:
//! 1. `closed` is in the order of the sequences; what is asked to be retired is a prefix of it, and stays in it until
//!    the shard has let go.
//! 2. What no kept snapshot covers is not asked to be retired, but where the disk has no room for one.
//! 3. The segment that is written to is never in `closed`, so retention never takes it; nor does it take the newest of
//!    the closed ones, which says where the log ends.
//! 4. Files of retired segments go one after the other, the oldest first: one that cannot go keeps those behind it, as a
//!    start takes a segment that is missing between two others for lost.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use super::super::files::FileError;
use crate::commit_log::format::LogFile;
use crate::commit_log::{BLOCK_BYTES, LogPoint, SegmentInfo, Snapshot, block_up};
use crate::ids::ShardId;
use crate::mutation::{self, Mutation};
use crate::topic::LogSettings;

/// Number of a partition's first segment.
pub(in crate::control) const FIRST_SEQUENCE: u64 = 1;
/// Files of a partition that wait to be used again, at most.
pub(super) const FREE_MAX: usize = 2;

/// A segment that takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed {
    pub sequence: u64,
    pub base: LogPoint,
    pub end: LogPoint,
    /// Append time of its last batch.
    pub last_time_ns: u64,
}

impl Closed {
    pub(super) fn of(info: &SegmentInfo) -> Closed {
        Closed { sequence: info.sequence, base: info.base, end: info.end, last_time_ns: info.last_time_ns }
    }

    /// Bytes of its file that hold something.
    pub(super) fn used_bytes(&self) -> u64 {
        BLOCK_BYTES + block_up(self.end.position) - self.base.position
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shelf {
    /// The topic's name, for the log.
    pub topic: String,
    pub shard: ShardId,
    pub folder: PathBuf,
    pub settings: LogSettings,
    /// Length of files made now.
    pub file_bytes: u64,
    pub closed: VecDeque<Closed>,
    /// Length of each segment's file, by sequence, whether it is closed, written to, or waits for its turn.
    pub files: BTreeMap<u64, u64>,
    /// Segments whose files are being made, with the free file that each is made of.
    making: BTreeMap<u64, Option<PathBuf>>,
    /// Files that nobody uses, with their lengths.
    pub free: Vec<(PathBuf, u64)>,
    /// The shard has been asked to let go of what is below.
    pub retiring: Option<u64>,
    /// Segments that the shard has let go of and whose files are there yet, with their lengths, oldest first.
    pub going: VecDeque<(u64, u64)>,
    /// The first of them is on its way.
    removing: bool,
    /// The first of them could not go.
    stuck: bool,
    /// Nothing below may go now: a backup copies it.
    pub held_from: Option<u64>,
    /// To be kept next.
    pub snapshot: Option<Box<Snapshot>>,
    /// One is being kept.
    pub saving: bool,
    /// None is kept now: a backup takes the one there is.
    pub snapshots_wait: bool,
    /// Up to this position a snapshot that is kept knows what producers have stored.
    pub covered: u64,
    /// The shard has been asked for a snapshot, for what retention would take and none covers.
    pub snapshot_asked: bool,
    /// There was no room for the last one.
    pub no_room: bool,
}

/// What of a log may go, and what keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retiring {
    /// Segments below this number have to go, if that is news.
    pub below: Option<u64>,
    /// More would have to, and no snapshot covers it.
    pub uncovered: bool,
}

impl Shelf {
    /// Of a partition without a file.
    pub(super) fn new(
        topic: String,
        shard: ShardId,
        folder: PathBuf,
        settings: LogSettings,
        file_bytes: u64,
    ) -> Shelf {
        Shelf {
            topic,
            shard,
            folder,
            settings,
            file_bytes,
            closed: VecDeque::new(),
            files: BTreeMap::new(),
            making: BTreeMap::new(),
            free: Vec::new(),
            retiring: None,
            going: VecDeque::new(),
            removing: false,
            stuck: false,
            held_from: None,
            snapshot: None,
            saving: false,
            snapshots_wait: false,
            covered: 0,
            snapshot_asked: false,
            no_room: false,
        }
    }

    /// Names of the files that are its segments, or wait to be such.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let free = self.free.iter().filter_map(|(path, _)| path.file_name());
        let free = free.map(|name| name.to_string_lossy().into_owned());
        self.files.keys().map(|&sequence| LogFile::Segment(sequence).name()).chain(free)
    }

    /// Segments that are on their way in or out, free files that are made into such, and a snapshot that is being kept:
    /// each may be there, under its own name or another's.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn moving(&self) -> impl Iterator<Item = PathBuf> {
        let sequences = self.making.keys().chain(self.going.iter().map(|(sequence, _)| sequence));
        let snapshot = self.saving.then(|| self.folder.join(LogFile::Snapshot(0).name()));
        let recycled = self.making.values().flatten().cloned();
        sequences.map(|&sequence| self.segment(sequence)).chain(recycled).chain(snapshot)
    }

    /// Bytes of all its files.
    pub(super) fn all_bytes(&self) -> u64 {
        let unused =
            self.free.iter().map(|(_, bytes)| bytes).chain(self.going.iter().map(|(_, bytes)| bytes));
        self.files.values().chain(unused).sum()
    }

    pub(super) fn segment(&self, sequence: u64) -> PathBuf {
        self.folder.join(LogFile::Segment(sequence).name())
    }

    pub(super) fn index(&self, sequence: u64) -> PathBuf {
        self.folder.join(LogFile::Index(sequence).name())
    }

    /// A segment has been closed.
    pub(super) fn sealed(&mut self, info: &SegmentInfo) {
        debug_assert!(self.closed.back().is_none_or(|last| last.sequence < info.sequence));
        self.closed.push_back(Closed::of(info));
    }

    /// What has to go.
    pub(super) fn to_retire(&self, now_ns: u64) -> Retiring {
        let mut bytes: u64 = self.closed.iter().map(Closed::used_bytes).sum();
        let (mut below, mut uncovered) = (None, false);
        for closed in self.closed.iter().take(self.closed.len().saturating_sub(1)) {
            let age_ns = now_ns.saturating_sub(closed.last_time_ns);
            let age_ms = age_ns / if mutation::on(Mutation::RetireYoung) { 100_000 } else { 1_000_000 };
            let old = self.settings.retention_ms > 0 && age_ms > self.settings.retention_ms;
            let taken = if mutation::on(Mutation::RetireOneMore) { closed.used_bytes() } else { 0 };
            if bytes + taken <= self.settings.retention_bytes && !old {
                break;
            }
            if self.held_from.is_some_and(|held| closed.sequence >= held) {
                break;
            }
            // Else a start that finds it gone would not know what producers have stored there, and may send again. A
            // disk without room gets some first.
            uncovered = closed.end.position > self.covered && !self.no_room;
            if uncovered {
                break;
            }
            bytes -= closed.used_bytes();
            below = Some(closed.sequence + 1);
        }
        Retiring { below: below.filter(|below| self.retiring.is_none_or(|asked| asked < *below)), uncovered }
    }

    /// What became of a snapshot: it is kept, or is the next to be kept where no other has come.
    pub(super) fn snapshot_done(&mut self, snapshot: Box<Snapshot>, result: &Result<(), FileError>) {
        match result {
            Ok(()) => {
                self.covered = self.covered.max(snapshot.at.position);
                (self.snapshot_asked, self.no_room) = (false, false);
            }
            Err(error) => {
                self.no_room = error.is_no_space();
                self.snapshot.get_or_insert(snapshot);
            }
        }
    }

    /// The shard has let go of what is below: those files are to go.
    pub(super) fn retired(&mut self, below: u64) {
        if self.retiring.is_some_and(|asked| asked <= below) {
            self.retiring = None;
        }
        while self.closed.front().is_some_and(|closed| closed.sequence < below) {
            self.closed.pop_front();
        }
        let kept = self.files.split_off(&below);
        self.going.extend(std::mem::replace(&mut self.files, kept));
    }

    /// The segment whose file is to go now, its length, and whether it is to be used again; [`Shelf::removal_done`] follows.
    pub(super) fn begin_removal(&mut self) -> Option<(u64, u64, bool)> {
        let &(sequence, bytes) = self.going.front().filter(|_| !self.removing)?;
        self.removing = true;
        // Of a rename that has failed nobody knows whether it is done; a removal may be done twice.
        Some((sequence, bytes, bytes == self.file_bytes && self.free.len() < FREE_MAX && !self.stuck))
    }

    /// What became of that: its file waits under a name to be used again, is gone (`None`), or is there yet.
    pub(super) fn removal_done(&mut self, result: Result<Option<PathBuf>, ()>) {
        self.removing = false;
        self.stuck = result.is_err();
        if let Ok(free) = result
            && let Some((_, bytes)) = self.going.pop_front()
        {
            self.free.extend(free.map(|free| (free, bytes)));
        }
    }

    /// The file of a segment is to be made, of a free file of the right length where there is one;
    /// [`Shelf::making_done`] follows.
    pub(super) fn begin_making(&mut self, sequence: u64) -> Option<PathBuf> {
        let at = self.free.iter().position(|(_, bytes)| *bytes == self.file_bytes);
        let recycled = at.map(|at| self.free.swap_remove(at).0);
        self.making.insert(sequence, recycled.clone());
        recycled
    }

    /// The file of a segment is there, or could not be made.
    pub(super) fn making_done(&mut self, sequence: u64, is_made: bool) {
        self.making.remove(&sequence);
        if is_made {
            self.files.insert(sequence, self.file_bytes);
        }
    }
}
