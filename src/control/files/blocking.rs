//! Steps through blocking system calls.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::{Opening, Step, with_suffix, zeros};
use crate::commit_log::BLOCK_BYTES;
use crate::io::host;

pub(crate) fn apply(step: &Step) -> io::Result<()> {
    match step {
        Step::Write { path, bytes } => {
            let mut file = File::create(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        }
        Step::Rename { from, to } => std::fs::rename(from, to),
        Step::SyncDir { path } => File::open(path)?.sync_all(),
        Step::Keep { from, to } => keep(from, to),
        Step::Reserve { path, bytes, zeroed, direct } => {
            let file = reserve(path, *bytes, *direct)?;
            fill(&file, if *zeroed { *bytes } else { 0 })?;
            file.sync_all()
        }
        Step::Blank { path, direct } => {
            let file = open(path, Opening { write: true, direct: *direct })?;
            fill(&file, BLOCK_BYTES)?;
            file.sync_all()
        }
        Step::Remove { path } => gone(std::fs::remove_file(path)),
        Step::MakeDir { path } => std::fs::create_dir_all(path),
        Step::RemoveDir { path } => gone(std::fs::remove_dir_all(path)),
    }
}

pub(crate) fn open(path: &Path, how: Opening) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(how.write);
    flags(&mut options, how.direct).open(path)
}

/// The file, empty of content and with room for all of it.
pub(crate) fn reserve(path: &Path, bytes: u64, direct: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let file = flags(&mut options, direct).open(path)?;
    match host::allocate(file.as_fd(), bytes) {
        // Such a file system has no way to reserve: the zeros do.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => file.set_len(bytes)?,
        other => other?,
    }
    Ok(file)
}

fn flags(options: &mut OpenOptions, direct: bool) -> &mut OpenOptions {
    if direct { options.custom_flags(libc::O_DIRECT) } else { options }
}

fn fill(file: &File, bytes: u64) -> io::Result<()> {
    let mut at = 0;
    while at < bytes {
        let part = zeros(bytes - at);
        file.write_all_at(part, at)?;
        at += part.len() as u64;
    }
    Ok(())
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A hard link under a new name, then renamed over `to`; a copy where the file system has no hard links.
pub(crate) fn keep(from: &Path, to: &Path) -> io::Result<()> {
    if !from.try_exists()? {
        return Ok(());
    }
    let beside = with_suffix(to, ".new");
    gone(std::fs::remove_file(&beside))?;
    if std::fs::hard_link(from, &beside).is_err() {
        std::fs::copy(from, &beside)?;
    }
    std::fs::rename(&beside, to)?;
    // rename(2) does nothing when both names are the same file already, and leaves the old name.
    gone(std::fs::remove_file(&beside))
}
