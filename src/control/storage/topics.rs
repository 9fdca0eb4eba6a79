//! The logs of a topic, from its making (or the server's start) to its deletion.

use std::collections::HashMap;
use std::rc::Rc;

use super::shelf::{FIRST_SEQUENCE, Shelf};
use super::{Control, refused};
use crate::control::catalogue::TopicEntry;
use crate::control::files::{FileError, Step, apply_all};
use crate::control::host::beside;
use crate::control::{ApiError, Degraded, journal};
use crate::ids::PartitionId;
use crate::limits::LOG_ZEROED_AT_ONCE_BYTES;
use crate::log::Level;
use crate::proto::code::Code;
use crate::shard::messages::{LogCommand, SegmentFile, SegmentRefused};

/// The first file of a partition, or why there is none.
pub(in crate::control) struct First {
    partition: PartitionId,
    sequence: u64,
    result: Result<SegmentFile, SegmentRefused>,
}

impl Control {
    /// Makes the folders of a new topic's partitions and the first segment's file of each. Nothing for other kinds.
    ///
    /// # Errors
    /// There is no room, or no way; nothing is left then.
    pub(in crate::control) async fn make_logs(&self, entry: &TopicEntry) -> Result<Vec<First>, ApiError> {
        let Some(settings) = entry.log else { return Ok(Vec::new()) };
        let file_bytes = self.config.borrow().segment_bytes(settings.segment_bytes);
        let zeroed = file_bytes.saturating_mul(entry.partitions.len() as u64) <= LOG_ZEROED_AT_ONCE_BYTES;
        let mut made = Vec::with_capacity(entry.partitions.len());
        for partition in &entry.partitions {
            let id = PartitionId(partition.id);
            let shard = self.registry.borrow().owner(id);
            let shelf = Shelf::new(entry.name.clone(), shard, self.storage.folder(id), settings, file_bytes);
            let result = self.make_log(id, shelf, zeroed).await;
            match result {
                Ok(file) => made.push(First { partition: id, sequence: FIRST_SEQUENCE, result: Ok(file) }),
                Err(why) => {
                    self.close_first(made);
                    self.remove_logs(entry).await;
                    return Err(no_log(why));
                }
            }
        }
        if let Some(Degraded { key, detail }) = self.storage.indirect.clone()
            && self.degraded_by(key, detail.clone())
        {
            journal::note(Level::Warn, key, &detail);
        }
        Ok(made)
    }

    async fn make_log(
        &self,
        id: PartitionId,
        shelf: Shelf,
        zeroed: bool,
    ) -> Result<SegmentFile, SegmentRefused> {
        let folder = shelf.folder.clone();
        let steps = [
            // Left by a topic that was never confirmed.
            Step::RemoveDir { path: folder.clone() },
            Step::MakeDir { path: folder },
            Step::SyncDir { path: self.storage.dir.clone() },
        ];
        apply_all(&self.disk, &steps).await.map_err(|error: FileError| refused(&error))?;
        self.storage.state.borrow_mut().shelves.insert(id, shelf);
        let made = self.make_segment(id, FIRST_SEQUENCE, zeroed).await;
        made.unwrap_or_else(|| Err(SegmentRefused::Failed("the topic is being deleted".into())))
    }

    /// The first file of each partition that exists since before the start, several at once.
    pub(in crate::control) async fn first_segments(self: &Rc<Self>) -> HashMap<PartitionId, First> {
        let wanted: Vec<_> = {
            let registry = self.registry.borrow();
            let partitions = registry.live().flat_map(|topic| &topic.partitions);
            let logs = partitions.filter_map(|one| Some((one.id, one.log.as_ref()?.next_sequence)));
            logs.collect()
        };
        let bytes: u64 = {
            let state = self.storage.state.borrow();
            state.shelves.values().filter(|shelf| shelf.free.is_empty()).map(|shelf| shelf.file_bytes).sum()
        };
        let zeroed = bytes <= LOG_ZEROED_AT_ONCE_BYTES;
        let making: Vec<_> = wanted
            .into_iter()
            .map(|(partition, sequence)| {
                let control = Rc::clone(self);
                beside(&*self.host, async move {
                    let _permit = control.storage.gate.acquire().await;
                    let result = control.make_segment(partition, sequence, zeroed).await;
                    let gone = || Err(SegmentRefused::Failed("the topic is gone".into()));
                    First { partition, sequence, result: result.unwrap_or_else(gone) }
                })
            })
            .collect();
        let mut firsts = HashMap::with_capacity(making.len());
        for made in making {
            if let Ok(first) = made.await {
                firsts.insert(first.partition, first);
            }
        }
        firsts
    }

    /// Sends the first files to the shards that own the partitions. For a partition that has none, control goes on
    /// trying.
    pub(in crate::control) fn send_first(self: &Rc<Self>, firsts: Vec<First>) {
        for First { partition, sequence, result } in firsts {
            if result.is_ok() {
                self.tell_owner(partition, LogCommand::Segment { partition, sequence, result });
            } else {
                let control = Rc::clone(self);
                self.host.spawn(Box::pin(async move { control.want_segment(partition, sequence).await }));
            }
        }
    }

    /// Nobody gets these files.
    pub(in crate::control) fn close_first(&self, firsts: Vec<First>) {
        for file in firsts.into_iter().filter_map(|first| first.result.ok()) {
            self.host.close(file.file);
        }
    }

    /// Every shard has let go of the topic (or never knew it): its logs go.
    pub(in crate::control) async fn remove_logs(&self, entry: &TopicEntry) {
        for partition in entry.partitions.iter().filter(|_| entry.log.is_some()) {
            let id = PartitionId(partition.id);
            let Some(shelf) = self.storage.state.borrow_mut().shelves.remove(&id) else { continue };
            self.unstick(id);
            self.remove_folder(&shelf.folder, shelf.all_bytes()).await;
        }
    }
}

fn no_log(why: SegmentRefused) -> ApiError {
    match why {
        SegmentRefused::NoSpace(detail) => ApiError::new(507, Code::DiskFull.name(), detail),
        SegmentRefused::Failed(detail) => ApiError::new(500, "log_not_made", detail),
    }
}
