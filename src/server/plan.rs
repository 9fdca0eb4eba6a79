//! What a configuration makes: regions and their ids, tables, queues, and the bytes of all of them.

use crate::config::{Config, show_bytes};
use crate::control::Degraded;
use crate::control::api::{MemoryItem, MemoryPlan};
use crate::ids::{RegionId, ShardId};
use crate::io::host;
use crate::limits::{
    CHANNELS_PER_CONNECTION, CONTROL_BLOCK_BYTES, LOG_WRITE_MEMORY_BYTES, MESH_RING_MESSAGES,
    OPENED_RING_BYTES, PARTITIONS_MAX, SEND_MEMORY_BYTES, SHARED_RING_BYTES, SUBSCRIPTIONS_PER_CONNECTION,
};
use crate::mesh::{TOLD_NO_MAX, mesh_bytes};
use crate::metrics::CounterPage;
use crate::shard::messages::Message;
use crate::shard::{ShardLimits, tables};

/// Slots of a shard's table of connections beyond the server's maximum: those who do not fit are told why.
const SLOTS_TO_REFUSE_IN: u32 = TOLD_NO_MAX;

/// Channels and subscriptions of one shard at least, for few connections that use many.
const HANDLES_MIN: u32 =
    2 * if CHANNELS_PER_CONNECTION > SUBSCRIPTIONS_PER_CONNECTION {
        CHANNELS_PER_CONNECTION
    } else {
        SUBSCRIPTIONS_PER_CONNECTION
    } * 16;
/// Descriptors beside connections: rings, events, listeners, admin connections, files.
const OPEN_FILES_BESIDES: u64 = 1024;
/// Descriptors of one partition of kind `log`: what is written to, what comes next, and some that are read.
const OPEN_FILES_A_LOG: u64 = 6;
/// Control blocks of one shard at least.
const CONTROL_BLOCKS_MIN: u32 = 1024;

/// What a configuration makes; see the module.
#[derive(Debug, Clone)]
pub struct ServerPlan {
    /// Bounds of each shard.
    pub limits: ShardLimits,
    /// How many.
    pub shards: u16,
    /// Bytes of each shard's shared receive ring.
    pub shared_bytes: u32,
    /// Bytes of each bulk region.
    pub bulk_bytes: u32,
    /// Bytes of each shard's arena for frames that arrive in pieces.
    pub straddle_bytes: u32,
    /// Some port speaks TLS: each shard has what records are opened and sealed to.
    pub secured: bool,
    /// Everything, with its bytes.
    pub memory: MemoryPlan,
}

/// The regions of one shard's receive memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Region {
    Shared,
    Straddle,
    Control,
    /// Where records are opened to.
    Opened,
    /// Where records are sealed to.
    Sealed,
    /// Small flushes of logs, and what lagging consumers read.
    Log,
    Bulk(u16),
}

impl ServerPlan {
    /// The plan of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> ServerPlan {
        let frame_bytes_max = config.limits.frame_bytes_max;
        // Any shard may come to have all of them, and needs a few slots more to say no in.
        let connections = config.limits.connections_max + SLOTS_TO_REFUSE_IN;
        let handles = config.limits.connections_max.saturating_mul(2).max(HANDLES_MIN);
        let limits = ShardLimits {
            frame_bytes_max,
            record_bytes_max: config.limits.record_bytes_max,
            connections,
            channels: handles,
            subscriptions: handles,
            handshake_timeout_ms: config.limits.handshake_timeout_ms,
            frame_timeout_ms: config.limits.frame_timeout_ms,
            idle_timeout_ms: config.limits.idle_timeout_ms,
            control_blocks: connections.saturating_add(CONTROL_BLOCKS_MIN),
            bulk_regions: config.memory.bulk_regions,
            log_snapshot_bytes: config.storage.snapshot_bytes,
            log_read_bytes: config.storage.read_buffer_bytes,
        };
        let mut plan = ServerPlan {
            limits,
            shards: config.shards,
            // A partial frame of the largest size, and room to receive for others.
            shared_bytes: SHARED_RING_BYTES.max((4 * frame_bytes_max).next_power_of_two()),
            bulk_bytes: config.bulk_region_bytes(),
            straddle_bytes: config.memory.straddle_bytes,
            secured: config.tls.is_on(),
            memory: MemoryPlan::default(),
        };
        plan.memory = plan.items(config);
        plan
    }

    /// Bytes of each shard's control blocks.
    #[must_use]
    pub fn control_bytes(&self) -> u64 {
        u64::from(self.limits.control_blocks) * u64::from(CONTROL_BLOCK_BYTES)
    }

    /// Regions for bulk connections of each shard: one that speaks TLS needs two.
    pub(super) fn bulk_regions(&self) -> u16 {
        self.limits.bulk_regions * if self.secured { 2 } else { 1 }
    }

    /// Bytes of the ring that each shard opens records to.
    pub(super) fn opened_bytes(&self) -> u32 {
        OPENED_RING_BYTES.max(self.shared_bytes)
    }

    /// Bytes of the memory that each shard seals records to.
    pub(super) fn sealed_bytes(&self) -> u32 {
        SEND_MEMORY_BYTES.max(8 * self.limits.frame_bytes_max.next_power_of_two())
    }

    /// Bytes of each shard's memory for logs.
    pub(super) fn log_bytes(&self) -> u32 {
        LOG_WRITE_MEMORY_BYTES + self.limits.log_read_bytes
    }

    /// The id of a shard's region; the same on every shard.
    pub(super) fn region(&self, shard: ShardId, region: Region) -> RegionId {
        let number = match region {
            Region::Shared => 0,
            Region::Straddle => 1,
            Region::Control => 2,
            Region::Opened => 3,
            Region::Sealed => 4,
            Region::Log => 5,
            Region::Bulk(number) => 6 + u32::from(number),
        };
        RegionId(u32::from(shard.0) * self.regions_of_a_shard() + number)
    }

    /// The first id that no shard's receive memory has.
    pub(super) fn first_ring_region(&self) -> RegionId {
        RegionId(u32::from(self.shards) * self.regions_of_a_shard())
    }

    fn regions_of_a_shard(&self) -> u32 {
        6 + u32::from(self.bulk_regions())
    }

    fn items(&self, config: &Config) -> MemoryPlan {
        let mut items = Vec::new();
        let mut add = |what: &str, count: u64, bytes_each: u64, setting: &str| {
            let bytes = count.saturating_mul(bytes_each);
            items.push(MemoryItem { what: what.into(), count, bytes_each, bytes, setting: setting.into() });
        };
        let shards = u64::from(self.shards);
        let bulk = u64::from(self.bulk_regions());
        add("partitions' rings", 1, config.memory.retention_budget_bytes, "memory.retention_budget_bytes");
        add("shared receive rings", shards, self.shared_bytes.into(), "limits.frame_bytes_max");
        add("bulk receive regions", shards * bulk, self.bulk_bytes.into(), "memory.bulk_regions");
        add("arenas for frames in pieces", shards, self.straddle_bytes.into(), "memory.straddle_bytes");
        if self.secured {
            add("rings of opened records", shards, self.opened_bytes().into(), "limits.frame_bytes_max");
            add("memory for sealed records", shards, self.sealed_bytes().into(), "tls");
        }
        add("memory for logs on their way", shards, self.log_bytes().into(), "limits.frame_bytes_max");
        let blocks = shards * u64::from(self.limits.control_blocks);
        add("blocks for control frames", blocks, CONTROL_BLOCK_BYTES.into(), "limits.connections_max");
        for table in tables(&self.limits) {
            let what = format!("table of {}", table.what);
            add(&what, shards * table.entries, table.entry_bytes, "limits.connections_max");
        }
        let peers = usize::from(self.shards) + 1;
        let mesh = mesh_bytes::<Message>(peers, MESH_RING_MESSAGES) as u64;
        add("rings between shards", 1, mesh, "shards");
        add("counter pages", shards, size_of::<CounterPage>() as u64, "shards");
        let total_bytes = items.iter().map(|item| item.bytes).fold(0, u64::saturating_add);
        MemoryPlan { items, total_bytes }
    }
}

/// The plan as a table for people, for `serve --explain-memory`.
#[must_use]
pub fn explain(plan: &MemoryPlan) -> String {
    let mut out = format!("{:<46} {:>9} {:>12} {:>12}  {}\n", "", "count", "each", "bytes", "setting");
    for item in &plan.items {
        out += &format!(
            "{:<46} {:>9} {:>12} {:>12}  {}\n",
            item.what,
            item.count,
            show_bytes(item.bytes_each),
            show_bytes(item.bytes),
            item.setting
        );
    }
    out + &format!("{:<46} {:>9} {:>12} {:>12}\n", "total", "", "", show_bytes(plan.total_bytes))
        + "Addresses are reserved at the start. Pages of tables and of blocks are touched as they are first used, \
           partitions' rings when their topic is made; nothing grows beyond this. Rings and regions are mapped twice, \
           back to back: the resident size of the process counts them twice, the host and a cgroup once.\n"
}

/// What the host has less of than the plan may come to need.
pub(super) fn shortages(plan: &MemoryPlan, config: &Config) -> Vec<Degraded> {
    let Some(host_bytes) = memory_of_host() else { return Vec::new() };
    if plan.total_bytes <= host_bytes {
        return Vec::new();
    }
    let detail = format!(
        "the plan may come to take {} and this host or container has {}: lower memory.retention_budget_bytes \
         (now {}) or limits.connections_max, or give it more; `uringest serve --explain-memory` shows each part",
        show_bytes(plan.total_bytes),
        show_bytes(host_bytes),
        show_bytes(config.memory.retention_budget_bytes)
    );
    vec![Degraded { key: "memory_overcommitted", detail }]
}

/// What the limit on open files leaves.
pub(super) struct OpenFiles {
    /// Connections that may be let in.
    pub connections_max: u32,
    /// What to say where that is fewer than configured.
    pub degraded: Option<Degraded>,
}

/// Raises the limit on open files to what the connections and logs may need. Where it stays lower, connections have to
/// leave the rest of the server what it needs: without a descriptor a log could not go on, nor `/readyz` answer.
pub(super) fn open_files(config: &Config, logs: usize) -> OpenFiles {
    let configured = config.limits.connections_max;
    let connections = u64::from(configured) + OPEN_FILES_BESIDES;
    let wanted = connections + OPEN_FILES_A_LOG * logs as u64;
    // Topics that come later have files too.
    let detail = match host::raise_open_files(connections + OPEN_FILES_A_LOG * u64::from(PARTITIONS_MAX)) {
        Ok(limit) if limit >= wanted => return OpenFiles { connections_max: configured, degraded: None },
        Ok(limit) => {
            let connections_max = connections_within(limit, configured, logs);
            let detail = format!(
                "{limit} files may be open, and limits.connections_max and {logs} partitions of kind log need \
                 {wanted}: {connections_max} connections are let in at once, so that the log and the admin port \
                 have theirs; raise the hard limit (ulimit -Hn, LimitNOFILE=), or lower limits.connections_max"
            );
            let degraded = Some(Degraded { key: "open_files_limited", detail });
            return OpenFiles { connections_max, degraded };
        }
        Err(error) => format!("the limit on open files cannot be raised ({error}): set LimitNOFILE={wanted}"),
    };
    let degraded = Some(Degraded { key: "open_files_limited", detail });
    OpenFiles { connections_max: configured, degraded }
}

/// Connections that so few open files allow: what others do not need, and half of them where that is little.
pub(super) fn connections_within(limit: u64, configured: u32, logs: usize) -> u32 {
    let others = OPEN_FILES_BESIDES + OPEN_FILES_A_LOG * logs as u64;
    let left = limit.saturating_sub(others).max(limit / 2);
    u32::try_from(left).unwrap_or(u32::MAX).min(configured)
}

/// The host's memory, or the cgroup's limit where that is less.
fn memory_of_host() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let total = total.saturating_mul(1024);
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
    Some(limit.map_or(total, |limit| limit.min(total)))
}
