//! How streams end: orderly, behind bytes, in one direction; and by a reset, at each step of a connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use uringest::buf::Span;
use uringest::ids::SockId;
use uringest::io::{Io, IoError, Op, Outcome, Token, TokenKind, Wait};
use uringest::limits::SHARED_RING_BYTES;

use crate::cases::world;
use crate::races::fill;
use crate::world::{BULK, Backend, World, pattern, write_all};

const GONE: Outcome = Outcome::Failed(IoError::PeerGone);

/// Writes and says that it is all.
fn write_and_finish(mut peer: TcpStream, bytes: Vec<u8>) -> JoinHandle<TcpStream> {
    std::thread::spawn(move || {
        peer.write_all(&bytes).expect("the server takes it");
        peer.shutdown(Shutdown::Write).expect("half closed");
        peer
    })
}

/// Closes a connection the hard way.
fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("linger");
}

fn read<B: Backend>(world: &mut World<B>, sock: SockId, bytes: u32) -> Outcome {
    let into = Span { region: BULK, at: 0, bytes };
    let token = world.submit(Op::Read { sock, into }, TokenKind::Read, 0);
    world.next(token).outcome
}

fn send<B: Backend>(world: &mut World<B>, sock: SockId, bytes: u32) -> Outcome {
    let spans = world.list(&[(0, bytes)]);
    let token = world.submit(Op::Send { sock, spans }, TokenKind::Send, 0);
    world.next(token).outcome
}

/// Receives to the end; armed again whenever buffers were short.
fn to_the_end<B: Backend>(world: &mut World<B>, sock: SockId, mut token: Token) -> Outcome {
    let index = token.index();
    loop {
        world.until("the receive's end", |world| !world.open.contains_key(&token));
        let last = world.seen.iter().rev().find(|c| c.token == token && !c.more);
        let outcome = last.expect("its end was seen").outcome;
        world.seen.clear();
        if outcome != Outcome::Failed(IoError::NoBuffers) {
            return outcome;
        }
        token = world.receive(sock, index);
    }
}

/// Bytes of every awkward number, and the end right behind them: all there before the first look, or bit by bit.
pub fn ends_lie_behind_the_bytes<B: Backend>() {
    let mut world = world!(B);
    let accept = world.listen();
    let buffer = world.buffers.receive.shared_buffer_bytes() as usize;
    let mut index = 0;
    for bytes in [0, 1, 4096, 65_536, buffer - 1, buffer, buffer + 1, 2 * buffer, 3 * buffer + 7] {
        for early in [true, false] {
            index += 1;
            let (sock, peer) = world.connect(accept);
            let armed = if early { None } else { Some(world.receive(sock, index)) };
            world.pump(Wait::No);
            let sent = pattern(u64::from(index), bytes);
            let writer = write_and_finish(peer, sent.clone());
            // So much the kernel keeps for a socket that is not read.
            let writer = if bytes <= 65_536 { Err(writer.join().expect("the writer")) } else { Ok(writer) };
            let token = armed.unwrap_or_else(|| world.receive(sock, index));
            assert_eq!(to_the_end(&mut world, sock, token), Outcome::EndOfStream, "{bytes} {early}");
            assert!(
                world.streams.remove(&index).unwrap_or_default() == sent,
                "{bytes} bytes, early: {early}"
            );
            drop(writer.map(|writer| writer.join().expect("the writer")));
            world.close(sock, index);
        }
    }
    world.settled();
}

/// The same for reads, also for one that asks for just what is there.
pub fn reads_find_the_end<B: Backend>() {
    let mut world = world!(B);
    let accept = world.listen();
    for (index, asked) in [(0, 4096), (1, 1000), (2, 999), (3, 64), (4, 4096)] {
        let (sock, mut peer) = world.connect(accept);
        // The last round's poll comes when everything is there.
        let armed = (index < 4).then(|| world.submit(Op::PollReadable { sock }, TokenKind::Readable, index));
        world.pump(Wait::No);
        let sent = pattern(u64::from(index), 1000);
        peer.write_all(&sent).expect("written");
        peer.shutdown(Shutdown::Write).expect("half closed");
        let poll =
            armed.unwrap_or_else(|| world.submit(Op::PollReadable { sock }, TokenKind::Readable, index));
        let mut got = Vec::new();
        let end = 'end: loop {
            assert_eq!(world.next(poll).outcome, Outcome::Ready);
            loop {
                match read(&mut world, sock, asked) {
                    Outcome::Read { bytes } => {
                        let span = Span { region: BULK, at: 0, bytes };
                        got.extend_from_slice(world.buffers.memory.bytes(span));
                        if bytes < asked {
                            break;
                        }
                    }
                    Outcome::Failed(IoError::WouldBlock) => break,
                    end => break 'end end,
                }
            }
        };
        assert_eq!((end, got == sent), (Outcome::EndOfStream, true), "asked for {asked} at a time");
        world.cancel(poll);
        world.seen.clear();
        world.close(sock, index);
    }
    world.settled();
}

/// Each side may finish first, and hears the other to its end.
pub fn each_direction_ends_alone<B: Backend>() {
    let mut world = world!(B);
    let said = pattern(11, 6 << 20);
    world.fill_arena(0, &said);
    for server_first in [true, false] {
        let (sock, peer) = world.one();
        let token = world.receive(sock, 0);
        let heard = pattern(12, 3 * SHARED_RING_BYTES as usize);
        let (sending, expected) = (heard.clone(), said.len());
        if server_first {
            speak(&mut world, sock, &said);
        }
        let mut ear = peer.try_clone().expect("a second handle");
        let listener = std::thread::spawn(move || {
            let mut all = Vec::with_capacity(expected);
            ear.read_to_end(&mut all).map(|_| all)
        });
        let writer = write_and_finish(peer, sending);
        assert_eq!(to_the_end(&mut world, sock, token), Outcome::EndOfStream);
        assert!(world.streams.remove(&0).is_some_and(|stream| stream == heard), "all that the peer said");
        if !server_first {
            speak(&mut world, sock, &said);
        }
        drop(writer.join().expect("the writer"));
        let all = listener.join().expect("the listener").expect("an orderly end");
        let part = if server_first { all.len() } else { said.len() };
        assert!(all == said[..part], "the peer hears what was sent");
        world.close(sock, 0);
    }
    world.settled();
}

/// Sends what the socket takes, or everything when somebody reads; then the end.
fn speak<B: Backend>(world: &mut World<B>, sock: SockId, said: &[u8]) {
    let mut done = 0;
    while done < said.len() {
        let bytes = u32::try_from(said.len() - done).expect("small").min(1 << 20);
        let spans = world.list(&[(done as u64, bytes)]);
        let token = world.submit(Op::Send { sock, spans }, TokenKind::Send, 0);
        match world.next(token).outcome {
            Outcome::Sent { bytes } => done += bytes as usize,
            other => {
                assert_eq!(other, Outcome::Failed(IoError::WouldBlock));
                let poll = world.submit(Op::PollWritable { sock }, TokenKind::Writable, 0);
                world.pump(Wait::No);
                let soon = world.io.clock().mono_ns + 50_000_000;
                world.pump(Wait::Until(soon));
                if world.open.contains_key(&poll) {
                    // Nobody reads yet: that is enough.
                    world.cancel(poll);
                    break;
                }
            }
        }
    }
    world.seen.clear();
    let end = world.submit(Op::ShutdownWrite { sock }, TokenKind::Shutdown, 0);
    world.ends(end, Outcome::Done);
}

/// A reset is found by whatever comes next, and whatever waits for it; every operation ends, and the socket closes.
pub fn resets_at_each_step<B: Backend>() {
    let mut world = world!(B);
    reset_before_it_is_accepted(&mut world);
    reset_under_a_receive(&mut world);
    reset_under_polls(&mut world);
    reset_under_a_full_socket(&mut world);
    reset_after_the_last_word(&mut world);
    world.settled();
}

fn reset_before_it_is_accepted<B: Backend>(world: &mut World<B>) {
    reset(TcpStream::connect(world.address).expect("a connection in the backlog"));
    let accept = world.listen();
    // This one comes through, whatever became of that one.
    let peer = TcpStream::connect(world.address).expect("a connection");
    peer.set_nodelay(true).expect("an option");
    let mut socks = Vec::new();
    let mut answered = false;
    while !answered {
        let completion = world.next(accept);
        assert!(completion.more, "accepting goes on: {completion:?}");
        let Outcome::Accepted { sock, .. } = completion.outcome else { panic!("{completion:?}") };
        socks.push(sock);
        assert!(socks.len() <= 2);
        let index = u32::try_from(socks.len()).expect("two");
        let token = world.receive(sock, index);
        (&peer).write_all(b"?").expect("written");
        world.until("bytes or an end", |world| {
            answered = world.streams.contains_key(&index);
            answered || !world.open.contains_key(&token)
        });
        if world.open.contains_key(&token) {
            world.cancel(token);
        }
        world.seen.retain(|c| c.token == accept);
    }
    world.cancel(accept);
    world.seen.clear();
    for sock in socks {
        world.close(sock, 0);
    }
    world.streams.clear();
}

fn reset_under_a_receive<B: Backend>(world: &mut World<B>) {
    for (bytes, pumped) in [(0, true), (0, false), (5000, true), (5000, false)] {
        let (sock, mut peer) = world.one();
        let token = world.receive(sock, 0);
        if pumped {
            world.pump(Wait::No);
        }
        let sent = pattern(bytes as u64, bytes);
        peer.write_all(&sent).expect("written");
        if pumped {
            world.pump(Wait::No);
        }
        reset(peer);
        assert_eq!(to_the_end(world, sock, token), GONE, "{bytes} {pumped}");
        let got = world.streams.remove(&0).unwrap_or_default();
        assert!(sent.starts_with(&got), "nothing but what was sent");
        // And again: it ends, one way or the other.
        let again = world.receive(sock, 0);
        let end = to_the_end(world, sock, again);
        assert!(end == GONE || end == Outcome::EndOfStream, "{end:?}");
        assert!(matches!(send(world, sock, 10), GONE), "nothing can be sent");
        world.close(sock, 0);
    }
    // With no buffer to be had, and with nothing armed.
    world.recycles = false;
    let (sock, peer) = world.one();
    let writer = write_all(peer, pattern(1, SHARED_RING_BYTES as usize + 1000));
    let token = world.receive(sock, 0);
    world.ends_for_want_of_buffers(token);
    reset(writer.join().expect("the writer"));
    world.pump(Wait::No);
    world.recycles = true;
    world.recycle();
    let token = world.receive(sock, 0);
    assert_eq!(to_the_end(world, sock, token), GONE);
    world.streams.clear();
    world.close(sock, 0);
}

fn reset_under_polls<B: Backend>(world: &mut World<B>) {
    for bytes in [0, 3000] {
        let (sock, mut peer) = world.one();
        fill(world, sock);
        let readable = world.submit(Op::PollReadable { sock }, TokenKind::Readable, 0);
        let writable = world.submit(Op::PollWritable { sock }, TokenKind::Writable, 0);
        world.pump(Wait::No);
        peer.write_all(&pattern(2, bytes)).expect("written");
        reset(peer);
        world.ends(writable, Outcome::Ready);
        assert_eq!(world.next(readable).outcome, Outcome::Ready);
        let mut end = read(world, sock, 1000);
        while matches!(end, Outcome::Read { .. }) {
            end = read(world, sock, 1000);
        }
        assert_eq!(end, GONE);
        world.cancel(readable);
        world.seen.clear();
        world.close(sock, 0);
    }
}

fn reset_under_a_full_socket<B: Backend>(world: &mut World<B>) {
    let (sock, peer) = world.one();
    fill(world, sock);
    let token = world.receive(sock, 0);
    let writable = world.submit(Op::PollWritable { sock }, TokenKind::Writable, 0);
    reset(peer);
    world.ends(writable, Outcome::Ready);
    // Whoever comes first is told of the reset, the other of an end.
    let sent = send(world, sock, 1000);
    assert_eq!(sent, GONE);
    let end = to_the_end(world, sock, token);
    assert!(end == GONE || end == Outcome::EndOfStream, "{end:?}");
    // Shutting down what is broken is no fault worth more than a word.
    let finish = world.submit(Op::ShutdownWrite { sock }, TokenKind::Shutdown, 0);
    let outcome = world.next(finish).outcome;
    assert!(outcome == GONE || outcome == Outcome::Done, "{outcome:?}");
    world.close(sock, 0);
}

fn reset_after_the_last_word<B: Backend>(world: &mut World<B>) {
    let (sock, peer) = world.one();
    let token = world.receive(sock, 0);
    let end = world.submit(Op::ShutdownWrite { sock }, TokenKind::Shutdown, 0);
    world.ends(end, Outcome::Done);
    reset(peer);
    assert_eq!(to_the_end(world, sock, token), GONE);
    world.close(sock, 0);
}
