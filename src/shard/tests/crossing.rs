//! Producers whose partition is on another shard, and connections that change theirs.

use super::clients::*;
use super::rig::*;
use crate::limits::HEADER_BYTES;
use crate::proto::code::Code;
use crate::proto::control::{Open, Opened, Refusal};
use crate::proto::header::{AckLevel, FrameHeader, Kind};
use crate::shard::messages::{Command, Message};
use crate::topic::{Overflow, TopicKind};

const MIB: u64 = 1024 * 1024;

fn broken(mut frame: Vec<u8>) -> Vec<u8> {
    frame[HEADER_BYTES + 2] ^= 0x55;
    frame
}

fn codes(heard: &[(FrameHeader, Vec<u8>)]) -> Vec<(u64, Code)> {
    let nacks = heard.iter().filter(|(header, _)| header.kind == Kind::Nack);
    nacks.map(|(header, frame)| (header.sequence, code_of(frame))).collect()
}

/// (sequence, offset) of the acknowledgements.
fn acks(heard: &[(FrameHeader, Vec<u8>)]) -> Vec<(u64, u64)> {
    let acks = heard.iter().filter(|(header, _)| header.kind == Kind::Ack);
    acks.map(|(header, _)| (header.sequence, header.offset)).collect()
}

#[test]
fn a_released_channels_answers_are_not_taken_for_the_next_ones() {
    for ticks in 0..4 {
        let mut rig = Rig::with_shards(2);
        rig.topic_on("far", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
        rig.topic_on("near", TopicKind::Memory, Overflow::Block, MIB, &[(0, 0)]);
        let sock = rig.settled_client(0);
        let (channel, _) = rig.open(sock, "far", 5);
        let mut stream = batch_of(channel, 5, 1, 100);
        stream.extend(broken(batch_of(channel, 5, 2, 100)));
        stream.extend(header_only(Kind::Release, channel));
        stream.extend(Open { topic: "near".into(), producer_id: 6, ..Open::default() }.frame(2));
        rig.send(sock, &stream);
        for _ in 0..ticks {
            rig.tick_shard(0);
        }
        rig.run();
        let heard = rig.heard(sock);
        assert_eq!(codes(&heard), [(2, Code::BadBodyChecksum)], "{heard:?}");
        assert_eq!(acks(&heard), [(1, 0)], "{heard:?}");
        let opened: Vec<_> = heard.iter().filter(|(header, _)| header.kind == Kind::Opened).collect();
        let [(opened, _)] = opened[..] else { panic!("answered once: {heard:?}") };
        assert_ne!(opened.channel, channel, "the number is in use until the last answer");
        rig.send(sock, &batch_of(opened.channel, 6, 1, 100));
        rig.run();
        assert_eq!(acks(&rig.heard(sock)), [(1, 0)]);
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn credit_that_is_late_is_not_the_next_channels() {
    let mut rig = Rig::with_shards(2);
    rig.topic_on("far", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
    rig.topic_on("near", TopicKind::Memory, Overflow::Block, MIB, &[(0, 0)]);
    let sock = rig.settled_client(0);
    let (far, _) = rig.open(sock, "far", 5);
    let producer = &rig.shards[1].remote_producers[0];
    let (to, partition) = (producer.to, rig.shards[1].topics[producer.slot].id);
    assert_eq!(producer.channel, far);
    rig.send(sock, &header_only(Kind::Release, far));
    rig.run();
    let (near, _) = rig.open(sock, "near", 6);
    assert_eq!(near, far, "the number is another channel's now");
    let limit = rig.shards[0].channels[near].limit;
    let late = Message::RemoteCredit { to, channel: far, partition, owner_slot: 0, grant: 4096 };
    rig.shards[1].answer(to.shard, late);
    rig.run();
    assert_eq!(rig.shards[0].channels[near].limit, limit, "it was not meant for this one");
    assert!(rig.heard(sock).iter().all(|(header, _)| header.kind != Kind::Credit));
}

#[test]
fn producers_that_vanish_with_batches_in_flight_leave_their_credit() {
    for ticks in 0..3 {
        let mut rig = Rig::with_shards(2);
        rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
        for round in 0..10 {
            let sock = rig.settled_client(0);
            let (channel, opened) = rig.open(sock, "t", 100 + round);
            assert!(opened.credit >= 64 * 1024, "round {round}: {}", opened.credit);
            for sequence in 1..=3 {
                rig.send(sock, &batch_of(channel, 100 + round, sequence, 30_000));
            }
            rig.tick_shard(0);
            for _ in 0..ticks {
                rig.tick_shard(1);
            }
            if round % 2 == 0 {
                rig.shards[0].io.peer(sock).reset = true;
            } else {
                rig.shards[0].io.peer(sock).ended = true;
            }
            rig.run();
            assert!(rig.closed(sock), "round {round}");
            assert_eq!(rig.granted(), 0, "round {round}");
        }
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn acknowledgements_of_batches_in_flight_come_before_the_end() {
    for every_batches in [1, 64] {
        for half_close in [false, true] {
            for ticks in 0..4 {
                let mut rig = Rig::with_shards(2);
                rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
                let sock = rig.settled_client(0);
                let open = Open {
                    topic: "t".into(),
                    producer_id: 5,
                    ack_every_batches: every_batches,
                    ack_every_us: 10_000_000,
                    ..Open::default()
                };
                let (channel, _) = rig.open_as(sock, &open);
                for sequence in 1..=5 {
                    rig.send(sock, &batch_of(channel, 5, sequence, 100));
                }
                for _ in 0..ticks {
                    rig.tick_shard(0);
                }
                if half_close {
                    rig.shards[0].io.peer(sock).ended = true;
                } else {
                    rig.send(sock, &header_only(Kind::Close, 0));
                }
                for _ in 0..6 {
                    rig.tick_shard(0);
                }
                rig.run();
                let heard = rig.heard(sock);
                assert_eq!(acks(&heard).last(), Some(&(5, 4)), "{every_batches} {half_close} {ticks}");
                assert!(rig.shards[0].io.peer(sock).finished || rig.closed(sock));
                rig.disconnect_all();
                rig.assert_nothing_leaked();
            }
        }
    }
}

#[test]
fn a_bad_batch_behind_one_refused_for_now_waits_for_its_turn() {
    let mut rig = Rig::with_shards(2);
    let topic = rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
    let sock = rig.settled_client(0);
    let (channel, _) = rig.open(sock, "t", 5);
    let frames =
        [batch_of(channel, 5, 1, 100), broken(batch_of(channel, 5, 2, 100)), batch_of(channel, 5, 3, 100)];
    rig.command_each(|| Command::PauseTopic { ticket: 3, topic: topic.id, paused: true });
    rig.send(sock, &frames.concat());
    rig.run();
    let refused = [(1, Code::TopicPaused), (2, Code::OutOfSequence), (3, Code::OutOfSequence)];
    assert_eq!(codes(&rig.heard(sock)), refused);
    rig.command_each(|| Command::PauseTopic { ticket: 4, topic: topic.id, paused: false });
    rig.send(sock, &frames.concat());
    rig.run();
    let heard = rig.heard(sock);
    assert_eq!(codes(&heard), [(2, Code::BadBodyChecksum)]);
    assert_eq!(acks(&heard).last(), Some(&(3, 1)));
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_refusal_says_as_much_from_another_shard() {
    let refusals = [0, 1].map(|owner| {
        let mut rig = Rig::with_shards(2);
        rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(owner, 0)]);
        let sock = rig.settled_client(0);
        let (channel, _) = rig.open(sock, "t", 5);
        rig.send(sock, &batch(channel, 5, 1, &[b"small", &vec![1; 33_000]]));
        rig.run();
        let heard = rig.heard(sock);
        let (_, frame) = heard.iter().find(|(header, _)| header.kind == Kind::Nack).expect("it is too large");
        let refusal = Refusal::decode(&frame[HEADER_BYTES..]).expect("a refusal");
        rig.disconnect_all();
        rig.assert_nothing_leaked();
        (refusal.code, refusal.record, refusal.detail, refusal.retry_after_us)
    });
    assert_eq!(refusals[0], refusals[1]);
    assert_eq!((refusals[0].0, refusals[0].1), (Code::RecordTooLarge, Some(1)));
}

#[test]
fn a_full_mesh_turns_batches_away_in_order() {
    let mut rig = Rig::with_mesh(2, 4);
    rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
    let (noisy, sock) = (rig.settled_client(0), rig.settled_client(0));
    let (filler, _) = rig.open(noisy, "t", 6);
    let (channel, opened) = rig.open(sock, "t", 5);
    // The other connection's batches fill the ring, so that the very first one finds no place.
    for sequence in 1..=4 {
        rig.send(noisy, &batch_of(filler, 6, sequence, 50));
    }
    let frames: Vec<_> = (1..=3).map(|sequence| batch_of(channel, 5, sequence, 100)).collect();
    rig.send(sock, &frames.concat());
    rig.run();
    let heard = rig.heard(sock);
    assert_eq!(
        codes(&heard),
        [(1, Code::BackPressure), (2, Code::OutOfSequence), (3, Code::OutOfSequence)],
        "never unknown_producer"
    );
    let limit = heard.iter().filter(|(header, _)| header.kind == Kind::Credit).map(|(h, _)| h.offset).max();
    let sent: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
    assert_eq!(limit, Some(opened.credit + sent), "what they used of the credit is given back");
    rig.send(sock, &frames.concat());
    rig.run();
    let heard = rig.heard(sock);
    assert_eq!((codes(&heard), acks(&heard).last().map(|ack| ack.0)), (Vec::new(), Some(3)));
    let mut producers = [Producer::new(sock, channel, 5, opened.credit + sent)];
    (producers[0].next, producers[0].used) = (4, 2 * sent);
    publish_all(&mut rig, &mut producers, 200, 200);
    assert_eq!(producers[0].accepted, 197);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

/// A connection goes while the partition's shard has yet to answer it, and its producer comes again on another, in the
/// same places. What is undone of the first one is not the second one's.
#[test]
fn what_is_left_of_a_connection_undoes_nothing_of_the_next() {
    let mut rig = Rig::with_shards(2);
    rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
    let (gone, sock) = (rig.settled_client(0), rig.settled_client(0));
    let open = |connections| Open {
        topic: "t".into(),
        producer_id: 5,
        connections,
        ack_every_batches: 1,
        ..Open::default()
    };
    rig.send(gone, &open(1).frame(1));
    rig.tick_shard(0);
    rig.shards[0].io.sockets().borrow_mut()[gone.index()].ended = true;
    for _ in 0..4 {
        rig.tick_shard(0);
    }
    rig.send(sock, &open(2).frame(1));
    for _ in 0..4 {
        rig.tick_shard(0);
    }
    rig.run();
    let channel =
        rig.heard(sock).iter().find(|(header, _)| header.kind == Kind::Opened).expect("it is").0.channel;
    rig.send(sock, &batch_of(channel, 5, 1, 100));
    rig.run();
    let heard = rig.heard(sock);
    assert_eq!((codes(&heard), acks(&heard).last().map(|ack| ack.0)), (Vec::new(), Some(1)));
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

/// A batch comes again before its answer has: the mesh turns the copy away, and then there is the answer. The client never
/// sends it again.
#[test]
fn nothing_waits_for_a_copy_of_what_has_its_answer() {
    for refused in [false, true] {
        let mut rig = Rig::with_mesh(2, 4);
        rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
        let sock = rig.settled_client(0);
        let (filler, _) = rig.open(sock, "t", 6);
        let (channel, _) = rig.open(sock, "t", 5);
        let mut first = batch_of(channel, 5, 1, 100);
        *first.last_mut().expect("a body") ^= u8::from(refused);
        // What another channel publishes fills the ring between the two.
        let between = (1..=4).map(|sequence| batch_of(filler, 6, sequence, 50));
        let frames: Vec<_> = [first.clone()].into_iter().chain(between).chain([first]).collect();
        rig.send(sock, &frames.concat());
        rig.run();
        let mut heard = rig.heard(sock);
        heard.retain(|(header, _)| header.channel == channel);
        let answer = refused.then_some((1, Code::BadBodyChecksum));
        assert_eq!(
            codes(&heard),
            [Some((1, Code::BackPressure)), answer].into_iter().flatten().collect::<Vec<_>>()
        );
        assert_eq!(acks(&heard).last().map(|ack| ack.0), (!refused).then_some(1));
        rig.send(sock, &batch_of(channel, 5, 2, 100));
        rig.run();
        let heard = rig.heard(sock);
        assert_eq!((codes(&heard), acks(&heard).last().map(|ack| ack.0)), (Vec::new(), Some(2)));
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn an_adopted_connection_moves_on_with_what_it_has_sent() {
    let open = |topic: &str, level, request| {
        Open { topic: topic.into(), producer_id: 5, ack_level: Some(level), ..Open::default() }.frame(request)
    };
    let ping = |sequence| FrameHeader { sequence, ..FrameHeader::new(Kind::Ping) }.alone().to_vec();
    let stream = [
        // The first is for the second shard, which refuses it; so nothing ties the connection to it.
        open("second", AckLevel::Durable, 1),
        open("third", AckLevel::Received, 2),
        ping(3),
        open("third", AckLevel::Durable, 4),
        ping(5),
    ]
    .concat();
    for split in (0..stream.len()).step_by(7) {
        let mut rig = Rig::with_shards(3);
        rig.topic_on("second", TopicKind::Memory, Overflow::Block, MIB, &[(1, 0)]);
        rig.topic_on("third", TopicKind::Memory, Overflow::Block, MIB, &[(2, 0)]);
        let sock = rig.client_of(0);
        rig.send(sock, &stream[..split]);
        for _ in 0..split % 4 {
            rig.tick();
        }
        rig.send(sock, &stream[split..]);
        rig.run();
        let heard = rig.heard(sock);
        let said: Vec<_> = heard.iter().map(|(header, _)| (header.kind, header.sequence)).collect();
        let expected =
            [(Kind::Error, 1), (Kind::Opened, 2), (Kind::Pong, 3), (Kind::Error, 4), (Kind::Pong, 5)];
        assert_eq!(said, expected, "split at {split}");
        let opened = Opened::decode(&heard[1].1[HEADER_BYTES..]).expect("opened");
        assert_eq!(opened.shard, 2);
        assert_eq!(rig.shards[2].conns.open_count(), 1, "it is there now");
        rig.send(sock, &batch_of(heard[1].0.channel, 5, 1, 100));
        rig.run();
        assert_eq!(acks(&rig.heard(sock)), [(1, 0)]);
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn frames_larger_than_the_grant_keep_the_account_straight() {
    for owner in [0, 1] {
        for overflow in [Overflow::Block, Overflow::Reject, Overflow::DropOldest] {
            let mut rig = Rig::with_shards(2);
            rig.topic_on("t", TopicKind::Memory, overflow, MIB, &[(owner, 0)]);
            let slow = rig.settled_client(owner);
            rig.subscribe(slow, all_of("t"));
            let mut producers = Vec::new();
            let socks: Vec<_> = (0..10).map(|_| rig.settled_client(0)).collect();
            for id in 1..=20 {
                let sock = socks[(id % 10) as usize];
                let (channel, opened) = rig.open(sock, "t", id);
                producers.push(Producer::new(sock, channel, id, opened.credit));
            }
            assert!(producers.iter().any(|producer| producer.limit < 30_000), "credit is short");
            // The consumer takes little for a while, so that many are refused and come again.
            for round in 0..40 {
                rig.set_room(slow, if round % 3 == 0 { 20_000 } else { 0 });
                for producer in &mut producers {
                    producer.step(&mut rig, 30_000);
                }
                rig.tick();
                listen(&mut rig, &mut producers);
            }
            rig.set_room(slow, usize::MAX);
            publish_all(&mut rig, &mut producers, 5, 30_000);
            rig.run();
            rig.disconnect_all();
            rig.assert_nothing_leaked();
        }
    }
}

#[test]
fn many_producers_of_a_small_ring_all_get_through() {
    for near in [true, false] {
        let mut rig = Rig::with_shards(2);
        rig.topic_on("t", TopicKind::Memory, Overflow::Block, MIB, &[(0, 0)]);
        let reader = rig.settled_client(1);
        rig.subscribe(reader, all_of("t"));
        let mut producers = Vec::new();
        for _ in 0..10 {
            let sock = rig.settled_client(u16::from(!near));
            for _ in 0..4 {
                let id = producers.len() as u64 + 1;
                let (channel, opened) = rig.open(sock, "t", id);
                producers.push(Producer::new(sock, channel, id, opened.credit));
            }
        }
        publish_all(&mut rig, &mut producers, 8, 16_000);
        rig.run();
        let mut consumer = Consumer::from(0);
        consumer.listen(&mut rig, reader);
        assert_eq!(consumer.records, 40 * 8);
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}
