//! Every kind of operation, cancelled in every state it can be in; and what happens when buffers are short.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use uringest::buf::Span;
use uringest::io::{Completion, Io, IoError, Op, Outcome, Token, TokenKind, Wait};
use uringest::limits::{SENDS_IN_FLIGHT, SHARED_RING_BYTES};

use crate::cases::world;
use crate::races::fill;
use crate::world::{BULK, Backend, World, pattern, write_all};

const CANCELLED: Outcome = Outcome::Failed(IoError::Cancelled);
const NO_BUFFERS: Outcome = Outcome::Failed(IoError::NoBuffers);

/// Cancels, and gives what came of the target, the last of which ends it; the cancel ends after that.
fn cancelled<B: Backend>(world: &mut World<B>, target: Token, pumps: bool) -> Vec<Completion> {
    if pumps {
        world.pump(Wait::No);
    }
    let cancel = world.submit(Op::Cancel { target }, TokenKind::Cancel, target.index());
    world.until("the cancel's end", |world| world.seen.iter().any(|c| c.token == cancel));
    let done = world.seen.iter().position(|c| c.token == cancel).expect("just seen");
    let of_target: Vec<_> = world.seen.iter().take(done).filter(|c| c.token == target).copied().collect();
    assert!(world.seen.iter().skip(done + 1).all(|c| c.token != target), "nothing after the cancel");
    assert_eq!((world.seen[done].outcome, world.seen[done].more), (Outcome::Done, false));
    let ends = of_target.iter().filter(|c| !c.more).count();
    assert_eq!(ends, 1, "one end: {of_target:?}");
    assert!(!of_target.last().expect("one end").more, "the end is the last");
    world.seen.retain(|c| c.token != target && c.token != cancel);
    of_target
}

/// No connection is lost between one accept and the next, wherever the cancel falls.
pub fn cancels_accepts<B: Backend>() {
    let mut world = world!(B);
    let mut connected = 0;
    let mut socks = Vec::new();
    let mut peers = Vec::new();
    for round in 0..24 {
        let accept = world.listen();
        if round % 4 < 2 {
            world.pump(Wait::No);
        }
        if round % 3 < 2 {
            peers.push(TcpStream::connect(world.address).expect("a connection"));
            connected += 1;
        }
        let came = cancelled(&mut world, accept, round % 2 == 0);
        socks.extend(came.iter().filter_map(|c| match c.outcome {
            Outcome::Accepted { sock, .. } => Some(sock),
            _ => None,
        }));
    }
    let accept = world.listen();
    while socks.len() < connected {
        let completion = world.next(accept);
        let Outcome::Accepted { sock, .. } = completion.outcome else { panic!("{completion:?}") };
        socks.push(sock);
    }
    world.cancel(accept);
    world.seen.clear();
    for sock in socks {
        world.close(sock, 0);
    }
    world.settled();
}

/// A receive that is idle, has bytes before it, has an end before it, or has ended.
pub fn cancels_receives<B: Backend>() {
    let mut world = world!(B);
    let accept = world.listen();
    for pumps in [true, false] {
        for (index, bytes, ends) in [(1, 0, false), (2, 300, false), (3, 0, true), (4, 300, true)] {
            let (sock, mut peer) = world.connect(accept);
            let token = world.receive(sock, index);
            let sent = pattern(u64::from(index), bytes);
            peer.write_all(&sent).expect("written");
            if ends {
                peer.shutdown(Shutdown::Write).expect("half closed");
            }
            let came = cancelled(&mut world, token, pumps);
            let last = came.last().expect("an end").outcome;
            match last {
                CANCELLED => {}
                // A kernel may end it with the bytes or the end it has just found.
                Outcome::Received { .. } => assert!(bytes > 0),
                Outcome::EndOfStream => assert!(ends),
                other => panic!("{other:?}"),
            }
            // What it did not get is still there.
            peer.write_all(b"!").err();
            peer.shutdown(Shutdown::Write).ok();
            let again = world.receive(sock, index);
            world.until("the end", |world| !world.open.contains_key(&again));
            let got = world.streams.remove(&index).unwrap_or_default();
            assert!(got.starts_with(&sent) && got.len() <= bytes + 1, "{} of {bytes}", got.len());
            world.seen.clear();
            world.close(sock, index);
        }
    }
    world.settled();
}

/// Polls that wait, that have reported, and that have ended.
pub fn cancels_polls<B: Backend>() {
    let mut world = world!(B);
    for pumps in [true, false] {
        for (written, ends) in [(false, false), (true, false), (false, true), (true, true)] {
            let (sock, mut peer) = world.one();
            let token = world.submit(Op::PollReadable { sock }, TokenKind::Readable, 0);
            if written {
                peer.write_all(b"something").expect("written");
            }
            if ends {
                peer.shutdown(Shutdown::Write).expect("half closed");
            }
            for completion in cancelled(&mut world, token, pumps) {
                let reported = completion.outcome == Outcome::Ready && (written || ends);
                assert!(reported || completion.outcome == CANCELLED, "{completion:?}");
            }
            // Armed anew, it reports what is still there.
            if written || ends {
                let token = world.submit(Op::PollReadable { sock }, TokenKind::Readable, 0);
                assert_eq!(world.next(token), Completion { token, outcome: Outcome::Ready, more: true });
                world.cancel(token);
                world.seen.clear();
            }
            let token = world.submit(Op::PollWritable { sock }, TokenKind::Writable, 0);
            let came = cancelled(&mut world, token, pumps);
            assert!(matches!(came[0].outcome, Outcome::Ready | CANCELLED), "{came:?}");
            world.close(sock, 0);
        }
        let (sock, _peer) = world.one();
        fill(&mut world, sock);
        let token = world.submit(Op::PollWritable { sock }, TokenKind::Writable, 0);
        let came = cancelled(&mut world, token, pumps);
        assert_eq!(came, [Completion { token, outcome: CANCELLED, more: false }]);
        world.close(sock, 0);
    }
    world.settled();
}

/// What never waits has its own end, and a cancel changes nothing: neither what was sent nor that it is told.
pub fn cancels_what_never_waits<B: Backend>() {
    let mut world = world!(B);
    let (sock, mut peer) = world.one();
    peer.write_all(b"four").expect("written");
    world.fill_arena(0, b"sent");
    let spans = world.list(&[(0, 4)]);
    let into = Span { region: BULK, at: 0, bytes: 4 };
    let tokens = [
        world.submit(Op::Send { sock, spans }, TokenKind::Send, 0),
        world.submit(Op::Read { sock, into }, TokenKind::Read, 0),
        world.submit(Op::ShutdownWrite { sock }, TokenKind::Shutdown, 0),
    ];
    let mut outcomes = Vec::new();
    let cancels = tokens.map(|target| (target, world.submit(Op::Cancel { target }, TokenKind::Cancel, 0)));
    for (target, cancel) in cancels {
        world.until("both ends", |world| !world.open.contains_key(&cancel));
        let at = |token| world.seen.iter().position(|c| c.token == token);
        assert!(at(target) < at(cancel), "the cancel ends last: {:?}", world.seen);
        outcomes.push(world.next(target).outcome);
        world.ends(cancel, Outcome::Done);
    }
    assert_eq!(outcomes, [Outcome::Sent { bytes: 4 }, Outcome::Read { bytes: 4 }, Outcome::Done]);
    assert_eq!(world.buffers.memory.bytes(into), b"four");
    let mut heard = Vec::new();
    std::io::Read::read_to_end(&mut peer, &mut heard).expect("an orderly end");
    assert_eq!(heard, b"sent");
    let close = world.submit(Op::Close { sock }, TokenKind::Close, 0);
    let cancel = world.submit(Op::Cancel { target: close }, TokenKind::Cancel, 0);
    world.ends(close, Outcome::Done);
    world.ends(cancel, Outcome::Done);
    world.settled();
}

/// One connection uses up the ring: all others end for want of buffers, and go on when there are some.
pub fn buffers_are_short_for_all<B: Backend>() {
    let mut world = world!(B);
    let accept = world.listen();
    let (hog, peer) = world.connect(accept);
    let others: Vec<_> = (1..9).map(|_| world.connect(accept)).collect();
    world.recycles = false;
    let sent = pattern(7, SHARED_RING_BYTES as usize + 500_000);
    let writer = write_all(peer, sent.clone());
    let token = world.receive(hog, 0);
    world.ends_for_want_of_buffers(token);
    let mut tokens = Vec::new();
    for (index, (sock, peer)) in (1u32..).zip(&others) {
        let mut peer = peer;
        peer.write_all(&pattern(u64::from(index), 2000)).expect("written");
        tokens.push(world.receive(*sock, index));
    }
    for token in &tokens {
        world.ends_for_want_of_buffers(*token);
    }
    // One that has nothing to receive may stay armed or end like them; either way it can be cancelled.
    let (quiet, _quiet_peer) = world.connect(accept);
    let armed = world.receive(quiet, 99);
    for completion in cancelled(&mut world, armed, true) {
        assert!(matches!(completion.outcome, CANCELLED | NO_BUFFERS), "{completion:?}");
    }
    world.recycles = true;
    assert!(!world.recycle().is_empty(), "all buffers are done");
    for (index, (sock, _)) in (1u32..).zip(&others) {
        world.receive_all(*sock, index, 2000);
        assert!(world.streams[&index] == pattern(u64::from(index), 2000), "nothing is lost");
    }
    world.receive_all(hog, 0, sent.len());
    assert!(world.streams[&0] == sent, "nothing is lost");
    drop(writer.join().expect("the writer"));
    world.settled();
}

/// Whoever sends without end leaves others their turn, and so do sends to whoever takes them.
pub fn a_torrent_leaves_others_their_turn<B: Backend>() {
    const TORRENT: usize = 96 << 20;
    let mut world = world!(B);
    let accept = world.listen();
    let (torrent, peer) = world.connect(accept);
    let (small, mut small_peer) = world.connect(accept);
    let writer = write_all(peer, pattern(1, TORRENT));
    let mut tokens = [world.receive(torrent, 0), world.receive(small, 1)];
    let mut arm = move |world: &mut World<B>| {
        // Whoever found no buffer comes before whoever used them up.
        for (index, sock) in [(1, small), (0u32, torrent)] {
            if !world.open.contains_key(&tokens[index as usize]) {
                tokens[index as usize] = world.receive(sock, index);
            }
        }
        world.seen.clear();
        (world.streams.get(&0).map_or(0, Vec::len), world.streams.get(&1).map_or(0, Vec::len))
    };
    world.until("the torrent", |world| arm(world).0 > SHARED_RING_BYTES as usize);
    let mut rounds = 0;
    while rounds < 20 {
        let (before, _) = arm(&mut world);
        assert!(before < TORRENT / 2, "the torrent goes on");
        small_peer.write_all(b"me too").expect("written");
        rounds += 1;
        world.until("the small one's bytes", |world| arm(world).1 == 6 * rounds);
        let meanwhile = arm(&mut world).0 - before;
        assert!(
            meanwhile <= 4 * SHARED_RING_BYTES as usize,
            "{meanwhile} bytes went before 6, round {rounds}"
        );
    }
    small_peer.write_all(b"again").expect("written");
    let mut reaps = 0;
    world.until("the small one's bytes", |world| {
        // As many as there are lists, again and again.
        for _ in 0..SENDS_IN_FLIGHT {
            let Some(spans) = world.io.span_list() else { break };
            world.io.push_span(spans, Span { region: BULK, at: 0, bytes: 1 });
            world.submit(Op::Send { sock: small, spans }, TokenKind::Send, 2);
        }
        reaps += 1;
        arm(world).1 == 6 * rounds + 5
    });
    assert!(reaps < 20, "sends kept a receive from its turn for {reaps} rounds");
    world.until("the rest", |world| arm(world).0 == TORRENT);
    drop(writer.join().expect("the writer"));
    world.settled();
}
