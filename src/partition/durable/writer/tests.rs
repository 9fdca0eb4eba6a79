//! What counts as in flight, and what as durable.

use super::*;
use crate::ids::RegionId;

#[test]
fn a_write_that_has_come_back_is_in_flight_no_more_though_one_before_it_is() {
    let mut writer = Writer::new(PartitionId(1), LogPoint::default(), 0, 1, 1 << 20);
    writer.offer(Ok(NextSegment { sequence: 1, nonce: 7, bytes: 1 << 20 }));
    let placement = writer.placement(100).expect("there is a file");
    writer.begin(placement, 0);
    writer.appended(100, 1, 0, 0);
    let flush = writer.take_open().expect("a flush has begun");
    writer.close(flush, true);
    let span = |at| Span { region: RegionId(1), at, bytes: u32::try_from(BLOCK_BYTES).expect("small") };
    let hand_out = |writer: &mut Writer, at| {
        let next = writer.next().expect("the segment's header, then the flush");
        writer.handed_out(&next, span(at), 0, true).id
    };
    let (header, flush) = (hand_out(&mut writer, 0), hand_out(&mut writer, BLOCK_BYTES));
    assert_eq!(writer.in_flight(), 2);
    writer.wrote(flush, span(0).bytes).expect("all of it");
    assert_eq!(writer.in_flight(), 1, "the header's write is under way");
    // The log is fenced, or its topic deleted: what comes back is forgotten, and nobody asks for the flush again.
    writer.forget_write(header);
    assert_eq!(writer.in_flight(), 0, "nothing is under way");
}

#[test]
fn a_sync_of_one_file_says_nothing_of_the_next_ones_header() {
    let mut writer = Writer::new(PartitionId(1), LogPoint::default(), 0, 1, 1 << 20);
    for sequence in [1, 2] {
        writer.offer(Ok(NextSegment { sequence, nonce: 7, bytes: 1 << 20 }));
    }
    let span = |at| Span { region: RegionId(1), at, bytes: u32::try_from(BLOCK_BYTES).expect("small") };
    let flush = |writer: &mut Writer| {
        let placement = writer.placement(100).expect("there is a file");
        writer.begin(placement, 0);
        writer.appended(100, 1, 0, 0);
        let flush = writer.take_open().expect("a flush has begun");
        writer.close(flush, true);
    };
    let write = |writer: &mut Writer, durably| {
        let next = writer.next().expect("something to write");
        let id = writer.handed_out(&next, span(0), 0, durably).id;
        writer.wrote(id, span(0).bytes).expect("all of it");
    };
    flush(&mut writer);
    writer.roll();
    flush(&mut writer);
    for _ in 0..3 {
        write(&mut writer, false); // the first file's header and flush, and the second one's header
    }
    assert_eq!(writer.next_sync(true), Some(1));
    writer.synced();
    writer.next_closed().expect("the first file is durable");
    let durable = writer.durable;
    write(&mut writer, true);
    assert_eq!(writer.durable, durable, "the second file's header is not durable yet");
    assert_eq!(writer.next_sync(true), Some(2));
}
