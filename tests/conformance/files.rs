//! Operations on files: what is written is there, in whatever order it completes, and everything ends.

use std::fs::File;
use std::io::Write;
#[cfg(feature = "epoll")]
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use uringest::buf::{Mapping, Pages, Span};
use uringest::ids::{FileId, RegionId};
use uringest::io::{FileHandle, Io, IoError, Op, Outcome, Token, TokenKind, Wait};
use uringest::limits::FILE_OPS_PER_SHARD;

use crate::races::{alone, fill};
use crate::world::{ARENA, BULK, BULK_BYTES, Backend, Shape, World, pattern, write_all};

/// A ring as a partition has it: mirrored, and nothing is received into it.
const LOG: RegionId = RegionId(3);
const LOG_BYTES: usize = 256 * 1024;
const BLOCK: usize = 4096;

/// A folder on a real disk where there is one, or wherever temporary files go.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// A file of so many zeros, written and durable, open for direct I/O where that is wanted and the file system has it.
fn file_of(folder: &Path, name: &str, bytes: usize, direct: bool) -> FileHandle {
    let path = folder.join(name);
    let mut file = File::create(&path).expect("a file");
    file.write_all(&vec![0; bytes]).expect("written");
    file.sync_all().expect("durable");
    open(&path, direct)
}

fn open(path: &Path, direct: bool) -> FileHandle {
    let mut options = File::options();
    options.read(true).write(true);
    if direct {
        match options.clone().custom_flags(libc::O_DIRECT).open(path) {
            Ok(file) => return FileHandle::Fd { fd: OwnedFd::from(file), direct },
            Err(error) => println!("no direct I/O here: {error}"),
        }
    }
    FileHandle::Fd { fd: OwnedFd::from(options.open(path).expect("a file")), direct: false }
}

fn of(file: File) -> FileHandle {
    FileHandle::Fd { fd: OwnedFd::from(file), direct: false }
}

fn span(region: RegionId, at: usize, bytes: usize) -> Span {
    Span { region, at: at as u64, bytes: u32::try_from(bytes).expect("small") }
}

impl<B: Backend> World<B> {
    fn with_log(shape: Shape) -> Option<World<B>> {
        let mut world = World::<B>::new(shape)?;
        let log = Arc::new(Mapping::mirrored(LOG_BYTES, Pages::Small).expect("memory for a test"));
        world.io.attach_region(LOG, &log, false);
        world.buffers.memory.attach(LOG, log);
        Some(world)
    }

    fn attach_file(&mut self, file: FileHandle) -> FileId {
        self.io.attach_file(file).expect("room for a file")
    }

    fn detach_file(&mut self, file: FileId) -> File {
        let FileHandle::Fd { fd, .. } = self.io.detach_file(file) else { panic!("a descriptor") };
        File::from(fd)
    }

    fn put(&mut self, to: Span, bytes: &[u8]) {
        self.buffers.memory.bytes_mut(to).copy_from_slice(bytes);
    }

    fn write(&mut self, file: FileId, at: usize, from: Span) -> Token {
        self.submit(Op::WriteFile { file, at: at as u64, from }, TokenKind::FileWrite, 0)
    }

    fn read(&mut self, file: FileId, at: usize, into: Span) -> Token {
        self.submit(Op::ReadFile { file, at: at as u64, into }, TokenKind::FileRead, 0)
    }

    fn write_durably(&mut self, file: FileId, at: usize, from: Span) -> Token {
        self.submit(Op::WriteFileDurably { file, at: at as u64, from }, TokenKind::FileWrite, 0)
    }

    fn sync(&mut self, file: FileId) -> Token {
        self.submit(Op::SyncFile { file }, TokenKind::FileSync, 0)
    }

    fn written(&mut self, file: FileId, at: usize, from: Span) {
        let token = self.write(file, at, from);
        self.ends(token, Outcome::Written { bytes: from.bytes });
    }

    fn synced(&mut self, file: FileId) {
        let token = self.sync(file);
        self.ends(token, Outcome::Done);
    }

    /// Reads into memory that held something else before.
    fn got(&mut self, file: FileId, at: usize, into: Span) -> Vec<u8> {
        self.buffers.memory.bytes_mut(into).fill(0xee);
        let token = self.read(file, at, into);
        self.ends(token, Outcome::Read { bytes: into.bytes });
        self.buffers.memory.bytes(into).to_vec()
    }

    fn failed(&mut self, token: Token) -> IoError {
        match self.next(token).outcome {
            Outcome::Failed(error) => error,
            other => panic!("it succeeds: {other:?}"),
        }
    }

    fn all_given_up(self) {
        assert_eq!(B::files(&self.io), 0, "all files are given up");
        self.settled();
    }
}

macro_rules! log_world {
    ($backend:ident) => {
        match World::<$backend>::with_log(Shape::default()) {
            Some(world) => world,
            None => return,
        }
    };
}

pub fn what_is_written_is_there<B: Backend>() {
    let mut world = log_world!(B);
    let folder = folder();
    for (name, direct) in [("direct", true), ("buffered", false)] {
        let file = file_of(folder.path(), name, 1 << 20, direct);
        let file = world.attach_file(file);
        let mut expected = vec![0; 1 << 20];
        // From memory that is registered where the backend does that, and from memory that never is.
        for (number, (region, at, bytes)) in (1u64..).zip([
            (LOG, 0, BLOCK),
            (LOG, 16 * BLOCK, 16 * BLOCK),
            (BULK, BLOCK, 32 * BLOCK),
            (ARENA, 0, 128 * BLOCK),
        ]) {
            let bytes = pattern(number, bytes);
            let from = span(region, at, bytes.len());
            let to = 64 * BLOCK * usize::try_from(number - 1).expect("small");
            world.put(from, &bytes);
            if number % 2 == 0 {
                let token = world.write_durably(file, to, from);
                world.ends(token, Outcome::Written { bytes: from.bytes });
            } else {
                world.written(file, to, from);
            }
            expected.resize(expected.len().max(to + bytes.len()), 0);
            expected[to..to + bytes.len()].copy_from_slice(&bytes);
        }
        world.synced(file);
        assert!(world.got(file, 0, span(ARENA, 0, expected.len())) == expected, "{name}: what was written");
        assert!(
            world.got(file, 64 * BLOCK, span(BULK, 0, 16 * BLOCK))[..] == expected[64 * BLOCK..80 * BLOCK]
        );
        drop(world.detach_file(file));
        assert!(std::fs::read(folder.path().join(name)).expect("readable") == expected, "{name}: on disk");
    }
    world.all_given_up();
}

/// Writes so many blocks to a file in memory, and syncs it.
#[cfg(feature = "epoll")]
pub fn writes<B: Backend>(blocks: usize) {
    let mut world = log_world!(B);
    // SAFETY: a valid name; the descriptor is new and nobody else's.
    let file =
        unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"conformance".as_ptr(), libc::MFD_CLOEXEC)) };
    let file = world.attach_file(FileHandle::Fd { fd: file, direct: false });
    for block in 0..blocks {
        world.written(file, block * BLOCK, span(LOG, 0, BLOCK));
    }
    world.synced(file);
    assert_eq!(world.detach_file(file).metadata().expect("a file").len(), (blocks * BLOCK) as u64);
}

/// The last bytes of a ring and the first are side by side for a file too.
pub fn spans_cross_a_rings_end<B: Backend>() {
    let mut world = log_world!(B);
    let folder = folder();
    let file = file_of(folder.path(), "file", 64 * BLOCK, true);
    let file = world.attach_file(file);
    for (region, ring) in [(LOG, LOG_BYTES), (BULK, BULK_BYTES)] {
        let bytes = pattern(ring as u64 + u64::from(region.0), 4 * BLOCK);
        let from = span(region, ring - BLOCK, bytes.len());
        world.put(from, &bytes);
        world.written(file, BLOCK, from);
        assert!(world.buffers.memory.bytes(span(region, 0, 3 * BLOCK)) == &bytes[BLOCK..], "one memory");
        assert!(world.got(file, BLOCK, span(region, ring - 3 * BLOCK, bytes.len())) == bytes);
        assert!(world.buffers.memory.bytes(span(region, 0, BLOCK)) == &bytes[3 * BLOCK..], "over the end");
    }
    drop(world.detach_file(file));
    world.all_given_up();
}

/// Wherever in a ring a transfer lies, and however large it is.
pub fn large_rings<B: Backend>() {
    const RING: usize = 64 << 20;
    const LARGE: RegionId = RegionId(4);
    let mut world = log_world!(B);
    let ring = Arc::new(Mapping::mirrored(RING, Pages::Small).expect("memory for a test"));
    let folder = folder();
    let file = file_of(folder.path(), "file", BLOCK, true);
    let file = world.attach_file(file);
    for round in 0..2 {
        // Attached anew it is another region, of whatever was known of the one before.
        world.io.attach_region(LARGE, &ring, false);
        world.buffers.memory.attach(LARGE, Arc::clone(&ring));
        let half = RING / 2;
        for (number, (at, bytes)) in (1u64..).zip([
            (0, BLOCK),
            (half - BLOCK, 2 * BLOCK),
            (half - 2 * BLOCK, 1 << 20),
            (half - BLOCK, 6 << 20),
            (RING - BLOCK, 1 << 20),
            (RING - BLOCK, 6 << 20),
            (RING + half, 1 << 20),
            (2 * RING - BLOCK, BLOCK),
        ]) {
            let content = pattern(number + 100 * round, bytes);
            let from = span(LARGE, at, bytes);
            world.put(from, &content);
            world.written(file, 0, from);
            assert!(world.got(file, 0, from) == content, "{bytes} bytes at {at}");
            let other = span(LARGE, (at + 8 * BLOCK) % RING, bytes);
            assert!(world.got(file, 0, other) == content, "{bytes} bytes at {at}, read to elsewhere");
        }
        world.io.detach_region(LARGE);
        world.buffers.memory.detach(LARGE);
    }
    drop(world.detach_file(file));
    world.all_given_up();
}

/// More than the queues hold, of several files, in no particular order.
pub fn many_file_operations<B: Backend>() {
    const FILES: usize = 4;
    const BLOCKS: usize = 64;
    let rounds = FILE_OPS_PER_SHARD as usize / (FILES * BLOCKS) + 1;
    let mut world = log_world!(B);
    let folder = folder();
    let files: Vec<FileId> = (0..FILES)
        .map(|number| {
            let file = file_of(folder.path(), &number.to_string(), BLOCKS * BLOCK, number % 2 == 0);
            world.attach_file(file)
        })
        .collect();
    let bytes = pattern(5, FILES * BLOCKS * BLOCK);
    world.put(span(ARENA, 0, bytes.len()), &bytes);
    let mut tokens = Vec::new();
    for block in 0..BLOCKS {
        for (number, file) in files.iter().enumerate() {
            let from = span(ARENA, (number * BLOCKS + block) * BLOCK, BLOCK);
            tokens.push(world.write(*file, block * BLOCK, from));
        }
        if block % 16 == 0 {
            tokens.extend(files.iter().map(|file| world.sync(*file)).collect::<Vec<_>>());
        }
    }
    world.until("all writes", |world| world.open.is_empty());
    assert_eq!(world.seen.len(), tokens.len());
    for completion in std::mem::take(&mut world.seen) {
        let written = Outcome::Written { bytes: u32::try_from(BLOCK).expect("small") };
        assert!(
            matches!(completion.outcome, Outcome::Done) || completion.outcome == written,
            "{completion:?}"
        );
    }
    let into = FILES * BLOCKS * BLOCK;
    for round in 0..rounds {
        for (number, file) in files.iter().enumerate() {
            for block in 0..BLOCKS {
                let at = into + ((round % 4) * FILES * BLOCKS + number * BLOCKS + block) * BLOCK;
                world.read(*file, block * BLOCK, span(ARENA, at, BLOCK));
            }
        }
    }
    world.until("all reads", |world| world.open.is_empty());
    assert_eq!(world.seen.len(), rounds * FILES * BLOCKS);
    for round in 0..rounds.min(4) {
        let got = world.buffers.memory.bytes(span(ARENA, into + round * into, into));
        assert!(got == bytes, "round {round}: everything is where it belongs");
    }
    world.seen.clear();
    for file in files {
        world.synced(file);
        drop(world.detach_file(file));
    }
    world.all_given_up();
}

/// A file goes, another takes its number, and the rest never notice.
pub fn files_come_and_go<B: Backend>() {
    let mut world = log_world!(B);
    let folder = folder();
    let make = |name: &str| file_of(folder.path(), name, 4 * BLOCK, true);
    let (a, b, c) =
        (world.attach_file(make("a")), world.attach_file(make("b")), world.attach_file(make("c")));
    for (number, file) in [a, b, c].into_iter().enumerate() {
        world.put(span(LOG, number * BLOCK, BLOCK), &pattern(number as u64, BLOCK));
        world.written(file, 0, span(LOG, number * BLOCK, BLOCK));
    }
    let mut outside = world.detach_file(b);
    assert_eq!(B::files(&world.io), 2);
    outside.flush().expect("it is still open");
    let d = world.attach_file(make("d"));
    world.put(span(LOG, 3 * BLOCK, BLOCK), &pattern(3, BLOCK));
    let written = world.write(d, 0, span(LOG, 3 * BLOCK, BLOCK));
    let read = world.read(a, 0, span(LOG, 8 * BLOCK, BLOCK));
    world.ends(written, Outcome::Written { bytes: u32::try_from(BLOCK).expect("small") });
    world.ends(read, Outcome::Read { bytes: u32::try_from(BLOCK).expect("small") });
    for file in [a, c, d] {
        world.synced(file);
        drop(world.detach_file(file));
    }
    drop(outside);
    for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let found = std::fs::read(folder.path().join(name)).expect("readable");
        assert!(found[..BLOCK] == pattern(number as u64, BLOCK), "{name}");
    }
    let Err((_, given_back)) = world.io.attach_file(FileHandle::Simulated(7)) else { panic!("no such file") };
    assert!(matches!(given_back, FileHandle::Simulated(7)));
    world.all_given_up();
}

pub fn files_end_where_they_end<B: Backend>() {
    let mut world = log_world!(B);
    let folder = folder();
    let path = folder.path().join("short");
    let content = pattern(1, BLOCK + 100);
    std::fs::write(&path, &content).expect("written");
    let file = world.attach_file(open(&path, false));
    let token = world.read(file, 0, span(LOG, 0, 4 * BLOCK));
    world.ends(token, Outcome::Read { bytes: u32::try_from(content.len()).expect("small") });
    assert!(world.buffers.memory.bytes(span(LOG, 0, content.len())) == content);
    let token = world.read(file, content.len(), span(LOG, 0, BLOCK));
    world.ends(token, Outcome::EndOfStream);
    let token = world.read(file, 1 << 20, span(LOG, 0, BLOCK));
    world.ends(token, Outcome::EndOfStream);
    drop(world.detach_file(file));
    world.all_given_up();
}

pub fn faults_of_files_are_told<B: Backend>() {
    let mut world = log_world!(B);
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, vec![1; BLOCK]).expect("written");
    let read_only = world.attach_file(of(File::open(&path).expect("a file")));
    let token = world.write(read_only, 0, span(LOG, 0, BLOCK));
    assert_eq!(world.failed(token), IoError::Os(libc::EBADF));
    let token = world.write_durably(read_only, 0, span(LOG, 0, BLOCK));
    assert_eq!(world.failed(token), IoError::Os(libc::EBADF));
    assert_eq!(world.got(read_only, 0, span(LOG, 0, BLOCK)), [1; BLOCK], "it can still be read");
    world.synced(read_only);
    let write_only = world.attach_file(of(File::options().write(true).open(&path).expect("a file")));
    let token = world.read(write_only, 0, span(LOG, 0, BLOCK));
    assert_eq!(world.failed(token), IoError::Os(libc::EBADF));
    let full = world.attach_file(of(File::options().write(true).open("/dev/full").expect("a device")));
    let token = world.write(full, 0, span(LOG, 0, BLOCK));
    assert_eq!(world.failed(token), IoError::NoSpace);
    let token = world.sync(full);
    assert_eq!(world.failed(token), IoError::Os(libc::EINVAL), "a device with nothing to sync");
    for file in [read_only, write_only, full] {
        drop(world.detach_file(file));
    }
    world.all_given_up();
}

/// A file system that fills up takes what it has room for, then says so; with room made, it goes on.
pub fn a_full_disk<B: Backend>(name: &str) {
    const ROOM: usize = 64 * 1024;
    if !alone(name) {
        return;
    }
    let mut world = log_world!(B);
    let folder = folder();
    let Some(_mounted) = Mounted::small(folder.path(), ROOM) else {
        println!("SKIPPED: a file system of its own cannot be mounted here");
        return;
    };
    let path = folder.path().join("file");
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
    let file = world.attach_file(of(file));
    let content = pattern(2, 2 * ROOM);
    world.put(span(LOG, 0, content.len()), &content);
    let mut at = 0;
    let error = loop {
        assert!(at < content.len(), "a disk of {ROOM} bytes took {at}");
        let bytes = (6 * BLOCK).min(content.len() - at);
        let token = world.write(file, at, span(LOG, at, bytes));
        match world.next(token).outcome {
            Outcome::Written { bytes } => at += bytes as usize,
            Outcome::Failed(error) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error, IoError::NoSpace);
    assert!(at > 0);
    assert!(world.got(file, 0, span(ARENA, 0, at)) == content[..at], "what was taken is there");
    let taken = world.detach_file(file);
    taken.set_len(0).expect("room is made");
    let file = world.attach_file(of(taken));
    world.written(file, 0, span(LOG, 0, BLOCK));
    drop(world.detach_file(file));
    world.all_given_up();
}

/// A file system in memory, of this process alone, until it is dropped.
struct Mounted(std::ffi::CString);

impl Mounted {
    fn small(at: &Path, bytes: usize) -> Option<Mounted> {
        let path = std::ffi::CString::new(at.to_str()?).ok()?;
        let options = std::ffi::CString::new(format!("size={bytes}")).ok()?;
        let kind = c"tmpfs".as_ptr();
        // SAFETY: no memory is involved; the caller is alone in its process, which leaves the mounts of others alone.
        let apart = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
        // SAFETY: all are valid strings for the length of the calls.
        let mounted = apart
            && unsafe {
                libc::mount(
                    std::ptr::null(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) == 0
                    && libc::mount(kind, path.as_ptr(), kind, 0, options.as_ptr().cast()) == 0
            };
        mounted.then_some(Mounted(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // SAFETY: a valid string for the length of the call.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Traffic and files at once: neither keeps the other waiting, nothing is mixed up.
pub fn files_beside_sockets<B: Backend>() {
    const BYTES: usize = 8 << 20;
    let mut world = log_world!(B);
    let folder = folder();
    let file = file_of(folder.path(), "file", LOG_BYTES, true);
    let file = world.attach_file(file);
    let content = pattern(3, LOG_BYTES);
    world.put(span(LOG, 0, LOG_BYTES), &content);
    let (sock, peer) = world.one();
    let sent = pattern(4, BYTES);
    let writer = write_all(peer, sent.clone());
    let mut receive = world.receive(sock, 9);
    let mut files: Vec<Token> = Vec::new();
    let (mut at, mut ended) = (0, 0);
    world.until("the bytes", |world| {
        if !world.open.contains_key(&receive) {
            receive = world.receive(sock, 9);
        }
        ended += files.extract_if(.., |token| !world.open.contains_key(token)).count();
        while files.len() < 6 {
            files.push(world.write(file, at, span(LOG, at, 4 * BLOCK)));
            files.push(world.sync(file));
            at = (at + 4 * BLOCK) % LOG_BYTES;
        }
        for completion in std::mem::take(&mut world.seen) {
            assert!(!matches!(completion.outcome, Outcome::Failed(error) if error != IoError::NoBuffers));
        }
        world.streams.get(&9).is_some_and(|stream| stream.len() == BYTES) && ended > LOG_BYTES / (2 * BLOCK)
    });
    assert!(world.streams[&9] == sent, "what was sent");
    drop(writer.join().expect("the writer"));
    world.cancel(receive);
    world.until("the last of the files", |world| world.open.is_empty());
    world.seen.clear();
    assert!(world.got(file, 0, span(ARENA, 0, LOG_BYTES)) == content, "what was written");
    world.close(sock, 9);
    drop(world.detach_file(file));
    world.all_given_up();
}

/// A cancel of an operation on a file waits for its end, and changes nothing.
pub fn cancels_of_files_wait<B: Backend>() {
    let mut world = log_world!(B);
    let folder = folder();
    let file = file_of(folder.path(), "file", 64 * BLOCK, false);
    let file = world.attach_file(file);
    for round in 0..16 {
        let content = pattern(round, 16 * BLOCK);
        world.put(span(LOG, 0, content.len()), &content);
        let targets = [world.write(file, 0, span(LOG, 0, content.len())), world.sync(file)];
        if round % 2 == 0 {
            world.pump(Wait::No);
        }
        for target in targets {
            world.cancel(target);
        }
        world.ends(targets[0], Outcome::Written { bytes: u32::try_from(content.len()).expect("small") });
        world.ends(targets[1], Outcome::Done);
        assert!(world.got(file, 0, span(ARENA, 0, content.len())) == content);
    }
    drop(world.detach_file(file));
    world.all_given_up();
}

/// Its memory and files are let go of when the disk has finished with them, not before.
pub fn dropped_with_files_in_flight<B: Backend>() {
    const BYTES: usize = 4 << 20;
    for round in 0..4 {
        let mut world = log_world!(B);
        let folder = folder();
        let path = folder.path().join("file");
        let direct = round % 2 == 0;
        let handle = file_of(folder.path(), "file", BYTES, direct);
        let file = world.attach_file(handle);
        let content = pattern(round + 1, BYTES);
        world.put(span(ARENA, 0, BYTES), &content);
        let (sock, _peer) = world.one();
        fill(&mut world, sock);
        world.submit(Op::PollWritable { sock }, TokenKind::Writable, 1);
        for at in (0..BYTES).step_by(16 * BLOCK) {
            let from = span(ARENA, at, 16 * BLOCK);
            if at % (32 * BLOCK) == 0 {
                world.write(file, at, from)
            } else {
                world.write_durably(file, at, from)
            };
        }
        world.sync(file);
        world.read(file, 0, span(LOG, 0, LOG_BYTES));
        if round >= 2 {
            world.pump(Wait::No);
        }
        let World { io, mut buffers, .. } = world;
        drop(io);
        // Nobody reads these bytes any more: other memory may be here from now on.
        buffers.memory.bytes_mut(span(ARENA, 0, BYTES)).fill(0xdd);
        drop(buffers);
        let found = File::open(&path).expect("a file");
        let mut block = vec![0; BLOCK];
        for at in (0..BYTES).step_by(BLOCK) {
            found.read_exact_at(&mut block, at as u64).expect("readable");
            let whole = block == content[at..at + BLOCK] || block.iter().all(|byte| *byte == 0);
            assert!(whole, "round {round}: the block at {at} is the old one or the new one");
        }
        let Some(world) = World::<B>::new(Shape::default()) else { return };
        world.settled();
    }
}
