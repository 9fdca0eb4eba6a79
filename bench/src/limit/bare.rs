//! The bare programs: a sink, a relay and a request-reply loop, on epoll and on io_uring.
//!
//! Each takes a fixed number of connections and serves until the last sender closes: so nothing is accepted while
//! the load runs, and a test can wait for the totals. Bytes are received into user memory as any program must do
//! (`MSG_TRUNC` would let the kernel drop them unread), and never looked at.

use std::fmt;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::str::FromStr;

use clap::ValueEnum;

mod epoll;
mod sockets;
#[cfg(test)]
mod tests;
#[cfg(feature = "uring")]
mod uring;
mod window;

pub(crate) use sockets::listen;

/// Bytes of an answer.
pub(crate) const REPLY_BYTES: usize = 64;
/// Bytes a read asks for.
const READ_BYTES: usize = 256 * 1024;

/// What a bare program does with what it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Discards it.
    Sink,
    /// Sends it to every consumer; reads no faster than the slowest one takes it.
    Relay,
    /// Answers every unit with 64 bytes.
    Answer,
}

/// By which means it waits, receives and sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BareIo {
    /// Edge-triggered epoll and plain reads and sends.
    Epoll,
    /// io_uring with deferred task work, multishot receives and provided buffers.
    Uring,
}

impl Role {
    /// As the command line spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Sink => "sink",
            Role::Relay => "relay",
            Role::Answer => "answer",
        }
    }
}

impl BareIo {
    /// Both, in the order in which they are shown.
    pub const ALL: [BareIo; 2] = [BareIo::Uring, BareIo::Epoll];

    /// As the command line spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            BareIo::Epoll => "epoll",
            BareIo::Uring => "uring",
        }
    }

    /// Whether it can be had here: io_uring may be forbidden, or too old.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            BareIo::Epoll => true,
            #[cfg(feature = "uring")]
            BareIo::Uring => uring::is_available(),
            #[cfg(not(feature = "uring"))]
            BareIo::Uring => false,
        }
    }
}

/// A bare program's orders; what the hidden command `bare` takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Bare {
    /// What to do with what is received.
    #[arg(long)]
    pub(crate) role: Role,
    /// Which interface of the kernel to use.
    #[arg(long)]
    pub(crate) io: BareIo,
    /// The listening socket, inherited.
    #[arg(long)]
    pub(crate) listener: RawFd,
    /// Bytes that a sender's socket has before it wakes the program; or its end.
    #[arg(long, default_value_t = 1)]
    pub(crate) wake_bytes: usize,
    /// One for each flow: senders, consumers, bytes of a unit, as in 1:8:65536. The consumers of all flows
    /// connect first, flow by flow, then the senders.
    #[arg(long = "flow", required = true)]
    pub(crate) flows: Vec<FlowShape>,
}

/// The connections of one flow; what a sender sends goes to the consumers of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowShape {
    /// Connections that send.
    pub(crate) senders: usize,
    /// Connections that `relay` sends to.
    pub(crate) consumers: usize,
    /// Bytes that belong together: a batch. `relay` keeps those of several senders apart, `answer` answers
    /// each.
    pub(crate) unit_bytes: u64,
}

impl FromStr for FlowShape {
    type Err = String;

    fn from_str(text: &str) -> Result<FlowShape, String> {
        let numbers: Option<Vec<usize>> = text.split(':').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[senders, consumers, unit_bytes]) if unit_bytes > 0 => {
                Ok(FlowShape { senders, consumers, unit_bytes: unit_bytes as u64 })
            }
            _ => Err(format!("{text:?} is not SENDERS:CONSUMERS:UNIT_BYTES, as in 1:8:65536")),
        }
    }
}

impl fmt::Display for FlowShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.senders, self.consumers, self.unit_bytes)
    }
}

/// Bytes moved in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Totals>>(parts: I) -> Totals {
        parts.fold(Totals::default(), |all, part| Totals {
            received: all.received + part.received,
            sent: all.sent + part.sent,
        })
    }
}

/// The sockets of one flow.
struct Flow {
    senders: Vec<OwnedFd>,
    consumers: Vec<OwnedFd>,
    unit_bytes: u64,
}

/// Runs a bare program until it is killed: its work ends with the senders, and its sockets stay open, so that what is in
/// them can be read.
pub(crate) fn run(bare: &Bare) -> std::io::Result<()> {
    // SAFETY: the descriptor was inherited for this, and nothing else in this process knows of it.
    let listener = unsafe { TcpListener::from_raw_fd(bare.listener) };
    let flows = accept(bare, &listener)?;
    serve(bare, &flows)?;
    loop {
        std::thread::park();
    }
}

/// Accepts the connections.
fn accept(bare: &Bare, listener: &TcpListener) -> std::io::Result<Vec<Flow>> {
    let blocking = bare.io == BareIo::Uring; // io_uring waits for a blocking socket without being told to
    let mut flows = Vec::with_capacity(bare.flows.len());
    for shape in &bare.flows {
        let consumers = sockets::accept(listener, shape.consumers, blocking)?;
        flows.push(Flow { senders: Vec::new(), consumers, unit_bytes: shape.unit_bytes });
    }
    for (flow, shape) in flows.iter_mut().zip(&bare.flows) {
        flow.senders = sockets::accept(listener, shape.senders, blocking)?;
        flow.senders.iter().try_for_each(|sender| sockets::wake_at(sender, bare.wake_bytes))?;
    }
    Ok(flows)
}

/// Serves until the last sender has closed and what it sent is sent on.
fn serve(bare: &Bare, flows: &[Flow]) -> std::io::Result<Totals> {
    match (bare.io, bare.role) {
        (BareIo::Epoll, Role::Sink) => epoll::sink(flows),
        (BareIo::Epoll, Role::Relay) => epoll::relay(flows),
        (BareIo::Epoll, Role::Answer) => epoll::answer(flows),
        #[cfg(feature = "uring")]
        (BareIo::Uring, Role::Sink) => uring::sink(flows),
        #[cfg(feature = "uring")]
        (BareIo::Uring, Role::Relay) => uring::relay(flows),
        #[cfg(feature = "uring")]
        (BareIo::Uring, Role::Answer) => uring::answer(flows),
        #[cfg(not(feature = "uring"))]
        (BareIo::Uring, _) => Err(std::io::Error::other("built without the feature `uring`")),
    }
}
