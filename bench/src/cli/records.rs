//! `records`: what records of TLS cost by themselves.

use std::fmt::Write as _;

use crate::failure::Failure;
use crate::host::Placement;
use crate::records::{Direction, RecordsOutcome, measure};

use super::show;

/// See the module.
#[derive(Debug, clap::Args)]
pub(super) struct RecordsArguments {
    #[command(flatten)]
    placement: Placement,
    /// Prints one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn records(arguments: &RecordsArguments) -> Result<(), Failure> {
    let measured = measure(&arguments.placement)?;
    if arguments.json {
        println!("{}", show::json(&measured));
    } else {
        print!("{}", table(&measured));
    }
    Ok(())
}

fn table(measured: &RecordsOutcome) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{} (own: by {}): ns of CPU for each KiB, medians of {} turns of {} KiB",
        measured.suite,
        measured.own_by,
        measured.turns,
        measured.turn_bytes / 1024
    );
    let _ = writeln!(
        out,
        "  {:>6} {:<5} {:>8} {:>8} {:>14}  {:<16} {:>12} {:>8}",
        "bytes", "", "own", "rustls", "own / rustls", "95 % interval", "cipher alone", "a copy"
    );
    for row in &measured.rows {
        let direction = match row.direction {
            Direction::Open => "open",
            Direction::Seal => "seal",
            Direction::Both => "both",
        };
        let interval = row.interval.map_or("-".to_owned(), |(low, high)| format!("{low:.3} to {high:.3}"));
        let _ = writeln!(
            out,
            "  {:>6} {direction:<5} {:>8.1} {:>8.1} {:>14.3}  {interval:<16} {:>12.1} {:>8.1}",
            row.record_bytes,
            row.own_ns_per_kib,
            row.rustls_ns_per_kib,
            row.ratio,
            row.cipher_ns_per_kib,
            row.copy_ns_per_kib
        );
    }
    let _ = writeln!(
        out,
        "  on CPU {}, kernel {}, {}, benchmark {}",
        measured.server_cpus, measured.machine.kernel, measured.machine.cpu_model, measured.commit
    );
    out
}
