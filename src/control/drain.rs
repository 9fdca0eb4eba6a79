//! The end of the server: shards deliver what they have, within a deadline; exact ends and commits are saved.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Control, ShardEnd, journal, shard_ids};
use crate::ids::ShardId;
use crate::lifecycle::State;
use crate::limits::LOG_SETTLE_MS;
use crate::log::Level;
use crate::shard::messages::Command;

/// How a server ends.
pub mod exit {
    /// Everything that was taken is delivered, and the catalogue is saved.
    pub const CLEAN: u8 = 0;
    /// A shard could not go on.
    pub const FAILED: u8 = 1;
    /// The deadline came before everything was delivered and written, or the catalogue could not be saved.
    pub const LEFTOVER: u8 = 5;
}

/// Time beyond the deadline for a shard to say how it went.
const GRACE: Duration = Duration::from_millis(1_000);

/// How far the shards are with their end. Sets are bits by shard.
#[derive(Debug, Default)]
pub(super) struct Drain {
    drained: u64,
    /// Drained with something of a log that is not on the disk.
    unsettled: u64,
    ended: u64,
    failed: u64,
    leftover: u64,
}

impl Drain {
    pub(super) fn drained(&mut self, shard: ShardId, leftover: u64, settled: bool) {
        if self.drained & (1 << shard.index()) == 0 {
            self.leftover = self.leftover.saturating_add(leftover);
        }
        self.drained |= 1 << shard.index();
        self.unsettled |= u64::from(!settled) << shard.index();
    }

    pub(super) fn ended(&mut self, shard: ShardId, in_order: bool) {
        self.ended |= 1 << shard.index();
        if !in_order {
            self.failed |= 1 << shard.index();
        }
    }

    /// Drained and ended without an error: its last word, with its partitions' ends, was heard.
    fn ended_in_order(&self, shard: ShardId) -> bool {
        (self.drained & self.ended & !self.failed) & (1 << shard.index()) != 0
    }
}

impl Control {
    fn shard_count(&self) -> usize {
        self.shards.borrow().count()
    }

    /// Drains, stops the shards, saves; the exit status.
    pub(super) async fn drain_all(self: &Rc<Self>, ended: &mut mpsc::UnboundedReceiver<ShardEnd>) -> u8 {
        let failed_before = self.drain.borrow().ended != 0;
        // Only a server that has stopped cannot be drained, and nothing stops it but this.
        let _ = self.lifecycle.advance(State::Draining);
        let limit = Duration::from_millis(self.config.borrow().drain_deadline_ms);
        let detail = format!("delivering what is in flight, for at most {} ms", limit.as_millis());
        journal::note(Level::Info, "draining", &detail);
        let deadline_ns = self.host.clock().mono_ns + nanos(limit);
        for shard in shard_ids(self.shard_count()) {
            // A shard that takes no commands is told below by its silence.
            let _ = self.shards.borrow_mut().send(shard, Command::Drain { deadline_ns });
        }
        let all = u64::MAX >> (u64::BITS as usize - self.shard_count());
        let drained =
            self.until(deadline_ns + nanos(GRACE), ended, |drain| drain.drained | drain.ended == all);
        drained.await;
        // A topic command that is under way ends first; none begins any more.
        let _gate = self.topic_gate.lock().await;
        for shard in shard_ids(self.shard_count()) {
            let _ = self.shards.borrow_mut().send(shard, Command::Stop);
        }
        let ended_by_ns = self.host.clock().mono_ns + 2 * nanos(GRACE);
        self.until(ended_by_ns, ended, |drain| drain.ended == all).await;
        while self.take_reports(usize::MAX) > 0 {}
        if !self.log_settled(Duration::from_millis(LOG_SETTLE_MS)).await {
            journal::note(
                Level::Warn,
                "log_not_settled",
                "the next start reads more of the log than it would have to",
            );
        }
        let status = self.last_save(all, failed_before).await;
        // The state before was `draining`: the table has this transition.
        let _ = self.lifecycle.advance(State::Stopped);
        journal::note(Level::Info, "stopped", &format!("exit status {status}"));
        status
    }

    async fn last_save(&self, all: u64, failed_before: bool) -> u8 {
        for shard in shard_ids(self.shard_count()) {
            if self.drain.borrow().ended_in_order(shard) {
                self.registry.borrow_mut().shard_stopped(shard);
            }
        }
        let saved = self.save().await;
        let drain = self.drain.borrow();
        let silent = (all & !drain.drained).count_ones();
        if drain.failed != 0 || failed_before {
            return exit::FAILED;
        }
        let unended = (drain.drained & !drain.ended).count_ones();
        let unsettled = drain.unsettled.count_ones();
        if drain.leftover > 0 || silent + unended + unsettled > 0 {
            let detail = format!(
                "{} records were not delivered, {silent} shards did not answer, {unended} shards did not end, logs of {unsettled} shards are not written",
                drain.leftover
            );
            journal::note(Level::Warn, "drain_incomplete", &detail);
            return exit::LEFTOVER;
        }
        if saved.is_err() { exit::LEFTOVER } else { exit::CLEAN }
    }

    /// Waits until the shards are that far, or the time is up.
    async fn until(
        &self,
        at_ns: u64,
        ended: &mut mpsc::UnboundedReceiver<ShardEnd>,
        far_enough: impl Fn(&Drain) -> bool,
    ) {
        let left = at_ns.saturating_sub(self.host.clock().mono_ns);
        let mut over = self.host.sleep(Duration::from_nanos(left));
        let mut open = true;
        while !far_enough(&self.drain.borrow()) {
            tokio::select! {
                biased;
                () = self.progress.notified() => {}
                end = ended.recv(), if open => {
                    open = end.is_some();
                    self.shard_ended(end);
                }
                () = &mut over => return,
            }
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2)
}
