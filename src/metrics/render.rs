//! The metrics page: OpenMetrics 1.0 text, served as [`CONTENT_TYPE`].

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use super::counter::{Counter, Kind, Unit};
use super::page::{COPY_REASONS, CounterPage};
use super::process::ProcessGauges;
use crate::lifecycle::State;
use crate::proto::code::Code;
use crate::tls::Reason;

/// The page's `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the page says beside the shards' counters.
#[derive(Debug, Clone, Default)]
pub struct ServerGauges {
    /// The program's version.
    pub version: String,
    /// The I/O backend and tier, as `uring-t2` or `epoll`.
    pub io: String,
    /// Each shard's backend and tier.
    pub shards_io: Vec<(&'static str, u8)>,
    /// The server's state.
    pub state: State,
    /// Topics in the catalogue.
    pub topics: u64,
    /// Their partitions.
    pub partitions: u64,
    /// Length of all files of topics of kind `log`.
    pub log_files_bytes: u64,
    /// What does not work as well as it could on this host: the keys of `log::degraded`.
    pub degraded: Vec<&'static str>,
    /// See there.
    pub tls: TlsGauges,
    /// See [`super::process_gauges`].
    pub process: ProcessGauges,
}

/// What the page says of the server's certificates.
#[derive(Debug, Clone, Default)]
pub struct TlsGauges {
    /// Each certificate's first name, its file, and its end in seconds since 1970.
    pub expiries: Vec<(String, String, u64)>,
    /// Times other certificates were taken.
    pub reloads: u64,
    /// Times the files could not be used.
    pub failures: u64,
}

/// The whole page. `pages` are the shards', in their order.
#[must_use]
pub fn render(pages: &[Arc<CounterPage>], extra: &ServerGauges) -> String {
    let mut out = String::with_capacity(16 * 1024 + pages.len() * 16 * 1024);
    for &counter in Counter::ALL {
        render_counter(&mut out, pages, counter);
    }
    render_refusals(&mut out, pages);
    render_tls_failures(&mut out, pages);
    render_copies(&mut out, pages);
    render_ticks(&mut out, pages);
    render_server(&mut out, extra);
    out.push_str("# EOF\n");
    out
}

/// A name, its kind, its unit (the end of the name, or empty) and its text.
fn family(out: &mut String, name: &str, kind: &str, unit: &str, help: &str) {
    put(out, format_args!("# TYPE {name} {kind}\n"));
    if !unit.is_empty() {
        put(out, format_args!("# UNIT {name} {unit}\n"));
    }
    put(out, format_args!("# HELP {name} {}\n", escape(help)));
}

fn render_counter(out: &mut String, pages: &[Arc<CounterPage>], counter: Counter) {
    let kind = match counter.kind() {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let unit = match counter.unit() {
        Unit::None => "",
        Unit::Bytes => "bytes",
        Unit::Seconds => "seconds",
    };
    family(out, counter.family(), kind, unit, counter.help());
    let sample = counter.sample();
    for (shard, page) in pages.iter().enumerate() {
        let value = page.read(counter);
        match counter.unit() {
            Unit::Seconds => put(out, format_args!("{sample}{{shard=\"{shard}\"}} {}\n", Seconds(value))),
            _ => put(out, format_args!("{sample}{{shard=\"{shard}\"}} {value}\n")),
        }
    }
}

fn render_refusals(out: &mut String, pages: &[Arc<CounterPage>]) {
    family(out, "uringest_refusals", "counter", "", super::REFUSALS_HELP);
    for (shard, page) in pages.iter().enumerate() {
        for &code in Code::ALL {
            let (name, value) = (code.name(), page.read_refused(code));
            put(out, format_args!("uringest_refusals_total{{shard=\"{shard}\",code=\"{name}\"}} {value}\n"));
        }
    }
}

fn render_tls_failures(out: &mut String, pages: &[Arc<CounterPage>]) {
    family(out, "uringest_tls_failures", "counter", "", super::TLS_FAILURES_HELP);
    for (shard, page) in pages.iter().enumerate() {
        for &reason in Reason::ALL {
            let (name, value) = (reason.name(), page.read_tls_failed(reason));
            put(
                out,
                format_args!("uringest_tls_failures_total{{shard=\"{shard}\",reason=\"{name}\"}} {value}\n"),
            );
        }
    }
}

fn render_copies(out: &mut String, pages: &[Arc<CounterPage>]) {
    family(out, "uringest_copies", "counter", "", super::COPIES_HELP);
    for (shard, page) in pages.iter().enumerate() {
        for (reason, name) in COPY_REASONS {
            let value = page.read_copies(reason).0;
            put(out, format_args!("uringest_copies_total{{shard=\"{shard}\",reason=\"{name}\"}} {value}\n"));
        }
    }
    family(out, "uringest_copied_bytes", "counter", "bytes", super::COPIED_BYTES_HELP);
    for (shard, page) in pages.iter().enumerate() {
        for (reason, name) in COPY_REASONS {
            let value = page.read_copies(reason).1;
            let labels = format_args!("shard=\"{shard}\",reason=\"{name}\"");
            put(out, format_args!("uringest_copied_bytes_total{{{labels}}} {value}\n"));
        }
    }
}

fn render_ticks(out: &mut String, pages: &[Arc<CounterPage>]) {
    let name = "uringest_tick_seconds";
    family(out, name, "histogram", "seconds", super::TICK_HELP);
    for (shard, page) in pages.iter().enumerate() {
        let values = page.tick().read();
        for (end_ns, seen) in values.cumulative() {
            let le = Seconds(end_ns);
            put(out, format_args!("{name}_bucket{{shard=\"{shard}\",le=\"{le}\"}} {seen}\n"));
        }
        let count = values.count();
        put(out, format_args!("{name}_bucket{{shard=\"{shard}\",le=\"+Inf\"}} {count}\n"));
        put(out, format_args!("{name}_count{{shard=\"{shard}\"}} {count}\n"));
        put(out, format_args!("{name}_sum{{shard=\"{shard}\"}} {}\n", Seconds(values.sum_ns)));
    }
}

fn render_server(out: &mut String, extra: &ServerGauges) {
    for (name, kind, unit, help) in super::SERVER_FAMILIES {
        family(out, name, kind, unit, help);
        match name {
            "uringest_build" => {
                let (version, io) = (escape(&extra.version), escape(&extra.io));
                put(out, format_args!("uringest_build_info{{version=\"{version}\",io=\"{io}\"}} 1\n"));
            }
            "uringest_io" => {
                for (shard, (backend, tier)) in extra.shards_io.iter().enumerate() {
                    let labels = format_args!("shard=\"{shard}\",backend=\"{backend}\",tier=\"{tier}\"");
                    put(out, format_args!("uringest_io_info{{{labels}}} 1\n"));
                }
            }
            "uringest_state" => {
                for state in State::ALL {
                    let is = u8::from(state == extra.state);
                    put(out, format_args!("uringest_state{{uringest_state=\"{state}\"}} {is}\n"));
                }
            }
            "uringest_degraded" => {
                for what in &extra.degraded {
                    put(out, format_args!("uringest_degraded{{what=\"{}\"}} 1\n", escape(what)));
                }
            }
            "uringest_tls_certificate_expiry_timestamp_seconds" => {
                let mut seen = BTreeSet::new();
                for (certificate, file, end_s) in &extra.tls.expiries {
                    // A series is there once, whatever is listed twice.
                    if seen.insert((certificate, file)) {
                        let (certificate, file) = (escape(certificate), escape(file));
                        put(out, format_args!("{name}{{name=\"{certificate}\",file=\"{file}\"}} {end_s}\n"));
                    }
                }
            }
            "uringest_tls_reloads" => put(out, format_args!("{name}_total {}\n", extra.tls.reloads)),
            "uringest_tls_reload_failures" => put(out, format_args!("{name}_total {}\n", extra.tls.failures)),
            "uringest_topics" => put(out, format_args!("{name} {}\n", extra.topics)),
            "uringest_partitions" => put(out, format_args!("{name} {}\n", extra.partitions)),
            "uringest_log_files_bytes" => put(out, format_args!("{name} {}\n", extra.log_files_bytes)),
            "uringest_uptime_seconds" => put(out, format_args!("{name} {}\n", extra.process.uptime_seconds)),
            "process_resident_memory_bytes" => {
                put(out, format_args!("{name} {}\n", extra.process.resident_bytes));
            }
            "process_cpu_seconds" => {
                put(out, format_args!("{name}_total {}\n", extra.process.cpu_seconds));
            }
            "process_threads" => put(out, format_args!("{name} {}\n", extra.process.threads)),
            "process_open_fds" => put(out, format_args!("{name} {}\n", extra.process.open_fds)),
            other => unreachable!("{other} is in the table and has no value"),
        }
    }
}

/// Nanoseconds shown as seconds, exactly.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, fraction) = (self.0 / crate::time::NS_PER_SECOND, self.0 % crate::time::NS_PER_SECOND);
        let digits = format!("{fraction:09}");
        let digits = digits.trim_end_matches('0');
        if digits.is_empty() { write!(f, "{whole}.0") } else { write!(f, "{whole}.{digits}") }
    }
}

/// Escapes a label's value or a help text.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes whatever is written to it");
}
