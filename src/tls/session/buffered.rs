//! The same connection all through rustls and its buffers: the reference for tests and measurements.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::{ClientConnection, Connection, Error, ServerConnection};

use super::Outgoing;
use super::errors::{alert_in, failure_of};
use super::handshake::server_name_of;
use super::peer::{Peer, chain_of, meet};
use crate::tls::config::{CallersTime, ClientTls, ServerTls};
use crate::tls::record::{
    CONTENT_BYTES_MAX, HEADER_BYTES, Head, OVERHEAD_BYTES, PLAINTEXT_ROOM_BYTES, Received, Sealed, TAG_BYTES,
    Then, head,
};
use crate::tls::{Alert, Failure, Reason};

/// See the module.
pub(super) struct Buffered {
    conn: Connection,
    time: Arc<CallersTime>,
    /// Of the server's side.
    config: Option<ServerTls>,
    peer: Option<Peer>,
    closing: bool,
    peer_closed: bool,
    failure: Option<Failure>,
    /// What rustls has to say after an error.
    last_words: Outgoing,
}

impl Buffered {
    pub(super) fn server(config: &ServerTls) -> Result<Buffered, Failure> {
        let conn = ServerConnection::new(config.rustls()).map_err(|e| failure_of(&e))?;
        Ok(Buffered::of(conn.into(), config.time(), Some(config.clone())))
    }

    pub(super) fn client(config: &ClientTls, server_name: &str) -> Result<Buffered, Failure> {
        let name = server_name_of(server_name)?;
        let conn = ClientConnection::new(config.rustls(), name).map_err(|e| failure_of(&e))?;
        Ok(Buffered::of(conn.into(), config.time(), None))
    }

    fn of(conn: Connection, time: Arc<CallersTime>, config: Option<ServerTls>) -> Buffered {
        Buffered {
            conn,
            time,
            config,
            peer: None,
            closing: false,
            peer_closed: false,
            failure: None,
            last_words: Outgoing::default(),
        }
    }

    pub(super) fn peer(&self) -> Option<Peer> {
        self.peer.clone()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.failure.is_none() && self.conn.is_handshaking()
    }

    pub(super) fn receive(&mut self, input: &[u8], out: &mut [u8], now_s: u64) -> Received {
        self.time.set(now_s);
        let (mut consumed, mut produced, mut early) = (0, 0, 0);
        let then = loop {
            if let Some(failure) = &self.failure {
                break Then::Failed(failure.clone());
            }
            if self.peer_closed {
                break Then::Closed;
            }
            let bytes = match head(&input[consumed..]) {
                Ok(Head::None) => break Then::Wants(HEADER_BYTES),
                Ok(Head::Of { bytes, .. }) if bytes > input.len() - consumed => break Then::Wants(bytes),
                Ok(Head::Of { bytes, .. }) => bytes,
                // As much as makes rustls say the same.
                Err(_overflow) => (input.len() - consumed).min(CONTENT_BYTES_MAX),
            };
            // A byte more than its content, so that room is left over.
            let room = bytes.saturating_sub(HEADER_BYTES + TAG_BYTES).min(PLAINTEXT_ROOM_BYTES);
            if room > out.len() - produced {
                break Then::Room(room);
            }
            self.take(&input[consumed..consumed + bytes], now_s);
            consumed += bytes;
            let before = self.read_early(&mut out[produced..], now_s);
            early += before;
            produced += before;
            produced += self.read(&mut out[produced..]);
        };
        if matches!(then, Then::Closed | Then::Failed(_)) {
            consumed = input.len();
        }
        Received { consumed, produced, early, then }
    }

    /// One record in.
    fn take(&mut self, mut record: &[u8], now_s: u64) {
        while !record.is_empty() && self.failure.is_none() {
            if let Err(error) = self.conn.read_tls(&mut record) {
                return self.fail(Failure { detail: error.to_string(), ..Reason::Internal.into() });
            }
            if let Err(error) = self.conn.process_new_packets() {
                self.fail_by(&error);
            }
        }
        if self.peer.is_none() && self.failure.is_none() && !self.conn.is_handshaking() {
            self.meet(now_s);
        }
    }

    /// Early data, which rustls keeps apart. Its sender's certificate is judged before it is heard.
    fn read_early(&mut self, out: &mut [u8], now_s: u64) -> usize {
        let Connection::Server(conn) = &mut self.conn else { return 0 };
        let Some(mut early) = conn.early_data() else { return 0 };
        let bytes = early.read(out).unwrap_or(0);
        if bytes == 0 || self.failure.is_some() {
            return 0;
        }
        let chain = chain_of(&self.conn);
        match self.config.as_ref().map(|config| config.check_again(&chain, now_s)) {
            Some(Err(reason)) => {
                out[..bytes].fill(0);
                self.fail(Failure { sent: None, ..reason.into() });
                0
            }
            Some(Ok(())) | None => bytes,
        }
    }

    fn read(&mut self, out: &mut [u8]) -> usize {
        let mut bytes = 0;
        loop {
            match self.conn.reader().read(&mut out[bytes..]) {
                Ok(0) => {
                    // Room is left over after every record, so nothing read means that nothing will come.
                    self.peer_closed |= bytes < out.len();
                    return bytes;
                }
                Ok(more) => bytes += more,
                Err(_would_block_or_truncated) => return bytes,
            }
        }
    }

    /// The handshake is over.
    fn meet(&mut self, now_s: u64) {
        let met = match meet(&self.conn, self.config.as_ref(), now_s) {
            Ok(met) => met,
            Err(reason) => return self.fail(Failure { sent: None, ..reason.into() }),
        };
        self.peer = Some(met.peer);
        if let Err(reason) = met.admitted {
            // rustls sends no alert for a caller: the peer gets a close_notify.
            self.conn.send_close_notify();
            self.fail(Failure { sent: None, ..reason.into() });
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// rustls chooses what the peer is told: not always what the reason has, and for some errors nothing.
    fn fail_by(&mut self, error: &Error) {
        let mut failure = failure_of(error);
        let said = &mut self.last_words.bytes;
        while self.conn.wants_write() {
            match self.conn.write_tls(said) {
                Ok(bytes) if bytes > 0 => {}
                _ => break,
            }
        }
        let sent = if failure.received.is_some() { None } else { alert_in(said, failure.reason) };
        // There is no error of its own for a client that can check the signatures of none of our certificates.
        if failure.reason == Reason::Internal && sent == Some(Alert::ACCESS_DENIED) {
            failure.reason = Reason::NoSharedSuite;
        }
        self.fail(Failure { sent, ..failure });
    }

    pub(super) fn transmit(&mut self, from: &[u8], out: &mut [u8]) -> Sealed {
        let mut sealed = Sealed { taken: 0, written: self.flush(out) };
        while self.can_send() && !self.conn.is_handshaking() && !self.conn.wants_write() {
            let room = (out.len() - sealed.written).saturating_sub(OVERHEAD_BYTES);
            let rest = &from[sealed.taken..];
            let bytes = rest.len().min(room).min(CONTENT_BYTES_MAX);
            if bytes == 0 {
                break;
            }
            match self.conn.writer().write(&rest[..bytes]) {
                Ok(taken) if taken > 0 => sealed.taken += taken,
                _ => break,
            }
            sealed.written += self.flush(&mut out[sealed.written..]);
        }
        sealed
    }

    /// As [`super::Session::seal_placed`]: rustls takes no content out of where it writes, so it is copied first.
    pub(super) fn seal_placed(&mut self, bytes: usize, out: &mut [u8]) -> usize {
        assert!(
            bytes <= CONTENT_BYTES_MAX && out.len() >= bytes + OVERHEAD_BYTES,
            "one record, and its room"
        );
        let content = out[HEADER_BYTES..HEADER_BYTES + bytes].to_vec();
        let sealed = self.transmit(&content, out);
        assert_eq!(sealed.taken, bytes, "rustls takes a record's content whole when nothing waits before it");
        sealed.written
    }

    fn flush(&mut self, out: &mut [u8]) -> usize {
        let room = out.len();
        let last_words = self.last_words.move_to(out);
        let mut out = &mut out[last_words..];
        while self.conn.wants_write() && !out.is_empty() {
            match self.conn.write_tls(&mut out) {
                Ok(bytes) if bytes > 0 => {}
                _ => break,
            }
        }
        room - out.len()
    }

    pub(super) fn owes(&self) -> bool {
        !self.last_words.is_empty() || self.conn.wants_write()
    }

    pub(super) fn can_send(&self) -> bool {
        self.failure.is_none() && !self.closing && !self.conn.is_handshaking()
    }

    pub(super) fn close(&mut self) {
        if self.conn.is_handshaking() {
            return self.fail(Reason::HandshakeUnfinished.into());
        }
        if !std::mem::replace(&mut self.closing, true) {
            self.conn.send_close_notify();
        }
    }

    pub(super) fn end_of_stream(&mut self) -> Result<(), Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.peer_closed {
            return Ok(());
        }
        let reason = if self.conn.is_handshaking() { Reason::HandshakeUnfinished } else { Reason::Truncated };
        self.fail(reason.into());
        Err(reason.into())
    }
}
