//! The piece between socket and frames, against a server's session in memory.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::client::core::{Frame, TlsSettings};
use crate::proto::header::{FrameHeader, Kind};
use crate::tls::{
    Alert, CertificateFiles, ClientAuth, EarlyData, Material, Roots, ServerSettings, ServerTls, dev,
};
use crate::wire::batch::BatchBuilder;

const YEAR_S: u64 = 365 * 24 * 60 * 60;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// An authority and what it signed.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        let directory = tempfile::tempdir().expect("a directory");
        let names = dev::LOCAL_NAMES.map(str::to_owned).to_vec();
        let request = dev::Request {
            server_names: names,
            client_names: vec!["c.example".to_owned()],
            now_s: now_s(),
            days: 90,
        };
        dev::write(directory.path(), &dev::generate(&request).expect("keys")).expect("written");
        Files(directory)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn pair(&self, name: &str) -> CertificateFiles {
        CertificateFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        }
    }

    fn server(&self, client_auth: ClientAuth) -> ServerTls {
        let settings = ServerSettings {
            certificates: vec![self.pair("server")],
            client_auth,
            revocation_lists: Vec::new(),
            tenant_rule: None,
            early_data: EarlyData::Off,
        };
        ServerTls::new(Material::read(&settings).expect("files")).expect("usable")
    }

    fn connector(&self, address: &str, settings: TlsSettings) -> Connector {
        let settings = TlsSettings { roots: Roots::File(self.path("ca.pem")), ..settings };
        connector(address, Some(Tls::new(settings).expect("files")))
    }
}

fn connector(address: &str, tls: Option<Tls>) -> Connector {
    let server = address.parse().expect("an address");
    let config = ConnectionConfig { server, tls, ..ConnectionConfig::default() };
    Connector::new(&config, now_s()).expect("good settings")
}

/// Both ends, and what came out at each.
struct Pair {
    wire: Arc<Wire>,
    receiver: Receiver,
    frames: Vec<Frame>,
    lost: Option<Lost>,
    server: Session,
    to_server: Vec<u8>,
    heard: Vec<u8>,
}

impl Pair {
    fn new(connector: &Connector, server: &ServerTls) -> Pair {
        let mut pair = Pair {
            wire: connector.open(now_s()),
            receiver: Receiver::new(usize::MAX),
            frames: Vec::new(),
            lost: None,
            server: Session::server(server, Records::Own),
            to_server: Vec::new(),
            heard: Vec::new(),
        };
        pair.receiver.begin(Arc::clone(&pair.wire));
        pair
    }

    fn established() -> Pair {
        let files = Files::new();
        let connector = files.connector("uringest+tls://localhost", TlsSettings::default());
        let mut pair = Pair::new(&connector, &files.server(ClientAuth::None));
        pair.settle();
        assert!(pair.wire.may_send() && pair.lost.is_none(), "{:?}", pair.lost);
        pair
    }

    /// The client sends these, by blocks of so many bytes.
    fn send(&mut self, frames: &[Bytes], block_bytes: usize) {
        let mut frames = VecDeque::from(frames.to_vec());
        let mut block = vec![0; block_bytes];
        loop {
            match self.wire.seal(&mut frames, &mut block) {
                0 => break,
                bytes => self.to_server.extend_from_slice(&block[..bytes]),
            }
        }
        assert!(frames.is_empty() || !self.wire.may_send(), "all of it");
        let mut out = vec![0; 1 << 17];
        loop {
            let received = self.server.receive(&self.to_server, &mut out, now_s());
            self.heard.extend_from_slice(&out[..received.produced]);
            self.to_server.drain(..received.consumed);
            if !matches!(received.then, Then::Room(_)) {
                return;
            }
        }
    }

    /// What the server says with these bytes behind it, in records of so much content at most.
    fn answer(&mut self, bytes: &[u8], content: usize) -> Vec<u8> {
        let mut wire = vec![0; 1 << 16];
        let mut said = Vec::new();
        let written = self.server.transmit(&[], &mut wire).written;
        said.extend_from_slice(&wire[..written]);
        for piece in bytes.chunks(content) {
            let sealed = self.server.transmit(piece, &mut wire);
            assert_eq!(sealed.taken, piece.len());
            said.extend_from_slice(&wire[..sealed.written]);
        }
        said
    }

    /// The client reads these, so many at a time.
    fn read(&mut self, bytes: &[u8], at_once: usize) {
        if self.lost.is_none() {
            self.lost = read(&mut self.receiver, bytes, at_once, now_s(), &mut self.frames).err();
        }
    }

    fn settle(&mut self) {
        while self.wire.owes() {
            self.send(&[], BLOCK_BYTES);
            let answer = self.answer(&[], 1);
            self.read(&answer, usize::MAX);
        }
    }

    fn received(&self) -> Vec<u8> {
        self.frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect()
    }

    #[track_caller]
    fn fault(&self) -> TlsFault {
        match &self.lost {
            Some(Lost::Garbled(Error::Tls { fault, .. })) => *fault,
            other => panic!("{other:?}"),
        }
    }
}

fn read(
    receiver: &mut Receiver,
    mut bytes: &[u8],
    at_once: usize,
    now_s: u64,
    frames: &mut Vec<Frame>,
) -> Result<(), Lost> {
    while !bytes.is_empty() {
        let room = receiver.room();
        let part = room.len().min(bytes.len()).min(at_once);
        room[..part].copy_from_slice(&bytes[..part]);
        receiver.filled(part, now_s, frames)?;
        bytes = &bytes[part..];
    }
    Ok(())
}

/// A frame of about so many bytes.
fn frame(bytes: usize) -> Bytes {
    if bytes < 200 {
        return Bytes::from(FrameHeader::new(Kind::Pong).alone().to_vec());
    }
    let mut builder = BatchBuilder::with_capacity(bytes);
    builder.push(&vec![u8::try_from(bytes % 251).expect("small"); bytes - 100], None, 1, &[]);
    Bytes::from(builder.finish(7, 1, 0))
}

fn frames_of(sizes: &[usize]) -> Vec<Bytes> {
    sizes.iter().map(|size| frame(*size)).collect()
}

const SIZES: [usize; 9] = [64, 64, 3000, 16_384, 64, 70_000, 500, 2047, 40_000];

#[test]
fn frames_arrive_however_records_and_reads_are_cut() {
    let sent = frames_of(&SIZES).concat();
    let mut pair = Pair::established();
    for content in [1, 63, 64, 1000, 16_384] {
        for at_once in [1, 5, 22, 4096, usize::MAX] {
            if content == 1 && at_once == 1 {
                continue; // three million reads say nothing more
            }
            let said = pair.answer(&sent, content);
            pair.read(&said, at_once);
            assert_eq!(pair.lost, None);
            assert!(pair.received() == sent, "records of {content}, reads of {at_once}");
            pair.frames.clear();
        }
    }
}

#[test]
fn what_is_delivered_lies_where_it_was_opened() {
    let sent = frames_of(&[60_000, 50_000, 64, 64, 30_000]).concat();
    let mut pair = Pair::established();
    let said = pair.answer(&sent, 900);
    pair.read(&said, 1300);
    assert!(pair.received() == sent);
    assert_eq!(pair.receiver.copied_bytes(), (0, 0), "side by side, over records and reads");
    let places: Vec<usize> = pair.frames.iter().map(|frame| frame.bytes.as_ptr() as usize).collect();
    for (at, frame) in pair.frames.iter().enumerate().skip(1) {
        assert_eq!(places[at], places[at - 1] + pair.frames[at - 1].bytes.len(), "{:?}", frame.header.kind);
    }
}

#[test]
fn frames_are_sealed_into_blocks_of_any_size() {
    let frames = frames_of(&SIZES);
    for block_bytes in [2048, 20_000, BLOCK_BYTES, 1 << 20] {
        let mut pair = Pair::established();
        pair.send(&frames, block_bytes);
        assert!(pair.heard == frames.concat(), "blocks of {block_bytes}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_frames_pass_both_ways(
        sizes in proptest::collection::vec(64_usize..40_000, 1..20),
        content in 1_usize..16_385,
        at_once in 1_usize..100_000,
        block in 2048_usize..200_000,
    ) {
        let frames = frames_of(&sizes);
        let mut pair = Pair::established();
        pair.send(&frames, block);
        prop_assert!(pair.heard == frames.concat());
        let said = pair.answer(&frames.concat(), content);
        pair.read(&said, at_once);
        prop_assert!(pair.received() == frames.concat());
    }
}

#[test]
fn nothing_is_sent_before_the_handshake_is_over() {
    let files = Files::new();
    let connector = files.connector("uringest+tls://127.0.0.1", TlsSettings::default());
    let pair = Pair::new(&connector, &files.server(ClientAuth::None));
    assert!(pair.wire.owes() && !pair.wire.may_send());
    let mut frames = VecDeque::from(frames_of(&[64]));
    let mut block = pair.wire.block();
    assert!(pair.wire.seal(&mut frames, &mut block) > 0, "the hello");
    assert_eq!((frames.len(), pair.wire.owes()), (1, false));

    let plain = self::connector("127.0.0.1", None).open(now_s());
    assert!(plain.may_send() && !plain.owes() && plain.block().is_empty());
    pair.wire.cut();
    assert_eq!(pair.wire.goodbye(&mut block), 0, "behind half a record nothing makes sense");
}

#[test]
fn keys_that_the_server_replaces_are_followed() {
    let mut pair = Pair::established();
    pair.server.rekey_after(2);
    let sent = frames_of(&SIZES).concat();
    let said = pair.answer(&sent, 10_000);
    pair.read(&said, 1000);
    assert_eq!(pair.lost, None);
    assert!(pair.received() == sent);
    pair.send(&frames_of(&SIZES), BLOCK_BYTES);
    assert!(pair.heard == sent);
}

#[test]
fn an_end_is_said_and_a_cut_is_an_error() {
    let mut pair = Pair::established();
    let said = pair.answer(&frame(5000), 16_384);
    pair.read(&said[..said.len() - 1], usize::MAX);
    assert!(pair.frames.is_empty(), "nothing is given out of a record before its tag");
    pair.lost = Some(pair.receiver.ended());
    assert_eq!(pair.fault(), TlsFault::Cut);

    let mut pair = Pair::established();
    let mut said = pair.answer(&frame(5000), 16_384);
    pair.server.close();
    said.extend(pair.answer(&[], 1));
    pair.read(&said, usize::MAX);
    assert_eq!(pair.frames.len(), 1, "what came before the end is given out");
    assert!(matches!(pair.lost, Some(Lost::Ended(_))), "{:?}", pair.lost);
    assert!(matches!(pair.receiver.ended(), Lost::Ended(_)));

    let mut block = pair.wire.block();
    let goodbye = pair.wire.goodbye(&mut block);
    let received = pair.server.receive(&block[..goodbye], &mut [0; 64], now_s());
    assert_eq!(received.then, Then::Closed, "and this side says so as well");
    assert_eq!(pair.wire.goodbye(&mut block), 0, "once");

    let files = Files::new();
    let connector = files.connector("uringest+tls://localhost", TlsSettings::default());
    let mut pair = Pair::new(&connector, &files.server(ClientAuth::None));
    pair.lost = Some(pair.receiver.ended());
    assert_eq!(pair.fault(), TlsFault::Cut, "in the handshake");
}

#[test]
fn a_damaged_record_ends_it_and_the_server_is_told() {
    let mut pair = Pair::established();
    let good = pair.answer(&frame(64), 16_384);
    let mut bad = pair.answer(&frame(5000), 16_384);
    bad[1000] ^= 1;
    pair.read(&[good, bad].concat(), usize::MAX);
    assert_eq!((pair.frames.len(), pair.fault()), (1, TlsFault::Broken));
    assert!(pair.wire.owes() && !pair.wire.may_send());
    let mut block = pair.wire.block();
    let goodbye = pair.wire.goodbye(&mut block);
    match pair.server.receive(&block[..goodbye], &mut [0; 64], now_s()).then {
        Then::Failed(failure) => assert_eq!(failure.received, Some(Alert::BAD_RECORD_MAC)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reconnect_resumes() {
    let files = Files::new();
    let server = files.server(ClientAuth::None);
    let connector = files.connector("uringest+tls://localhost", TlsSettings::default());
    for resumed in [false, true, true] {
        let mut pair = Pair::new(&connector, &server);
        pair.settle();
        pair.send(&[frame(64)], BLOCK_BYTES);
        let said = pair.answer(&frame(64), 64);
        pair.read(&said, usize::MAX);
        assert_eq!(pair.frames.len(), 1);
        assert_eq!(pair.server.peer().map(|peer| peer.resumed), Some(resumed));
    }
}

#[test]
fn each_refusal_has_its_fault() {
    let files = Files::new();
    let server = files.server(ClientAuth::None);
    let fault = |connector: &Connector, server: &ServerTls| {
        let mut pair = Pair::new(connector, server);
        pair.settle();
        pair.fault()
    };
    let other = Files::new();
    let address = "uringest+tls://localhost";
    let good = TlsSettings::default;
    assert_eq!(fault(&other.connector(address, good()), &server), TlsFault::UnknownAuthority);
    assert_eq!(fault(&files.connector("uringest+tls://a.example", good()), &server), TlsFault::WrongName);
    let named = TlsSettings { server_name: Some("localhost".to_owned()), ..good() };
    let mut pair = Pair::new(&files.connector("uringest+tls://a.example", named), &server);
    pair.settle();
    assert_eq!(pair.lost, None, "the name can be given separately");

    let required = files.server(ClientAuth::Required(files.path("ca.pem")));
    assert_eq!(fault(&files.connector(address, good()), &required), TlsFault::CertificateRequired);
    let theirs = TlsSettings { identity: Some(other.pair("client")), ..good() };
    assert_eq!(fault(&files.connector(address, theirs), &required), TlsFault::CertificateRefused);
    let ours = TlsSettings { identity: Some(files.pair("client")), ..good() };
    let mut pair = Pair::new(&files.connector(address, ours), &required);
    pair.settle();
    assert_eq!(pair.lost, None);
}

#[test]
fn a_certificate_that_has_expired_has_its_fault() {
    let files = Files::new();
    let connector = files.connector("uringest+tls://localhost", TlsSettings::default());
    let mut pair = Pair::new(&connector, &files.server(ClientAuth::None));
    pair.send(&[], BLOCK_BYTES);
    let answer = pair.answer(&[], 1);
    pair.lost = read(&mut pair.receiver, &answer, usize::MAX, now_s() + YEAR_S, &mut pair.frames).err();
    assert_eq!(pair.fault(), TlsFault::CertificateExpired);
}

#[test]
fn who_speaks_something_else_is_told_from_who_refuses() {
    let files = Files::new();
    let first_words = |address: &str, bytes: &[u8]| {
        let settings = TlsSettings { roots: Roots::File(files.path("ca.pem")), ..TlsSettings::default() };
        let tls = address.contains("tls").then(|| Tls::new(settings).expect("files"));
        let mut receiver = Receiver::new(usize::MAX);
        receiver.begin(connector(address, tls).open(now_s()));
        match read(&mut receiver, bytes, usize::MAX, now_s(), &mut Vec::new()) {
            Err(Lost::Garbled(Error::Tls { fault, .. })) => Some(fault),
            Ok(()) | Err(_) => None,
        }
    };
    let alert = |alert: Alert| [21, 3, 3, 0, 2, 2, alert.0];
    let (tls, plain) = ("uringest+tls://localhost", "uringest://localhost");
    assert_eq!(first_words(tls, &frame(64)), Some(TlsFault::ServerSpeaksPlaintext));
    assert_eq!(first_words(tls, b"HTTP/1.1 400 Bad Request\r\n"), Some(TlsFault::ServerSpeaksPlaintext));
    assert_eq!(first_words(tls, &alert(Alert::PROTOCOL_VERSION)), Some(TlsFault::NothingInCommon));
    assert_eq!(first_words(tls, &alert(Alert::NO_APPLICATION_PROTOCOL)), Some(TlsFault::OtherProtocol));
    assert_eq!(first_words(plain, &alert(Alert::UNEXPECTED_MESSAGE)), Some(TlsFault::ServerSpeaksTls));
    assert_eq!(first_words(plain, &frame(64)), None);
}

#[test]
fn settings_that_cannot_be_are_refused_before_anything_is_tried() {
    let files = Files::new();
    let roots = Roots::File(files.path("ca.pem"));
    let refused = |settings: TlsSettings| match Tls::new(settings) {
        Err(Error::BadConfig(why)) => why,
        other => panic!("{other:?}"),
    };
    let missing =
        refused(TlsSettings { roots: Roots::File(Path::new("/nowhere").into()), ..Default::default() });
    assert!(missing.contains("/nowhere"), "{missing}");
    let mixed = CertificateFiles { certificate: files.path("client.pem"), key: files.path("server.key") };
    let why = refused(TlsSettings { roots: roots.clone(), identity: Some(mixed), ..Default::default() });
    assert!(why.contains("server.key"), "{why}");

    let tls = |name: Option<&str>| {
        let server_name = name.map(str::to_owned);
        Some(Tls::new(TlsSettings { roots: roots.clone(), identity: None, server_name }).expect("files"))
    };
    let new = |server: &str, tls| {
        let server = server.parse().expect("an address");
        Connector::new(&ConnectionConfig { server, tls, ..ConnectionConfig::default() }, now_s()).map(|_| ())
    };
    assert!(new("uringest+tls://[::1]", tls(None)).is_ok());
    for (server, name) in [("uringest+tls://a b", None), ("uringest+tls://a", Some("a/b"))] {
        assert!(matches!(new(server, tls(name)), Err(Error::BadConfig(_))), "{server} {name:?}");
    }
}
