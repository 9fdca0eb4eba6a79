//! The handshake, by rustls: one record in, records out, until the keys can be taken over.

use std::sync::Arc;

use rustls::Error;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};

use super::errors::failure_of;
use super::peer::{Met, Peer, chain_of, meet};
use crate::tls::config::{CallersTime, ClientTls, ServerTls};
use crate::tls::record::{
    CONTENT_BYTES_MAX, Keys, NextKeys, OVERHEAD_BYTES, PROTECTED, RecordLayer, Side, whole,
};
use crate::tls::{Failure, Reason};

mod hello;
mod refusing;

/// What a record led to.
pub(super) enum Step {
    /// The handshake goes on. So many bytes of early data came.
    More { early: usize },
    /// It is over, and the next record is the layer's.
    Done { layer: Box<RecordLayer>, peer: Box<Peer> },
    /// It failed.
    Failed(Failure),
}

enum Conn {
    Server(UnbufferedServerConnection, ServerTls),
    Client(UnbufferedClientConnection),
}

impl Conn {
    fn wants_write(&self) -> bool {
        match self {
            Conn::Server(conn, _) => conn.wants_write(),
            Conn::Client(conn) => conn.wants_write(),
        }
    }

    /// One step of rustls's; says how many bytes of `kept` it is done with, and what it wants next.
    fn step(
        &mut self,
        kept: &mut [u8],
        outgoing: &mut Vec<u8>,
        early: &mut Vec<u8>,
    ) -> (usize, Result<Turn, Error>) {
        match self {
            Conn::Server(conn, _) => {
                let UnbufferedStatus { discard, state } = conn.process_tls_records(kept);
                let turn = match state {
                    Ok(ConnectionState::ReadEarlyData(mut data)) => loop {
                        match data.next_record() {
                            Some(Ok(record)) => early.extend_from_slice(record.payload),
                            Some(Err(error)) => break Err(error),
                            None => break Ok(Turn::Again),
                        }
                    },
                    state => go_on(state, outgoing),
                };
                (discard, turn)
            }
            Conn::Client(conn) => {
                let UnbufferedStatus { discard, state } = conn.process_tls_records(kept);
                (discard, go_on(state, outgoing))
            }
        }
    }
}

/// See the module.
pub(super) struct Handshake {
    /// `None` only inside a call.
    conn: Option<Conn>,
    time: Arc<CallersTime>,
    /// Records that rustls has not let go of: a message's beginning.
    kept: Vec<u8>,
    /// No record has come yet.
    fresh: bool,
    /// A protected record has gone out: an alert in plaintext would mean nothing.
    protected: bool,
    early_data: bool,
    change_cipher_specs: u8,
    /// What the client offers, if it said so in one record.
    offer: Option<hello::Offer>,
    /// Why the peer is not let in, though the handshake goes on.
    refused: Option<Reason>,
}

/// What rustls wants next.
enum Turn {
    Again,
    Blocked,
    Done,
}

impl Handshake {
    pub(super) fn server(config: &ServerTls) -> Result<Handshake, Failure> {
        let conn = UnbufferedServerConnection::new(config.rustls()).map_err(|e| failure_of(&e))?;
        let early_data = config.early_data();
        Ok(Handshake::of(Conn::Server(conn, config.clone()), config.time(), early_data))
    }

    pub(super) fn client(
        config: &ClientTls,
        server_name: &str,
        outgoing: &mut Vec<u8>,
    ) -> Result<Handshake, Failure> {
        let name = server_name_of(server_name)?;
        let conn = UnbufferedClientConnection::new(config.rustls(), name).map_err(|e| failure_of(&e))?;
        let mut handshake = Handshake::of(Conn::Client(conn), config.time(), false);
        match handshake.run(outgoing, &mut Vec::new()) {
            Ok(_blocked) => Ok(handshake),
            Err(error) => Err(failure_of(&error)),
        }
    }

    fn of(conn: Conn, time: Arc<CallersTime>, early_data: bool) -> Handshake {
        Handshake {
            conn: Some(conn),
            time,
            kept: Vec::new(),
            fresh: true,
            protected: false,
            early_data,
            change_cipher_specs: 0,
            offer: None,
            refused: None,
        }
    }

    /// The room for early data that a record of so many bytes may turn out to need; which shows only when it is
    /// open. Its content is no longer than any record's, whatever its padding.
    pub(super) fn early_room(&self, record_bytes: usize) -> usize {
        if self.early_data && !self.fresh {
            record_bytes.saturating_sub(OVERHEAD_BYTES).min(CONTENT_BYTES_MAX)
        } else {
            0
        }
    }

    /// Takes one whole record. `early` has room for the record's content where early data is allowed.
    pub(super) fn take(
        &mut self,
        record: &[u8],
        outgoing: &mut Vec<u8>,
        early: &mut [u8],
        now_s: u64,
    ) -> Step {
        self.time.set(now_s);
        if let Err(reason) = self.admit(record) {
            return Step::Failed(self.refuse(reason, outgoing));
        }
        let begun = !self.kept.is_empty();
        self.kept.extend_from_slice(record);
        let before = outgoing.len();
        let mut early_data = Vec::new();
        let result = self.run(outgoing, &mut early_data);
        self.protected |= whole(&outgoing[before..]).any(|(kind, _)| kind == PROTECTED);
        match result {
            Ok(Turn::Done) => self.finish(outgoing, now_s),
            Ok(_blocked) if self.passed_over(begun) => {
                self.kept.clear();
                Step::More { early: 0 }
            }
            Ok(_blocked) if early_data.is_empty() || !self.hears_early(now_s) => Step::More { early: 0 },
            Ok(_blocked) => match early.get_mut(..early_data.len()) {
                Some(room) => {
                    room.copy_from_slice(&early_data);
                    Step::More { early: early_data.len() }
                }
                None => Step::Failed(self.refuse(Reason::Internal, outgoing)),
            },
            Err(error) => {
                // rustls tells the peer in what it gives out after the error.
                let said = outgoing.len();
                self.last_words(outgoing);
                Step::Failed(self.failed(&error, begun, outgoing, said))
            }
        }
    }

    /// Lets rustls work until it wants more or is done.
    fn run(&mut self, outgoing: &mut Vec<u8>, early: &mut Vec<u8>) -> Result<Turn, Error> {
        let conn = self.conn.as_mut().ok_or(Error::HandshakeNotComplete)?;
        loop {
            let (discard, turn) = conn.step(&mut self.kept, outgoing, early);
            self.kept.drain(..discard);
            match turn? {
                Turn::Again => {}
                turn => return Ok(turn),
            }
        }
    }

    /// Whether early data is heard. It comes from who held the ticket, whose certificate is judged before anything
    /// is made of the data. One who is refused is told so when there are keys to say it with, and until then
    /// nothing of it is heard.
    fn hears_early(&mut self, now_s: u64) -> bool {
        if self.refused.is_none() {
            let judged = match &self.conn {
                Some(Conn::Server(conn, config)) => config.check_again(&chain_of(conn), now_s),
                _ => Err(Reason::Internal),
            };
            self.refused = judged.err();
        }
        self.refused.is_none()
    }

    /// Looks at who the peer is, and takes the keys over.
    fn finish(&mut self, outgoing: &mut Vec<u8>, now_s: u64) -> Step {
        let finished = match self.conn.take() {
            // rustls ends a handshake at a record's end, or with an error.
            Some(_) if !self.kept.is_empty() => Err(self.refuse(Reason::UnexpectedMessage, outgoing)),
            Some(Conn::Server(conn, config)) => {
                let met = meet(&conn, Some(&config), now_s);
                conn.dangerous_into_kernel_connection()
                    .map(|(secrets, kernel)| (met, Side::Server, secrets, NextKeys::Server(kernel)))
                    .map_err(|error| failure_of(&error))
            }
            Some(Conn::Client(conn)) => {
                let met = meet(&conn, None, now_s);
                conn.dangerous_into_kernel_connection()
                    .map(|(secrets, kernel)| (met, Side::Client, secrets, NextKeys::Client(kernel)))
                    .map_err(|error| failure_of(&error))
            }
            None => Err(failure_of(&Error::HandshakeNotComplete)),
        };
        let taken_over = finished.and_then(|(met, side, secrets, next)| {
            let met = met.map(|met| Met { admitted: self.refused.map_or(met.admitted, Err), ..met });
            take_over(met, side, secrets, next).map_err(|reason| self.refuse(reason, outgoing))
        });
        match taken_over {
            Ok((layer, peer)) => Step::Done { layer: Box::new(layer), peer: Box::new(peer) },
            Err(failure) => Step::Failed(failure),
        }
    }
}

/// The record layer that goes on with a handshake's keys. It refuses a peer that is not let in: with the keys there
/// is a way to say why.
fn take_over(
    met: Result<Met, Reason>,
    side: Side,
    secrets: rustls::ExtractedSecrets,
    next: NextKeys,
) -> Result<(RecordLayer, Peer), Reason> {
    let Met { peer, admitted } = met?;
    let (receiving, sending) = (Keys::from_handshake(secrets.rx)?, Keys::from_handshake(secrets.tx)?);
    let mut layer = RecordLayer::new(side, receiving, sending, next);
    if let Err(reason) = admitted {
        layer.refuse(reason);
    }
    Ok((layer, peer))
}

fn go_on<Data>(
    state: Result<ConnectionState<'_, '_, Data>, Error>,
    outgoing: &mut Vec<u8>,
) -> Result<Turn, Error> {
    match state? {
        ConnectionState::EncodeTlsData(mut data) => {
            let at = outgoing.len();
            let wanted = match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(size)) => size.required_size,
                Ok(_) | Err(EncodeError::AlreadyEncoded) => return Ok(Turn::Again),
            };
            outgoing.resize(at + wanted, 0);
            data.encode(&mut outgoing[at..]).map_err(|error| Error::General(error.to_string()))?;
            Ok(Turn::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Turn::Again)
        }
        ConnectionState::WriteTraffic(_) => Ok(Turn::Done),
        ConnectionState::BlockedHandshake => Ok(Turn::Blocked),
        // Data or an end before the handshake's: rustls does not let either come this far.
        _ => Err(Error::HandshakeNotComplete),
    }
}

pub(super) fn server_name_of(name: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(name.to_owned()).map_err(|_invalid| Failure {
        detail: format!("{name:?} is neither a DNS name nor an IP address"),
        sent: None,
        ..Reason::WrongName.into()
    })
}
