//! The command line. Results go to standard output, everything else to standard error.

mod ab;
mod limit;
mod peers;
mod records;
mod report;
mod run;
mod scenarios;
mod show;

use std::process::ExitCode;

#[cfg(test)]
use clap::CommandFactory as _;
use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::instructions;
use crate::limit::bare::{self, Bare};
use crate::subject::end_all_on_signal;

/// Measures uringest on this host: what a record costs, and how long it takes.
#[derive(Debug, Parser)]
#[command(name = "uringest-bench", version = crate::outcome::COMMIT, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one scenario and prints what it found.
    Run(Box<run::RunArguments>),
    /// Compares two backends, two ways with TLS or two programs in turns, and recommends one for this host.
    Ab(Box<ab::AbArguments>),
    /// Measures the ceiling: bare programs that move the same bytes, without frames or checks.
    Limit(Box<limit::LimitArguments>),
    /// Measures what records of TLS cost by themselves: our own layer, rustls's buffers, the cipher alone.
    Records(records::RecordsArguments),
    /// Measures uringest in turns with the peers that are installed (NATS, Redis) and with the limit.
    Peers(Box<peers::PeersArguments>),
    /// Measures everything on everybody in turns, and writes a page with tables and charts.
    Report(Box<report::ReportArguments>),
    /// Lists the scenarios, or explains one.
    Scenarios(scenarios::ScenariosArguments),
    /// Counts the instructions of fixed pieces of the server's work, and compares with the committed figures.
    Instructions(instructions::Arguments),
    /// A bare program; `limit` starts it.
    #[command(hide = true)]
    Bare(Bare),
}

/// Runs what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    end_all_on_signal();
    let done = match &arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Ab(arguments) => ab::ab(arguments),
        Command::Limit(arguments) => limit::limit(arguments),
        Command::Records(arguments) => records::records(arguments),
        Command::Peers(arguments) => peers::peers(arguments),
        Command::Bare(bare) => bare::run(bare).map_err(|source| Failure::Host {
            what: format!("bare {} on {}", bare.role.name(), bare.io.name()),
            source,
        }),
        Command::Report(arguments) => report::report(arguments),
        Command::Scenarios(arguments) => scenarios::list(arguments),
        Command::Instructions(arguments) => return instructions::main(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("uringest-bench: {failure}");
            failure.exit_code()
        }
    }
}

/// The flags of a command, as in `--json`.
#[cfg(test)]
pub(crate) fn flags(command: &str) -> Vec<String> {
    let all = Arguments::command();
    let command = all.find_subcommand(command).expect("a command");
    let flags = command.get_arguments().filter_map(clap::Arg::get_long).filter(|flag| *flag != "help");
    flags.map(|flag| format!("--{flag}")).collect()
}
