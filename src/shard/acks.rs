//! Acknowledgements to producers, paced as each channel asked and put together once a tick.

use crate::ids::ConnId;
use crate::io::Io;
use crate::lifecycle::State;
use crate::metrics::Counter;

use super::Shard;
use super::channels::AckPoint;
use super::conn::NONE;

impl<I: Io> Shard<I> {
    /// Marks a channel to be looked at when the tick ends.
    pub(super) fn list_channel(&mut self, handle: u32) {
        let channel = &mut self.channels[handle];
        if !channel.listed {
            channel.listed = true;
            self.ack_list.push(handle);
        }
    }

    /// An accepted batch: acknowledged when the tick ends or as the channel's pacing says.
    pub(super) fn ack_later(&mut self, id: ConnId, handle: u32, point: AckPoint) {
        let now = self.clock.mono_ns;
        let draining = self.state == State::Draining;
        let channel = &mut self.channels[handle];
        if !channel.accepted(point, now) && !draining {
            let due = channel.ack_due_ns();
            let conn = &mut self.conns[id];
            conn.ack_due_ns = conn.ack_due_ns.min(due);
            self.timer_no_later_than(id, due);
        }
    }

    /// A duplicate is acknowledged by itself, since its offset is not the next in line.
    pub(super) fn ack_now(&mut self, id: ConnId, handle: u32, point: AckPoint) {
        self.ack_pending(id, handle);
        let held_back = self.channels[handle].point;
        self.channels[handle].point = point;
        self.say_ack(id, handle);
        self.channels[handle].point = held_back;
    }

    /// Acknowledges what is held back, now.
    pub(super) fn ack_pending(&mut self, id: ConnId, handle: u32) {
        if self.channels[handle].unacked > 0 {
            self.say_ack(id, handle);
        }
    }

    fn say_ack(&mut self, id: ConnId, handle: u32) {
        let frame = self.channels[handle].ack(handle);
        self.counters.add(Counter::AcksSent, 1);
        self.say(id, &frame);
    }

    /// The pacing time of some channel of the connection has run out.
    pub(super) fn ack_due(&mut self, id: ConnId) {
        let now = self.clock.mono_ns;
        let mut next_due = u64::MAX;
        let mut handle = self.conns[id].channels;
        while handle != NONE {
            let channel = &self.channels[handle];
            let (due, next) = (channel.ack_due_ns(), channel.next);
            if due <= now {
                self.ack_pending(id, handle);
            } else {
                next_due = next_due.min(due);
            }
            handle = next;
        }
        self.conns[id].ack_due_ns = next_due;
    }

    /// The last phase for producers: due acknowledgements, and credit for what was used.
    pub(super) fn flush_acks(&mut self) {
        let mut listed = std::mem::take(&mut self.ack_list);
        for handle in listed.drain(..) {
            let channel = &mut self.channels[handle];
            channel.listed = false;
            let committed = std::mem::take(&mut channel.committed);
            let id = channel.conn;
            if id.0 == NONE || !self.conns[id].is_live() {
                continue;
            }
            let paced = channel.unacked >= channel.every_batches;
            let due = paced || committed || self.state == State::Draining;
            if due && channel.unacked > 0 {
                self.say_ack(id, handle);
            }
            self.top_up(id, handle);
        }
        self.ack_list = listed;
    }
}
