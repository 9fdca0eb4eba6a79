//! One deadline for each connection: the earliest of what it waits for. Activity only moves a deadline
//! later, so the wheel is not touched for it; an expiry that comes too early sets the next one.

use crate::ids::ConnId;
use crate::io::Io;
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;

use super::Shard;
use super::conn::Phase;

impl<I: Io> Shard<I> {
    /// Sets the connection's timer to what it waits for next.
    pub(super) fn arm_timer(&mut self, id: ConnId) {
        let due = self.due_ns(id);
        self.conns[id].timer_ns = due;
        if due == u64::MAX {
            self.timers.cancel(id.0);
        } else {
            self.timers.set(id.0, due);
        }
    }

    /// Moves the timer forward where it is set for later: cheap when it is not, and never moves it back.
    pub(super) fn timer_no_later_than(&mut self, id: ConnId, due_ns: u64) {
        if self.conns[id].timer_ns > due_ns {
            self.conns[id].timer_ns = due_ns;
            self.timers.set(id.0, due_ns);
        }
    }

    fn due_ns(&self, id: ConnId) -> u64 {
        let conn = &self.conns[id];
        match conn.phase {
            Phase::Free => u64::MAX,
            Phase::Greeting | Phase::Moving | Phase::Lingering | Phase::Closing => conn.deadline_ns,
            Phase::Open => {
                let idle = self.idle_due_ns(id);
                let handshake = if conn.is_handshaking() { conn.deadline_ns } else { u64::MAX };
                idle.min(self.frame_due_ns(id)).min(conn.ack_due_ns).min(handshake)
            }
        }
    }

    fn idle_due_ns(&self, id: ConnId) -> u64 {
        if mutation::on(Mutation::IdleForever) {
            return u64::MAX;
        }
        self.conns[id].received_ns + self.limits.idle_timeout_ms * 1_000_000
    }

    fn frame_due_ns(&self, id: ConnId) -> u64 {
        let conn = &self.conns[id];
        if conn.frame_began_ns == 0 {
            return u64::MAX;
        }
        conn.frame_began_ns + self.limits.frame_timeout_ms * 1_000_000
    }

    pub(super) fn expire_timers(&mut self) {
        let now = self.clock.mono_ns;
        let mut due = std::mem::take(&mut self.expired);
        self.timers.expire(now, |index| due.push(ConnId(index)));
        if mutation::on(Mutation::LoseTimer) && due.len() > 1 {
            due.pop();
        }
        for id in due.drain(..) {
            self.expired_conn(id);
        }
        self.expired = due;
    }

    fn expired_conn(&mut self, id: ConnId) {
        let now = self.clock.mono_ns;
        match self.conns[id].phase {
            Phase::Free => return,
            Phase::Greeting if now >= self.conns[id].deadline_ns => {
                return self.fail(id, Code::HandshakeTimeout, String::new());
            }
            Phase::Lingering if now >= self.conns[id].deadline_ns => return self.close(id),
            Phase::Moving if now >= self.conns[id].deadline_ns => {
                return self.fail(id, Code::Unavailable, String::new());
            }
            Phase::Open => {
                if now >= self.conns[id].ack_due_ns {
                    self.ack_due(id);
                }
                if self.conns[id].is_handshaking() && now >= self.conns[id].deadline_ns {
                    return self.fail(id, Code::HandshakeTimeout, String::new());
                }
                if now >= self.frame_due_ns(id) {
                    return self.fail(id, Code::FrameTimeout, String::new());
                }
                if now >= self.idle_due_ns(id) {
                    return self.fail(id, Code::IdleTimeout, String::new());
                }
            }
            _ => {}
        }
        self.arm_timer(id);
    }
}
