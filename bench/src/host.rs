//! The machine that a measurement is made on, and where on it server and load run.

use std::io;

use serde::{Deserialize, Serialize};

use crate::cpus::CpuList;
use crate::failure::Failure;

/// The congestion control of every socket.
pub const CONGESTION_CONTROL: &str = "cubic";

/// Where server and load run.
#[derive(Debug, Clone, clap::Args)]
pub struct Placement {
    /// CPUs of the server, as in 0,2-3.
    #[arg(long, value_name = "LIST", default_value = "0")]
    pub server_cpus: CpuList,
    /// CPUs of the load, one thread on each.
    #[arg(long, value_name = "LIST", default_value = "1")]
    pub load_cpus: CpuList,
}

impl Placement {
    /// Pins the calling thread to the load's CPUs, and says where the two sides would disturb each other.
    ///
    /// # Errors
    /// A list names no CPU that there is.
    pub fn apply(&self) -> Result<Option<String>, Failure> {
        let missing = |cpus: &CpuList, side: &str, flag: &str, source: io::Error| Failure::Host {
            what: format!(
                "the {side} cannot run on CPU {cpus}: name CPUs that this process may use with {flag}"
            ),
            source,
        };
        let allowed = |cpus: &CpuList| -> io::Result<()> {
            let cpus = cpus.clone();
            std::thread::spawn(move || cpus.pin()).join().expect("pinning does not panic")
        };
        allowed(&self.server_cpus)
            .map_err(|source| missing(&self.server_cpus, "server", "--server-cpus", source))?;
        self.load_cpus.pin().map_err(|source| missing(&self.load_cpus, "load", "--load-cpus", source))?;
        let shared = self.server_cpus.all().iter().find(|cpu| self.load_cpus.all().contains(cpu));
        Ok(shared.map(|cpu| {
            format!(
                "server and load share CPU {cpu}: each takes time from the other, and latencies mean nothing"
            )
        }))
    }
}

/// What the figures were taken on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu_model: String,
    /// Processors that are online.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Machine {
    /// This machine; what the kernel does not say is empty or 0.
    #[must_use]
    pub fn this() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| -> Option<String> {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib = memory.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        // SAFETY: asks for a number; there are no pointers.
        let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        Machine {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu_model: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cpus: usize::try_from(cpus).unwrap_or(0),
            memory_bytes: kib.unwrap_or(0) * 1024,
        }
    }
}

/// Lets this process and its children have this many files open.
///
/// # Errors
/// The hard limit is lower, and may not be raised.
pub fn allow_open_files(wanted: u64) -> Result<(), Failure> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local that lives over the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 || limit.rlim_cur >= wanted {
        return Ok(());
    }
    let hard = limit.rlim_max;
    limit.rlim_cur = wanted.max(limit.rlim_cur);
    limit.rlim_max = hard.max(wanted);
    // SAFETY: the pointer is to a local that lives over the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
        return Err(Failure::Host {
            what: format!(
                "this work needs {wanted} open files and at most {hard} are allowed: raise the hard limit \
                 (ulimit -Hn {wanted}, or LimitNOFILE=), or ask for fewer connections"
            ),
            source: io::Error::last_os_error(),
        });
    }
    Ok(())
}

/// Nanoseconds of the monotonic clock.
#[must_use]
#[inline]
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread, in nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds of a clock that exists; 0 otherwise.
#[must_use]
#[inline]
pub fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local that lives over the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
