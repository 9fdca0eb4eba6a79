//! The load: one thread, every socket non-blocking, always as much as credit and sockets allow.

use std::error::Error;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use uringest::proto::control::{Hello, Open, Opened, Refusal, Start, Subscribe};
use uringest::proto::header::{FrameHeader, Kind, seal};
use uringest::wire::batch::BatchBuilder;

use crate::Run;
use crate::server::Server;
use crate::socket::{connect, descriptor, own_cpu_ns, read_some, wait, write_some};

const HEADER: usize = 64;
const FRAME_MAX: u32 = 4 * 1024 * 1024;
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the load looks for room and answers before it sleeps.
const LOOK_ON: Duration = Duration::from_micros(200);
/// Frames encoded ahead for one write.
const WRITE_BYTES: usize = 64 * 1024;
/// A consumer's credit is renewed when less than this is left.
const CONSUMER_CREDIT: u64 = 64 * 1024 * 1024;

/// What was measured in the window.
pub(crate) struct Measured {
    pub(crate) records: u64,
    pub(crate) delivered: u64,
    pub(crate) bytes: u64,
    /// Frame bytes of the whole run, warm-up included.
    pub(crate) bytes_in_all: u64,
    pub(crate) server_cpu_ns: u64,
    pub(crate) load_cpu_ns: u64,
    pub(crate) elapsed_ns: u64,
    /// Least over most frame bytes of a producer.
    pub(crate) fairness: f64,
}

/// Frames cut out of a stream.
struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
}

impl Inbox {
    fn new() -> Self {
        Inbox { bytes: vec![0; 1024 * 1024], filled: 0 }
    }

    /// Reads once and calls `each` for every whole frame.
    fn take(
        &mut self,
        stream: &mut TcpStream,
        mut each: impl FnMut(&FrameHeader, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let read = read_some(stream, &mut self.bytes[self.filled..])?;
        self.filled += read;
        let mut at = 0;
        while let Some(first) = self.bytes[at..self.filled].first_chunk::<HEADER>() {
            let header =
                FrameHeader::parse(first, FRAME_MAX).map_err(|code| io::Error::other(code.name()))?;
            let end = at + header.frame_bytes();
            if end > self.filled {
                break;
            }
            each(&header, &self.bytes[at + HEADER..end])?;
            at = end;
        }
        self.bytes.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}

struct Producer {
    stream: TcpStream,
    inbox: Inbox,
    /// The frame to send, its sequence patched each time.
    frame: Vec<u8>,
    records: u64,
    out: Vec<u8>,
    sent: usize,
    sequence: u64,
    acked: u64,
    used: u64,
    limit: u64,
}

struct Consumer {
    stream: TcpStream,
    inbox: Inbox,
    partition: u32,
    records: u64,
    bytes: u64,
    limit: u64,
}

fn speak(stream: &mut TcpStream, inbox: &mut Inbox, frames: &[u8]) -> io::Result<(FrameHeader, Vec<u8>)> {
    let mut rest = frames;
    while !rest.is_empty() {
        rest = &rest[write_some(stream, rest)?..];
    }
    let mut answer = None;
    while answer.is_none() {
        wait(&[(descriptor(stream), false)], 1_000)?;
        inbox.take(stream, |header, body| {
            if header.kind == Kind::Error {
                let refusal = Refusal::decode(body).map_err(|code| io::Error::other(code.name()))?;
                return Err(io::Error::other(format!("{}: {}", refusal.code.name(), refusal.detail)));
            }
            if header.kind != Kind::Welcome {
                answer = Some((*header, body.to_vec()));
            }
            Ok(())
        })?;
    }
    answer.ok_or_else(|| io::Error::other("no answer"))
}

fn hello() -> Vec<u8> {
    Hello { client: "uringest-bench".into(), version_min: 1, version_max: 1, ..Hello::default() }.frame(0)
}

impl Producer {
    fn open(server: &Server, run: &Run, number: u64) -> Result<Producer, Box<dyn Error>> {
        let mut stream = connect(server.data)?;
        let mut inbox = Inbox::new();
        let producer_id = 0x1000 + number;
        let open = Open {
            topic: "bench".into(),
            producer_id,
            ack_every_batches: 16,
            ack_every_us: 1_000,
            ..Open::default()
        };
        let (header, body) = speak(&mut stream, &mut inbox, &[hello(), open.frame(1)].concat())?;
        let opened = Opened::decode(&body).map_err(|code| code.name())?;
        let mut builder = BatchBuilder::new();
        let payload = vec![0x5a; run.payload];
        while builder.is_empty() || builder.bytes_with(&payload, None, 0, &[]) <= run.batch_bytes {
            builder.push(&payload, None, 0, &[]);
        }
        let records = builder.len() as u64;
        let frame = builder.finish(producer_id, 1, header.channel);
        let (out, limit) = (Vec::with_capacity(2 * WRITE_BYTES), opened.credit);
        Ok(Producer { stream, inbox, frame, records, out, sent: 0, sequence: 0, acked: 0, used: 0, limit })
    }

    /// Encodes as many frames as one write takes and credit allows.
    fn fill(&mut self) {
        if self.sent < self.out.len() {
            return;
        }
        self.out.clear();
        self.sent = 0;
        let bytes = self.frame.len() as u64;
        while self.out.len() + self.frame.len() <= WRITE_BYTES.max(self.frame.len())
            && self.sequence - self.acked < 60
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

    fn step(&mut self) -> io::Result<bool> {
        self.fill();
        let mut moved = false;
        if self.sent < self.out.len() {
            let wrote = write_some(&mut self.stream, &self.out[self.sent..])?;
            self.sent += wrote;
            moved = wrote > 0;
        }
        let (acked, limit) = (&mut self.acked, &mut self.limit);
        self.inbox.take(&mut self.stream, |header, body| {
            moved = true;
            match header.kind {
                Kind::Ack => *acked = header.sequence,
                Kind::Credit => *limit = header.offset,
                Kind::Nack | Kind::Error => {
                    let refusal = Refusal::decode(body).map_err(|code| io::Error::other(code.name()))?;
                    return Err(io::Error::other(format!("{}: {}", refusal.code.name(), refusal.detail)));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(moved)
    }

    fn wants_to_write(&self) -> bool {
        self.sent < self.out.len()
    }
}

impl Consumer {
    fn open(server: &Server) -> Result<Consumer, Box<dyn Error>> {
        let mut stream = connect(server.data)?;
        let mut inbox = Inbox::new();
        let subscribe = Subscribe {
            topic: "bench".into(),
            start: Start::Latest,
            credit: CONSUMER_CREDIT,
            ..Subscribe::default()
        };
        let (header, _) = speak(&mut stream, &mut inbox, &[hello(), subscribe.frame(1)].concat())?;
        Ok(Consumer {
            stream,
            inbox,
            partition: header.channel,
            records: 0,
            bytes: 0,
            limit: CONSUMER_CREDIT,
        })
    }

    fn step(&mut self) -> io::Result<bool> {
        let before = self.bytes;
        let (records, bytes) = (&mut self.records, &mut self.bytes);
        self.inbox.take(&mut self.stream, |header, _| {
            if header.kind == Kind::Deliver {
                *records += u64::from(header.record_count);
                *bytes += header.frame_bytes() as u64;
            }
            Ok(())
        })?;
        if self.limit - self.bytes.min(self.limit) < CONSUMER_CREDIT / 2 {
            self.limit = self.bytes + CONSUMER_CREDIT;
            let credit =
                FrameHeader { channel: self.partition, offset: self.limit, ..FrameHeader::new(Kind::Credit) };
            let wrote = write_some(&mut self.stream, &credit.alone())?;
            assert_eq!(wrote, HEADER, "a consumer's socket always has room for a header");
        }
        Ok(self.bytes > before)
    }
}

/// Runs the load: a second to warm up, then the measured window.
pub(crate) fn drive(run: &Run, server: &Server) -> Result<Measured, Box<dyn Error>> {
    let mut consumers =
        (0..run.consumers()).map(|_| Consumer::open(server)).collect::<Result<Vec<_>, _>>()?;
    let mut producers = (0..run.connections as u64)
        .map(|number| Producer::open(server, run, number))
        .collect::<Result<Vec<_>, _>>()?;
    step_for(WARM_UP, &mut producers, &mut consumers)?;
    let sum = |producers: &[Producer]| producers.iter().map(|p| p.acked * p.records).sum::<u64>();
    let got = |consumers: &[Consumer]| consumers.iter().map(|c| c.records).sum::<u64>();
    let each: Vec<u64> = producers.iter().map(|p| p.acked).collect();
    let (records, delivered, cpu, own) = (sum(&producers), got(&consumers), server.cpu_ns()?, own_cpu_ns());
    let begun = Instant::now();
    step_for(Duration::from_secs(run.seconds), &mut producers, &mut consumers)?;
    let elapsed_ns = u64::try_from(begun.elapsed().as_nanos())?;
    let (server_cpu_ns, load_cpu_ns) = (server.cpu_ns()? - cpu, own_cpu_ns() - own);
    let records = sum(&producers) - records;
    let moved: Vec<u64> = producers.iter().zip(each).map(|(p, before)| p.acked - before).collect();
    let most = moved.iter().max().copied().unwrap_or(0).max(1);
    let frame_bytes = producers[0].frame.len() as u64;
    Ok(Measured {
        records,
        delivered: got(&consumers) - delivered,
        bytes: records / producers[0].records * frame_bytes,
        bytes_in_all: producers.iter().map(|p| p.sequence).sum::<u64>() * frame_bytes,
        server_cpu_ns,
        load_cpu_ns,
        elapsed_ns,
        fairness: moved.iter().min().copied().unwrap_or(0) as f64 / most as f64,
    })
}

fn step_for(time: Duration, producers: &mut [Producer], consumers: &mut [Consumer]) -> io::Result<()> {
    let until = Instant::now() + time;
    let mut idle_since = None;
    while Instant::now() < until {
        let mut moved = false;
        for producer in &mut *producers {
            moved |= producer.step()?;
        }
        for consumer in &mut *consumers {
            moved |= consumer.step()?;
        }
        // Sleeping costs more than the server takes to make room: look on for a moment first.
        if moved {
            idle_since = None;
        } else if idle_since.get_or_insert_with(Instant::now).elapsed() > LOOK_ON {
            let writers = producers.iter().map(|p| (descriptor(&p.stream), p.wants_to_write()));
            let sockets: Vec<_> =
                writers.chain(consumers.iter().map(|c| (descriptor(&c.stream), false))).collect();
            wait(&sockets, 10)?;
        }
    }
    Ok(())
}
