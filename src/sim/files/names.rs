//! What the files of the simulated disk are called: directories, and which of their changes are durable.
//!
//! Model: a directory's changes are durable from its sync on. When the power is cut, each directory keeps those before some
//! point in their order: what came later was never there. A kill takes nothing back.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path};

use crate::sim::random::Random;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A file, by its number on the disk.
    File(u64),
    /// A directory, by its number here.
    Dir(u64),
}

type Entries = BTreeMap<String, Node>;

/// A change of a directory.
#[derive(Debug, Clone)]
enum Change {
    /// The name stands for that from now on.
    Put(String, Node),
    /// There is no such name any more.
    Take(String),
    /// One name goes, and what it stood for has the other.
    Move(String, String),
}

impl Change {
    fn apply(&self, entries: &mut Entries) {
        match self {
            Change::Put(name, node) => {
                entries.insert(name.clone(), *node);
            }
            Change::Take(name) => {
                entries.remove(name);
            }
            Change::Move(from, to) => {
                if let Some(node) = entries.remove(from) {
                    entries.insert(to.clone(), node);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Dir {
    now: Entries,
    durable: Entries,
    /// From the one to the other.
    changes: Vec<Change>,
}

const ROOT: u64 = 0;

/// See the module.
#[derive(Debug)]
pub struct Names {
    dirs: BTreeMap<u64, Dir>,
    made: u64,
    /// Files with a name, where that is known of what is now.
    named: Option<BTreeSet<u64>>,
}

fn not_found() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

impl Names {
    /// A root, and nothing in it.
    pub fn new() -> Names {
        Names { dirs: BTreeMap::from([(ROOT, Dir::default())]), made: ROOT, named: None }
    }

    /// What a path names.
    pub fn find(&self, path: &Path) -> Option<Node> {
        let mut node = Node::Dir(ROOT);
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Dir(dir) = node else { return None };
            node = *self.dirs[&dir].now.get(&text(name))?;
        }
        Some(node)
    }

    /// The file of that name.
    pub fn file(&self, path: &Path) -> io::Result<u64> {
        match self.find(path) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(io::Error::from_raw_os_error(libc::EISDIR)),
            None => Err(not_found()),
        }
    }

    fn dir(&self, path: &Path) -> io::Result<u64> {
        match self.find(path) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            None => Err(not_found()),
        }
    }

    /// The names in a directory.
    pub fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.dirs[&self.dir(path)?].now.keys().cloned().collect())
    }

    fn place(&self, path: &Path) -> io::Result<(u64, String)> {
        let name = path.file_name().ok_or_else(not_found)?;
        Ok((self.dir(path.parent().ok_or_else(not_found)?)?, text(name)))
    }

    fn change(&mut self, dir: u64, change: Change) {
        self.named = None;
        let dir = self.dirs.get_mut(&dir).expect("a directory that was found");
        change.apply(&mut dir.now);
        dir.changes.push(change);
    }

    /// The name stands for that file from now on.
    pub fn put(&mut self, path: &Path, file: u64) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        self.change(dir, Change::Put(name, Node::File(file)));
        Ok(())
    }

    /// There is no such name any more.
    pub fn take(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        self.change(dir, Change::Take(name));
        Ok(())
    }

    /// See rename(2), within a directory.
    ///
    /// # Panics
    /// When the names are of two directories.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ((dir, from), (other, to)) = (self.place(from)?, self.place(to)?);
        assert_eq!(dir, other, "control renames within a directory");
        if !self.dirs[&dir].now.contains_key(&from) {
            return Err(not_found());
        }
        self.change(dir, Change::Move(from, to));
        Ok(())
    }

    /// The directory, and those above it.
    pub fn make_dirs(&mut self, path: &Path) -> io::Result<()> {
        if self.find(path).is_some() {
            return self.dir(path).map(|_| ());
        }
        let parent = path.parent().ok_or_else(not_found)?;
        self.make_dirs(parent)?;
        let (dir, name) = self.place(path)?;
        self.made += 1;
        self.dirs.insert(self.made, Dir::default());
        self.change(dir, Change::Put(name, Node::Dir(self.made)));
        Ok(())
    }

    /// What is called what in a directory is so for good.
    pub fn sync(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        let dir = self.dirs.get_mut(&dir).expect("a directory that was found");
        dir.durable.clone_from(&dir.now);
        dir.changes.clear();
        Ok(())
    }

    /// The power is cut.
    pub fn power_cut(&mut self, random: &mut Random) {
        self.named = None;
        for dir in self.dirs.values_mut() {
            let all = dir.changes.len();
            let some = random.index(all + 1);
            let kept = random.pick(&[0, all, some]);
            for change in &dir.changes[..kept] {
                change.apply(&mut dir.durable);
            }
            dir.changes.clear();
            dir.now.clone_from(&dir.durable);
        }
    }

    /// Whether the file has a name now.
    pub fn has_name(&mut self, file: u64) -> bool {
        if self.named.is_none() {
            let mut files = BTreeSet::new();
            self.walk(|dir| dir.now.values().copied().collect(), &mut files);
            self.named = Some(files);
        }
        self.named.as_ref().is_some_and(|named| named.contains(&file))
    }

    /// Forgets directories that no way leads to, now or after a power cut; every file that has a name, or may have.
    pub fn sweep(&mut self) -> BTreeSet<u64> {
        let mut files = BTreeSet::new();
        let any = |dir: &Dir| {
            let put = dir.changes.iter().filter_map(|change| match change {
                Change::Put(_, node) => Some(*node),
                Change::Take(_) | Change::Move(..) => None,
            });
            dir.now.values().chain(dir.durable.values()).copied().chain(put).collect()
        };
        let seen = self.walk(any, &mut files);
        self.dirs.retain(|number, _| seen.contains(number));
        files
    }

    /// Notes the files, and says which directories there are.
    fn walk(&self, nodes: impl Fn(&Dir) -> Vec<Node>, files: &mut BTreeSet<u64>) -> BTreeSet<u64> {
        let mut seen = BTreeSet::from([ROOT]);
        let mut left = vec![ROOT];
        while let Some(dir) = left.pop() {
            for node in nodes(&self.dirs[&dir]) {
                match node {
                    Node::File(file) => {
                        files.insert(file);
                    }
                    Node::Dir(dir) if seen.insert(dir) => left.push(dir),
                    Node::Dir(_) => {}
                }
            }
        }
        seen
    }
}
