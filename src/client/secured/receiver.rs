//! The reading half: memory for what the socket gives, and whole frames out of it.

use std::sync::Arc;

use super::{Wire, error_of};
use crate::client::core::{Error, Frame, FrameReader, TlsFault};
use crate::tls::Then;

/// Bytes of ciphertext that are received at once at most. Several records.
const SEALED_BYTES: usize = 128 * 1024;
/// A read into less room than this is not worth its system call.
const ROOM_BYTES_MIN: usize = 32 * 1024;
/// What the first record of a server that refuses plaintext begins with: an alert.
const ALERT: [u8; 2] = [21, 3];

/// Why nothing more comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The connection has ended: why.
    Ended(String),
    /// What came is of no use.
    Garbled(Error),
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Lost::Ended(why) => f.write_str(why),
            Lost::Garbled(error) => error.fmt(f),
        }
    }
}

/// See the module. It belongs to one connection at a time, and none at first.
pub(crate) struct Receiver {
    wire: Option<Arc<Wire>>,
    frames: FrameReader,
    /// Ciphertext; what is within `from..to` has come and is not opened. No memory without TLS.
    sealed: Vec<u8>,
    from: usize,
    to: usize,
    /// A frame has come on this connection.
    greeted: bool,
}

impl Receiver {
    pub fn new(pinned_bytes_max: usize) -> Receiver {
        let frames = FrameReader::new(pinned_bytes_max);
        Receiver { wire: None, frames, sealed: Vec::new(), from: 0, to: 0, greeted: false }
    }

    /// A new connection begins; what was left of the last one is forgotten.
    pub fn begin(&mut self, wire: Arc<Wire>) {
        self.frames.reset();
        (self.from, self.to, self.greeted) = (0, 0, false);
        if wire.is_secured() && self.sealed.is_empty() {
            self.sealed = vec![0; SEALED_BYTES];
        }
        self.wire = Some(wire);
    }

    fn tls(&self) -> Option<&Arc<Wire>> {
        self.wire.as_ref().filter(|wire| wire.is_secured())
    }

    /// Where the next bytes go; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        if self.tls().is_none() {
            return self.frames.room();
        }
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.sealed.len() - self.to < ROOM_BYTES_MIN {
            self.sealed.copy_within(self.from..self.to, 0); // less than a record
            (self.from, self.to) = (0, self.to - self.from);
        }
        &mut self.sealed[self.to..]
    }

    /// The first `bytes` of the room were written: gives out the frames that are whole now.
    ///
    /// # Errors
    /// When nothing more will come of this connection; the frames before are given out.
    ///
    /// # Panics
    /// When that is more than the room.
    pub fn filled(&mut self, bytes: usize, now_s: u64, out: &mut Vec<Frame>) -> Result<(), Lost> {
        if self.tls().is_some() {
            assert!(self.to + bytes <= self.sealed.len(), "no more is filled than there was room");
            self.to += bytes;
            return self.open(now_s, out);
        }
        self.frames.filled(bytes);
        if !self.greeted && self.frames.partial().starts_with(&ALERT) {
            return Err(Lost::Garbled(Error::Tls {
                fault: TlsFault::ServerSpeaksTls,
                detail: String::new(),
            }));
        }
        self.take_frames(out)
    }

    /// The socket has come to its end: what that means.
    pub fn ended(&mut self) -> Lost {
        match self.tls().map(|wire| wire.end()) {
            None if !self.greeted => Lost::Ended(
                "the server closed the connection without an answer; if it speaks TLS there, the address begins with \
                 uringest+tls://"
                    .to_owned(),
            ),
            None | Some(Ok(())) => Lost::Ended("the server closed the connection".to_owned()),
            Some(Err(failure)) => Lost::Garbled(error_of(&failure)),
        }
    }

    /// Opens what records there are, behind what has come of a frame. Frames are split off before room is made, so
    /// that no more than the beginning of one is ever moved.
    fn open(&mut self, now_s: u64, out: &mut Vec<Frame>) -> Result<(), Lost> {
        let Some(wire) = self.tls().cloned() else { return Ok(()) };
        let mut room_bytes = 1;
        loop {
            let room = self.frames.room_for(room_bytes);
            let received = wire.receive(&self.sealed[self.from..self.to], room, now_s);
            self.from += received.consumed;
            self.frames.filled(received.produced);
            self.take_frames(out)?;
            match received.then {
                Then::Wants(_) => return Ok(()),
                Then::Room(bytes) => room_bytes = bytes,
                Then::Closed => return Err(Lost::Ended("the server closed the connection".to_owned())),
                Then::Failed(failure) => return Err(Lost::Garbled(error_of(&failure))),
            }
        }
    }

    fn take_frames(&mut self, out: &mut Vec<Frame>) -> Result<(), Lost> {
        while let Some(frame) = self.frames.next_frame().map_err(Lost::Garbled)? {
            self.greeted = true;
            out.push(frame);
        }
        Ok(())
    }

    /// Bytes copied: see [`FrameReader::copied_bytes`].
    #[cfg(test)]
    pub fn copied_bytes(&self) -> (u64, u64) {
        self.frames.copied_bytes()
    }
}
