//! Keys from traffic secrets (RFC 8446 section 7), derived here and not by rustls: what the RFC's traces are
//! checked with, and what lets a test know the keys of both sides.

use aws_lc_rs::hkdf;

use crate::tls::Reason;
use crate::tls::record::keys::{IV_BYTES, Keys, Suite};

/// A length as `hkdf` wants it.
struct Bytes(usize);

impl hkdf::KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

fn hash(suite: Suite) -> (hkdf::Algorithm, usize) {
    match suite {
        Suite::Aes256Gcm => (hkdf::HKDF_SHA384, 48),
        Suite::Aes128Gcm | Suite::Chacha20Poly1305 => (hkdf::HKDF_SHA256, 32),
    }
}

pub fn key_bytes(suite: Suite) -> usize {
    if suite == Suite::Aes128Gcm { 16 } else { 32 }
}

/// HKDF-Expand-Label with an empty context.
pub fn expand_label(suite: Suite, secret: &[u8], label: &str, bytes: usize) -> Vec<u8> {
    let length = u16::try_from(bytes).expect("short").to_be_bytes();
    let label = [b"tls13 ", label.as_bytes()].concat();
    let info = [&length, &[u8::try_from(label.len()).expect("short")][..], &label, &[0]];
    let prk = hkdf::Prk::new_less_safe(hash(suite).0, secret);
    let mut out = vec![0; bytes];
    prk.expand(&info, Bytes(bytes)).and_then(|okm| okm.fill(&mut out)).expect("a short output");
    out
}

pub fn keys(suite: Suite, secret: &[u8]) -> Keys {
    let key = expand_label(suite, secret, "key", key_bytes(suite));
    let iv = expand_label(suite, secret, "iv", IV_BYTES).try_into().expect("12 bytes");
    Keys::new(suite, &key, iv, 0).expect("a key of the suite's length")
}

/// The traffic secrets of one side.
#[derive(Clone)]
pub struct Secrets {
    pub suite: Suite,
    pub receiving: Vec<u8>,
    pub sending: Vec<u8>,
    pub tickets: Vec<Vec<u8>>,
}

impl Secrets {
    pub fn next_receiving(&mut self) -> Keys {
        self.receiving = expand_label(self.suite, &self.receiving, "traffic upd", self.receiving.len());
        keys(self.suite, &self.receiving)
    }

    pub fn next_sending(&mut self) -> Keys {
        self.sending = expand_label(self.suite, &self.sending, "traffic upd", self.sending.len());
        keys(self.suite, &self.sending)
    }

    pub fn ticket(&mut self, payload: &[u8]) -> Result<(), Reason> {
        self.tickets.push(payload.to_vec());
        Ok(())
    }

    pub fn new(suite: Suite, receiving: u8, sending: u8) -> Secrets {
        let bytes = hash(suite).1;
        Secrets {
            suite,
            receiving: vec![receiving; bytes],
            sending: vec![sending; bytes],
            tickets: Vec::new(),
        }
    }
}
