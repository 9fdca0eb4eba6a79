//! Copies of payload bytes, counted by reason.
//!
//! The counters belong to one shard's `Memory` and have one writer; the shard puts them on its page of
//! metrics once a tick.

/// Why payload bytes were copied: the label of the copy counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CopyReason {
    /// Into a `memory` (or `log`) partition's ring: the one copy those kinds make.
    Retain = 0,
    /// A frame arrived in pieces that do not lie side by side.
    Straddle = 1,
    /// A `live` topic's slow subscriber would have pinned receive memory.
    Lagging = 2,
    /// Small scattered frames were put side by side for one send.
    Gather = 3,
    /// A frame for a `live` partition of another shard.
    Crossing = 4,
    /// A connection changed shards, or was promoted or demoted, with a partial frame pending.
    Moved = 5,
    /// Into a disk block of its own: a `log` partition's flush that is smaller than one, so that its ring can go on
    /// behind it.
    Block = 6,
}

impl CopyReason {
    /// Every reason, in the order of its number.
    pub const ALL: [CopyReason; 7] = [
        CopyReason::Retain,
        CopyReason::Straddle,
        CopyReason::Lagging,
        CopyReason::Gather,
        CopyReason::Crossing,
        CopyReason::Moved,
        CopyReason::Block,
    ];

    /// The reason as metrics and tables spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CopyReason::Retain => "retain",
            CopyReason::Straddle => "straddle",
            CopyReason::Lagging => "lagging",
            CopyReason::Gather => "gather",
            CopyReason::Crossing => "crossing",
            CopyReason::Moved => "moved",
            CopyReason::Block => "block",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

const _: () = {
    let mut i = 0;
    while i < CopyReason::ALL.len() {
        assert!(CopyReason::ALL[i].index() == i);
        i += 1;
    }
};

/// What was copied for one reason since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Copies made.
    pub count: u64,
    /// Bytes they moved.
    pub bytes: u64,
}

/// What was copied, by reason. Only ever grows.
#[derive(Debug, Clone, Default)]
pub struct CopyCounters {
    by_reason: [Copied; CopyReason::ALL.len()],
}

impl CopyCounters {
    /// What was copied for one reason.
    #[must_use]
    pub fn of(&self, reason: CopyReason) -> Copied {
        self.by_reason[reason.index()]
    }

    /// All of them, in the order of [`CopyReason::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (CopyReason, Copied)> + '_ {
        CopyReason::ALL.into_iter().zip(self.by_reason.iter().copied())
    }

    pub(super) fn add(&mut self, reason: CopyReason, bytes: usize) {
        let copied = &mut self.by_reason[reason.index()];
        copied.count += 1;
        copied.bytes += bytes as u64;
    }
}
