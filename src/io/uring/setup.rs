//! Making a `UringIo`: which tier, which flags, and what to say when the kernel will not.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use io_uring::types;

use crate::buf::Mapping;
use crate::ids::RegionId;
use crate::io::errors::SetupError;
use crate::io::files::Files;
use crate::io::spans::{Regions, SpanLists};
use crate::io::{Capabilities, host};
use crate::limits::{
    COMPLETIONS_PER_TICK, FILE_OPS_PER_SHARD, SHARDS_MAX, SHARED_BUFFERS_INCREMENTAL, SHARED_BUFFERS_PLAIN,
    SUBMISSIONS_PER_TICK,
};

use super::buffer_ring::BufferRing;
use super::emulate::Emulated;
use super::features::{self, Features};
use super::file_memory::FileMemory;
use super::ops::Ops;
use super::ring::{Ring, RingShape};
use super::sockets::Sockets;
use super::{Shared, UringIo};

/// Completion queue entries at most: 64 Ki of 16 bytes each.
const CQ_ENTRIES_MAX: u32 = 64 * 1024;
/// Sockets beyond connections: listeners, and connections that are only told to go away.
const SOCKETS_SLACK: u32 = 64;
/// Operations a connection may have outstanding at once: a receive or a read, a send, two polls, the cancels of the
/// receive and the polls, a shutdown. (It is closed when it has none.)
const OPS_PER_CONNECTION: u32 = 8;
/// Regions registered with the kernel to be received into, and pieces of those that files are written from.
const REGISTERED_REGIONS: u16 = 64 + 4096;

/// What a `UringIo` is made for.
#[derive(Debug, Clone)]
pub struct UringSpec {
    /// 1 or 2: this tier and no other. `None`: the best the kernel gives.
    pub tier: Option<u8>,
    /// The region received bytes of `ReceiveShared` come into. Attached by the constructor.
    pub shared: (RegionId, Arc<Mapping>),
    /// Bytes of it that are the shared ring, from its start.
    pub shared_bytes: u32,
    /// Connections at most.
    pub connections_max: u32,
    /// Entries of the submission queue, rounded up to a power of two.
    pub sq_entries: u32,
    /// Use none but these of what the kernel does (tests, and looking for the cause of a fault).
    pub limit: Option<Features>,
}

impl UringSpec {
    /// A spec with defaults for all but what only the caller knows.
    #[must_use]
    pub fn new(region: RegionId, shared: Arc<Mapping>, shared_bytes: u32, connections_max: u32) -> UringSpec {
        UringSpec {
            tier: None,
            shared: (region, shared),
            shared_bytes,
            connections_max,
            sq_entries: SUBMISSIONS_PER_TICK,
            limit: None,
        }
    }
}

/// A `SetupError` with what helps against this error.
pub(super) fn failed(doing: &'static str, source: io::Error) -> SetupError {
    let remedy = remedy(&source);
    SetupError { doing, source, remedy }
}

/// `kernel.io_uring_disabled`, where the kernel has it: 0 allows, 1 all but a group, 2 nobody.
pub(super) fn disabled_by_sysctl() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn remedy(error: &io::Error) -> String {
    let text = match (error.raw_os_error(), disabled_by_sysctl()) {
        (Some(libc::EPERM), Some(2)) => {
            "kernel.io_uring_disabled forbids it: sysctl -w kernel.io_uring_disabled=0"
        }
        (Some(libc::EPERM), Some(1)) => {
            "kernel.io_uring_disabled allows it to one group alone: sysctl -w kernel.io_uring_disabled=0, or run in the \
             group of kernel.io_uring_group"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a seccomp profile forbids it: docker run --security-opt seccomp=PROFILE.json with \
             io_uring_setup, io_uring_enter and io_uring_register allowed"
        }
        (Some(libc::ENOSYS), _) => {
            "the kernel has no io_uring, or a sandbox hides it: use Linux 5.6 or newer, allow the io_uring_* \
             system calls"
        }
        (Some(libc::ENOMEM), _) => {
            "raise the locked-memory limit: ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit"
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => "raise the limit of open files: ulimit -n, or LimitNOFILE=",
        (Some(libc::EINVAL), _) => "the kernel does not take these flags: use --io-tier 1",
        _ => "see `uringest doctor`",
    };
    text.to_owned()
}

/// Makes the backend.
pub(super) fn build(spec: UringSpec) -> Result<UringIo, SetupError> {
    let found = features::detect().map_err(|error| failed("probing io_uring", error))?;
    let found = spec.limit.map_or(found, |limit| found.and(limit));
    let (tier, features) = choose(spec.tier, found)?;
    let mut degradations = degradations(tier, spec.tier, &found);
    let shape = RingShape {
        sq_entries: spec.sq_entries.max(8).next_power_of_two(),
        cq_entries: cq_entries(spec.sq_entries, spec.connections_max),
        modern: tier >= 2,
    };
    let ring = Ring::new(shape).map_err(|error| failed("making the ring", error))?;
    let got = ring.parameters().cq_entries();
    if got < shape.cq_entries {
        degradations.push(format!(
            "the completion queue has {got} entries instead of {}: the kernel found no memory for more; bursts \
             may overflow it, which costs time and loses nothing (defragment memory, or lower the connection \
             limit)",
            shape.cq_entries
        ));
    }
    let sockets_max = spec.connections_max.saturating_add(SOCKETS_SLACK);
    let direct = features.direct_descriptors && register_files(&ring, sockets_max, &mut degradations);
    let (region, mapping) = spec.shared;
    let (shared, buffers) =
        shared_ring(&ring, tier, &features, region, &mapping, spec.shared_bytes, sockets_max)
            .map_err(|error| failed("laying out the shared receive ring", error))?;
    let region_slots = register_region_table(&ring, &features, &mut degradations);
    let event = host::event().map_err(|error| failed("making the wake-up descriptor", error))?;
    let capabilities = Capabilities {
        backend: "uring",
        tier,
        incremental_buffers: tier == 1 || features.incremental_buffers,
        shared_buffers: buffers,
        registered_regions: region_slots.is_some() && features.registered_buffers,
        ring_messages: features.ring_messages,
        direct_descriptors: direct,
    };
    let ops_max = sockets_max.saturating_mul(OPS_PER_CONNECTION).saturating_add(FILE_OPS_PER_SHARD);
    // Each operation has one last completion, so this is never too little.
    let ready_max = COMPLETIONS_PER_TICK + ops_max as usize;
    let mut regions = Regions::default();
    regions.attach(region, mapping, None);
    let mut io = UringIo {
        ring,
        shared,
        regions,
        lists: SpanLists::new(),
        ops: Ops::new(spec.connections_max, ops_max),
        sockets: Sockets::new(sockets_max, direct),
        files: Files::default(),
        features,
        tier,
        ready: VecDeque::with_capacity(ready_max + COMPLETIONS_PER_TICK),
        ready_max,
        unarmed: VecDeque::with_capacity(COMPLETIONS_PER_TICK),
        region_slots,
        file_memory: FileMemory::default(),
        event: Arc::new(event),
        peers: Vec::with_capacity(SHARDS_MAX),
        timeout: types::Timespec::new(),
        uncancelled: VecDeque::with_capacity(COMPLETIONS_PER_TICK),
        closing: false,
        fatal: None,
        capabilities,
        overflows: 0,
        unknown: 0,
        degradations,
    };
    io.watch_event();
    Ok(io)
}

/// Room for two completions a connection and a tick's worth besides.
fn cq_entries(sq_entries: u32, connections: u32) -> u32 {
    let slack = sq_entries.saturating_mul(2).max(256);
    connections.saturating_mul(2).saturating_add(slack).min(CQ_ENTRIES_MAX).next_power_of_two()
}

/// The tier, and the features it uses.
fn choose(forced: Option<u8>, found: Features) -> Result<(u8, Features), SetupError> {
    let missing = found.missing_for_tier_2();
    let tier = match forced {
        None if missing.is_empty() => 2,
        None | Some(1) => 1,
        Some(2) if missing.is_empty() => 2,
        Some(2) => {
            return Err(SetupError {
                doing: "choosing tier 2",
                source: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
                remedy: format!("this kernel has no {}: use --io-tier 1", missing.join(", ")),
            });
        }
        Some(_) => {
            return Err(SetupError {
                doing: "choosing a tier",
                source: io::Error::from_raw_os_error(libc::EINVAL),
                remedy: "the io_uring backend has tiers 1 and 2".to_owned(),
            });
        }
    };
    let features = if tier == 1 { found.without_tier_2() } else { found };
    Ok((tier, features))
}

/// What this kernel lacks, where the caller has not asked for less anyway.
fn degradations(tier: u8, forced: Option<u8>, found: &Features) -> Vec<String> {
    let mut said = Vec::new();
    let missing = found.missing_for_tier_2();
    if tier == 1 && forced.is_none() {
        said.push(format!(
            "tier 1: this kernel has no {}; small senders cost more for each record (Linux 6.1 or newer)",
            missing.join(", ")
        ));
    }
    if tier == 2 && !found.direct_descriptors {
        said.push(
            "sockets are used by descriptor, not by index: this kernel lets go of closed ones late (Linux 6.13 or \
             newer)"
                .to_owned(),
        );
    }
    said
}

fn register_files(ring: &Ring, sockets: u32, degradations: &mut Vec<String>) -> bool {
    let Err(error) = ring.submitter().register_files_sparse(sockets) else { return true };
    degradations.push(format!(
        "sockets are used by descriptor, not by index: a table of {sockets} could not be registered ({error}); \
         raise the limit of open files (ulimit -n, or LimitNOFILE=) above it"
    ));
    false
}

fn shared_ring(
    ring: &Ring,
    tier: u8,
    features: &Features,
    region: RegionId,
    mapping: &Arc<Mapping>,
    bytes: u32,
    receivers: u32,
) -> io::Result<(Shared, u16)> {
    if tier == 1 {
        let buffers = SHARED_BUFFERS_INCREMENTAL;
        return Ok((Shared::Emulated(Emulated::new(region, bytes, buffers, receivers)), buffers));
    }
    let incremental = features.incremental_buffers;
    let buffers = if incremental { SHARED_BUFFERS_INCREMENTAL } else { SHARED_BUFFERS_PLAIN };
    let made = BufferRing::register(ring, Arc::clone(mapping), bytes, buffers, incremental)?;
    Ok((Shared::Kernel(made), buffers))
}

fn register_region_table(
    ring: &Ring,
    features: &Features,
    degradations: &mut Vec<String>,
) -> Option<Vec<u16>> {
    if !features.registered_buffers {
        degradations.push(
            "receive regions are not registered with the kernel: they are read with RECV, about 10 % dearer \
             (Linux 6.4 or newer)"
                .to_owned(),
        );
    }
    if !features.buffer_updates {
        return None;
    }
    match features::register_empty_buffers(ring, u32::from(REGISTERED_REGIONS)) {
        Ok(()) => Some((0..REGISTERED_REGIONS).rev().collect()),
        Err(error) => {
            degradations.push(format!(
                "no table of registered regions ({error}): they are read with RECV, and files written page by page"
            ));
            None
        }
    }
}
