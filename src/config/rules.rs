//! What must hold between settings, checked once all of them are read.

use std::net::SocketAddr;

use super::codec::show_bytes;
use super::layers::{Fault, Origin, Origins};
use super::{Config, TopicConfig, storage, tls};
use crate::access::{Access, AccessError};
use crate::io::choice::{self, IoChoice};
use crate::limits;
use crate::topic::TopicKind;

/// Bytes of a frame that are not payload when it carries one record: header, table, vectors, padding.
const FRAME_OVERHEAD_BYTES: u32 = 256;

const _: () = assert!(FRAME_OVERHEAD_BYTES < limits::FRAME_BYTES_MAX_FLOOR / 2);

/// Every rule; a fault names the setting to change.
pub(super) fn check(config: &Config, origins: &Origins, faults: &mut Vec<Fault>) {
    let mut fault = |key: &str, message: String| {
        let origin = origins.get(key).cloned().unwrap_or(Origin::Default);
        faults.push(Fault { key: key.to_owned(), origin, message });
    };
    backend(config, &mut fault);
    sizes(config, &mut fault);
    addresses(config, &mut fault);
    tls::check(config, &mut fault);
    tls::check_exposure(config, &mut fault);
    rings(config, &mut fault);
    storage::check(config, &mut fault);
    if let Err(error) = tenants_access(config) {
        fault("tenant", error.to_string());
    }
}

fn backend(config: &Config, fault: &mut impl FnMut(&str, String)) {
    if config.io == IoChoice::Epoll && config.io_tier.is_some() {
        let message = "tiers are io_uring's and io is epoll: leave io_tier out, or set io = \"uring\"";
        fault("io_tier", message.to_owned());
    } else if config.io_tier.is_some() && !choice::is_built("uring") {
        fault("io_tier", choice::not_built("uring"));
    } else if config.io == IoChoice::Uring && !choice::is_built("uring") {
        fault("io", choice::not_built("uring"));
    }
    if config.io == IoChoice::Epoll && !choice::is_built("epoll") {
        fault("io", choice::not_built("epoll"));
    }
}

fn tenants_access(config: &Config) -> Result<Access, AccessError> {
    if config.tenant.is_empty() {
        Ok(Access::open_to_all())
    } else {
        Access::from_config(config.tenant.clone())
    }
}

fn sizes(config: &Config, fault: &mut impl FnMut(&str, String)) {
    let (frame, record) = (config.limits.frame_bytes_max, config.limits.record_bytes_max);
    let frame_text = show_bytes(frame.into());
    if record > frame - FRAME_OVERHEAD_BYTES {
        let text = show_bytes(record.into());
        let room = frame - FRAME_OVERHEAD_BYTES;
        fault(
            "limits.record_bytes_max",
            format!(
                "{text} does not fit a frame: limits.frame_bytes_max is {frame_text}, which leaves {room} bytes for a record"
            ),
        );
    }
    let straddle = config.memory.straddle_bytes;
    if !straddle.is_power_of_two() {
        fault(
            "memory.straddle_bytes",
            format!("{} is not a power of two; as 16MiB", show_bytes(straddle.into())),
        );
    }
    if straddle / 4 < frame {
        let text = show_bytes(straddle.into());
        fault(
            "memory.straddle_bytes",
            format!("{text} is less than 4 frames of limits.frame_bytes_max ({frame_text})"),
        );
    }
    if config.limits.connections_per_address > config.limits.connections_max
        && config.limits.connections_per_address != limits::CONNECTIONS_MAX_DEFAULT
    {
        let message = format!("is more than limits.connections_max ({})", config.limits.connections_max);
        fault("limits.connections_per_address", message);
    }
}

/// What is listened on beside the shards' own ports.
fn listened(config: &Config) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let plaintext = config.plaintext_listen.map(|address| ("plaintext_listen", address));
    [("listen", config.listen), ("admin", config.admin)].into_iter().chain(plaintext)
}

fn addresses(config: &Config, fault: &mut impl FnMut(&str, String)) {
    let taken = |one: SocketAddr, other: SocketAddr| {
        let anywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
        one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || anywhere)
    };
    if taken(config.admin, config.listen) {
        fault("admin", format!("{} is also the data port (listen)", config.admin));
    }
    for (name, address) in listened(config).filter(|(name, _)| *name != "plaintext_listen") {
        if let Some(plaintext) = config.plaintext_listen
            && taken(plaintext, address)
        {
            fault("plaintext_listen", format!("{plaintext} is also the port of {name} ({address})"));
        }
    }
    let Some(base) = config.shard_ports else {
        if config.advertise_host.is_some() {
            fault("advertise_host", "has no use without shard_ports".to_owned());
        }
        return;
    };
    let last = u32::from(base) + u32::from(config.shards) - 1;
    if last > u32::from(u16::MAX) {
        fault("shard_ports", format!("{base} leaves no port for each of {} shards", config.shards));
    }
    for (name, address) in listened(config) {
        if (u32::from(base)..=last).contains(&u32::from(address.port())) {
            fault("shard_ports", format!("{base} to {last} contains the port of {name} ({address})"));
        }
    }
    if config.listen.ip().is_unspecified() && config.advertise_host.is_none() {
        let message = format!("needs advertise_host: clients cannot be sent to {}", config.listen.ip());
        fault("shard_ports", message);
    }
}

fn rings(config: &Config, fault: &mut impl FnMut(&str, String)) {
    let frames = 4 * u64::from(config.limits.frame_bytes_max);
    let default = config.topics.retention_bytes;
    if default < frames {
        let text = show_bytes(default);
        fault("topics.retention_bytes", format!("{text} is less than 4 frames of limits.frame_bytes_max"));
    }
    let budget = config.memory.retention_budget_bytes;
    let auto = (config.topics.auto_create_kind, u64::from(config.topics.auto_create_partitions));
    if config.topics.auto_create && config.ring_bytes(auto.0, None).saturating_mul(auto.1) > budget {
        let message = format!(
            "{} has no room for one topic made by use ({} partitions of {})",
            show_bytes(budget),
            auto.1,
            show_bytes(config.ring_bytes(auto.0, None))
        );
        fault("memory.retention_budget_bytes", message);
    }
    let ring = |topic: &TopicConfig| config.ring_bytes(topic.kind, topic.retention_bytes);
    let said = |topic: &&TopicConfig| topic.kind != TopicKind::Log;
    for topic in config.topic.iter().filter(said).filter(|topic| ring(topic) < frames) {
        let text = show_bytes(ring(topic));
        fault(
            &format!("topic {}", topic.name),
            format!("retention_bytes {text} is less than 4 frames of limits.frame_bytes_max"),
        );
    }
    let total = |topic: &TopicConfig| ring(topic).saturating_mul(topic.partitions.into());
    let sum = config.topic.iter().map(total).fold(0, u64::saturating_add);
    if sum > budget {
        let text = show_bytes(budget);
        fault(
            "memory.retention_budget_bytes",
            format!(
                "{text} is less than the rings of the topics listed as [[topic]] take together ({})",
                show_bytes(sum)
            ),
        );
    }
    let partitions: u32 = config.topic.iter().map(|topic| topic.partitions).sum();
    if partitions > limits::PARTITIONS_MAX {
        fault("topic", format!("{partitions} partitions are listed; allowed: {}", limits::PARTITIONS_MAX));
    }
}

impl Config {
    /// Tenants, tokens and rules; without a `[[tenant]]` everything is open to all.
    #[must_use]
    pub fn tenants_access(&self) -> Access {
        tenants_access(self).expect("checked when the configuration was read")
    }

    /// Bytes of the ring of each partition of a topic of this kind, where the topic asks for `retention_bytes`
    /// (`None`: the default of its kind).
    #[must_use]
    pub fn ring_bytes(&self, kind: TopicKind, retention_bytes: Option<u64>) -> u64 {
        let default = match kind {
            TopicKind::Memory => self.topics.retention_bytes,
            // What the topic keeps lies on the disk.
            TopicKind::Log => return self.topics.log_ring_bytes,
            TopicKind::Live => limits::LAGGING_BYTES_DEFAULT.max(4 * u64::from(self.limits.frame_bytes_max)),
        };
        retention_bytes.unwrap_or(default)
    }

    /// Bytes of one receive region: the largest frame and one read of the same size, a power of two.
    #[must_use]
    pub fn bulk_region_bytes(&self) -> u32 {
        let needed = (2 * self.limits.frame_bytes_max).next_power_of_two();
        needed.max(limits::BULK_REGION_BYTES)
    }
}
