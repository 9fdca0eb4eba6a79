//! Receives and discards.

use std::io;

use super::super::sockets::{Moved, descriptors, receive};
use super::super::{Flow, READ_BYTES, Totals};
use super::{Edge, Poller, READABLE, READS_PER_TURN};

pub(in super::super) fn sink(flows: &[Flow]) -> io::Result<Totals> {
    let fds = descriptors(flows.iter().flat_map(|flow| &flow.senders));
    let mut edges = vec![Edge::default(); fds.len()];
    let mut poller = Poller::new()?;
    for (index, fd) in fds.iter().enumerate() {
        poller.add(*fd, READABLE, index)?;
    }
    let mut memory = vec![0; READ_BYTES];
    let mut unused = Vec::with_capacity(fds.len());
    let (mut open, mut received) = (fds.len(), 0);
    while open > 0 {
        for (index, bits) in poller.wait()? {
            let edge = &mut edges[index];
            edge.came(bits);
            for _ in 0..READS_PER_TURN {
                if !edge.ready {
                    break;
                }
                match receive(fds[index], memory.as_mut_ptr(), READ_BYTES)? {
                    Moved::Bytes(bytes) => {
                        received += bytes as u64;
                        if bytes < READ_BYTES {
                            edge.short();
                        }
                    }
                    Moved::Nothing => edge.ready = false,
                    Moved::Gone => {
                        *edge = Edge::GONE;
                        open -= 1;
                    }
                }
            }
            if edge.ready {
                unused.push(index);
            }
        }
        for index in unused.drain(..) {
            poller.again(fds[index], READABLE, index)?;
        }
    }
    Ok(Totals { received, sent: 0 })
}
