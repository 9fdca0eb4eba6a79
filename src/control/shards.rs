//! Control's end of the mesh: commands to the shards, their reports, and the tickets that join the two.
//!
//! A command that finds a shard's ring full waits here, in order and bounded. A ticket is answered when every
//! shard that was asked has reported.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use crate::ids::ShardId;
use crate::limits::{CONTROL_BACKLOG_MESSAGES, SHARDS_MAX};
use crate::mesh::MeshEnd;
use crate::partition::PartitionStatus;
use crate::shard::messages::{Command, Message, Report};

const _: () = assert!(SHARDS_MAX <= u64::BITS as usize, "a ticket keeps its shards in one word");

/// What the shards said to one ticket: nothing but `Described` says more than "done".
pub(super) type Answer = Vec<PartitionStatus>;

/// A shard has not taken anything for so long that control has no room left for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ShardStuck(pub ShardId);

struct Ticket {
    /// Shards that have yet to answer, by bit.
    waiting: u64,
    answer: Answer,
    done: oneshot::Sender<Answer>,
}

/// Wakes a shard that has been sent something.
pub(super) type Wake = Box<dyn Fn(ShardId)>;

/// See the module.
pub(super) struct Shards {
    mesh: MeshEnd<Message>,
    wake: Wake,
    /// By shard.
    backlog: Vec<VecDeque<Message>>,
    tickets: HashMap<u64, Ticket>,
    next_ticket: u64,
}

impl Shards {
    /// `mesh` is control's end.
    pub(super) fn new(mesh: MeshEnd<Message>, wake: Wake) -> Shards {
        let backlog = (1..mesh.peers()).map(|_| VecDeque::new()).collect();
        Shards { mesh, wake, backlog, tickets: HashMap::new(), next_ticket: 1 }
    }

    pub(super) fn count(&self) -> usize {
        self.backlog.len()
    }

    /// Sends a command without a ticket to one shard.
    pub(super) fn send(&mut self, shard: ShardId, command: Command) -> Result<(), ShardStuck> {
        if self.backlog[shard.index()].len() >= CONTROL_BACKLOG_MESSAGES {
            return Err(ShardStuck(shard));
        }
        self.backlog[shard.index()].push_back(Message::Command(Box::new(command)));
        self.flush(shard.index());
        Ok(())
    }

    /// Sends a command without a ticket to every shard.
    pub(super) fn tell(&mut self, mut command: impl FnMut() -> Command) -> Result<(), ShardStuck> {
        for shard in shard_ids(self.count()) {
            self.send(shard, command())?;
        }
        Ok(())
    }

    /// Sends a command to every shard; the receiver gets what they answered once all have.
    pub(super) fn ask(
        &mut self,
        mut command: impl FnMut(u64) -> Command,
    ) -> Result<oneshot::Receiver<Answer>, ShardStuck> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tell(|| command(ticket))?;
        let (done, receiver) = oneshot::channel();
        let waiting = u64::MAX >> (u64::BITS as usize - self.count());
        self.tickets.insert(ticket, Ticket { waiting, answer: Vec::new(), done });
        Ok(receiver)
    }

    /// A shard has answered a ticket.
    pub(super) fn answered(&mut self, ticket: u64, shard: ShardId, mut partitions: Answer) {
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        entry.waiting &= !(1 << shard.index());
        entry.answer.append(&mut partitions);
        if entry.waiting == 0
            && let Some(entry) = self.tickets.remove(&ticket)
        {
            // Whoever asked may have stopped waiting.
            let _ = entry.done.send(entry.answer);
        }
    }

    /// The next report.
    pub(super) fn receive(&mut self) -> Option<Report> {
        while let Some((_peer, message)) = self.mesh.receive() {
            // Shards send control nothing but reports.
            if let Message::Report(report) = message {
                return Some(*report);
            }
        }
        None
    }

    /// Tries again what found a ring full; whether something is left.
    pub(super) fn retry(&mut self) -> bool {
        for shard in 0..self.count() {
            self.flush(shard);
        }
        self.backlog.iter().any(|backlog| !backlog.is_empty())
    }

    /// See [`MeshEnd::about_to_sleep`].
    pub(super) fn about_to_sleep(&mut self) -> bool {
        self.mesh.about_to_sleep()
    }

    /// See [`MeshEnd::awake`].
    pub(super) fn awake(&mut self) {
        self.mesh.awake();
    }

    fn flush(&mut self, shard: usize) {
        let mut wake = false;
        while let Some(message) = self.backlog[shard].pop_front() {
            match self.mesh.send(shard, message) {
                Ok(needed) => wake |= needed.0,
                Err(message) => {
                    self.backlog[shard].push_front(message);
                    break;
                }
            }
        }
        if wake {
            (self.wake)(ShardId(u16::try_from(shard).expect("at most SHARDS_MAX shards")));
        }
    }
}

/// The ids of so many shards.
pub(crate) fn shard_ids(count: usize) -> impl Iterator<Item = ShardId> {
    (0..count).map(|index| ShardId(u16::try_from(index).expect("at most SHARDS_MAX shards")))
}
