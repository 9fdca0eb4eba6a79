//! A backend with memory, a listener, and the accounts a shard would keep; and peers on plain sockets.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uringest::buf::{Buffers, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec, Span};
use uringest::ids::{BufId, RegionId, SockId};
use uringest::io::{Completion, Io, IoError, Op, Outcome, SocketHandle, Token, TokenKind, Wait};
use uringest::limits::{COMPLETIONS_PER_TICK, SHARED_RING_BYTES, STRADDLE_ARENA_BYTES};

/// How a backend is made, and what a test may ask it that a shard does not.
pub trait Backend {
    type Io: Io;
    /// `Err`: why this host cannot have it.
    fn make(shape: Shape, region: RegionId, shared: &Arc<Mapping>) -> Result<Self::Io, String>;
    /// Operations the backend has not completed.
    fn outstanding(io: &Self::Io) -> u32;
    /// Sockets attached.
    fn sockets(io: &Self::Io) -> u32;
    /// Files attached.
    fn files(io: &Self::Io) -> u32;
    /// Span lists not in flight.
    fn free_lists(io: &Self::Io) -> usize;
}

/// Sizes of a backend.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub connections: u32,
    /// Of a ring; epoll has no queue of submissions.
    #[cfg_attr(not(feature = "uring"), allow(dead_code))]
    pub sq_entries: u32,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { connections: 64, sq_entries: 64 }
    }
}

pub const SHARED: RegionId = RegionId(0);
pub const BULK: RegionId = RegionId(1);
pub const ARENA: RegionId = RegionId(2);
pub const BULK_BYTES: usize = 256 * 1024;
/// The index of the listener's tokens; connections start at 0.
pub const LISTENER: u32 = 1 << 20;

/// How long anything may take before a test gives up. Emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct World<B: Backend> {
    pub io: B::Io,
    pub buffers: Buffers,
    pub listener: SockId,
    pub address: SocketAddr,
    /// Completions nobody has asked for yet.
    pub seen: VecDeque<Completion>,
    /// Received bytes by the token's index.
    pub streams: HashMap<u32, Vec<u8>>,
    /// Give buffers back as soon as nothing needs them.
    pub recycles: bool,
    /// Operations submitted and not ended.
    pub open: HashMap<Token, Op>,
    generation: u32,
}

impl<B: Backend> World<B> {
    /// `None`, and a line saying why, when this host cannot have the backend.
    pub fn new(shape: Shape) -> Option<World<B>> {
        let mirrored = |bytes| Arc::new(Mapping::mirrored(bytes, Pages::Small).expect("memory for a test"));
        let shared = mirrored(SHARED_RING_BYTES as usize);
        let bulk = mirrored(BULK_BYTES);
        let arena = Arc::new(Mapping::plain(STRADDLE_ARENA_BYTES as usize, Pages::Small).expect("memory"));
        let mut io = match B::make(shape, SHARED, &shared) {
            Ok(io) => io,
            Err(why) => {
                println!("SKIPPED: {why}");
                return None;
            }
        };
        io.attach_region(BULK, &bulk, true);
        io.attach_region(ARENA, &arena, false);
        let mut memory = Memory::new();
        memory.attach(SHARED, Arc::clone(&shared));
        memory.attach(BULK, Arc::clone(&bulk));
        memory.attach(ARENA, Arc::clone(&arena));
        let receive = ReceiveMemory::new(ReceiveSpec {
            shared: (SHARED, &shared),
            buffers: io.capabilities().shared_buffers,
            bulk: vec![(BULK, bulk)],
            blocks: (ARENA, arena),
            opened: None,
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        // A crowd must not overflow the backlog: it would try again a second later.
        socket2::SockRef::from(&listener).listen(4096).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let listener = io.attach(SocketHandle::Fd(OwnedFd::from(listener))).expect("room for a listener");
        Some(World {
            io,
            buffers: Buffers { memory, receive },
            listener,
            address,
            seen: VecDeque::new(),
            streams: HashMap::new(),
            recycles: true,
            open: HashMap::new(),
            generation: 0,
        })
    }

    /// A token no other operation has.
    pub fn token(&mut self, kind: TokenKind, index: u32) -> Token {
        self.generation += 1;
        Token::new(kind, self.generation, index)
    }

    /// Submits, reaping when refused.
    pub fn submit(&mut self, op: Op, kind: TokenKind, index: u32) -> Token {
        let token = self.token(kind, index);
        let deadline = Instant::now() + PATIENCE;
        while self.io.submit(op, token).is_err() {
            assert!(Instant::now() < deadline, "{op:?} is refused for ever");
            self.pump(Wait::No);
        }
        self.open.insert(token, op);
        token
    }

    /// Reaps once and keeps the accounts.
    pub fn pump(&mut self, wait: Wait) -> usize {
        let mut out = Vec::with_capacity(COMPLETIONS_PER_TICK);
        self.io.reap(wait, &mut out).expect("the backend goes on");
        for completion in &out {
            self.account(*completion);
        }
        if self.recycles {
            self.recycle();
        }
        self.seen.extend(&out);
        out.len()
    }

    fn account(&mut self, completion: Completion) {
        let Completion { token, outcome, more } = completion;
        if token != Token::WAKE {
            assert!(self.open.contains_key(&token), "{completion:?} is of an operation in progress");
        }
        if let Outcome::Received { buffer, at, bytes, buffer_done } = outcome {
            let span = Span { region: SHARED, at, bytes };
            self.buffers.receive.received(buffer, span, buffer_done);
            let stream = self.streams.entry(token.index()).or_default();
            stream.extend_from_slice(self.buffers.memory.bytes(span));
        }
        if !more {
            self.open.remove(&token);
        }
    }

    pub fn recycle(&mut self) -> Vec<BufId> {
        let mut given = Vec::new();
        while let Some(buffer) = self.buffers.receive.next_recyclable() {
            self.io.recycle(buffer);
            given.push(buffer);
        }
        given
    }

    fn soon(&mut self) -> Wait {
        Wait::Until(self.io.clock().mono_ns + 20_000_000)
    }

    /// Reaps until `done` says so.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut World<B>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "gave up waiting for {what}; seen: {:?}", self.seen);
            let soon = self.soon();
            self.pump(soon);
        }
    }

    /// The next completion of this token.
    pub fn next(&mut self, token: Token) -> Completion {
        let mut found = None;
        self.until(&format!("a completion of {token:?}"), |world| {
            found = world.seen.iter().position(|c| c.token == token);
            found.is_some()
        });
        self.seen.remove(found.expect("just found")).expect("just found")
    }

    /// The next completion of this token is its last, and this.
    pub fn ends(&mut self, token: Token, outcome: Outcome) {
        assert_eq!(self.next(token), Completion { token, outcome, more: false });
    }

    /// A receive comes to its end because there are no buffers.
    pub fn ends_for_want_of_buffers(&mut self, token: Token) {
        self.until("no buffers", |world| !world.open.contains_key(&token));
        let last = self.seen.iter().rev().find(|c| c.token == token && !c.more).copied();
        assert_eq!(last.map(|c| c.outcome), Some(Outcome::Failed(IoError::NoBuffers)));
        self.seen.retain(|c| c.token != token);
    }

    /// Starts accepting.
    pub fn listen(&mut self) -> Token {
        self.submit(Op::Accept { listener: self.listener }, TokenKind::Accept, LISTENER)
    }

    /// A connection: this side's socket, and the peer's.
    pub fn connect(&mut self, accept: Token) -> (SockId, TcpStream) {
        let peer = TcpStream::connect(self.address).expect("a loopback connection");
        let completion = self.next(accept);
        let Outcome::Accepted { sock, peer: address } = completion.outcome else {
            panic!("accepts: {completion:?}");
        };
        assert!(completion.more, "accepting goes on");
        assert_eq!(address, self.address.ip());
        (sock, peer)
    }

    /// One connection, the listener no longer accepting.
    pub fn one(&mut self) -> (SockId, TcpStream) {
        let accept = self.listen();
        let pair = self.connect(accept);
        self.cancel(accept);
        self.ends(accept, Outcome::Failed(IoError::Cancelled));
        pair
    }

    /// Cancels, and checks that it completes after its target.
    pub fn cancel(&mut self, target: Token) {
        let cancel = self.submit(Op::Cancel { target }, TokenKind::Cancel, target.index());
        self.until("a cancel", |world| world.seen.iter().any(|c| c.token == cancel));
        let done = self.next(cancel);
        assert_eq!((done.outcome, done.more), (Outcome::Done, false));
        assert!(!self.open.contains_key(&target), "a cancel completes after its target");
    }

    pub fn receive(&mut self, sock: SockId, index: u32) -> Token {
        self.submit(Op::ReceiveShared { sock }, TokenKind::Receive, index)
    }

    pub fn close(&mut self, sock: SockId, index: u32) {
        let token = self.submit(Op::Close { sock }, TokenKind::Close, index);
        self.ends(token, Outcome::Done);
    }

    /// A list over these bytes of the arena.
    pub fn list(&mut self, spans: &[(u64, u32)]) -> uringest::io::SpanListId {
        let list = self.io.span_list().expect("a free span list");
        for (at, bytes) in spans {
            self.io.push_span(list, Span { region: ARENA, at: *at, bytes: *bytes });
        }
        list
    }

    pub fn fill_arena(&mut self, at: u64, bytes: &[u8]) {
        let span = Span { region: ARENA, at, bytes: u32::try_from(bytes.len()).expect("a small piece") };
        self.buffers.memory.bytes_mut(span).copy_from_slice(bytes);
    }

    /// Everything has ended and every buffer and list is where it belongs.
    pub fn settled(mut self) {
        let tokens: Vec<Token> = self.open.keys().copied().collect();
        for token in tokens {
            self.cancel(token);
        }
        self.pump(Wait::No);
        assert!(self.open.is_empty(), "operations that never ended: {:?}", self.open);
        assert_eq!(B::outstanding(&self.io), 0, "the backend has nothing outstanding");
        assert_eq!(B::free_lists(&self.io), uringest::limits::SENDS_IN_FLIGHT, "all span lists are back");
        self.recycle();
        assert_eq!(self.buffers.receive.in_use_bytes(), 0, "no receive memory is in use");
        // Every buffer of the shared ring still goes round: twice the ring's size passes through it.
        let (sock, peer) = self.one();
        let index = 1 << 19;
        let sent = pattern(99, 2 * SHARED_RING_BYTES as usize);
        let writer = write_all(peer, sent.clone());
        self.receive_all(sock, index, sent.len());
        assert!(self.streams[&index] == sent, "what went round is what was sent");
        drop(writer.join().expect("the writer"));
    }

    /// Receives until `bytes` have come, beginning again whenever the operation ends.
    pub fn receive_all(&mut self, sock: SockId, index: u32, bytes: usize) {
        let mut token = self.receive(sock, index);
        self.until("bytes", |world| {
            if !world.open.contains_key(&token) {
                token = world.receive(sock, index);
            }
            world.streams.get(&index).is_some_and(|stream| stream.len() >= bytes)
        });
        if self.open.contains_key(&token) {
            self.cancel(token);
        }
        self.seen.clear();
    }
}

/// Bytes that differ at every place and for every seed.
pub fn pattern(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut made = Vec::with_capacity(bytes + 8);
    while made.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        made.extend_from_slice(&state.to_le_bytes());
    }
    made.truncate(bytes);
    made
}

/// Writes from a thread of its own; gives the socket back.
pub fn write_all(mut to: TcpStream, bytes: Vec<u8>) -> std::thread::JoinHandle<TcpStream> {
    std::thread::spawn(move || {
        std::io::Write::write_all(&mut to, &bytes).expect("the server takes it");
        to
    })
}
