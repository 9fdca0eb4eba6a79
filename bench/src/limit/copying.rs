//! What keeping a record costs at least: one copy from memory that was just received into, to where it stays.
//!
//! Source and destination are as a server's would be: a set of receive buffers that stays in the cache, and a ring as
//! long as a topic's retention, which does not. Copied on the server's CPU, for the server's own time, by `memcpy`.

use std::io;
use std::time::Duration;

use uringest::buf::{Mapping, Pages};
use uringest::limits::RETENTION_BYTES_DEFAULT;

use crate::failure::Failure;
use crate::host::{Placement, thread_cpu_ns};

/// The set of receive buffers.
const SOURCE_BYTES: usize = 1024 * 1024;
/// CPU time that is spent on it.
const COPY_FOR: Duration = Duration::from_millis(100);

/// Nanoseconds of CPU time for each byte, copied in pieces of so many: as large as a batch.
///
/// # Errors
/// There is no memory for it, or the server's CPUs may not be used.
pub(super) fn ns_per_byte(piece: usize, placement: &Placement) -> Result<f64, Failure> {
    let cpus = placement.server_cpus.clone();
    let measured = std::thread::spawn(move || {
        cpus.pin()?;
        measure(piece)
    });
    let what = || "what a copy costs cannot be measured on the server's CPUs".to_owned();
    measured.join().expect("copying does not panic").map_err(|source| Failure::Host { what: what(), source })
}

fn measure(piece: usize) -> io::Result<f64> {
    let ring_bytes = usize::try_from(RETENTION_BYTES_DEFAULT).map_err(io::Error::other)?;
    let map = |bytes| Mapping::plain(bytes, Pages::Small).map_err(io::Error::other);
    let (source, ring) = (map(SOURCE_BYTES)?, map(ring_bytes)?);
    source.prefault();
    ring.prefault();
    let piece = piece.clamp(1, SOURCE_BYTES);
    let (mut from, mut to) = (0, 0);
    let (begin, mut copied) = (thread_cpu_ns(), 0_u64);
    loop {
        // The clock costs far less than a megabyte.
        for _ in 0..SOURCE_BYTES / piece {
            from = if from + piece > SOURCE_BYTES { 0 } else { from };
            to = if to + piece > ring_bytes { 0 } else { to };
            // SAFETY: both runs lie within their mappings, which are different ones and nobody else's.
            unsafe { std::ptr::copy_nonoverlapping(source.base().add(from), ring.base().add(to), piece) };
            std::hint::black_box(ring.base());
            from += piece;
            to += piece;
            copied += piece as u64;
        }
        let spent = thread_cpu_ns() - begin;
        if u128::from(spent) >= COPY_FOR.as_nanos() {
            return Ok(spent as f64 / copied as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_costs_something_and_not_much() {
        let placement =
            Placement { server_cpus: "0".parse().expect("a list"), load_cpus: "0".parse().expect("a list") };
        for piece in [128, 65_536] {
            let ns = ns_per_byte(piece, &placement).expect("memory and a CPU");
            // From ten thousand megabytes a second for each of ten sockets' caches, down to ten.
            assert!((0.001..100.0).contains(&ns), "{ns} ns a byte in pieces of {piece}");
        }
    }
}
