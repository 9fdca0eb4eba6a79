//! Bulk connections: a few senders of large frames have a region of their own, where every frame lies in
//! one piece and nothing is copied.
//!
//! One read is in flight over all regions: the connection that is visited is read until a short read or
//! until its budget is used, then the next one in the queue has its turn. That keeps one region hot in the
//! cache at a time and makes the turns fair. Readiness comes from a poll that stays armed.
//!
//! A connection that speaks TLS has two regions: one it reads records into, and one they are opened to, where its
//! frames lie.

use crate::buf::{BulkId, CopyReason};
use crate::ids::ConnId;
use crate::io::{Completion, Io, IoError, Op, Outcome, TokenKind};
use crate::metrics::Counter;
use crate::proto::code::Code;

use super::Shard;
use super::conn::{Layer, Partial, Phase, Receive};

/// Bytes read from one connection before the next has its turn.
const VISIT_BYTES_MAX: u32 = 1024 * 1024;
/// Bytes of one read: half a region, so that a partial frame and a read fit.
const READ_BYTES_MAX: u32 = 128 * 1024;
/// Short reads in a row after which a connection goes back to the shared ring.
const DEMOTE_AFTER: u8 = 16;
/// The same in the middle of a frame, which has to move.
const DEMOTE_BY: u8 = 64;
/// A read below this size is short for that purpose.
const SMALL_READ_BYTES: u32 = 16 * 1024;

/// Whether regions could not be read into for want of room.
#[derive(Debug, Default)]
pub(super) struct Starving {
    /// Since the last look.
    now: bool,
    /// Before it.
    before: bool,
}

impl<I: Io> Shard<I> {
    /// Starts to move a connection to a region, if one is free: its shared receive is cancelled first.
    pub(super) fn promote(&mut self, id: ConnId) {
        if self.promoted >= self.limits.bulk_regions || self.conns[id].receive != Receive::Shared {
            return;
        }
        self.promoted += 1;
        self.conns[id].receive = Receive::Promoting;
        let target = self.conns[id].token(TokenKind::Receive, id);
        self.submit(id, Op::Cancel { target }, TokenKind::Cancel);
    }

    /// The shared receive has ended: everything it got has been acted upon, and what is left of a frame
    /// moves to the region's start.
    fn promoted(&mut self, id: ConnId) {
        let Some(region) = self.take_regions(id) else {
            self.promoted -= 1;
            self.conns[id].receive = Receive::Off;
            return self.rearm_later(id);
        };
        let frames = self.frames_region(id, region);
        self.move_to_region(id, self.first_layer(id), region);
        if frames != region {
            self.move_to_region(id, Layer::Frames, frames);
        }
        self.counters.add(Counter::Promotions, 1);
        self.counters.set(Counter::PromotedOpen, u64::from(self.promoted));
        let conn = &mut self.conns[id];
        conn.receive = Receive::Bulk(region);
        conn.bulk_score = 0;
        conn.readable_armed = true;
        let sock = conn.sock;
        self.submit(id, Op::PollReadable { sock }, TokenKind::Readable);
        self.queue_visit(id);
    }

    /// A region, and for TLS another one that its records are opened to.
    fn take_regions(&mut self, id: ConnId) -> Option<BulkId> {
        let region = self.buffers.receive.take_region()?;
        if let Some(secured) = &mut self.conns[id].secured {
            let opened = self.buffers.receive.take_region();
            if opened.is_none() {
                self.buffers.receive.give_region(region);
                return None;
            }
            secured.opened_region = opened;
        }
        Some(region)
    }

    /// Where the frames of a connection lie that reads into `region`.
    pub(super) fn frames_region(&self, id: ConnId, region: BulkId) -> BulkId {
        let opened = self.conns[id].secured.as_ref().and_then(|secured| secured.opened_region);
        opened.unwrap_or(region)
    }

    /// What is kept of the layer moves to the start of an empty region.
    fn move_to_region(&mut self, id: ConnId, layer: Layer, region: BulkId) {
        let span = match self.conns[id].partial(layer) {
            Partial::Nothing => return,
            Partial::InRing(span) => span,
            Partial::InBlock { block, filled } => block.split_at(filled).0,
        };
        let room = self.buffers.receive.read_target(region, span.bytes).expect("a fresh region is empty");
        let (to, _) = room.split_at(span.bytes);
        self.buffers.memory.copy(span, to, CopyReason::Moved);
        self.buffers.receive.filled(region, span.bytes);
        self.drop_kept(id, layer);
    }

    /// What is pending in a region moves to a block of its own; `false` when there is none.
    fn move_to_own_block(&mut self, id: ConnId, layer: Layer, region: BulkId) -> bool {
        let pending = self.buffers.receive.pending(region);
        if pending.bytes == 0 {
            return true;
        }
        let wanted = self.whole_bytes(layer, pending).max(pending.bytes);
        let Some(block) = self.buffers.receive.block(wanted) else { return false };
        self.buffers.memory.copy(pending, block.split_at(pending.bytes).0, CopyReason::Moved);
        self.buffers.receive.consumed(region, pending.bytes);
        self.conns[id].set_partial(layer, Partial::InBlock { block, filled: pending.bytes });
        true
    }

    /// Starts the way back: the poll is cancelled first.
    pub(super) fn demote(&mut self, id: ConnId) {
        let Receive::Bulk(region) = self.conns[id].receive else { return };
        self.conns[id].receive = Receive::Demoting(region);
        let target = self.conns[id].token(TokenKind::Readable, id);
        self.submit(id, Op::Cancel { target }, TokenKind::Cancel);
    }

    /// Poll and read have ended: the partial frame moves out, and the region is given back once `live`
    /// partitions hold nothing of it.
    fn demoted(&mut self, id: ConnId, region: BulkId) {
        if !self.conns[id].is_live() {
            self.give_region(id, region);
            return self.rearm_later(id);
        }
        let frames = self.frames_region(id, region);
        let moved = self.move_to_own_block(id, self.first_layer(id), region)
            && (frames == region || self.move_to_own_block(id, Layer::Frames, frames));
        self.give_region(id, region);
        if !moved {
            return self.fail(id, Code::StraddleExhausted, String::new());
        }
        self.arm_timer(id);
        self.counters.add(Counter::Demotions, 1);
        self.rearm_later(id);
        self.open_what_waited(id);
    }

    /// What `live` partitions still hold of the region stays theirs; it is taken again when they let go.
    pub(super) fn give_region(&mut self, id: ConnId, region: BulkId) {
        self.conns[id].receive = Receive::Off;
        self.buffers.receive.give_region(region);
        let opened = self.conns[id].secured.as_mut().and_then(|secured| secured.opened_region.take());
        if let Some(opened) = opened {
            self.buffers.receive.give_region(opened);
        }
        self.promoted -= 1;
        self.counters.set(Counter::PromotedOpen, u64::from(self.promoted));
    }

    /// Goes on with a change of the kind of receive once what it waits for has ended.
    pub(super) fn receive_settled(&mut self, id: ConnId) {
        let conn = &self.conns[id];
        match conn.receive {
            Receive::Promoting if !conn.receive_armed => {
                if conn.phase == Phase::Open {
                    self.promoted(id);
                } else {
                    self.promoted -= 1;
                    self.conns[id].receive = Receive::Off;
                    self.rearm_later(id);
                }
            }
            Receive::Demoting(region) if !conn.readable_armed && self.bulk_reading != Some(id) => {
                self.demoted(id, region);
            }
            _ => {}
        }
    }

    /// The poll's report.
    pub(super) fn bulk_readable(&mut self, id: ConnId, completion: Completion) {
        if !completion.more {
            self.conns[id].readable_armed = false;
        }
        let Receive::Bulk(_) = self.conns[id].receive else { return };
        if self.conns[id].phase == Phase::Closing {
            return;
        }
        if !completion.more {
            let sock = self.conns[id].sock;
            self.conns[id].readable_armed = true;
            self.submit(id, Op::PollReadable { sock }, TokenKind::Readable);
        }
        self.conns[id].readable = true;
        self.queue_visit(id);
    }

    fn queue_visit(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        if !conn.queued && self.bulk_reading != Some(id) {
            conn.queued = true;
            conn.visit_bytes = 0;
            self.bulk_ready.push_back(id);
        }
    }

    /// Starts a read where none is in flight.
    pub(super) fn visit_bulk(&mut self) {
        for _ in 0..self.bulk_ready.len() {
            if self.bulk_reading.is_some() {
                return;
            }
            let Some(id) = self.bulk_ready.pop_front() else { return };
            self.conns[id].queued = false;
            if matches!(self.conns[id].phase, Phase::Free | Phase::Closing) {
                continue;
            }
            if let Receive::Bulk(region) = self.conns[id].receive {
                self.read_region(id, region);
            }
        }
    }

    fn read_region(&mut self, id: ConnId, region: BulkId) {
        if !self.open_waiting(id, region) {
            return;
        }
        let Some(into) = self.buffers.receive.read_target(region, READ_BYTES_MAX) else {
            return self.starve(id);
        };
        let conn = &mut self.conns[id];
        conn.readable = false;
        conn.read_bytes = into.bytes;
        let sock = conn.sock;
        self.bulk_reading = Some(id);
        self.counters.add(Counter::BulkReads, 1);
        self.submit(id, Op::Read { sock, into }, TokenKind::Read);
    }

    /// Everything is held by slow subscribers of live topics: let go, and try in the next tick. Where that was of no use
    /// it is lent to other shards: then now and again, as they may not run.
    pub(super) fn starve(&mut self, id: ConnId) {
        self.bulk_starved.now = true;
        if self.bulk_starved.before {
            self.look_again(super::SHORT_NS);
        } else {
            self.busy = true;
        }
        self.queue_visit(id);
    }

    /// A read has completed.
    pub(super) fn bulk_read(&mut self, id: ConnId, outcome: Outcome) {
        self.bulk_reading = None;
        let region = match self.conns[id].receive {
            Receive::Bulk(region) | Receive::Demoting(region) => region,
            _ => return,
        };
        match outcome {
            Outcome::Read { bytes } => {
                self.counters.add(Counter::BytesReceived, u64::from(bytes));
                self.conns[id].received_ns = self.clock.mono_ns;
                self.buffers.receive.filled(region, bytes);
                match self.first_layer(id) {
                    Layer::Frames => self.take_region_frames(id, region),
                    Layer::Records => self.open_region(id, region),
                }
                self.after_read(id, region, bytes);
            }
            Outcome::EndOfStream if !self.records_end_well(id) => {}
            Outcome::EndOfStream => {
                let frames = self.frames_region(id, region);
                if self.buffers.receive.pending(frames).bytes > 0 && self.conns[id].is_live() {
                    self.lost(id, Code::MidFrameDisconnect);
                } else {
                    self.peer_finished(id);
                }
            }
            Outcome::Failed(IoError::WouldBlock) => {
                if self.conns[id].readable {
                    self.queue_visit(id);
                }
            }
            Outcome::Failed(IoError::Cancelled) => {}
            _ => self.peer_gone(id),
        }
    }

    /// Acts on the whole frames of a region.
    pub(super) fn take_region_frames(&mut self, id: ConnId, region: BulkId) {
        let pending = self.buffers.receive.pending(region);
        if !self.conns[id].is_live() {
            return self.buffers.receive.consumed(region, pending.bytes);
        }
        let used = self.ingest(id, pending);
        self.buffers.receive.consumed(region, used);
        if used < pending.bytes && self.conns[id].is_live() {
            self.frame_has_begun(id);
        }
    }

    /// No frame and no record is unfinished.
    pub(super) fn has_nothing_pending(&self, id: ConnId, region: BulkId) -> bool {
        [region, self.frames_region(id, region)].iter().all(|&of| self.buffers.receive.pending(of).bytes == 0)
    }

    /// Stay, take turns, or wait for the poll.
    fn after_read(&mut self, id: ConnId, region: BulkId, bytes: u32) {
        if self.conns[id].receive != Receive::Bulk(region) || self.conns[id].phase == Phase::Closing {
            return;
        }
        let conn = &mut self.conns[id];
        conn.bulk_score = if bytes < SMALL_READ_BYTES { conn.bulk_score.saturating_add(1) } else { 0 };
        conn.visit_bytes += bytes;
        let score = conn.bulk_score;
        if score >= DEMOTE_BY || score >= DEMOTE_AFTER && self.has_nothing_pending(id, region) {
            self.conns[id].bulk_score = 0;
            return self.demote(id);
        }
        let conn = &self.conns[id];
        let full = bytes == conn.read_bytes;
        if full && conn.visit_bytes < VISIT_BYTES_MAX {
            return self.read_region(id, region);
        }
        if full || conn.readable {
            self.queue_visit(id);
        }
    }

    /// Whether a region could not be read into for want of room since the last look.
    pub(super) fn bulk_is_short(&mut self) -> bool {
        let now = std::mem::take(&mut self.bulk_starved.now);
        self.bulk_starved.before = now;
        now
    }
}
