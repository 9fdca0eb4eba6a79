//! Several senders: each is polled, and those that have something are read in turns, one read in flight, into the
//! window's free room. A read that waited for one of them would keep the room from the others.

use std::io;

use io_uring::{cqueue, opcode, types};

use super::super::super::sockets::{Moved, completed};
use super::super::super::window::Window;
use super::super::queues::Queues;
use super::{Part, Tag};

/// Bits of a poll that announce the end.
const HUNG_UP: u32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32;

/// See the module.
pub(super) struct Turns {
    lane: usize,
    senders: Vec<Sender>,
    /// Bytes asked for by the read in flight.
    reading: Option<usize>,
    /// The sender whose turn it is.
    turn: usize,
}

#[derive(Clone, Copy)]
struct Sender {
    socket: types::Fixed,
    /// There may be something to read.
    ready: bool,
    /// The end has been announced: read until it comes.
    ending: bool,
    gone: bool,
}

impl Turns {
    pub(super) fn new(lane: usize, sockets: Vec<types::Fixed>) -> Turns {
        let sender = |socket| Sender { socket, ready: false, ending: false, gone: false };
        Turns { lane, senders: sockets.into_iter().map(sender).collect(), reading: None, turn: 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        self.senders.iter().all(|sender| sender.gone)
    }

    pub(super) fn begin(&self, queues: &mut Queues) -> io::Result<()> {
        (0..self.senders.len()).try_for_each(|index| self.poll(queues, index))
    }

    fn poll(&self, queues: &mut Queues, index: usize) -> io::Result<()> {
        let events = u32::try_from(libc::POLLIN | libc::POLLRDHUP).expect("bits");
        let tag = Tag { part: Part::Poll, lane: self.lane, index };
        let entry = opcode::PollAdd::new(self.senders[index].socket, events).multi(true).build();
        // SAFETY: the entry points to nothing.
        unsafe { queues.push(&entry.user_data(tag.raw())) }
    }

    /// Reads the next sender in turn that has something, if there is room for it.
    pub(super) fn receive(&mut self, queues: &mut Queues, window: &Window) -> io::Result<()> {
        let (into, room) = window.room();
        if self.reading.is_some() || room == 0 {
            return Ok(());
        }
        let senders = self.senders.len();
        let may = |index: &usize| self.senders[*index].ready && window.admits(*index);
        let Some(index) = (0..senders).map(|step| (self.turn + step) % senders).find(may) else {
            return Ok(());
        };
        let bytes = u32::try_from(room).expect("a window is small");
        let tag = Tag { part: Part::Receive, lane: self.lane, index };
        let entry = opcode::Recv::new(self.senders[index].socket, into, bytes).flags(libc::MSG_DONTWAIT);
        // SAFETY: the room is the window's, which outlives the ring, and stays untouched until the read
        // completes.
        unsafe { queues.push(&entry.build().user_data(tag.raw()))? };
        self.reading = Some(room);
        self.turn = (index + 1) % senders;
        Ok(())
    }

    /// Takes a poll's or a read's completion: so many bytes have come.
    pub(super) fn handle(
        &mut self,
        queues: &mut Queues,
        tag: Tag,
        completion: &cqueue::Entry,
        window: &mut Window,
    ) -> io::Result<usize> {
        if tag.part == Part::Receive {
            return Ok(self.received(tag.index, completed(completion.result())?, window));
        }
        let Ok(bits) = u32::try_from(completion.result()) else { return Ok(0) };
        let sender = &mut self.senders[tag.index];
        sender.ready = !sender.gone;
        sender.ending |= bits & HUNG_UP != 0;
        if !cqueue::more(completion.flags()) && !sender.gone {
            self.poll(queues, tag.index)?;
        }
        Ok(0)
    }

    fn received(&mut self, index: usize, moved: Moved, window: &mut Window) -> usize {
        let asked = self.reading.take().unwrap_or(0);
        let sender = &mut self.senders[index];
        match moved {
            Moved::Bytes(bytes) => {
                window.filled(index, bytes);
                sender.ready = bytes == asked || sender.ending;
                bytes
            }
            Moved::Nothing => {
                sender.ready = false;
                0
            }
            Moved::Gone => {
                *sender = Sender { ready: false, ending: false, gone: true, ..*sender };
                window.abandon(index);
                0
            }
        }
    }
}
