//! Copying files with their digests, and reading what was copied.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::super::{Exit, Failure, Outcome};
use super::manifest::{FileEntry, hexadecimal};
use crate::commit_log::format::partition_folder;
use crate::commit_log::recovery::{Recovery, Request, recover};
use crate::control::storage::recover::Folder;
use crate::ids::PartitionId;
use crate::io::host::{self, Advice};

/// Bytes copied at a time.
const PART_BYTES: usize = 1 << 20;

/// A file was copied.
pub(super) struct Copied {
    /// Of the bytes that were copied.
    pub sha256: String,
}

/// What a failed file operation says.
pub(super) fn failed<'p>(doing: &'static str, path: &'p Path) -> impl Fn(io::Error) -> Failure + 'p {
    move |error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "run it as the server's user",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room, or name another directory"
            }
            _ => "",
        };
        Failure::new(Exit::Failed, format!("cannot {doing} {}: {error}", path.display()), remedy)
    }
}

/// Makes a directory that has to be empty or new, for records: nobody else is to read what comes into it.
pub(super) fn new_directory(path: &Path) -> Outcome {
    host::keep_from_others();
    std::fs::create_dir_all(path).map_err(failed("make", path))?;
    must_be_empty(path)
}

/// Refuses a directory with something in it.
pub(super) fn must_be_empty(path: &Path) -> Outcome {
    let mut entries = std::fs::read_dir(path).map_err(failed("list", path))?;
    if entries.next().is_some() {
        let message = format!("{} is not empty", path.display());
        return Err(Failure::new(Exit::Failed, message, "name a new directory, or empty this one"));
    }
    Ok(())
}

/// Copies the first `bytes.0` of a file to a new one of `bytes.1`, and syncs it. `told` hears of what is done.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    bytes: (u64, u64),
    told: &mut dyn FnMut(u64) -> Outcome,
) -> Result<Copied, Failure> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(failed("make", parent))?;
    }
    let mut source = File::open(from).map_err(failed("open", from))?;
    let mut target = File::create_new(to).map_err(failed("make", to))?;
    host::advise(source.as_fd(), 0, 0, Advice::Sequential);
    let (mut digest, mut part, mut done) = (Sha256::new(), vec![0; PART_BYTES], 0);
    while done < bytes.0 {
        let wanted = part.len().min(usize::try_from(bytes.0 - done).unwrap_or(part.len()));
        source.read_exact(&mut part[..wanted]).map_err(failed("read", from))?;
        target.write_all(&part[..wanted]).map_err(failed("write", to))?;
        digest.update(&part[..wanted]);
        host::advise(source.as_fd(), done, wanted as u64, Advice::Done);
        done += wanted as u64;
        told(done)?;
    }
    target.set_len(bytes.1).map_err(failed("write", to))?;
    target.sync_all().map_err(failed("sync", to))?;
    Ok(Copied { sha256: hexadecimal(&digest.finalize()) })
}

/// Writes a small file and syncs it.
pub(super) fn write(path: &Path, name: &str, bytes: &[u8]) -> Result<FileEntry, Failure> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(failed("write", path))?;
    let (length, sha256) = (bytes.len() as u64, hexadecimal(&Sha256::digest(bytes)));
    Ok(FileEntry { name: name.to_owned(), bytes: length, file_bytes: length, sha256 })
}

/// Makes the names of a whole tree durable; its files are.
pub(super) fn sync_tree(directory: &Path) -> Outcome {
    let entries = std::fs::read_dir(directory).map_err(failed("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(failed("list", directory))?;
        if entry.file_type().map_err(failed("look at", directory))?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", directory))
}

/// What a start would find in a partition's folder; nothing where it has none. `told` hears that it goes on.
pub(super) fn recovered(
    log: &Path,
    partition: u32,
    use_snapshots: bool,
    told: &mut dyn FnMut() -> Outcome,
) -> Result<Recovery, Failure> {
    let partition = PartitionId(partition);
    let path = log.join(partition_folder(partition));
    if !path.exists() {
        return Ok(Recovery::default());
    }
    let folder = Folder::open(&path).map_err(failed("list", &path))?;
    let mut buffer = vec![0; PART_BYTES];
    let request = Request { partition, use_snapshots };
    let mut heard = Ok(());
    let mut progress = |_, _| {
        if heard.is_ok() {
            heard = told();
        }
    };
    let found = recover(&folder, request, &mut buffer, &mut progress).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        Failure::new(Exit::Failed, message, error.remedy())
    });
    heard.and(found)
}
