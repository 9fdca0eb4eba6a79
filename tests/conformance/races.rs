//! Cancels, reuse, other threads, and tables that are full.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use uringest::buf::Span;
use uringest::io::{Completion, Io, IoError, Op, Outcome, SocketHandle, Token, TokenKind, Wait, host};
use uringest::limits::{FILE_OPS_PER_SHARD, SHARED_RING_BYTES};

use crate::cases::world;
use crate::world::{BULK, Backend, Shape, World, pattern, write_all};

pub fn cancels_what_is_armed<B: Backend>() {
    let mut world = world!(B);
    let (sock, _peer) = world.one();
    fill(&mut world, sock);
    let kinds = [
        (Op::ReceiveShared { sock }, TokenKind::Receive),
        (Op::PollReadable { sock }, TokenKind::Readable),
        (Op::PollWritable { sock }, TokenKind::Writable),
    ];
    for entered in [false, true] {
        for (op, kind) in kinds {
            let token = world.submit(op, kind, 3);
            if entered {
                world.pump(Wait::No);
            }
            world.cancel(token);
            world.ends(token, Outcome::Failed(IoError::Cancelled));
        }
    }
    // All at once, the cancels before anything has been entered.
    let tokens = kinds.map(|(op, kind)| world.submit(op, kind, 3));
    let cancels = tokens.map(|target| world.submit(Op::Cancel { target }, TokenKind::Cancel, 3));
    for token in tokens {
        world.ends(token, Outcome::Failed(IoError::Cancelled));
    }
    for cancel in cancels {
        world.ends(cancel, Outcome::Done);
    }
    world.close(sock, 3);
    world.settled();
}

/// Sends until the socket is full.
pub fn fill<B: Backend>(world: &mut World<B>, sock: uringest::ids::SockId) {
    loop {
        let spans = world.list(&[(0, 1 << 20)]);
        let token = world.submit(Op::Send { sock, spans }, TokenKind::Send, 3);
        match world.next(token).outcome {
            Outcome::Sent { .. } => {}
            other => return assert_eq!(other, Outcome::Failed(IoError::WouldBlock)),
        }
    }
}

pub fn cancels_what_has_ended<B: Backend>() {
    let mut world = world!(B);
    let (sock, mut peer) = world.one();
    let token = world.submit(Op::PollWritable { sock }, TokenKind::Writable, 0);
    world.ends(token, Outcome::Ready);
    world.cancel(token);
    // Ended in the kernel, and not yet handed out.
    let token = world.submit(Op::PollWritable { sock }, TokenKind::Writable, 0);
    peer.write_all(b"!").expect("written");
    let into = Span { region: BULK, at: 0, bytes: 10 };
    let read = world.submit(Op::Read { sock, into }, TokenKind::Read, 0);
    world.cancel(token);
    world.cancel(read);
    world.ends(token, Outcome::Ready);
    let read = world.next(read);
    assert!(!read.more);
    // A second cancel of the same operation.
    let poll = world.submit(Op::PollReadable { sock }, TokenKind::Readable, 0);
    let first = world.submit(Op::Cancel { target: poll }, TokenKind::Cancel, 0);
    let second = world.submit(Op::Cancel { target: poll }, TokenKind::Cancel, 0);
    world.ends(first, Outcome::Done);
    world.ends(second, Outcome::Done);
    assert!(!world.open.contains_key(&poll));
    world.seen.clear();
    // One that never was.
    world.cancel(Token::new(TokenKind::Receive, 77, 12345));
    world.close(sock, 0);
    world.settled();
}

pub fn cancels_race_with_bytes<B: Backend>() {
    let mut world = world!(B);
    let (sock, mut peer) = world.one();
    let sent = pattern(5, 64 * 300);
    for (round, piece) in sent.chunks(64).enumerate() {
        let token = world.receive(sock, 0);
        if round % 3 == 0 {
            world.pump(Wait::No);
        }
        peer.write_all(piece).expect("written");
        if round % 2 == 0 {
            world.pump(Wait::No);
        }
        let cancel = world.submit(Op::Cancel { target: token }, TokenKind::Cancel, 0);
        world.ends(cancel, Outcome::Done);
        let ends = world.seen.iter().filter(|c| c.token == token && !c.more).count();
        assert_eq!(ends, 1, "one end in round {round}: {:?}", world.seen);
        let last = world.seen.iter().rposition(|c| c.token == token);
        assert!(last.is_some_and(|at| !world.seen[at].more), "nothing after the end");
        world.seen.clear();
    }
    peer.shutdown(Shutdown::Write).expect("half closed");
    world.receive_all(sock, 0, sent.len());
    assert!(world.streams[&0] == sent, "no byte is lost or doubled by a cancel");
    world.close(sock, 0);
    world.settled();
}

pub fn sockets_are_reused<B: Backend>() {
    let mut world = world!(B);
    let accept = world.listen();
    let attached = B::sockets(&world.io);
    for index in 0..200u32 {
        let (sock, mut peer) = world.connect(accept);
        let token = world.receive(sock, index);
        peer.write_all(&index.to_le_bytes()).expect("written");
        if index % 2 == 0 {
            world.until("the bytes", |world| world.streams.get(&index).is_some_and(|s| s.len() == 4));
            assert_eq!(world.streams[&index], index.to_le_bytes());
        }
        world.cancel(token);
        world.seen.clear();
        world.close(sock, index);
        // The socket is let go of: the peer hears the end at once, or a reset when bytes were left unread.
        peer.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        match peer.read(&mut [0; 8]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("connection {index} lingers: {other:?}"),
        }
        assert_eq!(B::sockets(&world.io), attached);
    }
    world.settled();
}

pub fn wakes_from_a_thread<B: Backend>() {
    let mut world = world!(B);
    let handle = world.io.wake_handle();
    let (go, gone) = mpsc::channel::<()>();
    let waker = std::thread::spawn(move || {
        let event = handle.event.expect("a descriptor to write to");
        let mut event = std::fs::File::from(event.try_clone().expect("a copy"));
        while gone.recv().is_ok() {
            event.write_all(&1u64.to_ne_bytes()).expect("written");
        }
    });
    for _ in 0..20 {
        go.send(()).expect("the thread");
        world.until("a wake-up", |world| !world.seen.is_empty());
        for Completion { token, outcome, .. } in world.seen.drain(..) {
            assert_eq!((token, outcome), (Token::WAKE, Outcome::Woken));
        }
        // One reap may see what another has already reported; it settles before the next round.
        world.pump(Wait::No);
        world.seen.clear();
    }
    drop(go);
    waker.join().expect("the thread");
    world.settled();
}

pub fn wakes_from_another_backend<B: Backend>() {
    let mut world = world!(B);
    let handle = world.io.wake_handle();
    let (back_handle, back) = mpsc::channel();
    let other = std::thread::spawn(move || {
        let mut other = World::<B>::new(Shape::default()).expect("a second one");
        back_handle.send(other.io.wake_handle()).expect("the first");
        for _ in 0..50 {
            // Woken by the first, asleep until then.
            other.until("a wake-up", |other| !other.seen.is_empty());
            other.seen.clear();
            other.io.wake(&handle);
            other.pump(Wait::No);
        }
        other.settled();
    });
    let back = back.recv().expect("the second");
    for _ in 0..50 {
        world.io.wake(&back);
        world.pump(Wait::No);
        world.until("an answer", |world| !world.seen.is_empty());
        assert!(world.seen.iter().all(|c| c.outcome == Outcome::Woken && c.token == Token::WAKE));
        world.seen.clear();
    }
    other.join().expect("the second");
    // It is gone, and waking it harms nobody.
    world.io.wake(&back);
    world.pump(Wait::No);
    world.settled();
}

pub fn sockets_change_backends<B: Backend>() {
    let mut world = world!(B);
    let (sock, mut peer) = world.one();
    let sent = pattern(6, 300_000);
    peer.write_all(&sent[..1000]).expect("written");
    world.receive_all(sock, 0, 1000);
    assert!(world.streams[&0] == sent[..1000]);
    // More arrives before and after the move.
    peer.write_all(&sent[1000..2000]).expect("written");
    let SocketHandle::Fd(moving) = world.io.detach(sock) else { panic!("a descriptor") };
    let rest = sent[1000..].to_vec();
    let adopter = std::thread::spawn(move || {
        let mut other = World::<B>::new(Shape::default()).expect("a second one");
        let sock = other.io.attach(SocketHandle::Fd(moving)).expect("room");
        other.receive_all(sock, 9, rest.len());
        assert!(other.streams[&9] == rest, "the stream goes on where it was");
        let spans = other.list(&[(0, 5)]);
        other.fill_arena(0, b"taken");
        let send = other.submit(Op::Send { sock, spans }, TokenKind::Send, 9);
        other.ends(send, Outcome::Sent { bytes: 5 });
        other.close(sock, 9);
        other.settled();
    });
    peer.write_all(&sent[2000..]).expect("written");
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).expect("an orderly end");
    assert_eq!(heard, b"taken");
    adopter.join().expect("the adopter");
    world.settled();
}

const MANY: u32 = 2000;

pub fn many_connections<B: Backend>() {
    // Two descriptors a connection, for several tests at once.
    host::raise_open_files(u64::from(MANY) * 2 * 6).expect("a limit");
    let mut world = world!(B, Shape { connections: MANY, sq_entries: 256 });
    let accept = world.listen();
    let mut connections: Vec<(_, TcpStream)> = Vec::new();
    for index in 0..MANY {
        let (sock, peer) = world.connect(accept);
        world.receive(sock, index);
        connections.push((sock, peer));
    }
    for round in 0..3u64 {
        for (index, (_, peer)) in connections.iter_mut().enumerate() {
            peer.write_all(&pattern(round * 10_000 + index as u64, 96)).expect("written");
        }
        let expected = 96 * (usize::try_from(round).expect("small") + 1);
        world.until("every connection's bytes", |world| {
            rearm(world, &connections);
            world.seen.clear();
            (0..MANY).all(|index| world.streams.get(&index).is_some_and(|s| s.len() == expected))
        });
    }
    for index in 0..MANY {
        let all: Vec<u8> = (0..3).flat_map(|round| pattern(round * 10_000 + u64::from(index), 96)).collect();
        assert!(world.streams[&index] == all, "connection {index} sent this");
    }
    // All of them end, in one go.
    for (_, peer) in &connections {
        peer.shutdown(Shutdown::Write).expect("half closed");
    }
    world.until("every end", |world| {
        let ended = world.seen.iter().filter(|c| c.outcome == Outcome::EndOfStream && !c.more).count();
        ended == MANY as usize
    });
    world.seen.clear();
    for (index, (sock, _)) in (0u32..).zip(&connections) {
        world.close(*sock, index);
    }
    world.settled();
}

/// Begins again every receive that ended for want of buffers.
fn rearm<B: Backend>(world: &mut World<B>, connections: &[(uringest::ids::SockId, TcpStream)]) {
    let ended: Vec<u32> = world
        .seen
        .iter()
        .filter(|c| !c.more && c.token.kind() == TokenKind::Receive)
        .map(|c| c.token.index())
        .collect();
    for index in ended {
        world.receive(connections[index as usize].0, index);
    }
}

pub fn a_full_table_refuses<B: Backend>() {
    let mut world = world!(B, Shape { connections: 8, sq_entries: 8 });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("its address");
    let mut attached = Vec::new();
    let refused = loop {
        assert!(attached.len() < 1000, "the table is bounded");
        let socket = TcpStream::connect(address).expect("a connection");
        match world.io.attach(SocketHandle::Fd(socket.into())) {
            Ok(sock) => attached.push(sock),
            Err(refused) => break refused,
        }
    };
    let (IoError::NoDescriptors, SocketHandle::Fd(fd)) = refused else { panic!("{refused:?}") };
    // The socket came back alive; one place becomes free, and it fits.
    drop(world.io.detach(attached.pop().expect("one of them")));
    let sock = world.io.attach(SocketHandle::Fd(fd)).expect("room now");
    world.close(sock, 0);
    for sock in attached {
        world.close(sock, 0);
    }
    // What is no socket of this world is handed back, too.
    let Err((_, SocketHandle::Simulated(7))) = world.io.attach(SocketHandle::Simulated(7)) else {
        panic!("a simulated socket has no place here");
    };
    world.settled();
}

pub fn connections_beyond_the_table<B: Backend>() {
    let mut world = world!(B, Shape { connections: 8, sq_entries: 8 });
    let accept = world.listen();
    let mut socks = Vec::new();
    let mut peers = Vec::new();
    loop {
        assert!(peers.len() < 1000, "the table is bounded");
        peers.push(TcpStream::connect(world.address).expect("a connection"));
        let completion = world.next(accept);
        assert!(completion.more, "one too many is no reason to stop");
        match completion.outcome {
            Outcome::Accepted { sock, .. } => socks.push(sock),
            other => break assert_eq!(other, Outcome::Failed(IoError::NoDescriptors)),
        }
    }
    let mut refused = peers.pop().expect("the last");
    assert!(matches!(refused.read(&mut [0; 1]), Ok(0) | Err(_)), "it is closed");
    world.close(socks.pop().expect("one of them"), 0);
    let (sock, peer) = world.connect(accept);
    drop(peer);
    for sock in socks.into_iter().chain([sock]) {
        world.close(sock, 0);
    }
    world.settled();
}

/// Operations, where a table is for those on files and for those of a few hundred sockets.
const MORE_THAN_FIT: u32 = 2 * FILE_OPS_PER_SHARD;

pub fn more_operations_than_the_queues_hold<B: Backend>() {
    let mut world = world!(B, Shape { connections: 400, sq_entries: 8 });
    let (sock, _peer) = world.one();
    // All of these complete at once, and nothing is reaped: the completion queue overflows.
    let mut tokens = Vec::new();
    for index in 0..MORE_THAN_FIT {
        let token = world.token(TokenKind::Writable, index);
        match world.io.submit(Op::PollWritable { sock }, token) {
            Ok(()) => {
                world.open.insert(token, Op::PollWritable { sock });
                tokens.push(token);
            }
            Err(refused) => {
                assert_eq!(refused.0, Op::PollWritable { sock });
                break;
            }
        }
    }
    assert!((1000..MORE_THAN_FIT as usize).contains(&tokens.len()), "the table is bounded: {}", tokens.len());
    world.until("all of them", |world| world.open.is_empty());
    let ready = world.seen.iter().filter(|c| c.outcome == Outcome::Ready && !c.more).count();
    assert_eq!(ready, tokens.len(), "each completes once");
    world.seen.clear();
    world.close(sock, 0);
    world.settled();
}

pub fn dropped_with_everything_in_flight<B: Backend>() {
    let mut world = world!(B);
    let accept = world.listen();
    let (a, mut peer_a) = world.connect(accept);
    let (b, peer_b) = world.connect(accept);
    world.receive(a, 0);
    world.submit(Op::PollReadable { sock: b }, TokenKind::Readable, 1);
    fill(&mut world, b);
    world.submit(Op::PollWritable { sock: b }, TokenKind::Writable, 1);
    peer_a.write_all(b"on its way").expect("written");
    world.pump(Wait::No);
    let spans = world.list(&[(0, 3)]);
    world.submit(Op::Send { sock: a, spans }, TokenKind::Send, 0);
    let World { io, buffers, .. } = world;
    drop(io);
    drop(buffers);
    // Every socket is closed: peers hear the end (a reset, where bytes were left unread).
    for mut peer in [peer_a, peer_b] {
        peer.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        let mut heard = Vec::new();
        if let Err(error) = peer.read_to_end(&mut heard) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "a lingering socket");
        }
    }
    // A new one, in the same thread, with new memory.
    let Some(world) = World::<B>::new(Shape::default()) else { return };
    world.settled();
}

/// Whether this is a process of the case's own; if not, it was run in one, and succeeded.
pub fn alone(name: &str) -> bool {
    const ALONE: &str = "URINGEST_CONFORMANCE_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = this_case(name).env(ALONE, "1").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "the case was run: {said}");
    if let Some(why) = said.lines().find(|line| line.starts_with("SKIPPED")) {
        println!("{why}");
    }
    false
}

/// This program, to run one case.
pub fn this_case(name: &str) -> Command {
    let name = name.split_once("::").map_or(name, |(_, name)| name);
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([name, "--exact", "--nocapture"]);
    command
}

/// Runs in a process of its own, where descriptors can be used up.
pub fn out_of_descriptors<B: Backend>(name: &str) {
    if !alone(name) {
        return;
    }
    let mut world = world!(B);
    let accept = world.listen();
    let (sock, peer) = world.connect(accept);
    let waiting = TcpStream::connect(world.address);
    let _waiting = waiting.expect("a connection in the backlog");
    world.next(accept);
    let late = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
        assert!(hoard.len() < 1_000_000, "descriptors have a limit");
    }
    late.connect(&world.address.into()).expect("a connection in the backlog");
    world.ends(accept, Outcome::Failed(IoError::NoDescriptors));
    // Others go on.
    let sent = pattern(8, 2 * SHARED_RING_BYTES as usize);
    let writer = write_all(peer, sent.clone());
    world.receive_all(sock, 0, sent.len());
    assert!(world.streams[&0] == sent);
    drop(writer.join().expect("the writer"));
    // With descriptors at hand the connection is accepted.
    drop(hoard);
    let accept = world.listen();
    assert!(matches!(world.next(accept).outcome, Outcome::Accepted { .. }));
    world.settled();
}

/// Whoever starts a server again at once finds the port free: no listener outlives its backend.
pub fn its_port_is_free_when_it_is_gone<B: Backend>() {
    let mut world = world!(B);
    let accept = world.listen();
    let connection = world.connect(accept);
    let address = world.address;
    drop(world);
    drop(connection);
    std::net::TcpListener::bind(address).expect("nobody listens");
}
