//! Control's part of logs, for the scripted world: files on the simulated disk, made and opened as shards ask for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rig::*;
use crate::commit_log::{BLOCK_BYTES, RecoveredLog, SegmentInfo, Snapshot};
use crate::ids::PartitionId;
use crate::io::scripted::Disk;
use crate::proto::header::AckLevel;
use crate::shard::messages::{Command, LogCommand, LogReport, Report, SegmentFile, SegmentRefused};
use crate::topic::Topic;

/// Files by partition and sequence, and what shards have said of them.
pub(super) struct Keeper {
    pub disk: Disk,
    /// Bytes of a segment's file.
    pub segment_bytes: u64,
    /// No room for another segment.
    pub full: bool,
    pub files: BTreeMap<(PartitionId, u64), u64>,
    pub closed: BTreeMap<(PartitionId, u64), SegmentInfo>,
    pub snapshots: Vec<(PartitionId, Snapshot)>,
    pub fenced: Vec<(PartitionId, u64, String)>,
    pub retired: Vec<(PartitionId, u64)>,
    /// Partition, ticket, the next segment and the offset before it.
    pub rolled: Vec<(PartitionId, u64, u64, Option<u64>)>,
    /// Wanted and not made, as the disk was full.
    owed: Vec<(PartitionId, u64)>,
    nonces: u64,
}

impl Keeper {
    pub(super) fn new(rig: &Rig, segment_bytes: u64) -> Keeper {
        Keeper {
            disk: rig.disk(),
            segment_bytes,
            full: false,
            files: BTreeMap::new(),
            closed: BTreeMap::new(),
            snapshots: Vec::new(),
            fenced: Vec::new(),
            retired: Vec::new(),
            rolled: Vec::new(),
            owed: Vec::new(),
            nonces: 0x1000,
        }
    }

    /// A topic of kind `log` with a partition on each of these shards, as new.
    pub(super) fn topic(
        &mut self,
        rig: &mut Rig,
        name: &str,
        ring_bytes: u64,
        durability: AckLevel,
        shards: &[u16],
    ) -> Arc<Topic> {
        let places: Vec<_> = shards
            .iter()
            .map(|&shard| (shard, RecoveredLog { next_sequence: 1, ..RecoveredLog::default() }))
            .collect();
        self.topic_from(rig, name, ring_bytes, durability, places)
    }

    /// The same, as recovered.
    pub(super) fn topic_from(
        &mut self,
        rig: &mut Rig,
        name: &str,
        ring_bytes: u64,
        durability: AckLevel,
        places: Vec<(u16, RecoveredLog)>,
    ) -> Arc<Topic> {
        let topic = rig.announce_log_topic(name, ring_bytes, durability, places);
        for partition in &topic.partitions {
            let next = partition.log.as_ref().expect("a log").next_sequence;
            self.offer(rig, usize::from(partition.shard.0), partition.id, next);
        }
        rig.command_each(|| Command::TopicReady { topic: topic.id });
        topic
    }

    fn offer(&mut self, rig: &mut Rig, shard: usize, partition: PartitionId, sequence: u64) {
        let result = if self.full {
            self.owed.push((partition, sequence));
            Err(SegmentRefused::NoSpace("the simulated disk is full".into()))
        } else {
            self.nonces += 1;
            let mut contents = vec![0xa5; usize::try_from(self.segment_bytes).expect("small")];
            contents[..usize::try_from(BLOCK_BYTES).expect("small")].fill(0);
            let mut disk = self.disk.borrow_mut();
            let number = disk.create(contents);
            self.files.insert((partition, sequence), number);
            Ok(SegmentFile { file: disk.open(number), nonce: self.nonces, bytes: self.segment_bytes })
        };
        rig.command_to(shard, Command::Log(LogCommand::Segment { partition, sequence, result }));
    }

    /// Answers what shards have reported since; whether there was anything.
    pub(super) fn serve(&mut self, rig: &mut Rig) -> bool {
        let reports = std::mem::take(&mut rig.reports);
        let mut any = false;
        for report in reports {
            match report {
                Report::Log(report) => {
                    any = true;
                    self.hear(rig, report);
                }
                other => rig.reports.push(other),
            }
        }
        any
    }

    fn hear(&mut self, rig: &mut Rig, report: LogReport) {
        match report {
            LogReport::WantSegment { partition, sequence } => {
                let shard = rig.owner_of(partition);
                self.offer(rig, shard, partition, sequence);
            }
            LogReport::WantOpen { partition, sequence } => {
                let number = self.files.get(&(partition, sequence)).copied();
                let result = match number {
                    Some(number) => Ok(self.disk.borrow().open(number)),
                    None => Err("it is not there".to_owned()),
                };
                let shard = rig.owner_of(partition);
                rig.command_to(shard, Command::Log(LogCommand::Opened { partition, sequence, result }));
            }
            LogReport::Sealed { partition, info } => {
                let before = self.closed.insert((partition, info.sequence), *info);
                assert!(before.is_none(), "a segment is closed once");
            }
            LogReport::Retired { partition, below } => self.retired.push((partition, below)),
            LogReport::Close { file: _ } => {}
            LogReport::Snapshot { partition, snapshot } => self.snapshots.push((partition, *snapshot)),
            LogReport::Rolled { partition, ticket, next, end } => {
                self.rolled.push((partition, ticket, next, end.map(|end| end.offset)));
            }
            LogReport::Fenced { partition, durable, reason } => {
                self.fenced.push((partition, durable.offset, reason));
            }
        }
    }

    /// Ticks and answers until everything has come to rest.
    pub(super) fn run(&mut self, rig: &mut Rig) {
        for _ in 0..200 {
            rig.run();
            if !self.serve(rig) {
                return;
            }
        }
        panic!("shards and control do not come to rest");
    }

    /// There is room again: what is owed is made.
    pub(super) fn make_room(&mut self, rig: &mut Rig) {
        self.full = false;
        for (partition, sequence) in std::mem::take(&mut self.owed) {
            let shard = rig.owner_of(partition);
            self.offer(rig, shard, partition, sequence);
        }
        self.run(rig);
    }
}
