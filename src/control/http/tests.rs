use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::parse::percent_decoded;
use super::*;

fn head(bytes: &[u8]) -> (Request, usize, usize) {
    match parse(bytes) {
        Parsed::Head { request, head_bytes, body_bytes, .. } => (request, head_bytes, body_bytes),
        other => panic!("not a head: {other:?}"),
    }
}

fn status(bytes: &[u8]) -> u16 {
    match parse(bytes) {
        Parsed::Bad(response) => response.status,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn heads() {
    let bytes = b"POST /v1/topics?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nAuthorization: bearer  s3 \r\n\r\nabc";
    let (request, head_bytes, body_bytes) = head(bytes);
    assert_eq!((request.method, request.path.as_str()), (Method::Post, "/v1/topics"));
    assert_eq!(request.token.as_deref(), Some("s3"));
    assert!(request.keep_alive && !request.from_web_page);
    assert_eq!((head_bytes, body_bytes), (bytes.len() - 3, 3));
    for end in 0..head_bytes {
        assert_eq!(parse(&bytes[..end]), Parsed::Partial, "cut at {end}");
    }
    assert_eq!(head(b"GET http://host:1/livez HTTP/1.1\r\n\r\n").0.path, "/livez");
    assert!(!head(b"GET / HTTP/1.0\r\n\r\n").0.keep_alive);
    assert!(head(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").0.keep_alive);
    assert!(!head(b"GET / HTTP/1.1\r\nconnection: foo, close\r\n\r\n").0.keep_alive);
    assert!(head(b"GET / HTTP/1.1\r\nOrigin: http://evil\r\n\r\n").0.from_web_page);
}

#[test]
fn refusals() {
    assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00\x01"), 400);
    assert_eq!(status(b"GET / HTTP/2.0\r\n\r\n"), 505);
    assert_eq!(status(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 411);
    for length in ["+3", "", "3, 3", "-1", "99999999999999999999999", "0x3"] {
        assert_eq!(status(format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n").as_bytes()), 400);
    }
    assert_eq!(status(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n"), 400);
    assert_eq!(status(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65)).as_bytes()), 431);
}

#[test]
fn percent_decoding() {
    assert_eq!(percent_decoded("a%2Fb%20c").as_deref(), Some("a/b c"));
    assert_eq!(percent_decoded("plain").as_deref(), Some("plain"));
    for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
        assert_eq!(percent_decoded(bad), None, "{bad}");
    }
}

/// Answers with the method, the path and the body's length.
struct Echo;

impl Service for Echo {
    async fn call(&self, request: Request) -> Response {
        Response::text(200, format!("{:?} {} {}", request.method, request.path, request.body.len()))
    }
}

/// Runs the server on its own thread until the test's process ends.
fn start_plain() -> SocketAddr {
    let (listener, address) = listen();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            listener.set_nonblocking(true).expect("a listener");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            serve(listener, Rc::new(Echo)).await;
        });
    });
    address
}

/// The same over io_uring.
#[cfg(feature = "uring")]
fn start_uring() -> Option<SocketAddr> {
    if tokio_uring::Runtime::new(&tokio_uring::builder()).is_err() {
        eprintln!("skipped: no io_uring here");
        return None;
    }
    let (listener, address) = listen();
    std::thread::spawn(move || {
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).expect("a runtime");
        runtime.block_on(serve(tokio_uring::net::TcpListener::from_std(listener), Rc::new(Echo)));
    });
    Some(address)
}

fn listen() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    stream
}

/// One response: its status line and its body.
fn response(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    (head.lines().next().expect("a line").to_owned(), String::from_utf8(body).expect("text"))
}

/// An end or a reset (the server had not read everything), and no more bytes.
fn closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn speaks_http(address: SocketAddr) {
    let mut stream = connect(address);
    // Pipelined, then cut in the middle of head and body.
    stream.write_all(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n").expect("write");
    assert_eq!(response(&mut stream).1, "Get /a 0");
    assert_eq!(response(&mut stream).1, "Get /b 0");
    stream.write_all(b"POST /c HTT").expect("write");
    stream.write_all(b"P/1.1\r\ncontent-length: 20000\r\n\r\n").expect("write");
    stream.write_all(&[b'x'; 12_000]).expect("write");
    stream.write_all(&[b'x'; 8_000]).expect("write");
    assert_eq!(response(&mut stream).1, "Post /c 20000");
    stream
        .write_all(b"POST /d HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        .expect("write");
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).expect("100");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").expect("write");
    assert_eq!(response(&mut stream).1, "Post /d 2");
    stream.write_all(b"GET /e HTTP/1.1\r\nconnection: close\r\n\r\n").expect("write");
    assert_eq!(response(&mut stream).1, "Get /e 0");
    assert!(matches!(stream.read(&mut [0; 16]), Ok(0)));
}

fn refuses_too_much(address: SocketAddr) {
    let mut stream = connect(address);
    stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 65537\r\n\r\n").expect("write");
    assert!(response(&mut stream).0.contains(" 413 "));
    assert!(closed(&mut stream));
    let mut stream = connect(address);
    stream.write_all(b"GET /").expect("write");
    stream.write_all(&[b'a'; ADMIN_HEAD_BYTES_MAX]).expect("write");
    assert!(response(&mut stream).0.contains(" 431 "));
    let mut open: Vec<_> = (0..ADMIN_CONNECTIONS_MAX).map(|_| connect(address)).collect();
    for stream in &mut open {
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("write");
        assert!(response(stream).0.contains(" 200 "));
    }
    let mut one_too_many = connect(address);
    assert!(response(&mut one_too_many).0.contains(" 503 "));
    drop(open);
    // The places come back once the server has seen the ends.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let mut stream = connect(address);
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        if response(&mut stream).0.contains(" 200 ") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "a place is given back");
    }
}

#[cfg(feature = "uring")]
#[test]
fn uring_speaks_http() {
    start_uring().into_iter().for_each(speaks_http);
}

#[test]
fn readiness_speaks_http() {
    speaks_http(start_plain());
}

#[cfg(feature = "uring")]
#[test]
fn uring_refuses_too_much() {
    start_uring().into_iter().for_each(refuses_too_much);
}

#[test]
fn readiness_refuses_too_much() {
    refuses_too_much(start_plain());
}
