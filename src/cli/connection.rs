//! What `pub`, `sub` and `demo` share: where the server is, how failures of the client end a command, signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use super::tls::TlsArgs;
use super::{Exit, Failure};
use crate::client::{Address, Code, ConnectionConfig, Error, TlsFault};

/// The shortest time between two lines about the same reason for waiting.
const DEFERRED_EVERY: Duration = Duration::from_secs(10);
/// A topic that is paused for less is not worth a word.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// Nothing refused for so long: the batches went through meanwhile.
const SILENCE: Duration = Duration::from_secs(1);
/// Exit code after SIGINT, as shells have it.
pub const EXIT_INTERRUPTED: u8 = 130;
/// Exit code after SIGTERM.
const EXIT_TERMINATED: u8 = 143;

/// Where the server is, and what it is shown.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The server's data address, as uringest://HOST:PORT, or uringest+tls://HOST:PORT where it speaks TLS.
    #[arg(long, value_name = "URL", default_value = "uringest://127.0.0.1:7440", env = "URINGEST_SERVER")]
    server: String,
    /// The token, where the server wants one.
    #[arg(long, value_name = "TOKEN", env = "URINGEST_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Seconds to go on trying while the server cannot be reached or takes nothing.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    retry_for: Duration,
    #[command(flatten)]
    tls: TlsArgs,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let text = text.strip_suffix('s').unwrap_or(text);
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl ServerArgs {
    /// For the client.
    ///
    /// # Errors
    /// When the address is none.
    pub fn connection(&self, command: &str) -> Result<ConnectionConfig, Failure> {
        let server: Address = self.server.parse()?;
        Ok(ConnectionConfig {
            tls: self.tls.of(&server)?,
            server,
            token: self.token.clone(),
            client: format!("uringest {command} {}", env!("CARGO_PKG_VERSION")),
            retry_for: self.retry_for,
            ..ConnectionConfig::default()
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let (exit, remedy) = match &error {
            Error::BadAddress { .. } => (Exit::Usage, "--server uringest://127.0.0.1:7440"),
            Error::BadConfig(_) => (Exit::Usage, ""),
            Error::GaveUp { .. } | Error::TimedOut => (
                Exit::Unreachable,
                "see that the server runs (uringest serve) and that --server names its data port",
            ),
            Error::Refused { .. } => (Exit::Refused, ""),
            Error::Tls { fault, .. } => tls_remedy(*fault),
            _ => (Exit::Failed, ""),
        };
        Failure::new(exit, error.to_string(), remedy)
    }
}

/// Which flag mends it, where one does.
fn tls_remedy(fault: TlsFault) -> (Exit, &'static str) {
    match fault {
        TlsFault::UnknownAuthority | TlsFault::BadCertificate => {
            (Exit::Unreachable, "--tls-ca FILE with the authority that signed the server's certificate")
        }
        TlsFault::WrongName => {
            (Exit::Unreachable, "a name of the certificate in --server, or beside it as --tls-name NAME")
        }
        TlsFault::CertificateExpired => {
            (Exit::Unreachable, "date   # if the clock is right, the server needs a new certificate")
        }
        TlsFault::ServerSpeaksPlaintext => (
            Exit::Unreachable,
            "see that --server names the server's TLS port; if it has none, uringest:// (on a trusted network)",
        ),
        TlsFault::ServerSpeaksTls => (
            Exit::Unreachable,
            "--server uringest+tls://HOST:PORT, and --tls-ca FILE if its authority is private",
        ),
        TlsFault::OtherProtocol => (Exit::Unreachable, "see that --server names the data port of uringest"),
        TlsFault::CertificateRequired => (Exit::Refused, "--tls-cert FILE --tls-key FILE"),
        TlsFault::CertificateRefused => {
            (Exit::Refused, "--tls-cert and --tls-key by an authority of the server's --tls-client-ca")
        }
        _ => (Exit::Unreachable, ""),
    }
}

/// Whether a signal has asked to end.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    exit_code: AtomicU8,
    /// Somebody looks at the code, and ends in good order.
    armed: AtomicBool,
}

impl Interrupt {
    /// Watches for SIGINT and SIGTERM. One ends the process at once until [`Interrupt::arm`]; after that, a second.
    ///
    /// # Errors
    /// When signals cannot be watched.
    pub fn watch() -> Result<Interrupt, Failure> {
        let cannot = |error: std::io::Error| {
            Failure::new(Exit::Failed, format!("cannot watch for signals: {error}"), "")
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(cannot)?;
        let asked = Arc::new(Asked::default());
        let theirs = Arc::clone(&asked);
        let watch = async move {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                let exit = tokio::select! {
                    _ = interrupt.recv() => EXIT_INTERRUPTED,
                    _ = terminate.recv() => EXIT_TERMINATED,
                };
                let again = theirs.exit_code.swap(exit, Ordering::SeqCst) != 0;
                if again || !theirs.armed.load(Ordering::SeqCst) {
                    std::process::exit(i32::from(exit));
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(watch))
            .map_err(cannot)?;
        Ok(Interrupt(asked))
    }

    /// From now on the command looks whether a signal came.
    pub fn arm(&self) {
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// The exit code the signal asks for, if one came.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        Some(self.0.exit_code.load(Ordering::Relaxed)).filter(|code| *code != 0)
    }

    /// Whether a signal came.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.exit_code().is_some()
    }
}

/// What keeps batches back: since when, and when that was heard of last.
#[derive(Debug)]
struct HeldBack {
    by: Code,
    since: Instant,
    heard: Instant,
}

/// Says on standard error that the connection is gone or back; once for each of its downs.
#[derive(Debug, Default)]
pub struct ConnectionNotes {
    down: bool,
    held_back: Option<HeldBack>,
    /// What was said last to keep them back, and when.
    said: Option<(Code, Instant)>,
}

impl ConnectionNotes {
    /// The connection could not be made, or was lost.
    pub fn disconnected(&mut self, why: &str, retry_for: Duration) {
        if !std::mem::replace(&mut self.down, true) {
            eprintln!("uringest: {why}; trying again for {} s", retry_for.as_secs_f64());
        }
    }

    /// The server refuses a batch for now. What passes by itself, and is part of going as fast as the consumers do,
    /// is not worth a word, and neither is a short pause; what somebody has to see to is, every now and then.
    pub fn deferred(&mut self, code: Code, detail: &str, retry_for: Duration) {
        let patience = match code {
            Code::DiskFull | Code::PartitionFenced => Duration::ZERO,
            Code::TopicPaused => SHORT_PAUSE,
            _ => return,
        };
        let now = Instant::now();
        let goes_on = |held: &HeldBack| held.by == code && now - held.heard < SILENCE;
        let since = self.held_back.take().filter(goes_on).map_or(now, |held| held.since);
        self.held_back = Some(HeldBack { by: code, since, heard: now });
        let said = self.said.is_some_and(|(last, at)| last == code && now - at < DEFERRED_EVERY);
        if now - since < patience || said {
            return;
        }
        self.said = Some((code, now));
        let detail = if detail.is_empty() { code.text() } else { detail };
        eprintln!(
            "uringest: the server takes nothing for now: {code}: {detail}; trying again for {} s",
            retry_for.as_secs_f64()
        );
    }

    /// It is there.
    pub fn connected(&mut self) {
        if std::mem::replace(&mut self.down, false) {
            eprintln!("uringest: connected again");
        }
    }
}
