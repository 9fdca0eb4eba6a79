//! Sessions over the data plane's memory: records are opened and sealed between spans.

use super::record::{Cut, HEADER_BYTES, OVERHEAD_BYTES, next_cut};
use super::{Received, Sealed, Session};
use crate::buf::{CopyReason, Memory, Span};

/// Takes in records that lie at `from`; their plaintext is packed at the start of `to`. See [`Session::receive`].
///
/// # Panics
/// When the spans share memory or are not inside attached regions.
pub fn open(session: &mut Session, memory: &mut Memory, from: Span, to: Span, now_s: u64) -> Received {
    let (input, out) = memory.pair(from, to);
    session.receive(input, out, now_s)
}

/// Writes what waits to be sent, then records with as much of the spans, in their order, as there is room for, to
/// the start of `to`. Long spans are sealed where they lie; short neighbours are gathered first, which is counted.
///
/// # Panics
/// When a span shares memory with `to` or is not inside an attached region.
pub fn seal(session: &mut Session, memory: &mut Memory, spans: &[Span], to: Span) -> Sealed {
    let mut sealed = Sealed::default();
    let (mut at, mut skip) = (0, 0);
    loop {
        let rest = after(to, sealed.written);
        sealed.written += session.transmit(&[], memory.bytes_mut(rest)).written;
        let rest = after(to, sealed.written);
        if session.has_output() || !session.can_send() {
            return sealed;
        }
        let left = |span: &Span| span.bytes as usize;
        let first = spans.get(at).map(|span| span.bytes as usize - skip);
        let lengths = first.into_iter().chain(spans.iter().skip(at + 1).map(left));
        match next_cut(lengths, rest.bytes as usize) {
            Cut::Nothing if first == Some(0) => (at, skip) = (at + 1, 0),
            Cut::Nothing => return sealed,
            Cut::Straight(bytes) => {
                let (from, _) = after(spans[at], skip).split_at(count(bytes));
                let (input, out) = memory.pair(from, rest);
                let once = session.transmit(input, &mut out[..bytes + OVERHEAD_BYTES]);
                if once.taken != bytes {
                    return Sealed {
                        taken: sealed.taken + once.taken,
                        written: sealed.written + once.written,
                    };
                }
                sealed = Sealed { taken: sealed.taken + bytes, written: sealed.written + once.written };
                skip += bytes;
                if skip == spans[at].bytes as usize {
                    (at, skip) = (at + 1, 0);
                }
            }
            Cut::Gather { stretches, bytes } => {
                let mut place = after(rest, HEADER_BYTES);
                for (index, &span) in spans[at..at + stretches].iter().enumerate() {
                    let from = if index == 0 { after(span, skip) } else { span };
                    let (piece, behind) = place.split_at(from.bytes);
                    memory.copy(from, piece, CopyReason::Gather);
                    place = behind;
                }
                sealed.written += session.seal_placed(bytes, memory.bytes_mut(rest));
                sealed.taken += bytes;
                (at, skip) = (at + stretches, 0);
            }
        }
    }
}

fn after(span: Span, bytes: usize) -> Span {
    span.split_at(count(bytes)).1
}

#[allow(clippy::cast_possible_truncation)] // of a span, whose length is a u32
fn count(bytes: usize) -> u32 {
    assert!(u32::try_from(bytes).is_ok(), "no longer than a span");
    bytes as u32
}
