//! `token new` and `token hash`: tokens for clients and operators, and what the configuration keeps of them.

use std::io::{self, IsTerminal as _, Read as _};

use clap::{Args, Subcommand};

use super::exit::{Output, print, print_json};
use super::{EXIT_CODES, Exit, Failure, Outcome};
use crate::access::{generate_token, hash_token};
use crate::limits::TOKEN_BYTES_MAX;

/// `token ...`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

const NEW_EXAMPLE: &str =
    "Example, for [[tenant]] token_sha256 or access.admin_token_sha256:\n  uringest token new\n";
const HASH_EXAMPLE: &str = "Example:\n  uringest token hash < token.txt\n";

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Makes a token of 256 random bits: give the token to the client, the digest to the configuration.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{NEW_EXAMPLE}\n{EXIT_CODES}"))]
    New {
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Prints the digest of a token read from standard input (a command line could be seen by others).
    #[command(after_help = EXIT_CODES, after_long_help = format!("{HASH_EXAMPLE}\n{EXIT_CODES}"))]
    Hash {
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Runs the command.
///
/// # Errors
/// When there are no random bytes, or no token on standard input.
pub fn run(args: &TokenArgs) -> Outcome {
    match args.command {
        TokenCommand::New { output } => {
            let token = generate_token().map_err(|error| {
                Failure::new(Exit::Failed, format!("the kernel gives no random bytes: {error}"), "")
            })?;
            let digest = hash_token(&token);
            match output {
                Output::Json => print_json(&serde_json::json!({ "token": token, "sha256": digest })),
                Output::Text => print(&format!("token   {token}\nsha256  {digest}\n")),
            }
        }
        TokenCommand::Hash { output } => {
            let digest = hash_token(&read_token()?);
            match output {
                Output::Json => print_json(&serde_json::json!({ "sha256": digest })),
                Output::Text => print(&format!("{digest}\n")),
            }
        }
    }
}

fn read_token() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        eprintln!("token, then Enter and Ctrl-D:");
    }
    let mut text = String::new();
    let read = io::stdin().lock().take(TOKEN_BYTES_MAX as u64 + 2).read_to_string(&mut text);
    let remedy = "uringest token hash < token.txt";
    read.map_err(|error| Failure::new(Exit::Failed, format!("cannot read the token: {error}"), remedy))?;
    let token = text.trim_end_matches(['\n', '\r']);
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || token.contains(char::is_whitespace) {
        let message = format!("standard input is no token: 1 to {TOKEN_BYTES_MAX} bytes without spaces");
        return Err(Failure::new(Exit::Usage, message, remedy));
    }
    Ok(token.to_owned())
}
