//! Partitions of kind `log`: what is acknowledged when, what consumers get from the ring and from the files, and what
//! becomes of both when the disk fails.

use super::clients::*;
use super::log_rig::*;
use super::rig::*;
use crate::commit_log::{BLOCK_BYTES, LogPoint, RecoveredLog, SegmentInfo};
use crate::ids::{PartitionId, SockId, TopicId};
use crate::io::IoError;
use crate::io::scripted::disk::DiskOp;
use crate::limits::{HEADER_BYTES, LOG_READ_TRIES};
use crate::metrics::Counter;
use crate::proto::code::Code;
use crate::proto::control::{Open, Start, Subscribe, Subscribed};
use crate::proto::header::{AckLevel, FrameHeader, GapReason, Kind};
use crate::shard::messages::{Command, LogCommand, Report};

const MIB: u64 = 1024 * 1024;
const LEVELS: [AckLevel; 3] = [AckLevel::Received, AckLevel::Written, AckLevel::Durable];

/// A rig with one log partition on the given shard.
fn world(shards: u16, ring_bytes: u64, segment_bytes: u64) -> (Rig, Keeper, PartitionId) {
    world_with(shards, ring_bytes, segment_bytes, AckLevel::Received)
}

fn world_with(
    shards: u16,
    ring_bytes: u64,
    segment_bytes: u64,
    durability: AckLevel,
) -> (Rig, Keeper, PartitionId) {
    let mut rig = Rig::with_shards(shards);
    let mut keeper = Keeper::new(&rig, segment_bytes);
    let topic = keeper.topic(&mut rig, "log", ring_bytes, durability, &[shards - 1]);
    keeper.run(&mut rig);
    (rig, keeper, topic.partitions[0].id)
}

fn producer(rig: &mut Rig, sock: SockId, id: u64, level: AckLevel) -> Producer {
    let open = Open {
        topic: "log".into(),
        producer_id: id,
        ack_every_batches: 1,
        ack_level: Some(level),
        ..Open::default()
    };
    let (channel, opened) = rig.open_as(sock, &open);
    assert_eq!(opened.ack_level, level);
    Producer::new(sock, channel, id, opened.credit)
}

/// Publishes so many batches and waits for their acknowledgements.
fn publish(rig: &mut Rig, keeper: &mut Keeper, producer: &mut Producer, batches: u64, bytes: usize) {
    let until = producer.next - 1 + batches;
    for _ in 0..20_000 {
        if producer.next <= until || !producer.refused.is_empty() {
            producer.step(rig, bytes);
        }
        rig.tick();
        keeper.serve(rig);
        listen(rig, std::slice::from_mut(producer));
        if producer.next > until && producer.idle() {
            return;
        }
    }
    panic!("{} of {until}: {:?} {:?}", producer.accepted, producer.unanswered.len(), producer.last_code);
}

fn subscribe(rig: &mut Rig, keeper: &mut Keeper, sock: SockId, start: Start, credit: u64) -> Subscribed {
    let ask = Subscribe { topic: "log".into(), start, credit, ..Subscribe::default() };
    rig.send(sock, &ask.frame(9));
    for _ in 0..2_000 {
        if let Some((header, frame)) = rig.hear_one(sock) {
            assert_eq!(header.kind, Kind::Subscribed, "{header:?}");
            return Subscribed::decode(&frame[HEADER_BYTES..]).expect("subscribed");
        }
        // A search that cannot read waits for seconds.
        rig.advance(5_000);
        rig.tick();
        keeper.serve(rig);
    }
    panic!("no answer");
}

/// Takes what a consumer gets until nothing more comes, with credit as it needs it.
fn drain(rig: &mut Rig, keeper: &mut Keeper, sock: SockId, partition: PartitionId, consumer: &mut Consumer) {
    let mut limit = 64 * 1024;
    for _ in 0..2_000 {
        let credit = FrameHeader { channel: partition.0, offset: limit, ..FrameHeader::new(Kind::Credit) };
        rig.send(sock, &credit.alone());
        keeper.run(rig);
        let before = consumer.records + consumer.missed;
        consumer.listen(rig, sock);
        if consumer.records + consumer.missed == before {
            return;
        }
        limit += 64 * 1024;
    }
    panic!("the consumer does not come to an end");
}

fn pass_seconds(rig: &mut Rig, keeper: &mut Keeper, seconds: u32) {
    for _ in 0..seconds {
        rig.advance(1_000_000);
        keeper.run(rig);
    }
}

#[test]
fn a_batch_is_acknowledged_when_it_has_reached_its_level() {
    for shards in [1, 2] {
        let (mut rig, mut keeper, _) = world(shards, MIB, 4 * MIB);
        let sock = rig.settled_client(0);
        let mut producers: Vec<_> =
            LEVELS.iter().zip(1..).map(|(&level, id)| producer(&mut rig, sock, id, level)).collect();
        keeper.disk.borrow_mut().hold(true);
        for producer in &mut producers {
            assert!(producer.step(&mut rig, 300));
        }
        keeper.run(&mut rig);
        listen(&mut rig, &mut producers);
        let acked = |producers: &[Producer]| producers.iter().map(|p| p.accepted).collect::<Vec<_>>();
        assert_eq!(acked(&producers), [1, 0, 0], "received is acknowledged at once");
        // The segment's header and the flush; the sync begins when both are written.
        complete(&mut rig, &mut keeper, DiskOp::Write);
        listen(&mut rig, &mut producers);
        assert_eq!(acked(&producers), [1, 1, 0], "written when the write has completed");
        complete(&mut rig, &mut keeper, DiskOp::Sync);
        listen(&mut rig, &mut producers);
        assert_eq!(acked(&producers), [1, 1, 1], "durable when a sync has");
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

/// Completes all operations of a kind that are in flight, and what they lead to of the same kind.
fn complete(rig: &mut Rig, keeper: &mut Keeper, op: DiskOp) {
    loop {
        let next =
            keeper.disk.borrow().in_flight().iter().find(|flying| flying.op == op).map(|flying| flying.id);
        let Some(id) = next else { return };
        keeper.disk.borrow_mut().complete(id);
        keeper.run(rig);
    }
}

fn complete_oldest(rig: &mut Rig, keeper: &mut Keeper) {
    let oldest = keeper.disk.borrow().in_flight()[0].id;
    keeper.disk.borrow_mut().complete(oldest);
    keeper.run(rig);
}

/// What comes twice waits for its own place in the log, not for what came to the log between.
#[test]
fn a_duplicate_waits_for_nothing_that_is_behind_it() {
    for shards in [1, 2] {
        let (mut rig, mut keeper, _) = world(shards, MIB, 4 * MIB);
        keeper.disk.borrow_mut().hold(true);
        let socks = [0; 3].map(|_| rig.settled_client(0));
        let mut first = producer(&mut rig, socks[0], 1, AckLevel::Written);
        let mut between = producer(&mut rig, socks[1], 2, AckLevel::Written);
        assert!(first.step(&mut rig, 300));
        keeper.run(&mut rig);
        // The segment's header; then the first batch is being written.
        complete_oldest(&mut rig, &mut keeper);
        assert!(between.step(&mut rig, 300));
        keeper.run(&mut rig);
        // The same batch of the same producer, on another connection.
        let mut again = producer(&mut rig, socks[2], 1, AckLevel::Written);
        again.next = 1;
        assert!(again.step(&mut rig, 300));
        keeper.run(&mut rig);
        let mut both = [again, between];
        while both[0].accepted == 0 {
            complete_oldest(&mut rig, &mut keeper);
            listen(&mut rig, &mut both);
        }
        assert_eq!(both[1].accepted, 0, "{shards} shards: what came between is not written yet");
        keeper.disk.borrow_mut().hold(false);
        keeper.run(&mut rig);
        listen(&mut rig, &mut both);
        assert_eq!(both[1].accepted, 1);
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn a_tail_consumer_gets_what_is_written_and_of_a_durable_topic_what_is_durable() {
    let cases = [
        (AckLevel::Received, AckLevel::Written, DiskOp::Write),
        (AckLevel::Durable, AckLevel::Durable, DiskOp::Sync),
    ];
    for (durability, level, last) in cases {
        let (mut rig, mut keeper, partition) = world_with(1, MIB, 4 * MIB, durability);
        let sock = rig.settled_client(0);
        let mut producer = producer(&mut rig, sock, 1, level);
        let reader = rig.settled_client(0);
        subscribe(&mut rig, &mut keeper, reader, Start::Earliest, MIB);
        rig.heard(reader);
        keeper.disk.borrow_mut().hold(true);
        producer.step(&mut rig, 300);
        keeper.run(&mut rig);
        assert!(rig.heard(reader).is_empty(), "nothing is written");
        if last == DiskOp::Sync {
            // The segment's header; the few bytes behind it are written and synced.
            complete(&mut rig, &mut keeper, DiskOp::DurableWrite);
        }
        complete(&mut rig, &mut keeper, DiskOp::Write);
        if last == DiskOp::Sync {
            assert!(rig.heard(reader).is_empty(), "nothing is durable");
            complete(&mut rig, &mut keeper, DiskOp::Sync);
        }
        let heard = rig.heard(reader);
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!((heard[0].0.kind, heard[0].0.channel), (Kind::Deliver, partition.0));
        keeper.disk.borrow_mut().hold(false);
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn consumers_read_from_the_files_what_the_ring_has_no_more_and_come_back_to_the_tail() {
    for shards in [1, 2] {
        for bytes in [50, 700, 5_000, 20_000] {
            let (mut rig, mut keeper, partition) = world(shards, MIB, 2 * MIB);
            let sock = rig.settled_client(0);
            let mut producer = producer(&mut rig, sock, 1, AckLevel::Written);
            let batches = (6 * MIB / (bytes as u64 + 200)).min(3_000);
            publish(&mut rig, &mut keeper, &mut producer, batches, bytes);
            let reader = rig.settled_client(0);
            subscribe(&mut rig, &mut keeper, reader, Start::Earliest, 64 * 1024);
            let mut consumer = Consumer::from(0);
            drain(&mut rig, &mut keeper, reader, partition, &mut consumer);
            assert_eq!((consumer.records, consumer.missed), (batches, 0), "{bytes} bytes, {shards} shards");
            publish(&mut rig, &mut keeper, &mut producer, 5, bytes);
            consumer.listen(&mut rig, reader);
            assert_eq!(consumer.records, batches + 5, "back at the tail");
            rig.disconnect_all();
            rig.assert_nothing_leaked();
        }
    }
}

#[test]
fn a_subscription_begins_where_it_says_by_offset_and_by_time() {
    let (mut rig, mut keeper, partition) = world(2, MIB, MIB);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Written);
    let mut times = Vec::new();
    for _ in 0..120 {
        for shard in &mut rig.shards {
            shard.io.now.wall_ns += 1_000;
        }
        times.push(rig.shards[1].io.now.wall_ns);
        publish(&mut rig, &mut keeper, &mut producer, 3, 20_000);
    }
    let all = 3 * times.len() as u64;
    for at in [0, 1, 7, 40, 100, 119] {
        let offset = 3 * at as u64 + 1;
        let cases = [
            (Start::Offset(offset), offset),
            (Start::TimeNs(times[at]), 3 * at as u64),
            (Start::TimeNs(times[at] - 1), 3 * at as u64),
        ];
        for (start, first) in cases {
            let reader = rig.settled_client(0);
            let subscribed = subscribe(&mut rig, &mut keeper, reader, start, 64 * 1024);
            assert_eq!(subscribed.start_offset, first, "{start:?}");
            let mut consumer = Consumer::from(first);
            drain(&mut rig, &mut keeper, reader, partition, &mut consumer);
            assert_eq!((consumer.records, consumer.missed), (all - first, 0), "{start:?}");
            rig.shards[0].io.peer(reader).ended = true;
            rig.pass(10);
        }
    }
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

/// After a start the ring is empty, and what a search is for lies in the files alone, which may not be there to be read.
#[test]
fn a_search_for_what_cannot_be_read_ends_where_the_empty_ring_begins() {
    let mut rig = Rig::with_shards(1);
    let mut keeper = Keeper::new(&rig, MIB);
    let end = LogPoint { position: 2 * BLOCK_BYTES, offset: 10 };
    let lost = SegmentInfo {
        sequence: 1,
        nonce: 7,
        base: LogPoint::default(),
        end,
        first_time_ns: 1,
        last_time_ns: 2,
        index: Vec::new(),
        quarantined: Vec::new(),
    };
    let log = RecoveredLog { segments: vec![lost], end, next_sequence: 2, ..RecoveredLog::default() };
    let topic = keeper.topic_from(&mut rig, "log", MIB, AckLevel::Received, vec![(0, log)]);
    keeper.run(&mut rig);
    for (start, first) in [(Start::Offset(5), 5), (Start::TimeNs(2), 10)] {
        let reader = rig.settled_client(0);
        let subscribed = subscribe(&mut rig, &mut keeper, reader, start, 64 * 1024);
        assert_eq!(subscribed.start_offset, first, "{start:?}");
        let mut consumer = Consumer::from(first);
        pass_seconds(&mut rig, &mut keeper, LOG_READ_TRIES.into());
        drain(&mut rig, &mut keeper, reader, topic.partitions[0].id, &mut consumer);
        assert_eq!((consumer.records, consumer.missed), (0, 10 - first), "{start:?}");
    }
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_search_whose_segments_go_meanwhile_tells_of_retention() {
    let (mut rig, mut keeper, partition) = world(1, MIB, MIB);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Durable);
    publish(&mut rig, &mut keeper, &mut producer, 300, 20_000);
    let first = keeper.closed.values().nth(3).expect("some are closed").clone();
    // The search has to read again in a second.
    keeper.disk.borrow_mut().fail_next(DiskOp::Read, IoError::Os(5));
    let reader = rig.settled_client(0);
    let start = Start::Offset(5);
    let ask = Subscribe { topic: "log".into(), start, credit: 64 * 1024, ..Subscribe::default() };
    rig.send(reader, &ask.frame(9));
    keeper.run(&mut rig);
    rig.command(Command::Log(LogCommand::Retire { partition, below: first.sequence }));
    keeper.run(&mut rig);
    pass_seconds(&mut rig, &mut keeper, 2);
    let (header, frame) = rig.hear_one(reader).expect("an answer");
    assert_eq!(header.kind, Kind::Subscribed);
    let subscribed = Subscribed::decode(&frame[HEADER_BYTES..]).expect("subscribed");
    let mut consumer = Consumer::from(5);
    drain(&mut rig, &mut keeper, reader, partition, &mut consumer);
    assert_eq!((consumer.records, consumer.missed), (300 - first.base.offset, first.base.offset - 5));
    assert_eq!((subscribed.start_offset, consumer.gaps), (5, vec![GapReason::Retention]));
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

/// A disk, or the path to it, may get over what ails it: only what it refuses for seconds is given up, and that is said.
#[test]
fn a_read_that_the_disk_refuses_is_tried_again_before_it_is_passed_over() {
    for shards in [1, 2] {
        for (refused, lost) in [(1, false), (LOG_READ_TRIES - 1, false), (LOG_READ_TRIES, true)] {
            let (mut rig, mut keeper, partition) = world(shards, MIB, 2 * MIB);
            let sock = rig.settled_client(0);
            let mut producer = producer(&mut rig, sock, 1, AckLevel::Written);
            let batches = 600;
            publish(&mut rig, &mut keeper, &mut producer, batches, 5_000);
            for _ in 0..refused {
                keeper.disk.borrow_mut().fail_next(DiskOp::Read, IoError::Os(5));
            }
            let reader = rig.settled_client(0);
            subscribe(&mut rig, &mut keeper, reader, Start::Earliest, 64 * 1024);
            let mut consumer = Consumer::from(0);
            for _ in 0..refused.min(LOG_READ_TRIES - 1) {
                drain(&mut rig, &mut keeper, reader, partition, &mut consumer);
                assert_eq!((consumer.records, consumer.missed), (0, 0), "it waits");
                pass_seconds(&mut rig, &mut keeper, 1);
            }
            drain(&mut rig, &mut keeper, reader, partition, &mut consumer);
            assert_eq!(consumer.records + consumer.missed, batches);
            assert_eq!(consumer.missed > 0, lost, "{refused} refused");
            let owner = &rig.shards[usize::from(shards) - 1].counters;
            assert_eq!(owner.read(Counter::LogReadsFailed), u64::from(refused));
            assert_eq!(owner.read(Counter::LogReadsDamaged), u64::from(lost));
            rig.disconnect_all();
            rig.assert_nothing_leaked();
        }
    }
}

#[test]
fn a_file_that_ends_within_a_block_is_read_to_its_end_and_no_further() {
    for (cut, lost) in [(0, false), (4_000, true)] {
        let (mut rig, mut keeper, partition) = world(1, MIB, 2 * MIB);
        let sock = rig.settled_client(0);
        let mut producer = producer(&mut rig, sock, 1, AckLevel::Written);
        let batches = 600;
        publish(&mut rig, &mut keeper, &mut producer, batches, 5_000);
        {
            let mut disk = keeper.disk.borrow_mut();
            let first = disk.files().next().expect("a file");
            let used =
                disk.contents(first).iter().rposition(|byte| *byte != 0).expect("it is written to") + 1;
            let length = (used as u64).next_multiple_of(8) - cut;
            assert_ne!(length % BLOCK_BYTES, 0);
            disk.truncate(first, length);
        }
        let reader = rig.settled_client(0);
        subscribe(&mut rig, &mut keeper, reader, Start::Earliest, 64 * 1024);
        let mut consumer = Consumer::from(0);
        drain(&mut rig, &mut keeper, reader, partition, &mut consumer);
        assert_eq!(consumer.records + consumer.missed, batches);
        assert_eq!(consumer.missed, u64::from(lost), "cut by {cut}");
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

/// Who goes while its read waits to be tried again is forgotten.
#[test]
fn a_consumer_may_go_while_its_read_waits_to_be_tried_again() {
    let (mut rig, mut keeper, _) = world(1, MIB, 2 * MIB);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Written);
    publish(&mut rig, &mut keeper, &mut producer, 600, 5_000);
    keeper.disk.borrow_mut().fail_next(DiskOp::Read, IoError::Os(5));
    let reader = rig.settled_client(0);
    subscribe(&mut rig, &mut keeper, reader, Start::Earliest, 64 * 1024);
    keeper.run(&mut rig);
    assert_eq!(rig.shards[0].counters.read(Counter::LogReadsFailed), 1);
    rig.shards[0].io.peer(reader).ended = true;
    keeper.run(&mut rig);
    let before = rig.shards[0].counters.read(Counter::LogReads);
    pass_seconds(&mut rig, &mut keeper, 2);
    assert_eq!(rig.shards[0].counters.read(Counter::LogReads), before, "nobody wants it");
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn what_cannot_be_made_durable_fences_the_partition_and_tells_everybody_why() {
    let cases = [(1, DiskOp::Sync), (2, DiskOp::Sync), (1, DiskOp::DurableWrite), (2, DiskOp::DurableWrite)];
    for (shards, op) in cases {
        let (mut rig, mut keeper, partition) = world(shards, MIB, 4 * MIB);
        let sock = rig.settled_client(0);
        let mut durable = producer(&mut rig, sock, 1, AckLevel::Durable);
        publish(&mut rig, &mut keeper, &mut durable, 3, 100);
        let mut written = producer(&mut rig, sock, 2, AckLevel::Written);
        keeper.disk.borrow_mut().fail_next(op, IoError::Os(5));
        // What is larger than a block is written durably, if nobody waits for less.
        let bytes = if op == DiskOp::DurableWrite { 20_000 } else { 100 };
        if op == DiskOp::Sync {
            written.step(&mut rig, bytes);
        }
        durable.step(&mut rig, bytes);
        keeper.run(&mut rig);
        listen(&mut rig, std::slice::from_mut(&mut durable));
        assert_eq!((durable.accepted, durable.last_code), (3, Some(Code::PartitionFenced)));
        assert_eq!(durable.refused.len(), 1, "it may be sent again");
        assert_eq!(keeper.fenced.len(), 1);
        let (fenced, offset, reason) = &keeper.fenced[0];
        assert_eq!((*fenced, *offset), (partition, 3), "{reason}");
        let written = keeper.disk.borrow_mut().take_events().len();
        durable.step(&mut rig, 100);
        keeper.run(&mut rig);
        assert_eq!(durable.last_code, Some(Code::PartitionFenced));
        assert!(written > 0);
        assert!(keeper.disk.borrow_mut().take_events().is_empty(), "nothing is written any more");
        let owner = usize::from(shards - 1);
        rig.command_to(owner, Command::Log(LogCommand::Roll { partition, ticket: 77 }));
        keeper.run(&mut rig);
        assert_eq!(keeper.rolled, [(partition, 77, 2, None)], "it closes nothing more");
        rig.pass(1_000);
        assert_eq!(rig.shards[owner].counters.read(Counter::LogPartitionsFenced), 1);
        rig.command_each(|| Command::RemoveTopic { ticket: 9, topic: TopicId(0) });
        keeper.run(&mut rig);
        rig.pass(1_000);
        assert_eq!(rig.shards[owner].counters.read(Counter::LogPartitionsFenced), 0, "it has gone");
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn a_full_disk_refuses_batches_before_they_are_stored_and_goes_on_when_there_is_room() {
    let (mut rig, mut keeper, partition) = world(1, MIB, MIB);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Durable);
    publish(&mut rig, &mut keeper, &mut producer, 1, 20_000);
    keeper.full = true;
    let refused = (0..400).any(|_| {
        producer.step(&mut rig, 20_000);
        keeper.run(&mut rig);
        listen(&mut rig, std::slice::from_mut(&mut producer));
        producer.last_code == Some(Code::DiskFull)
    });
    assert!(refused, "segments come to their end");
    let stored = producer.accepted;
    producer.last_code = None;
    keeper.make_room(&mut rig);
    publish(&mut rig, &mut keeper, &mut producer, 20, 20_000);
    assert!(producer.accepted > stored + 20);
    let reader = rig.settled_client(0);
    subscribe(&mut rig, &mut keeper, reader, Start::Earliest, 64 * 1024);
    let mut consumer = Consumer::from(0);
    drain(&mut rig, &mut keeper, reader, partition, &mut consumer);
    assert_eq!((consumer.records, consumer.missed), (producer.accepted, 0));
}

#[test]
fn writes_that_are_short_or_find_no_room_are_done_in_the_end() {
    let (mut rig, mut keeper, _) = world(1, MIB, 4 * MIB);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Written);
    for bytes in [512, 4096, 5_120, 12_288] {
        keeper.disk.borrow_mut().short_next(DiskOp::Write, bytes);
        publish(&mut rig, &mut keeper, &mut producer, 1, 20_000);
    }
    keeper.disk.borrow_mut().fail_next(DiskOp::Write, IoError::NoSpace);
    producer.step(&mut rig, 5_000);
    keeper.run(&mut rig);
    listen(&mut rig, std::slice::from_mut(&mut producer));
    assert_eq!(producer.accepted, 4, "it waits");
    rig.advance(1_100_000);
    keeper.run(&mut rig);
    listen(&mut rig, std::slice::from_mut(&mut producer));
    assert_eq!(producer.accepted, 5);
}

#[test]
fn retention_takes_whole_segments_and_consumers_are_told_what_they_miss() {
    let (mut rig, mut keeper, partition) = world(1, MIB, MIB);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Durable);
    publish(&mut rig, &mut keeper, &mut producer, 300, 20_000);
    let first = keeper.closed.values().nth(3).expect("some are closed").clone();
    let below = first.sequence;
    rig.command(Command::Log(LogCommand::Retire { partition, below }));
    keeper.run(&mut rig);
    assert_eq!(keeper.retired, [(partition, below)]);
    let reader = rig.settled_client(0);
    let subscribed = subscribe(&mut rig, &mut keeper, reader, Start::Earliest, 64 * 1024);
    assert_eq!(
        (subscribed.log_start_offset, subscribed.start_offset),
        (first.base.offset, first.base.offset)
    );
    let mut consumer = Consumer::from(0);
    drain(&mut rig, &mut keeper, reader, partition, &mut consumer);
    assert_eq!((consumer.records, consumer.missed), (300 - first.base.offset, first.base.offset));
}

/// The ring may hold more than the files do, and nothing in it begins where the oldest segment does.
#[test]
fn who_lags_behind_all_files_goes_on_where_the_ring_begins() {
    let (mut rig, mut keeper, partition) = world(1, MIB, MIB / 4);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Durable);
    publish(&mut rig, &mut keeper, &mut producer, 20, 20_000);
    let reader = rig.settled_client(0);
    subscribe(&mut rig, &mut keeper, reader, Start::Earliest, 64 * 1024);
    publish(&mut rig, &mut keeper, &mut producer, 280, 20_000);
    let newest = keeper.closed.values().last().expect("some are closed").clone();
    rig.command(Command::Log(LogCommand::Retire { partition, below: newest.sequence }));
    keeper.run(&mut rig);
    let mut consumer = Consumer::from(0);
    drain(&mut rig, &mut keeper, reader, partition, &mut consumer);
    assert_eq!(consumer.records + consumer.missed, 300);
    assert!(
        0 < consumer.missed && consumer.missed < newest.base.offset,
        "it gets what the ring has: {}",
        consumer.missed
    );
}

#[test]
fn a_roll_closes_the_segment_and_a_drain_leaves_nothing_unwritten() {
    let (mut rig, mut keeper, partition) = world(1, MIB, 4 * MIB);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Received);
    publish(&mut rig, &mut keeper, &mut producer, 10, 1_000);
    rig.command(Command::Log(LogCommand::Roll { partition, ticket: 77 }));
    keeper.run(&mut rig);
    assert_eq!(keeper.rolled, [(partition, 77, 2, Some(10))]);
    assert_eq!(keeper.closed[&(partition, 1)].end.offset, 10);
    publish(&mut rig, &mut keeper, &mut producer, 10, 1_000);
    rig.command(Command::Drain { deadline_ns: 60_000_000_000 });
    keeper.run(&mut rig);
    assert_eq!(keeper.closed[&(partition, 2)].end.offset, 20);
    let (_, snapshot) = keeper.snapshots.last().expect("the last word");
    assert_eq!((snapshot.at.offset, snapshot.producers.len()), (20, 1));
    assert_eq!(snapshot.producers[0].next_sequence, 21);
}

/// Nothing goes by retention that no snapshot covers: whoever waits for one to go asks for it.
#[test]
fn a_snapshot_that_is_asked_for_covers_all_there_is_whether_more_comes_or_not() {
    let (mut rig, mut keeper, partition) = world(1, MIB, 4 * MIB);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Received);
    let ask = |rig: &mut Rig, keeper: &mut Keeper| {
        let before = keeper.snapshots.len();
        rig.command(Command::Log(LogCommand::Snapshot { partition }));
        keeper.run(rig);
        // What is not durable is not covered.
        pass_seconds(rig, keeper, 2);
        keeper.snapshots[before..]
            .iter()
            .map(|(_, snapshot)| (snapshot.at.offset, snapshot.sequence))
            .collect::<Vec<_>>()
    };
    assert_eq!(ask(&mut rig, &mut keeper), Vec::<(u64, u64)>::new(), "there is nothing");
    publish(&mut rig, &mut keeper, &mut producer, 10, 1_000);
    assert_eq!(ask(&mut rig, &mut keeper), [(10, 1)]);
    assert_eq!(ask(&mut rig, &mut keeper), [], "nothing has come since");
    publish(&mut rig, &mut keeper, &mut producer, 5, 1_000);
    rig.command(Command::Log(LogCommand::Roll { partition, ticket: 7 }));
    keeper.run(&mut rig);
    assert_eq!(ask(&mut rig, &mut keeper), [(15, 1)], "its segment is closed, and no other has begun");
    publish(&mut rig, &mut keeper, &mut producer, 5, 1_000);
    assert_eq!(ask(&mut rig, &mut keeper), [(20, 2)]);
}

/// Everybody has been given everything, and the disk has not: that is no clean end.
#[test]
fn a_drain_says_what_the_disk_has_not_taken_in_its_time() {
    for settled in [false, true] {
        let (mut rig, mut keeper, _) = world(1, MIB, 4 * MIB);
        let sock = rig.settled_client(0);
        let mut producer = producer(&mut rig, sock, 1, AckLevel::Received);
        keeper.disk.borrow_mut().hold(true);
        publish(&mut rig, &mut keeper, &mut producer, 3, 1_000);
        let deadline_ns = rig.shards[0].io.now.mono_ns + 1_000_000_000;
        rig.command(Command::Drain { deadline_ns });
        keeper.run(&mut rig);
        if settled {
            keeper.disk.borrow_mut().hold(false);
            while !keeper.disk.borrow().in_flight().is_empty() {
                complete_oldest(&mut rig, &mut keeper);
            }
        }
        pass_seconds(&mut rig, &mut keeper, 2);
        let said = rig.reports.iter().find_map(|report| match report {
            Report::Drained { leftover, settled, .. } => Some((*leftover, *settled)),
            _ => None,
        });
        assert_eq!(said, Some((0, settled)));
    }
}

#[test]
fn a_drain_says_what_a_fenced_log_has_lost() {
    let (mut rig, mut keeper, _) = world(1, MIB, 4 * MIB);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Received);
    keeper.disk.borrow_mut().fail_next(DiskOp::Write, IoError::Os(5));
    publish(&mut rig, &mut keeper, &mut producer, 1, 1_000);
    keeper.run(&mut rig);
    let deadline_ns = rig.shards[0].io.now.mono_ns + 1_000_000_000;
    rig.disconnect_all();
    rig.command(Command::Drain { deadline_ns });
    keeper.run(&mut rig);
    let said = rig.reports.iter().find_map(|report| match report {
        Report::Drained { leftover, settled, .. } => Some((*leftover, *settled)),
        _ => None,
    });
    assert_eq!(said, Some((0, false)), "it does not wait for what never comes");
}

#[test]
fn a_batch_that_crosses_the_end_of_its_topic_is_told_of_it() {
    let mut rig = Rig::with_shards(2);
    let mut keeper = Keeper::new(&rig, 4 * MIB);
    let topic = keeper.topic(&mut rig, "log", MIB, AckLevel::Received, &[1]);
    keeper.run(&mut rig);
    let sock = rig.settled_client(0);
    let mut producer = producer(&mut rig, sock, 1, AckLevel::Durable);
    // The owner hears first. The client's shard has yet to, and passes the batch on.
    rig.command_to(1, Command::RemoveTopic { ticket: 9, topic: topic.id });
    rig.tick_shard(1);
    producer.step(&mut rig, 300);
    rig.run();
    listen(&mut rig, std::slice::from_mut(&mut producer));
    assert_eq!((producer.accepted, producer.last_code), (0, Some(Code::NoSuchTopicNow)));
    rig.command_to(0, Command::RemoveTopic { ticket: 9, topic: topic.id });
    rig.send(sock, &header_only(Kind::Release, producer.channel));
    keeper.run(&mut rig);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_topic_that_goes_takes_nobody_along_who_waits_for_its_disk() {
    for shards in [1, 2] {
        let mut rig = Rig::with_shards(shards);
        let mut keeper = Keeper::new(&rig, 4 * MIB);
        let topic = keeper.topic(&mut rig, "log", MIB, AckLevel::Received, &[shards - 1]);
        keeper.run(&mut rig);
        let sock = rig.settled_client(0);
        let mut producer = producer(&mut rig, sock, 1, AckLevel::Durable);
        keeper.disk.borrow_mut().hold(true);
        for _ in 0..3 {
            producer.step(&mut rig, 300);
        }
        keeper.run(&mut rig);
        rig.command_each(|| Command::RemoveTopic { ticket: 9, topic: topic.id });
        listen(&mut rig, std::slice::from_mut(&mut producer));
        assert_eq!((producer.accepted, producer.last_code), (0, Some(Code::NoSuchTopicNow)));
        assert!(producer.unanswered.is_empty(), "each is answered");
        rig.send(sock, &header_only(Kind::Release, producer.channel));
        keeper.disk.borrow_mut().hold(false);
        keeper.run(&mut rig);
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}
