//! A small blocking HTTP/1.1 client for the admin API: one request a connection, everything bounded.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::{Exit, Failure};

/// Time to a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for the whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of an answer at most, head included.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const HEADERS_MAX: usize = 32;
const DEFAULT_PORT: u16 = 7441;

/// Where the admin API is, and what it is shown.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// The server's admin address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7441", env = "URINGEST_ADMIN")]
    admin: String,
    /// The admin API's token, where it has one.
    #[arg(long, value_name = "TOKEN", env = "URINGEST_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// The admin API of one server.
#[derive(Debug, Clone)]
pub struct Admin {
    host: String,
    token: Option<String>,
}

impl AdminArgs {
    /// The client.
    ///
    /// # Errors
    /// When the address is none.
    pub fn client(&self) -> Result<Admin, Failure> {
        let wrong = |why: &str| {
            let message = format!("--admin {:?} {why}", self.admin);
            Failure::new(Exit::Usage, message, "an address and port, as --admin 127.0.0.1:7441")
        };
        let rest = match self.admin.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(wrong(&format!("has the scheme {scheme}; the admin API speaks http")));
            }
            None => &self.admin,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty()
            || authority.contains(['/', '?', '#', '@'])
            || authority.contains(char::is_whitespace)
        {
            return Err(wrong("is no address"));
        }
        let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        let host = match after_host.rsplit_once(':') {
            None => format!("{authority}:{DEFAULT_PORT}"),
            Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => authority.to_owned(),
            Some(_) => return Err(wrong("has no port number behind the colon")),
        };
        let bad_token = |token: &String| token.contains(|c: char| c.is_ascii_control());
        if self.token.as_ref().is_some_and(bad_token) {
            return Err(Failure::new(Exit::Usage, "--token contains a control character", ""));
        }
        Ok(Admin { host, token: self.token.clone() })
    }
}

/// Escapes one segment of a path (RFC 3986 section 2.1).
#[must_use]
pub fn escape(segment: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    segment
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

impl Admin {
    /// The admin API at a known address, without a token.
    #[must_use]
    pub fn at(address: SocketAddr) -> Admin {
        Admin { host: address.to_string(), token: None }
    }

    /// Where requests go, as `127.0.0.1:7441`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends one request and reads the JSON of its answer (`null` for an empty one).
    ///
    /// # Errors
    /// `Unreachable` when there is no answer, `Refused` when the server says no.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (status, body) = self.exchange(method, path, body)?;
        let json: Option<Value> =
            if body.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&body).ok() };
        match (status, json) {
            (200..=299, Some(value)) => Ok(value),
            (200..=299, None) => Err(self.not_uringest("its answer is not JSON")),
            (_, json) => Err(self.refusal(status, json.as_ref())),
        }
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Vec<u8>), Failure> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut stream = self.connect()?;
        let answer = send(&mut stream, &self.request(method, path, body))
            .and_then(|()| receive(&mut stream, deadline));
        let answer = answer.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                let message = format!("{} did not answer {method} {path} in {ANSWER_TIMEOUT:?}", self.host);
                Failure::new(
                    Exit::Unreachable,
                    message,
                    "uringest top --once; the server's log says what it is doing",
                )
            }
            io::ErrorKind::InvalidData => self.not_uringest(&error.to_string()),
            _ => {
                let message = format!("the connection to {} broke: {error}", self.host);
                Failure::new(
                    Exit::Unreachable,
                    message,
                    "is this the admin port (7441), and not the data port (7440)?",
                )
            }
        })?;
        decode(&answer).ok_or_else(|| self.not_uringest("its answer is not HTTP"))
    }

    fn connect(&self) -> Result<TcpStream, Failure> {
        let unreachable = |error: &io::Error| {
            let message = format!("no server at the admin address {}: {error}", self.host);
            Failure::new(
                Exit::Unreachable,
                message,
                "start one with `uringest serve`, or name it with --admin ADDR",
            )
        };
        let addresses: Vec<SocketAddr> =
            self.host.to_socket_addrs().map_err(|error| unreachable(&error))?.collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses.iter().take(4) {
            match TcpStream::connect_timeout(address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    let set = stream
                        .set_nodelay(true)
                        .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT)));
                    set.map_err(|error| unreachable(&error))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(unreachable(&last))
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> String {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.host);
        if let Some(token) = &self.token {
            request += &format!("authorization: Bearer {token}\r\n");
        }
        if !body.is_empty() || method != "GET" {
            request += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        request + "\r\n" + &body
    }

    fn not_uringest(&self, why: &str) -> Failure {
        let message = format!("{} is not the admin API of uringest: {why}", self.host);
        Failure::new(
            Exit::Unreachable,
            message,
            "name the admin address with --admin ADDR (port 7441 by default)",
        )
    }

    fn refusal(&self, status: u16, body: Option<&Value>) -> Failure {
        let field = |name: &str| body.and_then(|body| body["error"][name].as_str()).unwrap_or("");
        let (code, said) = (field("code"), field("message").trim_end_matches('.'));
        if code.is_empty() {
            return self.not_uringest(&format!("it answered HTTP {status}"));
        }
        let remedy = match (status, code) {
            (401 | 403, _) => "pass the admin token with --token, or in $URINGEST_ADMIN_TOKEN",
            (404, "unknown_topic") => "uringest topic list",
            (507, "disk_full") => {
                "make room on the disk, raise storage.budget_bytes, or use fewer partitions or smaller --segment-bytes"
            }
            (507, "memory_exhausted") => {
                "raise memory.retention_budget_bytes, or use fewer partitions or --retention-bytes"
            }
            _ => "",
        };
        Failure::new(Exit::Refused, format!("refused by {}: {said} ({code})", self.host), remedy)
    }
}

fn send(stream: &mut TcpStream, request: &str) -> io::Result<()> {
    stream.write_all(request.as_bytes())
}

/// Reads a whole answer: until its length is complete or the server closes.
fn receive(stream: &mut TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) if answer.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => return Ok(answer),
            Ok(bytes) => answer.extend_from_slice(&chunk[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is too large"));
        }
        if !b"HTTP/1.1 ".starts_with(&answer[..answer.len().min(9)]) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP/1.1"));
        }
        if decode(&answer).is_some() {
            return Ok(answer);
        }
    }
}

/// Status and body, once the answer is whole.
fn decode(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(answer).ok()? else { return None };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value).ok()?.trim().parse().ok()?;
    let body = answer.get(head..head.checked_add(length)?)?;
    Some((response.code?, body.to_vec()))
}
