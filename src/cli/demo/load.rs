//! The demo's producers and consumers: sensor readings as FlatBuffers, and the check that each arrived once and
//! in order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flatbuffers::FlatBufferBuilder;

use super::latency::Latencies;
use super::sensor::sensors::{Quality, Reading, ReadingArgs};
use crate::client::blocking::{Consumer, Producer};
use crate::client::{
    ConnectionConfig, ConsumerConfig, ConsumerEvent, Delivery, Error, ProducerConfig, Record, SendError,
    Start,
};

/// Devices whose readings one producer publishes.
pub const DEVICES_PER_PRODUCER: u32 = 64;
/// How long the consumers may take for what is still on its way at the end.
const LAST_RECORDS: Duration = Duration::from_secs(20);
/// Between two looks at whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the threads tell each other and the display.
#[derive(Debug, Default)]
pub struct Board {
    /// Readings given to producers.
    pub published: AtomicU64,
    /// Readings received, by all consumers together.
    pub received: AtomicU64,
    /// Producers are to end.
    pub stop: AtomicBool,
    /// Every producer has flushed: `published` is final.
    pub complete: AtomicBool,
}

/// Fast as it goes, or so many readings a second from each producer.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    Full,
    PerSecond(u64),
}

pub fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// One producer: its devices take turns, and a device's readings go to one partition by its key. Returns how
/// many it published; all are acknowledged.
pub fn produce(
    connection: &ConnectionConfig,
    topic: &str,
    index: u32,
    pace: Pace,
    board: &Board,
) -> Result<u64, Error> {
    let linger = match pace {
        Pace::Full => Duration::from_millis(5),
        Pace::PerSecond(_) => Duration::ZERO,
    };
    let config = ProducerConfig { connection: connection.clone(), linger, ..ProducerConfig::new(topic) };
    let producer = Producer::connect(config)?;
    let mut builder = FlatBufferBuilder::with_capacity(512);
    let since = Instant::now();
    let mut sent = 0;
    while !board.stop.load(Ordering::Relaxed) {
        let due = match pace {
            Pace::Full => sent + 256,
            Pace::PerSecond(rate) => {
                let due = u64::try_from(since.elapsed().as_micros() * u128::from(rate) / 1_000_000)
                    .unwrap_or(u64::MAX);
                if due <= sent {
                    std::thread::sleep(Duration::from_micros(200));
                    continue;
                }
                due
            }
        };
        let before = sent;
        while sent < due {
            let device = index * DEVICES_PER_PRODUCER
                + u32::try_from(sent % u64::from(DEVICES_PER_PRODUCER)).unwrap_or(0);
            let payload = reading(&mut builder, device, sent / u64::from(DEVICES_PER_PRODUCER));
            producer.send_record(&Record::keyed(payload, &device.to_le_bytes())).map_err(
                |error| match error {
                    SendError::Ended(error) => error,
                    other => Error::BadConfig(other.to_string()),
                },
            )?;
            sent += 1;
        }
        board.published.fetch_add(sent - before, Ordering::Relaxed);
    }
    producer.flush(None)?;
    Ok(sent)
}

/// A reading as the device would encode it.
fn reading<'b>(builder: &'b mut FlatBufferBuilder<'_>, device: u32, number: u64) -> &'b [u8] {
    builder.reset();
    let site = builder.create_string(SITES[device as usize % SITES.len()]);
    let swing = i16::try_from(number % 100).unwrap_or(0);
    let vibration = builder.create_vector(&[swing, -swing, swing / 2, 0, 3, -swing / 2, 1, 0]);
    let args = ReadingArgs {
        device,
        number,
        taken_ns: wall_ns(),
        temperature: 20.0 + f32::from(swing) / 10.0,
        humidity: 40.0,
        pressure: 1013.25,
        quality: if number.is_multiple_of(997) { Quality::Suspect } else { Quality::Good },
        vibration: Some(vibration),
        site: Some(site),
    };
    let reading = Reading::create(builder, &args);
    builder.finish(reading, None);
    builder.finished_data()
}

const SITES: [&str; 4] = ["hall-1", "hall-2", "roof", "cellar"];

/// What one consumer saw.
#[derive(Debug)]
pub struct Seen {
    pub received: u64,
    pub latencies: Latencies,
    /// The first thing that was not as it should be.
    pub wrong: Option<String>,
}

/// One consumer of all partitions: verifies each reading's FlatBuffer and that each device's readings come once
/// and in order, until it has all that was published.
pub fn consume(
    connection: &ConnectionConfig,
    topic: &str,
    devices: u32,
    board: &Board,
    ready: &AtomicU64,
) -> Result<Seen, Error> {
    let config =
        ConsumerConfig { connection: connection.clone(), start: Start::Latest, ..ConsumerConfig::new(topic) };
    let consumer = Consumer::connect(config)?;
    consumer.wait_subscribed(Some(connection.retry_for))?;
    ready.fetch_add(1, Ordering::Release);
    let mut next = vec![0u64; devices as usize];
    let mut seen = Seen { received: 0, latencies: Latencies::new(), wrong: None };
    let mut events = Vec::new();
    let mut give_up_at = None;
    loop {
        consumer.next_events(Some(LOOK_EVERY), &mut events)?;
        for event in events.drain(..) {
            match event {
                ConsumerEvent::Batch(delivery) => {
                    check(&delivery, &mut next, &mut seen);
                    board.received.fetch_add(u64::from(delivery.len()), Ordering::Relaxed);
                }
                ConsumerEvent::Gap { partition, from, records, .. } => {
                    seen.wrong(|| {
                        format!("a gap of {records} records at offset {from} of partition {partition}")
                    });
                }
                _ => {}
            }
        }
        if board.complete.load(Ordering::Acquire) {
            let all = board.published.load(Ordering::Relaxed);
            let give_up_at = *give_up_at.get_or_insert_with(|| Instant::now() + LAST_RECORDS);
            if seen.received >= all {
                return Ok(seen);
            }
            if seen.wrong.is_some() || Instant::now() > give_up_at {
                let missing = all - seen.received;
                seen.wrong(|| format!("{missing} of {all} records did not arrive"));
                return Ok(seen);
            }
        }
    }
}

impl Seen {
    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.wrong.get_or_insert_with(what);
    }
}

fn check(delivery: &Delivery, next: &mut [u64], seen: &mut Seen) {
    let now_ns = wall_ns();
    for record in delivery.records() {
        seen.received += 1;
        let place = || format!("offset {} of partition {}", record.offset, record.partition);
        let reading = match flatbuffers::root::<Reading<'_>>(record.payload) {
            Ok(reading) => reading,
            Err(error) => {
                seen.wrong(|| format!("{} is no Reading: {error}", place()));
                continue;
            }
        };
        let Some(expected) = next.get_mut(reading.device() as usize) else {
            seen.wrong(|| format!("{} is of the unknown device {}", place(), reading.device()));
            continue;
        };
        if reading.number() != *expected {
            let (device, number, expected) = (reading.device(), reading.number(), *expected);
            seen.wrong(|| {
                format!("{}: reading {number} of device {device}, where {expected} was due", place())
            });
        }
        *expected = reading.number() + 1;
        seen.latencies.add(now_ns.saturating_sub(reading.taken_ns()));
    }
}
