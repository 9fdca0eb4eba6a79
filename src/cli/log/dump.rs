//! `log dump`: records or frames, as they lie in the files.

use std::io::{self, BufWriter, Write};

use clap::Args;
use serde_json::json;

use super::super::exit::Output;
use super::super::subscribe::text_or_base64;
use super::super::{Exit, Failure, Outcome};
use super::Where;
use super::folder::Folder;
use super::ls::time;
use super::place::{Place, find};
use crate::commit_log::recovery::Recovery;
use crate::commit_log::window::{Run, Stopped, Target, Walked, Window};
use crate::commit_log::{BLOCK_BYTES, LogPoint, SegmentInfo, block_down, block_up};
use crate::limits::{BATCH_RECORDS_MAX, FRAME_BYTES_MAX_CEILING, HEADER_BYTES};
use crate::proto::header::FrameHeader;
use crate::time::parse_time;
use crate::wire::batch::{BatchLimits, Record, verify};

/// What is dumped.
#[derive(Debug, Args)]
pub struct DumpArgs {
    #[command(flatten)]
    place: Where,
    /// The first offset.
    #[arg(long, value_name = "OFFSET", conflicts_with = "from_time")]
    from: Option<u64>,
    /// The first append time: a date with a time (2026-11-21T17:00:00Z), or @SECONDS.
    #[arg(long, value_name = "TIME", value_parser = time_ns)]
    from_time: Option<u64>,
    /// At most so many records, or frames.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Frames, and not their records.
    #[arg(long)]
    frames: bool,
    /// Keys and payloads too; bytes that are no text as base64.
    #[arg(long, conflicts_with = "frames")]
    payload: bool,
}

fn time_ns(text: &str) -> Result<u64, String> {
    parse_time(text, 0).ok_or_else(|| "no time; as 2026-11-21T17:00:00Z, or @1790000000".to_owned())
}

/// Runs the command.
pub fn run(args: &DumpArgs) -> Outcome {
    let found = find(&args.place)?;
    let [place] = &found.places[..] else {
        let message = format!("{} holds {} logs", args.place.directory.display(), found.places.len());
        return Err(Failure::new(Exit::Usage, message, "name one with --topic NAME --partition N"));
    };
    let folder = Folder::new(place, false);
    let recovery = folder.recover(place, true, "look at")?;
    let out = BufWriter::new(io::stdout().lock());
    let mut dump = Dump { args, place, folder: &folder, out, left: args.count.unwrap_or(u64::MAX) };
    dump.all(&recovery)?;
    dump.out.flush()?;
    Ok(())
}

struct Dump<'a, W> {
    args: &'a DumpArgs,
    place: &'a Place,
    folder: &'a Folder,
    out: W,
    left: u64,
}

impl<W: Write> Dump<'_, W> {
    fn all(&mut self, recovery: &Recovery) -> Outcome {
        let mut target = match (self.args.from, self.args.from_time) {
            (Some(offset), _) => Some(Target::Offset(offset)),
            (None, time) => time.map(Target::Time),
        };
        for info in &recovery.log.segments {
            if self.left == 0 {
                break;
            }
            let at = target.map_or(info.base, |target| info.seek_from(target));
            self.segment(info, at, &mut target)?;
        }
        Ok(())
    }

    /// From a flush of a segment on; what lies before the target is passed over.
    fn segment(&mut self, info: &SegmentInfo, from: LogPoint, target: &mut Option<Target>) -> Outcome {
        let (mut at, mut until) = (from, 0);
        let mut runs: Vec<Run> = Vec::new();
        let mut bytes = Vec::new();
        while self.left > 0 {
            let part = info.part_from(at);
            if let Some(gap) = info.quarantined.iter().find(|gap| gap.to == part.at && gap.from == at) {
                self.gap(gap.from.offset, gap.to.offset)?;
            }
            at = part.at;
            let position = block_down(at.position);
            let end = block_up(part.end.position)
                .min(block_up(until).max(position + super::folder::BUFFER_BYTES as u64));
            bytes.resize(usize::try_from(end - position).expect("a buffer"), 0);
            let file_at = BLOCK_BYTES + position - info.base.position;
            self.folder
                .read_exact(info.sequence, file_at, &mut bytes)
                .map_err(|error| self.failed(info, &error))?;
            let window = Window {
                partition: self.place.id,
                nonce: info.nonce,
                position,
                bytes: &bytes,
                end: part.end,
            };
            let Walked { next, stopped } = match *target {
                Some(wanted) => window.seek(at, wanted),
                None => {
                    runs.clear();
                    window.walk(at, &mut runs)
                }
            };
            if target.is_none() {
                for run in &runs {
                    let index = |of: u64| usize::try_from(of - position).expect("inside");
                    self.run(&bytes[index(run.from.position)..index(run.to.position)])?;
                }
            }
            at = next;
            match stopped {
                Stopped::Found => *target = None,
                Stopped::Needs { until: needed } => until = needed,
                Stopped::End if part.gap_to.is_some() => {}
                Stopped::End => return Ok(()),
                Stopped::Damaged(why) => {
                    let offset = at.offset;
                    self.say(
                        &format!("damaged from offset {offset}: {why}"),
                        json!({ "damaged": why.to_string(), "offset": offset }),
                    )?;
                    match info.resume_after(at) {
                        Some(to) => at = to,
                        None => return Ok(()),
                    }
                }
            }
        }
        Ok(())
    }

    fn failed(&self, info: &SegmentInfo, error: &io::Error) -> Failure {
        let message = format!("segment {} of {} cannot be read: {error}", info.sequence, self.place.name());
        Failure::new(Exit::Failed, message, "uringest log verify says what is whole")
    }

    fn gap(&mut self, from: u64, to: u64) -> Outcome {
        if from == to {
            return Ok(());
        }
        self.say(
            &format!("offsets {from}..{to} are damaged and not shown"),
            json!({ "gap": { "from": from, "to": to } }),
        )
    }

    fn say(&mut self, text: &str, value: serde_json::Value) -> Outcome {
        match self.args.place.output {
            Output::Text => writeln!(self.out, "# {text}")?,
            Output::Json => writeln!(self.out, "{value}")?,
        }
        Ok(())
    }

    fn run(&mut self, mut run: &[u8]) -> Outcome {
        while self.left > 0
            && let Some(head) = run.first_chunk()
        {
            let header = FrameHeader::parse(head, FRAME_BYTES_MAX_CEILING).expect("it was verified");
            let (frame, rest) = run.split_at(header.frame_bytes());
            run = rest;
            let limits =
                BatchLimits { record_bytes_max: FRAME_BYTES_MAX_CEILING, records_max: BATCH_RECORDS_MAX };
            match verify(&frame[HEADER_BYTES..], header.record_count, &limits) {
                Ok(batch) if !self.args.frames => {
                    for record in batch.records() {
                        if header.offset + u64::from(record.index) >= self.args.from.unwrap_or(0)
                            && self.left > 0
                        {
                            self.left -= 1;
                            self.record(&header, &record)?;
                        }
                    }
                }
                verified => {
                    self.left -= 1;
                    self.frame(&header, verified.is_ok())?;
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, header: &FrameHeader, is_batch: bool) -> Outcome {
        let FrameHeader { offset, offset_span, append_time_ns, producer_id, sequence, .. } = *header;
        let bytes = header.frame_bytes();
        match self.args.place.output {
            Output::Text => {
                let note = if is_batch { "" } else { "  not a batch" };
                writeln!(
                    self.out,
                    "{offset}  {}  records {offset_span}  bytes {bytes}  producer {producer_id:016x}  sequence {sequence}{note}",
                    time(append_time_ns)
                )?;
            }
            Output::Json => writeln!(
                self.out,
                "{}",
                json!({
                    "offset": offset, "records": offset_span, "bytes": bytes, "append_time_ns": append_time_ns,
                    "producer_id": producer_id, "sequence": sequence, "is_batch": is_batch,
                })
            )?,
        }
        Ok(())
    }

    fn record(&mut self, header: &FrameHeader, record: &Record<'_>) -> Outcome {
        let offset = header.offset + u64::from(record.index);
        let (producer_id, sequence) = (header.producer_id, header.sequence);
        let (key_bytes, payload_bytes) = (record.key.map_or(0, <[u8]>::len), record.payload.len());
        if self.args.place.output == Output::Text {
            write!(
                self.out,
                "{offset}  {}  producer {producer_id:016x}  sequence {sequence}  key {key_bytes}  payload {payload_bytes}",
                time(header.append_time_ns)
            )?;
            if self.args.payload {
                let key = record.key.map(|key| text_or_base64(key).0.into_owned() + "  ").unwrap_or_default();
                write!(self.out, "  {key}{}", text_or_base64(record.payload).0)?;
            }
            writeln!(self.out)?;
            return Ok(());
        }
        let mut value = json!({
            "offset": offset, "append_time_ns": header.append_time_ns, "time_ns": record.time_ns,
            "producer_id": producer_id, "sequence": sequence, "key_bytes": key_bytes, "payload_bytes": payload_bytes,
        });
        if self.args.payload {
            let (payload, encoding) = text_or_base64(record.payload);
            value["payload"] = payload.into();
            if let Some(encoding) = encoding {
                value["encoding"] = encoding.into();
            }
            if let Some(key) = record.key {
                value["key"] = text_or_base64(key).0.into();
            }
        }
        writeln!(self.out, "{value}")?;
        Ok(())
    }
}
