//! What is wrong with a ClientHello as a whole, where rustls looks at other things first or not at all.
//!
//! A client of TLS 1.2 lacks suites and extensions of TLS 1.3, and would be told that; what it has to hear is that its
//! version is not spoken (RFC 8446 section 4.2.1). One that lacks an extension it must send has to hear that, and not
//! that there is nothing in common (section 9.2). Whoever names SSL 3.0 or older is refused whatever else it offers
//! (section D.5). A hello that is cut over records, or does not parse, is rustls's to judge.

use crate::tls::record::{HANDSHAKE, HEADER_BYTES};

/// The message's number.
pub(super) const CLIENT_HELLO: u8 = 1;
const RANDOM_BYTES: usize = 32;
const SSL_3: u16 = 0x0300;
const TLS_1_3: u16 = 0x0304;

const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const PRE_SHARED_KEY: u16 = 41;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;

/// What a whole ClientHello offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// SSL 3.0, or something older, as its own version.
    Forbidden,
    /// No TLS 1.3.
    Older,
    /// TLS 1.3 without an extension that it requires.
    Incomplete,
    /// TLS 1.3.
    Complete,
}

impl Offer {
    /// Of the hello that is the whole of this record.
    pub(super) fn of(record: &[u8]) -> Option<Offer> {
        let (header, mut rest) = record.split_at_checked(HEADER_BYTES)?;
        if header.first() != Some(&HANDSHAKE) || take(&mut rest, 1)? != [CLIENT_HELLO] {
            return None;
        }
        let mut hello = vector(&mut rest, 3)?;
        let own = number(&mut hello)?;
        take(&mut hello, RANDOM_BYTES)?;
        let (_session, _suites, _compressions) =
            (vector(&mut hello, 1)?, vector(&mut hello, 2)?, vector(&mut hello, 1)?);
        let mut extensions = if hello.is_empty() { hello } else { vector(&mut hello, 2)? };
        let (mut tls13, mut there) = (false, Vec::new());
        while !extensions.is_empty() {
            let kind = number(&mut extensions)?;
            let mut body = vector(&mut extensions, 2)?;
            if kind == SUPPORTED_VERSIONS {
                tls13 |= vector(&mut body, 1)?.chunks(2).any(|version| version == TLS_1_3.to_be_bytes());
            }
            there.push(kind);
        }
        let has = |kind| there.contains(&kind);
        let authenticates = has(PRE_SHARED_KEY) || (has(SIGNATURE_ALGORITHMS) && has(SUPPORTED_GROUPS));
        let complete = authenticates && has(SUPPORTED_GROUPS) == has(KEY_SHARE);
        match rest.is_empty() && hello.is_empty() {
            false => None,
            true if own <= SSL_3 => Some(Offer::Forbidden),
            true if !tls13 => Some(Offer::Older),
            true if !complete => Some(Offer::Incomplete),
            true => Some(Offer::Complete),
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(take(rest, 2)?.try_into().ok()?))
}

/// What follows a length of so many bytes.
fn vector<'a>(rest: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
    let length = take(rest, length_bytes)?.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    take(rest, length)
}
