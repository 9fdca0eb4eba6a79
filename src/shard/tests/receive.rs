//! Frames that arrive in pieces: every split, promotion and demotion at every position.

use super::rig::*;
use crate::buf::CopyReason;
use crate::ids::SockId;
use crate::limits::HEADER_BYTES;
use crate::proto::control::{Start, Subscribe};
use crate::proto::header::Kind;
use crate::shard::conn::Receive;
use crate::topic::{Overflow, TopicKind};

fn subscriber(rig: &mut Rig) -> SockId {
    let consumer = rig.client();
    let all =
        Subscribe { topic: "t".into(), start: Start::Earliest, credit: u64::MAX / 2, ..Subscribe::default() };
    rig.subscribe(consumer, all);
    consumer
}

/// What was delivered has to be what was sent, in order.
fn assert_delivered(rig: &mut Rig, consumer: SockId, sent: &[Vec<u8>]) {
    let got: Vec<_> =
        rig.heard(consumer).into_iter().filter(|(header, _)| header.kind == Kind::Deliver).collect();
    assert_eq!(got.len(), sent.len(), "every frame once");
    for (number, ((header, frame), original)) in got.iter().zip(sent).enumerate() {
        assert_eq!(header.offset, number as u64);
        assert!(frame[HEADER_BYTES..] == original[HEADER_BYTES..], "frame {number} is what was sent");
    }
}

#[test]
fn every_split_of_the_stream_gives_the_same_frames() {
    for kind in [TopicKind::Memory, TopicKind::Live] {
        for interleaved in [false, true] {
            let mut rig = Rig::new();
            rig.topic("t", kind, Overflow::Block, 1 << 20);
            let consumer = subscriber(&mut rig);
            let (producer, other) = (rig.client(), rig.client());
            let (channel, _) = rig.open(producer, "t", 5);
            let mut sent = Vec::new();
            for split in 1..=340 {
                let pair = [batch_of(channel, 5, 2 * split - 1, 40), batch_of(channel, 5, 2 * split, 50)];
                let stream: Vec<u8> = pair.concat();
                let split = usize::try_from(split).expect("small").min(stream.len());
                rig.send(producer, &stream[..split]);
                rig.tick();
                if interleaved {
                    // Bytes of another connection land behind the piece, so that it cannot grow in place.
                    rig.send(other, &crate::proto::header::FrameHeader::new(Kind::Ping).alone());
                    rig.tick();
                }
                rig.send(producer, &stream[split..]);
                rig.run();
                sent.extend(pair);
            }
            assert_delivered(&mut rig, consumer, &sent);
            let straddled = rig.shards[0].buffers.memory.copies().of(CopyReason::Straddle).bytes;
            if interleaved {
                assert!(straddled > 0);
            } else {
                assert_eq!(
                    straddled, 0,
                    "pieces of one sender lie side by side, over buffer boundaries as well"
                );
            }
            rig.disconnect_all();
            rig.assert_nothing_leaked();
        }
    }
}

#[test]
fn bytes_that_dribble_in_one_by_one_make_frames() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Memory, Overflow::Block, 1 << 20);
    let consumer = subscriber(&mut rig);
    let (producer, other) = (rig.client(), rig.client());
    let (channel, _) = rig.open(producer, "t", 5);
    let sent = vec![batch_of(channel, 5, 1, 300), batch_of(channel, 5, 2, 10)];
    for (number, byte) in sent.concat().iter().enumerate() {
        rig.send(producer, &[*byte]);
        rig.tick();
        if number % 3 == 0 {
            rig.send(other, &crate::proto::header::FrameHeader::new(Kind::Ping).alone());
            rig.tick();
        }
    }
    rig.run();
    assert_delivered(&mut rig, consumer, &sent);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_bulk_connection_is_promoted_and_demoted_at_every_position_of_a_frame() {
    // The whole range of positions in steps that cover every residue of the header and the body's edges.
    let positions = (0..200).chain((200..16_500).step_by(331));
    for position in positions {
        let mut rig = Rig::new();
        rig.topic("t", TopicKind::Memory, Overflow::DropOldest, 8 << 20);
        let consumer = subscriber(&mut rig);
        let producer = rig.client();
        let (channel, _) = rig.open(producer, "t", 5);
        let mut sent = Vec::new();
        let id = crate::ids::ConnId(1);
        assert_eq!(rig.shards[0].conns[id].receive, Receive::Shared);
        for _ in 0..3 {
            let frame = batch_of(channel, 5, sent.len() as u64 + 1, 16_320);
            rig.send(producer, &frame);
            sent.push(frame);
        }
        rig.run();
        // A piece is pending when the change begins.
        let frame = batch_of(channel, 5, sent.len() as u64 + 1, 16_320);
        let at = position.min(frame.len());
        rig.send(producer, &frame[..at]);
        rig.tick();
        rig.shards[0].promote(id);
        rig.run();
        assert!(matches!(rig.shards[0].conns[id].receive, Receive::Bulk(_)), "position {position}");
        rig.send(producer, &frame[at..]);
        rig.run();
        sent.push(frame);
        let frame = batch_of(channel, 5, sent.len() as u64 + 1, 16_320);
        rig.send(producer, &frame[..at]);
        rig.run();
        rig.shards[0].demote(id);
        rig.run();
        assert_eq!(rig.shards[0].conns[id].receive, Receive::Shared, "position {position}");
        rig.send(producer, &frame[at..]);
        rig.run();
        sent.push(frame);
        assert_delivered(&mut rig, consumer, &sent);
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn large_frames_promote_by_themselves_and_small_reads_demote() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Memory, Overflow::DropOldest, 8 << 20);
    let producer = rig.client();
    let (channel, _) = rig.open(producer, "t", 5);
    let id = crate::ids::ConnId(0);
    let mut sequence = 0;
    for _ in 0..20 {
        let mut stream = Vec::new();
        for _ in 0..3 {
            sequence += 1;
            stream.extend(batch_of(channel, 5, sequence, 16_320));
        }
        rig.send(producer, &stream);
        rig.run();
    }
    assert!(matches!(rig.shards[0].conns[id].receive, Receive::Bulk(_)));
    for _ in 0..20 {
        sequence += 1;
        rig.send(producer, &batch_of(channel, 5, sequence, 100));
        rig.run();
    }
    assert_eq!(rig.shards[0].conns[id].receive, Receive::Shared);
    let last = rig.heard(producer).into_iter().rfind(|(h, _)| h.kind == Kind::Ack).expect("acks").0;
    assert_eq!(last.sequence, sequence);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_ring_full_of_partial_frames_still_receives() {
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Memory, Overflow::DropOldest, 1 << 20);
    let producers: Vec<_> = (0..16).map(|_| rig.client()).collect();
    let mut rest = Vec::new();
    for (number, &producer) in producers.iter().enumerate() {
        let (channel, _) = rig.open(producer, "t", number as u64 + 1);
        let frame = batch_of(channel, number as u64 + 1, 1, 30_000);
        rig.send(producer, &frame[..20_000]);
        rig.run();
        rest.push(frame[20_000..].to_vec());
    }
    for (producer, rest) in producers.iter().zip(rest) {
        rig.send(*producer, &rest);
        rig.run();
        assert!(rig.heard(*producer).iter().any(|(header, _)| header.kind == Kind::Ack));
    }
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}
