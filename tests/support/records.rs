//! One direction of an established connection, by its key: records that no client would make, and what the other side
//! says to them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

pub const HEADER_BYTES: usize = 5;
pub const ALERT: u8 = 21;
pub const DATA: u8 = 23;

pub struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Direction {
    /// Of what a handshake ended with; its suite is rustls's first.
    pub fn of((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Direction {
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("the first suite of rustls")
        };
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("32 bytes");
        Direction { key: LessSafeKey::new(key), iv: iv.as_ref().try_into().expect("12 bytes"), sequence }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// The next record, whatever is inside: content, its type, padding.
    pub fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let bytes = u16::try_from(inner.len() + 16).expect("short").to_be_bytes();
        let header = [DATA, 3, 3, bytes[0], bytes[1]];
        let mut sealed = inner.to_vec();
        let nonce = self.nonce();
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed).expect("a fresh key");
        [&header[..], &sealed].concat()
    }

    /// What is inside the next record; `None` when it is not the next one.
    #[allow(dead_code)] // each test crate uses a part
    pub fn open(&mut self, record: &[u8]) -> Option<Vec<u8>> {
        let (header, sealed) = record.split_first_chunk::<HEADER_BYTES>()?;
        let mut inner = sealed.to_vec();
        let nonce = self.nonce();
        let bytes = self.key.open_in_place(nonce, Aad::from(header), &mut inner).ok()?.len();
        inner.truncate(bytes);
        Some(inner)
    }
}
