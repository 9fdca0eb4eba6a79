//! NATS, its core: publish and subscribe in its text protocol (docs.nats.io, "Client Protocol").
//!
//! A unit is a run of `PUB`s. Acknowledgements are `PONG`s to a `PING` behind every so many units: the server works
//! off a connection in order, so it has taken what came before. Where each record by itself is to be acknowledged, the
//! connection is verbose, and every `PUB` has its `+OK`.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;

use super::lead::Lead;
use super::units::{IN_FLIGHT_MAX, Units};
use super::{Consumer, Dialect, Producer, Role, STAMP_BYTES, Tally};
use crate::link::Link;
use crate::scenario::{AckPace, Flow};
use crate::socket::connect;

use std::sync::Arc;

/// A line of control is shorter: `INFO` of a lone server has some hundred bytes.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub struct NatsDialect {
    address: SocketAddr,
    leads: Vec<Arc<Lead>>,
}

impl NatsDialect {
    /// For a server at `address`, and a subject for each flow.
    #[must_use]
    pub fn new(address: SocketAddr, flows: &[Flow]) -> NatsDialect {
        NatsDialect { address, leads: flows.iter().map(|flow| Arc::new(Lead::new(flow))).collect() }
    }

    /// Connects, sends `behind` after the greeting, and reads until the `PONG`.
    fn connect(&self, number: usize, verbose: bool, behind: &str) -> io::Result<Link> {
        let stream = connect(self.address, number)?;
        info(&mut BufReader::new(&stream))?;
        let mut link = Link::plain(stream);
        let said = format!(
            "CONNECT {{\"verbose\":{verbose},\"pedantic\":false,\"name\":\"uringest-bench\",\"lang\":\"rust\",\
             \"version\":\"1\",\"protocol\":1,\"echo\":true}}\r\n{behind}PING\r\n"
        );
        link.write_all(said.as_bytes())?;
        let mut lines = BufReader::new(&mut link);
        let mut line = String::new();
        while line != "PONG\r\n" {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            refused(line.trim_end().as_bytes())?;
        }
        if lines.buffer().is_empty() {
            return Ok(link);
        }
        Err(io::Error::other("the server sends before anything is published"))
    }

    /// What the server says its version is.
    ///
    /// # Errors
    /// It is not there, or is no NATS server.
    pub fn version(&self) -> io::Result<String> {
        let info = info(&mut BufReader::new(connect(self.address, 0)?))?;
        Ok(info["version"].as_str().unwrap_or("unknown").to_owned())
    }
}

/// The greeting.
fn info(lines: &mut impl BufRead) -> io::Result<serde_json::Value> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let Some(info) = line.strip_prefix("INFO ") else {
        return Err(io::Error::other("not a NATS server: it does not begin with INFO"));
    };
    serde_json::from_str(info).map_err(io::Error::other)
}

/// An error the server has said, as one.
fn refused(line: &[u8]) -> io::Result<()> {
    if !line.starts_with(b"-ERR") {
        return Ok(());
    }
    Err(io::Error::other(format!("nats-server: {}", String::from_utf8_lossy(line))))
}

fn subject(flow: usize) -> String {
    format!("bench.{flow}")
}

/// Every record is a unit, and each is acknowledged.
fn is_verbose(role: &Role) -> bool {
    role.acks == AckPace::EACH && role.batch_bytes == 0
}

impl Dialect for NatsDialect {
    type Producer = NatsProducer;
    type Consumer = NatsConsumer;

    fn producer(&self, role: &Role) -> io::Result<(Link, NatsProducer)> {
        let stream = self.connect(role.number, is_verbose(role), "")?;
        Ok((stream, NatsProducer::new(role, Arc::clone(&self.leads[role.flow]))))
    }

    fn consumer(&self, role: &Role) -> io::Result<(Link, NatsConsumer)> {
        let stream = self.connect(role.number, false, &format!("SUB {} 1\r\n", subject(role.flow)))?;
        Ok((stream, NatsConsumer::new(Arc::clone(&self.leads[role.flow]))))
    }

    fn idler(&self, number: usize) -> io::Result<Link> {
        self.connect(number, false, "")
    }
}

/// See the module.
#[derive(Debug)]
pub struct NatsProducer {
    units: Units,
    /// `Some`: units and a `PING`, instead of the units alone.
    with_ping: Option<Vec<u8>>,
    /// Units from one `PING` to the next; `None`: every `PUB` has its `+OK`.
    ping_every: Option<u64>,
    /// What each `PONG` that is due acknowledges.
    pings: VecDeque<u64>,
    acked: u64,
    lead: Arc<Lead>,
    /// The server has asked whether we live.
    pinged: bool,
}

impl NatsProducer {
    fn new(role: &Role, lead: Arc<Lead>) -> NatsProducer {
        let head = format!("PUB {} {}\r\n", subject(role.flow), role.payload_bytes);
        let units = Units::new(role, |out, payload| {
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(payload);
            out.extend_from_slice(b"\r\n");
            head.len()
        });
        let every = u64::from(role.acks.every_batches).clamp(1, IN_FLIGHT_MAX / 2);
        NatsProducer {
            units,
            with_ping: None,
            ping_every: (!is_verbose(role)).then_some(every),
            pings: VecDeque::new(),
            acked: 0,
            lead,
            pinged: false,
        }
    }

    /// Units that are acknowledged, or will be when the `PONG`s that are due have come.
    fn asked(&self) -> u64 {
        self.pings.back().copied().unwrap_or(self.acked)
    }

    /// Puts a `PING` behind what is encoded, where one is due.
    fn ping(&mut self) {
        let (asked, sent) = (self.asked(), self.units.sent());
        self.with_ping = None;
        if self.ping_every.is_some_and(|every| sent - asked >= every) {
            self.pings.push_back(sent);
            self.with_ping = Some([self.units.encoded(), b"PING\r\n"].concat());
        }
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        match line {
            b"PONG" => {
                self.acked =
                    self.pings.pop_front().ok_or_else(|| io::Error::other("a PONG nobody asked for"))?;
            }
            b"+OK" => self.acked += 1,
            b"PING" => self.pinged = true,
            _ => refused(line)?,
        }
        Ok(())
    }
}

impl Producer for NatsProducer {
    fn unit_records(&self) -> u64 {
        self.units.records()
    }

    fn unit_bytes(&self) -> u64 {
        self.units.unit_bytes()
    }

    #[inline]
    fn encode(&mut self, units: u64, stamp_ns: u64) -> u64 {
        let units = self.units.encode_within(&self.lead, self.acked, units, stamp_ns);
        self.ping();
        units
    }

    #[inline]
    fn encoded(&self) -> &[u8] {
        self.with_ping.as_deref().unwrap_or_else(|| self.units.encoded())
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        while let Some(line) = line(&bytes[at..])? {
            at += line.len() + 2;
            self.line(line)?;
        }
        Ok(at)
    }

    fn sent(&self) -> u64 {
        self.units.sent()
    }

    fn acked(&self) -> u64 {
        self.acked
    }

    fn ask(&mut self, out: &mut Vec<u8>) {
        let sent = self.units.sent();
        if self.ping_every.is_some() && self.asked() < sent {
            self.pings.push_back(sent);
            out.extend_from_slice(b"PING\r\n");
        }
    }

    fn replies(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.pinged) {
            out.extend_from_slice(b"PONG\r\n");
        }
    }
}

/// The first line, without its end; `None` when that has not come yet.
#[inline]
fn line(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let searched = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match searched.iter().position(|byte| *byte == b'\n') {
        Some(end) if end > 0 && bytes[end - 1] == b'\r' => Ok(Some(&bytes[..end - 1])),
        None if bytes.len() < LINE_BYTES_MAX => Ok(None),
        _ => Err(io::Error::other("nats-server: not a line of its protocol")),
    }
}

/// See the module.
#[derive(Debug)]
pub struct NatsConsumer {
    /// Bytes of the current payload, its line end included, that are still to come.
    skip: usize,
    records: u64,
    lead: Arc<Lead>,
    place: usize,
    pinged: bool,
}

impl NatsConsumer {
    fn new(lead: Arc<Lead>) -> NatsConsumer {
        let place = lead.join();
        NatsConsumer { skip: 0, records: 0, lead, place, pinged: false }
    }
}

impl Consumer for NatsConsumer {
    #[inline]
    fn take(&mut self, bytes: &[u8], tally: &mut Tally) -> io::Result<usize> {
        let before = tally.records;
        let mut at = self.skip.min(bytes.len());
        self.skip -= at;
        while let Some(line) = line(&bytes[at..])? {
            let body = at + line.len() + 2;
            if !line.starts_with(b"MSG ") {
                self.pinged |= line == b"PING";
                refused(line)?;
                at = body;
                continue;
            }
            let whole = payload_bytes(line)? + 2;
            let Some(payload) = bytes.get(body..body + STAMP_BYTES) else { break };
            tally.record(payload);
            let there = whole.min(bytes.len() - body);
            self.skip = whole - there;
            at = body + there;
        }
        self.records += tally.records - before;
        self.lead.delivered(self.place, self.records);
        Ok(at)
    }

    fn replies(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.pinged) {
            out.extend_from_slice(b"PONG\r\n");
        }
    }
}

/// The last word of `MSG subject sid bytes`.
#[inline]
fn payload_bytes(line: &[u8]) -> io::Result<usize> {
    let digits = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let number = digits.iter().try_fold(0_usize, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(usize::from(digit))
    });
    number
        .filter(|bytes| !digits.is_empty() && *bytes >= STAMP_BYTES)
        .ok_or_else(|| io::Error::other(format!("nats-server: {}", String::from_utf8_lossy(line))))
}
