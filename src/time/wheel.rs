//! One deadline for each index of a table that is fixed at start-up.
//!
//! A hierarchical wheel: level 0 has 64 slots of 2^17 ns (131 us), each level above has 64 slots as long as
//! the whole level below; eight levels cover every `u64`. An entry lies at the level of the highest 6-bit
//! digit in which its deadline differs from the wheel's tick, in the slot of that digit. So (invariants):
//!
//! 1. everything at level L is due before everything at level L + 1, and within a level in the order of the
//!    slots: the first occupied slot of the first occupied level has what comes next;
//! 2. a slot above level 0 starts after the wheel's tick; when the tick reaches it, its entries move down;
//! 3. `earliest[slot]` is at most the smallest deadline in the slot (a cancelled entry may have set it).
//!
//! Slots are doubly linked lists threaded through arrays by index. Nothing is allocated after `new`, and
//! `set` and `cancel` cost the same however many entries there are. Expiry is exact, not by whole slots.

const SLOT_SHIFT: u32 = 17;
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: u32 = 8;
/// The list of what has been found due and not handed out yet.
const DUE: u16 = 512;
/// The `slot` of an index without a deadline.
const UNSET: u16 = u16::MAX;
/// The end of a list.
const NONE: u32 = u32::MAX;

const _: () = {
    assert!(LEVELS * DIGIT_BITS + SLOT_SHIFT >= u64::BITS);
    assert!(DUE as usize == LEVELS as usize * SLOTS);
};

#[derive(Debug, Clone, Copy)]
struct Entry {
    deadline_ns: u64,
    next: u32,
    previous: u32,
    slot: u16,
}

/// See the module.
#[derive(Debug)]
pub struct TimerWheel {
    entries: Vec<Entry>,
    /// By level and slot, then `DUE`.
    heads: Vec<u32>,
    earliest: Vec<u64>,
    /// A bit for each slot that has entries, by level.
    occupied: [u64; LEVELS as usize],
    /// The slot of level 0 in which the wheel is, counted from time 0. Never goes back.
    tick: u64,
    len: usize,
}

impl TimerWheel {
    /// Bytes of one index.
    pub const ENTRY_BYTES: usize = size_of::<Entry>();

    /// A wheel for the indexes `0..capacity`, none of which has a deadline.
    ///
    /// # Panics
    /// When `capacity` does not fit in 31 bits.
    #[must_use]
    pub fn new(capacity: usize) -> TimerWheel {
        assert!(capacity < 1 << 31, "timer indexes fit in 31 bits");
        TimerWheel {
            entries: vec![Entry { deadline_ns: 0, next: NONE, previous: NONE, slot: UNSET }; capacity],
            heads: vec![NONE; usize::from(DUE) + 1],
            earliest: vec![u64::MAX; usize::from(DUE) + 1],
            occupied: [0; LEVELS as usize],
            tick: 0,
            len: 0,
        }
    }

    /// Bytes of memory a wheel takes.
    #[must_use]
    pub const fn bytes(capacity: usize) -> usize {
        capacity * size_of::<Entry>() + (DUE as usize + 1) * (size_of::<u32>() + size_of::<u64>())
    }

    /// How many indexes there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// How many indexes have a deadline.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives an index a deadline, in place of the one it had. One that has passed is due at once.
    ///
    /// # Panics
    /// When the index is outside the table.
    pub fn set(&mut self, index: u32, at_ns: u64) {
        if self.entries[index as usize].slot == UNSET {
            self.len += 1;
        } else {
            self.unlink(index);
        }
        self.entries[index as usize].deadline_ns = at_ns;
        self.place(index);
    }

    /// Takes an index's deadline away, if it has one.
    ///
    /// # Panics
    /// When the index is outside the table.
    pub fn cancel(&mut self, index: u32) {
        if self.entries[index as usize].slot != UNSET {
            self.unlink(index);
            self.entries[index as usize].slot = UNSET;
            self.len -= 1;
        }
    }

    /// The index's deadline.
    #[must_use]
    pub fn deadline(&self, index: u32) -> Option<u64> {
        let entry = self.entries[index as usize];
        (entry.slot != UNSET).then_some(entry.deadline_ns)
    }

    /// When to call `expire` next: not later than the next deadline, and after an `expire` that found
    /// nothing due, later than that call. Earlier than the next deadline only after a `cancel` or a `set`.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.heads[usize::from(DUE)] != NONE {
            return Some(self.earliest[usize::from(DUE)]);
        }
        self.first_slot().map(|(_, slot)| self.earliest[usize::from(slot)])
    }

    /// Calls `due` once with each index whose deadline has come, in no particular order; they have none
    /// afterwards. Use `pop_due` where handling one needs the wheel.
    pub fn expire(&mut self, now_ns: u64, mut due: impl FnMut(u32)) {
        while let Some(index) = self.pop_due(now_ns) {
            due(index);
        }
    }

    /// Takes one index whose deadline has come; it has none afterwards. An index that is set again, to a time
    /// that has come, is found again: bound the loop, or set later times.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<u32> {
        let due = usize::from(DUE);
        if self.heads[due] == NONE {
            self.advance(now_ns);
        }
        let index = self.heads[due];
        (index != NONE).then(|| {
            self.cancel(index);
            index
        })
    }

    /// Brings the wheel to `now_ns` and moves what is due to the due list.
    fn advance(&mut self, now_ns: u64) {
        let now_tick = (now_ns >> SLOT_SHIFT).max(self.tick);
        while let Some((level, slot)) = self.first_slot() {
            let start = self.slot_start(level, slot);
            if start > now_tick || (level == 0 && self.earliest[usize::from(slot)] > now_ns) {
                break;
            }
            self.tick = start;
            let mut index = self.take_list(level, slot);
            while index != NONE {
                let next = self.entries[index as usize].next;
                if self.entries[index as usize].deadline_ns <= now_ns {
                    self.link(index, DUE);
                } else {
                    self.place(index);
                }
                index = next;
            }
        }
        self.tick = now_tick;
    }

    /// The first occupied slot of the first occupied level, as level and list number.
    fn first_slot(&self) -> Option<(u32, u16)> {
        let level = (0..LEVELS).find(|&level| self.occupied[level as usize] != 0)?;
        let digit = self.occupied[level as usize].trailing_zeros();
        Some((level, list_of(level, digit)))
    }

    /// The tick at which a slot begins, given that the digits above its level are the wheel's own.
    fn slot_start(&self, level: u32, slot: u16) -> u64 {
        let shift = level * DIGIT_BITS;
        let digit = u64::from(slot) & (SLOTS as u64 - 1);
        (self.tick >> shift >> DIGIT_BITS << DIGIT_BITS | digit) << shift
    }

    /// Puts an index that is in no list where its deadline belongs.
    fn place(&mut self, index: u32) {
        let at = (self.entries[index as usize].deadline_ns >> SLOT_SHIFT).max(self.tick);
        let differs = at ^ self.tick;
        let level = (differs | 1).ilog2() / DIGIT_BITS;
        #[allow(clippy::cast_possible_truncation)] // masked to a digit
        let digit = (at >> (level * DIGIT_BITS)) as u32 & (SLOTS as u32 - 1);
        self.occupied[level as usize] |= 1 << digit;
        self.link(index, list_of(level, digit));
    }

    fn link(&mut self, index: u32, list: u16) {
        let slot = usize::from(list);
        let head = self.heads[slot];
        let entry = &mut self.entries[index as usize];
        entry.previous = NONE;
        entry.next = head;
        entry.slot = list;
        self.earliest[slot] =
            if head == NONE { entry.deadline_ns } else { self.earliest[slot].min(entry.deadline_ns) };
        if head != NONE {
            self.entries[head as usize].previous = index;
        }
        self.heads[slot] = index;
    }

    fn unlink(&mut self, index: u32) {
        let Entry { next, previous, slot, .. } = self.entries[index as usize];
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous != NONE {
            self.entries[previous as usize].next = next;
            return;
        }
        self.heads[usize::from(slot)] = next;
        if next == NONE && slot != DUE {
            self.occupied[usize::from(slot) / SLOTS] &= !(1 << (usize::from(slot) % SLOTS));
        }
    }

    /// Empties a slot and returns its first index.
    fn take_list(&mut self, level: u32, list: u16) -> u32 {
        self.occupied[level as usize] &= !(1 << (usize::from(list) % SLOTS));
        std::mem::replace(&mut self.heads[usize::from(list)], NONE)
    }
}

/// The number of a slot's list.
#[allow(clippy::cast_possible_truncation)] // below DUE, which fits
const fn list_of(level: u32, digit: u32) -> u16 {
    (level * SLOTS as u32 + digit) as u16
}
