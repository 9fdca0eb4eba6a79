//! Tokens: made, hashed and compared.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// What a generated token begins with, so that a scanner for leaked secrets finds it.
pub const TOKEN_PREFIX: &str = "urt_";
const RANDOM_BYTES: usize = 32;
const HASH_BYTES: usize = 32;

/// The SHA-256 of a token: what the configuration holds. `Debug` does not show it.
///
/// A plain hash is enough for a token of 256 random bits, which cannot be guessed; it is not for a password.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; HASH_BYTES]);

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAHash;

impl TokenHash {
    /// A token's hash.
    #[must_use]
    pub fn of(token: &str) -> TokenHash {
        TokenHash(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn from_hex(text: &str) -> Result<TokenHash, NotAHash> {
        let digits = text.as_bytes();
        let mut hash = [0; HASH_BYTES];
        if digits.len() != 2 * HASH_BYTES {
            return Err(NotAHash);
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(TokenHash(hash))
    }

    /// A hash that has been read already.
    #[must_use]
    pub const fn from_bytes(hash: [u8; HASH_BYTES]) -> TokenHash {
        TokenHash(hash)
    }

    /// 64 hexadecimal digits, for the configuration file.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// Whether this is the token's hash. Takes the same time for every token of the same length.
    #[must_use]
    pub fn matches(&self, token: &str) -> bool {
        self.same(&TokenHash::of(token)).into()
    }

    pub(super) fn same(&self, other: &TokenHash) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(hidden)")
    }
}

impl std::fmt::Display for NotAHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a token's hash is its SHA-256 as 64 hexadecimal digits")
    }
}

impl std::error::Error for NotAHash {}

/// A token's SHA-256 in hexadecimal, as the configuration holds it.
#[must_use]
pub fn hash_token(token: &str) -> String {
    TokenHash::of(token).to_hex()
}

/// A new token: the prefix and 256 random bits in hexadecimal.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn generate_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{TOKEN_PREFIX}{}", hex(&bytes)))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes whatever is written to it");
    }
    text
}

fn nibble(digit: u8) -> Result<u8, NotAHash> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(NotAHash),
    }
}
