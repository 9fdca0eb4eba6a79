//! uringest: an ingest server on io_uring, and the client that goes with it.
//!
//! The map, with each module's contract, is `docs/architecture.md`.
#![deny(unsafe_code)]

#[cfg(not(any(feature = "uring", feature = "epoll")))]
compile_error!(
    "uringest needs an I/O backend: build with the default features, or with --no-default-features and --features uring \
     (io_uring alone) or --features epoll (without io_uring)"
);

// What the tests of several crates share names this one from outside.
#[cfg(test)]
extern crate self as uringest;

pub mod access;
pub mod buf;
pub mod cli;
pub mod client;
pub mod commit_log;
pub mod config;
pub mod control;
pub mod ids;
pub mod io;
pub mod lifecycle;
pub mod limits;
pub mod log;
pub mod mesh;
pub mod metrics;
pub mod mutation;
pub mod partition;
pub mod proto;
pub mod server;
pub mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod time;
pub mod tls;
pub mod topic;
pub mod wire;
