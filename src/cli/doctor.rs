//! `doctor`: what this host gives the I/O backends of this build, what TLS would do with the configuration, and what the
//! disk of the log does; what is missing, what that costs, and the exact remedy.

use clap::Args;

use super::exit::{Output, print, print_json};
use super::settings::ConfigFlags;
use super::{Exit, Failure, Outcome};
use crate::io::probe::{Finding, HostReport, Level, findings, probe};

mod disk;
mod tls;

const CODES: &str = "Exit codes: 0 the server can run here, perhaps with less than it could use; 1 something is bad; \
    2 wrong command line.";
const EXAMPLE: &str = "Examples:\n  uringest doctor\n  uringest doctor --config uringest.toml\n  uringest doctor -o json | jq '.findings[] | select(.level != \"ok\")'\n";

/// `doctor`.
#[derive(Debug, Args)]
#[command(after_help = CODES, after_long_help = format!("{EXAMPLE}\n{CODES}"))]
pub struct DoctorArgs {
    #[command(flatten)]
    settings: ConfigFlags,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Looks at the host, at the certificates of the configuration and at the disk of the log, and says what it found.
///
/// # Errors
/// When something is bad.
pub fn run(args: &DoctorArgs) -> Outcome {
    let report = probe();
    let mut found = findings(&report);
    found.extend(tls::findings(&args.settings));
    let (disk, of_disk) = disk::look(&args.settings);
    found.extend(of_disk);
    match args.output {
        Output::Json => print_json(&serde_json::json!({ "host": report, "disk": disk, "findings": found }))?,
        Output::Text => print(&text(&report, &found))?,
    }
    // The findings have said it all.
    let bad = found.iter().any(|finding| finding.level == Level::Bad);
    if bad { Err(Failure::silent(Exit::Failed)) } else { Ok(()) }
}

fn text(report: &HostReport, found: &[Finding]) -> String {
    let mut out = format!(
        "kernel {}, {} CPUs; backends in this build: {}; `--io auto` takes {}\n\n",
        report.kernel,
        report.cpus,
        report.backends.join(", "),
        report.auto
    );
    for finding in found {
        let mark = match finding.level {
            Level::Ok => "ok  ",
            Level::Note => "note",
            Level::Warn => "warn",
            Level::Bad => "BAD ",
        };
        out += &format!("{mark}  {}\n", finding.what);
        for (label, line) in [("costs", &finding.costs), ("try", &finding.remedy)] {
            if !line.is_empty() {
                out += &format!("      {label}: {line}\n");
            }
        }
    }
    out
}

fn finding(level: Level, what: String, costs: &str, remedy: &str) -> Finding {
    Finding { level, what, costs: costs.to_owned(), remedy: remedy.to_owned() }
}
