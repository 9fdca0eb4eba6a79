//! The look for leaks at the end of every scenario sees what is held, and nothing else.

use std::time::Duration;

use crate::raw::Peer;
use crate::rig::{Case, create, publish, scenarios};
use crate::support::leaks::LETS_GO;

scenarios! {
    what_is_held_is_seen on best tier_1 epoll;
    what_is_let_go_is_not on best tier_1 epoll;
}

/// So long nothing changes where something is held.
const SOON: Duration = Duration::from_millis(200);

fn what_is_held_is_seen(case: &Case) {
    let server = case.start(&["--shards", "2"]);
    let start = server.watched().at_start().expect("it answers");
    let look = || server.watched().is_as_at(&start, SOON);
    let silent = Peer::connect(server.data);
    crate::rig::wait_for_metric(&server, "uringest_open_connections", 1.0);
    let seen = look().expect_err("a connection");
    assert!(seen.contains("uringest_open_connections: 1, and 0 at the start"), "{seen}");
    assert!(seen.contains("connections in the kernel's table: 1"), "{seen}");
    drop(silent);
    // What a batch in pieces and a subscription hold.
    create(&server, "held", &["--kind", "live"]);
    let mut subscribed = Peer::stuck(server.data, "held", "held");
    let seen = look().expect_err("a subscription");
    assert!(seen.contains("uringest_open_subscriptions: 1, and 0 at the start"), "{seen}");
    let half = &crate::raw::publish_frame(0, 4_000)[..2_000];
    subscribed.send(half);
    crate::support::wait_for("half a frame to be seen", || {
        look().expect_err("half a frame").contains("uringest_receive_memory_in_use_bytes").then_some(())
    });
    drop(subscribed);
    // A descriptor of the server's that nobody needs.
    let mut before = server.watched().at_start().expect("it answers");
    before.forget("anon_inode:[event");
    let seen = server.watched().is_as_at(&before, SOON).expect_err("a descriptor");
    assert!(seen.contains("anon_inode:[event"), "{seen}");
}

fn what_is_let_go_is_not(case: &Case) {
    let server = case.start(&["--shards", "2"]);
    let start = server.watched().at_start().expect("it answers");
    for kind in ["live", "memory", "log"] {
        create(&server, kind, &["--kind", kind]);
        publish(&server, kind, 1..=1_000, &[]);
    }
    let seen = server.watched().is_as_at(&start, LETS_GO);
    assert_eq!(seen, Ok(()), "topics are no leak");
    assert!(server.page("/v1/topics").contains("\"topics\":[]"), "they are gone");
}
