//! What the kernel says about this process. Reads `/proc`: for the control thread, not for a shard.

use std::fs;

/// Clock ticks a second in `/proc/PID/stat`: fixed at 100 in the kernel's interface on every architecture
/// this program builds for (`USER_HZ`, see `times(2)`).
const USER_HZ: f64 = 100.0;

/// See [`process_gauges`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProcessGauges {
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Processor time, user and system, of all threads.
    pub cpu_seconds: f64,
    /// Threads alive.
    pub threads: u64,
    /// File descriptors open.
    pub open_fds: u64,
}

/// This process's resources now; what cannot be read is 0.
#[must_use]
pub fn process_gauges() -> ProcessGauges {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let mut gauges = parse(&stat, &status, &uptime);
    gauges.open_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    gauges
}

/// `proc_pid_stat(5)`, `proc_pid_status(5)`, `proc_uptime(5)`.
pub(super) fn parse(stat: &str, status: &str, uptime: &str) -> ProcessGauges {
    // The second field is the command in parentheses and may hold anything; what follows is field 3.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let resident_kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    let host_seconds: f64 =
        uptime.split_ascii_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    ProcessGauges {
        uptime_seconds: (host_seconds - field(22) as f64 / USER_HZ).max(0.0),
        resident_bytes: resident_kib * 1024,
        cpu_seconds: (field(14) + field(15)) as f64 / USER_HZ,
        threads: field(20),
        open_fds: 0,
    }
}
