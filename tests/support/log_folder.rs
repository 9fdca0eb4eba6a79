//! A partition's folder in memory, and what a consumer would be served from it.
#![allow(dead_code)] // each test uses a part of it

use std::collections::BTreeMap;
use std::io;

use uringest::commit_log::format::LogFile;
use uringest::commit_log::recovery::{LogStore, Recovery, RecoveryError, Request, recover};
use uringest::commit_log::window::{Stopped, Window};
use uringest::commit_log::{BLOCK_BYTES, ProducerEntry, ProducerState, SegmentInfo, block_down};
use uringest::ids::PartitionId;
use uringest::limits::DEDUP_WINDOW;
use uringest::proto::code::Code;
use uringest::proto::header::{FrameHeader, body_checksum_matches};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    pub segments: BTreeMap<u64, Vec<u8>>,
    pub small: BTreeMap<LogFile, Vec<u8>>,
    /// This segment cannot be read from here on.
    pub broken: Option<(u64, u64)>,
}

impl LogStore for Folder {
    fn segments(&self) -> io::Result<Vec<(u64, u64)>> {
        Ok(self.segments.iter().rev().map(|(&sequence, file)| (sequence, file.len() as u64)).collect())
    }

    fn read_at(&self, sequence: u64, at: u64, into: &mut [u8]) -> io::Result<usize> {
        assert!(
            at.is_multiple_of(BLOCK_BYTES) && (into.len() as u64).is_multiple_of(BLOCK_BYTES),
            "unaligned"
        );
        if self.broken.is_some_and(|(broken, from)| broken == sequence && at + into.len() as u64 > from) {
            return Err(io::Error::other("a broken disk"));
        }
        let file = &self.segments[&sequence];
        let rest = &file[file.len().min(usize::try_from(at).expect("small"))..];
        // Short reads now and then.
        let most = if at.is_multiple_of(3 * BLOCK_BYTES) { 10_000 } else { usize::MAX };
        let read = rest.len().min(into.len()).min(most);
        into[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn read_small(&self, file: LogFile) -> io::Result<Option<Vec<u8>>> {
        Ok(self.small.get(&file).cloned())
    }
}

/// A frame that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

impl Folder {
    pub fn recover(&self, partition: PartitionId, use_snapshots: bool) -> Result<Recovery, RecoveryError> {
        self.recover_within(partition, use_snapshots, 16 * 1024)
    }

    pub fn recover_within(
        &self,
        partition: PartitionId,
        use_snapshots: bool,
        buffer_bytes: usize,
    ) -> Result<Recovery, RecoveryError> {
        let mut buffer = vec![0xaa; buffer_bytes];
        let mut last = (0, 0);
        let mut progress = |done, all| {
            assert!(done <= all || all == 0, "{done} of {all}");
            last = (done, all);
        };
        let recovered = recover(self, Request { partition, use_snapshots }, &mut buffer, &mut progress)?;
        assert_eq!(last.0, last.1, "it ends with everything done");
        Ok(recovered)
    }

    /// What the server does after a recovery and before it goes on.
    pub fn settle(&mut self, partition: PartitionId, recovery: &Recovery) {
        for sequence in recovery.dropped.iter().chain(&recovery.unused) {
            self.segments.remove(sequence);
            self.small.remove(&LogFile::Index(*sequence));
        }
        for info in &recovery.log.segments {
            if recovery.unindexed.contains(&info.sequence) {
                let bytes = uringest::commit_log::index::encode(partition, info);
                self.small.insert(LogFile::Index(info.sequence), bytes);
            }
        }
        if let Some(before) = self.small.remove(&LogFile::Snapshot(0)) {
            self.small.insert(LogFile::Snapshot(1), before);
        }
        let snapshot = uringest::commit_log::snapshot::encode(partition, &recovery.log.snapshot());
        self.small.insert(LogFile::Snapshot(0), snapshot);
        self.small.remove(&LogFile::Fence);
    }

    /// Every frame that a reader of the recovered log gets, in order.
    pub fn served(&self, partition: PartitionId, recovery: &Recovery) -> Vec<Served> {
        let mut served = Vec::new();
        let mut before: Option<&SegmentInfo> = None;
        for info in &recovery.log.segments {
            if let Some(before) = before {
                let end = before.end.position.next_multiple_of(BLOCK_BYTES);
                assert_eq!((end, before.end.offset), (info.base.position, info.base.offset), "{recovery:#?}");
                assert!(before.sequence < info.sequence);
            }
            self.served_of(partition, info, &mut served);
            before = Some(info);
        }
        if let Some(last) = before {
            let end = last.end.position.next_multiple_of(BLOCK_BYTES);
            // Flushes without frames, which no server writes, may lie behind the last frame.
            assert_eq!(last.end.offset, recovery.log.end.offset, "{recovery:#?}");
            assert!(end <= recovery.log.end.position, "{recovery:#?}");
            assert!(recovery.log.next_sequence > last.sequence);
        }
        served
    }

    fn served_of(&self, partition: PartitionId, info: &SegmentInfo, served: &mut Vec<Served>) {
        let file = &self.segments[&info.sequence];
        let mut at = info.base;
        loop {
            let part = info.part_from(at);
            let position = block_down(part.at.position);
            let from = usize::try_from(BLOCK_BYTES + position - info.base.position).expect("small");
            let bytes = &file[from.min(file.len())..];
            let window = Window { partition, nonce: info.nonce, position, bytes, end: part.end };
            let mut runs = Vec::new();
            let walked = window.walk(part.at, &mut runs);
            assert_eq!((walked.stopped, walked.next), (Stopped::End, part.end), "{info:#?} from {at:?}");
            for run in &runs {
                let index = |of: u64| usize::try_from(of - position).expect("small");
                split(&bytes[index(run.from.position)..index(run.to.position)], served);
            }
            match part.gap_to {
                Some(to) => at = to,
                None => return,
            }
        }
    }
}

fn split(mut run: &[u8], served: &mut Vec<Served>) {
    while let Some(head) = run.first_chunk() {
        let header = FrameHeader::parse(head, u32::MAX).expect("a whole frame");
        let (frame, rest) = run.split_at(header.frame_bytes());
        assert!(body_checksum_matches(frame));
        served.push(Served { offset: header.offset, bytes: frame.to_vec() });
        run = rest;
    }
}

/// The deduplication table by a plain count over all that is served.
pub fn producers_of(served: &[Served]) -> Vec<ProducerState> {
    let mut all: BTreeMap<u64, Vec<ProducerEntry>> = BTreeMap::new();
    for frame in served {
        let header =
            FrameHeader::parse(frame.bytes.first_chunk().expect("a frame"), u32::MAX).expect("whole");
        let entries = all.entry(header.producer_id).or_default();
        let entry = |sequence, refused| ProducerEntry {
            sequence,
            body_checksum: if refused { 0 } else { header.body_checksum },
            offset: if refused { 0 } else { header.offset },
            records: if refused { 0 } else { header.offset_span },
            append_time_ns: header.append_time_ns,
            refused: refused.then_some(Code::SequenceTooOld),
        };
        match entries.last().map(|last| last.sequence + 1) {
            Some(next) if (next..next + u64::from(DEDUP_WINDOW)).contains(&header.sequence) => {
                entries.extend((next..header.sequence).map(|skipped| entry(skipped, true)));
            }
            _ => entries.clear(),
        }
        entries.push(entry(header.sequence, false));
    }
    let state = |(producer_id, entries): (u64, Vec<ProducerEntry>)| {
        let kept = entries.len().min(DEDUP_WINDOW as usize);
        let entries = entries[entries.len() - kept..].to_vec();
        ProducerState { producer_id, next_sequence: entries.last().expect("one").sequence + 1, entries }
    };
    all.into_iter().map(state).collect()
}
