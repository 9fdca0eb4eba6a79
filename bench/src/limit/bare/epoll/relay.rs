//! Sends what it receives to every consumer of its flow.

use std::io;
use std::os::fd::RawFd;

use super::super::sockets::{Moved, descriptors, receive, send};
use super::super::window::Window;
use super::super::{Flow, Totals};
use super::{Edge, Poller, READABLE, WRITABLE};

/// One flow.
struct Lane {
    window: Window,
    senders: Vec<(RawFd, Edge)>,
    consumers: Vec<(RawFd, Room)>,
    totals: Totals,
}

/// What is known of a consumer's socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Some,
    /// Until the next edge.
    None,
}

/// What an event is about: a flow, and one of its senders or consumers.
#[derive(Clone, Copy)]
enum Route {
    Sender(usize, usize),
    Consumer(usize, usize),
}

pub(in super::super) fn relay(flows: &[Flow]) -> io::Result<Totals> {
    let mut lanes = flows.iter().map(Lane::new).collect::<io::Result<Vec<_>>>()?;
    let mut poller = Poller::new()?;
    let mut routes = Vec::new();
    for (at, lane) in lanes.iter().enumerate() {
        for (index, (fd, _)) in lane.senders.iter().enumerate() {
            poller.add(*fd, READABLE, routes.len())?;
            routes.push(Route::Sender(at, index));
        }
        for (index, (fd, _)) in lane.consumers.iter().enumerate() {
            poller.add(*fd, WRITABLE, routes.len())?;
            routes.push(Route::Consumer(at, index));
        }
    }
    while !lanes.iter().all(Lane::is_over) {
        for (index, bits) in poller.wait()? {
            match routes[index] {
                Route::Sender(lane, sender) => lanes[lane].senders[sender].1.came(bits),
                Route::Consumer(lane, consumer) => lanes[lane].consumers[consumer].1 = Room::Some,
            }
        }
        let mut moved = true;
        while moved {
            moved = false;
            for lane in &mut lanes {
                moved |= lane.receive()?;
                moved |= lane.send()?;
            }
        }
    }
    Ok(lanes.iter().map(|lane| lane.totals).sum())
}

impl Lane {
    fn new(flow: &Flow) -> io::Result<Lane> {
        let senders = descriptors(&flow.senders).into_iter().map(|fd| (fd, Edge::default())).collect();
        let consumers = descriptors(&flow.consumers).into_iter().map(|fd| (fd, Room::Some)).collect();
        let window = Window::new(flow.consumers.len(), flow.unit_bytes)?;
        Ok(Lane { window, senders, consumers, totals: Totals::default() })
    }

    /// Every sender has gone, and what they sent is sent on.
    fn is_over(&self) -> bool {
        self.senders.iter().all(|(_, edge)| edge.gone) && self.window.is_empty()
    }

    /// Reads each sender that has something once, as long as there is room.
    fn receive(&mut self) -> io::Result<bool> {
        let mut moved = false;
        for (index, (fd, edge)) in self.senders.iter_mut().enumerate() {
            if !edge.ready || !self.window.admits(index) {
                continue;
            }
            let (into, room) = self.window.room();
            if room == 0 {
                break;
            }
            match receive(*fd, into, room)? {
                Moved::Bytes(bytes) => {
                    self.window.filled(index, bytes);
                    self.totals.received += bytes as u64;
                    if bytes < room {
                        edge.short();
                    }
                    moved = true;
                }
                Moved::Nothing => edge.ready = false,
                Moved::Gone => {
                    *edge = Edge::GONE;
                    self.window.abandon(index);
                }
            }
        }
        Ok(moved)
    }

    /// Sends each consumer that has room what it lacks.
    fn send(&mut self) -> io::Result<bool> {
        let mut moved = false;
        for (index, (fd, room)) in self.consumers.iter_mut().enumerate() {
            let pending = self.window.pending(index);
            if *room == Room::None || pending.is_empty() {
                continue;
            }
            let all = pending.len();
            match send(*fd, pending)? {
                Moved::Bytes(bytes) => {
                    self.window.sent(index, bytes);
                    self.totals.sent += bytes as u64;
                    *room = if bytes == all { Room::Some } else { Room::None };
                    moved = true;
                }
                Moved::Nothing => *room = Room::None,
                Moved::Gone => self.window.leave(index),
            }
        }
        Ok(moved)
    }
}
