//! A partition's directory, for recovery to read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::super::progress::Progress;
use super::super::{Exit, Failure};
use super::place::Place;
use crate::commit_log::BLOCK_BYTES;
use crate::commit_log::format::LogFile;
use crate::commit_log::recovery::{LogStore, Recovery, Request, recover};

/// Read at once.
pub const BUFFER_BYTES: usize = 1024 * 1024;

/// See the module.
pub struct Folder {
    path: PathBuf,
    /// The segment that was read last.
    open: RefCell<Option<(u64, File)>>,
    /// What the disk does not give is read as zeros, and counted as damage then.
    lenient: bool,
    unreadable: RefCell<BTreeSet<(u64, u64)>>,
}

impl Folder {
    pub fn new(place: &Place, lenient: bool) -> Folder {
        let unreadable = RefCell::default();
        Folder { path: place.path.clone(), open: RefCell::new(None), lenient, unreadable }
    }

    pub fn file(&self, file: LogFile) -> PathBuf {
        self.path.join(file.name())
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Bytes that the disk did not give.
    pub fn unreadable_bytes(&self) -> u64 {
        self.unreadable.borrow().len() as u64 * BLOCK_BYTES
    }

    /// Reads a whole log. `doing` is said before how far it is, on a terminal.
    pub fn recover(
        &self,
        place: &Place,
        use_snapshots: bool,
        doing: &'static str,
    ) -> Result<Recovery, Failure> {
        let (mut line, name) = (Progress::new(doing), place.name());
        let mut buffer = vec![0; BUFFER_BYTES];
        let request = Request { partition: place.id, use_snapshots };
        let recovered = recover(self, request, &mut buffer, &mut |done, all| line.at(done, all, &name));
        drop(line);
        recovered.map_err(|error| {
            let message = format!("{}: {error}", self.path.display());
            Failure::new(Exit::Failed, message, error.remedy())
        })
    }

    /// Reads exactly so many bytes.
    pub fn read_exact(&self, sequence: u64, mut at: u64, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            let read = self.read(sequence, at, into)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += read as u64;
            into = &mut into[read..];
        }
        Ok(())
    }

    fn read(&self, sequence: u64, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut open = self.open.borrow_mut();
        if open.as_ref().is_none_or(|(open, _)| *open != sequence) {
            *open = Some((sequence, File::open(self.file(LogFile::Segment(sequence)))?));
        }
        let (_, file) = open.as_ref().expect("just opened");
        file.read_at(into, at)
    }

    /// Block by block; those that fail become zeros.
    fn read_what_can_be(&self, sequence: u64, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let block = usize::try_from(BLOCK_BYTES).expect("small");
        let mut done = 0;
        while done < into.len() {
            let end = into.len().min(done + block);
            let from = at + done as u64;
            let read = self.read(sequence, from, &mut into[done..end]).or_else(|error| {
                if error.kind() == io::ErrorKind::NotFound {
                    return Err(error);
                }
                into[done..end].fill(0);
                self.unreadable.borrow_mut().insert((sequence, from));
                Ok(end - done)
            })?;
            done += read;
            if read < block {
                break;
            }
        }
        Ok(done)
    }
}

impl LogStore for Folder {
    fn segments(&self) -> io::Result<Vec<(u64, u64)>> {
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Some(LogFile::Segment(sequence)) = LogFile::from_name(&entry.file_name().to_string_lossy())
            {
                segments.push((sequence, entry.metadata()?.len()));
            }
        }
        Ok(segments)
    }

    fn read_at(&self, sequence: u64, at: u64, into: &mut [u8]) -> io::Result<usize> {
        match self.read(sequence, at, into) {
            Err(_) if self.lenient => self.read_what_can_be(sequence, at, into),
            // Retention of a running server took it since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            read => read,
        }
    }

    fn read_small(&self, file: LogFile) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.file(file)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
