//! What this host's io_uring is: looked at, not judged (`io::probe` does that).

use std::collections::BTreeMap;

use io_uring::opcode;
use serde::Serialize;

use crate::buf::{Mapping, Pages};
use crate::limits::{BULK_REGION_BYTES, BULK_REGIONS_DEFAULT};

use super::features::{self, Features};
use super::ring::{Ring, RingShape};
use super::setup::{disabled_by_sysctl, failed};

/// What a host's io_uring gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UringReport {
    /// The tier the backend would have: 2, 1, or 0 for none.
    pub tier: u8,
    /// Whether there is an io_uring, or why not.
    pub io_uring: Availability,
    /// Operations the kernel lists, by name, of those this server may use.
    pub operations: BTreeMap<&'static str, bool>,
    /// What works, each tried; absent without io_uring.
    pub features: Option<Features>,
    /// What the kernel said when receive regions, as many as by default, were registered; absent: it did.
    pub regions_error: Option<String>,
}

/// Whether there is an io_uring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Availability {
    /// A ring could be made.
    pub available: bool,
    /// What the kernel said otherwise.
    pub error: Option<String>,
    /// What would help.
    pub remedy: Option<String>,
    /// `kernel.io_uring_disabled`, where the kernel has it.
    pub disabled_sysctl: Option<u8>,
}

/// Looks at this host. Takes some ten milliseconds, and leaves nothing behind.
#[must_use]
pub fn look() -> UringReport {
    let features = features::try_all().map_err(|error| failed("making a ring", error));
    let io_uring = Availability {
        available: features.is_ok(),
        error: features.as_ref().err().map(|error| error.source.to_string()),
        remedy: features.as_ref().err().map(|error| error.remedy.clone()),
        disabled_sysctl: disabled_by_sysctl(),
    };
    let features = features.ok();
    UringReport {
        tier: features.map_or(0, |features| if features.missing_for_tier_2().is_empty() { 2 } else { 1 }),
        io_uring,
        operations: operations(),
        features,
        regions_error: register_regions(features).err(),
    }
}

fn small_ring() -> std::io::Result<Ring> {
    Ring::new(RingShape { sq_entries: 8, cq_entries: 16, modern: false })
}

fn operations() -> BTreeMap<&'static str, bool> {
    let listed = small_ring().and_then(|ring| features::operations(&ring)).ok();
    [
        ("ACCEPT", opcode::Accept::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("MSG_RING", opcode::MsgRingData::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("READ_FIXED", opcode::ReadFixed::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("SEND_ZC", opcode::SendZc::CODE),
        ("TIMEOUT", opcode::Timeout::CODE),
        ("WRITE_FIXED", opcode::WriteFixed::CODE),
    ]
    .into_iter()
    .map(|(name, code)| (name, listed.as_ref().is_some_and(|listed| listed.is_supported(code))))
    .collect()
}

/// Registers as many regions as a shard has by default, and lets go of them.
fn register_regions(features: Option<Features>) -> Result<(), String> {
    if !features.is_some_and(|features| features.registered_buffers) {
        return Err("not supported by this kernel".to_owned());
    }
    let bytes = BULK_REGION_BYTES as usize * usize::from(BULK_REGIONS_DEFAULT);
    let memory = Mapping::mirrored(bytes, Pages::Small).map_err(|error| error.to_string())?;
    let ring = small_ring().map_err(|error| error.to_string())?;
    features::register_empty_buffers(&ring, 1).map_err(|error| error.to_string())?;
    let iovec = libc::iovec { iov_base: memory.base().cast(), iov_len: memory.address_bytes() };
    // SAFETY: the mapping was made before the ring, so it is dropped after it.
    unsafe { ring.submitter().register_buffers_update(0, &[iovec], None) }.map_err(|error| error.to_string())
}
