//! The client: publish to topics and consume them.
//!
//! The protocol's client side is sans-io: [`ProducerCore`] and [`ConsumerCore`] take frames and the time, and
//! give back bytes to send, events and the next deadline; they hold no socket and read no clock. A thin driver
//! moves the bytes: [`blocking`] (std), [`tokio`] and [`uring`] (tokio-uring). All three speak to a core through
//! the one trait [`Core`], and [`FrameReader`] turns what a socket gave into verified frames.
//!
//! What holds in every driver:
//! - A batch that was sent is kept until it is acknowledged or refused for good. After a cut the same bytes are
//!   sent again, and the server recognises what it has: exactly once and in order for each partition, as long
//!   as the server lives, and over its restarts on topics of kind `log`. Of other kinds a server that restarted has
//!   forgotten its producers: the client then takes a new producer id and sends what is unacknowledged again (at least
//!   once across a server's restart).
//! - An acknowledgement names what it promises. That a batch has come so far is believed of an acknowledgement alone:
//!   above level `received`, what was unacknowledged when a connection broke is sent again until one comes.
//! - Memory is bounded: the producer's by `buffer_bytes`, the consumer's by its credit and `pinned_bytes_max`.
//! - An address of `uringest+tls://` is spoken to by TLS 1.3 or not at all, in the same way by all drivers: [`Tls`].
//! - Deliveries are verified end to end (header and body checksum, batch structure) before anyone sees them.

pub mod blocking;
pub mod core;
pub(crate) mod secured;
mod shared;
pub mod tokio;
#[cfg(feature = "uring")]
pub mod uring;

pub use core::{
    Address, ConnectionConfig, ConsumerConfig, ConsumerCore, ConsumerEvent, Core, DeliveredRecord, Delivery,
    Error, Frame, FrameReader, Partitioner, Partitions, ProducerConfig, ProducerCore, ProducerEvent, Record,
    SendError, Sent, Ticket, TicketStatus, Tls, TlsFault, TlsSettings, WindowPolicy, Wish, partition_of_key,
};
// What a setting or an event may hold.
pub use crate::proto::code::Code;
pub use crate::proto::control::Start;
pub use crate::proto::header::{AckLevel, GapReason};
pub use crate::tls::{CertificateFiles, Roots};

/// A random number for ids and jitter.
fn seed() -> Result<u64, Error> {
    getrandom::u64()
        .map_err(|error| Error::Environment(format!("the system gives no random numbers: {error}")))
}

/// Seconds since 1970: what certificates are judged by.
fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
