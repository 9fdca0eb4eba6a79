//! The producers' credit pool: what the ring can still take is what may be granted.
//!
//! Invariant (`block`, `reject`): at a grant, `protected + granted + one large frame <= ring_bytes`, so a
//! batch within its credit finds room, unless a subscriber has come meanwhile that protects older records.

use crate::limits::FRAME_BYTES_MAX_DEFAULT;
use crate::topic::Overflow;

#[derive(Debug)]
pub(super) struct CreditPool {
    overflow: Overflow,
    ring_bytes: u64,
    granted: u64,
}

impl CreditPool {
    pub(super) fn new(overflow: Overflow, ring_bytes: u64) -> CreditPool {
        CreditPool { overflow, ring_bytes, granted: 0 }
    }

    /// Bytes granted and not given back.
    #[cfg(test)]
    pub(super) fn granted(&self) -> u64 {
        self.granted
    }

    /// `protected`: bytes some subscriber has yet to receive.
    #[inline]
    pub(super) fn grant(&mut self, want: u64, protected: u64) -> u64 {
        let most = match self.overflow {
            Overflow::DropOldest => self.ring_bytes / 2,
            Overflow::Block | Overflow::Reject => {
                let reserve = u64::from(FRAME_BYTES_MAX_DEFAULT).min(self.ring_bytes / 8);
                self.ring_bytes - reserve - protected.min(self.ring_bytes - reserve)
            }
        };
        let granted = want.min(most.saturating_sub(self.granted));
        self.granted += granted;
        granted
    }

    #[inline]
    pub(super) fn ungrant(&mut self, bytes: u64) {
        assert!(bytes <= self.granted, "only what was granted is given back");
        self.granted -= bytes;
    }
}
