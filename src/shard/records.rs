//! Records in: opened from where they were received to where frames are acted upon.
//!
//! Records of the shared ring are opened to a ring of the shard's; those of a bulk connection's region to a second
//! region. In both, the plaintext of one record lies right behind that of the one before, so a frame is in one piece
//! whatever records it came in; and the room is written again only when nothing holds what was there.

use crate::buf::{BulkId, Span};
use crate::ids::ConnId;
use crate::io::Io;
use crate::limits::HEADER_BYTES;
use crate::metrics::Counter;
use crate::proto::code::Code;
use crate::proto::control::Open;
use crate::proto::header::{FrameHeader, Kind};
use crate::tls::{Received, Then, spans};

use super::Shard;
use super::conn::{Layer, Partial, Phase, Receive};

/// How a look at records ended.
enum Next {
    /// There may be more; the next one needs so much room.
    More { room: u32 },
    /// A record is not whole.
    Wait,
    /// The connection is no longer read.
    Over,
}

impl<I: Io> Shard<I> {
    /// Opens every whole record of a contiguous run and acts on the frames in them; says how many bytes were dealt
    /// with. A connection that failed on the way has dealt with all of them.
    pub(super) fn open_records(&mut self, id: ConnId, run: Span) -> u32 {
        if !self.may_open(id) {
            return 0;
        }
        let (mut rest, mut room) = (run, 1);
        loop {
            let Some((to, block)) = self.room_to_open(room) else {
                self.fail(id, Code::StraddleExhausted, String::new());
                return run.bytes;
            };
            if !self.conns[id].is_live() {
                self.leave_room(to, block, 0);
                return run.bytes;
            }
            let received = self.open(id, rest, to);
            rest = rest.split_at(bytes_of(received.consumed)).1;
            self.take_opened(id, to, bytes_of(received.produced), block);
            match self.after_opening(id, &received) {
                Next::More { room: more } => room = more,
                Next::Wait => break,
                Next::Over => return run.bytes,
            }
        }
        run.bytes - rest.bytes
    }

    /// Room for so many bytes: in the ring, or in a block of its own (`true`) where everything there is held.
    fn room_to_open(&mut self, bytes: u32) -> Option<(Span, bool)> {
        let ring = self.buffers.receive.opened();
        let in_ring =
            |shard: &Self| shard.buffers.receive.read_target(ring, u32::MAX).filter(|to| to.bytes >= bytes);
        if let Some(to) = in_ring(self) {
            return Some((to, false));
        }
        self.relieve_pressure();
        match in_ring(self) {
            Some(to) => Some((to, false)),
            None => self.buffers.receive.block(bytes).map(|block| (block, true)),
        }
    }

    /// Acts on frames that were opened to room from `room_to_open`.
    fn take_opened(&mut self, id: ConnId, room: Span, bytes: u32, block: bool) {
        let (frames, _) = room.split_at(bytes);
        if !block {
            self.buffers.receive.filled(self.buffers.receive.opened(), frames.bytes);
        }
        if frames.bytes > 0 {
            match self.conns[id].phase {
                Phase::Greeting | Phase::Open => self.take(id, Layer::Frames, frames),
                Phase::Moving => self.stash(id, Layer::Frames, frames),
                Phase::Free | Phase::Lingering | Phase::Closing => {}
            }
        }
        self.leave_room(room, block, bytes);
    }

    /// What still needs the room holds it; so many bytes of it were filled.
    fn leave_room(&mut self, room: Span, block: bool, bytes: u32) {
        if block {
            self.buffers.receive.release(room);
        } else {
            self.buffers.receive.consumed(self.buffers.receive.opened(), bytes);
        }
    }

    /// One call of the session: records between these two places.
    fn open(&mut self, id: ConnId, from: Span, to: Span) -> Received {
        let secured = self.conns[id].secured.as_mut().expect("a connection with records");
        let now_s = self.clock.wall_ns / 1_000_000_000;
        let received = spans::open(&mut secured.session, &mut self.buffers.memory, from, to, now_s);
        self.counters.add(Counter::TlsOpenedBytes, received.produced as u64);
        self.counters.add(Counter::TlsEarlyBytes, received.early as u64);
        self.session_went_on(id);
        received
    }

    /// What to do when what was opened has been acted upon.
    fn after_opening(&mut self, id: ConnId, received: &Received) -> Next {
        if self.conns[id].phase == Phase::Moving {
            return Next::Wait;
        }
        match &received.then {
            Then::Failed(failure) => self.tls_failed(id, failure),
            _ if !self.conns[id].is_live() => {}
            Then::Closed => self.records_closed(id),
            Then::Wants(_) => return Next::Wait,
            Then::Room(room) => return Next::More { room: bytes_of(*room) },
        }
        Next::Over
    }

    /// Asks a session that came from another shard what it had come to.
    pub(super) fn look_at_session(&mut self, id: ConnId) {
        let Some(secured) = &mut self.conns[id].secured else { return };
        let received = secured.session.receive(&[], &mut [], self.clock.wall_ns / 1_000_000_000);
        let _next = self.after_opening(id, &received);
    }

    /// The peer has said that no more data comes.
    fn records_closed(&mut self, id: ConnId) {
        let conn = &self.conns[id];
        let unfinished = match conn.receive {
            Receive::Bulk(region) | Receive::Demoting(region) => {
                self.buffers.receive.pending(self.frames_region(id, region)).bytes > 0
            }
            _ => conn.partial(Layer::Frames) != Partial::Nothing,
        };
        if unfinished { self.lost(id, Code::MidFrameDisconnect) } else { self.finish(id) }
    }

    /// Opens what is pending in a bulk connection's region into the one of its frames, and acts on them.
    pub(super) fn open_region(&mut self, id: ConnId, region: BulkId) {
        let frames = self.frames_region(id, region);
        loop {
            let pending = self.buffers.receive.pending(region);
            if !self.conns[id].is_live() {
                self.buffers.receive.consumed(region, pending.bytes);
                return self.take_region_frames(id, frames);
            }
            let Some(to) = self.buffers.receive.read_target(frames, u32::MAX) else {
                return self.wait_for_room(id);
            };
            let received = self.open(id, pending, to);
            self.buffers.receive.consumed(region, bytes_of(received.consumed));
            self.buffers.receive.filled(frames, bytes_of(received.produced));
            self.take_region_frames(id, frames);
            match self.after_opening(id, &received) {
                Next::More { room } if self.region_has_room(frames, room) => {}
                Next::More { .. } => return self.wait_for_room(id),
                Next::Wait | Next::Over => break,
            }
        }
        if self.has_nothing_pending(id, region) {
            self.conns[id].frame_began_ns = 0;
        } else if self.conns[id].is_live() {
            self.frame_has_begun(id);
        }
    }

    fn region_has_room(&self, region: BulkId, room: u32) -> bool {
        self.buffers.receive.read_target(region, u32::MAX).is_some_and(|to| to.bytes >= room)
    }

    fn wait_for_room(&mut self, id: ConnId) {
        self.conns[id].secured.as_mut().expect("a connection with records").waits_for_room = true;
        self.starve(id);
    }

    /// Records that waited for room come before more are read; `false` when they still wait, or nothing is to be
    /// read any more.
    pub(super) fn open_waiting(&mut self, id: ConnId, region: BulkId) -> bool {
        let Some(secured) = &mut self.conns[id].secured else { return true };
        if !std::mem::take(&mut secured.waits_for_room) {
            return true;
        }
        self.open_region(id, region);
        let conn = &self.conns[id];
        let waits = conn.secured.as_ref().is_some_and(|secured| secured.waits_for_room);
        !waits && conn.receive == Receive::Bulk(region) && conn.phase != Phase::Closing
    }

    /// The same for a connection that has just lost its regions.
    pub(super) fn open_what_waited(&mut self, id: ConnId) {
        let Some(secured) = &mut self.conns[id].secured else { return };
        if std::mem::take(&mut secured.waits_for_room) {
            self.take_kept(id, Layer::Records);
        }
    }

    /// Whether a frame has to wait for the end of the handshake that is going on. What was said before may have been recorded and said
    /// again by somebody else, so only that acts which does no harm when it is repeated: hello, and batches of
    /// producers that the partition remembers, which it stores once.
    pub(super) fn has_to_wait(&self, id: ConnId, frame: Span, header: &FrameHeader) -> bool {
        match header.kind {
            Kind::Hello => !self.may_greet_early(id),
            Kind::Publish => false,
            Kind::Open => !self.may_open_early(frame),
            _ => true,
        }
    }

    /// Who is to be sent away says nothing before, and whom a certificate may tell is not known yet.
    fn may_greet_early(&self, id: ConnId) -> bool {
        let refused = self.conns[id].secured.as_ref().is_some_and(|secured| secured.refusal.is_some());
        !refused && !self.tls.as_ref().is_some_and(|tls| tls.server.asks_for_certificates())
    }

    /// A producer that is not remembered may have been forgotten: its batches could be stored again. One that is open
    /// elsewhere would be closed there.
    fn may_open_early(&self, frame: Span) -> bool {
        let body = &self.buffers.memory.bytes(frame)[HEADER_BYTES..];
        let Ok(open) = Open::decode(body) else { return false };
        let known = self.topics.by_name(&open.topic);
        let partition = known.and_then(|known| known.topic.partitions.get(open.partition as usize));
        let slot = partition.and_then(|partition| self.slot_of(partition.id));
        slot.is_some_and(|slot| self.topics[slot].partition.may_resume(open.producer_id))
    }
}

/// Of a session's answer about spans, whose lengths are u32.
#[allow(clippy::cast_possible_truncation)]
fn bytes_of(bytes: usize) -> u32 {
    assert!(u32::try_from(bytes).is_ok(), "no longer than a span");
    bytes as u32
}
