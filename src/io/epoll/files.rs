//! Operations on files, by threads of their own: a poll set knows nothing of disks, and a call that waits for one must
//! not keep the shard waiting.
//!
//! There are three, so that a write waits for neither a sync in flight nor a reader's reads: one writes, one reads, one
//! makes durable. Each takes jobs from a queue, in order, and sleeps when there are none. What has been done goes to one list;
//! whoever finds it empty writes to the event descriptor in the poll set, and the shard takes all of it at once.
//!
//! State and owner: the shard's side owns the file table and the slots of operations in flight; jobs name descriptors
//! and memory, which the shard's side keeps until they are done. `limits::FILE_OPS_PER_SHARD` bounds all queues.
//!
//! Invariant: when `end` has said `true`, no thread touches any descriptor or memory.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::ids::FileId;
use crate::io::errors::result_of;
use crate::io::files::{Files, failed, read, written};
use crate::io::socket::write_event;
use crate::io::{FileHandle, IoError, Outcome, Token};
use crate::limits::FILE_OPS_PER_SHARD;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Write,
    WriteDurably,
    Read,
    Sync,
}

impl Work {
    /// Whose it is, by the place in `THREADS`.
    fn thread(self) -> usize {
        match self {
            Work::Write => 0,
            Work::Read => 1,
            Work::WriteDurably | Work::Sync => 2,
        }
    }
}

/// The threads' names.
const THREADS: [&str; 3] = ["files-write", "files-read", "files-sync"];
/// Bytes of a thread's stack: it calls the kernel, and nothing else.
const STACK_BYTES: usize = 128 * 1024;
/// After this time a disk that does not answer is left alone with the memory it was given.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a thread is to do.
struct Job {
    work: Work,
    slot: u32,
    fd: RawFd,
    at: u64,
    /// Where the bytes are or go; 0 for a sync.
    address: usize,
    bytes: usize,
}

/// What one thread is told.
#[derive(Default)]
struct Orders {
    jobs: VecDeque<Job>,
    /// It sleeps until it is told of a job.
    sleeps: bool,
    /// No more will come.
    closed: bool,
    /// It has ended.
    ended: bool,
}

/// One thread's queue.
#[derive(Default)]
struct Lane {
    orders: Mutex<Orders>,
    changed: Condvar,
}

/// What has been done, and the descriptor to say so.
struct Results {
    done: Mutex<Vec<(u32, Outcome)>>,
    event: OwnedFd,
}

/// A thread and its queue.
struct Helper {
    lane: Arc<Lane>,
    thread: JoinHandle<()>,
}

/// One operation in flight.
#[derive(Clone, Copy)]
struct Slot {
    token: Token,
    file: FileId,
    live: bool,
}

/// See the module.
pub(super) struct FileThreads {
    files: Files,
    results: Arc<Results>,
    /// None before the first file; then one for each of `THREADS`.
    helpers: Vec<Helper>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// (target, cancel)
    awaiting: Vec<(Token, Token)>,
    /// What `taken` gives out: swapped with the list of what has been done.
    taken: Vec<(u32, Outcome)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panics while it holds a lock has left what it guards as it was: nothing in there is done by halves.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileThreads {
    /// `event` is written to when there is something to take, and is the caller's to watch.
    pub(super) fn new(event: OwnedFd) -> FileThreads {
        FileThreads {
            files: Files::default(),
            results: Arc::new(Results { done: Mutex::new(Vec::new()), event }),
            helpers: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            awaiting: Vec::new(),
            taken: Vec::new(),
        }
    }

    pub(super) fn open(&self) -> u32 {
        self.files.open()
    }

    /// Operations in flight.
    pub(super) fn outstanding(&self) -> u32 {
        u32::try_from(self.slots.len() - self.free.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn attach(&mut self, file: FileHandle) -> Result<FileId, (IoError, FileHandle)> {
        if let Err(error) = self.start() {
            return Err((error, file));
        }
        self.files.attach(file)
    }

    pub(super) fn detach(&mut self, file: FileId) -> FileHandle {
        self.files.detach(file)
    }

    /// Starts the threads that are not there yet.
    fn start(&mut self) -> Result<(), IoError> {
        for name in THREADS.iter().skip(self.helpers.len()) {
            let lane = Arc::new(Lane::default());
            let (its_lane, results) = (Arc::clone(&lane), Arc::clone(&self.results));
            let thread = std::thread::Builder::new()
                .name((*name).to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || its_lane.serve(&results));
            match thread {
                Ok(thread) => self.helpers.push(Helper { lane, thread }),
                Err(error) => return Err(IoError::Os(error.raw_os_error().unwrap_or(libc::EAGAIN))),
            }
        }
        Ok(())
    }

    /// Hands an operation to its thread; false when too many are in flight.
    pub(super) fn submit(
        &mut self,
        work: Work,
        file: FileId,
        at: u64,
        memory: Option<(*mut u8, u32)>,
        token: Token,
    ) -> bool {
        if self.files.busy() {
            return false;
        }
        assert!(memory.is_none_or(|(_, bytes)| bytes > 0), "a transfer has bytes");
        let fd = self.files.fd(file.0);
        self.files.began(file.0);
        let entry = Slot { token, file, live: true };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let (address, bytes) = memory.map_or((0, 0), |(address, bytes)| (address as usize, bytes as usize));
        self.helpers[work.thread()].lane.tell(Job { work, slot, fd, at, address, bytes });
        true
    }

    /// Too many cancels wait for their targets' ends: no more can be taken.
    pub(super) fn cancels_are_many(&self) -> bool {
        self.awaiting.len() >= FILE_OPS_PER_SHARD as usize
    }

    /// Makes a cancel wait for its target's end; false when the target is none of these, or has ended.
    pub(super) fn cancel(&mut self, target: Token, cancel: Token) -> bool {
        let in_flight = self.slots.iter().any(|slot| slot.live && slot.token == target);
        if in_flight {
            self.awaiting.push((target, cancel));
        }
        in_flight
    }

    /// Takes what has been done; each is then given out by `next`.
    pub(super) fn take(&mut self) {
        debug_assert!(self.taken.is_empty(), "all that was taken has been given out");
        std::mem::swap(&mut self.taken, &mut *locked(&self.results.done));
        self.taken.reverse();
    }

    /// The next operation of those taken, and how it ended.
    pub(super) fn next(&mut self) -> Option<(Token, Outcome)> {
        let (index, outcome) = self.taken.pop()?;
        let slot = &mut self.slots[index as usize];
        assert!(slot.live, "an operation ends once");
        slot.live = false;
        let (token, file) = (slot.token, slot.file);
        self.free.push(index);
        self.files.ended(file.0);
        Some((token, outcome))
    }

    /// A cancel that waited for this operation, which has ended.
    pub(super) fn canceller(&mut self, target: Token) -> Option<Token> {
        let index = self.awaiting.iter().position(|(of, _)| *of == target)?;
        Some(self.awaiting.remove(index).1)
    }

    /// Ends the threads when they have done what they were told. `false`: the disk does not answer, what is in the queues
    /// is given up, and the memory under what is in flight must stay.
    pub(super) fn end(&mut self) -> bool {
        for helper in &self.helpers {
            helper.lane.close();
        }
        let deadline = Instant::now() + PATIENCE;
        let mut all = true;
        for Helper { lane, thread } in self.helpers.drain(..) {
            if lane.has_ended(deadline) {
                // A thread that has panicked touches nothing either.
                let _ = thread.join();
            } else {
                all = false;
            }
        }
        if !all {
            // A call keeps its file open by itself; before it begins its number must not become another file's.
            std::mem::forget(std::mem::take(&mut self.files));
        }
        all
    }
}

impl Lane {
    fn tell(&self, job: Job) {
        let mut orders = locked(&self.orders);
        orders.jobs.push_back(job);
        let wakes = std::mem::take(&mut orders.sleeps);
        drop(orders);
        if wakes {
            self.changed.notify_all();
        }
    }

    fn close(&self) {
        locked(&self.orders).closed = true;
        self.changed.notify_all();
    }

    /// Waits for the thread's end; at the deadline it is told to forget what it has not begun, and not waited for.
    fn has_ended(&self, deadline: Instant) -> bool {
        let orders = locked(&self.orders);
        let patience = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(orders, patience, |orders| !orders.ended);
        let (mut orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !orders.ended {
            orders.jobs.clear();
        }
        orders.ended
    }

    /// The thread.
    fn serve(&self, results: &Results) {
        let _ended = Ended(self);
        while let Some(job) = self.next() {
            let outcome = job.carry_out();
            let mut done = locked(&results.done);
            let first = done.is_empty();
            done.push((job.slot, outcome));
            drop(done);
            if first {
                write_event(&results.event);
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut orders = locked(&self.orders);
        loop {
            if let Some(job) = orders.jobs.pop_front() {
                return Some(job);
            }
            if orders.closed {
                return None;
            }
            orders.sleeps = true;
            orders = self.changed.wait(orders).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Says that the thread has ended, however it does.
struct Ended<'a>(&'a Lane);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        locked(&self.0.orders).ended = true;
        self.0.changed.notify_all();
    }
}

impl Job {
    fn carry_out(&self) -> Outcome {
        loop {
            let result = result_of(self.call());
            let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
            return match (self.work, result) {
                (_, Err(libc::EINTR)) => continue,
                (_, Err(errno)) => failed(errno),
                (Work::Write | Work::WriteDurably, Ok(done)) => written(bytes(done)),
                (Work::Read, Ok(done)) => read(bytes(done)),
                (Work::Sync, Ok(_)) => Outcome::Done,
            };
        }
    }

    fn call(&self) -> isize {
        let at = libc::off_t::try_from(self.at).unwrap_or(-1);
        match self.work {
            // SAFETY: descriptor and memory are kept by the shard's side until it has been told of this job's end, or
            // for ever (`FileThreads::end`); nobody writes to the bytes meanwhile (invariant 2 of `io`).
            Work::Write => unsafe { libc::pwrite(self.fd, self.address as *const _, self.bytes, at) },
            Work::WriteDurably => {
                let bytes = libc::iovec { iov_base: self.address as *mut _, iov_len: self.bytes };
                // SAFETY: as above; the iovec is valid for the length of the call.
                unsafe { libc::pwritev2(self.fd, &raw const bytes, 1, at, libc::RWF_DSYNC) }
            }
            // SAFETY: as above, and nobody reads them either.
            Work::Read => unsafe { libc::pread(self.fd, self.address as *mut _, self.bytes, at) },
            // SAFETY: no memory is involved; the descriptor is kept as above.
            Work::Sync => unsafe { libc::fdatasync(self.fd) as isize },
        }
    }
}
