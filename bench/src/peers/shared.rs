//! What starting a peer takes, whichever it is.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::host::{CONGESTION_CONTROL, Placement};
use crate::scenario::{Kind, Work};
use crate::socket::free_address;
use crate::subject::Process;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Last lines of its log that are shown when it does not start.
const LOG_LINES: usize = 5;

/// A scratch directory and an address, before the process that uses them.
pub(super) struct Ground {
    name: &'static str,
    pub(super) scratch: PathBuf,
    pub(super) address: SocketAddr,
}

impl Ground {
    pub(super) fn new(name: &'static str) -> Result<Ground, Failure> {
        let failed = |what: String| move |source| Failure::Host { what, source };
        let address = free_address().map_err(failed("there is no free port on loopback".into()))?;
        let directory = format!("uringest-bench-{}-{}", std::process::id(), address.port());
        let scratch = std::env::temp_dir().join(directory);
        let what = format!("{} cannot be made: set TMPDIR to a writable directory", scratch.display());
        std::fs::create_dir_all(&scratch).map_err(failed(what))?;
        Ok(Ground { name, scratch, address })
    }

    fn log(&self) -> PathBuf {
        self.scratch.join("log")
    }

    /// Starts the program; what it says goes to a file in the scratch directory.
    pub(super) fn start(&self, command: &mut Command, placement: &Placement) -> Result<Process, Failure> {
        let log = || File::options().create(true).append(true).open(self.log());
        let (out, error) = log().and_then(|out| Ok((out, log()?))).map_err(|source| Failure::Host {
            what: format!("{} cannot be written", self.log().display()),
            source,
        })?;
        command.current_dir(&self.scratch).stdout(Stdio::from(out)).stderr(Stdio::from(error));
        Process::start(self.name, command, &placement.server_cpus, Some(self.scratch.clone()))
    }

    /// Waits until the server answers a question.
    pub(super) fn await_answer<T>(
        &self,
        process: &mut Process,
        mut ask: impl FnMut() -> io::Result<T>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(answer) = ask() {
                return Ok(answer);
            }
            if process.check().is_err() {
                return Err(self.ended(&self.log()));
            }
            if Instant::now() >= deadline {
                return Err(Failure::NotReady { name: self.name.into(), waited: PATIENCE });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ended(&self, log: &Path) -> Failure {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(LOG_LINES).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        Failure::Server {
            name: self.name.into(),
            what: format!("it has ended; it said: {}", lines.join(" | ")),
        }
    }
}

/// The congestion control of sockets that do not choose one: a peer's.
#[must_use]
pub fn default_congestion_control() -> String {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
    text.trim().to_owned()
}

/// What to know before comparing a peer's figures; `keeps`: it keeps records.
pub(super) fn warnings(work: &Work, keeps: bool) -> Vec<String> {
    let congestion = congestion_warning(&default_congestion_control());
    congestion.into_iter().chain(kind_warning(work.kind, keeps)).collect()
}

/// What to say of a peer's sockets, which have the host's default.
fn congestion_warning(default: &str) -> Option<String> {
    (default != CONGESTION_CONTROL).then(|| {
        format!(
            "peers' sockets use this host's default congestion control, {default}, which may pace loopback: \
             their figures are not comparable; sysctl net.ipv4.tcp_congestion_control={CONGESTION_CONTROL}"
        )
    })
}

/// What to say of a peer that keeps records where uringest's topic does not, or the reverse.
fn kind_warning(kind: Kind, keeps: bool) -> Option<String> {
    match (kind, keeps) {
        (Kind::Memory, false) => {
            Some("it keeps nothing, and uringest's topic keeps records in memory".into())
        }
        (Kind::Live, true) => Some("it keeps records in memory, and uringest's topic keeps nothing".into()),
        (Kind::Log, _) => Some("it keeps nothing on disk, and uringest's topic does".into()),
        (Kind::Memory, true) | (Kind::Live, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_alike_is_said() {
        for (kind, keeps, said) in [
            (Kind::Live, false, false),
            (Kind::Memory, true, false),
            (Kind::Memory, false, true),
            (Kind::Live, true, true),
        ] {
            assert_eq!(kind_warning(kind, keeps).is_some(), said, "{kind:?}, keeps: {keeps}");
        }
        assert_eq!(congestion_warning(CONGESTION_CONTROL), None);
        assert!(congestion_warning("bbr").is_some_and(|warning| warning.contains("bbr")));
    }
}
