//! `limit`: the ceiling of a scenario, on either interface.

use crate::failure::Failure;
use crate::host::Placement;
use crate::limit::{BareIo, copy_ns_per_record, once, role};
use crate::progress::Progress;
use crate::scenario::{Overrides, Scenario};

use super::show;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  uringest-bench limit ingest\n  \
    uringest-bench limit deliver --payload 1024 --io epoll --json")]
pub(super) struct LimitArguments {
    /// A scenario's name (`uringest-bench scenarios` lists them), or the path of a scenario file.
    scenario: String,
    #[command(flatten)]
    with: Overrides,
    /// Only this interface of the kernel.
    #[arg(long, value_enum)]
    io: Option<BareIo>,
    #[command(flatten)]
    placement: Placement,
    /// Prints one JSON object a run on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn limit(arguments: &LimitArguments) -> Result<(), Failure> {
    let work = Scenario::find(&arguments.scenario)?.work(&arguments.with)?;
    let role = role(&work)?;
    let warning = arguments.placement.apply()?;
    let copy = copy_ns_per_record(&work, &arguments.placement)?.map(|ns| {
        format!("a bare program keeps nothing: a copy of each record's payload would cost {ns:.1} ns more")
    });
    for io in BareIo::ALL.into_iter().filter(|io| arguments.io.is_none_or(|only| only == *io)) {
        if arguments.io.is_none() && !io.is_available() {
            eprintln!(
                "uringest-bench: WARNING: there is no io_uring here (uringest doctor says why): its limit is left out"
            );
            continue;
        }
        let label = format!("{} on bare {} {}", work.scenario, io.name(), role.name());
        let mut outcome = once(&work, io, &arguments.placement, &mut Progress::new(&label))?;
        outcome.warnings.extend(warning.clone());
        outcome.warnings.extend(copy.clone());
        show::warnings(&outcome);
        if arguments.json {
            println!("{}", show::json(&outcome));
        } else {
            print!("{}", show::text(&outcome));
        }
    }
    Ok(())
}
