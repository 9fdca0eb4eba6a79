//! TLS records by somebody who means no good: any bytes, in any pieces, to a server's session that is new or that is
//! established; there also records under the right keys with anything inside.
//!
//! The input is a list of operations, so that a mutation of it is another story and not another broken tag. What
//! must hold is in [`Subject`]; a story that breaks it panics.

#[path = "../../support/records.rs"]
mod records;

use std::sync::{Arc, OnceLock};

use crate::story::Story;
use records::{ALERT, DATA, Direction, HEADER_BYTES};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use uringest::tls::record::{ALERT_RECORD_BYTES, CONTENT_BYTES_MAX, PLAINTEXT_ROOM_BYTES, WAITED_BYTES_MAX};
use uringest::tls::{
    ALPN, CertificateFiles, ClientAuth, EarlyData, Failure, Material, Reason, Records, ServerSettings,
    ServerTls, Session, Then, dev,
};

/// 2027-01-15, the time of all stories.
const NOW_S: u64 = 1_800_000_000;
/// Operations in one story.
const OPERATIONS_MAX: usize = 64;
/// Pieces of what is given at once.
const PIECES_MAX: usize = 200;

/// One story. The first byte says who is told it, the others what.
pub fn run(story: &[u8]) {
    let mut story = Story(story);
    let mode = story.byte();
    let records = if mode & 2 == 0 { Records::Own } else { Records::Rustls };
    let mut subject = Subject::new(records);
    if mode & 1 == 0 {
        let mut peer = Peer::establish(&mut subject);
        for _ in 0..OPERATIONS_MAX {
            if story.0.is_empty() {
                break;
            }
            peer.act(&mut story, &mut subject);
        }
    } else {
        let mut hello = good_hello();
        for _ in 0..OPERATIONS_MAX {
            if story.0.is_empty() {
                break;
            }
            begin(&mut story, &mut hello, &mut subject);
        }
    }
    subject.end();
}

/// A server's session, what it was given and what became of it.
struct Subject {
    session: Session,
    records: Records,
    /// Bytes it was given.
    given: usize,
    /// Given and not consumed.
    pending: Vec<u8>,
    /// What came out, and what may: the content of good data records, in order, up to the first bad byte.
    heard: Vec<u8>,
    good: Vec<u8>,
    /// Something was given that is not the next good record: nothing behind it may be heard.
    spoilt: bool,
    failure: Option<Failure>,
    closed: bool,
    room: usize,
    piece: usize,
    /// What it had to say that is not looked at yet.
    said: Vec<u8>,
}

impl Subject {
    fn new(records: Records) -> Subject {
        Subject {
            session: Session::server(server(), records),
            records,
            given: 0,
            pending: Vec::new(),
            heard: Vec::new(),
            good: Vec::new(),
            spoilt: false,
            failure: None,
            closed: false,
            room: PLAINTEXT_ROOM_BYTES,
            piece: usize::MAX,
            said: Vec::new(),
        }
    }

    /// Gives bytes, in pieces.
    fn give(&mut self, bytes: &[u8]) {
        self.given += bytes.len();
        for piece in bytes.chunks(self.piece.max(bytes.len() / PIECES_MAX).max(1)) {
            self.pending.extend_from_slice(piece);
            while self.receive() {}
        }
        self.listen();
        assert!(self.good.starts_with(&self.heard), "only what was good is heard, in its order");
    }

    /// One call; says whether another is due.
    fn receive(&mut self) -> bool {
        let mut out = vec![0xee; self.room];
        let before = self.failure.is_some() || self.closed;
        let received = self.session.receive(&self.pending, &mut out, NOW_S);
        assert!(received.consumed <= self.pending.len() && received.produced <= out.len());
        assert_eq!(received.early, 0, "nothing is early without leave");
        assert!(!before || received.produced == 0, "nothing is heard after the end");
        assert!(out[received.produced..].iter().all(|&byte| byte == 0xee) || self.records == Records::Own);
        self.heard.extend_from_slice(&out[..received.produced]);
        self.pending.drain(..received.consumed);
        match received.then {
            Then::Wants(bytes) => {
                assert!(bytes > self.pending.len() && bytes <= WAITED_BYTES_MAX, "{bytes}");
                assert!(!before, "an end is the end");
                false
            }
            Then::Room(bytes) => {
                assert!(bytes > self.room - received.produced && bytes <= PLAINTEXT_ROOM_BYTES, "{bytes}");
                self.room = self.room.max(bytes);
                true
            }
            Then::Closed => {
                assert!(self.pending.is_empty() && self.failure.is_none());
                self.closed = true;
                false
            }
            Then::Failed(failure) => {
                assert!(self.pending.is_empty(), "what comes after it is dropped");
                assert!(self.failure.as_ref().is_none_or(|first| *first == failure), "the first one stays");
                self.failed(failure);
                false
            }
        }
    }

    fn failed(&mut self, failure: Failure) {
        assert_ne!(failure.reason, Reason::Internal, "{failure}");
        self.failure.get_or_insert(failure);
    }

    /// Takes what it has to say. One that failed has one alert to say, or nothing.
    fn listen(&mut self) {
        let over = self.failure.is_some();
        let mut out = vec![0; 64 * 1024];
        loop {
            let from: &[u8] = if over { b"that may not go out" } else { b"" };
            let sealed = self.session.transmit(from, &mut out);
            assert_eq!(sealed.taken, 0);
            self.said.extend_from_slice(&out[..sealed.written]);
            if sealed.written == 0 {
                break;
            }
        }
        assert!(!self.session.has_output());
        assert!(!over || !self.session.can_send() && !self.session.is_handshaking());
    }

    /// The connection's end, whatever came before.
    fn end(&mut self) {
        if !self.spoilt && !self.closed && self.failure.is_none() {
            assert!(self.heard == self.good, "what is good is heard, all of it");
        }
        match self.session.end_of_stream() {
            Ok(()) => assert!(self.closed && self.failure.is_none()),
            Err(failure) => {
                assert!(!self.closed || self.failure.is_some());
                self.failed(failure);
            }
        }
        self.listen();
        let tail = self.records_said().last().map(|record| record.to_vec());
        let sent = self.failure.as_ref().and_then(|failure| failure.sent);
        let in_plaintext = self.records_said().filter(|record| record[0] == ALERT).count();
        assert!(in_plaintext <= 1, "one alert");
        match (sent, tail) {
            (None, _) => assert_eq!(in_plaintext, 0, "{:?}", self.failure),
            (Some(alert), Some(record)) if in_plaintext == 1 => {
                assert_eq!(record[HEADER_BYTES..], [2, alert.0])
            }
            (Some(_), Some(record)) => assert_eq!(record.len(), ALERT_RECORD_BYTES),
            (Some(alert), None) => panic!("{alert} was not said"),
        }
    }

    fn records_said(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.said[..];
        std::iter::from_fn(move || {
            let &[_, _, _, high, low] = rest.first_chunk::<HEADER_BYTES>()?;
            let (record, after) = rest.split_at(HEADER_BYTES + usize::from(u16::from_be_bytes([high, low])));
            rest = after;
            Some(record)
        })
    }
}

/// One operation on a session whose handshake has not begun.
fn begin(story: &mut Story<'_>, hello: &mut Vec<u8>, subject: &mut Subject) {
    match story.byte() % 6 {
        0 => {
            let count = usize::from(story.byte());
            subject.give(story.bytes(count));
        }
        1 => {
            let (fresh, hello) = (subject.given == 0, std::mem::take(hello));
            subject.give(&hello);
            let answered = subject.failure.is_none() && !subject.said.is_empty();
            assert!(!fresh || hello != good_hello() || answered, "what is good is answered");
        }
        2 => {
            let at = story.number() % hello.len().max(1);
            let value = story.byte();
            if let Some(byte) = hello.get_mut(at) {
                *byte = value;
            }
        }
        3 => {
            let at = story.number() % (hello.len() + 1);
            let first: Vec<u8> = hello.drain(..at).collect();
            subject.give(&first);
        }
        4 => subject.piece = story.number().max(1),
        _ => {
            let header = [20 + story.byte() % 5, 3, 3, story.byte(), story.byte()];
            subject.give(&header);
        }
    }
}

/// The other side of an established connection, with its key.
struct Peer {
    sending: Direction,
    last: Vec<u8>,
}

impl Peer {
    fn establish(subject: &mut Subject) -> Peer {
        let mut client = client();
        for _ in 0..4 {
            subject.give(&said_by(&mut client));
            let mut said = &std::mem::take(&mut subject.said)[..];
            while !said.is_empty() {
                client.read_tls(&mut said).expect("from memory");
                client.process_new_packets().expect("a good server");
            }
        }
        assert!(subject.session.can_send() && !client.is_handshaking());
        let secrets = client.dangerous_extract_secrets().expect("the configuration allows it");
        Peer { sending: Direction::of(secrets.tx), last: Vec::new() }
    }

    fn act(&mut self, story: &mut Story<'_>, subject: &mut Subject) {
        match story.byte() % 9 {
            // Good data, padded.
            0 => {
                let (bytes, padding, fill) =
                    (story.number() % (CONTENT_BYTES_MAX + 1), story.byte(), story.byte());
                let padding = usize::from(padding).min(CONTENT_BYTES_MAX - bytes);
                let content = vec![fill; bytes];
                let record = self.sending.seal(&[&content[..], &[DATA], &vec![0; padding]].concat());
                if !subject.spoilt {
                    subject.good.extend_from_slice(&content);
                }
                subject.give(&record);
                self.last = record;
            }
            // Anything under a good tag. Data inside is as good as other data.
            1 => {
                let count = usize::from(story.byte());
                let inner = story.bytes(count).to_vec();
                let at = inner.iter().rposition(|&byte| byte != 0);
                match at.map(|at| (inner[at], at)) {
                    Some((DATA, at)) if !subject.spoilt => subject.good.extend_from_slice(&inner[..at]),
                    // A KeyUpdate changes the key, which this peer does not follow.
                    _ => subject.spoilt |= inner.contains(&24),
                }
                let record = self.sending.seal(&inner);
                subject.give(&record);
                self.last = record;
            }
            // Good data that somebody changed.
            2 => {
                let (bytes, at, value) =
                    (story.number() % (CONTENT_BYTES_MAX + 1), story.number(), story.byte());
                let mut record = self.sending.seal(&[&vec![value; bytes][..], &[DATA]].concat());
                // Not the version, which RFC 8446 section 5.1 lets a receiver ignore; rustls ignores the outer type of
                // protected records too. Neither changes what is inside.
                let ignored = if subject.records == Records::Own { 1..3 } else { 0..3 };
                let at = at % record.len();
                let at = if ignored.contains(&at) { HEADER_BYTES } else { at };
                record[at] ^= value;
                if value != 0 {
                    subject.spoilt = true;
                } else if !subject.spoilt {
                    subject.good.resize(subject.good.len() + bytes, value);
                }
                subject.give(&record);
            }
            // Left out, said again, cut short, made up.
            3 => {
                self.sending.seal(&[0, DATA]);
                subject.spoilt = true;
            }
            4 => {
                let last = self.last.clone();
                subject.spoilt |= !last.is_empty();
                subject.give(&last);
            }
            5 => {
                let record = self.sending.seal(&[&vec![7; 100][..], &[DATA]].concat());
                subject.spoilt = true;
                subject.give(&record[..story.number() % record.len()]);
            }
            6 => {
                let count = usize::from(story.byte());
                subject.spoilt |= count > 0;
                subject.give(story.bytes(count));
            }
            7 => subject.room = story.number() % (2 * PLAINTEXT_ROOM_BYTES),
            _ => subject.piece = story.number().max(1),
        }
    }
}

/// What all servers are made from.
fn server() -> &'static ServerTls {
    &material().0
}

fn client() -> ClientConnection {
    let name = "localhost".try_into().expect("a name");
    ClientConnection::new(Arc::clone(&material().1), name).expect("a client")
}

/// A ClientHello that a server answers with its flight. Always the same bytes, unlike those of rustls's clients, which shuffle
/// their extensions: a story changes what stands at a place.
fn good_hello() -> Vec<u8> {
    let name = with_length(&[&[0][..], &with_length(b"localhost")].concat());
    let protocol = [&[u8::try_from(ALPN.len()).expect("short")][..], ALPN].concat();
    let share = [&[0, 29][..], &with_length(&[9; 32])].concat();
    let extensions: [(u8, &[u8]); 6] = [
        (0, &name),
        (10, &[0, 2, 0, 29]),      // x25519
        (13, &[0, 4, 4, 3, 8, 4]), // ecdsa_secp256r1_sha256, rsa_pss_rsae_sha256
        (16, &with_length(&protocol)),
        (43, &[2, 3, 4]), // TLS 1.3
        (51, &with_length(&share)),
    ];
    let extensions =
        extensions.map(|(number, body)| [&[0, number][..], &with_length(body)].concat()).concat();
    // TLS_AES_128_GCM_SHA256.
    let hello = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &with_length(&extensions)].concat();
    let message = [&[1, 0][..], &with_length(&hello)].concat();
    [&[22, 3, 1][..], &with_length(&message)].concat()
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

fn said_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut said = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut said).expect("into memory");
    }
    said
}

fn material() -> &'static (ServerTls, Arc<ClientConfig>) {
    static MATERIAL: OnceLock<(ServerTls, Arc<ClientConfig>)> = OnceLock::new();
    MATERIAL.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let names = dev::LOCAL_NAMES.map(str::to_owned).to_vec();
        // Good now by the clock that rustls's client looks at as well as at the stories' time.
        let request = dev::Request {
            server_names: names,
            client_names: Vec::new(),
            now_s: 1_600_000_000,
            days: 36_500,
        };
        let files = dev::generate(&request).expect("keys");
        dev::write(directory.path(), &files).expect("written");
        let path = |name: &str| directory.path().join(name);
        let settings = ServerSettings {
            certificates: vec![CertificateFiles { certificate: path("server.pem"), key: path("server.key") }],
            client_auth: ClientAuth::None,
            revocation_lists: Vec::new(),
            tenant_rule: None,
            early_data: EarlyData::Off,
        };
        let server = Material::read(&settings).and_then(ServerTls::new).expect("good files");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(path("ca.pem")).expect("PEM")).expect("an authority");
        let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_secret_extraction = true;
        (server, Arc::new(client))
    })
}
