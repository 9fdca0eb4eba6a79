//! How much credit a producer should have: from what it has sent, and how fast.
//!
//! A producer is kept at a window, which grows while half of it is used within a second: so what a producer holds is in
//! proportion to what it sends, and one that sends without end gets the full window at once. The server cannot know how
//! large the next frame is; it takes it that a producer goes on as it has begun, so it *needs* as much as its largest
//! frame so far, and waits for credit when it has less.

use crate::limits::{CREDIT_CHANNEL_BYTES, CREDIT_LEAST_BYTES, CREDIT_STARTER_BYTES};

/// A producer that uses half of its window within this time gets a larger one, another a smaller one.
const RENEW_NS: u64 = 1_000_000_000;
/// Credit for so many times what was used between two looks is not idle.
const BUSY: u64 = 4;

/// See the module. The same for producers of this shard and of others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    /// The credit it is kept at.
    window: u64,
    /// Its largest frame; 0 before it has sent any.
    largest: u64,
    /// Bytes sent since credit was last looked through for what lies idle.
    recent: u64,
    granted_ns: u64,
    /// When it was last counted as busy.
    period: u64,
    /// In its partition's queue.
    pub waits: bool,
}

impl Default for Demand {
    fn default() -> Self {
        Demand { window: CREDIT_STARTER_BYTES, largest: 0, recent: 0, granted_ns: 0, period: 0, waits: false }
    }
}

/// What a producer should be granted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Want {
    /// Each grant costs a frame, so not in crumbs.
    pub least: u64,
    pub most: u64,
    /// It has less than it needs, so it waits where there is no room for `least`.
    pub waits: bool,
}

/// What a partition offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    /// The largest frame it takes.
    pub largest: u64,
    /// The first grant of a producer.
    pub starter: u64,
    /// An equal part for each that is busy.
    pub share: u64,
}

impl Demand {
    /// A frame was sent.
    #[inline]
    pub(super) fn sent(&mut self, frame_bytes: u32) {
        self.largest = self.largest.max(u64::from(frame_bytes));
        self.recent += u64::from(frame_bytes);
    }

    /// Whether it wants nothing that has so much left.
    #[inline]
    pub(super) fn content(&self, available: u64, offer: Offer) -> bool {
        // It may never publish that has not yet.
        let enough = self.largest == 0 || available > self.window.min(offer.share) / 2;
        enough && available >= self.need(offer)
    }

    #[inline]
    fn need(&self, offer: Offer) -> u64 {
        self.largest.min(offer.largest).max(CREDIT_LEAST_BYTES)
    }

    /// What it wants that has so much left; `None` for nothing.
    pub(super) fn want(&self, available: u64, offer: Offer, now_ns: u64) -> Option<Want> {
        if self.content(available, offer) {
            return None;
        }
        if self.largest == 0 {
            return Some(Want { least: CREDIT_LEAST_BYTES, most: offer.starter, waits: true });
        }
        let need = self.need(offer);
        let waits = available < need;
        let window = self.next_window(now_ns).min(offer.share).max(need);
        let crumb = if waits { need - available } else { window / 8 };
        let least = crumb.max(CREDIT_LEAST_BYTES);
        Some(Want { least, most: window.saturating_sub(available).max(least), waits })
    }

    fn next_window(&self, now_ns: u64) -> u64 {
        let quick = now_ns.saturating_sub(self.granted_ns) < RENEW_NS;
        let window = if quick { self.window * 2 } else { self.window / 2 };
        window.clamp(CREDIT_STARTER_BYTES, CREDIT_CHANNEL_BYTES)
    }

    /// It has got something of what it wanted.
    pub(super) fn got(&mut self, now_ns: u64) {
        if self.largest > 0 {
            self.window = self.next_window(now_ns);
        }
        self.granted_ns = now_ns;
        self.waits = false;
    }

    /// Says once in each period that it is busy.
    #[inline]
    pub(super) fn counts_in(&mut self, period: u64) -> bool {
        self.largest > 0 && std::mem::replace(&mut self.period, period) != period
    }

    /// Of what is left of its credit, what it will not use soon, as it seems; for one look after another.
    pub(super) fn idle(&mut self, available: u64) -> u64 {
        let recent = std::mem::take(&mut self.recent);
        available.saturating_sub(BUSY * recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer = Offer { largest: 128 * 1024, starter: CREDIT_STARTER_BYTES, share: u64::MAX };

    #[test]
    fn the_window_follows_the_pace() {
        let mut demand = Demand::default();
        assert_eq!(demand.want(CREDIT_STARTER_BYTES, OFFER, 0), None);
        demand.sent(192);
        let mut now = 0;
        for expected in [128, 256, 512, 1024, 1024] {
            now += RENEW_NS - 1;
            let want = demand.want(10_000, OFFER, now).expect("it has less than half");
            assert_eq!((want.most + 10_000, want.waits), (expected * 1024, false));
            assert_eq!(want.least, expected * 1024 / 8);
            demand.got(now);
        }
        assert_eq!(demand.want(CREDIT_CHANNEL_BYTES / 2 + 1, OFFER, now), None, "half of it is enough");
        for expected in [512, 256, 128, 64, 64] {
            now += RENEW_NS;
            let want = demand.want(10_000, OFFER, now).expect("it has less than half");
            assert_eq!(want.most + 10_000, expected * 1024);
            demand.got(now);
        }
    }

    #[test]
    fn it_wants_no_more_than_its_share_and_its_largest_frame() {
        let mut demand = Demand::default();
        demand.sent(9_000);
        let crowd = Offer { share: 20_000, ..OFFER };
        assert_eq!(demand.want(10_001, crowd, 0), None);
        assert_eq!(demand.want(9_500, crowd, 0), Some(Want { least: 4_096, most: 10_500, waits: false }));
        assert_eq!(demand.want(3_000, crowd, 0), Some(Want { least: 6_000, most: 17_000, waits: true }));
        let larger = Offer { share: 5_000, ..OFFER };
        assert_eq!(demand.want(3_000, larger, 0), Some(Want { least: 6_000, most: 6_000, waits: true }));
        assert_eq!(demand.want(9_000, larger, 0), None);
    }

    #[test]
    fn who_has_less_than_its_largest_frame_waits_for_it() {
        let mut demand = Demand::default();
        assert_eq!(demand.want(CREDIT_LEAST_BYTES, OFFER, 0), None, "it has begun nothing");
        demand.sent(100_000);
        demand.sent(200);
        let want = demand.want(99_000, OFFER, 0).expect("less than its largest frame");
        assert_eq!((want.least, want.waits), (CREDIT_LEAST_BYTES, true));
        assert_eq!(demand.want(10_000, OFFER, 0).expect("much less").least, 90_000);
        let small = Offer { largest: 50_000, ..OFFER };
        assert_eq!(demand.want(10_000, small, 0).expect("less than may be sent").least, 40_000);
        assert_eq!(demand.want(50_000, small, 0), None, "as much as may be sent");
    }

    #[test]
    fn credit_is_idle_beyond_what_is_used_between_two_looks() {
        let mut demand = Demand::default();
        assert_eq!(demand.idle(64_000), 64_000);
        demand.sent(1_000);
        demand.sent(500);
        assert_eq!(demand.idle(62_500), 62_500 - BUSY * 1_500);
        assert_eq!(demand.idle(62_500), 62_500, "since the last look");
        demand.sent(20_000);
        assert_eq!(demand.idle(42_500), 0);
    }
}
