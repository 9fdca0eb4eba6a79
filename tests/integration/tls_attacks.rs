//! Who breaks TLS's rules on the server's port: it is told the right alert, a counter has the reason, and nobody else
//! notices.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore};
use uringest::tls::{ALPN, Alert, Reason, dev};

use crate::raw::{Peer, hello};
use crate::records::{ALERT, DATA, Direction, HEADER_BYTES};
use crate::rig::{Case, Program, create, offsets, scenarios};
use crate::support::{Server, feed, wait_for};

scenarios! {
    bad_records on tier_1 epoll;
    bad_hellos on tier_1 epoll;
    bad_identities on best;
    what_openssl_is_told on best;
}

const HANDSHAKE: u8 = 22;

/// Certificates of `uringest cert dev`, made `age_days` ago and good for so many.
fn certificates(folder: &Path, age_days: u64, days: u32) {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let request = dev::Request {
        server_names: dev::LOCAL_NAMES.map(str::to_owned).to_vec(),
        client_names: vec!["acme.clients.example".into()],
        now_s: now_s - age_days * 24 * 60 * 60,
        days,
    };
    dev::write(folder, &dev::generate(&request).expect("keys")).expect("written");
}

/// A server with TLS, and a publisher that goes on through everything.
struct Scene {
    server: Server,
    folder: tempfile::TempDir,
    witness: Program,
    lines: u64,
    /// How often each reason was counted.
    counted: Vec<(Reason, f64)>,
}

impl Scene {
    /// `mutual`: clients have to show a certificate.
    fn begin(case: &Case, mutual: bool) -> Scene {
        let folder = tempfile::tempdir().expect("a directory");
        for (name, age_days, days) in [("good", 0, 30), ("expired", 60, 30), ("stranger", 0, 30)] {
            certificates(&folder.path().join(name), age_days, days);
        }
        let file = |name: &str| folder.path().join(name).display().to_string();
        let of = |name: &str| std::fs::read_to_string(file(name)).expect("written");
        // The expired certificate's authority is known, the stranger's is not.
        std::fs::write(file("clients.pem"), of("good/ca.pem") + &of("expired/ca.pem")).expect("written");
        let (cert, key, clients) = (file("good/server.pem"), file("good/server.key"), file("clients.pem"));
        let mut args = vec!["--tls-cert", &cert, "--tls-key", &key];
        if mutual {
            args.extend(["--tls-client-ca", &clients]);
        }
        let server = case.start(&args);
        create(&server, "seen", &[]);
        let url = format!("uringest+tls://localhost:{}", server.data.port());
        let (ca, own, own_key) = (file("good/ca.pem"), file("good/client.pem"), file("good/client.key"));
        let mut args = vec!["pub", "seen", "--server", &url, "--tls-ca", &ca];
        if mutual {
            args.extend(["--tls-cert", &own, "--tls-key", &own_key]);
        }
        let witness = Program::start(&args);
        let mut scene = Scene { server, folder, witness, lines: 0, counted: Vec::new() };
        scene.goes_on();
        scene
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The publisher is still there, and heard.
    fn goes_on(&mut self) {
        self.lines += 1;
        self.witness.write(format!("{}\n", self.lines).as_bytes());
        let (server, lines) = (&self.server, self.lines);
        wait_for("the publisher's line", || (offsets(server, "seen").1 == lines).then_some(()));
    }

    /// This reason was counted once more, and nobody else was hurt.
    fn counts(&mut self, what: &str, reason: Reason) {
        if self.counted.iter().all(|(known, _)| *known != reason) {
            self.counted.push((reason, 0.0));
        }
        let (_, count) = self.counted.iter_mut().find(|(known, _)| *known == reason).expect("it was added");
        *count += 1.0;
        let (wanted, server) = (*count, &self.server);
        let total: f64 = self.counted.iter().map(|(_, count)| count).sum();
        wait_for(&format!("{what} to be counted as {}", reason.name()), || {
            let page = server.page("/metrics");
            let all: f64 = Reason::ALL.iter().map(|other| failures(&page, *other)).sum();
            let found = failures(&page, reason);
            assert!(
                all < total || found >= wanted,
                "{what} is counted, but not as {}:\n{page}",
                reason.name()
            );
            (all >= total).then_some(())
        });
        self.goes_on();
    }

    /// Nothing was counted beyond what was looked for.
    fn end(mut self) {
        let total: f64 = self.counted.iter().map(|(_, count)| count).sum();
        let page = self.server.page("/metrics");
        let found: f64 = Reason::ALL.iter().map(|reason| failures(&page, *reason)).sum();
        assert!((total - found).abs() < 0.5, "{total} were looked for, {found} are counted");
        self.witness.end_of_input();
        assert_eq!(self.witness.wait(), Some(0), "{}", self.witness.err());
    }

    fn client(&self, identity: Option<&str>, alpn: &[u8]) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.file("good/ca.pem")).expect("PEM");
        roots.add(authority).expect("an authority");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let file = |kind: &str| self.file(&format!("{name}/client.{kind}"));
                let chain = vec![CertificateDer::from_pem_file(file("pem")).expect("PEM")];
                let key = PrivateKeyDer::from_pem_file(file("key")).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_secret_extraction = true;
        ClientConnection::new(Arc::new(config), "localhost".try_into().expect("a name")).expect("a client")
    }
}

/// How often a page says that a reason was counted, over all shards; 0 where it has no sample.
fn failures(page: &str, reason: Reason) -> f64 {
    let label = format!("reason=\"{}\"", reason.name());
    let samples = page.lines().filter(|line| line.starts_with("uringest_tls_failures_total{"));
    samples
        .filter(|line| line.contains(&label))
        .map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a value"))
        .sum()
}

/// An established connection of somebody who has its keys and keeps to no rule.
struct Attacker {
    socket: TcpStream,
    sending: Direction,
    receiving: Direction,
}

impl Attacker {
    fn establish(scene: &Scene) -> Attacker {
        let Peer(mut socket) = Peer::connect(scene.server.data);
        let mut client = scene.client(None, ALPN);
        while client.is_handshaking() {
            if client.wants_write() {
                client.write_tls(&mut socket).expect("the server reads");
            } else {
                // One record at a time: what follows the handshake is read by its key.
                let record = record(&mut socket).expect("a record of the handshake");
                client.read_tls(&mut &record[..]).expect("from memory");
                client.process_new_packets().expect("a good server");
            }
        }
        while client.wants_write() {
            client.write_tls(&mut socket).expect("the server reads");
        }
        let secrets = client.dangerous_extract_secrets().expect("the configuration allows it");
        Attacker { socket, sending: Direction::of(secrets.tx), receiving: Direction::of(secrets.rx) }
    }

    fn data(&mut self, content: &[u8]) -> Vec<u8> {
        self.sending.seal(&[content, &[DATA]].concat())
    }

    /// What the server says before it ends the connection: one alert, or none.
    fn told(&mut self) -> Option<u8> {
        let mut told = None;
        while let Some(record) = record(&mut self.socket) {
            let inner = self.receiving.open(&record).expect("the server's next record");
            assert_eq!(told, None, "an alert is the last");
            if let [level, alert, ALERT] = inner[..] {
                assert_eq!(level, Alert(alert).level());
                told = Some(alert);
            }
        }
        told
    }
}

/// The next whole record; `None` at the end.
fn record(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut header = [0; HEADER_BYTES];
    socket.read_exact(&mut header).ok()?;
    let mut rest = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    socket.read_exact(&mut rest).expect("a whole record");
    Some([&header[..], &rest].concat())
}

type Attack = fn(&mut Attacker) -> Vec<u8>;

fn bad_records(case: &Case) {
    let mut scene = Scene::begin(case, false);
    let cases: [(&str, Attack, Reason); 13] = [
        ("a wrong tag", |by| changed(by.data(&hello()), usize::MAX, 1), Reason::BadRecordMac),
        ("a changed byte", |by| changed(by.data(&hello()), 20, 0x80), Reason::BadRecordMac),
        ("a record said again", |by| by.data(&hello()).repeat(2), Reason::BadRecordMac),
        (
            "records in another order",
            |by| {
                let (first, second) = (by.data(&hello()), by.data(&hello()));
                [second, first].concat()
            },
            Reason::BadRecordMac,
        ),
        (
            "a record left out",
            |by| {
                by.data(&hello());
                by.data(&hello())
            },
            Reason::BadRecordMac,
        ),
        ("a shorter length", |by| changed(by.data(&hello()), 4, 1), Reason::BadRecordMac),
        ("a length beyond all", |_| vec![DATA, 3, 3, 0x41, 1], Reason::RecordOverflow),
        ("too much inside", |by| by.data(&[0; (1 << 14) + 1]), Reason::RecordOverflow),
        ("a new hello", |by| by.sending.seal(&[1, 0, 0, 1, 0, HANDSHAKE]), Reason::Renegotiation),
        ("a new hello in plaintext", |_| client_hello(0x1301, true), Reason::UnexpectedRecord),
        ("a server's message", |by| by.sending.seal(&[4, 0, 0, 1, 0, HANDSHAKE]), Reason::UnexpectedMessage),
        ("a record with nothing inside", |by| by.sending.seal(&[0; 40]), Reason::EmptyRecord),
        ("an unknown type", |by| by.sending.seal(&[1, 99]), Reason::UnexpectedRecord),
    ];
    for (what, attack, reason) in cases {
        let mut attacker = Attacker::establish(&scene);
        let bytes = attack(&mut attacker);
        attacker.socket.write_all(&bytes).expect("the server reads");
        assert_eq!(attacker.told(), reason.alert().map(|alert| alert.0), "{what}");
        scene.counts(what, reason);
    }
    // The connection ends inside a record, and between two of them without a word.
    for keep in [10, usize::MAX] {
        let mut attacker = Attacker::establish(&scene);
        let bytes = attacker.data(&hello());
        attacker.socket.write_all(&bytes[..keep.min(bytes.len())]).expect("the server reads");
        attacker.socket.shutdown(Shutdown::Write).expect("open");
        attacker.told();
        scene.counts("an end without close_notify", Reason::Truncated);
    }
    // An end as it should be counts as nothing.
    let mut attacker = Attacker::establish(&scene);
    let bytes = [attacker.data(&hello()), attacker.sending.seal(&[1, 0, ALERT])].concat();
    attacker.socket.write_all(&bytes).expect("the server reads");
    attacker.socket.shutdown(Shutdown::Write).expect("open");
    assert_eq!(attacker.told(), Some(Alert::CLOSE_NOTIFY.0), "the server closes too");
    scene.end();
}

/// With one byte changed; its last where there is none so far behind.
fn changed(mut record: Vec<u8>, at: usize, by: u8) -> Vec<u8> {
    let at = at.min(record.len() - 1);
    record[at] ^= by;
    record
}

/// A ClientHello by hand, with one suite and an x25519 share, of TLS 1.3 or before.
fn client_hello(suite: u16, tls13: bool) -> Vec<u8> {
    fn with_length(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
    }
    let share = with_length(&[&[0, 29][..], &with_length(&[9; 32])].concat());
    let mut extensions = vec![(10_u16, with_length(&[0, 29])), (13, with_length(&[4, 3, 8, 4])), (51, share)];
    if tls13 {
        extensions.push((43, vec![2, 3, 4]));
    }
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, body)| [&kind.to_be_bytes()[..], &with_length(body)].concat())
        .collect();
    let suites = with_length(&suite.to_be_bytes());
    let body = [&[3, 3][..], &[7; 32], &[0], &suites, &[1, 0], &with_length(&extensions)].concat();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[HANDSHAKE, 3, 1][..], &with_length(&[&[1][..], &length[1..], &body].concat())].concat()
}

fn bad_hellos(case: &Case) {
    let mut scene = Scene::begin(case, false);
    let cases: [(&str, Vec<u8>, Reason); 7] = [
        ("no TLS", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Reason::NotTls),
        ("the protocol in plaintext", hello(), Reason::NotTls),
        ("TLS 1.2", client_hello(0xc02f, false), Reason::TlsVersion),
        ("no shared suite", client_hello(0x1304, true), Reason::NoSharedSuite),
        ("an overlong record", vec![HANDSHAKE, 3, 1, 0x7f, 0xff], Reason::RecordOverflow),
        ("data before a handshake", vec![DATA, 3, 3, 0, 1, 0], Reason::NotTls),
        (
            "a hello that does not parse",
            vec![HANDSHAKE, 3, 3, 0, 6, 1, 0, 0, 2, 9, 9],
            Reason::MalformedMessage,
        ),
    ];
    for (what, bytes, reason) in cases {
        let Peer(mut socket) = Peer::connect(scene.server.data);
        socket.write_all(&bytes).expect("the server reads");
        let mut told = Vec::new();
        socket.read_to_end(&mut told).expect("an end");
        let alert = reason.alert().expect("each has one").0;
        assert_eq!(told, [ALERT, 3, 3, 0, 2, 2, alert], "{what}");
        scene.counts(what, reason);
    }
    // Half a hello, and no more.
    let Peer(mut socket) = Peer::connect(scene.server.data);
    socket.write_all(&client_hello(0x1301, true)[..40]).expect("the server reads");
    socket.shutdown(Shutdown::Write).expect("open");
    let mut told = Vec::new();
    socket.read_to_end(&mut told).expect("an end");
    assert_eq!(told, b"");
    scene.counts("half a hello", Reason::HandshakeUnfinished);
    scene.end();
}

/// What a client of rustls is told, until the server ends the connection.
fn refused(scene: &Scene, mut client: ClientConnection) -> Error {
    let Peer(mut socket) = Peer::connect(scene.server.data);
    loop {
        while client.wants_write() {
            client.write_tls(&mut socket).expect("the server reads");
        }
        let record = record(&mut socket).expect("an alert comes before the end");
        client.read_tls(&mut &record[..]).expect("from memory");
        if let Err(error) = client.process_new_packets() {
            return error;
        }
    }
}

fn bad_identities(case: &Case) {
    let mut scene = Scene::begin(case, true);
    type Identity<'a> = (&'a str, Option<&'a str>, &'a [u8], Reason, AlertDescription);
    let cases: [Identity<'_>; 4] = [
        ("another protocol", Some("good"), b"h2", Reason::WrongAlpn, AlertDescription::NoApplicationProtocol),
        ("no certificate", None, ALPN, Reason::NoCertificate, AlertDescription::CertificateRequired),
        (
            "an expired certificate",
            Some("expired"),
            ALPN,
            Reason::CertificateExpired,
            AlertDescription::CertificateExpired,
        ),
        ("a stranger", Some("stranger"), ALPN, Reason::UnknownIssuer, AlertDescription::UnknownCA),
    ];
    for (what, identity, alpn, reason, alert) in cases {
        let client = scene.client(identity, alpn);
        assert_eq!(refused(&scene, client), Error::AlertReceived(alert), "{what}");
        scene.counts(what, reason);
    }
    scene.end();
}

fn what_openssl_is_told(case: &Case) {
    if !Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: no program `openssl` on this host");
        return;
    }
    let mut scene = Scene::begin(case, true);
    let file = |name: &str| scene.file(name);
    let pair = |name: &str| {
        let [cert, key] = ["pem", "key"].map(|kind| file(&format!("{name}/client.{kind}")));
        vec!["-cert".to_owned(), cert, "-key".to_owned(), key]
    };
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let cases: [(Vec<String>, Reason, &str); 7] = [
        (words("-tls1_2"), Reason::TlsVersion, "alert protocol version"),
        (words("-ciphersuites TLS_AES_128_CCM_SHA256"), Reason::NoSharedSuite, "alert handshake failure"),
        (words("-groups P-521"), Reason::NoSharedSuite, "alert handshake failure"),
        (words("-alpn h2"), Reason::WrongAlpn, "alert no application protocol"),
        (words("-alpn uringest/1"), Reason::NoCertificate, "alert certificate required"),
        (pair("expired"), Reason::CertificateExpired, "alert certificate expired"),
        (pair("stranger"), Reason::UnknownIssuer, "alert unknown ca"),
    ];
    let (address, ca) = (scene.server.data.to_string(), file("good/ca.pem"));
    for (args, reason, told) in cases {
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-brief",
            "-connect",
            &address,
            "-servername",
            "localhost",
            "-CAfile",
            &ca,
        ]);
        // It reads its standard input as long as the connection is good: the alert ends it.
        let output = feed(command.args(&args).arg("-ign_eof"), b"");
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(told), "{args:?}: no {told:?} in:\n{said}");
        scene.counts(&args.join(" "), reason);
    }
    scene.end();
}
