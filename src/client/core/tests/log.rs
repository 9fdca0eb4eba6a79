//! Topics of kind `log`: levels of acknowledgement, servers that were killed and know their producers again, full disks.

use std::time::Duration;

use proptest::prelude::*;

use super::{Core as _, Model, ProducerEvent, all_acked, expected, producer, producer_config, send_numbers};
use crate::proto::code::Code;
use crate::proto::header::AckLevel;

#[test]
fn that_a_batch_was_received_does_not_say_that_it_is_durable() {
    let mut model = Model::new(1);
    (model.ack_every, model.level) = (1000, AckLevel::Durable);
    let mut world = producer(producer_config(), model);
    send_numbers(&mut world, 0..40);
    world.run_until(Duration::from_millis(20), |_| false);
    let sent = world.model.published.len();
    world.cut("test");
    assert!(all_acked(&mut world));
    assert_eq!(world.model.published.len(), 2 * sent, "each is asked for again");
    assert_eq!(world.model.partitions[0].payloads(), expected(0..40));
    assert_eq!(world.core.acknowledged_level(), Some(AckLevel::Durable));
    while let Some(event) = world.core.poll_event() {
        if let ProducerEvent::Acked { level, .. } = event {
            assert_eq!(level, AckLevel::Durable);
        }
    }
}

#[test]
fn a_log_that_lost_what_it_had_only_received_is_gone_on_with() {
    let mut world = producer(producer_config(), Model::new(1));
    send_numbers(&mut world, 0..60);
    assert!(all_acked(&mut world));
    let batches = world.model.partitions[0].frames.len();
    assert!(batches > 3);
    let kept = batches - 2;
    world.model.acks = false;
    send_numbers(&mut world, 60..80);
    world.run_until(Duration::from_millis(20), |_| false);
    world.model.crash(0, kept);
    let first = world.model.partitions[0].payloads();
    world.model.acks = true;
    world.cut("killed");
    assert!(all_acked(&mut world));
    let stored = world.model.partitions[0].payloads();
    assert_eq!(
        stored,
        [first, expected(60..80)].concat(),
        "what was unacknowledged, once, behind what was left"
    );
    let mut behind = 0;
    while let Some(event) = world.core.poll_event() {
        match event {
            ProducerEvent::CameBackBehind { batches, .. } => behind += batches,
            ProducerEvent::Renumbered { .. } => panic!("it is known"),
            _ => {}
        }
    }
    assert_eq!(behind, 2);
}

#[test]
fn a_full_disk_is_waited_for_as_told_and_said_each_time() {
    let mut model = Model::new(1);
    model.refusals = [None, Some(Code::DiskFull), Some(Code::DiskFull), Some(Code::DiskFull)].into();
    model.retry_after_us = 700_000;
    let mut world = producer(producer_config(), model);
    send_numbers(&mut world, 0..100);
    let before_ns = world.now_ns;
    assert!(all_acked(&mut world));
    assert!(world.now_ns >= before_ns + 3 * 700_000_000, "it waits as long as it is told");
    assert_eq!(world.model.partitions[0].payloads(), expected(0..100));
    let mut said = 0;
    while let Some(event) = world.core.poll_event() {
        said += u32::from(matches!(event, ProducerEvent::Deferred { code: Code::DiskFull, .. }));
    }
    assert_eq!((said, world.connects), (3, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A log's server is killed again and again, with any part of what it had not acknowledged left.
    #[test]
    fn whenever_a_logs_server_is_killed_each_record_is_stored_once_in_order(
        rounds in prop::collection::vec((1usize..60, any::<prop::sample::Index>()), 1..8),
        cuts_down in prop::collection::vec(0usize..2000, 0..3),
        ack_every in 1u32..6,
    ) {
        let mut model = Model::new(1);
        (model.level, model.ack_every) = (AckLevel::Written, ack_every);
        let mut world = producer(producer_config(), model);
        world.cuts_down = cuts_down;
        let mut sent = 0;
        for (records, kept) in rounds {
            send_numbers(&mut world, sent..sent + records);
            sent += records;
            world.run_until(Duration::from_millis(5), |_| false);
            let partition = &world.model.partitions[0];
            let kept = partition.acked + kept.index(partition.frames.len() - partition.acked + 1);
            world.model.crash(0, kept);
            world.cut("killed");
        }
        world.model.ack_every = 1;
        prop_assert!(all_acked(&mut world), "{:?}", world.core.failure());
        prop_assert_eq!(world.model.partitions[0].payloads(), expected(0..sent));
    }
}
