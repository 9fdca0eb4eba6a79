//! Control in a world that is stepped: the tasks and state that it has in the product, on the world's time and files, and
//! without what only a process has (signals, an admin port, a lock on its directory).
//!
//! The world owns when something happens: it runs the tasks (see [`Host`]), calls [`Stepped::turn`] when a shard has
//! woken control, and drops everything where the process ends.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use super::api::{ApiError, MemoryPlan};
use super::catalogue::{Least, TopicSpec};
use super::data::DataDir;
use super::files::Disk;
use super::host::Host;
use super::registry::Registry;
use super::storage::start::Lost;
pub use super::storage::tree::Tree;
use super::{Control, Makings, REPORTS_PER_TURN, ShardEnd};
use crate::buf::Mapping;
use crate::config::Config;
use crate::ids::{PartitionId, RegionId, ShardId, TopicId};
use crate::io::choice::{BUILT, Chosen};
use crate::lifecycle::Lifecycle;
use crate::mesh::MeshEnd;
use crate::metrics::CounterPage;
use crate::shard::messages::{LogCommand, Message};
use crate::topic::Topic;

/// What a world gives.
pub struct Stepping<'a> {
    /// As an operator would have it.
    pub config: Config,
    /// How small its topics may be.
    pub least: Least,
    /// Its files.
    pub disk: Disk,
    /// See [`Host`].
    pub host: Rc<dyn Host>,
    /// Control's end.
    pub mesh: MeshEnd<Message>,
    /// Called for a shard that has been sent something and sleeps.
    pub wake: Box<dyn Fn(ShardId)>,
    /// The shards'.
    pub counters: Vec<Arc<CounterPage>>,
    /// The first region that no shard has for itself.
    pub first_region: RegionId,
    /// Memory for so many rings of that length.
    pub rings: &'a mut dyn FnMut(usize, u64) -> Vec<Arc<Mapping>>,
}

/// See the module.
pub struct Stepped {
    control: Rc<Control>,
    ended: mpsc::UnboundedSender<ShardEnd>,
    ending: Rc<RefCell<Option<mpsc::UnboundedReceiver<ShardEnd>>>>,
    lost: Vec<Lost>,
    found: Vec<&'static str>,
}

/// A topic of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As clients name it.
    pub name: String,
    /// Never reused.
    pub id: TopicId,
    /// Publishes are refused.
    pub paused: bool,
}

impl Stepped {
    /// Loads the catalogue and recovers the logs, at once. Nothing is saved before `start`.
    ///
    /// # Errors
    /// Why the server cannot start, in words.
    pub fn new<T: Tree>(stepping: Stepping<'_>, tree: &T) -> Result<Stepped, String> {
        let Stepping { config, least, disk, host, mesh, wake, counters, first_region, rings } = stepping;
        let data = DataDir::of_one(&config.data);
        let mut catalogue = data.load_from(&disk, least).map_err(|error| error.to_string())?;
        let opened = super::storage::start::open_in(tree, &config, &mut catalogue);
        let (mut opened, lost, found) = opened.map_err(|error| error.to_string())?;
        let maps = |count, bytes| Ok::<_, String>(rings(count, bytes));
        let registry = Registry::begin(catalogue, (config.shards, first_region), &mut opened.logs, maps)?;
        let (ended, ending) = mpsc::unbounded_channel();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let control = Control::new(Makings {
            config,
            sources: None,
            shards: super::shards::Shards::new(mesh, wake),
            registry,
            data,
            storage: opened.storage,
            disk,
            host,
            least,
            lifecycle: Arc::new(Lifecycle::new()),
            counters,
            io: Chosen { backend: BUILT[0], why: "a world that is stepped".to_owned(), refused: None },
            capabilities: Vec::new(),
            degraded: Vec::new(),
            memory: MemoryPlan::default(),
            certificates: None,
            data_address: nowhere,
            plaintext_address: None,
            admin_address: nowhere,
            stop: Arc::new(Notify::new()),
        });
        Ok(Stepped { control, ended, ending: Rc::new(RefCell::new(Some(ending))), lost, found })
    }

    /// What recovery has found in the logs that a server which ends in good order does not leave.
    #[must_use]
    pub fn found(&self) -> &[&'static str] {
        &self.found
    }

    /// Offsets that recovery has told to be lost.
    #[must_use]
    pub fn lost(&self) -> &[(PartitionId, Range<u64>)] {
        &self.lost
    }

    /// Saves, makes the logs' first files, tells the shards, and lets them begin: what a start does.
    pub fn start(
        &self,
        release: impl FnOnce() + 'static,
    ) -> impl Future<Output = Result<(), String>> + 'static {
        let control = Rc::clone(&self.control);
        async move {
            control.save().await.map_err(|error| error.message)?;
            control.host.spawn(Box::pin(Rc::clone(&control).saves()));
            control.host.spawn(Box::pin(Rc::clone(&control).watch_retention()));
            let firsts = control.first_segments().await;
            control.let_begin(firsts, release).await
        }
    }

    /// Takes what shards have reported, until they have nothing more to say; whether something that is for a shard has
    /// to be tried again.
    pub fn turn(&self) -> bool {
        self.control.shards.borrow_mut().awake();
        loop {
            self.control.take_reports(REPORTS_PER_TURN);
            if let Some(waiting) = self.control.may_sleep() {
                return waiting;
            }
        }
    }

    /// What an operator's wish for a topic comes to: whether it is new.
    pub fn create(&self, spec: TopicSpec) -> impl Future<Output = Result<bool, ApiError>> + 'static {
        let control = Rc::clone(&self.control);
        async move { control.create_topic(&spec).await }
    }

    /// Likewise, for a topic to go.
    pub fn delete(&self, name: String) -> impl Future<Output = Result<(), ApiError>> + 'static {
        let control = Rc::clone(&self.control);
        async move { control.delete_topic(&name).await }
    }

    /// Likewise, for a topic to pause or to go on.
    pub fn pause(&self, name: String, paused: bool) -> impl Future<Output = Result<(), ApiError>> + 'static {
        let control = Rc::clone(&self.control);
        async move { control.pause_topic(&name, paused).await }
    }

    /// The server's end, in good order; its exit status. Once.
    ///
    /// # Panics
    /// When it was asked for before.
    pub fn drain(&self) -> impl Future<Output = u8> + 'static {
        let control = Rc::clone(&self.control);
        let mut ending = self.ending.borrow_mut().take().expect("a server ends once");
        async move { control.drain_all(&mut ending).await }
    }

    /// A partition's segment is closed, and the next is gone on in.
    pub fn roll(&self, partition: PartitionId) {
        self.control.tell_owner(partition, LogCommand::Roll { partition, ticket: 0 });
    }

    /// A shard's thread has come to its end.
    pub fn shard_ended(&self, shard: ShardId) {
        // Nobody listens when the server ends otherwise.
        let _ = self.ended.send(ShardEnd { shard, result: Ok(()) });
    }

    /// Topics that clients may have.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.control.registry.borrow().live().cloned().collect()
    }

    /// Topics of the catalogue.
    #[must_use]
    pub fn listed(&self) -> Vec<Listed> {
        let registry = self.control.registry.borrow();
        let listed = registry.catalogue().topics.iter().map(|topic| Listed {
            name: topic.name.clone(),
            id: TopicId(topic.id),
            paused: topic.paused,
        });
        listed.collect()
    }

    /// Of each partition of kind `log`: its folder, and the names there of its segments' files and of those that are free.
    #[must_use]
    pub fn folders(&self) -> BTreeMap<PathBuf, Vec<String>> {
        self.control.storage.folders()
    }

    /// Files of segments that are on their way in or out.
    #[must_use]
    pub fn moving(&self) -> Vec<PathBuf> {
        self.control.storage.moving()
    }

    /// What works worse than it could, by its key, with a word for people.
    #[must_use]
    pub fn degraded(&self) -> Vec<(&'static str, String)> {
        self.control.degraded.borrow().iter().map(|one| (one.key, one.detail.clone())).collect()
    }
}
