//! A simulated disk: what a crash keeps is decided by the test.
//!
//! Model: a file's bytes are durable from its sync on; names become durable in the order they changed, all of
//! them at the directory's sync, and a crash keeps any prefix of what was not synced yet. A crash in the middle
//! of a write leaves any prefix of its bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Files, Opening, Step};
use crate::commit_log::BLOCK_BYTES;
use crate::io::FileHandle;

type Names = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Debug, Default)]
struct State {
    names: Names,
    /// The states the names went through since the last sync of the directory, oldest first.
    history: Vec<Names>,
    /// Steps until the fault.
    countdown: Option<usize>,
    /// Of the write that the fault interrupts, how many bytes get through.
    torn_bytes: usize,
    /// Bytes that all files may take.
    room: Option<usize>,
    /// What was opened, in order; a handle is its index.
    opened: Vec<(PathBuf, Opening)>,
}

impl State {
    fn has_room_for(&self, path: &Path, bytes: usize) -> bool {
        let others: usize =
            self.names.iter().filter(|(name, _)| *name != path).map(|(_, bytes)| bytes.len()).sum();
        self.room.is_none_or(|room| others + bytes <= room)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SimFiles(RefCell<State>);

impl SimFiles {
    /// The step numbered `after` from now fails in the middle; of a write `torn_bytes` are kept.
    pub(crate) fn fail_after(&self, after: usize, torn_bytes: usize) {
        let mut state = self.0.borrow_mut();
        state.countdown = Some(after);
        state.torn_bytes = torn_bytes;
    }

    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        self.0.borrow_mut().names.insert(path.to_owned(), bytes.to_vec());
    }

    /// The disk has this many bytes.
    pub(crate) fn set_room(&self, bytes: usize) {
        self.0.borrow_mut().room = Some(bytes);
    }

    /// The names there are.
    pub(crate) fn names(&self) -> Vec<PathBuf> {
        self.0.borrow().names.keys().cloned().collect()
    }

    /// What a handle stands for.
    pub(crate) fn opened(&self, handle: &FileHandle) -> (PathBuf, Opening) {
        let FileHandle::Simulated(index) = handle else { panic!("a handle of this world") };
        self.0.borrow().opened[usize::try_from(*index).expect("small")].clone()
    }

    /// Every disk that a power loss now could leave.
    pub(crate) fn after_crash(&self) -> Vec<SimFiles> {
        let state = self.0.borrow();
        state
            .history
            .iter()
            .chain(std::iter::once(&state.names))
            .map(|names| SimFiles(RefCell::new(State { names: names.clone(), ..State::default() })))
            .collect()
    }
}

impl Files for SimFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.borrow().names.get(path).cloned())
    }

    async fn apply(&self, step: &Step) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let fault = state.countdown == Some(0);
        state.countdown = state.countdown.and_then(|left| left.checked_sub(1));
        let before = state.names.clone();
        if fault {
            if let Step::Write { path, bytes } = step {
                let kept = bytes[..state.torn_bytes.min(bytes.len())].to_vec();
                state.history.push(before);
                state.names.insert(path.clone(), kept);
            }
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        change(&mut state, step)?;
        if !matches!(step, Step::SyncDir { .. }) {
            state.history.push(before);
        }
        Ok(())
    }

    async fn open(&self, path: &Path, how: Opening) -> io::Result<FileHandle> {
        let mut state = self.0.borrow_mut();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.opened.push((path.to_owned(), how));
        Ok(FileHandle::Simulated(state.opened.len() as u64 - 1))
    }
}

fn change(state: &mut State, step: &Step) -> io::Result<()> {
    match step {
        Step::Write { path, bytes } => {
            state.names.insert(path.clone(), bytes.clone());
        }
        Step::Keep { from, to } => {
            if let Some(bytes) = state.names.get(from).cloned() {
                state.names.insert(to.clone(), bytes);
            }
        }
        Step::Rename { from, to } => {
            let bytes = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.clone(), bytes);
        }
        Step::SyncDir { .. } => state.history.clear(),
        Step::Reserve { path, bytes, .. } => {
            let bytes = usize::try_from(*bytes).expect("small");
            if !state.has_room_for(path, bytes) {
                // Half-made: the name is there.
                state.names.insert(path.clone(), Vec::new());
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            state.names.insert(path.clone(), vec![0; bytes]);
        }
        Step::Blank { path, .. } => {
            let bytes = state.names.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
            bytes[..usize::try_from(BLOCK_BYTES).expect("small")].fill(0);
        }
        Step::Remove { path } => {
            state.names.remove(path);
        }
        // Directories are what is in them.
        Step::MakeDir { .. } => {}
        Step::RemoveDir { path } => state.names.retain(|name, _| !name.starts_with(path)),
    }
    Ok(())
}
