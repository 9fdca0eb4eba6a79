//! Other servers doing the same work: NATS and Redis, where they are installed.
//!
//! Each is started by the benchmark on a port of its own, with a scratch directory, on the server's CPUs, and
//! ended with the benchmark. Nothing is stored on disk. The load, its payloads, the bytes of a write and the
//! measure are the same; what differs is the dialect. Limits that would make a peer drop a slow consumer are
//! lifted, and in their place the load does not run far ahead of its consumers.

mod contest;
mod nats;
mod redis;
mod shared;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::dialect::redis::RedisWay;
use crate::failure::Failure;
use crate::host::Placement;
use crate::limit::{self, BareIo};
use crate::measure::{measure, prepare};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::scenario::{Drive, Kind, Work};
use crate::subject::{Uringest, UringestOptions};

pub use contest::{Contest, Entry, Skipped, hold};
pub use shared::default_congestion_control;

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrant {
    /// This project's server.
    Uringest,
    /// A bare program.
    Limit(BareIo),
    /// `nats-server`, without `JetStream`.
    Nats,
    /// `redis-server`, in one of two ways.
    Redis(RedisWay),
}

impl Entrant {
    /// In the order of the table.
    pub const ALL: [Entrant; 6] = [
        Entrant::Uringest,
        Entrant::Nats,
        Entrant::Redis(RedisWay::PubSub),
        Entrant::Redis(RedisWay::Streams),
        Entrant::Limit(BareIo::Uring),
        Entrant::Limit(BareIo::Epoll),
    ];

    /// In tables and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Entrant::Uringest => "uringest",
            Entrant::Limit(BareIo::Uring) => "limit (uring)",
            Entrant::Limit(BareIo::Epoll) => "limit (epoll)",
            Entrant::Nats => "NATS",
            Entrant::Redis(RedisWay::PubSub) => "Redis pub/sub",
            Entrant::Redis(RedisWay::Streams) => "Redis Streams",
        }
    }

    /// The program that has to be on the path, and the package that has it (Debian's and Ubuntu's names).
    const fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Entrant::Uringest | Entrant::Limit(_) => None,
            Entrant::Nats => Some(("nats-server", "nats-server")),
            Entrant::Redis(_) => Some(("redis-server", "redis-server")),
        }
    }

    /// Why it cannot take part, if it cannot: not installed, or no such work for it. `path` is `PATH`.
    #[must_use]
    pub fn absent(self, work: &Work, path: Option<&OsStr>) -> Option<Skipped> {
        let skipped = |why: String, package: Option<&str>| {
            Some(Skipped { entrant: self.name().into(), why, package: package.map(str::to_owned) })
        };
        match self {
            Entrant::Uringest => None,
            Entrant::Limit(io) if !io.is_available() => skipped("there is no io_uring here".into(), None),
            Entrant::Limit(_) => skipped(limit::role(work).err()?.to_string(), None),
            Entrant::Nats | Entrant::Redis(_) => {
                if work.drive == Drive::Crossing {
                    return skipped("it has no shards to cross".into(), None);
                }
                if work.kind == Kind::Log {
                    return skipped("it is not set up to keep records on disk here".into(), None);
                }
                if work.tls {
                    return skipped("it is not set up for TLS here".into(), None);
                }
                let (program, package) = self.program()?;
                if find(program, path).is_some() {
                    return None;
                }
                let why = format!("{program} is not on the PATH: apt-get install {package}");
                skipped(why, Some(package))
            }
        }
    }

    /// Starts it, measures, ends it.
    ///
    /// # Errors
    /// It does not start, or breaks.
    pub fn once(
        self,
        work: &Work,
        options: &UringestOptions,
        placement: &Placement,
        progress: &mut Progress,
    ) -> Result<Outcome, Failure> {
        let path = std::env::var_os("PATH");
        let program = |name| find(name, path.as_deref()).unwrap_or_else(|| PathBuf::from(name));
        prepare(work)?;
        match self {
            Entrant::Uringest => {
                measure(work, placement, &Uringest::start(options, work, placement)?, progress)
            }
            Entrant::Limit(io) => limit::once(work, io, placement, progress),
            Entrant::Nats => {
                let server = nats::Nats::start(&program("nats-server"), work, placement)?;
                measure(work, placement, &server, progress)
            }
            Entrant::Redis(way) => {
                let server = redis::Redis::start(&program("redis-server"), way, work, placement)?;
                measure(work, placement, &server, progress)
            }
        }
    }
}

/// An executable file of this name in one of the path's directories.
fn find(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?).map(|directory| directory.join(program)).find(|file| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}
