//! TLS on a socket, as cheap as a load needs it: one read or write of the socket for many records.
//!
//! Records are opened from and sealed into memory that all connections of a thread share, so that it stays in the
//! cache. What a connection has to keep is a part of a record that has come, and sealed bytes that its socket did not
//! take.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use uringest::tls::record::{KEY_UPDATE_RECORD_BYTES, OVERHEAD_BYTES, RECORD_BYTES_MAX};
use uringest::tls::{Received, Records, Session, Then};

use crate::dialect::WRITE_BYTES;
use crate::socket::{read_some, write_some};
use crate::tls::{LoadTls, RECORD_BYTES_LEAST};

/// One read takes this much.
const READ_BYTES: usize = 128 * 1024;
/// A write's bytes in the smallest records, and what a session may have to say itself. Longer writes are taken in parts.
const SEALED_BYTES: usize =
    WRITE_BYTES + (WRITE_BYTES / RECORD_BYTES_LEAST + 2) * OVERHEAD_BYTES + KEY_UPDATE_RECORD_BYTES;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        received: vec![0; READ_BYTES].into(),
        sealed: vec![0; SEALED_BYTES].into(),
    });
}

struct Scratch {
    received: Box<[u8]>,
    sealed: Box<[u8]>,
}

/// See the module.
pub(super) struct Secured {
    session: Session,
    /// Content of a record, at most.
    record_bytes: usize,
    /// A part of a record.
    received: Vec<u8>,
    /// Opened in the handshake, from the second on, and not read.
    opened: (Vec<u8>, usize),
    /// Sealed, from the second on, and not written.
    sealed: (Vec<u8>, usize),
    /// When the handshake was: what the peer's certificate is judged by.
    now_s: u64,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secured").field("peer", &self.session.peer()).finish_non_exhaustive()
    }
}

impl Secured {
    /// On a socket that blocks.
    pub(super) fn shake_hands(stream: &TcpStream, tls: &LoadTls) -> io::Result<Secured> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut secured = Secured {
            session: Session::client(tls.client(), &tls.name(), Records::Own, now_s),
            record_bytes: tls.record_bytes(),
            received: Vec::new(),
            opened: (Vec::new(), 0),
            sealed: (Vec::new(), 0),
            now_s,
        };
        secured.flush_all(stream)?;
        while secured.session.is_handshaking() {
            secured.fill(stream)?;
            secured.flush_all(stream)?;
        }
        let peer = secured.session.peer().ok_or_else(|| io::Error::other("the handshake failed"))?;
        tls.met(peer);
        Ok(secured)
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.sealed.1 < self.sealed.0.len() || self.session.has_output()
    }

    pub(super) fn holds(&self) -> bool {
        self.opened.1 < self.opened.0.len()
    }

    /// Takes from what was opened in the handshake.
    fn take_opened(&mut self, into: &mut [u8]) -> usize {
        let (opened, at) = &mut self.opened;
        let bytes = into.len().min(opened.len() - *at);
        into[..bytes].copy_from_slice(&opened[*at..*at + bytes]);
        *at += bytes;
        if *at == opened.len() {
            self.opened = (Vec::new(), 0);
        }
        bytes
    }

    #[inline]
    pub(super) fn read_some(&mut self, stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        if self.holds() {
            return Ok(self.take_opened(into));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            // Plaintext is never longer than its records: what was read has room.
            let most = scratch.received.len().min(into.len());
            let held = self.received.len();
            let read = read_some(stream, &mut scratch.received[held..most])?;
            if read == 0 {
                return Ok(0);
            }
            scratch.received[..held].copy_from_slice(&self.received);
            self.open(&scratch.received[..held + read], into)
        })
    }

    /// Opens the whole records, and keeps the rest.
    fn open(&mut self, input: &[u8], into: &mut [u8]) -> io::Result<usize> {
        let Received { consumed, produced, then, .. } = self.session.receive(input, into, self.now_s);
        self.received.clear();
        self.received.extend_from_slice(&input[consumed..]);
        match then {
            Then::Wants(_) => Ok(produced),
            Then::Closed if produced > 0 => Ok(produced),
            Then::Closed => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it (close_notify)"))
            }
            Then::Failed(failure) => Err(io::Error::other(format!("TLS: {failure}"))),
            Then::Room(bytes) => {
                Err(io::Error::other(format!("a record of {bytes} bytes has no room: a fault of the load")))
            }
        }
    }

    #[inline]
    pub(super) fn write_some(&mut self, stream: &TcpStream, from: &[u8]) -> io::Result<usize> {
        if self.is_stuck() {
            self.flush(stream)?;
            if self.is_stuck() {
                return Ok(0);
            }
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let (taken, sealed) = self.seal(from, &mut scratch.sealed);
            let sealed = &scratch.sealed[..sealed];
            let written = write_some(stream, sealed)?;
            self.sealed.0.extend_from_slice(&sealed[written..]);
            Ok(taken)
        })
    }

    /// As many whole records as have room; says how much was taken, and how long they are.
    fn seal(&mut self, from: &[u8], out: &mut [u8]) -> (usize, usize) {
        let (mut taken, mut written) = (0, 0);
        for piece in from.chunks(self.record_bytes) {
            if out.len() - written < piece.len() + OVERHEAD_BYTES + KEY_UPDATE_RECORD_BYTES {
                break;
            }
            let sealed = self.session.transmit(piece, &mut out[written..]);
            taken += sealed.taken;
            written += sealed.written;
            if sealed.taken < piece.len() {
                break;
            }
        }
        (taken, written)
    }

    /// Writes what was sealed and what the session has to say itself; says whether the socket took anything.
    pub(super) fn flush(&mut self, stream: &TcpStream) -> io::Result<bool> {
        self.gather();
        let (sealed, at) = &mut self.sealed;
        let written = write_some(stream, &sealed[*at..])?;
        *at += written;
        if *at == sealed.len() {
            sealed.clear();
            *at = 0;
        }
        Ok(written > 0)
    }

    /// Appends what the session has to say itself.
    fn gather(&mut self) {
        while self.session.has_output() {
            let at = self.sealed.0.len();
            self.sealed.0.resize(at + RECORD_BYTES_MAX, 0);
            let written = self.session.transmit(&[], &mut self.sealed.0[at..]).written;
            self.sealed.0.truncate(at + written);
        }
    }

    /// Says that nothing more comes, if the socket takes that.
    pub(super) fn close(&mut self, stream: &TcpStream) {
        self.session.close();
        let _best_effort = self.flush(stream);
    }

    /// While the socket blocks.
    fn flush_all(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        self.gather();
        let (sealed, at) = &mut self.sealed;
        stream.write_all(&sealed[*at..])?;
        sealed.clear();
        *at = 0;
        Ok(())
    }

    /// While the socket blocks: reads once, behind what is opened.
    fn fill(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.received);
        let held = input.len();
        input.resize(held + RECORD_BYTES_MAX, 0);
        let read = stream.read(&mut input[held..])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it"));
        }
        input.truncate(held + read);
        let at = self.opened.0.len();
        let mut opened = std::mem::take(&mut self.opened.0);
        opened.resize(at + input.len(), 0);
        let produced = self.open(&input, &mut opened[at..]);
        if produced.is_err() {
            // The peer is told why, if it still listens; the first error is the one to tell.
            let _told = self.flush_all(stream);
        }
        opened.truncate(at + *produced.as_ref().unwrap_or(&0));
        self.opened.0 = opened;
        produced.map(|_| ())
    }

    pub(super) fn read(&mut self, stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        while !self.holds() {
            self.fill(stream)?;
            self.flush_all(stream)?;
        }
        Ok(self.take_opened(into))
    }

    pub(super) fn write(&mut self, stream: &TcpStream, from: &[u8]) -> io::Result<usize> {
        self.flush_all(stream)?;
        let mut out = vec![0; SEALED_BYTES];
        let (taken, sealed) = self.seal(from, &mut out);
        let mut stream = stream;
        stream.write_all(&out[..sealed])?;
        Ok(taken)
    }
}
