//! How a segment's file comes to be, and how it goes: sequences of file steps that a crash may end anywhere.
//!
//! A name that ends in `.seg` is durable before a shard writes to the file. What is half-made is called `.new`, what
//! waits to be used again `.free`: neither is ever read as a segment, and both are taken away at the next start.

use std::path::{Path, PathBuf};

use super::super::files::{FileError, Files, Opening, Step, apply_all, with_suffix};
use super::shelf::Shelf;
use crate::commit_log::format::LogFile;
use crate::io::FileHandle;
use crate::mutation::{self, Mutation};

/// A file that was begun and is not whole.
pub(super) const HALF_MADE: &str = ".new";
/// A file that waits to be used again.
pub(super) const FREE: &str = ".free";

/// How the files of a log are made and opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making {
    /// Past the page cache.
    pub direct: bool,
    /// Zeros are written into new files: later writes to them cost less.
    pub zeroed: bool,
}

/// A segment's file, wanted in a folder.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub folder: PathBuf,
    pub sequence: u64,
    pub bytes: u64,
    /// A free file of that length.
    pub recycled: Option<PathBuf>,
}

/// Makes the file, durable by name, and opens it.
///
/// # Errors
/// The step that failed; what was made is removed, where that is possible.
pub(super) async fn make<F: Files>(
    files: &F,
    wanted: &Wanted,
    making: Making,
) -> Result<FileHandle, FileError> {
    let path = wanted.folder.join(LogFile::Segment(wanted.sequence).name());
    let Making { direct, zeroed } = making;
    let (beside, first) = match &wanted.recycled {
        Some(free) => (free.clone(), Step::Blank { path: free.clone(), direct }),
        None => {
            let beside = with_suffix(&path, HALF_MADE);
            let step = Step::Reserve { path: beside.clone(), bytes: wanted.bytes, zeroed, direct };
            (beside, step)
        }
    };
    let steps = [
        first,
        Step::Rename { from: beside.clone(), to: path.clone() },
        Step::SyncDir { path: wanted.folder.clone() },
    ];
    let steps = &steps[..steps.len() - usize::from(mutation::on(Mutation::SegmentUnsynced))];
    let made = match apply_all(files, steps).await {
        Ok(()) => open(files, &path, true, direct).await,
        Err(error) => Err(error),
    };
    if made.is_err() {
        // Room that a file takes which nobody has would be missed by others, by whichever name it goes now. What cannot be
        // removed is so at the next start.
        for path in [beside, path] {
            let _ = files.apply(&Step::Remove { path }).await;
        }
    }
    made
}

/// Opens a segment's file for a shard.
///
/// # Errors
/// What the kernel said.
pub(super) async fn open<F: Files>(
    files: &F,
    path: &Path,
    write: bool,
    direct: bool,
) -> Result<FileHandle, FileError> {
    let opened = files.open(path, Opening { write, direct }).await;
    opened.map_err(|source| FileError { doing: "open", path: path.to_owned(), source })
}

/// What becomes of a retired segment's file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Retirement {
    pub steps: Vec<Step>,
    /// It waits to be used again under this name.
    pub free: Option<PathBuf>,
}

/// The steps that take a retired segment out of the partition. The index goes first: it is worth nothing alone.
pub(super) fn retirement(shelf: &Shelf, sequence: u64, reuse: bool) -> Retirement {
    let (segment, index) = (shelf.segment(sequence), shelf.index(sequence));
    let mut steps = vec![Step::Remove { path: index }];
    if !reuse {
        steps.push(Step::Remove { path: segment });
        return Retirement { steps, free: None };
    }
    let free = with_suffix(&segment, FREE);
    steps.push(Step::Rename { from: segment, to: free.clone() });
    Retirement { steps, free: Some(free) }
}
