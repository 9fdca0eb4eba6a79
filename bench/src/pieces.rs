//! Fixed pieces of the server's work: the same bytes, the same calls, each time.
//!
//! Two things look at them. `uringest-bench instructions` counts what each takes under callgrind and compares with
//! committed figures: a guard against regressions that no busy machine disturbs. The Criterion benches
//! (`bench/benches`) time those that stand alone. No network, no clock, no second thread: whatever varies between
//! two repetitions is a fault of the piece.

mod batches;
#[cfg(feature = "epoll")]
mod epoll;
mod frames;
mod mesh;
mod partitions;
mod secured;
mod shards;
mod world;

/// Bytes of every payload.
pub const PAYLOAD_BYTES: usize = 128;

/// A piece of work that can be done again and again.
pub trait Repeat {
    /// Prepares the next repetition; is neither counted nor timed.
    fn ready(&mut self) {}

    /// One repetition. Panics when the result is not what it must be.
    fn work(&mut self);
}

/// What a piece is, and how to get it.
pub struct Piece {
    /// Unique; the name in `bench/instructions.toml`.
    pub name: &'static str,
    /// What one of its units is.
    pub unit: &'static str,
    /// How many of them one repetition has.
    pub units: u32,
    /// Makes it.
    pub prepare: fn() -> Box<dyn Repeat>,
}

/// All pieces, in the order in which they are shown.
pub fn all() -> impl Iterator<Item = &'static Piece> {
    #[cfg(feature = "epoll")]
    let epoll = epoll::PIECES;
    #[cfg(not(feature = "epoll"))]
    let epoll = &[];
    let alone = [frames::PIECES, batches::PIECES, partitions::PIECES, mesh::PIECES, secured::PIECES];
    alone.into_iter().chain([epoll, shards::PIECES]).flatten()
}

/// A frame of so many records of [`PAYLOAD_BYTES`], as a producer sends it.
fn frame(records: u32, producer_id: u64, sequence: u64, channel: u32) -> Vec<u8> {
    let mut builder = uringest::wire::batch::BatchBuilder::new();
    let payload: Vec<u8> = (0..PAYLOAD_BYTES).map(|i| (i % 251).try_into().expect("below 251")).collect();
    for _ in 0..records {
        builder.push(&payload, None, 0, &[]);
    }
    builder.finish(producer_id, sequence, channel)
}

/// Records of a batch of the usual sizes: 64 KiB, 4 KiB.
const RECORDS_64K: u32 = 494;
const RECORDS_4K: u32 = 30;

#[cfg(test)]
mod tests {
    use super::all;

    /// Their own asserts hold, again and again.
    #[test]
    fn every_piece_can_be_repeated() {
        for piece in all() {
            println!("{}", piece.name);
            let mut repeat = (piece.prepare)();
            for _ in 0..24 {
                repeat.ready();
                repeat.work();
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().map(|piece| piece.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
