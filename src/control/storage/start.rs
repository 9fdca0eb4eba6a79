//! The start: whose directory it is, what is in it, and what the partitions' logs hold.
//!
//! Nothing is changed before the directory is known to be this server's and of a format it knows. What does not belong
//! to a log stays where it is and is named in the server's log; what this server left half-made is taken away.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tokio::sync::{Notify, Semaphore};

use super::super::catalogue::{Catalogue, PartitionEntry, TopicEntry};
use super::super::files::{Opening, Step, blocking, replacement, with_suffix, zeros};
use super::recover::{Recovering, recover_all, recover_in};
use super::segments::{FREE, HALF_MADE};
use super::shelf::{FREE_MAX, Shelf};
use super::tree::{OnDisk, Tree};
use super::{DELETED, LOG_FILES_AT_ONCE, State, Storage};
use crate::commit_log::format::{FORMAT, LogFile, partition_folder, partition_of_folder};
use crate::commit_log::recovery::RecoveryError;
use crate::commit_log::{BLOCK_BYTES, RecoveredLog};
use crate::config::{Config, Direct};
use crate::control::{Degraded, journal};
use crate::ids::{PartitionId, ShardId};
use crate::log::Level;
use crate::topic::LogSettings;

/// Says which format the directory has.
const MARKER: &str = "format";
/// What it says before the number.
const MARKER_WORDS: &str = "uringest log ";
/// Held, never read: the directory may lie outside the data directory.
const LOCK: &str = "lock";
/// Written to find out whether the file system does direct I/O.
const TRIAL: &str = "direct.new";
/// Names of files that do not belong here, in one line of the log.
const FOREIGN_NAMED: usize = 5;

/// The log's directory cannot be used. At fault: the environment; each message names the remedy.
#[derive(Debug)]
pub enum LogError {
    /// Something could not be made, read or written.
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another server has it.
    Locked(PathBuf),
    /// A later version wrote it.
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Its marker is not one.
    NotALog(PathBuf),
    /// A partition's log cannot be read. Nothing of it was changed.
    Recovery {
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: RecoveryError,
    },
    /// A partition that has had records has no folder.
    Missing {
        /// The folder.
        path: PathBuf,
        /// Whose partition it is.
        topic: String,
    },
}

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogError::Io { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            LogError::Locked(path) => {
                write!(f, "the log directory {} is in use by another server", path.display())
            }
            LogError::Newer { path, found } => write!(
                f,
                "the log directory {} has format {found} and this server knows formats up to {FORMAT}; nothing was \
                 touched",
                path.display()
            ),
            LogError::NotALog(path) => {
                write!(
                    f,
                    "{} does not say which format the log directory has; nothing was touched",
                    path.display()
                )
            }
            LogError::Recovery { path, source } => write!(f, "{}: {source}", path.display()),
            LogError::Missing { path, topic } => {
                write!(f, "topic {topic} has had records, and its folder {} is missing", path.display())
            }
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Io { source, .. } => Some(source),
            LogError::Recovery { source, .. } => Some(source),
            LogError::Locked(_)
            | LogError::Newer { .. }
            | LogError::NotALog(_)
            | LogError::Missing { .. } => None,
        }
    }
}

impl LogError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            LogError::Io { .. } => {
                "give this user the directory, with room, or name another with storage.dir"
            }
            LogError::Locked(_) => "stop that server, or name another directory with storage.dir",
            LogError::Newer { .. } => "run the newer server, or name another directory with storage.dir",
            LogError::Recovery { source, .. } => source.remedy(),
            LogError::NotALog(_) => {
                "put the file back as it was (\"uringest log 1\"), or name another directory"
            }
            LogError::Missing { .. } => {
                "mount or put back what is missing; to give its records up, make an empty folder of that name"
            }
        }
    }
}

pub(super) fn failed<'p>(doing: &'static str, path: &'p Path) -> impl Fn(io::Error) -> LogError + 'p {
    move |source| LogError::Io { doing, path: path.to_owned(), source }
}

/// Offsets of a partition that were durable and are gone.
pub(in crate::control) type Lost = (PartitionId, Range<u64>);

/// The log as it was found.
pub(crate) struct Opened {
    pub storage: Storage,
    /// By partition of kind `log`.
    pub logs: HashMap<PartitionId, RecoveredLog>,
    /// How many there are.
    pub logs_count: usize,
}

impl Opened {
    /// What works worse than it could, where there is a log at all.
    pub(crate) fn degraded(&self) -> Option<Degraded> {
        self.storage.indirect.clone().filter(|_| self.logs_count > 0)
    }
}

/// Opens the log's directory, makes what is missing, and recovers the logs of the catalogue's partitions.
///
/// `progress` is told how far it is, a few times a second.
///
/// # Errors
/// See [`LogError`].
pub(crate) fn open_storage(
    config: &Config,
    catalogue: &mut Catalogue,
    progress: Option<fn(Recovering)>,
) -> Result<Opened, LogError> {
    let dir = config.log_dir();
    let lock = claim(&dir)?;
    let trial = if config.storage.direct == Direct::Off { Ok(false) } else { does_direct(&dir) };
    let direct = trial.map_err(failed("write to", &dir))?;
    let indirect = (!direct && config.storage.direct == Direct::Auto).then(|| Degraded {
        key: "log_not_direct",
        detail: format!(
            "the file system of {} has no direct I/O: the log goes through the page cache, which costs a copy and \
             memory; put storage.dir on ext4 or XFS, or set storage.direct = \"off\" if that is meant",
            dir.display()
        ),
    });
    let mut shelves = shelves(&OnDisk, config, &dir, catalogue)?;
    let logs = recover_all(config, shelves.iter_mut().map(|(id, shelf)| (*id, shelf)), progress)?;
    let storage = Storage { direct, indirect, _lock: Some(lock), ..Storage::new(config, shelves) };
    Ok(Opened { storage, logs_count: logs.len(), logs })
}

/// The same in a world in which nobody else can have the directory, and no other version can have written it; and the
/// offsets that are lost, and the names of what was found.
#[cfg_attr(not(any(test, uringest_sim)), expect(dead_code))] // elsewhere no world is stepped
pub(in crate::control) fn open_in<T: Tree>(
    tree: &T,
    config: &Config,
    catalogue: &mut Catalogue,
) -> Result<(Opened, Vec<Lost>, Vec<&'static str>), LogError> {
    let dir = config.log_dir();
    let made = tree.apply(&Step::MakeDir { path: dir.clone() });
    made.map_err(failed("make", &dir))?;
    let mut shelves = shelves(tree, config, &dir, catalogue)?;
    let mut logs = HashMap::new();
    let (mut all_lost, mut all_found) = (Vec::new(), Vec::new());
    for (&id, shelf) in &mut shelves {
        let (log, (lost, found)) = recover_in(tree, id, shelf)?;
        all_found.extend(found);
        logs.insert(id, log);
        all_lost.extend(lost.into_iter().map(|offsets| (id, offsets)));
    }
    let storage = Storage::new(config, shelves);
    Ok((Opened { storage, logs_count: logs.len(), logs }, all_lost, all_found))
}

impl Storage {
    fn new(config: &Config, shelves: BTreeMap<PartitionId, Shelf>) -> Storage {
        let used_bytes = shelves.values().map(Shelf::all_bytes).sum();
        Storage {
            dir: config.log_dir(),
            direct: true,
            indirect: None,
            budget_bytes: config.storage.budget_bytes,
            state: State { shelves, used_bytes, ..State::default() }.into(),
            gate: Semaphore::new(LOG_FILES_AT_ONCE),
            freed: Notify::new(),
            rolled: Notify::new(),
            busy: std::cell::Cell::new(0),
            idle: Notify::new(),
            _lock: None,
        }
    }
}

/// The catalogue's partitions, with their files. What this server left half-made, and what is of deleted topics, goes.
fn shelves<T: Tree>(
    tree: &T,
    config: &Config,
    dir: &Path,
    catalogue: &mut Catalogue,
) -> Result<BTreeMap<PartitionId, Shelf>, LogError> {
    let mut found = survey(tree, dir)?;
    tidy_folders(tree, dir, &mut found, catalogue)?;
    let mut shelves = BTreeMap::new();
    for topic in &catalogue.topics {
        let Some(settings) = topic.log else { continue };
        for partition in &topic.partitions {
            let id = PartitionId(partition.id);
            let here = found.folders.contains(&id);
            shelves.insert(id, shelf(tree, config, dir, topic, (partition, here), settings)?);
        }
    }
    Ok(shelves)
}

/// Makes the directory, locks it, and sees that its format is known; says the format of a new one.
fn claim(dir: &Path) -> Result<File, LogError> {
    std::fs::create_dir_all(dir).map_err(failed("make", dir))?;
    let path = dir.join(LOCK);
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(failed("open", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LogError::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
    }
    let marker = dir.join(MARKER);
    match std::fs::read_to_string(&marker) {
        Ok(text) => {
            let found = text.trim_end().strip_prefix(MARKER_WORDS).and_then(|number| number.parse().ok());
            match found {
                Some(found) if (1..=FORMAT).contains(&found) => {}
                Some(found) if found > FORMAT => {
                    return Err(LogError::Newer { path: dir.to_owned(), found });
                }
                _ => return Err(LogError::NotALog(marker)),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for step in replacement(&marker, marker_text().into_bytes(), None) {
                blocking::apply(&step).map_err(failed("write", &marker))?;
            }
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            let step = Step::SyncDir { path: parent.unwrap_or(Path::new(".")).to_owned() };
            blocking::apply(&step).map_err(failed("sync", dir))?;
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(LogError::NotALog(marker)),
        Err(error) => return Err(failed("read", &marker)(error)),
    }
    Ok(lock)
}

/// What the marker of this format says.
pub(super) fn marker_text() -> String {
    format!("{MARKER_WORDS}{FORMAT}\n")
}

/// Whether files in this directory can be read and written past the page cache, block by block.
///
/// # Errors
/// Not even an ordinary file can be written.
pub(crate) fn does_direct(dir: &Path) -> io::Result<bool> {
    let path = dir.join(TRIAL);
    File::create(&path)?.set_len(2 * BLOCK_BYTES)?;
    let tried = blocking::open(&path, Opening { write: true, direct: true })
        .and_then(|file| file.write_all_at(zeros(BLOCK_BYTES), BLOCK_BYTES));
    std::fs::remove_file(&path)?;
    match tried {
        Ok(()) => Ok(true),
        // open(2), write(2): no direct I/O here, or blocks of another size.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What lies in the log's directory.
struct Survey {
    folders: Vec<PartitionId>,
    deleted: Vec<PathBuf>,
    foreign: Vec<String>,
}

fn survey<T: Tree>(tree: &T, dir: &Path) -> Result<Survey, LogError> {
    let mut found = Survey { folders: Vec::new(), deleted: Vec::new(), foreign: Vec::new() };
    for name in names(tree, dir)? {
        let folder = partition_of_folder(&name);
        let deleted = name.strip_suffix(DELETED).and_then(partition_of_folder);
        match (folder, deleted) {
            (Some(id), _) => found.folders.push(id),
            (None, Some(_)) => found.deleted.push(dir.join(name)),
            (None, None) if [MARKER, LOCK].contains(&name.as_str()) => {}
            (None, None) if name.ends_with(HALF_MADE) => remove(tree, &dir.join(name))?,
            (None, None) => found.foreign.push(name),
        }
    }
    Ok(found)
}

fn names<T: Tree>(tree: &T, dir: &Path) -> Result<Vec<String>, LogError> {
    let mut names = tree.names(dir).map_err(failed("list", dir))?;
    names.sort_unstable();
    Ok(names)
}

fn remove<T: Tree>(tree: &T, path: &Path) -> Result<(), LogError> {
    tree.apply(&Step::Remove { path: path.to_owned() }).map_err(failed("remove", path))
}

/// Takes away folders of deleted topics, and keeps ids clear of those that nobody knows.
fn tidy_folders<T: Tree>(
    tree: &T,
    dir: &Path,
    found: &mut Survey,
    catalogue: &mut Catalogue,
) -> Result<(), LogError> {
    let known: Vec<u32> = catalogue
        .topics
        .iter()
        .filter(|topic| topic.log.is_some())
        .flat_map(|topic| topic.partitions.iter().map(|partition| partition.id))
        .collect();
    for id in found.folders.clone() {
        if known.contains(&id.0) {
            continue;
        }
        let folder = dir.join(partition_folder(id));
        if id.0 < catalogue.next_partition_id {
            // Ids are never used twice, so it was this partition's, whose topic is deleted.
            let aside = with_suffix(&folder, DELETED);
            let step = Step::Rename { from: folder.clone(), to: aside.clone() };
            tree.apply(&step).map_err(failed("rename", &folder))?;
            found.deleted.push(aside);
        } else {
            found.foreign.push(partition_folder(id));
            catalogue.next_partition_id = id.0.saturating_add(1).max(catalogue.next_partition_id);
        }
    }
    for folder in &found.deleted {
        tree.apply(&Step::RemoveDir { path: folder.clone() }).map_err(failed("remove", folder))?;
    }
    say_foreign(dir, &found.foreign);
    Ok(())
}

fn say_foreign(dir: &Path, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let named = names.iter().take(FOREIGN_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(FOREIGN_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let detail = format!("{} has what is no part of this log, which stays: {named}{more}", dir.display());
    journal::note(Level::Warn, "log_foreign_files", &detail);
}

/// One partition's files.
fn shelf<T: Tree>(
    tree: &T,
    config: &Config,
    dir: &Path,
    topic: &TopicEntry,
    (partition, here): (&PartitionEntry, bool),
    settings: LogSettings,
) -> Result<Shelf, LogError> {
    let folder = dir.join(partition_folder(PartitionId(partition.id)));
    if !here {
        // Stopped in good order and empty: it never had a record.
        if partition.clean_end != Some(0) {
            return Err(LogError::Missing { path: folder, topic: topic.name.clone() });
        }
        tree.apply(&Step::MakeDir { path: folder.clone() }).map_err(failed("make", &folder))?;
        tree.apply(&Step::SyncDir { path: dir.to_owned() }).map_err(failed("sync", dir))?;
    }
    let file_bytes = config.segment_bytes(settings.segment_bytes);
    let shard =
        ShardId(u16::try_from(partition.id % u32::from(config.shards)).expect("less than the shards"));
    let mut shelf = Shelf::new(topic.name.clone(), shard, folder.clone(), settings, file_bytes);
    let mut foreign = Vec::new();
    let all = names(tree, &folder)?;
    for name in &all {
        let path = folder.join(name);
        match LogFile::from_name(name) {
            Some(LogFile::Segment(sequence)) => {
                shelf.files.insert(sequence, length(tree, &path)?);
            }
            // Written when its segment had gone already.
            Some(LogFile::Index(sequence)) if !all.contains(&LogFile::Segment(sequence).name()) => {
                remove(tree, &path)?;
            }
            Some(_) => {}
            None if name.ends_with(HALF_MADE) => remove(tree, &path)?,
            None if name.ends_with(FREE) => {
                let bytes = length(tree, &path)?;
                if bytes == file_bytes && shelf.free.len() < FREE_MAX {
                    shelf.free.push((path, bytes));
                } else {
                    remove(tree, &path)?;
                }
            }
            None => foreign.push(name.clone()),
        }
    }
    say_foreign(&folder, &foreign);
    Ok(shelf)
}

fn length<T: Tree>(tree: &T, path: &Path) -> Result<u64, LogError> {
    tree.length(path).map_err(failed("look at", path))
}
