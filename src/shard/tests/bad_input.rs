//! Every way a peer can be wrong: its code, at most its connection, and nothing leaked.

#![allow(clippy::cast_possible_truncation)] // patterns of bytes and small lengths are cut on purpose

use super::clients::code_of;
use super::rig::*;
use crate::ids::SockId;
use crate::limits::{CONTROL_BODY_BYTES_MAX, HEADER_BYTES};
use crate::proto::code::{Code, Scope};
use crate::proto::control::{Commit, Hello, Open, Refusal, Subscribe};
use crate::proto::header::{AckLevel, FrameHeader, Kind, seal};
use crate::shard::messages::Command;
use crate::topic::{Overflow, TopicKind};

type Act = fn(&mut Rig, SockId, u32);

/// Re-seals a frame whose producer-owned part or body was changed.
fn resealed(mut frame: Vec<u8>) -> Vec<u8> {
    let body = frame.split_off(HEADER_BYTES);
    let mut header: [u8; HEADER_BYTES] = frame.try_into().expect("a header");
    seal(&mut header, &body);
    [header.to_vec(), body].concat()
}

/// Re-seals only the header's own checksum.
fn header_resealed(mut frame: Vec<u8>) -> Vec<u8> {
    let checksum = crate::proto::checksum::crc32c(&frame[..60]);
    frame[60..64].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn good(channel: u32) -> Vec<u8> {
    batch(channel, 5, 1, &[b"alpha", b"beta", b"gamma"])
}

fn changed(channel: u32, at: usize, to: u8) -> Vec<u8> {
    let mut frame = good(channel);
    frame[at] = to;
    header_resealed(frame)
}

/// What each row does with a connection that has a channel open, and the code it must get.
const ROWS: &[(Code, Act)] = &[
    (Code::BadMagic, |rig, sock, channel| rig.send(sock, &changed(channel, 0, b'X'))),
    (Code::BadVersion, |rig, sock, channel| rig.send(sock, &changed(channel, 2, 9))),
    (Code::BadKind, |rig, sock, channel| rig.send(sock, &changed(channel, 3, 0))),
    (Code::BadKind, |rig, sock, channel| rig.send(sock, &changed(channel, 3, 200))),
    (Code::ReservedNotZero, |rig, sock, channel| rig.send(sock, &changed(channel, 10, 1))),
    (Code::ReservedNotZero, |rig, sock, channel| rig.send(sock, &changed(channel, 8, 1))),
    (Code::ReservedNotZero, |rig, sock, channel| rig.send(sock, &changed(channel, 40, 1))),
    (Code::BadHeaderChecksum, |rig, sock, channel| {
        let mut frame = good(channel);
        frame[61] ^= 1;
        rig.send(sock, &frame);
    }),
    (Code::BadLength, |rig, sock, channel| rig.send(sock, &changed(channel, 4, 3))),
    (Code::FrameTooLarge, |rig, sock, channel| rig.send(sock, &changed(channel, 6, 0x10))),
    (Code::FrameTooLarge, |rig, sock, _| {
        let header = FrameHeader { body_bytes: CONTROL_BODY_BYTES_MAX + 8, ..FrameHeader::new(Kind::Open) };
        let mut out = [0; HEADER_BYTES];
        header.encode(&mut out);
        rig.send(sock, &out);
    }),
    (Code::UnexpectedKind, |rig, sock, _| rig.send(sock, &FrameHeader::new(Kind::Ack).alone())),
    (Code::UnexpectedKind, |rig, sock, _| rig.send(sock, &FrameHeader::new(Kind::Welcome).alone())),
    (Code::BadHello, |rig, sock, _| {
        rig.send(sock, &Hello { version_min: 1, version_max: 1, ..Hello::default() }.frame(0));
    }),
    (Code::BadControlBody, |rig, sock, _| {
        let body = [0xff; 64];
        let mut header = [0; HEADER_BYTES];
        FrameHeader { body_bytes: 64, ..FrameHeader::new(Kind::Open) }.encode(&mut header);
        seal(&mut header, &body);
        rig.send(sock, &[header.to_vec(), body.to_vec()].concat());
    }),
    (Code::BadControlChecksum, |rig, sock, _| {
        let mut frame = Open { topic: "t".into(), producer_id: 5, ..Open::default() }.frame(1);
        let last = frame.len() - 9;
        frame[last] ^= 0x40;
        rig.send(sock, &frame);
    }),
    (Code::UnknownChannel, |rig, sock, _| rig.send(sock, &good(63))),
    (Code::UnknownChannel, |rig, sock, channel| {
        let release = FrameHeader { channel, ..FrameHeader::new(Kind::Release) }.alone();
        rig.send(sock, &release);
        rig.send(sock, &good(channel));
    }),
    (Code::CreditOverrun, |rig, sock, channel| {
        for sequence in 1..=200 {
            rig.send(sock, &batch_of(channel, 5, sequence, 32_000));
        }
    }),
    (Code::FrameTimeout, |rig, sock, channel| {
        rig.send(sock, &good(channel)[..80]);
        rig.run();
        rig.pass(11_000);
    }),
    (Code::IdleTimeout, |rig, _, _| {
        rig.run();
        rig.pass(121_000);
    }),
    (Code::MidFrameDisconnect, |rig, sock, channel| {
        rig.send(sock, &good(channel)[..80]);
        rig.shards[0].io.peer(sock).ended = true;
    }),
    (Code::PeerReset, |rig, sock, _| rig.shards[0].io.peer(sock).reset = true),
    (Code::PeerNotReading, |rig, sock, _| {
        rig.shards[0].io.peer(sock).room = 0;
        for _ in 0..20_000 {
            rig.send(sock, &FrameHeader::new(Kind::Ping).alone());
        }
    }),
    (Code::UnknownTopic, |rig, sock, _| {
        rig.send(sock, &Open { topic: "none".into(), producer_id: 5, ..Open::default() }.frame(1));
    }),
    (Code::UnknownPartition, |rig, sock, _| {
        rig.send(sock, &Open { topic: "t".into(), partition: 9, producer_id: 5, ..Open::default() }.frame(1));
    }),
    (Code::ImpossibleAckLevel, |rig, sock, _| {
        let ack_level = Some(AckLevel::Durable);
        rig.send(sock, &Open { topic: "t".into(), producer_id: 6, ack_level, ..Open::default() }.frame(1));
    }),
    (Code::AlreadySubscribed, |rig, sock, _| {
        rig.send(sock, &Subscribe { topic: "t".into(), ..Subscribe::default() }.frame(1));
        rig.send(sock, &Subscribe { topic: "t".into(), ..Subscribe::default() }.frame(2));
    }),
    (Code::NotSubscribed, |rig, sock, _| {
        rig.send(sock, &Commit { name: "n".into(), offset: 1 }.frame(3, 7));
    }),
    (Code::BadBodyChecksum, |rig, sock, channel| {
        let mut frame = good(channel);
        let last = frame.len() - 10;
        frame[last] ^= 1;
        rig.send(sock, &frame);
    }),
    (Code::BadBatch, |rig, sock, channel| {
        let mut frame = good(channel);
        frame[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        rig.send(sock, &resealed(frame));
    }),
    (Code::CountMismatch, |rig, sock, channel| {
        let mut frame = good(channel);
        frame[12] = 2;
        rig.send(sock, &resealed(frame));
    }),
    (Code::RecordTooLarge, |rig, sock, channel| rig.send(sock, &batch_of(channel, 5, 1, 40_000))),
    (Code::OutOfSequence, |rig, sock, channel| {
        rig.send(sock, &batch_of(channel, 5, 1, 10));
        rig.send(sock, &batch_of(channel, 5, 3, 10));
    }),
    (Code::UnknownProducer, |rig, sock, channel| rig.send(sock, &batch_of(channel, 5, 2, 10))),
    (Code::DuplicateMismatch, |rig, sock, channel| {
        rig.send(sock, &batch_of(channel, 5, 1, 10));
        rig.send(sock, &batch_of(channel, 5, 1, 11));
    }),
    (Code::ProducerFenced, |rig, sock, channel| {
        let newer = rig.client();
        rig.open(newer, "t", 5);
        rig.send(sock, &batch_of(channel, 5, 1, 10));
    }),
];

#[test]
fn each_fault_has_its_code_and_costs_at_most_its_connection() {
    for (number, (code, act)) in ROWS.iter().enumerate() {
        let mut rig = Rig::new();
        rig.topic("t", TopicKind::Memory, Overflow::Reject, 2 << 20);
        let witness = rig.client();
        let (witness_channel, _) = rig.open(witness, "t", 77);
        let sock = rig.client();
        let (channel, _) = rig.open(sock, "t", 5);
        let before = rig.shards[0].counters.read_refused(*code);
        act(&mut rig, sock, channel);
        rig.run();
        let heard = rig.heard(sock);
        assert!(
            rig.shards[0].counters.read_refused(*code) > before,
            "row {number}: {code} is counted; {heard:?}"
        );
        let spoken = !matches!(code, Code::MidFrameDisconnect | Code::PeerReset | Code::PeerNotReading);
        if spoken {
            let said =
                heard.iter().filter(|(h, _)| matches!(h.kind, Kind::Error | Kind::Nack)).any(|(_, frame)| {
                    Refusal::decode(&frame[HEADER_BYTES..]).is_ok_and(|refusal| refusal.code == *code)
                });
            assert!(said, "row {number}: {code} is told: {heard:?}");
        }
        rig.shards[0].io.peer(sock).room = usize::MAX;
        rig.pass(1_500);
        let closed = rig.shards[0].io.peer(sock).closed;
        assert_eq!(closed, code.scope() == Scope::Connection, "row {number}: {code}");
        if *code != Code::IdleTimeout {
            rig.send(witness, &batch_of(witness_channel, 77, 1, 100));
            rig.run();
            let heard = rig.heard(witness);
            assert!(heard.iter().any(|(h, _)| h.kind == Kind::Ack), "row {number}: others go on");
        }
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn without_hello_a_connection_is_turned_away_in_time() {
    let mut rig = Rig::new();
    let silent = rig.shards[0].io.connect();
    let rude = rig.shards[0].io.connect();
    rig.send(rude, &FrameHeader::new(Kind::Ping).alone());
    rig.run();
    rig.pass(6_000);
    rig.pass(2_000);
    for (sock, code) in [(silent, Code::HandshakeTimeout), (rude, Code::UnexpectedKind)] {
        let (header, frame) = rig.heard(sock).remove(0);
        assert_eq!(header.kind, Kind::Error);
        assert_eq!(Refusal::decode(&frame[HEADER_BYTES..]).expect("a refusal").code, code);
        assert!(rig.shards[0].io.peer(sock).closed);
    }
    rig.assert_nothing_leaked();
}

#[test]
fn another_protocol_is_refused_at_its_first_byte() {
    for words in ["G", "GET / HTTP/1.0\r\n\r\n", "UG"] {
        let mut rig = Rig::new();
        let sock = rig.shards[0].io.connect();
        rig.send(sock, words.as_bytes());
        rig.run();
        let (_, frame) = rig.heard(sock).remove(0);
        let refusal = Refusal::decode(&frame[HEADER_BYTES..]).expect("a refusal");
        assert_eq!(refusal.code, Code::BadMagic, "{words:?}");
        rig.pass(1_500);
        assert!(rig.shards[0].io.peer(sock).closed);
        rig.assert_nothing_leaked();
    }
}

#[test]
fn the_census_turns_away_who_does_not_fit() {
    let mut rig = Rig::new();
    let socks: Vec<_> = (0..44).map(|_| rig.shards[0].io.connect()).collect();
    rig.run();
    let mut told = 0;
    for sock in socks {
        for (_, frame) in rig.heard(sock) {
            let refusal = Refusal::decode(&frame[HEADER_BYTES..]).expect("a refusal");
            assert_eq!(refusal.code, Code::TooManyConnections);
            told += 1;
        }
    }
    assert_eq!(told, 8, "no more are told at once");
    let refused: u64 =
        rig.shards.iter().map(|shard| shard.counters.read_refused(Code::TooManyConnections)).sum();
    assert_eq!(refused, 12, "who is turned away without a word is counted too");
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn random_bytes_cost_only_their_connection() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut rig = Rig::new();
    rig.topic("t", TopicKind::Live, Overflow::Block, 1 << 20);
    for round in 0..300 {
        let sock = if round % 2 == 0 { rig.shards[0].io.connect() } else { rig.client() };
        let mut bytes: Vec<u8> = (0..random() % 3_000).map(|_| random() as u8).collect();
        if round % 3 == 0 {
            let mut frame = Open { topic: "t".into(), producer_id: 3, ..Open::default() }.frame(1);
            let at = (random() as usize) % frame.len();
            frame[at] ^= 1 << (random() % 8);
            bytes.splice(..0, frame);
        }
        rig.send(sock, &bytes);
        rig.run();
        rig.shards[0].io.peer(sock).ended = true;
        rig.pass(1_500);
    }
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

/// A start takes connections before the last topic has been told, where they are many: what is not known yet may come.
#[test]
fn who_asks_for_a_topic_before_all_are_told_waits() {
    for shards in [1, 2] {
        let mut rig = Rig::starting(shards);
        let [first, second] = [3, 4].map(|producer_id| {
            let sock = rig.client();
            let topic = if producer_id == 3 { "late" } else { "none" };
            rig.send(sock, &Open { topic: topic.into(), producer_id, ..Open::default() }.frame(1));
            sock
        });
        rig.run();
        assert!(rig.heard(first).is_empty() && rig.heard(second).is_empty(), "both wait");
        rig.topic_on("late", TopicKind::Live, Overflow::Block, 1 << 20, &[(0, 0)]);
        assert_eq!(rig.heard(first)[0].0.kind, Kind::Opened);
        assert!(rig.heard(second).is_empty(), "it may come");
        rig.command_each(|| Command::TopicsTold);
        let heard = rig.heard(second);
        assert_eq!((heard[0].0.kind, code_of(&heard[0].1)), (Kind::Error, Code::UnknownTopic));
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}
