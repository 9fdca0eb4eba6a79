//! Receives and discards.

use std::io;

use io_uring::{cqueue, opcode, squeue, types};

use super::super::sockets::{Moved, completed, descriptors};
use super::super::{Flow, Totals};
use super::buffers::HotSet;
use super::queues::{Queues, ring};

pub(in super::super) fn sink(flows: &[Flow]) -> io::Result<Totals> {
    let fds = descriptors(flows.iter().flat_map(|flow| &flow.senders));
    let mut buffers = HotSet::new()?;
    let mut ring = ring(&fds)?;
    buffers.register(&ring)?;
    let mut queues = Queues::of(&mut ring)?;
    for index in 0..fds.len() {
        arm(&mut queues, index)?;
    }
    let (mut open, mut received) = (fds.len(), 0);
    while open > 0 {
        queues.enter(1)?;
        while let Some(completion) = queues.next() {
            let index = usize::try_from(completion.user_data()).expect("an index of ours");
            let more = cqueue::more(completion.flags());
            match receive(&mut buffers, &completion)? {
                Moved::Bytes(bytes) => received += bytes as u64,
                Moved::Nothing => {}
                Moved::Gone => {
                    open -= 1;
                    continue;
                }
            }
            if !more {
                arm(&mut queues, index)?;
            }
        }
        buffers.publish();
    }
    Ok(Totals { received, sent: 0 })
}

/// Receives until the buffers run out or the peer goes.
pub(super) fn arm(queues: &mut Queues, index: usize) -> io::Result<()> {
    let socket = types::Fixed(u32::try_from(index).map_err(io::Error::other)?);
    let entry: squeue::Entry = opcode::RecvMulti::new(socket, HotSet::GROUP).build().user_data(index as u64);
    // SAFETY: the entry points to nothing; provided buffers outlive the ring.
    unsafe { queues.push(&entry) }
}

/// What a receive has brought; its buffer is given back if the kernel has finished with it.
pub(super) fn receive(buffers: &mut HotSet, completion: &cqueue::Entry) -> io::Result<Moved> {
    let flags = completion.flags();
    if let Some(buffer) = cqueue::buffer_select(flags)
        && !cqueue::buffer_more(flags)
    {
        buffers.give(buffer);
    }
    match completion.result() {
        result if result == -libc::ENOBUFS => Ok(Moved::Nothing), // armed again with those just given back
        result => completed(result),
    }
}
