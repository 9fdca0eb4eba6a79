//! What a shard says to its peers and to control: messages that may be refused, and answers, which must arrive.
//!
//! An answer that finds a peer's ring full waits in that peer's backlog, before anything else to it. The shard spins for
//! it at first, as a peer works its ring off in a tick or two, and then looks now and again, as that one does not run.

use std::collections::VecDeque;

use super::Shard;
use super::messages::{Message, Report};
use crate::io::Io;
use crate::mesh::WakeNeeded;
use crate::metrics::Counter;
use crate::mutation::{self, Mutation};

/// How long a shard spins for a full ring.
const SPIN_NS: u64 = 2_000_000;
/// When a full ring is looked at again, where nothing is lost by waiting or its peer does not run.
pub(super) const LOOK_NS: u64 = 50_000;

/// Answers that wait for room in one peer's ring.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    messages: VecDeque<Message>,
    /// Of the monotonic clock: since when none could be sent.
    stuck_since_ns: u64,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

impl<I: Io> Shard<I> {
    /// Sends a message that may be refused: it comes back when the peer's ring is full.
    pub(super) fn try_send(&mut self, to: usize, message: Message) -> Result<(), Message> {
        if !self.backlog[to].is_empty() {
            self.counters.add(Counter::MeshFull, 1);
            return Err(message);
        }
        self.put(to, message).inspect_err(|_| self.counters.add(Counter::MeshFull, 1))
    }

    /// Puts a message into a peer's ring, where there is room.
    fn put(&mut self, to: usize, message: Message) -> Result<(), Message> {
        let WakeNeeded(wake) = self.mesh.send(to, message)?;
        self.counters.add(Counter::MeshSent, 1);
        if wake && !mutation::on(Mutation::WakeNobody) {
            self.counters.add(Counter::WakesSent, 1);
            self.io.wake(&self.peers[to]);
        }
        Ok(())
    }

    /// Sends an answer, which must arrive. There are never more of them than questions were taken.
    pub(super) fn send_surely(&mut self, to: usize, message: Message) {
        if let Err(message) = self.try_send(to, message) {
            if mutation::on(Mutation::LoseAnswer) {
                return;
            }
            let backlog = &mut self.backlog[to];
            if backlog.is_empty() {
                backlog.stuck_since_ns = self.clock.mono_ns;
            }
            backlog.messages.push_back(message);
            self.ring_is_full(to);
        }
    }

    pub(super) fn report(&mut self, report: Report) {
        self.send_surely(self.mesh.control(), Message::Report(Box::new(report)));
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush_backlog(&mut self) {
        for to in 0..self.backlog.len() {
            while let Some(message) = self.backlog[to].messages.pop_front() {
                if let Err(message) = self.put(to, message) {
                    self.backlog[to].messages.push_front(message);
                    self.ring_is_full(to);
                    break;
                }
                self.backlog[to].stuck_since_ns = self.clock.mono_ns;
            }
        }
    }

    fn ring_is_full(&mut self, to: usize) {
        let stuck_ns = self.clock.mono_ns.saturating_sub(self.backlog[to].stuck_since_ns);
        if stuck_ns < SPIN_NS {
            self.busy = true;
        } else {
            self.look_again(LOOK_NS);
        }
    }
}
