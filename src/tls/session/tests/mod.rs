//! Sessions of both sides and of both record layers against each other, over a wire that tests may cut and change.

mod alerts;
pub(crate) mod early;
mod identity;
mod spans;
mod streams;

use super::*;
use crate::tls::config::tests::{Files, NOW_S, client_tls, server_tls};
use crate::tls::record::tests::implementations::over_each_implementation;
use crate::tls::record::{HEADER_BYTES, OVERHEAD_BYTES, PLAINTEXT_ROOM_BYTES, Suite};

pub const BOTH: [Records; 2] = [Records::Own, Records::Rustls];

/// One side of a connection, with what came over the wire and waits.
pub struct End {
    pub session: Session,
    pub pending: Vec<u8>,
    pub heard: Vec<u8>,
    pub early: usize,
    pub then: Then,
    pub now_s: u64,
}

impl End {
    pub fn new(session: Session) -> End {
        let then = Then::Wants(HEADER_BYTES);
        End { session, pending: Vec::new(), heard: Vec::new(), early: 0, then, now_s: NOW_S }
    }

    /// Everything that waits to be sent, with all of `data` behind it.
    pub fn say(&mut self, data: &[u8]) -> Vec<u8> {
        let mut wire = vec![0; 64 * 1024 + data.len() + (data.len() / CONTENT + 1) * OVERHEAD_BYTES];
        let sealed = self.session.transmit(data, &mut wire);
        assert_eq!(sealed.taken, data.len());
        wire.truncate(sealed.written);
        wire
    }

    pub fn hear(&mut self, wire: &[u8]) {
        self.pending.extend_from_slice(wire);
        let mut out = vec![0; 2 * PLAINTEXT_ROOM_BYTES];
        loop {
            let received = self.session.receive(&self.pending, &mut out, self.now_s);
            self.heard.extend_from_slice(&out[..received.produced]);
            self.early += received.early;
            self.pending.drain(..received.consumed);
            self.then = received.then;
            if !matches!(self.then, Then::Room(_)) {
                return;
            }
            assert!(received.produced > 0, "there was room for a record");
        }
    }

    #[track_caller]
    pub fn failure(&self) -> &Failure {
        match &self.then {
            Then::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }
}

const CONTENT: usize = crate::tls::record::CONTENT_BYTES_MAX;

pub struct Wire {
    pub client: End,
    pub server: End,
}

impl Wire {
    pub fn new(client: Session, server: Session) -> Wire {
        Wire { client: End::new(client), server: End::new(server) }
    }

    /// Carries what both have to say until neither has anything.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            let (up, down) = (self.client.say(b""), self.server.say(b""));
            if up.is_empty() && down.is_empty() {
                return;
            }
            self.server.hear(&up);
            self.client.hear(&down);
        }
        panic!("they never stop");
    }
}

/// A connection between these, its handshake over or failed.
pub fn connect(client: &ClientTls, server: &ServerTls, records: [Records; 2]) -> Wire {
    connect_at(client, server, records, NOW_S)
}

pub fn connect_at(client: &ClientTls, server: &ServerTls, records: [Records; 2], now_s: u64) -> Wire {
    let client = Session::client(client, "a.example", records[0], now_s);
    let mut wire = Wire::new(client, Session::server(server, records[1]));
    (wire.client.now_s, wire.server.now_s) = (now_s, now_s);
    wire.settle();
    wire
}

/// The same, of the plainest kind.
pub fn established(records: [Records; 2]) -> Wire {
    let files = Files::new();
    let wire = connect(&client_tls(&files.client()), &server_tls(&files.server()), records);
    assert!(wire.client.session.can_send() && wire.server.session.can_send(), "{:?}", wire.client.then);
    wire
}

#[test]
fn a_session_may_move_to_another_thread() {
    fn moves<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    moves::<Session>();
    shared::<ServerTls>();
    shared::<ClientTls>();
}
