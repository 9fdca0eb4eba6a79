//! The data directory: one server's, by a lock, with the catalogue in it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::catalogue::{Catalogue, CatalogueError, Least, decode_within, encode};
use super::files::{Disk, FileError, Files, replace, with_suffix};

/// The catalogue's file.
const CATALOGUE: &str = "catalogue.json";
/// The lock's file: held, never read.
const LOCK: &str = "lock";

/// The data directory cannot be used. At fault: the environment; each message names the remedy.
#[derive(Debug)]
pub enum DataError {
    /// It could not be made or written.
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another server has it.
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The catalogue could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The catalogue is not one this server may use.
    Catalogue {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CatalogueError,
    },
}

impl std::fmt::Display for DataError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DataError::NotWritable { path, source } => write!(
                f,
                "the data directory {} cannot be written ({source}): give this user write access to it, or name \
                 another with --data",
                path.display()
            ),
            DataError::Locked { path } => write!(
                f,
                "the data directory {} is in use by another uringest server: stop that one, or name another \
                 directory with --data",
                path.display()
            ),
            DataError::Unreadable { path, source } => {
                write!(f, "{} cannot be read ({source}): give this user read access to it", path.display())
            }
            DataError::Catalogue { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for DataError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DataError::NotWritable { source, .. } | DataError::Unreadable { source, .. } => Some(source),
            DataError::Catalogue { source, .. } => Some(source),
            DataError::Locked { .. } => None,
        }
    }
}

/// The directory, locked until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    catalogue: PathBuf,
    previous: PathBuf,
    /// `None` where nobody else can have it.
    _lock: Option<File>,
}

impl DataDir {
    /// Makes the directory where it does not exist, and locks it.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn open(path: &Path) -> Result<DataDir, DataError> {
        let not_writable = |source| DataError::NotWritable { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(not_writable)?;
        let options = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = options.map_err(not_writable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(not_writable(source)),
        }
        Ok(DataDir { _lock: Some(lock), ..DataDir::of_one(path) })
    }

    /// A directory of a world in which nobody else can have it.
    pub(super) fn of_one(path: &Path) -> DataDir {
        let catalogue = path.join(CATALOGUE);
        let previous = with_suffix(&catalogue, ".1");
        DataDir { catalogue, previous, _lock: None }
    }

    /// The catalogue; an empty one in a new directory.
    ///
    /// # Errors
    /// See [`DataError`]. Nothing is overwritten.
    pub fn load(&self) -> Result<Catalogue, DataError> {
        self.load_from(&Disk::Blocking, Least::default())
    }

    /// The same, on some disk, of topics that are no smaller than `least`.
    pub(super) fn load_from(&self, disk: &Disk, least: Least) -> Result<Catalogue, DataError> {
        let read = |path: &Path| {
            disk.read(path).map_err(|source| DataError::Unreadable { path: path.to_owned(), source })
        };
        let refuse = |source| DataError::Catalogue { path: self.catalogue.clone(), source };
        match read(&self.catalogue)? {
            Some(bytes) => decode_within(&bytes, least).map_err(refuse),
            None if read(&self.previous)?.is_some() => {
                Err(refuse(CatalogueError::Corrupt("it is missing and its previous version is there".into())))
            }
            None => Ok(Catalogue::default()),
        }
    }

    /// Replaces the catalogue's file; durable when it returns.
    ///
    /// # Errors
    /// The file step that failed; the old file or the new one is in place.
    pub async fn save(&self, disk: &Disk, catalogue: &Catalogue) -> Result<(), FileError> {
        replace(disk, &self.catalogue, encode(catalogue), Some(&self.previous)).await
    }
}
