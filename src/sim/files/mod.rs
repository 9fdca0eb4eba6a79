//! Control's files on the simulated disk: the same disk that the shards' operations are on, with names beside it.
//!
//! State and owner: [`FileSystem`] outlives the server; [`SimFiles`] is what one life of it has of that, with the time that
//! each step takes. What goes wrong with a step is decided where it is done, and counted: a server may fail to do something
//! only where the disk has failed.
//!
//! A step is done in pieces (a name, the bytes, their sync), and the process may end between any two: at a start, too, which
//! is one step of the world ([`Ending`]).

mod names;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::executor::{Executor, SimHost};
use super::plan::{Faults, MS, US};
use super::random::Random;
use crate::commit_log::BLOCK_BYTES;
use crate::commit_log::format::LogFile;
use crate::commit_log::recovery::LogStore;
use crate::control::files::{FileWork, Opening, Step, Volume};
use crate::control::host::Host as _;
use crate::control::stepped::Tree;
use crate::io::FileHandle;
use crate::io::scripted::Disk;
use names::{Names, Node};

/// See the module.
pub struct FileSystem {
    disk: Disk,
    names: Names,
    faults: Faults,
    random: Random,
    full: bool,
    /// Steps that have failed.
    failed: u64,
    /// Steps so far, each with its number and whether it went well.
    done: Vec<(u64, bool)>,
    steps: u64,
    /// Files that were not opened, since this was last asked.
    unopened: u32,
    /// Reads at a start until one fails.
    reads_left: Option<u64>,
    /// The next sync of this directory fails.
    failing: Option<PathBuf>,
    ending: Ending,
    /// Where steps of this life have failed.
    failures: BTreeSet<PathBuf>,
    /// Of the log's directory when this life began: what nobody knew. It stays.
    foreign: BTreeSet<PathBuf>,
}

/// The process may end within a start, which is one step to the rest of the world: from some piece on, none is done.
struct Ending {
    /// Decides nothing else.
    random: Random,
    /// Pieces that are still done. `None`: all of them.
    left: Option<u64>,
}

impl FileSystem {
    /// Nothing on this disk has a name yet.
    pub fn new(disk: Disk, random: Random) -> Rc<RefCell<FileSystem>> {
        let ending = Ending { random: random.clone().fork(), left: None };
        let mut files = FileSystem {
            disk,
            names: Names::new(),
            faults: Faults::default(),
            random,
            full: false,
            failed: 0,
            done: Vec::new(),
            steps: 0,
            unopened: 0,
            reads_left: None,
            failing: None,
            ending,
            failures: BTreeSet::new(),
            foreign: BTreeSet::new(),
        };
        files.make_root();
        Rc::new(RefCell::new(files))
    }

    /// The data directory was there before the server.
    fn make_root(&mut self) {
        self.names.make_dirs(Path::new(DATA)).expect("an empty disk");
        self.names.sync(Path::new("/")).expect("an empty disk");
    }

    /// An operator begins again with nothing.
    pub fn wipe(&mut self) {
        self.names = Names::new();
        self.make_root();
        self.sweep();
    }

    /// What goes wrong from now on.
    pub fn set_faults(&mut self, faults: &Faults) {
        self.faults = faults.clone();
    }

    /// The next sync of a directory fails.
    #[cfg(test)]
    pub fn fail_sync_of(&mut self, path: &str) {
        self.failing = Some(path.into());
    }

    /// There is no room.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Steps and reads that have failed so far.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Steps since this was last asked, each with its number and whether it went well.
    pub fn take_done(&mut self) -> Vec<(u64, bool)> {
        std::mem::take(&mut self.done)
    }

    /// How many files were not opened since this was last asked.
    pub fn take_unopened(&mut self) -> u32 {
        std::mem::take(&mut self.unopened)
    }

    /// A start begins, in which a read may fail.
    pub fn begin_start(&mut self) {
        self.failures.clear();
        let fails = self.random.chance(self.faults.disk_read_fails);
        self.reads_left = fails.then(|| self.random.below(30));
        let ending = &mut self.ending;
        let ends = ending.random.chance(self.faults.start_ends);
        // Short starts have a dozen pieces, those of several logs hundreds.
        ending.left = ends.then(|| {
            let most = ending.random.pick(&[15, 60, 300]);
            ending.random.range(1, most)
        });
    }

    /// The start is over; whether the process has ended within it.
    pub fn end_start(&mut self) -> bool {
        self.ending.left.take() == Some(0)
    }

    /// The next piece of a start; an error where the process is no more.
    fn goes_on(&mut self) -> io::Result<()> {
        match &mut self.ending.left {
            None => return Ok(()),
            Some(0) => {}
            Some(left) => {
                *left -= 1;
                if *left > 0 {
                    return Ok(());
                }
                self.failed += 1;
            }
        }
        Err(io::Error::other("the process ends within its start"))
    }

    /// The power is cut.
    pub fn power_cut(&mut self) {
        self.names.power_cut(&mut self.random);
        self.sweep();
    }

    /// The process has ended.
    pub fn killed(&mut self) {
        self.sweep();
    }

    /// Whether a file of this number has a name.
    pub fn has_name(&mut self, file: u64) -> bool {
        self.names.has_name(file)
    }

    /// The names in a directory; none where there is no such directory.
    pub fn list(&self, path: &Path) -> Vec<String> {
        self.names.list(path).unwrap_or_default()
    }

    /// Where steps of this life of the server have failed.
    pub fn failures(&self) -> &BTreeSet<PathBuf> {
        &self.failures
    }

    /// A life has begun that knows of these folders of the log, and no others.
    pub fn knows(&mut self, known: &BTreeMap<PathBuf, Vec<String>>) {
        let logs = Path::new(DATA).join("log");
        let folders = self.list(&logs).into_iter().map(|name| logs.join(name));
        self.foreign = folders.filter(|folder| !known.contains_key(folder)).collect();
    }

    /// Folders of the log that nobody knew when this life began: each start says so, and leaves them.
    pub fn foreign(&self) -> &BTreeSet<PathBuf> {
        &self.foreign
    }

    /// Files that nothing leads to are no more.
    fn sweep(&mut self) {
        let kept = self.names.sweep();
        let mut disk = self.disk.borrow_mut();
        let gone: Vec<u64> = disk.files().filter(|file| !kept.contains(file)).collect();
        for file in gone {
            disk.delete(file);
        }
    }

    fn chance(&mut self, per_mille: u32, error: i32) -> io::Result<()> {
        if self.random.chance(per_mille) {
            return Err(io::Error::from_raw_os_error(error));
        }
        Ok(())
    }

    /// How long the next piece takes.
    fn delay_ns(&mut self) -> u64 {
        let slow = self.random.chance(self.faults.disk_slow);
        20 * US + self.random.below(if slow { 50 * MS } else { 300 * US })
    }

    /// Something new needs room.
    fn room(&mut self) -> io::Result<()> {
        if self.full {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.chance(self.faults.disk_no_space, libc::ENOSPC)
    }

    /// A name changes, or is to be durable.
    fn naming(&mut self) -> io::Result<()> {
        self.goes_on()?;
        self.chance(self.faults.names_fail, libc::EIO)
    }

    /// An empty file of that name.
    fn make(&mut self, path: &Path) -> io::Result<u64> {
        self.goes_on()?;
        self.room()?;
        let file = self.disk.borrow_mut().create(Vec::new());
        let put = self.names.put(path, file);
        if put.is_err() {
            self.disk.borrow_mut().delete(file);
        }
        put.map(|()| file)
    }

    fn write(&mut self, file: u64, bytes: &[u8]) -> io::Result<()> {
        let room = self.room();
        self.write_at(file, 0, bytes, room)
    }

    /// Where there is room, or no more is needed. A file that has lost its name is written to for nobody.
    fn write_at(&mut self, file: u64, at: u64, bytes: &[u8], room: io::Result<()>) -> io::Result<()> {
        let is_over = self.ending.left == Some(0);
        let ends = self.goes_on();
        if is_over {
            return ends;
        }
        let failure = ends.and(room).and_then(|()| self.chance(self.faults.disk_write_fails, libc::EIO));
        let written = if failure.is_err() { self.random.index(bytes.len() + 1) } else { bytes.len() };
        let mut disk = self.disk.borrow_mut();
        if disk.has(file) {
            disk.write(file, at, &bytes[..written]);
        }
        failure
    }

    fn sync(&mut self, file: u64) -> io::Result<()> {
        self.goes_on()?;
        let failure = self.chance(self.faults.disk_sync_fails, libc::EIO);
        self.synced(file, failure)
    }

    /// A sync at a start.
    fn sync_at_start(&mut self, file: u64) -> io::Result<()> {
        self.goes_on()?;
        let failure = self.chance(self.faults.start_sync_fails, libc::EIO);
        self.synced(file, failure)
    }

    fn synced(&mut self, file: u64, failure: io::Result<()>) -> io::Result<()> {
        let drops = failure.is_err() && self.random.chance(500);
        let mut disk = self.disk.borrow_mut();
        match &failure {
            // It has lost its name, and nobody looks at it any more.
            _ if !disk.has(file) => {}
            Ok(()) => disk.sync(file),
            Err(_) if drops => disk.drop_unsynced(file),
            Err(_) => {}
        }
        failure
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.naming()?;
        if self.failing.take_if(|failing| failing == path).is_some() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        if !self.disk.borrow().lies() {
            self.names.sync(path)?;
            self.sweep();
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.naming()?;
        self.names.rename(from, to)
    }

    fn keep(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let Ok(file) = self.names.file(from) else { return Ok(()) };
        self.naming()?;
        self.names.put(to, file)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        if self.names.find(path).is_none() {
            return Ok(());
        }
        self.naming()?;
        self.names.take(path)
    }

    /// What is left in a directory that is to go.
    fn left_in(&self, path: &Path) -> Option<Vec<PathBuf>> {
        let Some(Node::Dir(_)) = self.names.find(path) else { return None };
        Some(self.list(path).iter().map(|name| path.join(name)).collect())
    }

    fn contents(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let Some(Node::File(file)) = self.names.find(path) else { return Ok(None) };
        self.reading()?;
        Ok(Some(self.disk.borrow().contents(file)))
    }

    /// A read at a start.
    fn reading(&mut self) -> io::Result<()> {
        self.goes_on()?;
        let left = self.reads_left;
        self.reads_left = left.and_then(|left| left.checked_sub(1));
        if left != Some(0) {
            return Ok(());
        }
        self.failed += 1;
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    fn ended(&mut self, result: &io::Result<()>) {
        self.steps += 1;
        self.failed += u64::from(result.is_err());
        self.done.push((self.steps, result.is_ok()));
    }
}

/// Where control has its files.
pub const DATA: &str = "/data";

/// The files as one life of a server has them.
#[derive(Clone)]
pub struct SimFiles {
    files: Rc<RefCell<FileSystem>>,
    executor: Rc<Executor>,
}

impl std::fmt::Debug for SimFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimFiles")
    }
}

impl SimFiles {
    /// On this life's time.
    pub fn new(files: Rc<RefCell<FileSystem>>, executor: Rc<Executor>) -> SimFiles {
        SimFiles { files, executor }
    }

    /// A piece of a step takes its time, but at a start, where nothing else goes on.
    async fn pause(&self, at_once: bool) {
        if !at_once {
            let delay_ns = self.files.borrow_mut().delay_ns();
            SimHost(Rc::clone(&self.executor)).sleep(Duration::from_nanos(delay_ns)).await;
        }
    }

    async fn carry_out(&self, step: &Step, at_once: bool) -> io::Result<()> {
        let result = self.pieces(step, at_once).await;
        let mut files = self.files.borrow_mut();
        files.ended(&result);
        if result.is_err() {
            files.failures.insert(step.path().to_owned());
            if let Step::Rename { from, .. } = step {
                files.failures.insert(from.clone());
            }
        }
        result
    }

    async fn pieces(&self, step: &Step, at_once: bool) -> io::Result<()> {
        self.pause(at_once).await;
        let files = || self.files.borrow_mut();
        match step {
            Step::Write { path, bytes } => self.write(path, bytes, at_once).await,
            Step::Reserve { path, bytes, .. } => {
                let zeros = vec![0; usize::try_from(*bytes).expect("small")];
                self.write(path, &zeros, at_once).await
            }
            Step::Blank { path, .. } => {
                let file = files().names.file(path)?;
                files().write(file, &vec![0; usize::try_from(BLOCK_BYTES).expect("small")])?;
                self.pause(at_once).await;
                files().sync(file)
            }
            Step::Keep { from, to } => files().keep(from, to),
            Step::Rename { from, to } => files().rename(from, to),
            Step::SyncDir { path } => files().sync_dir(path),
            Step::Remove { path } => files().remove(path),
            Step::MakeDir { path } => {
                files().naming()?;
                files().names.make_dirs(path)
            }
            Step::RemoveDir { path } => {
                let left = files().left_in(path);
                for path in left.iter().flatten() {
                    files().remove(path)?;
                    self.pause(at_once).await;
                }
                files().remove(path)
            }
        }
    }

    async fn write(&self, path: &Path, bytes: &[u8], at_once: bool) -> io::Result<()> {
        let files = || self.files.borrow_mut();
        let file = files().make(path)?;
        self.pause(at_once).await;
        files().write(file, bytes)?;
        self.pause(at_once).await;
        files().sync(file)
    }
}

impl Volume for SimFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.files.borrow_mut().contents(path)
    }

    fn apply(&self, step: Step) -> FileWork<()> {
        let files = self.clone();
        Box::pin(async move { files.carry_out(&step, false).await })
    }

    fn open(&self, path: PathBuf, _how: Opening) -> FileWork<FileHandle> {
        let this = self.clone();
        Box::pin(async move {
            this.pause(false).await;
            let mut files = this.files.borrow_mut();
            let opened = files.naming();
            files.ended(&opened);
            if opened.is_err() {
                files.unopened += 1;
                files.failures.insert(path.clone());
            }
            opened?;
            let file = files.names.file(&path)?;
            let disk = files.disk.borrow();
            this.executor.opened();
            Ok(disk.open(file))
        })
    }
}

impl Tree for SimFiles {
    type Store = Folder;

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut files = self.files.borrow_mut();
        files.reading()?;
        files.names.list(dir)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let files = self.files.borrow();
        let file = files.names.file(path)?;
        let disk = files.disk.borrow();
        Ok(disk.length(file))
    }

    fn apply(&self, step: &Step) -> io::Result<()> {
        let mut work = Box::pin(self.carry_out(step, true));
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("nothing waits at a start"),
        }
    }

    fn write_again(&self, path: &Path, bytes: Range<u64>) -> io::Result<()> {
        let mut files = self.files.borrow_mut();
        let file = files.names.file(path)?;
        let length = usize::try_from(bytes.end - bytes.start).expect("files are small");
        let held = files.disk.borrow().read_at(file, bytes.start, length);
        let result = files.write_at(file, bytes.start, &held, Ok(()));
        files.ended(&result);
        result
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut files = self.files.borrow_mut();
        let file = files.names.file(path)?;
        let result = files.sync_at_start(file);
        files.ended(&result);
        result
    }

    fn store(&self, folder: &Path, segments: Vec<(u64, u64)>) -> Folder {
        Folder { files: Rc::clone(&self.files), folder: folder.to_owned(), segments }
    }
}

/// A partition's folder, as recovery reads it.
pub struct Folder {
    files: Rc<RefCell<FileSystem>>,
    folder: PathBuf,
    segments: Vec<(u64, u64)>,
}

impl LogStore for Folder {
    fn segments(&self) -> io::Result<Vec<(u64, u64)>> {
        Ok(self.segments.clone())
    }

    fn read_at(&self, sequence: u64, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut files = self.files.borrow_mut();
        files.reading()?;
        let file = files.names.file(&self.folder.join(LogFile::Segment(sequence).name()))?;
        let bytes = files.disk.borrow().read_at(file, at, into.len());
        into[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn read_small(&self, file: LogFile) -> io::Result<Option<Vec<u8>>> {
        self.files.borrow_mut().contents(&self.folder.join(file.name()))
    }
}
