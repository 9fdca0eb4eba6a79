//! The subscribers' cursors: a slab, and which of them is slowest.

use super::catchup::Catchup;
use super::log::Boundary;
use super::{Gap, small};
use crate::buf::{ReceiveMemory, Span};
use crate::ids::SubscriberId;
use crate::limits::SUBSCRIBERS_PER_PARTITION;
use crate::mutation::{self, Mutation};
use crate::proto::header::GapReason;

/// What is left of a frame that was begun and then dropped from the ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish {
    /// As it was given out, with one hold.
    block: Span,
    /// Bytes of it.
    sent: u32,
    /// Records of the frame.
    pub(super) records: u32,
    pub(super) taken: bool,
}

impl Finish {
    pub(super) fn rest(&self) -> Span {
        self.block.split_at(self.sent).1
    }
}

/// A cursor. `boundary.position <= position`, both in the log's window; they differ inside a frame.
#[derive(Debug)]
pub(super) struct Subscriber {
    /// The frame the cursor is in, or the next one.
    pub(super) boundary: Boundary,
    /// The next byte to send (after `finish`).
    pub(super) position: u64,
    /// Bytes from `position` on that are given out.
    pub(super) taken_bytes: u32,
    /// Where they end.
    pub(super) taken_end: Boundary,
    /// To be sent before anything else.
    pub(super) finish: Option<Finish>,
    /// What it reads from a log's files.
    pub(super) catchup: Option<Box<Catchup>>,
    /// To be told next; its records end where `boundary` is.
    pub(super) gap: Option<Gap>,
    /// Absolute limit of frame bytes.
    pub(super) credit_limit: u64,
    /// Frame bytes sent since it subscribed.
    pub(super) sent_bytes: u64,
    pub(super) blocked: bool,
    /// The partition was deleted and the frame that was begun cannot be finished.
    pub(super) cut_off: bool,
    pub(super) missed_records: u64,
    pub(super) home: u64,
    pub(super) name: Box<str>,
}

impl Subscriber {
    pub(super) fn new(boundary: Boundary, name: &str, home: u64, credit_limit: u64) -> Subscriber {
        Subscriber {
            boundary,
            position: boundary.position,
            taken_bytes: 0,
            taken_end: boundary,
            finish: None,
            catchup: None,
            gap: None,
            credit_limit,
            sent_bytes: 0,
            blocked: false,
            cut_off: false,
            missed_records: 0,
            home,
            name: name.into(),
        }
    }

    #[inline]
    pub(super) fn has_window(&self) -> bool {
        self.catchup.as_ref().is_some_and(|catchup| catchup.has_window())
    }

    #[inline]
    pub(super) fn in_flight(&self) -> bool {
        self.taken_bytes > 0 || self.finish.is_some_and(|finish| finish.taken)
    }

    #[inline]
    pub(super) fn in_frame(&self) -> bool {
        self.finish.is_some() || self.position > self.boundary.position || self.cut_off
    }

    #[inline]
    pub(super) fn credit_left(&self) -> u64 {
        let times = if mutation::on(Mutation::CreditTwice) { 2 } else { 1 };
        (times * self.credit_limit).saturating_sub(self.sent_bytes)
    }

    /// The rest of the frame it is inside of is now in `block`.
    pub(super) fn finish_from(&mut self, block: Span, records: u32) {
        assert!(self.finish.is_none(), "only one frame is begun at a time");
        self.finish = Some(Finish { block, sent: 0, records, taken: false });
    }

    /// Goes on at `start`; the records from `from` on are missed.
    pub(super) fn skip_to(&mut self, start: Boundary, from: u64) {
        let from = self.gap.map_or(from, |gap| gap.from);
        if start.offset > from {
            self.gap = Some(Gap { from, records: start.offset - from, reason: GapReason::Overflow });
        }
        self.boundary = start;
        self.position = start.position;
    }

    /// `bytes` of what is left were sent; returns the records of the frame when that completes it.
    pub(super) fn finish_sent(&mut self, receive: &mut ReceiveMemory, bytes: u32) -> u32 {
        let finish = self.finish.as_mut().expect("it was taken from");
        finish.taken = false;
        finish.sent += bytes;
        assert!(finish.sent <= finish.block.bytes, "only what was taken is sent");
        if finish.sent < finish.block.bytes {
            return 0;
        }
        let (block, records) = (finish.block, finish.records);
        receive.release(block);
        self.finish = None;
        records
    }

    /// The frame that was begun is not finished.
    pub(super) fn drop_finish(&mut self, receive: &mut ReceiveMemory) {
        if let Some(finish) = self.finish.take() {
            receive.release(finish.block);
        }
    }
}

/// At most `SUBSCRIBERS_PER_PARTITION`; slots are reused.
///
/// `slowest` is never beyond the boundary of any subscriber, and `at_slowest` counts those that are there:
/// 0 says that it has to be found anew, which is put off until it matters.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    slots: Vec<Option<Subscriber>>,
    free: Vec<u32>,
    slowest: Boundary,
    at_slowest: u32,
}

impl Subscribers {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, subscriber: Subscriber) -> Option<SubscriberId> {
        if self.free.is_empty() {
            if self.slots.len() >= SUBSCRIBERS_PER_PARTITION as usize {
                return None;
            }
            self.free.push(small(self.slots.len() as u64));
            self.slots.push(None);
        }
        let boundary = subscriber.boundary;
        if self.is_empty() || boundary.position < self.slowest.position {
            self.slowest = boundary;
            self.at_slowest = 1;
        } else if boundary.position == self.slowest.position {
            self.at_slowest += 1;
        }
        let slot = self.free.pop()?;
        self.slots[slot as usize] = Some(subscriber);
        Some(SubscriberId(slot))
    }

    pub(super) fn remove(&mut self, id: SubscriberId) -> Subscriber {
        let subscriber = self.slots[id.index()].take().expect("a subscriber");
        self.free.push(id.0);
        self.left(subscriber.boundary);
        subscriber
    }

    #[inline]
    pub(super) fn at(&self, id: SubscriberId) -> &Subscriber {
        self.slots[id.index()].as_ref().expect("a subscriber")
    }

    #[inline]
    pub(super) fn at_mut(&mut self, id: SubscriberId) -> &mut Subscriber {
        self.slots[id.index()].as_mut().expect("a subscriber")
    }

    pub(super) fn try_at_mut(&mut self, id: SubscriberId) -> Option<&mut Subscriber> {
        self.slots.get_mut(id.index())?.as_mut()
    }

    /// Slots in use or free, for loops that need the rest of the partition too.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slot(&self, slot: usize) -> Option<&Subscriber> {
        self.slots[slot].as_ref()
    }

    pub(super) fn slot_mut(&mut self, slot: usize) -> Option<&mut Subscriber> {
        self.slots[slot].as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SubscriberId, &Subscriber)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(slot, entry)| Some((SubscriberId(small(slot as u64)), entry.as_ref()?)))
    }

    // ---- the slowest ----

    /// A subscriber's boundary was here and is not any more.
    #[inline]
    pub(super) fn left(&mut self, boundary: Boundary) {
        if boundary.position == self.slowest.position {
            self.at_slowest = self.at_slowest.saturating_sub(1);
        }
    }

    /// Whether the slowest has moved since it was last looked for.
    #[inline]
    pub(super) fn slowest_moved(&self) -> bool {
        self.at_slowest == 0
    }

    /// Boundaries have moved without `left`.
    pub(super) fn forget_slowest(&mut self) {
        self.at_slowest = 0;
    }

    /// The lowest boundary; `None` without subscribers.
    pub(super) fn slowest(&mut self) -> Option<Boundary> {
        if self.is_empty() {
            return None;
        }
        if self.at_slowest == 0 {
            let mut slowest = Boundary { position: u64::MAX, offset: u64::MAX };
            let mut count = 0;
            for subscriber in self.slots.iter().flatten() {
                let boundary = subscriber.boundary;
                if boundary.position < slowest.position {
                    slowest = boundary;
                    count = 1;
                } else if boundary.position == slowest.position {
                    count += 1;
                }
            }
            self.slowest = slowest;
            self.at_slowest = count;
        }
        Some(self.slowest)
    }

    /// The lowest boundary, or any lower bound of it that is at least `target`: that is enough to evict up to there.
    #[inline]
    pub(super) fn slowest_for(&mut self, target: u64) -> Option<Boundary> {
        if !self.is_empty() && target <= self.slowest.position {
            return Some(self.slowest);
        }
        self.slowest()
    }

    /// The first frame in `from..to` of which something is taken.
    pub(super) fn first_taken_within(&self, from: u64, to: u64) -> Option<u64> {
        self.slots
            .iter()
            .flatten()
            .filter(|subscriber| {
                // By its boundary: of a frame that was sent in part, what is taken begins inside of it.
                let begins = subscriber.boundary.position;
                subscriber.taken_bytes > 0 && begins < to && subscriber.taken_end.position > from
            })
            .map(|subscriber| subscriber.boundary.position.max(from))
            .min()
    }
}
