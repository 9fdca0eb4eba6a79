//! TLS against OpenSSL's own client and server: it gets through, or gets the right alert.
//!
//! Without the program `openssl` each test says so and passes: there is nothing to compare with.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uringest::tls::{
    CertificateFiles, ClientAuth, ClientMaterial, ClientSettings, ClientTls, EarlyData, Failure, Material,
    Peer, Reason, Records, Roots, ServerSettings, ServerTls, Session, Suite, Then, dev,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn has_openssl() -> bool {
    let there = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: no program `openssl` on this host");
    }
    there
}

/// Certificates of `uringest cert dev`, and what is made from them.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Certificates {
        let directory = tempfile::tempdir().expect("a directory");
        let request = dev::Request {
            server_names: dev::LOCAL_NAMES.map(str::to_owned).to_vec(),
            client_names: vec!["acme.clients.example".into()],
            now_s: now_s(),
            days: 2,
        };
        let files = dev::generate(&request).expect("keys");
        dev::write(directory.path(), &files).expect("written");
        Certificates(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn pair(&self, name: &str) -> CertificateFiles {
        CertificateFiles {
            certificate: self.path(&format!("{name}.pem")).into(),
            key: self.path(&format!("{name}.key")).into(),
        }
    }

    fn server(&self, client_auth: ClientAuth) -> ServerTls {
        let settings = ServerSettings {
            certificates: vec![self.pair("server")],
            client_auth,
            revocation_lists: Vec::new(),
            tenant_rule: Some("dns:{tenant}.clients.example".parse().expect("a rule")),
            early_data: EarlyData::Off,
        };
        Material::read(&settings).and_then(ServerTls::new).unwrap_or_else(|error| panic!("{error}"))
    }

    fn client(&self, identity: bool) -> ClientTls {
        let settings = ClientSettings {
            roots: Roots::File(self.path("ca.pem").into()),
            identity: identity.then(|| self.pair("client")),
        };
        ClientMaterial::read(&settings).and_then(ClientTls::new).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// How a connection of ours went.
struct Report {
    heard: Vec<u8>,
    peer: Option<Peer>,
    end: Result<(), Failure>,
}

/// Drives a session over a socket: what is heard is sent back while `echo` says so, until an end.
fn drive(mut session: Session, mut socket: TcpStream, first: &[u8], echo: bool) -> Report {
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let (mut pending, mut heard) = (Vec::new(), Vec::new());
    let mut unsent = first.to_vec();
    let (mut input, mut out) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        while session.has_output() || (session.can_send() && !unsent.is_empty()) {
            let sealed = session.transmit(&unsent, &mut out);
            unsent.drain(..sealed.taken);
            if socket.write_all(&out[..sealed.written]).is_err() {
                break; // the peer has gone, which reading tells
            }
        }
        let received = session.receive(&pending, &mut out, now_s());
        pending.drain(..received.consumed);
        heard.extend_from_slice(&out[..received.produced]);
        if echo {
            unsent.extend_from_slice(&out[..received.produced]);
        }
        let end = match received.then {
            Then::Wants(_) if session.has_output() || (session.can_send() && !unsent.is_empty()) => continue,
            Then::Wants(_) => match socket.read(&mut input) {
                Ok(0) => session.end_of_stream(),
                Ok(bytes) => {
                    pending.extend_from_slice(&input[..bytes]);
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => session.end_of_stream(),
                Err(error) => panic!("the peer says nothing: {error}"),
            },
            Then::Room(_) => continue,
            Then::Closed => Ok(()),
            Then::Failed(failure) => Err(failure),
        };
        session.close();
        let sealed = session.transmit(&[], &mut out);
        let _ = socket.write_all(&out[..sealed.written]);
        let peer = session.peer().cloned();
        return Report { heard, peer, end };
    }
}

/// A server of ours for one connection; its port.
fn serve_once(tls: ServerTls, records: Records) -> (u16, JoinHandle<Report>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let server = std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a client");
        drive(Session::server(&tls, records), socket, b"", true)
    });
    (port, server)
}

/// A program that talks; ended when it goes out of scope.
struct Program {
    child: Child,
    stdin: ChildStdin,
    said: std::sync::mpsc::Receiver<Vec<u8>>,
    all: Vec<u8>,
}

impl Program {
    fn openssl(args: &[&str]) -> Program {
        let mut command = Command::new("openssl");
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("openssl runs");
        let (sender, said) = std::sync::mpsc::channel();
        let (mut stdout, mut stderr) =
            (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let again = sender.clone();
        let copy = |from: &mut dyn std::io::Read, to: &std::sync::mpsc::Sender<Vec<u8>>| {
            let mut buffer = [0; 16 * 1024];
            while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                if to.send(buffer[..bytes].to_vec()).is_err() {
                    return;
                }
            }
        };
        std::thread::spawn(move || copy(&mut stdout, &sender));
        std::thread::spawn(move || copy(&mut stderr, &again));
        let stdin = child.stdin.take().expect("piped");
        Program { child, stdin, said, all: Vec::new() }
    }

    fn say(&mut self, text: &[u8]) {
        // A program that has ended says why on its own.
        let _ = self.stdin.write_all(text).and_then(|()| self.stdin.flush());
    }

    /// Waits until it has said this, on standard output or error.
    #[track_caller]
    fn hears(&mut self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !String::from_utf8_lossy(&self.all).contains(what) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(more) => self.all.extend(more),
                Err(error) => panic!("{error}: no {what:?} in:\n{}", String::from_utf8_lossy(&self.all)),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(port: u16, certificates: &Certificates, more: &[&str]) -> Program {
    let address = format!("127.0.0.1:{port}");
    let ca = certificates.path("ca.pem");
    let mut args =
        vec!["s_client", "-brief", "-connect", &address, "-servername", "localhost", "-CAfile", &ca];
    args.push("-verify_return_error");
    args.extend(more);
    Program::openssl(&args)
}

const ALPN: [&str; 2] = ["-alpn", "uringest/1"];

#[test]
fn its_client_gets_through_with_each_suite_group_and_size_of_records() {
    if !has_openssl() {
        return;
    }
    let certificates = Certificates::new();
    let cases: [(&[&str], Suite, &str); 6] = [
        (&["-ciphersuites", "TLS_AES_128_GCM_SHA256"], Suite::Aes128Gcm, "x25519"),
        (&["-ciphersuites", "TLS_AES_256_GCM_SHA384"], Suite::Aes256Gcm, "x25519"),
        (&["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], Suite::Chacha20Poly1305, "x25519"),
        (&["-groups", "P-256"], Suite::Aes256Gcm, "secp256r1"),
        // The first group's share is of no use: the server asks for another hello.
        (&["-groups", "P-521:P-384"], Suite::Aes256Gcm, "secp384r1"),
        (&["-max_send_frag", "700"], Suite::Aes256Gcm, "x25519"),
    ];
    for records in [Records::Own, Records::Rustls] {
        for (args, suite, group) in cases {
            let (port, server) = serve_once(certificates.server(ClientAuth::None), records);
            let mut program = client(port, &certificates, &[&ALPN, args].concat());
            let line = [&b"x".repeat(20_000)[..], b" end of the line\n"].concat();
            program.say(&line);
            program.hears("end of the line");
            program.say(b"Q\n");
            let report = server.join().expect("the server");
            assert_eq!(report.end, Ok(()), "{args:?}");
            assert_eq!(report.heard, line, "{args:?}");
            let peer = report.peer.expect("the handshake was over");
            assert_eq!((peer.suite, peer.key_exchange, peer.alpn), (suite, group, true));
        }
    }
}

#[test]
fn its_client_may_ask_for_new_keys() {
    if !has_openssl() {
        return;
    }
    let certificates = Certificates::new();
    let (port, server) = serve_once(certificates.server(ClientAuth::None), Records::Own);
    let mut program = client(port, &certificates, &ALPN);
    // K: a KeyUpdate that asks for one; k: one that does not.
    for (command, line) in [("K\n", "first line\n"), ("k\n", "second line\n"), ("K\n", "third line\n")] {
        program.say(command.as_bytes());
        program.hears("KEYUPDATE");
        program.all.clear();
        program.say(line.as_bytes());
        program.hears(line);
    }
    program.say(b"Q\n");
    let report = server.join().expect("the server");
    assert_eq!((report.end, &report.heard[..]), (Ok(()), &b"first line\nsecond line\nthird line\n"[..]));
}

#[test]
fn its_client_gets_the_right_alert() {
    if !has_openssl() {
        return;
    }
    let certificates = Certificates::new();
    let required = || ClientAuth::Required(certificates.path("ca.pem").into());
    let cases: [(&[&str], ClientAuth, Reason, &str); 5] = [
        (&["-tls1_2"], ClientAuth::None, Reason::TlsVersion, "alert protocol version"),
        (&["-alpn", "h2"], ClientAuth::None, Reason::WrongAlpn, "alert no application protocol"),
        (&["-groups", "P-521"], ClientAuth::None, Reason::NoSharedSuite, "alert handshake failure"),
        (
            &["-ciphersuites", "TLS_AES_128_CCM_SHA256"],
            ClientAuth::None,
            Reason::NoSharedSuite,
            "alert handshake failure",
        ),
        (&[], required(), Reason::NoCertificate, "alert certificate required"),
    ];
    for (args, client_auth, reason, told) in cases {
        let (port, server) = serve_once(certificates.server(client_auth), Records::Own);
        let mut program = client(port, &certificates, args);
        program.hears(told);
        let report = server.join().expect("the server");
        assert_eq!(report.end.expect_err("refused").reason, reason, "{args:?}");
        assert_eq!(report.heard, b"");
    }
}

#[test]
fn its_client_is_known_by_its_certificate_and_resumes() {
    if !has_openssl() {
        return;
    }
    let certificates = Certificates::new();
    let tls = certificates.server(ClientAuth::Required(certificates.path("ca.pem").into()));
    let (cert, key, kept) =
        (certificates.path("client.pem"), certificates.path("client.key"), certificates.path("session"));
    for (option, resumed) in [("-sess_out", false), ("-sess_in", true)] {
        let (port, server) = serve_once(tls.clone(), Records::Own);
        let args = ["-cert", &cert, "-key", &key, option, &kept];
        let mut program = client(port, &certificates, &[&ALPN[..], &args].concat());
        program.say(b"a line\n");
        program.hears("a line");
        program.say(b"Q\n");
        let report = server.join().expect("the server");
        let peer = report.peer.expect("let in");
        assert_eq!((peer.resumed, peer.tenant), (resumed, Some(Ok("acme".into()))));
        assert!(resumed || Path::new(&kept).exists());
    }
}

#[test]
fn its_server_understands_our_client() {
    if !has_openssl() {
        return;
    }
    let certificates = Certificates::new();
    let (cert, key, ca) =
        (certificates.path("server.pem"), certificates.path("server.key"), certificates.path("ca.pem"));
    for records in [Records::Own, Records::Rustls] {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let accept = format!("127.0.0.1:{free}");
        // Each line comes back reversed.
        let mut args = vec!["s_server", "-tls1_3", "-rev", "-naccept", "1", "-accept", &accept];
        args.extend(["-cert", &cert, "-key", &key, "-CAfile", &ca, "-Verify", "1"]);
        args.extend(ALPN);
        let program = Program::openssl(&args);
        let deadline = Instant::now() + PATIENCE;
        let socket = loop {
            match TcpStream::connect(("127.0.0.1", free)) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::yield_now();
        };
        let session = Session::client(&certificates.client(true), "localhost", records, now_s());
        // `-rev` ends the connection at CLOSE.
        let report = drive(session, socket, b"stressed\ndesserts\nCLOSE\n", false);
        assert_eq!(report.end, Ok(()), "{}", String::from_utf8_lossy(&program.all));
        assert_eq!(String::from_utf8_lossy(&report.heard), "desserts\nstressed\n");
        let peer = report.peer.expect("the handshake was over");
        let names = peer.names.expect("a certificate");
        assert_eq!((names.dns, peer.key_exchange), (vec!["localhost".to_owned()], "x25519"));
    }
}
