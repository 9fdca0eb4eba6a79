//! A lone sender: one multishot receive into the window itself.
//!
//! The window's pieces are provided buffers that the kernel fills in their order, each from its begin to its end: so
//! what comes lies in the window as it would by reads. A piece is given again when every consumer has got past it.
//! `given - WINDOW_BYTES <= slowest consumer <= head <= given`.

use std::io;

use io_uring::{IoUring, cqueue, opcode, types};

use super::super::super::sockets::{Moved, completed};
use super::super::super::window::{WINDOW_BYTES, Window};
use super::super::buffers::{BufferRing, Fill};
use super::super::queues::Queues;
use super::turns::Turns;
use super::{Part, Tag};

/// Pieces of the window.
const PIECES: u16 = 8;
const PIECE_BYTES: usize = WINDOW_BYTES / PIECES as usize;

/// See the module.
pub(super) struct Stream {
    lane: usize,
    socket: types::Fixed,
    buffers: BufferRing,
    /// Position up to which the window is the kernel's to fill.
    given: u64,
    /// The receive is in the kernel.
    armed: bool,
    gone: bool,
}

impl Stream {
    pub(super) fn new(lane: usize, socket: types::Fixed) -> io::Result<Stream> {
        let group = u16::try_from(lane).map_err(io::Error::other)?;
        Ok(Stream { lane, socket, buffers: BufferRing::new(group)?, given: 0, armed: false, gone: false })
    }

    /// # Errors
    /// The kernel cannot fill buffers piece by piece.
    pub(super) fn register(&mut self, ring: &IoUring) -> io::Result<()> {
        self.buffers.register(ring, PIECES, Fill::Incremental)
    }

    /// The same sender, read as others are.
    pub(super) fn turns(&self) -> Turns {
        Turns::new(self.lane, vec![self.socket])
    }

    pub(super) fn is_over(&self) -> bool {
        self.gone
    }

    /// Gives the kernel the pieces that every consumer has got past, and a receive where it has none.
    pub(super) fn receive(&mut self, queues: &mut Queues, window: &Window) -> io::Result<()> {
        let before = self.given;
        while self.given + PIECE_BYTES as u64 <= window.end() {
            let piece = u16::try_from(self.given / PIECE_BYTES as u64 % u64::from(PIECES)).expect("few");
            // SAFETY: the window is dropped after the ring. `end` is a window's length past the slowest consumer: no
            // byte of the piece is anybody's any more, and the kernel had used it up to be there.
            unsafe { self.buffers.give(piece, window.address(self.given), PIECE_BYTES) };
            self.given += PIECE_BYTES as u64;
        }
        if self.given > before {
            self.buffers.publish();
        }
        if self.armed || self.gone || self.given == window.head() {
            return Ok(());
        }
        self.armed = true;
        let group = u16::try_from(self.lane).map_err(io::Error::other)?;
        let tag = Tag { part: Part::Receive, lane: self.lane, index: 0 };
        let entry = opcode::RecvMulti::new(self.socket, group).build().user_data(tag.raw());
        // SAFETY: the entry points to nothing; what its buffers are in outlives the ring.
        unsafe { queues.push(&entry) }
    }

    /// Counts what has come: so many bytes.
    pub(super) fn received(&mut self, completion: &cqueue::Entry, window: &mut Window) -> io::Result<usize> {
        self.armed = cqueue::more(completion.flags());
        if completion.result() == -libc::ENOBUFS {
            return Ok(0); // until consumers have got on
        }
        match completed(completion.result())? {
            Moved::Bytes(bytes) => {
                let piece = window.head() / PIECE_BYTES as u64 % u64::from(PIECES);
                let buffer = cqueue::buffer_select(completion.flags()).map(u64::from);
                assert_eq!(buffer, Some(piece), "the kernel fills the pieces in their order");
                window.filled(0, bytes);
                assert!(window.head() <= self.given, "the kernel fills what it was given");
                Ok(bytes)
            }
            Moved::Nothing => Ok(0),
            Moved::Gone => {
                self.gone = true;
                window.abandon(0);
                Ok(0)
            }
        }
    }
}
