//! Handshake messages after the handshake: put together over records, and one at a time.

use super::MESSAGE_BYTES_MAX;
use crate::tls::Reason;

const HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;
const HELLO_REQUEST: u8 = 0;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// A KeyUpdate that asks for none in return.
pub(super) const KEY_UPDATE_NOT_REQUESTED: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// One whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    KeyUpdate {
        requested: bool,
    },
    /// The body of a ticket.
    Ticket(&'a [u8]),
}

/// What has come of a message that is not whole, and how much of it a record went on with.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    begun: Vec<u8>,
}

impl Assembler {
    /// Inside a message: only its rest may come next.
    pub(super) fn is_inside(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Goes through the content of a record. `each` is called for every whole message, and told whether bytes
    /// follow it in the record.
    ///
    /// # Errors
    /// When a message has no place here or does not parse, and when `each` refuses it.
    pub(super) fn take(
        &mut self,
        mut content: &[u8],
        tickets: bool,
        mut each: impl FnMut(Message<'_>, bool) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        while !content.is_empty() {
            if self.begun.is_empty()
                && let Some(bytes) = message_bytes(content, tickets)?
                && bytes <= content.len()
            {
                let (whole, rest) = content.split_at(bytes);
                each(parse(whole)?, !rest.is_empty())?;
                content = rest;
                continue;
            }
            content = self.go_on(content, tickets)?;
            if message_bytes(&self.begun, tickets)? == Some(self.begun.len()) {
                let whole = std::mem::take(&mut self.begun);
                each(parse(&whole)?, !content.is_empty())?;
            }
        }
        Ok(())
    }

    /// Adds to the begun message, up to its header or its end; says what is left.
    fn go_on<'a>(&mut self, content: &'a [u8], tickets: bool) -> Result<&'a [u8], Reason> {
        let wanted = message_bytes(&self.begun, tickets)?.unwrap_or(HEADER);
        let (now, rest) = content.split_at(content.len().min(wanted - self.begun.len()));
        self.begun.extend_from_slice(now);
        // A header that is whole now is judged before more is kept.
        message_bytes(&self.begun, tickets)?;
        Ok(rest)
    }
}

/// The length of the message that begins here, once its header is there.
///
/// # Errors
/// When the message has no place after the handshake, which its first byte tells, or cannot be that long.
fn message_bytes(begin: &[u8], tickets: bool) -> Result<Option<usize>, Reason> {
    match begin.first() {
        None | Some(&KEY_UPDATE) => {}
        Some(&NEW_SESSION_TICKET) if tickets => {}
        Some(&(CLIENT_HELLO | HELLO_REQUEST)) => return Err(Reason::Renegotiation),
        Some(_) => return Err(Reason::UnexpectedMessage),
    }
    let Some(&[kind, high, middle, low]) = begin.first_chunk::<HEADER>() else { return Ok(None) };
    let bytes = HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
    let fits = if kind == KEY_UPDATE { bytes == HEADER + 1 } else { bytes <= MESSAGE_BYTES_MAX };
    if fits { Ok(Some(bytes)) } else { Err(Reason::MalformedMessage) }
}

fn parse(whole: &[u8]) -> Result<Message<'_>, Reason> {
    match (whole[0], &whole[HEADER..]) {
        (KEY_UPDATE, [0]) => Ok(Message::KeyUpdate { requested: false }),
        (KEY_UPDATE, [1]) => Ok(Message::KeyUpdate { requested: true }),
        (KEY_UPDATE, _) => Err(Reason::IllegalParameter),
        (_, body) => Ok(Message::Ticket(body)),
    }
}
