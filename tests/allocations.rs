//! At steady state a shard allocates nothing: whole servers in this process, with an allocator that counts what the
//! shards' threads ask for, and load from plain sockets.
//!
//! What is exempt: once a second a shard reports its partitions' log ends to control, in a message that control
//! frees. The reports are told apart by the allocation's backtrace, and bounded by the time that has passed.

#[path = "support/load.rs"]
mod load;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use load::{Batches, Load};
use uringest::config::{Config, IoChoice};
use uringest::server::{Options, RunningServer, exit, start};
use uringest::topic::TopicKind;

/// What the allocator knows of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thread {
    /// Not looked at yet.
    Unknown,
    /// Its allocations count.
    Shard,
    /// Its allocations do not count, for now or ever.
    Other,
}

thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread::Unknown) };
}

static COUNTING: AtomicBool = AtomicBool::new(false);
static COUNTED: AtomicUsize = AtomicUsize::new(0);
/// Where the first of them came from.
static TRACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());
const TRACES_MAX: usize = 32;

struct Counting;

impl Counting {
    fn note() {
        if !COUNTING.load(Ordering::Relaxed) {
            return;
        }
        // A thread that is ending has no thread-locals; it is no shard at work.
        let thread = THREAD.try_with(|thread| {
            if thread.get() == Thread::Unknown {
                thread.set(if is_shard() { Thread::Shard } else { Thread::Other });
            }
            thread.get()
        });
        if thread != Ok(Thread::Shard) {
            return;
        }
        if COUNTED.fetch_add(1, Ordering::Relaxed) < TRACES_MAX {
            THREAD.set(Thread::Other); // the backtrace's own allocations
            let trace = Backtrace::force_capture();
            TRACES.lock().unwrap_or_else(PoisonError::into_inner).push(trace);
            THREAD.set(Thread::Shard);
        }
    }
}

/// Whether the calling thread is named as shards are. Allocates nothing.
fn is_shard() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes to the array, which lives over the call.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"shard-")
}

// SAFETY: every call is passed on to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::note();
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        Counting::note();
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One server at a time: shards of two could not be told apart.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A server in this process.
struct Server {
    running: RunningServer,
    _directory: tempfile::TempDir,
    _turn: std::sync::MutexGuard<'static, ()>,
}

impl Server {
    fn start(shards: u16, change: impl FnOnce(&mut Config)) -> Server {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.admin = config.listen;
        config.data = directory.path().to_owned();
        config.shards = shards;
        config.pin = false;
        config.congestion_control = Some(load::unpaced().into());
        config.topics.retention_bytes = 4 << 20;
        config.memory.retention_budget_bytes = 64 << 20;
        config.drain_deadline_ms = 2_000;
        change(&mut config);
        let running =
            start(&config, Options::default()).unwrap_or_else(|error| panic!("{error}; {}", error.remedy()));
        Server { running, _directory: directory, _turn: turn }
    }

    fn stop(self) {
        self.running.drain();
        assert_eq!(self.running.wait(), exit::CLEAN);
    }
}

/// What the shards allocated during some load.
struct Found {
    allocations: usize,
    /// Of the reports once a second.
    reports: usize,
    seconds: usize,
    /// Where the others were made.
    others: Vec<String>,
}

/// Runs the load for that many batches to warm up, and for that many counted.
fn count(load: &mut Load, warm_up: u64, batches: u64) -> Found {
    load.run(warm_up);
    TRACES.lock().unwrap_or_else(PoisonError::into_inner).clear();
    COUNTED.store(0, Ordering::Relaxed);
    let began = Instant::now();
    COUNTING.store(true, Ordering::Relaxed);
    load.run(batches);
    COUNTING.store(false, Ordering::Relaxed);
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("a short time") + 1;
    let traces = std::mem::take(&mut *TRACES.lock().unwrap_or_else(PoisonError::into_inner));
    let traces: Vec<String> = traces.iter().map(ToString::to_string).collect();
    let (reports, others): (Vec<_>, Vec<_>) =
        traces.into_iter().partition(|trace| trace.contains("report_log_ends"));
    Found { allocations: COUNTED.load(Ordering::Relaxed), reports: reports.len(), seconds, others }
}

/// The reports' vector and message, once a second.
const ALLOCATIONS_A_REPORT: usize = 2;

impl Found {
    /// Nothing but the reports.
    fn assert_none(&self, what: &str) {
        println!(
            "{what}: {} allocations in {} s, {} of reports",
            self.allocations, self.seconds, self.reports
        );
        let others = self.allocations - self.reports;
        assert!(
            others == 0,
            "{what}: {others} allocations, the first ones:\n{}",
            self.others.iter().take(3).cloned().collect::<Vec<_>>().join("\n")
        );
        assert!(self.reports <= ALLOCATIONS_A_REPORT * (self.seconds + 1), "{what}: {}", self.reports);
    }
}

const SMALL: Batches = Batches { frame_bytes: 1_024, record_bytes: 100 };
const BULK: Batches = Batches { frame_bytes: 32 * 1_024, record_bytes: 256 };

/// A backend and its tier.
type Io = (IoChoice, Option<u8>);
const BEST: Io = (IoChoice::Auto, None);

/// Ingest with this many consumers on one shard: small batches over the shared ring, large ones over regions.
fn local_path(kind: TopicKind, consumers: usize, io: Io) {
    let server = Server::start(1, |config| {
        config.topics.auto_create_kind = kind;
        (config.io, config.io_tier) = io;
    });
    for (topic, batches, producers) in [("small", SMALL, 3), ("bulk", BULK, 2)] {
        let mut load = Load::new(server.running.data_address(), topic, batches);
        load.consume(consumers).produce(producers);
        let found = count(&mut load, 2_000, 6_000);
        found.assert_none(&format!("{kind:?}, {topic}, {consumers} consumers, {io:?}"));
    }
    server.stop();
}

#[test]
fn ingest_to_memory_allocates_nothing() {
    local_path(TopicKind::Memory, 0, BEST);
}

#[test]
fn ingest_to_live_without_subscribers_allocates_nothing() {
    local_path(TopicKind::Live, 0, BEST);
}

#[test]
fn ingest_to_live_with_a_subscriber_allocates_nothing() {
    local_path(TopicKind::Live, 1, BEST);
}

#[test]
fn delivery_to_one_and_to_eight_allocates_nothing() {
    local_path(TopicKind::Memory, 1, BEST);
    local_path(TopicKind::Memory, 8, BEST);
    local_path(TopicKind::Live, 8, BEST);
}

#[cfg(feature = "uring")]
#[test]
fn tier_1_allocates_nothing_either() {
    local_path(TopicKind::Memory, 1, (IoChoice::Uring, Some(1)));
    local_path(TopicKind::Live, 1, (IoChoice::Uring, Some(1)));
}

#[cfg(feature = "epoll")]
#[test]
fn epoll_allocates_nothing_either() {
    local_path(TopicKind::Memory, 1, (IoChoice::Epoll, None));
    local_path(TopicKind::Live, 2, (IoChoice::Epoll, None));
    across_shards(TopicKind::Live, IoChoice::Epoll);
}

/// Producer, consumer and partition on shards of their own accord: batches are lent to the partition's shard, and
/// bytes to the consumer's, in messages that are reused.
fn across_shards(kind: TopicKind, io: IoChoice) {
    let server = Server::start(2, |config| {
        config.io = io;
        config.topics.auto_create_kind = kind;
        config.topics.auto_create_partitions = 2;
    });
    for (topic, batches) in [("small", SMALL), ("bulk", BULK)] {
        let mut load = Load::new(server.running.data_address(), topic, batches);
        let (connection, partition) = load.consume_across();
        assert_ne!(connection, partition, "the consumer's connection is on another shard");
        let (connection, partition) = load.produce_across();
        assert_ne!(connection, partition, "the producer's connection is on another shard");
        let found = count(&mut load, 2_000, 6_000);
        found.assert_none(&format!("{kind:?}, {topic}, across shards, {io:?}"));
    }
    server.stop();
}

#[test]
fn crossing_shards_allocates_nothing() {
    across_shards(TopicKind::Memory, IoChoice::Auto);
    across_shards(TopicKind::Live, IoChoice::Auto);
}

/// What the other tests rely on: a shard's allocations are seen, and no other thread's.
#[test]
fn the_allocator_sees_shards() {
    let server = Server::start(1, |_| {});
    COUNTED.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
    drop(vec![0_u8; 100]);
    let of_others = COUNTED.load(Ordering::Relaxed);
    // A topic, a connection and a channel come into being.
    Load::new(server.running.data_address(), "new", SMALL).produce(1);
    COUNTING.store(false, Ordering::Relaxed);
    assert_eq!(of_others, 0);
    assert!(COUNTED.load(Ordering::Relaxed) > 10, "{}", COUNTED.load(Ordering::Relaxed));
    server.stop();
}
