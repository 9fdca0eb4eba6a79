//! What sessions are made from: certificates, keys, authorities, revocation lists, tickets.
//!
//! Owned by whoever configures the server (control) or a client. Settings name files; a [`Material`] is what was
//! in them at one moment; a [`ServerTls`] or [`ClientTls`] is made from that, is never changed, and is shared by
//! all shards. Reading the files is the one thing in `tls` that waits for anything: it is done at start-up and by
//! who reloads, never by a shard.
//!
//! Invariants: a [`ServerTls`] has at least one usable pair of certificate and key, that belong together. A
//! reload replaces all of it or nothing.

mod certificate;
mod client;
#[cfg(any(test, uringest_sim))]
mod given;
mod material;
mod names;
mod provider;
mod reload;
mod server;
mod tenant;

#[cfg(test)]
pub(crate) mod tests;

pub use certificate::CertificateInfo;
pub use client::{ClientMaterial, ClientSettings, ClientTls, Roots};
pub use material::{
    CertificateFiles, ClientAuth, EarlyData, Material, MaterialError, MaterialFault, ServerSettings,
};
pub(in crate::tls) use provider::CallersTime;
pub use reload::{Reload, Reloader};
pub use server::ServerTls;
pub use tenant::{BadTenantRule, SanNames, TenantRefused, TenantRule};
