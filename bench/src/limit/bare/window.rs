//! What a relay has received and not every consumer has got: one run of bytes in mirrored memory.
//!
//! Positions count bytes from the start. `head - WINDOW_BYTES <= sent[c] <= head` for every consumer `c`: so
//! what a consumer lacks is contiguous, wherever it lies, and a slow consumer stops the reading.

use std::io;

use uringest::buf::{Mapping, Pages};

use super::READ_BYTES;

/// Two reads: one is received while the other is sent.
pub(super) const WINDOW_BYTES: usize = 2 * READ_BYTES;

/// See the module.
pub(super) struct Window {
    memory: Mapping,
    head: u64,
    /// How far each consumer has got; `None` when it has gone.
    sent: Vec<Option<u64>>,
    /// Bytes that are not to be parted.
    unit: u64,
    /// The sender whose last unit is not whole, and how much of it is there.
    unfinished: Option<(usize, u64)>,
}

impl Window {
    pub(super) fn new(consumers: usize, unit: u64) -> io::Result<Window> {
        let memory = Mapping::mirrored(WINDOW_BYTES, Pages::Small).map_err(io::Error::other)?;
        memory.prefault();
        Ok(Window { memory, head: 0, sent: vec![Some(0); consumers], unit, unfinished: None })
    }

    /// Every consumer has got everything.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.iter().flatten().all(|sent| *sent == self.head)
    }

    /// Whether this sender may be read now: not while another's unit is half there.
    pub(super) fn admits(&self, sender: usize) -> bool {
        self.unfinished.is_none_or(|(holder, _)| holder == sender)
    }

    /// Where the next bytes go and how many fit.
    pub(super) fn room(&self) -> (*mut u8, usize) {
        let room = offset(self.end() - self.head);
        (self.address(self.head), room.min(READ_BYTES))
    }

    /// Position behind the last byte received.
    #[cfg(feature = "uring")]
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Position up to which bytes may be received: a window's length past the slowest consumer.
    pub(super) fn end(&self) -> u64 {
        let slowest = self.sent.iter().flatten().copied().min().unwrap_or(self.head);
        slowest + WINDOW_BYTES as u64
    }

    /// `bytes` came from `sender` into the room.
    pub(super) fn filled(&mut self, sender: usize, bytes: usize) {
        let before = self.unfinished.map_or(0, |(_, there)| there);
        let there = (before + bytes as u64) % self.unit;
        self.unfinished = (there != 0).then_some((sender, there));
        self.head += bytes as u64;
    }

    /// A sender has gone: what it left half done is nobody's to finish.
    pub(super) fn abandon(&mut self, sender: usize) {
        self.unfinished = self.unfinished.filter(|(holder, _)| *holder != sender);
    }

    /// What this consumer is still to get.
    pub(super) fn pending(&self, consumer: usize) -> &[u8] {
        let at = self.sent[consumer].unwrap_or(self.head);
        let bytes = offset(self.head - at);
        // SAFETY: the run starts in the mirrored mapping's first copy and is at most its length; nobody writes
        // to it before every consumer has got it, as `room` ends there.
        unsafe { std::slice::from_raw_parts(self.address(at), bytes) }
    }

    /// This consumer has got so much of it.
    pub(super) fn sent(&mut self, consumer: usize, bytes: usize) {
        let Some(at) = &mut self.sent[consumer] else { return };
        *at += bytes as u64;
        assert!(*at <= self.head, "a consumer gets what was received");
    }

    /// This consumer gets nothing any more, and holds nobody up.
    pub(super) fn leave(&mut self, consumer: usize) {
        self.sent[consumer] = None;
    }

    /// Where the byte of this position lies.
    pub(super) fn address(&self, position: u64) -> *mut u8 {
        let at = offset(position % WINDOW_BYTES as u64);
        // SAFETY: `at` is below the mapping's length.
        unsafe { self.memory.base().add(at) }
    }
}

/// A distance within the window.
fn offset(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a window is smaller than the address space")
}
