//! The bare programs on io_uring: deferred task work, a registered ring descriptor, sockets by index, multishot
//! receives over a hot set of provided buffers where bytes need not stay, and over the relay's window where they do.
//! Needs Linux 6.1; a relay's receives are multishot from 6.12 on.

mod answer;
mod buffers;
mod queues;
mod relay;
mod sink;

pub(super) use answer::answer;
pub(super) use relay::relay;
pub(super) use sink::sink;

/// Whether a ring can be made here.
pub(super) fn is_available() -> bool {
    queues::ring(&[-1]).is_ok()
}
