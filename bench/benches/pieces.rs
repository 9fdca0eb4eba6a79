//! How long fixed pieces of the server's work take: frame decode, batch verify, the partition's ring, the mesh, TLS records.
//!
//! `cargo bench -p uringest-bench`, or with a name to run those only: `cargo bench -p uringest-bench -- mesh`.
//! A shard is not timed here, as its world in memory would be timed with it; `uringest-bench run` times the server.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uringest_bench::pieces;

/// Pieces that are only counted: most of the time would be the world's.
const NOT_TIMED: &[&str] = &["shard_", "epoll_"];

fn pieces(criterion: &mut Criterion) {
    let timed = pieces::all().filter(|piece| !NOT_TIMED.iter().any(|begin| piece.name.starts_with(begin)));
    for piece in timed {
        let group = piece.name.split_once('_').map_or(piece.name, |(group, _)| group);
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(piece.units.into()));
        let mut repeat = (piece.prepare)();
        group.bench_function(piece.name, |bencher| {
            bencher.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    repeat.ready();
                    let begun = Instant::now();
                    repeat.work();
                    took += begun.elapsed();
                }
                took
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50);
    targets = pieces
}
criterion_main!(benches);
