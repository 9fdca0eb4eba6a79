//! Why a server does not start. Each is the environment's or the operator's, and names its remedy.

use std::io;
use std::net::SocketAddr;

use crate::buf::MapError;
use crate::control::catalogue::CreateRefused;
use crate::control::data::DataError;
use crate::control::files::FileError;
use crate::control::storage::start::LogError;
use crate::io::SetupError;
use crate::io::choice::{self, Backend};
use crate::tls::MaterialError;

/// See the module.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address could not be bound.
    Bind {
        /// The setting: `listen`, `plaintext_listen`, `admin` or `shard_ports`.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not have the congestion control that is configured.
    CongestionControl {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A certificate, a key, an authority or a revocation list cannot be used.
    Tls(MaterialError),
    /// The data directory cannot be used.
    Data(DataError),
    /// The log's directory cannot be used.
    Log(LogError),
    /// The catalogue could not be saved.
    Save(FileError),
    /// The host does not give the memory.
    Memory(MapError),
    /// The rings of the topics that exist do not fit in the budget.
    BudgetTooSmall {
        /// What they take.
        used: u64,
        /// `memory.retention_budget_bytes`.
        budget: u64,
    },
    /// A topic of the configuration cannot be made.
    Topic {
        /// Its name.
        name: String,
        /// Why.
        refused: CreateRefused,
    },
    /// The backend that is configured, or the last that `auto` could try, cannot be made.
    Io {
        /// Which one.
        backend: Backend,
        /// Why, and what would help.
        source: SetupError,
    },
    /// The configuration asks for a backend that this build does not have.
    NotBuilt,
    /// A thread could not be started.
    Thread(io::Error),
    /// The process is out of descriptors.
    Descriptors(io::Error),
    /// The configuration has no shard.
    NoShards,
    /// A shard's thread ended while it was being made.
    ShardLost,
    /// Control could not start the server.
    Control(String),
}

impl StartError {
    pub(super) fn thread(source: io::Error) -> Self {
        StartError::Thread(source)
    }

    pub(super) fn descriptors(source: io::Error) -> Self {
        StartError::Descriptors(source)
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            StartError::Bind { setting, address, source } => bind_remedy(setting, *address, source),
            StartError::CongestionControl { .. } => {
                "take one of /proc/sys/net/ipv4/tcp_allowed_congestion_control, or load its module (modprobe tcp_NAME)"
                    .into()
            }
            StartError::Tls(source) => source.fault.remedy().into(),
            StartError::Log(source) => source.remedy().into(),
            StartError::Data(_) | StartError::Memory(_) => "`uringest doctor` says what this host gives".into(),
            StartError::Io { backend, source } => io_remedy(*backend, source),
            StartError::NotBuilt => "set io to what this build has: `uringest doctor` lists it".into(),
            StartError::Save(_) => "make room on the data directory's file system, or name another with --data".into(),
            StartError::BudgetTooSmall { used, .. } => {
                format!("set memory.retention_budget_bytes to at least {used}, or delete topics with the former value")
            }
            StartError::Topic { refused: CreateRefused::Differs(_), .. } => {
                "change the [[topic]] entry to what exists, or delete the topic first: its partitions and ring \
                 cannot change"
                    .into()
            }
            StartError::Topic { .. } => "change the [[topic]] entry".into(),
            StartError::Thread(_) => "raise the limit on processes (ulimit -u, or the container's pids limit)".into(),
            StartError::Descriptors(_) => "raise the limit on open files (ulimit -n, LimitNOFILE=)".into(),
            StartError::NoShards => "set shards to at least 1".into(),
            StartError::ShardLost | StartError::Control(_) => "see the log above".into(),
        }
    }
}

fn bind_remedy(setting: &str, address: SocketAddr, source: &io::Error) -> String {
    let port = address.port();
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "another process has port {port} (ss -ltnp 'sport = :{port}'): stop it, or choose another {setting}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port for {setting}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this host has no address {}: choose one of `ip address` for {setting}", address.ip())
        }
        _ => format!("choose another address for {setting}"),
    }
}

/// What helps the backend; and another backend, or the build that has one.
fn io_remedy(backend: Backend, source: &SetupError) -> String {
    let other = choice::BUILT.iter().find(|other| **other != backend);
    let other = match (other, backend.name()) {
        (Some(other), _) => format!("run with --io {} or --io auto", other.name()),
        (None, "uring") => format!("run on epoll: {}", choice::which_build("epoll")),
        (None, _) => format!("run on io_uring: {}", choice::which_build("uring")),
    };
    format!("{}; or {other}; `uringest doctor` says what this host gives", source.remedy)
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Bind { setting, address, source } => {
                write!(f, "cannot bind {setting} to {address}: {source}")
            }
            StartError::CongestionControl { name, source } => {
                write!(f, "the kernel does not take the congestion control {name}: {source}")
            }
            StartError::Tls(source) => write!(f, "TLS: {}", source.what()),
            StartError::Data(source) => source.fmt(f),
            StartError::Log(source) => source.fmt(f),
            StartError::Save(source) => source.fmt(f),
            StartError::Memory(source) => source.fmt(f),
            StartError::BudgetTooSmall { used, budget } => write!(
                f,
                "the rings of the topics in the catalogue take {used} bytes and memory.retention_budget_bytes is {budget}"
            ),
            StartError::Topic { name, refused } => write!(f, "topic {name} of the configuration: {refused}"),
            StartError::Io { backend, source } => {
                write!(f, "{} cannot be used: {}: {}", backend.interface(), source.doing, source.source)
            }
            StartError::NotBuilt => f.write_str("this build does not have the I/O backend that is asked for"),
            StartError::Thread(source) => write!(f, "cannot start a thread: {source}"),
            StartError::Descriptors(source) => write!(f, "out of file descriptors: {source}"),
            StartError::NoShards => f.write_str("there are no shards"),
            StartError::ShardLost => f.write_str("a shard's thread has ended while the server was starting"),
            StartError::Control(message) => {
                write!(f, "the control thread could not start the server: {message}")
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Bind { source, .. }
            | StartError::CongestionControl { source, .. }
            | StartError::Thread(source)
            | StartError::Descriptors(source) => Some(source),
            StartError::Tls(source) => Some(source),
            StartError::Data(source) => Some(source),
            StartError::Log(source) => Some(source),
            StartError::Save(source) => Some(source),
            StartError::Memory(source) => Some(source),
            StartError::Io { source, .. } => Some(source),
            StartError::BudgetTooSmall { .. }
            | StartError::Topic { .. }
            | StartError::NotBuilt
            | StartError::NoShards
            | StartError::ShardLost
            | StartError::Control(_) => None,
        }
    }
}

impl From<MaterialError> for StartError {
    fn from(source: MaterialError) -> Self {
        StartError::Tls(source)
    }
}

impl From<DataError> for StartError {
    fn from(source: DataError) -> Self {
        StartError::Data(source)
    }
}

impl From<LogError> for StartError {
    fn from(source: LogError) -> Self {
        StartError::Log(source)
    }
}

impl From<FileError> for StartError {
    fn from(source: FileError) -> Self {
        StartError::Save(source)
    }
}

impl From<MapError> for StartError {
    fn from(source: MapError) -> Self {
        StartError::Memory(source)
    }
}
