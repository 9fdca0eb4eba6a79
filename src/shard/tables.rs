//! What a shard's tables take, for the memory plan.

use super::ShardLimits;
use super::channels::Channel;
use super::conn::Conn;
use super::remote::RemoteProducer;
use super::subscriptions::{RemoteConsumer, Subscription};
use super::transmit::Flight;
use crate::limits::SENDS_IN_FLIGHT;
use crate::time::TimerWheel;

/// One table: addresses are reserved at the start, pages are touched as entries are first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSize {
    /// What an entry is.
    pub what: &'static str,
    /// Entries of one shard.
    pub entries: u64,
    /// Bytes of an entry.
    pub entry_bytes: u64,
}

/// The tables of one shard. What entries own beside (names, lists of spans in flight) is small and bounded by
/// them.
#[must_use]
pub fn tables(limits: &ShardLimits) -> Vec<TableSize> {
    let of = |what, entries: u32, bytes: usize| TableSize {
        what,
        entries: u64::from(entries),
        entry_bytes: bytes as u64,
    };
    let sends = u32::try_from(SENDS_IN_FLIGHT).unwrap_or(u32::MAX);
    vec![
        of("connections", limits.connections, size_of::<Conn>()),
        of("timers", limits.connections, TimerWheel::ENTRY_BYTES),
        of("channels of producers", limits.channels, size_of::<Channel>()),
        of("channels of other shards' producers", limits.channels, size_of::<RemoteProducer>()),
        of("subscriptions", limits.subscriptions, size_of::<Subscription>()),
        of("subscriptions of other shards", limits.subscriptions, size_of::<RemoteConsumer>()),
        of("sends in flight", sends, size_of::<Flight>()),
    ]
}
