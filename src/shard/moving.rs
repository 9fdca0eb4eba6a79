//! A connection changes its shard: when its first request is for a partition of another shard, the socket,
//! the session, what has arrived and what was not yet sent go there by message. No record has flowed yet.

use crate::buf::{CopyReason, Span};
use crate::ids::{ConnId, ShardId};
use crate::io::{Io, Op, TokenKind};
use crate::lifecycle::State;
use crate::limits::HEADER_BYTES_U32;
use crate::metrics::Counter;
use crate::proto::code::Code;

use super::Shard;
use super::conn::{NONE, Partial, Phase, Receive};
use super::messages::{Adoption, Message};

/// How long a move may take before the connection is given up.
const MOVE_NS: u64 = 5_000_000_000;

impl<I: Io> Shard<I> {
    /// Whether nothing ties the connection to this shard.
    pub(super) fn may_move(&self, id: ConnId) -> bool {
        let conn = &self.conns[id];
        let tied = conn.channels != NONE || conn.subscriptions != NONE || conn.waiting > 0;
        conn.phase == Phase::Open && !tied && matches!(conn.receive, Receive::Shared | Receive::Off)
    }

    pub(super) fn begin_move(&mut self, id: ConnId, to: ShardId) {
        let now = self.clock.mono_ns;
        let conn = &mut self.conns[id];
        conn.phase = Phase::Moving;
        conn.destination = to.0;
        conn.deadline_ns = now + MOVE_NS;
        conn.frame_began_ns = 0;
        let cancels = [(conn.receive_armed, TokenKind::Receive), (conn.blocked, TokenKind::Writable)];
        self.counters.add(Counter::MovesOut, 1);
        self.arm_timer(id);
        for (armed, kind) in cancels {
            if armed {
                let target = self.conns[id].token(kind, id);
                self.submit(id, Op::Cancel { target }, TokenKind::Cancel);
            }
        }
        if self.conns[id].ops == 0 {
            // Not in the middle of the frame that asked for it: what follows the frame is stashed first.
            self.departing.push(id);
        }
    }

    /// Keeps received bytes for the other shard. A client has no reason to send more than requests now.
    pub(super) fn stash(&mut self, id: ConnId, span: Span) {
        if span.bytes == 0 {
            return;
        }
        let length = self.conns[id].pending.len();
        if length + span.bytes as usize > self.limits.frame_bytes_max as usize {
            return self.lost(id, Code::FrameTooLarge);
        }
        let mut pending = std::mem::take(&mut self.conns[id].pending);
        pending.resize(length + span.bytes as usize, 0);
        self.buffers.memory.copy_out(span, &mut pending[length..], CopyReason::Moved);
        self.conns[id].pending = pending;
    }

    /// Nothing is in flight any more: hand the connection over.
    pub(super) fn depart(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        let to = usize::from(conn.destination);
        let mut unsent = Vec::with_capacity(conn.outbox.bytes() as usize);
        for span in conn.outbox.spans(&self.blocks) {
            unsent.extend_from_slice(self.buffers.memory.bytes(span));
        }
        let adoption = Adoption {
            socket: self.io.detach(conn.sock),
            peer: conn.peer,
            tenant: conn.tenant.0,
            session: conn.session,
            pending: std::mem::take(&mut conn.pending),
            unsent,
        };
        conn.uncounted = true; // it stays in the census: it is still connected
        self.leave_table(id);
        self.send_surely(to, Message::Adopt(Box::new(adoption)));
    }

    pub(super) fn continue_departures(&mut self) {
        for id in std::mem::take(&mut self.departing) {
            if self.conns[id].phase == Phase::Moving && self.conns[id].ops == 0 {
                self.depart(id);
            }
        }
    }

    /// Takes a connection over from another shard.
    pub(super) fn adopt(&mut self, adoption: Adoption) {
        let peer = adoption.peer;
        let sock = match self.io.attach(adoption.socket) {
            Ok(sock) => sock,
            Err(_) => return self.turn_away(peer),
        };
        let Some(id) = self.conns.insert(sock, peer, self.clock.mono_ns) else {
            drop(self.io.detach(sock));
            return self.turn_away(peer);
        };
        self.counters.add(Counter::MovesIn, 1);
        self.set_open_gauge();
        let conn = &mut self.conns[id];
        conn.phase = Phase::Open;
        conn.tenant = crate::access::TenantId(adoption.tenant);
        conn.session = adoption.session;
        self.arm_timer(id);
        if !adoption.unsent.is_empty() {
            self.say(id, &adoption.unsent);
        }
        if self.state == State::Draining {
            self.say_drain(id);
        }
        self.feed(id, &adoption.pending);
        if self.conns[id].is_live() {
            self.arm_receive(id);
        }
    }

    fn turn_away(&mut self, peer: std::net::IpAddr) {
        self.counters.refused(Code::TooManyConnections);
        self.census.leave(peer);
    }

    /// Acts on bytes that came by message, as if they had just been received.
    fn feed(&mut self, id: ConnId, pending: &[u8]) {
        let Ok(bytes) = u32::try_from(pending.len()) else { return };
        if bytes == 0 {
            return;
        }
        let Some(block) = self.buffers.receive.block(bytes) else {
            return self.fail(id, Code::StraddleExhausted, String::new());
        };
        self.buffers.memory.copy_in(pending, block, CopyReason::Moved);
        let used = self.ingest(id, block);
        let (_, rest) = block.split_at(used);
        match self.conns[id].phase {
            Phase::Moving => self.stash(id, rest),
            Phase::Greeting | Phase::Open if rest.bytes > 0 => self.feed_rest(id, rest),
            _ => {}
        }
        self.buffers.receive.release(block);
    }

    fn feed_rest(&mut self, id: ConnId, rest: Span) {
        let wanted = self.whole_frame_bytes(rest).unwrap_or(HEADER_BYTES_U32).max(rest.bytes);
        let Some(block) = self.buffers.receive.block(wanted) else {
            return self.fail(id, Code::StraddleExhausted, String::new());
        };
        self.buffers.memory.copy(rest, block.split_at(rest.bytes).0, CopyReason::Straddle);
        self.conns[id].partial = Partial::InBlock { block, filled: rest.bytes };
        self.conns[id].frame_began_ns = self.clock.mono_ns;
        self.arm_timer(id);
    }
}
