//! TLS in a run: what is asked for, certificates for it, and what the load's connections agreed on.
//!
//! Certificates are made anew for each server, by an authority that nobody keeps, in the server's scratch directory.
//! The load's own side is always `uringest::tls` with its own record layer: the cheapest there is. What is measured is
//! the server's side.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use uringest::tls::dev::{self, LOCAL_NAMES, Request};
use uringest::tls::record::CONTENT_BYTES_MAX;
use uringest::tls::{ClientMaterial, ClientSettings, ClientTls, Peer, Roots};

use crate::failure::Failure;
use crate::outcome::TlsOutcome;

/// The smallest records that can be asked for, in bytes of content.
pub(crate) const RECORD_BYTES_LEAST: usize = 512;
/// Days for which certificates are good: a run is shorter.
const DAYS: u32 = 30;
/// Names by which a server may be called beside those of its host: a client that calls it by another one every time
/// has no ticket, and shakes hands in full.
const NAMES: &str = "*.connections.test";
/// The name by which it is called where that does not matter.
pub(crate) const SERVER_NAME: &str = "localhost";

/// Who opens and seals the server's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ServerRecords {
    /// Its own record layer.
    #[default]
    Own,
    /// rustls, through its buffers.
    Rustls,
}

impl ServerRecords {
    /// As the server and the JSON spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ServerRecords::Own => "own",
            ServerRecords::Rustls => "rustls",
        }
    }
}

/// The flags of a run.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsFlags {
    /// TLS 1.3 on every connection, with certificates that are made for it.
    #[arg(long)]
    pub tls: bool,
    /// Who opens and seals the server's records.
    #[arg(long, value_enum, requires = "tls")]
    pub tls_records: Option<ServerRecords>,
    /// Content of the records that the load sends, in bytes at most.
    #[arg(long, value_name = "BYTES", requires = "tls", value_parser = record_bytes)]
    pub tls_record_bytes: Option<usize>,
}

impl TlsFlags {
    /// What they ask for.
    #[must_use]
    pub fn wish(&self) -> Option<TlsWish> {
        let records = self.tls_records.unwrap_or_default();
        self.tls.then(|| TlsWish {
            records,
            record_bytes: self.tls_record_bytes.unwrap_or(TlsWish::default().record_bytes),
        })
    }
}

/// A number of bytes that a record can have.
pub(crate) fn record_bytes(text: &str) -> Result<usize, String> {
    let range = RECORD_BYTES_LEAST..=CONTENT_BYTES_MAX;
    let bytes = text.parse().ok().filter(|bytes| range.contains(bytes));
    bytes.ok_or_else(|| format!("{RECORD_BYTES_LEAST} to {CONTENT_BYTES_MAX}"))
}

/// TLS as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsWish {
    /// Who opens and seals the server's records.
    pub records: ServerRecords,
    /// Content of the records that the load sends, in bytes at most.
    pub record_bytes: usize,
}

impl Default for TlsWish {
    fn default() -> TlsWish {
        TlsWish { records: ServerRecords::Own, record_bytes: CONTENT_BYTES_MAX }
    }
}

/// Certificates for one server, on disk.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    /// Makes them in a directory.
    pub(crate) fn make(directory: &Path) -> Result<Certificates, Failure> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let server_names = LOCAL_NAMES.into_iter().chain([NAMES]).map(str::to_owned).collect();
        let request = Request { server_names, client_names: Vec::new(), now_s, days: DAYS };
        let written = dev::generate(&request).and_then(|files| dev::write(directory, &files));
        written.map_err(|error| Failure::Tls(format!("{error}: {}", error.remedy())))?;
        let [authority, certificate, key] = ["ca.pem", "server.pem", "server.key"];
        let file = |name| directory.join(name);
        Ok(Certificates { authority: file(authority), certificate: file(certificate), key: file(key) })
    }
}

/// The load's side of one server's connections.
#[derive(Debug)]
pub struct LoadTls {
    client: ClientTls,
    wish: TlsWish,
    names: AtomicUsize,
    met: Mutex<TlsOutcome>,
}

impl LoadTls {
    /// For a server that shows a certificate of this authority.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn new(authority: &Path, wish: TlsWish) -> Result<LoadTls, Failure> {
        let settings = ClientSettings { roots: Roots::File(authority.to_owned()), identity: None };
        let client = ClientMaterial::read(&settings)
            .and_then(ClientTls::new)
            .map_err(|error| Failure::Tls(error.to_string()))?;
        let met = TlsOutcome {
            records: wish.records.name().into(),
            record_bytes: wish.record_bytes,
            ..TlsOutcome::default()
        };
        Ok(LoadTls { client, wish, names: AtomicUsize::new(0), met: Mutex::new(met) })
    }

    pub(crate) fn client(&self) -> &ClientTls {
        &self.client
    }

    /// The name for the next connection: one that none had before.
    pub(crate) fn name(&self) -> String {
        NAMES.replace('*', &self.names.fetch_add(1, Ordering::Relaxed).to_string())
    }

    pub(crate) fn record_bytes(&self) -> usize {
        self.wish.record_bytes
    }

    /// Takes note of a handshake.
    pub(crate) fn met(&self, peer: &Peer) {
        let mut met = self.met.lock().expect("nobody panics while holding it");
        if met.handshakes == 0 {
            met.suite = peer.suite.name().into();
            met.key_exchange = peer.key_exchange.into();
        }
        met.handshakes += 1;
        met.resumed += u64::from(peer.resumed);
    }

    /// What was agreed on so far.
    ///
    /// # Panics
    /// Never: nobody panics while holding the lock.
    #[must_use]
    pub fn outcome(&self) -> TlsOutcome {
        self.met.lock().expect("nobody panics while holding it").clone()
    }
}
