//! What of a partition's log outlives the process: names of files on the simulated disk, and the small files beside them.

use std::collections::BTreeMap;
use std::io;

use crate::commit_log::format::LogFile;
use crate::commit_log::recovery::{LogStore, Recovery, Request, recover};
use crate::commit_log::snapshot::{encode, encode_fence};
use crate::commit_log::{BLOCK_BYTES, LogPoint, SegmentInfo, Snapshot, index};
use crate::ids::PartitionId;
use crate::io::scripted::Disk;
use crate::shard::messages::SegmentFile;

use super::random::Random;

/// Bytes of a segment's file.
const SEGMENT_BYTES: u64 = 192 * 1024;

/// See the module.
pub struct Shelf {
    partition: PartitionId,
    disk: Disk,
    segments: BTreeMap<u64, u64>,
    small: BTreeMap<String, Vec<u8>>,
}

impl LogStore for Shelf {
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

impl Shelf {
    /// Of a partition that is new.
    pub fn new(partition: PartitionId, disk: Disk) -> Shelf {
        Shelf { partition, disk, segments: BTreeMap::new(), small: BTreeMap::new() }
    }

    /// A file for a segment: new, or full of what another log may have left.
    pub fn make(&mut self, sequence: u64, random: &mut Random) -> SegmentFile {
        let length = usize::try_from(SEGMENT_BYTES).expect("small");
        let mut contents = vec![random.pick(&[0, 0xa5]); length];
        contents[..usize::try_from(BLOCK_BYTES).expect("small")].fill(0);
        let mut disk = self.disk.borrow_mut();
        let number = disk.create(contents);
        self.segments.insert(sequence, number);
        SegmentFile { file: disk.open(number), nonce: random.number() | 1, bytes: SEGMENT_BYTES }
    }

    /// A segment's file, to be read.
    pub fn open(&self, sequence: u64) -> Result<crate::io::FileHandle, String> {
        let number = self.segments.get(&sequence).ok_or("it is not there")?;
        Ok(self.disk.borrow().open(*number))
    }

    /// What the process finds when it starts, and what it makes of it.
    ///
    /// # Panics
    /// When there is nothing to go on from.
    pub fn recover(&mut self) -> Recovery {
        let request = Request { partition: self.partition, use_snapshots: true };
        let mut buffer = vec![0; 64 * 1024];
        let recovery = recover(self, request, &mut buffer, &mut |_, _| ()).expect("a log can be recovered");
        for &number in self.segments.values() {
            self.disk.borrow_mut().settle(number);
        }
        for sequence in recovery.dropped.iter().chain(&recovery.unused) {
            self.segments.remove(sequence);
        }
        for info in recovery.log.segments.iter().filter(|info| recovery.unindexed.contains(&info.sequence)) {
            self.sealed(info);
        }
        self.keep_snapshot(&recovery.log.snapshot());
        self.small.remove(&LogFile::Fence.name());
        recovery
    }

    /// A segment takes no more.
    pub fn sealed(&mut self, info: &SegmentInfo) {
        let name = LogFile::Index(info.sequence).name();
        self.small.insert(name, index::encode(self.partition, info));
    }

    /// Two are kept.
    pub fn keep_snapshot(&mut self, snapshot: &Snapshot) {
        let newest = LogFile::Snapshot(0).name();
        if let Some(before) = self.small.remove(&newest) {
            self.small.insert(LogFile::Snapshot(1).name(), before);
        }
        self.small.insert(newest, encode(self.partition, snapshot));
    }

    /// See `fence`.
    pub fn is_fenced(&self) -> bool {
        self.small.contains_key(&LogFile::Fence.name())
    }

    /// The log may not go on behind this point.
    pub fn fence(&mut self, durable: LogPoint) {
        self.small.insert(LogFile::Fence.name(), encode_fence(self.partition, durable));
    }
}
