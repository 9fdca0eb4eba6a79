//! TLS 1.3, sans-io: bytes in, bytes out. The only place that knows rustls.
//!
//! State and owner: a [`Session`] is one connection's TLS, owned by whoever owns the socket (a shard, a client's
//! driver). It keeps handshake messages, keys and record numbers, and what it owes the peer; it keeps no data, no
//! socket and no clock. [`ServerTls`] and [`ClientTls`] are what sessions are made from: immutable, shared by all
//! shards, replaced as a whole by a [`Reloader`].
//!
//! The way of bytes in: `Session::receive` reads records where they were received and writes plaintext, packed, to
//! where frames are decoded from (a region of the caller's). The way out: `Session::transmit` and
//! [`spans::seal`] write records to where they are sent from, sealed straight out of the frames. What a handshake
//! has to say goes out the same way. docs/decisions/0006 says why it is cut like this.
//!
//! Invariants
//! 1. Nothing is released before its tag verifies (`record`).
//! 2. rustls does the handshake and nothing after it, unless [`Records::Rustls`] was asked for; its keys are
//!    handed over at a record's boundary, so no byte is seen by both.
//! 3. What a peer does wrong costs its own session: a [`Failure`] with a [`Reason`], and one alert.
//! 4. Which certificates are good is asked at every handshake, also at one that resumes.

mod alert;
mod config;
pub mod dev;
mod reason;
pub mod record;
mod session;
pub mod spans;

/// Certificates and settings for tests.
#[cfg(test)]
pub(crate) use config::tests as fixture;
/// Clients of rustls that say something early.
#[cfg(test)]
pub(crate) use session::tests::early;

pub use alert::Alert;
pub use config::{
    BadTenantRule, CertificateFiles, CertificateInfo, ClientAuth, ClientMaterial, ClientSettings, ClientTls,
    EarlyData, Material, MaterialError, MaterialFault, Reload, Reloader, Roots, SanNames, ServerSettings,
    ServerTls, TenantRefused, TenantRule,
};
pub use reason::{Failure, Fault, Reason};
pub use record::record_bytes;
pub use record::{Received, Sealed, Suite, Then};
pub use session::{Peer, Records, Session};

/// The application protocol as ALPN names it.
pub const ALPN: &[u8] = b"uringest/1";
