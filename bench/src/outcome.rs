//! The result of a run: what `--json` prints, one object a run.
//!
//! Every field is described in `docs/benchmark.md`; a test holds the two to each other. Fields that a run has
//! nothing to say about are `null` (or, where they are lists, empty), never missing, so that a reader need not
//! guess. Times are in the unit that the name ends in.

mod log;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::host::Machine;
use crate::scenario::Drive;

pub use log::{CatchupOutcome, DurableOutcome, RecoveryOutcome};
#[cfg(test)]
pub(crate) use sample::sample;

/// Percentiles of a latency, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// How many were measured.
    pub count: u64,
}

/// What the latency is from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LatencyOf {
    /// From when a batch was encoded (or was due) until a consumer had read it.
    Delivery,
    /// From when a batch was encoded (or was due) until its producer had read the acknowledgement that names it.
    Ack,
}

/// One flow of the work.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowOutcome {
    /// Its name in the scenario; may be empty.
    pub name: String,
    /// Bytes of a record's payload.
    pub payload_bytes: usize,
    /// Most bytes of a batch; 0 for one record at a time.
    pub batch_bytes: usize,
    /// Records in each batch.
    pub batch_records: u64,
    /// Producers.
    pub connections: usize,
    /// Consumers.
    pub consumers: usize,
    /// Records a second that were offered; 0 for as many as possible.
    pub rate_per_s: u64,
    /// Records the server took in the window.
    pub records: u64,
    /// Records consumers read in the window, over all of them.
    pub delivered: u64,
    /// Least over most records of a producer; 1 is fair.
    pub fairness: f64,
    /// The latency.
    pub latency_us: Option<Latency>,
    /// What it is of.
    pub latency_of: Option<LatencyOf>,
    /// The 99th percentile over the mean.
    pub tail_over_mean: Option<f64>,
    /// Points of the latency's curve: share of the batches (0 to 1), microseconds.
    pub latency_curve_us: Vec<(f64, f64)>,
}

/// One rate of `step`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Step {
    /// Records a second offered.
    pub rate_per_s: u64,
    /// Records a second taken.
    pub records_per_s: f64,
    /// The latency.
    pub latency_us: Latency,
    /// The server's CPU time for each record.
    pub server_cpu_ns_per_record: f64,
    /// As in [`Outcome`].
    pub load_cpu_share: f64,
    /// Whether the 99th percentile was within the bound and the rate was reached.
    pub within_bound: bool,
}

/// Where `step` ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Knee {
    /// The 99th percentile that was allowed.
    pub bound_us: f64,
    /// The highest rate within it, in records a second; `null` where already the first was not.
    pub within_per_s: Option<u64>,
    /// The lowest rate beyond it; `null` where none was found.
    pub beyond_per_s: Option<u64>,
}

/// One interval of `soak`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Interval {
    /// Seconds since the measurement began, at the interval's end.
    pub at_s: f64,
    /// Records a second taken.
    pub records_per_s: f64,
    /// Resident memory at the interval's end.
    pub server_rss_bytes: u64,
    /// The server's CPU time for each record.
    pub server_cpu_ns_per_record: f64,
    /// The latency.
    pub latency_us: Latency,
}

/// How much figures of `soak` change from its begin to its end, along a line that outliers do not move: 0.01
/// is 1 % more at the end.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DriftOutcome {
    /// Of resident memory.
    pub server_rss: f64,
    /// Of the rate.
    pub records_per_s: f64,
    /// Of the 99th percentile.
    pub p99: f64,
    /// Of the CPU time for each record.
    pub server_cpu_ns_per_record: f64,
}

/// `crossing`: the same work on the connections' own shard.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CrossingOutcome {
    /// The server's CPU time for each record without crossing.
    pub own_server_cpu_ns_per_record: f64,
    /// With crossing over without.
    pub cpu_ratio: f64,
    /// Records a second without crossing.
    pub own_records_per_s: f64,
    /// The latency without crossing.
    pub own_latency_us: Option<Latency>,
}

/// One number of connections of `idle`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct IdleOutcome {
    /// Connections that have said hello.
    pub connections: usize,
    /// Resident memory with them.
    pub server_rss_bytes: u64,
    /// Resident memory over that of the first line's, for each connection more than there.
    pub rss_bytes_per_connection: Option<f64>,
    /// CPU time of the server over time, while nothing is sent: 0.001 is 0.1 % of a CPU.
    pub server_cpu_share: f64,
    /// Seconds that the share is of.
    pub seconds: f64,
}

/// The bare loop beside the server (`--with-limit`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LimitOutcome {
    /// What the loop does and on which system calls, as in `epoll sink`.
    pub name: String,
    /// The loop's CPU time for each record.
    pub server_cpu_ns_per_record: f64,
    /// The loop's CPU time for each delivery.
    pub server_cpu_ns_per_delivery: Option<f64>,
    /// The server's CPU time (for each delivery where there are any, else for each record) over the loop's.
    pub ratio: f64,
    /// `memory` topics: what copying a record's payload into a ring of the topic's size costs on the server's CPU.
    pub memcpy_ns_per_record: Option<f64>,
    /// The server's CPU time for each record over that of the loop and the copy.
    pub ratio_with_memcpy: Option<f64>,
    /// The loop's latency.
    pub latency_us: Option<Latency>,
}

/// What came beside the load of `storm`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StormOutcome {
    /// Connections that the server answered.
    pub handshakes: usize,
    /// Those it did not.
    pub failed: usize,
    /// Why the first of those failed.
    pub first_failure: Option<String>,
    /// From the first connection's begin to the last one's end.
    pub seconds: f64,
    /// Connections in a second of that.
    pub handshakes_per_s: f64,
    /// The server's CPU time for each: what it took in that time beyond what the load takes by itself.
    pub server_cpu_us_per_handshake: f64,
    /// Of each, from connecting to the answer to its hello.
    pub handshake_us: Option<Latency>,
    /// The load's latency by itself.
    pub calm_latency_us: Option<Latency>,
    /// The server's CPU time for each record by itself.
    pub calm_server_cpu_ns_per_record: f64,
    /// The 99th percentile in the storm over that by itself.
    pub p99_over_calm: Option<f64>,
}

/// TLS of the run's connections.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TlsOutcome {
    /// The cipher suite.
    pub suite: String,
    /// The key exchange of the first handshake, as IANA names it.
    pub key_exchange: String,
    /// Who opened and sealed the server's records: `own` or `rustls`.
    pub records: String,
    /// Content of the records that the load sent, at most.
    pub record_bytes: usize,
    /// Connections of the load that shook hands.
    pub handshakes: u64,
    /// Of those, the ones that went on from a ticket.
    pub resumed: u64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The variant's label, in a report.
    pub variant: Option<String>,
    /// How the load was applied.
    pub drive: Drive,
    /// What was measured: `uringest`, or another program.
    pub subject: String,
    /// Its version, with its commit where it says one.
    pub subject_version: String,
    /// The I/O it ran on: `uring` or `epoll`; of other programs what they say.
    pub io: String,
    /// TLS of all connections; `null` where they are in plaintext.
    pub tls: Option<TlsOutcome>,
    /// Kind of the topics: `live`, `memory` or `log`.
    pub kind: String,
    /// What an acknowledgement meant: `received`, `written`, `durable`; `none` where the subject does not answer.
    pub ack: String,
    /// An acknowledgement after this many batches of a connection ...
    pub ack_every_batches: u32,
    /// ... or this long after the first without one.
    pub ack_every_us: u32,
    /// Shards of the server.
    pub shards: u16,
    /// Bytes of a record's payload (first flow).
    pub payload_bytes: usize,
    /// Most bytes of a batch, header included (first flow); 0: one record at a time.
    pub batch_bytes: usize,
    /// Producers, each on a connection of its own (over all flows; `idle`: connections).
    pub connections: usize,
    /// Consumers (over all flows).
    pub consumers: usize,
    /// Records a second that were offered (over all flows); 0: as many as possible.
    pub rate_per_s: u64,
    /// Length of the measured window.
    pub seconds: f64,
    /// The same load before it.
    pub warm_up_seconds: f64,
    /// Records the server took in the window.
    pub records: u64,
    /// Records consumers read in the window, over all of them.
    pub delivered: u64,
    /// Records that the server told consumers would not come.
    pub missed: u64,
    /// Records that the server never said it had taken, of all that was sent since the run began; looked at when
    /// nothing has come for three seconds after its end. Other than 0, something was lost.
    pub unacknowledged: u64,
    /// Records that consumers neither got nor were told they would not get, as long after the end, over all of them;
    /// less than 0 where they got more than was sent.
    pub undelivered: i64,
    /// Batches of the whole run that the server refused for want of room; each was sent again.
    pub refused_batches: u64,
    /// `records` over `seconds`.
    pub records_per_s: f64,
    /// `delivered` over `seconds`.
    pub delivered_per_s: f64,
    /// Payload bytes of `records` over `seconds`.
    pub bytes_per_s: f64,
    /// User and system time of the whole server process in the window.
    pub server_cpu_ns: u64,
    /// That over `records`.
    pub server_cpu_ns_per_record: f64,
    /// That over `delivered`; `null` without consumers.
    pub server_cpu_ns_per_delivery: Option<f64>,
    /// The server's CPU time over the window's length; more than 1 is possible on several CPUs.
    pub server_cpu_share: f64,
    /// Share of the window in which the busiest thread of the load had something to do.
    pub load_cpu_share: f64,
    /// The load was the bottleneck: it had no time left and the server had. Rates are then the load's, and the
    /// server's CPU time for each record that of a server that is not fully used.
    pub load_saturated: bool,
    /// The load could not keep to its times because of itself: share of the batches sent more than a
    /// millisecond after they were due, although the server would have taken them. 0 where there are no times.
    pub late_share: f64,
    /// Share of the batches sent as late because the server did not take them earlier (credit, batches in flight,
    /// a full socket); in rounds without a rate, share of the turns at which a connection could not send. 0
    /// where the load sends as much as it can.
    pub blocked_share: f64,
    /// Payload bytes copied in user space over the frame bytes taken, over the whole run; `null` where the
    /// subject does not count them.
    pub copied_bytes_ratio: Option<f64>,
    /// Least over most records of a producer; 1 is fair (first flow).
    pub fairness: f64,
    /// Resident memory at the window's end.
    pub server_rss_bytes: u64,
    /// The latency (first flow).
    pub latency_us: Option<Latency>,
    /// What it is of.
    pub latency_of: Option<LatencyOf>,
    /// Each flow by itself.
    pub flows: Vec<FlowOutcome>,
    /// `step`: every rate.
    pub steps: Vec<Step>,
    /// `step`: where it ended.
    pub knee: Option<Knee>,
    /// `soak`: every interval.
    pub intervals: Vec<Interval>,
    /// `soak`: what changed over them.
    pub drift: Option<DriftOutcome>,
    /// `crossing`: beside the same without.
    pub crossing: Option<CrossingOutcome>,
    /// `idle`: every number of connections.
    pub idle: Vec<IdleOutcome>,
    /// `storm`: what came beside the load. The run's own figures are those in the storm.
    pub storm: Option<StormOutcome>,
    /// `durable`: the commits, and the disk by itself.
    pub durable: Option<DurableOutcome>,
    /// `catchup`: beside delivery at the tail, which the run's own figures are of.
    pub catchup: Option<CatchupOutcome>,
    /// `recovery`: the start. The run's own figures are of what was published before.
    pub recovery: Option<RecoveryOutcome>,
    /// The bare loop beside it.
    pub limit: Option<LimitOutcome>,
    /// What to know before believing the figures.
    pub warnings: Vec<String>,
    /// Congestion control of every socket of both sides.
    pub congestion_control: String,
    /// CPUs of the server.
    pub server_cpus: String,
    /// CPUs of the load.
    pub load_cpus: String,
    /// Kernel, processor, memory.
    #[serde(flatten)]
    pub machine: Machine,
    /// Seconds since 1970 UTC at the end of the run.
    pub unix_time_s: u64,
    /// The benchmark's commit, `-dirty` where its sources differed, `unknown` outside of git.
    pub commit: String,
}

/// The benchmark's commit.
pub const COMMIT: &str = env!("URINGEST_BENCH_COMMIT");

impl Outcome {
    /// The first figure: the server's CPU time for each delivery where there are consumers, else for each record.
    #[must_use]
    pub fn cpu_ns(&self) -> f64 {
        self.server_cpu_ns_per_delivery.unwrap_or(self.server_cpu_ns_per_record)
    }

    /// What [`Outcome::cpu_ns`] is for each of.
    #[must_use]
    pub fn cpu_unit(&self) -> &'static str {
        if self.server_cpu_ns_per_delivery.is_some() { "delivery" } else { "record" }
    }
}
