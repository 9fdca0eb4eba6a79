//! The log's directory as the start uses it: at once, on the thread that asks, before anything else runs.

use std::fs::File;
use std::io;
use std::path::Path;

use super::recover::Folder;
use crate::commit_log::recovery::LogStore;
use crate::control::files::{Step, blocking};

/// A tree of files. [`OnDisk`] is this machine's; a world that is stepped has its own.
pub trait Tree {
    /// A partition's folder, to be read.
    type Store: LogStore;

    /// What is in a directory, by name.
    ///
    /// # Errors
    /// What the kernel said.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Bytes of a file.
    ///
    /// # Errors
    /// What the kernel said.
    fn length(&self, path: &Path) -> io::Result<u64>;

    /// Carries out one step.
    ///
    /// # Errors
    /// What the kernel said; the step may have happened in part.
    fn apply(&self, step: &Step) -> io::Result<()>;

    /// Makes durable what a file holds.
    ///
    /// # Errors
    /// What the kernel said.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// A partition's folder, in which there are these segments with their lengths.
    fn store(&self, folder: &Path, segments: Vec<(u64, u64)>) -> Self::Store;
}

/// This machine's.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnDisk;

impl Tree for OnDisk {
    type Store = Folder;

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        std::fs::metadata(path).map(|found| found.len())
    }

    fn apply(&self, step: &Step) -> io::Result<()> {
        blocking::apply(step)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_data()
    }

    fn store(&self, folder: &Path, segments: Vec<(u64, u64)>) -> Folder {
        Folder::of(folder, segments)
    }
}
