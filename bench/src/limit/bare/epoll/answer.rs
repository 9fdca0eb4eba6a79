//! Answers each request; all of a read's answers go out in one send.

use std::io;
use std::os::fd::RawFd;

use super::super::sockets::{Moved, descriptors, receive, send};
use super::super::{Flow, READ_BYTES, REPLY_BYTES, Totals};
use super::{Edge, Poller, READABLE, READS_PER_TURN, WRITABLE};

/// Answers sent at once.
static REPLIES: [u8; 256 * REPLY_BYTES] = [0; 256 * REPLY_BYTES];

#[derive(Clone, Copy)]
struct Connection {
    fd: RawFd,
    edge: Edge,
    /// Bytes of a request.
    request: u64,
    /// Bytes of a request that is not whole.
    part: u64,
    /// Bytes of answers not yet sent: a number, so it needs no bound.
    owed: u64,
}

pub(in super::super) fn answer(flows: &[Flow]) -> io::Result<Totals> {
    let mut connections = Vec::new();
    for flow in flows {
        let of_flow = descriptors(&flow.senders).into_iter();
        connections.extend(of_flow.map(|fd| Connection::new(fd, flow.unit_bytes)));
    }
    let mut poller = Poller::new()?;
    for (index, connection) in connections.iter().enumerate() {
        poller.add(connection.fd, READABLE | WRITABLE, index)?;
    }
    let mut memory = vec![0; READ_BYTES];
    let mut totals = Totals::default();
    let mut unused = Vec::with_capacity(connections.len());
    let mut open = connections.len();
    while open > 0 {
        for (index, bits) in poller.wait()? {
            let connection = &mut connections[index];
            if connection.edge.gone {
                continue;
            }
            connection.edge.came(bits);
            connection.turn(&mut memory, &mut totals)?;
            if connection.edge.gone {
                open -= 1;
            } else if connection.edge.ready {
                unused.push(index);
            }
        }
        for index in unused.drain(..) {
            poller.again(connections[index].fd, READABLE | WRITABLE, index)?;
        }
    }
    Ok(totals)
}

impl Connection {
    fn new(fd: RawFd, request: u64) -> Connection {
        Connection { fd, edge: Edge::default(), request, part: 0, owed: 0 }
    }

    fn turn(&mut self, memory: &mut [u8], totals: &mut Totals) -> io::Result<()> {
        self.reply(totals)?; // what a full socket has kept back
        for _ in 0..READS_PER_TURN {
            if !self.edge.ready {
                return Ok(());
            }
            match receive(self.fd, memory.as_mut_ptr(), memory.len())? {
                Moved::Bytes(bytes) => {
                    totals.received += bytes as u64;
                    self.part += bytes as u64;
                    self.owed += self.part / self.request * REPLY_BYTES as u64;
                    self.part %= self.request;
                    if bytes < memory.len() {
                        self.edge.short();
                    }
                }
                Moved::Nothing => self.edge.ready = false,
                Moved::Gone => self.edge = Edge::GONE,
            }
            self.reply(totals)?;
        }
        Ok(())
    }

    fn reply(&mut self, totals: &mut Totals) -> io::Result<()> {
        while self.owed > 0 {
            let most = usize::try_from(self.owed).unwrap_or(usize::MAX).min(REPLIES.len());
            match send(self.fd, &REPLIES[..most])? {
                Moved::Bytes(bytes) => {
                    self.owed -= bytes as u64;
                    totals.sent += bytes as u64;
                }
                Moved::Nothing => return Ok(()),
                Moved::Gone => {
                    self.owed = 0;
                    self.edge.ready = true; // the next read tells the end
                }
            }
        }
        Ok(())
    }
}
