//! The same connection all through rustls and its buffers: the reference for tests and measurements.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::{ClientConnection, Connection, ServerConnection};

use super::Peer;
use super::errors::failure_of;
use super::handshake::{alpn, chain_of, key_exchange, resumed, server_name_of, suite_of};
use crate::tls::config::{CallersTime, ClientTls, SanNames, ServerTls};
use crate::tls::record::{
    CONTENT_BYTES_MAX, HEADER_BYTES, Head, OVERHEAD_BYTES, Received, Sealed, TAG_BYTES, Then, head,
};
use crate::tls::{Failure, Reason};

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
}

impl Buffered {
    pub(super) fn server(config: &ServerTls) -> Result<Buffered, Failure> {
        let conn = ServerConnection::new(config.rustls()).map_err(|e| failure_of(&e, None))?;
        Ok(Buffered::of(conn.into(), config.time(), Some(config.clone())))
    }

    pub(super) fn client(config: &ClientTls, server_name: &str) -> Result<Buffered, Failure> {
        let name = server_name_of(server_name)?;
        let conn = ClientConnection::new(config.rustls(), name).map_err(|e| failure_of(&e, None))?;
        Ok(Buffered::of(conn.into(), config.time(), None))
    }

    fn of(conn: Connection, time: Arc<CallersTime>, config: Option<ServerTls>) -> Buffered {
        Buffered { conn, time, config, peer: None, closing: false, peer_closed: false, failure: None }
    }

    pub(super) fn peer(&self) -> Option<Peer> {
        self.peer.clone()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.failure.is_none() && self.conn.is_handshaking()
    }

    pub(super) fn receive(&mut self, input: &[u8], out: &mut [u8], now_s: u64) -> Received {
        self.time.set(now_s);
        let (mut consumed, mut produced) = (0, 0);
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
            let room = bytes.saturating_sub(OVERHEAD_BYTES - TAG_BYTES);
            if room > out.len() - produced {
                break Then::Room(room);
            }
            produced += self.take(&input[consumed..consumed + bytes], &mut out[produced..], now_s);
            consumed += bytes;
        };
        if matches!(then, Then::Closed | Then::Failed(_)) {
            consumed = input.len();
        }
        Received { consumed, produced, early: 0, then }
    }

    /// One record in; says how many bytes of data came of it.
    fn take(&mut self, mut record: &[u8], out: &mut [u8], now_s: u64) -> usize {
        while !record.is_empty() && self.failure.is_none() {
            if let Err(error) = self.conn.read_tls(&mut record) {
                self.fail(Failure { detail: error.to_string(), ..Reason::Internal.into() });
                return 0;
            }
            if let Err(error) = self.conn.process_new_packets() {
                let failure = failure_of(&error, None);
                let sent = if failure.received.is_some() { None } else { failure.reason.alert() };
                self.fail(Failure { sent, ..failure });
            }
        }
        if self.peer.is_none() && self.failure.is_none() && !self.conn.is_handshaking() {
            self.meet(now_s);
        }
        self.read(out)
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
        let Some(suite) = suite_of(&self.conn) else { return self.fail(Reason::Internal.into()) };
        let (chain, resumed, alpn) = (chain_of(&self.conn), resumed(&self.conn), alpn(&self.conn));
        let checked = match &self.config {
            Some(config) if resumed => config.check_again(&chain, now_s),
            Some(_) => Ok(()),
            None if alpn => Ok(()),
            None => Err(Reason::WrongAlpn),
        };
        self.peer = Some(Peer {
            suite,
            key_exchange: key_exchange(&self.conn),
            resumed,
            alpn,
            tenant: self.config.as_ref().and_then(|config| config.tenant_of(&chain)),
            names: SanNames::of(&chain),
        });
        if let Err(reason) = checked {
            // rustls sends no alert for a caller: the peer gets a close_notify.
            self.conn.send_close_notify();
            self.fail(Failure { sent: None, ..reason.into() });
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
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

    fn flush(&mut self, mut out: &mut [u8]) -> usize {
        let room = out.len();
        while self.conn.wants_write() && !out.is_empty() {
            match self.conn.write_tls(&mut out) {
                Ok(bytes) if bytes > 0 => {}
                _ => break,
            }
        }
        room - out.len()
    }

    pub(super) fn owes(&self) -> bool {
        self.conn.wants_write()
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
