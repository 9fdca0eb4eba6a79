//! How many connections the whole server has, and from where: the limits are the server's, not a shard's.
//!
//! Touched when a connection comes or goes, never per frame.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::proto::code::Code;

/// Addresses are counted in this many buckets; two that share one share its limit.
const BUCKETS: usize = 16 * 1024;
/// Connections that are told no at once: an eighth of those that may be let in, within these. Each has a descriptor until
/// it has heard, up to a second; more of them would take those that the log and the admin port need.
const TOLD_NO_MIN: u32 = 8;
/// As [`TOLD_NO_MIN`].
pub const TOLD_NO_MAX: u32 = 64;

/// See the module.
#[derive(Debug)]
pub struct Census {
    total: AtomicU32,
    total_max: u32,
    told_no: AtomicU32,
    told_no_max: u32,
    by_address: Vec<AtomicU32>,
    by_address_max: u32,
    hasher: RandomState,
}

impl Census {
    /// Nobody yet. `by_address_max` of 0 sets no limit for one address.
    #[must_use]
    pub fn new(total_max: u32, by_address_max: u32) -> Census {
        let buckets = if by_address_max == 0 { 0 } else { BUCKETS };
        Census {
            total: AtomicU32::new(0),
            total_max,
            told_no: AtomicU32::new(0),
            told_no_max: (total_max / 8).clamp(TOLD_NO_MIN, TOLD_NO_MAX),
            by_address: (0..buckets).map(|_| AtomicU32::new(0)).collect(),
            by_address_max,
            hasher: RandomState::new(),
        }
    }

    /// Counts a connection in.
    ///
    /// # Errors
    /// `too_many_connections` or `too_many_from_address`; it is not counted then.
    pub fn enter(&self, peer: IpAddr) -> Result<(), Code> {
        if !raise(&self.total, self.total_max) {
            return Err(Code::TooManyConnections);
        }
        if self.bucket(peer).is_some_and(|bucket| !raise(bucket, self.by_address_max)) {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Code::TooManyFromAddress);
        }
        Ok(())
    }

    /// Counts a connection out that was counted in.
    pub fn leave(&self, peer: IpAddr) {
        self.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(bucket) = self.bucket(peer) {
            bucket.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts in a connection that is to be told why it is not let in. Where too many are being told already it is not
    /// counted, and has to be closed without a word.
    #[must_use]
    pub fn tell_no(&self) -> bool {
        raise(&self.told_no, self.told_no_max)
    }

    /// A connection that [`Census::tell_no`] counted is closed.
    pub fn told_no(&self) {
        self.told_no.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections now.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// Connections that are being told why they are not let in.
    #[cfg(any(test, uringest_sim))]
    #[must_use]
    pub fn being_told_no(&self) -> u32 {
        self.told_no.load(Ordering::Relaxed)
    }

    #[allow(clippy::cast_possible_truncation)] // reduced modulo the number of buckets
    fn bucket(&self, peer: IpAddr) -> Option<&AtomicU32> {
        if self.by_address.is_empty() {
            return None;
        }
        self.by_address.get(self.hasher.hash_one(peer) as usize % BUCKETS)
    }
}

/// Adds one unless that would pass `max`.
fn raise(count: &AtomicU32, max: u32) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_what_leaves_makes_room() {
        let census = Census::new(3, 2);
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert_eq!(census.enter(a), Ok(()));
        assert_eq!(census.enter(a), Ok(()));
        assert_eq!(census.enter(a), Err(Code::TooManyFromAddress));
        assert_eq!(census.total(), 2);
        assert_eq!(census.enter(b), Ok(()));
        assert_eq!(census.enter(b), Err(Code::TooManyConnections));
        census.leave(a);
        assert_eq!(census.enter(b), Ok(()));
        assert_eq!(census.total(), 3);
    }

    #[test]
    fn few_are_told_no_at_once() {
        let census = Census::new(48, 0);
        let told = (0..48).filter(|_| census.tell_no()).count();
        assert_eq!(told, 8);
        census.told_no();
        assert!(census.tell_no());
        assert!(!census.tell_no());
        assert_eq!(census.total(), 0, "none of them was let in");
    }
}
