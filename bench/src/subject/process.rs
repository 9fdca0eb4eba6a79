//! A server's process: started where it should run, measured, and never left behind.
//!
//! Three things end it: dropping [`Process`]; a signal that ends the benchmark ([`end_all_on_signal`]); and the
//! kernel, when the benchmark is killed (`PR_SET_PDEATHSIG`, which follows the *thread* that started the server:
//! that has to be one that lives as long as the benchmark).

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::cpus::CpuList;
use crate::failure::Failure;
use crate::host::clock_ns;

/// See the module.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    scratch: Option<PathBuf>,
    /// The kernel's clock of the CPU time of all its threads, those that have ended included.
    clock: libc::clockid_t,
}

/// Servers that run and the directories to remove: for the thread that a signal wakes.
static RUNNING: Mutex<Vec<(u32, Option<PathBuf>)>> = Mutex::new(Vec::new());

impl Process {
    /// Starts `command` on `cpus`; `scratch` is removed when it ends. Its standard output and error are those of
    /// the benchmark's standard error, unless the command says otherwise.
    ///
    /// # Errors
    /// There is no such program, or it may not run there.
    pub fn start(
        name: &str,
        command: &mut Command,
        cpus: &CpuList,
        scratch: Option<PathBuf>,
    ) -> Result<Process, Failure> {
        let (cpus, parent) = (cpus.clone(), std::process::id());
        // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // The benchmark's own mask (`end_all_on_signal`) is not the server's, which ends by SIGTERM.
                let mut none: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
                // The benchmark may have been killed before it was asked for.
                if u32::try_from(libc::getppid()) != Ok(parent) {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                cpus.pin()
            });
        }
        let mut running = RUNNING.lock().expect("nobody panics while holding it");
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.map_err(|source| Failure::Host {
            what: format!("{} cannot be started", Path::new(command.get_program()).display()),
            source,
        })?;
        running.push((child.id(), scratch.clone()));
        drop(running);
        let mut process = Process { name: name.to_owned(), child, scratch, clock: 0 };
        process.clock = process.cpu_clock()?;
        Ok(process)
    }

    fn cpu_clock(&self) -> Result<libc::clockid_t, Failure> {
        let mut clock = 0;
        let pid = libc::pid_t::try_from(self.child.id()).expect("process ids are positive and 32 bits");
        // SAFETY: the pointer is to a local that lives over the call.
        let result = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
        let source = std::io::Error::from_raw_os_error(result);
        let what = format!("the CPU time of {} cannot be read", self.name);
        if result == 0 { Ok(clock) } else { Err(Failure::Host { what, source }) }
    }

    /// User and system time of all its threads since it started, those that have ended included, in nanoseconds.
    /// At most a scheduler tick (4 ms at 250 Hz) of a running thread is missing.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        clock_ns(self.clock)
    }

    /// Resident memory.
    ///
    /// # Errors
    /// It has ended.
    pub fn rss_bytes(&self) -> Result<u64, Failure> {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, field: &str) -> Result<u64, Failure> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| self.ended("it has ended".into()))
    }

    /// The most memory that was ever resident.
    ///
    /// # Errors
    /// It has ended.
    pub fn peak_rss_bytes(&self) -> Result<u64, Failure> {
        self.status_bytes("VmHWM:")
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn end(&mut self, patience: Duration) -> Result<(), Failure> {
        let id = libc::pid_t::try_from(self.child.id()).expect("process ids are positive and 32 bits");
        // SAFETY: sends a signal to a child that was not waited for yet, so that the id is its.
        unsafe { libc::kill(id, libc::SIGTERM) };
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(self.ended(format!("it did not end within {} s of SIGTERM", patience.as_secs())))
    }

    /// The same program again, on what it left in its directory, which is removed with the new process.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn again(&mut self, command: &mut Command, cpus: &CpuList) -> Result<(), Failure> {
        let new = Process::start(&self.name, command, cpus, self.scratch.clone())?;
        self.scratch = None;
        *self = new;
        Ok(())
    }

    /// That it still runs.
    ///
    /// # Errors
    /// How it ended.
    pub fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(self.ended(format!("it has ended ({status}); what it said is above"))),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    fn ended(&self, what: String) -> Failure {
        Failure::Server { name: self.name.clone(), what }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _gone = self.child.kill();
        let _status = self.child.wait();
        running.retain(|(id, _)| *id != self.child.id());
        if let Some(scratch) = &self.scratch {
            let _removed = std::fs::remove_dir_all(scratch);
        }
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP end the servers that run, remove their directories, and end the
/// benchmark with the exit code of the signal. To be called first, while there is one thread.
pub fn end_all_on_signal() {
    // SAFETY: a zeroed sigset_t is made empty before it is used.
    let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is a local that lives over the calls; the numbers are of signals.
    unsafe {
        libc::sigemptyset(&raw mut signals);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&raw mut signals, signal);
        }
        // Threads inherit the mask; servers are given an empty one (`Process::start`).
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
    }
    std::thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: both pointers are to locals that live over the call.
        while unsafe { libc::sigwait(&raw const signals, &raw mut signal) } != 0 {}
        let running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (id, scratch) in &*running {
            let id = libc::pid_t::try_from(*id).expect("process ids are positive and 32 bits");
            // SAFETY: sends a signal; while it is in the list the child is not yet waited for, and the id is its.
            unsafe { libc::kill(id, libc::SIGKILL) };
            if let Some(scratch) = scratch {
                let _removed = std::fs::remove_dir_all(scratch);
            }
        }
        // SAFETY: ends the process at once: nothing else is to be cleaned up.
        unsafe { libc::_exit(128 + signal) }
    });
}
