//! The connection's state, shared by producer and consumer: greeting, liveness, back-off, giving up.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::client::core::config::ConnectionConfig;
use crate::client::core::error::Error;
use crate::client::core::reader::Frame;
use crate::client::core::verbs::Wish;
use crate::limits::IDLE_TIMEOUT_MS;
use crate::proto::control::{Hello, Refusal, Welcome};
use crate::proto::header::{FrameHeader, Kind, VERSION};

/// Time to finish what was begun after the server said `drain`.
const DRAIN_NS: u64 = 2_000_000_000;
/// A connection that lasted this long was a good one: what happens next begins anew.
const SETTLED_NS: u64 = 1_000_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not connected; the next attempt is due at this time.
    Down { retry_at_ns: u64 },
    /// The driver was told to connect, or hello is on its way.
    Greeting { since_ns: u64 },
    /// Welcome has arrived.
    Up,
    /// The transport is to be closed.
    Closing { why: String, quick: bool },
    /// For good.
    Ended,
}

/// What a frame was to the link.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The greeting is complete: requests may be sent.
    Up,
    /// Dealt with.
    Nothing,
    /// For the producer or consumer.
    Other(Frame),
    /// The server refused a request.
    Refused { request: u64, refusal: Refusal },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    config: ConnectionConfig,
    state: State,
    welcome: Option<Welcome>,
    outbox: VecDeque<Bytes>,
    failure: Option<Error>,
    last_received_ns: u64,
    last_sent_ns: u64,
    draining_since_ns: Option<u64>,
    up_since_ns: Option<u64>,
    /// Attempts since the last progress.
    attempts: u32,
    /// Transports so far.
    connections: u64,
    /// Since when nothing has gone forward; `None` while all is well.
    stalled_since_ns: Option<u64>,
    last_reason: String,
    random: Random,
}

impl Link {
    pub fn new(config: ConnectionConfig, seed: u64) -> Self {
        Link {
            config,
            state: State::Down { retry_at_ns: 0 },
            welcome: None,
            outbox: VecDeque::new(),
            failure: None,
            last_received_ns: 0,
            last_sent_ns: 0,
            draining_since_ns: None,
            up_since_ns: None,
            attempts: 0,
            connections: 0,
            stalled_since_ns: None,
            last_reason: String::new(),
            random: Random(seed),
        }
    }

    pub fn config(&self) -> &ConnectionConfig {
        &self.config
    }

    pub fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// How many transports there have been.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub fn is_draining(&self) -> bool {
        self.draining_since_ns.is_some()
    }

    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    pub fn wish(&self) -> Wish {
        match self.state {
            State::Down { retry_at_ns: 0 } => Wish::Connect,
            State::Down { .. } => Wish::Wait,
            State::Greeting { .. } | State::Up => Wish::Run,
            State::Closing { .. } => Wish::Hangup,
            State::Ended => Wish::End,
        }
    }

    pub fn connected(&mut self, now_ns: u64) {
        if self.state == State::Ended {
            return;
        }
        self.state = State::Greeting { since_ns: now_ns };
        self.connections += 1;
        self.last_received_ns = now_ns;
        self.draining_since_ns = None;
        self.outbox.clear();
        let hello = Hello {
            client: self.config.client.clone(),
            version_min: VERSION,
            version_max: VERSION,
            features: 0,
            token: self.config.token.clone().unwrap_or_default(),
        };
        self.outbox.push_back(Bytes::from(hello.frame(0)));
    }

    /// Plans the next attempt; returns the reason, which may be one of this side's own.
    pub fn disconnected(&mut self, now_ns: u64, why: &str) -> String {
        if self.state == State::Ended {
            return why.to_owned();
        }
        let (why, quick) = match &self.state {
            State::Closing { why, quick } => (why.clone(), *quick),
            _ => (why.to_owned(), false),
        };
        self.outbox.clear();
        self.draining_since_ns = None;
        if self.up_since_ns.take().is_some_and(|since| now_ns >= since + SETTLED_NS) {
            self.progress();
        }
        self.stall(now_ns, &why);
        let wait_ns = if quick && self.attempts == 0 { 1 } else { self.backoff_ns() };
        self.attempts += 1;
        if self.state != State::Ended {
            self.state = State::Down { retry_at_ns: (now_ns + wait_ns).max(1) };
        }
        why
    }

    /// Something went forward: an acknowledgement, a delivery, a subscription.
    pub fn progress(&mut self) {
        self.attempts = 0;
        self.stalled_since_ns = None;
    }

    /// Nothing goes forward, for this reason; gives up when that has lasted too long.
    pub fn stall(&mut self, now_ns: u64, why: &str) {
        why.clone_into(&mut self.last_reason);
        let since = *self.stalled_since_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since) >= nanos(self.config.retry_for) {
            self.fail(Error::GaveUp { tried_ms: (now_ns - since) / 1_000_000, last: why.to_owned() });
        }
    }

    /// Ends it with an error.
    pub fn fail(&mut self, error: Error) {
        if self.state != State::Ended {
            self.failure = Some(error);
            self.end();
        }
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.state = State::Ended;
        self.outbox.clear();
    }

    /// Closes the transport and connects again: at once when `quick` and it did not just fail.
    pub fn hangup(&mut self, why: &str, quick: bool) {
        if matches!(self.state, State::Greeting { .. } | State::Up) {
            self.state = State::Closing { why: why.to_owned(), quick };
        }
    }

    /// What arrived is of no use. A server that cannot be trusted, or cannot be spoken to, will not be another the
    /// next time; one that this side has spoken to before may be about to change its certificate.
    pub fn garbled(&mut self, error: Error) {
        match error {
            Error::Tls { fault, .. } if fault.is_lasting() && self.welcome.is_none() => self.fail(error),
            error => self.hangup(&error.to_string(), false),
        }
    }

    pub fn push(&mut self, frame: impl Into<Bytes>) {
        if self.is_up() {
            self.outbox.push_back(frame.into());
        }
    }

    pub fn heard(&mut self, frame: Frame, now_ns: u64) -> Heard {
        self.last_received_ns = now_ns;
        match (frame.header.kind, &self.state) {
            (Kind::Welcome, State::Greeting { .. }) => match Welcome::decode(frame.body()) {
                Ok(welcome) if welcome.version == VERSION => {
                    self.welcome = Some(welcome);
                    self.state = State::Up;
                    self.up_since_ns = Some(now_ns);
                    return Heard::Up;
                }
                Ok(welcome) => {
                    let detail = format!("the server chose version {}", welcome.version);
                    self.fail(Error::Protocol { code: crate::proto::code::Code::BadVersion, detail });
                }
                Err(code) => self.fail(Error::Protocol { code, detail: "in welcome".to_owned() }),
            },
            (Kind::Error | Kind::Close | Kind::Nack, _) => match Refusal::decode(frame.body()) {
                Ok(_) if frame.header.kind == Kind::Nack => return Heard::Other(frame),
                Ok(refusal) if frame.header.kind == Kind::Error && frame.header.sequence != 0 => {
                    return Heard::Refused { request: frame.header.sequence, refusal };
                }
                Ok(refusal) => self.refused(&refusal),
                Err(code) => self.fail(Error::Protocol { code, detail: "in a refusal".to_owned() }),
            },
            (Kind::Ping, State::Up) => {
                let pong = FrameHeader { sequence: frame.header.sequence, ..FrameHeader::new(Kind::Pong) };
                self.push(pong.alone().to_vec());
            }
            (Kind::Drain, State::Up) => self.draining_since_ns = Some(now_ns),
            (_, State::Up) => return Heard::Other(frame),
            _ => {}
        }
        Heard::Nothing
    }

    /// The connection as a whole was refused.
    fn refused(&mut self, refusal: &Refusal) {
        if refusal.code.retryable() {
            self.hangup(&format!("the server refused: {}: {}", refusal.code, refusal.detail), false);
        } else {
            self.fail(Error::Refused { code: refusal.code, detail: refusal.detail.clone() });
        }
    }

    pub fn transmit(&mut self, now_ns: u64, out: &mut Vec<Bytes>) {
        if !self.outbox.is_empty() {
            self.sent(now_ns);
            out.extend(self.outbox.drain(..));
        }
    }

    /// Something is being written at this time.
    pub fn sent(&mut self, now_ns: u64) {
        self.last_sent_ns = now_ns;
    }

    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub fn expire(&mut self, now_ns: u64) {
        match self.state {
            State::Down { retry_at_ns } if retry_at_ns <= now_ns => {
                let reason = std::mem::take(&mut self.last_reason);
                if self.stalled_since_ns.is_some() {
                    self.stall(now_ns, &reason);
                }
                if self.state != State::Ended {
                    self.state = State::Down { retry_at_ns: 0 };
                }
            }
            State::Greeting { since_ns } if now_ns >= since_ns + nanos(self.config.connect_timeout) => {
                let tls = self.config.server.is_secured();
                self.hangup(
                    if tls {
                        "no end of the TLS handshake, or no answer to hello"
                    } else {
                        "no answer to hello"
                    },
                    false,
                );
            }
            State::Up => {
                if now_ns >= self.last_received_ns + self.idle_ns() {
                    self.hangup("the server has been silent for too long", false);
                } else if now_ns >= self.last_sent_ns + self.idle_ns() / 3 {
                    self.last_sent_ns = now_ns;
                    self.push(FrameHeader::new(Kind::Ping).alone().to_vec());
                }
                if self.draining_since_ns.is_some_and(|since| now_ns >= since + DRAIN_NS) {
                    self.hangup("the server is draining", false);
                }
            }
            _ => {}
        }
    }

    pub fn next_deadline(&self) -> Option<u64> {
        match self.state {
            State::Down { retry_at_ns } => Some(retry_at_ns),
            State::Greeting { since_ns } => Some(since_ns + nanos(self.config.connect_timeout)),
            State::Up => {
                let idle = self.idle_ns();
                let ping = (self.last_sent_ns + idle / 3).min(self.last_received_ns + idle);
                Some(self.draining_since_ns.map_or(ping, |since| ping.min(since + DRAIN_NS)))
            }
            State::Closing { .. } | State::Ended => None,
        }
    }

    fn idle_ns(&self) -> u64 {
        let ms = self.welcome.as_ref().map_or(IDLE_TIMEOUT_MS, |welcome| u64::from(welcome.idle_timeout_ms));
        ms.max(3) * 1_000_000
    }

    /// Exponential, with a random quarter taken off so that clients cut together do not come back together.
    fn backoff_ns(&mut self) -> u64 {
        let full = nanos(self.config.backoff_min)
            .saturating_mul(1 << self.attempts.min(20))
            .min(nanos(self.config.backoff_max))
            .max(1);
        full - self.random.next() % (full / 4 + 1)
    }
}

/// A duration in nanoseconds, at most about 292 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2).min(u64::MAX / 2)
}

/// SplitMix64 (Steele, Lea, Flood 2014): ids and jitter from the driver's seed, so that a run can be repeated.
#[derive(Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A producer id: anything but 0.
    pub fn producer_id(&mut self) -> u64 {
        self.next().max(1)
    }
}
