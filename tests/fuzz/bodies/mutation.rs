//! Damage to a valid encoding: what a story tells of it.

use crate::story::Story;

/// Pieces of damage of one story.
const PIECES_MAX: u8 = 6;

/// Changes some of the bytes, or none.
pub fn mutate(bytes: &mut Vec<u8>, story: &mut Story<'_>) {
    for _ in 0..story.byte() % (PIECES_MAX + 1) {
        let kind = story.byte();
        let at = story.number() % (bytes.len() + 1);
        match kind % 8 {
            0 | 1 => change(bytes, at, |byte| byte ^ (1 << (kind >> 3 & 7))),
            2 => {
                let value = story.byte();
                change(bytes, at, |_| value);
            }
            // Lengths and distances, a little or far too large.
            3 => {
                let more = story.byte();
                change(bytes, at, |byte| byte.wrapping_add(more));
            }
            4 => {
                let value = u32::from(story.byte()).wrapping_mul(0x0101_0101);
                for (to, from) in bytes.iter_mut().skip(at & !3).zip(value.to_le_bytes()) {
                    *to = from;
                }
            }
            5 => bytes.truncate(at),
            6 => {
                let from = story.number() % (bytes.len() + 1);
                let length = usize::from(story.byte()).min(bytes.len() - from).min(bytes.len() - at);
                bytes.copy_within(from..from + length, at);
            }
            _ => {
                let length = usize::from(story.byte()) % 65;
                let more = story.bytes(length).to_vec();
                bytes.splice(at..at, more);
            }
        }
    }
}

fn change(bytes: &mut [u8], at: usize, to: impl Fn(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = to(*byte);
    }
}
