use proptest::prelude::*;

use super::*;

/// Bit by bit, as the polynomial says.
fn reference(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for &byte in bytes {
        register ^= u32::from(byte);
        for _ in 0..8 {
            register = if register & 1 == 1 { (register >> 1) ^ 0x82F6_3B78 } else { register >> 1 };
        }
    }
    !register
}

#[test]
fn known_values() {
    // RFC 3720 appendix B.4, and the check value of the CRC catalogues.
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c(&[0xff; 32]), 0x62A8_AB43);
    assert_eq!(crc32c(b""), 0);
}

#[test]
fn every_length_around_the_switch_agrees() {
    let bytes: Vec<u8> = (0..1024u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    // Interpreted, all of them take minutes: some of each remainder then.
    for length in (0..bytes.len()).step_by(if cfg!(miri) { 37 } else { 1 }) {
        let piece = &bytes[..length];
        let expected = reference(piece);
        assert_eq!(crc32c(piece), expected, "{length}");
        assert_eq!(crc_fast::crc32_iscsi(piece), expected, "{length}");
        assert_eq!(!folded(u32::MAX, piece), expected, "{length}");
        if let Some(register) = instruction::update(u32::MAX, piece) {
            assert_eq!(!register, expected, "{length}");
        }
    }
}

proptest! {
    #[test]
    fn pieces_make_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..2000), cut in any::<prop::sample::Index>()) {
        let (left, right) = bytes.split_at(cut.index(bytes.len() + 1));
        let mut crc = Crc32c::new();
        crc.update(left);
        crc.update(right);
        prop_assert_eq!(crc.finish(), reference(&bytes));
    }
}
