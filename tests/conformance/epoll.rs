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
