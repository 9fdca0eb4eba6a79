//! The protocol's client side, sans-io: no socket, no clock, no thread.
//!
//! [`ProducerCore`] and [`ConsumerCore`] are driven through [`Core`]; [`FrameReader`] turns what a socket gave
//! into verified frames.

mod address;
mod batcher;
mod channel;
mod config;
mod consumer;
mod delivery;
mod error;
mod fields;
mod link;
mod partitioner;
mod producer;
mod reader;
mod tls;
mod verbs;

pub use address::Address;
pub use config::{ConnectionConfig, ConsumerConfig, Partitions, ProducerConfig, WindowPolicy};
pub use consumer::{ConsumerCore, ConsumerEvent};
pub use delivery::{DeliveredRecord, Delivery};
pub use error::{Error, SendError};
pub use partitioner::{Partitioner, partition_of_key};
pub use producer::{ProducerCore, ProducerEvent, Record, Sent, Ticket, TicketStatus};
pub use reader::{Frame, FrameReader};
pub use tls::{Tls, TlsFault, TlsSettings};
pub use verbs::{Core, Wish};

#[cfg(test)]
mod tests;
