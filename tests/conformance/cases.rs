//! The cases. Each makes a world, and leaves it with every operation, buffer and list accounted for.

use std::io::{Read, Write};
use std::net::Shutdown;

use uringest::buf::Span;
use uringest::io::{Io, IoError, Op, Outcome, TokenKind, Wait};
use uringest::limits::SHARED_RING_BYTES;

use crate::world::{BULK, Backend, World, pattern, write_all};

/// Instantiates every case for a backend.
macro_rules! conformance {
    ($backend:ty) => {
        crate::cases::conformance!(cases, $backend: accepts_until_cancelled receives_in_order
            ends_of_streams out_of_buffers reads_never_wait polls_tell_of_the_end sends_as_much_as_fits
            peers_that_reset shuts_down_after_what_was_sent waits_as_told);
        crate::cases::conformance!(races, $backend: cancels_what_is_armed cancels_what_has_ended
            cancels_race_with_bytes sockets_are_reused wakes_from_a_thread wakes_from_another_backend
            sockets_change_backends many_connections a_full_table_refuses connections_beyond_the_table
            more_operations_than_the_queues_hold dropped_with_everything_in_flight
            its_port_is_free_when_it_is_gone);
        crate::cases::conformance!(ends, $backend: ends_lie_behind_the_bytes reads_find_the_end
            each_direction_ends_alone resets_at_each_step);
        crate::cases::conformance!(cancels, $backend: cancels_accepts cancels_receives cancels_polls
            cancels_what_never_waits buffers_are_short_for_all a_torrent_leaves_others_their_turn);
        crate::cases::conformance!(files, $backend: what_is_written_is_there spans_cross_a_rings_end large_rings
            many_file_operations files_come_and_go files_end_where_they_end faults_of_files_are_told
            files_beside_sockets cancels_of_files_wait dropped_with_files_in_flight);
        #[test]
        fn a_full_disk() {
            crate::files::a_full_disk::<$backend>(concat!(module_path!(), "::a_full_disk"));
        }
        #[test]
        fn ten_thousand_connections() {
            let name = concat!(module_path!(), "::ten_thousand_connections");
            crate::crowd::ten_thousand_connections::<$backend>(name);
        }
        #[test]
        fn out_of_descriptors() {
            crate::races::out_of_descriptors::<$backend>(concat!(module_path!(), "::out_of_descriptors"));
        }
    };
    ($module:ident, $backend:ty: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                crate::$module::$case::<$backend>();
            }
        )*
    };
}
pub(crate) use conformance;

macro_rules! world {
    ($backend:ident) => {
        crate::cases::world!($backend, crate::world::Shape::default())
    };
    ($backend:ident, $shape:expr) => {
        match crate::world::World::<$backend>::new($shape) {
            Some(world) => world,
            None => return,
        }
    };
}

pub(crate) use world;

pub fn accepts_until_cancelled<B: Backend>() {
    let mut world = world!(B);
    let accept = world.listen();
    let connections: Vec<_> = (0..3).map(|_| world.connect(accept)).collect();
    world.cancel(accept);
    world.ends(accept, Outcome::Failed(IoError::Cancelled));
    for (sock, _) in &connections {
        world.close(*sock, 0);
    }
    for (_, mut peer) in connections {
        assert_eq!(peer.read(&mut [0; 1]).expect("an orderly end"), 0);
    }
    world.settled();
}

pub fn receives_in_order<B: Backend>() {
    let mut world = world!(B);
    let accept = world.listen();
    let (a, peer_a) = world.connect(accept);
    let (b, peer_b) = world.connect(accept);
    let sent = [pattern(1, 5 << 20), pattern(2, 3 << 20)];
    let writers = [write_all(peer_a, sent[0].clone()), write_all(peer_b, sent[1].clone())];
    let mut tokens = [world.receive(a, 0), world.receive(b, 1)];
    world.until("all bytes", |world| {
        for (index, sock) in [(0u32, a), (1, b)] {
            if !world.open.contains_key(&tokens[index as usize]) {
                tokens[index as usize] = world.receive(sock, index);
            }
        }
        (0..2u32).all(|i| world.streams.get(&i).is_some_and(|s| s.len() == sent[i as usize].len()))
    });
    assert!(world.streams[&0] == sent[0] && world.streams[&1] == sent[1], "each stream as it was sent");
    for writer in writers {
        drop(writer.join().expect("the writer"));
    }
    world.settled();
}

pub fn ends_of_streams<B: Backend>() {
    let mut world = world!(B);
    let (sock, mut peer) = world.one();
    let token = world.receive(sock, 7);
    peer.write_all(b"last words").expect("written");
    peer.shutdown(Shutdown::Write).expect("half closed");
    world.until("the end", |world| !world.open.contains_key(&token));
    assert_eq!(world.streams[&7], b"last words");
    let last = world.seen.pop_back().expect("the end");
    assert_eq!((last.token, last.outcome, last.more), (token, Outcome::EndOfStream, false));
    world.seen.clear();
    // The other direction is still open.
    world.fill_arena(0, b"goodbye");
    let spans = world.list(&[(0, 4), (4, 3)]);
    let send = world.submit(Op::Send { sock, spans }, TokenKind::Send, 7);
    world.ends(send, Outcome::Sent { bytes: 7 });
    // Again and again, it ends the same way.
    let again = world.receive(sock, 7);
    world.ends(again, Outcome::EndOfStream);
    world.close(sock, 7);
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).expect("an orderly end");
    assert_eq!(heard, b"goodbye");
    world.settled();
}

pub fn out_of_buffers<B: Backend>() {
    let mut world = world!(B);
    world.recycles = false;
    let (sock, peer) = world.one();
    let sent = pattern(3, 3 * SHARED_RING_BYTES as usize);
    let writer = write_all(peer, sent.clone());
    for round in 0..64 {
        let token = world.receive(sock, 0);
        world.until("the ring to fill", |world| {
            !world.open.contains_key(&token) || world.streams.get(&0).is_some_and(|s| s.len() == sent.len())
        });
        if world.open.contains_key(&token) {
            break;
        }
        let last = world.seen.pop_back().expect("its end");
        assert_eq!((last.token, last.outcome), (token, Outcome::Failed(IoError::NoBuffers)), "round {round}");
        world.seen.clear();
        if world.streams[&0].len() < sent.len() {
            // Still none: it ends the same way.
            let again = world.receive(sock, 0);
            world.ends(again, Outcome::Failed(IoError::NoBuffers));
        }
        assert!(!world.recycle().is_empty(), "buffers are done when there are none left");
    }
    assert!(world.streams[&0] == sent, "nothing is lost while buffers are short");
    drop(writer.join().expect("the writer"));
    world.recycles = true;
    world.settled();
}

pub fn reads_never_wait<B: Backend>() {
    let mut world = world!(B);
    let (sock, mut peer) = world.one();
    let into = Span { region: BULK, at: crate::world::BULK_BYTES as u64 - 4, bytes: 64 };
    let read = |world: &mut World<B>| world.submit(Op::Read { sock, into }, TokenKind::Read, 0);
    let token = read(&mut world);
    world.ends(token, Outcome::Failed(IoError::WouldBlock));
    peer.write_all(b"across the seam").expect("written");
    let poll = world.submit(Op::PollReadable { sock }, TokenKind::Readable, 0);
    assert_eq!(world.next(poll).outcome, Outcome::Ready);
    let token = read(&mut world);
    world.ends(token, Outcome::Read { bytes: 15 });
    assert_eq!(world.buffers.memory.bytes(Span { bytes: 15, ..into }), b"across the seam");
    let token = read(&mut world);
    world.ends(token, Outcome::Failed(IoError::WouldBlock));
    peer.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(world.next(poll).outcome, Outcome::Ready);
    let token = read(&mut world);
    world.ends(token, Outcome::EndOfStream);
    world.settled();
}

pub fn polls_tell_of_the_end<B: Backend>() {
    let mut world = world!(B);
    // Bytes and the end are there before the first read, which is short: the end is reported all the same.
    for index in 0..20 {
        let (sock, mut peer) = world.one();
        let poll = world.submit(Op::PollReadable { sock }, TokenKind::Readable, index);
        peer.write_all(b"bytes, then nothing").expect("written");
        peer.shutdown(Shutdown::Write).expect("half closed");
        let into = Span { region: BULK, at: 0, bytes: 4096 };
        loop {
            assert_eq!(world.next(poll).outcome, Outcome::Ready);
            let token = world.submit(Op::Read { sock, into }, TokenKind::Read, index);
            match world.next(token).outcome {
                Outcome::Read { bytes: 19 } | Outcome::Failed(IoError::WouldBlock) => {}
                Outcome::EndOfStream => break,
                other => panic!("reads: {other:?}"),
            }
        }
        world.cancel(poll);
        world.seen.clear();
        world.close(sock, index);
    }
    world.settled();
}

pub fn sends_as_much_as_fits<B: Backend>() {
    let mut world = world!(B);
    let (sock, peer) = world.one();
    let sent = pattern(4, 12 << 20);
    world.fill_arena(0, &sent);
    let total = sent.len() as u64;
    let mut done = 0u64;
    let mut reader = None;
    let mut peer = Some(peer);
    let (mut short, mut blocked) = (0, 0);
    while done < total {
        // Spans of uneven size, some of them side by side, some not at all.
        let mut spans = Vec::new();
        let mut at = done;
        while at < total && spans.len() < 20 {
            let bytes = u32::try_from((total - at).min(30_011)).expect("small");
            spans.push((at, bytes));
            at += u64::from(bytes);
        }
        let asked = at - done;
        let spans = world.list(&spans);
        let token = world.submit(Op::Send { sock, spans }, TokenKind::Send, 0);
        match world.next(token).outcome {
            Outcome::Sent { bytes } => {
                short += u32::from(u64::from(bytes) < asked);
                done += u64::from(bytes);
            }
            Outcome::Failed(IoError::WouldBlock) => {
                blocked += 1;
                let poll = world.submit(Op::PollWritable { sock }, TokenKind::Writable, 0);
                if let Some(mut peer) = peer.take() {
                    world.pump(Wait::No);
                    assert!(world.open.contains_key(&poll), "a full socket is not writable");
                    reader = Some(std::thread::spawn(move || {
                        let mut heard = Vec::new();
                        peer.read_to_end(&mut heard).map(|_| heard)
                    }));
                }
                world.ends(poll, Outcome::Ready);
            }
            other => panic!("sends: {other:?}"),
        }
    }
    world.close(sock, 0);
    assert!(short > 0 && blocked > 0, "the socket was full at times: {short} {blocked}");
    let heard = reader.expect("a reader").join().expect("the reader").expect("an orderly end");
    assert!(heard == sent, "the peer hears what was sent");
    world.settled();
}

pub fn peers_that_reset<B: Backend>() {
    let mut world = world!(B);
    let reset = |peer: std::net::TcpStream| {
        socket2::SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO)).expect("linger");
    };
    // Under a receive, a read, and a send.
    let (sock, peer) = world.one();
    let token = world.receive(sock, 0);
    world.pump(Wait::No);
    reset(peer);
    world.ends(token, Outcome::Failed(IoError::PeerGone));
    world.close(sock, 0);

    let (sock, peer) = world.one();
    let poll = world.submit(Op::PollReadable { sock }, TokenKind::Readable, 1);
    reset(peer);
    assert_eq!(world.next(poll).outcome, Outcome::Ready);
    let into = Span { region: BULK, at: 0, bytes: 100 };
    let token = world.submit(Op::Read { sock, into }, TokenKind::Read, 1);
    world.ends(token, Outcome::Failed(IoError::PeerGone));
    world.cancel(poll);
    world.seen.clear();
    world.close(sock, 1);

    let (sock, peer) = world.one();
    reset(peer);
    let mut outcome = Outcome::Ready;
    world.until("the reset", |world| {
        let spans = world.list(&[(0, 100)]);
        let token = world.submit(Op::Send { sock, spans }, TokenKind::Send, 2);
        outcome = world.next(token).outcome;
        !matches!(outcome, Outcome::Sent { .. })
    });
    assert_eq!(outcome, Outcome::Failed(IoError::PeerGone));
    world.close(sock, 2);
    world.settled();
}

pub fn shuts_down_after_what_was_sent<B: Backend>() {
    let mut world = world!(B);
    let (sock, mut peer) = world.one();
    world.fill_arena(0, b"the last frame");
    let spans = world.list(&[(0, 14)]);
    // Both before the backend is entered: the order holds.
    let send = world.submit(Op::Send { sock, spans }, TokenKind::Send, 0);
    let end = world.submit(Op::ShutdownWrite { sock }, TokenKind::Close, 0);
    world.ends(send, Outcome::Sent { bytes: 14 });
    world.ends(end, Outcome::Done);
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).expect("an orderly end");
    assert_eq!(heard, b"the last frame");
    // This side still hears.
    let token = world.receive(sock, 0);
    peer.write_all(b"understood").expect("written");
    drop(peer);
    world.until("the end", |world| !world.open.contains_key(&token));
    assert_eq!(world.streams[&0], b"understood");
    world.close(sock, 0);
    world.settled();
}

pub fn waits_as_told<B: Backend>() {
    let mut world = world!(B);
    let before = world.io.clock();
    assert!(before.wall_ns > 1_600_000_000_000_000_000, "the wall clock counts from 1970");
    world.pump(Wait::No);
    let until = before.mono_ns + 30_000_000;
    world.pump(Wait::Until(until));
    let after = world.io.clock().mono_ns;
    assert!(after >= until, "nothing came, so the time is up");
    // A time that is past does not wait, and what is there ends any wait.
    world.pump(Wait::Until(before.mono_ns));
    let (sock, mut peer) = world.one();
    let token = world.receive(sock, 0);
    peer.write_all(b"x").expect("written");
    world.until("the byte", |world| world.streams.get(&0).is_some_and(|s| s == b"x"));
    assert!(world.open.contains_key(&token));
    world.seen.clear();
    let far = world.io.clock().mono_ns + 50_000_000_000;
    peer.write_all(b"y").expect("written");
    assert_eq!(world.pump(Wait::Until(far)), 1);
    peer.write_all(b"z").expect("written");
    assert_eq!(world.pump(Wait::Forever), 1);
    assert!(world.io.clock().mono_ns < far, "a completion ends a wait");
    world.settled();
}
