//! A peer that speaks the protocol byte by byte, and does what no client of the project does.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use uringest::proto::control::{Hello, Start, Subscribe};
use uringest::proto::header::{FrameHeader, Kind, seal};

use crate::support::PATIENCE;

const HEADER_BYTES: usize = uringest::limits::HEADER_BYTES;

/// A connection; closed when it goes out of scope.
pub struct Peer(pub TcpStream);

impl Peer {
    pub fn connect(address: SocketAddr) -> Peer {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server takes connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Peer(stream)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server reads");
    }

    /// The kind and the header's bytes of the next frame; the body is read and dropped.
    pub fn read_frame(&mut self) -> FrameHeader {
        let mut header = [0; HEADER_BYTES];
        self.0.read_exact(&mut header).expect("a frame from the server");
        let header = FrameHeader::parse(&header, 4 << 20).expect("a good header from the server");
        let mut body = vec![0; header.body_bytes as usize];
        self.0.read_exact(&mut body).expect("a body from the server");
        header
    }

    /// Says hello, and reads the welcome.
    pub fn greeted(address: SocketAddr) -> Peer {
        let mut peer = Peer::connect(address);
        peer.send(&hello());
        assert_eq!(peer.read_frame().kind, Kind::Welcome);
        peer
    }

    /// Subscribes with as much credit as there is, and will never read again.
    pub fn stuck(address: SocketAddr, topic: &str, name: &str) -> Peer {
        Peer::stuck_with_credit(address, topic, name, u64::MAX / 2)
    }

    /// Subscribes with so many bytes of credit, and will never read again.
    pub fn stuck_with_credit(address: SocketAddr, topic: &str, name: &str, credit: u64) -> Peer {
        let mut peer = Peer::greeted(address);
        let subscribe = Subscribe {
            topic: topic.to_owned(),
            start: Start::Latest,
            name: name.to_owned(),
            credit,
            ..Subscribe::default()
        };
        peer.send(&subscribe.frame(1));
        assert_eq!(peer.read_frame().kind, Kind::Subscribed);
        peer
    }
}

/// A hello without a token.
pub fn hello() -> Vec<u8> {
    Hello { client: "raw".into(), version_min: 1, version_max: 1, ..Hello::default() }.frame(0)
}

/// A publish frame with a good header whose body is not a batch.
pub fn publish_frame(channel: u32, body_bytes: usize) -> Vec<u8> {
    let body = vec![0x5a; body_bytes.next_multiple_of(8)];
    let header = FrameHeader {
        body_bytes: u32::try_from(body.len()).expect("few"),
        record_count: 1,
        producer_id: 7,
        sequence: 1,
        channel,
        ..FrameHeader::new(Kind::Publish)
    };
    let mut out = [0; HEADER_BYTES];
    header.encode(&mut out);
    seal(&mut out, &body);
    [&out[..], &body].concat()
}
