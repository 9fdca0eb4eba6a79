//! At steady state a partition allocates nothing: appending, delivering, evicting, copying laggards out.
//! The allocator of this test counts the allocations of the thread that asks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use uringest::buf::{Buffers, Mapping, Memory, Pages, ReceiveMemory, ReceiveSpec, Span};
use uringest::ids::{PartitionId, RegionId};
use uringest::partition::{Partition, PartitionSpec, Source};
use uringest::proto::control::Start;
use uringest::proto::header::{FrameHeader, Kind};
use uringest::topic::{Overflow, TopicKind};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to `System` unchanged; the count is a plain thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RING_BYTES: usize = 256 * 1024;
const FRAME_BYTES: u32 = 1_024;

fn region(id: u32, bytes: usize, memory: &mut Memory) -> (RegionId, Arc<Mapping>) {
    let mapping = Arc::new(Mapping::mirrored(bytes, Pages::Small).expect("memory"));
    memory.attach(RegionId(id), Arc::clone(&mapping));
    (RegionId(id), mapping)
}

/// Allocations of 2,000 rounds of append, delivery to a fast and a slow subscriber, and unpinning.
fn allocations(kind: TopicKind) -> u64 {
    let mut memory = Memory::new();
    let (ring, _) = region(1, RING_BYTES, &mut memory);
    let shared = region(2, 64 * 1024, &mut memory);
    let bulk = region(3, 256 * 1024, &mut memory);
    let blocks = region(4, 256 * 1024, &mut memory);
    let receive = ReceiveMemory::new(ReceiveSpec {
        shared: (shared.0, &shared.1),
        buffers: 4,
        bulk: vec![bulk],
        blocks,
        opened: None,
    });
    let mut buffers = Buffers { memory, receive };
    let source = buffers.receive.take_region().expect("a region");
    let mut partition = Partition::new(PartitionSpec {
        id: PartitionId(1),
        kind,
        overflow: Overflow::DropOldest,
        ring,
        ring_bytes: RING_BYTES as u64,
        first_offset: 0,
        committed: Vec::new(),
        log: None,
    });
    let slot = partition.open_producer(1, 0, 1).expect("room").slot;
    let fast = partition.subscribe(&buffers, Start::Latest, "fast", false, u64::MAX, 1).expect("room").id;
    let slow = partition.subscribe(&buffers, Start::Latest, "slow", false, u64::MAX, 2).expect("room").id;
    let mut spans: Vec<Span> = Vec::with_capacity(64);
    let mut header = FrameHeader::new(Kind::Publish);
    header.body_bytes = FRAME_BYTES - 64;
    header.record_count = 1;

    let before = ALLOCATIONS.with(Cell::get);
    for sequence in 1..=2_000 {
        header.sequence = sequence;
        let frame = buffers.receive.read_target(source, FRAME_BYTES).expect("unpinned in time");
        assert_eq!(frame.bytes, FRAME_BYTES);
        let frame = buffers.receive.filled(source, FRAME_BYTES);
        let (head, _) = frame.split_at(64);
        header.encode(buffers.memory.bytes_mut(head).try_into().expect("a header"));
        partition
            .append(&mut buffers, &[frame], Source::Local, &header, slot, sequence)
            .expect("the oldest go");
        buffers.receive.consumed(source, FRAME_BYTES);
        spans.clear();
        let taken = partition.take(&mut buffers, fast, u32::MAX, 64, &mut spans);
        partition.sent(&mut buffers, fast, taken.bytes);
        if sequence % 8 == 0 {
            // Half a frame each time: it falls behind, is cut off in a frame, finishes that from a block.
            spans.clear();
            partition.take(&mut buffers, slow, FRAME_BYTES, 64, &mut spans);
            let half = spans[0].bytes.min(FRAME_BYTES / 2);
            partition.sent(&mut buffers, slow, half);
            partition.unpin(&mut buffers);
        }
    }
    let allocations = ALLOCATIONS.with(Cell::get) - before;
    assert!(partition.counters().gap_records > 0, "the slow one was dropped");
    assert_eq!(partition.log_end_offset(), 2_000);
    allocations
}

#[test]
fn a_partition_at_steady_state_does_not_allocate() {
    for kind in [TopicKind::Memory, TopicKind::Live] {
        assert_eq!(allocations(kind), 0, "{kind:?}");
    }
}
