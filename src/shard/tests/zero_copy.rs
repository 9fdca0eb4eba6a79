//! Where the bytes lie: what a `live` topic sends is the memory it was received into.

#![allow(clippy::cast_possible_truncation)] // patterns of bytes and small lengths are cut on purpose

use super::rig::*;
use crate::buf::CopyReason;
use crate::proto::control::{Start, Subscribe};
use crate::topic::{Overflow, TopicKind};

fn subscribe_latest(rig: &mut Rig) -> crate::ids::SockId {
    let consumer = rig.client();
    let what =
        Subscribe { topic: "t".into(), start: Start::Latest, credit: u64::MAX / 2, ..Subscribe::default() };
    rig.subscribe(consumer, what);
    consumer
}

#[test]
fn live_payload_is_sent_from_where_it_was_received() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Live, Overflow::Block, 1 << 20);
    let consumers = [subscribe_latest(&mut rig), subscribe_latest(&mut rig)];
    let producer = rig.client();
    let (channel, _) = rig.open(producer, "t", 5);
    rig.shards[0].io.received.clear();
    rig.shards[0].io.sent.clear();
    for sequence in 1..=40 {
        rig.send(producer, &batch_of(channel, 5, sequence, 1 + (sequence as usize * 811) % 30_000));
        rig.run();
    }
    let received: Vec<_> =
        rig.shards[0].io.received.iter().filter(|(sock, _)| *sock == producer).map(|r| r.1).collect();
    let ring = 256 * 1024;
    let mut payload = 0;
    for (sock, span, _) in &rig.shards[0].io.sent {
        if !consumers.contains(sock) {
            continue;
        }
        payload += u64::from(span.bytes);
        let mut at = span.at;
        while at < span.end() {
            let inside = received
                .iter()
                .find(|got| got.region == span.region && (got.at..got.end()).contains(&(at % ring)))
                .unwrap_or_else(|| panic!("{span:?} was received at {at}"));
            at += inside.end() - at % ring;
        }
    }
    assert!(payload > 40 * 2 * 10_000, "{payload}");
    for (reason, copied) in rig.shards[0].buffers.memory.copies().iter() {
        assert_eq!(copied.bytes, 0, "{}", reason.name());
    }
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn memory_topics_copy_every_byte_once() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Memory, Overflow::DropOldest, 1 << 20);
    let consumer = subscribe_latest(&mut rig);
    let producer = rig.client();
    let (channel, _) = rig.open(producer, "t", 5);
    let mut bytes = 0;
    for sequence in 1..=40 {
        let frame = batch_of(channel, 5, sequence, 1 + (sequence as usize * 811) % 30_000);
        bytes += frame.len() as u64;
        rig.send(producer, &frame);
        rig.run();
    }
    assert!(!rig.heard(consumer).is_empty());
    for (reason, copied) in rig.shards[0].buffers.memory.copies().iter() {
        let expected = if reason == CopyReason::Retain { bytes } else { 0 };
        assert_eq!(copied.bytes, expected, "{}", reason.name());
    }
}

#[test]
fn a_live_laggard_pins_no_receive_memory() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Live, Overflow::DropOldest, 1 << 20);
    let (slow, fast) = (subscribe_latest(&mut rig), subscribe_latest(&mut rig));
    rig.shards[0].io.peer(slow).room = 100;
    let producer = rig.client();
    let (channel, _) = rig.open(producer, "t", 5);
    for sequence in 1..=100 {
        rig.send(producer, &batch_of(channel, 5, sequence, 16_000));
        rig.run();
        assert!(rig.shards[0].buffers.receive.shared_free_bytes() > 0, "the ring goes on");
    }
    assert_eq!(rig.heard(fast).len(), 100, "the other one has it all");
    assert!(rig.shards[0].buffers.memory.copies().of(CopyReason::Lagging).bytes > 0);
    rig.shards[0].io.peer(slow).room = usize::MAX;
    rig.run();
    assert!(rig.heard(slow).len() > 10);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}
