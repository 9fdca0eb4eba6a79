//! The disk is full: the server's whole directory is on a small file system of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{Figures, Skipped};
use crate::load::{Load, here, is_ready};
use crate::network::tool;
use crate::rig::{Case, ended, wait_for_metric};
use crate::support::wait_for;

/// In which everything goes on: it looks for room every second.
const RECOVERS: Duration = Duration::from_secs(15);
const DISK_BYTES: u64 = 64 << 20;

/// A small file system, mounted where this thread and the processes that it starts see it and nobody else: it goes with
/// the last of them.
struct Small {
    at: PathBuf,
    kind: &'static str,
}

impl Small {
    fn mount(beside: &Path) -> Result<Small, Skipped> {
        // SAFETY: the call takes no pointer; the thread is the case's own, and so is its view of mounts from here on.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            let why = std::io::Error::last_os_error();
            return Err(Skipped(format!("a mount namespace of its own: {why} (needs root)")));
        }
        let skipped = |why| Skipped(format!("a small file system: {why}"));
        tool("mount", &["--make-rprivate", "/"]).map_err(skipped)?;
        let (at, image) = (beside.join("small"), beside.join("uringest-chaos.ext4"));
        std::fs::create_dir(&at).expect("a directory");
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let file = std::fs::File::create(&image).and_then(|file| file.set_len(DISK_BYTES));
        file.expect("a file with a hole");
        let ext4 = tool("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&image)])
            .and_then(|_| tool("mount", &["-o", "loop", &text(&image), &text(&at)]));
        let Err(no_loop) = ext4 else { return Ok(Small { at, kind: "ext4 on a loop device" }) };
        eprintln!("no ext4 on a loop device, a tmpfs stands in for it: {no_loop}");
        let size = format!("size={DISK_BYTES}");
        tool("mount", &["-t", "tmpfs", "-o", &size, "uringest-chaos", &text(&at)]).map_err(skipped)?;
        Ok(Small { at, kind: "tmpfs" })
    }

    /// Takes all the room but for this much of it.
    fn fill(&self, but: u64) {
        let free = tool("df", &["--output=avail", "-B1", self.at.to_str().expect("UTF-8")]);
        let free = free.expect("df of coreutils");
        let free: u64 = free.lines().last().and_then(|line| line.trim().parse().ok()).expect("a number");
        let ballast = vec![1; usize::try_from(free.saturating_sub(but)).expect("small")];
        std::fs::write(self.at.join("ballast"), ballast).expect("room for it");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.at.join("ballast")).expect("it was there");
    }
}

/// Twice there is no room, and then there is.
/// What must hold: the log's producers are asked to wait, with `disk_full` as the reason, and nobody else is; `/readyz`
/// says it; commands that have to be saved are refused and change nothing; with room all goes on by itself.
pub fn full(case: &Case) -> Result<Figures, Skipped> {
    let directory = tempfile::tempdir().expect("a directory");
    let small = Small::mount(directory.path())?;
    std::os::unix::fs::symlink(&small.at, directory.path().join("data")).expect("a link");
    let args = [
        "--shards",
        "2",
        "--storage-segment-bytes",
        "1MiB",
        "--topics-log-ring-bytes",
        "4MiB",
        "--storage-retention-bytes",
        "1GiB",
    ];
    let server = case.start_in(directory.path(), &args);
    let load = Load::of_both_kinds(&server, &here);
    let mut recovery = Duration::ZERO;
    for _ in 0..2 {
        small.fill(3 << 20);
        wait_for("the disk to be full", || is_ready(&server).contains("log_disk_full").then_some(()));
        wait_for_metric(&server, "uringest_log_partitions_full", 1.0);
        let in_memory = || load.writers().last().expect("of the topic in memory").acked();
        let in_log = || load.writers().next().expect("of the log").acked();
        let mut last = 0;
        wait_for("the files that there are to be full", || {
            load.go_on(Duration::from_millis(300));
            let before = std::mem::replace(&mut last, in_log());
            (before == last).then_some(())
        });
        let memory = in_memory();
        load.go_on(Duration::from_millis(300));
        assert!(in_memory() > memory, "a topic in memory needs no disk");
        assert_eq!(in_log(), last, "the log takes no more than it has room for");
        let admin = server.admin.to_string();
        let (code, _, said) = ended(&["topic", "create", "no-room", "--kind", "log", "--admin", &admin]);
        assert!(code == Some(4) && said.contains("disk_full"), "{code:?}: {said}");
        assert!(!server.page("/v1/topics").contains("no-room"), "what is refused is not there");
        small.make_room();
        recovery = recovery.max(load.recovers(RECOVERS));
        wait_for("it to be over", || (!is_ready(&server).contains("log_disk_full")).then_some(()));
    }
    let refusals = server.metric("uringest_refusals_total{shard=\"0\",code=\"disk_full\"}")
        + server.metric("uringest_refusals_total{shard=\"1\",code=\"disk_full\"}");
    assert!(refusals > 0.0, "with the true reason");
    Ok(load.finish(recovery).note("disk_full refusals", refusals).note("disk", small.kind))
}
