//! Answers each request; all of the answers owed to a connection go out in one send, one send at a time.

use std::io;

use io_uring::{cqueue, opcode, types};

use super::super::sockets::{Moved, completed, descriptors};
use super::super::{Flow, REPLY_BYTES, Totals};
use super::buffers::HotSet;
use super::queues::{Queues, ring};
use super::sink::{arm, receive};

/// Answers sent at once.
static REPLIES: [u8; 256 * REPLY_BYTES] = [0; 256 * REPLY_BYTES];
/// In the user data of a send; the rest is the connection's index.
const SEND: u64 = 1 << 32;

#[derive(Clone, Copy, Default)]
struct Connection {
    /// Bytes of a request.
    request: u64,
    /// Bytes of a request that is not whole.
    part: u64,
    /// Bytes of answers not yet sent.
    owed: u64,
    sending: bool,
    gone: bool,
}

pub(in super::super) fn answer(flows: &[Flow]) -> io::Result<Totals> {
    let fds = descriptors(flows.iter().flat_map(|flow| &flow.senders));
    let mut connections = Vec::with_capacity(fds.len());
    for flow in flows {
        let fresh = Connection { request: flow.unit_bytes, ..Connection::default() };
        connections.extend(flow.senders.iter().map(|_| fresh));
    }
    let mut buffers = HotSet::new()?;
    let mut ring = ring(&fds)?;
    buffers.register(&ring)?;
    let mut queues = Queues::of(&mut ring)?;
    for index in 0..fds.len() {
        arm(&mut queues, index)?;
    }
    let mut totals = Totals::default();
    let mut open = fds.len();
    while open > 0 {
        queues.enter(1)?;
        while let Some(completion) = queues.next() {
            let index = usize::try_from(completion.user_data() & !SEND).expect("an index of ours");
            let connection = &mut connections[index];
            if completion.user_data() & SEND != 0 {
                connection.sent(completed(completion.result())?, &mut totals);
            } else {
                let moved = receive(&mut buffers, &completion)?;
                connection.received(moved, &mut totals);
                if !cqueue::more(completion.flags()) && !connection.gone {
                    arm(&mut queues, index)?;
                }
            }
            connection.reply(&mut queues, index)?;
            open -= usize::from(connection.is_over());
        }
        buffers.publish();
    }
    Ok(totals)
}

impl Connection {
    fn received(&mut self, moved: Moved, totals: &mut Totals) {
        match moved {
            Moved::Bytes(bytes) => {
                totals.received += bytes as u64;
                self.part += bytes as u64;
                self.owed += self.part / self.request * REPLY_BYTES as u64;
                self.part %= self.request;
            }
            Moved::Nothing => {}
            Moved::Gone => self.gone = true,
        }
    }

    fn sent(&mut self, moved: Moved, totals: &mut Totals) {
        self.sending = false;
        match moved {
            Moved::Bytes(bytes) => {
                self.owed -= bytes as u64;
                totals.sent += bytes as u64;
            }
            Moved::Nothing => {}
            Moved::Gone => self.owed = 0, // the receive tells the end
        }
    }

    fn reply(&mut self, queues: &mut Queues, index: usize) -> io::Result<()> {
        if self.sending || self.owed == 0 {
            return Ok(());
        }
        self.sending = true;
        let bytes = u32::try_from(self.owed.min(REPLIES.len() as u64)).expect("16 KiB");
        let socket = types::Fixed(u32::try_from(index).map_err(io::Error::other)?);
        let entry = opcode::Send::new(socket, REPLIES.as_ptr(), bytes).flags(libc::MSG_NOSIGNAL).build();
        // SAFETY: the bytes are static.
        unsafe { queues.push(&entry.user_data(SEND | index as u64)) }
    }

    /// The last completion of this connection has come, with the one just handled.
    fn is_over(&self) -> bool {
        self.gone && !self.sending
    }
}
