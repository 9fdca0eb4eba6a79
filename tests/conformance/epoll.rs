//! The epoll backend, and one on a kernel that waits by the millisecond.

use std::sync::Arc;

use uringest::buf::Mapping;
use uringest::ids::RegionId;
use uringest::io::Io;
use uringest::io::epoll::{EpollIo, EpollSpec};
use uringest::limits::SHARED_RING_BYTES;

use crate::world::{Backend, Shape};

macro_rules! backend {
    ($(#[$doc:meta])* $name:ident, $module:ident, $precise:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl Backend for $name {
            type Io = EpollIo;

            fn make(shape: Shape, region: RegionId, shared: &Arc<Mapping>) -> Result<EpollIo, String> {
                let spec = EpollSpec {
                    precise_waits: $precise,
                    ..EpollSpec::new(region, Arc::clone(shared), SHARED_RING_BYTES, shape.connections)
                };
                let io = EpollIo::new(spec).map_err(|error| error.to_string())?;
                assert_eq!((io.capabilities().backend, io.capabilities().tier), ("epoll", 0));
                Ok(io)
            }

            fn outstanding(io: &EpollIo) -> u32 {
                assert_eq!(io.stats().late, 0, "no report is of a socket that is gone");
                io.stats().outstanding
            }

            fn sockets(io: &EpollIo) -> u32 {
                io.stats().sockets
            }

            fn files(io: &EpollIo) -> u32 {
                io.stats().files
            }

            fn free_lists(io: &EpollIo) -> usize {
                io.free_span_lists()
            }
        }

        mod $module {
            crate::cases::conformance!(super::$name);
        }
    };
}

backend!(
    /// All the kernel gives.
    Epoll, epoll, true
);
backend!(
    /// Time-outs in milliseconds: 5.10 and older.
    EpollCoarse, epoll_coarse, false
);

/// The shard's thread leaves files to others: what it writes itself is a few wake-ups.
#[test]
fn files_are_not_the_shards_business() {
    fn written_by_this_thread() -> Option<u64> {
        let accounts = std::fs::read_to_string("/proc/thread-self/io").ok()?;
        accounts.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
    }
    let Some(before) = written_by_this_thread() else {
        return println!("SKIPPED: this kernel keeps no accounts of a thread's I/O");
    };
    crate::files::writes::<Epoll>(64);
    let written = written_by_this_thread().expect("the accounts go on") - before;
    assert!(written < 4096, "{written} bytes of 256 KiB were written by the shard's thread");
}
