//! `report`: the lot, and a page.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::Failure;
use crate::host::Placement;
use crate::report::page::PAGE;
use crate::report::plan::Wishes;
use crate::report::results::{FILE, Results};
use crate::report::{Subjects, begin, conduct, interrupted, write_page};
use crate::subject::UringestOptions;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  uringest-bench report\n  uringest-bench report --quick\n  \
    uringest-bench report --only swarm,latency --rounds 7\n  uringest-bench report --resume\n  \
    uringest-bench report --from bench/results/MACHINE/DATE-COMMIT")]
pub(super) struct ReportArguments {
    /// Rounds, each of which measures everybody, in place of the plan's (bench/report.toml).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Seconds of a measured window, in place of the plan's; longer parts become longer by as much.
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// These scenarios only, as in swarm,latency.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// One round of short windows, to see that everything works: its figures are worth little.
    #[arg(long)]
    quick: bool,
    /// Goes on with the newest report of this machine and commit that was interrupted.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "only", "quick", "from"])]
    resume: bool,
    /// Measures nothing: makes the page of these results anew (a results.json, or its directory).
    #[arg(long, value_name = "PATH", conflicts_with_all = ["rounds", "seconds", "only", "quick"])]
    from: Option<PathBuf>,
    /// Directory of all reports.
    #[arg(long, value_name = "DIRECTORY", default_value = "bench/results")]
    out: PathBuf,
    /// The server's program; by default `uringest` beside this one.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// A further setting of uringest, as in memory.bulk_regions=8; may be given more than once.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    placement: Placement,
}

pub(super) fn report(arguments: &ReportArguments) -> Result<(), Failure> {
    if let Some(path) = &arguments.from {
        let results = Results::read(path)?;
        let directory = if path.is_dir() { path.clone() } else { path.with_file_name("") };
        write_page(&results, &directory)?;
        println!("{}", directory.join(PAGE).display());
        return Ok(());
    }
    let mut subjects = Subjects {
        options: UringestOptions {
            server: arguments.server.clone(),
            data: None,
            settings: arguments.settings.clone(),
            ..UringestOptions::default()
        },
        placement: arguments.placement.clone(),
    };
    subjects.options.program()?;
    let (directory, mut results) = if arguments.resume {
        let (directory, results) = interrupted(&arguments.out)?;
        subjects.resume(&results.settings)?;
        (directory, results)
    } else {
        begin(&arguments.wishes(), &subjects, &arguments.out, now_unix_s())?
    };
    if let Some(warning) = subjects.placement.apply()? {
        eprintln!("uringest-bench: WARNING: {warning}");
    }
    for absent in &results.absent {
        eprintln!("uringest-bench: skipped: {}: {}", absent.who.name(), absent.why);
    }
    eprintln!(
        "{} measurements into {}; --resume goes on when this is interrupted",
        results.missing().len(),
        directory.join(FILE).display()
    );
    conduct(&mut results, &subjects, &directory)?;
    println!("{}", directory.join(PAGE).display());
    Ok(())
}

impl ReportArguments {
    fn wishes(&self) -> Wishes {
        let ReportArguments { rounds, seconds, only, quick, .. } = self;
        Wishes { rounds: *rounds, seconds: *seconds, only: only.clone(), quick: *quick }
    }
}

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
