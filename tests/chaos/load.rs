//! Producers and consumers that go on whatever happens, and what they notice of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use uringest::client::{AckLevel, Start};

use crate::harness::Figures;
use crate::log_rig::{Got, Reader, Writer, check};
use crate::rig::create;
use crate::support::{Server, http, wait_for};

/// Between two looks at what is acknowledged.
const LOOK: Duration = Duration::from_millis(2);
/// Records that each producer has acknowledged before a fault begins.
const WARM: u64 = 200;

/// A topic of one partition, and the levels that its producers ask for; one consumer reads it from its beginning.
pub struct Lane<'a> {
    pub topic: &'a str,
    pub levels: &'a [AckLevel],
}

/// What every kind promises: a log with its two levels, and a topic in memory.
pub const ALL_LANES: &[Lane] = &[LOG, MEMORY];
pub const LOG: Lane = Lane { topic: "log", levels: &[AckLevel::Written, AckLevel::Durable] };
pub const MEMORY: Lane = Lane { topic: "memory", levels: &[AckLevel::Received] };

/// Where clients are: the namespace in which this calls what it is given.
pub type Place<'a> = &'a (dyn Fn(&mut (dyn FnMut() + Send)) + Sync);

/// In the same place as the caller.
pub fn here(call: &mut (dyn FnMut() + Send)) {
    call();
}

/// Everything that a consumer got, and how far it is with each producer.
#[derive(Default)]
struct Taken {
    got: Vec<Got>,
    next: BTreeMap<u64, u64>,
}

struct Following {
    writers: Vec<Arc<Writer>>,
    taken: Arc<Mutex<Taken>>,
    thread: Option<JoinHandle<()>>,
}

/// A load on a server; its threads are told to stop when it goes out of scope.
pub struct Load {
    lanes: Vec<Following>,
    senders: Vec<JoinHandle<()>>,
    watch: Option<JoinHandle<Duration>>,
    stop: Arc<AtomicBool>,
    leave: Arc<AtomicBool>,
}

impl Load {
    /// Makes the topics of [`ALL_LANES`], and begins on them.
    pub fn of_both_kinds(server: &Server, place: Place<'_>) -> Load {
        for kind in ["log", "memory"] {
            create(server, kind, &["--kind", kind]);
        }
        Load::start(server, ALL_LANES, place)
    }

    /// Begins, and returns when everything goes its way. The topics are there.
    pub fn start(server: &Server, lanes: &[Lane<'_>], place: Place<'_>) -> Load {
        let (stop, leave) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut load = Load { lanes: Vec::new(), senders: Vec::new(), watch: None, stop, leave };
        let mut id = 0;
        for lane in lanes {
            let mut following = Following { writers: Vec::new(), taken: Arc::default(), thread: None };
            for level in lane.levels {
                id += 1;
                let connect = || Writer::connect(server, lane.topic, id, 0, Some(*level));
                let writer = Arc::new(within(place, connect));
                let (sender, stop) = (Arc::clone(&writer), Arc::clone(&load.stop));
                load.senders.push(std::thread::spawn(move || sender.send_until(&stop, || u64::MAX)));
                following.writers.push(writer);
            }
            let mut reader = within(place, || Reader::connect(server, lane.topic, 0, Start::Earliest));
            let (taken, leave) = (Arc::clone(&following.taken), Arc::clone(&load.leave));
            following.thread = Some(std::thread::spawn(move || {
                while !leave.load(Ordering::Relaxed) {
                    let got = reader.poll(Duration::from_millis(50));
                    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                    for record in &got {
                        taken.next.insert(record.writer, record.number + 1);
                    }
                    taken.got.extend(got);
                    assert!(reader.gaps.is_empty(), "nothing is missing: {:?}", reader.gaps);
                }
            }));
            load.lanes.push(following);
        }
        wait_for("a load that goes its way", || {
            let mut writers = load.lanes.iter().flat_map(|lane| &lane.writers);
            writers.all(|writer| writer.acked() > WARM).then_some(())
        });
        let writers: Vec<Arc<Writer>> = load.writers().map(Arc::clone).collect();
        let stop = Arc::clone(&load.stop);
        load.watch = Some(std::thread::spawn(move || longest_stall(&writers, &stop)));
        load
    }

    pub fn writers(&self) -> impl Iterator<Item = &Arc<Writer>> {
        self.lanes.iter().flat_map(|lane| &lane.writers)
    }

    /// Records acknowledged so far, of all.
    pub fn acked(&self) -> u64 {
        self.writers().map(|writer| writer.acked()).sum()
    }

    /// Goes on for a while.
    pub fn go_on(&self, time: Duration) {
        std::thread::sleep(time);
        self.is_well();
    }

    /// Fails where a consumer or a producer has failed.
    pub fn is_well(&self) {
        for lane in &self.lanes {
            let ended = lane.thread.as_ref().is_some_and(JoinHandle::is_finished);
            assert!(!ended, "a consumer of {:?} failed", lane.writers.first().map(|writer| writer.id));
        }
        let ended = !self.stop.load(Ordering::Relaxed) && self.senders.iter().any(JoinHandle::is_finished);
        assert!(!ended, "a producer failed");
    }

    /// The time from now until everything that was sent before is acknowledged and delivered; at most `within`.
    #[track_caller]
    pub fn recovers(&self, within: Duration) -> Duration {
        let begun = Instant::now();
        let sent: Vec<u64> = self.writers().map(|writer| writer.sent()).collect();
        while !self.has_caught_up(&sent) {
            let waited = begun.elapsed();
            assert!(waited < within, "not recovered in {within:?}: {}", self.state(&sent));
            self.is_well();
            std::thread::park_timeout(LOOK);
        }
        begun.elapsed()
    }

    fn has_caught_up(&self, sent: &[u64]) -> bool {
        let mut sent = sent.iter();
        self.lanes.iter().all(|lane| {
            let taken = lane.taken.lock().unwrap_or_else(PoisonError::into_inner);
            lane.writers.iter().zip(sent.by_ref()).all(|(writer, sent)| {
                writer.acked() >= *sent && taken.next.get(&writer.id).is_some_and(|next| next >= sent)
            })
        })
    }

    fn state(&self, sent: &[u64]) -> String {
        let mut sent = sent.iter();
        let mut rows = Vec::new();
        for lane in &self.lanes {
            let taken = lane.taken.lock().unwrap_or_else(PoisonError::into_inner);
            for (writer, sent) in lane.writers.iter().zip(sent.by_ref()) {
                let next = taken.next.get(&writer.id).copied().unwrap_or_default();
                let (id, level, acked) = (writer.id, writer.level, writer.acked());
                rows.push(format!(
                    "writer {id} ({level:?}): of {sent} {acked} acknowledged, {next} delivered"
                ));
            }
        }
        rows.join("; ")
    }

    /// Ends the load in good order, and holds what was delivered to what was acknowledged.
    #[track_caller]
    pub fn finish(mut self, recovery: Duration) -> Figures {
        self.is_well();
        self.stop.store(true, Ordering::Relaxed);
        self.senders.drain(..).for_each(|sender| sender.join().expect("it only sends"));
        let stall = self.watch.take().expect("begun").join().expect("it only looks");
        self.writers().for_each(|writer| writer.flush());
        let sent: Vec<u64> = self.writers().map(|writer| writer.sent()).collect();
        wait_for("everything to be delivered", || {
            self.is_well();
            self.has_caught_up(&sent).then_some(())
        });
        self.leave.store(true, Ordering::Relaxed);
        let mut figures = Figures { stall, recovery, ..Figures::default() };
        for lane in &mut self.lanes {
            lane.thread.take().expect("begun").join().expect("it only reads");
            let taken = lane.taken.lock().expect("its thread has ended well");
            measure(&mut figures, &taken.got, &lane.writers);
        }
        assert_eq!((figures.duplicates, figures.lost), (0, 0), "{figures:?}");
        for lane in &self.lanes {
            let taken = lane.taken.lock().expect("its thread has ended well");
            check(&taken.got, lane.writers.iter().map(|writer| (&**writer, writer.acked())));
            for writer in &lane.writers {
                let told = writer.told.lock().expect("not poisoned");
                assert_eq!(told.level, writer.level, "never less than what was asked for");
            }
        }
        figures
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.leave.store(true, Ordering::Relaxed);
    }
}

/// Counts what is there more than once, and what is missing.
fn measure(figures: &mut Figures, got: &[Got], writers: &[Arc<Writer>]) {
    let mut times: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for record in got {
        *times.entry((record.writer, record.number)).or_default() += 1;
    }
    figures.delivered += got.len() as u64;
    figures.duplicates += times.values().map(|times| times - 1).sum::<u64>();
    for writer in writers {
        let acked = writer.acked();
        figures.acknowledged += acked;
        let there = times.range((writer.id, 0)..(writer.id, acked)).count() as u64;
        figures.lost += acked - there;
    }
}

/// The longest time without an acknowledgement to anybody, until told to stop.
fn longest_stall(writers: &[Arc<Writer>], stop: &AtomicBool) -> Duration {
    let all = || writers.iter().map(|writer| writer.acked()).sum::<u64>();
    let (mut last, mut since, mut longest) = (all(), Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(LOOK);
        let now = all();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        longest = longest.max(since.elapsed());
    }
    longest
}

/// Calls this in the place, and hands out what it gives.
fn within<T: Send>(place: Place<'_>, make: impl FnOnce() -> T + Send) -> T {
    let (mut make, mut made) = (Some(make), None);
    place(&mut || made = make.take().map(|make| make()));
    made.expect("a place calls")
}

/// `/readyz` says yes, and what is degraded.
#[track_caller]
pub fn is_ready(server: &Server) -> String {
    let (status, body) = http(server.admin, "GET", "/readyz", "").expect("the admin port answers");
    assert_eq!(status, 200, "{body}");
    body
}
