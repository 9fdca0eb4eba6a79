//! The Redis serialization protocol, version 2 (redis.io, "RESP protocol spec"): commands out, heads of answers in.

use std::io;

/// A head is at most a sign and twenty digits, an error a sentence.
const LINE_BYTES_MAX: usize = 4096;

/// What an answer, or a part of one, begins with. Simple strings answer nothing that is asked while the load runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// So many parts follow.
    Array(usize),
    /// So many bytes and a line end follow.
    Bulk(usize),
    /// A number whose value nobody needs.
    Integer,
}

/// Reads a head; how many bytes it is long. `None` when its end has not come yet.
#[inline]
pub(super) fn head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let searched = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
        if bytes.len() < LINE_BYTES_MAX {
            return Ok(None);
        }
        return Err(unexpected(searched));
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or_else(|| unexpected(searched))?;
    let (Some(sign), digits) = (line.first(), line.get(1..).unwrap_or_default()) else {
        return Err(unexpected(line));
    };
    let head = match sign {
        b'*' => number(digits).map(Head::Array),
        b'$' => number(digits).map(Head::Bulk),
        b':' => Some(Head::Integer),
        _ => None, // an error, among others
    };
    head.map(|head| Some((head, end + 1))).ok_or_else(|| unexpected(line))
}

/// A length; there is no -1 where nothing may be missing.
fn number(digits: &[u8]) -> Option<usize> {
    let sum = digits.iter().try_fold(0_usize, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(usize::from(digit))
    });
    sum.filter(|_| !digits.is_empty())
}

/// The error that what the server says is, or is taken for.
pub(super) fn unexpected(line: &[u8]) -> io::Error {
    let shown = &line[..line.len().min(200)];
    io::Error::other(format!("redis-server: {}", String::from_utf8_lossy(shown).trim_end()))
}

/// A command with its arguments.
pub(super) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}
