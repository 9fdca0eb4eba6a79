//! Who still needs which receive memory: the shared ring, the bulk regions and the straddle arena of one shard.
//!
//! A span handed out by a completion may be read until the end of the tick. What must outlive the tick is
//! held: a hold counts on the memory's unit (a buffer of the shared ring, an eighth of a bulk region, a block)
//! and keeps the kernel, or the next frame, from it until the same span is released.
//!
//! This module only counts; it neither reads nor writes the memory.

use std::sync::Arc;

use super::blocks::Blocks;
use super::bulk::Bulk;
use super::shared::Shared;
use super::{BulkId, Mapping, Span};
use crate::ids::{BufId, RegionId};
use crate::limits::BULK_REGIONS_MAX;

/// The memory a shard receives into.
#[derive(Debug)]
pub struct ReceiveSpec<'a> {
    /// The shared ring; mirrored, so that bytes across its end lie side by side.
    pub shared: (RegionId, &'a Arc<Mapping>),
    /// Equal buffers the shared ring is cut into.
    pub buffers: u16,
    /// Bulk regions, each mirrored; at most two for each of `BULK_REGIONS_MAX` connections.
    pub bulk: Vec<(RegionId, Arc<Mapping>)>,
    /// The arena of blocks.
    pub blocks: (RegionId, Arc<Mapping>),
    /// Where records are opened to that arrived in the shared ring; mirrored. Only where TLS is spoken.
    pub opened: Option<(RegionId, Arc<Mapping>)>,
}

/// See the module. Every span here is in the region's own addresses; one that crosses the end of a mirrored
/// region reaches into its second copy.
#[derive(Debug)]
pub struct ReceiveMemory {
    shared: Shared,
    bulk: Vec<Bulk>,
    blocks: Blocks,
    /// The last of `bulk`: taken for good, consumed as it is filled.
    opened: Option<BulkId>,
}

impl ReceiveMemory {
    /// All buffers of the shared ring are the kernel's, no region is taken, no block in use.
    ///
    /// # Panics
    /// When the shared ring's size is not a multiple of `buffers`, a bulk region is not mirrored, or there are
    /// more than two for each of `BULK_REGIONS_MAX` connections.
    #[must_use]
    pub fn new(spec: ReceiveSpec<'_>) -> ReceiveMemory {
        let (shared_region, shared) = spec.shared;
        let bulk = spec.bulk.iter().chain(&spec.opened).map(|(region, mapping)| {
            assert!(mapping.is_mirrored(), "bulk region {region} is mirrored");
            Bulk::new(*region, mapping.bytes() as u64)
        });
        let mut memory = ReceiveMemory::from_parts(
            Shared::new(shared_region, shared.bytes() as u64, spec.buffers, shared.is_mirrored()),
            bulk.collect(),
            Blocks::new(spec.blocks.0, spec.blocks.1.bytes() as u64),
        );
        if spec.opened.is_some() {
            let last = memory.bulk.len() - 1;
            assert!(memory.bulk[last].take(), "a new region is free");
            memory.opened = Some(BulkId(u16::try_from(last).expect("regions are within their bound")));
        }
        memory
    }

    pub(super) fn from_parts(shared: Shared, bulk: Vec<Bulk>, blocks: Blocks) -> ReceiveMemory {
        assert!(bulk.len() <= 2 * usize::from(BULK_REGIONS_MAX) + 1, "bulk regions are within their bound");
        assert!(shared.region() != blocks.region(), "each region of receive memory has its own id");
        for (i, region) in bulk.iter().map(Bulk::region).enumerate() {
            let others = bulk[..i].iter().map(Bulk::region).chain([shared.region(), blocks.region()]);
            assert!(
                others.into_iter().all(|other| other != region),
                "each region of receive memory has its own id"
            );
        }
        ReceiveMemory { shared, bulk, blocks, opened: None }
    }

    /// A range of the shared ring, as a completion names it.
    #[must_use]
    pub fn shared_span(&self, at: u64, bytes: u32) -> Span {
        Span { region: self.shared.region(), at, bytes }
    }

    /// Notes a completion: `span` of `buffer` was received, and with `buffer_done` the kernel is finished with the
    /// buffer (a later completion for it comes only after it was recycled).
    ///
    /// # Panics
    /// When the bytes do not follow what was received into the buffer before, or the buffer is not the kernel's.
    pub fn received(&mut self, buffer: BufId, span: Span, buffer_done: bool) {
        self.shared.received(buffer, span, buffer_done);
    }

    /// The next buffer to give back to the kernel, in order: done, and without holds. Call at the end of a tick
    /// until it gives none; each buffer it gives is taken to be the kernel's from then on.
    pub fn next_recyclable(&mut self) -> Option<BufId> {
        self.shared.next_recyclable()
    }

    /// Bytes the kernel can still receive into the shared ring before a buffer is recycled.
    #[must_use]
    pub fn shared_free_bytes(&self) -> u32 {
        self.shared.free_bytes()
    }

    /// Bytes of one buffer of the shared ring.
    #[must_use]
    pub fn shared_buffer_bytes(&self) -> u32 {
        self.shared.buffer_bytes()
    }

    /// Less than half of the shared ring's buffers are the kernel's or may be recycled now: whoever holds some should
    /// let go, the oldest first, until this is false.
    #[must_use]
    pub fn shared_pressure(&self) -> bool {
        self.shared.pressure()
    }

    /// The first buffer in the order of recycling that is held: what keeps the ring from turning.
    #[must_use]
    pub fn oldest_held_buffer(&self) -> Option<BufId> {
        self.shared.oldest_held()
    }

    /// `b` starts where `a` ends in the same ring, also across its end. False for blocks, which do not go on.
    #[must_use]
    pub fn contiguous(&self, a: Span, b: Span) -> bool {
        a.region == b.region
            && match self.part(a.region) {
                Part::Shared => self.shared.contiguous(a, b),
                Part::Bulk(index) => self.bulk[index].contiguous(a, b),
                Part::Block => false,
            }
    }

    /// One span for two that lie side by side; it starts in the ring's first copy. Holds are not touched: a hold of
    /// `a` and one of `b` is not the same as one of the result when both have bytes in one unit.
    ///
    /// # Panics
    /// When they are not side by side (`contiguous`).
    #[must_use]
    pub fn merge(&self, a: Span, b: Span) -> Span {
        match self.part(a.region) {
            Part::Shared => self.shared.merge(a, b),
            Part::Bulk(index) => self.bulk[index].merge(a, b),
            Part::Block => panic!("blocks do not lie side by side: {a:?} {b:?}"),
        }
    }

    /// The ring that records are opened to. What is filled there is consumed at once: only holds keep it.
    ///
    /// # Panics
    /// Where no TLS is spoken.
    #[must_use]
    pub fn opened(&self) -> BulkId {
        self.opened.expect("a shard that opens records has a ring for them")
    }

    /// What is held keeps more than half of the ring of opened records from being written again.
    #[must_use]
    pub fn opened_pressure(&self) -> bool {
        self.opened.is_some_and(|id| self.bulk[id.index()].is_short())
    }

    /// Keeps a span's memory past the end of the tick. Shared and bulk: any part of what was received and is not yet
    /// free (in a bulk region: hold before `consumed`). Block: any span inside a block counts one hold of all of it.
    /// A span without bytes holds nothing.
    ///
    /// # Panics
    /// When the span is in none of these regions, or not in memory that may be held.
    pub fn hold(&mut self, span: Span) {
        match self.part(span.region) {
            Part::Shared => self.shared.hold(span),
            Part::Bulk(index) => self.bulk[index].hold(span),
            Part::Block => self.blocks.hold(span),
        }
    }

    /// Takes back one hold; the span is the same as was held. A block is freed with its last hold.
    ///
    /// # Panics
    /// When it was not held.
    pub fn release(&mut self, span: Span) {
        match self.part(span.region) {
            Part::Shared => self.shared.release(span),
            Part::Bulk(index) => self.bulk[index].release(span),
            Part::Block => self.blocks.release(span),
        }
    }

    /// A bulk region that nobody has and of which nothing is held, empty.
    pub fn take_region(&mut self) -> Option<BulkId> {
        let index = self.bulk.iter_mut().position(Bulk::take)?;
        u16::try_from(index).ok().map(BulkId)
    }

    /// Gives a region up. No read may be in flight; what is pending is lost; what is held stays readable, and the
    /// region can be taken again once that is released.
    ///
    /// # Panics
    /// When it is not taken.
    pub fn give_region(&mut self, id: BulkId) {
        self.bulk[id.index()].give();
    }

    /// The region's id for spans.
    #[must_use]
    pub fn region_of(&self, id: BulkId) -> RegionId {
        self.bulk[id.index()].region()
    }

    /// Room for the next read: contiguous, behind what was filled, at most `bytes_max` long. `None` when nothing is
    /// free: consume or release.
    ///
    /// # Panics
    /// When the region is not taken.
    #[must_use]
    pub fn read_target(&self, id: BulkId, bytes_max: u32) -> Option<Span> {
        self.bulk[id.index()].read_target(bytes_max)
    }

    /// A read into `read_target` got `bytes` bytes: where they are.
    ///
    /// # Panics
    /// When there was no room for them, or the region is not taken.
    pub fn filled(&mut self, id: BulkId, bytes: u32) -> Span {
        self.bulk[id.index()].filled(bytes)
    }

    /// The first `bytes` pending bytes are parsed: free, unless held.
    ///
    /// # Panics
    /// When fewer are pending, or the region is not taken.
    pub fn consumed(&mut self, id: BulkId, bytes: u32) {
        self.bulk[id.index()].consumed(bytes);
    }

    /// What is filled and not consumed; contiguous.
    ///
    /// # Panics
    /// When the region is not taken.
    #[must_use]
    pub fn pending(&self, id: BulkId) -> Span {
        self.bulk[id.index()].pending()
    }

    /// A block with one hold, as a span of exactly `bytes` bytes. `None` when no free block is large enough.
    ///
    /// # Panics
    /// When `bytes` is 0.
    pub fn block(&mut self, bytes: u32) -> Option<Span> {
        self.blocks.take(bytes)
    }

    /// Bytes of the arena in no block. A block of that size need not exist: they may be scattered.
    #[must_use]
    pub fn blocks_free_bytes(&self) -> u32 {
        self.blocks.free_bytes()
    }

    /// The shared ring's region.
    #[must_use]
    pub fn is_shared(&self, region: RegionId) -> bool {
        region == self.shared.region()
    }

    /// A bulk region.
    #[must_use]
    pub fn is_bulk(&self, region: RegionId) -> bool {
        self.bulk.iter().any(|bulk| bulk.region() == region)
    }

    /// The arena of blocks.
    #[must_use]
    pub fn is_block(&self, region: RegionId) -> bool {
        region == self.blocks.region()
    }

    /// Memory somebody needs: held buffers of the shared ring, taken regions and what is held of others, blocks in
    /// use. 0 when nothing leaks and nobody is connected.
    #[must_use]
    pub fn in_use_bytes(&self) -> u64 {
        let (regions, opened) = self.bulk.split_at(self.bulk.len() - usize::from(self.opened.is_some()));
        let bulk: u64 =
            regions.iter().map(Bulk::in_use_bytes).chain(opened.iter().map(Bulk::held_bytes)).sum();
        self.shared.held_bytes() + bulk + self.blocks.in_use_bytes()
    }

    fn part(&self, region: RegionId) -> Part {
        if region == self.shared.region() {
            return Part::Shared;
        }
        if region == self.blocks.region() {
            return Part::Block;
        }
        match self.bulk.iter().position(|bulk| bulk.region() == region) {
            Some(index) => Part::Bulk(index),
            None => panic!("region {region} is receive memory of this shard"),
        }
    }
}

enum Part {
    Shared,
    Bulk(usize),
    Block,
}
