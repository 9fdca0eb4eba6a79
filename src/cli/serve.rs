//! `serve`: the server, from its configuration to its end.

use std::io::IsTerminal as _;

use clap::Args;

use super::exit::{Output, print, print_json};
use super::progress::line;
use super::settings::ConfigFlags;
use super::{Exit, Failure, Outcome};
use crate::config::{Config, Sources};
use crate::io::host;
use crate::server::{self, Options, Recovering, ServerPlan, StartError};

const EXAMPLE: &str = "Examples:\n  uringest serve\n  uringest serve --config uringest.toml --shards 4\n  \
    uringest serve --listen 0.0.0.0:7440 --tls-cert server.pem --tls-key server.key\n  \
    uringest serve --config uringest.toml --explain-memory\n\nSIGTERM or SIGINT drains, within drain_deadline_ms, and \
    ends with 0; a second one ends at once. SIGHUP reads the configuration and the certificates again; certificates are also read when their files change.";
const CODES: &str = "Exit codes: 0 done, all delivered; 1 failed; 2 wrong command line or configuration; \
    5 it ended before all was delivered or saved; 130 or 143 ended at once by a second SIGINT or SIGTERM.";

/// `serve`.
#[derive(Debug, Args)]
#[command(after_help = CODES, after_long_help = format!("{EXAMPLE}\n\n{CODES}"))]
pub struct ServeArgs {
    #[command(flatten)]
    settings: ConfigFlags,
    /// Prints the memory this configuration fixes at start-up, part by part, and ends.
    #[arg(long)]
    explain_memory: bool,
    /// Form of --explain-memory.
    #[arg(short, long, value_enum, default_value_t, requires = "explain_memory")]
    output: Output,
}

/// Runs the server until it has drained or failed.
///
/// # Errors
/// What is wrong with the configuration, why the server does not start, or how it ended.
pub fn run(args: &ServeArgs) -> Outcome {
    let config = args.settings.load()?.config;
    if args.explain_memory {
        return explain(&config, args.output);
    }
    host::keep_from_others();
    crate::log::init(config.log.format, config.log.level);
    let sources = Sources::of_process(args.settings.file.clone(), args.settings.values.clone());
    let options = Options { sources: Some(sources), signals: true, recovering: Some(recovering) };
    let running = server::start(&config, options)?;
    match running.wait() {
        server::exit::CLEAN => Ok(()),
        server::exit::LEFTOVER => {
            let message = "the server has ended before everything was delivered or saved";
            Err(Failure::new(
                Exit::Incomplete,
                message,
                "the log above says what was left; where it wanted time, raise drain_deadline_ms",
            ))
        }
        _ => Err(Failure::new(Exit::Failed, "the server could not go on", "the log above says why")),
    }
}

/// One line on a terminal while logs are recovered.
fn recovering(far: Recovering) {
    let Recovering { partitions, of_partitions, bytes, of_bytes, over } = far;
    if !std::io::stderr().is_terminal() {
        return;
    }
    if over {
        eprint!("\r\x1b[K");
    } else {
        let more = format!("{partitions} of {of_partitions} partitions");
        eprint!("\r\x1b[K{}", line("recovering", bytes, of_bytes, &more));
    }
}

fn explain(config: &Config, output: Output) -> Outcome {
    let plan = ServerPlan::new(config).memory;
    match output {
        Output::Json => print_json(&plan),
        Output::Text => print(&server::explain(&plan)),
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        let exit = if matches!(error, StartError::Tls(_)) { Exit::Usage } else { Exit::Failed };
        Failure::new(exit, error.to_string(), error.remedy())
    }
}
