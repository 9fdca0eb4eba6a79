//! A log written plainly, for tests of what reads one: every frame and flush is remembered beside the files.
#![allow(dead_code)] // each test uses a part of it

use uringest::commit_log::format::{FLUSH_HEADER_LEN, FlushHeader, SegmentHeader, digest};
use uringest::commit_log::{BLOCK_BYTES, LogPoint, block_up};
use uringest::ids::PartitionId;
use uringest::limits::HEADER_BYTES;
use uringest::proto::header::{FrameHeader, Kind, seal, stamp};

pub const PARTITION: PartitionId = PartitionId(7);
/// `BLOCK_BYTES`, as a length of memory.
pub const BLOCK: usize = 4096;
const _: () = assert!(BLOCK as u64 == BLOCK_BYTES);
pub const TIME_NS: u64 = 1_790_000_000_000_000_000;

/// A batch to be written.
#[derive(Debug, Clone)]
pub struct Batch {
    pub producer_id: u64,
    pub sequence: u64,
    pub records: u32,
    /// Rounded up to a multiple of eight with zeros.
    pub body: Vec<u8>,
}

/// A frame as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub at: LogPoint,
    pub end: LogPoint,
    pub segment: usize,
    /// Index of its flush among all.
    pub flush: usize,
    pub producer_id: u64,
    pub sequence: u64,
    pub append_time_ns: u64,
    pub bytes: Vec<u8>,
}

/// A flush as it was last written.
#[derive(Debug, Clone)]
pub struct Flush {
    pub header: FlushHeader,
    pub segment: usize,
    /// Where the log ended behind it.
    pub end: LogPoint,
}

#[derive(Debug, Clone)]
pub struct Segment {
    pub header: SegmentHeader,
    pub file: Vec<u8>,
    /// What a power cut leaves at least.
    pub synced: Vec<u8>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    pub segments: Vec<Segment>,
    pub frames: Vec<Written>,
    pub flushes: Vec<Flush>,
    /// Where the last frame ends.
    pub end: LogPoint,
    pub chain: u32,
    /// What the headers say is durable.
    pub durable_offset: u64,
    pub time_ns: u64,
    /// Writes since the last `sync`: the segment, where in its file, and the bytes.
    pub journal: Vec<(usize, usize, Vec<u8>)>,
    frames_of_flush: Vec<Vec<u8>>,
}

impl Writer {
    pub fn new() -> Writer {
        Writer { time_ns: TIME_NS, ..Writer::default() }
    }

    /// A log that goes on at a point.
    pub fn at(end: LogPoint, chain: u32) -> Writer {
        Writer { end, chain, durable_offset: end.offset, ..Writer::new() }
    }

    /// Begins a segment with what its file held before.
    pub fn begin(&mut self, sequence: u64, nonce: u64, before: Vec<u8>) {
        let header = SegmentHeader {
            partition: PARTITION,
            sequence,
            nonce,
            base: LogPoint { position: block_up(self.end.position), offset: self.end.offset },
            file_bytes: before.len() as u64,
            created_ns: self.time_ns,
            chain: self.chain,
            durable_offset: self.durable_offset,
        };
        let mut file = before;
        file[..BLOCK].fill(0);
        let unwritten = file.clone();
        let encoded = header.encode();
        file[..encoded.len()].copy_from_slice(&encoded);
        self.journal.push((self.segments.len(), 0, file[..BLOCK].to_vec()));
        self.end.position = header.base.position;
        self.segments.push(Segment { header, file, synced: unwritten });
        self.frames_of_flush.clear();
    }

    /// Writes a flush of these batches; false where it does not fit in the segment.
    pub fn flush(&mut self, batches: &[Batch]) -> bool {
        let position = block_up(self.end.position);
        if !self.fits(position, 0, batches) {
            return false;
        }
        self.frames_of_flush.clear();
        self.end.position = position + FLUSH_HEADER_LEN as u64;
        let header = FlushHeader {
            nonce: self.segment().header.nonce,
            position,
            first_offset: self.end.offset,
            durable_offset: self.durable_offset,
            previous: self.chain,
            ..FlushHeader::default()
        };
        let segment = self.segments.len() - 1;
        self.flushes.push(Flush { header, segment, end: self.end });
        self.append(batches);
        true
    }

    /// Writes the last flush once more with these batches behind; false where it is not one block then.
    pub fn grow(&mut self, batches: &[Batch]) -> bool {
        let Some(last) = self.flushes.last() else { return false };
        let (position, before) = (last.header.position, u64::from(last.header.frame_bytes));
        let one_block = FLUSH_HEADER_LEN as u64 + before + bytes_of(batches) <= BLOCK_BYTES;
        if last.segment + 1 != self.segments.len() || !one_block || !self.fits(position, before, batches) {
            return false;
        }
        let durable_offset = self.durable_offset;
        let last = self.flushes.last_mut().expect("there is one");
        last.header.revision += 1;
        last.header.durable_offset = durable_offset;
        self.append(batches);
        true
    }

    fn fits(&self, position: u64, before: u64, batches: &[Batch]) -> bool {
        let end = position + FLUSH_HEADER_LEN as u64 + before + bytes_of(batches);
        self.segments.last().is_some_and(|segment| block_up(end) <= segment.header.file_end())
    }

    fn append(&mut self, batches: &[Batch]) {
        for batch in batches {
            self.time_ns += 1_000;
            let bytes = frame(batch, self.end.offset, self.time_ns);
            let at = self.end;
            self.end.position += bytes.len() as u64;
            self.end.offset += u64::from(batch.records);
            self.frames_of_flush.push(bytes.clone());
            self.frames.push(Written {
                at,
                end: self.end,
                segment: self.segments.len() - 1,
                flush: self.flushes.len() - 1,
                producer_id: batch.producer_id,
                sequence: batch.sequence,
                append_time_ns: self.time_ns,
                bytes,
            });
        }
        let frames = self.frames_of_flush.concat();
        let sum = self.frames_of_flush.iter().fold(0, |sum, frame| {
            digest(sum, u32::from_le_bytes(frame[60..64].try_into().expect("four bytes")))
        });
        let end = self.end;
        let flush = self.flushes.last_mut().expect("one was begun");
        flush.end = end;
        flush.header.frame_bytes = u32::try_from(frames.len()).expect("small");
        flush.header.records = u32::try_from(end.offset - flush.header.first_offset).expect("small");
        flush.header.digest = sum;
        let (header, position) = (flush.header.encode(), flush.header.position);
        self.chain = FlushHeader::checksum(&header);
        let mut image = [&header[..], &frames].concat();
        image.resize(image.len().next_multiple_of(BLOCK), 0);
        let segment = self.segments.last_mut().expect("one was begun");
        let at = usize::try_from(segment.header.file_at(position)).expect("small");
        segment.file[at..at + image.len()].copy_from_slice(&image);
        self.journal.push((self.segments.len() - 1, at, image));
    }

    /// All that was written is durable, and the next headers say so.
    pub fn sync(&mut self) {
        self.durable_offset = self.end.offset;
        for (segment, at, bytes) in self.journal.drain(..) {
            self.segments[segment].synced[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// What a power cut leaves of the files: of what was written since the last sync, any sectors that `survives`
    /// chooses.
    pub fn cut(&self, mut survives: impl FnMut() -> bool) -> Vec<(u64, Vec<u8>)> {
        let mut files: Vec<_> =
            self.segments.iter().map(|segment| (segment.header.sequence, segment.synced.clone())).collect();
        for (segment, at, bytes) in &self.journal {
            for (sector, chunk) in bytes.chunks(512).enumerate() {
                if survives() {
                    let at = at + sector * 512;
                    files[*segment].1[at..at + chunk.len()].copy_from_slice(chunk);
                }
            }
        }
        files
    }

    pub fn segment(&self) -> &Segment {
        self.segments.last().expect("one was begun")
    }

    /// What lies at these positions of a segment.
    pub fn bytes(&self, segment: usize, from: u64, to: u64) -> &[u8] {
        let segment = &self.segments[segment];
        let index = |position| usize::try_from(segment.header.file_at(position)).expect("small");
        &segment.file[index(from)..index(to)]
    }
}

fn bytes_of(batches: &[Batch]) -> u64 {
    batches.iter().map(|batch| (HEADER_BYTES + batch.body.len().next_multiple_of(8)) as u64).sum()
}

/// A batch as it is kept and sent.
pub fn frame(batch: &Batch, offset: u64, append_time_ns: u64) -> Vec<u8> {
    let mut body = batch.body.clone();
    body.resize(body.len().next_multiple_of(8), 0);
    let mut header = FrameHeader::new(Kind::Publish);
    header.body_bytes = u32::try_from(body.len()).expect("small");
    header.record_count = batch.records;
    header.producer_id = batch.producer_id;
    header.sequence = batch.sequence;
    let mut head = [0; HEADER_BYTES];
    header.encode(&mut head);
    // A delivered frame's body checksum is of the bytes the producer sent, which the stamp leaves alone.
    seal(&mut head, &body);
    stamp(&mut head, PARTITION.0, offset, batch.records, append_time_ns);
    [&head[..], &body].concat()
}
