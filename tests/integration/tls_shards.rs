//! TLS and two shards: connections that move while bytes are in flight, partitions served from the other shard, a
//! consumer that does not read, the server's end, sessions that are resumed anywhere.

use std::io::Write as _;

use uringest::proto::control::Refusal;
use uringest::proto::header::{FrameHeader, Kind};
use uringest::tls::ClientTls;

use crate::rig::{Case, create, describe, metric, scenarios, wait_for_metric};
use crate::speaker::{Channel, Heard, RECORDS, Speaker, Tunnel, batch, client_tls, hello, open};
use crate::support::{Server, wait_for};
use crate::tls::{Certificates, events};

scenarios! {
    our_records_carry_both_shards on best tier_1 epoll;
    records_of_rustls_carry_both_shards on best tier_1 epoll;
    connections_move_with_bytes_in_flight on best tier_1 epoll;
    who_does_not_read_holds_up_nobody on best tier_1 epoll;
    a_drain_delivers_all_and_closes_as_it_should on best tier_1 epoll;
    sessions_are_resumed_on_any_shard_and_after_a_change on best epoll;
}

struct Scene {
    server: Server,
    tls: ClientTls,
    certificates: Certificates,
}

impl Scene {
    fn begin(case: &Case, args: &[&str], topic: &[&str]) -> Scene {
        let certificates = Certificates::new(&["a", "b"]);
        let (cert, key) = (certificates.text("now/server.pem"), certificates.text("now/server.key"));
        let tls_args = ["--shards", "2", "--tls-cert", &cert, "--tls-key", &key];
        let server = case.start(&[&tls_args[..], args].concat());
        create(&server, "t", &[&["--partitions", "2"], topic].concat());
        let authorities = certificates.authorities(&["a", "b"]);
        let tls = client_tls(authorities.to_str().expect("UTF-8"));
        Scene { server, tls, certificates }
    }

    fn tunnel(&self, cut: usize) -> Speaker<Tunnel> {
        Speaker::greeted(Tunnel::connect(self.server.data, &self.tls, cut))
    }

    /// A connection with a channel on each partition: the first decides its shard, the second is on the other one.
    fn producer(&self, cut: usize, producers: [u64; 2]) -> (Speaker<Tunnel>, [Channel; 2]) {
        let mut speaker = self.tunnel(cut);
        let [first, second] = producers;
        let channels = [speaker.open("t", 0, first), speaker.open("t", 1, second)];
        assert_ne!(channels[0].shard, channels[1].shard);
        (speaker, channels)
    }

    /// The same for a consumer; `first` is the partition of its own shard.
    fn consumer(&self, name: &str, first: u32) -> Speaker<Tunnel> {
        let mut speaker = self.tunnel(16_384);
        let shards = [first, 1 - first].map(|partition| speaker.subscribe("t", partition, name));
        assert_ne!(shards[0], shards[1]);
        speaker
    }

    /// Nobody's TLS failed, and nothing of any connection is left.
    fn is_left_clean(&self) {
        wait_for_metric(&self.server, "uringest_open_connections", 0.0);
        wait_for_metric(&self.server, "uringest_open_channels", 0.0);
        wait_for_metric(&self.server, "uringest_open_subscriptions", 0.0);
        wait_for_metric(&self.server, "uringest_receive_memory_in_use_bytes", 0.0);
        wait_for_metric(&self.server, "uringest_tls_failures_total", 0.0);
    }
}

/// One connection publishes frames of 64 KiB to partitions of both shards, another one consumes them, and both close.
fn both_shards_are_carried(case: &Case, records: &str) {
    const BATCHES: u64 = 48;
    let scene = Scene::begin(case, &["--tls-records", records], &[]);
    let readers = [0, 1].map(|first| {
        let mut reader = scene.consumer(&format!("reader-{first}"), first);
        std::thread::spawn(move || {
            let mut heard = Heard::default();
            reader.listen(&mut heard, 4 * BATCHES * RECORDS);
            reader.pipe.close();
        })
    });
    for (cut, producers) in [(16_384, [1, 2]), (1_000, [3, 4])] {
        let (mut speaker, mut channels) = scene.producer(cut, producers);
        speaker.publish(&mut channels, BATCHES);
        speaker.pipe.close();
    }
    for reader in readers {
        reader.join().expect("all came as it was sent");
    }
    scene.is_left_clean();
    assert_eq!(scene.server.log().matches(&format!("\"records\":\"{records}\"")).count(), 1);
}

fn our_records_carry_both_shards(case: &Case) {
    both_shards_are_carried(case, "own");
}

fn records_of_rustls_carry_both_shards(case: &Case) {
    both_shards_are_carried(case, "rustls");
}

/// Everything is said at once and arrives in pieces: the first request moves the connection, and batches, a ping and
/// half a record are on their way or received already.
fn connections_move_with_bytes_in_flight(case: &Case) {
    const VISITS: u64 = 24;
    const BATCHES: u64 = 3;
    // All of them keep to the credit that a channel has at first, and to what may wait for a handshake.
    const OF_BATCH: u64 = 15;
    let mut random = case.random();
    let scene = Scene::begin(case, &[], &[]);
    let mut reader = scene.consumer("reader", 0);
    let reader = std::thread::spawn(move || {
        let mut heard = Heard::default();
        reader.listen(&mut heard, VISITS * BATCHES * OF_BATCH);
        reader.pipe.close();
    });
    for producer in 1..=VISITS {
        let partition = u32::from(producer % 2 == 0);
        let mut tunnel = Tunnel::connect(scene.server.data, &scene.tls, 300 + random.below(16_085));
        // Nobody else has a channel: its handle is the first.
        let mut said = [hello(), open("t", partition, producer)].concat();
        said.extend((1..=BATCHES).flat_map(|sequence| batch(producer, sequence, OF_BATCH, 0)));
        said.extend(FrameHeader::new(Kind::Ping).alone());
        let mut sealed = &tunnel.sealed(&said)[..];
        while !sealed.is_empty() {
            let most = [300, 5_000, 50_000][random.below(3)];
            let (piece, rest) = sealed.split_at(1 + random.below(sealed.len().min(most)));
            tunnel.socket.write_all(piece).expect("the server reads");
            sealed = rest;
            if random.below(4) == 0 {
                std::thread::yield_now();
            }
        }
        let mut speaker = Speaker::answered(tunnel);
        let (mut acked, mut pongs) = (0, 0);
        while acked < BATCHES || pongs == 0 {
            let (header, body) = speaker.frame().expect("an answer");
            match header.kind {
                Kind::Opened => assert_eq!(speaker.opened(&header, &body, producer).id, 0),
                Kind::Ack => acked = header.sequence,
                Kind::Pong => pongs += 1,
                Kind::Credit => {}
                kind => panic!("visit {producer}: {kind:?} {:?}", Refusal::decode(&body)),
            }
        }
        speaker.pipe.close();
        wait_for_metric(&scene.server, "uringest_open_channels", 0.0);
    }
    reader.join().expect("all came as it was sent");
    let moves = ["out", "in"].map(|way| metric(&scene.server, &format!("uringest_moves_{way}_total")));
    assert!(moves[0] > 1.5 && (moves[0] - moves[1]).abs() < 0.5, "{moves:?}");
    scene.is_left_clean();
}

/// It subscribes to a partition of its shard and one of the other, and does not read for long: others get all, and
/// what it gets afterwards is whole.
fn who_does_not_read_holds_up_nobody(case: &Case) {
    const ROUNDS: u64 = 12;
    const STEP: u64 = 16;
    let scene = Scene::begin(case, &[], &["--overflow", "drop_oldest", "--retention-bytes", "4MiB"]);
    let mut stuck = scene.consumer("stuck", 0);
    let mut reader = scene.consumer("reader", 1);
    let (mut speaker, mut channels) = scene.producer(16_384, [1, 2]);
    let (mut all, mut rest) = (Heard::default(), Heard::with_gaps());
    for round in 1..=ROUNDS {
        std::thread::scope(|scope| {
            scope.spawn(|| speaker.publish(&mut channels, STEP));
            reader.listen(&mut all, 2 * round * STEP * RECORDS);
        });
    }
    let lags = |partition: usize| {
        let topic = describe(&scene.server, "t");
        let consumers = topic["partitions"][partition]["consumers"].as_array().expect("a list");
        let one = consumers.iter().find(|consumer| consumer["name"] == "stuck").expect("subscribed").clone();
        (one["cause"] == "socket" && one["lag_records"].as_u64() > Some(RECORDS)).then_some(())
    };
    wait_for("the cause of its lag", || lags(0).and(lags(1)));
    // The last of each is kept: with it, it has all there is.
    while [1, 2].iter().any(|&producer| rest.of(producer) < ROUNDS * STEP * RECORDS) {
        let (header, body) = stuck.frame().expect("more is to come");
        rest.take(&header, &body);
    }
    assert!(rest.records < all.records, "some had to be left out");
    for one in [stuck, reader, speaker] {
        one.pipe.close();
    }
    scene.is_left_clean();
}

/// What was acknowledged and not read yet is delivered, to consumers of both shards; then everybody's end is announced.
fn a_drain_delivers_all_and_closes_as_it_should(case: &Case) {
    const BATCHES: u64 = 160;
    let mut scene = Scene::begin(case, &[], &[]);
    let consumers = [0, 1].map(|first| scene.consumer(&format!("reader-{first}"), first));
    let (mut speaker, mut channels) = scene.producer(16_384, [1, 2]);
    speaker.publish(&mut channels, BATCHES);
    let delivered = metric(&scene.server, "uringest_records_delivered_total");
    let published = (2 * BATCHES * RECORDS) as f64;
    assert!(delivered < 2.0 * published, "sockets took everything: nothing is left to be delivered");
    scene.server.signal("TERM");
    wait_for("the drain", || scene.server.log().contains("\"draining\"").then_some(()));
    let hearing = consumers.map(|mut consumer| {
        std::thread::spawn(move || {
            let mut heard = Heard::default();
            consumer.listen_to_the_end(&mut heard);
            heard
        })
    });
    for consumer in hearing {
        let heard = consumer.join().expect("its end was announced");
        assert_eq!([1, 2].map(|producer| heard.of(producer)), [BATCHES * RECORDS; 2]);
    }
    let mut said = Vec::new();
    while let Some((header, _)) = speaker.frame() {
        said.push(header.kind);
    }
    said.retain(|kind| *kind != Kind::Credit);
    assert_eq!(said, [Kind::Drain, Kind::Close]);
    assert_eq!(scene.server.wait().code(), Some(0));
    assert!(!scene.server.log().contains("drain_incomplete"));
}

/// Tickets are good on every shard, and under another certificate.
fn sessions_are_resumed_on_any_shard_and_after_a_change(case: &Case) {
    let scene = Scene::begin(case, &[], &[]);
    let mut resumed = 0;
    let mut visit = |tls: &ClientTls| {
        let speaker = Speaker::greeted(Tunnel::connect(scene.server.data, tls, 16_384));
        let was = speaker.pipe.session.peer().expect("met").resumed;
        resumed += u64::from(was);
        let shard = speaker.welcome.shard;
        speaker.pipe.close();
        (was, shard, resumed)
    };
    let on_both = |visit: &mut dyn FnMut(&ClientTls) -> (bool, u16, u64)| {
        let mut seen = [0; 2];
        // Chance decides who accepts.
        for _ in 0..200 {
            let (was, shard, _) = visit(&scene.tls);
            assert!(was, "it has a ticket");
            seen[usize::from(shard)] += 1;
            if seen.iter().all(|&visits| visits > 2) {
                return;
            }
        }
        panic!("one shard accepts nobody: {seen:?}");
    };
    assert!(!visit(&scene.tls).0, "the first has no ticket");
    on_both(&mut visit);
    scene.certificates.swap("b");
    scene.server.signal("HUP");
    wait_for("the reload", || (events(&scene.server, "tls_reloaded") == 1).then_some(()));
    // Shards take commands in turn: who has answered for a topic has the new certificate.
    create(&scene.server, "later", &[]);
    let stranger = || client_tls(&scene.certificates.text("b/ca.pem"));
    assert!(!visit(&stranger()).0);
    on_both(&mut visit);
    let (_, _, resumed) = visit(&scene.tls);
    let counted = metric(&scene.server, "uringest_tls_resumptions_total");
    assert!((counted - resumed as f64).abs() < 0.5, "{counted} counted, {resumed} seen");
    for shard in 0..2 {
        let sample = format!("uringest_tls_resumptions_total{{shard=\"{shard}\"}}");
        assert!(scene.server.metric(&sample) > 4.5, "shard {shard}");
    }
    scene.is_left_clean();
}
