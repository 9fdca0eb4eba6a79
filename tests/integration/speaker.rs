//! Clients that speak the protocol frame by frame inside TLS, over whatever packs the records: our sessions with
//! records cut as a test likes, rustls, the program `openssl`. Every payload is made from its producer and its number,
//! so that what comes out can be held to what went in, byte by byte.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::Receiver;
use std::time::{SystemTime, UNIX_EPOCH};

use uringest::limits::HEADER_BYTES;
use uringest::proto::code::Code;
use uringest::proto::control::{Hello, Open, Opened, Refusal, Start, Subscribe, Subscribed, Welcome};
use uringest::proto::header::{FrameHeader, Kind};
use uringest::tls::{ClientMaterial, ClientSettings, ClientTls, Records, Roots, Session, Then};
use uringest::wire::batch::{BatchBuilder, BatchLimits, verify};

use crate::raw::Peer;
use crate::rig::Random;
use crate::support::PATIENCE;

/// Records of a batch whose frame has 64 KiB, nearly.
pub const RECORDS: u64 = 61;
const RECORD_BYTES: usize = 1_021;
/// Batches of one channel that wait for an answer: a MiB.
const IN_FLIGHT: u64 = 16;
/// More credit than any test here uses, so that a consumer has nothing to say.
pub const ALL_CREDIT: u64 = 1 << 40;

/// What carries frames to a server and back.
pub trait Pipe {
    fn send(&mut self, bytes: &[u8]);
    /// What came, at least a byte; `None` at an end that was announced as TLS wants it.
    fn receive(&mut self) -> Option<Vec<u8>>;
}

/// Bytes without a pattern, of which payloads are pieces.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::of(4);
    (0..8 * 1024).flat_map(|_| random.next().to_le_bytes()).collect()
});

/// The payload of a producer's record with this number, which says both.
pub fn payload(producer: u64, number: u64) -> Vec<u8> {
    let rest = RECORD_BYTES - 16;
    let at = Random::of(producer << 32 | number).below(NOISE.len() - rest);
    [&producer.to_le_bytes(), &number.to_le_bytes(), &NOISE[at..at + rest]].concat()
}

/// A producer's batch with this sequence.
pub fn batch(producer: u64, sequence: u64, records: u64, channel: u32) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for number in (sequence - 1) * records..sequence * records {
        builder.push(&payload(producer, number), None, 0, &[]);
    }
    builder.finish(producer, sequence, channel)
}

/// Holds what is delivered to what was published.
#[derive(Default)]
pub struct Heard {
    pub records: u64,
    /// The next number of each producer.
    next: BTreeMap<u64, u64>,
    /// Records may be left out where the server says so.
    gaps: bool,
}

impl Heard {
    pub fn with_gaps() -> Heard {
        Heard { gaps: true, ..Heard::default() }
    }

    #[track_caller]
    pub fn take(&mut self, header: &FrameHeader, body: &[u8]) {
        assert!(header.kind == Kind::Deliver || self.gaps && header.kind == Kind::Gap, "{:?}", header.kind);
        if header.kind == Kind::Gap {
            return;
        }
        let limits = BatchLimits { record_bytes_max: 1 << 20, records_max: 1 << 16 };
        let batch = verify(body, header.record_count, &limits).expect("a good batch");
        for record in batch.records() {
            self.take_payload(record.payload);
        }
    }

    #[track_caller]
    pub fn take_payload(&mut self, got: &[u8]) {
        let word = |at: usize| u64::from_le_bytes(got[at..at + 8].try_into().expect("8 bytes"));
        let (producer, number) = (word(0), word(8));
        assert!(got == payload(producer, number), "record {number} of {producer} is another");
        let next = self.next.entry(producer).or_default();
        assert!(number == *next || self.gaps && number > *next, "{number} of {producer}, not {next}");
        *next = number + 1;
        self.records += 1;
    }

    /// Records of a producer up to the last one that came.
    pub fn of(&self, producer: u64) -> u64 {
        self.next.get(&producer).copied().unwrap_or_default()
    }
}

/// A channel of a [`Speaker`].
pub struct Channel {
    pub id: u32,
    pub producer: u64,
    /// The shard of its partition.
    pub shard: u16,
    sequence: u64,
    pub acked: u64,
    used: u64,
    limit: u64,
    bytes: u64,
}

impl Channel {
    fn may_send(&self, target: u64) -> bool {
        let idle = self.sequence == self.acked;
        self.sequence < target
            && self.sequence - self.acked < IN_FLIGHT
            && (self.used + self.bytes <= self.limit || idle)
    }

    fn next(&mut self) -> Vec<u8> {
        self.sequence += 1;
        let frame = batch(self.producer, self.sequence, RECORDS, self.id);
        self.bytes = frame.len() as u64;
        self.used += self.bytes;
        frame
    }

    fn hear(&mut self, header: &FrameHeader, body: &[u8]) {
        match header.kind {
            Kind::Ack => self.acked = header.sequence,
            Kind::Credit => self.limit = header.offset,
            Kind::Nack => match Refusal::decode(body).expect("a refusal").code {
                // It is sent again, and what was sent behind it.
                Code::BackPressure => self.sequence = (header.sequence - 1).min(self.sequence),
                code => assert_eq!(code, Code::OutOfSequence),
            },
            kind => panic!("{kind:?}: {:?}", Refusal::decode(body)),
        }
    }
}

/// A client that has said hello.
pub struct Speaker<P> {
    pub pipe: P,
    pub welcome: Welcome,
    bytes: Vec<u8>,
    at: usize,
}

pub fn hello() -> Vec<u8> {
    Hello { client: "speaker".into(), version_min: 1, version_max: 1, ..Hello::default() }.frame(0)
}

pub fn open(topic: &str, partition: u32, producer_id: u64) -> Vec<u8> {
    let (ack_every_batches, ack_every_us) = (8, 1_000);
    Open { topic: topic.into(), partition, producer_id, ack_every_batches, ack_every_us, ..Open::default() }
        .frame(1)
}

impl<P: Pipe> Speaker<P> {
    pub fn greeted(mut pipe: P) -> Speaker<P> {
        pipe.send(&hello());
        Speaker::answered(pipe)
    }

    /// The hello has been said already.
    pub fn answered(pipe: P) -> Speaker<P> {
        let mut speaker = Speaker { pipe, welcome: Welcome::default(), bytes: Vec::new(), at: 0 };
        let (header, body) = speaker.frame().expect("a welcome");
        assert_eq!(header.kind, Kind::Welcome);
        speaker.welcome = Welcome::decode(&body).expect("a welcome");
        speaker
    }

    /// The next frame; `None` when the server has closed as it should, behind a whole frame.
    pub fn frame(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        loop {
            if let Some(first) = self.bytes[self.at..].first_chunk::<HEADER_BYTES>() {
                let header = FrameHeader::parse(first, 4 << 20).expect("a server's header");
                let end = self.at + header.frame_bytes();
                if end <= self.bytes.len() {
                    let body = self.bytes[self.at + HEADER_BYTES..end].to_vec();
                    self.at = end;
                    return Some((header, body));
                }
            }
            self.bytes.drain(..std::mem::take(&mut self.at));
            match self.pipe.receive() {
                Some(more) => self.bytes.extend(more),
                None => {
                    assert!(self.bytes.is_empty(), "the server closed inside a frame");
                    return None;
                }
            }
        }
    }

    /// Says it, and waits for the answer of this kind; again while the server says that it is busy.
    pub fn ask(&mut self, frame: &[u8], kind: Kind) -> (FrameHeader, Vec<u8>) {
        self.pipe.send(frame);
        loop {
            let (header, body) = self.frame().expect("an answer");
            if header.kind == kind {
                return (header, body);
            }
            if header.kind == Kind::Error {
                let refusal = Refusal::decode(&body).expect("a refusal");
                assert_eq!(refusal.code, Code::Unavailable, "{refusal:?}");
                self.pipe.send(frame);
            }
        }
    }

    pub fn open(&mut self, topic: &str, partition: u32, producer: u64) -> Channel {
        let (header, body) = self.ask(&open(topic, partition, producer), Kind::Opened);
        self.opened(&header, &body, producer)
    }

    /// The channel an answer tells of.
    pub fn opened(&self, header: &FrameHeader, body: &[u8], producer: u64) -> Channel {
        let opened = Opened::decode(body).expect("opened");
        let acked = opened.next_sequence - 1;
        Channel {
            id: header.channel,
            producer,
            shard: opened.shard,
            sequence: acked,
            acked,
            used: 0,
            limit: opened.credit,
            bytes: batch(producer, 1, RECORDS, 0).len() as u64,
        }
    }

    /// Says the shard of the partition.
    pub fn subscribe(&mut self, topic: &str, partition: u32, name: &str) -> u16 {
        let (topic, name) = (topic.to_owned(), name.to_owned());
        let (start, credit) = (Start::Earliest, ALL_CREDIT);
        let subscribe = Subscribe { topic, partition, start, name, credit, ..Subscribe::default() };
        let (_, body) = self.ask(&subscribe.frame(2), Kind::Subscribed);
        Subscribed::decode(&body).expect("subscribed").shard
    }

    /// Publishes so many batches more on each channel, and waits for their acknowledgements.
    pub fn publish(&mut self, channels: &mut [Channel], batches: u64) {
        let targets: Vec<u64> = channels.iter().map(|channel| channel.acked + batches).collect();
        while channels.iter().zip(&targets).any(|(channel, target)| channel.acked < *target) {
            let mut out = Vec::new();
            let mut more = true;
            while std::mem::take(&mut more) {
                for (channel, target) in channels.iter_mut().zip(&targets) {
                    if channel.may_send(*target) {
                        out.extend(channel.next());
                        more = true;
                    }
                }
            }
            if !out.is_empty() {
                self.pipe.send(&out);
            }
            let (header, body) = self.frame().expect("an answer");
            let channel = channels.iter_mut().find(|channel| channel.id == header.channel);
            channel.expect("a channel of mine").hear(&header, &body);
        }
    }

    /// Listens until so many records came.
    pub fn listen(&mut self, heard: &mut Heard, records: u64) {
        while heard.records < records {
            let (header, body) = self.frame().expect("more is to come");
            heard.take(&header, &body);
        }
    }

    /// Listens to the server's end: what it says of its shutdown is left out.
    pub fn listen_to_the_end(&mut self, heard: &mut Heard) {
        while let Some((header, body)) = self.frame() {
            if !matches!(header.kind, Kind::Drain | Kind::Close) {
                heard.take(&header, &body);
            }
        }
    }
}

/// A session of ours over a socket, with records of so many bytes.
pub struct Tunnel {
    pub socket: TcpStream,
    pub session: Session,
    cut: usize,
    pending: Vec<u8>,
    out: Vec<u8>,
}

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// For sessions that trust the authorities of this file.
pub fn client_tls(authorities: &str) -> ClientTls {
    let settings = ClientSettings { roots: Roots::File(authorities.into()), identity: None };
    ClientMaterial::read(&settings).and_then(ClientTls::new).unwrap_or_else(|error| panic!("{error}"))
}

impl Tunnel {
    /// Goes through the handshake.
    pub fn connect(server: SocketAddr, tls: &ClientTls, cut: usize) -> Tunnel {
        let Peer(socket) = Peer::connect(server);
        Tunnel::over(socket, tls, cut)
    }

    /// The same over a connection that is there.
    pub fn over(socket: TcpStream, tls: &ClientTls, cut: usize) -> Tunnel {
        let session = Session::client(tls, "localhost", Records::Own, now_s());
        let mut tunnel = Tunnel { socket, session, cut, pending: Vec::new(), out: vec![0; 64 * 1024] };
        while tunnel.session.is_handshaking() {
            let then = tunnel.step().expect("nothing is said before the end of the handshake");
            assert!(matches!(then, Then::Wants(_)), "{then:?}");
        }
        tunnel
    }

    /// Records with these bytes, to be written.
    pub fn sealed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in bytes.chunks(self.cut) {
            let sealed = self.session.transmit(piece, &mut self.out);
            assert_eq!(sealed.taken, piece.len(), "it can send, and there is room");
            all.extend_from_slice(&self.out[..sealed.written]);
        }
        all
    }

    /// Opens what there is, or reads; what was opened is the error, as it needs no look at the rest.
    fn step(&mut self) -> Result<Then, Vec<u8>> {
        while self.session.has_output() {
            let sealed = self.session.transmit(&[], &mut self.out);
            self.socket.write_all(&self.out[..sealed.written]).expect("the server reads");
        }
        let received = self.session.receive(&self.pending, &mut self.out, now_s());
        self.pending.drain(..received.consumed);
        if received.produced > 0 {
            return Err(self.out[..received.produced].to_vec());
        }
        if let Then::Wants(_) = received.then
            && !self.session.has_output()
        {
            let mut input = [0; 64 * 1024];
            let read = self.socket.read(&mut input).expect("the server says something");
            self.pending.extend_from_slice(&input[..read]);
            assert!(read > 0, "the end was not announced: {:?}", self.session.end_of_stream());
        }
        Ok(received.then)
    }

    /// Says that nothing more comes, and hears the server's end, which has to be announced and the last.
    pub fn close(mut self) {
        self.session.close();
        while let Some(more) = self.receive() {
            drop(more);
        }
    }
}

impl Pipe for Tunnel {
    fn send(&mut self, bytes: &[u8]) {
        let sealed = self.sealed(bytes);
        self.socket.write_all(&sealed).expect("the server reads");
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.step() {
                Err(opened) => return Some(opened),
                Ok(Then::Wants(_) | Then::Room(_)) => {}
                Ok(Then::Closed) => {
                    let mut rest = Vec::new();
                    self.socket.read_to_end(&mut rest).expect("an end");
                    assert!(rest.is_empty() && self.pending.is_empty(), "something follows close_notify");
                    return None;
                }
                Ok(Then::Failed(failure)) => panic!("{failure}"),
            }
        }
    }
}

/// Without TLS, where an end needs no announcement.
impl Pipe for TcpStream {
    fn send(&mut self, bytes: &[u8]) {
        self.write_all(bytes).expect("the server reads");
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 64 * 1024];
        let read = self.read(&mut bytes).expect("the server says something");
        bytes.truncate(read);
        (read > 0).then_some(bytes)
    }
}

/// rustls with its own buffers.
impl Pipe for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn send(&mut self, bytes: &[u8]) {
        self.write_all(bytes).and_then(|()| self.flush()).expect("the server reads");
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 64 * 1024];
        // An end that is not announced is an error.
        let read = self.read(&mut bytes).expect("the server says something");
        bytes.truncate(read);
        (read > 0).then_some(bytes)
    }
}

/// `openssl s_client` as a pipe; ended when it goes out of scope.
pub struct Openssl {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<Vec<u8>>,
}

impl Openssl {
    /// Whether this host has it.
    pub fn is_there() -> bool {
        let there = Command::new("openssl").arg("version").output().is_ok_and(|said| said.status.success());
        if !there {
            println!("skipped: no program `openssl` on this host");
        }
        there
    }

    pub fn connect(server: SocketAddr, authorities: &str) -> Openssl {
        let address = server.to_string();
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-connect", &address, "-servername", "localhost"]);
        command.args(["-CAfile", authorities, "-verify_return_error", "-alpn", "uringest/1"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl runs");
        let (sender, said) = std::sync::mpsc::channel();
        let mut stdout = child.stdout.take().expect("a pipe");
        std::thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take().expect("a pipe");
        Openssl { child, stdin, said }
    }
}

impl Pipe for Openssl {
    fn send(&mut self, bytes: &[u8]) {
        self.stdin.write_all(bytes).and_then(|()| self.stdin.flush()).expect("it reads");
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        Some(self.said.recv_timeout(PATIENCE).expect("the server says something"))
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.child.kill(); // by its id; it may have ended
        let _ = self.child.wait();
    }
}
