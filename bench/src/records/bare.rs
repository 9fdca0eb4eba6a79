//! The floors: the cipher alone, and a copy.

use std::hint::black_box;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use uringest::tls::record::TAG_BYTES;

use super::{PAGE_BYTES, Places, TURN_BYTES, Way, per_kib};
use crate::host::thread_cpu_ns;

/// AES-128-GCM, from one place into another, under numbers that count up.
pub(super) struct Cipher {
    key: LessSafeKey,
    number: u64,
    data: Vec<u8>,
    /// Ciphertext and tag, one behind the other.
    sealed: Vec<u8>,
    out: Vec<u8>,
}

impl Cipher {
    pub(super) fn new(record_bytes: usize) -> Cipher {
        let key = UnboundKey::new(&AES_128_GCM, &[0x17; 16]).expect("16 bytes are a key of AES-128");
        Cipher {
            key: LessSafeKey::new(key),
            number: 0,
            data: vec![0x5a; record_bytes],
            sealed: vec![0; TURN_BYTES / record_bytes * (record_bytes + TAG_BYTES)],
            out: vec![0; TURN_BYTES],
        }
    }

    fn nonce(number: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self) {
        for sealed in self.sealed.chunks_exact_mut(self.data.len() + TAG_BYTES) {
            let (ciphertext, tag) = sealed.split_at_mut(self.data.len());
            self.key
                .seal_out_of_place_scatter(
                    Cipher::nonce(self.number),
                    Aad::empty(),
                    black_box(&self.data),
                    ciphertext,
                    &[],
                    tag,
                )
                .expect("lengths fit");
            self.number += 1;
        }
    }

    /// What was sealed last.
    fn open(&mut self) {
        let records = self.sealed.chunks_exact(self.data.len() + TAG_BYTES);
        let first = self.number - records.len() as u64;
        for ((sealed, out), number) in records.zip(self.out.chunks_exact_mut(self.data.len())).zip(first..) {
            let (ciphertext, tag) = black_box(sealed).split_at(self.data.len());
            let opened =
                self.key.open_separate_gather(Cipher::nonce(number), Aad::empty(), ciphertext, tag, out);
            opened.expect("it was sealed so");
        }
    }
}

impl Way for Cipher {
    fn turn(&mut self) -> [f64; 2] {
        let begun = thread_cpu_ns();
        self.seal();
        let sealed = thread_cpu_ns();
        self.open();
        let opened = thread_cpu_ns();
        assert!(self.out == [0x5a; TURN_BYTES], "what was sealed");
        [per_kib(opened - sealed), per_kib(sealed - begun)]
    }
}

/// `memcpy`, a record at a time.
pub(super) struct Copying {
    from: Vec<u8>,
    to: Vec<u8>,
    record_bytes: usize,
    places: Places,
}

impl Copying {
    pub(super) fn new(record_bytes: usize) -> Copying {
        let memory = |byte| vec![byte; TURN_BYTES + PAGE_BYTES];
        Copying { from: memory(0x5a), to: memory(0), record_bytes, places: Places::default() }
    }

    fn copy(&mut self) -> f64 {
        self.places.shift();
        let from = &self.from[self.places.stream..][..TURN_BYTES];
        let to = &mut self.to[self.places.out..][..TURN_BYTES];
        let begun = thread_cpu_ns();
        let from = from.chunks_exact(self.record_bytes);
        for (from, to) in from.zip(to.chunks_exact_mut(self.record_bytes)) {
            to.copy_from_slice(black_box(from));
        }
        let took = thread_cpu_ns() - begun;
        black_box(&self.to);
        per_kib(took)
    }
}

impl Way for Copying {
    fn turn(&mut self) -> [f64; 2] {
        [self.copy(), self.copy()]
    }
}
