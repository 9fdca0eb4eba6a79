//! One connection's bytes between the socket and the frames, in all drivers: as they are, or as TLS records.
//!
//! State and owner: a [`Wire`] is one connection's TLS, shared by the half of a driver that reads and the half that
//! writes; a [`Receiver`] is the reading half's memory, and outlives connections. Neither has a socket or a clock.
//!
//! The way in: the driver reads into [`Receiver::room`], which is the chunk that deliveries are slices of, or, with
//! TLS, memory for ciphertext, from which records are opened into that chunk, side by side. The way out:
//! [`Wire::seal`] writes records into a block of the driver's, straight out of the frames.
//!
//! Invariants
//! 1. Nothing is sent before the handshake is over, and nothing of the core's is asked for: [`Wire::may_send`].
//! 2. What TLS itself has to say goes out as soon as the writing half looks: [`Wire::owes`]. Who reads has it look.
//! 3. Frames that came before an error are given out before it.

mod receiver;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, Bytes};

use crate::client::core::{Address, ConnectionConfig, Error, Tls, TlsFault, TlsSettings};
use crate::tls::record::{Cut, HEADER_BYTES, OVERHEAD_BYTES, next_cut};
use crate::tls::{Failure, Received, Records, Session, Then};

pub(crate) use receiver::{Lost, Receiver};

/// Bytes of a block that records are written to. More than a record.
const BLOCK_BYTES: usize = 128 * 1024;

/// Makes the wire of each of a driver's connections.
pub(crate) struct Connector {
    address: Address,
    /// And the name the server has to prove.
    tls: Option<(Tls, String)>,
}

impl Connector {
    /// `now_s`: seconds since 1970. The connections of one [`Tls`] share their time, so it is always the present one.
    ///
    /// # Errors
    /// `BadConfig`: the platform's authorities are needed and there are none, or the server's name is none.
    pub fn new(config: &ConnectionConfig, now_s: u64) -> Result<Connector, Error> {
        let address = config.server.clone();
        if !address.is_secured() {
            return Ok(Connector { address, tls: None });
        }
        let tls = match &config.tls {
            Some(tls) => tls.clone(),
            None => Tls::new(TlsSettings::default())?,
        };
        let name = tls.settings().server_name.clone().unwrap_or_else(|| address.host().to_owned());
        let connector = Connector { address, tls: Some((tls, name)) };
        match connector.open(now_s).begin(now_s) {
            Err(failure) => {
                Err(Error::BadConfig(format!("no server can prove to be that: {}", failure.detail)))
            }
            Ok(()) => Ok(connector),
        }
    }

    /// Where to.
    pub fn host_and_port(&self) -> (&str, u16) {
        (self.address.host(), self.address.port())
    }

    /// A connection begins.
    pub fn open(&self, now_s: u64) -> Arc<Wire> {
        let secured = self.tls.as_ref().map(|(tls, name)| {
            let session = Session::client(tls.client(), name, Records::Own, now_s);
            let (may_send, owes) = (session.can_send().into(), session.has_output().into());
            Secured { session: Mutex::new(session), may_send, owes, cut: AtomicBool::new(false) }
        });
        Arc::new(Wire { secured })
    }
}

/// See the module.
pub(crate) struct Wire {
    secured: Option<Secured>,
}

struct Secured {
    session: Mutex<Session>,
    /// What the session said last: to be asked while other locks are held.
    may_send: AtomicBool,
    owes: AtomicBool,
    /// A record went out in part: nothing that follows can be understood.
    cut: AtomicBool,
}

impl Wire {
    pub fn is_secured(&self) -> bool {
        self.secured.is_some()
    }

    /// Whether frames can be sent.
    pub fn may_send(&self) -> bool {
        self.secured.as_ref().is_none_or(|secured| secured.may_send.load(Ordering::Acquire))
    }

    /// Whether something waits to be sent that is no frame.
    pub fn owes(&self) -> bool {
        self.secured.as_ref().is_some_and(|secured| secured.owes.load(Ordering::Acquire))
    }

    /// Memory for [`Wire::seal`]; none where it is not needed.
    pub fn block(&self) -> Vec<u8> {
        if self.is_secured() { vec![0; BLOCK_BYTES] } else { Vec::new() }
    }

    /// Writes what TLS has to say, and then records with as much of the frames as there is room for, to the start of
    /// the block; how many bytes. Frames are taken from the front. 0: there is nothing more.
    ///
    /// # Panics
    /// Without TLS.
    pub fn seal(&self, frames: &mut VecDeque<Bytes>, block: &mut [u8]) -> usize {
        let secured = self.secured.as_ref().expect("records are TLS's");
        if secured.cut.load(Ordering::Acquire) {
            return 0;
        }
        secured.with(|session| {
            let mut written = 0;
            loop {
                written += session.transmit(&[], &mut block[written..]).written;
                if session.has_output() || !session.can_send() {
                    return written;
                }
                match seal_one(session, frames, &mut block[written..]) {
                    0 => return written,
                    more => written += more,
                }
            }
        })
    }

    /// What goes out before the connection is closed, if the peer can still understand it: an alert, or
    /// close_notify.
    pub fn goodbye(&self, block: &mut [u8]) -> usize {
        let Some(secured) = &self.secured else { return 0 };
        secured.with(Session::close);
        self.seal(&mut VecDeque::new(), block)
    }

    /// The key that frames are sealed with is replaced before the next one.
    #[cfg(any(test, uringest_sim))]
    pub fn replace_key(&self) {
        if let Some(secured) = &self.secured {
            secured.with(Session::replace_key);
        }
    }

    /// Writing has ended somewhere in a record.
    pub fn cut(&self) {
        if let Some(secured) = &self.secured {
            secured.cut.store(true, Ordering::Release);
        }
    }

    fn receive(&self, input: &[u8], out: &mut [u8], now_s: u64) -> Received {
        let secured = self.secured.as_ref().expect("records are TLS's");
        secured.with(|session| session.receive(input, out, now_s))
    }

    /// Whether the handshake could begin at all.
    fn begin(&self, now_s: u64) -> Result<(), Failure> {
        match self.receive(&[], &mut [], now_s).then {
            Then::Failed(failure) => Err(failure),
            _ => Ok(()),
        }
    }

    /// The bytes have come to their end.
    fn end(&self) -> Result<(), Failure> {
        self.secured.as_ref().map_or(Ok(()), |secured| secured.with(Session::end_of_stream))
    }
}

impl Secured {
    /// A panic of one half leaves a session that fails, not one that lies.
    fn with<T>(&self, act: impl FnOnce(&mut Session) -> T) -> T {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut session);
        self.may_send.store(session.can_send(), Ordering::Release);
        self.owes.store(session.has_output(), Ordering::Release);
        result
    }
}

/// Seals one record of what is at the front, as `tls::record` would have it cut; its length, or 0 for none. Nothing
/// else waits to be sent.
fn seal_one(session: &mut Session, frames: &mut VecDeque<Bytes>, out: &mut [u8]) -> usize {
    match next_cut(frames.iter().map(Bytes::len), out.len()) {
        Cut::Nothing => 0,
        Cut::Straight(bytes) => {
            let sealed = session.transmit(&frames[0][..bytes], &mut out[..bytes + OVERHEAD_BYTES]);
            frames[0].advance(sealed.taken);
            if frames[0].is_empty() {
                frames.pop_front();
            }
            sealed.written
        }
        Cut::Gather { stretches, bytes } => {
            let mut at = HEADER_BYTES;
            for frame in frames.drain(..stretches) {
                out[at..at + frame.len()].copy_from_slice(&frame);
                at += frame.len();
            }
            session.seal_placed(bytes, out)
        }
    }
}

/// What a failure is to the core.
fn error_of(failure: &Failure) -> Error {
    let fault = TlsFault::of(failure);
    let detail = match failure.received {
        Some(alert) => format!("it says {alert}"),
        None if !failure.detail.is_empty() => failure.detail.clone(),
        None if fault.is_lasting() => String::new(), // its own text says it
        None => failure.reason.text().trim_end_matches('.').to_owned(),
    };
    Error::Tls { fault, detail }
}

#[cfg(test)]
mod tests;
