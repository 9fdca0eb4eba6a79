//! Which partitions a directory holds, and whose they are.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::super::{Exit, Failure};
use super::Where;
use crate::commit_log::format::{LogFile, SEGMENT_HEADER_BYTES, SegmentHeader, partition_of_folder};
use crate::control::catalogue::{self, Catalogue};
use crate::ids::PartitionId;

/// The catalogue's file in a data directory.
pub const CATALOGUE: &str = "catalogue.json";
/// The directory of logs in a data directory.
pub const LOG: &str = "log";
/// Says which format a directory of logs has.
pub const MARKER: &str = "format";

/// What kind of directory was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A server's data directory.
    Data,
    /// A directory of partitions' directories.
    Logs,
    /// One partition's.
    Partition,
}

/// A partition's directory.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where.
    pub path: PathBuf,
    /// Whose.
    pub id: PartitionId,
    /// The topic and the partition's number in it, where a catalogue tells.
    pub topic: Option<(String, usize)>,
}

impl Place {
    /// As people name it.
    pub fn name(&self) -> String {
        match &self.topic {
            Some((topic, number)) => format!("{topic}/{number}"),
            None => format!("partition {}", self.id),
        }
    }
}

/// What a directory holds.
#[derive(Debug)]
pub struct Found {
    /// See [`Kind`].
    pub kind: Kind,
    /// Those that were asked for, in the order of their ids.
    pub places: Vec<Place>,
    /// A server runs on it.
    pub running: bool,
}

/// Looks a directory over.
pub fn find(asked: &Where) -> Result<Found, Failure> {
    let directory = asked.directory.as_path();
    let entries = names(directory)?;
    let (kind, logs, catalogue) = if entries.iter().any(|name| name == CATALOGUE || name == LOG) {
        (Kind::Data, directory.join(LOG), Some(directory.to_owned()))
    } else if entries.iter().any(|name| partition_of_folder(name).is_some()) {
        (Kind::Logs, directory.to_owned(), parent(directory))
    } else if entries.iter().any(|name| matches!(LogFile::from_name(name), Some(LogFile::Segment(_)))) {
        let logs = parent(directory).unwrap_or_default();
        (Kind::Partition, logs.clone(), parent(&logs))
    } else {
        let message = format!("{} holds no log", directory.display());
        let remedy =
            "name a server's data directory, its storage.dir, or a partition's directory in it, p00000001";
        return Err(Failure::new(Exit::Usage, message, remedy));
    };
    let topics = catalogue.as_deref().map(read_catalogue).unwrap_or_default();
    let mut places = match kind {
        Kind::Partition => {
            vec![Place { path: directory.to_owned(), id: id_of(directory, &entries)?, topic: None }]
        }
        _ => partitions(&logs)?,
    };
    for place in &mut places {
        place.topic = topic_of(&topics, place.id);
    }
    places.sort_by_key(|place| place.id);
    let running = is_locked(&logs.join("lock"))
        || catalogue.filter(|_| kind == Kind::Data).is_some_and(|data| is_locked(&data.join("lock")));
    Ok(Found { kind, places: chosen(asked, places)?, running })
}

fn chosen(asked: &Where, places: Vec<Place>) -> Result<Vec<Place>, Failure> {
    let Some(topic) = &asked.topic else { return Ok(places) };
    let is_asked = |place: &Place| {
        place.topic.as_ref().is_some_and(|(name, number)| {
            name == topic && asked.partition.is_none_or(|asked| *number == asked as usize)
        })
    };
    let chosen: Vec<Place> = places.into_iter().filter(is_asked).collect();
    if chosen.is_empty() {
        let message = format!("there is no such log of topic {topic} in {}", asked.directory.display());
        return Err(Failure::new(Exit::Usage, message, "uringest log ls DIR   # which logs there are"));
    }
    Ok(chosen)
}

fn names(directory: &Path) -> Result<Vec<String>, Failure> {
    let read = std::fs::read_dir(directory).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
    });
    read.map_err(|error| {
        let message = format!("{} cannot be read: {error}", directory.display());
        Failure::new(Exit::Failed, message, "name the server's data directory, as a user that may read it")
    })
}

fn partitions(logs: &Path) -> Result<Vec<Place>, Failure> {
    if !logs.exists() {
        return Ok(Vec::new());
    }
    let of = |name: &String| {
        let id = partition_of_folder(name)?;
        Some(Place { path: logs.join(name), id, topic: None })
    };
    Ok(names(logs)?.iter().filter_map(of).collect())
}

/// The partition of a directory: by its name, or else by what its segments say.
fn id_of(directory: &Path, entries: &[String]) -> Result<PartitionId, Failure> {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let by_name = absolute.file_name().and_then(|name| partition_of_folder(&name.to_string_lossy()));
    let by_header = || {
        entries.iter().find_map(|name| {
            let Some(LogFile::Segment(_)) = LogFile::from_name(name) else { return None };
            let mut head = [0; SEGMENT_HEADER_BYTES];
            let file = File::open(directory.join(name)).ok()?;
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0).ok()?;
            SegmentHeader::decode(&head).ok().map(|header| header.partition)
        })
    };
    by_name.or_else(by_header).ok_or_else(|| {
        let message = format!("nothing in {} says which partition it is", directory.display());
        Failure::new(Exit::Failed, message, "name the directory as the server did, p and eight digits")
    })
}

fn parent(path: &Path) -> Option<PathBuf> {
    std::path::absolute(path).ok()?.parent().map(Path::to_owned)
}

fn read_catalogue(data: &Path) -> Catalogue {
    let path = data.join(CATALOGUE);
    let Ok(bytes) = std::fs::read(&path) else { return Catalogue::default() };
    catalogue::decode(&bytes).unwrap_or_else(|error| {
        // The logs have numbers instead of names then, and are read all the same.
        let _ =
            writeln!(io::stderr(), "uringest: {}: {error}; logs are named by their numbers", path.display());
        Catalogue::default()
    })
}

fn topic_of(catalogue: &Catalogue, id: PartitionId) -> Option<(String, usize)> {
    catalogue.topics.iter().find_map(|topic| {
        let number = topic.partitions.iter().position(|partition| partition.id == id.0)?;
        Some((topic.name.clone(), number))
    })
}

/// Whether a server holds the lock. Asked for a moment and given back.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
