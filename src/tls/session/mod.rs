//! One connection's TLS, from its first byte to its last: the handshake by rustls, then our record layer.
//!
//! State and owner: the stage the connection is in, and what the handshake wants sent. The caller owns every
//! buffer. Nothing here waits: each call does what the bytes at hand allow.
//!
//! Once its handshake is over a session holds 2.8 KiB, heap included (tests/tls_memory.rs): both keys with their
//! tables, the traffic secrets that the next keys come from, and who the peer is. Nothing else of the handshake stays.
//! It may move between threads, as a connection moves between shards.

use super::config::{ClientTls, ServerTls};
use super::record::{Received, RecordLayer, Sealed, Then};
use super::{Failure, Reason};

mod buffered;
pub(super) mod errors;
mod handshake;
mod peer;

#[cfg(test)]
pub(crate) mod tests;

use buffered::Buffered;
use handshake::{Handshake, Step};
pub use peer::Peer;

/// Who opens and seals records once the handshake is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Records {
    /// `tls::record`: straight between receive memory, plaintext and send memory.
    #[default]
    Own,
    /// rustls, through its buffers: the reference to compare with.
    Rustls,
}

/// See the module.
pub struct Session {
    stage: Stage,
    /// Records of the handshake that wait to be sent.
    outgoing: Outgoing,
    peer: Option<Box<Peer>>,
}

enum Stage {
    Handshake(Box<Handshake>),
    Own(Box<RecordLayer>),
    Rustls(Box<Buffered>),
    Over(Failure),
}

impl Session {
    /// A session for a connection that was accepted.
    #[must_use]
    pub fn server(config: &ServerTls, records: Records) -> Session {
        let stage = match records {
            Records::Own => Handshake::server(config).map(|handshake| Stage::Handshake(Box::new(handshake))),
            Records::Rustls => Buffered::server(config).map(|buffered| Stage::Rustls(Box::new(buffered))),
        };
        Session::begin(stage)
    }

    /// A session for a connection to the server of this name (a DNS name or an IP address); its first bytes wait
    /// to be sent. `now_s` as for [`Session::receive`]: a ticket says how old it is.
    #[must_use]
    pub fn client(config: &ClientTls, server_name: &str, records: Records, now_s: u64) -> Session {
        config.time().set(now_s);
        let mut outgoing = Outgoing::default();
        let stage = match records {
            Records::Own => Handshake::client(config, server_name, &mut outgoing.bytes)
                .map(|handshake| Stage::Handshake(Box::new(handshake))),
            Records::Rustls => {
                Buffered::client(config, server_name).map(|buffered| Stage::Rustls(Box::new(buffered)))
            }
        };
        Session { outgoing, ..Session::begin(stage) }
    }

    fn begin(stage: Result<Stage, Failure>) -> Session {
        Session { stage: stage.unwrap_or_else(Stage::Over), outgoing: Outgoing::default(), peer: None }
    }

    /// Takes in records from the start of `input`; what they hold is packed at the start of `out`. It stops for
    /// want of input or of room, or at an end; what was not consumed is to be given again, with more behind it.
    ///
    /// `now_s` is the time in seconds since 1970, UTC: certificates are judged by it.
    pub fn receive(&mut self, input: &[u8], out: &mut [u8], now_s: u64) -> Received {
        match &mut self.stage {
            Stage::Handshake(_) => self.receive_handshake(input, out, now_s),
            Stage::Own(layer) => layer.receive(input, out),
            Stage::Rustls(buffered) => {
                let received = buffered.receive(input, out, now_s);
                if self.peer.is_none() {
                    self.peer = buffered.peer().map(Box::new);
                }
                received
            }
            Stage::Over(failure) => {
                Received { consumed: input.len(), produced: 0, early: 0, then: Then::Failed(failure.clone()) }
            }
        }
    }

    /// Records are given to rustls one at a time, so that what follows the handshake's last one is ours.
    fn receive_handshake(&mut self, input: &[u8], out: &mut [u8], now_s: u64) -> Received {
        let (mut consumed, mut early) = (0, 0);
        loop {
            let Stage::Handshake(handshake) = &mut self.stage else {
                let mut rest = self.receive(&input[consumed..], &mut out[early..], now_s);
                rest.consumed += consumed;
                rest.produced += early;
                rest.early = early;
                return rest;
            };
            let stopped = |then| Received { consumed, produced: early, early, then };
            let rest = &input[consumed..];
            let bytes = match handshake.check_first(rest).and_then(|()| handshake.check(rest)) {
                Ok(bytes) if bytes > input.len() - consumed => return stopped(Then::Wants(bytes)),
                Ok(bytes) => bytes,
                Err(reason) => {
                    let failure = handshake.refuse(reason, &mut self.outgoing.bytes);
                    self.stage = Stage::Over(failure);
                    continue;
                }
            };
            let room = handshake.early_room(bytes);
            if room > out.len() - early {
                return stopped(Then::Room(room));
            }
            let record = &input[consumed..consumed + bytes];
            let step = handshake.take(record, &mut self.outgoing.bytes, &mut out[early..], now_s);
            consumed += bytes;
            match step {
                Step::More { early: more } => early += more,
                Step::Done { layer, peer } => {
                    self.stage = Stage::Own(layer);
                    self.peer = Some(peer);
                }
                Step::Failed(failure) => self.stage = Stage::Over(failure),
            }
        }
    }

    /// Writes what waits to be sent, then records with as much of `from` as there is room for, to the start of
    /// `out`. Until the handshake is over nothing of `from` is taken.
    pub fn transmit(&mut self, from: &[u8], out: &mut [u8]) -> Sealed {
        let written = self.outgoing.move_to(out);
        if !self.outgoing.is_empty() {
            return Sealed { taken: 0, written };
        }
        let rest = match &mut self.stage {
            Stage::Own(layer) => layer.transmit(from, &mut out[written..]),
            Stage::Rustls(buffered) => buffered.transmit(from, &mut out[written..]),
            Stage::Handshake(_) | Stage::Over(_) => Sealed::default(),
        };
        Sealed { taken: rest.taken, written: written + rest.written }
    }

    /// Whether something waits to be sent that is no data.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.outgoing.is_empty()
            || match &self.stage {
                Stage::Own(layer) => layer.owes(),
                Stage::Rustls(buffered) => buffered.owes(),
                Stage::Handshake(_) | Stage::Over(_) => false,
            }
    }

    /// Whether data can be sent: the handshake is over and this side is not closed.
    #[must_use]
    pub fn can_send(&self) -> bool {
        match &self.stage {
            Stage::Own(layer) => layer.can_send(),
            Stage::Rustls(buffered) => buffered.can_send(),
            Stage::Handshake(_) | Stage::Over(_) => false,
        }
    }

    /// Whether the handshake is still going on.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        match &self.stage {
            Stage::Handshake(_) => true,
            Stage::Rustls(buffered) => buffered.is_handshaking(),
            Stage::Own(_) | Stage::Over(_) => false,
        }
    }

    /// Who the peer is, once the handshake is over.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_deref()
    }

    /// Says that nothing more will be sent: close_notify waits to be sent. A handshake is given up.
    pub fn close(&mut self) {
        match &mut self.stage {
            Stage::Own(layer) => layer.close(),
            Stage::Rustls(buffered) => buffered.close(),
            Stage::Handshake(_) => self.stage = Stage::Over(Reason::HandshakeUnfinished.into()),
            Stage::Over(_) => {}
        }
    }

    /// The connection's bytes have come to their end.
    ///
    /// # Errors
    /// When the peer has not said that they would: something may be missing.
    pub fn end_of_stream(&mut self) -> Result<(), Failure> {
        match &mut self.stage {
            Stage::Own(layer) => layer.end_of_stream(),
            Stage::Rustls(buffered) => buffered.end_of_stream(),
            Stage::Handshake(_) => {
                let failure = Failure::from(Reason::HandshakeUnfinished);
                self.stage = Stage::Over(failure.clone());
                Err(failure)
            }
            Stage::Over(failure) => Err(failure.clone()),
        }
    }

    /// Seals one record whose content (`bytes` of it) lies in `out` behind the room for a header; says how long the
    /// record is.
    ///
    /// # Panics
    /// When something waits to be sent (call [`Session::transmit`] with nothing first), when no data can be sent,
    /// or when `out` has no room.
    pub fn seal_placed(&mut self, bytes: usize, out: &mut [u8]) -> usize {
        assert!(self.can_send() && !self.has_output(), "what waits goes first, and data may follow it");
        match &mut self.stage {
            Stage::Own(layer) => layer.seal_placed(bytes, out),
            Stage::Rustls(buffered) => buffered.seal_placed(bytes, out),
            Stage::Handshake(_) | Stage::Over(_) => unreachable!("data can be sent"),
        }
    }

    /// Replaces the sending key before the next data, if the handshake is over.
    #[cfg(any(test, uringest_sim))]
    pub(crate) fn replace_key(&mut self) {
        if let Stage::Own(layer) = &mut self.stage {
            layer.replace_key();
        }
    }

    /// Replaces sending keys after so many records, for tests of that.
    #[cfg(test)]
    pub(crate) fn rekey_after(&mut self, records: u64) {
        if let Stage::Own(layer) = &mut self.stage {
            layer.rekey_after(records);
        }
    }
}

/// Bytes on their way out, from `sent` on.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn move_to(&mut self, out: &mut [u8]) -> usize {
        let bytes = out.len().min(self.bytes.len() - self.sent);
        out[..bytes].copy_from_slice(&self.bytes[self.sent..self.sent + bytes]);
        self.sent += bytes;
        if self.is_empty() {
            *self = Outgoing::default();
        }
        bytes
    }
}
