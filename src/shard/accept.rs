//! Accepting connections: the census of the whole server, this shard's table, and what is done when the
//! process runs out of descriptors. Where TLS is spoken a refusal is told when the handshake is over.

use std::net::IpAddr;

use crate::ids::SockId;
use crate::io::{Completion, Io, IoError, Op, Outcome, Token, TokenKind};
use crate::lifecycle::State;
use crate::metrics::Counter;
use crate::proto::code::Code;

use super::Shard;
use super::conn::Counted;

/// How long accepting rests when the process is out of descriptors or the kernel out of memory.
const PAUSE_NS: u64 = 500_000_000;
/// The time of a connection that is there only to be told no: its handshake is in it.
const REFUSING_NS: u64 = 1_000_000_000;

impl<I: Io> Shard<I> {
    pub(super) fn accepted(&mut self, listener: u32, completion: Completion) {
        match completion.outcome {
            Outcome::Accepted { sock, peer } => {
                let secured = self.listeners[listener as usize].secured;
                self.greet(sock, peer, secured);
            }
            Outcome::Failed(IoError::Cancelled) | Outcome::Done => return,
            Outcome::Failed(IoError::NoDescriptors | IoError::NoMemory) => {
                self.counters.add(Counter::AcceptErrors, 1);
                self.counters.add(Counter::AcceptsPaused, 1);
                self.accept_after_ns = self.clock.mono_ns + PAUSE_NS;
            }
            _ => self.counters.add(Counter::AcceptErrors, 1),
        }
        if !completion.more {
            self.accepts_off.push(listener);
        }
    }

    /// Takes a new connection in, or turns it away with a reason.
    fn greet(&mut self, sock: SockId, peer: IpAddr, secured: bool) {
        let refusal =
            if self.state == State::Draining { Err(Code::ServerDraining) } else { self.census.enter(peer) };
        if refusal.is_err() && !self.census.tell_no() {
            // To keep a descriptor for each of them, or to shake hands only to say no, would be what a flood is after.
            return self.turn_away_unheard(sock, refusal.err());
        }
        let Some(id) = self.conns.insert(sock, peer, self.clock.mono_ns) else {
            // The table has room for the configured maximum and some to say no in; beyond that, silence.
            match refusal {
                Ok(()) => self.census.leave(peer),
                Err(_) => self.census.told_no(),
            }
            return self.turn_away_unheard(sock, Some(Code::TooManyConnections));
        };
        self.counters.add(Counter::ConnectionsOpened, 1);
        self.set_open_gauge();
        self.conns[id].counted = if refusal.is_ok() { Counted::LetIn } else { Counted::ToldNo };
        if secured {
            self.secure(id, refusal.err());
        } else if let Err(code) = refusal {
            return self.fail(id, code, String::new());
        }
        let time_ns =
            if refusal.is_ok() { self.limits.handshake_timeout_ms * 1_000_000 } else { REFUSING_NS };
        self.conns[id].deadline_ns = self.clock.mono_ns + time_ns;
        self.arm_timer(id);
        self.arm_receive(id);
    }

    pub(super) fn set_open_gauge(&mut self) {
        self.counters.set(Counter::ConnectionsOpen, self.conns.open_count() as u64);
    }

    /// Closes a socket that gets no slot in the table.
    fn turn_away_unheard(&mut self, sock: SockId, code: Option<Code>) {
        if let Some(code) = code {
            self.counters.refused(code);
        }
        drop(self.io.detach(sock));
    }

    /// Arms accepts that have ended: at once after a flood, later when descriptors are short.
    pub(super) fn rearm_accepts(&mut self) {
        let paused = self.clock.mono_ns < self.accept_after_ns;
        if self.accepts_off.is_empty() || self.state == State::Draining || paused {
            return;
        }
        if self.conns.open_count() >= self.conns.capacity() {
            // Nothing could be done with another connection: let them wait in the listener's backlog.
            return;
        }
        for listener in std::mem::take(&mut self.accepts_off) {
            let op = Op::Accept { listener: self.listeners[listener as usize].sock };
            self.submit_with(op, Token::new(TokenKind::Accept, 0, listener));
        }
    }

    /// Stops accepting: the listeners are closed with the backend.
    pub(super) fn stop_accepting(&mut self) {
        for listener in 0..self.listeners.len() {
            let index = u32::try_from(listener).expect("a few listeners");
            if !self.accepts_off.contains(&index) {
                let target = Token::new(TokenKind::Accept, 0, index);
                self.submit_with(Op::Cancel { target }, Token::new(TokenKind::Accept, 1, index));
            }
        }
    }
}
