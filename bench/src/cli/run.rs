//! `run`: one scenario, once.

use crate::failure::Failure;
use crate::host::Placement;
use crate::limit;
use crate::measure::{measure, prepare, recovery};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::scenario::{Drive, Overrides, Scenario, Work};
use crate::subject::{Uringest, UringestOptions};
use crate::tls::TlsFlags;

use super::show;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  uringest-bench run ingest --payload 128 --connections 16 --json\n  \
    uringest-bench run latency --rate 20000 --io epoll\n  uringest-bench run my-scenario.toml")]
pub(super) struct RunArguments {
    /// A scenario's name (`uringest-bench scenarios` lists them), or the path of a scenario file.
    scenario: String,
    #[command(flatten)]
    with: Overrides,
    #[command(flatten)]
    subject: UringestOptions,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    placement: Placement,
    /// Measures the bare program on the same interface before and after, and prints the ratio to it.
    #[arg(long)]
    with_limit: bool,
    /// Prints one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let work = Scenario::find(&arguments.scenario)?.work(&arguments.with)?;
    let subject = UringestOptions { tls: arguments.tls.wish(), ..arguments.subject.clone() };
    let warning = arguments.placement.apply()?;
    let label = format!("{} on {}", work.scenario, subject.io);
    let server = || once(&work, &subject, &arguments.placement, &label);
    let mut outcome = if arguments.with_limit {
        limit::beside(&work, subject.bare_io(), &arguments.placement, server)?
    } else {
        server()?
    };
    outcome.warnings.extend(warning);
    show::warnings(&outcome);
    if arguments.json {
        println!("{}", show::json(&outcome));
    } else {
        print!("{}", show::text(&outcome));
    }
    Ok(())
}

/// Starts a server, measures, ends it. The label is for the progress bar.
pub(super) fn once(
    work: &Work,
    options: &UringestOptions,
    placement: &Placement,
    label: &str,
) -> Result<Outcome, Failure> {
    if work.drive == Drive::Recovery {
        return recovery(options, work, placement, &mut Progress::new(label));
    }
    prepare(work)?;
    let server = Uringest::start(options, work, placement)?;
    measure(work, placement, &server, &mut Progress::new(label))
}
