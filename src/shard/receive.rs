//! Receiving into the shared ring, and keeping a frame that has begun until it is whole. Of a connection that speaks
//! TLS it is records that are received there, and kept until they are whole in the same way; their frames are opened
//! to another ring (`records`), and again kept there in the same way.
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
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::proto::header::FrameHeader;

use super::Shard;
use super::conn::{ConnTable, Layer, Partial, Phase, Receive};
use super::list::Links;

/// Large receives in a row after which a connection is promoted to a region.
pub(super) const PROMOTE_AFTER: u8 = 8;
/// A receive at least this large counts towards promotion.
const LARGE_RECEIVE_BYTES: u32 = 32 * 1024;
/// Bytes that may wait for their turn in a block: whole records before a handshake goes on, or whole frames before it
/// is over. Room for the largest message of a handshake (64 KiB) in its records: whoever sends a larger one is told so
/// by an alert, for which its turn has to come.
const WAITING_BYTES_MAX: u32 = 72 * 1024;

/// A connection and a layer, as the list of holders counts.
fn holder(id: ConnId, layer: Layer) -> u32 {
    2 * id.0 + layer as u32
}

fn held_by(index: u32) -> (ConnId, Layer) {
    (ConnId(index / 2), if index.is_multiple_of(2) { Layer::Frames } else { Layer::Records })
}

fn holding(conns: &mut ConnTable, index: u32) -> &mut Links {
    let (id, layer) = held_by(index);
    &mut conns[id].kept[layer as usize].holding
}

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
                let forgotten =
                    mutation::on(Mutation::LoseCancelled) && self.conns[id].phase == Phase::Closing;
                if !forgotten {
                    self.buffers.receive.received(buffer, span, buffer_done);
                }
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
        let forgotten =
            mutation::on(Mutation::SkipRearm) && completion.outcome == Outcome::Failed(IoError::NoBuffers);
        if !completion.more && self.conns[id].receive == Receive::Off && !forgotten {
            self.rearm_later(id);
        }
    }

    /// Routes bytes by what the connection is doing.
    #[inline]
    fn take_in(&mut self, id: ConnId, span: Span) {
        let layer = self.first_layer(id);
        match self.conns[id].phase {
            Phase::Greeting | Phase::Open => self.take(id, layer, span),
            Phase::Moving => self.stash(id, layer, span),
            Phase::Free | Phase::Lingering | Phase::Closing => {}
        }
    }

    /// What the socket's bytes are.
    #[inline]
    pub(super) fn first_layer(&self, id: ConnId) -> Layer {
        if self.conns[id].secured.is_some() { Layer::Records } else { Layer::Frames }
    }

    /// Joins new bytes to what is kept of the layer and acts on every whole frame or record.
    #[inline]
    pub(super) fn take(&mut self, id: ConnId, layer: Layer, span: Span) {
        match self.conns[id].partial(layer) {
            Partial::Nothing => self.take_run(id, layer, span),
            Partial::InRing(held) if self.buffers.receive.contiguous(held, span) => {
                self.unlist(id, layer);
                let run = self.buffers.receive.merge(held, span);
                self.take_run(id, layer, run);
                self.buffers.receive.release(held);
            }
            Partial::InRing(_) if !self.move_to_block(id, layer) => {
                self.fail(id, Code::StraddleExhausted, String::new());
            }
            Partial::InRing(_) | Partial::InBlock { .. } => match self.fill_block(id, layer, span) {
                Some(rest) if rest.bytes > 0 => self.take_run(id, layer, rest),
                _ => {}
            },
        }
        // Of frames `ingest` says it.
        if layer == Layer::Records && self.conns[id].kept.iter().all(|kept| kept.partial == Partial::Nothing)
        {
            self.conns[id].frame_began_ns = 0;
        }
    }

    /// Goes on with what is kept of the layer, where it lies: its turn has come.
    pub(super) fn take_kept(&mut self, id: ConnId, layer: Layer) {
        let (run, hold) = match self.conns[id].partial(layer) {
            Partial::Nothing => return,
            Partial::InRing(held) => (held, held),
            Partial::InBlock { block, filled } => (block.split_at(filled).0, block),
        };
        self.unlist(id, layer);
        self.take_run(id, layer, run);
        self.buffers.receive.release(hold);
    }

    #[inline]
    fn take_run(&mut self, id: ConnId, layer: Layer, run: Span) {
        let used = self.act_on(id, layer, run);
        let (_, rest) = run.split_at(used);
        self.keep(id, layer, rest);
    }

    /// Acts on whole frames or records from the start of a run; says how many bytes were dealt with.
    #[inline]
    fn act_on(&mut self, id: ConnId, layer: Layer, run: Span) -> u32 {
        match layer {
            Layer::Frames => self.ingest(id, run),
            Layer::Records => self.open_records(id, run),
        }
    }

    /// Keeps what is left after the last whole frame or record.
    #[inline]
    fn keep(&mut self, id: ConnId, layer: Layer, rest: Span) {
        match self.conns[id].phase {
            Phase::Moving => self.stash(id, layer, rest),
            Phase::Greeting | Phase::Open
                if rest.bytes > WAITING_BYTES_MAX && self.conns[id].is_handshaking() =>
            {
                self.fail(id, Code::StraddleExhausted, "too much before the handshake is over".into());
            }
            Phase::Greeting | Phase::Open if rest.bytes > 0 => {
                self.frame_has_begun(id);
                self.buffers.receive.hold(rest);
                self.conns[id].set_partial(layer, Partial::InRing(rest));
                self.holders.push_back(&mut self.conns, holder(id, layer), holding);
            }
            _ => {}
        }
    }

    /// From now on the peer has a bounded time for the rest.
    pub(super) fn frame_has_begun(&mut self, id: ConnId) {
        if self.conns[id].frame_began_ns == 0 {
            self.conns[id].frame_began_ns = self.clock.mono_ns;
            self.timer_no_later_than(id, self.clock.mono_ns + self.limits.frame_timeout_ms * 1_000_000);
        }
    }

    /// Forgets what is kept of the layer; its hold is the caller's from here.
    fn unlist(&mut self, id: ConnId, layer: Layer) {
        self.conns[id].set_partial(layer, Partial::Nothing);
        self.holders.remove(&mut self.conns, holder(id, layer), holding);
    }

    /// Gives up whatever is kept of unfinished frames and records.
    pub(super) fn drop_partial(&mut self, id: ConnId) {
        for layer in [Layer::Frames, Layer::Records] {
            self.drop_kept(id, layer);
        }
        self.conns[id].frame_began_ns = 0;
    }

    /// The same of one layer.
    pub(super) fn drop_kept(&mut self, id: ConnId, layer: Layer) {
        match self.conns[id].partial(layer) {
            Partial::Nothing => {}
            Partial::InRing(held) | Partial::InBlock { block: held, .. } => {
                self.unlist(id, layer);
                self.buffers.receive.release(held);
            }
        }
    }

    /// Moves what is kept out of the ring; `false` when there is no block for it.
    fn move_to_block(&mut self, id: ConnId, layer: Layer) -> bool {
        let Partial::InRing(held) = self.conns[id].partial(layer) else { return true };
        let wanted = self.whole_bytes(layer, held).max(held.bytes);
        let Some(block) = self.buffers.receive.block(wanted) else { return false };
        let (to, _) = block.split_at(held.bytes);
        self.buffers.memory.copy(held, to, CopyReason::Straddle);
        self.drop_kept(id, layer);
        self.conns[id].set_partial(layer, Partial::InBlock { block, filled: held.bytes });
        true
    }

    /// Bytes of the frame or record that begins at `span`, or of its header while that is not whole. Headers are
    /// checked as soon as they are: what cannot be is refused before it is kept.
    pub(super) fn whole_bytes(&self, layer: Layer, span: Span) -> u32 {
        let bytes = self.buffers.memory.bytes(span);
        match layer {
            Layer::Frames => bytes
                .first_chunk::<HEADER_BYTES>()
                .and_then(|header| FrameHeader::parse(header, self.limits.frame_bytes_max).ok())
                .and_then(|header| u32::try_from(header.frame_bytes()).ok())
                .unwrap_or(HEADER_BYTES_U32),
            Layer::Records => crate::tls::record_bytes(bytes),
        }
    }

    /// Continues a frame or record in its block. When it is whole it is acted upon and what follows it in `span`
    /// is returned; `None` when all of `span` was used or the connection is no longer read.
    fn fill_block(&mut self, id: ConnId, layer: Layer, span: Span) -> Option<Span> {
        let mut rest = span;
        loop {
            let Partial::InBlock { block, filled } = self.conns[id].partial(layer) else { return Some(rest) };
            let take = (block.bytes - filled).min(rest.bytes);
            let (piece, after) = rest.split_at(take);
            let (_, tail) = block.split_at(filled);
            self.buffers.memory.copy(piece, tail.split_at(take).0, CopyReason::Straddle);
            let filled = filled + take;
            self.conns[id].set_partial(layer, Partial::InBlock { block, filled });
            rest = after;
            if filled < block.bytes {
                return None;
            }
            if !self.block_is_full(id, layer, block) {
                if self.conns[id].phase == Phase::Moving {
                    self.stash(id, layer, rest);
                }
                return None;
            }
        }
    }

    /// A block is full: it holds a whole frame or record, or a header that now says how large it is, or what waits
    /// for its turn.
    fn block_is_full(&mut self, id: ConnId, layer: Layer, block: Span) -> bool {
        let used = self.act_on(id, layer, block);
        let (_, left) = block.split_at(used);
        if self.conns[id].phase == Phase::Moving {
            self.stash(id, layer, left);
            self.drop_kept(id, layer);
            return false;
        }
        if !self.conns[id].is_live() {
            return false;
        }
        if left.bytes == 0 {
            self.drop_kept(id, layer);
            return true;
        }
        let whole = self.whole_bytes(layer, left);
        let wanted = if whole > left.bytes { whole } else { (2 * left.bytes).min(WAITING_BYTES_MAX) };
        let larger = if wanted > left.bytes { self.buffers.receive.block(wanted) } else { None };
        let Some(larger) = larger else {
            self.fail(id, Code::StraddleExhausted, String::new());
            return false;
        };
        self.buffers.memory.copy(left, larger.split_at(left.bytes).0, CopyReason::Straddle);
        self.buffers.receive.release(block);
        self.conns[id].set_partial(layer, Partial::InBlock { block: larger, filled: left.bytes });
        true
    }

    /// Frees the oldest memory when a ring runs short: what is unfinished there moves to blocks, and `live` partitions
    /// let go of what slow subscribers have not taken.
    pub(super) fn relieve_pressure(&mut self) {
        let mut next = self.holders.first();
        while let Some(index) = next.filter(|_| self.rings_are_short()) {
            // Where the next one is gone with this one, the rest waits for the next time.
            next = self.holders.after(&mut self.conns, index, holding);
            let (id, layer) = held_by(index);
            let Partial::InRing(held) = self.conns[id].partial(layer) else { continue };
            if self.lies_in_short_ring(held) && !self.move_to_block(id, layer) {
                self.counters.add(Counter::StraddleWaits, 1);
                self.fail(id, Code::StraddleExhausted, String::new());
            }
        }
        if self.bulk_is_short() || self.rings_are_short() {
            self.unpin_partitions();
        }
    }

    fn lies_in_short_ring(&self, held: Span) -> bool {
        let receive = &self.buffers.receive;
        receive.is_shared(held.region) && receive.shared_pressure()
            || receive.is_bulk(held.region) && receive.opened_pressure()
    }

    fn rings_are_short(&self) -> bool {
        self.buffers.receive.shared_pressure() || self.buffers.receive.opened_pressure()
    }

    /// The connection's receive is armed again when the tick ends, or when the ring has room.
    pub(super) fn rearm_later(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        if !conn.rearming || mutation::on(Mutation::ListTwice) {
            conn.rearming = true;
            self.rearm.push_back(id);
        }
    }

    /// Arms receives that have ended. Those that found no buffer come before those that used them up.
    pub(super) fn rearm_receives(&mut self) {
        if self.rearm.is_empty() {
            return;
        }
        if self.buffers.receive.shared_free_bytes() == 0 {
            self.look_again(super::SHORT_NS);
            return;
        }
        for _ in 0..self.rearm.len() {
            let Some(id) = self.rearm.pop_front() else { break };
            let conn = &mut self.conns[id];
            conn.rearming = false;
            let wanted = matches!(conn.phase, Phase::Greeting | Phase::Open | Phase::Lingering);
            if wanted && conn.receive == Receive::Off {
                self.counters.add(Counter::ReceiveRearms, 1);
                self.arm_receive(id);
            }
        }
    }

    fn consider_promotion(&mut self, id: ConnId, bytes: u32) {
        let conn = &mut self.conns[id];
        if conn.phase != Phase::Open || conn.receive != Receive::Shared || conn.is_handshaking() {
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

    /// The socket's bytes have come to their end.
    pub(super) fn end_of_stream(&mut self, id: ConnId) {
        if self.records_end_well(id) {
            self.peer_finished(id);
        }
    }

    /// The peer has finished sending.
    pub(super) fn peer_finished(&mut self, id: ConnId) {
        self.conns[id].ended = true;
        match self.conns[id].phase {
            Phase::Lingering => self.nothing_to_send(id),
            Phase::Greeting | Phase::Open => {
                if self.conns[id].partial(Layer::Frames) == Partial::Nothing {
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
