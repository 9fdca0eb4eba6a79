//! The command line: one tree of commands, each in its own module with its arguments and a `run`.
//!
//! Owns nothing. Every command ends with a code of [`Exit`]; what goes wrong is one line on standard error
//! with a remedy; results go to standard output, and a reader that closes it ends the command quietly.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub mod admin;
pub mod backup;
pub mod cert;
pub mod completions;
pub mod connection;
pub mod demo;
pub mod doctor;
pub mod exit;
pub mod log;
pub mod progress;
pub mod publish;
pub mod schema;
pub mod serve;
pub mod settings;
pub mod subscribe;
pub mod tls;
pub mod token;
pub mod top;
pub mod topic;

pub use exit::{EXIT_CODES, Exit, Failure, Outcome, Output};

/// Version and commit, as `--version` prints them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("URINGEST_COMMIT"), ")");

const ABOUT: &str = "Takes records in over TCP, proves them well-formed where they lie, and pushes them to \
    consumers, copying nothing that need not be copied.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "uringest", version = VERSION, about = ABOUT, after_help = EXIT_CODES, propagate_version = true)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 110)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server.
    Serve(serve::ServeArgs),
    /// Shows it at work: a server, sensors and consumers for a few seconds, with every record checked.
    Demo(demo::DemoArgs),
    /// Publishes lines, or generated records, and ends when everything is acknowledged.
    Pub(publish::PubArgs),
    /// Writes a topic's records to standard output as they come.
    Sub(subscribe::SubArgs),
    /// Makes, lists, describes, deletes, pauses and resumes topics of a running server.
    Topic(topic::TopicArgs),
    /// Copies the logs and the catalogue of a running server.
    Backup(backup::BackupArgs),
    /// Makes a data directory of a backup.
    Restore(backup::RestoreArgs),
    /// Looks into the logs on disk: lists, prints, verifies, and copies what is whole. Needs no server.
    Log(log::LogArgs),
    /// Shows what a server is doing: rates, lags with their cause, copies, CPU for each record.
    Top(top::TopArgs),
    /// Says what this host gives io_uring, what TLS and the disk would do, what is missing, what that costs, and what to do.
    Doctor(doctor::DoctorArgs),
    /// Writes the wire protocol's schemas into a directory.
    Schema(schema::SchemaArgs),
    /// Makes tokens and their digests.
    Token(token::TokenArgs),
    /// Makes certificates for trying TLS out.
    Cert(cert::CertArgs),
    /// Shows the configuration and where each value comes from, or checks a file.
    Config(settings::ConfigArgs),
    /// Prints the completion script of a shell.
    Completions(completions::CompletionsArgs),
}

/// Reads the arguments, runs the command, and says how it ended.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = match CommandLine::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(error) => {
            // `--help` and `--version` come this way too, with 0; a closed pipe is nobody's fault.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Ok as u8 });
        }
    };
    let outcome = match parsed.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Pub(args) => publish::run(args),
        Command::Sub(args) => subscribe::run(args),
        Command::Topic(args) => topic::run(args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => backup::run_restore(&args),
        Command::Log(args) => log::run(args),
        Command::Top(args) => top::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Schema(args) => schema::run(args),
        Command::Token(args) => token::run(&args),
        Command::Cert(args) => cert::run(args),
        Command::Config(args) => settings::run(args),
        Command::Completions(args) => completions::run(&args),
    };
    Exit::of(&outcome)
}

/// The tree, for completions and tests.
#[must_use]
pub fn tree() -> clap::Command {
    CommandLine::command()
}
