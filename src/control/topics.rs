//! Topic commands: each changes the catalogue, saves it, and tells every shard, in that order for what is
//! created and with the memory freed last for what is deleted. One at a time.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::api::{ApiError, CreateTopic, TopicDescription, TopicList};
use super::catalogue::{CreateRefused, Created, TopicEntry, TopicSpec};
use super::host::{beside, within};
use super::registry::description;
use super::shards::{Answer, ShardStuck};
use super::storage::{Busy, First};
use super::{Control, journal};
use crate::config::{Config, LogWishes, TopicConfig};
use crate::ids::{PartitionId, ShardId, TopicId};
use crate::lifecycle::State;
use crate::limits::SHARD_ANSWER_TIMEOUT_MS;
use crate::log::Level;
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::shard::messages::Command;
use crate::topic::TopicKind;

impl From<CreateRefused> for ApiError {
    fn from(refused: CreateRefused) -> Self {
        let (status, code) = match &refused {
            CreateRefused::BadName => (400, Code::BadName.name()),
            CreateRefused::BadSpec(_) => (400, "bad_topic"),
            CreateRefused::Differs(_) => (409, "topic_differs"),
            CreateRefused::Full(_) => (507, Code::TooManyTopics.name()),
            CreateRefused::Memory { .. } => (507, Code::MemoryExhausted.name()),
        };
        ApiError::new(status, code, refused.to_string())
    }
}

impl From<ShardStuck> for ApiError {
    fn from(ShardStuck(shard): ShardStuck) -> Self {
        ApiError::new(503, Code::Unavailable.name(), format!("Shard {shard} does not take commands."))
    }
}

fn no_answer() -> ApiError {
    ApiError::new(503, Code::Unavailable.name(), "Not every shard has answered in time.")
}

pub(super) fn unknown_topic(name: &str) -> ApiError {
    ApiError::new(404, Code::UnknownTopic.name(), format!("There is no topic {name}."))
}

/// What is wanted, with the configuration's defaults for what it does not say.
pub(crate) fn specification(config: &Config, wanted: TopicConfig) -> TopicSpec {
    let TopicConfig { name, partitions, kind, retention_bytes, overflow, log } = wanted;
    TopicSpec {
        name,
        kind,
        overflow: overflow.unwrap_or(config.topics.overflow),
        ring_bytes: config.ring_bytes(kind, retention_bytes),
        log: config.log_settings(kind, retention_bytes, log),
        partitions,
    }
}

impl Control {
    pub(super) fn list_topics(&self) -> TopicList {
        TopicList { topics: self.registry.borrow().summaries() }
    }

    /// A topic's specification with the configuration's defaults.
    pub(super) fn topic_spec(&self, wanted: CreateTopic) -> TopicSpec {
        let config = self.config.borrow();
        let kind = wanted.kind.unwrap_or(TopicKind::Memory);
        let CreateTopic { durability, retention_ms, segment_bytes, .. } = wanted;
        let log = LogWishes { durability, retention_ms, segment_bytes };
        specification(
            &config,
            TopicConfig {
                name: wanted.name,
                partitions: wanted.partitions.unwrap_or(1),
                kind,
                retention_bytes: wanted.retention_bytes,
                overflow: wanted.overflow,
                log,
            },
        )
    }

    /// Makes a topic; `true` when it is new. When this returns every shard knows it.
    pub(super) async fn create_topic(self: &Rc<Self>, spec: &TopicSpec) -> Result<bool, ApiError> {
        let _gate = self.topic_gate.lock().await;
        self.must_not_drain()?;
        let budget_bytes = self.config.borrow().memory.retention_budget_bytes;
        let created = self.registry.borrow_mut().catalogue.create_within(
            spec,
            budget_bytes,
            self.host.clock().wall_ns,
            self.least,
        )?;
        let Created::New(index) = created else { return Ok(false) };
        let result = self.bring_up(index).await;
        if result.is_err() {
            self.registry.borrow_mut().catalogue.delete(&spec.name);
            // What the file says of it is undone with the next save.
            self.mark_dirty();
        }
        let ticket = result?;
        journal::note(
            Level::Info,
            "topic_created",
            &format!("{} ({} partitions of {} bytes)", spec.name, spec.partitions, spec.ring_bytes),
        );
        // Clients may have it as soon as every shard knows it, also when nobody waits for that any more.
        let topic = TopicId(self.registry.borrow().catalogue.topics[index].id);
        let control = Rc::clone(self);
        let ready = beside(&*self.host, async move {
            ticket.await.map_err(|_| no_answer())?;
            control.shards.borrow_mut().tell(|| Command::TopicReady { topic })?;
            Ok::<(), ApiError>(())
        });
        let limit = Duration::from_millis(SHARD_ANSWER_TIMEOUT_MS);
        match within(&*self.host, limit, ready).await {
            Some(Ok(told)) => told.map(|()| true),
            Some(Err(_)) | None => Err(no_answer()),
        }
    }

    /// Maps the rings, saves the catalogue, and announces the topic.
    async fn bring_up(
        self: &Rc<Self>,
        index: usize,
    ) -> Result<tokio::sync::oneshot::Receiver<Answer>, ApiError> {
        let (count, ring_bytes) = self.registry.borrow().rings_of(index);
        let huge = self.config.borrow().memory.huge_pages;
        let rings = self.host.rings(count, ring_bytes, huge).await?;
        let entry = self.registry.borrow().catalogue.topics[index].clone();
        // Folders first: a topic of the saved catalogue has its folders.
        let firsts = self.make_logs(&entry).await?;
        let begins = self.registry.borrow_mut().catalogue.begin_topic(index);
        if let Err(error) = self.save().await {
            self.close_first(firsts);
            // The file may name the topic: its folders stay until another save says that it does not.
            self.undone.borrow_mut().push(entry);
            return Err(error);
        }
        let topic = self.registry.borrow_mut().bring_up(index, &begins, rings, &mut HashMap::new());
        let asked =
            self.shards.borrow_mut().ask(|ticket| Command::AddTopic { ticket, topic: Arc::clone(&topic) });
        match asked {
            Ok(asked) => {
                self.send_first(firsts);
                Ok(asked)
            }
            Err(stuck) => {
                self.close_first(firsts);
                // Some shards may know it, so its regions stay taken; it is forgotten with the next start.
                self.registry.borrow_mut().take_down(topic.id.0);
                Err(stuck.into())
            }
        }
    }

    pub(super) async fn describe_topic(&self, name: &str) -> Result<TopicDescription, ApiError> {
        let entry = self.entry(name)?;
        let topic = TopicId(entry.id);
        let asked = self.shards.borrow_mut().ask(|ticket| Command::Describe { ticket, topic })?;
        let statuses = self.answer(asked).await?;
        Ok(self.described(&entry, statuses))
    }

    /// Every topic, described; one that goes away meanwhile is left out.
    pub(super) async fn describe_all(&self) -> Result<Vec<TopicDescription>, ApiError> {
        let mut entries = {
            let registry = self.registry.borrow();
            let live = registry.catalogue.topics.iter().filter(|topic| registry.is_live(topic.id));
            live.cloned().collect::<Vec<_>>()
        };
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut asked = Vec::with_capacity(entries.len());
        for entry in entries {
            let topic = TopicId(entry.id);
            let receiver = self.shards.borrow_mut().ask(|ticket| Command::Describe { ticket, topic })?;
            asked.push((entry, receiver));
        }
        let mut topics = Vec::with_capacity(asked.len());
        for (entry, receiver) in asked {
            let statuses = self.answer(receiver).await?;
            topics.push(self.described(&entry, statuses));
        }
        Ok(topics)
    }

    pub(super) async fn delete_topic(self: &Rc<Self>, name: &str) -> Result<(), ApiError> {
        let _gate = self.topic_gate.lock().await;
        self.must_not_drain()?;
        let is_log = self.registry.borrow().catalogue.topic(name).is_some_and(|topic| topic.log.is_some());
        if is_log && self.backup_is_running() {
            let message = "A backup copies its files: delete it when that has ended.";
            return Err(ApiError::new(409, "backup_running", message));
        }
        let entry = self.registry.borrow_mut().catalogue.delete(name).ok_or_else(|| unknown_topic(name))?;
        if let Err(error) = self.save().await {
            self.registry.borrow_mut().catalogue.topics.push(entry);
            // The file may be without it: what the topic gets from now on would go with the next start.
            self.mark_dirty();
            return Err(error);
        }
        let topic = TopicId(entry.id);
        let down = self.registry.borrow_mut().take_down(entry.id);
        let asked = self.shards.borrow_mut().ask(|ticket| Command::RemoveTopic { ticket, topic })?;
        journal::note(Level::Info, "topic_deleted", name);
        // The memory is given back when the last shard has answered, also when nobody waits for it any more.
        let control = Rc::clone(self);
        // A server that comes to its end meanwhile leaves no folder that is nobody's.
        let busy = is_log.then(|| Busy::new(self));
        let freed = beside(&*self.host, async move {
            if asked.await.is_ok()
                && let Some(topic) = down
            {
                control.registry.borrow_mut().free(&topic);
                if !mutation::on(Mutation::KeepFolder) {
                    control.remove_logs(&entry).await;
                }
            }
            drop(busy);
        });
        let limit = Duration::from_millis(SHARD_ANSWER_TIMEOUT_MS);
        if within(&*self.host, limit, freed).await.is_none() {
            journal::note(
                Level::Warn,
                "topic_memory_kept",
                &format!("{name}: a shard still uses its memory, which is freed when it does not"),
            );
        }
        Ok(())
    }

    pub(super) async fn pause_topic(&self, name: &str, paused: bool) -> Result<(), ApiError> {
        let _gate = self.topic_gate.lock().await;
        self.must_not_drain()?;
        let entry = self.entry(name)?;
        let changed = self.registry.borrow_mut().catalogue.set_paused(name, paused);
        if changed != Some(true) {
            return Ok(());
        }
        if let Err(error) = self.save().await {
            self.registry.borrow_mut().catalogue.set_paused(name, !paused);
            self.mark_dirty();
            return Err(error);
        }
        let topic = TopicId(entry.id);
        let asked = self.shards.borrow_mut().ask(|ticket| Command::PauseTopic { ticket, topic, paused })?;
        journal::note(Level::Info, if paused { "topic_paused" } else { "topic_resumed" }, name);
        self.answer(asked).await?;
        Ok(())
    }

    /// A client named a topic that does not exist.
    pub(super) async fn want_topic(self: &Rc<Self>, shard: ShardId, name: String, partition: u32) {
        let refusal = self.make_wanted(&name, partition).await.err();
        if let Some(code) = refusal {
            let refused = Command::TopicRefused { name, code };
            // A shard that takes no commands has other troubles, which are reported where they are seen.
            let _ = self.shards.borrow_mut().send(shard, refused);
        }
    }

    async fn make_wanted(self: &Rc<Self>, name: &str, partition: u32) -> Result<(), Code> {
        let spec = {
            let config = self.config.borrow();
            let registry = self.registry.borrow();
            if registry.catalogue.topic(name).is_some_and(|topic| registry.is_live(topic.id)) {
                // The shard has been told meanwhile, or will be before anything that is sent now.
                return Ok(());
            }
            if !config.topics.auto_create {
                return Err(Code::UnknownTopic);
            }
            if partition >= config.topics.auto_create_partitions {
                return Err(Code::UnknownPartition);
            }
            let kind = config.topics.auto_create_kind;
            let wanted = TopicConfig {
                name: name.to_owned(),
                partitions: config.topics.auto_create_partitions,
                kind,
                retention_bytes: None,
                overflow: None,
                log: LogWishes::default(),
            };
            specification(&config, wanted)
        };
        match self.create_topic(&spec).await {
            // Somebody else has made a topic of that name: the shard knows it by now.
            Ok(_) => Ok(()),
            Err(error) if error.code == "topic_differs" => Ok(()),
            Err(error) => {
                journal::note(Level::Warn, "topic_refused", &format!("{name}: {}", error.message));
                Err(Code::ALL
                    .iter()
                    .copied()
                    .find(|code| code.name() == error.code)
                    .unwrap_or(Code::Unavailable))
            }
        }
    }

    /// Tells the shards of every topic of the catalogue, and lets them begin once they have been told; called once,
    /// at the start.
    pub(super) async fn announce_all(
        self: &Rc<Self>,
        mut firsts: HashMap<PartitionId, First>,
        release: impl FnOnce(),
    ) -> Result<(), ApiError> {
        let topics: Vec<_> = self.registry.borrow().live().cloned().collect();
        let mut asked = Vec::with_capacity(2 * topics.len());
        for topic in topics {
            let paused = {
                let registry = self.registry.borrow();
                registry.catalogue.topic(&topic.name).is_some_and(|entry| entry.paused)
            };
            let id = topic.id;
            let added = |ticket| Command::AddTopic { ticket, topic: Arc::clone(&topic) };
            asked.push(self.shards.borrow_mut().ask(added)?);
            self.send_first(topic.partitions.iter().filter_map(|one| firsts.remove(&one.id)).collect());
            let mut shards = self.shards.borrow_mut();
            shards.tell(|| Command::TopicReady { topic: id })?;
            if paused {
                asked.push(shards.ask(|ticket| Command::PauseTopic { ticket, topic: id, paused })?);
            }
        }
        self.shards.borrow_mut().tell(|| Command::TopicsTold)?;
        release();
        for receiver in asked {
            self.answer(receiver).await?;
        }
        Ok(())
    }

    fn described(&self, entry: &TopicEntry, statuses: Answer) -> TopicDescription {
        let mut topic = description(entry, statuses);
        for partition in &mut topic.partitions {
            if let Some((segments, bytes)) = self.storage.files_of(partition.partition_id) {
                (partition.closed_segments, partition.disk_bytes) = (Some(segments), Some(bytes));
            }
        }
        topic
    }

    fn entry(&self, name: &str) -> Result<TopicEntry, ApiError> {
        let registry = self.registry.borrow();
        let entry = registry.catalogue.topic(name).ok_or_else(|| unknown_topic(name))?;
        if self.lifecycle.state() == State::Init {
            // Not every shard knows what there is.
            return Err(ApiError::new(503, Code::Unavailable.name(), "The server is starting."));
        }
        if !registry.is_live(entry.id) {
            return Err(ApiError::new(
                503,
                Code::Unavailable.name(),
                format!("Topic {name} is being created."),
            ));
        }
        Ok(entry.clone())
    }

    /// What the shards answer, within a bound.
    async fn answer(&self, asked: tokio::sync::oneshot::Receiver<Answer>) -> Result<Answer, ApiError> {
        let limit = Duration::from_millis(SHARD_ANSWER_TIMEOUT_MS);
        match within(&*self.host, limit, asked).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(_)) | None => Err(no_answer()),
        }
    }

    pub(super) fn must_not_drain(&self) -> Result<(), ApiError> {
        match self.lifecycle.state() {
            State::Draining | State::Stopped => {
                Err(ApiError::new(503, Code::ServerDraining.name(), "The server is shutting down."))
            }
            State::Init | State::Running | State::Paused => Ok(()),
        }
    }
}
