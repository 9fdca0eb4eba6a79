//! Answers on their way: who reads gets them all, however many at once; who does not is cut; others do not notice.

use super::rig::*;
use crate::proto::code::Code;
use crate::proto::control::Commit;
use crate::proto::header::{FrameHeader, Kind};
use crate::shard::ShardLimits;
use crate::shard::messages::Command;
use crate::topic::{Overflow, TopicKind};

const MIB: u64 = 1024 * 1024;
/// Pongs of a block, and of all blocks a connection may have whose socket is full.
const PONGS_PER_BLOCK: usize = 64;
const PONGS_WHILE_FULL: usize = 64 * PONGS_PER_BLOCK;

fn pings(count: usize) -> Vec<u8> {
    FrameHeader::new(Kind::Ping).alone().repeat(count)
}

fn cut_for_not_reading(rig: &Rig) -> u64 {
    rig.shards.iter().map(|shard| shard.counters.read_refused(Code::PeerNotReading)).sum()
}

#[test]
fn a_client_that_reads_gets_every_answer_of_one_tick() {
    for owner in [0, 1] {
        let mut rig = Rig::with_shards(2);
        let topic = rig.topic_on("t", TopicKind::Memory, Overflow::Block, 4 * MIB, &[(owner, 0)]);
        let partition = topic.partitions[0].id;
        let sock = rig.settled_client(0);
        rig.subscribe(sock, all_of("t"));
        let channels: Vec<u32> = (1..=6).map(|id| rig.open(sock, "t", id).0).collect();
        rig.command_each(|| Command::PauseTopic { ticket: 1, topic: topic.id, paused: true });
        let mut stream = Vec::new();
        for sequence in 1..=64 {
            for (id, &channel) in (1..).zip(&channels) {
                stream.extend(batch_of(channel, id, sequence, 8));
            }
        }
        for request in 10..610 {
            stream.extend(Commit { name: "reader".into(), offset: 0 }.frame(request, partition.0));
        }
        rig.send(sock, &stream);
        rig.run();
        let heard = rig.heard(sock);
        let count = |kinds: &[Kind]| heard.iter().filter(|(header, _)| kinds.contains(&header.kind)).count();
        assert_eq!(count(&[Kind::Nack]), 6 * 64, "{owner}: {:?}", heard.first());
        assert_eq!(count(&[Kind::Committed, Kind::Error]), 600, "{owner}");
        assert!(rig.answers(sock), "{owner}");
        // What does not fit is read in the next ticks, and answered as it comes.
        rig.send(sock, &pings(20_000));
        rig.run();
        assert_eq!(rig.heard(sock).len(), 20_000, "{owner}");
        assert_eq!(cut_for_not_reading(&rig), 0, "{owner}");
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_when_its_share_is_full() {
    for (count, cut) in [(PONGS_WHILE_FULL, false), (PONGS_WHILE_FULL + 1, true)] {
        let mut rig = Rig::new();
        let sock = rig.client();
        rig.set_room(sock, 0);
        rig.send(sock, &pings(1));
        rig.run();
        for _ in 1..count {
            rig.send(sock, &pings(1));
        }
        rig.run();
        assert_eq!((rig.closed(sock), cut_for_not_reading(&rig) > 0), (cut, cut), "{count}");
        if !cut {
            rig.set_room(sock, usize::MAX);
            rig.run();
            assert_eq!(rig.heard(sock).len(), count, "late, but all of them");
        }
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn those_who_do_not_read_leave_memory_to_answer_everybody_else() {
    let control_blocks = 128;
    let mut rig = Rig::with_limits(1, 256, ShardLimits { control_blocks, ..limits() });
    let witness = rig.client();
    let deaf: Vec<_> = (0..30).map(|_| rig.client()).collect();
    for &sock in &deaf {
        rig.set_room(sock, 0);
    }
    for round in 0..20 {
        for &sock in &deaf {
            if !rig.closed(sock) {
                rig.send(sock, &pings(10 + 3 * PONGS_PER_BLOCK));
            }
            rig.run();
            let taken = rig.shards[0].blocks.in_use();
            assert!(taken < control_blocks as usize, "round {round}: {taken} blocks are taken");
            assert!(rig.answers(witness), "round {round}");
        }
    }
    assert!(deaf.iter().filter(|&&sock| rig.closed(sock)).count() > 20, "they are cut");
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}
