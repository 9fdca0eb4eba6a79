//! Control's file work: a handful of steps, planned by pure code and carried out by a [`Files`].
//!
//! The one pattern is the atomic replacement of a small file: write beside it, sync, rename over it, sync the
//! directory. After a crash at any point the name holds the old bytes or the new ones, never a mixture
//! (rename(2); fsync of the directory makes the new name survive power loss).

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use crate::io::FileHandle;
use crate::mutation::{self, Mutation};

pub(crate) mod blocking;
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
    /// Creates or empties the file, reserves room for all of it, fills it with zeros where that is asked for, and
    /// syncs it.
    Reserve {
        /// The file.
        path: PathBuf,
        /// Its length: whole blocks.
        bytes: u64,
        /// Writes the zeros, so that later writes change no metadata; without, the file only reads as zeros.
        zeroed: bool,
        /// Past the page cache.
        direct: bool,
    },
    /// Fills the first block of an existing file with zeros and syncs it.
    Blank {
        /// The file.
        path: PathBuf,
        /// Past the page cache.
        direct: bool,
    },
    /// Takes a file away; one that does not exist is gone already.
    Remove {
        /// The file.
        path: PathBuf,
    },
    /// Creates a directory; one that exists is there already.
    MakeDir {
        /// The directory.
        path: PathBuf,
    },
    /// Takes a directory away with all that is in it; one that does not exist is gone already.
    RemoveDir {
        /// The directory.
        path: PathBuf,
    },
}

impl Step {
    /// The file or directory it is about.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Step::Write { path, .. }
            | Step::SyncDir { path }
            | Step::Reserve { path, .. }
            | Step::Blank { path, .. }
            | Step::Remove { path }
            | Step::MakeDir { path }
            | Step::RemoveDir { path } => path,
            Step::Keep { to, .. } | Step::Rename { to, .. } => to,
        }
    }

    /// As a verb, for messages.
    pub(crate) const fn doing(&self) -> &'static str {
        match self {
            Step::Write { .. } => "write",
            Step::Keep { .. } => "keep the previous version as",
            Step::Rename { .. } => "rename to",
            Step::SyncDir { .. } => "sync the directory",
            Step::Reserve { .. } => "reserve room for",
            Step::Blank { .. } => "clear the first block of",
            Step::Remove { .. } => "remove",
            Step::MakeDir { .. } => "make the directory",
            Step::RemoveDir { .. } => "remove the directory",
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

impl FileError {
    /// The file system, or a quota, has no room.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
    }

    /// The process, or the machine, has no descriptor left for it.
    #[must_use]
    pub fn wants_descriptors(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    }
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

    /// Opens a file for a shard.
    ///
    /// # Errors
    /// What the kernel said.
    fn open(&self, path: &Path, how: Opening) -> impl Future<Output = io::Result<FileHandle>>;
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Writing too, and not reading alone.
    pub write: bool,
    /// Past the page cache.
    pub direct: bool,
}

/// Carries out steps in their order.
///
/// # Errors
/// The first step that failed; those before it have happened.
pub async fn apply_all<F: Files>(files: &F, steps: &[Step]) -> Result<(), FileError> {
    for step in steps {
        files.apply(step).await.map_err(|source| FileError {
            doing: step.doing(),
            path: step.path().to_owned(),
            source,
        })?;
    }
    Ok(())
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
    if !mutation::on(Mutation::NameUnsynced) {
        steps.push(Step::SyncDir { path: directory.unwrap_or(Path::new(".")).to_owned() });
    }
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
    apply_all(files, &replacement(path, bytes, previous)).await
}

/// `path` with `suffix` behind its last component.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}

/// Some work on files, with what it comes to.
pub type FileWork<T> = Pin<Box<dyn Future<Output = io::Result<T>>>>;

/// Files that are not this machine's: what [`Files`] does, of a world that is chosen while the program runs.
pub trait Volume: std::fmt::Debug {
    /// See [`Files::read`].
    ///
    /// # Errors
    /// What that world's kernel said.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// See [`Files::apply`].
    fn apply(&self, step: Step) -> FileWork<()>;
    /// See [`Files::open`].
    fn open(&self, path: PathBuf, how: Opening) -> FileWork<FileHandle>;
}

/// The disk.
#[derive(Debug, Clone)]
pub enum Disk {
    /// Through io_uring; only inside a tokio-uring runtime.
    #[cfg(feature = "uring")]
    Uring,
    /// Through blocking system calls, on other threads: at start-up, and where control runs on plain tokio. Only inside
    /// a runtime.
    Blocking,
    /// Another world's.
    Other(Rc<dyn Volume>),
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        if let Disk::Other(volume) = self {
            return volume.read(path);
        }
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
            Disk::Blocking => {
                let step = step.clone();
                off_thread(move || blocking::apply(&step)).await
            }
            Disk::Other(volume) => volume.apply(step.clone()).await,
        }
    }

    async fn open(&self, path: &Path, how: Opening) -> io::Result<FileHandle> {
        let path = path.to_owned();
        if let Disk::Other(volume) = self {
            return volume.open(path, how).await;
        }
        let file = off_thread(move || blocking::open(&path, how)).await?;
        Ok(FileHandle::Fd { fd: file.into(), direct: how.direct })
    }
}

/// Runs what may block where it keeps nobody waiting.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(ended) => Err(io::Error::other(ended)),
    }
}

/// What files are filled with: aligned as direct I/O asks.
#[repr(align(4096))]
struct Zeros([u8; ZEROS_BYTES]);

const ZEROS_BYTES: usize = 256 * 1024;
static ZEROS: Zeros = Zeros([0; ZEROS_BYTES]);

/// As many of them as `left` asks for, and there are.
pub(crate) fn zeros(left: u64) -> &'static [u8] {
    &ZEROS.0[..usize::try_from(left).unwrap_or(ZEROS_BYTES).min(ZEROS_BYTES)]
}
