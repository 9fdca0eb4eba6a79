//! How connections end, in every state they can be in: only they end, and all they had is back.

use super::clients::*;
use super::rig::*;
use crate::ids::{ConnId, SockId};
use crate::proto::code::Code;
use crate::proto::control::{Open, Subscribe};
use crate::proto::header::{FrameHeader, Kind};
use crate::shard::ShardLimits;
use crate::shard::conn::Phase;
use crate::shard::messages::Command;
use crate::topic::{Overflow, TopicKind};

const MIB: u64 = 1024 * 1024;
/// Blocks of a shard in which nobody may have more than 8 once half of them are taken.
const BLOCKS: u32 = 16;
/// Pongs that fill a connection's outbox then.
const PONGS_MAX: usize = (BLOCKS as usize / 2 + 1) * 64;

fn pings(count: usize) -> Vec<u8> {
    FrameHeader::new(Kind::Ping).alone().repeat(count)
}

/// The slot of a socket's connection.
fn slot_of(rig: &Rig, shard: usize, sock: SockId) -> ConnId {
    let conns = &rig.shards[shard].conns;
    conns.ids().into_iter().find(|&id| conns[id].sock == sock).expect("connected")
}

/// What is said when the outbox is nearly full.
#[derive(Debug, Clone, Copy)]
enum Last {
    Release,
    Nack,
    Deletion,
    Gap,
}

fn fill_and_say(last: Last, owner: u16, count: usize) {
    let mut rig = Rig::with_limits(2, 256, ShardLimits { control_blocks: BLOCKS, ..limits() });
    let topic = rig.topic_on("t", TopicKind::Memory, Overflow::DropOldest, MIB, &[(owner, 0)]);
    let partition = topic.partitions[0].id;
    let sock = rig.settled_client(0);
    let witness = rig.settled_client(0);
    let (other, _) = rig.open(witness, "t", 6);
    let mut producer = vec![Producer::new(witness, other, 6, 0)];
    let mut consumer = None;
    let mut said = Vec::new();
    match last {
        Last::Release | Last::Nack => {
            let open = Open { topic: "t".into(), producer_id: 5, ack_every_batches: 9, ..Open::default() };
            let (channel, _) = rig.open_as(sock, &Open { ack_every_us: 1_000_000, ..open });
            rig.send(sock, &batch_of(channel, 5, 1, 100));
            rig.run();
            let acked = rig.heard(sock).iter().any(|(header, _)| header.kind == Kind::Ack);
            assert!(!acked, "the acknowledgement is held back");
            said = match last {
                Last::Release => header_only(Kind::Release, channel),
                _ => batch_of(channel, 5, 3, 100),
            };
        }
        Last::Deletion => rig.subscribe(sock, Subscribe { credit: 0, ..all_of("t") }),
        Last::Gap => {
            rig.subscribe(sock, Subscribe { credit: 0, ..all_of("t") });
            publish_all(&mut rig, &mut producer, 80, 16_000);
            consumer = Some(Consumer::from(0));
            said = FrameHeader { channel: partition.0, offset: MIB, ..FrameHeader::new(Kind::Credit) }
                .alone()
                .to_vec();
        }
    }
    // For a gap the socket takes bytes: the outbox is full only until the tick ends.
    let room = if matches!(last, Last::Gap) { usize::MAX } else { 0 };
    rig.set_room(sock, room);
    let together = matches!(last, Last::Gap);
    let mut stream = pings(count);
    if together {
        stream.extend(&said);
    }
    rig.send(sock, &stream);
    if together {
        rig.tick();
    } else {
        rig.run();
        rig.send(sock, &said);
    }
    rig.run();
    if matches!(last, Last::Deletion) {
        rig.command_each(|| Command::RemoveTopic { ticket: 5, topic: topic.id });
    }
    rig.run();
    rig.set_room(sock, usize::MAX);
    rig.run();
    if let Some(consumer) = &mut consumer {
        consumer.listen(&mut rig, sock);
    }
    assert!(rig.closed(sock) || rig.answers(sock), "{last:?} of {owner} behind {count}: closed or served");
    assert!(rig.answers(witness), "{last:?} of {owner} behind {count}: others go on");
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn an_outbox_that_fills_exactly_when_something_is_said_costs_only_its_connection() {
    for last in [Last::Release, Last::Nack, Last::Deletion, Last::Gap] {
        for owner in [0, 1] {
            for count in PONGS_MAX - 6..=PONGS_MAX + 1 {
                fill_and_say(last, owner, count);
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Fin,
    Reset,
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Promoting,
    Bulk,
    Demoting,
}

/// Closes a bulk connection `ticks` ticks into what it is doing, with `partial` bytes of a frame pending.
fn close_bulk(way: Way, stage: Stage, ticks: usize, partial: usize, kind: TopicKind) {
    let mut rig = Rig::new();
    rig.topic("t", kind, Overflow::DropOldest, 2 * MIB);
    let consumer = rig.client();
    rig.subscribe(consumer, all_of("t"));
    let socks = [rig.client(), rig.client()];
    let channels = socks.map(|sock| rig.open(sock, "t", 5 + u64::from(sock.0)).0);
    let frame = |at: usize, sequence| batch_of(channels[at], 5 + u64::from(socks[at].0), sequence, 20_000);
    let ids = socks.map(|sock| slot_of(&rig, 0, sock));
    rig.shards[0].promote(ids[1]);
    if stage != Stage::Promoting {
        rig.shards[0].promote(ids[0]);
        rig.run();
    }
    // Both have something to read, so that one waits in the queue while the other is read.
    for sequence in 1..=2 {
        rig.send(socks[1], &frame(1, sequence));
    }
    rig.send(socks[0], &frame(0, 1));
    rig.send(socks[0], &frame(0, 2)[..partial]);
    match stage {
        Stage::Promoting => rig.shards[0].promote(ids[0]),
        Stage::Bulk => {}
        Stage::Demoting => rig.shards[0].demote(ids[0]),
    }
    for _ in 0..ticks {
        rig.tick();
    }
    match way {
        Way::Fin => rig.shards[0].io.peer(socks[0]).ended = true,
        Way::Reset => rig.shards[0].io.peer(socks[0]).reset = true,
        Way::Close => {
            rig.send(socks[0], &frame(0, 2)[partial..]);
            rig.send(socks[0], &header_only(Kind::Close, 0));
        }
    }
    rig.run();
    rig.pass(1_100);
    let what = format!("{way:?} {stage:?} after {ticks} ticks, {partial} bytes pending");
    assert!(rig.closed(socks[0]), "{what}");
    assert_eq!(rig.shards[0].conns[ids[0]].phase, Phase::Free, "{what}");
    assert_eq!(rig.shards[0].promoted, 1, "{what}: its region is free");
    for sequence in 3..=5 {
        rig.send(socks[1], &frame(1, sequence));
        rig.run();
    }
    let acks = rig.heard(socks[1]);
    assert_eq!(acks.last().map(|(header, _)| header.sequence), Some(5), "{what}: the other one goes on");
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_bulk_connection_that_ends_gives_everything_back_in_every_state() {
    for way in [Way::Fin, Way::Reset, Way::Close] {
        for stage in [Stage::Promoting, Stage::Bulk, Stage::Demoting] {
            for ticks in 0..6 {
                for partial in [0, 30, 100, 15_000] {
                    let kind = if ticks % 2 == 0 { TopicKind::Memory } else { TopicKind::Live };
                    close_bulk(way, stage, ticks, partial, kind);
                }
            }
        }
    }
}

#[test]
fn a_connection_that_was_told_why_ends_with_its_peer_at_once() {
    for behind in [false, true] {
        let mut rig = Rig::new();
        let sock = rig.client();
        rig.send(sock, &header_only(Kind::Release, 9));
        if behind {
            rig.send(sock, &[7; 500]);
        }
        rig.run();
        let (header, frame) = rig.heard(sock).remove(0);
        assert_eq!((header.kind, code_of(&frame)), (Kind::Error, Code::UnknownChannel));
        assert!(rig.shards[0].io.peer(sock).finished && !rig.closed(sock));
        rig.shards[0].io.peer(sock).ended = true;
        rig.run();
        assert!(rig.closed(sock), "without waiting for the time-out");
        rig.assert_nothing_leaked();
    }
}

#[test]
fn one_that_ended_first_is_closed_without_waiting() {
    let mut rig = Rig::new();
    let sock = rig.client();
    rig.shards[0].io.peer(sock).ended = true;
    rig.run();
    assert!(rig.closed(sock));
    rig.assert_nothing_leaked();
}
