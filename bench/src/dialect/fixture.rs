//! For the tests of dialects: what a connection is to do, and answers that come in pieces.

use std::io;
use std::sync::Arc;

use super::Role;
use super::lead::Lead;
use crate::scenario::{AckPace, Flow};

/// A connection of the first flow, with an acknowledgement of each unit.
pub(super) fn role(payload_bytes: usize, batch_bytes: usize, units_at_once: usize) -> Role {
    Role {
        flow: 0,
        number: 0,
        payload_bytes,
        batch_bytes,
        units_at_once,
        acks: AckPace::EACH,
        in_flight: 64,
        from_start: false,
        crossed: false,
    }
}

/// How far one producer may be ahead of so many consumers.
pub(super) fn lead(payload_bytes: usize, batch_bytes: usize, consumers: usize) -> Arc<Lead> {
    let flow =
        Flow { name: String::new(), payload_bytes, batch_bytes, connections: 1, consumers, rate_per_s: 0 };
    Arc::new(Lead::new(&flow))
}

/// Feeds `take` in pieces of so many bytes, giving again what it leaves, as the engine does.
pub(super) fn feed(
    stream: &[u8],
    piece: usize,
    mut take: impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut held = Vec::new();
    for bytes in stream.chunks(piece) {
        held.extend_from_slice(bytes);
        let used = take(&held)?;
        held.drain(..used);
    }
    assert!(held.is_empty(), "everything is used up in the end: {held:?}");
    Ok(())
}
