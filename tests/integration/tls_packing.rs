//! Frames of 64 KiB over TLS, from clients that pack them into records in their own ways: none of them makes the server
//! put a frame together from pieces (`straddle`), a memory topic copies each byte once, and what comes out is what went
//! in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use uringest::client::ProducerConfig;
use uringest::client::blocking::Producer;
use uringest::tls::ClientTls;

use crate::rig::{Case, create, metric, scenarios};
use crate::speaker::{Channel, Heard, Openssl, Pipe, RECORDS, Speaker, Tunnel, client_tls, payload};
use crate::support::{PATIENCE, Server, wait_for};
use crate::tls::{Certificates, connection, trusting, url};

scenarios! {
    live_frames_are_put_together_by_no_packing on best epoll;
    memory_frames_are_put_together_by_no_packing on best epoll;
    four_at_once_are_read_where_their_frames_lie on best epoll;
}

/// Batches of each client.
const BATCHES: u64 = 208;
/// Of these at once: so few that a late consumer never makes the rings run short.
const STEP: u64 = 2;

struct Scene {
    server: Server,
    authorities: String,
    tls: ClientTls,
    _certificates: Certificates,
}

impl Scene {
    fn begin(case: &Case, kind: &str) -> Scene {
        let certificates = Certificates::new(&["a"]);
        let (cert, key) = (certificates.text("a/server.pem"), certificates.text("a/server.key"));
        let server = case.start(&["--shards", "1", "--tls-cert", &cert, "--tls-key", &key]);
        create(&server, "t", &["--kind", kind, "--overflow", "block"]);
        let authorities = certificates.text("a/ca.pem");
        let tls = client_tls(&authorities);
        Scene { server, authorities, tls, _certificates: certificates }
    }

    fn tunnel(&self, cut: usize) -> Speaker<Tunnel> {
        Speaker::greeted(Tunnel::connect(self.server.data, &self.tls, cut))
    }

    /// Hears so many records of the topic, beside the test.
    fn listen(&self, records: u64) -> Listener {
        let mut reader = self.tunnel(16_384);
        reader.subscribe("t", 0, "reader");
        let count = Arc::new(AtomicU64::new(0));
        let theirs = Arc::clone(&count);
        let thread = std::thread::spawn(move || {
            let mut heard = Heard::default();
            while heard.records < records {
                let next = heard.records + 1;
                reader.listen(&mut heard, next);
                theirs.store(heard.records, Ordering::SeqCst);
            }
        });
        Listener { count, thread }
    }

    fn copied(&self, reason: &str) -> f64 {
        self.server.metric(&format!(r#"uringest_copied_bytes_total{{shard="0",reason="{reason}"}}"#))
    }
}

/// A consumer that says how far it is. It is waited for now and then: behind one that is late, a live topic holds
/// memory, and what arrives has to make way.
struct Listener {
    count: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Until it has so many records.
    fn reaches(&self, records: u64) {
        wait_for("the consumer", || {
            (self.count.load(Ordering::SeqCst) >= records || self.thread.is_finished()).then_some(())
        });
    }

    fn end(self) {
        self.thread.join().expect("all came as it was sent");
    }
}

fn publish(pipe: impl Pipe, producer: u64, before: u64, listener: &Listener) {
    let mut speaker = Speaker::greeted(pipe);
    let mut channel = [speaker.open("t", 0, producer)];
    for step in 1..=BATCHES / STEP {
        speaker.publish(&mut channel, STEP);
        listener.reaches((before + step * STEP) * RECORDS);
    }
}

/// Our client, which cuts batches and records itself.
fn publish_by_the_client(scene: &Scene, producer: u64, before: u64, listener: &Listener) {
    let mut config = ProducerConfig::new("t");
    config.connection = connection(&url(&scene.server), &trusting(scene.authorities.as_ref()));
    config.batch_bytes = 64 * 1024;
    let client = Producer::connect(config).expect("connected");
    for number in 0..BATCHES * RECORDS {
        client.send(&payload(producer, number), None).expect("sent");
        if (number + 1) % (STEP * RECORDS) == 0 {
            client.flush(Some(PATIENCE)).expect("acknowledged");
            listener.reaches(before * RECORDS + number + 1);
        }
    }
    client.close(Some(PATIENCE)).expect("acknowledged");
}

fn no_packing_straddles(case: &Case, kind: &str) {
    let scene = Scene::begin(case, kind);
    let openssl = Openssl::is_there();
    let cuts = [1_000, 4_097, 16_384];
    let clients = cuts.len() as u64 + 1 + u64::from(openssl);
    let listener = scene.listen(clients * BATCHES * RECORDS);
    let none = |who: &str| assert!(scene.copied("straddle") < 0.5, "{who}: {}", scene.copied("straddle"));
    let mut clients_before = 0;
    let mut before = || {
        clients_before += 1;
        (clients_before - 1) * BATCHES
    };
    for (producer, cut) in (1..).zip(cuts) {
        let tunnel = Tunnel::connect(scene.server.data, &scene.tls, cut);
        publish(tunnel, producer, before(), &listener);
        none(&format!("records of {cut} bytes"));
    }
    publish_by_the_client(&scene, 10, before(), &listener);
    none("our client");
    if openssl {
        publish(Openssl::connect(scene.server.data, &scene.authorities), 20, before(), &listener);
        none("openssl");
    }
    listener.end();
    let accepted = metric(&scene.server, "uringest_accepted_bytes_total");
    assert!(accepted >= (clients * BATCHES * 61 * 1_021) as f64, "{accepted} bytes");
    let wanted = if kind == "memory" { accepted } else { 0.0 };
    let retained = scene.copied("retain");
    assert!((retained - wanted).abs() < 0.5, "{retained} bytes retained, and not {wanted}");
}

fn live_frames_are_put_together_by_no_packing(case: &Case) {
    no_packing_straddles(case, "live");
}

fn memory_frames_are_put_together_by_no_packing(case: &Case) {
    no_packing_straddles(case, "memory");
}

/// Connections that share the ring come in between each other, until each has a region of its own: from then on
/// nothing straddles.
fn four_at_once_are_read_where_their_frames_lie(case: &Case) {
    const ROUNDS: usize = 20;
    let scene = Scene::begin(case, "live");
    let mut reader = scene.tunnel(16_384);
    reader.subscribe("t", 0, "reader");
    let reader = std::thread::spawn(move || {
        let mut heard = Heard::default();
        reader.listen_to_the_end(&mut heard);
        heard
    });
    let mut producers: Vec<(Speaker<Tunnel>, [Channel; 1])> = (1..=4)
        .zip([1_000, 4_097, 16_384, 9_000])
        .map(|(producer, cut)| {
            let mut speaker = scene.tunnel(cut);
            let channel = speaker.open("t", 0, producer);
            (speaker, [channel])
        })
        .collect();
    // How often connections went to a region or back, and what straddled.
    let seen = || {
        let changes =
            ["promotions", "demotions"].map(|what| metric(&scene.server, &format!("uringest_{what}_total")));
        (changes, scene.copied("straddle"))
    };
    let mut quiet = 0;
    for _ in 0..ROUNDS {
        let before = seen();
        std::thread::scope(|scope| {
            for (speaker, channel) in &mut producers {
                scope.spawn(|| speaker.publish(channel, BATCHES / 2));
            }
        });
        let after = seen();
        let all_have_regions = metric(&scene.server, "uringest_promoted_connections") > 3.5;
        if all_have_regions && before.0 == after.0 {
            assert!((after.1 - before.1).abs() < 0.5, "{} bytes straddled", after.1 - before.1);
            quiet += 1;
        }
        if quiet == 3 {
            break;
        }
    }
    assert_eq!(quiet, 3, "rounds in which each had its region: {:?}", seen());
    let sent: Vec<(u64, u64)> =
        producers.iter().map(|(_, [channel])| (channel.producer, channel.acked)).collect();
    for (speaker, _) in producers {
        speaker.pipe.close();
    }
    scene.server.signal("TERM");
    let heard = reader.join().expect("all came as it was sent");
    for (producer, batches) in sent {
        assert_eq!(heard.of(producer), batches * RECORDS);
    }
}
