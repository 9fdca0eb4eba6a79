//! How a connection ends: by the peer, by a fault of the peer's, or by the server.
//!
//! ```text
//! Open ──fail──▶ Lingering ──all said, peer closed or time up──▶ Closing ──ops == 0──▶ Close ──▶ free
//!      ──finish─▶ Lingering (acknowledgements go out first)
//!      ──lost───────────────────────────────────────────────────▶ Closing
//! ```
//! Lingering reads on and drops what arrives, so that the last frame is not lost to a reset.

use crate::ids::ConnId;
use crate::io::{Io, Op, TokenKind};
use crate::metrics::Counter;
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::proto::control::Refusal;
use crate::proto::header::Kind;

use super::Shard;
use super::conn::{Counted, NONE, Phase, Receive};

/// How long the last words may take.
const LINGER_NS: u64 = 1_000_000_000;

impl<I: Io> Shard<I> {
    /// Ends a connection for a reason and tells the peer.
    pub(super) fn fail(&mut self, id: ConnId, code: Code, detail: String) {
        if !matches!(self.conns[id].phase, Phase::Greeting | Phase::Open | Phase::Moving) {
            return;
        }
        self.counters.refused(code);
        let refusal = Refusal { code, retry_after_us: 0, record: None, detail };
        let frame = refusal.frame(Kind::Error, 0, 0);
        self.say(id, &frame);
        self.linger(id, Some(code));
    }

    /// Ends a session the peer has ended: what it is owed goes out first.
    pub(super) fn finish(&mut self, id: ConnId) {
        if !self.conns[id].is_live() {
            return;
        }
        self.ack_all(id);
        self.linger(id, None);
    }

    /// Acknowledges everything that was held back for pacing.
    pub(super) fn ack_all(&mut self, id: ConnId) {
        let mut handle = self.conns[id].channels;
        while handle != NONE {
            let next = self.channels[handle].next;
            self.ack_pending(id, handle);
            handle = next;
        }
    }

    pub(super) fn linger(&mut self, id: ConnId, reason: Option<Code>) {
        if !matches!(self.conns[id].phase, Phase::Greeting | Phase::Open | Phase::Moving) {
            return;
        }
        self.drop_partial(id);
        let conn = &mut self.conns[id];
        conn.phase = Phase::Lingering;
        conn.reason = reason;
        conn.close_when_sent = true;
        conn.deadline_ns = self.clock.mono_ns + LINGER_NS;
        let off = conn.receive == Receive::Off && !conn.ended;
        self.silence(id);
        self.arm_timer(id);
        self.return_loans(id);
        if off {
            self.rearm_later(id);
        }
        self.mark_dirty(id);
    }

    /// Ends a connection that can be told nothing any more.
    pub(super) fn lost(&mut self, id: ConnId, code: Code) {
        if !matches!(self.conns[id].phase, Phase::Free | Phase::Closing) {
            self.counters.refused(code);
            self.conns[id].reason = Some(code);
            self.close(id);
        }
    }

    /// Everything queued is sent: say so with a FIN, and wait for the peer's.
    pub(super) fn all_said(&mut self, id: ConnId) {
        if self.conns[id].ended {
            return self.close(id);
        }
        if self.conns[id].close_when_sent {
            self.conns[id].close_when_sent = false;
            let sock = self.conns[id].sock;
            self.submit(id, Op::ShutdownWrite { sock }, TokenKind::Shutdown);
        }
    }

    /// Ends whatever is in flight; the socket is closed when nothing is.
    pub(super) fn close(&mut self, id: ConnId) {
        if matches!(self.conns[id].phase, Phase::Free | Phase::Closing) {
            return;
        }
        self.drop_partial(id);
        self.release_session(id);
        let conn = &mut self.conns[id];
        conn.phase = Phase::Closing;
        conn.deadline_ns = u64::MAX;
        let cancels = [
            (conn.receive_armed, TokenKind::Receive),
            (conn.readable_armed, TokenKind::Readable),
            (conn.blocked, TokenKind::Writable),
        ];
        for (armed, kind) in cancels {
            if armed {
                let target = self.conns[id].token(kind, id);
                self.submit(id, Op::Cancel { target }, TokenKind::Cancel);
            }
        }
        self.timers.cancel(id.0);
        if self.conns[id].ops == 0 || mutation::on(Mutation::FreeSlotEarly) {
            self.settled(id);
        }
    }

    /// No operation of the connection is outstanding.
    pub(super) fn settled(&mut self, id: ConnId) {
        match self.conns[id].phase {
            Phase::Closing if self.conns[id].ops == 0 || mutation::on(Mutation::FreeSlotEarly) => {
                let sock = self.conns[id].sock;
                self.submit(id, Op::Close { sock }, TokenKind::Close);
            }
            Phase::Moving if self.conns[id].ops == 0 => self.depart(id),
            _ => {}
        }
    }

    /// The socket is gone: free the slot.
    pub(super) fn closed(&mut self, id: ConnId) {
        if let Receive::Bulk(region) | Receive::Demoting(region) = self.conns[id].receive {
            self.give_region(id, region);
        }
        if self.conns[id].receive == Receive::Promoting {
            self.promoted -= 1;
        }
        self.drop_partial(id);
        self.leave_table(id);
    }

    /// Gives the slot back; the socket is closed or in other hands.
    pub(super) fn leave_table(&mut self, id: ConnId) {
        self.leave_queues(id);
        self.give_block(id);
        let conn = &mut self.conns[id];
        if !mutation::on(Mutation::KeepOutbox) {
            conn.outbox.clear(&mut self.blocks);
        }
        conn.dirty = false;
        match conn.counted {
            Counted::LetIn if mutation::on(Mutation::KeepCounted) && conn.is_handshaking() => {}
            Counted::LetIn => self.census.leave(conn.peer),
            Counted::ToldNo if mutation::on(Mutation::KeepToldNo) => {}
            Counted::ToldNo => self.census.told_no(),
            Counted::Elsewhere => {}
        }
        self.timers.cancel(id.0);
        self.conns.remove(id);
        self.counters.add(Counter::ConnectionsClosed, 1);
        self.set_open_gauge();
    }

    /// Ends all channels and subscriptions of a connection.
    fn release_session(&mut self, id: ConnId) {
        while self.conns[id].channels != NONE {
            let handle = self.conns[id].channels;
            self.end_channel(id, handle);
        }
        self.conns[id].resume = NONE;
        let mut at = self.conns[id].subscriptions;
        while at != NONE {
            let next = self.subscriptions[at].next;
            self.subscriptions[at].echo = false;
            self.subscriptions[at].ending = true;
            if !self.subscriptions[at].in_flight {
                self.end_subscription(id, at);
            }
            at = next;
        }
    }
}
