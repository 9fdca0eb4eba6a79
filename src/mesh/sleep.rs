//! The flag by which a peer that waits in the kernel is noticed by those who have a message for it.
//!
//! Both sides write one thing, pass a SeqCst fence and read the other's: the sleeper its flag and then the
//! rings' tails, the sender a ring's tail and then the flag. Of two such fences one comes first, so either
//! the sleeper sees the message or the sender sees the flag; both may happen, which costs a spurious wake.
//!
//! The sender that finds the flag set clears it, which spares the senders after it a wake each: the flag is
//! only ever cleared by the sleeper itself or by someone who then wakes it. So a cleared flag is always
//! followed by a look at the rings, provided that **a wake that was announced is really made** and is not
//! lost when it comes before the wait (an eventfd's count, a posted completion).

use super::ring::Line;
use super::sync::{AtomicBool, Ordering, fence};

/// One peer's flag.
#[derive(Debug)]
pub(super) struct SleepFlag(Line<AtomicBool>);

impl SleepFlag {
    pub(super) fn new() -> Self {
        Self(Line(AtomicBool::new(false)))
    }

    /// The sleeper, before it looks at its rings for the last time.
    pub(super) fn announce(&self) {
        self.0.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sleeper, when it does not sleep after all or no longer.
    pub(super) fn withdraw(&self) {
        self.0.0.store(false, Ordering::Relaxed);
    }

    /// A sender, after its push: whether it has to wake the peer.
    #[inline]
    pub(super) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        let sleeping = self.0.0.load(Ordering::Relaxed);
        if sleeping {
            self.0.0.store(false, Ordering::Relaxed);
        }
        sleeping
    }
}
