//! A connection changes its shard: when its first request is for a partition of another shard, the socket,
//! the session, what has arrived and what was not yet sent go there by message. No record has flowed yet. Of a
//! connection that speaks TLS the handshake is over; its keys and record numbers go along.

use crate::access::TenantId;
use crate::buf::{CopyReason, Span};
use crate::ids::{ConnId, ShardId};
use crate::io::{Io, Op, TokenKind};
use crate::lifecycle::State;
use crate::metrics::Counter;
use crate::proto::code::Code;

use super::Shard;
use super::conn::{Counted, Layer, NONE, Phase, Receive};
use super::messages::{AdoptedTls, Adoption, Message};
use super::secured::{Secured, Unsent};

/// How long a move may take before the connection is given up.
const MOVE_NS: u64 = 5_000_000_000;

impl<I: Io> Shard<I> {
    /// Whether nothing ties the connection to this shard.
    pub(super) fn may_move(&self, id: ConnId) -> bool {
        let conn = &self.conns[id];
        let tied = conn.channels != NONE || conn.subscriptions != NONE || conn.waiting > 0;
        conn.phase == Phase::Open
            && !tied
            && !conn.is_handshaking()
            && matches!(conn.receive, Receive::Shared | Receive::Off)
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
    pub(super) fn stash(&mut self, id: ConnId, layer: Layer, span: Span) {
        if span.bytes == 0 {
            return;
        }
        let conn = &mut self.conns[id];
        let pending = match (layer, &mut conn.secured) {
            (Layer::Records, Some(secured)) => &mut secured.pending,
            _ => &mut conn.pending,
        };
        let length = pending.len();
        if length + span.bytes as usize > self.limits.frame_bytes_max as usize {
            return self.lost(id, Code::FrameTooLarge);
        }
        pending.resize(length + span.bytes as usize, 0);
        self.buffers.memory.copy_out(span, &mut pending[length..], CopyReason::Moved);
    }

    /// Nothing is in flight any more: hand the connection over.
    pub(super) fn depart(&mut self, id: ConnId) {
        let secured = self.secured_departs(id);
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
            secured,
        };
        conn.counted = Counted::Elsewhere;
        self.leave_table(id);
        self.send_surely(to, Message::Adopt(Box::new(adoption)));
    }

    fn secured_departs(&mut self, id: ConnId) -> Option<Box<AdoptedTls>> {
        let sealed = self.conns[id].secured.as_ref()?.unsent;
        let unsent = sealed.map_or(Vec::new(), |unsent| self.buffers.memory.bytes(unsent.rest).to_vec());
        self.give_block(id);
        self.leave_queues(id);
        let mut secured = self.conns[id].secured.take()?;
        let pending = std::mem::take(&mut secured.pending);
        let (session, tenant) = secured.hand_over();
        Some(Box::new(AdoptedTls { session, tenant: tenant.map(|tenant| tenant.0), pending, unsent }))
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
        conn.tenant = TenantId(adoption.tenant);
        conn.session = adoption.session;
        self.arm_timer(id);
        let mut records = Vec::new();
        if let Some(adopted) = adoption.secured {
            records = self.adopt_secured(id, *adopted);
        }
        if !adoption.unsent.is_empty() {
            self.say(id, &adoption.unsent);
        }
        if self.state == State::Draining {
            self.say_drain(id);
        }
        self.feed(id, Layer::Frames, &adoption.pending);
        if self.conns[id].phase == Phase::Moving {
            self.stash_again(id, records);
        } else {
            self.feed(id, Layer::Records, &records);
            self.look_at_session(id);
        }
        if self.conns[id].is_live() {
            self.arm_receive(id);
        }
    }

    /// Says which records were received and not opened.
    fn adopt_secured(&mut self, id: ConnId, adopted: AdoptedTls) -> Vec<u8> {
        let AdoptedTls { session, tenant, pending, unsent } = adopted;
        let mut secured = Secured::adopted(session, tenant.map(TenantId));
        let bytes = u32::try_from(unsent.len()).expect("it was a span");
        if bytes > 0 {
            match self.sealing.memory.as_mut().and_then(|memory| memory.take(bytes)) {
                Some(block) => {
                    self.buffers.memory.copy_in(&unsent, block, CopyReason::Moved);
                    secured.unsent =
                        Some(Unsent { block, rest: block, since_ns: self.clock.mono_ns, records: 0 });
                }
                // Records that are left out cannot be made up for.
                None => self.doom(id, Code::Unavailable),
            }
        }
        self.conns[id].secured = Some(Box::new(secured));
        self.mark_dirty(id);
        pending
    }

    /// On to yet another shard, without having been looked at here.
    fn stash_again(&mut self, id: ConnId, records: Vec<u8>) {
        if let Some(secured) = &mut self.conns[id].secured {
            secured.pending = records;
        }
    }

    fn turn_away(&mut self, peer: std::net::IpAddr) {
        self.counters.refused(Code::TooManyConnections);
        self.census.leave(peer);
    }

    /// Acts on bytes that came by message, as if they had just been received.
    fn feed(&mut self, id: ConnId, layer: Layer, pending: &[u8]) {
        let Ok(bytes) = u32::try_from(pending.len()) else { return };
        if bytes == 0 || !self.conns[id].is_live() {
            return;
        }
        let Some(block) = self.buffers.receive.block(bytes) else {
            return self.fail(id, Code::StraddleExhausted, String::new());
        };
        self.buffers.memory.copy_in(pending, block, CopyReason::Moved);
        self.take(id, layer, block);
        self.buffers.receive.release(block);
    }
}
