//! Records between regions: contiguous plaintext whatever the records, and what is gathered is counted.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::buf::{CopyReason, Mapping, Memory, Pages, Span};
use crate::ids::RegionId;
use crate::tls::spans::{open, seal};

const REGION_BYTES: u32 = 1 << 20;
const FRAMES: RegionId = RegionId(0);
const WIRE: RegionId = RegionId(1);
const PLAIN: RegionId = RegionId(2);

fn memory() -> Memory {
    let mut memory = Memory::new();
    for region in [FRAMES, WIRE, PLAIN] {
        let mapping = Mapping::plain(REGION_BYTES as usize, Pages::Small).expect("memory");
        memory.attach(region, Arc::new(mapping));
    }
    memory
}

fn span(region: RegionId, at: u32, bytes: u32) -> Span {
    Span { region, at: at.into(), bytes }
}

/// Stretches of these lengths, a gap behind each, filled with a pattern.
fn frames(memory: &mut Memory, lengths: &[u32]) -> (Vec<Span>, Vec<u8>) {
    let (mut at, mut spans, mut all) = (0, Vec::new(), Vec::new());
    for &bytes in lengths {
        let place = span(FRAMES, at, bytes);
        for (index, byte) in memory.bytes_mut(place).iter_mut().enumerate() {
            *byte = u8::try_from((index * 3 + all.len()) % 251).expect("a byte");
        }
        all.extend_from_slice(memory.bytes(place));
        spans.push(place);
        at += bytes + 8;
    }
    (spans, all)
}

/// Sends the spans with sends of at most `room` bytes, receives them in reads of `piece` bytes; says what was taken
/// in at the other end and how many bytes were gathered.
fn through(records: [Records; 2], lengths: &[u32], room: u32, piece: usize) -> (bool, u64) {
    let mut memory = memory();
    let mut wire = established(records);
    let (spans, all) = frames(&mut memory, lengths);
    let (mut sent, mut plain, mut wired) = (0, 0, 0_u32);
    while sent < all.len() {
        let mut rest: Vec<Span> = Vec::new();
        let mut skip = u32::try_from(sent).expect("small");
        for &part in &spans {
            let hidden = skip.min(part.bytes);
            skip -= hidden;
            rest.push(part.split_at(hidden).1);
        }
        let sealed = seal(&mut wire.client.session, &mut memory, &rest, span(WIRE, 0, room));
        assert!(sealed.taken > 0 && sealed.written <= room as usize, "{sealed:?}");
        sent += sealed.taken;
        // What is on the wire arrives in pieces; what is left of a record stays where it lies.
        let (mut from, mut till) = (0, 0);
        while from < sealed.written {
            till = (till + piece).min(sealed.written);
            let input = span(WIRE, count(from), count(till - from));
            let into = span(PLAIN, plain, REGION_BYTES - plain);
            let received = open(&mut wire.server.session, &mut memory, input, into, NOW_S);
            assert!(matches!(received.then, Then::Wants(_)), "{received:?}");
            plain += count(received.produced);
            from += received.consumed;
        }
        wired += count(sealed.written);
    }
    assert!(u64::from(wired) >= all.len() as u64);
    let gathered = memory.copies().of(CopyReason::Gather).bytes;
    let others = memory.copies().iter().map(|(_, copied)| copied.bytes).sum::<u64>() - gathered;
    assert_eq!(others, 0, "nothing else is copied");
    (memory.bytes(span(PLAIN, 0, plain)) == all, gathered)
}

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("small")
}

#[test]
fn long_frames_are_not_copied_and_short_ones_are_gathered() {
    for records in [[Records::Own, Records::Own], [Records::Rustls, Records::Rustls]] {
        assert_eq!(through(records, &[65_536, 65_536, 5000], 300_000, 9000), (true, 0));
        assert_eq!(through(records, &[64; 100], 300_000, 9000), (true, 6400));
        assert_eq!(through(records, &[64, 65_536, 64, 0, 64, 16_384], 300_000, 1), (true, 128));
        assert_eq!(through(records, &[0, 0, 10, 0], 300_000, 9000), (true, 10));
    }
}

#[test]
fn what_waits_goes_before_the_frames() {
    let files = Files::new();
    let mut memory = memory();
    let mut session = Session::client(&client_tls(&files.client()), "a.example", Records::Own, NOW_S);
    let (spans, _) = frames(&mut memory, &[100]);
    let sealed = seal(&mut session, &mut memory, &spans, span(WIRE, 0, 50));
    assert_eq!((sealed.taken, sealed.written), (0, 50), "a part of the hello");
    let sealed = seal(&mut session, &mut memory, &spans, span(WIRE, 0, 50_000));
    assert!(sealed.taken == 0 && sealed.written > 1000, "{sealed:?}");
    assert_eq!(seal(&mut session, &mut memory, &spans, span(WIRE, 0, 50_000)), Sealed::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_frames_through_any_sends_and_reads_lie_in_one_piece(
        lengths in proptest::collection::vec(prop_oneof![1_u32..200, 1_u32..40_000], 1..16),
        room in 5_000_u32..200_000,
        piece in 500_usize..50_000,
    ) {
        prop_assert!(through([Records::Own, Records::Own], &lengths, room, piece).0);
    }
}
