//! What the scenarios about logs share: producers whose records say whose and which they are, and readers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use uringest::client::blocking::{Consumer, Producer};
use uringest::client::{
    AckLevel, ConnectionConfig, ConsumerConfig, ConsumerEvent, Partitioner, Partitions, ProducerConfig,
    ProducerEvent, Record, Start,
};

use crate::rig::Random;
use crate::support::{PATIENCE, Server};

/// Between two sends of a load.
const PACE: Duration = Duration::from_millis(4);
/// Bytes of a payload beyond its two numbers, at most.
const FILL_BYTES: usize = 1_500;

/// The payload of a writer's record with this number: both, and bytes that follow from them.
pub fn payload(writer: u64, number: u64) -> Vec<u8> {
    let mut random = Random::of(writer << 40 | number);
    let mut bytes = [writer.to_le_bytes(), number.to_le_bytes()].concat();
    // Mostly short, so that batches hold many.
    let fill = if random.below(10) == 0 { random.below(FILL_BYTES) } else { random.below(60) };
    bytes.resize_with(16 + fill, || random.next().to_le_bytes()[0]);
    bytes
}

/// Whose and which record this is; fails where it is another than that writer's with that number.
#[track_caller]
pub fn read(bytes: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let (writer, number) = (word(0), word(8));
    assert!(bytes == payload(writer, number), "record {number} of writer {writer} is another");
    (writer, number)
}

/// How the client reaches the server, whatever becomes of it.
pub fn connection(server: &Server) -> ConnectionConfig {
    ConnectionConfig {
        server: server.url().parse().expect("an address"),
        retry_for: PATIENCE,
        backoff_max: Duration::from_millis(50),
        ..ConnectionConfig::default()
    }
}

/// What a writer was told.
#[derive(Default)]
pub struct Told {
    /// So many of the first records are acknowledged.
    pub acked: u64,
    /// Acknowledgements by the first record they name, with its offset.
    pub offsets: BTreeMap<u64, u64>,
    /// The lowest level of any of them.
    pub level: Option<AckLevel>,
    /// What must not happen on a log: other words than acknowledgements.
    pub wrong: Vec<String>,
}

/// A producer of one partition.
pub struct Writer {
    pub id: u64,
    pub partition: u32,
    pub level: Option<AckLevel>,
    pub told: Arc<Mutex<Told>>,
    producer: Producer,
    sent: AtomicU64,
}

impl Writer {
    pub fn connect(server: &Server, topic: &str, id: u64, partition: u32, level: Option<AckLevel>) -> Writer {
        let config = ProducerConfig {
            connection: connection(server),
            ack_level: level,
            partitioner: Partitioner::Fixed(partition),
            batch_bytes: 4 * 1024 + 4 * 1024 * usize::try_from(id % 4).expect("below four"),
            buffer_bytes: 256 * 1024,
            linger: Duration::from_millis(1),
            ..ProducerConfig::new(topic)
        };
        let told: Arc<Mutex<Told>> = Arc::default();
        let theirs = Arc::clone(&told);
        let on_event = move |event| theirs.lock().expect("not poisoned").hear(event);
        let producer = Producer::connect_with(config, on_event).expect("the server is there");
        Writer { id, partition, level, told, producer, sent: AtomicU64::new(0) }
    }

    /// Hands over the next records; waits for room.
    pub fn send(&self, count: u64) {
        let first = self.sent.load(Ordering::Relaxed);
        let payloads: Vec<Vec<u8>> = (first..first + count).map(|number| payload(self.id, number)).collect();
        let sent = self.producer.send_all(payloads.iter().map(|payload| Record::new(payload)));
        assert_eq!(sent.map_err(|(_, error)| error.to_string()), Ok(count), "writer {}", self.id);
        self.sent.store(first + count, Ordering::Relaxed);
    }

    /// Sends some every few milliseconds until told to stop, and no more in all than `allowed` says each time; less where
    /// acknowledgements are slower, as the buffer is small.
    pub fn send_until(&self, stop: &AtomicBool, allowed: impl Fn() -> u64) {
        while !stop.load(Ordering::Relaxed) {
            if self.sent() < allowed() {
                self.send(25);
            }
            std::thread::park_timeout(PACE);
        }
    }

    /// Waits until everything is acknowledged.
    #[track_caller]
    pub fn flush(&self) {
        self.producer.flush(Some(PATIENCE)).expect("everything is acknowledged");
        assert_eq!(self.acked(), self.sent());
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Records acknowledged so far; fails where something else was said.
    #[track_caller]
    pub fn acked(&self) -> u64 {
        let told = self.told.lock().expect("not poisoned");
        assert!(told.wrong.is_empty(), "writer {}: {:?}", self.id, told.wrong);
        told.acked
    }
}

impl Told {
    fn hear(&mut self, event: ProducerEvent) {
        match event {
            ProducerEvent::Acked { records, offset, level, .. } => {
                if records.start != self.acked {
                    self.wrong.push(format!("{} was acknowledged behind {}", records.start, self.acked));
                }
                self.acked = records.end;
                self.offsets.extend(offset.map(|offset| (records.start, offset)));
                self.level = Some(self.level.map_or(level, |lowest| lowest.min(level)));
            }
            ProducerEvent::Renumbered { .. }
            | ProducerEvent::Refused { .. }
            | ProducerEvent::CameBackBehind { .. } => self.wrong.push(format!("{event:?}")),
            _ => {}
        }
    }
}

/// A record as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    pub offset: u64,
    pub writer: u64,
    pub number: u64,
    /// Of the batch's first record, and when the batch was appended.
    pub batch_offset: u64,
    pub append_time_ns: u64,
}

/// Reads one partition. Offsets have to be without a gap.
pub struct Reader {
    consumer: Consumer,
    /// The next offset, once known.
    pub next: Option<u64>,
    /// Gaps that the server told of: from, records.
    pub gaps: Vec<(u64, u64)>,
    /// The log's end as told when it subscribed.
    pub end: Option<u64>,
}

impl Reader {
    pub fn connect(server: &Server, topic: &str, partition: u32, start: Start) -> Reader {
        Reader::with_credit(server, topic, partition, start, 4 * 1024 * 1024)
    }

    pub fn with_credit(server: &Server, topic: &str, partition: u32, start: Start, credit: u64) -> Reader {
        let config = ConsumerConfig {
            connection: connection(server),
            partitions: Partitions::Some(vec![partition]),
            start,
            credit_bytes: credit,
            ..ConsumerConfig::new(topic)
        };
        let consumer = Consumer::connect(config).expect("a good configuration");
        Reader { consumer, next: None, gaps: Vec::new(), end: None }
    }

    /// What comes next, if something does in this time.
    #[track_caller]
    pub fn poll(&mut self, timeout: Duration) -> Vec<Got> {
        let mut got = Vec::new();
        match self.consumer.next(Some(timeout)).expect("the server is there") {
            Some(ConsumerEvent::Batch(batch)) => {
                let header = *batch.header();
                for record in batch.records() {
                    let (writer, number) = read(record.payload);
                    if let Some(next) = self.next {
                        assert_eq!(record.offset, next, "neither a gap nor a repeat");
                    }
                    self.next = Some(record.offset + 1);
                    let (batch_offset, append_time_ns) = (header.offset, header.append_time_ns);
                    got.push(Got { offset: record.offset, writer, number, batch_offset, append_time_ns });
                }
            }
            Some(ConsumerEvent::Gap { from, records, .. }) => {
                self.gaps.push((from, records));
                self.next = Some(from + records);
            }
            Some(ConsumerEvent::Subscribed { log_end_offset, start_offset, .. }) => {
                self.end.get_or_insert(log_end_offset);
                self.next.get_or_insert(start_offset);
            }
            _ => {}
        }
        got
    }

    /// Everything until `done` says that it is enough.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Reader, &[Got]) -> bool) -> Vec<Got> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        while !done(self, &all) {
            assert!(Instant::now() < deadline, "{what}: {} records came in {PATIENCE:?}", all.len());
            all.extend(self.poll(Duration::from_millis(100)));
        }
        all
    }

    /// Everything up to the end that the log had when this reader came.
    #[track_caller]
    pub fn all(&mut self) -> Vec<Got> {
        self.until("the log's end", |reader, _| {
            reader.end.zip(reader.next).is_some_and(|(end, next)| next >= end)
        })
    }
}

/// Everything that a partition has now.
#[track_caller]
pub fn read_all(server: &Server, topic: &str, partition: u32) -> Vec<Got> {
    read_from(server, topic, partition, Start::Earliest)
}

/// Everything that a partition has now from some place on, where nothing is missing.
#[track_caller]
pub fn read_from(server: &Server, topic: &str, partition: u32, start: Start) -> Vec<Got> {
    let mut reader = Reader::connect(server, topic, partition, start);
    let all = reader.all();
    assert!(reader.gaps.is_empty(), "{:?}", reader.gaps);
    all
}

/// Holds what a partition has to what its writers were told: each record of each of them once and in its order, all that
/// was acknowledged, where it was said to be.
#[track_caller]
pub fn check<'a>(got: &[Got], writers: impl IntoIterator<Item = (&'a Writer, u64)>) {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for record in got {
        let next = next.entry(record.writer).or_default();
        assert_eq!(record.number, *next, "of writer {}, at offset {}", record.writer, record.offset);
        *next += 1;
    }
    let place: BTreeMap<(u64, u64), u64> =
        got.iter().map(|record| ((record.writer, record.number), record.offset)).collect();
    for (writer, acked) in writers {
        let there = next.get(&writer.id).copied().unwrap_or_default();
        assert!(
            there >= acked,
            "{acked} records of writer {} were acknowledged, {there} are there",
            writer.id
        );
        let told = writer.told.lock().expect("not poisoned");
        for (number, offset) in told.offsets.range(..acked) {
            assert_eq!(place.get(&(writer.id, *number)), Some(offset), "record {number} of {}", writer.id);
        }
    }
}
