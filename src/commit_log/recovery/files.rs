//! Which of a folder's files are segments of the log.

use super::finding::{Dropped, Finding};
use super::stream::{BLOCK, Stream};
use super::{LogStore, RecoveryError, read_index};
use crate::commit_log::format::{FlushHeader, LogFile, SegmentFault, SegmentHeader};
use crate::commit_log::{BLOCK_BYTES, LogPoint};
use crate::ids::PartitionId;

/// A file whose first block says nothing that can be used.
pub struct Headless {
    pub sequence: u64,
    file_bytes: u64,
    why: SegmentFault,
    /// Its first block is zero: no segment was begun in it, as far as one can see.
    blank: bool,
}

impl Headless {
    /// What the segment's header was, by the word of its first flush.
    fn header_by_first_flush<S: LogStore>(
        &self,
        partition: PartitionId,
        stream: &mut Stream<'_, S>,
    ) -> Result<Option<SegmentHeader>, RecoveryError> {
        let first = stream.head(self.sequence, BLOCK_BYTES, BLOCK)?;
        let Some(Ok(flush)) = first.first_chunk().map(FlushHeader::decode) else { return Ok(None) };
        let header = SegmentHeader {
            partition,
            sequence: self.sequence,
            nonce: flush.nonce,
            base: LogPoint { position: flush.position, offset: flush.first_offset },
            file_bytes: self.file_bytes,
            created_ns: 0,
            chain: flush.previous,
            durable_offset: 0,
        };
        // What holds for every header that is decoded holds for this one.
        Ok(SegmentHeader::decode(&header.encode()).is_ok().then_some(header))
    }

    /// The same, where the segment's index says so too.
    fn header_by_index<S: LogStore>(
        &self,
        store: &S,
        partition: PartitionId,
        stream: &mut Stream<'_, S>,
    ) -> Result<Option<SegmentHeader>, RecoveryError> {
        let Some(Ok(info)) = read_index(store, partition, self.sequence)? else { return Ok(None) };
        let header = self.header_by_first_flush(partition, stream)?;
        Ok(header.filter(|header| (header.nonce, header.base) == (info.nonce, info.base)))
    }
}

/// The files of a folder.
#[derive(Default)]
pub struct Files {
    /// Segments of the log, oldest first, with ascending bases.
    pub live: Vec<SegmentHeader>,
    /// Files that may be segments all the same: their first flush would tell.
    pub headless: Vec<Headless>,
    /// Numbers of all files, ascending.
    pub all: Vec<u64>,
    pub unused: Vec<u64>,
    pub dropped: Vec<u64>,
}

impl Files {
    pub fn load<S: LogStore>(
        store: &S,
        partition: PartitionId,
        stream: &mut Stream<'_, S>,
        findings: &mut Vec<Finding>,
    ) -> Result<Files, RecoveryError> {
        let listed = store.segments().map_err(|source| RecoveryError::Io { file: None, at: 0, source })?;
        let mut listed: Vec<(u64, u64)> = listed;
        listed.sort_unstable();
        listed.dedup_by_key(|(sequence, _)| *sequence);
        let mut files = Files::default();
        for (sequence, bytes) in listed {
            files.all.push(sequence);
            files.add(store, partition, (sequence, bytes), stream, findings)?;
        }
        files.drop_superseded(findings);
        Ok(files)
    }

    fn add<S: LogStore>(
        &mut self,
        store: &S,
        partition: PartitionId,
        (sequence, bytes): (u64, u64),
        stream: &mut Stream<'_, S>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), RecoveryError> {
        let file_bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let block = stream.head(sequence, 0, BLOCK)?;
        let block = &block[..block.len().min(BLOCK)];
        let decoded = block.first_chunk().ok_or(SegmentFault::NotASegment).and_then(|head| {
            let header = SegmentHeader::decode(head)?;
            header.check_place(partition, sequence).map(|()| header)
        });
        match decoded {
            Ok(mut header) => {
                header.file_bytes = header.file_bytes.min(file_bytes);
                self.live.push(header);
            }
            Err(SegmentFault::Newer { format }) => {
                return Err(RecoveryError::Newer { file: LogFile::Segment(sequence), format });
            }
            // What an older segment left in a file that is to be used again.
            Err(SegmentFault::WrongSequence { found }) if found < sequence => self.unused.push(sequence),
            Err(why @ (SegmentFault::NotASegment | SegmentFault::Corrupt { .. })) => {
                let blank = block.iter().all(|&byte| byte == 0);
                let file = Headless { sequence, file_bytes, why, blank };
                match file.header_by_index(store, partition, stream)? {
                    Some(header) => {
                        findings.push(Finding::HeaderRebuilt { sequence, why });
                        self.live.push(header);
                    }
                    None => self.headless.push(file),
                }
            }
            Err(why) => findings.push(Finding::Foreign { sequence, why }),
        }
        Ok(())
    }

    /// A segment goes up to the base of the next. One that begins at or behind it was cut off when the log went on in
    /// the next, or holds nothing.
    fn drop_superseded(&mut self, findings: &mut Vec<Finding>) {
        let mut next: Option<LogPoint> = None;
        for at in (0..self.live.len()).rev() {
            let (sequence, base) = (self.live[at].sequence, self.live[at].base);
            match next {
                Some(next) if base.position >= next.position => {
                    let why = if base == next { Dropped::Empty } else { Dropped::Superseded };
                    findings.push(Finding::Dropped { sequence, why });
                    self.dropped.push(sequence);
                    self.live.remove(at);
                }
                _ => next = Some(base),
            }
        }
    }

    /// Whether there is a file of this number.
    pub fn has(&self, sequence: u64) -> bool {
        self.all.binary_search(&sequence).is_ok()
    }

    /// Whether one of these numbers is that of a file that may have lost its header.
    pub fn has_headless(&self, numbers: std::ops::Range<u64>) -> bool {
        self.headless.iter().any(|file| numbers.contains(&file.sequence))
    }

    /// A segment without a header among these numbers, if its first flush says that it `fits`: where it begins, and
    /// which flush it follows. A file in which no segment was begun, as far as one can see, is asked only where it is
    /// known exactly what would fit.
    pub fn find_headless<S: LogStore>(
        &mut self,
        numbers: std::ops::Range<u64>,
        blank_too: bool,
        fits: impl Fn(&SegmentHeader) -> bool,
        partition: PartitionId,
        stream: &mut Stream<'_, S>,
    ) -> Result<Option<(SegmentHeader, SegmentFault)>, RecoveryError> {
        for at in 0..self.headless.len() {
            let file = &self.headless[at];
            if !numbers.contains(&file.sequence) || (file.blank && !blank_too) {
                continue;
            }
            if let Some(header) = file.header_by_first_flush(partition, stream)?
                && fits(&header)
            {
                let why = self.headless.remove(at).why;
                return Ok(Some((header, why)));
            }
        }
        Ok(None)
    }

    /// What became of files that no segment was found in.
    pub fn finish(&mut self, findings: &mut Vec<Finding>) {
        for file in self.headless.drain(..) {
            if file.blank {
                self.unused.push(file.sequence);
            } else {
                findings.push(Finding::Foreign { sequence: file.sequence, why: file.why });
            }
        }
        self.unused.sort_unstable();
        self.dropped.sort_unstable();
    }
}
