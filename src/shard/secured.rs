//! Connections that speak TLS: their handshakes, each in its turn, who the peer turns out to be, and how TLS ends.
//!
//! State and owner: a connection's [`Secured`] has its session (`tls`), the region its records are opened to while it
//! is a bulk connection, and the block its sealed bytes wait in. The queue of handshakes is the shard's.
//!
//! Invariants
//! 1. A handshake costs some hundred microseconds, so a tick goes on with a few flights of them at most
//!    (`HANDSHAKES_PER_TICK`, `HANDSHAKES_NS`), those that end one first; what arrives for the others is kept until
//!    their turn.
//! 2. Before its handshake is over nothing is said to a connection but what the handshake says, and of what it said
//!    early only that acts which may be repeated (`Shard::has_to_wait`).
//! 3. A connection that was to be refused is told so when its handshake is over, where it can read it.
//! 4. close_notify is the last thing sent, after everything that was owed.

use crate::access::TenantId;
use crate::buf::{BulkId, Span};
use crate::ids::{ConnId, RegionId};
use crate::io::Io;
use crate::limits::SEALED_SEND_BYTES_MAX;
use crate::metrics::Counter;
use crate::proto::code::Code;
use crate::tls::{Failure, Fault, Peer, Records, ServerTls, Session};

use super::Shard;
use super::conn::{Conn, Layer, Phase};
use super::messages::Report;

/// Flights of handshakes that one tick goes on with at most ...
const HANDSHAKES_PER_TICK: usize = 4;
/// ... and for so long, save that one always goes on.
const HANDSHAKES_NS: u64 = 300_000;

/// What a shard speaks TLS with.
#[derive(Debug, Clone)]
pub struct ShardTls {
    /// What sessions are made from.
    pub server: ServerTls,
    /// Who opens and seals their records.
    pub records: Records,
    /// The region of the memory that records are sealed to, and its bytes.
    pub send_memory: (RegionId, u64),
}

/// See the module.
pub(super) struct Secured {
    pub session: Session,
    /// Of a bulk connection: where its frames lie.
    pub opened_region: Option<BulkId>,
    /// Records wait for room in it.
    pub waits_for_room: bool,
    /// Sealed and not sent: the rest of a block.
    pub unsent: Option<Unsent>,
    /// In the queue for a block to seal to.
    pub waits_for_block: bool,
    /// Bytes of frames that its next send takes: less when its socket took less.
    pub appetite: u32,
    /// In the queue of handshakes.
    queued: bool,
    /// It had a turn: what comes next ends the handshake.
    begun: bool,
    /// It is its turn.
    turn: bool,
    /// The socket's bytes came to their end while some of them waited for their turn.
    ended: bool,
    /// The handshake is over, and who the peer is was looked at.
    met: bool,
    /// Why it will be sent away.
    pub refusal: Option<Code>,
    /// The tenant its certificate stands for.
    pub tenant: Option<TenantId>,
    /// close_notify was asked for.
    pub closing: bool,
    /// `Moving`: records received and not opened.
    pub pending: Vec<u8>,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secured")
            .field("met", &self.met)
            .field("unsent", &self.unsent)
            .finish_non_exhaustive()
    }
}

/// Sealed bytes that the socket has not taken yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsent {
    /// What is given back.
    pub block: Span,
    /// What is to be sent.
    pub rest: Span,
    /// When it was sealed.
    pub since_ns: u64,
    /// Records of frames in it.
    pub records: u64,
}

impl Secured {
    pub(super) fn new(tls: &ShardTls) -> Secured {
        Secured::with(Session::server(&tls.server, tls.records))
    }

    fn with(session: Session) -> Secured {
        Secured {
            session,
            opened_region: None,
            waits_for_room: false,
            unsent: None,
            waits_for_block: false,
            appetite: SEALED_SEND_BYTES_MAX,
            queued: false,
            begun: false,
            turn: false,
            ended: false,
            met: false,
            refusal: None,
            tenant: None,
            closing: false,
            pending: Vec::new(),
        }
    }

    /// For another shard: the session, and who the peer is.
    pub(super) fn hand_over(self) -> (Session, Option<TenantId>) {
        (self.session, self.tenant)
    }

    /// From another shard, where the handshake came to its end.
    pub(super) fn adopted(session: Session, tenant: Option<TenantId>) -> Secured {
        Secured { met: true, tenant, ..Secured::with(session) }
    }

    /// Records of frames that are sealed and have not all been sent.
    pub(super) fn unsent_records(&self) -> u64 {
        self.unsent.map_or(0, |unsent| unsent.records)
    }

    /// Something waits to be sent.
    pub(super) fn owes(&self) -> bool {
        self.unsent.is_some() || self.session.has_output()
    }
}

impl Conn {
    /// It is in the queue for a block to seal to.
    #[inline]
    pub(super) fn waits_for_block(&self) -> bool {
        self.secured.as_ref().is_some_and(|secured| secured.waits_for_block)
    }

    /// The peer speaks TLS, and its handshake is not over.
    #[inline]
    pub(super) fn is_handshaking(&self) -> bool {
        self.secured.as_ref().is_some_and(|secured| !secured.met)
    }
}

impl<I: Io> Shard<I> {
    /// A connection on a port that speaks TLS.
    pub(super) fn secure(&mut self, id: ConnId, refusal: Option<Code>) {
        let tls = self.tls.as_ref().expect("a port that speaks TLS has what to speak it with");
        let secured = Secured { refusal, ..Secured::new(tls) };
        self.conns[id].secured = Some(Box::new(secured));
    }

    /// Whether records may be opened now. A handshake that may not waits for its turn.
    pub(super) fn may_open(&mut self, id: ConnId) -> bool {
        let secured = self.conns[id].secured.as_mut().expect("a connection with records");
        if secured.met || secured.turn {
            return true;
        }
        if !secured.queued {
            secured.queued = true;
            // Who is nearly through goes first: what was begun is not to run out of time.
            if secured.begun { self.handshakes.push_front(id) } else { self.handshakes.push_back(id) }
        }
        false
    }

    /// The connection waits for nothing any more: whoever has its slot next does for itself.
    pub(super) fn leave_queues(&mut self, id: ConnId) {
        let Some(secured) = &mut self.conns[id].secured else { return };
        if std::mem::take(&mut secured.queued) {
            self.handshakes.retain(|&queued| queued != id);
        }
        if std::mem::take(&mut secured.waits_for_block) {
            self.sealing.waits.retain(|&waiting| waiting != id);
        }
    }

    /// Goes on with the handshakes whose turn it is.
    pub(super) fn shake_hands(&mut self) {
        let (mut left, began_ns) = (HANDSHAKES_PER_TICK, self.clock.mono_ns);
        while left > 0 {
            let Some(id) = self.handshakes.pop_front() else { return };
            // Who goes leaves the queue.
            let secured = self.conns[id].secured.as_mut().expect("a connection with records");
            (secured.queued, secured.turn, secured.begun) = (false, true, true);
            if self.conns[id].is_live() {
                self.take_kept(id, Layer::Records);
                left -= 1;
            }
            let Some(secured) = &mut self.conns[id].secured else { continue };
            secured.turn = false;
            if secured.ended && self.conns[id].is_live() {
                self.end_of_stream(id);
            }
            if self.io.clock().mono_ns.saturating_sub(began_ns) > HANDSHAKES_NS {
                break;
            }
        }
        self.busy |= !self.handshakes.is_empty();
    }

    /// Looks at what the session has come to: the end of the handshake, and what it wants sent.
    pub(super) fn session_went_on(&mut self, id: ConnId) {
        let Some(secured) = &self.conns[id].secured else { return };
        let met = match secured.session.peer() {
            Some(peer) if !secured.met && !secured.session.is_handshaking() => {
                Some((peer.resumed, self.tenant_of(peer)))
            }
            _ => None,
        };
        if secured.session.has_output() {
            self.mark_dirty(id);
        }
        if let Some((resumed, tenant)) = met {
            self.met(id, resumed, tenant);
        }
    }

    /// The tenant a peer's certificate stands for, if it stands for one.
    fn tenant_of(&self, peer: &Peer) -> Result<Option<TenantId>, String> {
        match &peer.tenant {
            None => Ok(None),
            Some(Err(refused)) => Err(refused.to_string()),
            Some(Ok(name)) => match self.access.tenant_named(name) {
                Some(tenant) => Ok(Some(tenant)),
                None => {
                    Err(format!("the certificate stands for tenant {name}, which this server does not have"))
                }
            },
        }
    }

    fn met(&mut self, id: ConnId, resumed: bool, tenant: Result<Option<TenantId>, String>) {
        let secured = self.conns[id].secured.as_mut().expect("a connection whose handshake is over");
        secured.met = true;
        if !secured.session.can_send() {
            // It was refused in the same moment, which the session says next.
            return;
        }
        self.counters.add(Counter::TlsHandshakes, 1);
        self.counters.add(Counter::TlsResumptions, u64::from(resumed));
        self.mark_dirty(id);
        let secured = self.conns[id].secured.as_mut().expect("as before");
        match (secured.refusal, tenant) {
            (Some(code), _) => self.fail(id, code, String::new()),
            (None, Err(why)) => self.fail(id, Code::Unauthenticated, why),
            (None, Ok(tenant)) => {
                secured.tenant = tenant;
                // What it said early and what had to wait for this.
                self.take_kept(id, Layer::Frames);
            }
        }
    }

    /// Who a connection is that says hello with this token. A certificate that stands for a tenant is enough; a token
    /// beside it must be of the same.
    pub(super) fn tenant_at_hello(&self, id: ConnId, token: &str) -> Option<TenantId> {
        let certified = self.conns[id].secured.as_ref().and_then(|secured| secured.tenant);
        match certified {
            None => self.access.authenticate(token),
            Some(tenant) if token.is_empty() => Some(tenant),
            Some(tenant) => self.access.authenticate(token).filter(|&of_token| of_token == tenant),
        }
    }

    /// TLS has failed: counted, and the peer is told by an alert where there is one.
    pub(super) fn tls_failed(&mut self, id: ConnId, failure: &Failure) {
        if !matches!(self.conns[id].phase, Phase::Greeting | Phase::Open | Phase::Moving) {
            return;
        }
        self.counters.tls_failed(failure.reason);
        self.report_tls_failure(id, failure);
        if failure.reason.fault() == Fault::Gone {
            return self.lost(id, Code::TlsFailed);
        }
        self.counters.refused(Code::TlsFailed);
        self.linger(id, Some(Code::TlsFailed));
    }

    /// One line of the log in a second: the counters have all of them.
    fn report_tls_failure(&mut self, id: ConnId, failure: &Failure) {
        if self.clock.mono_ns < self.tls_report_after_ns {
            return;
        }
        self.tls_report_after_ns = self.clock.mono_ns + 1_000_000_000;
        let detail = format!("{}: {}: {failure}", self.conns[id].peer, failure.reason.name());
        self.report(Report::Event { shard: self.id, event: "tls_failed", detail });
    }

    /// Whether the end of the socket's bytes was announced, as TLS wants it. One that was not ends the connection.
    pub(super) fn records_end_well(&mut self, id: ConnId) -> bool {
        let conn = &mut self.conns[id];
        let Some(secured) = &mut conn.secured else { return true };
        if conn.phase == Phase::Lingering {
            return true;
        }
        // What came before the end is looked at before it.
        if secured.queued {
            secured.ended = true;
            return false;
        }
        match secured.session.end_of_stream() {
            Ok(()) => true,
            Err(failure) => {
                self.tls_failed(id, &failure);
                false
            }
        }
    }

    /// Whether the end may be told: close_notify is out, if the session can still say it.
    pub(super) fn has_said_close(&mut self, id: ConnId) -> bool {
        let Some(secured) = &mut self.conns[id].secured else { return true };
        if !secured.closing {
            secured.closing = true;
            secured.session.close();
        }
        let (owes, waits) = (secured.owes(), secured.waits_for_block);
        if owes && !waits {
            self.mark_dirty(id);
        }
        !owes
    }

    /// What cannot be said any more is forgotten, so that the connection can end.
    pub(super) fn silence(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        if conn.secured.as_ref().is_some_and(|secured| !secured.session.can_send()) {
            conn.outbox.clear(&mut self.blocks);
        }
    }

    /// Connections that begin from now on use other certificates.
    pub(super) fn renew_tls(&mut self, server: ServerTls) {
        if let Some(tls) = &mut self.tls {
            tls.server = server;
        }
    }
}
