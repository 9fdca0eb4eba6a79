//! Making an `EpollIo`, and what to say when the kernel will not.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use crate::buf::Mapping;
use crate::ids::RegionId;
use crate::io::errors::SetupError;
use crate::io::spans::{Regions, SpanLists};
use crate::io::{Capabilities, host};
use crate::limits::{COMPLETIONS_PER_TICK, FILE_OPS_PER_SHARD, SHARED_BUFFERS_INCREMENTAL};

use super::files::FileThreads;
use super::poller::{EVENT, Poller};
use super::ring::ReceiveRing;
use super::sockets::Sockets;
use super::{EpollIo, FILES, WAKE};

/// Sockets beyond connections: listeners, and connections that are only told to go away.
const SOCKETS_SLACK: u32 = 64;
/// Completions of one socket that may wait for the same `reap`: the ends of a receive and of two polls with those of
/// their cancels, of a read, a send, a shutdown and a close.
const WAITING_PER_SOCKET: usize = 10;

/// What an `EpollIo` is made for.
#[derive(Debug, Clone)]
pub struct EpollSpec {
    /// The region received bytes of `ReceiveShared` come into. Attached by the constructor.
    pub shared: (RegionId, Arc<Mapping>),
    /// Bytes of it that are the shared ring, from its start.
    pub shared_bytes: u32,
    /// Connections at most.
    pub connections_max: u32,
    /// Wait to the nanosecond where the kernel can (tests take it away).
    pub precise_waits: bool,
}

impl EpollSpec {
    /// A spec with defaults for all but what only the caller knows.
    #[must_use]
    pub fn new(region: RegionId, shared: Arc<Mapping>, shared_bytes: u32, connections_max: u32) -> EpollSpec {
        EpollSpec { shared: (region, shared), shared_bytes, connections_max, precise_waits: true }
    }
}

fn failed(doing: &'static str, source: io::Error) -> SetupError {
    let remedy = match source.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files: ulimit -n, or LimitNOFILE=",
        Some(libc::ENOSPC) => "raise fs.epoll.max_user_watches (sysctl)",
        Some(libc::ENOMEM) => "the kernel is out of memory: lower the connection limit, or free some",
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
            "a sandbox forbids epoll: allow epoll_create1, epoll_ctl, epoll_wait and eventfd2"
        }
        _ => "see `uringest doctor`",
    };
    SetupError { doing, source, remedy: remedy.to_owned() }
}

/// Makes the backend.
pub(super) fn build(spec: EpollSpec) -> Result<EpollIo, SetupError> {
    let poller = Poller::new(spec.precise_waits).map_err(|error| failed("making the poll set", error))?;
    let mut degradations = Vec::new();
    if spec.precise_waits && !poller.precise() {
        degradations.push(
            "waits are rounded up to a millisecond: the kernel has no epoll_pwait2, or a sandbox hides it (Linux \
             5.11 or newer)"
                .to_owned(),
        );
    }
    let event = host::event().map_err(|error| failed("making the wake-up descriptor", error))?;
    poller
        .add(event.as_raw_fd(), EVENT, WAKE)
        .map_err(|error| failed("watching the wake-up descriptor", error))?;
    let of_files = host::event().map_err(|error| failed("making the files' descriptor", error))?;
    poller
        .add(of_files.as_raw_fd(), EVENT, FILES)
        .map_err(|error| failed("watching the files' descriptor", error))?;
    let buffers = SHARED_BUFFERS_INCREMENTAL;
    let (region, mapping) = spec.shared;
    let mut regions = Regions::default();
    regions.attach(region, Arc::clone(&mapping), ());
    let sockets_max = spec.connections_max.saturating_add(SOCKETS_SLACK);
    let waiting_max = COMPLETIONS_PER_TICK + sockets_max as usize * WAITING_PER_SOCKET;
    Ok(EpollIo {
        poller,
        sockets: Sockets::new(spec.connections_max, sockets_max),
        files: FileThreads::new(of_files),
        ring: ReceiveRing::new(mapping, spec.shared_bytes, buffers),
        regions,
        lists: SpanLists::new(),
        // The last operation that is taken may be a cancel or a read, which have two; operations on files wait
        // elsewhere until they are done.
        waiting: VecDeque::with_capacity(waiting_max + 1 + 2 * FILE_OPS_PER_SHARD as usize),
        waiting_max,
        event: Arc::new(event),
        read_ns: None,
        capabilities: Capabilities {
            backend: "epoll",
            tier: 0,
            incremental_buffers: true,
            shared_buffers: buffers,
            registered_regions: false,
            ring_messages: false,
            direct_descriptors: false,
        },
        late: 0,
        degradations,
    })
}
