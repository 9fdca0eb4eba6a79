//! The flags of a client's TLS, for every command that speaks to a data port.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, FromArgMatches};

use super::{Exit, Failure};
use crate::client::{Address, CertificateFiles, Roots, Tls, TlsSettings};

/// Whom to trust and what to show.
///
/// Their variables are not those of the server's own flags of the same names: one shell may hold both.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "TLS, with uringest+tls://")]
struct Flags {
    /// The authorities (PEM) that may have signed the server's certificate [default: those this host trusts].
    #[arg(long, value_name = "FILE", env = "URINGEST_SERVER_CA")]
    tls_ca: Option<PathBuf>,
    /// The client's certificate (PEM, its chain behind it), for a server that asks for one.
    #[arg(long, value_name = "FILE", env = "URINGEST_CLIENT_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the client's certificate (PEM).
    #[arg(long, value_name = "FILE", env = "URINGEST_CLIENT_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The name the server's certificate has to be for [default: the host of the address].
    #[arg(long, value_name = "NAME", env = "URINGEST_SERVER_NAME")]
    tls_name: Option<String>,
}

/// The flags, and the first of those that were given on the command line.
#[derive(Debug, Clone)]
pub struct TlsArgs {
    flags: Flags,
    given: Option<&'static str>,
}

impl TlsArgs {
    /// TLS for this address; `None` where it does not ask for it.
    ///
    /// # Errors
    /// For flags beside an address without TLS (variables may stand for other addresses), and for files that cannot
    /// be used.
    pub fn of(&self, server: &Address) -> Result<Option<Tls>, Failure> {
        if !server.is_secured() {
            return match self.given {
                None => Ok(None),
                Some(flag) => Err(Failure::new(
                    Exit::Usage,
                    format!("{flag} is for TLS, and the address {server} does not ask for it"),
                    format!("--server uringest+tls://{server}"),
                )),
            };
        }
        let Flags { tls_ca, tls_cert, tls_key, tls_name } = self.flags.clone();
        let settings = TlsSettings {
            roots: tls_ca.map_or(Roots::Platform, Roots::File),
            identity: tls_cert.zip(tls_key).map(|(certificate, key)| CertificateFiles { certificate, key }),
            server_name: tls_name,
        };
        Ok(Some(Tls::new(settings)?))
    }
}

impl Args for TlsArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for TlsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let names = [
            ("tls_ca", "--tls-ca"),
            ("tls_cert", "--tls-cert"),
            ("tls_key", "--tls-key"),
            ("tls_name", "--tls-name"),
        ];
        let given = |(id, _): &(&str, &str)| matches.value_source(id) == Some(ValueSource::CommandLine);
        let given = names.into_iter().find(given).map(|(_, flag)| flag);
        Ok(TlsArgs { flags: Flags::from_arg_matches(matches)?, given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
