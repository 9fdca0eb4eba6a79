//! Windows over one segment: in whatever pieces it is read, its frames come out once, in order, as they were written.

use proptest::prelude::*;
use uringest::commit_log::window::{Damage, Stopped, Target, Window};
use uringest::commit_log::{BLOCK_BYTES, IndexEntry, LogPoint, SegmentInfo, block_down, block_up};

use crate::log_writer::{PARTITION, Writer, Written};
use crate::stories::{Act, Teller, acts, zeros};

/// The last segment of a log, read in pieces of some blocks.
struct Reader<'a> {
    file: &'a [u8],
    info: SegmentInfo,
    blocks: u64,
    end: LogPoint,
}

impl Reader<'_> {
    fn window(&self, at: LogPoint, until: u64) -> Window<'_> {
        let position = block_down(at.position);
        let to = block_up(until).max(position + self.blocks * BLOCK_BYTES);
        let index = |position: u64| {
            let at = usize::try_from(BLOCK_BYTES + position - self.info.base.position).expect("small");
            at.min(self.file.len())
        };
        let bytes = &self.file[index(position)..index(to)];
        Window { partition: PARTITION, nonce: self.info.nonce, position, bytes, end: self.end }
    }

    /// All bytes from a point on that are served, and the damage that ended it.
    fn read(&self, from: LogPoint) -> (Vec<u8>, LogPoint, Option<Damage>) {
        let (mut at, mut until, mut out) = (from, from.position, Vec::new());
        let mut runs = Vec::new();
        for _ in 0..10_000 {
            runs.clear();
            let window = self.window(at, until);
            let walked = window.walk(at, &mut runs);
            for run in &runs {
                assert!(
                    run.from.position < run.to.position && run.to.position <= self.end.position,
                    "{run:?}"
                );
                let index = |position: u64| usize::try_from(position - window.position).expect("small");
                out.extend_from_slice(&window.bytes[index(run.from.position)..index(run.to.position)]);
            }
            assert!(
                runs.is_sorted_by(|a, b| a.to.position < b.from.position && a.to.offset == b.from.offset)
            );
            at = walked.next;
            match walked.stopped {
                Stopped::End => return (out, at, None),
                Stopped::Damaged(damage) => return (out, at, Some(damage)),
                Stopped::Needs { until: needed } => {
                    assert!(needed > window.position + window.bytes.len() as u64, "it was there");
                    assert!(needed <= self.end.position, "it asks for what is not there: {needed}");
                    until = needed;
                }
                Stopped::Found => unreachable!("nothing is looked for"),
            }
        }
        panic!("it goes round and round at {at:?}");
    }

    fn seek(&self, target: Target) -> Result<LogPoint, (LogPoint, Stopped)> {
        let mut at = self.info.seek_from(target);
        let mut until = at.position;
        for _ in 0..10_000 {
            let walked = self.window(at, until).seek(at, target);
            at = walked.next;
            match walked.stopped {
                Stopped::Found => return Ok(at),
                Stopped::Needs { until: needed } => until = needed,
                other => return Err((at, other)),
            }
        }
        panic!("it goes round and round at {at:?}");
    }
}

/// What there is to know about the last segment, with every `granule`th flush in the index.
fn info(log: &Writer, granule: usize) -> SegmentInfo {
    let segment = log.segments.len() - 1;
    let flushes = log.flushes.iter().enumerate().filter(|(_, flush)| flush.segment == segment);
    let index = flushes.step_by(granule).filter_map(|(number, flush)| {
        let first = log.frames.iter().find(|frame| frame.flush >= number)?;
        let at = LogPoint { position: flush.header.position, offset: flush.header.first_offset };
        Some(IndexEntry { at, append_time_ns: first.append_time_ns })
    });
    let header = log.segment().header;
    SegmentInfo {
        sequence: header.sequence,
        nonce: header.nonce,
        base: header.base,
        end: log.end,
        first_time_ns: 0,
        last_time_ns: 0,
        index: index.collect(),
        quarantined: Vec::new(),
    }
}

fn frames_of_last(log: &Writer) -> Vec<&Written> {
    let segment = log.segments.len() - 1;
    log.frames.iter().filter(|frame| frame.segment == segment).collect()
}

fn told(acts: &[Act]) -> Writer {
    let mut teller = Teller::new(Writer::new(), 1, zeros);
    teller.tell(acts);
    teller.log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_from_any_point_in_any_pieces(
        acts in acts(1..30), blocks in 1_u64..6, from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let log = told(&acts);
        let frames = frames_of_last(&log);
        let file = &log.segment().file;
        let reader = Reader { file, info: info(&log, 1), blocks, end: log.end };
        let whole: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.clone()).collect();
        prop_assert_eq!(reader.read(reader.info.base), (whole, log.end, None));
        if !frames.is_empty() {
            let from = from.index(frames.len());
            let to = from + to.index(frames.len() - from);
            let wanted: Vec<u8> = frames[from..=to].iter().flat_map(|frame| frame.bytes.clone()).collect();
            let reader = Reader { end: frames[to].end, ..reader };
            // From where a frame begins, and from where the one before ended.
            prop_assert_eq!(reader.read(frames[from].at), (wanted.clone(), reader.end, None));
            let before = if from == 0 { reader.info.base } else { frames[from - 1].end };
            prop_assert_eq!(reader.read(before), (wanted, reader.end, None));
        }
    }

    #[test]
    fn a_search_finds_what_a_look_at_all_finds(
        acts in acts(1..30), blocks in 1_u64..6, granule in 1_usize..5, target in any::<prop::sample::Index>(),
    ) {
        let log = told(&acts);
        let frames = frames_of_last(&log);
        let reader = Reader { file: &log.segment().file, info: info(&log, granule), blocks, end: log.end };
        let base = reader.info.base.offset;
        let offset = base + target.index(usize::try_from(log.end.offset - base).expect("small") + 2) as u64;
        let found = frames.iter().find(|frame| frame.end.offset > offset).map(|frame| frame.at);
        prop_assert_eq!(reader.seek(Target::Offset(offset)), found.ok_or((log.end, Stopped::End)));
        if let (Some(first), Some(last)) = (frames.first(), frames.last()) {
            let span = usize::try_from(last.append_time_ns - first.append_time_ns).expect("small") + 4_000;
            let time_ns = first.append_time_ns - 2_000 + target.index(span) as u64;
            let found = frames.iter().find(|frame| frame.append_time_ns >= time_ns).map(|frame| frame.at);
            prop_assert_eq!(reader.seek(Target::Time(time_ns)), found.ok_or((log.end, Stopped::End)));
        }
    }

    /// A flipped bit ends the walk where it is, or it is in the padding.
    #[test]
    fn damage_is_never_served(
        acts in acts(1..20), blocks in 1_u64..6, at in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let log = told(&acts);
        let mut file = log.segment().file.clone();
        let flipped = at.index(file.len());
        file[flipped] ^= 1_u8 << bit;
        let reader = Reader { file: &file, info: info(&log, 1), blocks, end: log.end };
        let frames = frames_of_last(&log);
        let whole: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.clone()).collect();
        let (served, ended, damage) = reader.read(reader.info.base);
        prop_assert!(whole.starts_with(&served));
        let file_at = |position: u64| usize::try_from(log.segment().header.file_at(position)).expect("small");
        if damage.is_none() {
            prop_assert_eq!(served.len(), whole.len());
            let in_header = log.flushes.iter().any(|flush| {
                flush.segment + 1 == log.segments.len()
                    && (file_at(flush.header.position)..file_at(flush.header.position) + 64).contains(&flipped)
            });
            let in_frame =
                frames.iter().any(|frame| (file_at(frame.at.position)..file_at(frame.end.position)).contains(&flipped));
            prop_assert!(!in_frame && (!in_header || flipped >= file_at(log.end.position)), "a flip unseen");
        } else {
            // All that is whole before it was served, and the index leads behind it.
            let good = frames.iter().take_while(|frame| frame.end.position <= ended.position).count();
            let bytes: usize = frames[..good].iter().map(|frame| frame.bytes.len()).sum();
            prop_assert_eq!(served.len(), bytes);
            if let Some(resumed) = reader.info.resume_after(ended) {
                prop_assert!(resumed.position > ended.position);
                let (rest, at, damage) = reader.read(resumed);
                let behind = frames.iter().filter(|frame| frame.at.position > resumed.position);
                if file_at(resumed.position) > flipped {
                    prop_assert_eq!(rest, behind.flat_map(|frame| frame.bytes.clone()).collect::<Vec<u8>>());
                    prop_assert_eq!((at, damage), (log.end, None));
                }
            }
        }
    }
}
