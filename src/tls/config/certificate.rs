//! What an operator should know of a certificate: its file, its names, and until when it is good.

use std::path::PathBuf;

use crate::time::{NS_PER_SECOND, parse_time};

/// One of a server's certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Where it came from.
    pub file: PathBuf,
    /// Its DNS names, in lower case; none where it is for IP addresses alone.
    pub names: Vec<String>,
    /// The last second in which it is good, since 1970, UTC; `None` after 2554, which is how authorities write "for ever".
    pub not_after_s: Option<u64>,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate that was parsed before (RFC 5280 section 4.1).
pub(super) fn not_after_s(der: &[u8]) -> Option<u64> {
    let mut fields = Der(Der(Der(der).of(SEQUENCE)?).of(SEQUENCE)?);
    let (first, _) = fields.next()?;
    if first == VERSION {
        fields.of(INTEGER)?;
    }
    let (_signature, _issuer) = (fields.of(SEQUENCE)?, fields.of(SEQUENCE)?);
    let mut validity = Der(fields.of(SEQUENCE)?);
    let (_not_before, not_after) = (validity.next()?, validity.next()?);
    time_s(not_after)
}

/// Elements of DER, one behind the other (X.690 section 8.1).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // The length, or how many bytes of length follow.
        let (bytes, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if length.len() > 4 {
                return None;
            }
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(bytes)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn of(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

/// `YYMMDDHHMMSSZ`, years from 1950 to 2049, or `YYYYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5).
fn time_s((tag, text): (u8, &[u8])) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        UTC_TIME if text.as_bytes().first()? < &b'5' => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if !text.is_ascii() || text.len() != 15 {
        return None;
    }
    let (date, time) = text.split_at(8);
    let rfc3339 = format!(
        "{}-{}-{}T{}:{}:{}{}",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..6],
        &time[6..]
    );
    parse_time(&rfc3339, 0).map(|ns| ns / NS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let rows: [(u8, &str, Option<u64>); 9] = [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "261121192613Z", Some(1_795_289_173)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231235959Z", None),
            (GENERALIZED_TIME, "20261321000000Z", None),
            (UTC_TIME, "2611211926Z", None),
            (UTC_TIME, "", None),
            (INTEGER, "261121192613Z", None),
        ];
        for (tag, text, seconds) in rows {
            assert_eq!(time_s((tag, text.as_bytes())), seconds, "{tag:#x} {text}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let whole = [0x30, 0x04, 0x30, 0x02, 0x02, 0x00];
        for cut in 0..=whole.len() {
            assert_eq!(not_after_s(&whole[..cut]), None);
        }
        assert_eq!(not_after_s(&[0x30, 0x85, 1, 0, 0, 0, 0]), None);
        assert_eq!(not_after_s(&[0x30, 0xff]), None);
    }
}
