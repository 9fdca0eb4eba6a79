//! Bytes in, bytes out, on both interfaces; real sockets on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;

/// Those that this build has.
const BOTH: &[BareIo] = if cfg!(feature = "uring") { &BareIo::ALL } else { &[BareIo::Epoll] };
/// No test takes near as long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    address: SocketAddr,
    end: JoinHandle<std::io::Result<Totals>>,
}

impl Served {
    fn start(role: Role, io: BareIo, flows: &[&str]) -> Served {
        Served::start_waking_at(1, role, io, flows)
    }

    fn start_waking_at(wake_bytes: usize, role: Role, io: BareIo, flows: &[&str]) -> Served {
        let listener = sockets::listen("127.0.0.1:0".parse().expect("an address")).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let flows = flows.iter().map(|flow| flow.parse().expect("a shape")).collect();
        let bare = Bare { role, io, listener: -1, wake_bytes, flows };
        Served { address, end: std::thread::spawn(move || serve(&bare, &accept(&bare, &listener)?)) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the program listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn end(self) -> Totals {
        self.end.join().expect("it does not panic").expect("no error")
    }
}

/// Bytes that tell where they belong.
fn pattern(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    (0..bytes).map(|_| next()).collect()
}

fn read_all(mut stream: TcpStream, bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    stream.read_exact(&mut all).expect("everything comes");
    all
}

#[test]
fn a_sink_takes_everything_of_everyone() {
    for &io in BOTH {
        let served = Served::start(Role::Sink, io, &["3:0:128", "297:0:64"]);
        let mut streams: Vec<_> = (0..300).map(|_| served.connect()).collect();
        let mut sent = 0;
        for round in 1..=20_u64 {
            for stream in &mut streams {
                let bytes = pattern(round, 131);
                stream.write_all(&bytes).expect("taken");
                sent += bytes.len() as u64;
            }
        }
        let long = pattern(1, 3_000_000);
        streams[7].write_all(&long).expect("taken");
        sent += long.len() as u64;
        drop(streams);
        assert_eq!(served.end(), Totals { received: sent, sent: 0 }, "{io:?}");
    }
}

#[test]
fn a_connection_that_is_reset_ends_like_one_that_is_closed() {
    for &io in BOTH {
        for role in [Role::Sink, Role::Answer] {
            let served = Served::start(role, io, &["2:0:128"]);
            let (reset, mut whole) = (served.connect(), served.connect());
            let socket = socket2::Socket::from(reset);
            socket.set_linger(Some(Duration::ZERO)).expect("lingering is set");
            drop(socket);
            whole.write_all(&[1; 1000]).expect("taken");
            drop(whole);
            assert_eq!(served.end().received, 1000, "{io:?} {role:?}");
        }
    }
}

#[test]
fn a_relay_gives_every_consumer_the_same_bytes() {
    for &io in BOTH {
        let served = Served::start(Role::Relay, io, &["1:3:1"]);
        let consumers: Vec<_> = (0..3).map(|_| served.connect()).collect();
        let mut sender = served.connect();
        let bytes = pattern(42, 5_000_003);
        let readers: Vec<_> = consumers
            .into_iter()
            .map(|consumer| std::thread::spawn(move || read_all(consumer, 5_000_003)))
            .collect();
        sender.write_all(&bytes).expect("taken");
        drop(sender);
        for reader in readers {
            assert!(reader.join().expect("a reader") == bytes, "{io:?}: other bytes than were sent");
        }
        assert_eq!(served.end(), Totals { received: 5_000_003, sent: 3 * 5_000_003 }, "{io:?}");
    }
}

#[test]
fn bulk_that_is_collected_is_all_passed_on_in_the_end() {
    for &io in BOTH {
        for bytes in [1, 200_000, 3_000_001] {
            let served = Served::start_waking_at(128 * 1024, Role::Relay, io, &["1:1:1"]);
            let (consumer, mut sender) = (served.connect(), served.connect());
            let sent = pattern(3, bytes);
            let reader = std::thread::spawn(move || read_all(consumer, bytes));
            sender.write_all(&sent).expect("taken");
            drop(sender);
            assert!(reader.join().expect("a reader") == sent, "{io:?}: {bytes} bytes");
            assert_eq!(served.end(), Totals { received: bytes as u64, sent: bytes as u64 }, "{io:?}");
        }
    }
}

#[test]
fn a_relay_keeps_flows_and_units_apart() {
    const UNIT: usize = 1_500;
    const UNITS: usize = 700;
    for &io in BOTH {
        let served = Served::start(Role::Relay, io, &["4:2:1500", "1:1:64"]);
        let consumers: Vec<_> = (0..2).map(|_| served.connect()).collect();
        let other = served.connect();
        let mut senders: Vec<_> = (0..5).map(|_| served.connect()).collect();
        let mut last = senders.pop().expect("the other flow's");
        last.write_all(&[0xff; 64]).expect("taken");
        let readers: Vec<_> = consumers
            .into_iter()
            .map(|consumer| std::thread::spawn(move || read_all(consumer, 4 * UNITS * UNIT)))
            .collect();
        let writers: Vec<_> = (0..4_u8)
            .zip(senders)
            .map(|(id, mut sender)| {
                std::thread::spawn(move || {
                    // Pieces that have nothing to do with units.
                    let all = vec![id; UNITS * UNIT];
                    all.chunks(977).for_each(|piece| sender.write_all(piece).expect("taken"));
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        for reader in readers {
            let got = reader.join().expect("a reader");
            let whole = |unit: &[u8]| unit.iter().all(|byte| *byte == unit[0]);
            assert!(got.chunks(UNIT).all(whole), "{io:?}: a unit is mixed with another");
            for id in 0..4 {
                let units = got.chunks(UNIT).filter(|unit| unit[0] == id).count();
                assert_eq!(units, UNITS, "{io:?}: units of sender {id}");
            }
        }
        assert_eq!(read_all(other, 64), [0xff; 64], "{io:?}: the other flow's");
        drop(last);
        let received = (4 * UNITS * UNIT + 64) as u64;
        let sent = (8 * UNITS * UNIT + 64) as u64;
        assert_eq!(served.end(), Totals { received, sent }, "{io:?}");
    }
}

#[test]
fn a_slow_consumer_slows_the_sender_and_loses_nothing() {
    for &io in BOTH {
        let served = Served::start(Role::Relay, io, &["1:2:1"]);
        let (slow, quick) = (served.connect(), served.connect());
        let mut sender = served.connect();
        // More than all buffers on the way take: until `slow` reads, the sender must come to a stand.
        let bytes = pattern(7, 1024 * 1024).repeat(48);
        let all = bytes.len();
        let quick = std::thread::spawn(move || read_all(quick, all));
        let copy = bytes.clone();
        let writer = std::thread::spawn(move || sender.write_all(&copy).expect("taken in the end"));
        let quiet = std::time::Instant::now();
        while quiet.elapsed() < Duration::from_millis(300) {
            assert!(!writer.is_finished(), "{io:?}: taken without a reader");
            std::thread::yield_now();
        }
        assert!(read_all(slow, all) == bytes, "{io:?}");
        assert!(quick.join().expect("a reader") == bytes, "{io:?}");
        writer.join().expect("a writer");
        assert_eq!(served.end(), Totals { received: all as u64, sent: 2 * all as u64 }, "{io:?}");
    }
}

#[test]
fn a_consumer_that_leaves_holds_nobody_up() {
    for &io in BOTH {
        let served = Served::start(Role::Relay, io, &["1:2:1"]);
        let (leaver, stayer) = (served.connect(), served.connect());
        let mut sender = served.connect();
        drop(leaver);
        let bytes = pattern(9, 3_000_000);
        let reader = std::thread::spawn(move || read_all(stayer, 3_000_000));
        sender.write_all(&bytes).expect("taken");
        drop(sender);
        assert!(reader.join().expect("a reader") == bytes, "{io:?}");
        assert_eq!(served.end().received, 3_000_000, "{io:?}");
    }
}

#[test]
fn every_request_is_answered_once_it_is_whole() {
    for &io in BOTH {
        let served = Served::start(Role::Answer, io, &["2:0:128", "1:0:1000"]);
        let mut streams: Vec<_> = (0..3).map(|_| served.connect()).collect();
        let mut reply = [0; REPLY_BYTES];
        for (stream, request) in streams.iter_mut().zip([128, 128, 1000]) {
            for _ in 0..50 {
                stream.write_all(&vec![1; request - 1]).expect("taken");
                stream.write_all(&[2]).expect("taken");
                stream.read_exact(&mut reply).expect("answered");
            }
        }
        // Many at once: more answers than one send takes.
        streams[0].write_all(&vec![3; 128 * 3_000]).expect("taken");
        let mut replies = vec![0; REPLY_BYTES * 3_000];
        streams[0].read_exact(&mut replies).expect("all are answered");
        // Half a request has none.
        streams[1].write_all(&[4; 127]).expect("taken");
        drop(streams);
        let received = 50 * (128 + 128 + 1000) + 128 * 3_000 + 127;
        let sent = REPLY_BYTES as u64 * 3_150;
        assert_eq!(served.end(), Totals { received, sent }, "{io:?}");
    }
}

#[test]
fn shapes_are_read_and_written() {
    let shape = FlowShape { senders: 2, consumers: 8, unit_bytes: 65_536 };
    assert_eq!(shape.to_string().parse(), Ok(shape));
    for text in ["", "1:2", "1:2:0", "1:x:3", "1:2:3:4", "-1:0:1"] {
        assert!(text.parse::<FlowShape>().is_err(), "{text}");
    }
}
