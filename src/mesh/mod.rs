//! The mesh: bounded queues between every pair of shards, and between each shard and control.
//!
//! It owns every atomic of the data plane that more than one thread writes around: the rings' indexes and
//! the flag that says a peer sleeps. A ring has one sender and one receiver, so nothing here is a lock or a
//! read-modify-write. A full ring is back-pressure: `send` gives the message back.

mod census;
mod ring;
mod sleep;
mod sync;
#[cfg(test)]
mod tests;

pub use census::{Census, TOLD_NO_MAX};
pub use ring::{Receiver, Sender, ring, ring_bytes};

use sleep::SleepFlag;
use sync::Arc;

/// Whether the peer a message was sent to sleeps and has to be woken (`MSG_RING`, eventfd). Whoever gets
/// `WakeNeeded(true)` is the one who wakes it: the announcement is made once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a peer that sleeps does not see its message until somebody wakes it"]
pub struct WakeNeeded(pub bool);

/// One peer's end of the mesh: a ring to and from each other peer. Belongs to the peer's thread.
#[derive(Debug)]
pub struct MeshEnd<T> {
    me: usize,
    /// By peer; none for `me`.
    to: Vec<Option<Sender<T>>>,
    /// By peer; none for `me`.
    from: Vec<Option<Receiver<T>>>,
    flags: Arc<Vec<SleepFlag>>,
    /// Where `receive` looks first.
    next: usize,
}

impl<T: Send> MeshEnd<T> {
    /// The ends of a mesh of `peers`, in their order; the last one is control's. Each ring holds `capacity`
    /// messages.
    ///
    /// # Panics
    /// When `capacity` is not a power of two.
    #[must_use]
    pub fn build(peers: usize, capacity: usize) -> Vec<MeshEnd<T>> {
        let flags = Arc::new((0..peers).map(|_| SleepFlag::new()).collect());
        let mut ends: Vec<MeshEnd<T>> = (0..peers)
            .map(|me| MeshEnd {
                me,
                to: (0..peers).map(|_| None).collect(),
                from: (0..peers).map(|_| None).collect(),
                flags: Arc::clone(&flags),
                next: 0,
            })
            .collect();
        for from in 0..peers {
            for to in (0..peers).filter(|&to| to != from) {
                let (sender, receiver) = ring(capacity);
                ends[from].to[to] = Some(sender);
                ends[to].from[from] = Some(receiver);
            }
        }
        ends
    }

    /// This peer's number.
    #[must_use]
    pub fn me(&self) -> usize {
        self.me
    }

    /// How many peers there are, control included.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.to.len()
    }

    /// Control's number: the last.
    #[must_use]
    pub fn control(&self) -> usize {
        self.to.len() - 1
    }

    /// Sends a message to another peer.
    ///
    /// # Errors
    /// The message, when the ring to that peer is full: try again after the peer has received.
    ///
    /// # Panics
    /// When `to` is not another peer.
    #[inline]
    pub fn send(&mut self, to: usize, message: T) -> Result<WakeNeeded, T> {
        let sender = self.to[to].as_mut().expect("a peer does not send to itself");
        sender.push(message)?;
        Ok(WakeNeeded(self.flags[to].must_wake()))
    }

    /// How many messages the ring to a peer certainly takes now.
    ///
    /// # Panics
    /// When `to` is not another peer.
    #[must_use]
    pub fn room(&mut self, to: usize) -> usize {
        self.to[to].as_mut().expect("a peer does not send to itself").free()
    }

    /// The next message and who sent it, taking one from each peer in turn. The caller bounds how many it
    /// takes in a tick.
    #[inline]
    pub fn receive(&mut self) -> Option<(usize, T)> {
        let peers = self.from.len();
        for step in 0..peers {
            let mut peer = self.next + step;
            if peer >= peers {
                peer -= peers;
            }
            if let Some(message) = self.from[peer].as_mut().and_then(Receiver::pop) {
                self.next = if peer + 1 == peers { 0 } else { peer + 1 };
                return Some((peer, message));
            }
        }
        None
    }

    /// Whether `receive` would find something.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        self.from.iter().flatten().any(|receiver| !receiver.is_empty())
    }

    /// To be called right before waiting in the kernel: from here on a sender is told to wake this peer.
    /// False when a message is there already: do not sleep (and there is no need to call `awake`).
    #[must_use]
    pub fn about_to_sleep(&mut self) -> bool {
        let flag = &self.flags[self.me];
        flag.announce();
        if self.has_messages() {
            flag.withdraw();
            return false;
        }
        true
    }

    /// To be called after waiting: senders need not wake this peer.
    pub fn awake(&mut self) {
        self.flags[self.me].withdraw();
    }
}

/// Bytes of memory a whole mesh takes.
#[must_use]
pub const fn mesh_bytes<T>(peers: usize, capacity: usize) -> usize {
    peers * (peers - 1) * ring_bytes::<T>(capacity)
}
