//! The admin API's JSON: what the routes answer and take. Names are a contract; fields are only added.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::http::Response;
use crate::metrics::Snapshot;
use crate::partition::{ConsumerStatus, PartitionStatus};
use crate::proto::header::AckLevel;
use crate::topic::{Overflow, TopicKind};

/// `POST /v1/topics`. What is absent is taken from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTopic {
    /// As clients name it.
    pub name: String,
    /// 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// `memory` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<TopicKind>,
    /// Bytes each partition keeps: of kind `log` on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<u64>,
    /// What happens when a partition is full of what a subscriber has yet to receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow: Option<Overflow>,
    /// Of kind `log` alone, like the next: the least level a producer may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<AckLevel>,
    /// Records older than this may go; 0: age takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// Length of each file of a partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_bytes: Option<u64>,
}

/// What a topic of kind `log` says beside the others' fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDescription {
    /// The least level a producer may ask for.
    pub durability: AckLevel,
    /// Records older than this may go; 0: age takes none.
    pub retention_ms: u64,
    /// Length of each file of a partition.
    pub segment_bytes: u64,
    /// Memory of each partition.
    pub ring_bytes: u64,
}

/// `GET /v1/topics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicList {
    /// In the order of their names.
    pub topics: Vec<TopicSummary>,
}

/// One topic of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSummary {
    /// As clients name it.
    pub name: String,
    /// See [`TopicKind`].
    pub kind: TopicKind,
    /// See [`Overflow`].
    pub overflow: Overflow,
    /// Bytes each partition keeps.
    pub retention_bytes: u64,
    /// Of kind `log` alone.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogDescription>,
    /// Publishes are refused.
    pub paused: bool,
    /// How many.
    pub partitions: u32,
}

/// `GET /v1/topics/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDescription {
    /// As clients name it.
    pub name: String,
    /// See [`TopicKind`].
    pub kind: TopicKind,
    /// See [`Overflow`].
    pub overflow: Overflow,
    /// Bytes each partition keeps.
    pub retention_bytes: u64,
    /// Of kind `log` alone.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogDescription>,
    /// Publishes are refused.
    pub paused: bool,
    /// In the order of their numbers.
    pub partitions: Vec<PartitionDescription>,
}

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionDescription {
    /// Its number within the topic.
    pub id: u32,
    /// Its id in the server: the `channel` of delivered frames.
    pub partition_id: u32,
    /// Of kind `log`: its closed segments, and the length of all its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_segments: Option<u64>,
    /// See there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// The oldest offset kept.
    pub log_start_offset: u64,
    /// The offset the next record gets.
    pub log_end_offset: u64,
    /// The shard that owns it.
    pub shard: u16,
    /// Bytes held.
    pub bytes: u64,
    /// Records taken by retention or overflow before every subscriber had them.
    pub dropped_records: u64,
    /// Who is subscribed.
    pub consumers: Vec<ConsumerStatus>,
    /// Committed offsets by consumer name.
    pub committed: BTreeMap<String, u64>,
}

impl From<PartitionStatus> for PartitionDescription {
    fn from(status: PartitionStatus) -> Self {
        PartitionDescription {
            id: status.id,
            partition_id: status.partition_id,
            closed_segments: None,
            disk_bytes: None,
            log_start_offset: status.log_start_offset,
            log_end_offset: status.log_end_offset,
            shard: status.shard,
            bytes: status.bytes,
            dropped_records: status.dropped_records,
            consumers: status.consumers,
            committed: status.committed.into_iter().collect(),
        }
    }
}

/// `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// The server takes and delivers records.
    pub ready: bool,
    /// Its state in the life cycle.
    pub state: String,
    /// Why it is not ready.
    pub reasons: Vec<String>,
    /// What all shards run on, and why.
    pub io: IoStatus,
    /// What works worse than it could on this host.
    pub degraded: Vec<Degradation>,
}

/// What all shards run on, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoStatus {
    /// `uring` or `epoll`.
    pub backend: String,
    /// 1 or 2 for uring, 0 for epoll.
    pub tier: u8,
    /// Why this one, for people.
    pub because: String,
}

/// For people: `io_uring tier 2` or `epoll`.
impl fmt::Display for IoStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tier {
            0 => f.write_str(&self.backend),
            tier => write!(f, "io_{} tier {tier}", self.backend),
        }
    }
}

/// Something that works worse than it could, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degradation {
    /// A stable name.
    pub key: String,
    /// What it costs and what to do.
    pub detail: String,
}

/// `GET /v1/server`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The program's version.
    pub version: String,
    /// The commit it was built from, or `unknown`.
    pub commit: String,
    /// In the life cycle.
    pub state: String,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    /// The data protocol's address.
    pub data_address: String,
    /// The address of the same in plain text, beside one that speaks TLS.
    #[serde(default)]
    pub plaintext_address: Option<String>,
    /// What it shows to clients, where it speaks TLS.
    #[serde(default)]
    pub tls: Option<TlsStatus>,
    /// The admin API's address.
    pub admin_address: String,
    /// What all shards run on, and why.
    pub io: IoStatus,
    /// In the order of their numbers.
    pub shards: Vec<ShardStatus>,
    /// What works worse than it could on this host.
    pub degraded: Vec<Degradation>,
    /// Memory fixed at start-up.
    pub memory: MemoryPlan,
    /// Of `memory.retention_budget_bytes`.
    pub retention: RetentionStatus,
    /// Where and how topics of kind `log` are kept.
    #[serde(default)]
    pub log: LogStatus,
    /// Topics in the catalogue.
    pub topics: u64,
    /// Their partitions.
    pub partitions: u64,
}

/// What the data port shows to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsStatus {
    /// In the order of the configuration.
    pub certificates: Vec<CertificateStatus>,
    /// Why the files as they are now are not what is in force.
    pub fault: Option<String>,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Where it was read.
    pub file: String,
    /// Its DNS names.
    pub names: Vec<String>,
    /// The last moment in which it is good; absent for one without an end.
    pub expires: Option<String>,
}

/// What a shard runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its number.
    pub id: u16,
    /// `uring` or `epoll`.
    pub backend: String,
    /// 1 or 2 for uring.
    pub tier: u8,
    /// The shared ring's buffers are consumed incrementally.
    pub incremental_buffers: bool,
    /// Buffers of the shared ring.
    pub shared_buffers: u16,
    /// Regions are registered with the kernel.
    pub registered_regions: bool,
    /// Shards wake each other through their rings.
    pub ring_messages: bool,
    /// Sockets are used by index.
    pub direct_descriptors: bool,
}

/// Where and how topics of kind `log` are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogStatus {
    /// The directory.
    pub dir: String,
    /// Its files bypass the page cache.
    pub direct: bool,
    /// Length of all files.
    pub files_bytes: u64,
    /// What they may come to, where that is bounded.
    pub budget_bytes: Option<u64>,
    /// Partitions that have no file to go on in.
    pub waiting_partitions: u64,
}

/// The retention budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionStatus {
    /// What all rings may take.
    pub budget_bytes: u64,
    /// What they take.
    pub used_bytes: u64,
}

/// Memory fixed at start-up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// Every region, table and queue.
    pub items: Vec<MemoryItem>,
    /// Their sum, with the whole retention budget.
    pub total_bytes: u64,
}

/// One kind of region, table or queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryItem {
    /// What it is for.
    pub what: String,
    /// How many there are.
    pub count: u64,
    /// Of one.
    pub bytes_each: u64,
    /// Of all.
    pub bytes: u64,
    /// The setting that decides, where there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub setting: String,
}

/// `GET /v1/snapshot`: everything that `top` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerSnapshot {
    /// In the life cycle.
    pub state: String,
    /// What all shards run on, and why.
    pub io: IoStatus,
    /// What works worse than it could on this host.
    pub degraded: Vec<Degradation>,
    /// Counters, summed and by shard.
    pub metrics: Snapshot,
    /// The process.
    pub process: ProcessStatus,
    /// Every topic with its consumers' lags.
    pub topics: Vec<TopicDescription>,
}

/// The process's resources.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Processor time, user and system.
    pub cpu_seconds: f64,
    /// Threads alive.
    pub threads: u64,
    /// File descriptors open.
    pub open_fds: u64,
}

/// `POST /v1/server/...`: the state afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// In the life cycle.
    pub state: String,
}

/// `POST /v1/server/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Settings that differ from the running server's and are taken with its next start.
    pub restart_needed: Vec<String>,
}

/// `POST /v1/backup`, where the default will not do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// Time in which the lease has to be renewed.
    pub lease_ms: Option<u64>,
}

/// The answer: what there is to copy, while the lease lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPlan {
    /// Names the backup.
    pub lease: String,
    /// Time in which it has to be renewed.
    pub lease_ms: u64,
    /// When it was begun.
    pub created: String,
    /// The server's version.
    pub version: String,
    /// Where the files are, on the server's host.
    pub log_dir: String,
    /// A file that is there for as long as the lease lasts.
    pub marker: String,
    /// The text of `catalogue.json` as it belongs to the backup.
    pub catalogue: String,
    /// Every partition of kind `log`.
    pub partitions: Vec<BackupPartition>,
}

/// One partition of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPartition {
    /// The topic's name.
    pub topic: String,
    /// Its number within the topic.
    pub id: u32,
    /// Its id in the server.
    pub partition_id: u32,
    /// The first offset there is.
    pub log_start_offset: u64,
    /// The offset behind the last.
    pub log_end_offset: u64,
    /// In the order in which they are to be copied.
    pub files: Vec<BackupFile>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// What is copied, below `log_dir`.
    pub from: String,
    /// What it is in a log.
    pub name: String,
    /// How much of it holds something.
    pub bytes: u64,
    /// Its length; the rest is zeros.
    pub file_bytes: u64,
}

/// `POST /v1/backup/LEASE`: what has been copied, and may go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRenewal {
    /// Ids of partitions in the server.
    #[serde(default)]
    pub done: Vec<u32>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLease {
    /// Names the backup.
    pub lease: String,
    /// Time in which it has to be renewed.
    pub lease_ms: u64,
}

/// A refusal: `{"error":{"code":...,"message":...}}` with its HTTP status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP's.
    pub status: u16,
    /// Stable, for machines.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl ApiError {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        ApiError { status, code, message: message.into() }
    }

    pub(super) fn response(&self) -> Response {
        Response::error(self.status, self.code, &self.message)
    }
}
