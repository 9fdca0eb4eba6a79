//! Connections between clients and the server: bytes that take their time, in order, and ends of all kinds.
//!
//! State and owner: what is on the way, by connection. What the server has not received lies in the socket (`Peer`),
//! what the client has not read here.

use std::collections::VecDeque;

use super::plan::{Faults, MS, US};
use super::random::Random;
use super::secured::tamper::Tamper;
use crate::ids::SockId;

/// Bytes a client may have on the way to the server; it waits beyond that.
pub const UP_BYTES_MAX: usize = 128 * 1024;
/// Bytes the server's socket takes before the client has read them.
pub const DOWN_BYTES_MAX: usize = 192 * 1024;

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct Pipe {
    on_the_way: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    last_ns: u64,
    /// When it is looked at next.
    due_ns: Option<u64>,
}

impl Pipe {
    /// It is to be looked at by then; whether that is earlier than it would be anyway.
    pub fn no_later_than(&mut self, at_ns: u64) -> bool {
        let earlier = self.due_ns.is_none_or(|due_ns| at_ns < due_ns);
        if earlier {
            self.due_ns = Some(at_ns);
        }
        earlier
    }

    /// Whether it is to be looked at now; it is not again before it is asked to be.
    pub fn is_due(&mut self, now_ns: u64) -> bool {
        self.due_ns.take_if(|due_ns| *due_ns == now_ns).is_some()
    }

    /// Bytes that have not arrived.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sends some bytes; when they arrive.
    pub fn send(&mut self, mut bytes: Vec<u8>, now_ns: u64, faults: &Faults, random: &mut Random) -> u64 {
        let mut delay_ns = 5 * US + random.below(100 * US);
        if random.chance(faults.slow) {
            delay_ns += random.below(faults.slow_ns + 1);
        }
        let first_ns = self.last_ns.max(now_ns + delay_ns);
        self.bytes += bytes.len();
        if bytes.len() > 1 && random.chance(faults.secured.pieces) {
            let rest = bytes.split_off(1 + random.index(bytes.len() - 1));
            self.last_ns = first_ns + random.below(20 * MS);
            self.on_the_way.extend([(first_ns, bytes), (self.last_ns, rest)]);
        } else {
            self.last_ns = first_ns;
            self.on_the_way.push_back((first_ns, bytes));
        }
        first_ns
    }

    /// What has arrived by now.
    pub fn arrived(&mut self, now_ns: u64) -> Vec<u8> {
        let mut arrived = Vec::new();
        while self.on_the_way.front().is_some_and(|(at_ns, _)| *at_ns <= now_ns) {
            let (_, bytes) = self.on_the_way.pop_front().expect("one is there");
            self.bytes -= bytes.len();
            arrived.extend(bytes);
        }
        arrived
    }

    /// Takes everything, on the way or not.
    pub fn drain(&mut self) -> Vec<u8> {
        self.arrived(u64::MAX)
    }

    /// When the next bytes arrive.
    pub fn next_ns(&self) -> Option<u64> {
        self.on_the_way.front().map(|(at_ns, _)| *at_ns)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// Index of the client.
    pub client: usize,
    /// It was made when nothing went wrong any more: it lasts.
    pub calm: bool,
    /// The server's socket.
    pub sock: SockId,
    /// To the server.
    pub up: Pipe,
    /// To the client.
    pub down: Pipe,
    /// Nothing passes before this time.
    pub parted_ns: u64,
    /// One bit of what the client sends next is another.
    pub corrupt: bool,
    /// The client has let go of it: nothing more is sent or read by it.
    pub left: bool,
    /// Bytes the server may have in the socket and on the way.
    pub room: usize,
    /// Of what goes to the server, and to the client.
    pub tampers: [Tamper; 2],
    /// Something of the handshake was changed: nobody may be welcomed.
    pub spoilt: bool,
    /// The server has said that it holds as many as it may.
    pub turned_away: bool,
}
