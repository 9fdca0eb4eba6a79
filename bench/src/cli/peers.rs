//! `peers`: uringest in turns with NATS, Redis and the limit.

use std::fmt::Write as _;

use crate::failure::Failure;
use crate::host::Placement;
use crate::peers::{Contest, Entrant, Entry, hold};
use crate::progress::Progress;
use crate::scenario::{Overrides, Scenario};
use crate::subject::UringestOptions;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  uringest-bench peers deliver --rounds 5\n  \
    uringest-bench peers ingest --payload 1024 --connections 16 --json")]
pub(super) struct PeersArguments {
    /// A scenario's name (`uringest-bench scenarios` lists them), or the path of a scenario file.
    scenario: String,
    #[command(flatten)]
    with: Overrides,
    /// Rounds: each measures everybody.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    #[command(flatten)]
    subject: UringestOptions,
    #[command(flatten)]
    placement: Placement,
    /// Prints one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn peers(arguments: &PeersArguments) -> Result<(), Failure> {
    let work = Scenario::find(&arguments.scenario)?.work(&arguments.with)?;
    arguments.subject.program()?;
    let (mut entrants, mut skipped) = (Vec::new(), Vec::new());
    for entrant in Entrant::ALL {
        match entrant.absent(&work, std::env::var_os("PATH").as_deref()) {
            Some(absent) => {
                eprintln!("uringest-bench: skipped: {}: {}", absent.entrant, absent.why);
                skipped.push(absent);
            }
            None => entrants.push(entrant),
        }
    }
    let warning = arguments.placement.apply()?;
    let rounds = usize::from(arguments.rounds);
    let once = |entrant: Entrant, round: usize| {
        let label = format!("{} on {}, round {} of {rounds}", work.scenario, entrant.name(), round + 1);
        entrant.once(&work, &arguments.subject, &arguments.placement, &mut Progress::new(&label))
    };
    let mut contest = hold(&work.scenario, entrants, skipped, rounds, once)?;
    contest.warnings.extend(warning);
    for warning in &contest.warnings {
        eprintln!("uringest-bench: WARNING: {warning}");
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&contest).expect("structs and lists of numbers and text"));
    } else {
        print!("{}", table(&contest, rounds));
    }
    Ok(())
}

fn table(contest: &Contest, rounds: usize) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "{}: medians of {rounds} rounds in turns", contest.scenario);
    let _ = writeln!(
        out,
        "  {:<14} {:>12} {:>6} {:>10} {:>15} {:>9} {:>9} {:>12} {:>7} {:>5}  what it is",
        "",
        format!("ns/{}", contest.cpu_unit),
        "+-",
        "/ uringest",
        "95 % interval",
        "p50 us",
        "p99 us",
        "records/s",
        "server",
        "load"
    );
    for entry in &contest.entries {
        let _ = writeln!(out, "{}", line(entry));
    }
    for skipped in &contest.skipped {
        let _ = writeln!(out, "  {:<14} skipped: {}", skipped.entrant, skipped.why);
    }
    let _ = writeln!(
        out,
        "  congestion control: {} on the load's, uringest's and the limit's sockets, {} (this host's default) on the \
         peers' own",
        contest.congestion_control, contest.peers_congestion_control
    );
    out
}

fn line(entry: &Entry) -> String {
    let time = |us: Option<f64>| us.map_or("-".to_owned(), |us| format!("{us:.1}"));
    let interval = entry.interval.map_or("-".to_owned(), |(low, high)| format!("{low:.2} to {high:.2}"));
    format!(
        "  {:<14} {:>12.1} {:>5.1}% {:>10.2} {:>15} {:>9} {:>9} {:>12.0} {:>6.0}% {:>4.0}%  {} ({})",
        entry.entrant,
        entry.server_cpu_ns,
        entry.deviation * 100.0,
        entry.over_uringest,
        interval,
        time(entry.p50_us),
        time(entry.p99_us),
        entry.records_per_s,
        entry.server_cpu_share * 100.0,
        entry.load_cpu_share * 100.0,
        entry.version,
        entry.io
    )
}
