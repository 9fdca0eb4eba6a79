//! The cases. Each makes a world, and leaves it with every operation, buffer and list accounted for.

use std::io::{Read, Write};
use std::net::Shutdown;

use uringest::buf::Span;
use uringest::io::{Io, IoError, Op, Outcome, TokenKind};
use uringest::limits::SHARED_RING_BYTES;

use crate::world::{BULK, Backend, Shape, World, pattern, write_all};

macro_rules! conformance {
    ($backend:ty) => {
        crate::cases::conformance!($backend: accepts_until_cancelled receives_in_order ends_of_streams
            out_of_buffers reads_never_wait);
    };
    ($backend:ty: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                crate::cases::$case::<$backend>();
            }
        )*
    };
}
pub(crate) use conformance;

macro_rules! world {
    ($backend:ident) => {
        world!($backend, Shape::default())
    };
    ($backend:ident, $shape:expr) => {
        match World::<$backend>::new($shape) {
            Some(world) => world,
            None => return,
        }
    };
}

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
    assert!(world.io.capabilities().tier > 0);
    world.settled();
}
