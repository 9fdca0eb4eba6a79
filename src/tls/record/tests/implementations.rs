//! The same tests over both implementations of the ciphers, whatever this processor would choose.

use std::cell::Cell;

use crate::tls::record::cipher::Aead;
use crate::tls::record::{CONTENT_BYTES_MAX, HEADER_BYTES, Implementation, Suite, TAG_BYTES};

thread_local! {
    static ASKED_FOR: Cell<Option<Implementation>> = const { Cell::new(None) };
}

/// What keys are to be made by in this thread; `None` for the processor's choice.
pub fn asked_for() -> Option<Implementation> {
    ASKED_FOR.get()
}

/// Runs a test with all keys of this thread made by one implementation.
pub fn by(implementation: Implementation, test: impl FnOnce()) {
    ASKED_FOR.set(Some(implementation));
    test();
    ASKED_FOR.set(None);
}

/// Tests of a file that are run over each implementation.
macro_rules! over_each_implementation {
    ($($test:ident),* $(,)?) => {
        over_each_implementation!(@ aws_lc, AwsLc, $($test),*);
        over_each_implementation!(@ ring, Ring, $($test),*);
    };
    (@ $name:ident, $by:ident, $($test:ident),*) => {
        mod $name {
            use crate::tls::record::{Implementation, tests::implementations::by};
            $(
                #[test]
                fn $test() {
                    by(Implementation::$by, super::$test);
                }
            )*
        }
    };
}
pub(in crate::tls) use over_each_implementation;

/// Every length around the blocks of the ciphers, sealed and opened by either: the same bytes.
#[test]
fn both_make_the_same_records() {
    let (nonce, header) = ([7; 12], [23, 3, 3, 1, 2]);
    for suite in super::SUITES {
        let key = [0x42; 32];
        let key = &key[..super::schedule::key_bytes(suite)];
        let [aws_lc, ring] = [Implementation::AwsLc, Implementation::Ring]
            .map(|by| Aead::new(by, suite, key).expect("a key of the suite's length"));
        for bytes in (0..600).chain([4095, 4096, CONTENT_BYTES_MAX - 1, CONTENT_BYTES_MAX]) {
            let content: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).expect("a byte")).collect();
            let seal = |by: &Aead| {
                let mut out = vec![0; bytes + 1 + TAG_BYTES];
                by.seal(nonce, header, &content, 23, &mut out).expect("a fresh key");
                let mut in_place = [&content[..], &[23], &[0; TAG_BYTES]].concat();
                by.seal_in_place(nonce, header, &mut in_place).expect("a fresh key");
                assert_eq!(in_place, out, "{suite:?} {bytes}");
                out
            };
            let sealed = seal(&aws_lc);
            assert_eq!(seal(&ring), sealed, "{suite:?} {bytes}");
            let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>().expect("a tag");
            for by in [&aws_lc, &ring] {
                let mut out = vec![0xee; bytes + 1];
                assert_eq!(by.open(nonce, header, ciphertext, *tag, &mut out), Ok(()));
                assert_eq!((&out[..bytes], out[bytes]), (&content[..], 23));
                let mut other = header;
                other[HEADER_BYTES - 1] ^= 1;
                assert!(by.open(nonce, other, ciphertext, *tag, &mut out).is_err());
                assert!(out.iter().all(|&byte| byte == 0), "nothing of it is left");
            }
        }
    }
}

#[test]
fn keys_of_another_length_are_refused_by_both() {
    for by in [Implementation::AwsLc, Implementation::Ring] {
        assert!(Aead::new(by, Suite::Aes128Gcm, &[0; 32]).is_err());
        assert!(Aead::new(by, Suite::Aes256Gcm, &[0; 16]).is_err());
        assert!(Aead::new(by, Suite::Chacha20Poly1305, &[0; 16]).is_err());
    }
}

/// On the processors that tests run on, the choice is the one the module describes.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_choice_is_by_processor() {
    use std::arch::is_x86_feature_detected as has;
    let wide = has!("vaes") && has!("vpclmulqdq") && !has!("avx512f");
    let expected = if wide { Implementation::Ring } else { Implementation::AwsLc };
    assert_eq!(Implementation::of(Suite::Aes128Gcm), expected);
    assert_eq!(Implementation::of(Suite::Aes256Gcm), expected);
    assert_eq!(Implementation::of(Suite::Chacha20Poly1305), Implementation::AwsLc, "the same code in both");
}
