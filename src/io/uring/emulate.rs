//! `ReceiveShared` where the kernel has no multishot receive: polls, and single reads into the shared mapping.
//!
//! The shard sees what an incremental buffer ring would show: buffers filled in the order they were given,
//! each piece by piece. One read is in flight at a time, so the place of the next is always known; a
//! connection keeps its turn while reads fill what was offered, up to a budget, then the next ready one has it.
//!
//! Invariant: an operation ends only when the kernel holds neither its poll nor its read (`ending` keeps the
//! outcome until then), so that closing the socket leaves nothing behind.

use std::collections::VecDeque;

use io_uring::{opcode, types};

use crate::buf::Span;
use crate::ids::{BufId, RegionId};
use crate::io::errors::error_of;
use crate::io::{Completions, IoError, Outcome};

use super::ops::{NONE, Part, Tag};
use super::{HUNG_UP, READABLE, Shared, UringIo};

/// Bytes one connection may take before the next ready one has its turn.
const VISIT_BYTES_MAX: u32 = 256 * 1024;

/// See the module.
pub(super) struct Emulated {
    region: RegionId,
    buffer_bytes: u32,
    /// The buffer being filled, and how far it is.
    current: Option<(BufId, u32)>,
    free: VecDeque<BufId>,
    given: Vec<bool>,
    /// Operations worth a read, by tag.
    ready: VecDeque<u64>,
    /// The operation with the read in flight.
    reading: u32,
    /// Bytes that read may fill.
    offered: u32,
}

impl Emulated {
    pub(super) fn new(region: RegionId, bytes: u32, buffers: u16, receivers: u32) -> Emulated {
        let mut this = Emulated {
            region,
            buffer_bytes: bytes / u32::from(buffers),
            current: None,
            free: VecDeque::with_capacity(usize::from(buffers)),
            given: vec![false; usize::from(buffers)],
            ready: VecDeque::with_capacity(receivers as usize),
            reading: NONE,
            offered: 0,
        };
        for buffer in 0..buffers {
            this.give(BufId(buffer));
        }
        this
    }

    pub(super) fn give(&mut self, buffer: BufId) {
        assert!(!self.given[buffer.index()], "a buffer is given back once");
        self.given[buffer.index()] = true;
        self.free.push_back(buffer);
    }

    /// Where the next bytes go: the rest of the current buffer, or of the next free one.
    fn room(&mut self) -> Option<Span> {
        if self.current.is_none() {
            self.current = self.free.pop_front().map(|buffer| (buffer, 0));
        }
        let (buffer, filled) = self.current?;
        let at = u64::from(buffer.0) * u64::from(self.buffer_bytes) + u64::from(filled);
        Some(Span { region: self.region, bytes: self.buffer_bytes - filled, at })
    }

    /// Notes that a read has filled `bytes` of the room.
    fn filled(&mut self, bytes: u32) -> Option<Outcome> {
        let (buffer, before) = self.current?;
        let after = before + bytes;
        assert!(after <= self.buffer_bytes, "a read fills at most what it was offered");
        let at = u64::from(buffer.0) * u64::from(self.buffer_bytes) + u64::from(before);
        // To the end, as the kernel does: what comes next then lies beside it, in the next buffer.
        let buffer_done = after == self.buffer_bytes;
        if buffer_done {
            self.given[buffer.index()] = false;
        }
        self.current = (!buffer_done).then_some((buffer, after));
        Some(Outcome::Received { buffer, at, bytes, buffer_done })
    }
}

impl UringIo {
    fn emulated(&mut self) -> Option<&mut Emulated> {
        match &mut self.shared {
            Shared::Emulated(emulated) => Some(emulated),
            Shared::Kernel(_) => None,
        }
    }

    /// A read could be started, but not before the last one is done with.
    pub(super) fn emulated_read_waits(&self) -> bool {
        match &self.shared {
            Shared::Emulated(emulated) => !emulated.ready.is_empty() || emulated.reading != NONE,
            Shared::Kernel(_) => false,
        }
    }

    /// Asks the kernel to say when a receiver's socket has something.
    pub(super) fn arm_emulated_poll(&mut self, index: u32) {
        let (raw, flags) = self.sockets.target(self.ops[index].sock);
        let tag = self.ops.tag(index, Part::Poll).raw();
        let entry = opcode::PollAdd::new(types::Fd(raw), READABLE)
            .multi(self.features.multishot_poll)
            .build()
            .flags(flags)
            .user_data(tag);
        if self.push(&entry) {
            self.ops[index].started(Part::Poll);
        } else if !self.ops[index].unarmed {
            self.ops[index].unarmed = true;
            self.unarmed.push_back(tag);
        }
    }

    fn enqueue(&mut self, index: u32) {
        if self.ops[index].queued {
            return;
        }
        self.ops[index].queued = true;
        let tag = self.ops.tag(index, Part::Read).raw();
        if let Some(emulated) = self.emulated() {
            emulated.ready.push_back(tag);
        }
    }

    pub(super) fn emulated_polled(&mut self, index: u32, result: i32, out: &mut Completions) {
        let op = &self.ops[index];
        if op.ending.is_some() {
            return self.end_if_idle(index, out);
        }
        if result < 0 {
            return self.end_emulated(index, Outcome::Failed(error_of(-result)), out);
        }
        let (sock, reading) = (op.sock, op.holds(Part::Read));
        if result.cast_unsigned() & HUNG_UP != 0 {
            self.sockets.set_hung_up(sock);
        }
        if reading {
            self.ops[index].polled_again = true;
        } else {
            self.enqueue(index);
        }
    }

    /// Starts a read for the next ready receiver, if none is in flight.
    pub(super) fn start_emulated_read(&mut self) {
        loop {
            let Some(emulated) = self.emulated() else { return };
            if emulated.reading != NONE {
                return;
            }
            let Some(raw) = emulated.ready.pop_front() else { return };
            let room = emulated.room();
            let Tag::Op { generation, index, .. } = Tag::from_raw(raw) else { continue };
            if !self.ops.current(index, generation) {
                continue;
            }
            self.ops[index].queued = false;
            if self.ops[index].ending.is_some() {
                continue;
            }
            let Some(room) = room else {
                self.end_emulated(index, Outcome::Failed(IoError::NoBuffers), &mut Vec::new());
                continue;
            };
            if !self.read_into(index, room) {
                // No room in the submission queue: first in line again.
                self.ops[index].queued = true;
                if let Some(emulated) = self.emulated() {
                    emulated.ready.push_front(raw);
                }
                return;
            }
        }
    }

    fn read_into(&mut self, index: u32, room: Span) -> bool {
        let (address, _) = self.regions.address(room);
        let (raw, flags) = self.sockets.target(self.ops[index].sock);
        let entry = opcode::Recv::new(types::Fd(raw), address, room.bytes)
            .flags(libc::MSG_DONTWAIT)
            .build()
            .flags(flags)
            .user_data(self.ops.tag(index, Part::Read).raw());
        if !self.push(&entry) {
            return false;
        }
        self.ops[index].started(Part::Read);
        self.ops[index].polled_again = false;
        if let Some(emulated) = self.emulated() {
            emulated.reading = index;
            emulated.offered = room.bytes;
        }
        true
    }

    pub(super) fn emulated_read(&mut self, index: u32, result: i32, out: &mut Completions) {
        let Some(emulated) = self.emulated() else { return };
        emulated.reading = NONE;
        let offered = emulated.offered;
        let bytes = u32::try_from(result).unwrap_or(0);
        let got = if bytes > 0 { emulated.filled(bytes) } else { None };
        if let Some(outcome) = got {
            self.report(index, outcome, out);
        }
        if self.ops[index].ending.is_some() {
            return self.end_if_idle(index, out);
        }
        match result {
            0 => self.end_emulated(index, Outcome::EndOfStream, out),
            errno if errno < 0 && errno != -libc::EAGAIN => {
                self.end_emulated(index, Outcome::Failed(error_of(-errno)), out);
            }
            _ if self.ops[index].cancelling => {
                self.end_emulated(index, Outcome::Failed(IoError::Cancelled), out);
            }
            _ => self.after_read(index, bytes, bytes == offered),
        }
    }

    /// Whose turn it is after a read that did not end its receiver.
    fn after_read(&mut self, index: u32, bytes: u32, filled_all: bool) {
        let hung_up = self.sockets.hung_up(self.ops[index].sock);
        let op = &mut self.ops[index];
        op.visit_bytes = op.visit_bytes.saturating_add(bytes);
        if filled_all && op.visit_bytes < VISIT_BYTES_MAX {
            // Its turn goes on.
            op.queued = true;
            let tag = self.ops.tag(index, Part::Read).raw();
            if let Some(emulated) = self.emulated() {
                emulated.ready.push_front(tag);
            }
            return;
        }
        op.visit_bytes = 0;
        // Bytes behind the last ones, or the end that a poll told of before they were read.
        let again = filled_all || op.polled_again || (hung_up && bytes > 0);
        if again {
            self.enqueue(index);
        } else if !self.ops[index].holds(Part::Poll) && !self.ops[index].unarmed {
            self.arm_emulated_poll(index);
        }
    }

    /// Ends a receiver as soon as the kernel holds nothing of it.
    fn end_emulated(&mut self, index: u32, outcome: Outcome, out: &mut Completions) {
        self.ops[index].ending = Some(outcome);
        if self.ops[index].holds(Part::Poll) {
            self.cancel_part(index, Part::Poll);
        }
        self.end_if_idle(index, out);
    }

    fn end_if_idle(&mut self, index: u32, out: &mut Completions) {
        if self.ops[index].in_kernel == 0
            && let Some(outcome) = self.ops[index].ending
        {
            self.finish(index, outcome, out);
        }
    }

    /// A `Cancel` has named a receiver: its poll goes, a read in flight is awaited.
    pub(super) fn cancel_emulated(&mut self, index: u32) {
        if self.ops[index].ending.is_some() {
            return;
        }
        if self.ops[index].holds(Part::Read) {
            return; // `emulated_read` sees `cancelling`
        }
        self.end_emulated(index, Outcome::Failed(IoError::Cancelled), &mut Vec::new());
    }

    fn cancel_part(&mut self, index: u32, part: Part) {
        let target = self.ops.tag(index, part).raw();
        let entry = opcode::AsyncCancel::new(target).build().user_data(Tag::Ignored.raw());
        if !self.push(&entry) {
            self.uncancelled.push_back(target);
        }
    }

    /// Queues again the cancels that found no room.
    pub(super) fn cancel_waiting(&mut self) {
        while let Some(target) = self.uncancelled.front().copied() {
            let entry = opcode::AsyncCancel::new(target).build().user_data(Tag::Ignored.raw());
            if !self.push(&entry) {
                return;
            }
            self.uncancelled.pop_front();
        }
    }
}
