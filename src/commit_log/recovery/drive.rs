//! From segment to segment, and what is decided between them.

use std::cmp::Ordering;

use super::files::Files;
use super::finding::{Dropped, Finding};
use super::producers::Producers;
use super::segment::{Behind, Segment, State, Stop};
use super::stream::Stream;
use super::unsynced::Unsynced;
use super::{LogStore, Recovery, RecoveryError, Request, fence, newest_snapshot, read_index};
use crate::commit_log::envelope::EnvelopeFault;
use crate::commit_log::format::{FlushFault, LogFile, POSITION_MAX, SegmentHeader};
use crate::commit_log::window::Damage;
use crate::commit_log::{IndexEntry, LogPoint, Quarantined, SegmentInfo, Snapshot, block_up};
use crate::ids::PartitionId;
use crate::mutation::{self, Mutation};

/// One recovery.
pub struct Drive<'a, S> {
    store: &'a S,
    partition: PartitionId,
    stream: Stream<'a, S>,
    files: Files,
    /// The one that is used.
    snapshot: Option<Snapshot>,
    fence: Option<LogPoint>,
    state: State,
    out: Recovery,
}

/// What becomes of a segment that has a bad place.
enum Verdict {
    /// It goes on behind it.
    Resume(LogPoint),
    /// It ends before it: the next one goes on there.
    Ends,
    /// The log ends before it.
    Cut,
}

/// See [`SegmentInfo`].
struct Known {
    index: Vec<IndexEntry>,
    first_time_ns: u64,
    last_time_ns: u64,
}

impl<'a, S: LogStore> Drive<'a, S> {
    pub fn new(
        store: &'a S,
        request: Request,
        buffer: &'a mut [u8],
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Result<Self, RecoveryError> {
        let Request { partition, use_snapshots } = request;
        let mut out = Recovery::default();
        let fence = fence(store, partition)?;
        let mut stream = Stream::new(store, buffer, progress);
        let files = Files::load(store, partition, &mut stream, &mut out.findings)?;
        let mut snapshot = None;
        if use_snapshots {
            snapshot = newest_snapshot(store, partition, &mut out.findings)?;
        }
        let state = State {
            at: LogPoint::default(),
            chain: 0,
            last_append_ns: 0,
            producers: snapshot.is_none().then(Producers::default),
            unsynced: Unsynced::default(),
        };
        Ok(Drive { store, partition, stream, files, snapshot, fence, state, out })
    }

    pub fn run(mut self) -> Result<Recovery, RecoveryError> {
        self.fit_snapshot();
        self.fit_fence();
        self.find_first()?;
        self.stream.bytes_all = self.stream.bytes_read + self.bytes_to_read();
        let mut at = 0;
        while at < self.files.live.len() {
            let header = self.files.live[at];
            if self.snapshot.as_ref().is_some_and(|snapshot| header.sequence < snapshot.sequence) {
                self.closed_segment(at)?;
            } else {
                self.restore_snapshot();
                if self.lost_its_beginning(at)? {
                    self.drop_from(at);
                    break;
                }
                self.open_segment(at)?;
            }
            at += 1;
        }
        self.restore_snapshot();
        self.finish();
        Ok(self.out)
    }

    /// A snapshot has to lie in the segment it names, behind those before and before those behind.
    fn fit_snapshot(&mut self) {
        let Some(snapshot) = &self.snapshot else { return };
        if self.files.live.iter().any(|header| contradicts(snapshot, header)) {
            let why = EnvelopeFault::Impossible("it does not lie where the segments say");
            self.out.findings.push(Finding::SnapshotIgnored { file: LogFile::Snapshot(0), why });
            self.snapshot = None;
            self.state.producers = Some(Producers::default());
        }
    }

    /// Segments behind the fence go. What a snapshot says is durable stays.
    fn fit_fence(&mut self) {
        if let (Some(fence), Some(snapshot)) = (self.fence, &self.snapshot)
            && fence.offset < snapshot.at.offset
        {
            self.fence = Some(snapshot.at);
        }
        let Some(fence) = self.fence else { return };
        let kept = self.files.live.partition_point(|header| header.base.position < block_up(fence.position));
        self.drop_from(kept);
    }

    fn drop_from(&mut self, first: usize) {
        for header in self.files.live.drain(first..) {
            let why = Dropped::BehindTheEnd;
            self.out.findings.push(Finding::Dropped { sequence: header.sequence, why });
            self.files.dropped.push(header.sequence);
        }
    }

    /// The log may begin with a segment whose header is damaged.
    fn find_first(&mut self) -> Result<(), RecoveryError> {
        let first = self.files.live.first();
        let (number, base) =
            first.map_or((u64::MAX, POSITION_MAX), |first| (first.sequence, first.base.position));
        let base = base.min(self.fence.map_or(base, |fence| block_up(fence.position)));
        let snapshot = self.snapshot.as_ref();
        let fits = |header: &SegmentHeader| {
            header.base.position < base
                && snapshot.is_none_or(|snapshot| {
                    header.sequence <= snapshot.sequence && !contradicts(snapshot, header)
                })
        };
        let found = self.files.find_headless(0..number, false, fits, self.partition, &mut self.stream)?;
        if let Some((header, why)) = found {
            self.out.findings.push(Finding::HeaderRebuilt { sequence: header.sequence, why });
            self.files.live.insert(0, header);
        }
        Ok(())
    }

    fn bytes_to_read(&self) -> u64 {
        let snapshot = self.snapshot.as_ref();
        let of = |header: &SegmentHeader| match snapshot {
            Some(snapshot) if header.sequence < snapshot.sequence => 0,
            Some(snapshot) if header.sequence == snapshot.sequence => {
                header.file_bytes.saturating_sub(header.file_at(snapshot.at.position))
            }
            _ => header.file_bytes,
        };
        self.files.live.iter().map(of).sum()
    }

    /// From here on the log is as the snapshot says.
    fn restore_snapshot(&mut self) {
        if self.state.producers.is_some() {
            return;
        }
        let snapshot = self.snapshot.as_ref().expect("producers are left out for a snapshot only");
        self.state = State {
            at: snapshot.at,
            chain: snapshot.chain,
            last_append_ns: snapshot.last_append_ns,
            producers: Some(Producers::restore(&snapshot.producers)),
            unsynced: Unsynced::default(),
        };
        self.state.unsynced.durable(snapshot.at.offset);
        self.out.from_snapshot = Some(snapshot.at);
    }

    /// Where a segment ends for sure.
    fn limit(&self, at: usize) -> Option<LogPoint> {
        let sequence = self.files.live[at].sequence;
        let next = self.files.live.get(at + 1).map(|next| next.base);
        let snapshot = self.snapshot.as_ref().filter(|snapshot| sequence < snapshot.sequence);
        let limits = [next, self.fence, snapshot.map(|snapshot| snapshot.at)];
        limits.into_iter().flatten().min_by_key(|limit| (limit.offset, limit.position))
    }

    /// A segment before the snapshot: its index says all there is to know.
    fn closed_segment(&mut self, at: usize) -> Result<(), RecoveryError> {
        let header = self.files.live[at];
        let limit = self.limit(at).expect("the snapshot's point is one");
        let why = match read_index(self.store, self.partition, header.sequence)? {
            Some(Ok(info)) if belongs(&info, &header, limit) => {
                self.state.at = info.end;
                self.out.log.segments.push(info);
                return Ok(());
            }
            Some(Ok(_)) => Some(EnvelopeFault::Impossible("it says other things than the segments do")),
            Some(Err(why)) => Some(why),
            None => None,
        };
        self.out.findings.push(Finding::IndexRebuilt { sequence: header.sequence, why });
        (self.state.at, self.state.chain) = (header.base, header.chain);
        self.read_segment(at, None)
    }

    /// Whether the segment that should be before this one was never synced, its header included, and nothing after it
    /// was durable. Where nothing is known of what was before, a file that is blank would be that segment; without one,
    /// retention has taken it.
    fn lost_its_beginning(&mut self, at: usize) -> Result<bool, RecoveryError> {
        let header = self.files.live[at];
        let first = self.out.log.segments.is_empty();
        let (missing, before) = match &self.snapshot {
            Some(snapshot) if snapshot.sequence == header.sequence => return Ok(false),
            Some(snapshot) => (snapshot.sequence..header.sequence, self.state.at.offset),
            None => (0..header.sequence, header.base.offset.saturating_sub(1)),
        };
        let blank = self.files.has_headless(missing);
        let follows = !first && block_up(self.state.at.position) == header.base.position;
        if follows || before >= header.base.offset || (first && !blank) || self.says_durable(at, before)? {
            return Ok(false);
        }
        if self.snapshot.is_none() {
            self.state.at = LogPoint { position: header.base.position, offset: header.durable_offset };
        }
        Ok(true)
    }

    fn open_segment(&mut self, at: usize) -> Result<(), RecoveryError> {
        let header = self.files.live[at];
        let known = self.snapshot.as_ref().filter(|snapshot| snapshot.sequence == header.sequence);
        let known = known.map(|snapshot| Known {
            index: snapshot.index.clone(),
            first_time_ns: snapshot.first_time_ns,
            last_time_ns: if snapshot.index.is_empty() { 0 } else { snapshot.last_append_ns },
        });
        if known.is_none() {
            self.bridge(header.base);
            (self.state.at, self.state.chain) = (header.base, header.chain);
        }
        self.state.unsynced.durable(header.durable_offset);
        self.read_segment(at, known)
    }

    /// The segment of the snapshot may be missing, with all that was written behind it. Of flushes without records that is
    /// no loss; but a segment ends where the next begins, and readers pass over what lies between.
    fn bridge(&mut self, to: LogPoint) {
        let Some(last) = self.out.log.segments.last_mut() else { return };
        let range = Quarantined { from: last.end, to };
        if range.from.offset >= to.offset && block_up(range.from.position) >= to.position {
            return;
        }
        if range.from.offset < to.offset {
            self.out.findings.push(Finding::Missing { sequence: last.sequence + 1, range });
        }
        match last.quarantined.last_mut().filter(|before| before.to == range.from) {
            Some(before) => before.to = to,
            None if range.from.position < to.position => last.quarantined.push(range),
            None => return, // no byte of it is missing: there is nothing to pass over
        }
        last.end = to;
        let sequence = last.sequence;
        if self.out.unindexed.last() != Some(&sequence) {
            self.out.unindexed.push(sequence); // the index it has ends before
        }
    }

    /// Walks a segment to its end, around what is damaged. `known` is what a snapshot inside of it says of
    /// what lies before.
    fn read_segment(&mut self, at: usize, known: Option<Known>) -> Result<(), RecoveryError> {
        let header = self.files.live[at];
        let mut segment = Segment::new(self.partition, header, self.limit(at));
        if let Some(Known { index, first_time_ns, last_time_ns }) = known {
            let info = &mut segment.info;
            (info.index, info.first_time_ns, info.last_time_ns) = (index, first_time_ns, last_time_ns);
        }
        loop {
            let Stop::Bad(why) = segment.walk(&mut self.stream, &mut self.state)? else {
                segment.reach_limit(&mut self.state);
                break;
            };
            let behind = segment.look_behind(&mut self.stream, self.state.at)?;
            match self.judge(at, &segment, why, behind)? {
                Verdict::Resume(to) => segment.skip(&mut self.state, to),
                Verdict::Ends => break,
                Verdict::Cut => {
                    self.drop_from(at + 1);
                    break;
                }
            }
        }
        self.keep(&header, segment.info)
    }

    /// A segment is known.
    fn keep(&mut self, header: &SegmentHeader, info: SegmentInfo) -> Result<(), RecoveryError> {
        if info.end == header.base && info.index.is_empty() {
            self.out.findings.push(Finding::Dropped { sequence: header.sequence, why: Dropped::Empty });
            self.files.dropped.push(header.sequence);
            return Ok(());
        }
        let index = read_index(self.store, self.partition, header.sequence)?;
        match index {
            Some(Ok(index)) if belongs(&index, header, info.end) => {}
            Some(Err(why)) if self.state.producers.is_some() => {
                self.out.findings.push(Finding::IndexRebuilt { sequence: header.sequence, why: Some(why) });
                self.out.unindexed.push(header.sequence);
            }
            _ => self.out.unindexed.push(header.sequence),
        }
        self.out.log.segments.push(info);
        Ok(())
    }

    /// What becomes of a segment in which `why` lies at `state.at`.
    fn judge(
        &mut self,
        at: usize,
        segment: &Segment,
        why: Damage,
        behind: Behind,
    ) -> Result<Verdict, RecoveryError> {
        let (bad, sequence) = (self.state.at, segment.header.sequence);
        let next = self.files.live.get(at + 1).copied();
        let nothing = matches!(why, Damage::Flush(FlushFault::NotAFlush | FlushFault::WrongNonce));
        let clean = nothing && behind.first.is_none();
        if clean && self.find_next(at)? {
            return Ok(Verdict::Ends);
        }
        let flush_at = block_up(bad.position);
        let file_at = segment.header.file_at(if nothing { flush_at } else { bad.position });
        if !self.was_durable(at, behind)? {
            if !clean || next.is_some() {
                self.out.findings.push(Finding::TornTail { sequence, at: bad, file_at, why });
            }
            return Ok(Verdict::Cut);
        }
        let Some(to) = behind.first.or(segment.limit) else { return Ok(Verdict::Cut) };
        let range = Quarantined { from: bad, to };
        let missing = clean && next.is_some() && !self.files.has(sequence + 1);
        self.out.findings.push(if missing {
            Finding::Missing { sequence: sequence + 1, range }
        } else {
            Finding::Quarantined { sequence, range, file_at, why }
        });
        Ok(Verdict::Resume(to))
    }

    /// Whether the log goes on in a segment that lost its header.
    fn find_next(&mut self, at: usize) -> Result<bool, RecoveryError> {
        let sequence = self.files.live[at].sequence;
        let before = self.files.live.get(at + 1).map_or(u64::MAX, |next| next.sequence);
        let LogPoint { position, offset } = self.state.at;
        let (base, chain) = (LogPoint { position: block_up(position), offset }, self.state.chain);
        let snapshot = self.snapshot.as_ref();
        let fits = |header: &SegmentHeader| {
            (header.base, header.chain) == (base, chain)
                && snapshot.is_none_or(|snapshot| !contradicts(snapshot, header))
        };
        let numbers = sequence + 1..before;
        let found = self.files.find_headless(numbers, true, fits, self.partition, &mut self.stream)?;
        if let Some((header, why)) = found {
            self.out.findings.push(Finding::HeaderRebuilt { sequence: header.sequence, why });
            self.files.live.insert(at + 1, header);
        }
        Ok(found.is_some())
    }

    /// Whether what lies at `state.at` was durable once, by the word of anything behind it.
    fn was_durable(&mut self, at: usize, behind: Behind) -> Result<bool, RecoveryError> {
        let bad = self.state.at.offset;
        Ok(behind.durable_offset > bad || self.says_durable(at + 1, bad)?)
    }

    /// Whether the segments from this one on, the snapshot or the fence say that the record of an offset was durable.
    fn says_durable(&mut self, first: usize, offset: u64) -> Result<bool, RecoveryError> {
        let points = [self.snapshot.as_ref().map(|snapshot| snapshot.at), self.fence];
        if points.into_iter().flatten().any(|point| point.offset > offset)
            || self.files.live[first..].iter().any(|header| header.durable_offset > offset)
        {
            return Ok(true);
        }
        for at in first..self.files.live.len() {
            let header = self.files.live[at];
            let end = LogPoint { position: header.file_end(), offset: u64::MAX };
            let segment = Segment::new(self.partition, header, Some(end));
            let behind = segment.look_behind(&mut self.stream, LogPoint { offset, ..header.base })?;
            if behind.durable_offset > offset {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn finish(&mut self) {
        if let Some(fence) = self.fence {
            self.out.fenced_at = Some(fence);
            self.state.unsynced.durable(fence.offset);
            self.out.findings.push(Finding::FenceApplied { at: self.state.at });
        }
        self.out.unsynced_from = self.state.unsynced.from();
        self.files.finish(&mut self.out.findings);
        self.out.unused = std::mem::take(&mut self.files.unused);
        self.out.dropped = std::mem::take(&mut self.files.dropped);
        let log = &mut self.out.log;
        log.end = LogPoint { position: block_up(self.state.at.position), offset: self.state.at.offset };
        log.end.offset += u64::from(mutation::on(Mutation::RecoverOneMore));
        log.chain = self.state.chain;
        log.last_append_ns = self.state.last_append_ns;
        log.producers = self.state.producers.take().map(Producers::finish).unwrap_or_default();
        let after = self.files.all.last().map_or(1, |last| last.saturating_add(1));
        log.next_sequence = self.snapshot.as_ref().map_or(after, |snapshot| after.max(snapshot.sequence));
        self.out.bytes_read = self.stream.bytes_read;
        self.stream.done();
    }
}

/// Whether a segment cannot be where a snapshot says. What is in the snapshot's own before its point is taken on the
/// snapshot's word: a file that holds something else, as one does that was used before and lost its header, would be served
/// without a look.
fn contradicts(snapshot: &Snapshot, header: &SegmentHeader) -> bool {
    let (base, at) = (header.base, snapshot.at);
    match header.sequence.cmp(&snapshot.sequence) {
        Ordering::Less => base.position > at.position || base.offset > at.offset,
        Ordering::Equal => {
            // Flushes without records have no entry.
            let first = snapshot.index.first().map_or(at, |entry| entry.at);
            base.position > first.position || base.offset != first.offset || at.position > header.file_end()
        }
        Ordering::Greater => base.position < at.position || base.offset < at.offset,
    }
}

/// Whether an index is that of a segment that ends there.
fn belongs(info: &SegmentInfo, header: &SegmentHeader, end: LogPoint) -> bool {
    (info.sequence, info.nonce, info.base) == (header.sequence, header.nonce, header.base)
        && block_up(info.end.position) == block_up(end.position)
        && info.end.offset == end.offset
}
