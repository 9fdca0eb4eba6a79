//! A small HTTP/1.1 server for the admin address.
//!
//! One task a connection, one request at a time, everything bounded: head, body, time and connections. It knows
//! nothing of routes: a [`Service`] answers. Requests are parsed by `httparse`; bodies need a
//! `Content-Length`, there is no chunked input (RFC 9112 section 6).

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::limits::{
    ADMIN_BODY_BYTES_MAX, ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_BYTES_MAX, ADMIN_IDLE_TIMEOUT_MS,
    ADMIN_REQUEST_TIMEOUT_MS,
};

mod parse;
mod stream;
#[cfg(test)]
mod tests;
#[cfg(feature = "uring")]
mod uring;

pub(super) use parse::percent_decoded;
pub use parse::{Method, Request};
use parse::{Parsed, parse};
pub use stream::{Listener, Stream};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Of the body.
    pub content_type: &'static str,
    /// The whole body.
    pub body: Vec<u8>,
    /// Methods the path knows, for a 405.
    pub allow: Option<&'static str>,
}

impl Response {
    /// Plain text.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Response {
        let body = body.into().into_bytes();
        Response { status, content_type: "text/plain; charset=utf-8", body, allow: None }
    }

    /// A value as JSON.
    #[must_use]
    pub fn json(status: u16, value: &impl serde::Serialize) -> Response {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Response { status, content_type: "application/json", body, allow: None }
            }
            Err(error) => Response::text(500, format!("cannot write the answer: {error}\n")),
        }
    }

    /// `{"error":{"code":...,"message":...}}`.
    #[must_use]
    pub fn error(status: u16, code: &str, message: &str) -> Response {
        Response::json(status, &serde_json::json!({ "error": { "code": code, "message": message } }))
    }

    fn encode(&self, keep_alive: bool, head_only: bool) -> Vec<u8> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let mut out = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: {connection}\r\n\
             cache-control: no-store\r\nx-content-type-options: nosniff\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len(),
        );
        if let Some(allow) = self.allow {
            out.push_str(&format!("allow: {allow}\r\n"));
        }
        if self.status == 401 {
            out.push_str("www-authenticate: Bearer\r\n");
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        if !head_only {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

/// Answers requests.
pub trait Service {
    /// One request's answer. It bounds its own time.
    fn call(&self, request: Request) -> impl Future<Output = Response>;
}

/// Accepts connections for ever. A failed accept (out of descriptors) is tried again a little later.
pub async fn serve<L: Listener, S: Service + 'static>(listener: L, service: Rc<S>) {
    let open = Rc::new(Cell::new(0));
    loop {
        let Ok(stream) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let place = Place::take(&open);
        let service = Rc::clone(&service);
        tokio::task::spawn_local(async move {
            match place {
                Some(_place) => connection(stream, &*service).await,
                None => turn_away(stream).await,
            }
        });
    }
}

/// One of the `ADMIN_CONNECTIONS_MAX` places, given back when dropped.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(open: &Rc<Cell<usize>>) -> Option<Place> {
        if open.get() >= ADMIN_CONNECTIONS_MAX {
            return None;
        }
        open.set(open.get() + 1);
        Some(Place(Rc::clone(open)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn turn_away<T: Stream>(mut stream: T) {
    let response = Response::error(503, "too_many_connections", "The admin address has no connection left.");
    let write = stream.write(response.encode(false, false));
    let _ = tokio::time::timeout(Duration::from_millis(ADMIN_REQUEST_TIMEOUT_MS), write).await;
    stream.shutdown();
}

async fn connection<T: Stream, S: Service>(mut stream: T, service: &S) {
    let mut received = Vec::new();
    // Until the peer is gone, was told why not, or asked for the end.
    while let Ok(true) = one_request(&mut stream, &mut received, service).await {}
    stream.shutdown();
}

/// Reads, answers and writes one request; whether another may follow.
async fn one_request<T: Stream, S: Service>(
    stream: &mut T,
    received: &mut Vec<u8>,
    service: &S,
) -> io::Result<bool> {
    if received.is_empty() {
        let idle = Duration::from_millis(ADMIN_IDLE_TIMEOUT_MS);
        match tokio::time::timeout(idle, read_more(stream, received)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return Ok(false),
            Ok(Err(error)) => return Err(error),
        }
    }
    let limit = Duration::from_millis(ADMIN_REQUEST_TIMEOUT_MS);
    let Ok(parsed) = tokio::time::timeout(limit, read_request(stream, received)).await else {
        let response = Response::error(408, "request_timeout", "The request did not arrive in time.");
        write(stream, response.encode(false, false)).await?;
        return Ok(false);
    };
    match parsed? {
        Some(Ok(request)) => {
            let (keep_alive, head_only) = (request.keep_alive, request.method == Method::Head);
            let response = service.call(request).await;
            write(stream, response.encode(keep_alive, head_only)).await?;
            Ok(keep_alive)
        }
        Some(Err(response)) => {
            write(stream, response.encode(false, false)).await?;
            Ok(false)
        }
        None => Ok(false),
    }
}

async fn write<T: Stream>(stream: &mut T, bytes: Vec<u8>) -> io::Result<()> {
    let limit = Duration::from_millis(ADMIN_REQUEST_TIMEOUT_MS);
    match tokio::time::timeout(limit, stream.write(bytes)).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Appends what has arrived; `false` at the end of the stream.
async fn read_more<T: Stream>(stream: &mut T, received: &mut Vec<u8>) -> io::Result<bool> {
    let chunk = stream.read().await?;
    received.extend_from_slice(&chunk);
    Ok(!chunk.is_empty())
}

/// Reads until `received` begins with a whole request and takes it out. `None`: the peer has closed.
async fn read_request<T: Stream>(
    stream: &mut T,
    received: &mut Vec<u8>,
) -> io::Result<Option<Result<Request, Response>>> {
    let mut continued = false;
    loop {
        match parse(received) {
            Parsed::Partial => {
                if received.len() > ADMIN_HEAD_BYTES_MAX {
                    return Ok(Some(Err(Response::error(
                        431,
                        "head_too_large",
                        "The request's head is too large.",
                    ))));
                }
            }
            Parsed::Bad(response) => return Ok(Some(Err(response))),
            Parsed::Head { mut request, head_bytes, body_bytes, expects_continue } => {
                if body_bytes > ADMIN_BODY_BYTES_MAX {
                    return Ok(Some(Err(Response::error(
                        413,
                        "body_too_large",
                        "The request's body is too large.",
                    ))));
                }
                let end = head_bytes + body_bytes;
                if received.len() >= end {
                    request.body = received[head_bytes..end].to_vec();
                    received.drain(..end);
                    return Ok(Some(Ok(request)));
                }
                if expects_continue && !continued {
                    continued = true;
                    stream.write(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await?;
                }
            }
        }
        if !read_more(stream, received).await? {
            return Ok(None);
        }
    }
}
