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
//!   as the server lives. A server that restarted has forgotten its producers: the client then takes a new
//!   producer id and sends what is unacknowledged again (at least once across a server's restart).
//! - Memory is bounded: the producer's by `buffer_bytes`, the consumer's by its credit and `pinned_bytes_max`.
//! - Deliveries are verified end to end (header and body checksum, batch structure) before anyone sees them.

pub mod blocking;
pub mod core;
mod shared;
pub mod tokio;
#[cfg(feature = "uring")]
pub mod uring;

pub use core::{
    Address, ConnectionConfig, ConsumerConfig, ConsumerCore, ConsumerEvent, Core, DeliveredRecord, Delivery,
    Error, Frame, FrameReader, Partitioner, Partitions, ProducerConfig, ProducerCore, ProducerEvent, Record,
    SendError, Sent, Ticket, TicketStatus, WindowPolicy, Wish, partition_of_key,
};
// What a setting or an event may hold.
pub use crate::proto::code::Code;
pub use crate::proto::control::Start;
pub use crate::proto::header::{AckLevel, GapReason};

/// A random number for ids and jitter.
fn seed() -> Result<u64, Error> {
    getrandom::u64()
        .map_err(|error| Error::Environment(format!("the system gives no random numbers: {error}")))
}

/// What to connect to, for drivers that resolve names themselves.
fn host_and_port(config: &ConnectionConfig) -> (String, u16) {
    (config.server.host().to_owned(), config.server.port())
}
