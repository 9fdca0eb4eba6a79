//! Ten thousand connections at once, their peers in a process of its own.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Stdio};

use uringest::ids::SockId;
use uringest::io::{Io, IoError, Op, Outcome, Token, TokenKind, host};

use crate::cases::world;
use crate::races::{alone, this_case};
use crate::world::{Backend, Shape, World, pattern};

const CROWD: u32 = 10_000;
/// Names the address in the process that plays the peers.
const PEERS_OF: &str = "URINGEST_CONFORMANCE_PEERS_OF";
/// Bytes each peer sends in a round.
const SAID: usize = 96;
const ROUNDS: usize = 2;
const ANSWER: &[u8] = b"heard";

pub fn ten_thousand_connections<B: Backend>(name: &str) {
    if let Ok(address) = std::env::var(PEERS_OF) {
        return peers(&address);
    }
    if !alone(name) {
        return;
    }
    if !descriptors_suffice() {
        return println!("SKIPPED: {CROWD} connections need a higher limit of open files (ulimit -n)");
    }
    let mut world = world!(B, Shape { connections: CROWD, sq_entries: 256 });
    let mut peers = this_case(name)
        .env(PEERS_OF, world.address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the peers");
    let connections = accept_all(&mut world);
    for round in 1..=ROUNDS {
        tell(&mut peers, "say");
        let all = SAID * round;
        let done = |world: &World<B>| world.streams.values().filter(|stream| stream.len() == all).count();
        receive_until(&mut world, &connections, |world| done(world) == CROWD as usize);
    }
    let mut seen = HashSet::new();
    for stream in world.streams.values() {
        let number = u32::from_le_bytes(*stream.first_chunk().expect("a number"));
        assert!(seen.insert(number), "peer {number} is one connection");
        assert!(*stream == whole_stream(number), "what peer {number} said");
    }
    answer_all(&mut world, &connections);
    tell(&mut peers, "end");
    let mut ended = 0;
    receive_until(&mut world, &connections, |world| {
        ended += world.seen.iter().filter(|c| c.outcome == Outcome::EndOfStream && !c.more).count();
        ended == CROWD as usize
    });
    // Who lets go of all at once does not reap in between.
    for (index, &sock) in (0u32..).zip(&connections) {
        let token = world.token(TokenKind::Close, index);
        world.io.submit(Op::Close { sock }, token).expect("a place for each");
        world.open.insert(token, Op::Close { sock });
    }
    world.until("every close", |world| world.open.is_empty());
    assert!(peers.wait().expect("a child").success(), "the peers heard what they should");
    world.seen.clear();
    world.settled();
}

fn descriptors_suffice() -> bool {
    let needed = u64::from(CROWD) + 200;
    host::raise_open_files(needed).is_ok_and(|limit| limit >= needed)
}

fn accept_all<B: Backend>(world: &mut World<B>) -> Vec<SockId> {
    let accept = world.listen();
    let mut connections = Vec::new();
    while connections.len() < CROWD as usize {
        let Outcome::Accepted { sock, .. } = world.next(accept).outcome else { panic!("accepts") };
        let index = u32::try_from(connections.len()).expect("a crowd");
        world.receive(sock, index);
        connections.push(sock);
    }
    world.cancel(accept);
    world.ends(accept, Outcome::Failed(IoError::Cancelled));
    connections
}

/// Goes on receiving on every connection whose receive ended for want of buffers.
fn receive_until<B: Backend>(
    world: &mut World<B>,
    connections: &[SockId],
    mut done: impl FnMut(&World<B>) -> bool,
) {
    world.until("the crowd", |world| {
        let over = done(world);
        let short: Vec<u32> = world
            .seen
            .drain(..)
            .filter(|c| c.outcome == Outcome::Failed(IoError::NoBuffers))
            .map(|c| c.token.index())
            .collect();
        for index in short {
            world.receive(connections[index as usize], index);
        }
        over
    });
}

fn answer_all<B: Backend>(world: &mut World<B>, connections: &[SockId]) {
    world.fill_arena(0, ANSWER);
    let bytes = u32::try_from(ANSWER.len()).expect("short");
    let mut sends: HashSet<Token> = HashSet::new();
    for (index, sock) in (0u32..).zip(connections) {
        world.until("a span list", |world| B::free_lists(&world.io) > 0);
        let spans = world.list(&[(0, bytes)]);
        sends.insert(world.submit(Op::Send { sock: *sock, spans }, TokenKind::Send, index));
    }
    world.until("every send", |world| {
        for completion in world.seen.drain(..) {
            assert!(!sends.remove(&completion.token) || completion.outcome == Outcome::Sent { bytes });
        }
        sends.is_empty()
    });
}

fn tell(peers: &mut Child, what: &str) {
    let stdin = peers.stdin.as_mut().expect("a pipe");
    writeln!(stdin, "{what}").expect("the peers listen");
}

/// What a peer says in all: its number, then bytes of its own.
fn whole_stream(number: u32) -> Vec<u8> {
    let mut stream = pattern(u64::from(number), SAID * ROUNDS);
    stream[..4].copy_from_slice(&number.to_le_bytes());
    stream
}

/// The other process: connects, says its part each time it is told to, and hears the answers to the end.
fn peers(address: &str) {
    assert!(descriptors_suffice(), "the limit is inherited");
    let connect = |_| TcpStream::connect(address).expect("a connection");
    let mut sockets: Vec<TcpStream> = (0..CROWD).map(connect).collect();
    for (round, line) in BufReader::new(std::io::stdin()).lines().enumerate() {
        if line.expect("a line") == "end" {
            break;
        }
        for (number, socket) in (0u32..).zip(&mut sockets) {
            let stream = whole_stream(number);
            socket.write_all(&stream[SAID * round..SAID * (round + 1)]).expect("written");
        }
    }
    for socket in &sockets {
        socket.shutdown(Shutdown::Write).expect("half closed");
    }
    for socket in &mut sockets {
        let mut heard = Vec::new();
        socket.read_to_end(&mut heard).expect("an orderly end");
        assert_eq!(heard, ANSWER);
    }
}
