//! `cert dev`: a certificate authority and certificates for trying TLS out.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};

use super::exit::{Output, print, print_json};
use super::{EXIT_CODES, Exit, Failure, Outcome};
use crate::tls::dev::{DevError, LOCAL_NAMES, Request, generate, write};

/// `cert ...`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct CertArgs {
    #[command(subcommand)]
    command: CertCommand,
}

const EXAMPLE: &str = "Example, for a server on this host and a client of the tenant acme:\n  \
    uringest cert dev certs --client-name acme.clients.example\n  \
    uringest serve --tls-cert certs/server.pem --tls-key certs/server.key\n  \
    uringest sub lines --server uringest+tls://localhost:7440 --tls-ca certs/ca.pem\n";

#[derive(Debug, Subcommand)]
enum CertCommand {
    /// Makes a development CA and certificates by it for a server and a client: ca.pem, server.pem, server.key,
    /// client.pem, client.key. For trials on one's own machine: whoever has these files can speak for the server.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{EXAMPLE}\n{EXIT_CODES}"))]
    Dev {
        /// The directory, made if it is missing; files in it are not overwritten.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// A DNS name, IP address or URI of the server; may be given several times.
        #[arg(long = "name", value_name = "NAME", default_values = LOCAL_NAMES)]
        names: Vec<String>,
        /// A DNS name, IP address or URI in the client's certificate; may be given several times.
        #[arg(long = "client-name", value_name = "NAME", default_value = "client.localhost")]
        client_names: Vec<String>,
        /// Days for which the certificates are good: 1 to 36500.
        #[arg(long, default_value_t = 90)]
        days: u32,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Runs the command.
///
/// # Errors
/// When a name or the days cannot be, when a file is there already, or the directory cannot be written.
pub fn run(args: CertArgs) -> Outcome {
    let CertCommand::Dev { directory, names, client_names, days, output } = args.command;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let request = Request { server_names: names, client_names, now_s, days };
    let written = generate(&request).and_then(|files| write(&directory, &files)).map_err(|error| {
        let exit = match &error {
            DevError::BadName(_) | DevError::BadDays(_) => Exit::Usage,
            DevError::Exists(_) | DevError::Unwritable(..) | DevError::NoKeys(_) => Exit::Failed,
        };
        Failure::new(exit, error.to_string(), error.remedy())
    })?;
    match output {
        Output::Json => print_json(&written),
        Output::Text => {
            print(&written.iter().map(|path| format!("{}\n", path.display())).collect::<String>())
        }
    }
}
