//! `schema export`: the wire protocol's FlatBuffers schemas, as this program carries them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::exit::{Output, print, print_json};
use super::{EXIT_CODES, Exit, Failure, Outcome};
use crate::wire::export;

/// `schema ...`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct SchemaArgs {
    #[command(subcommand)]
    command: SchemaCommand,
}

const EXAMPLE: &str = "Example, for a client application in another language:\n  \
    uringest schema export schemas/uringest && flatc --python -o gen schemas/uringest/*.fbs\n";

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Writes the schemas into a directory, made if it is missing.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{EXAMPLE}\n{EXIT_CODES}"))]
    Export {
        /// The directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Runs the command.
///
/// # Errors
/// When the directory cannot be written.
pub fn run(args: SchemaArgs) -> Outcome {
    let SchemaCommand::Export { directory, output } = args.command;
    let written = export::export(&directory).map_err(|error| {
        let message = format!("cannot write schemas into {}: {error}", directory.display());
        Failure::new(
            Exit::Failed,
            message,
            "name a directory that you may write, as `uringest schema export /tmp/schemas`",
        )
    })?;
    match output {
        Output::Json => print_json(&written),
        Output::Text => {
            print(&written.iter().map(|path| format!("{}\n", path.display())).collect::<String>())
        }
    }
}
