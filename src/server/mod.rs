//! The server as a whole: plans its memory, assembles mappings, shards, mesh and control from a configuration, and
//! starts them; for `serve`, `demo` and tests.
//!
//! Owns nothing once it runs but the threads' handles. Order of the end: control drains and stops the shards; each
//! shard drops its ring before its memory; the data directory's lock goes with control.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{Notify, mpsc};

use crate::config::{Config, Sources};
use crate::control::catalogue::{Catalogue, Created};
use crate::control::data::DataDir;
use crate::control::files::Disk;
use crate::control::registry::{Registry, make_rings};
use crate::control::storage::start::{Opened, open_storage};
use crate::control::{ControlSpec, specification, wall_ns};
use crate::io::host;
use crate::io::{Capabilities, WakeHandle};
use crate::lifecycle::Lifecycle;
use crate::limits::MESH_RING_MESSAGES;
use crate::log::{Level, event};
use crate::mesh::{Census, MeshEnd};
use crate::metrics::CounterPage;
use crate::tls::Reloader;

mod error;
mod listeners;
mod plan;
mod report;
mod seats;
#[cfg(test)]
mod tests;

pub use crate::control::api::{MemoryItem, MemoryPlan};
pub use crate::control::exit;
pub use crate::control::storage::recover::Recovering;
pub use error::StartError;
pub use plan::{ServerPlan, explain};

use listeners::{Addresses, Listeners};
use seats::Seats;

/// What the program around the server decides.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where the configuration came from: read again on SIGHUP.
    pub sources: Option<Sources>,
    /// Take SIGTERM, SIGINT and SIGHUP. Not for servers inside another program.
    pub signals: bool,
    /// Told a few times a second how far the recovery of the logs is.
    pub recovering: Option<fn(Recovering)>,
}

/// A server that takes and delivers records.
#[derive(Debug)]
pub struct RunningServer {
    addresses: Addresses,
    stop: Arc<Notify>,
    control: JoinHandle<u8>,
    shards: Vec<JoinHandle<()>>,
}

impl RunningServer {
    /// The data protocol's address, with the port that was bound.
    #[must_use]
    pub fn data_address(&self) -> SocketAddr {
        self.addresses.data
    }

    /// The same of the port in plain text beside one that speaks TLS; `None` unless configured.
    #[must_use]
    pub fn plaintext_address(&self) -> Option<SocketAddr> {
        self.addresses.plaintext
    }

    /// Each shard's own address; empty unless configured.
    #[must_use]
    pub fn shard_addresses(&self) -> &[SocketAddr] {
        &self.addresses.shards
    }

    /// The admin API's address, with the port that was bound.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// Asks for a drain, after which the server ends. Does not wait.
    pub fn drain(&self) {
        self.stop.notify_one();
    }

    /// Waits for the server's end; the exit status (see [`exit`]).
    #[must_use]
    pub fn wait(self) -> u8 {
        let status = self.control.join();
        if status.is_ok() {
            for shard in self.shards {
                // A shard that panicked was reported to control as failed.
                let _ = shard.join();
            }
        }
        status.unwrap_or(exit::FAILED)
    }
}

/// Starts a server. When this returns it is running: ports are bound, the catalogue is loaded and saved, every shard
/// knows every topic.
///
/// # Errors
/// Every failure of the environment, with its remedy; nothing is left running then.
pub fn start(config: &Config, options: Options) -> Result<RunningServer, StartError> {
    let certificates = config.tls.server().map(Reloader::new).transpose()?;
    let plan = ServerPlan::new(config);
    let listeners = Listeners::bind(config)?;
    let data = DataDir::open(&config.data)?;
    let mut degraded = plan::shortages(&plan.memory, config);
    let (registry, opened) = open_catalogue(config, &data, &plan, options.recovering)?;
    let open_files = plan::open_files(config, opened.logs_count);
    degraded.extend(open_files.degraded);
    degraded.extend(opened.degraded());
    let Listeners { data: data_sockets, admin, addresses } = listeners;
    let advertised = listeners::advertised(config, &addresses.shards);
    let mut mesh = MeshEnd::build(usize::from(config.shards) + 1, MESH_RING_MESSAGES);
    let control_mesh = mesh.pop().ok_or(StartError::NoShards)?;
    let counters: Vec<_> = (0..config.shards).map(|_| Arc::new(CounterPage::new())).collect();
    let (ended_sender, ended) = mpsc::unbounded_channel();
    let seats = Seats {
        config,
        plan: &plan,
        access: Arc::new(config.tenants_access()),
        census: Arc::new(census(config, open_files.connections_max)),
        counters: &counters,
        tls: certificates.as_ref().map(|reloader| (reloader.current().clone(), config.tls.records)),
        advertised,
        ended: ended_sender,
    };
    let crew = seats.seat(mesh, data_sockets)?;
    degraded.extend(crew.degraded());
    let io = crew.chosen();
    let event = host::event().map_err(StartError::descriptors)?;
    let wakes: Vec<WakeHandle> = crew.wakes();
    let capabilities: Vec<Capabilities> = crew.capabilities();
    let own = event.try_clone().map_err(StartError::descriptors)?;
    let (shards, release) = crew.ready(WakeHandle { event: Some(Arc::new(own)), ring_fd: -1 });
    let stop = Arc::new(Notify::new());
    report::started(config, &addresses, &io, &capabilities, &degraded);
    report::speaks(config, &addresses, certificates.as_ref().map(Reloader::current));
    let spec = ControlSpec {
        config: config.clone(),
        sources: options.sources,
        signals: options.signals,
        data,
        registry,
        storage: opened.storage,
        mesh: control_mesh,
        wakes,
        event,
        counters,
        lifecycle: Arc::new(Lifecycle::new()),
        io,
        capabilities,
        degraded,
        memory: plan.memory,
        certificates,
        data_address: addresses.data,
        plaintext_address: addresses.plaintext,
        admin,
        admin_address: addresses.admin,
        stop: Arc::clone(&stop),
        release: Box::new(release),
        ended,
    };
    let control = start_control(spec)?;
    Ok(RunningServer { addresses, stop, control, shards })
}

/// Starts control's thread and waits until the server runs.
fn start_control(spec: ControlSpec) -> Result<JoinHandle<u8>, StartError> {
    let (ready_sender, ready) = std::sync::mpsc::sync_channel(1);
    let control = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            crate::control::run(spec, move |result| {
                // Whoever started the server waits for this.
                let _ = ready_sender.send(result);
            })
        })
        .map_err(StartError::thread)?;
    match ready.recv() {
        Ok(Ok(())) => Ok(control),
        Ok(Err(message)) => {
            let _ = control.join();
            Err(StartError::Control(message))
        }
        Err(_) => Err(StartError::Control("its thread has ended".into())),
    }
}

/// Loads the catalogue, adds the configured topics, recovers the logs, maps every ring, and saves: from then on offsets
/// are reserved.
fn open_catalogue(
    config: &Config,
    data: &DataDir,
    plan: &ServerPlan,
    recovering: Option<fn(Recovering)>,
) -> Result<(Registry, Opened), StartError> {
    let mut catalogue = data.load()?;
    add_configured(config, &mut catalogue)?;
    let used = catalogue.ring_bytes();
    if used > config.memory.retention_budget_bytes {
        return Err(StartError::BudgetTooSmall { used, budget: config.memory.retention_budget_bytes });
    }
    let mut opened = open_storage(config, &mut catalogue, recovering)?;
    let registry = Registry::begin(
        catalogue,
        (config.shards, plan.first_ring_region()),
        &mut opened.logs,
        |count, ring_bytes| make_rings(count, ring_bytes, config.memory.huge_pages),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(StartError::thread)?;
    runtime.block_on(data.save(&Disk::Blocking, registry.catalogue()))?;
    Ok((registry, opened))
}

fn add_configured(config: &Config, catalogue: &mut Catalogue) -> Result<(), StartError> {
    for topic in &config.topic {
        let spec = specification(config, topic.clone());
        let created = catalogue
            .create(&spec, config.memory.retention_budget_bytes, wall_ns())
            .map_err(|refused| StartError::Topic { name: topic.name.clone(), refused })?;
        if matches!(created, Created::New(_)) {
            event(Level::Info, "topic_created", "listed in the configuration", &[("topic", &topic.name)]);
        }
    }
    Ok(())
}

/// Limits on connections hold for the whole server: what is configured, or what open files allow. One for an address
/// that cannot bind is not counted.
fn census(config: &Config, connections_max: u32) -> Census {
    let by_address = config.limits.connections_per_address;
    Census::new(connections_max, if by_address < connections_max { by_address } else { 0 })
}
