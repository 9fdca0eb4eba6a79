//! Load on a server, spoken straight from the protocol: one thread steps over non-blocking sockets and sends as
//! much as credit and sockets allow.

#![allow(dead_code)] // each test crate uses a part

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use uringest::proto::code::Code;
use uringest::proto::control::{Hello, Open, Opened, Refusal, Start, Subscribe, Subscribed};
use uringest::proto::header::{FrameHeader, Kind, seal};
use uringest::wire::batch::BatchBuilder;

const HEADER: usize = 64;
const FRAME_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Most bytes of one write.
const WRITE_BYTES: usize = 128 * 1024;
/// A consumer's credit, renewed at half.
const CONSUMER_CREDIT: u64 = 64 * 1024 * 1024;
/// Batches of one channel without an answer, less than the server's bound.
const IN_FLIGHT: u64 = 60;
/// How long the load may stand still before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// Congestion control that does not pace, as some hosts' default does on loopback: for sockets of both ends.
pub fn unpaced() -> &'static str {
    let available = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    if available.is_ok_and(|names| names.split_whitespace().any(|name| name == "cubic")) {
        "cubic"
    } else {
        "reno"
    }
}

/// One connection, cut into frames.
struct Wire {
    stream: TcpStream,
    bytes: Vec<u8>,
    filled: usize,
}

impl Wire {
    /// Connects, and says hello.
    fn connect(server: SocketAddr) -> Wire {
        let socket =
            Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.set_tcp_congestion(unpaced().as_bytes()).expect("an algorithm of every kernel");
        socket.set_tcp_nodelay(true).expect("an option of every kernel");
        socket.connect(&server.into()).expect("the server listens");
        socket.set_nonblocking(true).expect("a socket");
        let mut wire = Wire { stream: socket.into(), bytes: vec![0; 16 * 1024], filled: 0 };
        let hello = Hello { client: "test load".into(), version_min: 1, version_max: 1, ..Hello::default() };
        wire.ask(&hello.frame(0), Kind::Welcome);
        wire
    }

    /// Sends a request, and waits for the answer of this kind; asks again while the server says that it is busy.
    fn ask(&mut self, frame: &[u8], kind: Kind) -> (FrameHeader, Vec<u8>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut rest = frame;
            while !rest.is_empty() {
                rest = &rest[self.write(rest)..];
            }
            let mut answer = None;
            while answer.is_none() {
                assert!(Instant::now() < deadline, "no {kind:?} in {PATIENCE:?}");
                poll(&[(&self.stream, false)]);
                self.take(|header, body| {
                    if header.kind == kind || header.kind == Kind::Error {
                        answer = Some((*header, body.to_vec()));
                    }
                });
            }
            match answer.expect("the loop's condition") {
                (header, body) if header.kind == Kind::Error => {
                    refused(Kind::Error, &body, Code::Unavailable)
                }
                answer => return answer,
            }
        }
    }

    /// Writes what fits: 0 when nothing does.
    fn write(&mut self, bytes: &[u8]) -> usize {
        match self.stream.write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => panic!("the server takes nothing more: {error}"),
        }
    }

    /// Reads once and calls `each` for every whole frame; says how many bytes came.
    fn take(&mut self, mut each: impl FnMut(&FrameHeader, &[u8])) -> usize {
        let read = match self.stream.read(&mut self.bytes[self.filled..]) {
            Ok(0) => panic!("the server closed a connection"),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
            Err(error) => panic!("a connection broke: {error}"),
        };
        self.filled += read;
        let mut at = 0;
        while let Some(first) = self.bytes[at..self.filled].first_chunk::<HEADER>() {
            let header = FrameHeader::parse(first, FRAME_BYTES_MAX).expect("a server's header");
            let end = at + header.frame_bytes();
            if end > self.filled {
                self.bytes.resize(self.bytes.len().max(2 * header.frame_bytes()), 0);
                break;
            }
            each(&header, &self.bytes[at + HEADER..end]);
            at = end;
        }
        self.bytes.copy_within(at..self.filled, 0);
        self.filled -= at;
        read
    }
}

/// Pings the server without a pause until told to stop, or until it ends the connection.
pub fn keep_awake(server: SocketAddr, stop: &AtomicBool) {
    let mut wire = Wire::connect(server);
    wire.stream.set_nonblocking(false).expect("a socket");
    let ping = FrameHeader::new(Kind::Ping).alone();
    while !stop.load(Ordering::Relaxed) {
        let answered = wire.stream.write_all(&ping).and_then(|()| wire.stream.read(&mut wire.bytes));
        if !matches!(answered, Ok(1..)) {
            return;
        }
    }
}

/// Fails on a refusal, unless it is the one that may be.
fn refused(kind: Kind, body: &[u8], but: Code) {
    let refusal = Refusal::decode(body).expect("a refusal");
    assert!(refusal.code == but, "{kind:?} {}: {}", refusal.code.name(), refusal.detail);
}

/// Waits until one of the sockets is readable, or writable where that is asked for, or a moment has passed.
fn poll(sockets: &[(&TcpStream, bool)]) {
    let mut polls: Vec<libc::pollfd> = sockets
        .iter()
        .map(|&(stream, write)| libc::pollfd {
            fd: stream.as_raw_fd(),
            events: libc::POLLIN | if write { libc::POLLOUT } else { 0 },
            revents: 0,
        })
        .collect();
    let count = libc::nfds_t::try_from(polls.len()).expect("few sockets");
    // SAFETY: pointer and length are of the vector above, which lives over the call.
    let ready = unsafe { libc::poll(polls.as_mut_ptr(), count, 100) };
    assert!(ready >= 0, "{}", io::Error::last_os_error());
}

/// What the producers send.
#[derive(Debug, Clone, Copy)]
pub struct Batches {
    /// Bytes of a batch's frame, nearly.
    pub frame_bytes: usize,
    /// Bytes of a record.
    pub record_bytes: usize,
}

/// A producer on a connection of its own.
struct Producer {
    wire: Wire,
    frame: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    sequence: u64,
    acked: u64,
    used: u64,
    limit: u64,
    /// It sends up to this sequence.
    target: u64,
}

/// A consumer on a connection of its own.
struct Consumer {
    wire: Wire,
    partition: u32,
    frames: u64,
    bytes: u64,
    limit: u64,
    next_offset: u64,
}

/// Producers of one partition and its consumers.
pub struct Load {
    server: SocketAddr,
    topic: String,
    batches: Batches,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
}

impl Load {
    pub fn new(server: SocketAddr, topic: &str, batches: Batches) -> Load {
        Load { server, topic: topic.to_owned(), batches, producers: Vec::new(), consumers: Vec::new() }
    }

    /// Adds producers, each on a connection of its own.
    pub fn produce(&mut self, count: usize) -> &mut Load {
        for _ in 0..count {
            let wire = Wire::connect(self.server);
            self.add_producer(wire, 0);
        }
        self
    }

    /// Adds consumers, each on a connection of its own, from now on.
    pub fn consume(&mut self, count: usize) -> &mut Load {
        for _ in 0..count {
            let wire = Wire::connect(self.server);
            self.add_consumer(wire, 0);
        }
        self
    }

    /// Adds a producer of partition 1 on a connection that stays with the shard of partition 0; which they are.
    pub fn produce_across(&mut self) -> (u16, u16) {
        let mut wire = Wire::connect(self.server);
        let anchor = Open { topic: self.topic.clone(), producer_id: 1, ..Open::default() };
        let (_, body) = wire.ask(&anchor.frame(1), Kind::Opened);
        let here = Opened::decode(&body).expect("opened").shard;
        (here, self.add_producer(wire, 1))
    }

    /// The same for a consumer.
    pub fn consume_across(&mut self) -> (u16, u16) {
        let mut wire = Wire::connect(self.server);
        let anchor = Subscribe { topic: self.topic.clone(), start: Start::Latest, ..Subscribe::default() };
        let (_, body) = wire.ask(&anchor.frame(1), Kind::Subscribed);
        let here = Subscribed::decode(&body).expect("subscribed").shard;
        (here, self.add_consumer(wire, 1))
    }

    fn add_producer(&mut self, mut wire: Wire, partition: u32) -> u16 {
        let producer_id = 0x1000 + self.producers.len() as u64;
        let open = Open {
            topic: self.topic.clone(),
            partition,
            producer_id,
            ack_every_batches: 16,
            ack_every_us: 1_000,
            ..Open::default()
        };
        let (header, body) = wire.ask(&open.frame(2), Kind::Opened);
        let opened = Opened::decode(&body).expect("opened");
        assert_eq!(opened.next_sequence, 1, "a producer the server does not know");
        let mut builder = BatchBuilder::new();
        let record = vec![0x5a; self.batches.record_bytes];
        while builder.is_empty() || builder.bytes_with(&record, None, 0, &[]) <= self.batches.frame_bytes {
            builder.push(&record, None, 0, &[]);
        }
        let frame = builder.finish(producer_id, 1, header.channel);
        self.producers.push(Producer {
            wire,
            frame,
            out: Vec::new(),
            sent: 0,
            sequence: 0,
            acked: 0,
            used: 0,
            limit: opened.credit,
            target: 0,
        });
        opened.shard
    }

    fn add_consumer(&mut self, mut wire: Wire, partition: u32) -> u16 {
        let subscribe = Subscribe {
            topic: self.topic.clone(),
            partition,
            start: Start::Latest,
            credit: CONSUMER_CREDIT,
            ..Subscribe::default()
        };
        let (header, body) = wire.ask(&subscribe.frame(2), Kind::Subscribed);
        let subscribed = Subscribed::decode(&body).expect("subscribed");
        wire.bytes.resize(512 * 1024, 0);
        self.consumers.push(Consumer {
            wire,
            partition: header.channel,
            frames: 0,
            bytes: 0,
            limit: CONSUMER_CREDIT,
            next_offset: subscribed.start_offset,
        });
        subscribed.shard
    }

    /// Bytes of each batch's frame.
    pub fn frame_bytes(&self) -> u64 {
        self.producers[0].frame.len() as u64
    }

    /// Batches acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.producers.iter().map(|producer| producer.acked).sum()
    }

    /// Sends so many batches more, shared evenly among the producers, and returns when all are acknowledged and every
    /// consumer has all of them.
    pub fn run(&mut self, batches: u64) {
        let each = batches.div_ceil(self.producers.len() as u64);
        for producer in &mut self.producers {
            producer.target += each;
        }
        let mut last_moved = Instant::now();
        while !self.is_done() {
            if self.step() {
                last_moved = Instant::now();
            } else {
                assert!(last_moved.elapsed() < PATIENCE, "the load stands still: {}", self.state());
                self.wait();
            }
        }
    }

    fn is_done(&self) -> bool {
        let sent: u64 = self.producers.iter().map(|producer| producer.target).sum();
        self.producers.iter().all(|producer| producer.acked == producer.target)
            && self.consumers.iter().all(|consumer| consumer.frames == sent)
    }

    fn step(&mut self) -> bool {
        let mut moved = false;
        for producer in &mut self.producers {
            moved |= producer.step();
            // A consumer that keeps up, however many producers there are.
            for consumer in &mut self.consumers {
                moved |= consumer.step();
            }
        }
        moved
    }

    fn wait(&self) {
        let producers = self.producers.iter().map(|p| (&p.wire.stream, p.sent < p.out.len()));
        let consumers = self.consumers.iter().map(|c| (&c.wire.stream, false));
        poll(&producers.chain(consumers).collect::<Vec<_>>());
    }

    fn state(&self) -> String {
        let first = &self.producers[0];
        format!(
            "{} acknowledged; of the first producer {} to send, {} sent, {} acknowledged, {} of {} bytes; \
             consumers have {:?}",
            self.acknowledged(),
            first.target,
            first.sequence,
            first.acked,
            first.used,
            first.limit,
            self.consumers.iter().map(|consumer| consumer.frames).collect::<Vec<_>>()
        )
    }
}

impl Producer {
    /// Encodes as many frames as one write takes, and credit and the target allow. With nothing in flight, one frame
    /// may go beyond the credit.
    fn fill(&mut self) {
        if self.sent < self.out.len() {
            return;
        }
        self.out.clear();
        self.sent = 0;
        let bytes = self.frame.len() as u64;
        while self.out.len() + self.frame.len() <= WRITE_BYTES
            && self.sequence < self.target
            && self.sequence - self.acked < IN_FLIGHT
            && (self.used + bytes <= self.limit || self.sequence == self.acked && self.out.is_empty())
        {
            self.sequence += 1;
            self.used += bytes;
            self.frame[24..32].copy_from_slice(&self.sequence.to_le_bytes());
            let (header, body) = self.frame.split_at_mut(HEADER);
            seal(header.try_into().expect("a header"), body);
            self.out.extend_from_slice(&self.frame);
        }
    }

    fn step(&mut self) -> bool {
        self.fill();
        let mut moved = false;
        if self.sent < self.out.len() {
            let written = self.wire.write(&self.out[self.sent..]);
            self.sent += written;
            moved = written > 0;
        }
        let (acked, limit, sequence) = (&mut self.acked, &mut self.limit, &mut self.sequence);
        let read = self.wire.take(|header, body| match header.kind {
            Kind::Ack => *acked = header.sequence,
            Kind::Credit => *limit = header.offset,
            Kind::Nack => match Refusal::decode(body).expect("a refusal").code {
                // It is sent again, and what was sent behind it.
                Code::BackPressure => *sequence = (header.sequence - 1).min(*sequence),
                code => assert_eq!(code, Code::OutOfSequence),
            },
            kind => panic!("{kind:?}: {:?}", Refusal::decode(body)),
        });
        moved || read > 0
    }
}

impl Consumer {
    /// Reads all there is.
    fn step(&mut self) -> bool {
        let mut moved = false;
        while self.read() {
            moved = true;
        }
        moved
    }

    fn read(&mut self) -> bool {
        let (frames, bytes, next_offset) = (&mut self.frames, &mut self.bytes, &mut self.next_offset);
        let read = self.wire.take(|header, body| {
            if header.kind == Kind::Deliver {
                assert_eq!(header.offset, *next_offset, "each record once, in order");
                *next_offset += u64::from(header.record_count);
                *frames += 1;
                *bytes += header.frame_bytes() as u64;
            } else {
                panic!("{:?}: {:?}", header.kind, Refusal::decode(body));
            }
        });
        if self.limit - self.bytes.min(self.limit) < CONSUMER_CREDIT / 2 {
            self.limit = self.bytes + CONSUMER_CREDIT;
            let credit =
                FrameHeader { channel: self.partition, offset: self.limit, ..FrameHeader::new(Kind::Credit) };
            assert_eq!(self.wire.write(&credit.alone()), HEADER, "there is room for a header");
        }
        read > 0
    }
}
