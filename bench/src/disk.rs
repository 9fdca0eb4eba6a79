//! What the disk does by itself: writes and syncs on a file whose every block was written before, past the page cache.
//!
//! It is the ceiling of a durable log on that disk: the server's own files are of the same kind, and lie in the same
//! directory. State: one file, as long as it is measured; nothing else touches it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::histogram::Histogram;
use crate::host::now_ns;

/// What O_DIRECT asks of any disk.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of the file: more than a disk's own memory holds on to, little enough to be written in no time.
const FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of one write while the file is made.
const FILL_BYTES: usize = 1024 * 1024;
/// The largest commit that is tried.
const COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many, in what time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Commits {
    /// Bytes of each.
    pub bytes: usize,
    /// How many.
    pub count: u64,
    /// In so long.
    pub elapsed_ns: u64,
}

impl Commits {
    /// Bytes a second.
    #[must_use]
    pub fn bytes_per_s(&self) -> f64 {
        self.count as f64 * self.bytes as f64 * 1e9 / self.elapsed_ns.max(1) as f64
    }
}

/// A file that was written once from end to end, so that writing it again allocates nothing.
#[derive(Debug)]
pub struct Recycled {
    file: File,
    path: PathBuf,
    direct: bool,
    /// Longer than a commit by a block, so that an aligned run of that length is in it.
    memory: Vec<u8>,
    at: u64,
}

impl Recycled {
    /// Makes the file in `directory`.
    ///
    /// # Errors
    /// It cannot be made: no room, no permission.
    pub fn make(directory: &Path) -> io::Result<Recycled> {
        let path = directory.join("bench-disk");
        let mut file = File::create(&path)?;
        let fill = vec![0x5a; FILL_BYTES];
        for _ in 0..FILE_BYTES / FILL_BYTES as u64 {
            file.write_all(&fill)?;
        }
        file.sync_all()?;
        drop(file);
        let direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&path);
        let (file, direct) = match direct {
            Ok(file) => (file, true),
            Err(_) => (OpenOptions::new().write(true).open(&path)?, false),
        };
        let memory = vec![0xa5; COMMIT_BYTES_MAX + BLOCK_BYTES];
        Ok(Recycled { file, path, direct, memory, at: 0 })
    }

    /// Whether the page cache is bypassed.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Commits of so many bytes (rounded up to blocks) one after the other for as long; `sync`: each is synced.
    ///
    /// # Errors
    /// The disk's.
    pub fn commits(&mut self, bytes: f64, time: Duration, sync: bool) -> io::Result<Commits> {
        let bytes = whole_blocks(bytes);
        let (begun, mut count) = (now_ns(), 0);
        let until = begun + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
        while now_ns() < until || count == 0 {
            self.commit(bytes, sync)?;
            count += 1;
        }
        Ok(Commits { bytes, count, elapsed_ns: now_ns() - begun })
    }

    /// How long each of `count` commits of one block takes, with a pause before each.
    ///
    /// # Errors
    /// The disk's.
    pub fn block_latencies(
        &mut self,
        count: usize,
        pause: Duration,
        sync: bool,
        into: &mut Histogram,
    ) -> io::Result<()> {
        for _ in 0..count {
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
            let begun = now_ns();
            self.commit(BLOCK_BYTES, sync)?;
            into.add(now_ns() - begun);
        }
        Ok(())
    }

    fn commit(&mut self, bytes: usize, sync: bool) -> io::Result<()> {
        if self.at + bytes as u64 > FILE_BYTES {
            self.at = 0;
        }
        let aligned = self.memory.as_ptr().align_offset(BLOCK_BYTES);
        // Other bytes each time: no disk can tell that it has them.
        self.memory[aligned..aligned + 8].copy_from_slice(&now_ns().to_le_bytes());
        self.file.write_all_at(&self.memory[aligned..aligned + bytes], self.at)?;
        self.at += bytes as u64;
        if sync { self.file.sync_data() } else { Ok(()) }
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.path);
    }
}

fn whole_blocks(bytes: f64) -> usize {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the bounds on the same line
    let bytes = bytes.clamp(1.0, COMMIT_BYTES_MAX as f64) as usize;
    bytes.next_multiple_of(BLOCK_BYTES).min(COMMIT_BYTES_MAX)
}

/// Reads files one after the other, past the page cache where the file system can, and what it held of them is dropped
/// before: bytes and nanoseconds.
///
/// # Errors
/// The disk's.
pub fn read_all(files: &[PathBuf]) -> io::Result<(u64, u64)> {
    let mut memory = vec![0; FILL_BYTES + BLOCK_BYTES];
    let aligned = memory.as_ptr().align_offset(BLOCK_BYTES);
    let memory = &mut memory[aligned..aligned + FILL_BYTES];
    let (mut bytes, begun) = (0, now_ns());
    for path in files {
        let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
        let file = direct.or_else(|_| File::open(path))?;
        let mut at = 0;
        loop {
            let read = file.read_at(memory, at)?;
            if read == 0 {
                break;
            }
            at += read as u64;
        }
        bytes += at;
    }
    Ok((bytes, now_ns() - begun))
}

/// Has the page cache forget a file, as far as it is on the disk.
///
/// # Errors
/// The file cannot be opened or synced.
pub fn forget(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.sync_data()?;
    // SAFETY: takes numbers; the descriptor is open over the call.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Whether a directory is in memory only: then nothing in it is durable, whatever is synced.
#[must_use]
pub fn is_in_memory(directory: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(directory.as_os_str().as_encoded_bytes()) else { return false };
    // SAFETY: a zeroed statfs is filled by the call.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals that live over the call.
    let known = unsafe { libc::statfs(path.as_ptr(), &raw mut found) } == 0;
    known && found.f_type == libc::TMPFS_MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_file_is_written_again_and_goes_when_it_is_dropped() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut disk = Recycled::make(directory.path()).expect("room for the file");
        let path = disk.path.clone();
        assert_eq!(std::fs::metadata(&path).expect("it is there").len(), FILE_BYTES);
        let commits = disk.commits(10_000.0, Duration::from_millis(20), true).expect("a disk");
        assert_eq!(commits.bytes, 12_288, "whole blocks");
        assert!(commits.count > 0 && commits.bytes_per_s() > 0.0);
        let mut found = Histogram::default();
        disk.block_latencies(10, Duration::ZERO, true, &mut found).expect("a disk");
        assert_eq!(found.count(), 10);
        assert_eq!(std::fs::metadata(&path).expect("it is there").len(), FILE_BYTES, "it never grows");
        let (bytes, ns) = read_all(std::slice::from_ref(&path)).expect("it can be read");
        assert!(bytes == FILE_BYTES && ns > 0);
        forget(&path).expect("it can be forgotten");
        drop(disk);
        assert!(!path.exists());
    }

    #[test]
    fn commits_are_whole_blocks_within_bounds() {
        for (bytes, blocks) in [(0.0, 1), (4096.0, 1), (4097.0, 2), (1e12, COMMIT_BYTES_MAX / BLOCK_BYTES)] {
            assert_eq!(whole_blocks(bytes), blocks * BLOCK_BYTES, "{bytes}");
        }
        assert!(!is_in_memory(Path::new("/proc")));
    }
}
