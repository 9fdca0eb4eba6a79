//! Control groups of the case's own, beside this process's: of memory and of processor time, version 1 or 2. Removed
//! when they go out of scope; what is in them has to have ended, so they are made before the server.

use std::ffi::CString;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::harness::Skipped;

pub struct Group {
    path: PathBuf,
    version: u8,
}

/// What is limited, by the controller's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    Memory,
    Cpu,
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
        }
    }

    /// A file that a group with this controller has.
    fn file(self, version: u8) -> &'static str {
        match (self, version) {
            (Controller::Memory, 1) => "memory.limit_in_bytes",
            (Controller::Memory, _) => "memory.max",
            (Controller::Cpu, 1) => "cpu.cfs_quota_us",
            (Controller::Cpu, _) => "cpu.max",
        }
    }
}

impl Group {
    pub fn new(controller: Controller) -> Result<Group, Skipped> {
        let name = controller.name();
        let skipped = |why: String| Skipped(format!("a control group of {name}: {why}"));
        let (parent, version) = home(controller).ok_or_else(|| skipped("no hierarchy has it".into()))?;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("uringest-chaos-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| skipped(format!("{}: {error}", path.display())))?;
        let group = Group { path, version };
        let file = controller.file(version);
        if !group.path.join(file).exists() {
            return Err(skipped(format!("{} has no {file}", group.path.display())));
        }
        // It may be there and not be allowed to write to.
        let unlimited = if version == 1 { "-1" } else { "max" };
        group.try_write(file, unlimited).map_err(|error| skipped(format!("{file}: {error}")))?;
        let trial = group.entered_by(Command::new("true")).status();
        trial.map_err(|error| skipped(format!("it cannot be entered: {error}")))?;
        if controller == Controller::Memory {
            // What has no room is not to go to a disk instead; a kernel without swap has no such file.
            let file = if version == 1 { "memory.swappiness" } else { "memory.swap.max" };
            let _ = group.try_write(file, 0);
        }
        Ok(group)
    }

    /// Limits memory, or no longer.
    pub fn limit_memory(&self, bytes: Option<u64>) {
        let unlimited = if self.version == 1 { "-1" } else { "max" };
        let value = bytes.map_or(unlimited.to_owned(), |bytes| bytes.to_string());
        self.write(Controller::Memory.file(self.version), value);
    }

    /// Memory of all that is in it, and what the kernel caches of files for it.
    pub fn memory_bytes(&self) -> u64 {
        self.number(if self.version == 1 { "memory.usage_in_bytes" } else { "memory.current" })
    }

    /// Times that its limit of memory was met.
    pub fn limit_met(&self) -> u64 {
        if self.version == 1 { self.number("memory.failcnt") } else { self.event("memory.events", "max") }
    }

    /// Processes that the kernel killed for it.
    pub fn killed(&self) -> u64 {
        let file = if self.version == 1 { "memory.oom_control" } else { "memory.events" };
        self.event(file, "oom_kill")
    }

    /// Limits processor time to so many thousandths of one processor, in turns of 100 ms; or no longer.
    pub fn limit_processor(&self, thousandths: Option<u32>) {
        let quota = thousandths.map(|thousandths| thousandths * 100);
        if self.version == 1 {
            self.write("cpu.cfs_quota_us", quota.map_or("-1".to_owned(), |quota| quota.to_string()));
        } else {
            self.write(
                "cpu.max",
                format!("{} 100000", quota.map_or("max".into(), |quota| quota.to_string())),
            );
        }
    }

    /// Turns in which its processor time was used up.
    pub fn throttled(&self) -> u64 {
        self.event("cpu.stat", "nr_throttled")
    }

    /// A command whose process enters the group before it becomes the program.
    pub fn entered_by(&self, mut command: Command) -> Command {
        let procs = CString::new(self.path.join("cgroup.procs").as_os_str().as_bytes()).expect("a path");
        let enter = move || {
            // SAFETY: `procs` ends with a zero and the closure owns it; the second pointer is to one byte. Neither call
            // allocates or locks, as must be between fork and exec.
            let entered = unsafe {
                let file = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                file >= 0 && libc::write(file, b"0".as_ptr().cast(), 1) == 1
            };
            if entered { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: what runs between fork and exec makes two system calls and nothing else.
        unsafe { command.pre_exec(enter) };
        command
    }

    fn try_write(&self, file: &str, value: impl Display) -> std::io::Result<()> {
        std::fs::write(self.path.join(file), value.to_string())
    }

    #[track_caller]
    fn write(&self, file: &str, value: impl Display) {
        let text = value.to_string();
        self.try_write(file, value).unwrap_or_else(|error| panic!("{text} to {file}: {error}"));
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    fn number(&self, file: &str) -> u64 {
        self.read(file).trim().parse().expect("a number")
    }

    fn event(&self, file: &str, name: &str) -> u64 {
        let text = self.read(file);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {file}")).parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has just ended is in it for a moment more.
        for _ in 0..200 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        eprintln!("{} could not be removed", self.path.display());
    }
}

/// Where groups with this controller may be made: below this process's own group in version 1, beside it in version 2,
/// where processes are in leaves only and a parent has to have switched the controller on.
fn home(controller: Controller) -> Option<(PathBuf, u8)> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    // Separated by " - ": ... mount point ... - type source options.
    let mounted = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let kind = after.next()?;
        let options = after.nth(1)?;
        Some((PathBuf::from(before.split(' ').nth(4)?), kind, options))
    });
    let own_of = |wanted: &dyn Fn(&str) -> bool| {
        let line = own.lines().find(|line| line.split(':').nth(1).is_some_and(wanted))?;
        Some(line.splitn(3, ':').nth(2)?.trim_start_matches('/').to_owned())
    };
    for (mount, kind, options) in mounted {
        let has = |list: &str, by: char| list.split(by).any(|one| one == controller.name());
        match kind {
            "cgroup" if has(options, ',') => {
                let beneath = mount.join(own_of(&|names| has(names, ','))?);
                return Some((if beneath.exists() { beneath } else { mount }, 1));
            }
            "cgroup2" => {
                let beneath = mount.join(own_of(&str::is_empty)?);
                let parents = beneath.ancestors().skip(1).take_while(|path| path.starts_with(&mount));
                let enabled = |path: &Path| {
                    let file = path.join("cgroup.subtree_control");
                    std::fs::read_to_string(file).is_ok_and(|names| has(names.trim(), ' '))
                };
                let mut places = parents.chain([mount.as_path()]);
                if let Some(parent) = places.find(|path| enabled(path)) {
                    return Some((parent.to_owned(), 2));
                }
            }
            _ => {}
        }
    }
    None
}
