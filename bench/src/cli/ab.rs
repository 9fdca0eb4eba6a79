//! `ab`: two backends, two ways with TLS, or two programs, in turns.

use std::path::PathBuf;

use crate::compare::{compare, interleave};
use crate::failure::Failure;
use crate::host::Placement;
use crate::outcome::Outcome;
use crate::scenario::{Overrides, Scenario, Work};
use crate::subject::UringestOptions;
use crate::tls::{ServerRecords, TlsWish, record_bytes};

use super::{run, show};

/// See the module.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  uringest-bench ab swarm --io uring,epoll --rounds 7\n  \
    uringest-bench ab ingest --tls own,rustls --payload 1024\n  \
    uringest-bench ab ingest --against ../before/target/release/uringest --rounds 5 --json")]
pub(super) struct AbArguments {
    /// A scenario's name (`uringest-bench scenarios` lists them), or the path of a scenario file.
    #[arg(default_value = "ingest")]
    scenario: String,
    #[command(flatten)]
    with: Overrides,
    /// The two backends; with --against the one of both programs.
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = ["auto", "uring", "epoll"])]
    io: Vec<String>,
    /// TLS of the two sides, or of both: none, or who opens and seals the server's records.
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_enum)]
    tls: Vec<SideTls>,
    /// Content of the records that the load sends, in bytes at most.
    #[arg(long, value_name = "BYTES", requires = "tls", value_parser = record_bytes)]
    tls_record_bytes: Option<usize>,
    /// The other program (B), measured beside this one (A) on the same backend.
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// Rounds: each measures both.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Forces a tier of the uring backend.
    #[arg(long, value_name = "TIER")]
    io_tier: Option<u8>,
    /// The server's program; by default `uringest` beside this one.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Directory in which the servers' own are made; by default the one for temporary files.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// A further setting of the servers, as in memory.bulk_regions=8; may be given more than once.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    placement: Placement,
    /// Prints one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

/// What is measured, and what it is called.
struct Side {
    label: String,
    options: UringestOptions,
}

pub(super) fn ab(arguments: &AbArguments) -> Result<(), Failure> {
    let work = Scenario::find(&arguments.scenario)?.work(&arguments.with)?;
    let (a, b) = sides(arguments)?;
    for side in [&a, &b] {
        side.options.program()?;
    }
    let warning = arguments.placement.apply()?;
    let rounds = usize::from(arguments.rounds);
    let side = |side: &Side, round| once(side, &work, &arguments.placement, round, rounds);
    let measured = interleave(rounds, |round| side(&a, round), |round| side(&b, round))?;
    let mut comparison = compare(&a.label, &b.label, measured);
    comparison.warnings.extend(warning);
    for warning in &comparison.warnings {
        show::warn(warning);
    }
    if arguments.json {
        println!("{}", show::json(&comparison));
    } else {
        print!("{}", show::comparison(&comparison));
    }
    Ok(())
}

fn once(
    side: &Side,
    work: &Work,
    placement: &Placement,
    round: usize,
    rounds: usize,
) -> Result<Outcome, Failure> {
    let label = format!("{} on {}, round {} of {rounds}", work.scenario, side.label, round + 1);
    let outcome = run::once(work, &side.options, placement, &label)?;
    show::round(&side.label, round, &outcome);
    Ok(outcome)
}

/// What the two sides are: two backends, two ways with TLS, or two programs; what is given once is the same for both.
fn sides(arguments: &AbArguments) -> Result<(Side, Side), Failure> {
    let side = |label: &str, io: &str, tls: SideTls, server: Option<&PathBuf>| Side {
        label: label.to_owned(),
        options: UringestOptions {
            io: io.to_owned(),
            io_tier: arguments.io_tier.filter(|_| io == "uring"),
            server: server.cloned(),
            data: arguments.data.clone(),
            settings: arguments.settings.clone(),
            tls: tls.wish(arguments.tls_record_bytes),
        },
    };
    let own = arguments.server.as_ref();
    let io = arguments.io.first().map_or("uring", String::as_str);
    let tls = arguments.tls.first().copied().unwrap_or(SideTls::Plain);
    match (&arguments.io[..], &arguments.tls[..], &arguments.against) {
        ([a, b], [] | [_], None) => Ok((side(a, a, tls, own), side(b, b, tls, own))),
        ([], [] | [_], None) => Ok((side("uring", "uring", tls, own), side("epoll", "epoll", tls, own))),
        ([] | [_], [a, b], None) => Ok((side(a.label(), io, *a, own), side(b.label(), io, *b, own))),
        ([] | [_], [] | [_], Some(other)) => {
            Ok((side("this", io, tls, own), side(&other.display().to_string(), io, tls, Some(other))))
        }
        _ => Err(Failure::Unsupported(
            "ab compares two things: say --io A,B, --tls A,B or --against PATH, and the others once at most"
                .into(),
        )),
    }
}

/// One side's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SideTls {
    /// None.
    Plain,
    /// With the server's own record layer.
    Own,
    /// With rustls's buffers.
    Rustls,
}

impl SideTls {
    const fn label(self) -> &'static str {
        match self {
            SideTls::Plain => "plaintext",
            SideTls::Own => "TLS (own)",
            SideTls::Rustls => "TLS (rustls)",
        }
    }

    fn wish(self, record_bytes: Option<usize>) -> Option<TlsWish> {
        let records = match self {
            SideTls::Plain => return None,
            SideTls::Own => ServerRecords::Own,
            SideTls::Rustls => ServerRecords::Rustls,
        };
        let default = TlsWish::default();
        Some(TlsWish { records, record_bytes: record_bytes.unwrap_or(default.record_bytes) })
    }
}
