//! A connection that is sent to.

use std::io;

use crate::dialect::{Consumer, Tally};
use crate::link::Link;

/// See the module.
pub(super) struct Tap<C> {
    pub(super) link: Link,
    consumer: C,
    pub(super) flow: usize,
    /// What the last read left over.
    held: Vec<u8>,
    /// What has to be written.
    replies: Vec<u8>,
}

impl<C: Consumer> Tap<C> {
    pub(super) fn new(link: Link, consumer: C, flow: usize) -> Tap<C> {
        Tap { link, consumer, flow, held: Vec::new(), replies: Vec::new() }
    }

    /// Reads once, and counts; says whether anything came.
    #[inline]
    pub(super) fn listen(&mut self, buffer: &mut [u8], tally: &mut Tally) -> io::Result<bool> {
        let consumer = &mut self.consumer;
        let came = read_with(&mut self.link, &mut self.held, buffer, |bytes| consumer.take(bytes, tally))?;
        if came {
            self.consumer.replies(&mut self.replies);
        }
        self.link.flush_some()?;
        if !self.replies.is_empty() {
            let written = self.link.write_some(&self.replies)?;
            self.replies.drain(..written);
        }
        Ok(came)
    }
}

/// Reads once, behind what the last read left over, and keeps what is left now.
#[inline]
pub(super) fn read_with(
    link: &mut Link,
    held: &mut Vec<u8>,
    buffer: &mut [u8],
    take: impl FnOnce(&[u8]) -> io::Result<usize>,
) -> io::Result<bool> {
    let before = held.len();
    let read = link.read_some(&mut buffer[before..])?;
    if read == 0 {
        return Ok(false);
    }
    buffer[..before].copy_from_slice(held);
    let used = take(&buffer[..before + read])?;
    let left = &buffer[used..before + read];
    if left.len() > buffer.len() / 2 {
        return Err(io::Error::other("the dialect leaves more unused than can be kept for it"));
    }
    held.clear();
    held.extend_from_slice(left);
    Ok(true)
}
