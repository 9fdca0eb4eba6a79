use super::*;
use crate::buf::{blocks::Blocks, bulk::Bulk, shared::Shared};
use crate::ids::BufId;

/// Shared ring: region 1, 4 x 1 KiB. Bulk: regions 2 and 3, 8 KiB. Blocks: region 4, 16 KiB.
fn receive_memory() -> ReceiveMemory {
    ReceiveMemory::from_parts(
        Shared::new(RegionId(1), 4096, 4, true),
        vec![Bulk::new(RegionId(2), 8192), Bulk::new(RegionId(3), 8192)],
        Blocks::new(RegionId(4), 16_384),
    )
}

#[test]
fn holds_go_to_the_memory_the_span_is_in() {
    let mut receive = receive_memory();
    assert!(receive.is_shared(RegionId(1)) && receive.is_bulk(RegionId(3)) && receive.is_block(RegionId(4)));
    assert!(
        !receive.is_shared(RegionId(2)) && !receive.is_bulk(RegionId(1)) && !receive.is_block(RegionId(5))
    );
    assert_eq!((receive.shared_free_bytes(), receive.shared_buffer_bytes()), (4096, 1024));
    assert_eq!(receive.in_use_bytes(), 0);

    let in_shared = span(1, 0, 100);
    receive.received(BufId(0), in_shared, true);
    receive.hold(in_shared);
    assert_eq!(receive.in_use_bytes(), 1024);

    let id = receive.take_region().unwrap();
    assert_eq!(receive.region_of(id), RegionId(2));
    assert_eq!(receive.read_target(id, 500), Some(span(2, 0, 500)));
    let in_bulk = receive.filled(id, 500);
    receive.hold(in_bulk);
    receive.consumed(id, 500);
    assert_eq!(receive.pending(id), span(2, 500, 0));
    assert_eq!(receive.in_use_bytes(), 1024 + 8192);

    let in_block = receive.block(1500).unwrap();
    assert_eq!(in_block, span(4, 0, 1500));
    assert_eq!(receive.blocks_free_bytes(), 14_336);
    assert_eq!(receive.in_use_bytes(), 1024 + 8192 + 2048);

    assert_eq!(receive.next_recyclable(), None);
    assert_eq!(receive.oldest_held_buffer(), Some(BufId(0)));
    receive.release(in_shared);
    assert_eq!(receive.next_recyclable(), Some(BufId(0)));
    receive.give_region(id);
    assert_eq!(receive.in_use_bytes(), 1024 + 2048, "the held chunk of the bulk region");
    receive.release(in_bulk);
    receive.release(in_block);
    assert_eq!(receive.in_use_bytes(), 0);
}

#[test]
fn regions_are_handed_out_while_there_are_any() {
    let mut receive = receive_memory();
    let (first, second) = (receive.take_region().unwrap(), receive.take_region().unwrap());
    assert_ne!(first, second);
    assert_eq!(receive.take_region(), None);
    receive.give_region(first);
    assert_eq!(receive.take_region(), Some(first));
}

#[test]
#[should_panic(expected = "is receive memory of this shard")]
fn a_span_of_another_region_cannot_be_held() {
    receive_memory().hold(span(9, 0, 1));
}

#[test]
#[should_panic(expected = "has its own id")]
fn two_parts_cannot_share_a_region() {
    let shared = Shared::new(RegionId(1), 4096, 4, true);
    let _ = ReceiveMemory::from_parts(
        shared,
        vec![Bulk::new(RegionId(1), 8192)],
        Blocks::new(RegionId(4), 16_384),
    );
}

#[test]
fn it_is_laid_out_as_the_specification_says() {
    use std::sync::Arc;
    let mirrored = |bytes| Arc::new(Mapping::mirrored(bytes, Pages::Small).unwrap());
    let shared = mirrored(65_536);
    let mut receive = ReceiveMemory::new(ReceiveSpec {
        shared: (RegionId(1), &shared),
        buffers: 4,
        bulk: vec![(RegionId(2), mirrored(32_768))],
        blocks: (RegionId(3), Arc::new(Mapping::plain(1 << 20, Pages::Small).unwrap())),
        opened: None,
    });
    assert_eq!((receive.shared_free_bytes(), receive.shared_buffer_bytes()), (65_536, 16_384));
    assert_eq!(receive.blocks_free_bytes(), 1 << 20);
    let id = receive.take_region().unwrap();
    assert_eq!(receive.read_target(id, u32::MAX), Some(span(2, 0, 32_768)));
    receive.received(BufId(0), span(1, 0, 16_384), true);
    assert_eq!(receive.shared_free_bytes(), 49_152);
}
