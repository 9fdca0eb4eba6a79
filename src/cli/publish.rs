//! `pub`: a record a line from standard input or a file, or generated; ends when everything is acknowledged.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;

use super::connection::{ConnectionNotes, Interrupt, ServerArgs};
use super::exit::{Output, print, print_json};
use super::{EXIT_CODES, Exit, Failure, Outcome};
use crate::client::blocking::Producer;
use crate::client::{AckLevel, Error, Partitioner, ProducerConfig, ProducerEvent, Record, SendError};
use crate::config::parse_bytes;
use crate::limits::FRAME_BYTES_MAX_CEILING;

/// Bytes of one read.
const READ_BYTES: usize = 256 * 1024;
/// How often the checkpoint and the progress line are brought up to date.
const KEEP_EVERY: Duration = Duration::from_millis(50);
/// How often an interrupted `pub` looks whether the last record in hand is sent.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long an interrupted `pub` waits for what is on the way.
const INTERRUPTED_FLUSH: Duration = Duration::from_secs(2);
const GENERATED_BYTES_DEFAULT: u64 = 128;
const GENERATED_PER_ROUND: u64 = 1024;

/// `pub ...`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, after_long_help = concat!(
    "Examples:\n  seq 1 1000000 | uringest pub lines\n  uringest pub trades --file trades.csv --key-column 2 \
    --checkpoint trades.done\n  uringest pub load --count 1000000 --size 512\n\nWith --checkpoint a later run goes on \
    behind the last record known to be acknowledged. After kill -9 up to 100 ms of records may be published \
    twice; after SIGINT or SIGTERM none.\n\nExit codes: 0 everything is acknowledged; 1 failed; 2 wrong command \
    line; 3 server not reachable; 4 refused by the server; 130 ended by SIGINT, \
    143 by SIGTERM."))]
pub struct PubArgs {
    /// The topic; created by the server if its policy allows.
    topic: String,
    #[command(flatten)]
    server: ServerArgs,
    /// Where the lines come from; - is standard input.
    #[arg(long, value_name = "F", default_value = "-", conflicts_with_all = ["count", "size"])]
    file: PathBuf,
    /// Generate so many records (until a signal, if only --size is given).
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Bytes of a generated record [default: 128].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    size: Option<u64>,
    /// The key of a line is its column of this number, from 1. Records of one key keep their order.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["count", "size"])]
    key_column: Option<u32>,
    /// What stands between columns: one character.
    #[arg(long, value_name = "C", default_value = ",", value_parser = parse_delimiter)]
    delimiter: u8,
    /// What an acknowledgement has to promise: received (in the server's memory), written (survives the end of the
    /// server's process) or durable (survives power loss). The last two are for topics of kind log
    /// [default: durable on such a topic, received on others].
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    ack: Option<AckLevel>,
    /// The partition of records without a key.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "key_column")]
    partition: u32,
    /// Keeps the number of acknowledged records in this file, and goes on behind them.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Bytes of a batch.
    #[arg(long, value_name = "N", default_value = "16KiB", value_parser = parse_bytes)]
    batch_bytes: u64,
    /// How long a record may wait for others in its batch, in ms.
    #[arg(long, value_name = "N", default_value_t = 5)]
    linger_ms: u64,
    /// Form of the summary.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

fn parse_level(text: &str) -> Result<AckLevel, String> {
    let mut levels = [AckLevel::Received, AckLevel::Written, AckLevel::Durable].into_iter();
    levels.find(|level| level.name() == text).ok_or_else(|| "received, written or durable".to_owned())
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        b"\\t" => Ok(b'\t'),
        _ => Err("a delimiter is one character of ASCII, or \\t".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// Where not everything was acknowledged.
pub fn run(args: PubArgs) -> Outcome {
    let skip = args.checkpoint.as_deref().map_or(Ok(0), read_checkpoint)?;
    let input: Option<Box<dyn Read>> = match (args.count, args.size, args.file.as_os_str().to_str()) {
        (None, None, Some("-")) => Some(Box::new(io::stdin())),
        (None, None, _) => {
            let why = |error| {
                Failure::new(Exit::Failed, format!("cannot open {}: {error}", args.file.display()), "")
            };
            Some(Box::new(File::open(&args.file).map_err(why)?))
        }
        _ => None,
    };
    let interrupt = Interrupt::watch()?;
    let stopping = Arc::new(AtomicBool::new(false));
    let producer = connect(&args, Arc::clone(&stopping))?;
    interrupt.arm();
    let job = Job {
        args: &args,
        producer: &producer,
        interrupt: &interrupt,
        stopping: &stopping,
        sending: Mutex::new(()),
        skip,
        since: Instant::now(),
    };
    let over = AtomicBool::new(false);
    let fed = std::thread::scope(|scope| {
        let keeper = scope.spawn(|| job.keep(&over));
        let fed = match input {
            Some(input) => job.feed_lines(input),
            None => job.feed_generated(),
        };
        let flushed = fed.and_then(|bytes| match producer.flush(None) {
            // A signal came while the last records were on their way: the keeper ends the process.
            _ if interrupt.is_set() => Ok(bytes),
            result => result.map(|()| bytes).map_err(Failure::from),
        });
        over.store(true, Ordering::Release);
        keeper.thread().unpark();
        if keeper.join().is_err() {
            return Err(Failure::new(Exit::Failed, "the thread that keeps the checkpoint ended early", ""));
        }
        flushed
    });
    job.save();
    let bytes = fed?;
    job.summary(bytes)
}

fn connect(args: &PubArgs, stopping: Arc<AtomicBool>) -> Result<Producer, Failure> {
    let connection = args.server.connection("pub")?;
    let retry_for = connection.retry_for;
    let config = ProducerConfig {
        connection,
        batch_bytes: usize::try_from(args.batch_bytes).unwrap_or(usize::MAX),
        linger: Duration::from_millis(args.linger_ms),
        partitioner: match args.key_column {
            Some(_) => Partitioner::KeyElseSticky,
            None => Partitioner::Fixed(args.partition),
        },
        ack_level: args.ack,
        ..ProducerConfig::new(&args.topic)
    };
    let mut notes = ConnectionNotes::default();
    let on_event = move |event| match event {
        ProducerEvent::Connected => notes.connected(),
        ProducerEvent::Disconnected { why } => notes.disconnected(&why, retry_for),
        ProducerEvent::Renumbered { batches, .. } if batches > 0 => {
            eprintln!(
                "uringest: the server has restarted; {batches} unacknowledged batches are sent again and may be there twice"
            );
        }
        ProducerEvent::CameBackBehind { batches, .. } => {
            eprintln!("uringest: the server came back without up to {batches} batches it had acknowledged");
        }
        ProducerEvent::Deferred { code, detail, .. } => notes.deferred(code, &detail, retry_for),
        ProducerEvent::Refused { .. } => stopping.store(true, Ordering::Relaxed),
        _ => {}
    };
    Ok(Producer::connect_with(config, on_event)?)
}

struct Job<'a> {
    args: &'a PubArgs,
    producer: &'a Producer,
    interrupt: &'a Interrupt,
    /// A batch was refused for good.
    stopping: &'a AtomicBool,
    /// Held while records are handed to the producer.
    sending: Mutex<()>,
    /// Records acknowledged in earlier runs.
    skip: u64,
    since: Instant,
}

impl Job<'_> {
    fn is_ending(&self) -> bool {
        self.interrupt.is_set() || self.stopping.load(Ordering::Relaxed)
    }

    /// Publishes lines until the input ends; returns their bytes.
    fn feed_lines(&self, mut input: Box<dyn Read>) -> Result<u64, Failure> {
        let mut buffer = vec![0; READ_BYTES];
        let (mut filled, mut lines, mut bytes) = (0, 0u64, 0);
        while !self.is_ending() {
            if filled == buffer.len() {
                if filled > FRAME_BYTES_MAX_CEILING as usize {
                    return Err(Failure::new(
                        Exit::Failed,
                        format!("line {} is too long for a record", lines + 1),
                        "",
                    ));
                }
                buffer.resize(filled * 2, 0);
            }
            let read = match input.read(&mut buffer[filled..]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Failure::new(Exit::Failed, format!("cannot read the input: {error}"), ""));
                }
            };
            let fresh = filled;
            filled += read;
            let whole = if read == 0 {
                filled
            } else {
                match buffer[fresh..filled].iter().rposition(|byte| *byte == b'\n') {
                    Some(at) => fresh + at,
                    None => continue,
                }
            };
            if read > 0 || filled > 0 {
                bytes += self.send_lines(&buffer[..whole], &mut lines)?;
            }
            if read == 0 {
                break;
            }
            buffer.copy_within(whole + 1..filled, 0);
            filled -= whole + 1;
        }
        Ok(bytes)
    }

    /// Publishes the lines of a text without its last newline; returns their bytes.
    fn send_lines(&self, text: &[u8], lines: &mut u64) -> Result<u64, Failure> {
        let bytes = Cell::new(0);
        let first = *lines;
        let counted = Cell::new(first);
        let records = text
            .split(|byte| *byte == b'\n')
            .inspect(|_| counted.set(counted.get() + 1))
            .filter(|_| counted.get() > self.skip)
            .take_while(|_| !self.is_ending())
            .map(|line| {
                bytes.set(bytes.get() + line.len() as u64);
                Record { payload: line, key: self.key_of(line), ..Record::default() }
            });
        let sent = self.send(records);
        *lines = counted.get();
        sent.map_err(|(_, error)| refused(error, counted.get()))?;
        Ok(bytes.get())
    }

    fn send<'r>(&self, records: impl IntoIterator<Item = Record<'r>>) -> Result<u64, (u64, SendError)> {
        let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        self.producer.send_all(records)
    }

    fn key_of<'l>(&self, line: &'l [u8]) -> Option<&'l [u8]> {
        let column = self.args.key_column? as usize;
        line.split(|byte| *byte == self.args.delimiter).nth(column - 1)
    }

    /// Publishes generated records: their number in decimal, filled up with dots.
    fn feed_generated(&self) -> Result<u64, Failure> {
        let size = self.args.size.unwrap_or(GENERATED_BYTES_DEFAULT);
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(FRAME_BYTES_MAX_CEILING as usize + 1);
        let count = self.args.count.unwrap_or(u64::MAX);
        let mut next = self.skip;
        let mut payloads = vec![b'.'; size * usize::try_from(GENERATED_PER_ROUND).expect("a small number")];
        while next < count && !self.is_ending() {
            let round = GENERATED_PER_ROUND.min(count - next);
            let mut taken = 0;
            for (payload, number) in payloads.chunks_exact_mut(size.max(1)).zip(next..next + round) {
                let digits = number.to_string();
                let length = digits.len().min(payload.len());
                payload[..length].copy_from_slice(&digits.as_bytes()[..length]);
                taken += 1;
            }
            let records: Box<dyn Iterator<Item = Record<'_>>> = if size == 0 {
                taken = round;
                Box::new((0..round).map(|_| Record::default()))
            } else {
                let pieces =
                    payloads.chunks_exact(size).take(usize::try_from(round).expect("a small number"));
                Box::new(pieces.map(Record::new))
            };
            let sent = self.send(records.take_while(|_| !self.is_ending()));
            sent.map_err(|(before, error)| refused(error, next + before + 1))?;
            next += taken;
        }
        Ok((next - self.skip.min(next)) * size as u64)
    }

    /// Keeps the checkpoint and the progress line up to date until it is over or a signal came.
    fn keep(&self, over: &AtomicBool) {
        let mut saved = None;
        let terminal = io::stderr().is_terminal();
        loop {
            if let Some(code) = self.interrupt.exit_code() {
                self.end_interrupted(code);
            }
            if over.load(Ordering::Acquire) {
                break;
            }
            let acked = self.producer.acknowledged_prefix();
            if saved != Some(acked) {
                saved = Some(acked);
                self.save();
                if terminal {
                    let rate = acked as f64 / self.since.elapsed().as_secs_f64();
                    eprint!("\r{acked} records acknowledged{}, {rate:.0} /s ", self.at_level());
                }
            }
            std::thread::park_timeout(KEEP_EVERY); // less when it is over
        }
        if terminal {
            eprint!("\r\x1b[K");
        }
    }

    /// After a signal: waits a little for what is on the way, and ends the process.
    fn end_interrupted(&self, code: u8) -> ! {
        let deadline = Instant::now() + INTERRUPTED_FLUSH;
        // A record that the feeding thread has in hand while it waits for room is still to come; with the lock in
        // this thread's hands none is.
        let mut sending = self.sending.try_lock();
        while sending.is_err() && Instant::now() < deadline {
            std::thread::park_timeout(LOOK_AGAIN); // nobody unparks: it only keeps the time
            sending = self.sending.try_lock();
        }
        let flushed = self.producer.flush(Some(deadline.saturating_duration_since(Instant::now())));
        self.save();
        let acked = self.producer.acknowledged_prefix();
        let rest = if flushed.is_ok() { "" } else { "; not all of what was sent is" };
        eprintln!("uringest: interrupted: {acked} records are acknowledged{}{rest}", self.at_level());
        std::process::exit(i32::from(code));
    }

    /// Writes the checkpoint, whole or not at all.
    fn save(&self) {
        let Some(path) = &self.args.checkpoint else { return };
        let acked = self.skip + self.producer.acknowledged_prefix();
        if let Err(error) = write_checkpoint(path, acked) {
            eprintln!("uringest: cannot write the checkpoint {}: {error}", path.display());
        }
    }

    fn summary(&self, bytes: u64) -> Outcome {
        let seconds = self.since.elapsed().as_secs_f64();
        let records = self.producer.acknowledged_prefix();
        let rate = records as f64 / seconds;
        if self.args.output == Output::Json {
            return print_json(&serde_json::json!({
                "topic": self.args.topic, "records": records, "payload_bytes": bytes, "seconds": seconds,
                "records_per_second": rate, "skipped_records": self.skip,
                "ack_level": self.producer.acknowledged_level().map(AckLevel::name),
            }));
        }
        let behind =
            if self.skip == 0 { String::new() } else { format!(" behind the {} of earlier runs", self.skip) };
        print(&format!(
            "{records} records ({bytes} bytes) acknowledged{} by topic {}{behind} in {seconds:.2} s: {rate:.0} records/s\n",
            self.at_level(),
            self.args.topic
        ))
    }

    /// What the acknowledgements promise, in words.
    fn at_level(&self) -> String {
        self.producer.acknowledged_level().map_or(String::new(), |level| format!(" as {}", level.name()))
    }
}

fn refused(error: SendError, number: u64) -> Failure {
    match error {
        SendError::Ended(error) => error.into(),
        SendError::RecordTooLarge { .. } => {
            Failure::new(Exit::Failed, format!("record {number}: {error}"), "")
        }
        SendError::UnknownPartition { .. } => {
            Failure::new(Exit::Usage, error.to_string(), "a lower --partition")
        }
        error => Failure::from(Error::BadConfig(error.to_string())),
    }
}

fn read_checkpoint(path: &Path) -> Result<u64, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => {
            return Err(Failure::new(
                Exit::Failed,
                format!("cannot read the checkpoint {}: {error}", path.display()),
                "",
            ));
        }
    };
    text.trim().parse().map_err(|_| {
        let message = format!("the checkpoint {} is not a number of records: {text:?}", path.display());
        Failure::new(
            Exit::Usage,
            message,
            "another --checkpoint, or remove the file to begin with the first record",
        )
    })
}

fn write_checkpoint(path: &Path, acked: u64) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = File::create(&beside)?;
    writeln!(file, "{acked}")?;
    file.sync_data()?;
    std::fs::rename(&beside, path)
}
