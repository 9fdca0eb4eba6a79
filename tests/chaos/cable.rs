//! The cable between the server and all of its clients is pulled, at one end and at the other.

use std::time::{Duration, Instant};

use crate::harness::{Figures, Skipped};
use crate::load::{Load, is_ready};
use crate::network::{CLIENTS_END, Network, Plug, SERVERS_END};
use crate::raw::Peer;
use crate::rig::{Case, create, metric, wait_for_metric};

/// How long it is out.
const OUT: Duration = Duration::from_millis(1_200);
/// In which everything goes on. The kernels' retransmissions come at doubling intervals: as long again as it was out.
const RECOVERS: Duration = Duration::from_secs(10);

/// The cable is out for less than any time-out, once at each end.
/// What must hold: connections outlive it; every acknowledged record is there once, in its order; the server is ready all
/// the time; afterwards everything that was sent arrives within `RECOVERS`.
pub fn pulled_and_restored(case: &Case) -> Result<Figures, Skipped> {
    let network = Network::new()?;
    let directory = tempfile::tempdir().expect("a directory");
    let server = network.start(case, directory.path(), &["--shards", "2"]);
    let load = Load::of_both_kinds(&server, &|call| network.in_clients(call));
    let opened = metric(&server, "uringest_handshakes_total");
    let mut recovery = Duration::ZERO;
    for end in [CLIENTS_END, SERVERS_END] {
        network.plug(end, Plug::Out);
        let acked = load.acked();
        load.go_on(OUT);
        // What was on its way when the cable was pulled may have come to its end.
        assert!(load.acked() < acked + 2_000, "the cable is out");
        is_ready(&server);
        network.plug(end, Plug::In);
        recovery = recovery.max(load.recovers(RECOVERS));
    }
    let figures = load.finish(recovery);
    let reconnects = metric(&server, "uringest_handshakes_total") - opened;
    assert!(reconnects < 0.5, "{reconnects} connections did not outlive a short cut");
    Ok(figures)
}

/// The cable is pulled, and the peers behind it never come back: nothing of their end reaches the server.
/// What must hold: they are closed when the idle time-out says so, and leave nothing (the look for leaks at the end).
pub fn peers_behind_it_are_let_go(case: &Case) -> Result<Figures, Skipped> {
    const PEERS: usize = 20;
    const IDLE: Duration = Duration::from_secs(2);
    let network = Network::new()?;
    let directory = tempfile::tempdir().expect("a directory");
    let server = network.start(case, directory.path(), &["--shards", "2", "--limits-idle-timeout-ms", "2s"]);
    create(&server, "live", &["--kind", "live"]);
    let mut peers = Vec::new();
    network.in_clients(&mut || {
        for number in 0..PEERS {
            let mut peer = Peer::stuck(server.data, "live", &format!("peer-{number}"));
            if number % 2 == 0 {
                // Something of it is held: half a frame.
                peer.send(&crate::raw::publish_frame(0, 4_000)[..2_000]);
            }
            peers.push(peer);
        }
    });
    wait_for_metric(&server, "uringest_open_connections", PEERS as f64);
    network.plug(CLIENTS_END, Plug::Out);
    let begun = Instant::now();
    drop(peers);
    wait_for_metric(&server, "uringest_open_connections", 0.0);
    let took = begun.elapsed();
    assert!(took < IDLE + RECOVERS, "the idle time-out is {IDLE:?}, and they were open for {took:?}");
    wait_for_metric(&server, "uringest_open_subscriptions", 0.0);
    is_ready(&server);
    Ok(Figures { recovery: took, ..Figures::default() }.note("half-open peers", PEERS))
}
