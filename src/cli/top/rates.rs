//! Two samples of the counters to rates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::control::api::{Degradation, IoStatus};
use crate::metrics::{Counter, Snapshot};

/// What `GET /v1/snapshot` gives, as far as it is used here.
#[derive(Debug, Clone, Deserialize)]
pub struct Sample {
    /// In the life cycle.
    pub state: String,
    /// What all shards run on.
    pub io: IoStatus,
    /// What works worse than it could on that host.
    pub degraded: Vec<Degradation>,
    /// Counters, summed and by shard.
    pub metrics: Snapshot,
    /// The process.
    pub process: Process,
    /// Every topic.
    pub topics: Vec<Topic>,
}

/// The server's process.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Process {
    /// Since it started.
    pub uptime_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// User and system, of all threads.
    pub cpu_seconds: f64,
}

/// A topic of a sample.
#[derive(Debug, Clone, Deserialize)]
pub struct Topic {
    /// As clients name it.
    pub name: String,
    /// In the order of their numbers.
    pub partitions: Vec<Partition>,
}

/// A partition of a sample.
#[derive(Debug, Clone, Deserialize)]
pub struct Partition {
    /// The oldest offset kept.
    pub log_start_offset: u64,
    /// The offset the next record gets.
    pub log_end_offset: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Who is subscribed.
    pub consumers: Vec<Consumer>,
}

/// A consumer of a sample.
#[derive(Debug, Clone, Deserialize)]
pub struct Consumer {
    /// Its name, or what the server calls it.
    pub name: String,
    /// Records it has yet to be sent.
    pub lag_records: u64,
    /// What holds it up.
    pub cause: String,
}

/// What happens in a second, and totals where they say more.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rates {
    /// In the life cycle.
    pub state: String,
    /// Of the server.
    pub uptime_seconds: f64,
    /// Between the samples.
    pub interval_seconds: f64,
    /// How many.
    pub shards: usize,
    /// What they run on, and why.
    pub io: IoStatus,
    /// What works worse than it could on that host.
    pub degraded: Vec<Degradation>,
    /// Open now.
    pub connections: u64,
    /// Accepted from producers.
    pub records_in_per_second: f64,
    /// Of the accepted frames.
    pub bytes_in_per_second: f64,
    /// Handed to consumers' sockets.
    pub records_out_per_second: f64,
    /// Sent to clients, of any kind.
    pub bytes_out_per_second: f64,
    /// CPUs in use.
    pub cpus: f64,
    /// The server's processor time for each record accepted; none without a record.
    pub cpu_ns_per_record: Option<f64>,
    /// Resident memory.
    pub resident_bytes: u64,
    /// The 99th percentile of a tick since the start; none while no tick has been timed.
    pub tick_p99_ns: Option<u64>,
    /// In the order of their bytes.
    pub copies: Vec<CopyRate>,
    /// By code, those that happened between the samples.
    pub refusals_per_second: BTreeMap<String, f64>,
    /// By name.
    pub topics: Vec<TopicRate>,
}

/// Copies of one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CopyRate {
    /// Why they are made.
    pub reason: String,
    /// Bytes copied.
    pub bytes_per_second: f64,
    /// Of the bytes accepted between the samples; none without any.
    pub share_of_bytes: Option<f64>,
    /// Bytes since the start.
    pub total_bytes: u64,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopicRate {
    /// As clients name it.
    pub name: String,
    /// How many.
    pub partitions: usize,
    /// Appended.
    pub records_in_per_second: f64,
    /// Records kept.
    pub records: u64,
    /// Bytes held.
    pub bytes: u64,
    /// The slowest first.
    pub consumers: Vec<ConsumerLag>,
}

/// A consumer with the sum of its lags over a topic's partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerLag {
    /// Its name.
    pub name: String,
    /// Records it has yet to be sent.
    pub lag_records: u64,
    /// What holds up the partition with the largest lag.
    pub cause: String,
}

impl Rates {
    /// What happened between two samples of one server. A server that was started anew between them counts
    /// from zero.
    #[must_use]
    pub fn between(before: &Sample, now: &Sample) -> Rates {
        let elapsed_ns = now.metrics.wall_ns.saturating_sub(before.metrics.wall_ns);
        let seconds = (elapsed_ns as f64 / 1e9).max(1e-3);
        let restarted = now.process.uptime_seconds < before.process.uptime_seconds;
        let delta = |old: u64, new: u64| if restarted { new } else { new.saturating_sub(old) };
        let counted = |counter: Counter| {
            delta(before.metrics.total.value(counter), now.metrics.total.value(counter)) as f64
        };
        let rate = |counter: Counter| counted(counter) / seconds;
        let cpu_before = if restarted { 0.0 } else { before.process.cpu_seconds };
        let cpu_seconds = (now.process.cpu_seconds - cpu_before).max(0.0);
        let records = counted(Counter::RecordsAccepted);
        let bytes = counted(Counter::PayloadBytesAccepted);
        let copied =
            |reason: &String| before.metrics.total.copies.get(reason).map_or(0, |copies| copies.bytes);
        let mut copies: Vec<CopyRate> = (now.metrics.total.copies.iter())
            .map(|(reason, copies)| {
                let copied = delta(copied(reason), copies.bytes) as f64;
                CopyRate {
                    reason: reason.clone(),
                    bytes_per_second: copied / seconds,
                    share_of_bytes: (bytes > 0.0).then_some(copied / bytes),
                    total_bytes: copies.bytes,
                }
            })
            .collect();
        copies.sort_by(|a, b| {
            b.bytes_per_second.total_cmp(&a.bytes_per_second).then(b.total_bytes.cmp(&a.total_bytes))
        });
        let refused = |code: &String| before.metrics.total.refusals.get(code).copied().unwrap_or(0);
        let refusals = now.metrics.total.refusals.iter();
        Rates {
            state: now.state.clone(),
            uptime_seconds: now.process.uptime_seconds,
            interval_seconds: seconds,
            shards: now.metrics.shards.len(),
            io: now.io.clone(),
            degraded: now.degraded.clone(),
            connections: now.metrics.total.value(Counter::ConnectionsOpen),
            records_in_per_second: rate(Counter::RecordsAccepted),
            bytes_in_per_second: rate(Counter::PayloadBytesAccepted),
            records_out_per_second: rate(Counter::RecordsDelivered),
            bytes_out_per_second: rate(Counter::BytesSent),
            cpus: cpu_seconds / seconds,
            cpu_ns_per_record: (records > 0.0).then_some(cpu_seconds * 1e9 / records),
            resident_bytes: now.process.resident_bytes,
            tick_p99_ns: Some(now.metrics.total.tick).filter(|tick| tick.count > 0).map(|tick| tick.p99_ns),
            copies,
            refusals_per_second: refusals
                .map(|(code, count)| (code.clone(), delta(refused(code), *count) as f64 / seconds))
                .filter(|(_, rate)| *rate > 0.0)
                .collect(),
            topics: now
                .topics
                .iter()
                .map(|topic| TopicRate::between(&before.topics, topic, seconds))
                .collect(),
        }
    }
}

impl TopicRate {
    fn between(before: &[Topic], now: &Topic, seconds: f64) -> TopicRate {
        let earlier = before.iter().find(|topic| topic.name == now.name);
        let end = |topic: &Topic| topic.partitions.iter().map(|one| one.log_end_offset).sum::<u64>();
        // A topic that was not there before began at its first kept offset.
        let start = |topic: &Topic| topic.partitions.iter().map(|one| one.log_start_offset).sum::<u64>();
        let appended = end(now).saturating_sub(earlier.map_or_else(|| start(now), end));
        let mut lags: BTreeMap<&str, (u64, u64, &str)> = BTreeMap::new();
        for consumer in now.partitions.iter().flat_map(|one| &one.consumers) {
            let lag = lags.entry(&consumer.name).or_insert((0, 0, &consumer.cause));
            lag.0 += consumer.lag_records;
            if consumer.lag_records > lag.1 {
                (lag.1, lag.2) = (consumer.lag_records, &consumer.cause);
            }
        }
        let consumer = |(name, (lag_records, _, cause)): (&str, (u64, u64, &str))| ConsumerLag {
            name: name.to_owned(),
            lag_records,
            cause: cause.to_owned(),
        };
        let mut consumers: Vec<_> = lags.into_iter().map(consumer).collect();
        consumers.sort_by_key(|consumer| std::cmp::Reverse(consumer.lag_records));
        TopicRate {
            name: now.name.clone(),
            partitions: now.partitions.len(),
            records_in_per_second: appended as f64 / seconds,
            records: end(now).saturating_sub(start(now)),
            bytes: now.partitions.iter().map(|one| one.bytes).sum(),
            consumers,
        }
    }
}
