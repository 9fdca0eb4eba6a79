//! Without loom: what the rings do, against a model and between real threads. With it: every order in which
//! two threads' steps can be seen (`RUSTFLAGS="--cfg uringest_loom" cargo test --release --lib mesh::`).

#[cfg(uringest_loom)]
mod model;

#[cfg(not(uringest_loom))]
mod plain {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use crate::mesh::{MeshEnd, WakeNeeded, mesh_bytes, ring};

    const DEADLINE: Duration = Duration::from_secs(30);

    #[test]
    fn a_full_ring_gives_the_value_back() {
        let (mut sender, mut receiver) = ring(2);
        assert_eq!((sender.push(1), sender.push(2), sender.push(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!((sender.free(), receiver.pop(), sender.free()), (0, Some(1), 1));
        assert_eq!(sender.push(3), Ok(()));
        assert_eq!((receiver.pop(), receiver.pop(), receiver.pop()), (Some(2), Some(3), None));
        assert!(receiver.is_empty());
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn capacity_is_a_power_of_two() {
        let _ = ring::<u8>(3);
    }

    #[test]
    fn what_is_left_is_dropped_once() {
        let value = Arc::new(());
        for popped in 0..4 {
            let (mut sender, mut receiver) = ring(4);
            // So that what is left reaches around the end.
            for _ in 0..3 {
                sender.push(Arc::clone(&value)).expect("room");
                receiver.pop().expect("it was pushed");
            }
            for _ in 0..4 {
                sender.push(Arc::clone(&value)).expect("room");
            }
            for _ in 0..popped {
                receiver.pop().expect("it was pushed");
            }
            assert_eq!(Arc::strong_count(&value), 5 - popped);
            drop(sender);
            assert_eq!(Arc::strong_count(&value), 5 - popped, "the receiver still has them");
            drop(receiver);
            assert_eq!(Arc::strong_count(&value), 1);
        }
    }

    proptest! {
        #[test]
        fn a_ring_is_a_bounded_queue(
            steps in prop::collection::vec(prop::bool::weighted(0.55), 0..200),
            shift in 0u32..4,
        ) {
            let capacity = 1 << shift;
            let (mut sender, mut receiver) = ring(capacity);
            let mut model = VecDeque::new();
            for (number, push) in steps.into_iter().enumerate() {
                if push {
                    let room = model.len() < capacity;
                    prop_assert_eq!(sender.push(number), if room { Ok(()) } else { Err(number) });
                    if room {
                        model.push_back(number);
                    }
                } else {
                    prop_assert_eq!(receiver.pop(), model.pop_front());
                }
                prop_assert_eq!(receiver.is_empty(), model.is_empty());
                prop_assert_eq!(sender.free(), capacity - model.len());
            }
        }
    }

    #[test]
    fn values_cross_threads_in_order() {
        const VALUES: u64 = if cfg!(miri) { 1_000 } else { 200_000 };
        let (mut sender, mut receiver) = ring(64);
        let thread = std::thread::spawn(move || {
            for mut value in 0..VALUES {
                while let Err(back) = sender.push(value) {
                    value = back;
                    std::thread::yield_now();
                }
            }
        });
        let started = Instant::now();
        for expected in 0..VALUES {
            let value = loop {
                if let Some(value) = receiver.pop() {
                    break value;
                }
                assert!(started.elapsed() < DEADLINE, "stuck at {expected}");
                std::thread::yield_now();
            };
            assert_eq!(value, expected);
        }
        thread.join().expect("the sender does not panic");
    }

    #[test]
    fn a_mesh_connects_every_pair_both_ways() {
        let mut ends = MeshEnd::build(4, 8);
        for (from, end) in ends.iter_mut().enumerate() {
            assert_eq!((end.me(), end.peers(), end.control()), (from, 4, 3));
            for to in (0..4).filter(|&to| to != from) {
                assert_eq!(end.send(to, (from, to)), Ok(WakeNeeded(false)));
            }
        }
        for (me, end) in ends.iter_mut().enumerate() {
            let mut from: Vec<usize> = Vec::new();
            while let Some((peer, message)) = end.receive() {
                assert_eq!(message, (peer, me));
                from.push(peer);
            }
            from.sort_unstable();
            assert_eq!(from, (0..4).filter(|&peer| peer != me).collect::<Vec<_>>());
            assert!(!end.has_messages());
        }
        assert!(mesh_bytes::<(usize, usize)>(4, 8) >= 12 * 8 * 16);
    }

    #[test]
    fn a_busy_peer_does_not_keep_the_others_waiting() {
        let mut ends = MeshEnd::build(4, 8);
        for n in 0..6 {
            assert!(ends[0].send(3, n).is_ok());
        }
        for from in [1, 2] {
            assert!(ends[from].send(3, 100).is_ok() && ends[from].send(3, 101).is_ok());
        }
        let order: Vec<usize> = std::iter::from_fn(|| ends[3].receive()).map(|(from, _)| from).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn a_full_ring_is_back_pressure_for_that_peer_alone() {
        let mut ends = MeshEnd::build(3, 2);
        assert_eq!(ends[0].room(1), 2);
        assert!(ends[0].send(1, 1).is_ok() && ends[0].send(1, 2).is_ok());
        assert_eq!(ends[0].send(1, 3), Err(3));
        assert_eq!((ends[0].room(1), ends[0].room(2)), (0, 2));
        assert!(ends[0].send(2, 3).is_ok());
    }

    #[test]
    fn the_first_sender_after_going_to_sleep_wakes() {
        let mut ends = MeshEnd::build(3, 4);
        assert!(ends[2].about_to_sleep());
        assert_eq!(ends[0].send(2, 1), Ok(WakeNeeded(true)));
        assert_eq!(ends[1].send(2, 2), Ok(WakeNeeded(false)), "it is being woken");
        assert!(!ends[2].about_to_sleep(), "there are messages");
        assert_eq!(ends[0].send(2, 3), Ok(WakeNeeded(false)), "it stayed awake");
        while ends[2].receive().is_some() {}
        assert!(ends[2].about_to_sleep());
        ends[2].awake();
        assert_eq!(ends[0].send(2, 4), Ok(WakeNeeded(false)));
    }

    /// Two threads send to one that sleeps whenever it may; the wake is a condition variable's.
    #[test]
    fn no_wake_is_lost_between_threads() {
        const MESSAGES: u64 = if cfg!(miri) { 300 } else { 20_000 };
        let mut ends = MeshEnd::build(3, 16);
        let mut sleeper = ends.pop().expect("three ends");
        let bell = Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = ends
            .into_iter()
            .map(|mut end| {
                let (bell, stop) = (Arc::clone(&bell), Arc::clone(&stop));
                std::thread::spawn(move || {
                    for mut n in 0..MESSAGES {
                        loop {
                            match end.send(2, n) {
                                Ok(WakeNeeded(false)) => break,
                                Ok(WakeNeeded(true)) => {
                                    *bell.0.lock().expect("not poisoned") = true;
                                    bell.1.notify_one();
                                    break;
                                }
                                Err(back) => n = back,
                            }
                            if stop.load(Ordering::Relaxed) {
                                return;
                            }
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut seen = [0u64; 2];
        let mut lost = false;
        while seen != [MESSAGES; 2] && !lost {
            while let Some((from, n)) = sleeper.receive() {
                assert_eq!(n, seen[from], "in order");
                seen[from] += 1;
            }
            if seen != [MESSAGES; 2] && sleeper.about_to_sleep() {
                let rung = bell.0.lock().expect("not poisoned");
                let (mut rung, waited) =
                    bell.1.wait_timeout_while(rung, DEADLINE, |rung| !*rung).expect("not poisoned");
                lost = waited.timed_out();
                *rung = false;
                drop(rung);
                sleeper.awake();
            }
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("a sender does not panic");
        }
        assert!(!lost, "slept with messages waiting: {seen:?}");
    }
}
