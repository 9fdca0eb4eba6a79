//! How a handshake is refused: what rustls would take and should not, what it refuses without a word, and where it
//! says something else than the RFC does.
//!
//! Before records are protected an alert of ours is as good as one of rustls's. Afterwards only rustls has the keys, and
//! sends no alert for a caller.

use rustls::{Error, PeerMisbehaved};

use super::hello::{CLIENT_HELLO, Offer};
use super::{Conn, Handshake, Turn};
use crate::tls::record::{
    ALERT, CHANGE_CIPHER_SPEC, CONTENT_BYTES_MAX, HANDSHAKE, HEADER_BYTES, Head, PROTECTED, TAG_BYTES,
    WAITED_BYTES_MAX, head,
};
use crate::tls::session::errors::{alert_in, failure_of};
use crate::tls::{Alert, Failure, Reason};

/// Bytes of handshake messages that are kept until they are whole: rustls gives up before.
const KEPT_BYTES_MAX: usize = 128 * 1024;
/// ChangeCipherSpecs that are put up with, by rustls as well.
const CHANGE_CIPHER_SPECS_MAX: u8 = 2;
/// One that says nothing TLS knows.
const NO_CHANGE_CIPHER_SPEC: [u8; 6] = [CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 0];

impl Handshake {
    /// Judges the first byte of all, before what might be the length of a record is looked at: who speaks something
    /// else is told so. A server's first word may be that it refuses.
    pub(in crate::tls::session) fn check_first(&self, input: &[u8]) -> Result<(), Reason> {
        match input.first() {
            Some(&ALERT) if self.fresh && matches!(self.conn, Some(Conn::Client(_))) => Ok(()),
            Some(&kind) if self.fresh && kind != HANDSHAKE => Err(Reason::NotTls),
            _ => Ok(()),
        }
    }

    /// Judges a header before its record is waited for; says how long the record is.
    pub(in crate::tls::session) fn check(&self, input: &[u8]) -> Result<usize, Reason> {
        let head = match head(input) {
            // Under its keys only rustls can say that a record is too long, and does when it has opened it.
            Err(Reason::RecordOverflow) if self.protected => match *input {
                [PROTECTED, _, _, high, low, ..] => {
                    let bytes = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
                    return if bytes <= WAITED_BYTES_MAX { Ok(bytes) } else { Err(Reason::RecordOverflow) };
                }
                _ => return Err(Reason::RecordOverflow),
            },
            head => head?,
        };
        match head {
            Head::None => Ok(HEADER_BYTES),
            Head::Of { kind, .. } if !(CHANGE_CIPHER_SPEC..=PROTECTED).contains(&kind) => {
                Err(Reason::UnexpectedRecord)
            }
            Head::Of { kind: HANDSHAKE, .. } if self.protected => Err(Reason::UnexpectedRecord),
            Head::Of { kind, bytes } if kind != PROTECTED && bytes > HEADER_BYTES + CONTENT_BYTES_MAX => {
                Err(Reason::RecordOverflow)
            }
            Head::Of { bytes, .. } => Ok(bytes),
        }
    }

    /// Gives up for a reason of ours.
    pub(in crate::tls::session) fn refuse(&mut self, reason: Reason, outgoing: &mut Vec<u8>) -> Failure {
        let mut failure = Failure::from(reason);
        match failure.sent {
            Some(alert) if !self.protected => {
                outgoing.extend_from_slice(&[ALERT, 3, 3, 0, 2, alert.level(), alert.0]);
            }
            Some(_) => failure.sent = self.provoke(outgoing),
            None => {}
        }
        failure
    }

    /// Makes rustls tell the peer something, by a record that it answers with `unexpected_message` (and in the middle of
    /// a message takes for a protected one, and answers with `bad_record_mac`): better than an end without a word. For
    /// rustls it is one more record of the peer's, so it has to be in a state to take one.
    fn provoke(&mut self, outgoing: &mut Vec<u8>) -> Option<Alert> {
        self.kept.extend_from_slice(&NO_CHANGE_CIPHER_SPEC);
        let said = outgoing.len();
        let error = self.run(outgoing, &mut Vec::new()).err()?;
        self.last_words(outgoing);
        alert_in(&outgoing[said..], failure_of(&error).reason)
    }

    /// What rustls would take and should not, or would refuse without a word.
    pub(super) fn admit(&mut self, record: &[u8]) -> Result<(), Reason> {
        if self.fresh && matches!(self.conn, Some(Conn::Server(..))) {
            if record.get(HEADER_BYTES).is_some_and(|&message| message != CLIENT_HELLO) {
                return Err(Reason::UnexpectedMessage);
            }
            self.offer = Offer::of(record);
            if self.offer == Some(Offer::Forbidden) {
                return Err(Reason::TlsVersion);
            }
        }
        self.fresh = false;
        if record.first() == Some(&CHANGE_CIPHER_SPEC) {
            self.change_cipher_specs += 1;
            if self.change_cipher_specs > CHANGE_CIPHER_SPECS_MAX {
                return Err(Reason::UnexpectedRecord);
            }
        }
        if self.kept.len() + record.len() > KEPT_BYTES_MAX {
            return Err(Reason::MalformedMessage);
        }
        Ok(())
    }

    /// Whether what is kept is a record of early data that rustls passed over: it belongs to a session that is not
    /// resumed, and opens under no key of this one. rustls has emptied it, leaves it where it is, and would count it again
    /// with each record that follows, until it takes the early data for too much and refuses the client. The beginning
    /// of a message is kept as well, but does not consist of zeros.
    pub(super) fn passed_over(&self, begun: bool) -> bool {
        let content = self.kept.len().checked_sub(TAG_BYTES).and_then(|end| self.kept.get(HEADER_BYTES..end));
        let empty = content.is_some_and(|content| content.iter().all(|&byte| byte == 0));
        !begun && empty && self.kept.first() == Some(&PROTECTED)
    }

    /// rustls has given up over a record, and has said what it has to say from `said` on. `begun`: the record was in
    /// the middle of a message.
    pub(super) fn failed(
        &mut self,
        error: &Error,
        begun: bool,
        outgoing: &mut Vec<u8>,
        said: usize,
    ) -> Failure {
        let mut failure = failure_of(error);
        if failure.received.is_some() {
            return failure;
        }
        let Some(alert) = alert_in(&outgoing[said..], failure.reason) else {
            // Some errors leave it to the caller. A record with nothing in it has left rustls as it was.
            let nothing = matches!(error, Error::PeerMisbehaved(PeerMisbehaved::IllegalTlsInnerPlaintext));
            if self.protected && (begun || !nothing) {
                return failure;
            }
            self.kept.clear();
            return Failure { detail: failure.detail, ..self.refuse(failure.reason, outgoing) };
        };
        failure.sent = Some(alert);
        if let Some(reason) = self.right_reason(failure.reason, alert).filter(|_| !self.protected)
            && let (Some(right), Some(number)) = (reason.alert(), outgoing.last_mut())
        {
            (failure.reason, failure.sent, *number) = (reason, Some(right), right.0);
        }
        failure
    }

    /// The reason whose alert a client gets with whom nothing is shared, where rustls says `handshake_failure`, or
    /// `access_denied` where no certificate has a signature that the client can check.
    fn right_reason(&self, reason: Reason, alert: Alert) -> Option<Reason> {
        let unsigned = alert == Alert::ACCESS_DENIED;
        if !unsigned && !matches!(reason, Reason::NoSharedSuite | Reason::MissingExtension) {
            return None;
        }
        match self.offer {
            Some(Offer::Forbidden | Offer::Older) => Some(Reason::TlsVersion),
            Some(Offer::Incomplete) => Some(Reason::MissingExtension),
            Some(Offer::Complete) | None if unsigned => Some(Reason::NoSharedSuite),
            Some(Offer::Complete) | None => None,
        }
    }

    /// What waits to be sent after an error. rustls is asked for that and nothing else: it would go on with what it
    /// has kept.
    pub(super) fn last_words(&mut self, outgoing: &mut Vec<u8>) {
        let Some(conn) = &mut self.conn else { return };
        while conn.wants_write() {
            let (discard, turn) = conn.step(&mut self.kept, outgoing, &mut Vec::new());
            self.kept.drain(..discard);
            if !matches!(turn, Ok(Turn::Again)) {
                return;
            }
        }
    }
}
