//! What retention takes of the logs, held against what it may take: whole closed segments, the oldest first, never the
//! newest, and none that is neither beyond the topic's bytes nor older than it says. In the end it has taken all it had to.
//!
//! What the shards have is looked at, and control decides: what a shard has closed and control has not heard of yet makes
//! the log only longer, so nothing that control may take looks as if it had to stay.

use std::collections::{BTreeMap, VecDeque};

use super::{MS, World};
use crate::commit_log::{BLOCK_BYTES, SegmentInfo, block_up};
use crate::ids::PartitionId;
use crate::limits::LOG_RETENTION_LOOK_MS;
use crate::sim::oracle::{Oracle, Place};
use crate::sim::plan::Retention;
use crate::sim::server::{SEGMENT_BYTES, Server};

/// A closed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Closed {
    sequence: u64,
    bytes: u64,
    last_time_ns: u64,
    end: u64,
}

impl Closed {
    fn of(info: &SegmentInfo) -> Closed {
        Closed {
            sequence: info.sequence,
            bytes: BLOCK_BYTES + block_up(info.end.position) - info.base.position,
            last_time_ns: info.last_time_ns,
            end: info.end.offset,
        }
    }
}

/// What is known of the logs.
#[derive(Debug, Default)]
pub(super) struct Retained {
    /// In this life, as they were when they were last looked at.
    logs: BTreeMap<PartitionId, VecDeque<Closed>>,
    /// The latest that the wall clock has ever said.
    wall_ns: u64,
    /// Segments that were taken.
    pub segments: u64,
}

impl Retained {
    /// Another life: logs are as recovery has found them.
    pub(super) fn begin(&mut self) {
        self.logs.clear();
    }

    /// How a log's closed segments are now; what of them is gone, with all there were.
    fn take(&mut self, id: PartitionId, now: &VecDeque<SegmentInfo>) -> Option<(Vec<Closed>, usize)> {
        let known = self.logs.entry(id).or_default();
        let behind = known.back().map_or(0, |last| last.sequence + 1);
        let fresh = now.iter().rev().take_while(|info| info.sequence >= behind).count();
        known.extend(now.iter().skip(now.len() - fresh).map(Closed::of));
        let gone = known.len() - now.len();
        if gone == 0 {
            return None;
        }
        let all: Vec<Closed> = known.iter().copied().collect();
        known.drain(..gone);
        assert!(
            known.iter().map(|closed| closed.sequence).eq(now.iter().map(|info| info.sequence)),
            "a log loses what is oldest: of {all:?} there is {now:?}"
        );
        self.segments += gone as u64;
        Some((all, gone))
    }
}

impl World<'_> {
    /// The wall clock is about to jump.
    pub(super) fn note_wall(&mut self) {
        self.retained.wall_ns = self.retained.wall_ns.max(self.clock().wall_ns);
    }

    /// What a shard has let go of was to go.
    pub(super) fn look_at_logs(&mut self, shard: usize) {
        self.note_wall();
        let Some(server) = &self.server else { return };
        for (id, now) in server.shards[shard].closed_segments() {
            let Some((all, gone)) = self.retained.take(id, now) else { continue };
            let Some(place) = place_of(&self.oracle, server, id) else { continue };
            let retention = self.plan.topics[place.0].retention;
            assert_may_go(retention, &all, gone, self.retained.wall_ns);
            self.oracle.retired(place, all[gone - 1].end);
            self.journal.note(self.now_ns, "retired", &[place.0 as u64, place.1.into(), gone as u64]);
        }
    }

    /// What is beyond a log's bytes has gone when nothing happens any more.
    pub(super) fn assert_retention_done(&mut self) {
        // Control looks for it by itself.
        self.run_until(self.now_ns + 2 * LOG_RETENTION_LOOK_MS * MS, |_| false);
        let server = self.server.as_ref().expect("nothing has stopped it");
        for (id, now) in server.shards.iter().flat_map(|shard| shard.closed_segments()) {
            let Some(place) = place_of(&self.oracle, server, id) else { continue };
            let retention = self.plan.topics[place.0].retention;
            let bytes: u64 = now.iter().map(|info| Closed::of(info).bytes).sum();
            assert!(
                retention.segments == 0 || now.len() <= 1 || bytes <= retention.segments * SEGMENT_BYTES,
                "{place:?} still has {bytes} bytes in {} closed segments: {retention:?}",
                now.len()
            );
        }
    }
}

/// Each of the `gone` first ones was beyond the bytes, with those behind it, or too old; `wall_ns`: it has never been later.
fn assert_may_go(retention: Retention, all: &[Closed], gone: usize, wall_ns: u64) {
    assert!(gone < all.len(), "the newest closed segment stays, which says where the log ends: {all:?}");
    for (at, closed) in all[..gone].iter().enumerate() {
        let bytes: u64 = all[at..].iter().map(|closed| closed.bytes).sum();
        let beyond = retention.segments > 0 && bytes > retention.segments * SEGMENT_BYTES;
        let age_ns = wall_ns.saturating_sub(closed.last_time_ns);
        let old = retention.ms > 0 && age_ns > retention.ms * MS;
        assert!(beyond || old, "{closed:?} of {all:?} is gone, and {retention:?} keeps it at {wall_ns}");
    }
}

/// What a partition is; `None`: of a topic that is on its way out.
fn place_of(oracle: &Oracle, server: &Server, id: PartitionId) -> Option<Place> {
    let is_there = server.topics().iter().any(|topic| topic.partitions.iter().any(|of| of.id == id));
    is_there.then(|| oracle.place(id.0))
}
