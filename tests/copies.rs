//! How many bytes the real program copies, by its own counters: next to none of a live topic's, each one once of a
//! memory topic's. And not by its own counters alone: callgrind counts the instructions that copy.

#[path = "support/load.rs"]
mod load;
mod support;

use load::{Batches, Load};
use support::{Server, http, wait_for};

const KIB: usize = 1024;
const MIB: u64 = 1024 * 1024;
const BATCHES_16K: Batches = Batches { frame_bytes: 16 * KIB, record_bytes: 256 };
const BATCHES_64K: Batches = Batches { frame_bytes: 64 * KIB, record_bytes: 256 };

/// A server with one shard and the topic `t` of this kind.
fn server(kind: &str, args: &[&str]) -> Server {
    let mut all = vec!["--shards", "1", "--congestion-control", load::unpaced()];
    all.extend(args);
    let server = Server::start(&all);
    let spec = format!(r#"{{"name":"t","partitions":1,"kind":"{kind}"}}"#);
    assert_eq!(http(server.admin, "POST", "/v1/topics", &spec).expect("an answer").0, 201);
    server
}

/// Copied bytes by reason, when the load has come to rest; `accepted` are the bytes it has sent.
struct Copied {
    accepted: f64,
    retain: f64,
    others: f64,
}

impl Copied {
    fn read(server: &Server, what: &str) -> Copied {
        let accepted = server.metric("uringest_accepted_bytes_total");
        let all = server.metric("uringest_copied_bytes_total");
        let retain = server.metric(r#"uringest_copied_bytes_total{shard="0",reason="retain"}"#);
        let copied = Copied { accepted, retain, others: all - retain };
        println!(
            "{what}: {:.0} MiB accepted, retained {:.3} %, other copies {:.3} %",
            accepted / MIB as f64,
            100.0 * retain / accepted,
            100.0 * copied.others / accepted
        );
        let telling = [
            "uringest_copied_bytes_total{",
            "uringest_promotions_",
            "uringest_demotions_",
            "uringest_bulk_reads",
            "uringest_receive_no_buffers",
            "uringest_batches_refused",
        ];
        for line in server.page("/metrics").lines() {
            if telling.iter().any(|begins| line.starts_with(begins)) && !line.ends_with(" 0") {
                println!("  {line}");
            }
        }
        copied
    }
}

/// Sends about this many bytes from so many producers to one consumer, and says what was copied.
fn copied(kind: &str, producers: usize, batches: Batches, bytes: u64) -> Copied {
    let server = server(kind, &[]);
    let mut load = Load::new(server.data, "t", batches);
    load.consume(1).produce(producers);
    load.run(bytes / load.frame_bytes());
    let sent = load.acknowledged() * load.frame_bytes();
    wait_for("the counters", || {
        (server.metric("uringest_accepted_bytes_total") >= sent as f64).then_some(())
    });
    let what = format!("{kind}, {producers} producers, {} KiB", batches.frame_bytes / KIB);
    let copied = Copied::read(&server, &what);
    assert!((copied.accepted - sent as f64).abs() < 0.5, "{what}: {} of {sent}", copied.accepted);
    copied
}

#[test]
fn live_copies_nothing_of_bulk_connections() {
    for batches in [BATCHES_16K, BATCHES_64K] {
        for producers in [1, 4] {
            let copied = copied("live", producers, batches, 192 * MIB);
            assert!(copied.others < 0.01 * copied.accepted, "under 1 %");
            assert!(copied.retain < 0.5, "a live topic retains nothing");
        }
    }
}

#[test]
fn live_copies_little_of_many_connections() {
    let connections = std::env::var("URINGEST_TEST_CONNECTIONS").ok();
    let connections = connections.map_or(200, |text| text.parse().expect("a number of connections"));
    let copied = copied("live", connections, BATCHES_16K, 128 * MIB);
    assert!(copied.others < 0.08 * copied.accepted, "under 8 %");
}

#[test]
fn memory_copies_every_byte_once() {
    for (producers, batches) in [(1, BATCHES_16K), (4, BATCHES_64K)] {
        let copied = copied("memory", producers, batches, 128 * MIB);
        assert!((copied.retain - copied.accepted).abs() < 0.5, "each byte, once");
        assert!(copied.others < 0.01 * copied.accepted, "under 1 %");
    }
}
