//! Both directions of one connection: data, alerts, KeyUpdates and tickets in, records out.

use super::keys::{Keys, NextKeys, Suite};
use super::messages::{Assembler, KEY_UPDATE_NOT_REQUESTED, Message};
use super::open::{open, room_bytes};
use super::seal::{seal, seal_placed};
use super::{
    ALERT_RECORD_BYTES, CONTENT_BYTES_MAX, Content, DATA_BYTES_BETWEEN_KEY_UPDATES, EMPTY_RECORDS_MAX,
    HEADER_BYTES, Head, KEY_UPDATE_RECORD_BYTES, KEY_UPDATES_MAX, OVERHEAD_BYTES, REKEY_AFTER_RECORDS,
    Received, Sealed, Then, WARNINGS_MAX, head,
};
use crate::mutation::{self, Mutation};
use crate::tls::{Alert, Failure, Reason};

/// Which side of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It was called.
    Server,
    /// It called; tickets come to it.
    Client,
}

#[derive(Debug)]
enum Reading {
    Open,
    /// close_notify has come.
    Closed,
    Failed(Failure),
}

/// What has to go out before any more data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    KeyUpdate,
    /// The last thing to go out. A KeyUpdate that was owed is not needed any more.
    Alert(Alert),
    /// The alert went out.
    Over,
}

/// See the module.
pub struct RecordLayer {
    side: Side,
    receiving: Keys,
    sending: Keys,
    next: NextKeys,
    rekey_after: u64,
    messages: Assembler,
    reading: Reading,
    owed: Owed,
    empty_records: u8,
    key_updates: u8,
    /// Data since they were last counted from 0.
    data_bytes: usize,
    warnings: u8,
}

impl RecordLayer {
    pub(in crate::tls) fn new(side: Side, receiving: Keys, sending: Keys, next: NextKeys) -> RecordLayer {
        RecordLayer {
            side,
            receiving,
            sending,
            next,
            rekey_after: REKEY_AFTER_RECORDS,
            messages: Assembler::default(),
            reading: Reading::Open,
            owed: Owed::Nothing,
            empty_records: 0,
            key_updates: 0,
            data_bytes: 0,
            warnings: 0,
        }
    }

    /// Replaces the sending key after so many records instead of `REKEY_AFTER_RECORDS`.
    #[cfg(test)]
    pub(in crate::tls) fn rekey_after(&mut self, records: u64) {
        self.rekey_after = records;
    }

    /// Replaces the sending key before the next data.
    #[cfg(any(test, uringest_sim))]
    pub(in crate::tls) fn replace_key(&mut self) {
        if self.owed == Owed::Nothing {
            self.owed = Owed::KeyUpdate;
        }
    }

    /// The cipher suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.sending.suite()
    }

    /// Opens whole records from the start of `input`, their content packed at the start of `out`, until there is
    /// no whole one, no room, or an end.
    pub fn receive(&mut self, input: &[u8], out: &mut [u8]) -> Received {
        let (mut consumed, mut produced) = (0, 0);
        let then = loop {
            match &self.reading {
                Reading::Open => {}
                Reading::Closed => break Then::Closed,
                Reading::Failed(failure) => break Then::Failed(failure.clone()),
            }
            match self.next_record(&input[consumed..], &mut out[produced..]) {
                Ok(Next::Done { record, content }) => {
                    consumed += record;
                    produced += content;
                }
                Ok(Next::Stop(then)) => break then,
                Err(reason) => self.fail(reason.into()),
            }
        };
        if matches!(then, Then::Closed | Then::Failed(_)) {
            consumed = input.len();
        }
        Received { consumed, produced, early: 0, then }
    }

    fn next_record(&mut self, input: &[u8], out: &mut [u8]) -> Result<Next, Reason> {
        let (kind, bytes) = match head(input)? {
            Head::None => return Ok(Next::Stop(Then::Wants(HEADER_BYTES))),
            Head::Of { kind, bytes } => (kind, bytes),
        };
        // What the header tells is not waited for.
        if kind != Content::Data as u8 {
            return Err(Reason::UnexpectedRecord);
        }
        let room = room_bytes(bytes)?;
        if input.len() < bytes {
            return Ok(Next::Stop(Then::Wants(bytes)));
        }
        if room > out.len() {
            return Ok(Next::Stop(Then::Room(room)));
        }
        let (content, length) = open(&mut self.receiving, &input[..bytes], out)?;
        if self.messages.is_inside() && content != Content::Handshake {
            return Err(Reason::InterleavedHandshake);
        }
        match (content, length) {
            (Content::Data, 0) => {
                self.empty_records += 1;
                if self.empty_records > EMPTY_RECORDS_MAX {
                    return Err(Reason::TooManyEmptyRecords);
                }
            }
            (Content::Data, _) => {
                self.empty_records = 0;
                self.data_bytes += length;
                if self.data_bytes >= DATA_BYTES_BETWEEN_KEY_UPDATES {
                    (self.key_updates, self.data_bytes) = (0, 0);
                }
            }
            (Content::Handshake | Content::Alert, 0) => return Err(Reason::EmptyRecord),
            (Content::Handshake, _) => self.handshake(&out[..length])?,
            (Content::Alert, _) => self.alert(&out[..length])?,
        }
        Ok(Next::Done { record: bytes, content: if content == Content::Data { length } else { 0 } })
    }

    fn handshake(&mut self, content: &[u8]) -> Result<(), Reason> {
        let RecordLayer { messages, next, receiving, key_updates, owed, side, .. } = self;
        messages.take(content, *side == Side::Client, |message, more| match message {
            Message::Ticket(body) => next.ticket(body),
            Message::KeyUpdate { .. } if more => Err(Reason::UnalignedKeyUpdate),
            Message::KeyUpdate { requested } => {
                *key_updates += 1;
                if *key_updates > KEY_UPDATES_MAX {
                    return Err(Reason::TooManyKeyUpdates);
                }
                let renewed = next.for_receiving()?;
                if !mutation::on(Mutation::KeepKey) {
                    *receiving = renewed;
                }
                // One answer is enough for any number of requests that came before it.
                if requested && *owed == Owed::Nothing {
                    *owed = Owed::KeyUpdate;
                }
                Ok(())
            }
        })
    }

    fn alert(&mut self, content: &[u8]) -> Result<(), Reason> {
        // One alert, whole, in a record of its own; the level says nothing in TLS 1.3.
        let &[_level, number] = content else { return Err(Reason::MalformedMessage) };
        match Alert(number) {
            Alert::CLOSE_NOTIFY => self.reading = Reading::Closed,
            Alert::USER_CANCELED => {
                self.warnings += 1;
                if self.warnings > WARNINGS_MAX {
                    return Err(Reason::TooManyWarnings);
                }
            }
            alert => self.fail(Failure::by_peer(alert)),
        }
        Ok(())
    }

    /// Ends both directions; the first failure stays.
    fn fail(&mut self, failure: Failure) {
        if matches!(self.reading, Reading::Failed(_)) {
            return;
        }
        if self.owed != Owed::Over {
            self.owed = failure.sent.map_or(Owed::Over, Owed::Alert);
        }
        self.reading = Reading::Failed(failure);
    }

    /// The connection's bytes have come to their end.
    ///
    /// # Errors
    /// When the peer has not said so before: something may be missing.
    pub fn end_of_stream(&mut self) -> Result<(), Failure> {
        match &self.reading {
            Reading::Closed => Ok(()),
            Reading::Failed(failure) => Err(failure.clone()),
            Reading::Open => {
                self.fail(Reason::Truncated.into());
                Err(Reason::Truncated.into())
            }
        }
    }

    /// Ends both directions for a reason of the caller's; the peer is told.
    pub(in crate::tls) fn refuse(&mut self, reason: Reason) {
        self.fail(reason.into());
    }

    /// Nothing more is to be sent: close_notify is owed.
    pub fn close(&mut self) {
        if matches!(self.owed, Owed::Nothing | Owed::KeyUpdate) {
            self.owed = Owed::Alert(Alert::CLOSE_NOTIFY);
        }
    }

    /// Whether something has to go out, data or not.
    #[must_use]
    pub fn owes(&self) -> bool {
        matches!(self.owed, Owed::KeyUpdate | Owed::Alert(_))
    }

    /// Whether data can still be sent.
    #[must_use]
    pub fn can_send(&self) -> bool {
        matches!(self.owed, Owed::Nothing | Owed::KeyUpdate)
    }

    /// Writes what is owed, then as much of `from` as there is room for, to the start of `out`.
    pub fn transmit(&mut self, from: &[u8], out: &mut [u8]) -> Sealed {
        let mut sealed = Sealed::default();
        loop {
            let (written, clear) = self.pay(&mut out[sealed.written..]);
            sealed.written += written;
            let rest = &from[sealed.taken..];
            let room = (out.len() - sealed.written).saturating_sub(OVERHEAD_BYTES);
            let bytes = rest.len().min(room).min(CONTENT_BYTES_MAX);
            if !clear || bytes == 0 {
                return sealed;
            }
            match seal(&mut self.sending, Content::Data, &rest[..bytes], &mut out[sealed.written..]) {
                Ok(written) => {
                    sealed.written += written;
                    sealed.taken += bytes;
                }
                Err(reason) => self.fail(reason.into()),
            }
        }
    }

    /// Seals one record whose content (`bytes` of it) lies in `out` behind the room for a header; says how long
    /// the record is.
    ///
    /// # Panics
    /// When something is owed (call [`RecordLayer::transmit`] with nothing first), when nothing may be sent any
    /// more, or when `out` has no room.
    pub fn seal_placed(&mut self, bytes: usize, out: &mut [u8]) -> usize {
        assert!(self.owed == Owed::Nothing, "what is owed goes first");
        match seal_placed(&mut self.sending, Content::Data, bytes, out) {
            Ok(written) => written,
            Err(reason) => {
                self.fail(reason.into());
                0
            }
        }
    }

    /// Writes what is owed, and a KeyUpdate when the key has served its time. Says how much, and whether data may
    /// follow.
    fn pay(&mut self, out: &mut [u8]) -> (usize, bool) {
        if self.owed == Owed::Nothing && self.sending.sequence() >= self.rekey_after {
            self.owed = Owed::KeyUpdate;
        }
        let paid = match self.owed {
            Owed::Nothing => return (0, true),
            Owed::Over => return (0, false),
            Owed::KeyUpdate if out.len() < KEY_UPDATE_RECORD_BYTES => return (0, false),
            Owed::Alert(_) if out.len() < ALERT_RECORD_BYTES => return (0, false),
            Owed::KeyUpdate => self.update_key(out),
            Owed::Alert(alert) => {
                self.owed = Owed::Over;
                seal(&mut self.sending, Content::Alert, &[alert.level(), alert.0], out)
            }
        };
        match paid {
            Ok(written) => (written, self.owed == Owed::Nothing),
            Err(reason) => {
                self.fail(reason.into());
                (0, false)
            }
        }
    }

    /// The message is the last under the old key.
    fn update_key(&mut self, out: &mut [u8]) -> Result<usize, Reason> {
        let written = seal(&mut self.sending, Content::Handshake, &KEY_UPDATE_NOT_REQUESTED, out)?;
        self.sending = self.next.for_sending()?;
        self.owed = Owed::Nothing;
        Ok(written)
    }

    /// Where a record's content has to lie for [`RecordLayer::seal_placed`].
    pub const PLACED_AT: usize = HEADER_BYTES;
}

enum Next {
    Done { record: usize, content: usize },
    Stop(Then),
}

#[cfg(test)]
impl RecordLayer {
    pub(super) fn sequences(&self) -> (u64, u64) {
        (self.receiving.sequence(), self.sending.sequence())
    }

    pub(super) fn sending(&mut self) -> &mut Keys {
        &mut self.sending
    }

    pub(super) fn tickets(&self) -> &[Vec<u8>] {
        match &self.next {
            NextKeys::Secrets(secrets) => &secrets.tickets,
            NextKeys::Server(_) | NextKeys::Client(_) => panic!("a layer of these tests"),
        }
    }
}
