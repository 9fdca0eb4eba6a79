//! Receiving into the shared ring, and keeping a frame that has begun until it is whole.
//!
//! A partial frame stays where it is, held, as long as the bytes that follow land beside it (the ring is
//! mirrored and its buffers are filled in order of address, so one sender's bytes lie side by side over
//! buffer boundaries). It moves to a block of its own (`straddle`) when other bytes came in between, or
//! when the ring is short of buffers and this one holds the oldest.

use crate::buf::{CopyReason, Span};
use crate::ids::ConnId;
use crate::io::{Completion, Io, IoError, Op, Outcome, TokenKind};
use crate::limits::{BULK_FRAME_BYTES, HEADER_BYTES, HEADER_BYTES_U32};
use crate::metrics::Counter;
use crate::proto::code::Code;
use crate::proto::header::FrameHeader;

use super::Shard;
use super::conn::{Partial, Phase, Receive};

/// Large receives in a row after which a connection is promoted to a region.
pub(super) const PROMOTE_AFTER: u8 = 8;
/// A receive at least this large counts towards promotion.
const LARGE_RECEIVE_BYTES: u32 = 32 * 1024;

impl<I: Io> Shard<I> {
    pub(super) fn arm_receive(&mut self, id: ConnId) {
        let sock = self.conns[id].sock;
        self.conns[id].receive = Receive::Shared;
        self.conns[id].receive_armed = true;
        self.submit(id, Op::ReceiveShared { sock }, TokenKind::Receive);
    }

    /// A report of the shared receive.
    pub(super) fn received(&mut self, id: ConnId, completion: Completion) {
        if !completion.more {
            self.conns[id].receive_armed = false;
            if self.conns[id].receive == Receive::Shared {
                self.conns[id].receive = Receive::Off;
            }
        }
        match completion.outcome {
            Outcome::Received { buffer, at, bytes, buffer_done } => {
                let span = self.buffers.receive.shared_span(at, bytes);
                self.buffers.receive.received(buffer, span, buffer_done);
                // A kernel may hand a buffer back with nothing in it.
                if bytes > 0 {
                    self.counters.add(Counter::BytesReceived, u64::from(bytes));
                    self.conns[id].received_ns = self.clock.mono_ns;
                    self.take_in(id, span);
                    self.consider_promotion(id, bytes);
                }
            }
            Outcome::EndOfStream => return self.end_of_stream(id),
            Outcome::Failed(IoError::NoBuffers) => self.counters.add(Counter::ReceiveNoBuffers, 1),
            Outcome::Failed(IoError::Cancelled) => {}
            _ => return self.peer_gone(id),
        }
        if !completion.more && self.conns[id].receive == Receive::Off {
            self.rearm.push_back(id);
        }
    }

    /// Routes bytes by what the connection is doing.
    fn take_in(&mut self, id: ConnId, span: Span) {
        match self.conns[id].phase {
            Phase::Greeting | Phase::Open => self.take_frames(id, span),
            Phase::Moving => self.stash(id, span),
            Phase::Free | Phase::Lingering | Phase::Closing => {}
        }
    }

    /// Joins new bytes to a partial frame and acts on every whole frame.
    fn take_frames(&mut self, id: ConnId, span: Span) {
        let run = match self.conns[id].partial {
            Partial::Nothing => span,
            Partial::InRing(held) if self.buffers.receive.shared_contiguous(held, span) => {
                self.let_go(id);
                self.buffers.receive.merge(held, span)
            }
            Partial::InRing(_) => {
                if !self.move_to_block(id) {
                    return self.fail(id, Code::StraddleExhausted, String::new());
                }
                let Some(rest) = self.fill_block(id, span) else { return };
                rest
            }
            Partial::InBlock { .. } => {
                let Some(rest) = self.fill_block(id, span) else { return };
                rest
            }
        };
        let used = self.ingest(id, run);
        let (_, rest) = run.split_at(used);
        self.keep(id, rest);
    }

    /// Keeps what is left after the last whole frame.
    fn keep(&mut self, id: ConnId, rest: Span) {
        match self.conns[id].phase {
            Phase::Moving => self.stash(id, rest),
            Phase::Greeting | Phase::Open if rest.bytes > 0 => {
                if self.conns[id].frame_began_ns == 0 {
                    self.conns[id].frame_began_ns = self.clock.mono_ns;
                    self.timer_no_later_than(
                        id,
                        self.clock.mono_ns + self.limits.frame_timeout_ms * 1_000_000,
                    );
                }
                self.buffers.receive.hold(rest);
                self.conns[id].partial = Partial::InRing(rest);
                self.holders
                    .push_back(&mut self.conns, id.0, |conns, index| &mut conns[ConnId(index)].holding);
            }
            _ => {}
        }
    }

    /// The partial frame in the ring is no longer held.
    pub(super) fn let_go(&mut self, id: ConnId) {
        if let Partial::InRing(held) = self.conns[id].partial {
            self.buffers.receive.release(held);
            self.conns[id].partial = Partial::Nothing;
            self.holders.remove(&mut self.conns, id.0, |conns, index| &mut conns[ConnId(index)].holding);
        }
    }

    /// Gives up whatever is kept of a partial frame.
    pub(super) fn drop_partial(&mut self, id: ConnId) {
        self.let_go(id);
        if let Partial::InBlock { block, .. } = self.conns[id].partial {
            self.buffers.receive.release(block);
        }
        self.conns[id].partial = Partial::Nothing;
        self.conns[id].frame_began_ns = 0;
    }

    /// Moves a partial frame out of the ring; `false` when there is no block for it.
    pub(super) fn move_to_block(&mut self, id: ConnId) -> bool {
        let Partial::InRing(held) = self.conns[id].partial else { return true };
        // The header was checked when it was whole: `ingest` refuses a frame that is too large.
        let wanted = self.whole_frame_bytes(held).unwrap_or(HEADER_BYTES_U32).max(held.bytes);
        let Some(block) = self.buffers.receive.block(wanted) else { return false };
        let (to, _) = block.split_at(held.bytes);
        self.buffers.memory.copy(held, to, CopyReason::Straddle);
        self.let_go(id);
        self.conns[id].partial = Partial::InBlock { block, filled: held.bytes };
        true
    }

    /// Bytes of the frame that begins at `span`, once its header is there.
    pub(super) fn whole_frame_bytes(&self, span: Span) -> Option<u32> {
        let bytes = self.buffers.memory.bytes(span);
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let header = FrameHeader::parse(header, self.limits.frame_bytes_max).ok()?;
        u32::try_from(header.frame_bytes()).ok()
    }

    /// Continues a frame in its block. When the frame is whole it is acted upon and what follows it in
    /// `span` is returned; `None` when all of `span` was used or the connection is no longer read.
    fn fill_block(&mut self, id: ConnId, span: Span) -> Option<Span> {
        let mut rest = span;
        loop {
            let Partial::InBlock { block, filled } = self.conns[id].partial else { return Some(rest) };
            let take = (block.bytes - filled).min(rest.bytes);
            let (piece, after) = rest.split_at(take);
            let (_, tail) = block.split_at(filled);
            self.buffers.memory.copy(piece, tail.split_at(take).0, CopyReason::Straddle);
            let filled = filled + take;
            self.conns[id].partial = Partial::InBlock { block, filled };
            rest = after;
            if filled < block.bytes {
                return None;
            }
            if !self.block_is_full(id, block) {
                if self.conns[id].phase == Phase::Moving {
                    self.stash(id, rest);
                }
                return None;
            }
        }
    }

    /// A block is full: it holds a whole frame, or a header that now says how large the frame is.
    fn block_is_full(&mut self, id: ConnId, block: Span) -> bool {
        let used = self.ingest(id, block);
        if self.conns[id].phase == Phase::Moving {
            self.stash(id, block.split_at(used).1);
            self.drop_partial(id);
            return false;
        }
        if !self.conns[id].is_live() {
            return false;
        }
        if used == block.bytes {
            self.drop_partial(id);
            return true;
        }
        let wanted =
            self.whole_frame_bytes(block).expect("a full block begins with a header that was checked");
        let Some(larger) = self.buffers.receive.block(wanted) else {
            self.fail(id, Code::StraddleExhausted, String::new());
            return false;
        };
        self.buffers.memory.copy(block, larger.split_at(block.bytes).0, CopyReason::Straddle);
        self.buffers.receive.release(block);
        self.conns[id].partial = Partial::InBlock { block: larger, filled: block.bytes };
        true
    }

    /// Frees the oldest buffers when the ring runs short: partial frames move to blocks, and `live`
    /// partitions let go of what slow subscribers have not taken.
    pub(super) fn relieve_pressure(&mut self) {
        while self.buffers.receive.shared_pressure() {
            let Some(index) = self.holders.first() else { break };
            let id = ConnId(index);
            if !self.move_to_block(id) {
                self.counters.add(Counter::StraddleWaits, 1);
                self.fail(id, Code::StraddleExhausted, String::new());
            }
        }
        if self.buffers.receive.shared_pressure() || self.bulk_is_short() {
            self.unpin_partitions();
        }
    }

    /// Arms receives that have ended. Those that found no buffer come before those that used them up.
    pub(super) fn rearm_receives(&mut self) {
        if self.rearm.is_empty() {
            return;
        }
        if self.buffers.receive.shared_free_bytes() == 0 {
            self.busy = true;
            return;
        }
        for _ in 0..self.rearm.len() {
            let Some(id) = self.rearm.pop_front() else { break };
            let conn = &self.conns[id];
            let wanted = matches!(conn.phase, Phase::Greeting | Phase::Open | Phase::Lingering);
            if wanted && conn.receive == Receive::Off {
                self.counters.add(Counter::ReceiveRearms, 1);
                self.arm_receive(id);
            }
        }
    }

    fn consider_promotion(&mut self, id: ConnId, bytes: u32) {
        let conn = &mut self.conns[id];
        if conn.phase != Phase::Open || conn.receive != Receive::Shared {
            return;
        }
        if conn.frame_bytes_seen < BULK_FRAME_BYTES {
            conn.bulk_score = 0;
        } else if bytes >= LARGE_RECEIVE_BYTES {
            conn.bulk_score += 1;
        }
        if conn.bulk_score >= PROMOTE_AFTER {
            conn.bulk_score = 0;
            self.promote(id);
        }
    }

    /// The peer has finished sending.
    pub(super) fn end_of_stream(&mut self, id: ConnId) {
        self.conns[id].ended = true;
        match self.conns[id].phase {
            Phase::Lingering => self.nothing_to_send(id),
            Phase::Greeting | Phase::Open => {
                if self.conns[id].partial == Partial::Nothing {
                    self.finish(id);
                } else {
                    self.lost(id, Code::MidFrameDisconnect);
                }
            }
            Phase::Moving => self.lost(id, Code::PeerReset),
            Phase::Free | Phase::Closing => {}
        }
    }

    /// The connection broke.
    pub(super) fn peer_gone(&mut self, id: ConnId) {
        match self.conns[id].phase {
            Phase::Free | Phase::Closing => {}
            Phase::Lingering => self.close(id),
            Phase::Greeting | Phase::Open | Phase::Moving => self.lost(id, Code::PeerReset),
        }
    }
}
