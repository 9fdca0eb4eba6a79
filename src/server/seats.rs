//! One thread for each shard: it is made on its thread, as its ring is that thread's alone, and begins when every
//! shard is made and knows how to wake the others.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;

use socket2::Socket;
use tokio::sync::mpsc;

use super::StartError;
use super::plan::{Region, ServerPlan};
use crate::access::Access;
use crate::buf::{Buffers, HUGE_PAGE_BYTES, MapError, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec};
use crate::config::Config;
use crate::control::{Degraded, ShardEnd, shard_ids};
use crate::ids::{RegionId, ShardId};
use crate::io::uring::{SetupError, UringIo, UringSpec};
use crate::io::{Capabilities, Io, IoFatal, SocketHandle, WakeHandle, host};
use crate::mesh::{Census, MeshEnd};
use crate::metrics::CounterPage;
use crate::shard::messages::Message;
use crate::shard::{Shard, ShardSpec};

/// What all shards are made from.
pub(super) struct Seats<'a> {
    pub config: &'a Config,
    pub plan: &'a ServerPlan,
    pub access: Arc<Access>,
    pub census: Arc<Census>,
    pub counters: &'a [Arc<CounterPage>],
    /// What clients are told of the shards' own ports.
    pub advertised: Vec<String>,
    pub ended: mpsc::UnboundedSender<ShardEnd>,
}

/// One shard's receive memory.
#[derive(Clone)]
struct Receive {
    shared: (RegionId, Arc<Mapping>),
    straddle: (RegionId, Arc<Mapping>),
    control: (RegionId, Arc<Mapping>),
    bulk: Vec<(RegionId, Arc<Mapping>)>,
}

/// What a shard's thread takes along.
struct Seat {
    spec: ShardSpecParts,
    uring: UringSpec,
    receive: Receive,
    /// Of the other shards: their memory may be lent to this one.
    others: Vec<Receive>,
    cpu: Option<usize>,
    up: std_mpsc::Sender<Result<Up, SetupError>>,
    go: std_mpsc::Receiver<Vec<WakeHandle>>,
    ended: mpsc::UnboundedSender<ShardEnd>,
}

/// A `ShardSpec` without what only its thread can make.
struct ShardSpecParts {
    id: ShardId,
    shards: u16,
    limits: crate::shard::ShardLimits,
    access: Arc<Access>,
    mesh: MeshEnd<Message>,
    counters: Arc<CounterPage>,
    census: Arc<Census>,
    listeners: Vec<SocketHandle>,
    auto_create: bool,
    shard_addresses: Vec<String>,
}

/// A shard's thread has made its ring.
struct Up {
    id: ShardId,
    wake: WakeHandle,
    capabilities: Capabilities,
    degraded: Vec<Degraded>,
}

/// Every shard's thread, waiting for the word.
pub(super) struct Crew {
    ups: Vec<Up>,
    go: Vec<std_mpsc::Sender<Vec<WakeHandle>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    /// In the order of the shards.
    pub(super) fn wakes(&self) -> Vec<WakeHandle> {
        self.ups.iter().map(|up| up.wake.clone()).collect()
    }

    pub(super) fn capabilities(&self) -> Vec<Capabilities> {
        self.ups.iter().map(|up| up.capabilities.clone()).collect()
    }

    /// Each once, though every shard says it.
    pub(super) fn degraded(&self) -> Vec<Degraded> {
        let mut all: Vec<Degraded> = Vec::new();
        for degraded in self.ups.iter().flat_map(|up| &up.degraded) {
            if !all.contains(degraded) {
                all.push(degraded.clone());
            }
        }
        all
    }

    /// The threads, and what lets the shards begin.
    pub(super) fn ready(self, control: WakeHandle) -> (Vec<JoinHandle<()>>, impl FnOnce() + Send + 'static) {
        let mut peers = self.wakes();
        peers.push(control);
        let go = self.go;
        let release = move || {
            for go in go {
                // A thread that is gone is reported to control as failed.
                let _ = go.send(peers.clone());
            }
        };
        (self.threads, release)
    }
}

impl Seats<'_> {
    /// Maps the shards' memory, starts their threads, and waits until each has made its ring.
    pub(super) fn seat(
        self,
        mesh: Vec<MeshEnd<Message>>,
        sockets: Vec<Vec<Socket>>,
    ) -> Result<Crew, StartError> {
        let count = usize::from(self.config.shards);
        let receive = shard_ids(count).map(|id| self.receive(id)).collect::<Result<Vec<_>, _>>()?;
        let cpus = if self.config.pin { host::allowed_cpus().unwrap_or_default() } else { Vec::new() };
        let (up, ups) = std_mpsc::channel();
        let mut crew = Crew { ups: Vec::new(), go: Vec::new(), threads: Vec::new() };
        for ((id, mesh), sockets) in shard_ids(count).zip(mesh).zip(sockets) {
            let (go, gone) = std_mpsc::channel();
            let mut others = receive.clone();
            let own = others.remove(id.index());
            let (shared_region, shared) = own.shared.clone();
            let mut uring =
                UringSpec::new(shared_region, shared, self.plan.shared_bytes, self.plan.limits.connections);
            uring.tier = self.config.io_tier;
            let seat = Seat {
                spec: self.parts(id, mesh, sockets),
                uring,
                receive: own,
                others,
                // More shards than CPUs are left to the scheduler.
                cpu: if count <= cpus.len() { Some(cpus[id.index()]) } else { None },
                up: up.clone(),
                go: gone,
                ended: self.ended.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("shard-{id}"))
                .spawn(move || seat.run())
                .map_err(StartError::thread)?;
            crew.go.push(go);
            crew.threads.push(thread);
        }
        drop(up);
        for _ in 0..count {
            crew.ups.push(ups.recv().map_err(|_| StartError::ShardLost)?.map_err(StartError::Uring)?);
        }
        crew.ups.sort_by_key(|up| up.id);
        Ok(crew)
    }

    fn parts(&self, id: ShardId, mesh: MeshEnd<Message>, sockets: Vec<Socket>) -> ShardSpecParts {
        let listeners = sockets.into_iter().map(|socket| SocketHandle::Fd(OwnedFd::from(socket)));
        ShardSpecParts {
            id,
            shards: self.config.shards,
            limits: self.plan.limits,
            access: Arc::clone(&self.access),
            mesh,
            counters: Arc::clone(&self.counters[id.index()]),
            census: Arc::clone(&self.census),
            listeners: listeners.collect(),
            auto_create: self.config.topics.auto_create,
            shard_addresses: self.advertised.clone(),
        }
    }

    /// Maps one shard's receive memory. What every byte passes through is touched now, the rest as it is used.
    fn receive(&self, shard: ShardId) -> Result<Receive, MapError> {
        let plan = self.plan;
        let huge = self.config.memory.huge_pages;
        let mirrored = |region: Region, bytes: u32| {
            let mapping = Mapping::mirrored(bytes as usize, pages(bytes as usize, huge))?;
            mapping.prefault();
            Ok((plan.region(shard, region), Arc::new(mapping)))
        };
        let plain = |region: Region, bytes: u64| {
            let bytes = usize::try_from(bytes).expect("64-bit addresses");
            Ok((plan.region(shard, region), Arc::new(Mapping::plain(bytes, pages(bytes, huge))?)))
        };
        Ok(Receive {
            shared: mirrored(Region::Shared, plan.shared_bytes)?,
            straddle: plain(Region::Straddle, plan.straddle_bytes.into())?,
            control: plain(Region::Control, plan.control_bytes())?,
            bulk: (0..plan.limits.bulk_regions)
                .map(|number| mirrored(Region::Bulk(number), plan.bulk_bytes))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Sizes are exact: a mirror begins where the memory ends, so nothing may be rounded up to a huge page.
fn pages(bytes: usize, huge: bool) -> Pages {
    if huge && bytes.is_multiple_of(HUGE_PAGE_BYTES) { Pages::HugeIfAvailable } else { Pages::Small }
}

impl Seat {
    fn run(self) {
        let mut degraded = Vec::new();
        if let Some(cpu) = self.cpu
            && let Err(error) = host::pin_to_cpu(cpu)
        {
            let detail = format!(
                "shards are not pinned to CPUs ({error}): allow sched_setaffinity, or set pin = false to say so"
            );
            degraded.push(Degraded { key: "shards_not_pinned", detail });
        }
        let mut io = match UringIo::new(self.uring) {
            Ok(io) => io,
            Err(error) => {
                let _ = self.up.send(Err(error));
                return;
            }
        };
        let buffers = attach(&mut io, &self.receive, &self.others);
        let said = io.degradations().iter();
        degraded.extend(said.map(|detail| Degraded { key: "io_uring", detail: detail.clone() }));
        let id = self.spec.id;
        let up = Up { id, wake: io.wake_handle(), capabilities: io.capabilities().clone(), degraded };
        let _ = self.up.send(Ok(up));
        let mut end = EndGuard { shard: id, ended: self.ended, result: None };
        let Ok(peers) = self.go.recv() else {
            // The server did not start.
            end.result = Some(Ok(()));
            return;
        };
        let parts = self.spec;
        let spec = ShardSpec {
            id,
            shards: parts.shards,
            limits: parts.limits,
            access: parts.access,
            mesh: parts.mesh,
            peers,
            counters: parts.counters,
            census: parts.census,
            buffers,
            control_region: self.receive.control.0,
            listeners: parts.listeners,
            auto_create: parts.auto_create,
            shard_addresses: parts.shard_addresses,
        };
        end.result = Some(Shard::new(spec, io).run());
    }
}

/// Makes every shard's memory known to this one, and its own to the kernel.
fn attach(io: &mut UringIo, own: &Receive, others: &[Receive]) -> Buffers {
    let mut memory = Memory::new();
    memory.attach(own.shared.0, Arc::clone(&own.shared.1)); // the backend has it already
    for (id, mapping) in [&own.straddle, &own.control] {
        memory.attach(*id, Arc::clone(mapping));
        io.attach_region(*id, mapping, false);
    }
    for (id, mapping) in &own.bulk {
        memory.attach(*id, Arc::clone(mapping));
        io.attach_region(*id, mapping, true);
    }
    for other in others {
        for (id, mapping) in [&other.shared, &other.straddle].into_iter().chain(&other.bulk) {
            memory.attach(*id, Arc::clone(mapping));
            io.attach_region(*id, mapping, false);
        }
    }
    let receive = ReceiveMemory::new(ReceiveSpec {
        shared: (own.shared.0, &own.shared.1),
        buffers: io.capabilities().shared_buffers,
        bulk: own.bulk.clone(),
        blocks: own.straddle.clone(),
    });
    Buffers { memory, receive }
}

/// Tells control that the shard has ended, also when it panicked.
struct EndGuard {
    shard: ShardId,
    ended: mpsc::UnboundedSender<ShardEnd>,
    result: Option<Result<(), IoFatal>>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        let panicked = || IoFatal { doing: "running", source: std::io::Error::other("the shard panicked") };
        let result = self.result.take().unwrap_or_else(|| Err(panicked()));
        // Control is gone only when the server has stopped without this shard.
        let _ = self.ended.send(ShardEnd { shard: self.shard, result });
    }
}
