//! Control's part of the durable log: files for the shards, retention, and what has to be kept beside the segments.
//!
//! A shard writes and reads segments and says what it needs; control makes, opens, recycles and removes their files, so
//! that no shard ever waits for a directory. Every piece of work is a task of its own: reports are taken meanwhile.
//!
//! State: a [`Shelf`] for each partition of kind `log`, from its topic's making (or the start) to its deletion.
//! Invariants:
//! 1. A segment's name is durable before its file is sent.
//! 2. A segment's file is touched again only after the shard has said that nothing reads it (`Retired`), or has let go
//!    of the topic.
//! 3. `used_bytes` is the length of all files there are, free ones included, and of those being made.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::api::LogStatus;
use super::files::{FileError, Step, apply_all, with_suffix};
use super::host::within;
use super::{Control, Degraded, journal};
use crate::commit_log::format::partition_folder;
use crate::ids::PartitionId;
use crate::io::FileHandle;
use crate::limits::{LOG_FILES_AT_ONCE, LOG_RETENTION_LOOK_MS, LOG_SPACE_RETRY_MS};
use crate::log::Level;
use crate::shard::messages::{Command, LogCommand, LogReport, SegmentFile, SegmentRefused};

mod backup;
mod beside;
pub(crate) mod recover;
mod segments;
mod shelf;
pub(crate) mod start;
#[cfg(test)]
mod tests;
mod topics;
pub(crate) mod tree;

use segments::{Making, Retirement, Wanted, make, open, retirement};
pub(super) use shelf::FIRST_SEQUENCE;
use shelf::{Retiring, Shelf};
pub(super) use topics::First;

/// A folder whose topic is deleted, until it is removed.
const DELETED: &str = ".deleted";
/// A degradation: some partition has no file to go on in.
const DISK_FULL: &str = "log_disk_full";

/// See the module.
pub(crate) struct Storage {
    /// Of all partitions' folders.
    dir: PathBuf,
    /// Files bypass the page cache.
    direct: bool,
    /// What to say of it where they do not and should.
    indirect: Option<Degraded>,
    budget_bytes: Option<u64>,
    state: RefCell<State>,
    /// Files that are made or opened at once.
    gate: Semaphore,
    /// Some file has gone.
    freed: Notify,
    /// A segment has been closed for a backup.
    rolled: Notify,
    /// Pieces of work that the server's end waits for.
    busy: Cell<usize>,
    idle: Notify,
    /// The directory is this server's until this is dropped.
    /// `None` where nobody else can have it.
    _lock: Option<File>,
}

#[derive(Debug, Default)]
struct State {
    shelves: BTreeMap<PartitionId, Shelf>,
    used_bytes: u64,
    /// Partitions that have no file to go on in.
    stuck: BTreeMap<PartitionId, String>,
    /// Segments that are being closed for a backup.
    rolling: Option<backup::Rolling>,
    /// Tickets of that, so far.
    rolls: u64,
    lease: Option<backup::Lease>,
}

/// Counts as work while it lives.
pub(super) struct Busy(Rc<Control>);

impl Busy {
    pub(super) fn new(control: &Rc<Control>) -> Busy {
        let busy = &control.storage.busy;
        busy.set(busy.get() + 1);
        Busy(Rc::clone(control))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let storage = &self.0.storage;
        storage.busy.set(storage.busy.get() - 1);
        if storage.busy.get() == 0 {
            storage.idle.notify_one();
        }
    }
}

/// Why a segment's file could not be made.
fn refused(error: &FileError) -> SegmentRefused {
    if error.is_no_space() {
        SegmentRefused::NoSpace(error.to_string())
    } else {
        SegmentRefused::Failed(error.to_string())
    }
}

impl Storage {
    /// Takes files' room out of the budget, before they are made.
    fn reserve(&self, bytes: u64) -> Result<(), SegmentRefused> {
        let mut state = self.state.borrow_mut();
        let used_bytes = state.used_bytes.saturating_add(bytes);
        if self.budget_bytes.is_some_and(|budget| used_bytes > budget) {
            return Err(SegmentRefused::NoSpace(format!(
                "storage.budget_bytes is used up: {} bytes are taken and {bytes} more are needed",
                state.used_bytes
            )));
        }
        state.used_bytes = used_bytes;
        Ok(())
    }

    /// A file has gone: there is room for another.
    fn give_back(&self, bytes: u64) {
        self.unreserve(bytes);
        self.freed.notify_waiters();
    }

    /// A file was not made. Nobody is woken: whoever failed would only wake itself, again and again.
    fn unreserve(&self, bytes: u64) {
        let mut state = self.state.borrow_mut();
        state.used_bytes = state.used_bytes.saturating_sub(bytes);
    }

    fn with_shelf<T>(&self, partition: PartitionId, work: impl FnOnce(&mut Shelf) -> T) -> Option<T> {
        self.state.borrow_mut().shelves.get_mut(&partition).map(work)
    }

    /// For `/v1/server` and the metrics page.
    pub(super) fn status(&self) -> LogStatus {
        let state = self.state.borrow();
        LogStatus {
            dir: self.dir.display().to_string(),
            direct: self.direct,
            files_bytes: state.used_bytes,
            budget_bytes: self.budget_bytes,
            waiting_partitions: state.stuck.len() as u64,
        }
    }

    /// How many closed segments a partition has, and the bytes of all its files; `None` for another kind.
    pub(super) fn files_of(&self, partition: u32) -> Option<(u64, u64)> {
        self.with_shelf(PartitionId(partition), |shelf| (shelf.closed.len() as u64, shelf.all_bytes()))
    }

    /// Of each partition: its folder, and the names there of its segments' files and of those that are free.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn folders(&self) -> BTreeMap<PathBuf, Vec<String>> {
        let state = self.state.borrow();
        state.shelves.values().map(|shelf| (shelf.folder.clone(), shelf.names().collect())).collect()
    }

    /// Segments' files that are on their way in or out, by their paths.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn moving(&self) -> Vec<PathBuf> {
        let state = self.state.borrow();
        let of = |shelf: &Shelf| shelf.moving().collect::<Vec<_>>();
        state.shelves.values().flat_map(of).collect()
    }

    fn folder(&self, partition: PartitionId) -> PathBuf {
        self.dir.join(partition_folder(partition))
    }
}

impl Control {
    /// A shard's word on a partition of kind `log`.
    pub(super) fn log_report(self: &Rc<Self>, report: LogReport) {
        match report {
            LogReport::WantSegment { partition, sequence } => {
                let control = Rc::clone(self);
                // Not counted as work: nobody needs another segment at the end.
                self.host.spawn(Box::pin(async move { control.want_segment(partition, sequence).await }));
            }
            LogReport::WantOpen { partition, sequence } => {
                self.log_task(|control| async move { control.want_open(partition, sequence).await });
            }
            LogReport::Sealed { partition, info } => {
                self.log_task(|control| async move { control.sealed(partition, *info).await });
            }
            LogReport::Retired { partition, below } => {
                self.log_task(|control| async move { control.retired(partition, below).await });
            }
            LogReport::Close { file } => self.host.close(file),
            LogReport::Snapshot { partition, snapshot } => {
                self.log_task(|control| async move { control.keep_snapshot(partition, snapshot).await });
            }
            LogReport::Fenced { partition, durable, reason } => {
                self.log_task(|control| control.fenced(partition, durable, reason));
            }
            LogReport::Rolled { partition, ticket, next, end } => self.rolled(partition, ticket, next, end),
        }
    }

    fn log_task<F: Future<Output = ()> + 'static>(self: &Rc<Self>, work: impl FnOnce(Rc<Control>) -> F) {
        let busy = Busy::new(self);
        let work = work(Rc::clone(self));
        self.host.spawn(Box::pin(async move {
            work.await;
            drop(busy);
        }));
    }

    /// Waits until what the shards have reported is on disk, within a bound; whether it is.
    pub(super) async fn log_settled(&self, limit: Duration) -> bool {
        let idle = async {
            while self.storage.busy.get() > 0 {
                self.storage.idle.notified().await;
            }
        };
        within(&*self.host, limit, idle).await.is_some()
    }

    pub(super) fn tell_owner(&self, partition: PartitionId, command: LogCommand) {
        let Some(shard) = self.storage.with_shelf(partition, |shelf| shelf.shard) else {
            return self.close_file_of(command);
        };
        // A shard that takes no commands has other troubles, which are reported where they are seen.
        let _ = self.shards.borrow_mut().send(shard, Command::Log(command));
    }

    /// What a command brings is for nobody any more.
    fn close_file_of(&self, command: LogCommand) {
        match command {
            LogCommand::Segment { result: Ok(SegmentFile { file, .. }), .. }
            | LogCommand::Opened { result: Ok(file), .. } => self.host.close(file),
            _ => {}
        }
    }

    /// Makes a segment's file and sends it. What stands in the way is told once; then it is tried again and again.
    async fn want_segment(self: Rc<Self>, partition: PartitionId, sequence: u64) {
        let mut told = false;
        loop {
            let freed = self.storage.freed.notified();
            let made = {
                let _permit = self.storage.gate.acquire().await;
                self.make_segment(partition, sequence, true).await
            };
            let Some(made) = made else { return };
            match made {
                Ok(file) => {
                    self.unstick(partition);
                    let result = Ok(file);
                    return self.tell_owner(partition, LogCommand::Segment { partition, sequence, result });
                }
                Err(why) => {
                    self.stick(partition, &why);
                    if !std::mem::replace(&mut told, true) {
                        let result = Err(why);
                        self.tell_owner(partition, LogCommand::Segment { partition, sequence, result });
                    }
                }
            }
            let pause = Duration::from_millis(LOG_SPACE_RETRY_MS);
            let _ = within(&*self.host, pause, freed).await;
        }
    }

    /// The file of that segment; `None` when the partition is gone.
    async fn make_segment(
        &self,
        partition: PartitionId,
        sequence: u64,
        zeroed: bool,
    ) -> Option<Result<SegmentFile, SegmentRefused>> {
        let storage = &self.storage;
        let wanted = storage.with_shelf(partition, |shelf| Wanted {
            folder: shelf.folder.clone(),
            sequence,
            bytes: shelf.file_bytes,
            recycled: shelf.begin_making(sequence),
        })?;
        let (bytes, recycled) = (wanted.bytes, wanted.recycled.is_some());
        let done = |is_made| storage.with_shelf(partition, |shelf| shelf.making_done(sequence, is_made));
        if !recycled && let Err(why) = storage.reserve(bytes) {
            done(false);
            return Some(Err(why));
        }
        let making = Making { direct: storage.direct, zeroed };
        match make(&self.disk, &wanted, making).await {
            Ok(file) => {
                if done(true).is_none() {
                    // Deleted meanwhile, with its folder.
                    self.host.close(file);
                    storage.give_back(bytes);
                    return None;
                }
                Some(self.segment_file(file, bytes))
            }
            Err(error) => {
                done(false);
                storage.unreserve(bytes);
                Some(Err(refused(&error)))
            }
        }
    }

    /// What a shard gets.
    fn segment_file(&self, file: FileHandle, bytes: u64) -> Result<SegmentFile, SegmentRefused> {
        let nonce = self.host.number().map_err(|error| {
            SegmentRefused::Failed(format!("the kernel gives no random numbers: {error}"))
        })?;
        Ok(SegmentFile { file, nonce, bytes })
    }

    fn stick(&self, partition: PartitionId, why: &SegmentRefused) {
        let (SegmentRefused::NoSpace(detail) | SegmentRefused::Failed(detail)) = why;
        let known = {
            let mut state = self.storage.state.borrow_mut();
            let Some(topic) = state.shelves.get(&partition).map(|shelf| shelf.topic.clone()) else { return };
            state.stuck.insert(partition, format!("{topic} (partition {partition}): {detail}")).is_some()
        };
        self.say_stuck(!known);
    }

    fn unstick(&self, partition: PartitionId) {
        if self.storage.state.borrow_mut().stuck.remove(&partition).is_some() {
            self.say_stuck(false);
        }
    }

    /// Keeps the degradation in step with the partitions that have no file to go on in.
    fn say_stuck(&self, news: bool) {
        let stuck = {
            let state = self.storage.state.borrow();
            state.stuck.values().next().cloned().map(|first| (state.stuck.len(), first))
        };
        let Some((count, first)) = stuck else {
            if self.mended(DISK_FULL) {
                journal::note(Level::Info, "log_disk_has_room", "");
            }
            return;
        };
        let detail = format!(
            "{count} partitions have no file to go on in, the first is {first}: when theirs is full, their producers are \
             asked to try again later; make room, lower a topic's retention_bytes, or delete topics"
        );
        if self.degraded_by(DISK_FULL, detail.clone()) || news {
            journal::note(Level::Error, DISK_FULL, &detail);
        }
    }

    /// Opens a segment's file and sends it. Where no descriptor is left it waits for one: nothing is wrong with the file.
    async fn want_open(&self, partition: PartitionId, sequence: u64) {
        let mut told = false;
        loop {
            let Some(path) = self.storage.with_shelf(partition, |shelf| shelf.segment(sequence)) else {
                return;
            };
            let opened = {
                let _permit = self.storage.gate.acquire().await;
                open(&self.disk, &path, false, self.storage.direct).await
            };
            if let Err(error) = &opened
                && !std::mem::replace(&mut told, true)
            {
                journal::note(Level::Error, "log_not_readable", &error.to_string());
            }
            if !opened.as_ref().is_err_and(FileError::wants_descriptors) {
                let result = opened.map_err(|error| error.to_string());
                return self.tell_owner(partition, LogCommand::Opened { partition, sequence, result });
            }
            self.host.sleep(Duration::from_millis(LOG_SPACE_RETRY_MS)).await;
        }
    }

    /// Asks the shard to let go of what retention takes, and once for a snapshot where none covers that.
    fn retain(&self, partition: PartitionId) {
        let now_ns = self.host.clock().wall_ns;
        let retiring = self.storage.with_shelf(partition, |shelf| {
            let Retiring { below, uncovered } = shelf.to_retire(now_ns);
            shelf.retiring = below.or(shelf.retiring);
            let asks = uncovered && !std::mem::replace(&mut shelf.snapshot_asked, true);
            (below, asks)
        });
        let Some((below, asks)) = retiring else { return };
        if let Some(below) = below {
            self.tell_owner(partition, LogCommand::Retire { partition, below });
        }
        if asks {
            self.tell_owner(partition, LogCommand::Snapshot { partition });
        }
    }

    /// Looks for what has become too old.
    pub(super) async fn watch_retention(self: Rc<Self>) {
        loop {
            self.host.sleep(Duration::from_millis(LOG_RETENTION_LOOK_MS)).await;
            let partitions: Vec<_> = self.storage.state.borrow().shelves.keys().copied().collect();
            for partition in partitions {
                self.retain(partition);
                self.remove_retired(partition).await;
            }
        }
    }

    /// The shard has let go: files go.
    async fn retired(&self, partition: PartitionId, below: u64) {
        self.storage.with_shelf(partition, |shelf| shelf.retired(below));
        self.remove_retired(partition).await;
    }

    /// Files of retired segments go, or wait to be used again. Where one cannot go, it and those behind it are tried
    /// again when retention is looked at.
    async fn remove_retired(&self, partition: PartitionId) {
        let storage = &self.storage;
        loop {
            let next = storage.with_shelf(partition, |shelf| {
                let (sequence, bytes, reuse) = shelf.begin_removal()?;
                Some((bytes, retirement(shelf, sequence, reuse)))
            });
            let Some((bytes, Retirement { steps, free })) = next.flatten() else { return };
            let (applied, reused) = (apply_all(&self.disk, &steps).await, free.is_some());
            let result = applied.as_ref().map(|()| free).map_err(|_| ());
            // Of a topic that is deleted meanwhile the folder goes, with the room of all that was in it.
            let Some(()) = storage.with_shelf(partition, |shelf| shelf.removal_done(result)) else { return };
            match applied {
                Err(error) => {
                    return journal::note(Level::Warn, "log_file_not_removed", &error.to_string());
                }
                Ok(()) if reused => storage.freed.notify_waiters(),
                Ok(()) => storage.give_back(bytes),
            }
        }
    }

    /// Renames a folder aside and removes it; its room is free then.
    async fn remove_folder(&self, folder: &Path, bytes: u64) {
        let aside = with_suffix(folder, DELETED);
        let steps = [
            Step::RemoveDir { path: aside.clone() },
            Step::Rename { from: folder.to_owned(), to: aside.clone() },
            Step::SyncDir { path: self.storage.dir.clone() },
            Step::RemoveDir { path: aside },
        ];
        match apply_all(&self.disk, &steps).await {
            Ok(()) => self.storage.give_back(bytes),
            Err(error) => journal::note(Level::Warn, "log_file_not_removed", &error.to_string()),
        }
    }
}
