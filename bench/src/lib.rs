//! `uringest-bench`: what a record costs a server, measured on the real program.
//!
//! The server runs as a process of its own, pinned to CPUs of its own; the load runs in this process, pinned to
//! others. The first figure is the server's CPU time (user + system, from the kernel's accounts) for each record
//! in the measured window; it survives a busy machine and a slow load. Congestion control is cubic on every
//! socket of both sides: the default of some machines paces loopback.
//!
//! | module | what it is |
//! |---|---|
//! | [`scenario`] | what is done, as data; with the command line's changes: a [`scenario::Work`] |
//! | [`subject`] | what is measured: a server process with its CPU time, memory and dialect |
//! | [`dialect`] | how a connection speaks to it, without sockets or clocks |
//! | [`engine`] | the load: connections, pacing, windows, latencies |
//! | [`link`] | a connection of the load: its socket, and [`tls`] where that is asked for |
//! | [`mod@measure`] | a work done on a subject: the [`outcome::Outcome`] |
//! | [`limit`] | the ceiling: bare programs that move the same bytes |
//! | [`disk`] | what the disk does by itself, beside a log on it |
//! | [`records`] | what records of TLS cost by themselves |
//! | [`outcome`] | the JSON of a run, field by field |
//! | [`compare`] | two subjects in turns |
//! | [`peers`] | NATS and Redis, doing the same work |
//! | [`pieces`] | fixed pieces of the server's work, and [`instructions`], which counts what they take |
//! | [`report`] | everything in turns, and a page about it |
//! | [`stats`] | medians, ratios with their intervals, drift |
//!
//! `docs/benchmark.md` explains how figures are taken and how to read them.

pub mod callgrind;
pub mod cli;
pub mod compare;
pub mod cpus;
pub mod dialect;
pub mod disk;
pub mod engine;
pub mod failure;
pub mod histogram;
pub mod host;
pub mod http;
pub mod instructions;
pub mod limit;
pub mod link;
pub mod measure;
pub mod outcome;
pub mod peers;
pub mod pieces;
pub mod progress;
pub mod records;
pub mod report;
pub mod scenario;
pub mod socket;
mod stats;
pub mod subject;
pub mod tls;
