//! A simulated disk: what a crash keeps is decided by the test.
//!
//! Model: a file's bytes are durable from its sync on; names become durable in the order they changed, all of
//! them at the directory's sync, and a crash keeps any prefix of what was not synced yet. A crash in the middle
//! of a write leaves any prefix of its bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Files, Step};

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
            Step::SyncDir { .. } => {
                state.history.clear();
                return Ok(());
            }
        }
        state.history.push(before);
        Ok(())
    }
}
