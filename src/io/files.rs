//! The file table of a backend: `FileId` to descriptor, and what operations on files come to.
//!
//! State and owner: the table owns the descriptors between `attach_file` and `detach_file`, and counts the operations
//! outstanding on each, to hold the shard to the rule that a file is given up when there are none.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::ids::FileId;
use crate::limits::{FILE_OPS_PER_SHARD, FILES_PER_SHARD};

use super::{FileHandle, IoError, Outcome};

/// One file.
struct Slot {
    file: Option<(OwnedFd, bool)>,
    outstanding: u32,
}

/// See the module.
#[derive(Default)]
pub(super) struct Files {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Operations on all of them.
    in_flight: u32,
}

impl Files {
    /// Files attached.
    pub(super) fn open(&self) -> u32 {
        u32::try_from(self.slots.len() - self.free.len()).unwrap_or(u32::MAX)
    }

    /// Takes a file in.
    pub(super) fn attach(&mut self, file: FileHandle) -> Result<FileId, (IoError, FileHandle)> {
        let FileHandle::Fd { fd, direct } = file else { return Err((IoError::Os(libc::EBADF), file)) };
        if let Some(index) = self.free.pop() {
            self.slots[index as usize].file = Some((fd, direct));
            return Ok(FileId(index));
        }
        match u32::try_from(self.slots.len()) {
            Ok(index) if self.slots.len() < FILES_PER_SHARD => {
                self.slots.push(Slot { file: Some((fd, direct)), outstanding: 0 });
                Ok(FileId(index))
            }
            _ => Err((IoError::NoDescriptors, FileHandle::Fd { fd, direct })),
        }
    }

    /// Gives a file up.
    ///
    /// # Panics
    /// When it is not attached, or has an operation outstanding.
    pub(super) fn detach(&mut self, file: FileId) -> FileHandle {
        let slot = &mut self.slots[file.index()];
        assert!(slot.outstanding == 0, "a file is given up when no operation on it is outstanding");
        let (fd, direct) = slot.file.take().expect("a file is given up once");
        self.free.push(file.0);
        FileHandle::Fd { fd, direct }
    }

    /// The descriptor an operation names.
    ///
    /// # Panics
    /// When it is not attached.
    pub(super) fn fd(&self, file: u32) -> RawFd {
        let (fd, _) = self.slots[file as usize].file.as_ref().expect("operations name attached files");
        fd.as_raw_fd()
    }

    /// No more operations can be taken.
    pub(super) fn busy(&self) -> bool {
        self.in_flight >= FILE_OPS_PER_SHARD
    }

    pub(super) fn began(&mut self, file: u32) {
        self.slots[file as usize].outstanding += 1;
        self.in_flight += 1;
    }

    pub(super) fn ended(&mut self, file: u32) {
        self.slots[file as usize].outstanding -= 1;
        self.in_flight -= 1;
    }
}

/// What a call of a file's that failed comes to. A disk's time-out is no peer's, so this is not `error_of`.
pub(super) fn failed(errno: i32) -> Outcome {
    Outcome::Failed(match errno {
        libc::ENOSPC | libc::EDQUOT => IoError::NoSpace,
        libc::ENOMEM => IoError::NoMemory,
        other => IoError::Os(other),
    })
}

/// What so many bytes written come to.
pub(super) fn written(bytes: u32) -> Outcome {
    // No file system answers so; were one to, whoever goes on behind what was written would do so for ever.
    if bytes == 0 { failed(libc::EIO) } else { Outcome::Written { bytes } }
}

/// What so many bytes read come to.
pub(super) fn read(bytes: u32) -> Outcome {
    if bytes == 0 { Outcome::EndOfStream } else { Outcome::Read { bytes } }
}
