//! Applications that end and come back, and go on where they have committed.

use super::*;

impl World<'_> {
    /// A client has lost its connection: an application that resumes ends with it, now and then.
    pub(super) fn may_leave(&mut self, client: usize) {
        let resumes = self.resumes(client);
        self.clients[client].leaves |= resumes && self.resuming.chance(500);
    }

    /// Another begins in its place a little later; whether it does.
    pub(super) fn has_left(&mut self, client: usize) -> bool {
        let leaves = std::mem::take(&mut self.clients[client].leaves);
        if leaves {
            let after_ns = self.resuming.below(20 * MS);
            self.start_again(client, after_ns);
        }
        leaves
    }

    fn resumes(&self, client: usize) -> bool {
        let consumer = client.checked_sub(self.plan.producers.len());
        consumer.and_then(|at| self.plan.consumers.get(at)).is_some_and(|of| of.resumes)
    }

    /// In half of the runs the server comes to its end in good order, with nothing in its way, and starts again.
    pub(super) fn come_back(&mut self) {
        if !self.resuming.chance(500) {
            return;
        }
        let life = self.life;
        self.drain(10 * MS);
        let is_back = |world: &World| world.life > life && World::is_settled(world);
        let back = self.run_until(self.now_ns + GRACE_NS, is_back);
        assert!(back, "nothing is in the way of a server that is to start again: {}", self.unsettled());
    }

    /// Each that resumes does so once more, with nothing in its way.
    pub(super) fn resume_all(&mut self) {
        for client in 0..self.clients.len() {
            if self.resumes(client) && !self.clients[client].over {
                self.start_again(client, MS);
            }
        }
        let settled = self.run_until(self.now_ns + GRACE_NS, World::is_settled);
        assert!(settled, "nothing is in the way of those that resume: {}", self.unsettled());
    }
}
