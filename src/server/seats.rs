//! One thread for each shard: its backend is made on its thread, as that thread's alone, and the shard begins when
//! every shard has one and knows how to wake the others. All have the same backend: where one thread cannot make it,
//! the next candidate is made on all.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::StartError;
use super::listeners::DataSocket;
use super::plan::{Region, ServerPlan};
use crate::access::Access;
use crate::buf::{Buffers, HUGE_PAGE_BYTES, MapError, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec};
use crate::config::Config;
use crate::control::{Degraded, ShardEnd, shard_ids};
use crate::ids::{RegionId, ShardId};
use crate::io::choice::{Backend, Chosen, IoSpec, WithIo};
use crate::io::{Capabilities, Io, IoFatal, SetupError, SocketHandle, WakeHandle, host};
use crate::mesh::{Census, MeshEnd};
use crate::metrics::CounterPage;
use crate::shard::messages::Message;
use crate::shard::{Listening, Shard, ShardSpec, ShardTls};
use crate::tls::{Records, ServerTls};

/// What all shards are made from.
pub(super) struct Seats<'a> {
    pub config: &'a Config,
    pub plan: &'a ServerPlan,
    pub access: Arc<Access>,
    pub census: Arc<Census>,
    pub counters: &'a [Arc<CounterPage>],
    /// What TLS is spoken with, and by whom records are opened and sealed; `None` where it is not spoken.
    pub tls: Option<(ServerTls, Records)>,
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
    /// Only where TLS is spoken, like the next.
    opened: Option<(RegionId, Arc<Mapping>)>,
    sealed: Option<(RegionId, Arc<Mapping>)>,
    log: (RegionId, Arc<Mapping>),
}

/// What a shard's thread takes along.
struct Seat {
    id: ShardId,
    /// Taken when the shard begins.
    parts: Option<ShardSpecParts>,
    io: IoSpec,
    receive: Receive,
    /// Of the other shards: their memory may be lent to this one.
    others: Vec<Receive>,
    cpu: Option<usize>,
    up: std_mpsc::Sender<Result<Up, SetupError>>,
    words: std_mpsc::Receiver<Word>,
    ended: mpsc::UnboundedSender<ShardEnd>,
}

/// What a shard's thread is told.
enum Word {
    /// Make this backend, and let go of the one before.
    Make(Backend),
    /// Run, with these peers.
    Go(Vec<WakeHandle>),
}

/// A `ShardSpec` without what only its thread can make.
struct ShardSpecParts {
    shards: u16,
    limits: crate::shard::ShardLimits,
    access: Arc<Access>,
    mesh: MeshEnd<Message>,
    counters: Arc<CounterPage>,
    census: Arc<Census>,
    listeners: Vec<Listening>,
    tls: Option<(ServerTls, Records)>,
    auto_create: bool,
    shard_addresses: Vec<String>,
}

/// A shard's thread has made its backend.
struct Up {
    id: ShardId,
    wake: WakeHandle,
    capabilities: Capabilities,
    degraded: Vec<Degraded>,
}

/// Every shard's thread, waiting for the word.
pub(super) struct Crew {
    ups: Vec<Up>,
    words: Vec<std_mpsc::Sender<Word>>,
    threads: Vec<JoinHandle<()>>,
    chosen: Chosen,
}

impl Crew {
    /// In the order of the shards.
    pub(super) fn wakes(&self) -> Vec<WakeHandle> {
        self.ups.iter().map(|up| up.wake.clone()).collect()
    }

    pub(super) fn chosen(&self) -> Chosen {
        self.chosen.clone()
    }

    pub(super) fn capabilities(&self) -> Vec<Capabilities> {
        self.ups.iter().map(|up| up.capabilities.clone()).collect()
    }

    /// Each once, though every shard says it.
    pub(super) fn degraded(&self) -> Vec<Degraded> {
        let refused = self.chosen.refused.clone();
        let mut all: Vec<Degraded> =
            refused.map(|detail| Degraded { key: "io_uring_unavailable", detail }).into_iter().collect();
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
        let words = self.words;
        let release = move || {
            for word in words {
                // A thread that is gone is reported to control as failed.
                let _ = word.send(Word::Go(peers.clone()));
            }
        };
        (self.threads, release)
    }
}

impl Seats<'_> {
    /// Maps the shards' memory, starts their threads, and waits until each has made the best backend that all can.
    pub(super) fn seat(
        self,
        mesh: Vec<MeshEnd<Message>>,
        sockets: Vec<Vec<DataSocket>>,
    ) -> Result<Crew, StartError> {
        let count = usize::from(self.config.shards);
        let receive = shard_ids(count).map(|id| self.receive(id)).collect::<Result<Vec<_>, _>>()?;
        let cpus = if self.config.pin { host::allowed_cpus().unwrap_or_default() } else { Vec::new() };
        let (up, ups) = std_mpsc::channel();
        let (mut words, mut threads) = (Vec::new(), Vec::new());
        for ((id, mesh), sockets) in shard_ids(count).zip(mesh).zip(sockets) {
            let (word, told) = std_mpsc::channel();
            let mut others = receive.clone();
            let own = others.remove(id.index());
            let io = IoSpec {
                shared: own.shared.clone(),
                shared_bytes: self.plan.shared_bytes,
                connections_max: self.plan.limits.connections,
                tier: self.config.io_tier,
            };
            let seat = Seat {
                id,
                parts: Some(self.parts(id, mesh, sockets)),
                io,
                receive: own,
                others,
                // More shards than CPUs are left to the scheduler.
                cpu: if count <= cpus.len() { Some(cpus[id.index()]) } else { None },
                up: up.clone(),
                words: told,
                ended: self.ended.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("shard-{id}"))
                .spawn(move || seat.run())
                .map_err(StartError::thread)?;
            words.push(word);
            threads.push(thread);
        }
        drop(up);
        let candidates = self.config.io.candidates(self.config.io_tier);
        let (chosen, ups) = choose(&candidates, &words, &ups)?;
        Ok(Crew { ups, words, threads, chosen })
    }

    fn parts(&self, id: ShardId, mesh: MeshEnd<Message>, sockets: Vec<DataSocket>) -> ShardSpecParts {
        let listeners = sockets.into_iter().map(|DataSocket { socket, secured }| Listening {
            socket: SocketHandle::Fd(OwnedFd::from(socket)),
            secured,
        });
        ShardSpecParts {
            shards: self.config.shards,
            limits: self.plan.limits,
            access: Arc::clone(&self.access),
            mesh,
            counters: Arc::clone(&self.counters[id.index()]),
            census: Arc::clone(&self.census),
            listeners: listeners.collect(),
            tls: self.tls.clone(),
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
            log: plain(Region::Log, plan.log_bytes().into())?,
            bulk: (0..plan.bulk_regions())
                .map(|number| mirrored(Region::Bulk(number), plan.bulk_bytes))
                .collect::<Result<_, _>>()?,
            opened: plan.secured.then(|| mirrored(Region::Opened, plan.opened_bytes())).transpose()?,
            sealed: plan.secured.then(|| plain(Region::Sealed, plan.sealed_bytes().into())).transpose()?,
        })
    }
}

/// Has the threads make one candidate after the other, until all of them have the same.
fn choose(
    candidates: &[Backend],
    words: &[std_mpsc::Sender<Word>],
    ups: &std_mpsc::Receiver<Result<Up, SetupError>>,
) -> Result<(Chosen, Vec<Up>), StartError> {
    let mut refused = Vec::new();
    for &backend in candidates {
        for word in words {
            word.send(Word::Make(backend)).map_err(|_| StartError::ShardLost)?;
        }
        // All answer before the next word, so that answers to two words are not mixed.
        let answers: Vec<_> =
            words.iter().map(|_| ups.recv()).collect::<Result<_, _>>().map_err(|_| StartError::ShardLost)?;
        match answers.into_iter().collect::<Result<Vec<Up>, SetupError>>() {
            Ok(mut ups) => {
                ups.sort_by_key(|up| up.id);
                let chosen = Chosen::after(candidates, &refused).expect("this candidate is next");
                return Ok((chosen, ups));
            }
            Err(error) => refused.push(error),
        }
    }
    match refused.pop().zip(candidates.last()) {
        Some((source, &backend)) => Err(StartError::Io { backend, source }),
        None => Err(StartError::NotBuilt),
    }
}

/// Sizes are exact: a mirror begins where the memory ends, so nothing may be rounded up to a huge page.
fn pages(bytes: usize, huge: bool) -> Pages {
    if huge && bytes.is_multiple_of(HUGE_PAGE_BYTES) { Pages::HugeIfAvailable } else { Pages::Small }
}

impl Seat {
    fn run(mut self) {
        // Nothing has failed until a shard says so.
        let mut end = EndGuard { shard: self.id, ended: self.ended.clone(), result: None };
        let mut ran = Ok(());
        let not_pinned = self.pin();
        let mut word = self.words.recv().ok();
        // Without a word the server has not started.
        while let Some(Word::Make(backend)) = word {
            let sitting = Sitting { backend, seat: &mut self, not_pinned: not_pinned.clone() };
            word = match backend.make(sitting.seat.io.clone(), sitting) {
                Ok(Rose::Told(word)) => word,
                Ok(Rose::Ran(result)) => {
                    ran = result;
                    None
                }
                Err(error) => {
                    let _ = self.up.send(Err(error));
                    self.words.recv().ok()
                }
            };
        }
        end.result = Some(ran);
    }

    /// What to say where the thread cannot be pinned to its CPU.
    fn pin(&self) -> Option<Degraded> {
        let error = host::pin_to_cpu(self.cpu?).err()?;
        let detail = format!(
            "shards are not pinned to CPUs ({error}): allow sched_setaffinity, or set pin = false to say so"
        );
        Some(Degraded { key: "shards_not_pinned", detail })
    }
}

/// A shard's thread with a backend that has been made.
struct Sitting<'a> {
    backend: Backend,
    seat: &'a mut Seat,
    not_pinned: Option<Degraded>,
}

/// How a thread is done with a backend.
enum Rose {
    /// The shard has run to its end.
    Ran(Result<(), IoFatal>),
    /// The shard has not run; the next word.
    Told(Option<Word>),
}

impl WithIo for Sitting<'_> {
    type Output = Rose;

    fn with<I: Io>(self, mut io: I) -> Rose {
        let seat = self.seat;
        let buffers = attach(&mut io, &seat.receive, &seat.others);
        let mut degraded: Vec<_> = self.not_pinned.into_iter().collect();
        let key = self.backend.interface();
        degraded.extend(io.degradations().iter().map(|detail| Degraded { key, detail: detail.clone() }));
        let up =
            Up { id: seat.id, wake: io.wake_handle(), capabilities: io.capabilities().clone(), degraded };
        let _ = seat.up.send(Ok(up));
        let peers = match seat.words.recv() {
            Ok(Word::Go(peers)) => peers,
            other => return Rose::Told(other.ok()),
        };
        let parts = seat.parts.take().expect("a shard begins once");
        let tls = parts.tls.zip(seat.receive.sealed.as_ref()).map(|((server, records), sealed)| {
            let send_memory = (sealed.0, sealed.1.bytes() as u64);
            ShardTls { server, records, send_memory }
        });
        let spec = ShardSpec {
            id: seat.id,
            shards: parts.shards,
            limits: parts.limits,
            access: parts.access,
            mesh: parts.mesh,
            peers,
            counters: parts.counters,
            census: parts.census,
            buffers,
            log_memory: (seat.receive.log.0, seat.receive.log.1.bytes() as u64),
            control_region: seat.receive.control.0,
            listeners: parts.listeners,
            tls,
            auto_create: parts.auto_create,
            shard_addresses: parts.shard_addresses,
        };
        Rose::Ran(Shard::new(spec, io).run())
    }
}

/// Makes every shard's memory known to this one, and its own to the kernel.
fn attach<I: Io>(io: &mut I, own: &Receive, others: &[Receive]) -> Buffers {
    let mut memory = Memory::new();
    memory.attach(own.shared.0, Arc::clone(&own.shared.1)); // the backend has it already
    for (id, mapping) in
        [&own.straddle, &own.control, &own.log].into_iter().chain(&own.opened).chain(&own.sealed)
    {
        memory.attach(*id, Arc::clone(mapping));
        io.attach_region(*id, mapping, false);
    }
    for (id, mapping) in &own.bulk {
        memory.attach(*id, Arc::clone(mapping));
        io.attach_region(*id, mapping, true);
    }
    for other in others {
        for (id, mapping) in
            [&other.shared, &other.straddle, &other.log].into_iter().chain(&other.bulk).chain(&other.opened)
        {
            memory.attach(*id, Arc::clone(mapping));
            io.attach_region(*id, mapping, false);
        }
    }
    let receive = ReceiveMemory::new(ReceiveSpec {
        shared: (own.shared.0, &own.shared.1),
        buffers: io.capabilities().shared_buffers,
        bulk: own.bulk.clone(),
        blocks: own.straddle.clone(),
        opened: own.opened.clone(),
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

#[cfg(test)]
mod tests;
