//! `sub`: the records of a topic on standard output, as they come.

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::connection::{ConnectionNotes, Interrupt, ServerArgs};
use super::{EXIT_CODES, Failure, Outcome};
use crate::client::blocking::Consumer;
use crate::client::{ConsumerConfig, ConsumerEvent, DeliveredRecord, Delivery, Error, GapReason, Start};
use crate::time::{format_utc, parse_time};

/// Bytes gathered for one write.
const WRITE_BYTES: usize = 256 * 1024;
/// How long to sleep without looking whether a signal came.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the place is committed while records come.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// How long the last commit may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// Form of what `sub` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Form {
    /// A payload a line, as it is.
    #[default]
    Raw,
    /// An object a line: topic, partition, offset, time, key, payload.
    Json,
}

/// `sub ...`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, after_long_help = concat!(
    "Examples:\n  uringest sub lines\n  uringest sub lines --from earliest --count 10 -o json\n  uringest sub lines --from -5m\n  \
    uringest sub lines --name billing --from earliest   # again: goes on where it was\n\nA topic that does not exist is created by \
    the server if its policy allows; else sub says so and waits for it. It ends after --count records, at SIGINT \
    or SIGTERM, and when standard output is closed: all with exit code 0.\n\nExit codes: 0 done; 1 failed; \
    2 wrong command line; 3 server not reachable; 4 refused by the server."))]
pub struct SubArgs {
    /// The topic.
    topic: String,
    #[command(flatten)]
    server: ServerArgs,
    /// Where to start: earliest, latest, an offset, or a time (2026-11-21T03:00:00Z, @SECONDS, or -5m for five
    /// minutes ago).
    #[arg(long, value_name = "WHERE", default_value = "latest", allow_hyphen_values = true, value_parser = parse_start)]
    from: Start,
    /// End after so many records.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Go on where this name was, and commit to it; --from counts where the name is new.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => {
            if let Ok(offset) = text.parse() {
                return Ok(Start::Offset(offset));
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
            parse_time(text, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
                .map(Start::TimeNs)
                .ok_or_else(|| "neither earliest, latest, an offset nor a time".to_owned())
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Where the server cannot be reached or refuses.
pub fn run(args: SubArgs) -> Outcome {
    let connection = args.server.connection("sub")?;
    let retry_for = connection.retry_for;
    let config = ConsumerConfig {
        connection,
        start: args.from,
        name: args.name.clone().unwrap_or_default(),
        resume: args.name.is_some(),
        wait_for_topic: true,
        ..ConsumerConfig::new(&args.topic)
    };
    let interrupt = Interrupt::watch()?;
    interrupt.arm();
    let consumer = Consumer::connect(config)?;
    let mut sub = Sub {
        args: &args,
        consumer: &consumer,
        out: io::BufWriter::with_capacity(WRITE_BYTES, io::stdout().lock()),
        left: args.count,
        dealt_with: Vec::new(),
        committed_at: Instant::now(),
        notes: ConnectionNotes::default(),
        retry_for,
        said_no_topic: false,
    };
    let outcome = sub.pump(&interrupt);
    let finished = sub.finish();
    outcome.and(finished)
}

struct Sub<'a, W: Write> {
    args: &'a SubArgs,
    consumer: &'a Consumer,
    out: W,
    /// Records still wanted.
    left: Option<u64>,
    /// The next offset of each partition, as far as it was written and not yet committed.
    dealt_with: Vec<(u32, u64)>,
    committed_at: Instant,
    notes: ConnectionNotes,
    retry_for: Duration,
    said_no_topic: bool,
}

impl<W: Write> Sub<'_, W> {
    fn pump(&mut self, interrupt: &Interrupt) -> Outcome {
        let mut events = Vec::new();
        while self.left != Some(0) && !interrupt.is_set() {
            let came = self.consumer.next_events(Some(Duration::ZERO), &mut events)?;
            if came == 0 {
                self.out.flush()?;
                self.commit()?;
                self.consumer.next_events(Some(LOOK_EVERY), &mut events)?;
            }
            for event in events.drain(..) {
                if self.left == Some(0) {
                    break; // what comes behind is for the next run, and must not be committed by this one
                }
                self.on_event(event)?;
            }
            if self.committed_at.elapsed() >= COMMIT_EVERY {
                self.out.flush()?;
                self.commit()?;
            }
        }
        Ok(())
    }

    fn on_event(&mut self, event: ConsumerEvent) -> Outcome {
        match event {
            ConsumerEvent::Batch(delivery) => self.on_batch(&delivery)?,
            ConsumerEvent::Gap { partition, from, records, reason } => {
                self.on_gap(partition, from, records, reason)?;
            }
            ConsumerEvent::NoSuchTopic if !std::mem::replace(&mut self.said_no_topic, true) => {
                eprintln!("uringest: the topic {} does not exist yet; waiting for it", self.args.topic);
            }
            ConsumerEvent::Connected => self.notes.connected(),
            ConsumerEvent::Disconnected { why } => self.notes.disconnected(&why, self.retry_for),
            _ => {}
        }
        Ok(())
    }

    fn on_batch(&mut self, delivery: &Delivery) -> Outcome {
        let mut next = delivery.first_offset();
        for record in delivery.records() {
            if self.left == Some(0) {
                break;
            }
            match self.args.output {
                Form::Raw => {
                    self.out.write_all(record.payload)?;
                    self.out.write_all(b"\n")?;
                }
                Form::Json => self.write_json(&JsonRecord::new(&self.args.topic, &record))?,
            }
            next = record.offset + 1;
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
        }
        let next = if self.left == Some(0) { next } else { delivery.next_offset() };
        self.dealt_with(delivery.partition(), next);
        Ok(())
    }

    fn on_gap(&mut self, partition: u32, from: u64, records: u64, reason: Option<GapReason>) -> Outcome {
        let reason = match reason {
            Some(GapReason::Retention) => "retention",
            Some(GapReason::Overflow) => "overflow",
            Some(GapReason::Restart) => "restart",
            Some(GapReason::Quarantined) => "quarantined",
            None => "unknown",
        };
        eprintln!(
            "uringest: gap: {records} records from offset {from} of partition {partition} are gone ({reason})"
        );
        if self.args.output == Form::Json {
            let gap = JsonGap { topic: &self.args.topic, partition, from, records, reason };
            self.write_json(&serde_json::json!({ "gap": gap }))?;
        }
        self.dealt_with(partition, from + records);
        Ok(())
    }

    fn write_json(&mut self, value: &impl Serialize) -> Outcome {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    fn dealt_with(&mut self, partition: u32, next: u64) {
        if self.args.name.is_none() {
            return;
        }
        match self.dealt_with.iter_mut().find(|(known, _)| *known == partition) {
            Some((_, offset)) => *offset = next,
            None => self.dealt_with.push((partition, next)),
        }
    }

    /// Commits what was written and flushed.
    fn commit(&mut self) -> Outcome {
        self.committed_at = Instant::now();
        for (partition, offset) in self.dealt_with.drain(..) {
            self.consumer.commit(partition, offset)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Outcome {
        self.out.flush()?;
        self.commit()?;
        match self.consumer.flush_commits(Some(LAST_COMMIT)) {
            Err(Error::TimedOut) => Err(Failure::from(Error::GaveUp {
                tried_ms: u64::try_from(LAST_COMMIT.as_millis()).unwrap_or(u64::MAX),
                last: "the server did not confirm the last commit".to_owned(),
            })),
            other => Ok(other?),
        }
    }
}

#[derive(Serialize)]
struct JsonGap<'a> {
    topic: &'a str,
    partition: u32,
    from: u64,
    records: u64,
    reason: &'static str,
}

#[derive(Serialize)]
struct JsonRecord<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    /// When the server appended it.
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<std::borrow::Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    payload: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_encoding: Option<&'static str>,
}

impl<'a> JsonRecord<'a> {
    fn new(topic: &'a str, record: &DeliveredRecord<'a>) -> Self {
        let (payload, payload_encoding) = text_or_base64(record.payload);
        let (key, key_encoding) = match record.key {
            Some(key) => {
                let (key, encoding) = text_or_base64(key);
                (Some(key), encoding)
            }
            None => (None, None),
        };
        JsonRecord {
            topic,
            partition: record.partition,
            offset: record.offset,
            time: format_utc(record.append_time_ns),
            key,
            key_encoding,
            payload,
            payload_encoding,
        }
    }
}

/// The bytes as they are where they are UTF-8, else in base64, and then the encoding's name.
pub(super) fn text_or_base64(bytes: &[u8]) -> (std::borrow::Cow<'_, str>, Option<&'static str>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.into(), None),
        Err(_) => (base64(bytes).into(), Some("base64")),
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit <= group.len() {
                out.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
