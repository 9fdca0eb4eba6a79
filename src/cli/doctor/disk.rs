//! The file system of the log: whether files can bypass the page cache, how long a block takes to be durable, and how
//! much room there is.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::finding;
use crate::cli::progress::about;
use crate::cli::settings::ConfigFlags;
use crate::commit_log::BLOCK_BYTES;
use crate::config::{Config, Direct};
use crate::control::files::{Opening, Step, blocking, zeros};
use crate::control::storage::start::does_direct;
use crate::io::host;
use crate::io::probe::{Finding, Level};

/// Blocks of the file that is written to. Each is written and synced as a commit of few records is.
const BLOCKS: u64 = 256;
/// Syncs measured at most, and the time for all of them.
const SYNCS_MAX: u64 = 200;
const SYNCS_WITHIN: Duration = Duration::from_millis(500);
/// No disk is so fast: what syncs faster keeps nothing.
const IMPOSSIBLE: Duration = Duration::from_micros(5);
/// What a disk that is slower costs is worth a word.
const SLOW: Duration = Duration::from_millis(5);

/// What was found; for `-o json`.
#[derive(Debug, serde::Serialize)]
pub(super) struct Disk {
    /// Where it was tried.
    dir: PathBuf,
    /// Files can bypass the page cache.
    direct: bool,
    /// Of a write of 4 KiB and its sync.
    sync_us_p50: f64,
    sync_us_p99: f64,
    /// Of the file system.
    bytes: u64,
    /// Left for this user.
    free_bytes: u64,
}

/// Tries the file system of the configuration's log; nothing where the configuration is refused, which another finding
/// says.
pub(super) fn look(flags: &ConfigFlags) -> (Option<Disk>, Vec<Finding>) {
    let Ok(loaded) = flags.load() else { return (None, Vec::new()) };
    let config = loaded.config;
    let dir = existing(&config.log_dir());
    match tried(&dir, config.storage.direct) {
        Ok(disk) => {
            let findings = findings(&disk, &config);
            (Some(disk), findings)
        }
        Err(error) => {
            let what = format!("log: cannot write to {}: {error}", dir.display());
            let remedy = "give this user the directory, or name another with --data or storage.dir";
            (None, vec![finding(Level::Bad, what, "the server does not start with it", remedy)])
        }
    }
}

/// The directory, or the nearest above it that there is.
fn existing(dir: &Path) -> PathBuf {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    absolute.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn tried(dir: &Path, wanted: Direct) -> io::Result<Disk> {
    let direct = does_direct(dir)?;
    let path = dir.join(format!("doctor-{}.new", std::process::id()));
    let measured = syncs(&path, direct && wanted == Direct::Auto);
    let removed = std::fs::remove_file(&path);
    let mut took = measured?;
    removed?;
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).map_or(0.0, |took| took.as_secs_f64() * 1e6);
    let (bytes, free_bytes) = host::space(dir)?;
    Ok(Disk { dir: dir.to_owned(), direct, sync_us_p50: at(50), sync_us_p99: at(99), bytes, free_bytes })
}

/// How long blocks take that are written one after the other, each synced.
fn syncs(path: &Path, direct: bool) -> io::Result<Vec<Duration>> {
    let step = Step::Reserve { path: path.to_owned(), bytes: BLOCKS * BLOCK_BYTES, zeroed: true, direct };
    blocking::apply(&step)?;
    let file = blocking::open(path, Opening { write: true, direct })?;
    let (mut took, began) = (Vec::new(), Instant::now());
    for number in 0..SYNCS_MAX {
        let before = Instant::now();
        file.write_all_at(zeros(BLOCK_BYTES), number % BLOCKS * BLOCK_BYTES)?;
        file.sync_data()?;
        took.push(before.elapsed());
        if began.elapsed() > SYNCS_WITHIN {
            break;
        }
    }
    Ok(took)
}

fn findings(disk: &Disk, config: &Config) -> Vec<Finding> {
    vec![direct(disk, config), sync(disk), room(disk, config)]
}

fn direct(disk: &Disk, config: &Config) -> Finding {
    let dir = disk.dir.display();
    match (disk.direct, config.storage.direct) {
        (true, Direct::Auto) => {
            finding(Level::Ok, format!("log: files in {dir} bypass the page cache (O_DIRECT)"), "", "")
        }
        (true, Direct::Off) => finding(
            Level::Note,
            format!("log: files in {dir} could bypass the page cache, and storage.direct is off"),
            "a copy of every byte, and memory that others could use",
            "storage.direct = \"auto\"",
        ),
        (false, _) => finding(
            Level::Note,
            format!("log: the file system of {dir} has no direct I/O"),
            "topics of kind log go through the page cache: a copy of every byte, and memory that others could use",
            "put the data directory, or storage.dir, on ext4 or XFS",
        ),
    }
}

fn sync(disk: &Disk) -> Finding {
    let what = format!(
        "log: 4 KiB are durable after {:.0} us (p99 {:.0} us) in {}",
        disk.sync_us_p50,
        disk.sync_us_p99,
        disk.dir.display()
    );
    let median = Duration::from_secs_f64(disk.sync_us_p50 / 1e6);
    if median < IMPOSSIBLE {
        return finding(
            Level::Warn,
            what,
            "no disk is so fast: this file system is in memory, or leaves out syncs, and `durable` survives no power loss",
            "put the data directory, or storage.dir, on a disk",
        );
    }
    let commits = format!(
        "a `durable` acknowledgement takes at least that; about {:.0} commits a second",
        1e6 / disk.sync_us_p50
    );
    if median > SLOW {
        let remedy =
            "a disk with power-loss protection, or acknowledgements of level `written` where that will do";
        return finding(Level::Note, what, &commits, remedy);
    }
    Finding { costs: commits, ..finding(Level::Ok, what, "", "") }
}

fn room(disk: &Disk, config: &Config) -> Finding {
    let storage = &config.storage;
    let needed = storage.retention_bytes.saturating_add(2 * storage.segment_bytes);
    let what = format!(
        "log: {} of {} are free in {}",
        about(disk.free_bytes),
        about(disk.bytes),
        disk.dir.display()
    );
    if disk.free_bytes >= needed {
        return finding(Level::Ok, what, "", "");
    }
    let costs = format!("one partition of kind log may come to take {}", about(needed));
    let remedy = "make room, lower storage.retention_bytes, or set storage.budget_bytes below what is free";
    finding(Level::Warn, what, &costs, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = tried(directory.path(), Direct::Auto).expect("it can be written to");
        assert!(
            disk.sync_us_p50 > 0.0 && disk.sync_us_p99 >= disk.sync_us_p50 && disk.free_bytes <= disk.bytes
        );
        assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 0, "nothing is left");
        assert!(tried(Path::new("/proc"), Direct::Auto).is_err());
        assert_eq!(existing(&directory.path().join("a/b")), directory.path());
    }

    #[test]
    fn each_figure_means_something() {
        let config = Config::default();
        let good = || Disk {
            dir: "/d".into(),
            direct: true,
            sync_us_p50: 200.0,
            sync_us_p99: 900.0,
            bytes: 1 << 40,
            free_bytes: 1 << 39,
        };
        let levels = |disk: &Disk| findings(disk, &config).iter().map(|one| one.level).collect::<Vec<_>>();
        assert_eq!(levels(&good()), [Level::Ok, Level::Ok, Level::Ok]);
        assert_eq!(levels(&Disk { direct: false, ..good() })[0], Level::Note);
        assert_eq!(levels(&Disk { sync_us_p50: 1.0, ..good() })[1], Level::Warn);
        assert_eq!(levels(&Disk { sync_us_p50: 9_000.0, ..good() })[1], Level::Note);
        assert_eq!(levels(&Disk { free_bytes: 1 << 20, ..good() })[2], Level::Warn);
        assert!(findings(&good(), &config)[1].costs.contains("5000 commits a second"));
    }
}
