//! The server's end: what is owed is paid, everybody is told, what could not be delivered is counted.

use super::clients::*;
use super::rig::*;
use crate::proto::code::Code;
use crate::proto::control::{Hello, Open};
use crate::proto::header::Kind;
use crate::shard::messages::{Command, Report};
use crate::topic::{Overflow, TopicKind};

const MIB: u64 = 1024 * 1024;

fn drained(rig: &Rig) -> Vec<u64> {
    let leftovers = rig.reports.iter().filter_map(|report| match report {
        Report::Drained { leftover, .. } => Some(*leftover),
        _ => None,
    });
    leftovers.collect()
}

#[test]
fn a_drain_pays_what_it_owes_and_says_goodbye() {
    for owner in [0, 1] {
        let mut rig = Rig::with_shards(2);
        rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(owner, 0)]);
        let sock = rig.settled_client(0);
        let open = Open { topic: "t".into(), producer_id: 5, ack_every_batches: 64, ..Open::default() };
        let (channel, _) = rig.open_as(sock, &Open { ack_every_us: 60_000_000, ..open });
        for sequence in 1..=3 {
            rig.send(sock, &batch_of(channel, 5, sequence, 100));
        }
        rig.run();
        let acked = rig.heard(sock).iter().any(|(header, _)| header.kind == Kind::Ack);
        assert!(!acked, "acknowledgements are held back");
        // One more is on its way when the drain begins.
        rig.send(sock, &batch_of(channel, 5, 4, 100));
        rig.tick_shard(0);
        let deadline_ns = rig.shards[0].io.now.mono_ns + 1_000_000_000;
        rig.command_each(|| Command::Drain { deadline_ns });
        let heard = rig.heard(sock);
        let said: Vec<_> = heard.iter().map(|(header, _)| header.kind).collect();
        assert_eq!(said.last(), Some(&Kind::Close), "{said:?}");
        assert!(said.contains(&Kind::Drain), "{said:?}");
        assert_eq!(code_of(&heard[heard.len() - 1].1), Code::ServerDraining);
        let acked = heard.iter().filter(|(h, _)| h.kind == Kind::Ack).map(|(h, _)| h.sequence).max();
        let refused = heard.iter().any(|(h, _)| h.kind == Kind::Nack && h.sequence == 4);
        assert!(acked == Some(4) || acked == Some(3) && refused, "{owner}: {heard:?}");
        assert_eq!(drained(&rig), [0], "what was said is on its way as long as the peer has not gone");
        rig.shards[0].io.peer(sock).ended = true;
        rig.run();
        assert_eq!(drained(&rig), [0, 0]);
    }
}

#[test]
fn a_drain_waits_a_while_for_peers_that_stay() {
    let mut rig = Rig::new();
    let sock = rig.settled_client(0);
    let deadline_ns = rig.shards[0].io.now.mono_ns + 60_000_000_000;
    rig.command(Command::Drain { deadline_ns });
    assert_eq!(rig.heard(sock).last().map(|(header, _)| header.kind), Some(Kind::Close));
    rig.pass(900);
    assert!(drained(&rig).is_empty(), "it may still read");
    rig.pass(200);
    assert_eq!(drained(&rig), [0], "its time was up");
}

#[test]
fn what_a_drain_could_not_deliver_is_counted() {
    for owner in [0, 1] {
        let mut rig = Rig::with_shards(2);
        rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(owner, 0)]);
        let slow = rig.settled_client(0);
        rig.subscribe(slow, all_of("t"));
        rig.set_room(slow, 0);
        let sock = rig.settled_client(owner);
        let (channel, opened) = rig.open(sock, "t", 5);
        publish_all(&mut rig, &mut [Producer::new(sock, channel, 5, opened.credit)], 3, 100);
        let deadline_ns = rig.shards[0].io.now.mono_ns + 1_000_000_000;
        rig.command_each(|| Command::Drain { deadline_ns });
        rig.pass(500);
        assert!(drained(&rig).iter().all(|&leftover| leftover == 0), "there is time yet");
        rig.pass(600);
        assert_eq!(drained(&rig).iter().sum::<u64>(), 3);
        assert_eq!(drained(&rig).len(), 2);
    }
}

#[test]
fn a_consumer_of_another_shard_gets_everything_before_goodbye() {
    let frame = batch_of(0, 5, 1, 1_000).len();
    for (owner, each) in [(0, frame), (0, 1_500), (1, frame), (1, 1_500)] {
        let mut rig = Rig::with_shards(2);
        rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(owner, 0)]);
        let consumer = rig.settled_client(0);
        rig.subscribe(consumer, all_of("t"));
        rig.set_room(consumer, 2 * each);
        let sock = rig.settled_client(owner);
        let (channel, opened) = rig.open(sock, "t", 5);
        publish_all(&mut rig, &mut [Producer::new(sock, channel, 5, opened.credit)], 20, 1_000);
        rig.run();
        let deadline_ns = rig.shards[0].io.now.mono_ns + 1_000_000_000;
        rig.command_each(|| Command::Drain { deadline_ns });
        // It reads slowly, a little each time.
        for _ in 0..40 {
            rig.set_room(consumer, each);
            for _ in 0..4 {
                rig.tick_shard(0); // the owner is late
            }
            rig.run();
        }
        let said: Vec<_> = rig.heard(consumer).iter().map(|(header, _)| header.kind).collect();
        let last_record = said.iter().rposition(|&kind| kind == Kind::Deliver);
        let goodbye = said.iter().position(|&kind| kind == Kind::Close);
        assert_eq!(said.iter().filter(|&&kind| kind == Kind::Deliver).count(), 20, "{owner}: {said:?}");
        assert!(goodbye > last_record, "{owner}: {said:?}");
    }
}

#[test]
fn a_subscription_that_reaches_its_shard_in_the_drain_is_answered_before_goodbye() {
    for late in 0..4 {
        let mut rig = Rig::with_shards(2);
        rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
        let sock = rig.settled_client(1);
        let (channel, opened) = rig.open(sock, "t", 5);
        publish_all(&mut rig, &mut [Producer::new(sock, channel, 5, opened.credit)], 3, 100);
        let consumer = rig.settled_client(0);
        let deadline_ns = rig.shards[0].io.now.mono_ns + 1_000_000_000;
        rig.command_to(1, Command::Drain { deadline_ns });
        for _ in 0..3 {
            rig.tick_shard(1);
        }
        rig.send(consumer, &all_of("t").frame(7));
        rig.tick_shard(0);
        rig.command_to(0, Command::Drain { deadline_ns });
        for _ in 0..late {
            rig.tick_shard(0); // the partition's shard is late
        }
        rig.run();
        let heard = rig.heard(consumer);
        let said: Vec<_> = heard.iter().map(|(header, _)| header.kind).collect();
        let refused = heard.iter().position(|(h, _)| h.kind == Kind::Error && h.sequence == 7);
        let refused = refused.unwrap_or_else(|| panic!("{late}: it has an answer: {said:?}"));
        assert_eq!(code_of(&heard[refused].1), Code::ServerDraining);
        assert_eq!(said.last(), Some(&Kind::Close), "{late}: nothing behind goodbye: {said:?}");
        rig.disconnect_all();
        assert_eq!(drained(&rig), [0, 0], "{late}");
    }
}

#[test]
fn who_says_hello_in_the_drain_is_told_of_it() {
    let mut rig = Rig::new();
    let sock = rig.connect(0);
    let deadline_ns = rig.shards[0].io.now.mono_ns + 1_000_000_000;
    rig.command(Command::Drain { deadline_ns });
    let hello = Hello { client: "late".into(), version_min: 1, version_max: 1, ..Hello::default() };
    rig.send(sock, &hello.frame(0));
    rig.run();
    let heard = rig.heard(sock);
    let said: Vec<_> = heard.iter().map(|(header, _)| header.kind).collect();
    assert_eq!(said, [Kind::Error], "no session begins that would not be told: {said:?}");
    assert_eq!(code_of(&heard[0].1), Code::ServerDraining);
}
