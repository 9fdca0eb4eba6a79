//! The log's directory as the start uses it: at once, on the thread that asks, before anything else runs.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::recover::Folder;
use crate::commit_log::recovery::LogStore;
use crate::control::files::{Step, blocking};

/// Bytes that are written again at once.
const AGAIN_BYTES: usize = 1 << 20;

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

    /// Writes again what a file holds there, as it is read now. Where a sync has failed, what is read may be in memory
    /// alone, and no other sync writes it.
    ///
    /// # Errors
    /// What the kernel said; part of it may have been written.
    fn write_again(&self, path: &Path, bytes: Range<u64>) -> io::Result<()>;

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

    fn write_again(&self, path: &Path, bytes: Range<u64>) -> io::Result<()> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut piece = vec![0; AGAIN_BYTES];
        let mut at = bytes.start;
        while at < bytes.end {
            let wanted = usize::try_from(bytes.end - at).map_or(AGAIN_BYTES, |left| left.min(AGAIN_BYTES));
            match file.read_at(&mut piece[..wanted], at) {
                Ok(0) => break,
                Ok(read) => {
                    file.write_all_at(&piece[..read], at)?;
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_data()
    }

    fn store(&self, folder: &Path, segments: Vec<(u64, u64)>) -> Folder {
        Folder::of(folder, segments)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_is_written_again_is_what_was_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.seg");
        let held: Vec<u8> =
            (0..3 * AGAIN_BYTES + 5).map(|at| u8::try_from(at % 251).expect("small")).collect();
        let written = |bytes: Range<u64>| {
            let file = File::options().write(true).open(&path).expect("it is there");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("it is ours");
            OnDisk.write_again(&path, bytes).expect("nothing stands in the way");
            assert!(std::fs::read(&path).expect("it is there") == held);
            file.metadata().expect("it is there").modified().expect("Linux knows") > SystemTime::UNIX_EPOCH
        };
        std::fs::write(&path, &held).expect("there is room");
        assert!(written(4096..8192));
        assert!(written(0..2 * AGAIN_BYTES as u64 + 1));
        assert!(
            written(held.len() as u64 - 3..held.len() as u64 + 4096),
            "the file ends before, and grows no longer"
        );
        assert!(!written(8192..8192));
    }
}
