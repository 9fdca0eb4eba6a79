//! Time as numbers: the timer wheel, and how times are written and read. No clock is read here; whoever
//! needs "now" is told it.
//!
//! Two kinds of nanoseconds go around: of the monotonic clock (deadlines, timers) and since 1970 in UTC
//! (append times, seeks). Both are `u64`; names ending in `wall_ns` or `utc` mean the second.

mod utc;
mod wheel;

#[cfg(test)]
mod tests;

pub use utc::{format_utc, parse_time};
pub use wheel::TimerWheel;

/// Nanoseconds in a microsecond.
pub const NS_PER_US: u64 = 1_000;
/// Nanoseconds in a millisecond.
pub const NS_PER_MS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const NS_PER_SECOND: u64 = 1_000_000_000;
