//! The rings and the sleep flag under loom.

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::mesh::{MeshEnd, WakeNeeded, ring};

/// Counts how many of them are alive.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Counted {
        alive.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_ring_hands_over_in_order_and_reuses_slots() {
    loom::model(|| {
        let (mut sender, mut receiver) = ring(2);
        let thread = thread::spawn(move || {
            for mut value in 0..3 {
                while let Err(back) = sender.push(value) {
                    value = back;
                    thread::yield_now();
                }
            }
        });
        for expected in 0..3 {
            let value = loop {
                if let Some(value) = receiver.pop() {
                    break value;
                }
                thread::yield_now();
            };
            assert_eq!(value, expected);
        }
        assert!(receiver.pop().is_none());
        thread.join().expect("the sender does not panic");
    });
}

#[test]
fn what_is_left_is_dropped_whichever_end_goes_first() {
    loom::model(|| {
        let alive = Arc::new(AtomicUsize::new(0));
        let (mut sender, mut receiver) = ring(2);
        let values = Arc::clone(&alive);
        let thread = thread::spawn(move || {
            for _ in 0..2 {
                assert!(sender.push(Counted::new(&values)).is_ok(), "there is room for two");
            }
        });
        drop(receiver.pop());
        drop(receiver);
        thread.join().expect("the sender does not panic");
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    });
}

/// What the kernel does: a wake that comes before the wait is kept.
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn new() -> Arc<Bell> {
        Arc::new(Bell { rung: Mutex::new(false), heard: Condvar::new() })
    }

    fn ring(&self) {
        *self.rung.lock().expect("not poisoned") = true;
        self.heard.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().expect("not poisoned");
        while !*rung {
            rung = self.heard.wait(rung).expect("not poisoned");
        }
        *rung = false;
    }
}

/// Receives `expected` messages, sleeping whenever it may. A lost wake leaves every thread blocked, which
/// loom reports as a deadlock.
fn receive_sleeping(mut end: MeshEnd<u32>, expected: usize, bell: &Bell) {
    let mut received = 0;
    loop {
        while end.receive().is_some() {
            received += 1;
        }
        if received == expected {
            return;
        }
        if end.about_to_sleep() {
            bell.wait();
            end.awake();
        }
    }
}

fn send_waking(end: &mut MeshEnd<u32>, to: usize, bell: &Bell) {
    match end.send(to, 7) {
        Ok(WakeNeeded(true)) => bell.ring(),
        Ok(WakeNeeded(false)) => {}
        Err(_) => panic!("there is room for every message"),
    }
}

fn one_sender(messages: usize) {
    let mut ends = MeshEnd::build(2, 2);
    let sleeper = ends.pop().expect("two ends");
    let mut sender = ends.pop().expect("two ends");
    let bell = Bell::new();
    let theirs = Arc::clone(&bell);
    let thread = thread::spawn(move || {
        for _ in 0..messages {
            send_waking(&mut sender, 1, &theirs);
        }
    });
    receive_sleeping(sleeper, messages, &bell);
    thread.join().expect("the sender does not panic");
}

#[test]
fn no_wake_is_lost_with_one_message() {
    loom::model(|| one_sender(1));
}

/// The second message may come while the peer wakes, is awake, or goes to sleep again. All orders with at
/// most three switches that a thread did not ask for.
#[test]
fn no_wake_is_lost_with_two_messages() {
    bounded(3, || one_sender(2));
}

fn bounded(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

/// Two senders, so that one may clear a flag that was set again after the other's wake.
#[test]
fn no_wake_is_lost_with_two_senders() {
    bounded(2, || {
        let mut ends = MeshEnd::build(3, 1);
        let sleeper = ends.pop().expect("three ends");
        let bell = Bell::new();
        let threads: Vec<_> = ends
            .into_iter()
            .map(|mut sender| {
                let bell = Arc::clone(&bell);
                thread::spawn(move || send_waking(&mut sender, 2, &bell))
            })
            .collect();
        receive_sleeping(sleeper, 2, &bell);
        for thread in threads {
            thread.join().expect("a sender does not panic");
        }
    });
}
