//! Control: one thread beside the shards that owns everything slow. See docs/architecture.md.
//!
//! It owns the catalogue and its file, the topics' rings, committed offsets' persistence, the admin HTTP
//! server, signals and the drain. It never touches a record.
//!
//! All of it is one thread's: tasks of one runtime (tokio-uring's, or plain tokio's where shards run on another
//! backend; see `runtime`) share a [`Control`] and never keep one of its cells borrowed over an await.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, Notify, mpsc};

use crate::config::{Config, Sources};
use crate::ids::{PartitionId, ShardId};
use crate::io::choice::Chosen;
use crate::io::{Capabilities, IoFatal, WakeHandle};
use crate::lifecycle::{Lifecycle, State};
use crate::limits::{CATALOGUE_SAVE_MS, MESH_RETRY_MS, PARTITIONS_MAX};
use crate::log::Level;
use crate::mesh::MeshEnd;
use crate::metrics::CounterPage;
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::shard::messages::{Command, Message, Report};
use crate::tls::Reloader;

pub mod api;
pub mod catalogue;
pub(crate) mod certificates;
pub mod data;
mod drain;
pub use drain::exit;
pub mod files;
pub mod host;
pub mod http;
mod journal;
pub(crate) mod registry;
mod reload;
mod routes;
mod runtime;
mod shards;
mod signals;
#[cfg(any(test, uringest_sim))]
pub mod stepped;
pub(crate) mod storage;
mod topics;

#[cfg(test)]
mod tests;

use api::{ApiError, MemoryPlan};
use catalogue::{Least, TopicEntry};
use certificates::Certificates;
use data::DataDir;
use drain::Drain;
use files::Disk;
use host::{Host, Machine, within};
use registry::Registry;
pub(crate) use runtime::run;
use shards::Shards;
pub(crate) use shards::shard_ids;
use storage::{First, Storage};
pub(crate) use topics::specification;

/// Reports handled before other tasks get a turn.
const REPORTS_PER_TURN: usize = 256;
/// Time the shards may take to learn of all topics at the start.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that control is made of.
pub(crate) struct ControlSpec {
    pub config: Config,
    /// Read again on SIGHUP.
    pub sources: Option<Sources>,
    /// Take SIGTERM, SIGINT and SIGHUP.
    pub signals: bool,
    pub data: DataDir,
    pub registry: Registry,
    pub storage: Storage,
    /// The last end.
    pub mesh: MeshEnd<Message>,
    /// The shards', in their order.
    pub wakes: Vec<WakeHandle>,
    /// Written to by shards to wake control.
    pub event: OwnedFd,
    pub counters: Vec<Arc<CounterPage>>,
    pub lifecycle: Arc<Lifecycle>,
    pub io: Chosen,
    pub capabilities: Vec<Capabilities>,
    pub degraded: Vec<Degraded>,
    pub memory: MemoryPlan,
    /// What the shards' TLS is made of, where there is TLS.
    pub certificates: Option<Reloader>,
    pub data_address: SocketAddr,
    /// Of the port in plain text beside it.
    pub plaintext_address: Option<SocketAddr>,
    pub admin: std::net::TcpListener,
    pub admin_address: SocketAddr,
    /// Asked for a drain by the program around the server.
    pub stop: Arc<Notify>,
    /// Lets the shards begin.
    pub release: Box<dyn FnOnce() + Send>,
    /// A shard's thread has ended.
    pub ended: mpsc::UnboundedReceiver<ShardEnd>,
}

/// Something that works worse than it could on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Degraded {
    pub key: &'static str,
    pub detail: String,
}

/// A shard's thread has ended.
#[derive(Debug)]
pub(crate) struct ShardEnd {
    pub shard: ShardId,
    pub result: Result<(), IoFatal>,
}

/// See the module.
pub(crate) struct Control {
    /// For tasks that work for a while and outlive who began them.
    itself: Weak<Control>,
    config: RefCell<Config>,
    sources: Option<Sources>,
    shards: RefCell<Shards>,
    registry: RefCell<Registry>,
    data: DataDir,
    storage: Storage,
    disk: Disk,
    host: Rc<dyn Host>,
    /// How small topics may be.
    least: Least,
    lifecycle: Arc<Lifecycle>,
    counters: Vec<Arc<CounterPage>>,
    io: Chosen,
    capabilities: Vec<Capabilities>,
    degraded: RefCell<Vec<Degraded>>,
    memory: MemoryPlan,
    certificates: RefCell<Option<Certificates>>,
    data_address: SocketAddr,
    plaintext_address: Option<SocketAddr>,
    admin_address: SocketAddr,
    /// One topic command at a time.
    topic_gate: Mutex<()>,
    /// One save at a time.
    save_gate: Mutex<()>,
    dirty: Cell<bool>,
    saver: Notify,
    /// Topics that were not made for want of a save, and that the catalogue's file may name all the same: what they have
    /// on the disk goes with the next save.
    undone: RefCell<Vec<TopicEntry>>,
    /// Topics that clients have asked for and that are being made.
    wanted: RefCell<HashSet<(ShardId, String)>>,
    drain: RefCell<Drain>,
    progress: Notify,
    stop: Arc<Notify>,
}

/// Runs control's tasks on the runtime that calls this, until the server has stopped; the exit status.
async fn main<L: http::Listener + 'static>(
    mut spec: ControlSpec,
    disk: Disk,
    listener: L,
    ready: impl FnOnce(Result<(), String>),
) -> u8 {
    let release = std::mem::replace(&mut spec.release, Box::new(|| ()));
    let signals = spec.signals;
    let (control, event, mut ended) = match Control::from_spec(spec, disk) {
        Ok(parts) => parts,
        Err(error) => {
            ready(Err(error.to_string()));
            return exit::FAILED;
        }
    };
    tokio::task::spawn_local(Rc::clone(&control).reports(event));
    tokio::task::spawn_local(Rc::clone(&control).saves());
    tokio::task::spawn_local(Rc::clone(&control).watch_certificates());
    tokio::task::spawn_local(Rc::clone(&control).watch_retention());
    tokio::task::spawn_local(http::serve(listener, Rc::new(routes::Routes(Rc::clone(&control)))));
    if signals && let Err(error) = signals::listen(&control) {
        ready(Err(format!("cannot take signals: {error}")));
        return control.drain_all(&mut ended).await;
    }
    // It takes as long as the disk takes.
    let firsts = control.first_segments().await;
    let begun = tokio::select! {
        begun = control.let_begin(firsts, release) => begun,
        end = ended.recv() => {
            control.shard_ended(end);
            Err("A shard has ended while the server was starting.".to_owned())
        }
    };
    match begun {
        Err(message) => ready(Err(message)),
        Ok(()) => {
            ready(Ok(()));
            tokio::select! {
                () = control.stop.notified() => {}
                end = ended.recv() => control.shard_ended(end),
            }
        }
    }
    control.drain_all(&mut ended).await
}

/// What every control is made of, whatever it runs in.
struct Makings {
    config: Config,
    sources: Option<Sources>,
    shards: Shards,
    registry: Registry,
    data: DataDir,
    storage: Storage,
    disk: Disk,
    host: Rc<dyn Host>,
    least: Least,
    lifecycle: Arc<Lifecycle>,
    counters: Vec<Arc<CounterPage>>,
    io: Chosen,
    capabilities: Vec<Capabilities>,
    degraded: Vec<Degraded>,
    memory: MemoryPlan,
    certificates: Option<Reloader>,
    data_address: SocketAddr,
    plaintext_address: Option<SocketAddr>,
    admin_address: SocketAddr,
    stop: Arc<Notify>,
}

type Parts = (Rc<Control>, AsyncFd<File>, mpsc::UnboundedReceiver<ShardEnd>);

impl Control {
    fn from_spec(spec: ControlSpec, disk: Disk) -> std::io::Result<Parts> {
        let shards = Shards::new(spec.mesh, wake_by_events(&spec.wakes)?);
        let event = crate::io::host::watched(File::from(spec.event))?;
        let control = Control::new(Makings {
            config: spec.config,
            sources: spec.sources,
            shards,
            registry: spec.registry,
            data: spec.data,
            storage: spec.storage,
            disk,
            host: Machine::shared(),
            least: Least::default(),
            lifecycle: spec.lifecycle,
            counters: spec.counters,
            io: spec.io,
            capabilities: spec.capabilities,
            degraded: spec.degraded,
            memory: spec.memory,
            certificates: spec.certificates,
            data_address: spec.data_address,
            plaintext_address: spec.plaintext_address,
            admin_address: spec.admin_address,
            stop: spec.stop,
        });
        Ok((control, event, spec.ended))
    }

    /// Tells the shards of all topics, lets them begin, and waits until they have taken them: the server runs.
    async fn let_begin(
        self: &Rc<Self>,
        firsts: HashMap<PartitionId, First>,
        release: impl FnOnce(),
    ) -> Result<(), String> {
        let announced = self.announce_all(firsts, release);
        match within(&*self.host, ANNOUNCE_TIMEOUT, announced).await {
            Some(announced) => announced.map_err(|error| error.message)?,
            None => return Err("The shards have not taken the topics in time.".to_owned()),
        }
        self.lifecycle.advance(State::Running).map(|_| ()).map_err(|error| error.to_string())
    }

    fn new(of: Makings) -> Rc<Control> {
        Rc::new_cyclic(|itself| Control {
            itself: Weak::clone(itself),
            config: RefCell::new(of.config),
            sources: of.sources,
            shards: RefCell::new(of.shards),
            registry: RefCell::new(of.registry),
            data: of.data,
            storage: of.storage,
            disk: of.disk,
            host: of.host,
            least: of.least,
            lifecycle: of.lifecycle,
            counters: of.counters,
            io: of.io,
            capabilities: of.capabilities,
            degraded: RefCell::new(of.degraded),
            memory: of.memory,
            certificates: RefCell::new(of.certificates.map(Certificates::new)),
            data_address: of.data_address,
            plaintext_address: of.plaintext_address,
            admin_address: of.admin_address,
            topic_gate: Mutex::new(()),
            save_gate: Mutex::new(()),
            dirty: Cell::new(false),
            saver: Notify::new(),
            undone: RefCell::default(),
            wanted: RefCell::new(HashSet::new()),
            drain: RefCell::new(Drain::default()),
            progress: Notify::new(),
            stop: of.stop,
        })
    }

    /// Takes the shards' reports as they come, and sends what found a ring full.
    async fn reports(self: Rc<Self>, event: AsyncFd<File>) {
        loop {
            if self.take_reports(REPORTS_PER_TURN) == REPORTS_PER_TURN {
                tokio::task::yield_now().await;
                continue;
            }
            let Some(waiting) = self.may_sleep() else { continue };
            if waiting {
                let retry = Duration::from_millis(MESH_RETRY_MS);
                let _ = tokio::time::timeout(retry, woken(&event)).await;
            } else {
                woken(&event).await;
            }
            self.shards.borrow_mut().awake();
        }
    }

    /// Sends what found a ring full, and says whether something is left; `None` where there is another report.
    fn may_sleep(&self) -> Option<bool> {
        let waiting = self.shards.borrow_mut().retry();
        self.shards.borrow_mut().about_to_sleep().then_some(waiting)
    }

    /// Handles up to `max` reports; how many there were.
    fn take_reports(self: &Rc<Self>, max: usize) -> usize {
        for taken in 0..max {
            let report = self.shards.borrow_mut().receive();
            match report {
                Some(report) => self.report(report),
                None => return taken,
            }
        }
        max
    }

    fn report(self: &Rc<Self>, report: Report) {
        match report {
            Report::Log(report) => self.log_report(report),
            Report::Done { ticket, shard } => self.shards.borrow_mut().answered(ticket, shard, Vec::new()),
            Report::Described { ticket, shard, partitions } => {
                self.shards.borrow_mut().answered(ticket, shard, partitions);
            }
            Report::WantTopic { shard, name, partition } => self.wanted(shard, name, partition),
            Report::Committed { partition, name, offset } => {
                let news = self.registry.borrow_mut().catalogue.commit(partition, &name, offset);
                if news && !mutation::on(Mutation::CommitUnsaved) {
                    self.mark_dirty();
                }
            }
            Report::LogEnds { shard: _, ends } => self.ended_at(&ends),
            Report::Drained { shard, leftover, settled } => {
                self.drain.borrow_mut().drained(shard, leftover, settled);
                self.progress.notify_one();
            }
            Report::Event { shard, event, detail } => {
                journal::note(Level::Warn, event, &format!("shard {shard}: {detail}"));
            }
        }
    }

    fn ended_at(&self, ends: &[(PartitionId, u64)]) {
        let mut registry = self.registry.borrow_mut();
        let mut raised = false;
        for &(partition, end) in ends {
            raised |= registry.ended_at(partition, end);
        }
        if raised {
            self.mark_dirty();
        }
    }

    fn wanted(self: &Rc<Self>, shard: ShardId, name: String, partition: u32) {
        let asked = (shard, name.clone());
        let full = self.wanted.borrow().len() >= PARTITIONS_MAX as usize;
        if full {
            let refused = Command::TopicRefused { name, code: Code::Unavailable };
            let _ = self.shards.borrow_mut().send(shard, refused);
            return;
        }
        if !self.wanted.borrow_mut().insert(asked.clone()) {
            return;
        }
        let control = Rc::clone(self);
        self.host.spawn(Box::pin(async move {
            control.want_topic(shard, name, partition).await;
            control.wanted.borrow_mut().remove(&asked);
        }));
    }

    fn mark_dirty(&self) {
        self.dirty.set(true);
        self.saver.notify_one();
    }

    /// Saves commits and reservations a little after they come, so that many make one save.
    async fn saves(self: Rc<Self>) {
        loop {
            self.saver.notified().await;
            self.host.sleep(Duration::from_millis(CATALOGUE_SAVE_MS)).await;
            if self.dirty.get() && self.save().await.is_err() {
                self.saver.notify_one();
            }
        }
    }

    /// Saves the catalogue; durable when it returns.
    async fn save(&self) -> Result<(), ApiError> {
        const KEY: &str = "catalogue_not_saved";
        let _gate = self.save_gate.lock().await;
        let catalogue = {
            let mut registry = self.registry.borrow_mut();
            registry.catalogue.version += 1;
            registry.catalogue.clone()
        };
        self.dirty.set(false);
        let undone = std::mem::take(&mut *self.undone.borrow_mut());
        match self.data.save(&self.disk, &catalogue).await {
            Ok(()) => {
                for entry in undone {
                    self.remove_logs(&entry).await;
                }
                if self.mended(KEY) {
                    journal::note(Level::Info, "catalogue_saved_again", "");
                }
                Ok(())
            }
            Err(error) => {
                self.dirty.set(true);
                self.undone.borrow_mut().extend(undone);
                let detail =
                    format!("{error}; topics and committed offsets of now would not survive a restart");
                if self.degraded_by(KEY, detail.clone()) {
                    journal::note(Level::Error, KEY, &detail);
                }
                Err(ApiError::new(507, KEY, detail))
            }
        }
    }

    /// Something works worse than it could; whether that is new.
    fn degraded_by(&self, key: &'static str, detail: String) -> bool {
        let mut degraded = self.degraded.borrow_mut();
        match degraded.iter_mut().find(|known| known.key == key) {
            Some(known) => {
                known.detail = detail;
                false
            }
            None => {
                degraded.push(Degraded { key, detail });
                true
            }
        }
    }

    /// That is over; whether it was so.
    fn mended(&self, key: &'static str) -> bool {
        let mut degraded = self.degraded.borrow_mut();
        let before = degraded.len();
        degraded.retain(|known| known.key != key);
        degraded.len() < before
    }

    fn shard_ended(&self, end: Option<ShardEnd>) {
        let Some(ShardEnd { shard, result }) = end else { return };
        if let Err(fatal) = &result {
            let detail = format!("shard {shard}: {}: {}", fatal.doing, fatal.source);
            journal::note(Level::Error, "shard_failed", &detail);
        }
        self.drain.borrow_mut().ended(shard, result.is_ok());
        self.progress.notify_one();
    }

    /// Asks for a drain; the main task does it.
    fn stop(&self) {
        self.stop.notify_one();
    }
}

/// Wakes shards by what they wait on; eventfds are written to like files (eventfd(2)).
fn wake_by_events(wakes: &[WakeHandle]) -> std::io::Result<shards::Wake> {
    let event =
        |wake: &WakeHandle| wake.event.as_ref().map(|event| event.try_clone().map(File::from)).transpose();
    let events: Vec<Option<File>> = wakes.iter().map(event).collect::<Result<_, _>>()?;
    Ok(Box::new(move |shard| {
        use std::io::Write as _;
        if let Some(mut event) = events[shard.index()].as_ref() {
            // An eventfd refuses only when its count is at the top: the shard is woken already.
            let _ = event.write_all(&1u64.to_ne_bytes());
        }
    }))
}

/// Waits until somebody has written to the eventfd, and empties it.
async fn woken(event: &AsyncFd<File>) {
    use std::io::Read as _;
    loop {
        let Ok(mut guard) = event.readable().await else {
            // The runtime is going down.
            return std::future::pending().await;
        };
        // An eventfd is read like a file: eight bytes, or nothing (eventfd(2)).
        let emptied = guard.try_io(|event| event.get_ref().read_exact(&mut [0; 8]));
        if emptied.is_ok() {
            return;
        }
    }
}

/// The wall clock in ns since 1970, UTC.
pub(crate) fn wall_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
