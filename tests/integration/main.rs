//! The whole product as its users run it: the real binary as server, publisher and subscriber, over real sockets.
//!
//! Every wait has a deadline, and every failure says what reruns it. Sizes are for a debug build on two processors.

mod access;
mod checkpoint;
mod connections;
mod drain;
mod idle;
mod leaks;
mod lines;
mod log_faults;
mod log_kill;
mod log_levels;
mod log_reading;
mod log_rig;
mod proxy;
mod raw;
#[path = "../support/records.rs"]
mod records;
mod retention;
mod rig;
mod slow;
mod speaker;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tls_attacks;
mod tls_early;
mod tls_packing;
mod tls_shards;
mod topics;
