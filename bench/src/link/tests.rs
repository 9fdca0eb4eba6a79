//! Links against a small server of `uringest::tls`, which echoes.

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use uringest::tls::record::{HEADER_BYTES, OVERHEAD_BYTES, RECORD_BYTES_MAX};
use uringest::tls::{Records, ServerTls, Session, Then};

use super::*;
use crate::records::pair::server_tls;
use crate::tls::{Certificates, ServerRecords, TlsWish};

const PATIENCE: Duration = Duration::from_secs(20);

fn files(directory: &std::path::Path) -> (Certificates, ServerTls) {
    let files = Certificates::make(directory).expect("certificates");
    let server = server_tls(&files).expect("usable");
    (files, server)
}

/// Serves one connection until the client says that it was all: sends back what comes. Tells the length of the longest
/// record then, and nothing where the client just goes.
fn echo(server: ServerTls, records: Records) -> (SocketAddr, Receiver<usize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let (done, told) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut session = Session::server(&server, records);
        let (mut input, mut plain) = (Vec::new(), vec![0; 2 * RECORD_BYTES_MAX]);
        let (mut out, mut piece) = (vec![0; 8 * RECORD_BYTES_MAX], vec![0; RECORD_BYTES_MAX]);
        let mut longest = 0;
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            input.extend_from_slice(&piece[..read]);
            loop {
                let head =
                    input.get(3..HEADER_BYTES).map(|length| u16::from_be_bytes([length[0], length[1]]));
                let in_data = !session.is_handshaking();
                let received = session.receive(&input, &mut plain[..RECORD_BYTES_MAX], 1_800_000_000);
                if in_data && received.produced > 0 {
                    longest = longest.max(HEADER_BYTES + usize::from(head.expect("a record")));
                }
                input.drain(..received.consumed);
                let sealed = session.transmit(&plain[..received.produced], &mut out);
                let mut taken = sealed.taken;
                stream.write_all(&out[..sealed.written]).expect("the client reads");
                while taken < received.produced {
                    let sealed = session.transmit(&plain[taken..received.produced], &mut out);
                    stream.write_all(&out[..sealed.written]).expect("the client reads");
                    taken += sealed.taken;
                }
                match received.then {
                    Then::Room(_) => {}
                    Then::Wants(_) => break,
                    Then::Closed => {
                        let _told = done.send(longest);
                        return;
                    }
                    Then::Failed(_) => return,
                }
            }
        }
    });
    (address, told)
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| u8::try_from(i * 31 % 251).expect("below 251")).collect()
}

/// Writes everything and reads it back, as lanes do: nothing blocks, what is left is given again.
fn there_and_back(link: &mut Link, data: &[u8], at_once: usize) {
    link.run_free().expect("a socket");
    let (mut written, mut back, mut buffer) = (0, Vec::new(), vec![0; 128 * 1024]);
    let deadline = Instant::now() + PATIENCE;
    while back.len() < data.len() {
        assert!(Instant::now() < deadline, "{written} written and {} back of {}", back.len(), data.len());
        link.flush_some().expect("a connection");
        if written < data.len() {
            let end = data.len().min(written + at_once);
            written += link.write_some(&data[written..end]).expect("a connection");
        }
        let read = link.read_some(&mut buffer).expect("a connection");
        back.extend_from_slice(&buffer[..read]);
    }
    assert!(back == data, "the same bytes");
}

#[test]
fn what_is_written_comes_back_in_records_of_the_size_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let (files, server) = files(directory.path());
    for (records, record_bytes, at_once) in [
        (Records::Own, 16_384, 65_536),
        (Records::Own, 512, 65_536),
        (Records::Own, 1_000, 200_000),
        (Records::Rustls, 16_384, 131_072),
        (Records::Rustls, 4_096, 100),
    ] {
        let (address, told) = echo(server.clone(), records);
        let wish = TlsWish { records: ServerRecords::Own, record_bytes };
        let tls = LoadTls::new(&files.authority, wish).expect("an authority");
        let mut link = Link::connect(address, 0, Some(&tls)).expect("a handshake");
        there_and_back(&mut link, &bytes(if at_once < 1_000 { 20_000 } else { 3_000_000 }), at_once);
        drop(link);
        let longest = told.recv_timeout(PATIENCE).expect("a close_notify");
        assert_eq!(longest, record_bytes.min(at_once) + OVERHEAD_BYTES);
        let outcome = tls.outcome();
        assert_eq!((outcome.suite.as_str(), outcome.handshakes), ("TLS_AES_128_GCM_SHA256", 1));
        assert_eq!((outcome.key_exchange.as_str(), outcome.resumed), ("X25519MLKEM768", 0));
    }
}

#[test]
fn bytes_behind_the_answer_to_a_handshake_are_not_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let (files, server) = files(directory.path());
    let (address, _told) = echo(server, Records::Own);
    let tls = LoadTls::new(&files.authority, TlsWish::default()).expect("an authority");
    let mut link = Link::connect(address, 0, Some(&tls)).expect("a handshake");
    link.write_all(&bytes(100)).expect("a connection");
    let mut answer = [0; 60];
    link.read_exact(&mut answer).expect("a connection");
    assert!(link.holds(), "an answer of 60 bytes, and 40 more in the same record");
    link.run_free().expect("a socket");
    let mut rest = [0; 100];
    assert_eq!(link.read_some(&mut rest).expect("a connection"), 40);
    assert_eq!([&answer[..], &rest[..40]].concat(), bytes(100));
    assert!(!link.holds());
    assert_eq!(link.read_some(&mut rest).expect("a connection"), 0, "nothing is there");
}

#[test]
fn a_server_that_another_authority_vouches_for_is_refused() {
    let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (_, server) = files(one.path());
    let (files, _) = files(other.path());
    let (address, _told) = echo(server, Records::Own);
    let tls = LoadTls::new(&files.authority, TlsWish::default()).expect("an authority");
    let error = Link::connect(address, 0, Some(&tls)).expect_err("refused").to_string();
    assert!(error.starts_with("TLS: "), "{error}");
    assert_eq!(tls.outcome().handshakes, 0);
}
