//! `completions`: the completion script of a shell.

use clap::Args;

use super::exit::print;
use super::{EXIT_CODES, Outcome};

/// `completions SHELL`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, after_long_help = format!("Example:\n  uringest completions bash > ~/.local/share/bash-completion/completions/uringest\n\n{EXIT_CODES}"))]
pub struct CompletionsArgs {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Prints the script.
///
/// # Errors
/// When standard output fails.
pub fn run(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::tree(), "uringest", &mut script);
    print(&String::from_utf8_lossy(&script))
}
