//! The producers' credit pool: what the ring can still take is what may be granted.
//!
//! Invariant (`block`, `reject`): at a grant, `protected + granted - idle + one large frame <= ring_bytes`, so a
//! batch within its credit finds room, unless a subscriber has come meanwhile that protects older records, or
//! credit that was found idle is used after all.

use crate::limits::FRAME_BYTES_MAX_DEFAULT;
use crate::topic::Overflow;

#[derive(Debug)]
pub(super) struct CreditPool {
    overflow: Overflow,
    ring_bytes: u64,
    granted: u64,
    /// The part of it that nobody has used for a while, when it was last looked at: it is not counted on.
    idle: u64,
}

/// What the ring could still be promised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditRoom {
    /// What may be granted now.
    pub free: u64,
    /// What might be if nothing were granted.
    pub whole: u64,
}

impl CreditPool {
    pub(super) fn new(overflow: Overflow, ring_bytes: u64) -> CreditPool {
        CreditPool { overflow, ring_bytes, granted: 0, idle: 0 }
    }

    /// Bytes granted and not given back.
    #[cfg(any(test, uringest_sim))]
    pub(super) fn granted(&self) -> u64 {
        self.granted
    }

    pub(super) fn room(&self, protected: u64) -> CreditRoom {
        let whole = match self.overflow {
            Overflow::DropOldest => self.ring_bytes / 2,
            Overflow::Block | Overflow::Reject => {
                let reserve = u64::from(FRAME_BYTES_MAX_DEFAULT).min(self.ring_bytes / 8);
                self.ring_bytes - reserve - protected.min(self.ring_bytes - reserve)
            }
        };
        // What is used is not told apart, so `idle` may be more than is left.
        CreditRoom { free: whole.saturating_sub(self.granted.saturating_sub(self.idle)), whole }
    }

    /// `protected`: bytes some subscriber has yet to receive.
    pub(super) fn grant(&mut self, want: u64, protected: u64) -> u64 {
        let granted = want.min(self.room(protected).free);
        self.granted += granted;
        granted
    }

    /// So much of what is granted lies idle. It may still be used.
    pub(super) fn set_idle(&mut self, bytes: u64) {
        assert!(bytes <= self.granted, "only what was granted lies idle");
        self.idle = bytes;
    }

    pub(super) fn idle(&self) -> u64 {
        self.idle
    }

    #[inline]
    pub(super) fn ungrant(&mut self, bytes: u64) {
        assert!(bytes <= self.granted, "only what was granted is given back");
        self.granted -= bytes;
    }
}
