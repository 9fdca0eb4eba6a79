//! What can go wrong, by who has to act.

use crate::client::core::tls::TlsFault;
use crate::proto::code::Code;

/// Why a producer or consumer ended, or could not begin. Final: the object does nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be used.
    BadAddress {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A setting has no meaning.
    BadConfig(String),
    /// The server could not be reached, or took nothing, for as long as `retry_for`.
    GaveUp {
        /// How long it was tried.
        tried_ms: u64,
        /// The last reason.
        last: String,
    },
    /// The server refused, and trying again would not help.
    Refused {
        /// Its code.
        code: Code,
        /// Its words.
        detail: String,
    },
    /// The server sent something that is not the protocol.
    Protocol {
        /// What check failed.
        code: Code,
        /// What was seen.
        detail: String,
    },
    /// A delivered batch does not match its producer's checksum, or is not a batch.
    Corrupt {
        /// The topic's partition.
        partition: u32,
        /// The batch's first offset.
        offset: u64,
        /// The check that failed.
        code: Code,
    },
    /// There is no secure connection with this server.
    Tls {
        /// What is the matter, and so who has to act.
        fault: TlsFault,
        /// What was seen.
        detail: String,
    },
    /// It was closed by the application.
    Closed,
    /// The time the caller set has passed.
    TimedOut,
    /// The operating system refused something (a thread, a socket).
    Environment(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::BadAddress { address, why } => write!(f, "cannot use the address {address:?}: {why}"),
            Error::BadConfig(why) => f.write_str(why),
            Error::GaveUp { tried_ms, last } => {
                write!(f, "gave up after {:.1} s: {last}", *tried_ms as f64 / 1e3)
            }
            Error::Refused { code, detail } => refusal(f, "the server refused", *code, detail),
            Error::Protocol { code, detail } => refusal(f, "the server broke the protocol", *code, detail),
            Error::Corrupt { partition, offset, code } => {
                write!(f, "the batch at offset {offset} of partition {partition} arrived corrupt: {code}")
            }
            Error::Tls { fault, detail } => {
                write!(f, "the connection failed: {}", fault.text())?;
                if detail.is_empty() { Ok(()) } else { write!(f, " ({detail})") }
            }
            Error::Closed => f.write_str("closed"),
            Error::TimedOut => f.write_str("timed out"),
            Error::Environment(why) => f.write_str(why),
        }
    }
}

fn refusal(f: &mut std::fmt::Formatter<'_>, what: &str, code: Code, detail: &str) -> std::fmt::Result {
    write!(f, "{what}: {code}: {}", code.text())?;
    if detail.is_empty() { Ok(()) } else { write!(f, " ({detail})") }
}

impl std::error::Error for Error {}

/// Why one record was not taken. The producer goes on, except after `Ended`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The buffer is full: wait for acknowledgements (policy `Block`, which the drivers turn into waiting) or
    /// give the record up (policy `Fail`).
    Full,
    /// The record is larger than the server takes.
    RecordTooLarge {
        /// The record's bytes, key and headers included.
        bytes: usize,
        /// What the server takes.
        bytes_max: usize,
    },
    /// The topic has no such partition.
    UnknownPartition {
        /// As asked.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The partitions are not known yet: the first connection has not been made.
    NotReady,
    /// The producer has ended.
    Ended(Error),
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SendError::Full => f.write_str("the producer's buffer is full"),
            SendError::RecordTooLarge { bytes, bytes_max } => {
                write!(f, "a record of {bytes} bytes is larger than the {bytes_max} the server takes")
            }
            SendError::UnknownPartition { partition, partitions } => {
                write!(f, "there is no partition {partition}: the topic has {partitions}")
            }
            SendError::NotReady => f.write_str("not connected yet"),
            SendError::Ended(error) => write!(f, "the producer has ended: {error}"),
        }
    }
}

impl std::error::Error for SendError {}
