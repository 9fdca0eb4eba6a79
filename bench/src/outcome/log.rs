//! What runs on topics of kind `log` find beside their own figures.

use serde::{Deserialize, Serialize};

use super::Latency;

/// `durable`: the server's commits, and what the disk does by itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DurableOutcome {
    /// Where the log and the file of the raw loop were.
    pub directory: String,
    /// Whether the raw loop bypassed the page cache: the file system has `O_DIRECT`.
    pub direct: bool,
    /// Writes of the server to the log in a second of the window.
    pub writes_per_s: f64,
    /// Syncs of the server in a second of the window.
    pub syncs_per_s: f64,
    /// Bytes of a commit: what was written in the window for each sync and each write that was durable by itself
    /// (`written`: for each write).
    pub commit_bytes: f64,
    /// Length of a commit: the window over as many.
    pub commit_us: f64,
    /// From a sync's submission to its completion, on average.
    pub sync_us: Option<f64>,
    /// Bytes that a record takes in the log, headers and padding included.
    pub log_bytes_per_record: f64,
    /// Bytes a second of the raw loop: write and fdatasync (`written`: write) of `commit_bytes`, on a recycled file.
    pub raw_bytes_per_s: f64,
    /// Records a second that this would allow.
    pub raw_records_per_s: f64,
    /// The server's records a second over those.
    pub rate_over_raw: f64,
    /// The acknowledgement's 99th percentile over `commit_us`.
    pub ack_p99_commits: Option<f64>,
    /// Write and fdatasync (`written`: write) of a recycled block of 4 KiB, one after the other.
    pub disk_us: Option<Latency>,
    /// The same at the low rate: with pauses, before and after what follows.
    pub disk_paced_us: Option<Latency>,
    /// Records a second offered to the idle server, one by one ...
    pub low_rate_per_s: u64,
    /// ... and how long until each was acknowledged ...
    pub low_rate_us: Option<Latency>,
    /// ... and until it was as `received` only: the way there and back, without a commit.
    pub low_rate_received_us: Option<Latency>,
    /// What a commit adds: the difference of the medians.
    pub commit_at_low_rate_us: Option<f64>,
    /// That over the median of `disk_us`.
    pub commit_over_disk: Option<f64>,
    /// That over the median of `disk_paced_us`.
    pub commit_over_paced_disk: Option<f64>,
}

/// `catchup`: a consumer that begins where the log does, while nothing is published.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CatchupOutcome {
    /// Records it got.
    pub records: u64,
    /// From its first to its last.
    pub seconds: f64,
    /// Records a second.
    pub records_per_s: f64,
    /// Payload bytes a second.
    pub bytes_per_s: f64,
    /// The server's CPU time for each.
    pub server_cpu_ns_per_record: f64,
    /// Bytes the server read from files for each payload byte of them: 0 where all came from memory.
    pub read_bytes_ratio: f64,
    /// The server's CPU time for each record taken, without a consumer.
    pub ingest_server_cpu_ns_per_record: f64,
    /// The same with a consumer at the tail, for each delivery: taking it in and passing it on.
    pub deliver_server_cpu_ns_per_delivery: f64,
    /// The difference: passing it on.
    pub tail_server_cpu_ns_per_record: f64,
    /// Catching up over passing on at the tail; `null` where the difference is lost in the noise.
    pub over_tail: Option<f64>,
    /// Catching up over taking in and passing on.
    pub over_deliver: f64,
}

/// `recovery`: a server's start on a log without its snapshots and indexes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RecoveryOutcome {
    /// Bytes that were published into the log, as it holds them.
    pub log_bytes: u64,
    /// Files of the log.
    pub segments: usize,
    /// Bytes of these files.
    pub file_bytes: u64,
    /// From the start of the process until it is ready.
    pub start_seconds: f64,
    /// The same on the same log as the server had left it, with snapshots and indexes.
    pub start_with_snapshot_seconds: f64,
    /// The difference: what recovery takes.
    pub recovery_seconds: f64,
    /// `log_bytes` over that.
    pub bytes_per_s: f64,
    /// Reading the same files from end to end, past the page cache.
    pub raw_bytes_per_s: f64,
    /// `bytes_per_s` over the smaller of `raw_bytes_per_s` and 1 GB/s.
    pub over_bound: f64,
    /// The most memory that was resident in that start.
    pub peak_rss_bytes: u64,
    /// The same of the start with snapshots.
    pub peak_rss_with_snapshot_bytes: u64,
    /// What recovery may use (`storage.recovery_buffer_bytes`).
    pub budget_bytes: u64,
    /// Records that a consumer from the log's start got afterwards ...
    pub records_read: u64,
    /// ... of so many that were acknowledged.
    pub records_acknowledged: u64,
}
