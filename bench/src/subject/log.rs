//! A server's log: where its files are, and what the server counts of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::http;

/// See the module.
#[derive(Debug, Clone)]
pub struct Log {
    directory: PathBuf,
    admin: SocketAddr,
}

/// Sums since the server's start, over its shards.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LogCounters {
    /// Writes that have completed.
    pub writes: f64,
    /// Their bytes.
    pub written_bytes: f64,
    /// Syncs that have completed.
    pub syncs: f64,
    /// Writes that were durable by themselves.
    pub durable_writes: f64,
    /// From submission to completion, over all of them.
    pub sync_seconds: f64,
    /// Bytes read for consumers that lag.
    pub read_bytes: f64,
}

impl LogCounters {
    /// What was added since.
    #[must_use]
    pub fn since(&self, before: &LogCounters) -> LogCounters {
        LogCounters {
            writes: self.writes - before.writes,
            written_bytes: self.written_bytes - before.written_bytes,
            syncs: self.syncs - before.syncs,
            durable_writes: self.durable_writes - before.durable_writes,
            sync_seconds: self.sync_seconds - before.sync_seconds,
            read_bytes: self.read_bytes - before.read_bytes,
        }
    }

    /// From a metrics page.
    fn read(page: &str) -> LogCounters {
        let sum = |name: &str| -> f64 {
            let samples = page
                .lines()
                .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
            samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        LogCounters {
            writes: sum("uringest_log_writes_total"),
            written_bytes: sum("uringest_log_written_bytes_total"),
            syncs: sum("uringest_log_syncs_total"),
            durable_writes: sum("uringest_log_durable_writes_total"),
            sync_seconds: sum("uringest_log_sync_seconds_total"),
            read_bytes: sum("uringest_log_read_bytes_total"),
        }
    }
}

impl Log {
    pub(super) fn new(directory: PathBuf, admin: SocketAddr) -> Log {
        Log { directory, admin }
    }

    /// Where its partitions' directories are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the server has counted so far.
    ///
    /// # Errors
    /// It does not answer.
    pub fn counters(&self) -> Result<LogCounters, Failure> {
        let page = http::request(self.admin, "GET", "/metrics", "").map_err(Failure::Load)?;
        Ok(LogCounters::read(&page))
    }

    /// Its files whose names end so, in order.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn files(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Failure> {
        let failed =
            |source| Failure::Host { what: format!("{} cannot be read", self.directory.display()), source };
        let mut found = Vec::new();
        for partition in std::fs::read_dir(&self.directory).map_err(failed)? {
            let partition = partition.map_err(failed)?.path();
            if !partition.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(&partition).map_err(failed)? {
                let file = file.map_err(failed)?.path();
                if file.file_name().and_then(|name| name.to_str()).is_some_and(&is_wanted) {
                    found.push(file);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_shards_and_told_from_longer_names() {
        let page = "# HELP uringest_log_writes\nuringest_log_writes_total{shard=\"0\"} 3\n\
            uringest_log_writes_total{shard=\"1\"} 4\nuringest_log_writes_total_more 9\n\
            uringest_log_sync_seconds_total{shard=\"0\"} 0.25\n";
        let counters = LogCounters::read(page);
        assert_eq!((counters.writes, counters.sync_seconds, counters.syncs), (7.0, 0.25, 0.0));
        assert_eq!(counters.since(&LogCounters { writes: 2.0, ..LogCounters::default() }).writes, 5.0);
    }
}
