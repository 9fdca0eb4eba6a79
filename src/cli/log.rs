//! `log ls|dump|verify|repair`: what lies in a server's or a partition's directory. They read, and `repair` writes
//! elsewhere; none of them needs a server, and a running one is not disturbed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::exit::Output;
use super::{EXIT_CODES, Outcome};

mod dump;
mod folder;
mod ls;
mod place;
mod repair;
mod verify;

/// `log ...`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

macro_rules! example {
    ($text:literal) => {
        concat!(
            "Example:\n  ",
            $text,
            "\n\nExit codes: 0 done; 1 failed, or something is damaged; 2 wrong command line or configuration."
        )
    };
}

/// Where the log is.
#[derive(Debug, Args)]
pub struct Where {
    /// A server's data directory, a directory of logs (storage.dir), or one partition's directory in it.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// This topic alone.
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// This partition of the topic alone.
    #[arg(long, value_name = "N", requires = "topic")]
    pub partition: Option<u32>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Lists partitions with what they hold; of one partition its segments.
    #[command(after_help = EXIT_CODES, after_long_help = example!("uringest log ls /var/lib/uringest"))]
    Ls(Where),
    /// Prints the records of a partition, or its frames.
    #[command(after_help = EXIT_CODES, after_long_help = example!("uringest log dump /var/lib/uringest --topic sensors --partition 0 --from 1000 --count 10 --payload"))]
    Dump(dump::DumpArgs),
    /// Reads everything, checks every checksum, and says where what is damaged.
    #[command(after_help = EXIT_CODES, after_long_help = example!("uringest log verify /var/lib/uringest"))]
    Verify(Where),
    /// Copies what is whole into another directory, which a server can use. Changes nothing where it reads.
    #[command(after_help = EXIT_CODES, after_long_help = example!("uringest log repair /var/lib/uringest --to /var/lib/uringest.repaired"))]
    Repair(repair::RepairArgs),
}

/// Runs the command.
///
/// # Errors
/// When the directory cannot be read, holds no log, or is damaged.
pub fn run(args: LogArgs) -> Outcome {
    match args.command {
        LogCommand::Ls(place) => ls::run(&place),
        LogCommand::Dump(args) => dump::run(&args),
        LogCommand::Verify(place) => verify::run(&place),
        LogCommand::Repair(args) => repair::run(&args),
    }
}
