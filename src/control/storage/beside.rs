//! What is kept beside the segments: an index of each closed one, snapshots of the partition's small state, and the
//! fence of a partition whose disk failed.
//!
//! An index saves the next start work and nothing else, and a snapshot nearly so: one that cannot be written is a
//! warning, and tried again, since of what retention takes a snapshot alone knows. A fence is written until it is
//! durable, because the next start has to cut the log there.

use std::rc::Rc;
use std::time::Duration;

use super::super::files::{Files as _, Step, replace};
use super::super::{Control, journal};
use super::shelf::Shelf;
use crate::commit_log::format::LogFile;
use crate::commit_log::{LogPoint, SegmentInfo, Snapshot, index, snapshot};
use crate::ids::PartitionId;
use crate::limits::LOG_SPACE_RETRY_MS;
use crate::log::Level;

/// A degradation: a partition takes nothing until the next start.
const FENCED: &str = "partition_fenced";
/// What could not be kept.
const NOT_WRITTEN: &str = "log_file_not_written";

impl Control {
    /// A segment takes no more: retention may take it, and its index is written.
    pub(super) async fn sealed(&self, partition: PartitionId, info: SegmentInfo) {
        let path = self.storage.with_shelf(partition, |shelf| {
            shelf.sealed(&info);
            shelf.index(info.sequence)
        });
        let Some(path) = path else { return };
        let bytes = index::encode(partition, &info);
        if let Err(error) = replace(&self.disk, &path, bytes, None).await {
            journal::note(Level::Warn, NOT_WRITTEN, &error.to_string());
        }
        let has_gone = |shelf: &mut Shelf| !shelf.files.contains_key(&info.sequence);
        if self.storage.with_shelf(partition, has_gone) == Some(true) {
            // Retention has taken the segment while its index was written. A start would take that away, too.
            let _ = self.disk.apply(&Step::Remove { path }).await;
        }
        self.retain(partition);
    }

    /// Keeps the newest of the snapshots that have come, however often that has to be tried: retention waits for it.
    pub(super) async fn keep_snapshot(&self, partition: PartitionId, newest: Box<Snapshot>) {
        let begins = self.storage.with_shelf(partition, |shelf| {
            shelf.snapshot = Some(newest);
            !shelf.snapshots_wait && !std::mem::replace(&mut shelf.saving, true)
        });
        if begins != Some(true) {
            // Whoever saves one takes the next too.
            return;
        }
        let mut said = false;
        loop {
            let next = self.storage.with_shelf(partition, |shelf| {
                let next = shelf.snapshot.take_if(|_| !shelf.snapshots_wait);
                shelf.saving = next.is_some();
                next.map(|next| (next, shelf.folder.clone()))
            });
            let Some((next, folder)) = next.flatten() else { return };
            let bytes = snapshot::encode(partition, &next);
            let [path, previous] = [0, 1].map(|age| folder.join(LogFile::Snapshot(age).name()));
            let replaced = replace(&self.disk, &path, bytes, Some(&previous)).await;
            self.storage.with_shelf(partition, |shelf| shelf.snapshot_done(next, &replaced));
            self.retain(partition);
            let Err(error) = replaced else {
                said = false;
                continue;
            };
            if !std::mem::replace(&mut said, true) {
                journal::note(Level::Warn, NOT_WRITTEN, &error.to_string());
            }
            self.host.sleep(Duration::from_millis(LOG_SPACE_RETRY_MS)).await;
        }
    }

    /// The partition's disk has failed: says so, and where the next start has to cut.
    pub(super) async fn fenced(self: Rc<Self>, partition: PartitionId, durable: LogPoint, reason: String) {
        let named = self
            .storage
            .with_shelf(partition, |shelf| (shelf.topic.clone(), shelf.folder.join(LogFile::Fence.name())));
        let Some((topic, path)) = named else { return };
        let LogPoint { offset, .. } = durable;
        let detail = format!(
            "topic {topic} (partition {partition}): {reason}; it takes nothing until the server starts again, and goes \
             on from offset {offset} then; look at the disk first"
        );
        journal::note(Level::Error, FENCED, &detail);
        self.degraded_by(FENCED, detail);
        let mut said = false;
        loop {
            let bytes = snapshot::encode_fence(partition, durable);
            match replace(&self.disk, &path, bytes, None).await {
                Ok(()) => return,
                Err(error) if !std::mem::replace(&mut said, true) => {
                    journal::note(Level::Error, NOT_WRITTEN, &error.to_string());
                }
                Err(_) => {}
            }
            if self.storage.with_shelf(partition, |_| ()).is_none() {
                return;
            }
            self.host.sleep(Duration::from_millis(LOG_SPACE_RETRY_MS)).await;
        }
    }
}
