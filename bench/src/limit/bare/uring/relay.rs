//! Sends what it receives to every consumer of its flow: one send to each in flight, of all that it lacks, while more
//! is received.
//!
//! A lone sender's bytes come by one multishot receive, into the window's pieces as provided buffers (`stream`);
//! several senders, and kernels before 6.12, are read in turns (`turns`).

mod stream;
mod turns;

use std::io;

use io_uring::{IoUring, cqueue, opcode, types};

use super::super::sockets::{Moved, completed, descriptors};
use super::super::window::Window;
use super::super::{Flow, Totals};
use super::queues::{Queues, ring};
use stream::Stream;
use turns::Turns;

/// What a completion is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Receive,
    Poll,
    Send,
}

/// A completion's user data: the part, the flow, and the sender or consumer.
#[derive(Clone, Copy)]
struct Tag {
    part: Part,
    lane: usize,
    index: usize,
}

/// How bytes come in.
enum Intake {
    Stream(Stream),
    Turns(Turns),
}

/// One flow. The window is dropped after the ring.
struct Lane {
    window: Window,
    intake: Intake,
    consumers: Vec<Consumer>,
    totals: Totals,
}

/// One to send to.
struct Consumer {
    socket: types::Fixed,
    tag: u64,
    /// A send is in flight.
    sending: bool,
}

pub(in super::super) fn relay(flows: &[Flow]) -> io::Result<Totals> {
    let (mut fds, mut lanes) = (Vec::new(), Vec::with_capacity(flows.len())); // lanes are dropped after the ring
    for (number, flow) in flows.iter().enumerate() {
        lanes.push(Lane::new(number, fds.len(), flow)?);
        fds.extend(descriptors(flow.senders.iter().chain(&flow.consumers)));
    }
    let mut ring = ring(&fds)?;
    for lane in &mut lanes {
        lane.register(&ring)?;
    }
    let mut queues = Queues::of(&mut ring)?;
    lanes.iter_mut().try_for_each(|lane| lane.begin(&mut queues))?;
    while !lanes.iter().all(Lane::is_over) {
        lanes.iter_mut().try_for_each(|lane| lane.receive(&mut queues))?;
        queues.enter(1)?;
        while let Some(completion) = queues.next() {
            let tag = Tag::of(completion.user_data());
            lanes[tag.lane].handle(&mut queues, tag, &completion)?;
        }
        lanes.iter_mut().try_for_each(|lane| lane.send(&mut queues))?;
    }
    Ok(lanes.iter().map(|lane| lane.totals).sum())
}

impl Tag {
    fn raw(self) -> u64 {
        (self.part as u64) << 56 | (self.lane as u64) << 32 | self.index as u64
    }

    fn of(raw: u64) -> Tag {
        let part = match raw >> 56 {
            0 => Part::Receive,
            1 => Part::Poll,
            _ => Part::Send,
        };
        let field = |bits: u64| usize::try_from(bits).expect("a number of ours");
        Tag { part, lane: field(raw >> 32 & 0xff_ffff), index: field(raw & 0xffff_ffff) }
    }
}

impl Lane {
    /// `first` is the index of its first sender in the ring's table; the consumers follow the senders.
    fn new(number: usize, first: usize, flow: &Flow) -> io::Result<Lane> {
        let senders = (0..flow.senders.len()).map(|at| socket(first + at)).collect::<io::Result<Vec<_>>>()?;
        let behind = first + senders.len();
        let consumers = (0..flow.consumers.len()).map(|index| {
            let tag = Tag { part: Part::Send, lane: number, index }.raw();
            Ok(Consumer { socket: socket(behind + index)?, tag, sending: false })
        });
        Ok(Lane {
            window: Window::new(flow.consumers.len(), flow.unit_bytes)?,
            intake: match senders[..] {
                [alone] => Intake::Stream(Stream::new(number, alone)?),
                _ => Intake::Turns(Turns::new(number, senders)),
            },
            consumers: consumers.collect::<io::Result<Vec<_>>>()?,
            totals: Totals::default(),
        })
    }

    /// Makes the window known to the kernel, or falls back to turns where it cannot fill buffers piece by piece.
    fn register(&mut self, ring: &IoUring) -> io::Result<()> {
        if let Intake::Stream(stream) = &mut self.intake
            && stream.register(ring).is_err()
        {
            self.intake = Intake::Turns(stream.turns());
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let gone = match &self.intake {
            Intake::Stream(stream) => stream.is_over(),
            Intake::Turns(turns) => turns.is_over(),
        };
        gone && self.window.is_empty()
    }

    fn begin(&mut self, queues: &mut Queues) -> io::Result<()> {
        match &self.intake {
            Intake::Stream(_) => Ok(()),
            Intake::Turns(turns) => turns.begin(queues),
        }
    }

    /// Asks for more where there is room for it.
    fn receive(&mut self, queues: &mut Queues) -> io::Result<()> {
        match &mut self.intake {
            Intake::Stream(stream) => stream.receive(queues, &self.window),
            Intake::Turns(turns) => turns.receive(queues, &self.window),
        }
    }

    fn handle(&mut self, queues: &mut Queues, tag: Tag, completion: &cqueue::Entry) -> io::Result<()> {
        if tag.part == Part::Send {
            self.sent(tag.index, completed(completion.result())?);
            return Ok(());
        }
        let bytes = match &mut self.intake {
            Intake::Stream(stream) => stream.received(completion, &mut self.window)?,
            Intake::Turns(turns) => turns.handle(queues, tag, completion, &mut self.window)?,
        };
        self.totals.received += bytes as u64;
        Ok(())
    }

    fn sent(&mut self, index: usize, moved: Moved) {
        self.consumers[index].sending = false;
        match moved {
            Moved::Bytes(bytes) => {
                self.window.sent(index, bytes);
                self.totals.sent += bytes as u64;
            }
            Moved::Nothing => {}
            Moved::Gone => self.window.leave(index),
        }
    }

    /// Sends each consumer all that it lacks, unless a send to it is in flight.
    fn send(&mut self, queues: &mut Queues) -> io::Result<()> {
        for (index, consumer) in self.consumers.iter_mut().enumerate() {
            let pending = self.window.pending(index);
            if consumer.sending || pending.is_empty() {
                continue;
            }
            let bytes = u32::try_from(pending.len()).expect("a window is small");
            let entry = opcode::Send::new(consumer.socket, pending.as_ptr(), bytes).flags(libc::MSG_NOSIGNAL);
            // SAFETY: the bytes are the window's, which outlives the ring, and stay until this consumer has got
            // them.
            unsafe { queues.push(&entry.build().user_data(consumer.tag))? };
            consumer.sending = true;
        }
        Ok(())
    }
}

fn socket(index: usize) -> io::Result<types::Fixed> {
    Ok(types::Fixed(u32::try_from(index).map_err(io::Error::other)?))
}
