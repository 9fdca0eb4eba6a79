//! Records out: what a connection has to get is gathered as for a connection in plaintext, sealed into a block of the
//! send memory, and sent from there.
//!
//! Sealed bytes have used up their record numbers: they can only be sent, in their order. So what is sealed counts as
//! sent for frames and partitions, and its block is the connection's until the socket has taken all of it; nothing
//! more is sealed before. A connection that finds no block waits in a queue for the next one that is given back.

use std::collections::VecDeque;

use crate::buf::{SendMemory, Span};
use crate::ids::ConnId;
use crate::io::{Io, Op, SpanListId, TokenKind};
use crate::limits::SEALED_SEND_BYTES_MAX;
use crate::metrics::Counter;
use crate::proto::code::Code;
use crate::tls::record::{CONTENT_BYTES_MAX, KEY_UPDATE_RECORD_BYTES, OVERHEAD_BYTES};
use crate::tls::spans;

use super::Shard;
use super::secured::{Secured, ShardTls, Unsent};

/// Room for what a handshake has to say in one send; more goes with the next one.
const HANDSHAKE_SEND_BYTES: u32 = 8 * 1024;
/// Bytes of frames that a connection may send at once, however little its socket takes.
const APPETITE_BYTES_MIN: u32 = 4 * 1024;
/// Connections that look for a block again in one tick.
const WOKEN_PER_TICK: usize = 16;
/// How long a connection may keep a block while others wait for one.
const STALLED_NS: u64 = 2_000_000_000;

/// A shard's memory for sealed records, and who waits for some.
#[derive(Default)]
pub(super) struct Sealing {
    /// Only where TLS is spoken.
    pub memory: Option<SendMemory>,
    /// Connections that found no block.
    pub waits: VecDeque<ConnId>,
    /// None was free since one was given back.
    out_of_blocks: bool,
}

impl Sealing {
    pub(super) fn new(tls: Option<&ShardTls>) -> Sealing {
        let memory = tls.map(|tls| SendMemory::new(tls.send_memory.0, tls.send_memory.1));
        Sealing { memory, ..Sealing::default() }
    }
}

const SECURED: &str = "a connection that speaks TLS";

impl<I: Io> Shard<I> {
    /// Builds and submits one send of a connection that speaks TLS.
    pub(super) fn transmit_sealed(&mut self, id: ConnId, list: SpanListId) {
        if self.secured(id).unsent.is_none() {
            self.seal(id, list);
        }
        let Some(Unsent { rest, .. }) = self.secured(id).unsent else {
            self.io.drop_span_list(list);
            return self.nothing_to_send(id);
        };
        self.io.push_span(list, rest);
        self.counters.add(Counter::Sends, 1);
        self.counters.add(Counter::SendSpans, 1);
        let sock = self.conns[id].sock;
        self.conns[id].sending = Some(list);
        self.submit(id, Op::Send { sock, spans: list }, TokenKind::Send);
    }

    /// Seals what there is to say, where there is a block for it.
    fn seal(&mut self, id: ConnId, list: SpanListId) {
        let secured = self.secured(id);
        let (owes, can_send) = (secured.session.has_output(), secured.session.can_send());
        let bytes_max = if can_send { secured.appetite.min(self.sealed_bytes_max()) } else { 0 };
        self.gather(id, list, bytes_max);
        let gathered = std::mem::take(&mut self.gathered);
        if owes || !gathered.is_empty() {
            let total: u32 = gathered.iter().map(|span| span.bytes).sum();
            let taken = self.seal_spans(id, &gathered, owes);
            let delivered = self.counters.read(Counter::RecordsDelivered);
            self.account(id, list, taken);
            let records = self.counters.read(Counter::RecordsDelivered) - delivered;
            if let Some(unsent) = &mut self.conns[id].secured.as_mut().expect(SECURED).unsent {
                unsent.records = records;
                if taken < total {
                    // Other shards took it for a full socket. The rest goes when this is out.
                    self.set_blocked(id, false);
                }
            }
        }
        self.gathered = gathered;
    }

    /// Bytes of frames for one send, that fit with their records into a block of the share a connection has now.
    fn sealed_bytes_max(&self) -> u32 {
        let share = self.sealing.memory.as_ref().map_or(0, SendMemory::share);
        u32::try_from(share)
            .map_or(SEALED_SEND_BYTES_MAX, |share| (share - share / 16).min(SEALED_SEND_BYTES_MAX))
    }

    /// Says how many of the bytes were sealed.
    fn seal_spans(&mut self, id: ConnId, gathered: &[Span], owes: bool) -> u32 {
        let wanted = room_for(gathered) + if owes { HANDSHAKE_SEND_BYTES } else { 0 };
        let Some(block) = self.sealing.memory.as_mut().and_then(|memory| memory.take(wanted)) else {
            self.wait_for_block(id);
            return 0;
        };
        let since_ns = self.clock.mono_ns;
        let secured = self.conns[id].secured.as_mut().expect(SECURED);
        let sealed = spans::seal(&mut secured.session, &mut self.buffers.memory, gathered, block);
        let (rest, _) = block.split_at(bytes_of(sealed.written));
        secured.unsent = Some(Unsent { block, rest, since_ns, records: 0 });
        if rest.bytes == 0 {
            self.give_block(id);
        }
        self.counters.add(Counter::TlsSealedBytes, sealed.taken as u64);
        bytes_of(sealed.taken)
    }

    /// The socket has taken so many of the sealed bytes.
    pub(super) fn sealed_sent(&mut self, id: ConnId, sent: u32) {
        let secured = self.conns[id].secured.as_mut().expect(SECURED);
        let unsent = secured.unsent.as_mut().expect("something was sent");
        unsent.rest = unsent.rest.split_at(sent).1;
        if unsent.rest.bytes == 0 {
            secured.appetite = (2 * secured.appetite).min(SEALED_SEND_BYTES_MAX);
            self.give_block(id);
        } else {
            // A block is kept until its last byte is taken: the next one is no larger than what the socket takes.
            secured.appetite = sent.clamp(APPETITE_BYTES_MIN, SEALED_SEND_BYTES_MAX);
        }
    }

    /// Gives the connection's block back.
    pub(super) fn give_block(&mut self, id: ConnId) {
        let Some(secured) = &mut self.conns[id].secured else { return };
        let Some(unsent) = secured.unsent.take() else { return };
        if let Some(memory) = &mut self.sealing.memory {
            memory.give(unsent.block);
        }
        self.sealing.out_of_blocks = false;
    }

    /// A turn for those who wait for a block, a few at a time, until one finds none again.
    pub(super) fn wake_who_waits_for_blocks(&mut self) {
        if self.sealing.out_of_blocks {
            return;
        }
        for _ in 0..WOKEN_PER_TICK {
            let Some(id) = self.sealing.waits.pop_front() else { return };
            // Who goes leaves the queue.
            self.conns[id].secured.as_mut().expect(SECURED).waits_for_block = false;
            if !self.conns[id].blocked {
                self.set_blocked(id, false);
            }
            self.mark_dirty(id);
        }
        self.busy |= !self.sealing.waits.is_empty();
    }

    fn wait_for_block(&mut self, id: ConnId) {
        self.sealing.out_of_blocks = true;
        self.counters.add(Counter::SendWaits, 1);
        let secured = self.conns[id].secured.as_mut().expect(SECURED);
        if !secured.waits_for_block {
            secured.waits_for_block = true;
            self.sealing.waits.push_back(id);
            self.set_blocked(id, true);
        }
    }

    /// Closes who keeps a block for long, while others wait for one.
    pub(super) fn end_stalled(&mut self) {
        if self.sealing.waits.is_empty() {
            return;
        }
        let now_ns = self.clock.mono_ns;
        for id in self.conns.ids() {
            let unsent = self.conns[id].secured.as_ref().and_then(|secured| secured.unsent);
            if unsent.is_some_and(|unsent| unsent.since_ns + STALLED_NS <= now_ns) {
                self.doom(id, Code::PeerNotReading);
            }
        }
    }

    fn secured(&self, id: ConnId) -> &Secured {
        self.conns[id].secured.as_ref().expect(SECURED)
    }
}

/// Room that is enough for the records of these: each stretch ends one, and a KeyUpdate may come before them.
fn room_for(spans: &[Span]) -> u32 {
    let bytes: usize = spans.iter().map(|span| span.bytes as usize).sum();
    let records = bytes / CONTENT_BYTES_MAX + spans.len();
    bytes_of(bytes + records * OVERHEAD_BYTES + KEY_UPDATE_RECORD_BYTES)
}

#[allow(clippy::cast_possible_truncation)] // of one send's spans, which are bounded
fn bytes_of(bytes: usize) -> u32 {
    bytes as u32
}
