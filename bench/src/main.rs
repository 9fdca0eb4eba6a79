//! `uringest-bench`: what a record costs the server, measured on the real program.
//!
//! The server runs as a process of its own, pinned to one CPU; the load is one thread pinned to another.
//! The first figure is the server's CPU time (user + system, from the kernel's accounts) for each record
//! in the measured window; it survives a busy machine and a slow load generator. Congestion control is
//! cubic on every socket: the default of some machines paces loopback.

mod load;
mod server;
mod socket;
mod stats;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;

/// Measures uringest on this host.
#[derive(Debug, Parser)]
#[command(name = "uringest-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one scenario and prints what it found.
    #[command(
        after_help = "Example: uringest-bench run ingest --payload 128 --connections 16 --seconds 5 --json"
    )]
    Run(Run),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Producers only.
    Ingest,
    /// One producer to one consumer.
    Deliver,
    /// One producer to eight consumers.
    Fanout,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Run {
    /// What to do.
    scenario: Scenario,
    /// Bytes of a record.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Bytes of a batch's frame, at most.
    #[arg(long, default_value_t = 64 * 1024)]
    batch_bytes: usize,
    /// Producers, each on a connection of its own.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Consumers; by default what the scenario says.
    #[arg(long)]
    consumers: Option<usize>,
    /// Kind of the topic: live or memory.
    #[arg(long, default_value = "live", value_parser = ["live", "memory"])]
    kind: String,
    /// Seconds measured, after one second of warm-up.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The server's I/O backend.
    #[arg(long, default_value = "uring")]
    io: String,
    /// Forces a tier of the uring backend.
    #[arg(long)]
    io_tier: Option<u8>,
    /// CPU of the server.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU of the load.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// The server's program; by default `uringest` beside this one.
    #[arg(long)]
    server: Option<std::path::PathBuf>,
    /// One JSON object on standard output.
    #[arg(long)]
    json: bool,
}

impl Run {
    fn consumers(&self) -> usize {
        self.consumers.unwrap_or(match self.scenario {
            Scenario::Ingest => 0,
            Scenario::Deliver => 1,
            Scenario::Fanout => 8,
        })
    }
}

fn main() -> std::process::ExitCode {
    let Command::Run(run) = Arguments::parse().command;
    match measure(&run) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("uringest-bench: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn measure(run: &Run) -> Result<(), Box<dyn std::error::Error>> {
    let server = server::Server::start(run)?;
    socket::pin_to(run.load_cpu)?;
    let result = load::drive(run, &server)?;
    let copied = server.copied_bytes()?;
    let per = |count: u64| result.server_cpu_ns as f64 / count.max(1) as f64;
    let seconds = result.elapsed_ns as f64 / 1e9;
    let report = json!({
        "scenario": format!("{:?}", run.scenario).to_lowercase(),
        "io": run.io,
        "kind": run.kind,
        "ack": "received",
        "payload_bytes": run.payload,
        "batch_bytes": run.batch_bytes,
        "connections": run.connections,
        "consumers": run.consumers(),
        "seconds": seconds,
        "records": result.records,
        "delivered": result.delivered,
        "records_per_s": result.records as f64 / seconds,
        "bytes_per_s": result.bytes as f64 / seconds,
        "server_cpu_ns_per_record": per(result.records),
        "server_cpu_ns_per_delivery": if result.delivered > 0 { per(result.delivered) } else { 0.0 },
        "load_cpu_share": result.load_cpu_ns as f64 / result.elapsed_ns as f64,
        "server_cpu_share": result.server_cpu_ns as f64 / result.elapsed_ns as f64,
        "copied_bytes_ratio": copied as f64 / result.bytes_in_all.max(1) as f64,
        "fairness": result.fairness,
        "server_rss_bytes": server.rss_bytes()?,
        "congestion_control": "cubic",
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "commit": env!("CARGO_PKG_VERSION"),
    });
    if run.json {
        println!("{report}");
    } else {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}
