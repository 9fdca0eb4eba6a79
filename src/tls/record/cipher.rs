//! One key of a cipher, and who does its arithmetic: for each suite, the implementation that is fastest on this
//! processor.
//!
//! aws-lc-rs opens and seals from one place into another, in one pass. Its AES-GCM uses the wide AES instructions
//! (VAES) with AVX-512 only. ring's uses them with AVX2 too, and works in place only: content is copied to its place
//! first. Where there is VAES without AVX-512 (AMD's Zen 3, Intel's hybrid processors) ring is faster all the same,
//! by half; elsewhere it is not. docs/decisions/0006 has the figures.

use aws_lc_rs::aead as aws;
use ring::aead as ring;

use super::keys::{IV_BYTES, Suite};
use super::{HEADER_BYTES, TAG_BYTES};
use crate::tls::Reason;

/// Who does a cipher's arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// aws-lc-rs: from one place into another, in one pass.
    AwsLc,
    /// ring: a copy to its place, then in place.
    Ring,
}

impl Implementation {
    /// The fastest for a suite on this processor.
    #[must_use]
    pub fn of(suite: Suite) -> Implementation {
        #[cfg(test)]
        if let Some(asked_for) = super::tests::implementations::asked_for() {
            return asked_for;
        }
        match suite {
            Suite::Aes128Gcm | Suite::Aes256Gcm if has_wide_aes_without_avx512() => Implementation::Ring,
            Suite::Aes128Gcm | Suite::Aes256Gcm | Suite::Chacha20Poly1305 => Implementation::AwsLc,
        }
    }

    /// As its package is named.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Implementation::AwsLc => "aws-lc-rs",
            Implementation::Ring => "ring",
        }
    }
}

/// Whether ring uses wide AES instructions here and aws-lc does not.
#[cfg(target_arch = "x86_64")]
fn has_wide_aes_without_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
    has!("vaes") && has!("vpclmulqdq") && has!("avx2") && !avx512
}

#[cfg(not(target_arch = "x86_64"))]
fn has_wide_aes_without_avx512() -> bool {
    false
}

pub(super) type NonceBytes = [u8; IV_BYTES];
type Header = [u8; HEADER_BYTES];

/// A key, made ready for use.
pub(super) enum Aead {
    AwsLc(aws::LessSafeKey),
    /// In a box: the key and its tables lie in it, aws-lc keeps its own elsewhere.
    Ring(Box<ring::LessSafeKey>),
}

impl Aead {
    /// # Errors
    /// When the key is not as long as the suite's keys are.
    pub(super) fn new(by: Implementation, suite: Suite, key: &[u8]) -> Result<Aead, Reason> {
        match by {
            Implementation::AwsLc => {
                let algorithm = match suite {
                    Suite::Aes128Gcm => &aws::AES_128_GCM,
                    Suite::Aes256Gcm => &aws::AES_256_GCM,
                    Suite::Chacha20Poly1305 => &aws::CHACHA20_POLY1305,
                };
                let key = aws::UnboundKey::new(algorithm, key).map_err(|_unspecified| Reason::Internal)?;
                Ok(Aead::AwsLc(aws::LessSafeKey::new(key)))
            }
            Implementation::Ring => {
                let algorithm = match suite {
                    Suite::Aes128Gcm => &ring::AES_128_GCM,
                    Suite::Aes256Gcm => &ring::AES_256_GCM,
                    Suite::Chacha20Poly1305 => &ring::CHACHA20_POLY1305,
                };
                let key = ring::UnboundKey::new(algorithm, key).map_err(|_unspecified| Reason::Internal)?;
                Ok(Aead::Ring(Box::new(ring::LessSafeKey::new(key))))
            }
        }
    }

    /// Opens `ciphertext` into `out`, which is as long.
    ///
    /// # Errors
    /// When the tag is wrong; `out` holds zeros then.
    pub(super) fn open(
        &self,
        nonce: NonceBytes,
        header: Header,
        ciphertext: &[u8],
        tag: [u8; TAG_BYTES],
        out: &mut [u8],
    ) -> Result<(), Reason> {
        let opened = match self {
            Aead::AwsLc(key) => {
                let nonce = aws::Nonce::assume_unique_for_key(nonce);
                key.open_separate_gather(nonce, aws::Aad::from(header), ciphertext, &tag, out).is_ok()
            }
            Aead::Ring(key) => {
                let nonce = ring::Nonce::assume_unique_for_key(nonce);
                out.copy_from_slice(ciphertext);
                key.open_in_place_separate_tag(nonce, ring::Aad::from(header), tag.into(), out, 0..).is_ok()
            }
        };
        if opened {
            return Ok(());
        }
        out.fill(0);
        Err(Reason::BadRecordMac)
    }

    /// Seals `content` and one byte behind it into `out`, which is as long as both and the tag.
    ///
    /// # Errors
    /// When the implementation fails.
    pub(super) fn seal(
        &self,
        nonce: NonceBytes,
        header: Header,
        content: &[u8],
        last: u8,
        out: &mut [u8],
    ) -> Result<(), Reason> {
        let (place, rest) = out.split_at_mut(content.len());
        match self {
            Aead::AwsLc(key) => {
                let nonce = aws::Nonce::assume_unique_for_key(nonce);
                key.seal_out_of_place_scatter(nonce, aws::Aad::from(header), content, place, &[last], rest)
                    .map_err(|_unspecified| Reason::Internal)
            }
            Aead::Ring(_) => {
                place.copy_from_slice(content);
                rest[0] = last;
                self.seal_in_place(nonce, header, out)
            }
        }
    }

    /// Seals all of `out` but the room for the tag at its end, where it lies.
    ///
    /// # Errors
    /// As [`Aead::seal`].
    pub(super) fn seal_in_place(
        &self,
        nonce: NonceBytes,
        header: Header,
        out: &mut [u8],
    ) -> Result<(), Reason> {
        let (in_out, room) = out.split_at_mut(out.len() - TAG_BYTES);
        match self {
            Aead::AwsLc(key) => {
                let nonce = aws::Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_separate_tag(nonce, aws::Aad::from(header), in_out)
                    .map(|tag| room.copy_from_slice(tag.as_ref()))
                    .map_err(|_unspecified| Reason::Internal)
            }
            Aead::Ring(key) => {
                let nonce = ring::Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_separate_tag(nonce, ring::Aad::from(header), in_out)
                    .map(|tag| room.copy_from_slice(tag.as_ref()))
                    .map_err(|_unspecified| Reason::Internal)
            }
        }
    }
}
