//! Consumers whose partition is on another shard: whatever a send leaves over, the stream goes on or ends.

use super::clients::*;
use super::rig::*;
use crate::limits::HEADER_BYTES;
use crate::proto::code::Code;
use crate::proto::control::Subscribe;
use crate::proto::header::{FrameHeader, Kind};
use crate::shard::messages::Command;
use crate::topic::{Overflow, TopicKind};

const MIB: u64 = 1024 * 1024;

fn producer_of(rig: &mut Rig, shard: u16, topic: &str, id: u64) -> Producer {
    let sock = rig.settled_client(shard);
    let (channel, opened) = rig.open(sock, topic, id);
    Producer::new(sock, channel, id, opened.credit)
}

#[test]
fn a_loan_of_nothing_but_a_gap_is_given_back() {
    for blocked in [false, true] {
        let mut rig = Rig::with_shards(2);
        rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 100)]);
        let sock = rig.settled_client(0);
        if blocked {
            rig.set_room(sock, 10);
            rig.send(sock, &FrameHeader::new(Kind::Ping).alone());
            rig.run();
        }
        rig.send(sock, &all_of("t").frame(2));
        rig.run();
        rig.set_room(sock, usize::MAX);
        rig.run();
        let mut consumer = Consumer::from(0);
        consumer.listen(&mut rig, sock);
        assert_eq!(consumer.missed, 100, "blocked: {blocked}");
        let mut producers = [producer_of(&mut rig, 1, "t", 5)];
        publish_all(&mut rig, &mut producers, 10, 100);
        rig.run();
        consumer.listen(&mut rig, sock);
        assert_eq!((consumer.records, consumer.expected), (10, Some(110)), "blocked: {blocked}");
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Nothing,
    Deletion,
    Eviction,
    Unsubscribe,
}

/// The socket takes `room` bytes of the stream, then `event` happens, then it takes everything.
fn cut_short(kind: TopicKind, owner: u16, room: usize, event: Event) {
    let mut rig = Rig::with_shards(2);
    let topic = rig.topic_on("t", kind, Overflow::DropOldest, MIB, &[(owner, 0)]);
    let partition = topic.partitions[0].id;
    let sock = rig.settled_client(0);
    rig.subscribe(sock, all_of("t"));
    rig.set_room(sock, room);
    let mut producers = [producer_of(&mut rig, owner, "t", 5)];
    publish_all(&mut rig, &mut producers, 4, 1_000);
    let what = format!("{kind:?} of {owner}, {room} bytes, {event:?}");
    match event {
        Event::Nothing => {}
        Event::Deletion => rig.command_each(|| Command::RemoveTopic { ticket: 9, topic: topic.id }),
        Event::Eviction => publish_all(&mut rig, &mut producers, 80, 20_000),
        Event::Unsubscribe => rig.send(sock, &header_only(Kind::Unsubscribe, partition.0)),
    }
    rig.run();
    rig.set_room(sock, usize::MAX);
    rig.run();
    let mut consumer = Consumer::from(0);
    let heard = consumer.listen(&mut rig, sock);
    assert!(rig.answers(sock), "{what}: the connection goes on");
    assert!(rig.shards[0].io.peer(sock).outbound.is_empty(), "{what}: no frame is left in the middle");
    match event {
        Event::Nothing => assert_eq!(consumer.expected, Some(4), "{what}"),
        Event::Eviction => assert_eq!(consumer.expected, Some(80), "{what}"),
        Event::Deletion => {
            let told = heard.iter().filter(|(header, _)| header.kind == Kind::Error);
            let told: Vec<_> = told.map(|(header, frame)| (header.channel, code_of(frame))).collect();
            assert_eq!(told, [(partition.0, Code::TopicDeleted)], "{what}");
        }
        Event::Unsubscribe => {
            let last = heard.last().map(|(header, _)| header.kind);
            assert_eq!(last, Some(Kind::Unsubscribe), "{what}: behind what was on its way");
            rig.subscribe(sock, all_of("t"));
        }
    }
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_short_send_ends_anywhere_and_the_connection_goes_on() {
    let frame = batch_of(0, 5, 1, 1_000).len();
    for kind in [TopicKind::Memory, TopicKind::Live] {
        for owner in [0, 1] {
            for event in [Event::Nothing, Event::Deletion, Event::Eviction, Event::Unsubscribe] {
                for whole in 0..3 {
                    for more in [0, 1, 63, 64, 65, frame - 1] {
                        cut_short(kind, owner, whole * frame + more, event);
                    }
                }
            }
        }
    }
}

#[test]
fn a_socket_that_is_full_pins_no_other_topic() {
    let mut rig = Rig::with_shards(2);
    let topics: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
    let mut producers = Vec::new();
    for (topic, id) in topics.iter().zip(1..) {
        rig.topic_on(topic, TopicKind::Memory, Overflow::DropOldest, MIB, &[(1, 0)]);
        producers.push(producer_of(&mut rig, 1, topic, id));
    }
    publish_all(&mut rig, &mut producers, 12, 30_000);
    // All loans come in one tick: more than one send takes, and of that send the socket takes a little.
    let sock = rig.settled_client(0);
    rig.set_room(sock, 2_000);
    for (topic, request) in topics.iter().zip(10..) {
        rig.send(sock, &all_of(topic).frame(request));
    }
    rig.run();
    publish_all(&mut rig, &mut producers, 60, 30_000);
    assert!(producers.iter().all(|producer| producer.accepted == 60));
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_frame_that_was_begun_is_finished_before_the_end() {
    for half_close in [false, true] {
        let mut rig = Rig::with_shards(2);
        rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
        let sock = rig.settled_client(0);
        rig.subscribe(sock, all_of("t"));
        rig.set_room(sock, 500);
        let mut producers = [producer_of(&mut rig, 1, "t", 5)];
        publish_all(&mut rig, &mut producers, 3, 1_000);
        rig.send(sock, &header_only(Kind::Close, 0));
        rig.run();
        rig.shards[0].io.peer(sock).ended = half_close;
        rig.run();
        rig.set_room(sock, usize::MAX);
        rig.run();
        let mut consumer = Consumer::from(0);
        consumer.listen(&mut rig, sock);
        assert!(consumer.records >= 1, "half closed: {half_close}");
        let peer = rig.shards[0].io.peer(sock);
        assert!(peer.outbound.is_empty() && (peer.finished || peer.closed), "half closed: {half_close}");
        drop(peer);
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn a_connection_that_lingers_pins_no_topic() {
    let mut rig = Rig::with_shards(2);
    rig.topic_on("t", TopicKind::Live, Overflow::DropOldest, MIB, &[(1, 0)]);
    let sock = rig.settled_client(0);
    rig.subscribe(sock, all_of("t"));
    let mut producers = [producer_of(&mut rig, 1, "t", 5)];
    rig.send(sock, &header_only(Kind::Close, 0));
    rig.tick_shard(0);
    publish_all(&mut rig, &mut producers, 200, 20_000);
    assert!(!rig.closed(sock), "it lingers all the while");
    assert!(rig.answers(producers[0].sock));
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn requests_sent_without_waiting_are_each_answered_once() {
    for ticks in 0..5 {
        let mut rig = Rig::with_shards(2);
        let topic = rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
        let partition = topic.partitions[0].id.0;
        let sock = rig.settled_client(0);
        let mut producers = [producer_of(&mut rig, 1, "t", 5)];
        publish_all(&mut rig, &mut producers, 3, 100);
        for frame in [
            all_of("t").frame(11),
            header_only(Kind::Unsubscribe, partition),
            all_of("t").frame(12),
            all_of("t").frame(13),
        ] {
            rig.send(sock, &frame);
            for _ in 0..ticks {
                rig.tick_shard(0);
            }
        }
        rig.run();
        let heard = rig.heard(sock);
        let mut answers: Vec<u64> = Vec::new();
        let mut made = 0;
        for (header, frame) in &heard {
            match header.kind {
                Kind::Subscribed => (made, answers) = (made + 1, [answers, vec![header.sequence]].concat()),
                Kind::Error => {
                    assert_eq!(code_of(frame), Code::AlreadySubscribed);
                    answers.push(header.sequence);
                }
                Kind::Unsubscribe => {
                    assert_eq!(made, 1, "one subscription at a time");
                    made -= 1;
                }
                _ => {}
            }
        }
        answers.sort_unstable();
        assert_eq!(answers, [11, 12, 13], "{ticks}: {heard:?}");
        if made == 0 {
            rig.subscribe(sock, all_of("t"));
        }
        assert!(rig.answers(sock));
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn a_topic_that_goes_before_the_owner_answers_refuses_the_request() {
    for (first, ticks) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        let mut rig = Rig::with_shards(2);
        let topic = rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
        let sock = rig.settled_client(0);
        rig.send(sock, &all_of("t").frame(11));
        rig.tick_shard(0);
        for _ in 0..ticks {
            rig.tick_shard(1);
        }
        for shard in [first, 1 - first] {
            rig.command_to(shard, Command::RemoveTopic { ticket: 9, topic: topic.id });
            rig.tick_shard(shard);
        }
        rig.run();
        let heard = rig.heard(sock);
        let subscribed = heard.iter().position(|(header, _)| header.kind == Kind::Subscribed);
        let ended = heard.iter().position(|(header, _)| header.kind == Kind::Error && header.sequence == 0);
        let refused = heard.iter().any(|(header, _)| header.kind == Kind::Error && header.sequence == 11);
        match (subscribed, ended) {
            (Some(subscribed), Some(ended)) => assert!(subscribed < ended && !refused, "{heard:?}"),
            (None, None) => assert!(refused, "{heard:?}"),
            _ => panic!("made and ended, or refused: {heard:?}"),
        }
        let done = rig.reports.iter();
        let done = done.filter(|r| matches!(r, crate::shard::messages::Report::Done { ticket: 9, .. }));
        assert_eq!(done.count(), 2, "its memory is free");
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn credit_is_kept_to_across_shards() {
    let mut rig = Rig::with_shards(2);
    let topic = rig.topic_on("t", TopicKind::Memory, Overflow::DropOldest, MIB, &[(1, 0)]);
    let sock = rig.settled_client(0);
    rig.subscribe(sock, Subscribe { credit: 10_000, ..all_of("t") });
    let mut producers = [producer_of(&mut rig, 1, "t", 5)];
    publish_all(&mut rig, &mut producers, 10, 4_000);
    rig.run();
    assert_eq!(rig.heard(sock).len(), 3, "may overshoot by one frame");
    let partition = topic.partitions[0].id;
    let credit = FrameHeader { channel: partition.0, offset: MIB, ..FrameHeader::new(Kind::Credit) };
    rig.send(sock, &credit.alone());
    rig.run();
    let heard = rig.heard(sock);
    assert_eq!(heard.len(), 7);
    assert!(heard.iter().all(|(_, frame)| frame.len() > HEADER_BYTES));
}
