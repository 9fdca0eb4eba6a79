//! Early data that somebody recorded: said again, before or after who it is from, it stores nothing twice.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use uringest::proto::header::Kind;
use uringest::tls::ALPN;

use crate::raw::Peer;
use crate::rig::{Case, create, metric, offsets, scenarios, wait_for_metric};
use crate::speaker::{Pipe as _, Speaker, batch, hello, open};
use crate::support::{Server, wait_for};
use crate::tls::Certificates;

scenarios! {
    a_replayed_flight_stores_nothing_twice on best tier_1 epoll;
    a_replayed_flight_stores_nothing_twice_with_two_shards on best epoll;
}

const PRODUCER: u64 = 7;
/// Records of a batch.
const OF_BATCH: u64 = 4;

type Stream = StreamOwned<ClientConnection, TcpStream>;

struct Scene {
    server: Server,
    config: Arc<ClientConfig>,
    _certificates: Certificates,
}

impl Scene {
    fn begin(case: &Case, shards: &str) -> Scene {
        let certificates = Certificates::new(&["a"]);
        let (cert, key) = (certificates.text("a/server.pem"), certificates.text("a/server.key"));
        let file = certificates.text("uringest.toml");
        let text = format!("[tls]\ncert = {cert:?}\nkey = {key:?}\nearly_data = true\n");
        std::fs::write(&file, text).expect("written");
        let server = case.start(&["--shards", shards, "--config", &file]);
        create(&server, "t", &[]);
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(certificates.text("a/ca.pem")).expect("PEM");
        roots.add(authority).expect("an authority");
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = true;
        Scene { server, config: Arc::new(config), _certificates: certificates }
    }

    fn client(&self) -> ClientConnection {
        let name = "localhost".try_into().expect("a name");
        ClientConnection::new(Arc::clone(&self.config), name).expect("a client")
    }

    fn socket(&self) -> TcpStream {
        Peer::connect(self.server.data).0
    }

    /// A client that resumes and publishes this batch early, and its first flight.
    fn flight(&self, sequence: u64) -> (ClientConnection, Vec<u8>) {
        let mut client = self.client();
        client.early_data().expect("its ticket allows it").write_all(&said(sequence)).expect("room");
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).expect("into memory");
        }
        (client, flight)
    }

    /// Says recorded bytes on a connection of their own, to their end; nothing may come of it.
    fn replay(&self, flight: &[u8]) {
        let before = (offsets(&self.server, "t"), self.early_bytes());
        let mut socket = self.socket();
        socket.write_all(flight).expect("the server reads");
        socket.read_exact(&mut [0]).expect("a handshake is begun");
        socket.shutdown(Shutdown::Write).expect("open");
        socket.read_to_end(&mut Vec::new()).expect("an end");
        assert_eq!((offsets(&self.server, "t"), self.early_bytes()), before);
    }

    fn early_bytes(&self) -> u64 {
        format!("{:.0}", metric(&self.server, "uringest_tls_early_bytes_total")).parse().expect("a count")
    }

    fn stores(&self, batches: u64) {
        assert_eq!(offsets(&self.server, "t"), (0, batches * OF_BATCH));
    }
}

/// Nobody else has a channel: the handle is the first.
fn said(sequence: u64) -> Vec<u8> {
    [hello(), open("t", 0, PRODUCER), batch(PRODUCER, sequence, OF_BATCH, 0)].concat()
}

fn close(mut speaker: Speaker<Stream>) {
    speaker.pipe.conn.send_close_notify();
    speaker.pipe.flush().expect("the server reads");
    while speaker.pipe.receive().is_some() {}
}

fn replayed(case: &Case, shards: &str) {
    let scene = Scene::begin(case, shards);
    let mut speaker = Speaker::greeted(StreamOwned::new(scene.client(), scene.socket()));
    let channel = speaker.open("t", 0, PRODUCER);
    speaker.ask(&batch(PRODUCER, 1, OF_BATCH, channel.id), Kind::Ack);
    close(speaker);
    wait_for_metric(&scene.server, "uringest_open_channels", 0.0);

    // Who it is from comes first, and is heard early. The recording is said while it is there, and when it has gone.
    let (client, flight) = scene.flight(2);
    let mut socket = scene.socket();
    socket.write_all(&flight).expect("the server reads");
    let mut speaker = Speaker::answered(StreamOwned::new(client, socket));
    assert!(speaker.pipe.conn.is_early_data_accepted());
    while speaker.frame().expect("an answer").0.kind != Kind::Ack {}
    assert_eq!(scene.early_bytes(), said(2).len() as u64);
    scene.stores(2);
    scene.replay(&flight);
    close(speaker);
    wait_for_metric(&scene.server, "uringest_open_channels", 0.0);
    scene.replay(&flight);
    scene.replay(&flight);

    // The recording comes first. Where the partition is at hand it acts: as what it was recorded from would have.
    let (client, flight) = scene.flight(3);
    let mut thief = scene.socket();
    thief.write_all(&flight).expect("the server reads");
    wait_for("the recording", || (scene.early_bytes() == 2 * said(2).len() as u64).then_some(()));
    let acted = shards == "1";
    if acted {
        wait_for("its batch", || (offsets(&scene.server, "t").1 == 3 * OF_BATCH).then_some(()));
    }
    let mut socket = scene.socket();
    socket.write_all(&flight).expect("the server reads");
    let mut speaker = Speaker::greeted(StreamOwned::new(client, socket));
    assert!(!speaker.pipe.conn.is_early_data_accepted(), "it was heard once");
    let channel = speaker.open("t", 0, PRODUCER);
    if acted {
        assert_eq!(channel.acked, 3);
    }
    speaker.ask(&batch(PRODUCER, 3, OF_BATCH, channel.id), Kind::Ack);
    scene.stores(3);
    speaker.ask(&batch(PRODUCER, 4, OF_BATCH, channel.id), Kind::Ack);
    scene.stores(4);
    scene.replay(&flight);
    drop(thief);
    close(speaker);
    wait_for_metric(&scene.server, "uringest_open_connections", 0.0);
    scene.replay(&flight);
    scene.stores(4);
    let duplicates = metric(&scene.server, "uringest_batches_duplicate_total");
    assert!(!acted || (duplicates - 1.0).abs() < 0.5, "{duplicates} batches came twice");
}

fn a_replayed_flight_stores_nothing_twice(case: &Case) {
    replayed(case, "1");
}

fn a_replayed_flight_stores_nothing_twice_with_two_shards(case: &Case) {
    replayed(case, "2");
}
