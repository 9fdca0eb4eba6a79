//! Control's file work: a handful of steps, planned by pure code and carried out by a [`Files`].
//!
//! The one pattern is the atomic replacement of a small file: write beside it, sync, rename over it, sync the
//! directory. After a crash at any point the name holds the old bytes or the new ones, never a mixture
//! (rename(2); fsync of the directory makes the new name survive power loss).

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(test)]
pub(crate) mod sim;
#[cfg(test)]
mod tests;
#[cfg(feature = "uring")]
mod uring;

/// One operation on files. Each may be interrupted by a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Creates or empties the file, writes all bytes, syncs them.
    Write {
        /// The file.
        path: PathBuf,
        /// Its whole contents.
        bytes: Vec<u8>,
    },
    /// Lets `to` name what `from` names now. Nothing happens when `from` does not exist.
    Keep {
        /// An existing file.
        from: PathBuf,
        /// A second name for it, replaced if there is one.
        to: PathBuf,
    },
    /// `rename(2)`: atomically replaces `to`.
    Rename {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// Makes the names in a directory durable.
    SyncDir {
        /// The directory.
        path: PathBuf,
    },
}

impl Step {
    fn path(&self) -> &Path {
        match self {
            Step::Write { path, .. } | Step::SyncDir { path } => path,
            Step::Keep { to, .. } | Step::Rename { to, .. } => to,
        }
    }

    const fn doing(&self) -> &'static str {
        match self {
            Step::Write { .. } => "write",
            Step::Keep { .. } => "keep the previous version as",
            Step::Rename { .. } => "rename to",
            Step::SyncDir { .. } => "sync the directory",
        }
    }
}

/// The environment refused a file operation.
#[derive(Debug)]
pub struct FileError {
    /// What was being done, as a verb.
    pub doing: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {} {}: {}", self.doing, self.path.display(), self.source)
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A world of files: the disk, or a simulated one.
pub trait Files {
    /// The whole file; `None` when it does not exist.
    ///
    /// # Errors
    /// What the kernel said.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Carries out one step.
    ///
    /// # Errors
    /// What the kernel said; the step may have happened in part.
    fn apply(&self, step: &Step) -> impl Future<Output = io::Result<()>>;
}

/// The steps that replace `path` by `bytes`, keeping the previous version as `previous`.
#[must_use]
pub fn replacement(path: &Path, bytes: Vec<u8>, previous: Option<&Path>) -> Vec<Step> {
    let beside = with_suffix(path, ".new");
    let mut steps = vec![Step::Write { path: beside.clone(), bytes }];
    if let Some(previous) = previous {
        steps.push(Step::Keep { from: path.to_owned(), to: previous.to_owned() });
    }
    steps.push(Step::Rename { from: beside, to: path.to_owned() });
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    steps.push(Step::SyncDir { path: directory.unwrap_or(Path::new(".")).to_owned() });
    steps
}

/// Replaces a file atomically and durably; see [`replacement`].
///
/// # Errors
/// The first step that failed; the file then holds the old bytes or the new ones.
pub async fn replace<F: Files>(
    files: &F,
    path: &Path,
    bytes: Vec<u8>,
    previous: Option<&Path>,
) -> Result<(), FileError> {
    for step in replacement(path, bytes, previous) {
        files.apply(&step).await.map_err(|source| FileError {
            doing: step.doing(),
            path: step.path().to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// `path` with `suffix` behind its last component.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}

/// The disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Through io_uring; only inside a tokio-uring runtime.
    #[cfg(feature = "uring")]
    Uring,
    /// Through blocking system calls: at start-up, and where control runs on plain tokio.
    Blocking,
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn apply(&self, step: &Step) -> io::Result<()> {
        match self {
            #[cfg(feature = "uring")]
            Disk::Uring => uring::apply(step).await,
            Disk::Blocking => apply_blocking(step),
        }
    }
}

fn apply_blocking(step: &Step) -> io::Result<()> {
    use std::io::Write as _;
    match step {
        Step::Write { path, bytes } => {
            let mut file = std::fs::File::create(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        }
        Step::Rename { from, to } => std::fs::rename(from, to),
        Step::SyncDir { path } => std::fs::File::open(path)?.sync_all(),
        Step::Keep { from, to } => keep(from, to),
    }
}

/// A hard link under a new name, then renamed over `to`; a copy where the file system has no hard links.
fn keep(from: &Path, to: &Path) -> io::Result<()> {
    if !from.try_exists()? {
        return Ok(());
    }
    let beside = with_suffix(to, ".new");
    match std::fs::remove_file(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if std::fs::hard_link(from, &beside).is_err() {
        std::fs::copy(from, &beside)?;
    }
    std::fs::rename(&beside, to)?;
    // rename(2) does nothing when both names are the same file already, and leaves the old name.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
