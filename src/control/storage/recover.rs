//! What the partitions' logs hold, found out at the start: several partitions at once, through memory that is bounded
//! by the configuration.
//!
//! Recovery itself only reads. What it concludes is made durable here before a shard goes on with it, in an order that a
//! crash may end anywhere: of what was read, that of which nothing says that it was durable is written again, and synced;
//! segments that are no part of the log go, a snapshot says where it ends, and then the fence goes.
//!
//! A sync alone would not do: where one has failed before, in the process before or in a start that ended with it, Linux
//! goes on reading what was not written, and calls the next sync a success.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::segments::FREE;
use super::shelf::{Closed, FREE_MAX, Shelf};
use super::start::{LogError, failed};
use super::tree::{OnDisk, Tree};
use crate::commit_log::format::LogFile;
use crate::commit_log::recovery::{BUFFER_BYTES_MIN, Finding, LogStore, Recovery, Request, recover};
use crate::commit_log::{LogPoint, RecoveredLog, block_up, index, snapshot};
use crate::config::{Config, show_bytes};
use crate::control::files::{Step, replacement, with_suffix};
use crate::control::journal;
use crate::ids::PartitionId;
use crate::io::host::{self, Advice};
use crate::log::Level;

/// Bytes of one partition's buffer at most: more makes it no faster.
const BUFFER_BYTES_MAX: u64 = 4 << 20;
/// From one word on the progress to the next.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// How far the kernel is asked to read ahead, in buffers.
const AHEAD: u64 = 2;

/// How far recovery is, for who waits for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovering {
    /// Logs that are done.
    pub partitions: usize,
    /// Logs there are.
    pub of_partitions: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes to read at most.
    pub of_bytes: u64,
    /// There is nothing more to wait for.
    pub over: bool,
}

/// One partition's work.
struct Job<'s> {
    id: PartitionId,
    shelf: &'s mut Shelf,
}

/// What all threads share.
#[derive(Default)]
struct Counts {
    done: AtomicUsize,
    bytes: AtomicU64,
    of_bytes: AtomicU64,
}

/// Recovers the logs of all shelves, and takes up what they hold.
///
/// # Errors
/// The first log that cannot be read; nothing of it was changed.
pub(super) fn recover_all<'s>(
    config: &Config,
    shelves: impl Iterator<Item = (PartitionId, &'s mut Shelf)>,
    progress: Option<fn(Recovering)>,
) -> Result<HashMap<PartitionId, RecoveredLog>, LogError> {
    let jobs: Vec<_> = shelves.map(|(id, shelf)| Job { id, shelf }).collect();
    let of_partitions = jobs.len();
    if of_partitions == 0 {
        return Ok(HashMap::new());
    }
    let counts = Counts::default();
    let bytes = jobs.iter().flat_map(|job| job.shelf.files.values()).sum();
    counts.of_bytes.store(bytes, Ordering::Relaxed);
    let began = Instant::now();
    let threads = usize::from(config.shards).min(of_partitions);
    let each = config.storage.recovery_buffer_bytes / threads as u64;
    let each = usize::try_from(each.min(BUFFER_BYTES_MAX)).expect("small");
    let buffer_bytes = (each - each % BUFFER_BYTES_MIN).max(BUFFER_BYTES_MIN);
    let jobs = Mutex::new(jobs);
    let mut logs = HashMap::with_capacity(of_partitions);
    let mut failure = None;
    std::thread::scope(|scope| {
        let (sender, results) = mpsc::channel();
        for _ in 0..threads {
            let (sender, jobs, counts) = (sender.clone(), &jobs, &counts);
            scope.spawn(move || work(jobs, buffer_bytes, counts, &sender));
        }
        drop(sender);
        loop {
            match results.recv_timeout(PROGRESS_EVERY) {
                Ok((id, Ok(log))) => {
                    logs.insert(id, log);
                }
                Ok((_, Err(error))) => {
                    // The others end with the log they are at.
                    jobs.lock().expect("no thread panics with it").clear();
                    failure.get_or_insert(error);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if let Some(say) = progress {
                say(counts.recovering(of_partitions, false));
            }
        }
    });
    let at_end = counts.recovering(of_partitions, true);
    if let Some(say) = progress {
        say(at_end);
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let (read, took) = (show_bytes(at_end.bytes), began.elapsed());
    let detail = format!("{of_partitions} partitions, {read} read in {} ms", took.as_millis());
    journal::note(Level::Info, "log_recovered", &detail);
    Ok(logs)
}

impl Counts {
    fn recovering(&self, of_partitions: usize, over: bool) -> Recovering {
        Recovering {
            partitions: self.done.load(Ordering::Relaxed),
            of_partitions,
            bytes: self.bytes.load(Ordering::Relaxed),
            of_bytes: self.of_bytes.load(Ordering::Relaxed),
            over,
        }
    }
}

type Results = mpsc::Sender<(PartitionId, Result<RecoveredLog, LogError>)>;

/// One thread: logs until there are none.
fn work(jobs: &Mutex<Vec<Job<'_>>>, buffer_bytes: usize, counts: &Counts, results: &Results) {
    let mut buffer = vec![0; buffer_bytes];
    loop {
        let job = jobs.lock().expect("no thread panics with it").pop();
        let Some(Job { id, shelf }) = job else { return };
        let result = one(id, shelf, &mut buffer, counts);
        counts.done.fetch_add(1, Ordering::Relaxed);
        if results.send((id, result)).is_err() {
            return;
        }
    }
}

fn one(
    id: PartitionId,
    shelf: &mut Shelf,
    buffer: &mut [u8],
    counts: &Counts,
) -> Result<RecoveredLog, LogError> {
    let all: u64 = shelf.files.values().sum();
    let store = store_of(&OnDisk, shelf);
    let mut said = 0;
    let recovered =
        recover(&store, Request { partition: id, use_snapshots: true }, buffer, &mut |read, _| {
            counts.bytes.fetch_add(read - said, Ordering::Relaxed);
            said = read;
        });
    // What a snapshot and indexes spare is not to be read any more.
    counts.of_bytes.fetch_sub(all.saturating_sub(said), Ordering::Relaxed);
    let recovered = recovered.map_err(|source| LogError::Recovery { path: shelf.folder.clone(), source })?;
    take_up(&OnDisk, id, shelf, recovered)
}

/// Offsets that are lost, and names of findings.
pub(super) type Told = (Vec<Range<u64>>, Vec<&'static str>);

/// One log, in some world; the offsets of it that are lost, and the names of what was found.
pub(super) fn recover_in<T: Tree>(
    tree: &T,
    id: PartitionId,
    shelf: &mut Shelf,
) -> Result<(RecoveredLog, Told), LogError> {
    let request = Request { partition: id, use_snapshots: true };
    let store = store_of(tree, shelf);
    let recovered = recover(&store, request, &mut vec![0; BUFFER_BYTES_MIN], &mut |_, _| ());
    let recovered = recovered.map_err(|source| LogError::Recovery { path: shelf.folder.clone(), source })?;
    let lost = recovered.findings.iter().filter_map(Finding::lost).collect();
    let found = recovered.findings.iter().map(Finding::name).collect();
    Ok((take_up(tree, id, shelf, recovered)?, (lost, found)))
}

fn store_of<T: Tree>(tree: &T, shelf: &Shelf) -> T::Store {
    let segments = shelf.files.iter().map(|(sequence, bytes)| (*sequence, *bytes)).collect();
    tree.store(&shelf.folder, segments)
}

/// What was found is made durable, and the shelf goes on from there.
fn take_up<T: Tree>(
    tree: &T,
    id: PartitionId,
    shelf: &mut Shelf,
    recovered: Recovery,
) -> Result<RecoveredLog, LogError> {
    tell(shelf, id, &recovered);
    settle(tree, shelf, id, &recovered)?;
    shelf.closed = recovered.log.segments.iter().map(Closed::of).collect();
    shelf.covered = block_up(recovered.log.end.position);
    Ok(recovered.log)
}

/// Names what was found.
fn tell(shelf: &Shelf, id: PartitionId, recovered: &Recovery) {
    for finding in &recovered.findings {
        let level = match (finding.is_loss(), finding.is_usual()) {
            (true, _) => Level::Error,
            (false, false) => Level::Warn,
            (false, true) => Level::Info,
        };
        let event = if finding.is_loss() { "log_damaged" } else { "log_finding" };
        let detail = format!(
            "topic {} (partition {id}): {}: {}: {finding}",
            shelf.topic,
            shelf.folder.display(),
            finding.name()
        );
        journal::note(level, event, &detail);
    }
}

/// Makes durable what was concluded; see the module.
fn settle<T: Tree>(
    tree: &T,
    shelf: &mut Shelf,
    id: PartitionId,
    recovered: &Recovery,
) -> Result<(), LogError> {
    let folder = shelf.folder.clone();
    let apply = |step: &Step| tree.apply(step).map_err(failed(step.doing(), step.path()));
    let log = &recovered.log;
    let since = recovered.from_snapshot.unwrap_or_default();
    for segment in log.segments.iter().filter(|segment| segment.end.position > since.position) {
        let path = shelf.segment(segment.sequence);
        if let Some(bytes) = recovered.unsynced_bytes(segment) {
            tree.write_again(&path, bytes).map_err(failed("write", &path))?;
        }
        tree.sync(&path).map_err(failed("sync", &path))?;
    }
    for &sequence in &recovered.dropped {
        shelf.files.remove(&sequence);
        apply(&Step::Remove { path: shelf.segment(sequence) })?;
        apply(&Step::Remove { path: shelf.index(sequence) })?;
    }
    for &sequence in &recovered.unused {
        let Some(bytes) = shelf.files.remove(&sequence) else { continue };
        let path = shelf.segment(sequence);
        // There is one only where the disk has lost what was synced before.
        apply(&Step::Remove { path: shelf.index(sequence) })?;
        if bytes == shelf.file_bytes && shelf.free.len() < FREE_MAX {
            let free = with_suffix(&path, FREE);
            apply(&Step::Rename { from: path, to: free.clone() })?;
            // One that waits under this name already, since it could not be used again, is replaced.
            shelf.free.retain(|(before, _)| *before != free);
            shelf.free.push((free, bytes));
        } else {
            apply(&Step::Remove { path })?;
        }
    }
    let unindexed: HashSet<u64> = recovered.unindexed.iter().copied().collect();
    for segment in log.segments.iter().filter(|segment| unindexed.contains(&segment.sequence)) {
        for step in replacement(&shelf.index(segment.sequence), index::encode(id, segment), None) {
            apply(&step)?;
        }
    }
    apply(&Step::SyncDir { path: folder.clone() })?;
    if news(recovered) {
        let [path, previous] = [0, 1].map(|age| folder.join(LogFile::Snapshot(age).name()));
        for step in replacement(&path, snapshot::encode(id, &log.snapshot()), Some(&previous)) {
            apply(&step)?;
        }
    }
    if recovered.fenced_at.is_some() {
        apply(&Step::Remove { path: folder.join(LogFile::Fence.name()) })?;
        apply(&Step::SyncDir { path: folder })?;
    }
    Ok(())
}

/// Whether the snapshot there is does not say it all.
fn news(recovered: &Recovery) -> bool {
    let end = LogPoint { position: block_up(recovered.log.end.position), ..recovered.log.end };
    let known = recovered.from_snapshot.unwrap_or_default();
    known != end || recovered.fenced_at.is_some() || !recovered.dropped.is_empty()
}

/// A partition's folder as recovery reads it.
pub struct Folder {
    folder: PathBuf,
    segments: Vec<(u64, u64)>,
    open: RefCell<Option<(u64, File)>>,
}

impl Folder {
    /// A folder that no shelf knows.
    ///
    /// # Errors
    /// It cannot be listed.
    pub(crate) fn open(folder: &Path) -> io::Result<Folder> {
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if let Some(LogFile::Segment(sequence)) = LogFile::from_name(&entry.file_name().to_string_lossy())
            {
                segments.push((sequence, entry.metadata()?.len()));
            }
        }
        Ok(Folder { folder: folder.to_owned(), segments, open: RefCell::new(None) })
    }

    pub(super) fn of(folder: &Path, segments: Vec<(u64, u64)>) -> Folder {
        Folder { folder: folder.to_owned(), segments, open: RefCell::new(None) }
    }

    fn path(&self, file: LogFile) -> PathBuf {
        self.folder.join(file.name())
    }
}

impl LogStore for Folder {
    fn segments(&self) -> io::Result<Vec<(u64, u64)>> {
        Ok(self.segments.clone())
    }

    fn read_at(&self, sequence: u64, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut open = self.open.borrow_mut();
        if open.as_ref().is_none_or(|(of, _)| *of != sequence) {
            let file = File::open(self.path(LogFile::Segment(sequence)))?;
            host::advise(file.as_fd(), 0, 0, Advice::Sequential);
            *open = Some((sequence, file));
        }
        let Some((_, file)) = open.as_ref() else { return Ok(0) };
        let mut read = 0;
        while read < into.len() {
            match file.read_at(&mut into[read..], at + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // The disk goes on while this part is looked at, and the page cache keeps nothing of what nobody needs again.
        let next = at + read as u64;
        host::advise(file.as_fd(), next, AHEAD * into.len() as u64, Advice::Ahead);
        host::advise(file.as_fd(), at, read as u64, Advice::Done);
        Ok(read)
    }

    fn read_small(&self, file: LogFile) -> io::Result<Option<Vec<u8>>> {
        read_if_there(&self.path(file))
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
