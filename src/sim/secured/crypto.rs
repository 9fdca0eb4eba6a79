//! TLS without chance: a crypto provider whose random bytes, key exchanges and tickets are a seed's, so that the same seed
//! gives the same bytes on the wire. Signatures are Ed25519's, which take no random numbers; ciphers and hashes are the
//! server's own. For simulations: whoever knows the seed knows every key.
//!
//! State and owner: where the numbers come from belongs to the thread, as rustls wants providers that live for ever and
//! a world is one thread's. Whoever begins a world says where they begin ([`begin`]).

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{Algorithm, ECDH_P256, PrivateKey, UnparsedPublicKey, X25519, agree};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::server::ProducesTickets;
use rustls::{Error, NamedGroup, PeerMisbehaved, SupportedCipherSuite};

use crate::sim::plan;
use crate::sim::random::Random;

/// Seconds a ticket is good for.
const TICKET_S: u32 = 12 * 60 * 60;

thread_local! {
    static RANDOM: RefCell<Random> = RefCell::new(Random::new(0));
}

/// Everything from now on is decided by these numbers.
pub fn begin(random: Random) {
    RANDOM.with(|of_thread| *of_thread.borrow_mut() = random);
}

fn fill(bytes: &mut [u8]) {
    RANDOM.with(|random| {
        let mut random = random.borrow_mut();
        for eight in bytes.chunks_mut(8) {
            eight.copy_from_slice(&random.number().to_le_bytes()[..eight.len()]);
        }
    });
}

fn filled<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    fill(&mut bytes);
    bytes
}

/// The cipher suites, by number.
const SUITES: [SupportedCipherSuite; plan::secured::SUITES] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Which key exchanges a side knows, the one it wants first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// X25519, then P-256.
    Both,
    /// P-256 alone: who comes with X25519 is told to come again.
    P256,
}

/// A provider with one cipher suite.
pub fn provider(suite: usize, groups: Groups) -> Arc<CryptoProvider> {
    let kx_groups: Vec<&'static dyn SupportedKxGroup> = match groups {
        Groups::Both => vec![&SEEDED_X25519, &SEEDED_P256],
        Groups::P256 => vec![&SEEDED_P256],
    };
    Arc::new(CryptoProvider {
        cipher_suites: vec![SUITES[suite]],
        kx_groups,
        secure_random: &Seeded,
        ..default_provider()
    })
}

#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        fill(bytes);
        Ok(())
    }
}

/// A key exchange whose private keys are the thread's next numbers.
struct Group {
    name: NamedGroup,
    algorithm: &'static Algorithm,
}

static SEEDED_X25519: Group = Group { name: NamedGroup::X25519, algorithm: &X25519 };
static SEEDED_P256: Group = Group { name: NamedGroup::secp256r1, algorithm: &ECDH_P256 };

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.name).finish()
    }
}

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        // Not every number is a key of P-256, but all save one of 2^32.
        let private = PrivateKey::from_private_key(self.algorithm, &filled::<32>());
        let private = private.map_err(|error| Error::General(error.to_string()))?;
        let public = private.compute_public_key().map_err(|_| GetRandomFailed)?;
        let (name, algorithm) = (self.name, self.algorithm);
        Ok(Box::new(Exchange { name, algorithm, private, public: public.as_ref().to_vec() }))
    }

    fn name(&self) -> NamedGroup {
        self.name
    }
}

struct Exchange {
    name: NamedGroup,
    algorithm: &'static Algorithm,
    private: PrivateKey,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = UnparsedPublicKey::new(self.algorithm, peer);
        let bad = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);
        agree(&self.private, peer, bad, |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        self.name
    }
}

/// Tickets under one key, as long as it lives.
pub struct Tickets(LessSafeKey);

impl Tickets {
    /// A key that no other has.
    ///
    /// # Panics
    /// Never: the key is as long as the cipher's keys are.
    pub fn new() -> Arc<Tickets> {
        let key = UnboundKey::new(&AES_256_GCM, &filled::<32>()).expect("a key of 32 bytes");
        Arc::new(Tickets(LessSafeKey::new(key)))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let nonce = filled::<NONCE_LEN>();
        let mut sealed = plain.to_vec();
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(nonce_of, Aad::empty(), &mut sealed).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = cipher.split_first_chunk::<NONCE_LEN>()?;
        let mut opened = sealed.to_vec();
        let plain = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut opened);
        Some(plain.ok()?.to_vec())
    }
}
