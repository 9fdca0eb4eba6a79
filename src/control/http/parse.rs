//! The head of a request, from bytes.

use super::Response;
use crate::limits::ADMIN_HEAD_BYTES_MAX;

/// Headers of one request that are looked at.
const HEADERS_MAX: usize = 64;

/// The methods the admin API knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the methods of HTTP
pub enum Method {
    Get,
    Head,
    Post,
    Delete,
    Other,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Still percent-encoded, without the query.
    pub path: String,
    /// Of `Authorization: Bearer`.
    pub token: Option<String>,
    /// There is an `Origin`: a web page sent it.
    pub from_web_page: bool,
    /// Another request may follow.
    pub keep_alive: bool,
    /// The whole body.
    pub body: Vec<u8>,
}

/// What the bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The head is not there yet.
    Partial,
    /// A head; its body may not be there yet.
    Head { request: Request, head_bytes: usize, body_bytes: usize, expects_continue: bool },
    /// Not a request this server answers.
    Bad(Response),
}

fn bad(status: u16, code: &str, message: &str) -> Parsed {
    Parsed::Bad(Response::error(status, code, message))
}

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let head_bytes = match head.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => {
            return bad(431, "head_too_large", "There are too many headers.");
        }
        Err(httparse::Error::Version) => return bad(505, "bad_version", "This server speaks HTTP/1.1."),
        Err(error) => return bad(400, "bad_request", &format!("The request is malformed: {error}.")),
    };
    if head_bytes > ADMIN_HEAD_BYTES_MAX {
        return bad(431, "head_too_large", "The request's head is too large.");
    }
    let mut request = Request {
        method: method(head.method.unwrap_or_default()),
        path: path(head.path.unwrap_or_default()),
        token: None,
        from_web_page: false,
        keep_alive: head.version == Some(1),
        body: Vec::new(),
    };
    let mut body_bytes = None;
    let mut expects_continue = false;
    for header in head.headers.iter() {
        let value = header.value.trim_ascii();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => match length(value) {
                Some(length) if body_bytes.is_none_or(|known| known == length) => body_bytes = Some(length),
                _ => return bad(400, "bad_request", "The content-length is not one number."),
            },
            "transfer-encoding" => {
                return bad(
                    411,
                    "length_required",
                    "Bodies need a content-length; there is no chunked input.",
                );
            }
            "connection" => keep_alive(value, &mut request.keep_alive),
            "authorization" => request.token = bearer(value),
            "origin" => request.from_web_page = true,
            "expect" => expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
    }
    Parsed::Head { request, head_bytes, body_bytes: body_bytes.unwrap_or(0), expects_continue }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        _ => Method::Other,
    }
}

/// The path of an origin-form or absolute-form target (RFC 9112 section 3.2), without the query.
fn path(target: &str) -> String {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    let end = target.find(['?', '#']).unwrap_or(target.len());
    target[..end].to_owned()
}

/// Digits only: `+1` and ` 1` are not lengths (RFC 9110 section 8.6).
fn length(value: &[u8]) -> Option<usize> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn keep_alive(value: &[u8], keep: &mut bool) {
    for option in value.split(|byte| *byte == b',') {
        let option = option.trim_ascii();
        if option.eq_ignore_ascii_case(b"close") {
            *keep = false;
            return;
        }
        if option.eq_ignore_ascii_case(b"keep-alive") {
            *keep = true;
        }
    }
}

fn bearer(value: &[u8]) -> Option<String> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// Decodes `%XX`; `None` when it is malformed or not UTF-8.
pub(in crate::control) fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}
