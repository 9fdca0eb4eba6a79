//! A backup's lease: what is copied stays as it is while somebody copies it.
//!
//! At the beginning every partition closes the segment that it writes to; what is closed then, the snapshot of that
//! moment and the catalogue are the backup. Retention leaves a partition alone until it has been copied, the lease is
//! given back, or nobody has renewed it in time. Topics of kind `log` are not deleted meanwhile.
//!
//! Invariants:
//! 1. No snapshot that comes after the beginning is kept before the one there was then has its second name: it may lie
//!    behind a partition's end in the backup.
//! 2. There is one lease at a time.
//! 3. A partition's end in the backup is where its log ended when it was told to close its segment: the shard answers
//!    (`Rolled`) when all before that is durable. A partition that is fenced closes nothing more, and what it holds
//!    behind its closed segments would be missing: there is no backup then.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::api::{BackupFile, BackupLease, BackupPartition, BackupPlan};
use super::super::catalogue::{Catalogue, encode};
use super::super::files::{Step, apply_all};
use super::super::{ApiError, Control, journal, wall_ns};
use super::segments::HALF_MADE;
use super::shelf::{Closed, Shelf};
use crate::commit_log::LogPoint;
use crate::commit_log::format::{LogFile, partition_folder};
use crate::ids::PartitionId;
use crate::limits::{
    LOG_BACKUP_LEASE_MS, LOG_BACKUP_LEASE_MS_MAX, LOG_BACKUP_LEASE_MS_MIN, SHARD_ANSWER_TIMEOUT_MS,
};
use crate::log::Level;
use crate::proto::code::Code;
use crate::shard::messages::LogCommand;
use crate::time::format_utc;

/// Second name of the snapshot that belongs to the backup; a start takes it away.
const HELD: &str = "snapshot.held.new";
/// From one look for snapshots that are being kept to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Time for the indexes of what is closed for a backup.
const INDEXES_WITHIN: Duration = Duration::from_secs(1);
/// Random bytes of a lease's name.
const LEASE_BYTES: usize = 16;

/// Partitions that close their segments.
#[derive(Debug)]
pub(super) struct Rolling {
    ticket: u64,
    waiting: BTreeSet<PartitionId>,
    rolled: Vec<Rolled>,
    fenced: Vec<PartitionId>,
}

#[derive(Debug, Clone, Copy)]
struct Rolled {
    partition: PartitionId,
    next: u64,
    end: LogPoint,
}

/// What somebody copies.
#[derive(Debug)]
pub(super) struct Lease {
    id: String,
    /// Time in which it has to be renewed.
    lease_ms: u64,
    until: Instant,
    partitions: BTreeSet<PartitionId>,
    /// Proves to who copies that the directory is the server's.
    marker: PathBuf,
}

fn no_lease() -> ApiError {
    ApiError::new(404, "unknown_lease", "There is no such backup, or nobody renewed it in time.")
}

impl Control {
    /// Begins a backup whose lease has to be renewed in `lease_ms`.
    pub(in crate::control) async fn begin_backup(
        self: &Rc<Self>,
        lease_ms: Option<u64>,
    ) -> Result<BackupPlan, ApiError> {
        let lease_ms = lease_ms.unwrap_or(LOG_BACKUP_LEASE_MS);
        if !(LOG_BACKUP_LEASE_MS_MIN..=LOG_BACKUP_LEASE_MS_MAX).contains(&lease_ms) {
            let allowed = format!("{LOG_BACKUP_LEASE_MS_MIN} to {LOG_BACKUP_LEASE_MS_MAX}");
            return Err(ApiError::new(
                400,
                "bad_request",
                format!("lease_ms is {lease_ms}; allowed: {allowed}."),
            ));
        }
        // No topic comes or goes while this takes its picture.
        let _gate = self.topic_gate.lock().await;
        self.must_not_drain()?;
        let id = self.take_lease(lease_ms)?;
        let begun = self.picture(&id, lease_ms).await;
        if begun.is_err() {
            self.end_lease(&id).await;
        } else {
            journal::note(Level::Info, "backup_begun", &id);
        }
        begun
    }

    fn take_lease(self: &Rc<Self>, lease_ms: u64) -> Result<String, ApiError> {
        let mut random = [0; LEASE_BYTES];
        getrandom::fill(&mut random).map_err(|error| ApiError::new(500, "internal", error.to_string()))?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut state = self.storage.state.borrow_mut();
        if state.lease.is_some() {
            let message = "Another backup is being made; it ends by itself when nobody goes on with it.";
            return Err(ApiError::new(409, "backup_running", message));
        }
        let partitions: BTreeSet<_> = state.shelves.keys().copied().collect();
        for shelf in state.shelves.values_mut() {
            shelf.held_from = Some(0);
        }
        let marker = self.storage.dir.join(format!("{id}{HALF_MADE}"));
        let until = Instant::now() + Duration::from_millis(lease_ms);
        state.lease = Some(Lease { id: id.clone(), lease_ms, until, partitions, marker });
        drop(state);
        let (control, of) = (Rc::clone(self), id.clone());
        tokio::task::spawn_local(async move { control.watch_lease(&of).await });
        Ok(id)
    }

    /// Closes all segments and says what is to be copied.
    async fn picture(&self, id: &str, lease_ms: u64) -> Result<BackupPlan, ApiError> {
        let rolled = self.roll_all().await;
        let result = match rolled {
            Ok(rolled) => self.hold_snapshots(&rolled).await.map(|()| rolled),
            Err(error) => Err(error),
        };
        self.release_snapshots();
        let rolled = result?;
        // Indexes of what has just been closed come along where they are there by then.
        self.log_settled(INDEXES_WITHIN).await;
        let marker = self.storage.state.borrow().lease.as_ref().map(|lease| lease.marker.clone());
        let Some(marker) = marker else { return Err(no_lease()) };
        let steps = [Step::Write { path: marker.clone(), bytes: Vec::new() }];
        apply_all(&self.disk, &steps)
            .await
            .map_err(|error| ApiError::new(507, Code::DiskFull.name(), error.to_string()))?;
        let path = |path: &std::path::Path| {
            std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
        };
        Ok(BackupPlan {
            lease: id.to_owned(),
            lease_ms,
            created: format_utc(wall_ns()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log_dir: path(&self.storage.dir),
            marker: path(&marker),
            catalogue: String::from_utf8_lossy(&encode(&self.catalogue_at(&rolled))).into_owned(),
            partitions: self.to_copy(&rolled),
        })
    }

    async fn roll_all(&self) -> Result<Vec<Rolled>, ApiError> {
        let (ticket, partitions) = {
            let mut state = self.storage.state.borrow_mut();
            state.rolls += 1;
            let ticket = state.rolls;
            let waiting: BTreeSet<_> = state.shelves.keys().copied().collect();
            let partitions = waiting.clone();
            state.rolling = Some(Rolling { ticket, waiting, rolled: Vec::new(), fenced: Vec::new() });
            for shelf in state.shelves.values_mut() {
                shelf.snapshots_wait = true;
            }
            (ticket, partitions)
        };
        for partition in partitions {
            self.tell_owner(partition, LogCommand::Roll { partition, ticket });
        }
        let limit = Instant::now() + Duration::from_millis(SHARD_ANSWER_TIMEOUT_MS);
        loop {
            let rolled = self.storage.rolled.notified();
            let done = |rolling: &Rolling| rolling.waiting.is_empty();
            if self.storage.state.borrow().rolling.as_ref().is_none_or(done) {
                break;
            }
            if tokio::time::timeout_at(limit, rolled).await.is_err() {
                break;
            }
        }
        let rolling = self.storage.state.borrow_mut().rolling.take();
        let Rolling { waiting, rolled, fenced, .. } =
            rolling.expect("one backup at a time, which takes it here alone");
        if let Some(partition) = fenced.first() {
            let message = format!(
                "Partition {partition} is fenced, as its disk has failed: start the server again before the backup. \
                 `uringest log repair` copies the log of a server that is stopped."
            );
            return Err(ApiError::new(503, Code::PartitionFenced.name(), message));
        }
        match waiting.first() {
            None => Ok(rolled),
            Some(partition) => {
                let message =
                    format!("Partition {partition} did not close its segment in time; is its disk full?");
                Err(ApiError::new(503, Code::Unavailable.name(), message))
            }
        }
    }

    /// All that a partition held when it was told to close its segment is closed and durable, up to `end`; nothing is
    /// closed where it is fenced.
    pub(super) fn rolled(&self, partition: PartitionId, ticket: u64, next: u64, end: Option<LogPoint>) {
        let mut state = self.storage.state.borrow_mut();
        let Some(rolling) = state.rolling.as_mut().filter(|rolling| rolling.ticket == ticket) else { return };
        if rolling.waiting.remove(&partition) {
            match end {
                Some(end) => rolling.rolled.push(Rolled { partition, next, end }),
                None => rolling.fenced.push(partition),
            }
        }
        drop(state);
        self.storage.rolled.notify_one();
    }

    /// Gives each partition's newest snapshot a second name, once none is being kept.
    async fn hold_snapshots(&self, rolled: &[Rolled]) -> Result<(), ApiError> {
        let limit = Instant::now() + Duration::from_millis(SHARD_ANSWER_TIMEOUT_MS);
        while self.storage.state.borrow().shelves.values().any(|shelf| shelf.saving) {
            if Instant::now() > limit {
                return Err(ApiError::new(
                    503,
                    Code::Unavailable.name(),
                    "The log's disk is too slow just now.",
                ));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        for Rolled { partition, .. } in rolled {
            let Some(folder) = self.storage.with_shelf(*partition, |shelf| shelf.folder.clone()) else {
                continue;
            };
            let steps = [
                Step::Remove { path: folder.join(HELD) },
                Step::Keep { from: folder.join(LogFile::Snapshot(0).name()), to: folder.join(HELD) },
            ];
            apply_all(&self.disk, &steps)
                .await
                .map_err(|error| ApiError::new(507, Code::DiskFull.name(), error.to_string()))?;
        }
        Ok(())
    }

    fn release_snapshots(&self) {
        let mut waiting = Vec::new();
        for (partition, shelf) in &mut self.storage.state.borrow_mut().shelves {
            if std::mem::replace(&mut shelf.snapshots_wait, false)
                && let Some(snapshot) = shelf.snapshot.take()
            {
                waiting.push((*partition, snapshot));
            }
        }
        for (partition, snapshot) in waiting {
            if let Some(control) = self.itself.upgrade() {
                control.log_task(|control| async move { control.keep_snapshot(partition, snapshot).await });
            }
        }
    }

    /// The catalogue as it belongs to the backup: nobody has committed what is not in it.
    fn catalogue_at(&self, rolled: &[Rolled]) -> Catalogue {
        let mut catalogue = self.registry.borrow().catalogue.clone();
        for Rolled { partition, end, .. } in rolled {
            catalogue.limit_commits(*partition, end.offset);
        }
        catalogue
    }

    fn to_copy(&self, rolled: &[Rolled]) -> Vec<BackupPartition> {
        let registry = self.registry.borrow();
        let mut partitions = Vec::new();
        for topic in registry.catalogue.topics.iter().filter(|topic| topic.log.is_some()) {
            for (number, partition) in (0..).zip(&topic.partitions) {
                let id = PartitionId(partition.id);
                let Some(rolled) = rolled.iter().find(|rolled| rolled.partition == id) else { continue };
                let copied = self.storage.with_shelf(id, |shelf| copied(shelf, id, rolled));
                let (start, files) = copied.unwrap_or((rolled.end.offset, Vec::new()));
                partitions.push(BackupPartition {
                    topic: topic.name.clone(),
                    id: number,
                    partition_id: partition.id,
                    log_start_offset: start,
                    log_end_offset: rolled.end.offset,
                    files,
                });
            }
        }
        partitions
    }

    /// Renews the lease; partitions that have been copied are let go.
    pub(in crate::control) fn renew_backup(&self, id: &str, done: &[u32]) -> Result<BackupLease, ApiError> {
        let (done, lease_ms): (Vec<_>, _) = {
            let mut state = self.storage.state.borrow_mut();
            let Some(lease) = state.lease.as_mut().filter(|lease| lease.id == id) else {
                return Err(no_lease());
            };
            lease.until = Instant::now() + Duration::from_millis(lease.lease_ms);
            let done = done.iter().map(|id| PartitionId(*id)).filter(|id| lease.partitions.remove(id));
            (done.collect(), lease.lease_ms)
        };
        for partition in done {
            self.storage.with_shelf(partition, |shelf| shelf.held_from = None);
            self.retain(partition);
        }
        Ok(BackupLease { lease: id.to_owned(), lease_ms })
    }

    /// Gives the lease back.
    pub(in crate::control) async fn end_backup(&self, id: &str) -> Result<(), ApiError> {
        if self.end_lease(id).await { Ok(()) } else { Err(no_lease()) }
    }

    /// A backup is being made, and what it copies must stay.
    pub(in crate::control) fn backup_is_running(&self) -> bool {
        self.storage.state.borrow().lease.is_some()
    }

    async fn watch_lease(&self, id: &str) {
        loop {
            let until = {
                let state = self.storage.state.borrow();
                let Some(lease) = state.lease.as_ref().filter(|lease| lease.id == id) else { return };
                lease.until
            };
            if until <= Instant::now() {
                self.end_lease(id).await;
                journal::note(
                    Level::Warn,
                    "backup_given_up",
                    "nobody went on with it: what it copied may go again",
                );
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    async fn end_lease(&self, id: &str) -> bool {
        let (lease, folders) = {
            let mut state = self.storage.state.borrow_mut();
            let Some(lease) = state.lease.take_if(|lease| lease.id == id) else { return false };
            let mut folders = Vec::new();
            for shelf in state.shelves.values_mut() {
                shelf.held_from = None;
                folders.push(shelf.folder.clone());
            }
            (lease, folders)
        };
        for &partition in &lease.partitions {
            self.retain(partition);
        }
        let held = folders.into_iter().map(|folder| Step::Remove { path: folder.join(HELD) });
        let steps: Vec<_> = held.chain([Step::Remove { path: lease.marker }]).collect();
        if let Err(error) = apply_all(&self.disk, &steps).await {
            journal::note(Level::Warn, "log_file_not_removed", &error.to_string());
        }
        true
    }
}

/// Where a partition begins in the backup, and its files.
fn copied(shelf: &Shelf, id: PartitionId, rolled: &Rolled) -> (u64, Vec<BackupFile>) {
    let folder = partition_folder(id);
    let closed: Vec<&Closed> = shelf.closed.iter().filter(|closed| closed.sequence < rolled.next).collect();
    let mut files = Vec::new();
    for closed in &closed {
        let file_bytes = shelf.files.get(&closed.sequence).copied().unwrap_or(shelf.file_bytes);
        let name = format!("{folder}/{}", LogFile::Segment(closed.sequence).name());
        let bytes = closed.used_bytes().min(file_bytes);
        files.push(BackupFile { from: name.clone(), name, bytes, file_bytes });
        small(shelf, &folder, &LogFile::Index(closed.sequence).name(), None, &mut files);
    }
    small(shelf, &folder, HELD, Some(LogFile::Snapshot(0)), &mut files);
    (closed.first().map_or(rolled.end.offset, |first| first.base.offset), files)
}

/// A small file, where it is there.
fn small(shelf: &Shelf, folder: &str, from: &str, to: Option<LogFile>, files: &mut Vec<BackupFile>) {
    let Ok(found) = std::fs::metadata(shelf.folder.join(from)) else { return };
    let name = to.map_or_else(|| from.to_owned(), LogFile::name);
    let bytes = found.len();
    files.push(BackupFile {
        from: format!("{folder}/{from}"),
        name: format!("{folder}/{name}"),
        bytes,
        file_bytes: bytes,
    });
}
