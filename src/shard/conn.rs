//! The connection table: one slot for each socket of the shard, with all that a session is.
//!
//! A slot's `generation` changes when the slot is freed, so late completions and late messages of other
//! shards are recognised. `ops` counts operations whose last completion is outstanding: the socket is
//! closed, moved and its slot freed only at zero (the kernel owns memory and socket until then).
//! A slot is touched for the first time when it is first used, so unused capacity costs no memory.

use std::net::IpAddr;

use crate::access::TenantId;
use crate::buf::{BulkId, Span};
use crate::ids::{ConnId, SockId};
use crate::io::{SpanListId, Token, TokenKind};
use crate::mutation::{self, Mutation};
use crate::proto::code::Code;
use crate::shard::list::Links;
use crate::shard::messages::ConnRef;
use crate::shard::outbox::Outbox;
use crate::shard::secured::Secured;

/// No index: the end of an intrusive list.
pub(super) const NONE: u32 = u32::MAX;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The slot is free.
    Free,
    /// Waiting for hello.
    Greeting,
    /// hello was accepted.
    Open,
    /// Leaving for another shard as soon as its operations have ended.
    Moving,
    /// Telling the peer why, then reading to its end: what arrives is dropped.
    Lingering,
    /// Waiting for its operations to end, then closed.
    Closing,
}

/// How a connection's bytes are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receive {
    /// Nothing is armed: out of buffers, paused, or at the end of the stream.
    Off,
    /// A receive into the shared ring is armed.
    Shared,
    /// On the way to a region: the shared receive is being cancelled.
    Promoting,
    /// Reads into a region of its own.
    Bulk(BulkId),
    /// On the way back: the readiness poll is being cancelled.
    Demoting(BulkId),
}

/// Where the census has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Among those who were let in.
    LetIn,
    /// Among those who are being told why they are not.
    ToldNo,
    /// With another shard, which it moved to: it is still connected.
    Elsewhere,
}

/// What received bytes are: frames, or the records of TLS that frames come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Frames,
    Records,
}

/// A frame or record that has begun to arrive and is not whole, or waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partial {
    /// None.
    Nothing,
    /// Where it was received or opened, held; it grows in place while the bytes that follow land beside it.
    InRing(Span),
    /// In a block of its own that has room for the whole of it (or for its header, until that is known).
    InBlock { block: Span, filled: u32 },
}

/// What is kept of one layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub partial: Partial,
    /// Place in the list of those that hold memory of the rings, oldest first.
    pub holding: Links,
}

const KEPT_NOTHING: Kept = Kept { partial: Partial::Nothing, holding: Links::UNLINKED };

/// One session.
#[derive(Debug)]
pub(super) struct Conn {
    pub generation: u32,
    pub phase: Phase,
    pub sock: SockId,
    pub peer: IpAddr,
    pub tenant: TenantId,
    pub session: u64,
    /// Operations whose last completion is outstanding.
    pub ops: u32,

    pub receive: Receive,
    /// The shared receive's last completion is outstanding.
    pub receive_armed: bool,
    /// The peer has finished sending.
    pub ended: bool,
    /// By [`Layer`].
    pub kept: [Kept; 2],
    /// Consecutive large receives; see `receive::PROMOTE_AFTER`.
    pub bulk_score: u8,
    /// Bulk: the poll said readable since the last read began.
    pub readable: bool,
    /// Bulk: the poll is armed.
    pub readable_armed: bool,
    /// Bulk: bytes the read in flight asked for.
    pub read_bytes: u32,
    /// Bulk: bytes read in this visit.
    pub visit_bytes: u32,
    /// Bulk: in the queue of connections to visit.
    pub queued: bool,
    /// In the list of connections whose receive has to be armed again.
    pub rearming: bool,
    pub received_ns: u64,
    /// What the connection's timer is set to.
    pub timer_ns: u64,
    /// Size of the last batch's frame.
    pub frame_bytes_seen: u32,
    pub counted: Counted,
    /// When the partial frame began, 0 without one.
    pub frame_began_ns: u64,

    pub outbox: Outbox,
    /// The send in flight.
    pub sending: Option<SpanListId>,
    /// The socket was full; a poll for writability is armed.
    pub blocked: bool,
    /// In the list of connections to transmit for.
    pub dirty: bool,
    /// The subscription whose frame was sent in part and has to go on first, or `NONE`.
    pub resume: u32,
    /// The first subscription of the connection, and how many.
    pub subscriptions: u32,
    pub subscription_count: u32,
    /// Where the next round over the subscriptions starts.
    pub turn: u32,
    /// The first channel of the connection, and how many.
    pub channels: u32,
    pub channel_count: u32,
    /// Requests that wait for an answer from control or another shard.
    pub waiting: u32,
    /// Spans lent to other shards that have not come back.
    pub lent: u32,
    /// Batches of its channels that are stored and have not reached the level they are acknowledged at.
    pub waiting_acks: u32,
    /// Earliest time an acknowledgement held back for pacing is due; `u64::MAX` for none.
    pub ack_due_ns: u64,
    /// To be closed when the phase is over.
    pub doomed: bool,
    /// Close once everything queued for the peer is sent.
    pub close_when_sent: bool,
    /// Why it is being closed, for the log and the metrics.
    pub reason: Option<Code>,
    /// `Moving`: where to.
    pub destination: u16,
    /// `Lingering` and `Closing`: no later than this.
    pub deadline_ns: u64,
    /// `Moving`: received and not acted upon.
    pub pending: Vec<u8>,
    /// Of a connection that speaks TLS.
    pub secured: Option<Box<Secured>>,
}

impl Conn {
    pub(super) fn token(&self, kind: TokenKind, id: ConnId) -> Token {
        Token::new(kind, self.generation, id.0)
    }

    pub(super) fn partial(&self, layer: Layer) -> Partial {
        self.kept[layer as usize].partial
    }

    pub(super) fn set_partial(&mut self, layer: Layer, partial: Partial) {
        self.kept[layer as usize].partial = partial;
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Greeting | Phase::Open)
    }
}

/// The table. Slots are reused last-in-first-out, so that a small set of them stays warm.
pub(super) struct ConnTable {
    slots: Vec<Conn>,
    free: Vec<u32>,
    capacity: usize,
    open: usize,
}

impl ConnTable {
    pub(super) fn new(capacity: u32) -> Self {
        let capacity = capacity as usize;
        ConnTable {
            slots: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
            open: 0,
        }
    }

    /// Slots that have been used.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn open_count(&self) -> usize {
        self.open
    }

    /// A slot for a new connection; `None` when the table is full.
    pub(super) fn insert(&mut self, sock: SockId, peer: IpAddr, now_ns: u64) -> Option<ConnId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.capacity => {
                let index = u32::try_from(self.slots.len()).expect("the table's capacity is a u32");
                self.slots.push(vacant());
                index
            }
            None => return None,
        };
        let conn = &mut self.slots[index as usize];
        assert_eq!(conn.phase, Phase::Free, "a slot on the free list is free");
        *conn = Conn {
            generation: conn.generation,
            phase: Phase::Greeting,
            sock,
            peer,
            received_ns: now_ns,
            pending: std::mem::take(&mut conn.pending),
            // Whoever had the slot may have left it in these lists: it is in them once.
            queued: conn.queued,
            rearming: conn.rearming,
            ..vacant()
        };
        self.open += 1;
        Some(ConnId(index))
    }

    /// Frees a slot whose socket is gone.
    pub(super) fn remove(&mut self, id: ConnId) {
        let conn = &mut self.slots[id.index()];
        let done = conn.ops == 0 || mutation::on(Mutation::FreeSlotEarly);
        assert!(done, "a connection is freed when the kernel is done with it");
        conn.phase = Phase::Free;
        conn.generation = (conn.generation + 1) & 0x00ff_ffff;
        conn.pending = Vec::new();
        conn.secured = None;
        self.free.push(id.0);
        self.open -= 1;
    }

    /// The connection a token names, unless the slot has changed hands since.
    pub(super) fn by_token(&self, token: Token) -> Option<ConnId> {
        self.check(ConnId(token.index()), token.generation())
    }

    /// The connection another shard names.
    pub(super) fn by_ref(&self, reference: ConnRef) -> Option<ConnId> {
        self.check(reference.conn, reference.generation)
    }

    fn check(&self, id: ConnId, generation: u32) -> Option<ConnId> {
        let conn = self.slots.get(id.index())?;
        (conn.phase != Phase::Free && conn.generation == generation).then_some(id)
    }

    /// Every connection.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &Conn> {
        self.slots.iter().filter(|conn| conn.phase != Phase::Free)
    }

    /// Ids of all slots in use.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let in_use = self.slots.iter().enumerate().filter(|(_, conn)| conn.phase != Phase::Free);
        in_use.map(|(index, _)| ConnId(u32::try_from(index).expect("capacity is a u32"))).collect()
    }
}

impl std::ops::Index<ConnId> for ConnTable {
    type Output = Conn;
    fn index(&self, id: ConnId) -> &Conn {
        &self.slots[id.index()]
    }
}

impl std::ops::IndexMut<ConnId> for ConnTable {
    fn index_mut(&mut self, id: ConnId) -> &mut Conn {
        &mut self.slots[id.index()]
    }
}

fn vacant() -> Conn {
    Conn {
        generation: 1,
        phase: Phase::Free,
        sock: SockId(0),
        peer: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        tenant: TenantId::default(),
        session: 0,
        ops: 0,
        receive: Receive::Off,
        receive_armed: false,
        ended: false,
        kept: [KEPT_NOTHING; 2],
        bulk_score: 0,
        readable: false,
        readable_armed: false,
        read_bytes: 0,
        visit_bytes: 0,
        queued: false,
        rearming: false,
        received_ns: 0,
        timer_ns: u64::MAX,
        frame_bytes_seen: 0,
        counted: Counted::LetIn,
        frame_began_ns: 0,
        outbox: Outbox::new(),
        sending: None,
        blocked: false,
        dirty: false,
        resume: NONE,
        subscriptions: NONE,
        subscription_count: 0,
        turn: NONE,
        channels: NONE,
        channel_count: 0,
        waiting: 0,
        lent: 0,
        waiting_acks: 0,
        ack_due_ns: u64::MAX,
        doomed: false,
        close_when_sent: false,
        reason: None,
        destination: 0,
        deadline_ns: u64::MAX,
        pending: Vec::new(),
        secured: None,
    }
}
