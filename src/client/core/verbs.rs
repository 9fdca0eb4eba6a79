//! What a driver sees of a producer or a consumer: five verbs, and no socket or clock on this side of them.
//!
//! A driver loops: `expire(now)`; do what `wish()` says; `transmit` and write what that gave; feed each frame
//! that its [`FrameReader`](crate::client::core::FrameReader) made of what was read to `frame`; sleep until a frame
//! arrives, the application did something, or `next_deadline`. Times are nanoseconds of one monotonic clock of
//! the driver's choice, and never go back.

use bytes::Bytes;

use crate::client::core::error::Error;
use crate::client::core::reader::Frame;

/// What the core wants of its transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Connect now, then call `connected` or `disconnected`.
    Connect,
    /// No transport for now: wait for the next deadline.
    Wait,
    /// Keep the transport: write and read.
    Run,
    /// Close the transport, then call `disconnected`.
    Hangup,
    /// It is over: close the transport and end the driver. `failure()` says why, if not by `close`.
    End,
}

/// A sans-io side of the protocol, to be driven.
pub trait Core: Send + 'static {
    /// See [`Wish`].
    fn wish(&self) -> Wish;
    /// A transport is there, with nothing sent on it.
    fn connected(&mut self, now_ns: u64);
    /// There is no transport (any more), or the attempt failed. What was handed over and not written is lost.
    fn disconnected(&mut self, now_ns: u64, why: &str);
    /// A frame arrived.
    fn frame(&mut self, frame: Frame, now_ns: u64);
    /// What arrived is not the protocol.
    fn garbled(&mut self, error: Error, now_ns: u64);
    /// Hands over what is to be written now, about `bytes_max` bytes of it, in order.
    fn transmit(&mut self, bytes_max: usize, now_ns: u64, out: &mut Vec<Bytes>);
    /// Whether `transmit` would give something at this time.
    fn has_output(&self, now_ns: u64) -> bool;
    /// Time has passed.
    fn expire(&mut self, now_ns: u64);
    /// When to call `expire` (and `transmit`) next without other cause.
    fn next_deadline(&self) -> Option<u64>;
    /// Why it ended, if it has.
    fn failure(&self) -> Option<&Error>;
    /// Bytes from the application that wait for an acknowledgement.
    fn buffered_bytes(&self) -> usize;
    /// The bound on pinned receive memory for the driver's reader.
    fn pinned_bytes_max(&self) -> usize;
    /// How and where to connect.
    fn connection(&self) -> &crate::client::core::config::ConnectionConfig;
    /// Ends it: nothing more is sent.
    fn close(&mut self);
}
