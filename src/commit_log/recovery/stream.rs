//! Segments' bytes, read through one buffer.

use super::{LogStore, RecoveryError};
use crate::commit_log::format::LogFile;
use crate::commit_log::{BLOCK_BYTES, block_down};

/// `BLOCK_BYTES`, as a length of memory.
pub const BLOCK: usize = 4096;
const _: () = assert!(BLOCK as u64 == BLOCK_BYTES);

/// The buffer holds bytes `at..at + filled` of one segment's file.
pub struct Stream<'a, S> {
    store: &'a S,
    buffer: &'a mut [u8],
    sequence: u64,
    at: u64,
    filled: usize,
    progress: &'a mut dyn FnMut(u64, u64),
    pub bytes_read: u64,
    pub bytes_all: u64,
}

impl<'a, S: LogStore> Stream<'a, S> {
    pub fn new(store: &'a S, buffer: &'a mut [u8], progress: &'a mut dyn FnMut(u64, u64)) -> Self {
        let whole = buffer.len() - buffer.len() % BLOCK;
        let buffer = &mut buffer[..whole];
        Stream { store, buffer, sequence: 0, at: 0, filled: 0, progress, bytes_read: 0, bytes_all: 0 }
    }

    /// The bytes at `at` of a file: at least so many unless the file ends before, and at most a block fewer than the
    /// buffer has.
    #[inline]
    pub fn bytes(&mut self, sequence: u64, at: u64, least: usize) -> Result<&[u8], RecoveryError> {
        debug_assert!(least <= self.buffer.len() - BLOCK);
        if !self.holds(sequence, at, least) {
            self.fill(sequence, at, self.buffer.len())?;
        }
        Ok(self.held(at))
    }

    /// The same of a file of which no more than that is wanted.
    pub fn head(&mut self, sequence: u64, at: u64, least: usize) -> Result<&[u8], RecoveryError> {
        if !self.holds(sequence, at, least) {
            self.fill(sequence, at, least.next_multiple_of(BLOCK))?;
        }
        Ok(self.held(at))
    }

    /// There is nothing more to read.
    pub fn done(&mut self) {
        (self.progress)(self.bytes_all, self.bytes_all);
    }

    fn holds(&self, sequence: u64, at: u64, least: usize) -> bool {
        self.sequence == sequence && self.at <= at && at + least as u64 <= self.at + self.filled as u64
    }

    fn held(&self, at: u64) -> &[u8] {
        let from = usize::try_from(at - self.at).map_or(self.filled, |from| from.min(self.filled));
        &self.buffer[from..self.filled]
    }

    #[cold]
    fn fill(&mut self, sequence: u64, at: u64, wanted: usize) -> Result<(), RecoveryError> {
        (self.sequence, self.at, self.filled) = (sequence, block_down(at), 0);
        while self.filled < wanted {
            // A file that ends inside of a block, or a short read, leaves the rest of a block to be read again.
            let whole = self.filled - self.filled % BLOCK;
            let from = self.at + whole as u64;
            let read =
                self.store.read_at(sequence, from, &mut self.buffer[whole..wanted]).map_err(|source| {
                    RecoveryError::Io { file: Some(LogFile::Segment(sequence)), at: from, source }
                })?;
            if whole + read <= self.filled {
                break;
            }
            self.bytes_read += (whole + read - self.filled) as u64;
            self.filled = whole + read;
        }
        (self.progress)(self.bytes_read.min(self.bytes_all), self.bytes_all);
        Ok(())
    }
}
