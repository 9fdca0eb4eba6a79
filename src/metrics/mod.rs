//! Counters: each shard writes a page of its own, control reads them all when somebody asks.
//!
//! It owns the names: `counter.rs` is the one table, and `docs/operations.md` repeats it (a test compares).
//! A page has one writer, which loads and stores; nothing here is a lock or a read-modify-write.

mod counter;
mod histogram;
mod page;
mod process;
mod render;
mod snapshot;
#[cfg(test)]
mod tests;

pub use counter::{Counter, Kind, Unit};
pub use histogram::{Histogram, HistogramValues};
pub use page::{COPY_REASONS, CounterPage};
pub use process::{ProcessGauges, process_gauges};
pub use render::{CONTENT_TYPE, ServerGauges, TlsGauges, render};
pub use snapshot::{Copies, Durations, Snapshot, Sums};

const REFUSALS_HELP: &str = "Refusals, by the code the peer was told or would have been.";
const TLS_FAILURES_HELP: &str = "Connections whose TLS failed, by the reason.";
const COPIES_HELP: &str = "Copies of payload bytes in user space, by reason.";
const COPIED_BYTES_HELP: &str = "Payload bytes copied in user space, by reason.";
const TICK_HELP: &str = "Durations of ticks.";

/// The families of the server as a whole: name, kind, unit, text.
const SERVER_FAMILIES: [(&str, &str, &str, &str); 15] = [
    ("uringest_build", "info", "", "The program and the I/O it runs on."),
    ("uringest_io", "info", "", "The backend of each shard, and its tier: 1 or 2 for uring, 0 for epoll."),
    ("uringest_state", "stateset", "", "The server's state in its life cycle."),
    (
        "uringest_degraded",
        "gauge",
        "",
        "1 for each thing that this host does not give; the log has the remedy.",
    ),
    (
        "uringest_tls_certificate_expiry_timestamp_seconds",
        "gauge",
        "seconds",
        "The last second in which a certificate of the data port is good, since 1970.",
    ),
    ("uringest_tls_reloads", "counter", "", "Times other certificates were taken."),
    (
        "uringest_tls_reload_failures",
        "counter",
        "",
        "Times the certificates' files could not be used; those in force stayed.",
    ),
    ("uringest_topics", "gauge", "", "Topics in the catalogue."),
    ("uringest_partitions", "gauge", "", "Partitions of those topics."),
    ("uringest_log_files_bytes", "gauge", "bytes", "Length of all files of topics of kind `log`."),
    ("uringest_uptime_seconds", "gauge", "seconds", "Time since the process started."),
    ("process_cpu_seconds", "counter", "seconds", "Processor time, user and system, of all threads."),
    ("process_resident_memory_bytes", "gauge", "bytes", "Resident memory."),
    ("process_threads", "gauge", "", "Threads alive."),
    ("process_open_fds", "gauge", "", "File descriptors open."),
];
