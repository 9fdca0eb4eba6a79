//! Blocks: a buddy allocator with reference counts over one arena.
//!
//! The arena is cut into units of `STRADDLE_BLOCK_BYTES_MIN` bytes. A block of order `k` is `2^k` units and
//! starts at a multiple of its size; its buddy is the block of the same order that differs in bit `k` of the
//! unit number. Allocation takes the smallest free block that is large enough and halves it down; freeing
//! joins a block with its buddy for as long as that is free too. Free blocks of each order are a doubly linked
//! list through fixed tables, so both take at most one step for each order and never allocate.
//!
//! (D. Knuth, The Art of Computer Programming, vol. 1, 2.5.)

use super::Span;
use crate::ids::RegionId;
use crate::limits::STRADDLE_BLOCK_BYTES_MIN;

const NONE: u32 = u32::MAX;

/// What a unit is the first of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Nothing: it is inside a block.
    Inside,
    /// A free block.
    Free { order: u8, next: u32, previous: u32 },
    /// A block in use, with its holds.
    Used { order: u8, holds: u32 },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Blocks {
    region: RegionId,
    units: Vec<Unit>,
    /// The first free block of each order.
    free: Vec<u32>,
    free_units: u32,
}

impl Blocks {
    /// Blocks of the first `arena_bytes` bytes of a region, rounded down to whole units.
    pub(super) fn new(region: RegionId, arena_bytes: u64) -> Blocks {
        let count = u32::try_from(arena_bytes / u64::from(STRADDLE_BLOCK_BYTES_MIN)).ok();
        let count = count.filter(|&count| {
            count < NONE && u64::from(count) * u64::from(STRADDLE_BLOCK_BYTES_MIN) <= u64::from(u32::MAX)
        });
        let count = count.expect("the arena is under 4 GiB");
        assert!(count > 0, "the arena holds a block");
        let orders = count.ilog2() + 1;
        let mut blocks = Blocks {
            region,
            units: vec![Unit::Inside; count as usize],
            free: vec![NONE; orders as usize],
            free_units: count,
        };
        let mut unit = 0;
        while unit < count {
            // The largest block that may start here and ends inside the arena.
            let order = unit.trailing_zeros().min((count - unit).ilog2());
            blocks.push_free(unit, order);
            unit += 1 << order;
        }
        blocks
    }

    pub(super) fn region(&self) -> RegionId {
        self.region
    }

    /// A block of at least `bytes` bytes with one hold, as a span of exactly `bytes`.
    pub(super) fn take(&mut self, bytes: u32) -> Option<Span> {
        assert!(bytes > 0, "a block has room");
        let wanted = bytes.div_ceil(STRADDLE_BLOCK_BYTES_MIN).next_power_of_two().ilog2();
        let orders = u32::try_from(self.free.len()).expect("orders are counted in bits of a u32");
        let mut order = (wanted..orders).find(|&order| self.free[order as usize] != NONE)?;
        let unit = self.free[order as usize];
        self.remove_free(unit);
        while order > wanted {
            order -= 1;
            self.push_free(unit + (1 << order), order);
        }
        self.units[unit as usize] = Unit::Used { order: order_byte(wanted), holds: 1 };
        self.free_units -= 1 << wanted;
        let at = u64::from(unit) * u64::from(STRADDLE_BLOCK_BYTES_MIN);
        Some(Span { region: self.region, at, bytes })
    }

    pub(super) fn hold(&mut self, span: Span) {
        if span.bytes == 0 {
            return;
        }
        let (unit, order, holds) = self.used(span);
        self.units[unit as usize] = Unit::Used { order, holds: holds + 1 };
    }

    /// Frees the block with its last hold.
    pub(super) fn release(&mut self, span: Span) {
        if span.bytes == 0 {
            return;
        }
        let (unit, order, holds) = self.used(span);
        if holds > 1 {
            self.units[unit as usize] = Unit::Used { order, holds: holds - 1 };
        } else {
            self.free_block(unit, u32::from(order));
        }
    }

    pub(super) fn free_bytes(&self) -> u32 {
        self.free_units * STRADDLE_BLOCK_BYTES_MIN
    }

    pub(super) fn in_use_bytes(&self) -> u64 {
        (self.units.len() as u64 - u64::from(self.free_units)) * u64::from(STRADDLE_BLOCK_BYTES_MIN)
    }

    fn free_block(&mut self, unit: u32, order: u32) {
        self.free_units += 1 << order;
        let (mut unit, mut order) = (unit, order);
        self.units[unit as usize] = Unit::Inside;
        loop {
            let buddy = unit ^ (1 << order);
            match self.units.get(buddy as usize) {
                Some(&Unit::Free { order: of_buddy, .. }) if u32::from(of_buddy) == order => {}
                _ => break,
            }
            self.remove_free(buddy);
            unit = unit.min(buddy);
            order += 1;
        }
        self.push_free(unit, order);
    }

    /// The first unit, order and holds of the block that a span is inside of.
    fn used(&self, span: Span) -> (u32, u8, u32) {
        let each = u64::from(STRADDLE_BLOCK_BYTES_MIN);
        let within = u32::try_from(span.at / each).ok().filter(|&unit| (unit as usize) < self.units.len());
        let within = within.unwrap_or_else(|| panic!("a span is inside the arena: {span:?}"));
        // A block starts at a multiple of its size, and all its units but the first are `Inside`: rounding down to
        // ever larger multiples meets the block's first unit before anything else.
        let mut first = within;
        let mut order = 0;
        while self.units[first as usize] == Unit::Inside {
            order += 1;
            first = within >> order << order;
        }
        match self.units[first as usize] {
            Unit::Used { order, holds } => {
                let end = (u64::from(first) + (1 << order)) * each;
                assert!(span.end() <= end, "a span is inside its block: {span:?}");
                (first, order, holds)
            }
            _ => panic!("a block is not touched once it is free: {span:?}"),
        }
    }

    fn push_free(&mut self, unit: u32, order: u32) {
        let next = std::mem::replace(&mut self.free[order as usize], unit);
        if let Some(Unit::Free { previous, .. }) = self.units.get_mut(next as usize) {
            *previous = unit;
        }
        self.units[unit as usize] = Unit::Free { order: order_byte(order), next, previous: NONE };
    }

    fn remove_free(&mut self, unit: u32) {
        let removed = std::mem::replace(&mut self.units[unit as usize], Unit::Inside);
        let Unit::Free { order, next, previous } = removed else {
            panic!("unit {unit} is in a list of free blocks");
        };
        if let Some(Unit::Free { previous: of_next, .. }) = self.units.get_mut(next as usize) {
            *of_next = previous;
        }
        match self.units.get_mut(previous as usize) {
            Some(Unit::Free { next: of_previous, .. }) => *of_previous = next,
            _ => self.free[usize::from(order)] = next,
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // an order is at most 31
const fn order_byte(order: u32) -> u8 {
    order as u8
}
